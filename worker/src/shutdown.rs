//! When to stop. After SIGTERM or SIGINT the worker drains: it ends what is running, within its grace period. At the end of
//! standard input, with which `nadgrid run` ends its workers, nothing is waited for. A second signal ends the program at once.

use crate::error::WorkerError;
use std::io::{self, Read};
use std::thread::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How the worker is asked to stop. Copies are one.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    drain: CancellationToken,
    end: CancellationToken,
}

impl Stop {
    /// Asks it to end what is running within its grace period, and to begin nothing more.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Asks it to give back what is running.
    pub fn end(&self) {
        self.end.cancel();
    }

    /// Returns when it is asked to drain.
    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Returns when it is asked to end.
    pub async fn ended(&self) {
        self.end.cancelled().await;
    }

    /// Whether it was asked to drain.
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }
}

/// Watches for signals, and for the end of standard input if `until_stdin_closes`, on threads of its own.
///
/// # Errors
/// [`WorkerError::Start`] when the system gives no thread or no signal handler.
pub fn watch(until_stdin_closes: bool) -> Result<Stop, WorkerError> {
    let failed = |source| WorkerError::Start { what: "the signal watch", source };
    let stop = Stop::default();
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
            watched.end();
        };
        Builder::new().name("stdin".to_owned()).spawn(work).map_err(failed)?;
    }
    Ok(stop)
}

async fn heed((mut terminate, mut interrupt): (Signal, Signal), stop: &Stop) {
    let name = next(&mut terminate, &mut interrupt).await.0;
    tracing::info!("stopping: {name} (once more to end at once)");
    stop.drain();
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
