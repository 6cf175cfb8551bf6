//! Effects of an event: records for the journal, and things for the shell to do.

// A field of an enum is named for what it is.
#![allow(missing_docs)]

use super::committed::Committed;
use super::event::Answer;
use super::record::Record;
use super::shard::{JobRef, PartialBytes, RequestId, ShardRef};
use crate::grid::Node;
use crate::ids::{Digest, SweepId, WorkerId};

/// A partial whose bytes are there: of a shard, or merged from those of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPartial {
    /// The node of the blocks that it covers.
    pub node: Node,
    /// The place of its bytes.
    pub bytes: PartialBytes,
}

/// A shard that was computed again for [`super::Event::Verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The shard.
    pub shard: ShardRef,
    /// The digest of what was committed.
    pub committed: Digest,
    /// The worker that had computed it.
    pub committed_by: WorkerId,
    /// The digest that came out now and the worker that computed it, or the reason why nothing did.
    pub again: Result<(Digest, WorkerId), String>,
}

/// Something that the shell has to do, after the records are durable.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Answer a request, now that its records are durable.
    Answer { request: RequestId, answer: Answer },
    /// Give a shard to a worker.
    Lease { worker: WorkerId, shard: ShardRef },
    /// Tell a worker that a shard is not wanted any more.
    Revoke { worker: WorkerId, shard: ShardRef, reason: &'static str },
    /// End a worker's session: it was silent for too long and is forgotten. It may come back with a new one.
    Disconnect { worker: WorkerId },
    /// Say in the log that a worker is given nothing any more.
    SetAside { worker: WorkerId, reason: String },
    /// Say in the log whose partial was damaged.
    Damaged {
        /// The worker that reported it.
        worker: WorkerId,
        /// The blocks that it was of, in words.
        reason: String,
    },
    /// Merge neighbouring partials while the job is computed, and store what comes out.
    Merge {
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
        job: JobRef,
        generation: u64,
        /// All partials of the job, and the workers that computed them.
        committed: Committed,
    },
    /// Tell who asked for a verification what became of one shard.
    Checked {
        /// The request that began it.
        verification: RequestId,
        check: Check,
    },
    /// Blobs that a sweep does not need any more; another may.
    Discard { blobs: Vec<Digest> },
    /// Something about a sweep changed that a watcher would want to see.
    Changed { sweep: SweepId },
}

/// The effects of one event: `records` first, durably, then `actions` in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// The records to be journalled.
    pub records: Vec<Record>,
    /// The actions to be done, in order.
    pub actions: Vec<Action>,
}
