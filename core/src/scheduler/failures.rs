//! Shards that were given up: they are tried again elsewhere, split to find the block that fails, or quarantined.

use super::effect::{Action, Effects};
use super::record::{Record, ShardFailure, SweepOutcome};
use super::shard::{FailureKind, JobRef, ShardRef};
use super::state::{Attempts, Purpose, Retry, Worker};
use super::{Scheduler, Settings};
use crate::grid::Node;
use crate::ids::{Time, WorkerId};
use std::ops::Range;

/// The way in which a worker came to hold a shard no more.
#[derive(Clone, Copy, Debug)]
pub(super) enum Gone<'a> {
    /// It gave the shard back: nothing went wrong.
    Released,
    /// It was lost with it.
    Lost,
    /// It failed, and said why.
    Failed(&'a str),
}

impl Scheduler {
    pub(super) fn failed(
        &mut self,
        id: &WorkerId,
        shard: &ShardRef,
        kind: FailureKind,
        message: &str,
        now: Time,
        effects: &mut Effects,
    ) {
        self.seen(id, now);
        if self.workers.get(id).is_none_or(|worker| !worker.held.contains_key(shard)) {
            return;
        }
        if let Some(worker) = self.workers.get_mut(id) {
            worker.last_error = Some(message.to_owned());
        }
        match kind {
            FailureKind::Spec if self.is_open(&shard.job.sweep) => {
                // Nobody tries it again, so whoever reads it is to know whose word it is.
                let name = self.workers.get(id).map_or(id.as_str(), |worker| worker.profile.name.as_str());
                let outcome = SweepOutcome::Failed { message: format!("worker {name} says of the spec: {message}") };
                self.end(&shard.job.sweep, outcome, now, effects);
            }
            FailureKind::Unfit => {
                self.set_aside(id, message, effects);
                self.give_up(id, shard, Gone::Released, now, effects);
            }
            FailureKind::Task | FailureKind::Transient | FailureKind::Spec => {
                self.give_up(id, shard, Gone::Failed(message), now, effects);
            }
        }
    }

    /// Takes a shard from a worker and finds another place for its blocks.
    pub(super) fn give_up(&mut self, id: &WorkerId, shard: &ShardRef, how: Gone<'_>, now: Time, effects: &mut Effects) {
        let Some(purpose) = self.unhold(id, shard) else { return };
        self.wake_all = true;
        effects.actions.push(Action::Changed { sweep: shard.job.sweep.clone() });
        match (purpose, how) {
            (Purpose::Verify(request), _) => self.verification_failed(request, shard, how, effects),
            // Another holder goes on. What went wrong counts all the same: else copies could fail one after the other for ever.
            (Purpose::Compute, _) if self.job(&shard.job).is_none_or(|job| job.lease(shard.node).is_some()) => {
                if !matches!(how, Gone::Released) {
                    let attempts = self.count_attempt(id, shard, how);
                    self.job_mut(&shard.job).and_then(|job| job.attempts.insert(shard.node, attempts));
                }
            }
            (Purpose::Compute, Gone::Released) => self.reopen(shard, now),
            (Purpose::Compute, Gone::Lost | Gone::Failed(_)) => self.retry(id, shard, how, now, effects),
            (Purpose::Audit, _) => {}
        }
    }

    /// Gives a shard's blocks back as they were. One that has a checkpoint stays whole.
    fn reopen(&mut self, shard: &ShardRef, now: Time) {
        let Some(job) = self.job_mut(&shard.job) else { return };
        if job.checkpoints.contains_key(&shard.node) {
            self.wait(shard, now);
        } else {
            let blocks = job.blocks(shard.node);
            job.pending.insert(blocks);
        }
        self.requeue(&shard.job.sweep);
    }

    fn wait(&mut self, shard: &ShardRef, not_before: Time) {
        let Some(job) = self.job_mut(&shard.job) else { return };
        let start = job.blocks(shard.node).start;
        job.waiting.insert(start, Retry { node: shard.node, not_before });
        self.next_retry = Some(self.next_retry.map_or(not_before, |next| next.min(not_before)));
    }

    /// Adds to what has gone wrong with a shard so far, and returns it; the caller puts it back.
    fn count_attempt(&mut self, id: &WorkerId, shard: &ShardRef, how: Gone<'_>) -> Attempts {
        let name = self.workers.get(id).map(|worker| worker.profile.name.clone()).unwrap_or_default();
        let mut attempts =
            self.job_mut(&shard.job).and_then(|job| job.attempts.remove(&shard.node)).unwrap_or_default();
        attempts.proven |= self.has_proven(id);
        match how {
            Gone::Failed(message) => {
                let known = attempts.workers.insert(id.clone(), name).is_some();
                attempts.failures += u32::from(!known || !self.has_others(shard, &attempts));
                message.clone_into(&mut attempts.message);
            }
            Gone::Lost | Gone::Released => {
                attempts.losses += 1;
                attempts.lost.insert(id.clone());
                "the worker was lost".clone_into(&mut attempts.message);
            }
        }
        attempts
    }

    /// Returns who reported the partials of these nodes, where each is of one shard: merged ones are nobody's.
    pub(super) fn reporters(&self, of: &JobRef, nodes: &[Node]) -> Vec<(Node, WorkerId)> {
        let Some(job) = self.job(of) else { return Vec::new() };
        let reported = |&node: &Node| {
            let held = job.committed.get(job.blocks(node).start).filter(|held| held.node == node)?;
            Some((node, held.worker))
        };
        nodes.iter().filter_map(reported).collect()
    }

