//! The records that are written, and what is done once they are.

use super::session::NamedShard;
use super::{INVALID_REPORT, Shell, ShellPeers};
use crate::grid::Node;
use crate::ids::{Digest, SweepId, WorkerId};
use crate::scheduler::{
    Action, Answer, Check, Committed, Effects, JobRef, Record, RequestId, ShardInput, ShardRef, StoredPartial, Verdict,
};
use crate::spec::Experiment;
use std::ops::Range;
use std::vec;

/// A batch is what has happened between two writes: its records go to the journal, the rest waits until they are there.
pub struct ShellBatch<P: ShellPeers> {
    pub(super) effects: Effects,
    /// Results that are answered without a request, and to whom.
    pub(super) refusals: Vec<(WorkerId, ResultAnswer)>,
    pub(super) questions: Vec<P::Question>,
}

impl<P: ShellPeers> Default for ShellBatch<P> {
    fn default() -> Self {
        Self { effects: Effects::default(), refusals: Vec::new(), questions: Vec::new() }
    }
}

impl<P: ShellPeers> ShellBatch<P> {
    /// Returns the records that are to be durable before anything else is done.
    pub fn records(&self) -> &[Record] {
        &self.effects.records
    }

    /// Returns what the scheduler asks for, to be looked at: it is done by way of [`Shell::next_output`].
    pub fn actions(&self) -> &[Action] {
        &self.effects.actions
    }

    /// Returns the results that are answered without a request, to be looked at.
    pub fn refusals(&self) -> &[(WorkerId, ResultAnswer)] {
        &self.refusals
    }

    /// Returns how many outputs it may lead to.
    pub fn outputs(&self) -> usize {
        self.refusals.len() + self.effects.actions.len() + self.questions.len()
    }
}

/// The outputs that are left of a batch that is durable.
pub(super) struct DurableBatch<P: ShellPeers> {
    pub(super) refusals: vec::IntoIter<(WorkerId, ResultAnswer)>,
    pub(super) actions: vec::IntoIter<Action>,
    pub(super) questions: vec::IntoIter<P::Question>,
}

impl<P: ShellPeers> Default for DurableBatch<P> {
    fn default() -> Self {
        Self::of(ShellBatch::default())
    }
}

impl<P: ShellPeers> DurableBatch<P> {
    pub(super) fn of(batch: ShellBatch<P>) -> Self {
        let ShellBatch { effects, refusals, questions } = batch;
        Self { refusals: refusals.into_iter(), actions: effects.actions.into_iter(), questions: questions.into_iter() }
    }
}

/// Something to be done, now that its records are durable.
pub enum ShellOutput<P: ShellPeers> {
    /// A request is answered. One that is answered with [`Answer::Verifying`] goes on until [`crate::scheduler::Event::EndVerify`].
    Answer {
        /// The request.
        request: RequestId,
        /// The one who waits for it.
        caller: P::Caller,
        /// The answer.
        answer: Answer,
    },
    /// A worker is given a shard, by way of [`Shell::session`].
    Assign {
        /// The worker.
        worker: WorkerId,
        /// The shard, and what the worker needs for it.
        assignment: ShardAssignment,
    },
    /// A worker is told that a shard is not wanted any more, by way of [`Shell::session`].
    Revoke {
        /// The worker.
        worker: WorkerId,
        /// The shard.
        shard: ShardRef,
        /// The blocks of the shard.
        blocks: Range<u64>,
        /// The reason in words.
        reason: &'static str,
    },
    /// A worker is told what becomes of a result that came over its session, by way of [`Shell::session`].
    AnswerResult {
        /// The worker.
        worker: WorkerId,
        /// The answer to the worker.
        answer: ResultAnswer,
    },
    /// A worker was silent for too long: its session ends.
    Disconnect {
        /// The worker.
        worker: WorkerId,
        /// The way to it, unless the session has ended before.
        outbox: Option<P::Outbox>,
    },
    /// The log says that a worker is given nothing any more.
    SetAside {
        /// The worker.
        worker: WorkerId,
        /// The reason in words.
        reason: String,
    },
    /// The log says whose partial was damaged.
    Damaged {
        /// The worker that reported it.
        worker: WorkerId,
        /// The blocks that it was of, in words.
        reason: String,
    },
    /// Partials are merged while their job is computed.
    Merge {
        /// The job.
        job: JobRef,
        /// The number of the merge among those of the job.
        number: u64,
        /// The node that the partials cover together.
        node: Node,
        /// The partials, left to right.
        partials: Vec<StoredPartial>,
    },
    /// A job's partials are merged, and its results computed.
    Reduce {
        /// The job.
        job: JobRef,
        /// The number of the reduction among those of the job.
        generation: u64,
        /// All partials of the job.
        committed: Committed,
    },
    /// The requester of a verification learns what became of a shard, by way of [`Shell::verification`].
    Checked {
        /// The request that began it.
        verification: RequestId,
        /// The outcome for one shard.
        check: Check,
    },
    /// Blobs are removed that nothing refers to, which [`Shell::unneeded`] picks.
    Discard {
        /// The blobs that a sweep does not need any more.
        blobs: Vec<Digest>,
    },
    /// Watchers of a sweep are told that it has changed.
    Changed {
        /// The sweep.
        sweep: SweepId,
    },
    /// A question is answered: all that was said before it is durable.
    Question(P::Question),
}

