//! `nadgrid-worker`: parses the command line, runs, and reports the outcome by its exit code.

use clap::Parser;
use nadgrid_configuration::{Configuration, ConfigurationError, KeyFlags};
use nadgrid_core::text;
use nadgrid_worker::bench::WorkerMeasurement;
use nadgrid_worker::cli::{Bench, Cli, Command};
use nadgrid_worker::config::WorkerConfig;
use nadgrid_worker::error::WorkerError;
use nadgrid_worker::{bench, clear_environment, exit, run, shutdown};
use std::panic::catch_unwind;

/// The exit code of a program that panicked, as Rust's runtime sets it.
const PANICKED: u8 = 101;

fn main() {
    // Safety: no thread has been started yet.
    unsafe { clear_environment() };
    // Slots may still compute after a panic, which has been reported where it happened.
    let code = match catch_unwind(|| start(&Cli::parse())) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            eprintln!("error: {error}");
            error.exit_code()
        }
        Err(_) => PANICKED,
    };
    exit(code)
}

fn start(cli: &Cli) -> Result<(), WorkerError> {
    match &cli.command {
        None => {
            let config = load(&cli.flags)?;
            let tracer = config.telemetry().start("nadgrid-worker")?;
            let outcome = run(&config, shutdown::watch(cli.until_stdin_closes)?, &tracer);
            tracer.shutdown();
            outcome
        }
        Some(Command::Bench { bench: Bench::Jacobian(options) }) => {
            report(&bench::jacobian(options, &quiet(&options.machine.flags())?)?, options.machine.json)
        }
        Some(Command::Bench { bench: Bench::Directional(options) }) => {
            report(&bench::directional(options, &quiet(&options.machine.flags())?)?, options.machine.json)
        }
    }
}

fn load(flags: &KeyFlags<WorkerConfig>) -> Result<WorkerConfig, ConfigurationError> {
    let variables = WorkerConfig::variables(std::env::vars_os());
    for warning in variables.warnings() {
        eprintln!("warning: {warning}");
    }
    WorkerConfig::load(flags, &variables)
}

/// Loads the configuration of a benchmark, whose shards are not logged unless `NADGRID_LOG` asks for it.
fn quiet(flags: &KeyFlags<WorkerConfig>) -> Result<WorkerConfig, WorkerError> {
    let mut config = load(flags)?;
    if std::env::var_os("NADGRID_LOG").is_none() {
        config.log = "warn".to_owned();
    }
    config.telemetry().start("nadgrid-worker")?;
    Ok(config)
}

fn report(measured: &WorkerMeasurement, json: bool) -> Result<(), WorkerError> {
    if json {
        println!("{}", serde_json::to_string(measured).map_err(|e| WorkerError::Bench(e.to_string()))?);
        return Ok(());
    }
    let (count, what) = match (measured.networks, measured.runs) {
        (Some(networks), _) => (networks, "networks"),
        (None, runs) => (runs.unwrap_or(0), "runs"),
    };
    println!(
        "{} {what} in {}: {:.3} {what}/s on {} slots, {} evaluation, {}, {}, peak memory {}",
        text::thousands(count),
        text::duration(measured.seconds),
        count as f64 / measured.seconds,
        measured.slots,
        measured.evaluation,
        measured.precision,
        measured.instruction_set,
        text::bytes(measured.peak_rss_bytes)
    );
    Ok(())
}
