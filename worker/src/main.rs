//! `nadgrid-worker`: parses, runs, and says by its exit code how it went.

use clap::Parser;
use nadgrid_core::text;
use nadgrid_worker::cli::{Bench, Cli, Command, Jacobian};
use nadgrid_worker::config::{Config, ConfigError, Flags};
use nadgrid_worker::error::WorkerError;
use nadgrid_worker::{bench, run, shutdown};
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // Safety: no other thread exists yet. cuBLAS and cuDNN read it when they are first used: float32 means float32.
    unsafe { std::env::set_var("NVIDIA_TF32_OVERRIDE", "0") };
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
        Some(Command::Bench { bench: Bench::Jacobian(options) }) => measure(options),
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

fn measure(options: &Jacobian) -> Result<(), WorkerError> {
    let config = load(&options.flags())?;
    let measured = bench::jacobian(options, &config)?;
    if options.json {
        println!("{}", serde_json::to_string(&measured).map_err(|e| WorkerError::Bench(e.to_string()))?);
    } else {
        println!(
            "{} networks in {}: {:.1} networks/s on {} lanes, {} evaluation, {}, peak memory {}",
            text::thousands(measured.networks),
            text::duration(measured.seconds),
            measured.networks as f64 / measured.seconds,
            measured.lanes,
            measured.evaluation,
            measured.instruction_set,
            text::bytes(measured.peak_rss_bytes)
        );
    }
    Ok(())
}