/// A shard that a worker is to compute.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardAssignment {
    /// The shard.
    pub shard: ShardRef,
    /// The blocks of the shard.
    pub blocks: Range<u64>,
    /// The job, which is absent when the session's last assignment was of the same job.
    pub job: Option<AssignedJob>,
    /// The files that the worker does not have yet: all of them with a new job, otherwise those of the shard alone.
    pub inputs: Vec<ShardInput>,
}

/// The job of an assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignedJob {
    /// The sweep's spec as TOML.
    pub spec: String,
    /// The job's architecture.
    pub architecture: String,
    /// The job's experiment.
    pub experiment: Experiment,
}

/// The answer to a result that came over a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultAnswer {
    /// The shard, as the worker named it.
    pub shard: NamedShard,
    /// The verdict, or why the result is refused.
    pub verdict: Result<Verdict, String>,
}

impl ResultAnswer {
    pub(super) fn of(shard: NamedShard, verdict: Verdict) -> Self {
        let verdict = match verdict {
            Verdict::Invalid => Err(INVALID_REPORT.to_owned()),
            Verdict::NoSession => Err(String::new()),
            verdict => Ok(verdict),
        };
        Self { shard, verdict }
    }
}

impl<P: ShellPeers> Shell<P> {
    /// Returns an action of the scheduler as whoever drives the shell does it; nothing when there is nothing to do.
    pub(super) fn output(&mut self, action: Action) -> Option<ShellOutput<P>> {
        Some(match action {
            Action::Answer { request, answer } => return self.answered(request, answer),
            Action::Lease { worker, shard } => {
                let assignment = self.assignment(&worker, shard)?;
                ShellOutput::Assign { worker, assignment }
            }
            Action::Revoke { worker, shard, reason } => {
                let blocks = self.scheduler.blocks(&shard)?;
                ShellOutput::Revoke { worker, shard, blocks, reason }
            }
            Action::Disconnect { worker } => {
                let outbox = self.end_session(&worker);
                ShellOutput::Disconnect { worker, outbox }
            }
            Action::SetAside { worker, reason } => ShellOutput::SetAside { worker, reason },
            Action::Damaged { worker, reason } => ShellOutput::Damaged { worker, reason },
            Action::Merge { job, number, node, partials } => ShellOutput::Merge { job, number, node, partials },
            Action::Reduce { job, generation, committed } => ShellOutput::Reduce { job, generation, committed },
            Action::Checked { verification, check } => ShellOutput::Checked { verification, check },
            Action::Discard { blobs } if blobs.is_empty() => return None,
            Action::Discard { blobs } => ShellOutput::Discard { blobs },
            Action::Changed { sweep } => ShellOutput::Changed { sweep },
        })
    }
}
