//! Waits between attempts: doubling, with jitter, so that a fleet does not come back in step.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// The waits between attempts at one thing, up to a time limit.
#[derive(Debug)]
pub(crate) struct Backoff {
    since: Instant,
    limit: Duration,
    next: Duration,
}

impl Backoff {
    /// Begins with a time limit that counts from now.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { since: Instant::now(), limit, next: FIRST }
    }

    /// Begins without a time limit.
    pub(crate) fn endless() -> Self {
        Self::new(Duration::MAX)
    }

    /// Returns how long to wait before another attempt; `None` when the time is up.
    pub(crate) fn wait(&mut self) -> Option<Duration> {
        let left = self.limit.checked_sub(self.since.elapsed()).filter(|left| !left.is_zero())?;
        Some(self.next().min(left))
    }

    /// Starts the time limit again, since the last attempt made progress. The waits stay as long as they have become.
    pub(crate) fn renew(&mut self) {
        self.since = Instant::now();
    }

    /// Starts another time limit. The waits stay as long as they have become.
    pub(crate) fn begin_again(&mut self, limit: Duration) {
        self.since = Instant::now();
        self.limit = limit;
    }

    /// Returns how long to wait before another attempt, whatever the limit.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.next.mul_f64(0.5 + 0.5 * unit());
        self.next = (self.next * 2).min(LONGEST);
        wait
    }

    /// Returns the time since the limit was started.
    pub(crate) fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }
}

/// Returns a random number in [0, 1), not for numerics.
fn unit() -> f64 {
    RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_end_in_time() {
        let mut backoff = Backoff::new(Duration::from_secs(3600));
        let waits: Vec<Duration> = (0..20).map_while(|_| backoff.wait()).collect();
        assert!(waits[0] >= FIRST / 2 && waits[0] <= FIRST);
        assert!(waits[19] >= LONGEST / 2 && waits.iter().all(|wait| *wait <= LONGEST));
        assert_eq!(Backoff::new(Duration::ZERO).wait(), None);
        let mut renewed = Backoff::new(Duration::from_millis(20));
        renewed.next();
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(renewed.wait(), None);
        renewed.renew();
        assert!(renewed.wait().is_some() && renewed.next == FIRST * 4, "the limit begins anew, the waits do not");
        renewed.begin_again(Duration::ZERO);
        assert_eq!(renewed.wait(), None);
        renewed.begin_again(Duration::from_secs(3600));
        assert!(renewed.wait().is_some_and(|wait| wait >= FIRST * 2));
    }
}
