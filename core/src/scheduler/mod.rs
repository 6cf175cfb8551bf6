//! The scheduler: a pure state machine. `handle(event, now)` returns what to journal and what to do.
//!
//! The shell around it awaits one event, calls [`Scheduler::handle`], makes the returned records durable,
//! and only then performs the actions: nobody is told of what could still be lost. Whatever a restart must know again changes
//! in one place, as a record is applied ([`apply`]): handlers decide which records there are, and [`Scheduler::replay`] takes
//! them again. Then [`Scheduler::resume`] says what is due. Leases are not journalled: a worker that comes back says what it
//! holds. Deliberately absent: clocks, randomness, I/O.
//!
//! A block of a job is at any moment in exactly one place ([`Scheduler::sanity_check`]):
//!
//! ```text
//!            lease                    report (first valid)
//!  pending ─────────▶ leased ───────────────────────────▶ committed
//!     ▲                 │ lost, failed     ▲                  │ damaged, not trusted
//!     │                 ▼                  │                  ▼
//!     └── split ──── waiting ──────────────┘               pending
//!                       │ failed too often
//!                       ▼
//!                  quarantined
//! ```
//!
//! Committed shards of moments are merged along the tree while others are computed, so that few partials are kept ([`merge`]);
//! a merged partial is withdrawn whole.
//!
//! A leased shard has one holder, or two when the first takes too long. Shards that are computed only to be compared (audits,
//! verifications) are leased beside this picture: their blocks stay committed.
//!
//! Costs: an event touches its worker, its sweep and shards that share blocks with its own. What could grow with the number of
//! workers or sweeps (expiry, stragglers, retries) is done when its time has come, not with every event.

mod apply;
mod assign;
mod audit;
mod check;
mod committed;
mod effect;
mod ended;
mod event;
mod explain;
mod failures;
mod forecast;
mod handle;
mod headway;
mod merge;
mod notices;
mod packed;
mod progress;
mod ranges;
mod record;
mod replay;
mod replica;
mod report;
mod shard;
mod speculate;
mod stall;
mod state;
#[cfg(test)]
mod tests;
mod verify;
mod view;
mod workers;

pub use committed::Committed;
pub use effect::{Action, Check, Effects, StoredPartial};
pub use event::{Answer, Event};
pub use explain::{Explanation, Subject, WorkerReason};
pub use headway::Workforce;
pub use notices::MOST_NOTICES;
pub use record::{ArtifactRef, Contribution, JobResult, Record, ShardFailure, SweepOutcome, Tally};
pub use replica::{Replica, SnapshotDifference};
pub use shard::{
    Claim, FailureKind, FairShare, JobRef, Partial, PartialBytes, RequestId, ShardCheckpoint, ShardInput, ShardRef,
    ShardStand, Verdict, WorkerProfile,
};
pub use state::{JobState, SweepState};
pub use view::{JobView, SweepView, WorkerView};

use crate::cost::Sizing;
use crate::ids::{Digest, SweepId, Time, WorkerId};
use ended::EndedSweeps;
use state::QueueKey;
use std::collections::{BTreeMap, BTreeSet};

/// The scheduler's parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// A worker that was not heard for this long loses its leases, in milliseconds.
    pub lease_ttl_ms: u64,
    /// The rules by which shards are sized.
    pub sizing: Sizing,
    /// A shard that failed on this many workers is split, or quarantined when it is a single block.
    pub most_attempts: u32,
    /// A shard whose workers were lost this often is treated likewise: perhaps it takes them down.
    pub most_losses: u32,
    /// The wait before a failed shard's second attempt, in milliseconds; it doubles each time.
    pub retry_wait_ms: u64,
    /// A shard that takes this many times as long as expected is given to a second, idle worker; 0 for never.
    pub speculate_after: f64,
    /// No shard is leased speculatively before it has taken this long, in milliseconds.
    pub speculate_least_ms: u64,
    /// A shard whose holder has not got on for this long is given to another, in milliseconds; longer where a block takes long.
    pub stall_after_ms: u64,
    /// Sweeps that may be open at once. One with a long spec counts as several, here and below.
    pub most_open_sweeps: usize,
    /// Sweeps that one owner may have open at once.
    pub most_open_sweeps_each: usize,
    /// Ended sweeps that are kept, with their files; beyond them goes the oldest of the owner who has most.
    pub most_ended_sweeps: usize,
    /// The number of neighbouring partials that are merged at once while their job is computed.
    pub merge_group: usize,
    /// The number of merges of one job that may be under way at once.
    pub most_merges: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease_ttl_ms: 15_000,
            sizing: Sizing::default(),
            most_attempts: 4,
            most_losses: 10,
            retry_wait_ms: 500,
            speculate_after: 2.0,
            speculate_least_ms: 5_000,
            stall_after_ms: 300_000,
            most_open_sweeps: 10_000,
            most_open_sweeps_each: 1_000,
            most_ended_sweeps: 1_000,
            merge_group: merge::GROUP,
            most_merges: 4,
        }
    }
}

/// All sweeps, workers and leases.
#[derive(Debug, Default)]
pub struct Scheduler {
    settings: Settings,
    /// The latest time that an event came with: time does not go back.
    now: Time,
    sweeps: BTreeMap<SweepId, state::Sweep>,
    /// Open sweeps that have something to give out, the next to be served first.
    queue: BTreeMap<QueueKey, SweepId>,
    open: BTreeSet<SweepId>,
    ended: EndedSweeps,
    /// Sweeps by owner and key.
    keys: BTreeMap<(String, String), SweepId>,
    workers: BTreeMap<WorkerId, state::Worker>,
    /// Workers that can take a shard now.
    idle: BTreeSet<WorkerId>,
    /// Idle workers to look for work for; all of them when `wake_all`.
    woken: BTreeSet<WorkerId>,
    wake_all: bool,
    verifications: BTreeMap<RequestId, verify::Verification>,
    /// Slots that compute.
    slots_leased: u64,
    /// Fit workers by what they can compute; counted anew when somebody came or went.
    kinds: Vec<state::WorkerKind>,
    kinds_are_stale: bool,
    /// No worker's lease ends before.
    next_expiry: Option<Time>,
    /// No retry is due before.
    next_retry: Option<Time>,
    /// Nobody hangs, and no slot that hung is tried again, before.
    next_stall: Option<Time>,
    class_rates: headway::ClassRates,
    /// The last time that stragglers were looked for.
    last_speculation: Time,
    /// Submissions so far: sweeps are listed by it.
    submissions: u64,
}

impl Scheduler {
    /// A scheduler without sweeps.
    pub fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// The digest of a sweep's result: of its jobs' digests, in order, each under its name.
    fn result_digest(sweep: &state::Sweep) -> Digest {
        let mut text = String::new();
        for job in &sweep.jobs {
            let digest = job.result.as_ref().map(|result| result.digest.to_string()).unwrap_or_default();
            text.push_str(&format!("{} {digest}\n", job.name));
        }
        Digest::of(text.as_bytes())
    }
}
