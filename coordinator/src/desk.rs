//! The desk: the one task that owns the scheduler, its journal and who is to be told.
//!
//! It takes all commands that wait, applies them, journals their records in one go, and then acts. Handlers
//! reach it through a [`Desk`] handle; what takes long is spawned and comes back as a command.

use crate::artifacts::Store;
use crate::journal::{Journal, JournalError};
use crate::reducer::{self, ReduceError};
use nadgrid_core::ids::{Digest, JobIndex, SweepId, Time, WorkerId};
use nadgrid_core::scheduler::{Action, Answer, Effects, Event, RequestId, Scheduler, ShardRef, WorkerProfile};
use nadgrid_proto::v1;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// Commands that may wait before senders do.
const QUEUE: usize = 1024;
/// Watchers hear of a change at most this often, except of the end.
const PUBLISH_EVERY: Duration = Duration::from_millis(150);

/// The way to a worker: messages of its session.
pub(crate) type Outbox = mpsc::Sender<v1::SessionResponse>;

type Query = Box<dyn FnOnce(&Scheduler, Time) + Send>;

enum Command {
    /// Something happened.
    Event(Event),
    /// Something is asked that changes the state: the event is made with the request's id.
    Ask(Box<dyn FnOnce(RequestId) -> Event + Send>, oneshot::Sender<Answer>),
    /// Something is asked that changes nothing.
    Query(Query),
    /// A worker opens a session; the session's number comes back.
    Attach {
        worker: WorkerId,
        profile: Box<WorkerProfile>,
        held: Vec<ShardRef>,
        outbox: Outbox,
        session: oneshot::Sender<u64>,
    },
    /// A session ended. An older session's end is nothing to a newer one.
    Detach { worker: WorkerId, session: u64, drained: bool },
    /// Somebody wants to follow a sweep.
    Follow(SweepId, oneshot::Sender<Option<watch::Receiver<Arc<v1::Sweep>>>>),
}

/// The coordinator ends, or the command did not get through because it is ending.
#[derive(Debug, thiserror::Error)]
#[error("the coordinator is shutting down")]
pub(crate) struct Closed;

/// A handle to the desk.
#[derive(Clone)]
pub(crate) struct Desk(mpsc::Sender<Command>);

impl Desk {
    pub(crate) async fn tell(&self, event: Event) -> Result<(), Closed> {
        self.0.send(Command::Event(event)).await.map_err(|_| Closed)
    }

    pub(crate) async fn ask(&self, event: impl FnOnce(RequestId) -> Event + Send + 'static) -> Result<Answer, Closed> {
        let (sender, receiver) = oneshot::channel();
        self.0.send(Command::Ask(Box::new(event), sender)).await.map_err(|_| Closed)?;
        receiver.await.map_err(|_| Closed)
    }

    pub(crate) async fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Scheduler, Time) -> T + Send + 'static,
    ) -> Result<T, Closed> {
        let (sender, receiver) = oneshot::channel();
        let run: Query = Box::new(move |scheduler, now| drop(sender.send(query(scheduler, now))));
        self.0.send(Command::Query(run)).await.map_err(|_| Closed)?;
        receiver.await.map_err(|_| Closed)
    }

    pub(crate) async fn attach(
        &self,
        worker: WorkerId,
        profile: WorkerProfile,
        held: Vec<ShardRef>,
        outbox: Outbox,
    ) -> Result<u64, Closed> {
        let (session, receiver) = oneshot::channel();
        let attach = Command::Attach { worker, profile: Box::new(profile), held, outbox, session };
        self.0.send(attach).await.map_err(|_| Closed)?;
        receiver.await.map_err(|_| Closed)
    }

    pub(crate) async fn detach(&self, worker: WorkerId, session: u64, drained: bool) {
        drop(self.0.send(Command::Detach { worker, session, drained }).await);
    }

    /// The sweep as it stands and whenever it changes; `None` when there is no such sweep.
    pub(crate) async fn follow(&self, sweep: SweepId) -> Result<Option<watch::Receiver<Arc<v1::Sweep>>>, Closed> {
        let (sender, receiver) = oneshot::channel();
        self.0.send(Command::Follow(sweep, sender)).await.map_err(|_| Closed)?;
        receiver.await.map_err(|_| Closed)
    }
}

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
pub(crate) struct DeskTask<J> {
    scheduler: Scheduler,
    journal: J,
    store: Store,
    clock: Clock,
    commands: mpsc::Receiver<Command>,
    /// For what is spawned. Weak, so that the desk ends when all handles are gone.
    back: mpsc::WeakSender<Command>,
    requests: u64,
    answers: HashMap<RequestId, oneshot::Sender<Answer>>,
    sessions: HashMap<WorkerId, (u64, Outbox)>,
    session_count: u64,
    watchers: HashMap<SweepId, watch::Sender<Arc<v1::Sweep>>>,
    changed: BTreeSet<SweepId>,
    reducers: Arc<Semaphore>,
}

