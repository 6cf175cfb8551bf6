//! How much of everything there may be at once. `docs/limits.md` has the table; a test holds the two together.
//!
//! Limits are keys of the table `limits` in the configuration file, or `--limit NAME=VALUE`, or the variable
//! `NADGRID_LIMITS` with `NAME=VALUE,NAME=VALUE`. Deliberately absent: what no configuration can change, such as the largest
//! grid, which is a property of specs.

use serde::Deserialize;
use std::time::Duration;
use thiserror::Error;
use tokio::time::Instant;

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $default:expr, $least:expr, $most:expr;)*) => {
        /// The limits in force.
        #[derive(Clone, Debug, Deserialize, PartialEq)]
        #[serde(deny_unknown_fields, default)]
        pub struct Limits {
            $($(#[$doc])* pub $name: $type,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Limits {
            /// The names of all limits.
            pub const NAMES: &[&str] = &[$(stringify!($name)),*];

            /// Whether every limit is within its range.
            ///
            /// # Errors
            /// [`OutOfRange`] names the first that is not.
            pub fn check(&self) -> Result<(), OutOfRange> {
                $(let range: std::ops::RangeInclusive<$type> = $least..=$most;
                if !range.contains(&self.$name) {
                    let accepted = format!("from {} to {}", range.start(), range.end());
                    return Err(OutOfRange { name: stringify!($name), value: self.$name.to_string(), accepted });
                })*
                Ok(())
            }

            /// Name and default of each, as text.
            pub fn defaults() -> Vec<(&'static str, String)> {
                let defaults = Self::default();
                vec![$((stringify!($name), defaults.$name.to_string())),*]
            }
        }
    };
}

limits! {
    /// Connections at once; more are closed as they come.
    connections: usize = 4096, 1, 1_000_000;
    /// Connections of one address, or of one network of IPv6 (/64).
    connections_per_peer: usize = 2048, 1, 1_000_000;
    /// Connections that have shown no token yet, or asked nothing acceptable where there are none; a new one ends the oldest.
    anonymous_connections: usize = 1024, 1, 1_000_000;
    /// Seconds within which a new connection must have done its handshake, and then shown a token, or asked something
    /// acceptable where there are none.
    first_request_seconds: f64 = 20.0, 0.1, 3600.0;
    /// Seconds between signs of life that are asked for, and for which an answer is waited for.
    keepalive_seconds: f64 = 20.0, 1.0, 3600.0;
    /// HTTP/2 streams of one connection at once; more are refused by the protocol.
    streams_per_connection: u32 = 256, 1, 65_536;
    /// Bytes of a request's headers.
    header_bytes: u32 = 16 << 10, 1 << 10, 1 << 20;
    /// Bytes of one message.
    message_bytes: usize = 4 << 20, 2 << 20, 64 << 20;
    /// Bytes of one connection that may be received before they are taken. A ping waits behind them, so a slow line needs few of
    /// them, and a long one that is fast needs many.
    window_bytes: u32 = 256 << 10, 64 << 10, 64 << 20;
    /// Requests and streams of one caller at once; a caller is a token's name.
    requests_per_caller: usize = 16_384, 1, 1_000_000;
    /// Calls of one caller that are under way at once; others wait.
    calls_per_caller: usize = 64, 1, 65_536;
    /// Requests a second of one user, with bursts of twice as many.
    requests_per_second: u32 = 1000, 1, 1_000_000;
    /// Seconds until a call is answered or given up; streams and uploads have no such limit.
    request_seconds: f64 = 30.0, 1.0, 3600.0;
    /// Workers that are connected at once.
    sessions: usize = 4096, 1, 1_000_000;
    /// Workers of one token.
    sessions_per_token: usize = 2048, 1, 1_000_000;
    /// Streams of `Watch` at once.
    watchers: usize = 1024, 1, 1_000_000;
    /// Streams of `Watch` of one user.
    watchers_per_user: usize = 256, 1, 1_000_000;
    /// Sweeps that are open at once.
    open_sweeps: usize = 10_000, 1, 10_000_000;
    /// Open sweeps of one user.
    open_sweeps_per_user: usize = 1000, 1, 10_000_000;
    /// Ended sweeps that are kept, with their files; the oldest go first.
    ended_sweeps: usize = 1000, 1, 10_000_000;
    /// Bytes of the payloads that are received at once, and so in memory; others wait, and a larger one is received alone.
    upload_bytes: u64 = 128 << 20, 1 << 20, 1 << 40;
    /// Payloads of one worker that are on their way to the coordinator at once; others wait.
    uploads_per_worker: usize = 1, 1, 1024;
    /// Partials that workers put into the store themselves at once; others wait. They are in nobody's memory here.
    direct_uploads: usize = 1024, 1, 65_536;
    /// Seconds that a presigned request is good for.
    presigned_seconds: u64 = 900, 1, 604_800;
    /// Files that one user uploads at once; others wait.
    inputs_per_user: usize = 4, 1, 1024;
    /// Bytes that one user has uploaded and no sweep uses.
    unused_input_bytes: u64 = 2 << 30, 1 << 20, 1 << 50;
    /// Files that one user has uploaded and no sweep uses.
    unused_inputs: usize = 4096, 1, 1_000_000;
    /// Artifacts, and files for workers, that are sent at once; others wait.
    reads: usize = 8, 1, 1024;
    /// Seconds of silence after which an upload is given up, or a connection that does not take what is sent.
    silence_seconds: f64 = 30.0, 0.1, 3600.0;
    /// Seconds before the rate of a transfer is looked at.
    grace_seconds: f64 = 10.0, 0.1, 3600.0;
    /// Bytes a second below which a transfer is given up.
    slowest_bytes_per_second: u32 = 16 << 10, 1, 1 << 30;
}

/// A limit that makes no sense.
#[derive(Debug, Error)]
#[error("limits.{name} = {value}: {accepted}")]
pub struct OutOfRange {
    name: &'static str,
    value: String,
    accepted: String,
}

impl Limits {
    /// The pace that a transfer must keep that begins now.
    pub(crate) fn pace(&self, now: Instant) -> Pace {
        Pace {
            silence: Duration::from_secs_f64(self.silence_seconds),
            slowest: f64::from(self.slowest_bytes_per_second),
            over: now + Duration::from_secs_f64(self.grace_seconds),
        }
    }
}

/// How long to wait for the next bytes of a transfer: not through a long silence, and not at a trickle.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    silence: Duration,
    slowest: f64,
    over: Instant,
}

