//! Measures the current rate of transfers.

use std::time::{Duration, Instant};

/// The time constant of the average.
const WINDOW: Duration = Duration::from_secs(3);

/// An exponential moving average of bytes per second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RateMeter {
    last: Option<(Instant, f64)>,
}

impl RateMeter {
    pub(super) fn moved(&mut self, bytes: usize, now: Instant) {
        let rate = self.bytes_per_second(now) + bytes as f64 / WINDOW.as_secs_f64();
        self.last = Some((now, rate));
    }

    pub(super) fn bytes_per_second(&self, now: Instant) -> f64 {
        let Some((at, rate)) = self.last else { return 0.0 };
        rate * (-now.duration_since(at).as_secs_f64() / WINDOW.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_flow_is_its_rate_and_silence_is_forgotten() {
        let start = Instant::now();
        let mut meter = RateMeter::default();
        assert_eq!(meter.bytes_per_second(start), 0.0);
        let at = |tenths: u32| start + Duration::from_millis(100) * tenths;
        (1..=300).for_each(|tenth| meter.moved(2_000, at(tenth)));
        let rate = meter.bytes_per_second(at(300));
        assert!((18_000.0..22_000.0).contains(&rate), "{rate}");
        assert!(meter.bytes_per_second(at(600)) < 10.0);
    }
}
