//! Workers' sessions: who is there, what a session's messages become, and what a worker must still be told of a job.

use super::observer::{ShellObserver, WorkerStep};
use super::output::{AssignedJob, ResultAnswer, ShardAssignment};
use super::{RequestAsker, Shell, ShellPeers};
use crate::MAX_INLINE_BYTES;
use crate::ids::{Digest, Time, WorkerId};
use crate::numerics::NumericsClass;
use crate::scheduler::{
    Event, FailureKind, JobRef, Partial, PartialBytes, ShardRef, ShardStand, Verdict, WorkerProfile,
};
use crate::text;
use std::ops::Range;

/// Characters that are repeated of what should be a digest.
const MAX_DIGEST: usize = 80;

/// The number of a session: a worker's next one has a higher number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionNumber(pub u64);

/// An open session of a worker.
pub struct ShellSession<O> {
    number: SessionNumber,
    /// The way to the worker.
    pub outbox: O,
    /// The job of the last assignment: the next one of the same job does not repeat its spec.
    last_job: Option<JobRef>,
}

/// A worker that opens a session.
#[derive(Debug)]
pub struct JoiningWorker<O> {
    /// The worker's id.
    pub worker: WorkerId,
    /// The worker's description of itself.
    pub profile: WorkerProfile,
    /// The shards that it says it holds from an earlier session.
    pub held: Vec<NamedShard>,
    /// The way to it.
    pub outbox: O,
}

/// A session that was opened.
#[derive(Debug)]
pub struct AttachedSession<O> {
    /// The number by which its messages come.
    pub session: SessionNumber,
    /// The way of the session that it replaces.
    pub replaced: Option<O>,
}

/// A shard as a worker names it, by its blocks: whether there is such a one is another question.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedShard {
    /// The job.
    pub job: JobRef,
    /// The first block.
    pub first_block: u64,
    /// The number of blocks.
    pub blocks: u64,
}

impl NamedShard {
    /// The name of a shard that has these blocks.
    pub fn of(shard: ShardRef, blocks: &Range<u64>) -> Self {
        Self { job: shard.job, first_block: blocks.start, blocks: blocks.end - blocks.start }
    }

    /// Returns its blocks; none when the numbers overflow.
    pub fn range(&self) -> Range<u64> {
        self.first_block..self.first_block.checked_add(self.blocks).unwrap_or(self.first_block)
    }
}

/// Something that a worker says in its session. The end of a session is no message: [`Shell::detach`].
#[derive(Clone, Debug, PartialEq)]
pub enum WorkerMessage {
    /// It is there.
    Alive,
    /// It takes no more shards.
    Draining,
    /// It gets on with a shard.
    Progress {
        /// The shard.
        shard: NamedShard,
        /// The worker's progress with it.
        stand: ShardStand,
    },
    /// It has computed a shard whose result follows.
    Computed {
        /// The shard.
        shard: NamedShard,
    },
    /// It could not compute a shard.
    Failed {
        /// The shard.
        shard: NamedShard,
        /// The kind of the failure.
        kind: FailureKind,
        /// The worker's words for it, fit to be shown.
        message: String,
    },
    /// It hands in a result that is small enough to come over the session.
    Result(Box<InlineResult>),
}

/// A result that comes over a session.
#[derive(Clone, Debug, PartialEq)]
pub struct InlineResult {
    /// The shard.
    pub shard: NamedShard,
    /// The class that the worker says it was computed in.
    pub class: Option<NumericsClass>,
    /// The partial's bytes.
    pub data: Vec<u8>,
    /// The digest of the bytes in hexadecimal digits, as the worker says.
    pub digest: String,
    /// The seconds that the shard took its slot.
    pub seconds: f64,
    /// The part of these seconds that passed before the first block.
    pub begin_seconds: f64,
    /// The steps that the worker took for it.
    pub steps: Vec<WorkerStep>,
}

impl<P: ShellPeers> Shell<P> {
    /// Opens a session; an older one of the same worker is over.
    pub fn attach(
        &mut self,
        joining: JoiningWorker<P::Outbox>,
        now: Time,
        observer: &mut impl ShellObserver,
    ) -> AttachedSession<P::Outbox> {
        let JoiningWorker { worker, profile, held, outbox } = joining;
        self.session_count += 1;
        let number = SessionNumber(self.session_count);
        let session = ShellSession { number, outbox, last_job: None };
        let replaced = self.sessions.insert(worker.clone(), session).map(|replaced| replaced.outbox);
        // Shards that do not exist are none of the scheduler's business.
        let held = held.iter().filter_map(|shard| self.find_shard(shard)).collect();
        self.event(Event::Join { worker, profile, held }, now, observer);
        AttachedSession { session: number, replaced }
    }

    /// A session has ended. An older session's end is nothing to a newer one.
    pub fn detach(
        &mut self,
        worker: WorkerId,
        session: SessionNumber,
        drained: bool,
        now: Time,
        observer: &mut impl ShellObserver,
    ) {
        if self.is_current(&worker, session) {
            self.sessions.remove(&worker);
            self.event(Event::Leave { worker, drained }, now, observer);
        }
    }

    /// Takes in what a worker says in a session. What an older session said is nothing to a newer one.
    pub fn message(
        &mut self,
        worker: WorkerId,
        session: SessionNumber,
        message: WorkerMessage,
        now: Time,
        observer: &mut impl ShellObserver,
    ) {
        if !self.is_current(&worker, session) {
            return;
        }
        if let Some(event) = self.said(worker, message, observer) {
            self.event(event, now, observer);
        }
    }

