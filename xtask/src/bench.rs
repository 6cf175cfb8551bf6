//! `cargo xtask bench`: nadgrid against a peer on this machine, in turns (A B A B ...), so that a change in the machine's load
//! meets both.
//!
//! Deliberately absent: stored results and thresholds. A number means something beside the machine it was taken on alone.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread::available_parallelism;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use serde::Deserialize;

use crate::cache::Cache;
use crate::hash::{self, Condition};
use crate::pip::Pip;
use crate::process::{build_release, released};
use crate::wheels::{TORCH, WHEELS};
use crate::{prerequisites, setup};

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Finite-difference Jacobians of LeNets, networks per second, against an ordinary PyTorch loop
    Jacobian(Jacobian),
}

#[derive(Args)]
pub(crate) struct Jacobian {
    /// Networks in each measurement
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    networks: u32,
    /// Measurements of each side
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// What either side prints: one line of JSON.
#[derive(Debug, Deserialize)]
struct Measurement {
    networks: f64,
    seconds: f64,
    /// Threads that compute.
    lanes: u32,
}

impl Measurement {
    fn rate(&self) -> f64 {
        self.networks / self.seconds
    }
}

/// Runs one benchmark and prints a table.
pub(crate) fn run(root: &Path, bench: &Bench) -> Result<ExitCode> {
    let Bench::Jacobian(options) = bench;
    setup::run(root, false)?;
    if let Some(failed) = build_release(root)? {
        return Ok(failed);
    }
    let pip = prerequisites::check(root)?;
    let peer = peer(&pip)?;
    jacobian(root, options, &pip, &peer)?;
    Ok(ExitCode::SUCCESS)
}

/// A folder of packages with PyTorch, installed once.
fn peer(pip: &Pip) -> Result<PathBuf> {
    let cache = Cache::open()?;
    let folder = cache.path(format!("pytorch-{TORCH}-{}", pip.python_tag()?));
    if !folder.exists() {
        println!("installing PyTorch {TORCH} and all it depends on into {}:", folder.display());
        println!("a download of about 3 GB, and 5 GB of disk; delete the folder when you are done with benchmarks");
        pip.clone().or_recent(&cache).install(&[&pytorch(pip, &cache)?, "numpy"], &cache, &folder)?;
    }
    Ok(folder)
}

/// PyTorch for this Python, as pip wants it said: the wheel that setup keeps, where it fits and is sound.
fn pytorch(pip: &Pip, cache: &Cache) -> Result<String> {
    let kept =
        WHEELS.iter().find(|wheel| wheel.package == "torch" && pip.python_tag().is_ok_and(|tag| tag == "cpython-311"));
    if let Some(wheel) = kept {
        let path = cache.path("wheels").join(wheel.file_name);
        if hash::inspect(&path, wheel.size, wheel.sha256)? == Condition::Sound {
            return Ok(path.to_str().context("the cache folder's name is not UTF-8")?.to_owned());
        }
    }
    Ok(format!("torch=={TORCH}"))
}

fn jacobian(root: &Path, options: &Jacobian, pip: &Pip, peer: &Path) -> Result<()> {
    let networks = options.networks.to_string();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let load_before = load_average();
    println!("jacobian, LeNet, {networks} networks a measurement; networks per second:");
    println!("{:>8} {:>10} {:>10} {:>7}", "round", "nadgrid", "PyTorch", "ratio");
    for round in 1..=options.rounds {
        let mut worker = Command::new(released("nadgrid-worker")?);
        worker.args(["bench", "jacobian", "--architecture", "lenet", "--networks", &networks, "--json"]);
        let our = measure(worker.current_dir(root))?;
        let mut python = pip.python(peer);
        python.arg(root.join("xtask/bench/jacobian.py"));
        python.args(["--networks", &networks, "--threads", &our.lanes.to_string()]);
        let their = measure(&mut python)?;
        ensure!(our.lanes == their.lanes, "{} threads against {}: not a fair match", our.lanes, their.lanes);
        print_row(&round.to_string(), our.rate(), their.rate());
        ours.push(our);
        theirs.push(their);
    }
    let median = |side: &[Measurement]| median(side.iter().map(Measurement::rate).collect());
    print_row("median", median(&ours), median(&theirs));
    let (cores, lanes) = (available_parallelism()?, ours.first().map_or(0, |our| our.lanes));
    println!("machine: {}, {cores} logical cores, {}", processor(), kernel());
    println!("threads: {lanes} on either side; load average before: {load_before}, after: {}", load_average());
    println!("libtorch {TORCH} on either side");
    Ok(())
}

fn print_row(name: &str, ours: f64, theirs: f64) {
    println!("{name:>8} {ours:>10.2} {theirs:>10.2} {:>7.2}", ours / theirs);
}

/// Runs one measurement; what it says besides goes to the terminal.
fn measure(command: &mut Command) -> Result<Measurement> {
    let answer = command.stderr(Stdio::inherit()).output();
    let answer = answer.with_context(|| format!("cannot start {}", command.get_program().display()))?;
    ensure!(answer.status.success(), "{} failed: {}", command.get_program().display(), answer.status);
    parse(&String::from_utf8_lossy(&answer.stdout))
}

/// The last line that is a measurement.
fn parse(output: &str) -> Result<Measurement> {
    let found = output.lines().rev().find_map(|line| serde_json::from_str::<Measurement>(line).ok());
    let found = found.with_context(|| format!("no measurement in {output:?}"))?;
    ensure!(found.seconds > 0.0 && found.networks > 0.0, "a measurement of nothing: {found:?}");
    Ok(found)
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    match rates.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => rates[odd / 2],
        even => (rates[even / 2 - 1] + rates[even / 2]) / 2.0,
    }
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or("an unnamed processor", |(_, name)| name).to_owned()
}

fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Linux {}", release.trim())
}

fn load_average() -> String {
    let loads = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    loads.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn a_measurement_is_found_among_other_lines() {
        let found = parse("warming up\n{\"networks\":8,\"seconds\":2.0,\"lanes\":2}\n").expect("there is one");
        assert_eq!((found.rate(), found.lanes), (4.0, 2));
        assert!(parse("nothing").is_err());
        assert!(parse("{\"networks\":8,\"seconds\":0.0,\"lanes\":2}").is_err());
    }
}
