//! `cargo xtask bench published`: accuracies of LeNet along directions beside those published with the paper, cell by cell.
//!
//! The result says which table it is: `cos 2 -4` belongs to the grid of frequencies, `row 10` or `nad 10` to the published NADs.
//! Deliberately absent: a verdict. Differences of some points are seed noise in either.

mod compare;
mod read;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::bench::published::compare::{ComparedPair, PublishedComparison};
use crate::bench::published::read::{Ours, PublishedDirection};
use crate::process::{build_release, released, step};
use crate::setup;

const DFT_SPEC: &str = "examples/paper/lenet_dft_subset.toml";
const NADS_SPEC: &str = "examples/paper/lenet_nads_published.toml";
const PUBLISHED: &str = "tests/data/published";
/// The file's name in a result's folder.
const RUNS: &str = "directional/lenet.csv";

#[derive(Args)]
pub(crate) struct Published {
    /// Specs to run, into `out/published`
    #[arg(value_name = "SPEC", default_values = [DFT_SPEC, NADS_SPEC])]
    specs: Vec<PathBuf>,
    /// Run nothing: compare the result in this folder; may be given again
    #[arg(long = "result", value_name = "DIR", conflicts_with = "specs")]
    results: Vec<PathBuf>,
}

/// Runs the specs, unless results are there, and prints a table for each.
pub(super) fn run(root: &Path, options: &Published) -> Result<ExitCode> {
    if !options.results.is_empty() {
        options.results.iter().try_for_each(|result| print(root, result))?;
        return Ok(ExitCode::SUCCESS);
    }
    setup::run(root, false)?;
    if let Some(failed) = build_release(root)? {
        return Ok(failed);
    }
    for spec in &options.specs {
        let name = spec.file_stem().with_context(|| format!("{} is no file", spec.display()))?;
        let result = Path::new("out/published").join(name);
        let mut client = Command::new(released("nadgrid")?);
        client.current_dir(root).arg("run").arg(spec).arg("--out").arg(&result);
        if let Some(failed) = step("sweep", &mut client)? {
            return Ok(failed);
        }
        print(root, &root.join(result))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the tables that a result has a part in.
fn print(root: &Path, result: &Path) -> Result<()> {
    let ours = read::ours(&text(&result.join(RUNS))?).with_context(|| format!("in {}", result.join(RUNS).display()))?;
    let published = |name: &str| text(&root.join(PUBLISHED).join(name));
    let dft = read::dft(&published("dft_accuracies_logreg_lenet.csv")?)?;
    let nads = read::nads(&published("nad_accuracies_lenet.csv")?)?;
    let mut cells = Vec::new();
    let mut indices = Vec::new();
    for Ours { direction, accuracy, .. } in &ours {
        match direction {
            PublishedDirection::Cosine(frequency) => {
                let found = frequency.cell().and_then(|cell| Some((cell, *dft.get(&cell)?)));
                cells.extend(
                    found.map(|((x, y), theirs)| {
                        ComparedPair::new(format!("{direction} = ({x}, {y})"), *accuracy, theirs)
                    }),
                );
            }
            PublishedDirection::Nad(index) => {
                indices.extend(nads.get(index).map(|theirs| ComparedPair::new(index.to_string(), *accuracy, *theirs)));
            }
        }
    }
    let found = cells.len() + indices.len();
    ensure!(found > 0, "none of the {} directions in {} was published", ours.len(), result.display());
    print_table("LeNet on the grid of frequencies", "cosine = (x, y)", cells);
    print_table("LeNet along its published NADs", "index", indices);
    let runs: usize = ours.iter().map(|ours| ours.runs).sum();
    println!("runs {runs}, directions {}, of them without a published measurement {}", ours.len(), ours.len() - found);
    Ok(())
}

fn print_table(title: &str, key: &str, pairs: Vec<ComparedPair>) {
    if pairs.is_empty() {
        return;
    }
    println!("{title}; test accuracy in percent, ours the mean of its seeds:");
    println!("{key:>22} {:>8} {:>10} {:>11}", "ours", "published", "difference");
    for pair in &pairs {
        println!("{:>22} {:>8.2} {:>10.2} {:>+11.2}", pair.name, pair.ours, pair.published, pair.difference());
    }
    let PublishedComparison { mean_difference, mean_absolute_difference, pearson } = compare::compare(&pairs);
    let pearson = pearson.map_or("not defined".to_owned(), |r| format!("{r:.4}"));
    println!(
        "directions {}, mean difference {mean_difference:+.2}, mean absolute difference {mean_absolute_difference:.2}, \
              Pearson correlation {pearson}",
        pairs.len()
    );
}

fn text(path: &Path) -> Result<String> {
    match fs::read_to_string(path) {
        Ok(text) if text.is_empty() => bail!("{} is empty", path.display()),
        read => read.with_context(|| format!("cannot read {}", path.display())),
    }
}
