//! The event loop: the one task that owns the state, its journal and the ways to whoever is to be told.
//!
//! What it decides is in core's [`Shell`], which the simulation drives too. Here is what awaits: it takes all commands that wait,
//! has the shell take them in, appends the records of the batch to the journal in one go, and then does the outputs.
//!
//! ```text
//!  CoordinatorHandle ──commands──▶ take ──▶ Shell ──batch──▶ Journal ──▶ Shell ──outputs──▶ act ──▶ workers, callers
//!         │                          ▲                                                      │
//!         │                          └───────────────── merges, reductions ◀────────────────┘
//!         └──reads──▶ answered from what is durable
//! ```
//!
//! Handlers reach it through a [`CoordinatorHandle`]; what takes long is spawned and comes back as a command. Questions that change
//! nothing have a queue of their own and are answered from what is durable, also while the journal cannot write ([`stall`]). The
//! price of one task: all sweeps share one core, and one write to the journal at a time.

mod act;
mod durable;
mod handle;
mod observe;
mod peers;
mod pool;
mod stall;
#[cfg(test)]
pub(crate) mod tests;
mod timelines;
mod write;

pub(crate) use durable::{Durable, ToldSweep};
pub(crate) use handle::{Closed, CoordinatorHandle, SessionNews};
pub(crate) use stall::JournalWait;
pub(crate) use timelines::{Fate, LeaseTimeline, ShardTimeline, Timelines, sweep_context};

use crate::artifacts::Store;
use crate::journal::{Journal, JournalError, JournalIdentity};
use crate::metrics::ShardMeters;
use durable::{Pending, Views};
use handle::{LoopCommand, LoopRead};
use nadgrid_core::ids::Time;
use nadgrid_core::scheduler::{Event, Scheduler};
use nadgrid_core::shell::{CompactionBounds, Shell};
use nadgrid_telemetry::Tracer;
use observe::Onlookers;
use peers::CoordinatorPeers;
use pool::MergePool;
use stall::{Answering, JournalWatch};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Commands that may wait before senders do, and that one write to the journal takes.
const QUEUE: usize = 4096;
/// Questions that may wait before who asks does, and that are answered between two writes.
const READS: usize = 256;
/// Watchers hear of a change at most this often, except of the end.
const PUBLISH_EVERY: Duration = Duration::from_millis(150);
/// Watchers hear of a sweep at least this often: the time that is left passes even where nothing happens.
const REFRESH_EVERY: Duration = Duration::from_secs(2);

/// Wall-clock milliseconds that never go back: the system's clock once, then a monotonic one.
struct Clock {
    start: u64,
    since: Instant,
}

impl Clock {
    fn new() -> Self {
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        Self { start, since: Instant::now() }
    }

    fn now(&self) -> Time {
        Time(self.start + self.since.elapsed().as_millis() as u64)
    }
}

/// The state behind the handle.
pub(crate) struct EventLoop<J> {
    shell: Shell<CoordinatorPeers>,
    journal: J,
    /// The number of batches that were ever appended.
    batches: Arc<AtomicU64>,
    store: Store,
    clock: Clock,
    commands: mpsc::Receiver<LoopCommand>,
    reads: mpsc::Receiver<LoopRead>,
    /// The way for what is spawned. Weak, so that the loop ends when all handles are gone.
    back: mpsc::WeakSender<LoopCommand>,
    pool: MergePool,
    onlookers: Onlookers,
    watch: JournalWatch,
}

impl<J: Journal> EventLoop<J> {
    /// Replays the journal; the loop runs once [`EventLoop::run`] is awaited.
    pub(crate) async fn open(
        mut scheduler: Scheduler,
        mut journal: J,
        store: Store,
        reducers: usize,
        tracer: Tracer,
    ) -> Result<(Self, CoordinatorHandle), JournalError> {
        let replayed = journal.replay(&mut |record| scheduler.replay(record)).await?;
        if replayed.records > 0 {
            info!(records = replayed.records, batches = replayed.batches, "journal replayed");
        }
        let JournalIdentity { id, batches } = journal.identity().await?;
        let batches = Arc::new(AtomicU64::new(batches));
        let (sender, commands) = mpsc::channel(QUEUE);
        let (asking, reads) = mpsc::channel(READS);
        let (told, wait) = watch::channel(None);
        let watch = JournalWatch { journal: journal.name().into(), faults: journal.faults(), told };
        let onlookers = Onlookers {
            views: Views::of(&scheduler),
            timelines: Timelines::new(tracer.clone()),
            meters: ShardMeters::default(),
            tracer,
        };
        let task = Self {
            shell: Shell::new(scheduler, replayed.records, CompactionBounds::default()),
            journal,
            batches: batches.clone(),
            store,
            clock: Clock::new(),
            commands,
            reads,
            back: sender.downgrade(),
            pool: MergePool::new(reducers),
            onlookers,
            watch,
        };
        let handle = CoordinatorHandle { commands: sender, reads: asking, wait, journal_id: Arc::from(id), batches };
        Ok((task, handle))
    }

