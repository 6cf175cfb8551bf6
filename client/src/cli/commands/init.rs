//! `nadgrid init`: a spec to begin with, in which every key stands with its meaning, its default and what it accepts.
//!
//! Deliberately absent: the keys themselves, which the reader of specs declares, and questions to the user; the file is the form.

mod template;

use crate::cli::args::InitArgs;
use crate::cli::{Failure, output};
use nadgrid_client::Error;
use nadgrid_core::spec::Experiment;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

/// Writes the spec.
pub(crate) async fn init(args: InitArgs) -> Result<(), Failure> {
    let experiments = if args.experiment.is_empty() { vec![Experiment::Nads] } else { args.experiment };
    let architectures = if args.architecture.is_empty() { vec!["lenet".to_owned()] } else { args.architecture };
    let file = &args.file;
    if file == Path::new("-") {
        return output::print(template::spec("sweep", &experiments, &architectures).trim_end());
    }
    let text = template::spec(&name(file), &experiments, &architectures);
    let mut options = File::options();
    options.write(true).create_new(!args.force).create(true).truncate(true);
    let mut written = match options.open(file) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            return Err(Failure::other(format!("{} is there already; --force replaces it", file.display())));
        }
        opened => opened.map_err(Error::io(file, "write"))?,
    };
    written.write_all(text.as_bytes()).map_err(Error::io(file, "write"))?;
    let shown = file.display();
    output::note(&format!("{shown} is written; `nadgrid plan {shown}` estimates what it will take"));
    Ok(())
}

/// The sweep's name, from that of its file.
fn name(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let name: String = stem.chars().map(accepted_or_dash).take(100).collect();
    let name = name.trim_start_matches('.');
    if name.is_empty() { "sweep".into() } else { name.into() }
}

fn accepted_or_dash(c: char) -> char {
    if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }
}

#[cfg(test)]
mod tests;
