//! The reason why a shard was not computed, and what it implies about the worker.
//!
//! Deliberately absent: who is told, and what becomes of the shard, which the coordinator decides.

use nadgrid_core::scheduler::FailureKind;
use nadgrid_core::text::clean;

/// Characters of a fault's message.
const MAX_MESSAGE: usize = 4_096;

/// The cause of a fault, as far as the worker itself has to act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The device had no memory for the shard at this moment.
    OutOfMemory,
    /// This process can no longer compute on its device.
    DeviceLost,
    /// The worker itself does nothing about it.
    Other,
}

/// The reason why a shard was not computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The kind decides whether the coordinator tries the shard again, and where.
    pub(crate) kind: FailureKind,
    /// The message is shown to people.
    pub(crate) message: String,
    pub(crate) cause: Cause,
}

impl Fault {
    /// Makes a fault without a particular cause. The message may repeat parts of a spec, so it is cleaned.
    pub(crate) fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: clean(&message.into(), MAX_MESSAGE), cause: Cause::Other }
    }
}
