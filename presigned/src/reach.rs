//! Whether the store is worth another attempt, or everything goes through the coordinator for a while.

use std::time::{Duration, Instant};

/// Failures in a row after which the store is avoided.
const FAILURES: u32 = 2;
/// The time for which it is avoided at first; twice as long after each further failure.
const AVOIDED: Duration = Duration::from_secs(60);
const MOST_DOUBLINGS: u32 = 4;

/// The outcome of attempts to reach the store so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreReach {
    failures: u32,
    avoided_until: Option<Instant>,
}

impl StoreReach {
    /// The store could not be reached. Returns for how long it is avoided from now on, if it is.
    pub fn failed(&mut self, now: Instant) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        let further = self.failures.checked_sub(FAILURES)?;
        let avoided = AVOIDED * 2u32.pow(further.min(MOST_DOUBLINGS));
        self.avoided_until = Some(now + avoided);
        Some(avoided)
    }

    /// The store was reached: what was before does not count.
    pub fn reached(&mut self) {
        *self = Self::default();
    }

    /// Whether to go through the coordinator.
    pub fn is_avoided(&self, now: Instant) -> bool {
        self.avoided_until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_failures_in_a_row_make_it_avoided_for_longer_and_longer() {
        let mut reach = StoreReach::default();
        let now = Instant::now();
        assert_eq!((reach.failed(now), reach.is_avoided(now)), (None, false));
        reach.reached();
        assert_eq!((reach.failed(now), reach.failed(now)), (None, Some(AVOIDED)));
        assert!(reach.is_avoided(now) && !reach.is_avoided(now + AVOIDED));
        assert_eq!(reach.failed(now + AVOIDED), Some(AVOIDED * 2));
        for _ in 0..100 {
            reach.failed(now);
        }
        assert_eq!(reach.failed(now), Some(AVOIDED * 16));
        reach.reached();
        assert!(!reach.is_avoided(now));
    }
}
