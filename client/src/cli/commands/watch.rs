//! `nadgrid submit` and `nadgrid watch`.

use crate::cli::args::{PatienceArgs, SubmitArgs, WatchArgs};
use crate::cli::progress::{Progress, Screen, follow};
use crate::cli::spec_file::{LoadedSpec, load};
use crate::cli::upload::upload;
use crate::cli::{Failure, output, tables};
use nadgrid_client::v1::Sweep;
use nadgrid_client::{Address, Client, Patience, SweepView, ensure_complete};
use std::time::Duration;

/// Submits a sweep; its id alone goes to stdout.
pub(crate) async fn submit(at: Address, args: SubmitArgs) -> Result<(), Failure> {
    let loaded = load(args.spec).await?;
    let LoadedSpec { spec, files, .. } = &loaded;
    let key = args.key.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let client = Client::connect(&at).await?;
    upload(&client, files, output::note).await?;
    let answer = client.submit(&spec.to_toml(), &key, &files.inputs(), args.share.share()).await;
    let (sweep, created) = answer.map_err(|e| loaded.refused(e))?;
    if !created {
        output::note(&format!("key {key:?} was used before; this is the sweep that it created"));
    }
    match (args.json.json, args.watch) {
        (false, _) => output::print(&sweep.id)?,
        // The first of the JSON lines that follow says the id.
        (true, true) => {}
        (true, false) => output::print_json(&SweepView::from(&sweep))?,
    }
    if args.watch { until_the_end(&client, &sweep.id, &args.patience, args.json.json).await } else { Ok(()) }
}

/// Follows a sweep; fails when the sweep does.
pub(crate) async fn watch(at: Address, args: WatchArgs) -> Result<(), Failure> {
    let client = Client::connect(&at).await?;
    until_the_end(&client, &args.id, &args.patience, args.json.json).await
}

async fn until_the_end(client: &Client, id: &str, patience: &PatienceArgs, json: bool) -> Result<(), Failure> {
    let patience = Patience { limit: Duration::from_secs(patience.patience), ..Patience::default() };
    let mut progress = Progress::new(Screen::new(json));
    let sweep = follow(client, id, patience, &mut progress).await?;
    drop(progress);
    ensure_complete(&sweep)?;
    if !json {
        output::note(&epilogue(&sweep));
    }
    Ok(())
}

fn epilogue(sweep: &Sweep) -> String {
    format!(
        "sweep {} is complete, digest {}; `nadgrid fetch {} --out DIR` fetches its files",
        sweep.id,
        tables::short(&sweep.digest),
        sweep.id
    )
}
