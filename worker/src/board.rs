//! What this worker holds: the one place where session, lanes and uploads meet.
//!
//! A held shard is at one of these stages; dropping it (revoked, stopping) is possible at each:
//!
//! ```text
//!  assign        next           computed          uploaded
//!  ──────▶ queued ───▶ running ────────▶ computed ────────▶ (gone)
//!                         │ failed                │ failed
//!                         └──────▶ failed ◀───────┘   told ▶ (gone)
//! ```
//!
//! A small result is told to the coordinator in the session; what others yield is uploaded beside it.
//!
//! What the coordinator is to be told follows from the stages ([`Board::news`]), so nothing queues up while it is away, and
//! a new session tells everything again. Of a running shard's checkpoints only the newest is kept for its upload.
//!
//! A worker that drains begins nothing more and ends its running shards; one that is closed drops these too. Deliberately
//! absent: sockets and arithmetic.

mod task;

use crate::compute::Snapshot;
use nadgrid_core::text::clean;
use nadgrid_proto::v1;
use nadgrid_proto::v1::session_request::Message;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
pub use task::Task;
use task::{CheckpointPace, TaskStanding};
use tokio::sync::Notify;

/// Shortest time between two reports of progress within one block.
const WITHIN_A_BLOCK: Duration = Duration::from_secs(2);

/// Characters of a fault's message.
const MAX_MESSAGE: usize = 4_096;

/// What is behind a fault, where the worker itself has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// There was no memory, for now.
    OutOfMemory,
    /// This process cannot compute on its device any more.
    DeviceLost,
    /// Anything else.
    Other,
}

/// Why a shard was not computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What the coordinator makes of it.
    pub kind: v1::FailureKind,
    /// In words.
    pub message: String,
    /// What is behind it.
    pub cause: Cause,
}

impl Fault {
    /// A fault of this kind. Its message may repeat what a spec has: it is cleaned.
    pub fn new(kind: v1::FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: clean(&message.into(), MAX_MESSAGE), cause: Cause::Other }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Queued,
    Running,
    Computed,
    Failed(Fault),
}

#[derive(Debug)]
struct Held {
    task: Arc<Task>,
    stage: Stage,
    /// What the coordinator knows of how far it is, and since when.
    told: Option<ToldProgress>,
    /// Whether it knows the stage `Computed`.
    told_computed: bool,
    /// What it yielded, where that is told in the session.
    result: Option<v1::ShardResult>,
    /// Assigned once more before its result was acknowledged: to be computed again after that, for a comparison perhaps.
    again: Option<Task>,
}

/// How far the coordinator knows a shard to be.
#[derive(Clone, Copy, Debug)]
struct ToldProgress {
    at: Instant,
    blocks_done: u64,
    fraction: f64,
}

#[derive(Debug, Default)]
struct State {
    /// A few per lane, oldest first.
    held: Vec<Held>,
    queue: VecDeque<Arc<Task>>,
    draining: bool,
    closed: bool,
    /// Given back, with a last checkpoint that is still to go out.
    parting: Vec<Arc<Task>>,
    /// Whether a checkpoint is on its way.
    uploading: bool,
    /// Why nothing can be computed any more.
    lost: Option<String>,
}

/// Everything held, and who waits for it to change.
#[derive(Debug)]
pub struct Board {
    state: Mutex<State>,
    work: Condvar,
    news: Notify,
    /// A shard is done with in some way, or a checkpoint is.
    settled: Notify,
    lost: Notify,
    pace: Option<Arc<CheckpointPace>>,
    /// Results that may wait for their upload before lanes pause: memory is bounded.
    most_waiting: usize,
    /// Shards that are held, at whatever stage. A coordinator gives out far fewer.
    most_held: usize,
}

