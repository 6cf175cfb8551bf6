//! The handle by which handlers reach the desk, and what they can say to it.

use super::durable::Durable;
use super::stall::JournalWait;
use super::timeline::Timelines;
use crate::journal::JournalIdentity;
use nadgrid_core::ids::{SweepId, Time, WorkerId};
use nadgrid_core::scheduler::{Answer, Check, Claim, Event, RequestId, Scheduler, WorkerProfile};
use nadgrid_proto::v1;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot, watch};

/// The way to a worker: messages of its session.
pub(crate) type Outbox = mpsc::Sender<v1::SessionResponse>;

type Query = Box<dyn FnOnce(&Scheduler, Time) + Send>;

/// Something is asked that changes nothing, and that is answered even while the journal cannot write.
pub(super) enum Read {
    /// Asks about the durable state.
    State(Box<dyn FnOnce(&mut Durable<'_>) + Send>),
    /// Asks what became of shards.
    Timelines(Box<dyn FnOnce(&Timelines) + Send>),
    /// Somebody wants to follow a sweep.
    Follow(SweepId, oneshot::Sender<Option<watch::Receiver<Arc<v1::Sweep>>>>),
}

pub(super) enum Command {
    /// Something happened.
    Event(Event),
    /// Something is asked that changes the state: the event is made with the request's id.
    Ask(Box<dyn FnOnce(RequestId) -> Event + Send>, oneshot::Sender<Answer>),
    /// The same, unless nobody waits for the answer any more.
    Order(Box<dyn FnOnce(RequestId) -> Event + Send>, oneshot::Sender<Answer>),
    /// Something is asked that changes nothing, in its turn: everything that was said before it is then in the journal.
    Query(Query),
    /// A worker tells what it did for a shard.
    Told { worker: WorkerId, shard: v1::Shard, steps: Vec<v1::Step> },
    /// Shards are to be computed again; what becomes of each goes to `checks`.
    Verify { claims: Vec<Claim>, checks: mpsc::UnboundedSender<Check>, answer: oneshot::Sender<Answer> },
    /// A worker opens a session; the session's number comes back.
    Attach {
        worker: WorkerId,
        profile: Box<WorkerProfile>,
        held: Vec<v1::Shard>,
        outbox: Outbox,
        session: oneshot::Sender<u64>,
    },
    /// A session ended. An older session's end is nothing to a newer one.
    Detach { worker: WorkerId, session: u64, drained: bool },
    /// A worker says something in its session.
    Message { worker: WorkerId, session: u64, message: v1::session_request::Message },
}

/// The coordinator ends, or the command did not get through because it is ending.
#[derive(Debug, thiserror::Error)]
#[error("the coordinator is shutting down")]
pub(crate) struct Closed;

/// Asks the desk in its turn.
pub(super) async fn query_in_turn<T: Send + 'static>(
    commands: &mpsc::Sender<Command>,
    query: impl FnOnce(&Scheduler, Time) -> T + Send + 'static,
) -> Result<T, Closed> {
    let (sender, receiver) = oneshot::channel();
    let asked = Command::Query(Box::new(move |scheduler, now| drop(sender.send(query(scheduler, now)))));
    commands.send(asked).await.map_err(|_| Closed)?;
    receiver.await.map_err(|_| Closed)
}

/// A handle to the desk.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) reads: mpsc::Sender<Read>,
    pub(super) wait: watch::Receiver<Option<JournalWait>>,
    /// The journal's id, and how many batches were ever appended to it.
    pub(super) journal: (Arc<str>, Arc<AtomicU64>),
}

impl Desk {
    /// Sends a command that is made with the way for its reply, and waits for that.
    async fn call<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Closed> {
        let (sender, receiver) = oneshot::channel();
        self.commands.send(command(sender)).await.map_err(|_| Closed)?;
        receiver.await.map_err(|_| Closed)
    }