    /// Returns what to call the journal in messages.
    pub(crate) fn journal_name(&self) -> &str {
        self.journal.name()
    }

    /// Returns whether nothing was ever journalled.
    pub(crate) fn is_new(&self) -> bool {
        self.shell.journalled() == 0
    }

    /// Runs until `stop` or until all handles are gone.
    ///
    /// # Errors
    /// When the journal fails: nothing may be acknowledged any more, so the coordinator ends.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), JournalError> {
        self.shell.resume(self.clock.now());
        self.perform().await?;
        let mut publish = tokio::time::interval(PUBLISH_EVERY);
        publish.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut refresh = tokio::time::interval(REFRESH_EVERY);
        refresh.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let wait = self.shell.next_deadline().map(|at| at.0.saturating_sub(self.clock.now().0).max(1));
            let deadline = tokio::time::sleep(Duration::from_millis(wait.unwrap_or(3_600_000)));
            let views = &mut self.onlookers.views;
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                command = self.commands.recv() => match command {
                    None => return Ok(()),
                    Some(command) => self.take(command).await?,
                },
                Some(read) = self.reads.recv() => self.answer_read(read),
                _ = publish.tick(), if views.are_stale() => views.publish(self.shell.scheduler()),
                _ = refresh.tick(), if views.are_watched() => views.watched_changed(),
                () = deadline => {
                    self.shell.event(Event::Tick, self.clock.now(), &mut self.onlookers);
                    self.perform().await?;
                }
            }
            self.answer_reads();
        }
    }

    /// Answers the questions that wait: all of the state is durable now.
    fn answer_reads(&mut self) {
        for _ in 0..READS {
            let Ok(read) = self.reads.try_recv() else { return };
            self.answer_read(read);
        }
    }

    fn answer_read(&mut self, read: LoopRead) {
        let now = self.clock.now();
        let Self { shell, reads, onlookers, clock, watch, .. } = self;
        let mut answering = Answering { reads, scheduler: shell.scheduler(), onlookers, clock, watch };
        answering.answer(read, &Pending::default(), None, now);
    }

    /// Takes a command and all that wait behind it: one write to the journal for all of them.
    async fn take(&mut self, first: LoopCommand) -> Result<(), JournalError> {
        // Whoever has more to say now gets to say it, so that one write does for all of it.
        tokio::task::yield_now().await;
        let mut next = Some(first);
        let mut budget = QUEUE;
        while let Some(command) = next {
            self.take_in(command);
            budget -= 1;
            next = if budget > 0 { self.commands.try_recv().ok() } else { None };
        }
        self.perform().await
    }

    fn take_in(&mut self, command: LoopCommand) {
        let now = self.clock.now();
        let Self { shell, onlookers, .. } = self;
        match command {
            LoopCommand::Event(event) => shell.event(event, now, onlookers),
            LoopCommand::Ask(event, caller) => shell.ask(event, caller, now, onlookers),
            LoopCommand::Order(event, caller) => shell.order(event, caller, now, onlookers),
            LoopCommand::Question(question) => shell.question(question),
            LoopCommand::Steps { worker, shard, steps } => shell.steps(&worker, &shard, steps, onlookers),
            LoopCommand::Verify { claims, checks, answer } => shell.verify(claims, checks, answer, now, onlookers),
            LoopCommand::Attach { joining, session } => {
                let attached = shell.attach(*joining, now, onlookers);
                session.send(attached.session).ok();
            }
            LoopCommand::Detach { worker, session, drained } => shell.detach(worker, session, drained, now, onlookers),
            LoopCommand::Message { worker, session, message } => {
                shell.message(worker, session, message, now, onlookers);
            }
        }
    }

    /// Durable first, then everything else.
    async fn perform(&mut self) -> Result<(), JournalError> {
        let batch = self.shell.batch();
        self.append(batch.records()).await?;
        self.shell.written(batch, &mut self.onlookers);
        while let Some(output) = self.shell.next_output() {
            self.act(output);
        }
        if self.shell.is_compaction_due() {
            self.compact().await;
        }
        Ok(())
    }
}