impl Board {
    /// An empty board for this many lanes, whose shards hand out no checkpoints.
    pub fn new(lanes: u32) -> Self {
        Self {
            state: Mutex::default(),
            work: Condvar::new(),
            news: Notify::new(),
            settled: Notify::new(),
            lost: Notify::new(),
            pace: None,
            most_waiting: lanes as usize + 2,
            most_held: 8 * lanes as usize + 16,
        }
    }

    /// Shards hand out checkpoints, at most so often while the worker does not drain.
    pub fn checkpointing(mut self, interval: Duration) -> Self {
        self.pace =
            Some(Arc::new(CheckpointPace { interval, hurried: AtomicBool::new(false), handed_out: Notify::new() }));
        self
    }

    /// Takes a shard on. One that is held already stays as it is, and is told of anew.
    pub fn assign(&self, mut task: Task) {
        let mut state = self.lock();
        if let Some(held) = state.held.iter_mut().find(|held| held.task.shard == task.shard) {
            (held.told, held.told_computed) = (None, false);
            if held.stage == Stage::Computed {
                task.pace.clone_from(&self.pace);
                held.again = Some(task);
            }
            self.news.notify_one();
        } else if !state.closed && !state.draining {
            task.pace.clone_from(&self.pace);
            self.queue(&mut state, task);
        }
    }

    /// Whether it holds as many shards as it takes.
    pub fn is_full(&self) -> bool {
        self.lock().held.len() >= self.most_held
    }

    fn queue(&self, state: &mut State, task: Task) {
        let task = Arc::new(task);
        let (stage, result, again) = (Stage::Queued, None, None);
        state.held.push(Held { task: task.clone(), stage, told: None, told_computed: false, result, again });
        state.queue.push_back(task);
        self.work.notify_one();
    }

    /// A result is acknowledged; what was assigned once more meanwhile is computed again.
    fn settle(&self, state: &mut State, place: usize) {
        let held = state.held.remove(place);
        if let Some(again) = held.again.filter(|_| !state.closed && !state.draining) {
            self.queue(state, again);
        }
        self.changed(&Stage::Computed);
    }

    /// Drops a shard at whatever stage it is; false when it is not held.
    pub fn revoke(&self, shard: &v1::Shard) -> bool {
        let mut state = self.lock();
        let found = state.held.iter().position(|held| held.task.shard == *shard);
        if let Some(place) = found {
            let held = state.held.remove(place);
            held.task.lose_lease();
            state.queue.retain(|queued| !Arc::ptr_eq(queued, &held.task));
            self.changed(&held.stage);
        }
        found.is_some()
    }

