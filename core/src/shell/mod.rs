//! The coordinator's loop without its I/O: sessions, requests and who waits for them, batches, compaction.
//!
//! The event loop of the coordinator and the simulation drive the same [`Shell`]. Whoever drives it hands in what happened, writes
//! the records of the batch to the journal, and then takes one output after the other and does it:
//!
//! ```text
//!   event, ask, attach, message, ...        batch                  written            next_output
//!  ─────────────────────────────────▶ shell ─────▶ (the journal) ──────────▶ shell ──────────────▶ (workers, callers, store)
//!                                       ▲                                                │
//!                                       └────────── end_session: an outbox is full ──────┘
//! ```
//!
//! What a batch leads to cannot be taken out of it before [`Shell::written`] has taken it back: nobody is told what could still be
//! lost. Outputs come one at a time because one of them may end the session that a later one is for. Deliberately absent: clocks,
//! channels, the journal, and the wire's types.

mod compaction;
mod observer;
mod output;
mod session;
#[cfg(test)]
mod tests;

pub use compaction::CompactionBounds;
pub use observer::{ShellObserver, WorkerStep};
pub use output::{AssignedJob, ResultAnswer, ShardAssignment, ShellBatch, ShellOutput};
pub use session::{
    AttachedSession, InlineResult, JoiningWorker, NamedShard, SessionNumber, ShellSession, WorkerMessage,
};

use crate::ids::{Digest, Time, WorkerId};
use crate::scheduler::{Answer, Claim, Event, RequestId, Scheduler};
use crate::spec::Payload;
use compaction::JournalLength;
use output::DurableBatch;
use std::collections::{BTreeSet, HashMap};

/// This is said of a report of another class, or of a shard that there is not.
pub const INVALID_REPORT: &str = "the result's numerics class is not its sweep's, or the sweep has no such shard";

/// Says how a shell names those around it.
pub trait ShellPeers {
    /// The way to a worker, for one session.
    type Outbox;
    /// Somebody who waits for the answer to a request.
    type Caller;
    /// Somebody who is told what became of shards that are computed again.
    type Checks;
    /// A question that changes nothing and is answered in its turn.
    type Question;

    /// Returns whether nobody waits for the answer any more.
    fn has_gone(caller: &Self::Caller) -> bool;

    /// Returns the digest of what the bytes of a partial of `members` members say, without how long it took.
    ///
    /// # Errors
    /// Says what no right computation yields.
    fn check_partial(bytes: &[u8], digest: Digest, payload: Payload, members: u64) -> Result<Digest, String>;
}

/// The one who waits for the answer to a request.
enum RequestAsker<C> {
    Caller(C),
    /// A worker that has handed a result in over its session.
    Session(WorkerId, Box<NamedShard>),
}

/// A shell holds the scheduler, and all that a loop around it must know.
pub struct Shell<P: ShellPeers> {
    scheduler: Scheduler,
    /// The batch that gathers what happens.
    open: ShellBatch<P>,
    durable: DurableBatch<P>,
    requests: u64,
    askers: HashMap<RequestId, RequestAsker<P::Caller>>,
    verifications: HashMap<RequestId, P::Checks>,
    sessions: HashMap<WorkerId, ShellSession<P::Outbox>>,
    session_count: u64,
    /// Milliseconds for which nobody was listened to and of which the scheduler does not know yet.
    deaf_ms: u64,
    journal: JournalLength,
}

impl<P: ShellPeers> Shell<P> {
    /// Wraps a scheduler that has replayed a journal of this many records.
    pub fn new(scheduler: Scheduler, journalled: u64, bounds: CompactionBounds) -> Self {
        Self {
            scheduler,
            open: ShellBatch::default(),
            durable: DurableBatch::default(),
            requests: 0,
            askers: HashMap::new(),
            verifications: HashMap::new(),
            sessions: HashMap::new(),
            session_count: 0,
            deaf_ms: 0,
            journal: JournalLength::new(journalled, bounds),
        }
    }

    /// Returns the state, which is ahead of the journal while a batch is not written.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// Does what is due after the replay, before anything else.
    pub fn resume(&mut self, now: Time) {
        self.open.effects = self.scheduler.resume(now);
    }

    /// Nobody was listened to for so long. The scheduler learns it before anything else that happens.
    pub fn was_deaf(&mut self, ms: u64) {
        self.deaf_ms += ms;
    }

    /// Returns when [`Event::Tick`] is due at the latest, if nothing else happens.
    pub fn next_deadline(&self) -> Option<Time> {
        self.scheduler.next_deadline()
    }

    /// Takes in something that nobody is to be answered.
    pub fn event(&mut self, event: Event, now: Time, observer: &mut impl ShellObserver) {
        if self.deaf_ms > 0 {
            let ms = std::mem::take(&mut self.deaf_ms);
            self.scheduler.handle_into(Event::Stalled { ms }, now, &mut self.open.effects);
        }
        if let Event::EndVerify { verification } = &event {
            self.verifications.remove(verification);
        }
        observer.event(&event, &self.scheduler);
        self.scheduler.handle_into(event, now, &mut self.open.effects);
    }

