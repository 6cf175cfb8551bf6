//! A shard as session, lane and uploads share it: what is to be computed, how far that is, and whether it is still wanted.
//!
//! Progress and checkpoints come from the lane that computes it; the board reads them. Deliberately absent: the stages of a shard,
//! which are the board's.

use crate::compute::{Snapshot, Watcher};
use crate::steps::Steps;
use nadgrid_proto::v1;
use nadgrid_telemetry::TraceContext;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A shard to compute.
#[derive(Debug)]
pub struct Task {
    /// Its sweep, job and blocks.
    pub shard: v1::Shard,
    /// The sweep's spec, TOML; tasks of a job share it.
    pub spec: Arc<str>,
    /// The job's name, for example `nads/lenet`.
    pub job: String,
    /// The files that it needs.
    pub inputs: Vec<v1::ShardInput>,
    cancelled: AtomicBool,
    standing: Mutex<TaskStanding>,
    /// Cancelled when its lease is gone.
    unleased: CancellationToken,
    /// The board's pace; none before the task is assigned.
    pub(super) pace: Option<Arc<CheckpointPace>>,
    checkpoints: Mutex<Checkpoints>,
    /// The span of its lease, where it is traced.
    pub(crate) lease: Option<TraceContext>,
    pub(crate) steps: Steps,
}

/// How far a lane is with a task.
#[derive(Clone, Copy, Debug)]
pub(super) struct TaskStanding {
    /// When the lane took it.
    taken: Instant,
    /// Seconds until its first block began, once it has.
    pub(super) begin_seconds: Option<f64>,
    /// How many of its blocks are computed.
    pub(super) blocks_done: u64,
    /// The part of the next block that is computed, from 0 to 1.
    pub(super) fraction: f64,
    /// Seconds that the lane had computed when it was so far.
    pub(super) seconds: f64,
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
        (self.blocks_done, self.fraction) = (blocks_done, fraction);
        self.seconds = self.taken.elapsed().as_secs_f64() - begin;
    }
}

/// How often running shards hand out checkpoints, and a notification when one does.
#[derive(Debug)]
pub(super) struct CheckpointPace {
    /// Shortest time between two checkpoints of a shard while the worker does not drain.
    pub(super) interval: Duration,
    /// Whether the worker drains: a checkpoint is due after every epoch.
    pub(super) hurried: AtomicBool,
    /// Notified when a checkpoint is handed out.
    pub(super) handed_out: Notify,
}

/// The checkpoints of one task.
#[derive(Debug)]
pub(super) struct Checkpoints {
    /// When the last was handed out, or the task was begun.
    pub(super) last: Instant,
    /// The newest one that is not on its way yet.
    pub(super) newest: Option<Snapshot>,
}

impl Task {
    /// A task nobody has begun.
    pub fn new(shard: v1::Shard, spec: impl Into<Arc<str>>, job: String, inputs: Vec<v1::ShardInput>) -> Self {
        Self {
            shard,
            spec: spec.into(),
            job,
            inputs,
            cancelled: AtomicBool::new(false),
            standing: Mutex::new(TaskStanding::new()),
            unleased: CancellationToken::new(),
            pace: None,
            checkpoints: Mutex::new(Checkpoints { last: Instant::now(), newest: None }),
            lease: None,
            steps: Steps::new(),
        }
    }

    /// Says of which span it is a part, as the coordinator wrote it.
    #[must_use]
    pub fn traced(mut self, traceparent: &str) -> Self {
        self.lease = TraceContext::parse(traceparent);
        self
    }

    /// A lane takes it now.
    pub(crate) fn begin(&self) {
        self.steps.begin();
        *self.standing() = TaskStanding::new();
    }

    /// Seconds from a lane's taking it to its first block.
    pub(crate) fn begin_seconds(&self) -> f64 {
        self.standing().begin_seconds.unwrap_or(0.0)
    }

    pub(super) fn standing(&self) -> MutexGuard<'_, TaskStanding> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn checkpoints(&self) -> MutexGuard<'_, Checkpoints> {
        self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its result is not wanted any more. Lanes ask between networks, and between batches of training.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Notes that the lease is gone: nothing that is handed in is wanted.
    pub(super) fn lose_lease(&self) {
        self.cancel();
        self.unleased.cancel();
    }

    /// Returns when the lease is gone.
    pub(crate) async fn lease_lost(&self) {
        self.unleased.cancelled().await;
    }
}

impl Watcher for Task {
    fn wants(&self) -> bool {
        !self.is_cancelled()
    }

    fn begun(&self) {
        self.steps.end("inputs");
        self.standing().begin();
    }

    fn advance(&self, fraction: f64) {
        let mut standing = self.standing();
        let blocks_done = standing.blocks_done;
        standing.advance(blocks_done, fraction);
    }

    fn block_done(&self) {
        self.steps.block();
        let mut standing = self.standing();
        let blocks_done = standing.blocks_done + 1;
        standing.advance(blocks_done, 0.0);
    }

    fn wants_checkpoint(&self) -> bool {
        let Some(pace) = &self.pace else { return false };
        pace.hurried.load(Ordering::Relaxed) || self.checkpoints().last.elapsed() >= pace.interval
    }

    fn take_checkpoint(&self, snapshot: Snapshot) {
        *self.checkpoints() = Checkpoints { last: Instant::now(), newest: Some(snapshot) };
        if let Some(pace) = &self.pace {
            pace.handed_out.notify_one();
        }
    }
}
