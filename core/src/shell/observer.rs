//! The observer of a shell at work, for metrics, traces, and what users are shown.

use crate::ids::WorkerId;
use crate::scheduler::{Event, Record, Scheduler, ShardRef};

/// Something that a worker did for a shard, as it tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerStep {
    /// The step in one word.
    pub name: String,
    /// The begin, in microseconds since the worker took the shard.
    pub begin_us: u64,
    /// The end, in microseconds since the worker took the shard.
    pub end_us: u64,
}

/// Somebody who sees what happens and has no say in it.
pub trait ShellObserver {
    /// Sees what the scheduler is about to take in.
    fn event(&mut self, event: &Event, scheduler: &Scheduler);

    /// Sees what a worker did for a shard.
    fn steps(&mut self, worker: &WorkerId, shard: &ShardRef, steps: Vec<WorkerStep>);

    /// Sees a record that is durable, when all of its batch are.
    fn record(&mut self, record: &Record, scheduler: &Scheduler);
}

/// The observer that ignores everything.
impl ShellObserver for () {
    fn event(&mut self, _: &Event, _: &Scheduler) {}

    fn steps(&mut self, _: &WorkerId, _: &ShardRef, _: Vec<WorkerStep>) {}

    fn record(&mut self, _: &Record, _: &Scheduler) {}
}
