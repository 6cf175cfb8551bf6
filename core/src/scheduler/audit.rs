//! Audits: a share of the committed shards is computed again by a second worker. Where the bits differ, a third decides, and
//! whoever is outvoted is set aside: what it contributed to open sweeps is computed again.
//!
//! Which shards are audited follows from the sweep's id and the shard, so that it is the same after a restart. A worker checks
//! itself only when it is the only one that could.

use super::Scheduler;
use super::effect::{Action, Effects};
use super::record::{Contribution, Record};
use super::report::ReportedShard;
use super::shard::{JobRef, ShardRef};
use super::state::{Audit, Dissent, Job, Sweep};
use crate::grid::Node;
use crate::ids::{Digest, JobIndex, SweepId, Time, WorkerId};
use crate::spec::BasisSource;

impl Sweep {
    /// Returns whether a shard is among those that are computed twice.
    pub(super) fn audits(&self, shard: &ShardRef) -> bool {
        if self.spec.audit <= 0.0 {
            return false;
        }
        let ShardRef { job: JobRef { sweep, index }, node } = shard;
        let Digest(bytes) = Digest::of(format!("audit {sweep} {} {} {}", index.0, node.level, node.index).as_bytes());
        let [a, b, c, d, ..] = bytes;
        f64::from(u32::from_le_bytes([a, b, c, d])) < self.spec.audit * 4_294_967_296.0
    }
}

impl Scheduler {
    /// Has a shard that was just committed computed again, if it is among those.
    pub(super) fn audit_if_drawn(&mut self, shard: &ShardRef) {
        let Some(sweep) = self.sweeps.get_mut(&shard.job.sweep).filter(|sweep| sweep.audits(shard)) else { return };
        if let Some(job) = sweep.jobs.get_mut(shard.job.index.0 as usize) {
            let start = job.blocks(shard.node).start;
            job.audits.insert(start, Audit { node: shard.node, holder: None, dissent: Vec::new() });
            self.wake_all = true;
        }
    }

    /// A committed shard for this worker to compute again.
    pub(super) fn choose_audit(&self, sweep: &Sweep, job: &Job, id: &WorkerId) -> Option<Node> {
        let open = job.audits.iter().filter(|(_, audit)| audit.holder.is_none());
        let mut fitting = open.filter(|(start, audit)| {
            let own = |worker: &WorkerId| *worker == *id;
            let asked = job.committed.get(**start).is_some_and(|held| own(&held.worker))
                || audit.dissent.iter().any(|dissent| own(&dissent.worker));
            !asked || !self.has_independent(sweep, job, **start, audit)
        });
        fitting.next().map(|(_, audit)| audit.node)
    }

    /// Returns whether somebody could audit a shard who has not had a say in it.
    fn has_independent(&self, sweep: &Sweep, job: &Job, start: u64, audit: &Audit) -> bool {
        let heard = |id: &WorkerId| {
            job.committed.get(start).is_some_and(|held| held.worker == *id)
                || audit.dissent.iter().any(|dissent| dissent.worker == *id)
        };
        self.workers.iter().any(|(id, worker)| worker.is_fit() && sweep.accepts(&worker.profile) && !heard(id))
    }

    /// Takes in what an auditor got. Two that agree are right.
    pub(super) fn audited(
        &mut self,
        id: &WorkerId,
        shard: &ShardRef,
        reported: ReportedShard,
        now: Time,
        effects: &mut Effects,
    ) {
        let ReportedShard { partial, seconds } = reported;
        let Some(job) = self.job_mut(&shard.job) else { return };
        let start = job.blocks(shard.node).start;
        let Some(committed) = job.committed.get(start).filter(|held| held.node == shard.node) else { return };
        let agrees = committed.content == partial.content;
        let first = committed.worker;
        let Some(audit) = job.audits.get_mut(&start) else { return };
        effects.actions.push(Action::Changed { sweep: shard.job.sweep.clone() });
        if agrees {
            let outvoted = std::mem::take(&mut audit.dissent);
            self.record(Record::Audited { shard: shard.clone() }, effects);
            let blobs = outvoted.iter().filter_map(|dissent| dissent.partial.blob()).collect();
            effects.actions.push(Action::Discard { blobs });
            for dissent in outvoted {
                self.distrust(&dissent.worker, shard, now, effects);
            }
            self.note_for_merging(shard);
            return self.settle(&shard.job, now, effects);
        }
        let seconded = audit.dissent.iter().any(|dissent| dissent.partial.content == partial.content);
        let right = Dissent { partial, worker: id.clone() };
        if !seconded {
            audit.dissent.push(right);
            self.wake_all = true;
            return self.requeue(&shard.job.sweep);
        }
        // Two agree against what is committed.
        let others = std::mem::take(&mut audit.dissent);
        let wrong = others.iter().filter(|other| other.partial.content != right.partial.content);
        let wrong: Vec<WorkerId> = wrong.map(|other| other.worker.clone()).chain([first]).collect();
        self.replace(shard, right, seconds, effects);
        for worker in wrong {
            self.distrust(&worker, shard, now, effects);
        }
        self.note_for_merging(shard);
        self.settle(&shard.job, now, effects);
    }

