//! The desk: the one task that owns the scheduler, its journal and who is to be told.
//!
//! It takes all commands that wait, applies them, journals their records in one go, and then acts. Handlers
//! reach it through a [`Desk`] handle; what takes long is spawned and comes back as a command. Questions that change nothing have
//! a queue of their own and are answered from what is durable, also while the journal cannot write ([`stall`]).

mod act;
mod durable;
mod handle;
mod observe;
mod pool;
mod sessions;
mod stall;
#[cfg(test)]
pub(crate) mod tests;
mod timeline;

pub(crate) use durable::{Durable, ToldSweep};
pub(crate) use handle::{Closed, Desk};
pub(crate) use stall::JournalWait;
pub(crate) use timeline::{Fate, LeaseTimeline, ShardTimeline, Timelines, sweep_context};

use crate::artifacts::Store;
use crate::journal::{Journal, JournalError, JournalIdentity, Replayed};
use crate::metrics::ShardMeters;
use durable::{Pending, Views};
use handle::{Command, Read};
use metrics::{counter, histogram};
use nadgrid_core::ids::{Time, WorkerId};
use nadgrid_core::scheduler::{Answer, Check, Effects, Event, Record, RequestId, Scheduler, ShardRef};
use nadgrid_telemetry::Tracer;
use pool::Pool;
use sessions::Session;
use stall::{Answering, JournalWatch, JournalWork};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Commands that may wait before senders do, and that one write to the journal takes.
const QUEUE: usize = 4096;
/// Questions that may wait before who asks does, and that are answered between two writes.
const READS: usize = 256;
/// Watchers hear of a change at most this often, except of the end.
const PUBLISH_EVERY: Duration = Duration::from_millis(150);
/// Watchers hear of a sweep at least this often: the time that is left passes even where nothing happens.
const REFRESH_EVERY: Duration = Duration::from_secs(2);

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
    /// How many batches were ever appended.
    batches: Arc<AtomicU64>,
    store: Store,
    clock: Clock,
    commands: mpsc::Receiver<Command>,
    reads: mpsc::Receiver<Read>,
    /// For what is spawned. Weak, so that the desk ends when all handles are gone.
    back: mpsc::WeakSender<Command>,
    requests: u64,
    askers: HashMap<RequestId, Asker>,
    verifications: HashMap<RequestId, mpsc::UnboundedSender<Check>>,
    sessions: HashMap<WorkerId, Session>,
    session_count: u64,
    pool: Pool,
    views: Views,
    watch: JournalWatch,
    /// Milliseconds for which nobody was listened to, which the scheduler does not know of yet.
    deaf_ms: u64,
    timelines: Timelines,
    meters: ShardMeters,
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
        let JournalIdentity { id, batches } = journal.identity().await?;
        let (id, batches) = (Arc::from(id), Arc::new(AtomicU64::new(batches)));
        let (sender, commands) = mpsc::channel(QUEUE);
        let (asking, reads) = mpsc::channel(READS);
        let (told, wait) = watch::channel(None);
        let watch = JournalWatch { journal: journal.name().into(), faults: journal.faults(), told };
        let views = Views::of(&scheduler);
        let task = Self {
            scheduler,
            journal,
            journalled: replayed.records,
            compact_at: 0,
            batches: batches.clone(),
            store,
            clock: Clock::new(),
            commands,
            reads,
            back: sender.downgrade(),
            requests: 0,
            askers: HashMap::new(),
            verifications: HashMap::new(),
            sessions: HashMap::new(),
            session_count: 0,
            pool: Pool::new(reducers),
            views,
            watch,
            deaf_ms: 0,
            timelines: Timelines::new(tracer.clone()),
            meters: ShardMeters::default(),
            tracer,
        };
        Ok((task, Desk { commands: sender, reads: asking, wait, journal: (id, batches) }))
    }

    /// What to call the journal in messages.
    pub(crate) fn journal_name(&self) -> &str {
        self.journal.name()
    }

    /// Whether nothing was ever journalled.
    pub(crate) fn is_new(&self) -> bool {
        self.journalled == 0
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
        let mut refresh = tokio::time::interval(REFRESH_EVERY);
        refresh.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
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
                Some(read) = self.reads.recv() => self.answer_read(read),
                _ = publish.tick(), if self.views.are_stale() => self.views.publish(&self.scheduler),
                _ = refresh.tick(), if self.views.are_watched() => self.views.watched_changed(),
                () = deadline => {
                    let mut effects = self.listen_again();
                    self.scheduler.handle_into(Event::Tick, self.clock.now(), &mut effects);
                    self.perform(effects).await?;
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

    fn answer_read(&mut self, read: Read) {
        let now = self.clock.now();
        self.answering().answer(read, &Pending::default(), None, now);
    }

    fn answering(&mut self) -> Answering<'_> {
        let Self { reads, scheduler, views, timelines, clock, watch, .. } = self;
        Answering { reads, scheduler, views, timelines, clock, watch }
    }

    /// What comes of it that nobody was listened to for a while, before anything else is taken in.
    fn listen_again(&mut self) -> Effects {
        let mut effects = Effects::default();
        let ms = std::mem::take(&mut self.deaf_ms);
        if ms > 0 {
            self.scheduler.handle_into(Event::Stalled { ms }, self.clock.now(), &mut effects);
        }
        effects
    }

    /// Takes a command and all that wait behind it: one write to the journal for all of them. Questions are answered
    /// after it, so that nobody sees what could still be lost.
    async fn take(&mut self, first: Command) -> Result<(), JournalError> {
        // Whoever has more to say now gets to say it, so that one write does for all of it.
        tokio::task::yield_now().await;
        let mut effects = self.listen_again();
        let mut questions = Vec::new();
        let mut next = Some(first);
        let mut budget = QUEUE;
        while let Some(command) = next {
            match command {
                Command::Query(query) => questions.push(query),
                change => self.apply(change, &mut effects),
            }
            budget -= 1;
            next = if budget > 0 { self.commands.try_recv().ok() } else { None };
        }
        self.perform(effects).await?;
        let now = self.clock.now();
        questions.into_iter().for_each(|query| query(&self.scheduler, now));
        Ok(())
    }

    fn apply(&mut self, command: Command, effects: &mut Effects) {
        let now = self.clock.now();
        let event = match command {
            Command::Event(event) => Some(event),
            Command::Order(_, answer) if answer.is_closed() => return,
            Command::Ask(event, answer) | Command::Order(event, answer) => {
                let request = self.request(Asker::Call(answer));
                Some(event(request))
            }
            Command::Query(query) => return query(&self.scheduler, now),
            Command::Told { worker, shard, steps } => {
                if let Some(shard) = self.shard(&shard) {
                    self.timelines.told(&shard, &worker, steps);
                }
                return;
            }
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

    /// Durable first, then everything else.
    async fn perform(&mut self, effects: Effects) -> Result<(), JournalError> {
        self.append(&effects.records).await?;
        self.journalled += effects.records.len() as u64;
        for record in &effects.records {
            self.views.written(record, &self.scheduler);
            self.observe(record);
        }
        for action in effects.actions {
            self.act(action);
        }
        if self.journalled > self.compact_at {
            self.compact().await;
        }
        Ok(())
    }

    async fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        if records.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let Self { journal, reads, scheduler, views, timelines, clock, watch, .. } = self;
        let answering = Answering { reads, scheduler, views, timelines, clock, watch };
        let (appended, deaf) = answering.until(JournalWork::Append, records, journal.append(records)).await;
        self.has_been_deaf(deaf);
        appended?;
        self.batches.fetch_add(1, Ordering::Relaxed);
        histogram!("nadgrid_journal_append_seconds").record(began.elapsed().as_secs_f64());
        counter!("nadgrid_journal_records_total").increment(records.len() as u64);
        Ok(())
    }

    fn has_been_deaf(&mut self, time: Option<Duration>) {
        self.deaf_ms += time.map_or(0, |time| time.as_millis() as u64);
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
        let (compacted, deaf) = self.replace_journal().await;
        self.has_been_deaf(deaf);
        match compacted {
            Ok(kept) => {
                self.journalled = kept.records;
                self.batches.fetch_add(kept.batches, Ordering::Relaxed);
                let (records, seconds) = (kept.records, began.elapsed().as_secs_f64());
                info!(before, records, seconds, "journal compacted");
            }
            Err(error) => {
                self.compact_at = before + more;
                warn!(%error, "the journal could not be compacted");
            }
        }
    }

    /// Also returns for how long nobody was listened to.
    async fn replace_journal(&mut self) -> (Result<Replayed, JournalError>, Option<Duration>) {
        let Self { journal, reads, scheduler, views, timelines, clock, watch, .. } = self;
        let scheduler = &*scheduler;
        let mut snapshot = scheduler.snapshot();
        let answering = Answering { reads, scheduler, views, timelines, clock, watch };
        let replica = Box::new(scheduler.replica());
        answering.until(JournalWork::Compact, &[], journal.compact(&mut snapshot, replica)).await
    }
}
