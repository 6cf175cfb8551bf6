//! The check that the state makes sense: every block in exactly one place, every index in agreement.

use super::Scheduler;
use super::shard::JobRef;
use super::state::{Job, JobState, Purpose, Sweep};
use crate::ids::{JobIndex, SweepId, WorkerId};
use std::ops::Range;

impl Scheduler {
    /// Checks that every block is in exactly one place and that every index agrees.
    ///
    /// # Errors
    /// What disagrees. A scheduler that ever returns one has a bug.
    pub fn sanity_check(&self) -> Result<(), String> {
        for (id, sweep) in &self.sweeps {
            self.check_sweep(id, sweep)?;
        }
        let open = self.open.len();
        let ended = self.ended.len();
        if open + ended != self.sweeps.len() {
            return Err(format!("{open} sweeps are open and {ended} ended, of {}", self.sweeps.len()));
        }
        for (id, worker) in &self.workers {
            self.check_worker(id, worker)?;
        }
        let queued = self.sweeps.values().filter(|sweep| sweep.place.is_some()).count();
        if queued != self.queue.len() {
            return Err(format!("{queued} sweeps have a place in the queue, which has {}", self.queue.len()));
        }
        let slots: u64 = self.workers.values().map(|worker| u64::from(worker.busy)).sum();
        if slots == self.slots_leased {
            Ok(())
        } else {
            Err(format!("{slots} slots busy, {} counted", self.slots_leased))
        }
    }

    fn check_sweep(&self, id: &SweepId, sweep: &Sweep) -> Result<(), String> {
        let ended = sweep.state.has_ended();
        if ended == self.open.contains(id)
            || sweep.ended.is_some_and(|at| self.ended.has(&sweep.owner, at, sweep.number)) != ended
        {
            return Err(format!("{id} is {:?} and its place among the open or ended sweeps is wrong", sweep.state));
        }
        let place = sweep.due_place();
        let listed = sweep.place.and_then(|place| self.queue.get(&place));
        if place != sweep.place || sweep.place.is_some() != (listed == Some(id)) {
            return Err(format!("{id} is queued as {:?}, should be as {place:?}", sweep.place));
        }
        let computing = self.workers.values().flat_map(|worker| &worker.held);
        let leased = computing.filter(|(shard, held)| shard.job.sweep == *id && !held.computed).count() as u64;
        if leased != sweep.leased {
            return Err(format!("{id}: {leased} slots compute for it, {} are counted", sweep.leased));
        }
        let jobs = sweep.jobs.iter().enumerate().filter(|_| !ended);
        jobs.into_iter().try_for_each(|(index, job)| self.check_job(&JobRef::new(id, JobIndex(index as u32)), job))
    }

    fn check_job(&self, of: &JobRef, job: &Job) -> Result<(), String> {
        let id = &of.sweep;
        let mut places: Vec<(Range<u64>, &str)> = job.pending.iter().map(|range| (range, "pending")).collect();
        places.extend(job.waiting.values().map(|retry| (job.blocks(retry.node), "waiting")));
        places.extend(job.leased.values().map(|lease| (job.blocks(lease.node), "leased")));
        places.extend(job.committed.contributions().map(|held| (job.blocks(held.node), "committed")));
        places.extend(job.quarantined.values().map(|failure| (failure.blocks.clone(), "quarantined")));
        places.sort_by_key(|(range, _)| range.start);
        let mut next = 0;
        for (range, place) in &places {
            if range.start != next {
                return Err(format!("{id} {}: block {next} is followed by {range:?} ({place}): {places:?}", job.name));
            }
            next = range.end;
        }
        let sum = |place: &str| -> u64 {
            places.iter().filter(|(_, at)| *at == place).map(|(range, _)| range.end - range.start).sum()
        };
        let committed = sum("committed");
        let quarantined = sum("quarantined");
        let counts = (next, committed, quarantined);
        if counts != (job.total, job.tally.blocks, job.blocks_quarantined) {
            return Err(format!("{id} {}: {counts:?} blocks, committed, quarantined; {:?}", job.name, job.tally));
        }
        let is_quiet = job.audits.is_empty() && job.merges.are_over();
        let settled = committed + quarantined == job.total && (quarantined > 0 || is_quiet);
        let state = match (settled, quarantined, &job.result) {
            (false, ..) => job.state == JobState::Computing,
            (true, 0, None) => job.state == JobState::Reducing,
            (true, 0, Some(_)) => job.state == JobState::Complete,
            (true, ..) => job.state == JobState::Incomplete,
        };
        if !state {
            return Err(format!("{id} {}: {:?} with {places:?} and {} audits", job.name, job.state, job.audits.len()));
        }
        job.committed
            .check()
            .and_then(|()| job.check_merges())
            .map_err(|error| format!("{id} {}: {error}", job.name))?;
        self.check_holders(of, job)
    }

    fn check_holders(&self, of: &JobRef, job: &Job) -> Result<(), String> {
        let id = &of.sweep;
        let holds = |worker: &WorkerId, node, purpose| {
            self.workers
                .get(worker)
                .and_then(|worker| worker.held.get(&of.shard(node)))
                .is_some_and(|h| h.purpose == purpose)
        };
        for lease in job.leased.values() {
            let known = lease.holders.iter().all(|holder| holds(&holder.worker, lease.node, Purpose::Compute));
            if !known || !(1..=2).contains(&lease.holders.len()) {
                return Err(format!("{id} {}: a lease that its holders do not know: {lease:?}", job.name));
            }
        }
        for (start, audit) in &job.audits {
            let committed = job.blocks(audit.node).start == *start && job.committed.has(audit.node);
            let held = audit.holder.as_ref().is_none_or(|worker| holds(worker, audit.node, Purpose::Audit));
            if !committed || !held {
                return Err(format!(
                    "{id} {}: an audit of nothing, or that its holder does not know: {audit:?}",
                    job.name
                ));
            }
        }
        Ok(())
    }

    fn check_worker(&self, id: &WorkerId, worker: &super::state::Worker) -> Result<(), String> {
        let busy = worker.held.values().filter(|held| !held.computed).count();
        if busy != worker.busy as usize || worker.has_free_slot() != self.idle.contains(id) {
            return Err(format!("{id}: {busy} slots busy, {} counted, idle {}", worker.busy, self.idle.contains(id)));
        }
        let lost = worker.held.iter().find(|(shard, held)| {
            let held_by = |job: &Job| match held.purpose {
                Purpose::Compute => job.is_held_by(shard.node, id),
                Purpose::Audit | Purpose::Verify(_) => true,
            };
            !self.job(&shard.job).is_some_and(held_by)
        });
        lost.map_or(Ok(()), |(shard, _)| Err(format!("{id} holds {shard:?}, of which nobody knows")))
    }
}
