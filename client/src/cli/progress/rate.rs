//! Networks or runs a second over the last half minute: recent enough to be true, long enough not to jump with every shard.

use std::collections::VecDeque;

const WINDOW_SECONDS: f64 = 30.0;

/// A rate, from positions seen at moments (seconds since some start).
#[derive(Debug, Default)]
pub(super) struct Rate {
    seen: VecDeque<(f64, u64)>,
}

impl Rate {
    /// Takes in a position. One that goes back (a worker was lost with its shard) begins anew.
    pub(super) fn observe(&mut self, seconds: f64, position: u64) {
        if self.seen.back().is_some_and(|&(_, last)| position < last) {
            self.seen.clear();
        }
        self.seen.push_back((seconds, position));
        // The oldest sample stays until the second one is out of the window, so that the window is always full.
        while self.seen.get(1).is_some_and(|&(at, _)| seconds - at > WINDOW_SECONDS) {
            self.seen.pop_front();
        }
    }

    /// Per second; nothing until there was progress.
    pub(super) fn per_second(&self) -> Option<f64> {
        let (&(from, first), &(to, last)) = (self.seen.front()?, self.seen.back()?);
        (to > from && last > first).then(|| (last - first) as f64 / (to - from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_window_and_survives_a_setback() {
        let mut rate = Rate::default();
        rate.observe(0.0, 0);
        assert_eq!(rate.per_second(), None);
        rate.observe(10.0, 100);
        assert_eq!(rate.per_second(), Some(10.0));
        for second in 11..100 {
            rate.observe(f64::from(second), 100 + 20 * (second as u64 - 10));
        }
        assert_eq!(rate.per_second(), Some(20.0));
        rate.observe(101.0, 50);
        assert_eq!(rate.per_second(), None);
        rate.observe(103.0, 60);
        assert_eq!(rate.per_second(), Some(5.0));
    }
}
