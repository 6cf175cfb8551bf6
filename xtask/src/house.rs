//! `cargo xtask house`: what style a machine can count, held to the bounds in `xtask/house.toml`.
//!
//! A bound is a ratchet: the tree may have fewer places than it says, never more. Whoever removes some lowers it, by
//! `cargo xtask house --lower`. Deliberately absent: what clippy and rustfmt check, and any judgement of a single place. A place
//! that reads best as it is stays, and is counted.

mod bounds;
mod docs;
mod files;
mod idioms;
mod modules;
mod sources;
mod types;
mod wire;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use bounds::Bounds;
use sources::Line;

#[derive(Args)]
pub(crate) struct House {
    /// Print every place, also where a bound is kept
    #[arg(long)]
    places: bool,
    /// Lower each bound to what is measured
    #[arg(long)]
    lower: bool,
    /// Look only at keys that begin with this, such as doc_fragments.core
    key: Option<String>,
}

/// A count, and the places that were counted.
struct Measured {
    /// The key of its bound in `xtask/house.toml`.
    key: String,
    value: f64,
    places: Vec<(Line, String)>,
}

impl Measured {
    fn counted(key: &str, places: Vec<(Line, String)>) -> Self {
        Self { key: key.to_owned(), value: places.len() as f64, places }
    }
}

/// Measures the tree, prints what was found, and fails if a bound is exceeded.
pub(crate) fn run(root: &Path, options: &House) -> Result<ExitCode> {
    let files = sources::tracked(root)?;
    let measured = measure(&files)?;
    let bounds = Bounds::read(root)?;
    let wanted = options.key.as_deref().unwrap_or_default();
    let mut kept = true;
    for one in measured.iter().filter(|one| one.key.starts_with(wanted)) {
        let bound = bounds.of(&one.key);
        let exceeded = one.value > bound;
        kept &= !exceeded;
        if exceeded || options.places {
            for (line, what) in &one.places {
                println!("{}:{}: {what}", line.path, line.number);
            }
        }
        let outcome = if exceeded { "  TOO MANY" } else { "" };
        println!("{:<40} {:>6}  at most {bound}{outcome}", one.key, one.value);
    }
    if wanted.is_empty() {
        let kinds = files::kinds(&files).into_iter().map(|(kind, count)| format!("{kind} {count}"));
        println!("{} tracked files: {}", files.len(), kinds.collect::<Vec<_>>().join(", "));
    }
    if options.lower {
        bounds.lower(root, &measured)?;
    }
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Measures everything that has a bound.
fn measure(files: &[sources::Tracked]) -> Result<Vec<Measured>> {
    let parsed = sources::parsed(files)?;
    let mut measured = vec![types::shared_names(&parsed), wire::outside_the_edge(&parsed)];
    measured.extend(idioms::all(&parsed));
    measured.push(files::long(files));
    measured.push(files::wide(files));
    measured.extend(docs::incomplete(&parsed));
    measured.extend(modules::circles(&parsed));
    measured.extend(files::seeds(files));
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_keeps_its_bounds() {
        let options = House { places: false, lower: false, key: None };
        let outcome = run(&crate::repository(), &options).unwrap();
        assert_eq!(outcome, ExitCode::SUCCESS, "see above; `cargo xtask house --places KEY` lists every place");
    }
}
