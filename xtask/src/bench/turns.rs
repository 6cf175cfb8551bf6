//! Two sides in turns, and a table of their rates.

use std::process::{Command, Stdio};
use std::thread::available_parallelism;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::wheels::TORCH;

/// The measurement that either side prints: one line of JSON.
#[derive(Debug, Deserialize)]
pub(super) struct TurnMeasurement {
    /// The number of networks or runs that were computed.
    #[serde(alias = "networks", alias = "runs")]
    count: f64,
    seconds: f64,
    /// Threads that compute.
    slots: u32,
}

/// The unit of a rate.
#[derive(Clone, Copy)]
pub(super) enum Unit {
    PerSecond,
    PerMinute,
}

impl Unit {
    fn rate(self, measured: &TurnMeasurement) -> f64 {
        let seconds = match self {
            Self::PerSecond => 1.0,
            Self::PerMinute => 60.0,
        };
        seconds * measured.count / measured.seconds
    }
}

/// Measures both sides in turns, theirs on as many threads as ours took, and prints every round, medians and the machine.
pub(super) fn take(
    rounds: u32,
    unit: Unit,
    mut ours: impl FnMut() -> Result<TurnMeasurement>,
    mut theirs: impl FnMut(u32) -> Result<TurnMeasurement>,
) -> Result<()> {
    let load_before = load_average();
    let mut our_rates = Vec::new();
    let mut their_rates = Vec::new();
    let mut ratios = Vec::new();
    let mut slots = 0;
    println!("{:>8} {:>10} {:>10} {:>7}", "round", "nadgrid", "PyTorch", "ratio");
    for round in 1..=rounds {
        let our = ours()?;
        let their = theirs(our.slots)?;
        ensure!(our.slots == their.slots, "{} threads against {}: not a fair match", our.slots, their.slots);
        let our_rate = unit.rate(&our);
        let their_rate = unit.rate(&their);
        print_row(&round.to_string(), our_rate, their_rate, our_rate / their_rate);
        our_rates.push(our_rate);
        their_rates.push(their_rate);
        ratios.push(our_rate / their_rate);
        slots = our.slots;
    }
    print_row("median", median(our_rates), median(their_rates), median(ratios));
    println!("machine: {}, {} logical cores, {}", processor(), available_parallelism()?, kernel());
    println!("threads: {slots} on either side; load average before: {load_before}, after: {}", load_average());
    println!("libtorch {TORCH} on either side");
    Ok(())
}

fn print_row(name: &str, ours: f64, theirs: f64, ratio: f64) {
    println!("{name:>8} {ours:>10.2} {theirs:>10.2} {ratio:>7.2}");
}

/// Runs one measurement; what it says besides goes to the terminal.
pub(super) fn measure(command: &mut Command) -> Result<TurnMeasurement> {
    let answer = command.stderr(Stdio::inherit()).output();
    let answer = answer.with_context(|| format!("cannot start {}", command.get_program().display()))?;
    ensure!(answer.status.success(), "{} failed: {}", command.get_program().display(), answer.status);
    parse(&String::from_utf8_lossy(&answer.stdout))
}

/// The last line that is a measurement.
fn parse(output: &str) -> Result<TurnMeasurement> {
    let found = output.lines().rev().find_map(|line| serde_json::from_str::<TurnMeasurement>(line).ok());
    let found = found.with_context(|| format!("no measurement in {output:?}"))?;
    ensure!(found.seconds > 0.0 && found.count > 0.0, "a measurement of nothing: {found:?}");
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
        let found = parse("warming up\n{\"networks\":8,\"seconds\":2.0,\"slots\":2}\n").expect("there is one");
        assert_eq!((Unit::PerSecond.rate(&found), found.slots), (4.0, 2));
        assert!(parse("nothing").is_err());
        assert!(parse("{\"networks\":8,\"seconds\":0.0,\"slots\":2}").is_err());
    }

    #[test]
    fn runs_are_counted_as_networks_are() {
        let found = parse("{\"runs\":3,\"seconds\":90.0,\"slots\":2,\"method\":\"eager\"}").expect("there is one");
        assert_eq!(Unit::PerMinute.rate(&found), 2.0);
    }

    #[test]
    fn sides_take_turns() {
        let measured = |count| Ok(TurnMeasurement { count, seconds: 1.0, slots: 2 });
        let order = std::cell::RefCell::new(String::new());
        let side = |name| {
            order.borrow_mut().push(name);
            measured(1.0)
        };
        take(2, Unit::PerSecond, || side('a'), |_| side('b')).expect("measured");
        assert_eq!(order.into_inner(), "abab");
        let unfair = || Ok(TurnMeasurement { count: 1.0, seconds: 1.0, slots: 1 });
        assert!(take(1, Unit::PerSecond, unfair, |_| measured(1.0)).is_err());
    }
}
