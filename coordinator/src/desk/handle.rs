//! The handle by which handlers reach the desk, and what they can say to it.

use super::timeline::Timelines;
use nadgrid_core::ids::{SweepId, Time, WorkerId};
use nadgrid_core::scheduler::{Answer, Check, Claim, Event, RequestId, Scheduler, WorkerProfile};
use nadgrid_proto::v1;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// The way to a worker: messages of its session.
pub(crate) type Outbox = mpsc::Sender<v1::SessionResponse>;

type TimelineQuery = Box<dyn FnOnce(&Timelines) + Send>;
type Query = Box<dyn FnOnce(&Scheduler, Time) + Send>;

pub(super) enum Command {
    /// Something happened.
    Event(Event),
    /// Something is asked that changes the state: the event is made with the request's id.
    Ask(Box<dyn FnOnce(RequestId) -> Event + Send>, oneshot::Sender<Answer>),
    /// Something is asked that changes nothing.
    Query(Query),
    /// What became of shards is asked.
    Timelines(TimelineQuery),
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
    /// Somebody wants to follow a sweep.
    Follow(SweepId, oneshot::Sender<Option<watch::Receiver<Arc<v1::Sweep>>>>),
}

/// The coordinator ends, or the command did not get through because it is ending.
#[derive(Debug, thiserror::Error)]
#[error("the coordinator is shutting down")]
pub(crate) struct Closed;

/// A handle to the desk.
#[derive(Clone)]
pub(crate) struct Desk(pub(super) mpsc::Sender<Command>);

impl Desk {
    /// Sends a command that is made with the way for its reply, and waits for that.
    async fn call<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Closed> {
        let (sender, receiver) = oneshot::channel();
        self.0.send(command(sender)).await.map_err(|_| Closed)?;
        receiver.await.map_err(|_| Closed)
    }

    pub(crate) async fn ask(&self, event: impl FnOnce(RequestId) -> Event + Send + 'static) -> Result<Answer, Closed> {
        self.call(|answer| Command::Ask(Box::new(event), answer)).await
    }

    pub(crate) async fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Scheduler, Time) -> T + Send + 'static,
    ) -> Result<T, Closed> {
        self.call(|reply| Command::Query(Box::new(move |scheduler, now| drop(reply.send(query(scheduler, now)))))).await
    }

    /// Asks what became of shards.
    pub(crate) async fn timelines<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Timelines) -> T + Send + 'static,
    ) -> Result<T, Closed> {
        self.call(|reply| Command::Timelines(Box::new(move |timelines| drop(reply.send(query(timelines)))))).await
    }

    /// Takes down what a worker did for a shard.
    pub(crate) async fn told(&self, worker: WorkerId, shard: v1::Shard, steps: Vec<v1::Step>) {
        if !steps.is_empty() {
            drop(self.0.send(Command::Told { worker, shard, steps }).await);
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
        drop(self.0.send(Command::Detach { worker, session, drained }).await);
    }

    pub(crate) async fn message(
        &self,
        worker: WorkerId,
        session: u64,
        message: v1::session_request::Message,
    ) -> Result<(), Closed> {
        self.0.send(Command::Message { worker, session, message }).await.map_err(|_| Closed)
    }

    /// The sweep as it stands and whenever it changes; `None` when there is no such sweep.
    pub(crate) async fn follow(&self, sweep: SweepId) -> Result<Option<watch::Receiver<Arc<v1::Sweep>>>, Closed> {
        self.call(|reply| Command::Follow(sweep, reply)).await
    }
}
