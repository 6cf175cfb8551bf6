//! The coordinator with workers that compute nothing: shards a second, and its CPU time for each, as the workers grow in number.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Deserialize;

use crate::process::{build_loads, released};

#[derive(Args)]
pub(crate) struct CoordinatorBench {
    /// Shards of each measurement, in thousands
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    thousands: u32,
    /// The number of workers of each measurement
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100, 1000])]
    workers: Vec<u32>,
    /// Shards that each worker holds at once
    #[arg(long, default_value_t = 8)]
    slots: u32,
    /// Where the journal lies [default: SQLite in a temporary folder]
    #[arg(long)]
    journal: Option<String>,
}

/// The result of one measurement.
#[derive(Deserialize)]
struct MeasuredRates {
    shards_per_second: f64,
    coordinator_cpu_microseconds_per_shard: f64,
    start_seconds: f64,
    start_memory_mib: u64,
    peak_memory_mib: u64,
}

/// Builds the coordinator and its load, and prints a table.
pub(crate) fn run(root: &Path, options: &CoordinatorBench) -> Result<ExitCode> {
    if let Some(failed) = build_loads(root)? {
        return Ok(failed);
    }
    let CoordinatorBench { thousands, workers, slots, journal } = options;
    println!("{thousands} thousand shards, {slots} slots a worker");
    println!(
        "{:>8} {:>10} {:>14} {:>9} {:>10} {:>9}",
        "workers", "shards/s", "CPU us/shard", "start s", "start MiB", "peak MiB"
    );
    for &count in workers {
        let mut load = Command::new(released("examples/coordinator_rate")?);
        load.args([u64::from(*thousands) * 1000, u64::from(count), u64::from(*slots)].map(|n| n.to_string()));
        load.envs(journal.iter().map(|url| ("NADGRID_BENCH_JOURNAL", url)));
        let output = load.output().context("cannot start the load")?;
        ensure!(output.status.success(), "the load failed: {}", String::from_utf8_lossy(&output.stderr));
        let measured: MeasuredRates =
            serde_json::from_slice(&output.stdout).context("the load printed something else")?;
        println!(
            "{count:>8} {:>10.0} {:>14.1} {:>9.2} {:>10} {:>9}",
            measured.shards_per_second,
            measured.coordinator_cpu_microseconds_per_shard,
            measured.start_seconds,
            measured.start_memory_mib,
            measured.peak_memory_mib
        );
    }
    Ok(ExitCode::SUCCESS)
}
