//! `nadgrid-coordinator`: parses the configuration, calls `run` and maps the result to an exit code.

use clap::Parser;
use nadgrid_configuration::Configuration;
use nadgrid_coordinator::config::{Config, CoordinatorFlags};
use nadgrid_telemetry::Tracer;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The most connections that the kernel holds until they are accepted.
const BACKLOG: u32 = 4096;
/// The time to wait for tasks at the end. Whatever still runs then, for example a reduction, is repeated after the next
/// start.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let flags = CoordinatorFlags::parse();
    let variables = Config::variables(std::env::vars_os());
    for warning in variables.warnings() {
        eprintln!("warning: {warning}");
    }
    let started = Config::load(&flags, &variables).map_err(Box::<dyn std::error::Error>::from);
    let started = started.and_then(|config| Ok((config.telemetry().start("nadgrid-coordinator")?, config)));
    let (tracer, config) = match started {
        Ok(started) => started,
        Err(error) => return failed(&*error),
    };
    nadgrid_coordinator::give_memory_back();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let ended = runtime.block_on(start(&flags, config, tracer.clone()));
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    tracer.shutdown();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&*error),
    }
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

async fn start(flags: &CoordinatorFlags, config: Config, tracer: Tracer) -> Result<(), Box<dyn std::error::Error>> {
    let listener = listen(config.listen).map_err(|e| cannot_listen(config.listen, &e))?;
    let address = listener.local_addr()?;
    let stop = CancellationToken::new();
    stop_on_signals(&stop)?;
    if flags.until_stdin_closes {
        stop_on_closed_stdin(&stop);
    }
    if !config.exposed().is_empty() {
        tracing::warn!(%address, "listening beyond this machine {}", config.exposed());
    }
    raise_open_files();
    let scheme = if config.tls_certificate.is_some() { "https" } else { "http" };
    // A program that started this one on port 0 reads the port from this line.
    let mut out = std::io::stdout();
    writeln!(out, "listening on {scheme}://{address}")?;
    out.flush()?;
    let page = nadgrid_coordinator::page_address(&config, &format!("{scheme}://{address}"))?;
    let is_private = flags.until_stdin_closes || out.is_terminal();
    // The reader of the first line may have closed the output.
    drop(writeln!(out, "page at {}", shown(&page, &config, is_private)));
    drop(out.flush());
    nadgrid_coordinator::run(config, listener, stop, tracer).await?;
    Ok(())
}

/// The page's address as it is printed. On a terminal, or for the program that started this one, it contains the token. If
/// the output may be a log, it names the token's file instead.
fn shown(page: &str, config: &Config, is_private: bool) -> String {
    match page.split_once('#') {
        Some((address, _)) if !is_private => {
            format!("{address} (its token is in {})", config.data.join("page-token").display())
        }
        _ => page.to_owned(),
    }
}

/// Raises the limit of open files, since every connection is one; most systems allow more than the default.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limits = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, maximum: limits.maximum }) {
        tracing::warn!(%error, "the limit of open files stays at {:?}", limits.current);
    }
}

/// Listens with a long backlog: a client that finds no room in it is not refused but retries a second later.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!("cannot listen on {address}: the port is in use; choose another with --listen")
        }
        _ => format!("cannot listen on {address}: {error}"),
    }
}

fn stop_on_signals(stop: &CancellationToken) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        tracing::info!("shutting down");
        stop.cancel();
    });
    Ok(())
}

/// Stops at the end of standard input, which is the end of the program that started this one. A thread reads it, and nothing
/// waits for that thread.
fn stop_on_closed_stdin(stop: &CancellationToken) {
    let stop = stop.clone();
    std::thread::spawn(move || {
        drop(std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        stop.cancel();
    });
}
