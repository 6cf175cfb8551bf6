//! The desk: the one task that owns the scheduler, its journal and who is to be told.
//!
//! It takes all commands that wait, applies them, journals their records in one go, and then acts. Handlers
//! reach it through a [`Desk`] handle; what takes long is spawned and comes back as a command.

mod act;
mod handle;
mod observe;
mod pool;
mod sessions;
mod timeline;

pub(crate) use handle::{Closed, Desk};
pub(crate) use timeline::{Fate, LeaseTimeline, ShardTimeline, Timelines, sweep_context};

use crate::artifacts::Store;
use crate::journal::{Journal, JournalError};
use handle::Command;
use metrics::{counter, histogram};
use nadgrid_core::ids::{SweepId, Time, WorkerId};
use nadgrid_core::scheduler::{Answer, Check, Effects, Event, RequestId, Scheduler, ShardRef};
use nadgrid_proto::v1;
use nadgrid_telemetry::Tracer;
use pool::Pool;
use sessions::Session;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Commands that may wait before senders do, and that one write to the journal takes.
const QUEUE: usize = 4096;
/// Watchers hear of a change at most this often, except of the end.
const PUBLISH_EVERY: Duration = Duration::from_millis(150);

/// The journal is replaced by a snapshot when it holds this many records more than the snapshot would, and this many times
/// as many: compacting then costs a part of what appending has cost.
const COMPACT_BEYOND: (u64, u64) = (50_000, 2);

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

/// Who waits for the answer to a request.
enum Asker {
    /// A handler.
    Call(oneshot::Sender<Answer>),
    /// A worker that has handed a result in over its session.
    Session(WorkerId, Box<ShardRef>),
}

/// The state behind the handle.
pub(crate) struct DeskTask<J> {
    scheduler: Scheduler,
    journal: J,
    /// Records in the journal, and how many of them are to be there before compacting is thought of again.
    journalled: u64,
    compact_at: u64,
    store: Store,
    clock: Clock,
    commands: mpsc::Receiver<Command>,
    /// For what is spawned. Weak, so that the desk ends when all handles are gone.
    back: mpsc::WeakSender<Command>,
    requests: u64,
    askers: HashMap<RequestId, Asker>,
    verifications: HashMap<RequestId, mpsc::UnboundedSender<Check>>,
    sessions: HashMap<WorkerId, Session>,
    session_count: u64,
    watchers: HashMap<SweepId, watch::Sender<Arc<v1::Sweep>>>,
    changed: BTreeSet<SweepId>,
    pool: Pool,
    timelines: Timelines,
    tracer: Tracer,
}

impl<J: Journal> DeskTask<J> {
    /// Replays the journal; the desk runs once [`DeskTask::run`] is awaited.
    pub(crate) async fn open(
        mut scheduler: Scheduler,
        mut journal: J,
        store: Store,
        reducers: usize,
        tracer: Tracer,
    ) -> Result<(Self, Desk), JournalError> {
        let replayed = journal.replay(&mut |record| scheduler.replay(record)).await?;
        if replayed.records > 0 {
            info!(records = replayed.records, batches = replayed.batches, "journal replayed");
        }
        let (sender, commands) = mpsc::channel(QUEUE);
        let task = Self {
            scheduler,
            journal,
            journalled: replayed.records,
            compact_at: 0,
            store,
            clock: Clock::new(),
            commands,
            back: sender.downgrade(),
            requests: 0,
            askers: HashMap::new(),
            verifications: HashMap::new(),
            sessions: HashMap::new(),
            session_count: 0,
            watchers: HashMap::new(),
            changed: BTreeSet::new(),
            pool: Pool::new(reducers),
            timelines: Timelines::new(tracer.clone()),
            tracer,
        };
        Ok((task, Desk(sender)))
    }

