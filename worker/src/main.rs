//! `nadgrid-worker`: parses, runs, and says by its exit code how it went.

use clap::Parser;
use nadgrid_core::text;
use nadgrid_worker::bench::Measurement;
use nadgrid_worker::cli::{Bench, Cli, Command};
use nadgrid_worker::config::{Config, ConfigError, Flags};
use nadgrid_worker::error::WorkerError;
use nadgrid_worker::{bench, run, shutdown};
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    match start(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn start(cli: &Cli) -> Result<(), WorkerError> {
    // A benchmark's shards are nobody's news.
    log(if cli.command.is_none() { "info" } else { "warn" })?;
    match &cli.command {
        None => {
            let config = load(&cli.flags())?;
            run(&config, shutdown::watch(cli.until_stdin_closes)?)
        }
        Some(Command::Bench { bench: Bench::Jacobian(options) }) => {
            report(&bench::jacobian(options, &load(&options.machine.flags())?)?, options.machine.json)
        }
        Some(Command::Bench { bench: Bench::Directional(options) }) => {
            report(&bench::directional(options, &load(&options.machine.flags())?)?, options.machine.json)
        }
    }
}

fn load(flags: &Flags) -> Result<Config, ConfigError> {
    let variable = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    };
    Config::load(flags, std::env::vars_os().filter_map(variable))
}

/// Logs go to standard error: standard output is for results.
fn log(default: &str) -> Result<(), ConfigError> {
    let wanted = std::env::var("NADGRID_LOG").ok().filter(|wanted| !wanted.is_empty());
    let filter = EnvFilter::try_new(wanted.as_deref().unwrap_or(default)).map_err(|error| ConfigError::Value {
        key: "NADGRID_LOG",
        value: wanted.unwrap_or_default(),
        accepted: format!("a level, or target=level pairs ({error})"),
    })?;
    let colour = std::io::stderr().is_terminal();
    let format = tracing_subscriber::fmt().compact().with_target(false).with_ansi(colour);
    format.with_writer(std::io::stderr).with_env_filter(filter).init();
    Ok(())
}

fn report(measured: &Measurement, json: bool) -> Result<(), WorkerError> {
    if json {
        println!("{}", serde_json::to_string(measured).map_err(|e| WorkerError::Bench(e.to_string()))?);
        return Ok(());
    }
    let (count, what) = match (measured.networks, measured.runs) {
        (Some(networks), _) => (networks, "networks"),
        (None, runs) => (runs.unwrap_or(0), "runs"),
    };
    println!(
        "{} {what} in {}: {:.3} {what}/s on {} lanes, {} evaluation, {}, {}, peak memory {}",
        text::thousands(count),
        text::duration(measured.seconds),
        count as f64 / measured.seconds,
        measured.lanes,
        measured.evaluation,
        measured.precision,
        measured.instruction_set,
        text::bytes(measured.peak_rss_bytes)
    );
    Ok(())
}