    /// The same of a question that does not wait for the journal.
    async fn look<T>(&self, read: impl FnOnce(oneshot::Sender<T>) -> Read) -> Result<T, Closed> {
        let (sender, receiver) = oneshot::channel();
        self.reads.send(read(sender)).await.map_err(|_| Closed)?;
        receiver.await.map_err(|_| Closed)
    }

    /// Which journal it is, and how long.
    pub(crate) fn journal(&self) -> JournalIdentity {
        let (id, batches) = &self.journal;
        JournalIdentity { id: id.to_string(), batches: batches.load(Ordering::Relaxed) }
    }

    /// Whether the journal is waited for, to be looked at whenever somebody loses patience.
    pub(crate) fn journal_wait(&self) -> watch::Receiver<Option<JournalWait>> {
        self.wait.clone()
    }

    pub(crate) async fn ask(&self, event: impl FnOnce(RequestId) -> Event + Send + 'static) -> Result<Answer, Closed> {
        self.call(|answer| Command::Ask(Box::new(event), answer)).await
    }

    /// The same for a user, who may have given up before it is taken: then it is not done.
    pub(crate) async fn order(
        &self,
        event: impl FnOnce(RequestId) -> Event + Send + 'static,
    ) -> Result<Answer, Closed> {
        self.call(|answer| Command::Order(Box::new(event), answer)).await
    }

    /// Asks in its turn: all that was said before is then in the journal. Waits as long as the journal does.
    pub(crate) async fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Scheduler, Time) -> T + Send + 'static,
    ) -> Result<T, Closed> {
        query_in_turn(&self.commands, query).await
    }

    /// Asks what is durable; answered even while the journal cannot write.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&mut Durable<'_>) -> T + Send + 'static,
    ) -> Result<T, Closed> {
        self.look(|reply| Read::State(Box::new(move |durable| drop(reply.send(query(durable)))))).await
    }

    /// Asks what became of shards.
    pub(crate) async fn timelines<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Timelines) -> T + Send + 'static,
    ) -> Result<T, Closed> {
        self.look(|reply| Read::Timelines(Box::new(move |timelines| drop(reply.send(query(timelines)))))).await
    }

    /// Takes down what a worker did for a shard.
    pub(crate) async fn told(&self, worker: WorkerId, shard: v1::Shard, steps: Vec<v1::Step>) {
        if !steps.is_empty() {
            drop(self.commands.send(Command::Told { worker, shard, steps }).await);
        }
    }

    /// Has shards computed again; checks come until there is one for each. Dropping the receiver ends it.
    pub(crate) async fn verify(&self, claims: Vec<Claim>) -> Result<(Answer, mpsc::UnboundedReceiver<Check>), Closed> {
        let (checks, receiver) = mpsc::unbounded_channel();
        let answer = self.call(|answer| Command::Verify { claims, checks, answer }).await?;
        Ok((answer, receiver))
    }

    pub(crate) async fn attach(
        &self,
        worker: WorkerId,
        profile: WorkerProfile,
        held: Vec<v1::Shard>,
        outbox: Outbox,
    ) -> Result<u64, Closed> {
        self.call(|session| Command::Attach { worker, profile: Box::new(profile), held, outbox, session }).await
    }

    pub(crate) async fn detach(&self, worker: WorkerId, session: u64, drained: bool) {
        drop(self.commands.send(Command::Detach { worker, session, drained }).await);
    }

    pub(crate) async fn message(
        &self,
        worker: WorkerId,
        session: u64,
        message: v1::session_request::Message,
    ) -> Result<(), Closed> {
        self.commands.send(Command::Message { worker, session, message }).await.map_err(|_| Closed)
    }

    /// The sweep as it stands and whenever it changes; `None` when there is no such sweep.
    pub(crate) async fn follow(&self, sweep: SweepId) -> Result<Option<watch::Receiver<Arc<v1::Sweep>>>, Closed> {
        self.look(|reply| Read::Follow(sweep, reply)).await
    }
}
