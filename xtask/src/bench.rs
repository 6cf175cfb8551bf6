//! `cargo xtask bench`: nadgrid against a peer on this machine, in turns (A B A B ...), so that a change in the machine's load
//! meets both; and against what was published.
//!
//! Deliberately absent: stored results and thresholds. A number means something beside the machine it was taken on alone.

mod cluster;
mod coordinator;
mod peer;
mod plans;
mod published;
mod turns;
mod workers;

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};

use crate::bench::peer::PythonPeer;
use crate::bench::turns::{TurnMeasurement, Unit};
use crate::process::{build_release, released};
use crate::{prerequisites, setup};

#[derive(Subcommand)]
pub(crate) enum Benchmark {
    /// Finite-difference Jacobians, networks per second, against an ordinary PyTorch loop
    Jacobian(JacobianBench),
    /// LeNets trained on D(v), runs per minute, against an ordinary PyTorch loop
    Directional(DirectionalBench),
    /// Shards a second that the coordinator moves with workers that compute nothing
    Coordinator(coordinator::CoordinatorBench),
    /// What plans say of sweeps of every kind, beside what these take
    Plans(plans::Plans),
    /// Partials a second that the coordinator takes from workers that compute nothing, and what they cost it
    Cluster(cluster::ClusterBench),
    /// A sweep of LeNets on 3, 12 and 48 workers of this machine
    Workers(workers::WorkersBench),
    /// Accuracies of LeNet along directions, against the published ones
    Published(published::Published),
}

#[derive(Args)]
pub(crate) struct JacobianBench {
    /// The network to differentiate
    #[arg(long, value_enum, default_value_t = BenchArchitecture::Lenet)]
    architecture: BenchArchitecture,
    /// Networks in each measurement [default: 128 LeNets, 2 ResNet18]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    networks: Option<u32>,
    /// The number of measurements of each side
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

#[derive(Args)]
pub(crate) struct DirectionalBench {
    /// Training runs in each measurement
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// The number of measurements of each side
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// The architectures that the peer has too.
#[derive(Clone, Copy, ValueEnum)]
enum BenchArchitecture {
    Lenet,
    Resnet18,
}

impl BenchArchitecture {
    /// In the registry, and to the peer.
    fn name(self) -> &'static str {
        match self {
            Self::Lenet => "lenet",
            Self::Resnet18 => "resnet18",
        }
    }

    /// Networks that take the peer some seconds.
    fn usual_networks(self) -> u32 {
        match self {
            Self::Lenet => 128,
            Self::Resnet18 => 2,
        }
    }

    /// Networks per block of our side: few networks must still be some blocks for every slot.
    fn block_size(self) -> &'static str {
        match self {
            Self::Lenet => "32",
            Self::Resnet18 => "1",
        }
    }
}

/// Runs one benchmark and prints a table.
pub(crate) fn run(root: &Path, bench: &Benchmark) -> Result<ExitCode> {
    match bench {
        Benchmark::Jacobian(options) => beside_the_peer(root, |peer| jacobian(root, options, peer)),
        Benchmark::Directional(options) => beside_the_peer(root, |peer| directional(root, options, peer)),
        Benchmark::Coordinator(options) => coordinator::run(root, options),
        Benchmark::Plans(options) => plans::run(root, options),
        Benchmark::Cluster(options) => cluster::run(root, options),
        Benchmark::Workers(options) => workers::run(root, options),
        Benchmark::Published(options) => published::run(root, options),
    }
}

/// Builds our side and installs the other.
fn beside_the_peer(root: &Path, bench: impl FnOnce(&PythonPeer) -> Result<()>) -> Result<ExitCode> {
    setup::run(root, false)?;
    if let Some(failed) = build_release(root)? {
        return Ok(failed);
    }
    bench(&PythonPeer::install(prerequisites::check(root)?)?)?;
    Ok(ExitCode::SUCCESS)
}

fn jacobian(root: &Path, options: &JacobianBench, peer: &PythonPeer) -> Result<()> {
    let JacobianBench { architecture, networks, rounds } = options;
    let networks = networks.unwrap_or(architecture.usual_networks()).to_string();
    let what = ["--architecture", architecture.name(), "--networks", &networks];
    println!("jacobian, {}, {networks} networks a measurement; networks per second:", architecture.name());
    turns::take(
        *rounds,
        Unit::PerSecond,
        || ours(root, "jacobian", &[&what[..], &["--block-size", architecture.block_size()]].concat()),
        |slots| peer.measure(root, "jacobian", &what, slots),
    )
}

fn directional(root: &Path, options: &DirectionalBench, peer: &PythonPeer) -> Result<()> {
    let runs = options.runs.to_string();
    println!("directional, lenet, 20 epochs of 10,000 samples, {runs} runs a measurement; runs per minute:");
    turns::take(
        options.rounds,
        Unit::PerMinute,
        || ours(root, "directional", &["--architecture", "lenet", "--runs", &runs]),
        |slots| peer.measure(root, "directional", &["--runs", &runs], slots),
    )
}

/// One measurement of the worker just built.
fn ours(root: &Path, bench: &str, what: &[&str]) -> Result<TurnMeasurement> {
    let mut worker = Command::new(released("nadgrid-worker")?);
    turns::measure(worker.current_dir(root).args(["bench", bench]).args(what).arg("--json"))
}
