//! The scheduler: a pure state machine. `handle(event, now)` returns what to journal and what to do.
//!
//! The shell around it awaits one event, calls [`Scheduler::handle`], makes the returned records durable,
//! and only then performs the actions: nobody is told of what could still be lost. After a restart
//! [`Scheduler::replay`] takes the records again and [`Scheduler::resume`] says what is due. Leases are not
//! journalled: a worker that comes back says what it holds. Deliberately absent: clocks, randomness, I/O.
//!
//! A block of a job is at any moment in exactly one place ([`Scheduler::sanity_check`]):
//!
//! ```text
//!            lease                    report (first valid)
//!  pending ─────────▶ leased ───────────────────────────▶ committed
//!     ▲                 │ lost, failed
//!     │                 ▼
//!     └── drained ── waiting (same shard again, later, elsewhere if possible)
//! ```

mod assign;
mod handle;
mod ranges;
mod replay;
mod report;
mod state;
#[cfg(test)]
mod tests;
mod view;

pub use state::{JobState, SweepState};
pub use view::{JobView, SweepView, WorkerView};

use crate::cost::Sizing;
use crate::grid::Node;
use crate::ids::{Digest, JobIndex, SweepId, Time, WorkerId};
use crate::numerics::{NumericsClass, Precision};
use crate::spec::{InputRef, Inputs, Spec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A shard: an aligned run of blocks of one job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShardRef {
    /// The sweep.
    pub sweep: SweepId,
    /// Its job.
    pub job: JobIndex,
    /// The blocks.
    pub node: Node,
}

/// Identifies an asker, so that the shell can route the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What a worker says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerProfile {
    /// For people.
    pub name: String,
    /// Its numerics class, whatever the precision.
    pub class: NumericsClass,
    /// The precisions that it offers.
    pub precisions: Vec<Precision>,
    /// Shards it computes at once.
    pub lanes: u32,
    /// Version of its program.
    pub version: String,
}

impl WorkerProfile {
    /// The class in which it computes a sweep of this precision, if it offers that.
    pub fn class_for(&self, precision: Precision) -> Option<NumericsClass> {
        self.precisions.contains(&precision).then(|| self.class.with(precision))
    }
}

/// A file that a shard needs, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardInput {
    /// `basis`, `train` or `test`.
    pub role: &'static str,
    /// For people.
    pub name: String,
    /// The stored bytes.
    pub stored: InputRef,
}

/// Why a shard was not computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The spec is wrong: never retried, the sweep fails.
    Spec,
    /// This worker cannot: it is set aside and the shard goes elsewhere.
    Unfit,
    /// The shard failed here: retried a few times.
    Task,
    /// Passing trouble: retried a few times.
    Transient,
}

/// A result file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRef {
    /// Its name below the result folder, for example `nads/lenet/nads.npy`.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Digest of the bytes.
    pub digest: Digest,
}

/// What the reduction of a job gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobResult {
    /// Digest of the merged moments, or of the runs.
    pub digest: Digest,
    /// Result files.
    pub artifacts: Vec<ArtifactRef>,
}

/// What happened, as the shell saw it.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A user submits a validated spec under an id made by the shell.
    Submit {
        /// Who asks.
        request: RequestId,
        /// The id if the sweep is new.
        id: SweepId,
        /// Whose it is: the name of a token, empty where there are none.
        owner: String,
        /// The owner's key: the same key is the same sweep.
        key: Option<String>,
        /// What to compute.
        spec: Box<Spec>,
        /// The files that it names, all in the store.
        inputs: Inputs,
    },
    /// A user cancels a sweep.
    Cancel {
        /// Who asks.
        request: RequestId,
        /// Which.
        sweep: SweepId,
    },
    /// A worker opens a session.
    Join {
        /// Who.
        worker: WorkerId,
        /// What it is.
        profile: WorkerProfile,
        /// Shards it still holds from an earlier session.
        held: Vec<ShardRef>,
    },
    /// Any sign of life.
    Alive {
        /// Whose.
        worker: WorkerId,
    },
    /// Blocks of a leased shard are computed.
    Progress {
        /// By whom.
        worker: WorkerId,
        /// Of what.
        shard: ShardRef,
        /// How many.
        blocks_done: u64,
    },
    /// A shard is computed and will be reported: its lane is free.
    Computed {
        /// By whom.
        worker: WorkerId,
        /// What.
        shard: ShardRef,
    },
    /// A partial was received whole, is valid, and is stored.
    Report {
        /// Who asks.
        request: RequestId,
        /// Who computed it.
        worker: WorkerId,
        /// What.
        shard: ShardRef,
        /// In which class.
        class: NumericsClass,
        /// The stored partial.
        partial: Digest,
        /// Seconds it took a lane.
        seconds: f64,
    },
    /// A shard could not be computed.
    Failed {
        /// By whom.
        worker: WorkerId,
        /// What.
        shard: ShardRef,
        /// Why.
        kind: FailureKind,
        /// In words.
        message: String,
    },
    /// A session ended. `drained`: the worker said goodbye and holds nothing any more.
    Leave {
        /// Whose.
        worker: WorkerId,
        /// Whether it was a goodbye.
        drained: bool,
    },
    /// A job's partials are merged and its results stored.
    Reduced {
        /// The sweep.
        sweep: SweepId,
        /// Its job.
        job: JobIndex,
        /// What came out.
        result: JobResult,
    },
    /// A job's reduction failed; partials that were missing or damaged are to be computed again.
    ReduceFailed {
        /// The sweep.
        sweep: SweepId,
        /// Its job.
        job: JobIndex,
        /// Partials that can not be trusted. Empty when the cause is another.
        damaged: Vec<Node>,
        /// In words.
        message: String,
    },
    /// Time has passed.
    Tick,
}

