//! `nadgrid compare`.

use crate::cli::args::CompareArgs;
use crate::cli::{Failure, output, tables};
use nadgrid_figures::{Comparison, NadSet};
use serde::Serialize;
use std::path::Path;

#[derive(Serialize)]
struct ComparisonView {
    a: String,
    b: String,
    dimension: usize,
    networks_a: Option<u64>,
    networks_b: Option<u64>,
    overlaps: Vec<OverlapView>,
    singular_values: Vec<RatioView>,
}

#[derive(Serialize)]
struct OverlapView {
    k: usize,
    overlap: f64,
    chance: f64,
}

#[derive(Serialize)]
struct RatioView {
    index: usize,
    a: f64,
    b: f64,
    ratio: Option<f64>,
}

/// The agreement of two sets of NADs.
pub(crate) async fn compare(args: CompareArgs) -> Result<(), Failure> {
    let a = open(&args.a, args.networks_a)?;
    let b = open(&args.b, args.networks_b)?;
    let of = |e| Failure::other(format!("{} and {}: {e}", args.a.display(), args.b.display()));
    let comparison = a.compare(&b).map_err(of)?;
    if args.json.json {
        return output::print_json(&view(&args, &a, &b, &comparison));
    }
    let origin = |set: &NadSet| {
        let networks = set.networks.map_or("an unknown number of networks".into(), |n| tables::count(n, "network"));
        format!("{} of {networks}", tables::count(set.nads.nrows() as u64, "NAD"))
    };
    let heads = [("A", &args.a, &a), ("B", &args.b, &b)];
    let heads: String =
        heads.iter().map(|(side, path, set)| format!("{side}  {}: {}\n", path.display(), origin(set))).collect();
    output::print(&format!("{heads}\n{}", tables::comparison(&comparison)))
}

fn open(path: &Path, networks: Option<u64>) -> Result<NadSet, Failure> {
    // A whole result folder is what people type first.
    let nads = path.join("nads");
    if nads.is_dir() && !path.join("nads.npy").exists() {
        let held = held(&nads);
        return Err(Failure::other(format!(
            "{} holds a whole sweep; name one architecture of it: {held}",
            path.display()
        )));
    }
    let set = NadSet::open(path).map_err(Failure::other)?;
    Ok(match networks {
        Some(networks) => set.with_networks(networks),
        None => set,
    })
}

fn held(nads: &Path) -> String {
    let entries = std::fs::read_dir(nads).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.path().display().to_string()).collect();
    names.sort();
    names.join(", ")
}

fn view(args: &CompareArgs, a: &NadSet, b: &NadSet, comparison: &Comparison) -> ComparisonView {
    let overlaps = comparison.overlaps.iter();
    let ratios = comparison.singular_values.iter();
    ComparisonView {
        a: args.a.display().to_string(),
        b: args.b.display().to_string(),
        dimension: comparison.dimension,
        networks_a: a.networks,
        networks_b: b.networks,
        overlaps: overlaps.map(|at| OverlapView { k: at.k, overlap: at.overlap, chance: at.chance }).collect(),
        singular_values: ratios.map(|at| RatioView { index: at.index, a: at.a, b: at.b, ratio: at.ratio }).collect(),
    }
}
