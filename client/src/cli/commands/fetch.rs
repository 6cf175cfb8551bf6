//! `nadgrid fetch`.

use crate::cli::args::FetchArgs;
use crate::cli::summary::Summary;
use crate::cli::{Failure, output};
use nadgrid_client::{Address, Client, Staging};

/// Fetches the files of a complete sweep; their paths go to stdout, and what they say in short to stderr.
pub(crate) async fn fetch(at: Address, args: FetchArgs) -> Result<(), Failure> {
    // A folder that cannot be written is told even when no coordinator is there.
    Staging::probe(&args.out)?;
    let client = Client::connect(&at).await?;
    let fetched = nadgrid_client::fetch(&client, &args.id, &args.out).await?;
    fetched.notes.iter().for_each(|line| output::note(line));
    if args.json.json {
        return output::print_json(&fetched.record);
    }
    let paths: Vec<String> = fetched.files().map(|name| args.out.join(name).display().to_string()).collect();
    // Nobody here knows on how many slots it was computed.
    output::note(&format!("{}\n", Summary::new(fetched, &args.out, None).tables()));
    output::print(&paths.join("\n"))
}
