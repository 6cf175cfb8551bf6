//! A shard as the coordinator names it, and the files that it needs.
//!
//! Deliberately absent: whether the job has such a shard, which shows when its spec is read.

use nadgrid_core::ids::{JobIndex, SweepId};
use std::ops::Range;

/// A job of a sweep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JobKey {
    pub(crate) sweep: SweepId,
    pub(crate) job: JobIndex,
}

/// Some consecutive blocks of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShardKey {
    pub(crate) job: JobKey,
    pub(crate) first_block: u64,
    pub(crate) blocks: u64,
}

impl ShardKey {
    /// Returns its blocks, or an empty range where their numbers overflow.
    pub(crate) fn range(&self) -> Range<u64> {
        self.first_block..self.first_block.checked_add(self.blocks).unwrap_or(self.first_block)
    }
}

/// The role of a file that says how far an earlier worker came with a shard.
const CHECKPOINT: &str = "checkpoint";

/// A file that a shard needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InputFile {
    /// `basis`, `train`, `test` or `checkpoint`.
    pub(crate) role: String,
    /// The path in the spec, shown to people.
    pub(crate) name: String,
    /// The file's size in bytes.
    pub(crate) size: u64,
    /// The BLAKE3 digest in hexadecimal, as it was announced. It is checked when the file is fetched.
    pub(crate) digest: String,
}

impl InputFile {
    /// Whether it is a checkpoint of the shard, and no file of the spec.
    pub(crate) fn is_checkpoint(&self) -> bool {
        self.role == CHECKPOINT
    }
}

#[cfg(test)]
impl ShardKey {
    /// A shard of a sweep called `s`, for tests.
    pub(crate) fn of_tests(job: u32, first_block: u64, blocks: u64) -> Self {
        Self { job: JobKey { sweep: SweepId::new("s"), job: JobIndex(job) }, first_block, blocks }
    }
}
