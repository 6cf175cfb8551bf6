//! The share of a sweep's and a job's work that is done: of what it costs, not of how many members it has.
//!
//! A job's work is its members, what audits compute again, and the reduction behind the last commit. Jobs are weighed against each
//! other by slot-seconds: measured on the job itself, else its multiply-adds at the speed of jobs that were measured, else
//! at an assumed one. Weights change only in [`Sweep::reweigh`], which keeps the share that is done as it is, so that progress does not
//! go back because an estimate was wrong; it goes back when work is withdrawn or lost. The shares are not journalled: after a restart they
//! are what the weights of that moment say.

use super::Scheduler;
use super::state::{Holder, Job, JobState, Lease, Sweep};
use crate::cost::Rates;
use crate::ids::SweepId;
use crate::spec::{Experiment, JobShape, Payload};
use std::collections::BTreeMap;

/// Seconds that merging and the eigenvectors take at this many pixels. Measured on two threads: 0.4 s at D = 1,024, 4 s at 3,072; between
/// them time grows with D² rather than D³, since small matrices do not fill a core.
const REDUCTION: (f64, f64) = (0.4, 1_024.0);
/// Seconds in which the table of a job's training runs is written.
const TABLE_SECONDS: f64 = 0.05;

/// The numbers of a job's members by where they are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct MemberCount {
    pub(super) done: u64,
    /// Members of leased shards that are computed.
    pub(super) in_flight: u64,
    /// Members of shards that failed for good.
    pub(super) failed: u64,
}

/// The weight of a job's members, and how much of the job a second of slot time is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct JobScale {
    /// Slot-seconds of a member that are assumed before anything is measured.
    assumed_seconds: f64,
    pub(super) member_seconds: f64,
    /// Share of the job that one slot-second of what is left is.
    share_per_second: f64,
}

/// Slot-seconds that were measured, and those that had been assumed for the same members.
#[derive(Clone, Copy, Debug, Default)]
struct MeasuredWork {
    took: f64,
    assumed: f64,
}

impl JobScale {
    pub(super) fn assumed(shape: &JobShape) -> Self {
        let assumed_seconds = Rates::default().member(shape).seconds;
        Self { assumed_seconds, member_seconds: assumed_seconds, share_per_second: 0.0 }
    }
}

impl MeasuredWork {
    /// Returns how many times as long as assumed the work took, once something was measured.
    fn slowness(self) -> Option<f64> {
        (self.took > 0.0).then(|| self.took / self.assumed)
    }
}

/// A share per second of work that leaves the share that is done as it is when what is left is weighed anew.
fn carried(share_per_second: f64, before: f64, after: f64) -> f64 {
    if before > 0.0 && after > 0.0 { share_per_second * before / after } else { share_per_second }
}

impl Job {
    /// Counts the members that are done, under way and failed.
    pub(super) fn count(&self) -> MemberCount {
        // A block has a fixed number of members, except the last: count members, not blocks.
        let size = u64::from(self.shape.grid.block_size);
        let short = self.total * size - self.shape.grid.networks;
        let last_done = self.tally.blocks > 0 && self.committed_within(&(self.total - 1..self.total)) == 1;
        let all = self.committed.is_empty() && self.tally.blocks == self.total;
        MemberCount {
            done: self.tally.blocks * size - if last_done || all { short } else { 0 },
            in_flight: self.leased.values().map(|lease| self.members_under_way(lease)).sum(),
            failed: self.quarantined.values().map(|failure| self.members(failure.blocks.clone())).sum(),
        }
    }

    /// Members of a leased shard that are computed, as the holder says who has come farthest.
    fn members_under_way(&self, lease: &Lease) -> u64 {
        let start = self.blocks(lease.node).start;
        let most = lease.holders.iter().map(|holder| holder.blocks_done).max().unwrap_or(0);
        self.members(start..start + most)
    }

    /// Members computed of leased shards; parts of a member count.
    fn members_computed(&self) -> f64 {
        let of_lease = |lease: &Lease| {
            let blocks = self.blocks(lease.node);
            let of_holder = |holder: &Holder| self.members_at(&blocks, holder.blocks_done, holder.fraction);
            lease.holders.iter().map(of_holder).fold(0.0, f64::max)
        };
        self.leased.values().map(of_lease).sum()
    }

    /// Members that a second worker is to compute again.
    pub(super) fn members_to_audit(&self) -> u64 {
        self.audits.values().map(|audit| self.members(self.blocks(audit.node))).sum()
    }

    /// Slot-seconds of a member, as measured on this job.
    pub(super) fn measured_seconds(&self) -> Option<f64> {
        let seconds = self.tally.slot_seconds / self.members_measured() as f64;
        (seconds.is_finite() && seconds > 0.0).then_some(seconds)
    }

    /// Members that were measured, about: the last block may be short.
    fn members_measured(&self) -> u64 {
        (self.tally.blocks * u64::from(self.shape.grid.block_size)).min(self.shape.grid.networks)
    }

