//! The same sweep on few and on many workers of one machine: they share its processors, so many should take as long as few do.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Deserialize;

use crate::process::{build_loads, released};
use crate::setup;

#[derive(Args)]
pub(crate) struct WorkersBench {
    /// The number of workers of each measurement
    #[arg(long, value_delimiter = ',', default_values_t = [3, 12, 48], value_parser = clap::value_parser!(u32).range(1..=1000))]
    workers: Vec<u32>,
    /// The number of networks of each sweep
    #[arg(long, value_delimiter = ',', default_values_t = [8192, 16384], value_parser = clap::value_parser!(u32).range(2..))]
    networks: Vec<u32>,
    /// Shards that each worker computes at once
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    slots: u32,
}

/// The result of one measurement.
#[derive(Deserialize)]
struct SweepFigures {
    state: String,
    digest: Option<String>,
    retries: u64,
    seconds: f64,
    worker_memory_mib: u64,
    coordinator_memory_mib: u64,
    coordinator_cpu_seconds: f64,
    workers_cpu_seconds: f64,
}

/// Builds the programs and the benchmark, and prints a table.
pub(crate) fn run(root: &Path, options: &WorkersBench) -> Result<ExitCode> {
    setup::run(root, false)?;
    if let Some(failed) = build_loads(root)? {
        return Ok(failed);
    }
    println!(
        "{:>8} {:>9} {:>9} {:>9} {:>8} {:>13} {:>15} {:>18} {:>15}",
        "workers",
        "networks",
        "seconds",
        "of first",
        "retries",
        "worker MiB",
        "coordinator MiB",
        "coordinator CPU s",
        "workers' CPU s"
    );
    for &networks in &options.networks {
        sweeps(options, networks)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The same sweep on every number of workers: the digests must be one.
fn sweeps(options: &WorkersBench, networks: u32) -> Result<()> {
    let mut first: Option<SweepFigures> = None;
    for &workers in &options.workers {
        let figures = measure(networks, workers, options.slots)?;
        let ratio = first.as_ref().map_or(1.0, |first| figures.seconds / first.seconds);
        println!(
            "{workers:>8} {networks:>9} {:>9.2} {ratio:>9.2} {:>8} {:>13} {:>15} {:>18.1} {:>15.1}",
            figures.seconds,
            figures.retries,
            figures.worker_memory_mib,
            figures.coordinator_memory_mib,
            figures.coordinator_cpu_seconds,
            figures.workers_cpu_seconds,
        );
        let digest = first.as_ref().and_then(|first| first.digest.as_ref());
        ensure!(figures.state == "complete", "the sweep ended as {}", figures.state);
        ensure!(digest.is_none() || digest == figures.digest.as_ref(), "another digest on {workers} workers");
        first.get_or_insert(figures);
    }
    Ok(())
}

fn measure(networks: u32, workers: u32, slots: u32) -> Result<SweepFigures> {
    let mut load = Command::new(released("examples/worker_load")?);
    load.args([networks, workers, slots].map(|number| number.to_string()));
    let output = load.stderr(Stdio::inherit()).output().context("cannot start the benchmark")?;
    ensure!(output.status.success(), "the benchmark failed");
    serde_json::from_slice(&output.stdout).context("the benchmark printed something else")
}
