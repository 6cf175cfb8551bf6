//! The time that a sweep and its jobs will take from now on: what is in hands ends in turn, what is pending goes to the slot that is free
//! first, jobs that need the NADs of another come after it, and other sweeps take their share of the slots.
//!
//! Only slots of workers that can be given a shard count. Absent: sweeps that are still to be submitted, workers that are still to
//! come, and what a shard's upload takes.

use super::Scheduler;
use super::state::{Job, JobState, Lease, Sweep};
use crate::ids::Time;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// More slots than this are looked at in groups.
const MOST_SLOTS: u32 = 1_024;
/// So many blocks for each slot are placed one by one, the ones before them as a whole.
const PLACED_EACH: u64 = 4;
/// A block that is overdue is expected to take this share of its time still.
const OVERDUE: f64 = 0.1;
/// Sweeps before or beside one that are looked at; more are taken to be like these.
const MOST_OTHERS: usize = 256;

/// The forecast of a sweep.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Forecast {
    /// Seconds until it ends; `None` where nothing can be said.
    pub(super) seconds: Option<f64>,
    pub(super) jobs: Vec<JobForecast>,
}

/// The forecast of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct JobForecast {
    /// Seconds until it ends; `None` where nothing can be said.
    pub(super) seconds: Option<f64>,
    /// Members a second on the slots that have its shards now.
    pub(super) members_per_second: Option<f64>,
}

/// Seconds from now on after which something is free; ordered.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Seconds(f64);

impl Eq for Seconds {}

impl PartialOrd for Seconds {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Seconds {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Slots, by when they are free.
struct SlotPool {
    free: BinaryHeap<Reverse<Seconds>>,
    /// Slots that each of these stands for.
    group: u32,
}

impl SlotPool {
    /// So many slots, of which some are free after these seconds and the others now.
    fn new(slots: u32, leased: Vec<f64>) -> Self {
        let group = slots.div_ceil(MOST_SLOTS).max(1);
        let count = slots.div_ceil(group) as usize;
        // Of more leases than slots, some are computed and about to be reported.
        let mut free: Vec<f64> = leased.into_iter().step_by(group as usize).collect();
        free.sort_by(|a, b| b.total_cmp(a));
        free.resize(count, 0.0);
        Self { free: free.into_iter().map(|seconds| Reverse(Seconds(seconds))).collect(), group }
    }

    /// Gives blocks of so many seconds to the slots, none before `ready`; returns when the last one ends.
    fn place(&mut self, blocks: u64, seconds: f64, ready: f64) -> f64 {
        let blocks = blocks.div_ceil(u64::from(self.group));
        let last = blocks.min(PLACED_EACH * self.free.len() as u64);
        if blocks > last {
            self.pour((blocks - last) as f64 * seconds, ready);
        }
        let mut end = ready;
        for _ in 0..last {
            let Some(Reverse(Seconds(free))) = self.free.pop() else { return f64::INFINITY };
            let done = free.max(ready) + seconds;
            end = end.max(done);
            self.free.push(Reverse(Seconds(done)));
        }
        end
    }

    /// Spreads slot-seconds so that all slots that have some end together.
    fn pour(&mut self, work: f64, ready: f64) {
        let mut free: Vec<f64> = self.free.drain().map(|Reverse(Seconds(free))| free.max(ready)).collect();
        free.sort_by(f64::total_cmp);
        let mut sum = 0.0;
        let mut filled = 0;
        for &at in &free {
            if filled > 0 && at * filled as f64 - sum >= work {
                break;
            }
            sum += at;
            filled += 1;
        }
        let level = (sum + work) / filled.max(1) as f64;
        free.iter_mut().take(filled).for_each(|at| *at = level);
        self.free.extend(free.into_iter().map(|at| Reverse(Seconds(at))));
    }
}

/// Seconds that a leased shard of blocks of so many seconds still takes its slot. A holder that is slower or faster than expected
/// goes on at its own pace.
fn seconds_left(job: &Job, lease: &Lease, block_seconds: f64, now: Time) -> f64 {
    let blocks = job.blocks(lease.node);
    let count = (blocks.end - blocks.start) as f64;
    let of_holder = |holder: &super::state::Holder| {
        let elapsed = now.seconds_since(holder.since);
        let done = holder.blocks_done as f64 + holder.fraction;
        let fastest = if done > 0.0 { elapsed / done } else { f64::INFINITY };
        let pace = block_seconds.min(fastest).max(elapsed / (done.floor() + 1.0));
        (count * pace - elapsed).max(OVERDUE * pace * f64::from(u8::from(done < count)))
    };
    lease.holders.iter().map(of_holder).fold(f64::INFINITY, f64::min)
}

impl Scheduler {
    /// The forecasts of a sweep and of its jobs.
    pub(super) fn forecast(&self, sweep: &Sweep) -> Forecast {
        if sweep.state.has_ended() {
            return Forecast { seconds: None, jobs: vec![JobForecast::default(); sweep.jobs.len()] };
        }
        let member_seconds: Vec<Option<f64>> = sweep.jobs.iter().map(|job| self.member_seconds(sweep, job)).collect();
        let rates = sweep.jobs.iter().zip(&member_seconds).map(|(job, seconds)| job.rate(sweep.leased, *seconds));
        let ends = self.shared_ends(sweep, &member_seconds);
        let seconds = ends.as_ref().and_then(|ends| told(ends.iter().copied().fold(0.0, f64::max)));
        let jobs = sweep.jobs.iter().zip(rates).enumerate().map(|(at, (job, members_per_second))| JobForecast {
            seconds: ends.as_ref().filter(|_| !sweep.is_over(job)).and_then(|ends| told(ends[at])),
            members_per_second,
        });
        Forecast { seconds, jobs: jobs.collect() }
    }

