//! What an event leads to: records for the journal, and things for the shell to do.

use super::committed::Committed;
use super::event::Answer;
use super::record::Record;
use super::shard::{JobRef, PartialBytes, RequestId, ShardRef};
use crate::grid::Node;
use crate::ids::{Digest, SweepId, WorkerId};

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

/// What one event leads to: `records` first, durably, then `actions` in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// To be journalled.
    pub records: Vec<Record>,
    /// To be done.
    pub actions: Vec<Action>,
}
