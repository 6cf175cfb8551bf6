//! `nadgrid-coordinator`: parses, calls `run`, maps the result to an exit code.

use clap::Parser;
use nadgrid_coordinator::config::{Config, Flags};
use nadgrid_telemetry::Tracer;
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What still runs when everything has ended (a reduction, say) is left to the journal's next reader.
const LEFT_BEHIND: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let flags = Flags::parse();
    let started = Config::load(&flags, std::env::vars()).map_err(Box::<dyn std::error::Error>::from);
    let started = started.and_then(|config| Ok((config.telemetry().start("nadgrid-coordinator")?, config)));
    let (tracer, config) = match started {
        Ok(started) => started,
        Err(error) => return failed(&*error),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let ended = runtime.block_on(start(&flags, config, tracer.clone()));
    runtime.shutdown_timeout(LEFT_BEHIND);
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

async fn start(flags: &Flags, config: Config, tracer: Tracer) -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind(config.listen).await.map_err(|e| cannot_listen(config.listen, &e))?;
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
    // Whoever started this program on port 0 reads the port from this line.
    let mut out = std::io::stdout();
    writeln!(out, "listening on {scheme}://{address}")?;
    out.flush()?;
    let page = nadgrid_coordinator::page_address(&config, &format!("{scheme}://{address}"))?;
    // Whoever has read the first line may have gone.
    drop(writeln!(out, "page at {page}"));
    drop(out.flush());
    nadgrid_coordinator::run(config, listener, stop, tracer).await?;
    Ok(())
}

/// Every connection is an open file; most systems allow more of them than they grant at first.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limits = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, maximum: limits.maximum }) {
        tracing::warn!(%error, "the limit of open files stays at {:?}", limits.current);
    }
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
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        tracing::info!("shutting down");
        stop.cancel();
    });
    Ok(())
}

/// The end of standard input is the end of the program that started this one. It is read on a thread of its own,
/// which nobody waits for.
fn stop_on_closed_stdin(stop: &CancellationToken) {
    let stop = stop.clone();
    std::thread::spawn(move || {
        drop(std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        stop.cancel();
    });
}
