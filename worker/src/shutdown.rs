//! When to stop: SIGTERM, SIGINT, or the end of standard input. A second signal ends the program at once.

use crate::error::WorkerError;
use std::io::{self, Read};
use std::thread::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Watches for signals, and for the end of standard input if `until_stdin_closes`, on threads of its own.
///
/// # Errors
/// [`WorkerError::Start`] when the system gives no thread or no signal handler.
pub fn watch(until_stdin_closes: bool) -> Result<CancellationToken, WorkerError> {
    let failed = |source| WorkerError::Start { what: "the signal watch", source };
    let stop = CancellationToken::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
    let signals = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate()).map_err(failed)?, signal(SignalKind::interrupt()).map_err(failed)?)
    };
    let watched = stop.clone();
    let work = move || runtime.block_on(heed(signals, &watched));
    Builder::new().name("signals".to_owned()).spawn(work).map_err(failed)?;
    if until_stdin_closes {
        let watched = stop.clone();
        let work = move || {
            drain_stdin();
            tracing::info!("stopping: standard input is closed");
            watched.cancel();
        };
        Builder::new().name("stdin".to_owned()).spawn(work).map_err(failed)?;
    }
    Ok(stop)
}

async fn heed((mut terminate, mut interrupt): (Signal, Signal), stop: &CancellationToken) {
    let name = next(&mut terminate, &mut interrupt).await.0;
    tracing::info!("stopping: {name} (once more to end at once)");
    stop.cancel();
    let (name, number) = next(&mut terminate, &mut interrupt).await;
    tracing::warn!("ending at once: {name} again");
    // Safety: it only ends the process. The lanes are in libtorch, whose destructors must not run under them.
    unsafe { libc::_exit(128 + number) }
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> (&'static str, i32) {
    tokio::select! {
        _ = terminate.recv() => ("SIGTERM", 15),
        _ = interrupt.recv() => ("SIGINT", 2),
    }
}

fn drain_stdin() {
    let mut buffer = [0; 1024];
    let mut input = io::stdin().lock();
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return,
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return,
            _ => {}
        }
    }
}