    /// Returns when each job of a sweep ends, beside other sweeps; `None` where nothing can be said.
    fn shared_ends(&self, sweep: &Sweep, member_seconds: &[Option<f64>]) -> Option<Vec<f64>> {
        let work = self.work_of(sweep);
        let slots = self.slots_of_one_class(sweep);
        if work > 0.0 && (slots == 0 || sweep.paused || member_seconds.iter().all(Option::is_none)) {
            return None;
        }
        let mut ends = self.ends(sweep, slots, member_seconds);
        let alone = ends.iter().copied().fold(0.0, f64::max);
        // What is in hands already is not taken away for others.
        let needs_slots = sweep.jobs.iter().any(|job| job.blocks_to_give_out(sweep.spec.audit) > 0);
        if needs_slots && alone > 0.0 {
            // Slots are shared all along: what others take is spread over the time.
            let stretch = 1.0 + self.work_of_others(sweep, work) / f64::from(slots.max(1)) / alone;
            ends.iter_mut().for_each(|end| *end *= stretch);
        }
        Some(ends)
    }

    /// Returns when each job of a sweep would end if it had these slots to itself.
    fn ends(&self, sweep: &Sweep, slots: u32, member_seconds: &[Option<f64>]) -> Vec<f64> {
        let open: Vec<usize> = (0..sweep.jobs.len()).filter(|&at| !sweep.is_over(&sweep.jobs[at])).collect();
        let block_seconds = |at: usize| {
            let job = &sweep.jobs[at];
            let members = u64::from(job.shape.grid.block_size).min(job.shape.grid.networks);
            member_seconds[at].unwrap_or(job.scale.member_seconds) * members as f64
        };
        let mut ends: Vec<f64> = vec![0.0; sweep.jobs.len()];
        let mut leased = Vec::new();
        for &at in &open {
            let job = &sweep.jobs[at];
            for lease in job.leased.values() {
                let left = seconds_left(job, lease, block_seconds(at), self.now);
                ends[at] = ends[at].max(left);
                leased.push(left);
            }
        }
        let mut pool = SlotPool::new(slots, leased);
        let (waiting, ready): (Vec<usize>, Vec<usize>) = open.into_iter().partition(|&at| sweep.waits(&sweep.jobs[at]));
        for at in ready.into_iter().chain(waiting) {
            let job = &sweep.jobs[at];
            let needed = sweep.needed_index(job).filter(|_| sweep.waits(job));
            let after = needed.map_or(0.0, |needed| ends[needed]);
            let blocks = job.blocks_to_give_out(sweep.spec.audit);
            let placed = if blocks > 0 { pool.place(blocks, block_seconds(at), after) } else { 0.0 };
            ends[at] = ends[at].max(placed) + job.reduction_seconds();
        }
        ends
    }

    /// Slots that a sweep can have. One that has not begun will run in one class: that of most slots is taken.
    fn slots_of_one_class(&self, sweep: &Sweep) -> u32 {
        let accepted = || self.kinds.iter().filter(|kind| sweep.accepts(&kind.profile)).map(|kind| kind.slots);
        if sweep.class.is_some() { accepted().sum() } else { accepted().max().unwrap_or(0) }
    }

