//! What happens to the scheduler, and what it answers.

use super::record::JobResult;
use super::shard::{
    Checkpoint, Claim, FailureKind, JobRef, Partial, RequestId, ShardRef, ShardStand, Share, Verdict, WorkerProfile,
};
use crate::grid::Node;
use crate::ids::{Digest, SweepId, WorkerId};
use crate::numerics::NumericsClass;
use crate::spec::{Inputs, Spec};

/// What happened, as the shell saw it.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A user submits a validated spec under an id made by the shell.
    Submit {
        /// Who asks.
        request: RequestId,
        /// The id if the sweep is new.
        id: SweepId,
        /// Whose it is; empty without access control.
        owner: String,
        /// The owner's key: the same key is the same sweep.
        key: Option<String>,
        /// How it shares the lanes.
        share: Share,
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
    /// A user pauses a sweep, or goes on with it.
    Pause {
        /// Who asks.
        request: RequestId,
        /// Which.
        sweep: SweepId,
        /// Whether to pause.
        paused: bool,
    },
    /// A user wants shards of a complete sweep computed again. What becomes of each comes as [`super::Action::Checked`].
    Verify {
        /// Who asks; also names the verification.
        request: RequestId,
        /// Which, and what they yielded.
        claims: Vec<Claim>,
    },
    /// Whoever asked for a verification has gone.
    EndVerify {
        /// The request that began it.
        verification: RequestId,
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
    /// A worker takes no more shards; what it holds it still computes.
    Draining {
        /// Who.
        worker: WorkerId,
    },
    /// A worker gets on with a leased shard, or has begun it.
    Progress {
        /// The worker that gets on with it.
        worker: WorkerId,
        /// The shard that it computes.
        shard: ShardRef,
        /// How far it is.
        stand: ShardStand,
    },
    /// How far a leased shard has come is stored.
    Checkpointed {
        /// Who asks whether it is wanted.
        request: RequestId,
        /// By whom.
        worker: WorkerId,
        /// Of what.
        shard: ShardRef,
        /// How far.
        checkpoint: Checkpoint,
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
        /// What it yielded.
        partial: Partial,
        /// Seconds it took a lane.
        seconds: f64,
        /// The part of these seconds that passed before its first block.
        begin_seconds: f64,
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
    /// Partials are merged and the result is stored.
    Merged {
        /// The job.
        job: JobRef,
        /// The number of the merge among those of the job.
        number: u64,
        /// Digest of the merged partial.
        stored: Digest,
    },
    /// Partials could not be merged; those that were missing or damaged are to be computed again.
    MergeFailed {
        /// The job.
        job: JobRef,
        /// The number of the merge among those of the job.
        number: u64,
        /// Partials that cannot be trusted; empty when the cause is another.
        damaged: Vec<Node>,
        /// In words.
        message: String,
    },
    /// A job's partials are merged and its results stored.
    Reduced {
        /// The job.
        job: JobRef,
        /// Which reduction of the job.
        generation: u64,
        /// What came out.
        result: JobResult,
    },
    /// A job's reduction failed; partials that were missing or damaged are to be computed again.
    ReduceFailed {
        /// The job.
        job: JobRef,
        /// Which reduction of the job.
        generation: u64,
        /// Partials that cannot be trusted; empty when the cause is another.
        damaged: Vec<Node>,
        /// In words.
        message: String,
    },
    /// The shell took no events for so long, because its journal could not write, say. Who was silent meanwhile may have
    /// spoken: no silence and no delay counts that falls into this time.
    Stalled {
        /// How many milliseconds have passed without events, up to now.
        ms: u64,
    },
    /// Time has passed.
    Tick,
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
    /// To a cancellation, pause or resumption: it is so, now or before.
    Done,
    /// To a verification: its tasks wait for workers.
    Verifying,
    /// To a verification past the number that may be open.
    TooManyVerifications {
        /// That number.
        limit: usize,
    },
    /// There is no such sweep.
    UnknownSweep,
    /// To a report.
    Reported(Verdict),
    /// To a checkpoint: whether the shard is still this worker's to compute.
    Wanted(bool),
}
