//! The observer of a shard's computation, as the arithmetic sees it.

use nadgrid_core::numerics::Precision;

/// Follows the computation of a shard, and may end it.
pub(crate) trait ShardWatcher {
    /// Whether the shard's result is still wanted. It is asked often.
    fn wants(&self) -> bool;

    /// Everything that blocks need is there, and the first one begins.
    fn begun(&self) {}

    /// This part of the next block is computed, from 0 to 1. It is called often.
    fn advance(&self, _fraction: f64) {}

    /// Another block is computed.
    fn block_done(&self);

    /// Whether a checkpoint is due. It is asked after every epoch of training and after every run.
    fn wants_checkpoint(&self) -> bool {
        false
    }

    /// Takes the checkpoint that was due.
    fn take_checkpoint(&self, _snapshot: ShardSnapshot) {}
}

/// The progress of a shard, from which another worker can continue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShardSnapshot {
    /// A [`nadgrid_core::checkpoint`].
    pub(crate) bytes: Vec<u8>,
    /// Members of the shard that are finished.
    pub(crate) members_done: u64,
    /// Epochs of the members in training.
    pub(crate) epochs: u32,
    /// The precision in which they are trained.
    pub(crate) precision: Precision,
}