    /// Slot-seconds of a member of a job; `None` while nothing like it was measured.
    fn member_seconds(&self, sweep: &Sweep, job: &Job) -> Option<f64> {
        let elsewhere = || {
            let estimate = self.member_of(sweep, job);
            estimate.basis.is_measured().then_some(estimate.seconds)
        };
        let scaled = || sweep.has_measured().then_some(job.scale.member_seconds);
        job.measured_seconds().or_else(elsewhere).or_else(scaled)
    }

    /// Slot-seconds that are left of another sweep's members.
    fn work_of(&self, sweep: &Sweep) -> f64 {
        let of_job = |job: &Job| {
            let seconds = self.member_seconds(sweep, job).unwrap_or(job.scale.member_seconds);
            sweep.slot_work_left(job) / job.scale.member_seconds * seconds
        };
        sweep.jobs.iter().map(of_job).sum()
    }

    /// Slot-seconds of other sweeps that are given out before one ends: all of those that come first by priority, and of its own
    /// priority as much as their weights allow.
    fn work_of_others(&self, sweep: &Sweep, work: f64) -> f64 {
        let beside = |other: &&Sweep| {
            let own = sweep.share.priority;
            let its = other.share.priority;
            let shared =
                |kind: &&super::state::WorkerKind| sweep.accepts(&kind.profile) && other.accepts(&kind.profile);
            other.number != sweep.number && its >= own && self.kinds.iter().any(|kind| shared(&kind))
        };
        let others: Vec<&Sweep> =
            self.queue.values().filter_map(|id| self.sweeps.get(id)).take(MOST_OTHERS).filter(beside).collect();
        let of_other = |other: &&Sweep| {
            let left = self.work_of(other);
            if other.share.priority > sweep.share.priority {
                return left;
            }
            left.min(work * other.share.weight / sweep.share.weight)
        };
        let more = self.queue.len() as f64 / self.queue.len().clamp(1, MOST_OTHERS) as f64;
        others.iter().map(of_other).sum::<f64>() * more
    }
}

/// A number of seconds to show, if it is one.
fn told(seconds: f64) -> Option<f64> {
    Some(seconds).filter(|seconds| seconds.is_finite())
}

impl Sweep {
    fn has_measured(&self) -> bool {
        self.jobs.iter().any(|job| job.measured_seconds().is_some())
    }
}

impl Job {
    /// Members a second on the slots that have its shards, at most so many, a member taking one of them so long.
    fn rate(&self, slots: u64, member_seconds: Option<f64>) -> Option<f64> {
        let slots = self.leased.len().min(slots as usize);
        member_seconds.filter(|_| slots > 0).map(|seconds| slots as f64 / seconds)
    }

    /// Blocks that are still to be given to somebody, those of audits among them.
    fn blocks_to_give_out(&self, audit: f64) -> u64 {
        if self.state != JobState::Computing {
            return 0;
        }
        let blocks = |node| {
            let blocks = self.blocks(node);
            blocks.end - blocks.start
        };
        let waiting: u64 = self.waiting.values().map(|retry| blocks(retry.node)).sum();
        let leased: u64 = self.leased.values().map(|lease| blocks(lease.node)).sum();
        let drawn: u64 = self.audits.values().map(|audit| blocks(audit.node)).sum();
        let fresh = self.pending.len() + waiting;
        fresh + drawn + ((fresh + leased) as f64 * audit).round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_go_to_the_slot_that_is_free_first() {
        let mut pool = SlotPool::new(3, vec![5.0, 1.0]);
        assert_eq!(pool.place(2, 2.0, 0.0), 3.0, "one at once, one when the first slot is free");
        assert_eq!(pool.place(1, 10.0, 4.0), 14.0, "none begins before it may");
    }

    #[test]
    fn many_blocks_fill_all_slots_evenly() {
        let mut pool = SlotPool::new(4, vec![100.0]);
        // 1,000 s of work, and 100 s that are left on one slot: 1,100 s on four.
        let end = pool.place(1_000, 1.0, 0.0);
        assert!((end - 275.0).abs() <= 1.0, "{end}");
    }

    /// However many slots there are, a bounded number of them is looked at.
    #[test]
    fn many_slots_are_looked_at_in_groups() {
        let leased = vec![3.0; 100_000];
        let mut pool = SlotPool::new(100_000, leased);
        assert!(pool.free.len() <= MOST_SLOTS as usize);
        let end = pool.place(1_000_000, 2.0, 0.0);
        assert!((end - 23.0).abs() <= 2.0, "{end}");
    }
}