    /// Partials that were withdrawn because they were lost or damaged: whoever reported them is named, and others compute them again
    /// if there are any. The store may be to blame, so that nobody is set aside for it.
    pub(super) fn note_damaged(
        &mut self,
        of: &JobRef,
        reporters: Vec<(Node, WorkerId)>,
        now: Time,
        effects: &mut Effects,
    ) {
        for (node, worker) in reporters {
            let shard = of.shard(node);
            let Some(job) = self.job_mut(&shard.job) else { continue };
            let blocks = job.blocks(node);
            if !job.pending.contains_all(&blocks) {
                continue;
            }
            job.pending.remove(&blocks);
            let Range { start, end } = blocks;
            let name = &job.shape.name();
            let reason = format!("what it put into the store of blocks {start}..{end} of {name} was gone or damaged");
            let mut attempts = self.count_attempt(&worker, &shard, Gone::Lost);
            let known = self.workers.get_mut(&worker).map(|known| {
                known.last_error = Some(reason.clone());
                known.profile.name.clone()
            });
            attempts.workers.insert(worker.clone(), known.unwrap_or_default());
            attempts.message.clone_from(&reason);
            self.job_mut(&shard.job).and_then(|job| job.attempts.insert(node, attempts));
            self.wait(&shard, now);
            effects.actions.push(Action::Damaged { worker, reason });
        }
        self.requeue(&of.sweep);
    }

    /// Queues a shard for another attempt; when it has had too many it is split, or quarantined.
    fn retry(&mut self, id: &WorkerId, shard: &ShardRef, how: Gone<'_>, now: Time, effects: &mut Effects) {
        let settings = self.settings;
        let attempts = self.count_attempt(id, shard, how);
        // Workers that have never yielded anything can fail as often as they like: that says nothing of the shard. But one that
        // takes down whoever has it is not to take down all.
        let last_hope = !attempts.proven && self.has_proven_others(shard, &attempts);
        if self.job(&shard.job).is_none() {
            return;
        }
        self.record(Record::Retried { shard: shard.clone() }, effects);
        let Some(job) = self.job_mut(&shard.job) else { return };
        let rounds = (attempts.failures + attempts.losses).saturating_sub(1).min(6);
        let not_before = now.plus(settings.retry_wait_ms << rounds);
        if !attempts.are_exhausted(&settings) || last_hope {
            job.attempts.insert(shard.node, attempts);
            self.wait(shard, not_before);
        } else if job.blocks(shard.node).end - job.blocks(shard.node).start > 1 {
            self.split(shard, &attempts, not_before);
        } else {
            self.quarantine(shard, attempts, now, effects);
        }
        self.requeue(&shard.job.sweep);
    }

    /// Returns whether somebody could take a shard who has not failed on it.
    pub(super) fn has_others(&self, shard: &ShardRef, attempts: &Attempts) -> bool {
        self.others(shard, attempts).next().is_some()
    }

    /// Workers that could take a shard and have neither failed on it nor been lost with it.
    fn others<'a>(&'a self, shard: &ShardRef, attempts: &'a Attempts) -> impl Iterator<Item = &'a Worker> {
        let sweep = self.sweeps.get(&shard.job.sweep);
        let fits = move |worker: &Worker| worker.is_fit() && sweep.is_some_and(|sweep| sweep.accepts(&worker.profile));
        self.workers.iter().filter(move |(id, worker)| fits(worker) && !attempts.had(id)).map(|(_, worker)| worker)
    }

    /// Returns whether a worker has yielded anything.
    pub(super) fn has_proven(&self, id: &WorkerId) -> bool {
        self.workers.get(id).is_some_and(|worker| worker.members_done > 0)
    }

    /// Returns whether somebody who has yielded something could take a shard and has not had it.
    pub(super) fn has_proven_others(&self, shard: &ShardRef, attempts: &Attempts) -> bool {
        self.others(shard, attempts).any(|worker| worker.members_done > 0)
    }

    /// Tries the halves one by one: only blocks that fail are to be lost. Each has fewer attempts left than a fresh shard.
    fn split(&mut self, shard: &ShardRef, attempts: &Attempts, not_before: Time) {
        let left = Node { level: shard.node.level - 1, index: shard.node.index * 2 };
        for node in [left, Node { index: left.index + 1, ..left }] {
            let settings = self.settings;
            let Some(job) = self.job_mut(&shard.job) else { return };
            if job.blocks(node).is_empty() {
                continue;
            }
            let failures = attempts.failures.min(settings.most_attempts.saturating_sub(1));
            let losses = attempts.losses.min(settings.most_losses / 2);
            job.attempts.insert(node, Attempts { failures, losses, ..attempts.clone() });
            self.wait(&ShardRef { node, ..shard.clone() }, not_before);
        }
    }

    fn quarantine(&mut self, shard: &ShardRef, attempts: Attempts, now: Time, effects: &mut Effects) {
        let Some(job) = self.job(&shard.job) else { return };
        let failure = ShardFailure {
            job: shard.job.index,
            node: shard.node,
            blocks: job.blocks(shard.node),
            attempts: attempts.failures + attempts.losses,
            workers: attempts.workers.into_values().collect(),
            message: attempts.message,
        };
        self.record(Record::Quarantined { sweep: shard.job.sweep.clone(), failure }, effects);
        self.settle(&shard.job, now, effects);
    }
}

impl Attempts {
    /// Returns whether a worker has failed on a shard, or was lost with it.
    pub(super) fn had(&self, id: &WorkerId) -> bool {
        self.workers.contains_key(id) || self.lost.contains(id)
    }

    /// Returns whether a shard has had as many attempts as it gets.
    pub(super) fn are_exhausted(&self, settings: &Settings) -> bool {
        self.failures >= settings.most_attempts || self.losses >= settings.most_losses
    }
}
