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
//! What the coordinator is to be told follows from the stages ([`Board::news`]), so nothing queues up while it is away, and
//! a new session tells everything again. Deliberately absent: sockets and arithmetic.

use crate::compute::Watcher;
use nadgrid_proto::v1;
use nadgrid_proto::v1::session_request::Message;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// A shard to compute.
#[derive(Debug)]
pub struct Task {
    /// Which.
    pub shard: v1::Shard,
    /// The sweep's spec, TOML.
    pub spec: String,
    /// The job's name, for example `nads/lenet`.
    pub job: String,
    /// The files that it needs.
    pub inputs: Vec<v1::ShardInput>,
    cancelled: AtomicBool,
    blocks_done: AtomicU64,
}

impl Task {
    /// A task nobody has begun.
    pub fn new(shard: v1::Shard, spec: String, job: String, inputs: Vec<v1::ShardInput>) -> Self {
        Self { shard, spec, job, inputs, cancelled: AtomicBool::new(false), blocks_done: AtomicU64::new(0) }
    }

    /// Whether its result is not wanted any more; lanes ask between blocks, and between batches of training, uploads between attempts.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

impl Watcher for Task {
    fn wants(&self) -> bool {
        !self.is_cancelled()
    }

    fn block_done(&self) {
        self.blocks_done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Why a shard was not computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What the coordinator makes of it.
    pub kind: v1::FailureKind,
    /// In words.
    pub message: String,
}

impl Fault {
    /// A fault of this kind.
    pub fn new(kind: v1::FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
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
    /// Blocks that the coordinator knows to be done.
    told_blocks: u64,
    /// Whether it knows the stage `Computed`.
    told_computed: bool,
}

#[derive(Debug, Default)]
struct State {
    /// A few per lane, oldest first.
    held: Vec<Held>,
    queue: VecDeque<Arc<Task>>,
    closed: bool,
}

/// Everything held, and who waits for it to change.
#[derive(Debug)]
pub struct Board {
    state: Mutex<State>,
    work: Condvar,
    news: Notify,
    uploaded: Notify,
    /// Results that may wait for their upload before lanes pause: memory is bounded.
    most_waiting: usize,
}

impl Board {
    /// An empty board for this many lanes.
    pub fn new(lanes: u32) -> Self {
        Self {
            state: Mutex::default(),
            work: Condvar::new(),
            news: Notify::new(),
            uploaded: Notify::new(),
            most_waiting: lanes as usize + 2,
        }
    }

    /// Takes a shard on. One that is held already stays as it is, and is told of anew.
    pub fn assign(&self, task: Task) {
        let mut state = self.lock();
        if let Some(held) = state.held.iter_mut().find(|held| held.task.shard == task.shard) {
            (held.told_blocks, held.told_computed) = (0, false);
            self.news.notify_one();
        } else if !state.closed {
            let task = Arc::new(task);
            state.held.push(Held { task: task.clone(), stage: Stage::Queued, told_blocks: 0, told_computed: false });
            state.queue.push_back(task);
            self.work.notify_one();
        }
    }

    /// Drops a shard at whatever stage it is; false when it is not held.
    pub fn revoke(&self, shard: &v1::Shard) -> bool {
        let mut state = self.lock();
        let found = state.held.iter().position(|held| held.task.shard == *shard);
        if let Some(place) = found {
            let held = state.held.remove(place);
            held.task.cancel();
            state.queue.retain(|queued| !Arc::ptr_eq(queued, &held.task));
            self.changed(&held.stage);
        }
        found.is_some()
    }

    /// The next shard for a lane, as soon as there is one; `None` when the worker stops.
    pub fn next(&self) -> Option<Arc<Task>> {
        let waits = |state: &mut State| {
            let waiting = state.held.iter().filter(|held| held.stage == Stage::Computed).count();
            !state.closed && (state.queue.is_empty() || waiting >= self.most_waiting)
        };
        let mut state = self.work.wait_while(self.lock(), waits).unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return None;
        }
        let task = state.queue.pop_front()?;
        if let Some(held) = state.find(&task) {
            held.stage = Stage::Running;
        }
        Some(task)
    }

    /// A lane is through with a shard; false when its result is not wanted any more.
    pub fn computed(&self, task: &Arc<Task>) -> bool {
        let mut state = self.lock();
        let Some(held) = state.find(task) else { return false };
        held.stage = Stage::Computed;
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
        state.held.retain(|held| !Arc::ptr_eq(&held.task, task));
        self.changed(&Stage::Computed);
    }

    /// The shards that a new session names. What was told in an earlier one is told again.
    pub fn held(&self) -> Vec<v1::Shard> {
        let mut state = self.lock();
        for held in &mut state.held {
            (held.told_blocks, held.told_computed) = (0, false);
        }
        state.held.iter().map(|held| held.task.shard.clone()).collect()
    }

    /// What changed since the last call: stages, and progress too if `progress`.
    pub fn news(&self, progress: bool) -> Vec<Message> {
        let mut state = self.lock();
        let news: Vec<Message> = state.held.iter_mut().filter_map(|held| held.news(progress)).collect();
        state.held.retain(|held| !matches!(held.stage, Stage::Failed(_)));
        news
    }

    /// Returns when a stage has changed that the coordinator waits to hear of.
    pub async fn has_news(&self) {
        self.news.notified().await;
    }

    /// Takes no more, drops what is queued, and has running shards end with their block. Results still go out.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.queue.clear();
        state.held.retain(|held| {
            let stays = held.stage == Stage::Computed;
            if !stays {
                held.task.cancel();
            }
            stays
        });
        self.work.notify_all();
        self.uploaded.notify_one();
    }

    /// Returns when no result waits for its upload.
    pub async fn all_uploaded(&self) {
        while self.lock().held.iter().any(|held| held.stage == Stage::Computed) {
            self.uploaded.notified().await;
        }
    }

    /// A shard has left `stage`; if that was `Computed`, lanes may go on and whoever waits for uploads look again.
    fn changed(&self, stage: &Stage) {
        if *stage == Stage::Computed {
            self.work.notify_all();
            self.uploaded.notify_one();
        }
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

impl Held {
    fn news(&mut self, progress: bool) -> Option<Message> {
        let shard = || Some(self.task.shard.clone());
        match &self.stage {
            Stage::Running => {
                let blocks_done = self.task.blocks_done.load(Ordering::Relaxed);
                if !progress || blocks_done <= self.told_blocks {
                    return None;
                }
                self.told_blocks = blocks_done;
                Some(Message::Progress(v1::Progress { shard: shard(), blocks_done }))
            }
            Stage::Computed if !self.told_computed => {
                self.told_computed = true;
                Some(Message::Computed(v1::Computed { shard: shard() }))
            }
            Stage::Failed(fault) => {
                let (kind, message) = (fault.kind.into(), fault.message.clone());
                Some(Message::Failure(v1::Failure { shard: shard(), kind, message }))
            }
            Stage::Queued | Stage::Computed => None,
        }
    }
}

#[cfg(test)]
mod tests;
