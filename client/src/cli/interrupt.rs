//! Ctrl-C, and the signals that mean the same: SIGTERM, and SIGHUP when the terminal closes.
//!
//! A command is a future; when a signal comes it is dropped, and with it whatever it had staged.

use super::Failure;
use std::io;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Counts the signals that came.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(watch::Receiver<u32>);

impl Interrupt {
    /// Begins to listen; from now on a signal does not end the process by itself.
    pub(crate) fn install() -> io::Result<Self> {
        let mut signals =
            [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?];
        let (count, receiver) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                let [a, b, c] = &mut signals;
                tokio::select! { _ = a.recv() => {}, _ = b.recv() => {}, _ = c.recv() => {} }
                count.send_modify(|count| *count += 1);
            }
        });
        Ok(Self(receiver))
    }

    /// Waits for this many signals since the start.
    pub(crate) async fn happened(&self, times: u32) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|count| *count >= times).await.is_err() {
            // Nobody listens for signals any more, which happens only at the end of a test.
            std::future::pending::<()>().await;
        }
    }

    /// Does the work unless a signal comes first.
    pub(crate) async fn guard<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            () = self.happened(1) => Err(Failure::Interrupted),
            outcome = work => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_drops_the_work_and_a_second_one_is_counted() {
        let (count, receiver) = watch::channel(0);
        let interrupt = Interrupt(receiver);
        assert!(interrupt.guard(async { Ok(()) }).await.is_ok());
        count.send_modify(|count| *count += 1);
        let outcome = interrupt.guard(std::future::pending::<Result<(), Failure>>()).await;
        assert!(matches!(outcome, Err(Failure::Interrupted)));
        count.send_modify(|count| *count += 1);
        interrupt.happened(2).await;
    }
}
