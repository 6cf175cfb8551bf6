//! Reports: the first valid one of a block commits, every other gets an answer and changes nothing.

use super::Scheduler;
use super::effect::{Action, Effects};
use super::failures::Gone;
use super::headway::SLACK_SECONDS;
use super::record::Record;
use super::shard::{Partial, ShardRef, Verdict};
use super::state::{Job, OverBlocks, Purpose, Sweep, meeting};
use crate::ids::{Time, WorkerId};
use crate::numerics::NumericsClass;
use std::collections::BTreeMap;
use std::ops::Range;

/// The partial of a reported shard, and the slot-seconds that count for it.
pub(super) struct ReportedShard {
    pub(super) partial: Partial,
    pub(super) seconds: f64,
}

impl Scheduler {
    /// The seconds that a worker says it took for a shard, as they count: no more than it has had the shard, and of one that it
    /// came back with, than there has been a sweep. So a sum of them stays finite: the journal has no word for any other number.
    pub(super) fn counted_seconds(&self, id: &WorkerId, shard: &ShardRef, told: f64, now: Time) -> f64 {
        let held = self.workers.get(id).and_then(|worker| worker.held.get(shard));
        let submitted = self.sweeps.get(&shard.job.sweep).map(|sweep| sweep.submitted);
        let Some(since) = held.and_then(|held| held.headway.given_anew()).or(submitted) else { return 0.0 };
        let most = now.seconds_since(since) + SLACK_SECONDS;
        if told.is_finite() { told.clamp(0.0, most) } else { 0.0 }
    }

    /// Returns whether a shard is in this worker's hands.
    pub fn holds(&self, id: &WorkerId, shard: &ShardRef) -> bool {
        self.workers.get(id).is_some_and(|worker| worker.held.contains_key(shard))
    }

    /// Returns whether a report of this shard by this worker is taken: the worker holds it, or held it and nobody else does, or what others
    /// reported says what becomes of it. `None` when it has no session, or was silent in it for so long that what it held is others'.
    pub fn takes_report(&self, id: &WorkerId, shard: &ShardRef) -> Option<bool> {
        let worker = self.workers.get(id)?;
        let comes_back = || self.has_held(id, shard) && self.may_adopt(&worker.profile, shard);
        Some(worker.held.contains_key(shard) || self.judge(shard) != Verdict::Committed || comes_back())
    }

    /// Returns whether a worker has held a shard and lost it.
    fn has_held(&self, id: &WorkerId, shard: &ShardRef) -> bool {
        let attempts = self.job(&shard.job).and_then(|job| job.attempts.get(&shard.node));
        attempts.is_some_and(|attempts| attempts.had(id))
    }

    pub(super) fn report(
        &mut self,
        id: &WorkerId,
        shard: &ShardRef,
        class: &NumericsClass,
        reported: ReportedShard,
        now: Time,
        effects: &mut Effects,
    ) -> Verdict {
        let Some(worker) = self.workers.get(id) else { return Verdict::NoSession };
        if worker.distrusted {
            self.give_up(id, shard, Gone::Released, now, effects);
            return Verdict::NotNeeded;
        }
        let is_own = |sweep: &Sweep| match &sweep.class {
            Some(own) => own == class,
            None => worker.profile.class_for(sweep.spec.precision).as_ref() == Some(class),
        };
        if !self.sweeps.get(&shard.job.sweep).is_none_or(is_own) {
            // Who sent it hears why, and says what becomes of the shard.
            return Verdict::Invalid;
        }
        let verdict = self.judge(shard);
        let is_wanted = verdict == Verdict::Committed;
        // What it held before, and lost while it was silent, is its own again while nobody else has it.
        if is_wanted && !worker.held.contains_key(shard) && self.has_held(id, shard) {
            self.adopt(id, shard, now);
        }
        match self.workers.get(id).and_then(|worker| worker.held.get(shard)).map(|held| held.purpose) {
            Some(Purpose::Verify(request)) => {
                self.unhold(id, shard);
                self.verified(id, request, shard, &reported.partial, effects);
                Verdict::Checked
            }
            // A worker that audits itself, being alone, may be taken at the word that it had sent before: the two look alike.
            Some(Purpose::Audit) => {
                self.unhold(id, shard);
                self.audited(id, shard, reported, now, effects);
                Verdict::Checked
            }
            Some(Purpose::Compute) if is_wanted => {
                self.bind_class(&shard.job.sweep, class, now, effects);
                self.commit(id, shard, reported, now, effects);
                verdict
            }
            // It is others' to compute.
            None if is_wanted => Verdict::NotNeeded,
            Some(Purpose::Compute) | None => {
                // A refused report ends the lease all the same.
                self.give_up(id, shard, Gone::Released, now, effects);
                verdict
            }
        }
    }

