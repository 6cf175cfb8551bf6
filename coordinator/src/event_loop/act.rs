//! The shell's outputs, done: answers, messages to workers, removals; merges and reductions are in `pool.rs`.

use super::EventLoop;
use super::handle::{LoopCommand, SessionNews};
use super::peers::CoordinatorPeers;
use super::pool::MergeJob;
use crate::journal::Journal;
use nadgrid_core::ids::{Digest, WorkerId};
use nadgrid_core::scheduler::{Answer, Event, RequestId};
use nadgrid_core::shell::{NamedShard, ResultAnswer, ShardAssignment, ShellOutput};
use std::time::Instant;
use tracing::{debug, warn};

impl<J: Journal> EventLoop<J> {
    pub(super) fn act(&mut self, output: ShellOutput<CoordinatorPeers>) {
        match output {
            ShellOutput::Answer { request, caller, answer } => {
                if answer == Answer::Verifying {
                    self.end_when_closed(request);
                }
                drop(caller.send(answer));
            }
            ShellOutput::Assign { worker, assignment } => self.assign(&worker, assignment),
            ShellOutput::Revoke { worker, shard, blocks, reason } => {
                self.onlookers.gone(&shard, &worker, None);
                self.send(&worker, SessionNews::Revocation { shard: NamedShard::of(shard, &blocks), reason });
            }
            ShellOutput::AnswerResult { worker, answer } => {
                self.log_refusal(&worker, &answer);
                self.send(&worker, SessionNews::Answer(answer));
            }
            // The worker's stream ends when the way to it is dropped.
            ShellOutput::Disconnect { worker, outbox: _ } => {
                warn!(%worker, "silent for too long: its session is closed");
            }
            ShellOutput::SetAside { worker, reason } => warn!(%worker, reason, "a worker is set aside"),
            ShellOutput::Damaged { worker, reason } => {
                warn!(%worker, reason, "a partial cannot be used: it is computed again");
            }
            ShellOutput::Merge { job, number, node, partials } => {
                self.spawn_merge(MergeJob { job, number }, node, partials);
            }
            ShellOutput::Reduce { job, generation, committed } => {
                self.spawn_reduction(MergeJob { job, number: generation }, committed);
            }
            ShellOutput::Checked { verification, check } => {
                if let Some(checks) = self.shell.verification(verification) {
                    // A receiver that is gone ends the verification by itself.
                    drop(checks.send(check));
                }
            }
            ShellOutput::Discard { blobs } => self.spawn_discard(blobs),
            ShellOutput::Changed { sweep } => self.onlookers.views.changed(&sweep),
            ShellOutput::Question(question) => question(self.shell.scheduler(), self.clock.now()),
        }
    }

    fn assign(&mut self, worker: &WorkerId, assignment: ShardAssignment) {
        let session = self.shell.session(worker);
        let name = session.map_or_else(|| "".into(), |session| session.outbox.name.clone());
        let shard = &assignment.shard;
        self.onlookers.meters.leased();
        let context = self.onlookers.leased(worker, name, shard, self.shell.scheduler());
        if let Some(context) = &context {
            let shape = self.shell.scheduler().shard(shard).map(|(_, shape, _)| shape);
            let job = shape.map(|shape| shape.experiment.as_str());
            debug!(%worker, sweep = %shard.job.sweep, job, node = ?shard.node, trace_id = %context.trace_id(), "leased");
        }
        self.send(worker, SessionNews::Assignment { assignment, context });
    }

    /// Sends without waiting. A worker that does not read loses its session, and with it its leases in time.
    fn send(&mut self, worker: &WorkerId, news: SessionNews) {
        let Some(session) = self.shell.session(worker) else { return };
        if session.outbox.sender.try_send(news).is_err() {
            warn!(%worker, "the worker does not read its messages: its session is closed");
            self.shell.end_session(worker);
        }
    }

    /// Says in the log that a result is refused: once a minute, however many are.
    fn log_refusal(&mut self, worker: &WorkerId, answer: &ResultAnswer) {
        let Err(reason) = &answer.verdict else { return };
        let session = self.shell.session(worker);
        let Some(unsaid) = session.and_then(|session| session.outbox.refused.is_news(Instant::now())) else { return };
        let shard = self.shell.find_shard(&answer.shard);
        let shape = shard.as_ref().and_then(|shard| self.shell.scheduler().shard(shard)).map(|(_, shape, _)| shape);
        let job = shape.map(|shape| shape.name());
        warn!(%worker, sweep = %answer.shard.job.sweep, job, reason, unsaid, "a result was refused");
    }

    /// Ends a verification when nobody waits for it any more.
    fn end_when_closed(&self, verification: RequestId) {
        let Some(checks) = self.shell.verification(verification).cloned() else { return };
        let back = self.back.clone();
        tokio::spawn(async move {
            checks.closed().await;
            if let Some(commands) = back.upgrade() {
                drop(commands.send(LoopCommand::Event(Event::EndVerify { verification })).await);
            }
        });
    }

    /// Removes blobs that nothing else refers to.
    fn spawn_discard(&self, blobs: Vec<Digest>) {
        // Begun before looking at what is referred to: what is stored from now on is spared.
        let removal = self.store.removal();
        let unneeded = self.shell.unneeded(blobs);
        tokio::spawn(async move {
            for digest in unneeded {
                if let Err(error) = removal.remove(digest).await {
                    warn!(%error, "a blob could not be removed");
                }
            }
        });
    }
}
