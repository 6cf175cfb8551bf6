//! The coordinator with workers that hand in partials of real size: how many, at what cost, and how soon the result follows.
//!
//! One table for each place where partials are stored. Deliberately absent: the numerics; `cargo xtask bench workers` has them.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::prerequisites;
use crate::process::{build_loads, released};
use crate::test::moto;

#[derive(Args)]
pub(crate) struct ClusterBench {
    /// The number of workers of each measurement
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100, 1000], value_parser = clap::value_parser!(u32).range(1..=2000))]
    workers: Vec<u32>,
    /// Shards that each worker computes at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    slots: u32,
    /// Input pixels; a partial has 4 (D + 1) (D + 2) bytes
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Dimension::D1024, Dimension::D3072])]
    dimension: Vec<Dimension>,
    /// The store that partials go to
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [StoreKind::Local, StoreKind::S3])]
    store: Vec<StoreKind>,
    /// Partials of each measurement [default: 1,000 of 4 MiB and 48 of 36 MiB on the local folder, a quarter of that on S3]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    partials: Option<u64>,
}

/// Dimensions of the usual inputs.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dimension {
    /// 1 x 32 x 32
    #[value(name = "1024")]
    D1024,
    /// 3 x 32 x 32
    #[value(name = "3072")]
    D3072,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StoreKind {
    /// A folder of this machine
    Local,
    /// An S3 server on this machine (moto)
    S3,
}

/// One measurement: what it is of.
struct LoadRun {
    partials: u64,
    workers: u32,
    slots: u32,
    dimension: Dimension,
    store: StoreKind,
}

/// The result of one measurement.
#[derive(Deserialize)]
struct LoadFigures {
    partials: u64,
    state: String,
    partials_per_second: f64,
    megabytes_per_second: f64,
    coordinator_cpu_ms_per_megabyte: f64,
    connected_memory_mib: u64,
    upload_memory_mib: u64,
    peak_memory_mib: u64,
    result_seconds: f64,
    tried_again: u64,
    not_committed: u64,
}

impl Dimension {
    fn pixels(self) -> &'static str {
        match self {
            Self::D1024 => "1024",
            Self::D3072 => "3072",
        }
    }
}

impl StoreKind {
    fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::S3 => "s3",
        }
    }
}

impl LoadRun {
    /// Partials that take a few seconds and several gigabytes at most.
    fn usual_partials(dimension: Dimension, store: StoreKind) -> u64 {
        match (dimension, store) {
            (Dimension::D1024, StoreKind::Local) => 1000,
            (Dimension::D1024, StoreKind::S3) => 250,
            (Dimension::D3072, StoreKind::Local) => 48,
            (Dimension::D3072, StoreKind::S3) => 12,
        }
    }

    fn measure(&self, moto: Option<&PathBuf>) -> Result<LoadFigures> {
        let mut load = Command::new(released("examples/cluster_load")?);
        load.args([self.partials.to_string(), self.workers.to_string(), self.slots.to_string()]);
        load.args([self.dimension.pixels(), self.store.name()]);
        load.envs(moto.map(|folder| (moto::VARIABLE, folder)));
        let output = load.stderr(Stdio::inherit()).output().context("cannot start the load")?;
        ensure!(output.status.success(), "the load failed");
        serde_json::from_slice(&output.stdout).context("the load printed something else")
    }
}

/// Builds the coordinator and its load, and prints the tables.
pub(crate) fn run(root: &Path, options: &ClusterBench) -> Result<ExitCode> {
    let moto = if options.store.contains(&StoreKind::S3) { Some(moto_packages(root)?) } else { None };
    if let Some(failed) = build_loads(root)? {
        return Ok(failed);
    }
    for &store in &options.store {
        for &dimension in &options.dimension {
            table(options, dimension, store, moto.as_ref())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The folder that the user names, or the one in the cache.
fn moto_packages(root: &Path) -> Result<PathBuf> {
    match std::env::var_os(moto::VARIABLE).filter(|folder| !folder.is_empty()) {
        Some(folder) => Ok(folder.into()),
        None => moto::ensure(prerequisites::check(root)?),
    }
}

fn table(options: &ClusterBench, dimension: Dimension, store: StoreKind, moto: Option<&PathBuf>) -> Result<()> {
    let partials = options.partials.unwrap_or(LoadRun::usual_partials(dimension, store));
    println!("D = {}, {}, {} slots a worker", dimension.pixels(), store.name(), options.slots);
    println!(
        "{:>8} {:>9} {:>11} {:>7} {:>10} {:>14} {:>12} {:>9} {:>9}",
        "workers",
        "partials",
        "partials/s",
        "MB/s",
        "CPU ms/MB",
        "connected MiB",
        "uploads MiB",
        "peak MiB",
        "result s"
    );
    for &workers in &options.workers {
        let run = LoadRun { partials, workers, slots: options.slots, dimension, store };
        let figures = run.measure(moto)?;
        println!(
            "{workers:>8} {:>9} {:>11.1} {:>7.0} {:>10.2} {:>14} {:>12} {:>9} {:>9.2}{}",
            figures.partials,
            figures.partials_per_second,
            figures.megabytes_per_second,
            figures.coordinator_cpu_ms_per_megabyte,
            figures.connected_memory_mib,
            figures.upload_memory_mib,
            figures.peak_memory_mib,
            figures.result_seconds,
            remarks(&figures),
        );
    }
    Ok(())
}

/// Returns remarks on what should not have happened, where it did.
fn remarks(figures: &LoadFigures) -> String {
    let mut remarks = String::new();
    if figures.state != "SWEEP_STATE_COMPLETE" {
        remarks += &format!("  ended as {}", figures.state);
    }
    if figures.tried_again > 0 {
        remarks += &format!("  {} uploads were tried again", figures.tried_again);
    }
    if figures.not_committed > 0 {
        remarks += &format!("  {} were computed twice", figures.not_committed);
    }
    remarks
}
