//! The command line: flags over the configuration, and the benchmarks.

use crate::config::Flags;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Computes shards of sweeps for a nadgrid coordinator.
///
/// Every flag but --until-stdin-closes is also a key of the configuration file (`--connect-timeout` is
/// `connect_timeout`) and a variable (`NADGRID_CONNECT_TIMEOUT`).
#[derive(Debug, Parser)]
#[command(name = "nadgrid-worker", version)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(flatten)]
    options: Options,
    /// End at once, and give back what is running, when standard input is closed
    #[arg(long)]
    pub until_stdin_closes: bool,
    /// Something other than to work
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Args)]
struct Options {
    /// Configuration file, TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The coordinator [default: http://127.0.0.1:7400]
    #[arg(long, value_name = "URL")]
    coordinator: Option<String>,
    /// auto, cpu, cuda or cuda:N [default: auto]
    #[arg(long)]
    device: Option<String>,
    /// Shards computed at once [default: all cores on a CPU, 1 on a GPU]
    #[arg(long, value_name = "N")]
    lanes: Option<String>,
    /// What people call this worker [default: the host's name]
    #[arg(long)]
    name: Option<String>,
    /// auto, patch, dense or fused [default: auto, patch on a CPU and fused on a GPU]
    #[arg(long)]
    evaluation: Option<String>,
    /// How long to wait for a coordinator that was never reached [default: 30]
    #[arg(long, value_name = "SECONDS")]
    connect_timeout: Option<String>,
    /// How long to wait for a coordinator that was lost [default: 600]
    #[arg(long, value_name = "SECONDS")]
    reconnect_timeout: Option<String>,
    /// File that holds the token; the variable NADGRID_TOKEN may hold it instead
    #[arg(long, value_name = "FILE")]
    token_file: Option<String>,
    /// Send the token over plain http to another machine too
    #[arg(long)]
    insecure_token: bool,
    /// Authorities to trust for https://, instead of the system's (PEM)
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<String>,
    /// Own certificate, where the coordinator asks for one (PEM)
    #[arg(long, value_name = "FILE")]
    tls_certificate: Option<String>,
    /// Key of the own certificate (PEM)
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// Host name of the coordinator's certificate [default: that of the address]
    #[arg(long, value_name = "NAME")]
    tls_domain: Option<String>,
    /// How long running shards may take after a signal; what is left is given back [default: 25]
    #[arg(long, value_name = "SECONDS")]
    grace: Option<String>,
    /// How often a shard in training hands out a checkpoint at most; 0 for every epoch [default: 60]
    #[arg(long, value_name = "SECONDS")]
    checkpoint_interval: Option<String>,
    /// What is logged: a level, or target=level pairs [default: info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Collector that spans are sent to, OTLP over gRPC [default: none]
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
    /// Share of traces that are recorded, from 0 to 1 [default: 1]
    #[arg(long, value_name = "X")]
    trace_sample: Option<String>,
}

/// What to do instead of working for a coordinator.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure this machine
    Bench {
        /// What of it.
        #[command(subcommand)]
        bench: Bench,
    },
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Central differences and their moments, networks per second, by the code that computes shards
    Jacobian(Jacobian),
    /// Directional training runs of 10,000 samples, by the code that computes shards
    Directional(Directional),
}

/// Of the benchmark `jacobian`.
#[derive(Debug, Args)]
pub struct Jacobian {
    /// A name of the registry
    #[arg(long, default_value = "lenet")]
    pub architecture: String,
    /// How many networks
    #[arg(long, default_value_t = 128)]
    pub networks: u64,
    /// Networks per block
    #[arg(long, default_value_t = 32)]
    pub block_size: u32,
    /// Where and how.
    #[command(flatten)]
    pub machine: OnMachine,
}

/// Of the benchmark `directional`.
#[derive(Debug, Args)]
pub struct Directional {
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
    /// Where and how.
    #[command(flatten)]
    pub machine: OnMachine,
}

/// Where a benchmark runs.
#[derive(Debug, Args)]
pub struct OnMachine {
    /// Shards computed at once [default: all cores on a CPU, 1 on a GPU]
    #[arg(long, value_name = "N")]
    pub lanes: Option<u32>,
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

impl Cli {
    /// The flags that lie over the configuration.
    pub fn flags(&self) -> Flags {
        let given = &self.options;
        let values = vec![
            ("coordinator", given.coordinator.clone()),
            ("device", given.device.clone()),
            ("lanes", given.lanes.clone()),
            ("name", given.name.clone()),
            ("evaluation", given.evaluation.clone()),
            ("connect_timeout", given.connect_timeout.clone()),
            ("reconnect_timeout", given.reconnect_timeout.clone()),
            ("grace", given.grace.clone()),
            ("checkpoint_interval", given.checkpoint_interval.clone()),
            ("token_file", given.token_file.clone()),
            ("insecure_token", given.insecure_token.then(|| "true".to_owned())),
            ("tls_ca", given.tls_ca.clone()),
            ("tls_certificate", given.tls_certificate.clone()),
            ("tls_key", given.tls_key.clone()),
            ("tls_domain", given.tls_domain.clone()),
            ("log", given.log.clone()),
            ("log_format", given.log_format.clone()),
            ("otlp", given.otlp.clone()),
            ("trace_sample", given.trace_sample.clone()),
        ];
        Flags { config: given.config.clone(), values }
    }
}

impl OnMachine {
    /// The flags that mean the same as those of a worker.
    pub fn flags(&self) -> Flags {
        let values = vec![
            ("device", Some(self.device.clone())),
            ("lanes", self.lanes.map(|lanes| lanes.to_string())),
            ("evaluation", Some(self.evaluation.clone())),
        ];
        Flags { config: None, values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        let cli = Cli::parse_from(["nadgrid-worker", "--lanes", "3", "--connect-timeout", "2"]);
        let given: Vec<_> = cli.flags().values.into_iter().filter(|(_, value)| value.is_some()).collect();
        assert_eq!(given, [("lanes", Some("3".to_owned())), ("connect_timeout", Some("2".to_owned()))]);
    }
}