    fn judge(&self, shard: &ShardRef) -> Verdict {
        let Some(sweep) = self.sweeps.get(&shard.job.sweep).filter(|sweep| !sweep.state.has_ended()) else {
            return Verdict::NotNeeded;
        };
        let Some(job) = sweep.job(shard.job.index) else { return Verdict::Invalid };
        let blocks = job.blocks(shard.node);
        if blocks.is_empty() {
            return Verdict::Invalid;
        }
        if sweep.waits(job) {
            // It was computed from a result that did not stand.
            return Verdict::NotNeeded;
        }
        match job.committed_within(&blocks) {
            0 => Verdict::Committed,
            all if all == blocks.end - blocks.start => Verdict::Duplicate,
            _ => Verdict::Superseded,
        }
    }

    fn commit(&mut self, id: &WorkerId, shard: &ShardRef, reported: ReportedShard, now: Time, effects: &mut Effects) {
        self.end_overlapping(id, shard, effects);
        let Some(job) = self.job(&shard.job) else { return };
        let members = job.members(job.blocks(shard.node));
        let shards = job.tally.shards + 1;
        if let Some(checkpoint) = job.checkpoints.get(&shard.node) {
            effects.actions.push(Action::Discard { blobs: vec![checkpoint.stored.digest] });
        }
        let ReportedShard { partial, seconds } = reported;
        self.record(Record::Committed { shard: shard.clone(), partial, seconds, worker: id.clone() }, effects);
        if let Some(worker) = self.workers.get_mut(id) {
            worker.members_done += members;
        }
        effects.actions.push(Action::Changed { sweep: shard.job.sweep.clone() });
        self.note_for_merging(shard);
        self.reweigh_as_it_grows(&shard.job.sweep, shards);
        self.settle(&shard.job, now, effects);
    }

    /// Ends every lease that shares blocks with a shard that is about to commit; what they leave open is pending.
    fn end_overlapping(&mut self, reporter: &WorkerId, shard: &ShardRef, effects: &mut Effects) {
        let Some(job) = self.job(&shard.job) else { return };
        let blocks = job.blocks(shard.node);
        let held = meeting(&job.leased, &blocks, job.total);
        let held: Vec<_> = held
            .map(|(_, lease)| (lease.node, lease.holders.iter().map(|h| h.worker.clone()).collect::<Vec<_>>()))
            .collect();
        for (node, holders) in held {
            let other = ShardRef { node, ..shard.clone() };
            for holder in holders {
                if holder == *reporter && node == shard.node {
                    self.unhold(&holder, &other);
                } else {
                    self.revoke(&holder, &other, "its blocks were committed", effects);
                }
            }
            if let Some(job) = self.job_mut(&other.job) {
                let blocks = job.blocks(node);
                job.pending.insert(blocks);
                self.wake_all |= node != shard.node;
            }
        }
    }
}

impl Job {
    /// Moves whatever waits or is quarantined in these blocks to pending: some of them are about to be committed.
    pub(super) fn clear_way(&mut self, blocks: &Range<u64>) {
        for node in take_meeting(&mut self.waiting, blocks, self.total) {
            self.pending.insert(self.blocks(node));
        }
        for node in take_meeting(&mut self.quarantined, blocks, self.total) {
            let freed = self.blocks(node);
            self.blocks_quarantined -= freed.end - freed.start;
            self.pending.insert(freed);
        }
    }
}

fn take_meeting<T: OverBlocks>(
    places: &mut BTreeMap<u64, T>,
    blocks: &Range<u64>,
    total: u64,
) -> Vec<crate::grid::Node> {
    let starts: Vec<u64> = meeting(places, blocks, total).map(|(start, _)| start).collect();
    starts.into_iter().filter_map(|start| places.remove(&start)).map(|place| place.node()).collect()
}