    /// Seconds from the last commit to the result.
    pub(super) fn reduction_seconds(&self) -> f64 {
        match self.shape.payload {
            Payload::Moments { dimension, .. } => REDUCTION.0 * (dimension as f64 / REDUCTION.1).powi(2),
            Payload::Runs { .. } => TABLE_SECONDS,
        }
    }
}

impl Sweep {
    /// Slot-seconds of all members and audits of a job, with its reduction.
    fn work_of(&self, job: &Job) -> f64 {
        let members = job.shape.grid.networks as f64 * (1.0 + self.spec.audit);
        members * job.scale.member_seconds + job.reduction_seconds()
    }

    /// Slot-seconds of members and audits that are left of a job.
    pub(super) fn slot_work_left(&self, job: &Job) -> f64 {
        if self.is_over(job) || job.state == JobState::Reducing {
            return 0.0;
        }
        let MemberCount { done, failed, .. } = job.count();
        let under_way = job.members_computed();
        let left = job.shape.grid.networks.saturating_sub(done + failed) as f64;
        // What is committed later is audited with the same probability as what was; what is drawn is known.
        let again = left * self.spec.audit + job.members_to_audit() as f64;
        (left - under_way + again).max(0.0) * job.scale.member_seconds
    }

    fn work_left_of(&self, job: &Job) -> f64 {
        if self.is_over(job) { 0.0 } else { self.slot_work_left(job) + job.reduction_seconds() }
    }

    fn work_left(&self) -> f64 {
        self.jobs.iter().map(|job| self.work_left_of(job)).sum()
    }

    /// The share of a job that is done, from 0 to 1.
    pub(super) fn job_progress(&self, job: &Job) -> f64 {
        (1.0 - self.work_left_of(job) * job.scale.share_per_second).clamp(0.0, 1.0)
    }

    /// The share of the sweep that is done, from 0 to 1.
    pub(super) fn progress(&self) -> f64 {
        if self.state.has_results() {
            return 1.0;
        }
        (1.0 - self.work_left() * self.share_per_second).clamp(0.0, 1.0)
    }

    /// Weighs the jobs by what is known now. Shares that are done stay as they are, and what is left grows or shrinks.
    pub(super) fn reweigh(&mut self) {
        let before: Vec<f64> = self.jobs.iter().map(|job| self.work_left_of(job)).collect();
        self.weigh_members();
        let after: Vec<f64> = self.jobs.iter().map(|job| self.work_left_of(job)).collect();
        for ((job, &before), &after) in self.jobs.iter_mut().zip(&before).zip(&after) {
            job.scale.share_per_second = carried(job.scale.share_per_second, before, after);
        }
        self.share_per_second = carried(self.share_per_second, before.iter().sum(), after.iter().sum());
    }

    /// Weighs the jobs by what is known now, whatever was shown before: something was withdrawn, or nothing was shown.
    pub(super) fn weigh(&mut self) {
        self.weigh_members();
        let all: Vec<f64> = self.jobs.iter().map(|job| self.work_of(job)).collect();
        for (job, work) in self.jobs.iter_mut().zip(&all) {
            job.scale.share_per_second = work.recip();
        }
        self.share_per_second = all.iter().sum::<f64>().recip();
    }

    /// Slot-seconds of members: measured on the job, else as slow against what is assumed as what was measured of its experiment, else
    /// of any.
    fn weigh_members(&mut self) {
        let mut all = MeasuredWork::default();
        let mut of_experiments: BTreeMap<Experiment, MeasuredWork> = BTreeMap::new();
        for job in &self.jobs {
            let Some(seconds) = job.measured_seconds() else { continue };
            let members = job.members_measured() as f64;
            for work in [&mut all, of_experiments.entry(job.shape.experiment).or_default()] {
                work.took += seconds * members;
                work.assumed += job.scale.assumed_seconds * members;
            }
        }
        for job in &mut self.jobs {
            let alike = of_experiments.get(&job.shape.experiment).and_then(|work| work.slowness());
            let slowness = alike.or(all.slowness()).unwrap_or(1.0);
            job.scale.member_seconds = job.measured_seconds().unwrap_or(job.scale.assumed_seconds * slowness);
        }
    }
}

impl Scheduler {
    /// Weighs a sweep's jobs anew when one of them has twice as many committed shards as the last time.
    pub(super) fn reweigh_as_it_grows(&mut self, id: &SweepId, shards: u64) {
        if shards.is_power_of_two()
            && let Some(sweep) = self.sweeps.get_mut(id)
        {
            sweep.reweigh();
        }
    }

    /// Weighs a sweep's jobs anew after something was withdrawn.
    pub(super) fn weigh_after_withdrawal(&mut self, id: &SweepId) {
        if let Some(sweep) = self.sweeps.get_mut(id) {
            sweep.weigh();
        }
    }
}
