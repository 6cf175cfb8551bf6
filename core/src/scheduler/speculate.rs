//! Speculative execution of the last shards: a slot that would idle computes what takes too long elsewhere. The first report counts.
//!
//! What is too long follows from what such work was measured to take, and from how far the holder is: nothing is leased twice because
//! an estimate was wrong.

use super::Scheduler;
use super::effect::Effects;
use super::record::Record;
use super::shard::{JobRef, ShardRef};
use super::stall::SLOWEST_BYTES_PER_SECOND;
use super::state::{Job, JobState, Purpose, Sweep, Worker};
use crate::cost::EstimateBasis;
use crate::grid::Node;
use crate::ids::{JobIndex, Time, WorkerId};

/// Milliseconds between two looks for stragglers.
const EVERY_MS: u64 = 1_000;
/// The factor by which a shard may take longer than usual whose work was measured in other amounts only.
const OTHER_SIZE: f64 = 4.0;
/// The part of a holder's patience after which it stands still.
const STANDING: f64 = 0.25;

impl Scheduler {
    /// Returns when stragglers are to be looked for, if somebody could take one.
    pub(super) fn next_speculation(&self) -> Option<Time> {
        let wanted = self.settings.speculate_after > 0.0 && !self.idle.is_empty() && self.slots_leased > 0;
        wanted.then(|| self.last_speculation.plus(EVERY_MS))
    }

    /// Gives idle slots leases of shards that take too long.
    pub(super) fn speculate(&mut self, now: Time, effects: &mut Effects) {
        if self.settings.speculate_after <= 0.0 || self.last_speculation.plus(EVERY_MS) > now {
            return;
        }
        self.last_speculation = now;
        let idle: Vec<WorkerId> = self.idle.iter().cloned().collect();
        for id in idle {
            let Some(shard) = self.straggler_for(&id, now) else { continue };
            self.record(Record::Speculated { shard: shard.clone() }, effects);
            self.lease(&id, &shard, Purpose::Compute, now, effects);
        }
    }

    /// The shard that has taken longest, beyond what is to be expected, of those that this worker would sooner be done with.
    fn straggler_for(&self, id: &WorkerId, now: Time) -> Option<ShardRef> {
        let worker = self.workers.get(id)?;
        let open = self.open.iter().filter_map(|id| Some((id, self.sweeps.get(id)?)));
        let mut slowest: Option<(f64, ShardRef)> = None;
        for (sweep_id, sweep) in open.filter(|(_, sweep)| !sweep.paused && sweep.accepts(&worker.profile)) {
            for (index, job) in sweep.jobs.iter().enumerate().filter(|(_, job)| is_at_its_end(sweep, job)) {
                let of = JobRef::new(sweep_id, JobIndex(index as u32));
                for lease in job.leased.values().filter(|lease| lease.holders.len() == 1) {
                    let shard = of.shard(lease.node);
                    let late = self.lateness(worker, id, job, &shard, now);
                    if late.is_some_and(|late| slowest.as_ref().is_none_or(|(most, _)| late > *most)) {
                        slowest = late.map(|late| (late, shard));
                    }
                }
            }
        }
        slowest.map(|(_, shard)| shard)
    }

    /// Seconds that a shard's only holder has had it, if that is too long and the worker would need less than what is left; where
    /// nothing like it was measured, if the holder stands still.
    fn lateness(&self, worker: &Worker, id: &WorkerId, job: &Job, shard: &ShardRef, now: Time) -> Option<f64> {
        let holder = job.lease(shard.node)?.holders.first().filter(|holder| holder.worker != *id)?;
        let held = self.workers.get(&holder.worker)?.held.get(shard)?;
        // One more failure decides what becomes of a shard that has had its attempts; whoever failed on it is no help.
        let attempts = job.attempts.get(&shard.node);
        let hopeless = attempts.is_some_and(|a| a.are_exhausted(&self.settings) || a.had(id));
        if worker.held.contains_key(shard) || hopeless {
            return None;
        }
        let quiet = now.seconds_since(held.headway.moved);
        if held.computed {
            // It is on its way, unless that leads nowhere.
            let stuck = self.settings.stall_after_ms as f64 / 1e3 + job.payload_seconds(shard.node);
            return (self.settings.stall_after_ms > 0 && quiet > stuck).then_some(quiet);
        }
        let blocks = job.blocks(shard.node);
        let members = job.members(blocks.clone()) as f64;
        let estimate = self.member_on(worker, job).times(members);
        let least = self.settings.speculate_least_ms as f64 / 1e3;
        let elapsed = now.seconds_since(holder.since);
        let times = match estimate.basis {
            EstimateBasis::Measured => self.settings.speculate_after,
            // It may be off by a few times.
            EstimateBasis::OtherSize => OTHER_SIZE * self.settings.speculate_after,
            // Nothing is known of such work: only who stands still is helped.
            _ => {
                let patience = self.patience(self.workers.get(&holder.worker)?, shard, held)? as f64 / 1e3;
                return (quiet > least.max(patience * STANDING)).then_some(elapsed);
            }
        };
        let expected = estimate.seconds + worker.rates.beginning(&job.shape);
        let stand = &held.headway.stand;
        let done = job.members_at(&blocks, stand.blocks_done, stand.fraction);
        let left = if done > 0.0 { elapsed * (members - done) / done } else { f64::INFINITY };
        (elapsed > least.max(times * expected) && left > expected).then_some(elapsed)
    }
}

impl Job {
    /// Seconds that a shard's result may take on the slowest line that is worked with.
    fn payload_seconds(&self, node: Node) -> f64 {
        self.shape.payload.bytes(self.members(self.blocks(node))) as f64 / SLOWEST_BYTES_PER_SECOND
    }
}

/// Returns whether nothing of a job is left but what is in somebody's hands.
fn is_at_its_end(sweep: &Sweep, job: &Job) -> bool {
    job.state == JobState::Computing && job.pending.is_empty() && job.waiting.is_empty() && !sweep.waits(job)
}