impl<J: Journal> DeskTask<J> {
    /// Replays the journal; the desk runs once [`DeskTask::run`] is awaited.
    pub(crate) async fn open(
        mut scheduler: Scheduler,
        mut journal: J,
        store: Store,
        reducers: usize,
    ) -> Result<(Self, Desk), JournalError> {
        let replayed = journal.replay(&mut |record| scheduler.replay(record)).await?;
        if replayed.records > 0 {
            info!(records = replayed.records, batches = replayed.batches, "journal replayed");
        }
        let (sender, commands) = mpsc::channel(QUEUE);
        let task = Self {
            scheduler,
            journal,
            store,
            clock: Clock::new(),
            commands,
            back: sender.downgrade(),
            requests: 0,
            answers: HashMap::new(),
            sessions: HashMap::new(),
            session_count: 0,
            watchers: HashMap::new(),
            changed: BTreeSet::new(),
            reducers: Arc::new(Semaphore::new(reducers)),
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
                Command::Query(_) | Command::Follow(..) => questions.push(command),
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
            Command::Event(event) => event,
            Command::Ask(event, answer) => {
                self.requests += 1;
                let request = RequestId(self.requests);
                self.answers.insert(request, answer);
                event(request)
            }
            Command::Query(query) => return query(&self.scheduler, now),
            Command::Follow(sweep, reply) => return drop(reply.send(self.watch(sweep))),
            Command::Attach { worker, profile, held, outbox, session } => {
                self.session_count += 1;
                self.sessions.insert(worker.clone(), (self.session_count, outbox));
                session.send(self.session_count).ok();
                info!(worker = %worker, name = %profile.name, class = %profile.class, lanes = profile.lanes, "worker joined");
                Event::Join { worker, profile: *profile, held }
            }
            Command::Detach { worker, session, drained } => {
                if self.sessions.get(&worker).is_none_or(|(current, _)| *current != session) {
                    return;
                }
                self.sessions.remove(&worker);
                info!(worker = %worker, drained, "worker left");
                Event::Leave { worker, drained }
            }
        };
        let more = self.scheduler.handle(event, now);
        effects.records.extend(more.records);
        effects.actions.extend(more.actions);
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
        self.journal.append(&effects.records).await?;
        for action in effects.actions {
            self.act(action);
        }
        Ok(())
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Answer { request, answer } => {
                if let Some(sender) = self.answers.remove(&request) {
                    drop(sender.send(answer));
                }
            }
            Action::Lease { worker, shard } => self.send_assignment(&worker, &shard),
            Action::Revoke { worker, shard, reason } => {
                let Some(shard) = self.wire_shard(&shard) else { return };
                let revocation = v1::Revocation { shard: Some(shard), reason: reason.to_owned() };
                self.send(&worker, v1::session_response::Message::Revocation(revocation));
            }
            Action::Disconnect { worker } => {
                warn!(%worker, "silent for too long: its session is closed");
                self.sessions.remove(&worker);
            }
            Action::Reduce { sweep, job, partials } => self.spawn_reduction(sweep, job, partials),
            Action::Discard { partials } => self.spawn_discard(partials),
            Action::Changed { sweep } => {
                self.changed.insert(sweep);
            }
        }
    }

    fn wire_shard(&self, shard: &ShardRef) -> Option<v1::Shard> {
        self.scheduler.blocks(shard).map(|blocks| v1::Shard::of(&shard.sweep, shard.job, &blocks))
    }

    fn send_assignment(&mut self, worker: &WorkerId, shard: &ShardRef) {
        let Some((spec, job, _)) = self.scheduler.shard(shard) else { return };
        debug!(worker = %worker, sweep = %shard.sweep, job = job.name(), node = ?shard.node, "leased");
        let assignment = v1::Assignment {
            shard: self.wire_shard(shard),
            spec: spec.to_toml(),
            architecture: job.architecture.clone(),
            experiment: job.experiment.to_string(),
            inputs: self.scheduler.shard_inputs(shard).iter().map(Into::into).collect(),
        };
        self.send(worker, v1::session_response::Message::Assignment(assignment));
    }

    /// Sends without waiting. A worker that does not read loses its session, and with it its leases in time.
    fn send(&mut self, worker: &WorkerId, message: v1::session_response::Message) {
        let Some((_, outbox)) = self.sessions.get(worker) else { return };
        if outbox.try_send(v1::SessionResponse { message: Some(message) }).is_err() {
            warn!(worker = %worker, "the worker does not read its messages: its session is closed");
            self.sessions.remove(worker);
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

    fn spawn_reduction(&self, sweep: SweepId, job: JobIndex, partials: Vec<(nadgrid_core::grid::Node, Digest)>) {
        let shard = ShardRef { sweep, job, node: nadgrid_core::grid::Node::block(0) };
        let Some((spec, shape, _)) = self.scheduler.shard(&shard) else { return };
        let (spec, shape) = (spec.clone(), shape.clone());
        let (store, back, slots) = (self.store.clone(), self.back.clone(), self.reducers.clone());
        tokio::spawn(async move {
            let slot = slots.acquire_owned().await;
            let (sweep, started) = (shard.sweep, Instant::now());
            let io = tokio::runtime::Handle::current();
            let count = partials.len();
            let name = shape.name();
            let reduce = move || reducer::reduce(&spec, &shape, &partials, &store, &io);
            let reduced = tokio::task::spawn_blocking(reduce).await;
            drop(slot);
            // Kept from the collection of orphans until the journal names them.
            let mut stored = Vec::new();
            let event = match reduced {
                Ok(Ok((result, held))) => {
                    stored = held;
                    let seconds = started.elapsed().as_secs_f64();
                    info!(%sweep, job = name, partials = count, seconds, digest = %result.digest, "reduced");
                    Event::Reduced { sweep, job, result }
                }
                Ok(Err(error)) => {
                    warn!(%sweep, job = name, %error, "reduction failed");
                    let damaged = if let ReduceError::Partial { node, .. } = error { vec![node] } else { Vec::new() };
                    Event::ReduceFailed { sweep, job, damaged, message: error.to_string() }
                }
                Err(panic) => {
                    let message = format!("the reduction of {name} panicked: {panic}");
                    warn!(%sweep, message);
                    Event::ReduceFailed { sweep, job, damaged: Vec::new(), message }
                }
            };
            if let Some(desk) = back.upgrade() {
                drop(desk.send(Command::Event(event)).await);
                // A question is answered once all before it is in the journal.
                drop(desk.send(Command::Query(Box::new(move |_, _| drop(stored)))).await);
            }
        });
    }

    /// Removes partials that no other sweep shares.
    fn spawn_discard(&self, partials: Vec<Digest>) {
        if partials.is_empty() {
            return;
        }
        // Begun before looking at what is referred to: what is stored from now on is spared.
        let removal = self.store.removal();
        let needed: BTreeSet<Digest> = self.scheduler.referenced().collect();
        tokio::spawn(async move {
            for digest in partials.into_iter().filter(|digest| !needed.contains(digest)) {
                if let Err(error) = removal.remove(digest).await {
                    warn!(%error, "a partial could not be removed");
                }
            }
        });
    }
}