    /// Takes in a request; the event is made with its id.
    pub fn ask(
        &mut self,
        event: impl FnOnce(RequestId) -> Event,
        caller: P::Caller,
        now: Time,
        observer: &mut impl ShellObserver,
    ) {
        let request = self.request(RequestAsker::Caller(caller));
        self.event(event(request), now, observer);
    }

    /// Takes in a user's request, unless the user has given up meanwhile: then it is not done.
    pub fn order(
        &mut self,
        event: impl FnOnce(RequestId) -> Event,
        caller: P::Caller,
        now: Time,
        observer: &mut impl ShellObserver,
    ) {
        if !P::has_gone(&caller) {
            self.ask(event, caller, now, observer);
        }
    }

    /// Has shards computed again; what becomes of each goes to `checks`.
    pub fn verify(
        &mut self,
        claims: Vec<Claim>,
        checks: P::Checks,
        caller: P::Caller,
        now: Time,
        observer: &mut impl ShellObserver,
    ) {
        let request = self.request(RequestAsker::Caller(caller));
        self.verifications.insert(request, checks);
        self.event(Event::Verify { request, claims }, now, observer);
    }

    /// Takes a question, which is answered after all that was said before it.
    pub fn question(&mut self, question: P::Question) {
        self.open.questions.push(question);
    }

    fn request(&mut self, asker: RequestAsker<P::Caller>) -> RequestId {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.askers.insert(request, asker);
        request
    }

    /// Returns the batch that gathers what happens, to be looked at.
    pub fn open_batch(&self) -> &ShellBatch<P> {
        &self.open
    }

    /// Returns what has happened since the last batch. Its records are to be written before [`Shell::written`] takes it back.
    pub fn batch(&mut self) -> ShellBatch<P> {
        std::mem::take(&mut self.open)
    }

    /// Takes back a batch whose records are durable. What follows from it comes from [`Shell::next_output`].
    pub fn written(&mut self, batch: ShellBatch<P>, observer: &mut impl ShellObserver) {
        self.journal.grows(batch.records().len() as u64);
        for record in batch.records() {
            observer.record(record, &self.scheduler);
        }
        self.durable = DurableBatch::of(batch);
    }

    /// Returns the next thing to do of the batch that was written last; nothing when all of it is done.
    pub fn next_output(&mut self) -> Option<ShellOutput<P>> {
        if let Some((worker, answer)) = self.durable.refusals.next() {
            return Some(ShellOutput::AnswerResult { worker, answer });
        }
        while let Some(action) = self.durable.actions.next() {
            let output = self.output(action);
            if output.is_some() {
                return output;
            }
        }
        self.durable.questions.next().map(ShellOutput::Question)
    }

    /// Returns who is to be told what becomes of the shards of a verification.
    pub fn verification(&self, verification: RequestId) -> Option<&P::Checks> {
        self.verifications.get(&verification)
    }

    /// Returns those of some blobs that nothing refers to.
    pub fn unneeded(&self, blobs: Vec<Digest>) -> BTreeSet<Digest> {
        let mut unneeded: BTreeSet<Digest> = blobs.into_iter().collect();
        for needed in self.scheduler.referenced() {
            unneeded.remove(&needed);
        }
        unneeded
    }

    /// Returns the asker of a request, with the answer in the form that it gets.
    fn answered(&mut self, request: RequestId, answer: Answer) -> Option<ShellOutput<P>> {
        if answer != Answer::Verifying {
            self.verifications.remove(&request);
        }
        match (self.askers.remove(&request)?, answer) {
            (RequestAsker::Caller(caller), answer) => Some(ShellOutput::Answer { request, caller, answer }),
            (RequestAsker::Session(worker, shard), Answer::Reported(verdict)) => {
                Some(ShellOutput::AnswerResult { worker, answer: ResultAnswer::of(*shard, verdict) })
            }
            (RequestAsker::Session(..), _) => None,
        }
    }

    /// Returns how many records the journal holds.
    pub fn journalled(&self) -> u64 {
        self.journal.records()
    }

    /// Returns whether the journal is so much longer than a snapshot that it is to be replaced by one.
    pub fn is_compaction_due(&mut self) -> bool {
        self.journal.is_compaction_due(&self.scheduler)
    }

    /// The journal was replaced by a snapshot, and holds so many records now.
    pub fn compacted(&mut self, records: u64) {
        self.journal.compacted(records);
    }

    /// The journal could not be replaced: it is as it was, and grows for a while before that is tried again.
    pub fn not_compacted(&mut self) {
        self.journal.not_compacted();
    }
}
