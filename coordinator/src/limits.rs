//! The configurable limits. `docs/limits.md` has the table, and a test compares the two.
//!
//! Limits are keys of the table `limits` in the configuration file, or set by `--limit NAME=VALUE` or the variable
//! `NADGRID_LIMITS` with `NAME=VALUE,NAME=VALUE`. Deliberately absent: limits that no configuration can change, such as the
//! largest grid, which is a property of specs.

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

            /// Checks that every limit is within its range.
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

            /// The name and default of each limit, as text.
            pub fn defaults() -> Vec<(&'static str, String)> {
                let defaults = Self::default();
                vec![$((stringify!($name), defaults.$name.to_string())),*]
            }
        }
    };
}

limits! {
    /// Open connections; more are closed as they come.
    connections: usize = 4096, 1, 1_000_000;
    /// Connections of one address, or of one IPv6 network (/64).
    connections_per_peer: usize = 2048, 1, 1_000_000;
    /// Connections that have not yet shown a token or, without access control, made an acceptable request. A new one
    /// replaces the oldest.
    anonymous_connections: usize = 1024, 1, 1_000_000;
    /// Seconds within which a new connection must have done its handshake, and then shown a token or, without access
    /// control, made an acceptable request.
    first_request_seconds: f64 = 20.0, 0.1, 3600.0;
    /// Seconds between keepalive pings, and seconds to wait for their answers.
    keepalive_seconds: f64 = 20.0, 1.0, 3600.0;
    /// HTTP/2 streams of one connection; more are refused by the protocol.
    streams_per_connection: u32 = 256, 1, 65_536;
    /// Bytes of a request's headers.
    header_bytes: u32 = 16 << 10, 1 << 10, 1 << 20;
    /// Bytes of one message.
    message_bytes: usize = 4 << 20, 2 << 20, 64 << 20;
    /// Bytes of one connection that may be received before they are read. A ping waits behind them, so a slow line needs a
    /// small window, and a fast line with a long delay a large one.
    window_bytes: u32 = 256 << 10, 64 << 10, 64 << 20;
    /// Open requests and streams of one caller; a caller is a token's name.
    requests_per_caller: usize = 16_384, 1, 1_000_000;
    /// Calls of one caller that are under way at the same time; others wait.
    calls_per_caller: usize = 64, 1, 65_536;
    /// Requests per second of one user, with bursts of twice as many.
    requests_per_second: u32 = 1000, 1, 1_000_000;
    /// Seconds until a call is answered or given up; streams and uploads have no such limit.
    request_seconds: f64 = 30.0, 1.0, 3600.0;
    /// Connected workers.
    sessions: usize = 4096, 1, 1_000_000;
    /// Connected workers of one token.
    sessions_per_token: usize = 2048, 1, 1_000_000;
    /// Open streams of `Watch`.
    watchers: usize = 1024, 1, 1_000_000;
    /// Open streams of `Watch` of one user.
    watchers_per_user: usize = 256, 1, 1_000_000;
    /// Open sweeps.
    open_sweeps: usize = 10_000, 1, 10_000_000;
    /// Open sweeps of one user.
    open_sweeps_per_user: usize = 1000, 1, 10_000_000;
    /// Ended sweeps that are kept, with their files; the oldest are removed first.
    ended_sweeps: usize = 1000, 1, 10_000_000;
    /// Bytes of the payloads that are received, and so in memory, at the same time; others wait, and a larger one is received
    /// by itself.
    upload_bytes: u64 = 128 << 20, 1 << 20, 1 << 40;
    /// Payloads that one worker sends to the coordinator at the same time; others wait.
    uploads_per_worker: usize = 1, 1, 1024;
    /// Partials that workers put into the store themselves at the same time; others wait. They do not occupy the
    /// coordinator's memory.
    direct_uploads: usize = 1024, 1, 65_536;
    /// Seconds for which a presigned request is valid.
    presigned_seconds: u64 = 900, 1, 604_800;
    /// Files that one user uploads at the same time; others wait.
    inputs_per_user: usize = 4, 1, 1024;
    /// Bytes that one user has uploaded and that no sweep uses.
    unused_input_bytes: u64 = 2 << 30, 1 << 20, 1 << 50;
    /// Files that one user has uploaded and that no sweep uses.
    unused_inputs: usize = 4096, 1, 1_000_000;
    /// Artifacts, and files for workers, that are sent at the same time; others wait.
    reads: usize = 8, 1, 1024;
    /// Seconds of silence after which an upload, or a connection whose peer does not read, is given up.
    silence_seconds: f64 = 30.0, 0.1, 3600.0;
    /// Seconds before the rate of a transfer counts.
    grace_seconds: f64 = 10.0, 0.1, 3600.0;
    /// Bytes per second below which a transfer is given up.
    slowest_bytes_per_second: u32 = 16 << 10, 1, 1 << 30;
}

/// A limit is out of its range.
#[derive(Debug, Error)]
#[error("limits.{name} = {value}: {accepted}")]
pub struct OutOfRange {
    name: &'static str,
    value: String,
    accepted: String,
}

impl Limits {
    /// The deadline of a transfer that begins now.
    pub(crate) fn transfer_deadline(&self, now: Instant) -> TransferDeadline {
        TransferDeadline {
            silence: Duration::from_secs_f64(self.silence_seconds),
            slowest: f64::from(self.slowest_bytes_per_second),
            over: now + Duration::from_secs_f64(self.grace_seconds),
        }
    }
}

/// The time to wait for the next bytes of a transfer: neither a long silence nor a trickle is waited for.
#[derive(Clone, Debug)]
pub(crate) struct TransferDeadline {
    silence: Duration,
    slowest: f64,
    over: Instant,
}

impl TransferDeadline {
    /// The time until which the next bytes must have come or gone.
    pub(crate) fn at(&self, now: Instant) -> Instant {
        self.over.min(now + self.silence)
    }

    /// Counts bytes that came or went, which extends the deadline.
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
        let mut deadline = limits.transfer_deadline(start);
        assert_eq!(deadline.at(start), start + Duration::from_secs(10));
        deadline.moved(5000);
        assert_eq!(deadline.at(start), start + Duration::from_secs(15));
        // However much has come, a long silence is not waited for.
        deadline.moved(1 << 30);
        assert_eq!(deadline.at(start), start + Duration::from_secs(30));
    }
}
