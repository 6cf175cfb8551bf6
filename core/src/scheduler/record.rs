//! Facts, as the journal keeps them, and what they are made of. `apply.rs` says how each changes the state.

// A field of an enum is named for what it is.
#![allow(missing_docs)]

use super::shard::{FairShare, Partial, ShardCheckpoint, ShardRef};
use crate::grid::Node;
use crate::ids::{Digest, JobIndex, SweepId, Time, WorkerId};
use crate::numerics::NumericsClass;
use crate::spec::{InputRef, Inputs, Spec};
use serde::{Deserialize, Serialize};

/// A result file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRef {
    /// The file's name below the result folder, for example `nads/lenet/nads.npy`.
    pub name: String,
    /// The number of bytes.
    pub size: u64,
    /// The digest of the bytes.
    pub digest: Digest,
}

/// The result of a job's reduction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobResult {
    /// The digest of the merged moments, or of the runs.
    pub digest: Digest,
    /// The result files.
    pub artifacts: Vec<ArtifactRef>,
    /// A list of what each shard yielded and who computed it, for whoever wants to compute it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<InputRef>,
}

/// A shard that failed so often that it is not tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardFailure {
    /// The job.
    pub job: JobIndex,
    /// The node of its blocks.
    pub node: Node,
    /// Its blocks: their first, and one past their last.
    pub blocks: std::ops::Range<u64>,
    /// The number of attempts.
    pub attempts: u32,
    /// The names of the workers that it failed on.
    pub workers: Vec<String>,
    /// The words of the last failure.
    pub message: String,
}

impl ShardFailure {
    /// One line: what failed where, how often, and why.
    pub fn in_words(&self, job: &str) -> String {
        let Self { blocks, attempts, workers, message, .. } = self;
        let on = if workers.is_empty() { String::new() } else { format!(" on {}", workers.join(", ")) };
        format!("blocks {}..{} of {job} after {attempts} attempts{on}: {message}", blocks.start, blocks.end)
    }
}

/// A shard that counts, and the worker that computed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contribution {
    /// The node of its blocks.
    pub node: Node,
    /// The digest of what they yielded.
    pub content: Digest,
    /// The worker that computed it.
    pub worker: WorkerId,
}

/// A fact, as the journal keeps it. Applying all records in order gives the state back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case", deny_unknown_fields)]
pub enum Record {
    /// A sweep was accepted.
    Submitted {
        sweep: SweepId,
        /// Its place among all submissions; 0 in journals of version 1, which count from the beginning.
        #[serde(default)]
        number: u64,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        owner: String,
        key: Option<String>,
        #[serde(default)]
        share: FairShare,
        spec: Box<Spec>,
        /// The files that it names.
        #[serde(default, skip_serializing_if = "Inputs::is_empty")]
        inputs: Inputs,
        at: Time,
    },
    /// A sweep keeps its first result or checkpoint: from now on it runs in this class.
    Started { sweep: SweepId, class: NumericsClass, at: Time },
    /// A sweep was paused, or goes on.
    Paused {
        sweep: SweepId,
        /// True if it is paused.
        paused: bool,
    },
    /// A partial was accepted.
    Committed {
        shard: ShardRef,
        partial: Partial,
        /// Seconds it took a slot.
        seconds: f64,
        /// The worker that computed it; unknown in journals of version 1.
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
    Audited { shard: ShardRef },
    /// A partial is lost, damaged or not trusted: its blocks are open again, with all shards that were merged into it.
    Withdrawn { shard: ShardRef },
    /// A shard is to be given out again: its worker failed or was lost, or its stored partial is lost or damaged.
    Retried { shard: ShardRef },
    /// A shard that takes too long was given to a second worker.
    Speculated { shard: ShardRef },
    /// A checkpoint of a shard is stored.
    Checkpointed { shard: ShardRef, checkpoint: ShardCheckpoint },
    /// A shard is not tried again.
    Quarantined { sweep: SweepId, failure: ShardFailure },
    /// A job is complete.
    Reduced { sweep: SweepId, job: JobIndex, result: JobResult },
    /// A sweep has ended.
    Ended { sweep: SweepId, outcome: SweepOutcome, at: Time },
    /// An ended sweep is not kept any more.
    Forgotten { sweep: SweepId },
    /// Numbers of a job whose single commits a snapshot does not repeat.
    Tally { sweep: SweepId, job: JobIndex, tally: Tally },
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
            | Self::Speculated { shard }
            | Self::Checkpointed { shard, .. } => &shard.job.sweep,
        }
    }
}

/// The way in which a sweep ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SweepOutcome {
    /// Every job gave its result.
    Complete {
        /// Digest of the jobs' digests: a function of spec and class.
        digest: Digest,
    },
    /// Some shards failed for good; everything else was computed.
    Incomplete { message: String },
    /// The sweep cannot be completed.
    Failed { message: String },
    /// Its user cancelled it.
    Cancelled,
}

impl SweepOutcome {
    /// The outcome in one word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Complete { .. } => "complete",
            Self::Incomplete { .. } => "incomplete",
            Self::Failed { .. } => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Numbers of a job for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// The number of committed blocks.
    pub blocks: u64,
    /// The number of committed shards.
    pub shards: u64,
    /// Slot-seconds that the committed shards took together.
    pub slot_seconds: f64,
    /// Shards that were given out again.
    pub retries: u64,
    /// Speculative leases of shards that took too long elsewhere.
    pub speculative: u64,
    /// Shards that a second worker agreed on.
    pub audits: u64,
}
