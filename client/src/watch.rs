//! Watching a sweep until it has ended, through restarts of the coordinator.
//!
//! ```text
//!            message                          sweep ended
//! watching ───────────► Sweep ─► watching   ─────────────► end of the stream
//!    │ break, end without an end of the sweep
//!    ▼                                 patience is over
//!   away ─► Away ─► pause ─► again   ───────────────────► Err(Unreachable)
//! ```
//! Each pause is twice the last one, until a stream has lived as long as the longest pause; patience begins anew with every message.
//! Absent: jitter (a person watches, not a herd), and deltas: every message is the whole sweep, so a lost one is no loss.

use crate::client::{Client, of_sweep};
use crate::error::{Error, is_away};
use futures::stream::{self, BoxStream, StreamExt};
use nadgrid_proto::v1::{Sweep, SweepState, WatchRequest};
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Status, Streaming};

/// The time and the interval for retrying a coordinator that is unreachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// The first pause.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// The longest time for which it may be unreachable.
    pub limit: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { first: Duration::from_millis(250), longest: Duration::from_secs(5), limit: Duration::from_secs(300) }
    }
}

impl Patience {
    /// The pause before the `attempt`-th try, counted from 1.
    fn pause(&self, attempt: u32) -> Duration {
        self.first.saturating_mul(1 << (attempt - 1).min(16)).min(self.longest)
    }
}

/// An event of a watched sweep.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent {
    /// The sweep as it stands now; it differs from the one told before, unless the coordinator was away in between.
    Sweep(Box<Sweep>),
    /// The coordinator is away and is tried again after a pause.
    Away {
        /// The transport's message.
        reason: String,
        /// The pause.
        pause: Duration,
    },
}

impl Client {
    /// One sweep now and whenever it changes. Ends after the sweep has ended, or with an error.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Unreachable`] once `patience` is over.
    pub fn watch(&self, id: &str, patience: Patience) -> BoxStream<'static, Result<WatchEvent, Error>> {
        let watcher = SweepWatcher {
            client: self.clone(),
            id: id.into(),
            patience,
            messages: None,
            opened: Instant::now(),
            last: None,
            attempts: 0,
            away_since: None,
            ended: false,
        };
        stream::unfold(watcher, |mut watcher| async move { watcher.next().await.map(|event| (event, watcher)) }).boxed()
    }
}

struct SweepWatcher {
    client: Client,
    id: String,
    patience: Patience,
    messages: Option<Streaming<Sweep>>,
    /// The time when the stream was opened.
    opened: Instant,
    last: Option<Sweep>,
    attempts: u32,
    away_since: Option<Instant>,
    ended: bool,
}

impl SweepWatcher {
    async fn next(&mut self) -> Option<Result<WatchEvent, Error>> {
        while !self.ended {
            if self.messages.is_none() && self.attempts > 0 {
                tokio::time::sleep(self.patience.pause(self.attempts)).await;
            }
            match self.message().await {
                Ok(Some(sweep)) => {
                    let sweep = match self.client.received(Ok(sweep)).and_then(|sweep| of_sweep(&self.id, sweep)) {
                        Ok(sweep) => sweep,
                        Err(error) => {
                            self.ended = true;
                            return Some(Err(error));
                        }
                    };
                    if let Some(event) = self.told(sweep) {
                        return Some(Ok(event));
                    }
                }
                // The coordinator shuts down in order, or this was the last message of an ended sweep.
                Ok(None) => return Some(self.away("it closed the stream".into())),
                Err(status) if is_away(&status) => {
                    return match self.client.error(status) {
                        Error::Unreachable { reason, .. } => Some(self.away(reason)),
                        other => Some(Err(other)),
                    };
                }
                Err(status) => {
                    self.ended = true;
                    return Some(Err(self.client.error(status)));
                }
            }
        }
        None
    }

    async fn message(&mut self) -> Result<Option<Sweep>, Status> {
        let messages = match &mut self.messages {
            Some(messages) => messages,
            None => {
                let request = WatchRequest { sweep_id: self.id.clone() };
                self.opened = Instant::now();
                let messages = self.client.service().watch(request).await?.into_inner();
                self.messages.insert(messages)
            }
        };
        messages.message().await
    }

    /// The event of a message, if it is news; that the coordinator is back is news too.
    fn told(&mut self, sweep: Sweep) -> Option<WatchEvent> {
        // A stream that says a word and closes, again and again, is asked for ever less often.
        if self.opened.elapsed() >= self.patience.longest {
            self.attempts = 0;
        }
        let is_back = self.away_since.take().is_some();
        self.ended = has_ended(&sweep);
        let news = is_back || self.last.as_ref() != Some(&sweep);
        self.last = Some(sweep.clone());
        news.then(|| WatchEvent::Sweep(Box::new(sweep)))
    }

    fn away(&mut self, reason: String) -> Result<WatchEvent, Error> {
        self.messages = None;
        self.attempts += 1;
        let since = *self.away_since.get_or_insert_with(Instant::now);
        let pause = self.patience.pause(self.attempts);
        if since.elapsed() + pause > self.patience.limit {
            self.ended = true;
            return Err(Error::Unreachable { url: self.client.url().into(), reason });
        }
        Ok(WatchEvent::Away { reason, pause })
    }
}

/// Whether nothing will change any more.
pub fn has_ended(sweep: &Sweep) -> bool {
    use SweepState::{Cancelled, Complete, Failed, Incomplete};
    matches!(sweep.state(), Complete | Incomplete | Failed | Cancelled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let patience = Patience::default();
        let pauses: Vec<u128> = (1..=6).map(|attempt| patience.pause(attempt).as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 5000]);
        assert_eq!(patience.pause(u32::MAX), patience.longest);
    }
}
