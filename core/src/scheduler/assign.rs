//! Giving shards to free lanes.

use super::state::{Job, JobState, Lease, Sweep, SweepState, Worker};
use super::{Action, Effects, Record, Scheduler, ShardRef};
use crate::cost::Rates;
use crate::grid::Node;
use crate::ids::{JobIndex, SweepId, Time, WorkerId};

impl Scheduler {
    /// Gives every free lane a shard, one lane per worker and turn, so that a small sweep spreads out.
    pub(super) fn assign(&mut self, now: Time, effects: &mut Effects) {
        loop {
            let free: Vec<WorkerId> = self
                .workers
                .iter()
                .filter(|(_, worker)| self.has_free_lane(worker))
                .map(|(id, _)| id.clone())
                .collect();
            let mut given = false;
            for worker in free {
                if let Some(shard) = self.choose(&worker, now) {
                    self.lease(&worker, shard, now, effects);
                    given = true;
                }
            }
            if !given {
                return;
            }
        }
    }

    fn has_free_lane(&self, worker: &Worker) -> bool {
        let busy = worker.leases.iter().filter(|shard| self.leases.get(*shard).is_some_and(|l| !l.computed)).count();
        is_fit(worker) && busy < worker.profile.lanes as usize
    }

    /// The next shard for a worker: of the oldest sweep that has one, a retry first.
    fn choose(&self, id: &WorkerId, now: Time) -> Option<ShardRef> {
        let worker = self.workers.get(id)?;
        self.open.iter().find_map(|sweep_id| {
            let sweep = self.sweeps.get(sweep_id).filter(|sweep| sweep.accepts(&worker.profile))?;
            sweep.jobs.iter().enumerate().find_map(|(index, job)| {
                let node = if sweep.waits(job) { None } else { self.choose_in(sweep, job, id, now) }?;
                Some(ShardRef { sweep: sweep_id.clone(), job: JobIndex(index as u32), node })
            })
        })
    }

    fn choose_in(&self, sweep: &Sweep, job: &Job, id: &WorkerId, now: Time) -> Option<Node> {
        if job.state != JobState::Computing {
            return None;
        }
        let worker = self.workers.get(id)?;
        let class = sweep.class_of(&worker.profile)?;
        // A shard that failed here goes elsewhere while there is an elsewhere.
        let could = |w: &Worker| is_fit(w) && sweep.class_of(&w.profile).as_ref() == Some(&class);
        let others = self.workers.iter().any(|(other, w)| other != id && could(w));
        let due = job.waiting.iter().find(|(_, retry)| retry.not_before <= now && !(others && retry.last == *id));
        if let Some((node, _)) = due {
            return Some(*node);
        }
        let first = job.pending.first()?;
        let lanes = self.workers.values().filter(|w| could(w)).map(|w| w.profile.lanes).sum();
        let limit = self.settings.sizing.limit(&job.shape, &worker.rates, job.pending.len(), lanes);
        Some(Node::first_of(&first, limit, job.total))
    }

    fn lease(&mut self, id: &WorkerId, shard: ShardRef, now: Time, effects: &mut Effects) {
        let (Some(worker), Some(sweep)) = (self.workers.get_mut(id), self.sweeps.get_mut(&shard.sweep)) else { return };
        let Some(class) = sweep.class_of(&worker.profile) else { return };
        if sweep.class.is_none() {
            effects.records.push(Record::Started { sweep: shard.sweep.clone(), class: class.clone(), at: now });
            sweep.class = Some(class);
            sweep.started = Some(now);
            sweep.state = SweepState::Running;
        }
        let job = &mut sweep.jobs[shard.job.0 as usize];
        job.waiting.remove(&shard.node);
        job.pending.remove(&shard.node.blocks(job.total));
        worker.leases.insert(shard.clone());
        self.leases.insert(shard.clone(), Lease { worker: id.clone(), blocks_done: 0, computed: false });
        effects.actions.push(Action::Changed { sweep: shard.sweep.clone() });
        effects.actions.push(Action::Lease { worker: id.clone(), shard });
    }

    /// Connected workers that may take a sweep's shards.
    pub(super) fn workers_for(&self, id: &SweepId) -> u32 {
        let Some(sweep) = self.sweeps.get(id) else { return 0 };
        let fit = |w: &&Worker| is_fit(w) && sweep.accepts(&w.profile);
        self.workers.values().filter(fit).count() as u32
    }

    /// Lanes connected, workers connected, and the slowest known rates: what a plan is made from.
    pub fn workforce(&self) -> (u32, u32, Rates) {
        let connected = || self.workers.values().filter(|w| is_fit(w));
        let lanes = connected().map(|w| w.profile.lanes).sum();
        let rates = connected().map(|w| w.rates.clone()).max_by_key(Rates::len).unwrap_or_default();
        (lanes, connected().count() as u32, rates)
    }
}

/// Whether a worker can be given anything.
fn is_fit(worker: &Worker) -> bool {
    worker.connected && worker.unfit.is_none()
}