/// What becomes of a reported shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The first valid report of its blocks.
    Committed,
    /// All its blocks were committed before.
    Duplicate,
    /// Some of its blocks were committed before, in another cut.
    Superseded,
    /// The sweep has ended or is unknown.
    NotNeeded,
    /// The shard does not exist in that sweep, or the class is not the sweep's.
    Invalid,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To a submission: the sweep, and whether this submission created it.
    Submitted {
        /// The sweep.
        sweep: SweepId,
        /// Whether it is new.
        created: bool,
    },
    /// To a submission whose key was used with another spec.
    KeyTaken {
        /// The sweep of that key.
        sweep: SweepId,
    },
    /// To a submission past the number of sweeps that may be open.
    TooManySweeps {
        /// That number.
        limit: usize,
        /// Whether it is the limit of each owner, or of all together.
        each: bool,
    },
    /// To a cancellation: the sweep has ended, now or before.
    Cancelled,
    /// There is no such sweep.
    UnknownSweep,
    /// To a report.
    Reported(Verdict),
}

/// What the shell has to do, after the records are durable.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Answer a request.
    Answer {
        /// Whose.
        request: RequestId,
        /// With what.
        answer: Answer,
    },
    /// Give a shard to a worker.
    Lease {
        /// To whom.
        worker: WorkerId,
        /// What.
        shard: ShardRef,
    },
    /// Tell a worker that a shard is not wanted any more.
    Revoke {
        /// Whom.
        worker: WorkerId,
        /// What.
        shard: ShardRef,
        /// In words.
        reason: &'static str,
    },
    /// End a worker's session: it was silent for too long and is forgotten. It may come back with a new one.
    Disconnect {
        /// Whose.
        worker: WorkerId,
    },
    /// Merge a job's partials and compute its results.
    Reduce {
        /// The sweep.
        sweep: SweepId,
        /// Its job.
        job: JobIndex,
        /// All its partials, left to right.
        partials: Vec<(Node, Digest)>,
    },
    /// A sweep has ended: its partials are not needed any more.
    Discard {
        /// Their digests.
        partials: Vec<Digest>,
    },
    /// Something about a sweep changed that a watcher would want to see.
    Changed {
        /// Which.
        sweep: SweepId,
    },
}

/// A fact, as the journal keeps it. Applying all records in order gives the state back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case", deny_unknown_fields)]
pub enum Record {
    /// A sweep was accepted.
    Submitted {
        /// Its id.
        sweep: SweepId,
        /// Whose it is.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        owner: String,
        /// Its owner's key.
        key: Option<String>,
        /// Its spec.
        spec: Box<Spec>,
        /// The files that it names.
        #[serde(default, skip_serializing_if = "Inputs::is_empty")]
        inputs: Inputs,
        /// When.
        at: Time,
    },
    /// A sweep's first shard was leased: from now on it runs in this class.
    Started {
        /// Which.
        sweep: SweepId,
        /// The class.
        class: NumericsClass,
        /// When.
        at: Time,
    },
    /// A partial was accepted.
    Committed {
        /// Of what.
        shard: ShardRef,
        /// The stored partial.
        partial: Digest,
        /// Seconds it took a lane.
        seconds: f64,
    },
    /// A partial is lost or damaged: its blocks are open again.
    Withdrawn {
        /// Of what.
        shard: ShardRef,
    },
    /// A job is complete.
    Reduced {
        /// The sweep.
        sweep: SweepId,
        /// Its job.
        job: JobIndex,
        /// What came out.
        result: JobResult,
    },
    /// A sweep has ended.
    Ended {
        /// Which.
        sweep: SweepId,
        /// How.
        outcome: Outcome,
        /// When.
        at: Time,
    },
}

/// How a sweep ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every job gave its result.
    Complete {
        /// Digest of the jobs' digests: a function of spec and class.
        digest: Digest,
    },
    /// It cannot be completed.
    Failed {
        /// Why.
        message: String,
    },
    /// Its user cancelled it.
    Cancelled,
}

/// What one event leads to: `records` first, durably, then `actions` in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// To be journalled.
    pub records: Vec<Record>,
    /// To be done.
    pub actions: Vec<Action>,
}

/// The scheduler's parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// A worker that was not heard for this long loses its leases, in milliseconds.
    pub lease_ttl_ms: u64,
    /// How shards are sized.
    pub sizing: Sizing,
    /// A shard that was lost or failed this often fails its sweep.
    pub most_attempts: u32,
    /// The wait before a failed shard's second attempt, in milliseconds; it doubles each time.
    pub retry_wait_ms: u64,
    /// Sweeps that may be open at once.
    pub most_open_sweeps: usize,
    /// Sweeps that one owner may have open at once.
    pub most_open_sweeps_each: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease_ttl_ms: 15_000,
            sizing: Sizing::default(),
            most_attempts: 5,
            retry_wait_ms: 500,
            most_open_sweeps: 10_000,
            most_open_sweeps_each: 1_000,
        }
    }
}

/// All sweeps, workers and leases.
#[derive(Debug, Default)]
pub struct Scheduler {
    settings: Settings,
    sweeps: BTreeMap<SweepId, state::Sweep>,
    /// Sweeps with work to do, oldest first.
    open: Vec<SweepId>,
    /// Sweeps by owner and key.
    keys: BTreeMap<(String, String), SweepId>,
    workers: BTreeMap<WorkerId, state::Worker>,
    leases: BTreeMap<ShardRef, state::Lease>,
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
            text.push_str(&format!("{} {digest}\n", job.shape.name()));
        }
        Digest::of(text.as_bytes())
    }
}
