//! The tasks of this worker: the one table that session, slots and uploads share.
//!
//! A task is at one of these stages; it can be dropped (revoked, stopping) at each of them:
//!
//! ```text
//!  assign        next           computed          uploaded
//!  ──────▶ queued ───▶ running ────────▶ computed ────────▶ (removed)
//!                         │ failed                │ failed
//!                         └──────▶ failed ◀───────┘ reported ▶ (removed)
//! ```
//!
//! A small result is reported in the session; larger ones are uploaded beside it.
//!
//! What the coordinator has to be told follows from the stages ([`TaskTable::reports`]), so nothing queues up while the coordinator
//! is away, and a new session reports everything again. Of a running shard's checkpoints only the newest is kept for its upload.
//!
//! A worker that drains begins nothing more and finishes its running shards; one that is closed drops these too. Deliberately
//! absent: sockets and arithmetic.

use crate::compute::ShardSnapshot;
use crate::fault::Fault;
use crate::shard::ShardKey;
use crate::task::{CheckpointSchedule, ComputedShard, Task};
use nadgrid_core::scheduler::{FailureKind, ShardStand};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The shortest time between two reports of progress within one block.
const WITHIN_A_BLOCK: Duration = Duration::from_secs(2);

/// A message about a shard that the coordinator is to receive.
#[derive(Clone, Debug)]
pub(crate) enum TaskReport {
    /// The shard is being computed.
    Progress { shard: ShardKey, stand: ShardStand },
    /// The shard is computed, and its upload follows.
    Computed { shard: ShardKey },
    /// The shard is computed, and its result is small enough for the session.
    Result(Arc<ComputedShard>),
    /// The shard was not computed.
    Failed { shard: ShardKey, fault: Fault },
}

#[derive(Debug, PartialEq, Eq)]
enum TaskStage {
    Queued,
    Running,
    Computed,
    Failed(Fault),
}

#[derive(Debug)]
struct TrackedTask {
    task: Arc<Task>,
    stage: TaskStage,
    /// The progress that the coordinator knows of.
    reported: Option<ReportedProgress>,
    /// Whether the coordinator knows that the shard is computed.
    computed_reported: bool,
    /// The result, where it is reported in the session.
    result: Option<Arc<ComputedShard>>,
    /// The same shard, assigned again before its result was acknowledged. It is computed again after that, perhaps for a
    /// comparison.
    again: Option<Task>,
}

/// The progress of a shard that the coordinator knows of.
#[derive(Clone, Copy, Debug)]
struct ReportedProgress {
    at: Instant,
    blocks_done: u64,
    fraction: f64,
}

#[derive(Debug, Default)]
struct TableState {
    /// A few tasks for each slot, oldest first.
    tasks: Vec<TrackedTask>,
    queue: VecDeque<Arc<Task>>,
    draining: bool,
    closed: bool,
    /// Tasks that were given back, whose last checkpoint is still to be uploaded.
    parting: Vec<Arc<Task>>,
    /// Whether a checkpoint is being uploaded.
    uploading: bool,
    /// The reason why this process can no longer compute.
    lost: Option<String>,
}

/// All tasks, and the notifications of those who wait for a change.
#[derive(Debug)]
pub(crate) struct TaskTable {
    state: Mutex<TableState>,
    /// Slots wait for it: there may be a shard to compute.
    work: Condvar,
    /// There is something to report.
    news: Notify,
    /// A shard or a checkpoint is finished with in some way.
    settled: Notify,
    lost: Notify,
    schedule: Option<Arc<CheckpointSchedule>>,
    /// The results that may wait for their upload before slots pause, so that memory is bounded.
    max_waiting: usize,
    /// The most tasks, at whatever stage. A coordinator assigns far fewer.
    max_tasks: usize,
}

impl TaskTable {
    /// Makes an empty table for this many slots, whose shards hand out no checkpoints.
    pub(crate) fn new(slots: u32) -> Self {
        Self {
            state: Mutex::default(),
            work: Condvar::new(),
            news: Notify::new(),
            settled: Notify::new(),
            lost: Notify::new(),
            schedule: None,
            max_waiting: slots as usize + 2,
            max_tasks: 8 * slots as usize + 16,
        }
    }