    /// Runs until `stop` or until all handles are gone.
    ///
    /// # Errors
    /// When the journal fails: nothing may be acknowledged any more, so the coordinator ends.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), JournalError> {
        let effects = self.scheduler.resume(self.clock.now());
        self.perform(effects).await?;
        let mut publish = tokio::time::interval(PUBLISH_EVERY);
        publish.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let wait = self.scheduler.next_deadline().map(|at| at.0.saturating_sub(self.clock.now().0).max(1));
            let deadline = tokio::time::sleep(Duration::from_millis(wait.unwrap_or(3_600_000)));
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                command = self.commands.recv() => match command {
                    None => return Ok(()),
                    Some(command) => self.take(command).await?,
                },
                _ = publish.tick(), if !self.changed.is_empty() => self.publish(),
                () = deadline => {
                    let effects = self.scheduler.handle(Event::Tick, self.clock.now());
                    self.perform(effects).await?;
                }
            }
        }
    }

    /// Takes a command and all that wait behind it: one write to the journal for all of them. Questions are answered
    /// after it, so that nobody sees what could still be lost.
    async fn take(&mut self, first: Command) -> Result<(), JournalError> {
        let mut effects = Effects::default();
        let mut questions = Vec::new();
        let mut next = Some(first);
        let mut budget = QUEUE;
        while let Some(command) = next {
            match command {
                Command::Query(_) | Command::Timelines(_) | Command::Follow(..) => questions.push(command),
                change => self.apply(change, &mut effects),
            }
            budget -= 1;
            next = if budget > 0 { self.commands.try_recv().ok() } else { None };
        }
        self.perform(effects).await?;
        let mut none = Effects::default();
        questions.into_iter().for_each(|question| self.apply(question, &mut none));
        Ok(())
    }

    fn apply(&mut self, command: Command, effects: &mut Effects) {
        let now = self.clock.now();
        let event = match command {
            Command::Event(event) => Some(event),
            Command::Ask(event, answer) => {
                let request = self.request(Asker::Call(answer));
                Some(event(request))
            }
            Command::Query(query) => return query(&self.scheduler, now),
            Command::Timelines(query) => return query(&self.timelines),
            Command::Told { worker, shard, steps } => {
                if let Some(shard) = self.shard(&shard) {
                    self.timelines.told(&shard, &worker, steps);
                }
                return;
            }
            Command::Follow(sweep, reply) => return drop(reply.send(self.watch(sweep))),
            Command::Verify { claims, checks, answer } => {
                let request = self.request(Asker::Call(answer));
                self.verifications.insert(request, checks);
                self.end_when_closed(request);
                Some(Event::Verify { request, claims })
            }
            Command::Attach { worker, profile, held, outbox, session } => {
                Some(self.attach(worker, *profile, &held, outbox, session))
            }
            Command::Detach { worker, session, drained } => self.detach(worker, session, drained),
            Command::Message { worker, session, message } => self.message(worker, session, message),
        };
        if let Some(event) = event {
            self.scheduler.handle_into(event, now, effects);
        }
    }

    fn request(&mut self, asker: Asker) -> RequestId {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.askers.insert(request, asker);
        request
    }

    /// Ends a verification when nobody waits for it any more.
    fn end_when_closed(&self, request: RequestId) {
        let Some(checks) = self.verifications.get(&request).cloned() else { return };
        let back = self.back.clone();
        tokio::spawn(async move {
            checks.closed().await;
            if let Some(desk) = back.upgrade() {
                drop(desk.send(Command::Event(Event::EndVerify { verification: request })).await);
            }
        });
    }

    fn watch(&mut self, sweep: SweepId) -> Option<watch::Receiver<Arc<v1::Sweep>>> {
        let view = Arc::new(v1::Sweep::from(&self.scheduler.sweep(&sweep)?));
        if !self.scheduler.is_open(&sweep) {
            // Nothing will change: nothing is kept.
            return Some(watch::Sender::new(view).subscribe());
        }
        let sender = self.watchers.entry(sweep).or_insert_with(|| watch::Sender::new(view.clone()));
        sender.send_replace(view);
        Some(sender.subscribe())
    }

    /// Durable first, then everything else.
    async fn perform(&mut self, effects: Effects) -> Result<(), JournalError> {
        if !effects.records.is_empty() {
            let began = Instant::now();
            self.journal.append(&effects.records).await?;
            histogram!("nadgrid_journal_append_seconds").record(began.elapsed().as_secs_f64());
            counter!("nadgrid_journal_records_total").increment(effects.records.len() as u64);
        }
        self.journalled += effects.records.len() as u64;
        effects.records.iter().for_each(|record| self.observe(record));
        for action in effects.actions {
            self.act(action);
        }
        if self.journalled > self.compact_at {
            self.compact().await;
        }
        Ok(())
    }

    /// Replaces the journal by a snapshot, if that is much shorter. Where that fails the journal stays as it was.
    async fn compact(&mut self) {
        let (more, times) = COMPACT_BEYOND;
        let least = self.scheduler.snapshot_len();
        self.compact_at = (least + more).max(least * times);
        if self.journalled <= self.compact_at {
            return;
        }
        let (before, began) = (self.journalled, Instant::now());
        match self.journal.compact(&mut self.scheduler.snapshot()).await {
            Ok(kept) => {
                self.journalled = kept.records;
                let (records, seconds) = (kept.records, began.elapsed().as_secs_f64());
                info!(before, records, seconds, "journal compacted");
            }
            Err(error) => {
                self.compact_at = before + more;
                warn!(%error, "the journal could not be compacted");
            }
        }
    }

    fn publish(&mut self) {
        for id in std::mem::take(&mut self.changed) {
            let Some(sender) = self.watchers.get(&id) else { continue };
            let Some(view) = self.scheduler.sweep(&id) else { continue };
            sender.send_replace(Arc::new(v1::Sweep::from(&view)));
            if sender.receiver_count() == 0 || view.state.has_ended() {
                self.watchers.remove(&id);
            }
        }
    }
}
