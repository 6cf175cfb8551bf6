//! The command line: flags over the configuration, and the benchmarks.

use crate::config::WorkerConfig;
use clap::{Args, Parser, Subcommand};
use nadgrid_configuration::KeyFlags;

/// Computes shards of sweeps for a nadgrid coordinator.
///
/// Every flag but --until-stdin-closes is also a key of the configuration file (`--connect-timeout` is
/// `connect_timeout`) and a variable (`NADGRID_CONNECT_TIMEOUT`).
#[derive(Debug, Parser)]
#[command(name = "nadgrid-worker", version)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// The flags over the configuration.
    #[command(flatten)]
    pub flags: KeyFlags<WorkerConfig>,
    /// End at once, and give back what is running, when standard input is closed
    #[arg(long)]
    pub until_stdin_closes: bool,
    /// Something other than to work
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do instead of working for a coordinator.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure this machine
    Bench {
        /// The benchmark to run.
        #[command(subcommand)]
        bench: Bench,
    },
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Central differences and their moments, networks per second, by the code that computes shards
    Jacobian(JacobianBench),
    /// Directional training runs of 10,000 samples, by the code that computes shards
    Directional(DirectionalBench),
}

/// The flags of the benchmark `jacobian`.
#[derive(Debug, Args)]
pub struct JacobianBench {
    /// A name of the registry
    #[arg(long, default_value = "lenet")]
    pub architecture: String,
    /// How many networks
    #[arg(long, default_value_t = 128)]
    pub networks: u64,
    /// Networks per block
    #[arg(long, default_value_t = 32)]
    pub block_size: u32,
    /// Where and how it runs.
    #[command(flatten)]
    pub machine: MachineFlags,
}

/// The flags of the benchmark `directional`.
#[derive(Debug, Args)]
pub struct DirectionalBench {
    /// A name of the registry
    #[arg(long, default_value = "lenet")]
    pub architecture: String,
    /// How many runs
    #[arg(long, default_value_t = 4)]
    pub runs: u64,
    /// Epochs of each
    #[arg(long, default_value_t = 20)]
    pub epochs: u32,
    /// Runs trained together
    #[arg(long, default_value_t = 1)]
    pub block_size: u32,
    /// Where and how it runs.
    #[command(flatten)]
    pub machine: MachineFlags,
}

/// Where a benchmark runs.
#[derive(Debug, Args)]
pub struct MachineFlags {
    /// Shards computed at once [default: all cores on a CPU, 1 on a GPU]
    #[arg(long, value_name = "N")]
    pub slots: Option<u32>,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// auto, patch, dense or fused
    #[arg(long, default_value = "auto")]
    pub evaluation: String,
    /// fp32, tf32 or bf16
    #[arg(long, default_value = "fp32")]
    pub precision: String,
    /// One line of JSON
    #[arg(long)]
    pub json: bool,
}

impl MachineFlags {
    /// The flags that mean the same as those of a worker.
    pub fn flags(&self) -> KeyFlags<WorkerConfig> {
        let flags = KeyFlags::default().with("device", &self.device).with("evaluation", &self.evaluation);
        self.slots.iter().fold(flags, |flags, slots| flags.with("slots", slots.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        let cli = Cli::parse_from(["nadgrid-worker", "--slots", "3", "--connect-timeout", "2"]);
        let given: Vec<_> = cli.flags.values().iter().map(|(key, value)| (*key, value.as_str())).collect();
        assert_eq!(given, [("connect_timeout", "2"), ("slots", "3")]);
    }
}