    /// Makes shards hand out checkpoints, at intervals of at least `interval` while the worker does not drain.
    pub(crate) fn checkpointing(mut self, interval: Duration) -> Self {
        self.schedule =
            Some(Arc::new(CheckpointSchedule { interval, hurried: AtomicBool::new(false), handed_out: Notify::new() }));
        self
    }

    /// Adds a task. If the table has the shard already, that task stays as it is and is reported anew.
    pub(crate) fn assign(&self, mut task: Task) {
        let mut state = self.lock();
        if let Some(tracked) = state.tasks.iter_mut().find(|tracked| tracked.task.shard == task.shard) {
            tracked.forget_reports();
            if tracked.stage == TaskStage::Computed {
                task.schedule.clone_from(&self.schedule);
                tracked.again = Some(task);
            }
            self.news.notify_one();
        } else if !state.closed && !state.draining {
            task.schedule.clone_from(&self.schedule);
            self.queue(&mut state, task);
        }
    }

    /// Whether it has as many tasks as it takes.
    pub(crate) fn is_full(&self) -> bool {
        self.lock().tasks.len() >= self.max_tasks
    }

    fn queue(&self, state: &mut TableState, task: Task) {
        let task = Arc::new(task);
        state.tasks.push(TrackedTask {
            task: task.clone(),
            stage: TaskStage::Queued,
            reported: None,
            computed_reported: false,
            result: None,
            again: None,
        });
        state.queue.push_back(task);
        self.work.notify_one();
    }

    /// Removes a task whose result is acknowledged. If the shard was assigned again meanwhile, it is queued.
    fn settle(&self, state: &mut TableState, index: usize) {
        let tracked = state.tasks.remove(index);
        if let Some(again) = tracked.again.filter(|_| !state.closed && !state.draining) {
            self.queue(state, again);
        }
        self.changed(&TaskStage::Computed);
    }

    /// Drops a shard at whatever stage it is, and returns false when the table does not have it.
    pub(crate) fn revoke(&self, shard: &ShardKey) -> bool {
        let mut state = self.lock();
        let found = state.tasks.iter().position(|tracked| tracked.task.shard == *shard);
        if let Some(index) = found {
            let tracked = state.tasks.remove(index);
            tracked.task.lose_lease();
            state.queue.retain(|queued| !Arc::ptr_eq(queued, &tracked.task));
            self.changed(&tracked.stage);
        }
        found.is_some()
    }

