//! Events, which the shell brings to the scheduler, and answers to those that are requests.

// A field of an enum is named for what it is.
#![allow(missing_docs)]

use super::record::JobResult;
use super::shard::{
    Claim, FailureKind, FairShare, JobRef, Partial, RequestId, ShardCheckpoint, ShardRef, ShardStand, Verdict,
    WorkerProfile,
};
use crate::grid::Node;
use crate::ids::{Digest, SweepId, WorkerId};
use crate::numerics::NumericsClass;
use crate::spec::{Inputs, Spec};

/// Something that happened, as the shell saw it.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A user submits a validated spec under an id made by the shell.
    Submit {
        request: RequestId,
        /// The id if the sweep is new.
        id: SweepId,
        owner: String,
        /// The owner's key: the same key is the same sweep.
        key: Option<String>,
        share: FairShare,
        spec: Box<Spec>,
        /// The files that it names, all in the store.
        inputs: Inputs,
    },
    /// A user cancels a sweep.
    Cancel { request: RequestId, sweep: SweepId },
    /// A user pauses a sweep, or goes on with it.
    Pause { request: RequestId, sweep: SweepId, paused: bool },
    /// A user wants shards of a complete sweep computed again. What becomes of each comes as [`super::Action::Checked`].
    Verify { request: RequestId, claims: Vec<Claim> },
    /// The user who asked for a verification has gone.
    EndVerify {
        /// The request that began it.
        verification: RequestId,
    },
    /// A worker opens a session.
    Join {
        worker: WorkerId,
        profile: WorkerProfile,
        /// Shards it still holds from an earlier session.
        held: Vec<ShardRef>,
    },
    /// A worker gave a sign of life.
    Alive { worker: WorkerId },
    /// A worker takes no more shards; what it holds it still computes.
    Draining { worker: WorkerId },
    /// A worker gets on with a leased shard, or has begun it.
    Progress {
        /// The worker that gets on with it.
        worker: WorkerId,
        /// The shard that it computes.
        shard: ShardRef,
        stand: ShardStand,
    },
    /// A checkpoint of a leased shard is stored.
    Checkpointed { request: RequestId, worker: WorkerId, shard: ShardRef, checkpoint: ShardCheckpoint },
    /// A shard is computed and will be reported: its slot is free.
    Computed { worker: WorkerId, shard: ShardRef },
    /// A partial was received whole, is valid, and is stored.
    Report {
        request: RequestId,
        worker: WorkerId,
        shard: ShardRef,
        class: NumericsClass,
        partial: Partial,
        /// Seconds it took a slot.
        seconds: f64,
        /// The part of these seconds that passed before its first block.
        begin_seconds: f64,
    },
    /// A shard could not be computed.
    Failed { worker: WorkerId, shard: ShardRef, kind: FailureKind, message: String },
    /// A session ended. `drained`: the worker said goodbye and holds nothing any more.
    Leave {
        worker: WorkerId,
        /// True if it was a goodbye.
        drained: bool,
    },
    /// Partials are merged and the result is stored.
    Merged {
        job: JobRef,
        /// The number of the merge among those of the job.
        number: u64,
        /// Digest of the merged partial.
        stored: Digest,
    },
    /// Partials could not be merged; those that were missing or damaged are to be computed again.
    MergeFailed {
        job: JobRef,
        /// The number of the merge among those of the job.
        number: u64,
        /// Partials that cannot be trusted; empty when the cause is another.
        damaged: Vec<Node>,
        message: String,
    },
    /// A job's partials are merged and its results stored.
    Reduced { job: JobRef, generation: u64, result: JobResult },
    /// A job's reduction failed; partials that were missing or damaged are to be computed again.
    ReduceFailed {
        job: JobRef,
        generation: u64,
        /// Partials that cannot be trusted; empty when the cause is another.
        damaged: Vec<Node>,
        message: String,
    },
    /// The shell took no events for so long, because its journal could not write, say. Who was silent meanwhile may have
    /// spoken: no silence and no delay counts that falls into this time.
    Stalled { ms: u64 },
    /// Time has passed.
    Tick,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To a submission: the sweep, and whether this submission created it.
    Submitted {
        sweep: SweepId,
        /// True if it is new.
        created: bool,
    },
    /// To a submission whose key was used with another spec.
    KeyTaken {
        /// The sweep of that key.
        sweep: SweepId,
    },
    /// To a submission past the number of sweeps that may be open.
    TooManySweeps {
        limit: usize,
        /// True if it is the limit of each owner, or of all together.
        each: bool,
    },
    /// To a cancellation, pause or resumption: it is so, now or before.
    Done,
    /// To a verification: its tasks wait for workers.
    Verifying,
    /// To a verification past the number that may be open.
    TooManyVerifications { limit: usize },
    /// There is no such sweep.
    UnknownSweep,
    /// The answer to a report.
    Reported(Verdict),
    /// To a checkpoint: whether the shard is still this worker's to compute.
    Wanted(bool),
}
