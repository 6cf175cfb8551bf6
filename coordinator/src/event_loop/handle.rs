//! The handle by which handlers reach the event loop, and what they can say to it.

use super::durable::{Durable, ToldSweep};
use super::peers::CoordinatorPeers;
use super::stall::JournalWait;
use super::timelines::Timelines;
use crate::journal::JournalIdentity;
use crate::log_throttle::LogThrottle;
use nadgrid_core::ids::{SweepId, Time, WorkerId};
use nadgrid_core::scheduler::{Answer, Check, Claim, Event, RequestId, Scheduler, WorkerProfile};
use nadgrid_core::shell::{
    JoiningWorker, NamedShard, ResultAnswer, SessionNumber, ShardAssignment, ShellPeers, WorkerMessage, WorkerStep,
};
use nadgrid_telemetry::TraceContext;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot, watch};

/// Something that a worker is told in its session.
pub(crate) enum SessionNews {
    /// It is given a shard.
    Assignment {
        assignment: ShardAssignment,
        /// The span of the lease, for the worker's spans.
        context: Option<TraceContext>,
    },
    /// A shard is not wanted any more.
    Revocation { shard: NamedShard, reason: &'static str },
    /// A result that came over the session is answered.
    Answer(ResultAnswer),
}

/// The way to a worker, for one session.
pub(crate) struct WorkerOutbox {
    pub(super) sender: mpsc::Sender<SessionNews>,
    /// The worker's display name.
    pub(super) name: Arc<str>,
    /// Limits how often the log mentions the worker's refused results.
    pub(super) refused: LogThrottle,
}

/// A question about the state, answered in its turn.
pub(super) type StateQuestion = Box<dyn FnOnce(&Scheduler, Time) + Send>;

type RequestEvent = Box<dyn FnOnce(RequestId) -> Event + Send>;

/// Something is asked that changes nothing, and that is answered even while the journal cannot write.
pub(super) enum LoopRead {
    /// Somebody asks about the durable state.
    State(Box<dyn FnOnce(&mut Durable<'_>) + Send>),
    /// Somebody asks what became of shards.
    Timelines(Box<dyn FnOnce(&Timelines) + Send>),
    /// Somebody wants to follow a sweep.
    Follow(SweepId, oneshot::Sender<Option<watch::Receiver<Arc<ToldSweep>>>>),
}

/// Something that the loop takes in, in its turn.
pub(super) enum LoopCommand {
    /// An event for the scheduler, without a reply.
    Event(Event),
    /// Something is asked that changes the state: the event is made with the request's id.
    Ask(RequestEvent, oneshot::Sender<Answer>),
    /// The same, unless nobody waits for the answer any more.
    Order(RequestEvent, oneshot::Sender<Answer>),
    /// Something is asked that changes nothing: everything that was said before it is then in the journal.
    Question(StateQuestion),
    /// A worker tells what it did for a shard.
    Steps { worker: WorkerId, shard: NamedShard, steps: Vec<WorkerStep> },
    /// Shards are to be computed again; what becomes of each goes to `checks`.
    Verify { claims: Vec<Claim>, checks: mpsc::UnboundedSender<Check>, answer: oneshot::Sender<Answer> },
    /// A worker opens a session, whose number comes back.
    Attach {
        joining: Box<JoiningWorker<<CoordinatorPeers as ShellPeers>::Outbox>>,
        session: oneshot::Sender<SessionNumber>,
    },
    /// A session ended.
    Detach { worker: WorkerId, session: SessionNumber, drained: bool },
    /// A worker says something in its session.
    Message { worker: WorkerId, session: SessionNumber, message: WorkerMessage },
}

/// The coordinator ends, or the command did not get through because it is ending.
#[derive(Debug, thiserror::Error)]
#[error("the coordinator is shutting down")]
pub(crate) struct Closed;

/// Asks the loop in its turn.
pub(super) async fn query_in_turn<T: Send + 'static>(
    commands: &mpsc::Sender<LoopCommand>,
    query: impl FnOnce(&Scheduler, Time) -> T + Send + 'static,
) -> Result<T, Closed> {
    let (sender, receiver) = oneshot::channel();
    let asked = LoopCommand::Question(Box::new(move |scheduler, now| drop(sender.send(query(scheduler, now)))));
    commands.send(asked).await.map_err(|_| Closed)?;
    receiver.await.map_err(|_| Closed)
}

/// A handle to the event loop, for whoever serves requests. The loop ends when all of them are gone.
#[derive(Clone)]
pub(crate) struct CoordinatorHandle {
    pub(super) commands: mpsc::Sender<LoopCommand>,
    pub(super) reads: mpsc::Sender<LoopRead>,
    pub(super) wait: watch::Receiver<Option<JournalWait>>,
    pub(super) journal_id: Arc<str>,
    /// The number of batches that were ever appended to the journal.
    pub(super) batches: Arc<AtomicU64>,
}

impl CoordinatorHandle {
    /// Sends a command that is made with the way for its reply, and waits for that.
    async fn call<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> LoopCommand) -> Result<T, Closed> {
        let (sender, receiver) = oneshot::channel();
        self.commands.send(command(sender)).await.map_err(|_| Closed)?;
        receiver.await.map_err(|_| Closed)
    }