    /// The next shard for a lane, as soon as there is one; `None` when the worker stops.
    pub fn next(&self) -> Option<Arc<Task>> {
        let waits = |state: &mut State| {
            let waiting = state.held.iter().filter(|held| held.stage == Stage::Computed).count();
            !state.closed && (state.draining || state.queue.is_empty() || waiting >= self.most_waiting)
        };
        let mut state = self.work.wait_while(self.lock(), waits).unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return None;
        }
        let task = state.queue.pop_front()?;
        if let Some(held) = state.find(&task) {
            held.stage = Stage::Running;
        }
        task.checkpoints().last = Instant::now();
        Some(task)
    }

    /// A lane is through with a shard; false when its result is not wanted any more. A result given here is told in the session,
    /// else it is uploaded.
    pub fn computed(&self, task: &Arc<Task>, result: Option<v1::ShardResult>) -> bool {
        let mut state = self.lock();
        let Some(held) = state.find(task) else { return false };
        (held.stage, held.result) = (Stage::Computed, result);
        self.news.notify_one();
        true
    }

    /// A shard failed: the coordinator is to be told.
    pub fn failed(&self, task: &Arc<Task>, fault: Fault) {
        let mut state = self.lock();
        if let Some(held) = state.find(task) {
            let before = std::mem::replace(&mut held.stage, Stage::Failed(fault));
            self.changed(&before);
            self.news.notify_one();
        }
    }

    /// The coordinator has the result, or does not want it.
    pub fn uploaded(&self, task: &Arc<Task>) {
        let mut state = self.lock();
        if let Some(place) = state.held.iter().position(|held| Arc::ptr_eq(&held.task, task)) {
            self.settle(&mut state, place);
        }
    }

    /// The coordinator has answered a result that it was told in the session.
    pub fn answered(&self, answer: &v1::Answer) {
        let mut state = self.lock();
        let of = |held: &Held| held.result.is_some() && answer.shard.as_ref() == Some(&held.task.shard);
        let Some(place) = state.held.iter().position(of) else { return };
        if answer.verdict() == v1::Verdict::Refused {
            let fault = Fault::new(v1::FailureKind::Task, format!("the result was refused: {}", answer.message));
            state.held[place].stage = Stage::Failed(fault);
            self.news.notify_one();
            self.changed(&Stage::Computed);
        } else {
            self.settle(&mut state, place);
        }
    }

    /// The shards that a new session names. What was told in an earlier one is told again.
    pub fn held(&self) -> Vec<v1::Shard> {
        let mut state = self.lock();
        for held in &mut state.held {
            (held.told, held.told_computed) = (None, false);
        }
        state.held.iter().map(|held| held.task.shard.clone()).collect()
    }

    /// What changed since the last call: stages, and progress too if `progress`.
    pub fn news(&self, progress: bool) -> Vec<Message> {
        let mut state = self.lock();
        let news: Vec<Message> = state.held.iter_mut().filter_map(|held| held.news(progress)).collect();
        state.held.retain(|held| !matches!(held.stage, Stage::Failed(_)));
        self.settled.notify_one();
        news
    }

    /// Returns when a stage has changed that the coordinator waits to hear of.
    pub async fn has_news(&self) {
        self.news.notified().await;
    }

    /// Takes no more and begins nothing more. Running shards go on, with a checkpoint after every epoch.
    pub fn drain(&self) {
        self.lock().draining = true;
        if let Some(pace) = &self.pace {
            pace.hurried.store(true, Ordering::Relaxed);
        }
    }

    /// Returns when nothing is computed, to be told or uploaded any more.
    pub async fn idle(&self) {
        while self.lock().held.iter().any(|held| held.stage != Stage::Queued) {
            self.settled.notified().await;
        }
    }

    /// Takes no more, drops what is queued, and has running shards end with their block or batch. Results still go out, and after
    /// draining the last checkpoint of every shard that was running.
    pub fn close(&self) {
        let mut state = self.lock();
        let state = &mut *state;
        state.closed = true;
        state.queue.clear();
        let gone = state.held.extract_if(.., |held| held.stage != Stage::Computed);
        for Held { task, stage, .. } in gone {
            task.cancel();
            if state.draining && stage == Stage::Running && task.checkpoints().newest.is_some() {
                state.parting.push(task);
            }
        }
        self.work.notify_all();
        self.settled.notify_one();
        if let Some(pace) = &self.pace {
            pace.handed_out.notify_one();
        }
    }

    /// Returns when neither a result nor a last checkpoint waits for its upload.
    pub async fn all_uploaded(&self) {
        let waits = |state: &State| {
            let results = state.held.iter().any(|held| held.stage == Stage::Computed);
            results || !state.parting.is_empty() || (state.draining && state.uploading)
        };
        while waits(&self.lock()) {
            self.settled.notified().await;
        }
    }

    /// The newest checkpoint of a shard that is wanted, as soon as there is one. [`Board::checkpoint_done`] is to follow.
    pub async fn next_checkpoint(&self) -> (Arc<Task>, Snapshot) {
        let Some(pace) = &self.pace else { return std::future::pending().await };
        loop {
            if let Some(found) = self.lock().take_checkpoint() {
                // There may be others.
                pace.handed_out.notify_one();
                return found;
            }
            pace.handed_out.notified().await;
        }
    }

    /// A checkpoint was brought home; if it was not, the next is due at once.
    pub fn checkpoint_done(&self, task: &Task, brought: bool) {
        if let (false, Some(pace)) = (brought, &self.pace)
            && let Some(before) = Instant::now().checked_sub(pace.interval)
        {
            task.checkpoints().last = before;
        }
        self.lock().uploading = false;
        self.settled.notify_one();
    }

    /// The lease of a shard is gone: it is dropped at whatever stage it is.
    pub fn unwanted(&self, task: &Arc<Task>) {
        task.lose_lease();
        let mut state = self.lock();
        state.queue.retain(|queued| !Arc::ptr_eq(queued, task));
        state.parting.retain(|parting| !Arc::ptr_eq(parting, task));
        if let Some(place) = state.held.iter().position(|held| Arc::ptr_eq(&held.task, task)) {
            let held = state.held.remove(place);
            self.changed(&held.stage);
        }
    }

    /// This process cannot compute any more.
    pub fn lose(&self, reason: &str) {
        self.lock().lost.get_or_insert_with(|| reason.to_owned());
        self.lost.notify_one();
    }

    /// Why this process cannot compute any more, if so.
    pub fn lost(&self) -> Option<String> {
        self.lock().lost.clone()
    }

    /// Returns when this process cannot compute any more.
    pub async fn is_lost(&self) {
        while self.lock().lost.is_none() {
            self.lost.notified().await;
        }
    }

    /// A shard has left `stage`; if that was `Computed`, lanes may go on. Whoever waits for the end looks again.
    fn changed(&self, stage: &Stage) {
        if *stage == Stage::Computed {
            self.work.notify_all();
        }
        self.settled.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; if something did, the state is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find(&mut self, task: &Arc<Task>) -> Option<&mut Held> {
        self.held.iter_mut().find(|held| Arc::ptr_eq(&held.task, task))
    }
}

