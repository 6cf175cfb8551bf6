//! Refusals in the log: each cause once a minute and peer, however often it happens.

use super::connections::network;
use std::collections::HashMap;
use std::fmt::Display;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::warn;

/// How long a cause stays told.
const QUIET: Duration = Duration::from_secs(60);
/// Causes that are remembered at once; when more come, all are forgotten.
const REMEMBERED: usize = 4096;

/// Something that is told once a minute, however often it happens: when it was told last, and how often since it was not.
#[derive(Default)]
pub(crate) struct OnceAMinute(Option<(Instant, u64)>);

impl OnceAMinute {
    /// It happens; says how often it did since it was last told, when it is to be told again.
    pub(crate) fn is_news(&mut self, now: Instant) -> Option<u64> {
        match &mut self.0 {
            Some((at, unsaid)) if now.duration_since(*at) < QUIET => {
                *unsaid += 1;
                None
            }
            last => Some(last.replace((now, 0)).map_or(0, |(_, unsaid)| unsaid)),
        }
    }
}

/// What was told lately.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<HashMap<(IpAddr, &'static str), OnceAMinute>>);

impl Refusals {
    /// Logs a refusal, unless the same was logged within the last minute. `what` must hold no secret.
    pub(crate) fn log(&self, peer: IpAddr, cause: &'static str, what: impl Display) {
        metrics::counter!("nadgrid_refusals_total", "cause" => cause).increment(1);
        if let Some(unsaid) = self.is_news(peer, cause, Instant::now()) {
            warn!(%peer, cause, unsaid, "refused: {what}");
        }
    }

    /// How often it happened since it was last told, when it is to be told again.
    fn is_news(&self, peer: IpAddr, cause: &'static str, now: Instant) -> Option<u64> {
        let peer = network(peer);
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= REMEMBERED && !told.contains_key(&(peer, cause)) {
            told.clear();
        }
        told.entry((peer, cause)).or_default().is_news(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once_a_minute_and_peer() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        assert_eq!(refusals.is_news(one, "TOKEN_MISSING", start), Some(0));
        assert_eq!(refusals.is_news(one, "TOKEN_MISSING", start), None);
        assert_eq!(refusals.is_news(one, "TOKEN_MISSING", start + QUIET / 2), None);
        assert_eq!(refusals.is_news(one, "ROLE_WRONG", start), Some(0));
        assert_eq!(refusals.is_news(other, "TOKEN_MISSING", start), Some(0));
        assert_eq!(refusals.is_news(one, "TOKEN_MISSING", start + QUIET), Some(2));
        // Whoever has one address of IPv6 has 2^64 of them.
        let of = |address: &str| refusals.is_news(address.parse().unwrap(), "TOKEN_MISSING", start);
        assert_eq!([of("2001:db8::1"), of("2001:db8::2"), of("2001:db8:0:1::1")], [Some(0), None, Some(0)]);
    }
}
