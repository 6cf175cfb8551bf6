//! Giving shards to free slots: by priority, then to the sweep that has least for its weight, then to the oldest.

use super::Scheduler;
use super::effect::{Action, Effects};
use super::failures::Gone;
use super::headway::Headway;
use super::record::Record;
use super::shard::{JobRef, ShardRef, WorkerProfile};
use super::state::{Job, JobState, Purpose, Sweep, SweepState, Worker, WorkerKind};
use crate::grid::Node;
use crate::ids::{JobIndex, SweepId, Time, WorkerId};
use crate::numerics::NumericsClass;

impl Scheduler {
    /// Gives every free slot a shard, one slot per worker and turn, so that a small sweep spreads out.
    pub(super) fn assign(&mut self, now: Time, effects: &mut Effects) {
        if self.next_retry.is_some_and(|next| next <= now) {
            self.next_retry = self.retry_after(now);
            self.wake_all = true;
        }
        if self.kinds_are_stale {
            self.count_kinds();
        }
        let woken = std::mem::take(&mut self.woken);
        let mut free: Vec<WorkerId> = if std::mem::take(&mut self.wake_all) {
            self.idle.iter().cloned().collect()
        } else {
            woken.into_iter().filter(|id| self.idle.contains(id)).collect()
        };
        while !free.is_empty() {
            if self.queue.is_empty() && self.verifications.is_empty() {
                break;
            }
            free.retain(|worker| match self.choose(worker, now) {
                Some((shard, purpose)) => {
                    self.lease(worker, &shard, purpose, now, effects);
                    self.idle.contains(worker)
                }
                None => false,
            });
        }
        self.speculate(now, effects);
        // Whoever was woken by a lease has been looked at.
        self.woken.clear();
    }

    /// The first retry that is due after `now`.
    fn retry_after(&self, now: Time) -> Option<Time> {
        let open = self.open.iter().filter_map(|id| self.sweeps.get(id));
        let due = open.flat_map(|s| &s.jobs).flat_map(|job| job.waiting.values()).map(|retry| retry.not_before);
        due.filter(|at| *at > now).min()
    }

    /// The next shard for a worker.
    fn choose(&self, id: &WorkerId, now: Time) -> Option<(ShardRef, Purpose)> {
        let worker = self.workers.get(id)?;
        if let Some((request, shard)) = self.choose_verification(worker) {
            return Some((shard, Purpose::Verify(request)));
        }
        self.queue.values().find_map(|sweep_id| {
            let sweep = self.sweeps.get(sweep_id).filter(|sweep| sweep.accepts(&worker.profile))?;
            sweep.jobs.iter().enumerate().find_map(|(index, job)| {
                if job.state != JobState::Computing || sweep.waits(job) {
                    return None;
                }
                let of = JobRef::new(sweep_id, JobIndex(index as u32));
                let retried = || self.choose_retry(job, id, &of, now).map(|shard| (shard, Purpose::Compute));
                let audited = || self.choose_audit(sweep, job, id).map(|node| (of.shard(node), Purpose::Audit));
                let fresh = || self.choose_fresh(sweep, job, worker).map(|node| (of.shard(node), Purpose::Compute));
                retried().or_else(audited).or_else(fresh)
            })
        })
    }

    /// A shard whose wait is over. One that failed here goes elsewhere while there is an elsewhere.
    fn choose_retry(&self, job: &Job, id: &WorkerId, of: &JobRef, now: Time) -> Option<ShardRef> {
        let due = job.waiting.values().filter(|retry| retry.not_before <= now).map(|retry| of.shard(retry.node));
        let mut fitting = due.filter(|shard| {
            let Some(attempts) = job.attempts.get(&shard.node) else { return true };
            if attempts.had(id) {
                return !self.has_others(shard, attempts);
            }
            // Once it has gone wrong often, whoever has shown that it can compute is asked first.
            !attempts.are_exhausted(&self.settings)
                || attempts.proven
                || self.has_proven(id)
                || !self.has_proven_others(shard, attempts)
        });
        fitting.next()
    }

    /// Decides the class of a sweep: that of the first result, or of the first piece of one, that is kept. What workers of other
    /// classes compute of it is not wanted any more. A class that only takes shards decides nothing.
    pub(super) fn bind_class(&mut self, id: &SweepId, class: &NumericsClass, now: Time, effects: &mut Effects) {
        let Some(sweep) = self.sweeps.get(id).filter(|sweep| sweep.class.is_none()) else { return };
        let at = sweep.started.unwrap_or(now);
        self.record(Record::Started { sweep: id.clone(), class: class.clone(), at }, effects);
        for (worker, shard) in self.holders_of(id) {
            let fits = self.workers.get(&worker).zip(self.sweeps.get(id)).is_some_and(|(w, s)| s.accepts(&w.profile));
            if !fits {
                self.give_up(&worker, &shard, Gone::Released, now, effects);
                let reason = "the sweep is computed in another numerics class";
                effects.actions.push(Action::Revoke { worker, shard, reason });
            }
        }
        self.kinds_are_stale = true;
    }

    /// The first blocks that nobody has had, as many as suit the worker.
    fn choose_fresh(&self, sweep: &Sweep, job: &Job, worker: &Worker) -> Option<Node> {
        let first = job.pending.first()?;
        let slots = self.slots_for(sweep);
        let member = self.member_on(worker, job);
        let limit = self.settings.sizing.limit(&job.shape, member, job.pending.len(), slots);
        Some(Node::first_of(&first, limit, job.total))
    }

    /// Slots of the fit workers that could take a sweep's shards.
    fn slots_for(&self, sweep: &Sweep) -> u32 {
        self.kinds.iter().filter(|kind| sweep.accepts(&kind.profile)).map(|kind| kind.slots).sum()
    }

    fn count_kinds(&mut self) {
        self.kinds_are_stale = false;
        self.kinds.clear();
        for worker in self.workers.values().filter(|worker| worker.is_fit()) {
            let WorkerProfile { class, precisions, slots, .. } = &worker.profile;
            let alike = |kind: &&mut WorkerKind| kind.profile.class == *class && kind.profile.precisions == *precisions;
            match self.kinds.iter_mut().find(alike) {
                Some(kind) => kind.slots += slots,
                None => self.kinds.push(WorkerKind { profile: worker.profile.clone(), slots: *slots }),
            }
        }
    }

    pub(super) fn lease(
        &mut self,
        id: &WorkerId,
        shard: &ShardRef,
        purpose: Purpose,
        now: Time,
        effects: &mut Effects,
    ) {
        let Some(sweep) = self.sweeps.get_mut(&shard.job.sweep) else { return };
        if sweep.class.is_none() && sweep.state == SweepState::Queued {
            sweep.state = SweepState::Running;
            sweep.started = Some(now);
        }
        let anew = purpose != Purpose::Compute || self.checkpoint_of(shard).is_none();
        self.hold(id, shard, purpose, Headway::new(now, anew), now);
        effects.actions.push(Action::Changed { sweep: shard.job.sweep.clone() });
        effects.actions.push(Action::Lease { worker: id.clone(), shard: shard.clone() });
    }
}
