//! Limits how often the same event is logged.

use std::time::{Duration, Instant};

/// The time for which an event is not logged again.
pub(crate) const QUIET: Duration = Duration::from_secs(60);

/// Lets an event be logged once a minute, however often it happens: when it was last logged, and how often it happened since.
#[derive(Default)]
pub(crate) struct LogThrottle(Option<(Instant, u64)>);

impl LogThrottle {
    /// Counts the event. If it is to be logged, returns how often it happened unlogged since it was last logged.
    pub(crate) fn is_news(&mut self, now: Instant) -> Option<u64> {
        match &mut self.0 {
            Some((at, unlogged)) if now.duration_since(*at) < QUIET => {
                *unlogged += 1;
                None
            }
            last => Some(last.replace((now, 0)).map_or(0, |(_, unlogged)| unlogged)),
        }
    }
}
