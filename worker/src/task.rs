//! A shard as session, slot and uploads share it: what is to be computed, how far that is, and whether it is still wanted.
//!
//! Progress and checkpoints come from the slot that computes it; the table of tasks reads them. Deliberately absent: the stages of
//! a task, which are the table's.

use crate::compute::{ShardSnapshot, ShardWatcher};
use crate::phases::{Phase, PhaseTimer};
use crate::shard::{InputFile, ShardKey};
use bytes::Bytes;
use nadgrid_core::ids::Digest;
use nadgrid_core::numerics::NumericsClass;
use nadgrid_core::scheduler::ShardStand;
use nadgrid_telemetry::TraceContext;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A shard to compute.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) shard: ShardKey,
    /// The sweep's spec, TOML; tasks of a job share it.
    pub(crate) spec: Arc<str>,
    /// The job's name, for example `nads/lenet`.
    pub(crate) job: String,
    /// The files that the shard needs.
    pub(crate) inputs: Vec<InputFile>,
    cancelled: AtomicBool,
    standing: Mutex<TaskStanding>,
    /// Cancelled when the lease is gone.
    unleased: CancellationToken,
    /// The table's schedule; absent before the task is assigned.
    pub(crate) schedule: Option<Arc<CheckpointSchedule>>,
    checkpoints: Mutex<TaskCheckpoints>,
    /// The span of the lease, where it is traced.
    pub(crate) lease: Option<TraceContext>,
    pub(crate) phases: PhaseTimer,
}

/// A task's result.
#[derive(Clone, Debug)]
pub(crate) struct ComputedShard {
    pub(crate) task: Arc<Task>,
    /// The class in which it was computed.
    pub(crate) class: NumericsClass,
    /// The partial, as it is stored.
    pub(crate) bytes: Bytes,
    /// The digest of these bytes.
    pub(crate) digest: Digest,
    /// Seconds it took the slot, and earlier slots before a checkpoint.
    pub(crate) seconds: f64,
    /// Of these, the seconds before its first block.
    pub(crate) begin_seconds: f64,
    pub(crate) phases: Vec<Phase>,
}

/// The progress of a slot with a task.
#[derive(Clone, Copy, Debug)]
struct TaskStanding {
    /// The moment when the slot took the task.
    taken: Instant,
    /// Seconds until the first block began; `None` before that.
    begin_seconds: Option<f64>,
    blocks_done: u64,
    /// The part of the next block that is computed, from 0 to 1.
    fraction: f64,
    /// Seconds that the slot had computed at that point.
    seconds: f64,
}

impl TaskStanding {
    fn new() -> Self {
        Self { taken: Instant::now(), begin_seconds: None, blocks_done: 0, fraction: 0.0, seconds: 0.0 }
    }

    fn begin(&mut self) -> f64 {
        let elapsed = self.taken.elapsed().as_secs_f64();
        *self.begin_seconds.get_or_insert(elapsed)
    }

    fn advance(&mut self, blocks_done: u64, fraction: f64) {
        let begin = self.begin();
        self.blocks_done = blocks_done;
        self.fraction = fraction;
        self.seconds = self.taken.elapsed().as_secs_f64() - begin;
    }
}

/// The schedule of checkpoints for running shards, and a notification when one is handed out.
#[derive(Debug)]
pub(crate) struct CheckpointSchedule {
    /// The shortest time between two checkpoints of a shard while the worker does not drain.
    pub(crate) interval: Duration,
    /// Whether the worker drains: a checkpoint is due after every epoch.
    pub(crate) hurried: AtomicBool,
    /// Notified when a checkpoint is handed out.
    pub(crate) handed_out: Notify,
}

/// The checkpoints of one task.
#[derive(Debug)]
pub(crate) struct TaskCheckpoints {
    /// The time when the last one was handed out, or the task was begun.
    pub(crate) last: Instant,
    /// The newest one whose upload has not begun.
    pub(crate) newest: Option<ShardSnapshot>,
}

impl Task {
    /// Makes a task that no slot has taken.
    pub(crate) fn new(shard: ShardKey, spec: impl Into<Arc<str>>, job: String, inputs: Vec<InputFile>) -> Self {
        Self {
            shard,
            spec: spec.into(),
            job,
            inputs,
            cancelled: AtomicBool::new(false),
            standing: Mutex::new(TaskStanding::new()),
            unleased: CancellationToken::new(),
            schedule: None,
            checkpoints: Mutex::new(TaskCheckpoints { last: Instant::now(), newest: None }),
            lease: None,
            phases: PhaseTimer::new(),
        }
    }

    /// Makes it part of a span, as the coordinator wrote it.
    #[must_use]
    pub(crate) fn traced(mut self, traceparent: &str) -> Self {
        self.lease = TraceContext::parse(traceparent);
        self
    }

    /// Notes that a slot takes it now.
    pub(crate) fn begin(&self) {
        self.phases.begin();
        *self.standing() = TaskStanding::new();
    }

    /// Returns the seconds from the moment a slot took it to its first block.
    pub(crate) fn begin_seconds(&self) -> f64 {
        self.standing().begin_seconds.unwrap_or(0.0)
    }

    /// Returns how far its slot is, once the first block has begun.
    pub(crate) fn stand(&self) -> Option<ShardStand> {
        let TaskStanding { begin_seconds, blocks_done, fraction, seconds, .. } = *self.standing();
        begin_seconds.map(|begin_seconds| ShardStand { blocks_done, fraction, seconds, begin_seconds })
    }

    fn standing(&self) -> MutexGuard<'_, TaskStanding> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn checkpoints(&self) -> MutexGuard<'_, TaskCheckpoints> {
        self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its result is no longer wanted. Slots ask between networks, and between batches of training.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Notes that the lease is gone, so that neither a result nor a checkpoint is wanted.
    pub(crate) fn lose_lease(&self) {
        self.cancel();
        self.unleased.cancel();
    }

    /// Returns when the lease is gone.
    pub(crate) async fn lease_lost(&self) {
        self.unleased.cancelled().await;
    }
}

impl ShardWatcher for Task {
    fn wants(&self) -> bool {
        !self.is_cancelled()
    }

    fn begun(&self) {
        self.phases.end("inputs");
        self.standing().begin();
    }

    fn advance(&self, fraction: f64) {
        let mut standing = self.standing();
        let blocks_done = standing.blocks_done;
        standing.advance(blocks_done, fraction);
    }

    fn block_done(&self) {
        self.phases.block();
        let mut standing = self.standing();
        let blocks_done = standing.blocks_done + 1;
        standing.advance(blocks_done, 0.0);
    }

    fn wants_checkpoint(&self) -> bool {
        let Some(schedule) = &self.schedule else { return false };
        schedule.hurried.load(Ordering::Relaxed) || self.checkpoints().last.elapsed() >= schedule.interval
    }

    fn take_checkpoint(&self, snapshot: ShardSnapshot) {
        *self.checkpoints() = TaskCheckpoints { last: Instant::now(), newest: Some(snapshot) };
        if let Some(schedule) = &self.schedule {
            schedule.handed_out.notify_one();
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{:?}", self.shard.job.sweep, self.job, self.shard.range())
    }
}
