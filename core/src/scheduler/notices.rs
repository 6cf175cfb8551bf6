//! Notices: lines that say to those who look at a sweep what keeps it back. The coordinator appends what it waits for itself: places for results,
//! its journal. Absent: times, which would make a new line of an old one; `explain` tells them.

use super::Scheduler;
use super::state::{Sweep, Worker};

/// Lines of a sweep at most.
pub const MOST_NOTICES: usize = 8;

impl Scheduler {
    /// Returns what keeps an open sweep back, the most important first.
    pub(super) fn notices(&self, sweep: &Sweep) -> Vec<String> {
        if sweep.state.has_ended() {
            return Vec::new();
        }
        // A sweep that has slots shares them: that others come first now and then does not keep it back.
        let needs_slots = sweep.leased == 0 && sweep.jobs.iter().any(|job| sweep.slot_work_left(job) > 0.0);
        let held_back = (needs_slots || sweep.paused).then(|| self.what_holds_back(sweep));
        let mut notices: Vec<String> = held_back.flatten().into_iter().collect();
        notices.extend(waiting_for_retry(sweep));
        notices.extend(self.set_aside_for(sweep));
        notices.truncate(MOST_NOTICES);
        notices
    }

    /// Workers that are set aside and could otherwise compute for the sweep.
    fn set_aside_for(&self, sweep: &Sweep) -> Option<String> {
        let unfit = |worker: &&Worker| worker.unfit.is_some() && worker.connected && sweep.accepts(&worker.profile);
        let mut unfit = self.workers.values().filter(unfit);
        let first = unfit.next()?;
        let reason = first.unfit.as_deref().unwrap_or_default();
        let name = &first.profile.name;
        Some(match unfit.count() {
            0 => format!("the worker {name} is set aside: {reason}"),
            more => format!("{} workers are set aside, among them {name}: {reason}", more + 1),
        })
    }
}

/// Shards that failed and wait for their next attempt.
fn waiting_for_retry(sweep: &Sweep) -> Option<String> {
    let failed = |job: &&super::state::Job| !job.attempts.is_empty();
    let waiting = sweep.jobs.iter().filter(failed).flat_map(|job| {
        job.waiting.values().filter_map(|retry| Some((job.name.as_str(), job.attempts.get(&retry.node)?)))
    });
    let mut waiting = waiting.collect::<Vec<_>>().into_iter();
    let (job, attempts) = waiting.next()?;
    let message = &attempts.message;
    Some(match waiting.len() {
        0 => format!("a shard of {job} waits for another attempt; the last one failed: {message}"),
        more => format!("{} shards wait for another attempt, the first, of {job}, failed: {message}", more + 1),
    })
}
