//! Logs rejected requests and connections: each cause once a minute and peer, however often it happens.

use super::registry::network;
use crate::log_throttle::LogThrottle;
use std::collections::HashMap;
use std::fmt::Display;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use tracing::warn;

/// The most causes that are remembered; if more come, all are forgotten.
const MAX_REMEMBERED: usize = 4096;

/// Remembers which rejections were logged within the last minute.
#[derive(Default)]
pub(crate) struct RejectionLog(Mutex<HashMap<(IpAddr, &'static str), LogThrottle>>);

impl RejectionLog {
    /// Logs a rejection, unless the same cause was logged within the last minute. `what` must contain no secret.
    pub(crate) fn log(&self, peer: IpAddr, cause: &'static str, what: impl Display) {
        metrics::counter!("nadgrid_refusals_total", "cause" => cause).increment(1);
        if let Some(unlogged) = self.is_news(peer, cause, Instant::now()) {
            warn!(%peer, cause, unlogged, "refused: {what}");
        }
    }

    /// Like [`LogThrottle::is_news`], for each cause and peer.
    fn is_news(&self, peer: IpAddr, cause: &'static str, now: Instant) -> Option<u64> {
        let peer = network(peer);
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.len() >= MAX_REMEMBERED && !logged.contains_key(&(peer, cause)) {
            logged.clear();
        }
        logged.entry((peer, cause)).or_default().is_news(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_throttle::QUIET;

    #[test]
    fn a_cause_is_logged_once_a_minute_and_peer() {
        let rejections = RejectionLog::default();
        let start = Instant::now();
        let one = IpAddr::from([10, 0, 0, 1]);
        let other = IpAddr::from([10, 0, 0, 2]);
        assert_eq!(rejections.is_news(one, "TOKEN_MISSING", start), Some(0));
        assert_eq!(rejections.is_news(one, "TOKEN_MISSING", start), None);
        assert_eq!(rejections.is_news(one, "TOKEN_MISSING", start + QUIET / 2), None);
        assert_eq!(rejections.is_news(one, "ROLE_WRONG", start), Some(0));
        assert_eq!(rejections.is_news(other, "TOKEN_MISSING", start), Some(0));
        assert_eq!(rejections.is_news(one, "TOKEN_MISSING", start + QUIET), Some(2));
        // A subscriber of IPv6 has 2^64 addresses.
        let of = |address: &str| rejections.is_news(address.parse().unwrap(), "TOKEN_MISSING", start);
        assert_eq!([of("2001:db8::1"), of("2001:db8::2"), of("2001:db8:0:1::1")], [Some(0), None, Some(0)]);
    }
}