    /// Puts what two workers agree on in the place of what one had committed.
    fn replace(&mut self, shard: &ShardRef, right: Dissent, seconds: f64, effects: &mut Effects) {
        let Dissent { partial, worker } = right;
        self.record(Record::Withdrawn { shard: shard.clone() }, effects);
        self.record(Record::Committed { shard: shard.clone(), partial, seconds, worker }, effects);
        self.record(Record::Audited { shard: shard.clone() }, effects);
    }

    /// Sets a worker aside whose bits were wrong, and has all that it contributed to open sweeps computed again.
    fn distrust(&mut self, id: &WorkerId, shard: &ShardRef, now: Time, effects: &mut Effects) {
        let blocks = self.job(&shard.job).map(|job| (job.blocks(shard.node), job.name.clone()));
        let (blocks, job) = blocks.unwrap_or_default();
        let reason =
            format!("its bits of blocks {}..{} of {job} differ from those of two others", blocks.start, blocks.end);
        if let Some(worker) = self.workers.get_mut(id) {
            worker.distrusted = true;
        }
        self.set_aside(id, &reason, effects);
        let held = self.workers.get(id).map(|w| w.held.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
        for shard in held {
            effects.actions.push(Action::Revoke {
                worker: id.clone(),
                shard: shard.clone(),
                reason: "it is not trusted",
            });
            self.give_up(id, &shard, super::failures::Gone::Released, now, effects);
        }
        for sweep in self.open.clone() {
            self.withdraw_all_of(id, &sweep, effects);
        }
    }

    fn withdraw_all_of(&mut self, id: &WorkerId, sweep: &SweepId, effects: &mut Effects) {
        let jobs = self.sweeps.get(sweep).map_or(0, |sweep| sweep.jobs.len() as u32);
        for index in (0..jobs).map(JobIndex) {
            let job = JobRef::new(sweep, index);
            if self.withdraw_where(&job, &|held| held.worker == *id, effects) {
                self.withdraw_dependents(&job, effects);
            }
        }
        self.wake_all = true;
        self.requeue(sweep);
    }

    /// Opens committed shards of a job again, with all that their partials were merged with; whether there were any.
    fn withdraw_where(&mut self, of: &JobRef, which: &dyn Fn(&Contribution) -> bool, effects: &mut Effects) -> bool {
        let Some(job) = self.job(of) else { return false };
        let picked = job.committed.contributions().filter(which);
        let mut due: Vec<Node> = picked.map(|held| job.committed.partial_of(held.node)).collect();
        due.dedup();
        let audits = due.iter().flat_map(|node| job.audits.range(job.blocks(*node)));
        let auditors = audits.filter_map(|(_, audit)| Some((audit.holder.clone()?, of.shard(audit.node))));
        // There is nothing left to compare with.
        for (auditor, shard) in auditors.collect::<Vec<_>>() {
            self.revoke(&auditor, &shard, "what it is compared with is computed again", effects);
        }
        for &node in &due {
            self.record(Record::Withdrawn { shard: of.shard(node) }, effects);
        }
        if !due.is_empty() {
            self.weigh_after_withdrawal(&of.sweep);
        }
        !due.is_empty()
    }

    /// Has everything computed again that was computed from a result that does not stand.
    fn withdraw_dependents(&mut self, needed: &JobRef, effects: &mut Effects) {
        let Some(sweep) = self.sweeps.get(&needed.sweep) else { return };
        let depends = |job: &&Job| matches!(job.shape.basis, BasisSource::Job(basis) if basis == needed.index);
        let jobs = sweep.jobs.iter().enumerate().filter(|(_, job)| depends(job));
        for index in jobs.map(|(index, _)| JobIndex(index as u32)).collect::<Vec<_>>() {
            let dependent = JobRef { index, ..needed.clone() };
            self.withdraw_where(&dependent, &|_| true, effects);
            let holders = self.holders_of(&needed.sweep).into_iter().filter(|(_, shard)| shard.job == dependent);
            for (worker, shard) in holders.collect::<Vec<_>>() {
                self.revoke(&worker, &shard, "what it builds on is computed again", effects);
                if let Some(job) = self.job_mut(&shard.job) {
                    let blocks = job.blocks(shard.node);
                    if !job.pending.contains_all(&blocks) && job.lease(shard.node).is_none() {
                        job.pending.insert(blocks);
                    }
                }
            }
        }
    }
}
