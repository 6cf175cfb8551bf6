//! Decides when to stop. After SIGTERM or SIGINT the worker drains: it finishes its running shards within its grace
//! period. At the end of standard input, by which `nadgrid run` ends its workers, it waits for nothing. A second signal
//! ends the program at once.

use crate::error::WorkerError;
use std::io::{self, Read};
use std::thread::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The request to stop. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    drain: CancellationToken,
    end: CancellationToken,
}

impl Stop {
    /// Asks the worker to finish what is running within its grace period, and to begin nothing more.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Asks the worker to give back what is running.
    pub fn end(&self) {
        self.end.cancel();
    }

    /// Returns when the worker is asked to drain.
    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Returns when the worker is asked to end.
    pub async fn ended(&self) {
        self.end.cancelled().await;
    }

    /// Whether the worker was asked to drain.
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }
}

/// Watches for signals, and for the end of standard input if `until_stdin_closes`, on threads of its own.
///
/// # Errors
/// [`WorkerError::Start`] when the system provides no thread or no signal handler.
pub fn watch(until_stdin_closes: bool) -> Result<Stop, WorkerError> {
    let failed = |source| WorkerError::Start { what: "the signal watch", source };
    let stop = Stop::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
    let signals = {
        let _inside = runtime.enter();
        StopSignals {
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
        }
    };
    let watched = stop.clone();
    let work = move || runtime.block_on(wait_for_signals(signals, &watched));
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

struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Waits for the next signal, and returns its name and number.
    async fn next(&mut self) -> (&'static str, i32) {
        tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", 15),
            _ = self.interrupt.recv() => ("SIGINT", 2),
        }
    }
}

async fn wait_for_signals(mut signals: StopSignals, stop: &Stop) {
    let (name, _) = signals.next().await;
    tracing::info!("stopping: {name} (once more to end at once)");
    stop.drain();
    let (name, number) = signals.next().await;
    tracing::warn!("ending at once: {name} again");
    // Safety: it only ends the process. The slots are in libtorch, whose destructors must not run under them.
    unsafe { libc::_exit(128 + number) }
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