    /// Waits for the next shard for a slot; `None` when the worker stops.
    pub(crate) fn next(&self) -> Option<Arc<Task>> {
        let waits = |state: &mut TableState| {
            let waiting = state.tasks.iter().filter(|tracked| tracked.stage == TaskStage::Computed).count();
            !state.closed && (state.draining || state.queue.is_empty() || waiting >= self.max_waiting)
        };
        let mut state = self.work.wait_while(self.lock(), waits).unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return None;
        }
        let task = state.queue.pop_front()?;
        if let Some(tracked) = state.find(&task) {
            tracked.stage = TaskStage::Running;
        }
        task.checkpoints().last = Instant::now();
        Some(task)
    }

    /// Notes that a slot has computed a shard, and returns false when its result is no longer wanted. A result given here is
    /// reported in the session; otherwise it is to be uploaded.
    pub(crate) fn computed(&self, task: &Arc<Task>, result: Option<Arc<ComputedShard>>) -> bool {
        let mut state = self.lock();
        let Some(tracked) = state.find(task) else { return false };
        tracked.stage = TaskStage::Computed;
        tracked.result = result;
        self.news.notify_one();
        true
    }

    /// Notes that a shard failed, which is reported.
    pub(crate) fn failed(&self, task: &Arc<Task>, fault: Fault) {
        let mut state = self.lock();
        if let Some(tracked) = state.find(task) {
            let before = std::mem::replace(&mut tracked.stage, TaskStage::Failed(fault));
            self.changed(&before);
            self.news.notify_one();
        }
    }

    /// Notes that the coordinator has the result, or does not want it.
    pub(crate) fn uploaded(&self, task: &Arc<Task>) {
        let mut state = self.lock();
        if let Some(index) = state.tasks.iter().position(|tracked| Arc::ptr_eq(&tracked.task, task)) {
            self.settle(&mut state, index);
        }
    }

    /// Notes the coordinator's answer to a result that was reported in the session. `refused` is its reason for not taking it.
    pub(crate) fn answered(&self, shard: &ShardKey, refused: Option<&str>) {
        let mut state = self.lock();
        let found = state.tasks.iter().position(|tracked| tracked.result.is_some() && tracked.task.shard == *shard);
        let Some(index) = found else { return };
        match refused {
            Some(reason) => {
                let fault = Fault::new(FailureKind::Task, format!("the result was refused: {reason}"));
                state.tasks[index].stage = TaskStage::Failed(fault);
                self.news.notify_one();
                self.changed(&TaskStage::Computed);
            }
            None => self.settle(&mut state, index),
        }
    }

    /// Returns the shards that a new session names. What an earlier session reported is reported again.
    pub(crate) fn held(&self) -> Vec<ShardKey> {
        let mut state = self.lock();
        state.tasks.iter_mut().for_each(TrackedTask::forget_reports);
        state.tasks.iter().map(|tracked| tracked.task.shard.clone()).collect()
    }

    /// Returns what has changed since the last call: stages, and progress too if `progress`.
    pub(crate) fn reports(&self, progress: bool) -> Vec<TaskReport> {
        let mut state = self.lock();
        let reports: Vec<TaskReport> = state.tasks.iter_mut().filter_map(|tracked| tracked.report(progress)).collect();
        state.tasks.retain(|tracked| !matches!(tracked.stage, TaskStage::Failed(_)));
        self.settled.notify_one();
        reports
    }

    /// Returns when there is something to report.
    pub(crate) async fn has_news(&self) {
        self.news.notified().await;
    }

    /// Stops taking and beginning tasks. Running shards go on, with a checkpoint after every epoch.
    pub(crate) fn drain(&self) {
        self.lock().draining = true;
        if let Some(schedule) = &self.schedule {
            schedule.hurried.store(true, Ordering::Relaxed);
        }
    }

    /// Returns when nothing is left to compute, to report or to upload.
    pub(crate) async fn idle(&self) {
        while self.lock().tasks.iter().any(|tracked| tracked.stage != TaskStage::Queued) {
            self.settled.notified().await;
        }
    }

    /// Stops taking tasks, drops those that are queued, and makes running ones end with their block or batch. Results are still
    /// uploaded, and after draining also the last checkpoint of every shard that was running.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        let state = &mut *state;
        state.closed = true;
        state.queue.clear();
        let dropped = state.tasks.extract_if(.., |tracked| tracked.stage != TaskStage::Computed);
        for TrackedTask { task, stage, .. } in dropped {
            task.cancel();
            if state.draining && stage == TaskStage::Running && task.checkpoints().newest.is_some() {
                state.parting.push(task);
            }
        }
        self.work.notify_all();
        self.settled.notify_one();
        if let Some(schedule) = &self.schedule {
            schedule.handed_out.notify_one();
        }
    }

    /// Returns when neither a result nor a last checkpoint waits for its upload.
    pub(crate) async fn all_uploaded(&self) {
        let waits = |state: &TableState| {
            let results = state.tasks.iter().any(|tracked| tracked.stage == TaskStage::Computed);
            results || !state.parting.is_empty() || (state.draining && state.uploading)
        };
        while waits(&self.lock()) {
            self.settled.notified().await;
        }
    }

    /// Waits for the newest checkpoint of a shard that is wanted. [`TaskTable::checkpoint_done`] must follow.
    pub(crate) async fn next_checkpoint(&self) -> (Arc<Task>, ShardSnapshot) {
        let Some(schedule) = &self.schedule else { return std::future::pending().await };
        loop {
            if let Some(found) = self.lock().take_checkpoint() {
                // There may be others.
                schedule.handed_out.notify_one();
                return found;
            }
            schedule.handed_out.notified().await;
        }
    }

    /// Notes the end of a checkpoint's upload. If it was not `stored`, the next checkpoint is due at once.
    pub(crate) fn checkpoint_done(&self, task: &Task, stored: bool) {
        if !stored
            && let Some(schedule) = &self.schedule
            && let Some(before) = Instant::now().checked_sub(schedule.interval)
        {
            task.checkpoints().last = before;
        }
        self.lock().uploading = false;
        self.settled.notify_one();
    }

    /// Drops a shard whose lease is gone, at whatever stage it is.
    pub(crate) fn unwanted(&self, task: &Arc<Task>) {
        task.lose_lease();
        let mut state = self.lock();
        state.queue.retain(|queued| !Arc::ptr_eq(queued, task));
        state.parting.retain(|parting| !Arc::ptr_eq(parting, task));
        if let Some(index) = state.tasks.iter().position(|tracked| Arc::ptr_eq(&tracked.task, task)) {
            let tracked = state.tasks.remove(index);
            self.changed(&tracked.stage);
        }
    }

    /// Notes that this process can no longer compute.
    pub(crate) fn lose(&self, reason: &str) {
        self.lock().lost.get_or_insert_with(|| reason.to_owned());
        self.lost.notify_one();
    }

    /// Returns why this process can no longer compute, if so.
    pub(crate) fn lost(&self) -> Option<String> {
        self.lock().lost.clone()
    }

    /// Returns when this process can no longer compute.
    pub(crate) async fn is_lost(&self) {
        while self.lock().lost.is_none() {
            self.lost.notified().await;
        }
    }

    /// Wakes those who wait for a shard to leave `stage`: slots, if that was `Computed`, and whoever waits for the end.
    fn changed(&self, stage: &TaskStage) {
        if *stage == TaskStage::Computed {
            self.work.notify_all();
        }
        self.settled.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, TableState> {
        // Nothing panics while it holds the lock; if something did, the state is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TableState {
    fn find(&mut self, task: &Arc<Task>) -> Option<&mut TrackedTask> {
        self.tasks.iter_mut().find(|tracked| Arc::ptr_eq(&tracked.task, task))
    }

    /// Takes the next checkpoint to upload; from now on one is being uploaded.
    fn take_checkpoint(&mut self) -> Option<(Arc<Task>, ShardSnapshot)> {
        let running = self.tasks.iter().filter(|tracked| tracked.stage == TaskStage::Running);
        let mut candidates = self.parting.iter().chain(running.map(|tracked| &tracked.task));
        let found = candidates.find_map(|task| Some((task.clone(), task.checkpoints().newest.take()?)))?;
        self.parting.retain(|parting| !Arc::ptr_eq(parting, &found.0));
        self.uploading = true;
        Some(found)
    }
}

impl TrackedTask {
    /// Makes everything news again: a new session has been told nothing.
    fn forget_reports(&mut self) {
        self.reported = None;
        self.computed_reported = false;
    }

    fn report(&mut self, progress: bool) -> Option<TaskReport> {
        match &self.stage {
            TaskStage::Running if progress => self.progress(),
            TaskStage::Computed if !self.computed_reported => {
                self.computed_reported = true;
                let computed = || TaskReport::Computed { shard: self.task.shard.clone() };
                Some(self.result.clone().map_or_else(computed, TaskReport::Result))
            }
            TaskStage::Failed(fault) => {
                Some(TaskReport::Failed { shard: self.task.shard.clone(), fault: fault.clone() })
            }
            TaskStage::Queued | TaskStage::Running | TaskStage::Computed => None,
        }
    }

    /// Returns the shard's progress when that is news: it has begun, more blocks are done, or a good deal of a long one is.
    fn progress(&mut self) -> Option<TaskReport> {
        let stand = self.task.stand()?;
        let ShardStand { blocks_done, fraction, .. } = stand;
        let is_news = self.reported.is_none_or(|reported| {
            let further = fraction > reported.fraction && reported.at.elapsed() >= WITHIN_A_BLOCK;
            blocks_done > reported.blocks_done || further
        });
        if !is_news {
            return None;
        }
        self.reported = Some(ReportedProgress { at: Instant::now(), blocks_done, fraction });
        Some(TaskReport::Progress { shard: self.task.shard.clone(), stand })
    }
}

#[cfg(test)]
mod tests;