    /// Sends a question that does not wait for the journal, and waits for its answer.
    async fn look<T>(&self, read: impl FnOnce(oneshot::Sender<T>) -> LoopRead) -> Result<T, Closed> {
        let (sender, receiver) = oneshot::channel();
        self.reads.send(read(sender)).await.map_err(|_| Closed)?;
        receiver.await.map_err(|_| Closed)
    }

    /// Returns which journal it is, and how long.
    pub(crate) fn journal(&self) -> JournalIdentity {
        JournalIdentity { id: self.journal_id.to_string(), batches: self.batches.load(Ordering::Relaxed) }
    }

    /// Returns where to see whether the journal is waited for, to be looked at whenever somebody loses patience.
    pub(crate) fn journal_wait(&self) -> watch::Receiver<Option<JournalWait>> {
        self.wait.clone()
    }

    /// Asks for something that changes the state.
    pub(crate) async fn ask(&self, event: impl FnOnce(RequestId) -> Event + Send + 'static) -> Result<Answer, Closed> {
        self.call(|answer| LoopCommand::Ask(Box::new(event), answer)).await
    }

    /// Asks the same for a user, who may have given up before it is taken: then it is not done.
    pub(crate) async fn order(
        &self,
        event: impl FnOnce(RequestId) -> Event + Send + 'static,
    ) -> Result<Answer, Closed> {
        self.call(|answer| LoopCommand::Order(Box::new(event), answer)).await
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
        self.look(|reply| LoopRead::State(Box::new(move |durable| drop(reply.send(query(durable)))))).await
    }

    /// Asks what became of shards.
    pub(crate) async fn timelines<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Timelines) -> T + Send + 'static,
    ) -> Result<T, Closed> {
        self.look(|reply| LoopRead::Timelines(Box::new(move |timelines| drop(reply.send(query(timelines)))))).await
    }

    /// Takes down what a worker did for a shard.
    pub(crate) async fn steps(&self, worker: WorkerId, shard: NamedShard, steps: Vec<WorkerStep>) {
        if !steps.is_empty() {
            drop(self.commands.send(LoopCommand::Steps { worker, shard, steps }).await);
        }
    }

    /// Has shards computed again; checks come until there is one for each. Dropping the receiver ends it.
    pub(crate) async fn verify(&self, claims: Vec<Claim>) -> Result<(Answer, mpsc::UnboundedReceiver<Check>), Closed> {
        let (checks, receiver) = mpsc::unbounded_channel();
        let answer = self.call(|answer| LoopCommand::Verify { claims, checks, answer }).await?;
        Ok((answer, receiver))
    }

    /// Opens a worker's session; returns its number.
    pub(crate) async fn attach(
        &self,
        worker: WorkerId,
        profile: WorkerProfile,
        held: Vec<NamedShard>,
        sender: mpsc::Sender<SessionNews>,
    ) -> Result<SessionNumber, Closed> {
        let name = profile.name.as_str().into();
        let outbox = WorkerOutbox { sender, name, refused: LogThrottle::default() };
        let joining = Box::new(JoiningWorker { worker, profile, held, outbox });
        self.call(|session| LoopCommand::Attach { joining, session }).await
    }

    /// Ends a session, unless a newer one has replaced it.
    pub(crate) async fn detach(&self, worker: WorkerId, session: SessionNumber, drained: bool) {
        drop(self.commands.send(LoopCommand::Detach { worker, session, drained }).await);
    }

    /// Hands in what a worker says in its session.
    pub(crate) async fn message(
        &self,
        worker: WorkerId,
        session: SessionNumber,
        message: WorkerMessage,
    ) -> Result<(), Closed> {
        self.commands.send(LoopCommand::Message { worker, session, message }).await.map_err(|_| Closed)
    }

    /// Returns the sweep as it stands and whenever it changes; `None` when there is no such sweep.
    pub(crate) async fn follow(&self, sweep: SweepId) -> Result<Option<watch::Receiver<Arc<ToldSweep>>>, Closed> {
        self.look(|reply| LoopRead::Follow(sweep, reply)).await
    }
}