    /// Takes in what a worker did for a shard.
    pub fn steps(
        &mut self,
        worker: &WorkerId,
        shard: &NamedShard,
        steps: Vec<WorkerStep>,
        observer: &mut impl ShellObserver,
    ) {
        if let Some(shard) = self.find_shard(shard) {
            observer.steps(worker, &shard, steps);
        }
    }

    /// Returns a worker's session, if it has one.
    pub fn session(&mut self, worker: &WorkerId) -> Option<&mut ShellSession<P::Outbox>> {
        self.sessions.get_mut(worker)
    }

    /// Ends a worker's session, since the worker does not read what it is told; it loses its leases in time. Returns the way to it.
    pub fn end_session(&mut self, worker: &WorkerId) -> Option<P::Outbox> {
        self.sessions.remove(worker).map(|session| session.outbox)
    }

    fn is_current(&self, worker: &WorkerId, session: SessionNumber) -> bool {
        self.sessions.get(worker).is_some_and(|current| current.number == session)
    }

    /// Returns the shard of this name, if there is such a one.
    pub fn find_shard(&self, named: &NamedShard) -> Option<ShardRef> {
        let node = self.scheduler.node(&named.job, named.range())?;
        Some(named.job.shard(node))
    }

    /// Returns the shard of this name, if it is in the worker's hands.
    fn held(&self, worker: &WorkerId, named: &NamedShard) -> Option<ShardRef> {
        self.find_shard(named).filter(|shard| self.scheduler.holds(worker, shard))
    }

    /// Turns a message of a session into an event of the scheduler.
    fn said(&mut self, worker: WorkerId, message: WorkerMessage, observer: &mut impl ShellObserver) -> Option<Event> {
        match message {
            WorkerMessage::Alive => Some(Event::Alive { worker }),
            WorkerMessage::Draining => Some(Event::Draining { worker }),
            WorkerMessage::Progress { shard, stand } => {
                let shard = self.find_shard(&shard)?;
                Some(Event::Progress { worker, shard, stand })
            }
            WorkerMessage::Computed { shard } => {
                let shard = self.held(&worker, &shard)?;
                Some(Event::Computed { worker, shard })
            }
            WorkerMessage::Failed { shard, kind, message } => {
                let shard = self.held(&worker, &shard)?;
                Some(Event::Failed { worker, shard, kind, message })
            }
            WorkerMessage::Result(result) => self.result(worker, *result, observer),
        }
    }

    /// Turns a result that came over the session into an event. Its bytes are looked at here, since they are few.
    fn result(
        &mut self,
        worker: WorkerId,
        mut result: InlineResult,
        observer: &mut impl ShellObserver,
    ) -> Option<Event> {
        let expected = self.find_shard(&result.shard).filter(|shard| self.scheduler.expects(shard));
        let taken = expected.filter(|shard| self.scheduler.takes_report(&worker, shard) == Some(true));
        let Some(shard) = taken else {
            self.refuse(worker, ResultAnswer { shard: result.shard, verdict: Ok(Verdict::NotNeeded) });
            return None;
        };
        observer.steps(&worker, &shard, std::mem::take(&mut result.steps));
        let content = self.content(&shard, &result);
        let class = result.class.ok_or_else(|| "numerics_class is missing".to_owned());
        match content.and_then(|content| Ok((content, class?))) {
            Err(why) => {
                self.refuse(worker, ResultAnswer { shard: result.shard, verdict: Err(why) });
                None
            }
            Ok((content, class)) => {
                let partial = Partial { bytes: PartialBytes::Inline(result.data.into()), content };
                let request = self.request(RequestAsker::Session(worker.clone(), Box::new(result.shard)));
                let seconds = result.seconds;
                let begin_seconds = result.begin_seconds;
                Some(Event::Report { request, worker, shard, class, partial, seconds, begin_seconds })
            }
        }
    }

    /// Returns the digest of what a result says.
    fn content(&self, shard: &ShardRef, result: &InlineResult) -> Result<Digest, String> {
        let InlineResult { data, digest: said, .. } = result;
        if data.len() > MAX_INLINE_BYTES {
            return Err(format!("data has {} bytes; more than {MAX_INLINE_BYTES} are uploaded", data.len()));
        }
        let digest = Digest::of(data);
        if digest.to_string() != *said {
            return Err(format!("digest = {:?}: the data's digest is {digest}", text::clean(said, MAX_DIGEST)));
        }
        let (_, job, members) = self.scheduler.shard(shard).ok_or("there is no such shard")?;
        P::check_partial(data, digest, job.payload, members)
    }

    /// Answers a result that is no business of the scheduler, with the rest of the batch.
    fn refuse(&mut self, worker: WorkerId, answer: ResultAnswer) {
        self.open.refusals.push((worker, answer));
    }

    /// Returns what a worker is told with a shard; nothing when there is no such shard any more.
    pub(super) fn assignment(&mut self, worker: &WorkerId, shard: ShardRef) -> Option<ShardAssignment> {
        let (_, shape, _) = self.scheduler.shard(&shard)?;
        let blocks = self.scheduler.blocks(&shard)?;
        let mut session = self.sessions.get_mut(worker);
        let is_known = session.as_ref().is_some_and(|session| session.last_job.as_ref() == Some(&shard.job));
        if is_known {
            let inputs = self.scheduler.checkpoint_of(&shard).into_iter().collect();
            return Some(ShardAssignment { shard, blocks, job: None, inputs });
        }
        let job = AssignedJob {
            spec: self.scheduler.spec_text(&shard.job.sweep).unwrap_or_default().to_owned(),
            architecture: shape.architecture.clone(),
            experiment: shape.experiment,
        };
        let inputs = self.scheduler.shard_inputs(&shard);
        if let Some(session) = &mut session {
            session.last_job = Some(shard.job.clone());
        }
        Some(ShardAssignment { shard, blocks, job: Some(job), inputs })
    }
}
