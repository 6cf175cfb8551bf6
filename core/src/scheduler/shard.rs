//! Jobs, shards, and what workers and users say of them: profiles, partials, checkpoints, failures, verdicts.

use crate::grid::Node;
use crate::ids::{Digest, JobIndex, SweepId, WorkerId};
use crate::numerics::{NumericsClass, Precision};
use crate::spec::InputRef;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A job of a sweep.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobRef {
    /// The sweep.
    pub sweep: SweepId,
    /// The job's place among those of the sweep.
    pub index: JobIndex,
}

impl JobRef {
    /// The job of this index of a sweep.
    pub fn new(sweep: &SweepId, index: JobIndex) -> Self {
        Self { sweep: sweep.clone(), index }
    }

    /// The shard of these blocks of the job.
    pub fn shard(&self, node: Node) -> ShardRef {
        ShardRef { job: self.clone(), node }
    }
}

/// A shard: an aligned run of blocks of one job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "ShardText", into = "ShardText")]
pub struct ShardRef {
    /// The job.
    pub job: JobRef,
    /// The blocks.
    pub node: Node,
}

/// A shard in the journal.
#[derive(Serialize, Deserialize)]
struct ShardText {
    sweep: SweepId,
    job: JobIndex,
    node: Node,
}

impl From<ShardRef> for ShardText {
    fn from(ShardRef { job: JobRef { sweep, index }, node }: ShardRef) -> Self {
        Self { sweep, job: index, node }
    }
}

impl From<ShardText> for ShardRef {
    fn from(ShardText { sweep, job: index, node }: ShardText) -> Self {
        Self { job: JobRef { sweep, index }, node }
    }
}

/// Identifies an asker, so that the shell can route the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A worker's description of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerProfile {
    /// The worker's name, for people.
    pub name: String,
    /// Its numerics class, whatever the precision.
    pub class: NumericsClass,
    /// The precisions that it offers.
    pub precisions: Vec<Precision>,
    /// The number of shards that it computes at once.
    pub slots: u32,
    /// The version of its program.
    pub version: String,
}

impl WorkerProfile {
    /// The class in which it computes a sweep of this precision, if it offers that.
    pub fn class_for(&self, precision: Precision) -> Option<NumericsClass> {
        self.precisions.contains(&precision).then(|| self.class.with(precision))
    }
}

/// The share that a sweep has of the slots beside others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FairShare {
    /// Sweeps of a higher priority go first.
    pub priority: i32,
    /// Sweeps of one priority have slots in proportion to it; positive.
    pub weight: f64,
}

impl Default for FairShare {
    fn default() -> Self {
        Self { priority: 0, weight: 1.0 }
    }
}

/// A file that a shard needs, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardInput {
    /// `basis`, `train`, `test` or `checkpoint`.
    pub role: &'static str,
    /// The file's name, for people.
    pub name: String,
    /// The stored bytes.
    pub stored: InputRef,
}

/// The place where the bytes of a partial are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartialBytes {
    /// They are in the artifact store.
    Stored(Digest),
    /// They are here, since they are few.
    Inline(Arc<[u8]>),
}

/// The bytes and the content that a shard yielded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "PartialText", try_from = "PartialText")]
pub struct Partial {
    /// Its bytes.
    pub bytes: PartialBytes,
    /// The digest of what they say, without how long it took: two workers of one class give the same.
    pub content: Digest,
}

impl Partial {
    /// A stored partial that says nothing but its content.
    pub fn stored(digest: Digest) -> Self {
        Self { bytes: PartialBytes::Stored(digest), content: digest }
    }

    /// The blob in the store, if there is one.
    pub fn blob(&self) -> Option<Digest> {
        match self.bytes {
            PartialBytes::Stored(digest) => Some(digest),
            PartialBytes::Inline(_) => None,
        }
    }
}

/// A partial in the journal. The plain form is the only one that version 1 wrote.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum PartialText {
    Plain(Digest),
    Stored { stored: Digest, content: Digest },
    Inline { inline: String, content: Digest },
}

impl From<Partial> for PartialText {
    fn from(Partial { bytes, content }: Partial) -> Self {
        match bytes {
            PartialBytes::Stored(digest) if digest == content => Self::Plain(digest),
            PartialBytes::Stored(stored) => Self::Stored { stored, content },
            PartialBytes::Inline(bytes) => Self::Inline { inline: BASE64.encode(bytes), content },
        }
    }
}

impl TryFrom<PartialText> for Partial {
    type Error = base64::DecodeError;

    fn try_from(text: PartialText) -> Result<Self, Self::Error> {
        Ok(match text {
            PartialText::Plain(digest) => Self::stored(digest),
            PartialText::Stored { stored, content } => Self { bytes: PartialBytes::Stored(stored), content },
            PartialText::Inline { inline, content } => {
                Self { bytes: PartialBytes::Inline(BASE64.decode(inline)?.into()), content }
            }
        })
    }
}

/// A point that the computation of a shard has reached: another worker of the class can go on from there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardCheckpoint {
    /// The stored bytes.
    pub stored: InputRef,
    /// Members of the shard that are done with.
    pub members_done: u64,
    /// The epochs of those in training.
    pub epochs: u32,
}

/// The point that a worker says it has reached with a shard. Nonsense is corrected where it is taken in.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ShardStand {
    /// The number of blocks that are computed.
    pub blocks_done: u64,
    /// The part of the next block that is done, from 0 to 1.
    pub fraction: f64,
    /// Seconds that the slot has computed.
    pub seconds: f64,
    /// Seconds that passed before its first block.
    pub begin_seconds: f64,
}

/// The reason why a shard was not computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The spec is wrong: never retried, the sweep fails.
    Spec,
    /// This worker cannot: it is set aside and the shard goes elsewhere.
    Unfit,
    /// The shard failed here: retried a few times.
    Task,
    /// The trouble will pass: retried a few times.
    Transient,
}

impl FailureKind {
    /// Returns the kind in one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spec => "spec",
            Self::Unfit => "unfit",
            Self::Task => "task",
            Self::Transient => "transient",
        }
    }
}

/// A shard of a complete sweep that is to be computed again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The shard.
    pub shard: ShardRef,
    /// The digest of the content that was committed.
    pub content: Digest,
    /// The worker that had computed it.
    pub worker: WorkerId,
}

/// The verdict on a reported shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The first valid report of its blocks.
    Committed,
    /// All its blocks were committed before.
    Duplicate,
    /// Some of its blocks were committed before, in another cut.
    Superseded,
    /// The sweep has ended or is unknown, the shard is not this worker's, or it is not trusted any more.
    NotNeeded,
    /// The worker has no session here, or has not spoken in it for too long: it opens one, says what it holds, and reports again.
    NoSession,
    /// The shard does not exist in that sweep, or the class is not the sweep's.
    Invalid,
    /// It was computed to check another's.
    Checked,
}
