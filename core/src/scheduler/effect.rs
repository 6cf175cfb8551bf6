//! What an event leads to: facts for the journal, and things for the shell to do.

use super::committed::Committed;
use super::event::{Answer, Checkpoint, JobRef, Partial, PartialBytes, RequestId, ShardRef, Share};
use crate::grid::Node;
use crate::ids::{Digest, JobIndex, SweepId, Time, WorkerId};
use crate::numerics::NumericsClass;
use crate::spec::{InputRef, Inputs, Spec};
use serde::{Deserialize, Serialize};

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
    /// What each shard yielded and who computed it, for whoever wants to compute it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<InputRef>,
}

/// A shard that failed so often that it is not tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardFailure {
    /// Which job.
    pub job: JobIndex,
    /// Which blocks.
    pub node: Node,
    /// Their first, and one past their last.
    pub blocks: std::ops::Range<u64>,
    /// How often it was tried.
    pub attempts: u32,
    /// Names of the workers that it failed on.
    pub workers: Vec<String>,
    /// What the last one said.
    pub message: String,
}

/// A shard that counts, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contribution {
    /// Which blocks.
    pub node: Node,
    /// Digest of what they yielded.
    pub content: Digest,
    /// Who computed it.
    pub worker: WorkerId,
}

/// A partial whose bytes are there: of a shard, or merged from those of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPartial {
    /// The blocks that it is of.
    pub node: Node,
    /// Where its bytes are.
    pub bytes: PartialBytes,
}

/// A shard that was computed again for [`super::Event::Verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Which.
    pub shard: ShardRef,
    /// What was committed.
    pub committed: Digest,
    /// By whom.
    pub committed_by: WorkerId,
    /// What came out now and who computed it, or why nothing did.
    pub again: Result<(Digest, WorkerId), String>,
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
    /// Say in the log that a worker is given nothing any more.
    SetAside {
        /// Who.
        worker: WorkerId,
        /// Why.
        reason: String,
    },
    /// Say in the log whose partial was damaged.
    Damaged {
        /// The worker that reported it.
        worker: WorkerId,
        /// The blocks that it was of, in words.
        reason: String,
    },
    /// Merge neighbouring partials while the job is computed, and store what comes out.
    Merge {
        /// The job.
        job: JobRef,
        /// The number of the merge among those of the job.
        number: u64,
        /// The node that the partials cover together.
        node: Node,
        /// The partials, left to right.
        partials: Vec<StoredPartial>,
    },
    /// Merge a job's partials and compute its results.
    Reduce {
        /// The job.
        job: JobRef,
        /// Which reduction of the job: a later one makes this one's result worthless.
        generation: u64,
        /// All partials of the job, and the workers that computed them.
        committed: Committed,
    },
    /// Tell who asked for a verification what became of one shard.
    Checked {
        /// The request that began it.
        verification: RequestId,
        /// What became of it.
        check: Check,
    },
    /// Blobs that a sweep does not need any more; another may.
    Discard {
        /// Their digests.
        blobs: Vec<Digest>,
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
        /// Its place among all submissions; 0 in journals of version 1, which count from the beginning.
        #[serde(default)]
        number: u64,
        /// Whose it is.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        owner: String,
        /// Its owner's key.
        key: Option<String>,
        /// How it shares the lanes.
        #[serde(default)]
        share: Share,
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
    /// A sweep was paused, or goes on.
    Paused {
        /// Which.
        sweep: SweepId,
        /// Whether it is paused.
        paused: bool,
    },
    /// A partial was accepted.
    Committed {
        /// Of what.
        shard: ShardRef,
        /// What it yielded.
        partial: Partial,
        /// Seconds it took a lane.
        seconds: f64,
        /// Who computed it; unknown in journals of version 1.
        #[serde(default)]
        worker: WorkerId,
    },
    /// A shard was committed, and its partial merged into one that follows. Only a snapshot says so.
    Absorbed {
        /// The shard whose partial is in the merged one.
        shard: ShardRef,
        /// Digest of what it yielded.
        content: Digest,
        /// The worker that computed it.
        worker: WorkerId,
    },
    /// All partials below a node were merged into one.
    Merged {
        /// The node that the merged partial covers.
        shard: ShardRef,
        /// Digest of its bytes in the store.
        stored: Digest,
    },
    /// A second worker got the same bits.
    Audited {
        /// Of what.
        shard: ShardRef,
    },
    /// A partial is lost, damaged or not trusted: its blocks are open again, with all shards that were merged into it.
    Withdrawn {
        /// Of what.
        shard: ShardRef,
    },
    /// A shard is to be given out again: its worker failed or was lost, or what it had stored is.
    Retried {
        /// The shard.
        shard: ShardRef,
    },
    /// A shard that takes too long was given to a second worker.
    Copied {
        /// The shard.
        shard: ShardRef,
    },
    /// How far a shard has come is stored.
    Checkpointed {
        /// Which.
        shard: ShardRef,
        /// How far.
        checkpoint: Checkpoint,
    },
    /// A shard is not tried again.
    Quarantined {
        /// Of which sweep.
        sweep: SweepId,
        /// Which, and why.
        failure: ShardFailure,
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
    /// An ended sweep is not kept any more.
    Forgotten {
        /// Which.
        sweep: SweepId,
    },
    /// Numbers of a job whose single commits a snapshot does not repeat.
    Tally {
        /// The sweep.
        sweep: SweepId,
        /// Its job.
        job: JobIndex,
        /// The numbers.
        tally: super::Tally,
    },
}

impl Record {
    /// The sweep that it is about.
    pub fn sweep(&self) -> &SweepId {
        match self {
            Self::Submitted { sweep, .. }
            | Self::Started { sweep, .. }
            | Self::Paused { sweep, .. }
            | Self::Quarantined { sweep, .. }
            | Self::Reduced { sweep, .. }
            | Self::Ended { sweep, .. }
            | Self::Forgotten { sweep }
            | Self::Tally { sweep, .. } => sweep,
            Self::Committed { shard, .. }
            | Self::Audited { shard }
            | Self::Absorbed { shard, .. }
            | Self::Merged { shard, .. }
            | Self::Withdrawn { shard }
            | Self::Retried { shard }
            | Self::Copied { shard }
            | Self::Checkpointed { shard, .. } => &shard.job.sweep,
        }
    }
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
    /// Some shards failed for good; everything else was computed.
    Incomplete {
        /// In words.
        message: String,
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