impl Pace {
    /// Until when the next bytes must have come or gone.
    pub(crate) fn deadline(&self, now: Instant) -> Instant {
        self.over.min(now + self.silence)
    }

    /// Bytes came or went: they buy time.
    pub(crate) fn moved(&mut self, bytes: usize) {
        self.over += Duration::from_secs_f64(bytes as f64 / self.slowest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_every_limit_with_its_default() {
        let document = include_str!("../../docs/limits.md");
        for (name, default) in Limits::defaults() {
            let row = document.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
            let row = row.unwrap_or_else(|| panic!("docs/limits.md lacks {name}"));
            let cell = row.split('|').nth(2).unwrap_or_default().trim();
            assert_eq!(cell.replace(',', ""), default, "{name}");
        }
        let rows = document.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, Limits::NAMES.len());
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        assert!(Limits::default().check().is_ok());
        let none = Limits { connections: 0, ..Limits::default() };
        assert_eq!(none.check().unwrap_err().to_string(), "limits.connections = 0: from 1 to 1000000");
        assert!(Limits { request_seconds: f64::NAN, ..Limits::default() }.check().is_err());
    }

    #[test]
    fn a_trickle_runs_out_of_time_and_a_flow_does_not() {
        let limits = Limits { slowest_bytes_per_second: 1000, ..Limits::default() };
        let start = Instant::now();
        let mut pace = limits.pace(start);
        assert_eq!(pace.deadline(start), start + Duration::from_secs(10));
        pace.moved(5000);
        assert_eq!(pace.deadline(start), start + Duration::from_secs(15));
        // However much has come, silence is not waited for.
        pace.moved(1 << 30);
        assert_eq!(pace.deadline(start), start + Duration::from_secs(30));
    }
}
