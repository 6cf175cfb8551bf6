//! Reports: the first valid one of a block commits, every other gets an answer and changes nothing.

use super::state::JobState;
use super::{Action, Effects, Record, Scheduler, ShardRef, Verdict};
use crate::ids::{Digest, JobIndex, SweepId, WorkerId};
use crate::numerics::NumericsClass;

impl Scheduler {
    pub(super) fn report(
        &mut self,
        worker: &WorkerId,
        shard: &ShardRef,
        class: &NumericsClass,
        partial: Digest,
        seconds: f64,
        effects: &mut Effects,
    ) -> Verdict {
        let verdict = self.judge(shard, class);
        if verdict == Verdict::Committed {
            self.commit(worker, shard, partial, seconds, effects);
        } else if self.leases.get(shard).is_some_and(|lease| lease.worker == *worker) {
            // A refused report ends the lease all the same; what is not committed is open again.
            self.reopen(shard, effects);
        }
        verdict
    }

    fn judge(&self, shard: &ShardRef, class: &NumericsClass) -> Verdict {
        let Some(sweep) = self.sweeps.get(&shard.sweep).filter(|sweep| !sweep.state.has_ended()) else {
            return Verdict::NotNeeded;
        };
        let Some(job) = sweep.jobs.get(shard.job.0 as usize) else { return Verdict::Invalid };
        let blocks = shard.node.blocks(job.total);
        if blocks.is_empty() || sweep.class.as_ref() != Some(class) {
            return Verdict::Invalid;
        }
        if job.state == JobState::Complete {
            return Verdict::Duplicate;
        }
        match job.committed_within(&blocks) {
            0 => Verdict::Committed,
            all if all == blocks.end - blocks.start => Verdict::Duplicate,
            _ => Verdict::Superseded,
        }
    }

    fn commit(&mut self, id: &WorkerId, shard: &ShardRef, partial: Digest, seconds: f64, effects: &mut Effects) {
        self.end_overlapping(id, shard, effects);
        let Some(job) = self.sweeps.get_mut(&shard.sweep).and_then(|s| s.jobs.get_mut(shard.job.0 as usize)) else {
            return;
        };
        job.commit(shard.node, partial, seconds);
        if let Some(worker) = self.workers.get_mut(id) {
            let members = job.members(shard.node.blocks(job.total));
            worker.rates.observe(&job.shape, members, seconds);
        }
        effects.records.push(Record::Committed { shard: shard.clone(), partial, seconds });
        effects.actions.push(Action::Changed { sweep: shard.sweep.clone() });
        self.reduce_if_whole(&shard.sweep, shard.job, effects);
    }

    /// Ends every lease and retry that shares blocks with a shard that is about to commit; blocks of theirs
    /// outside of it are open again.
    fn end_overlapping(&mut self, reporter: &WorkerId, shard: &ShardRef, effects: &mut Effects) {
        let Some(job) = self.sweeps.get_mut(&shard.sweep).and_then(|s| s.jobs.get_mut(shard.job.0 as usize)) else {
            return;
        };
        let (total, blocks) = (job.total, shard.node.blocks(job.total));
        let meets = |node: &crate::grid::Node| {
            let held = node.blocks(total);
            held.start < blocks.end && blocks.start < held.end
        };
        let waiting: Vec<_> = job.waiting.keys().copied().filter(meets).collect();
        for node in waiting {
            job.waiting.remove(&node);
            job.pending.insert(node.blocks(total));
        }
        let same_job = |held: &&ShardRef| held.sweep == shard.sweep && held.job == shard.job && meets(&held.node);
        let leased: Vec<ShardRef> = self.leases.keys().filter(same_job).cloned().collect();
        for held in leased {
            let own = held == *shard && self.leases.get(&held).is_some_and(|lease| lease.worker == *reporter);
            if own {
                self.forget(&held)
            } else {
                drop(self.revoke(&held, "its blocks were committed", effects))
            }
            if let Some(job) = self.sweeps.get_mut(&held.sweep).and_then(|s| s.jobs.get_mut(held.job.0 as usize)) {
                job.pending.insert(held.node.blocks(total));
            }
        }
    }

    /// Drops a lease without a word to its worker, who has just reported it.
    fn forget(&mut self, shard: &ShardRef) {
        if let Some(lease) = self.leases.remove(shard)
            && let Some(worker) = self.workers.get_mut(&lease.worker)
        {
            worker.leases.remove(shard);
        }
    }

    /// Ends a lease and opens those of its blocks that are not committed.
    fn reopen(&mut self, shard: &ShardRef, effects: &mut Effects) {
        self.forget(shard);
        let Some(job) = self.sweeps.get_mut(&shard.sweep).and_then(|s| s.jobs.get_mut(shard.job.0 as usize)) else {
            return;
        };
        for block in shard.node.blocks(job.total) {
            if job.committed_within(&(block..block + 1)) == 0 {
                job.pending.insert(block..block + 1);
            }
        }
        effects.actions.push(Action::Changed { sweep: shard.sweep.clone() });
    }

    /// When every block of a job is committed, its reduction is due.
    pub(super) fn reduce_if_whole(&mut self, id: &SweepId, index: JobIndex, effects: &mut Effects) {
        let Some(job) = self.sweeps.get_mut(id).and_then(|s| s.jobs.get_mut(index.0 as usize)) else { return };
        if job.state == JobState::Computing && job.blocks_committed == job.total {
            job.state = JobState::Reducing;
            effects.actions.push(Action::Reduce { sweep: id.clone(), job: index, partials: job.partials() });
        }
    }
}