impl State {
    /// The next checkpoint to bring home; from now on one is on its way.
    fn take_checkpoint(&mut self) -> Option<(Arc<Task>, Snapshot)> {
        let running = self.held.iter().filter(|held| held.stage == Stage::Running).map(|held| &held.task);
        let newest = |task: &Arc<Task>| Some((task.clone(), task.checkpoints().newest.take()?));
        let found = self.parting.iter().chain(running).find_map(newest)?;
        self.parting.retain(|parting| !Arc::ptr_eq(parting, &found.0));
        self.uploading = true;
        Some(found)
    }
}

impl Held {
    fn news(&mut self, progress: bool) -> Option<Message> {
        if self.stage == Stage::Running {
            return if progress { self.headway().map(Message::Progress) } else { None };
        }
        let shard = || Some(self.task.shard.clone());
        match &self.stage {
            Stage::Computed if !self.told_computed => {
                self.told_computed = true;
                let computed = || Message::Computed(v1::Computed { shard: shard() });
                Some(self.result.clone().map_or_else(computed, Message::Result))
            }
            Stage::Failed(fault) => {
                let (kind, message) = (fault.kind.into(), fault.message.clone());
                Some(Message::Failure(v1::Failure { shard: shard(), kind, message }))
            }
            Stage::Queued | Stage::Running | Stage::Computed => None,
        }
    }

    /// How far it is, when that is news: it has begun, more blocks are done, or a good deal of a long one is.
    fn headway(&mut self) -> Option<v1::Progress> {
        let TaskStanding { begin_seconds, blocks_done, fraction, seconds, .. } = *self.task.standing();
        let begin_seconds = begin_seconds?;
        let is_news = self.told.is_none_or(|told| {
            let further = fraction > told.fraction && told.at.elapsed() >= WITHIN_A_BLOCK;
            blocks_done > told.blocks_done || further
        });
        if !is_news {
            return None;
        }
        self.told = Some(ToldProgress { at: Instant::now(), blocks_done, fraction });
        Some(v1::Progress { shard: Some(self.task.shard.clone()), blocks_done, seconds, begin_seconds, fraction })
    }
}

#[cfg(test)]
mod tests;
