//! Shards whose holders do not get on: a slot that hangs beside a heart that beats. They lose the shard, and the slot is left
//! alone for a while.
//!
//! How long a holder may stand still follows from what its block should take, more generously the less is known of it, and is at
//! least the setting. Deliberately absent: looking at every lease with every event; nobody hangs before `next_stall`.

use super::Scheduler;
use super::effect::{Action, Effects};
use super::failures::Gone;
use super::shard::ShardRef;
use super::state::{HeldShard, Job, Worker};
use crate::cost::EstimateBasis;
use crate::ids::{Time, WorkerId};
use crate::text;

/// Times that a block's estimate a holder may stand still, by what the estimate rests on.
const MEASURED: f64 = 20.0;
const OTHER_SIZE: f64 = 50.0;
const UNKNOWN: f64 = 100.0;
/// Bytes a second that a worker's files may come at: the slowest line that is worked with.
pub(super) const SLOWEST_BYTES_PER_SECOND: f64 = 16_384.0;
/// A slot that hung again and again is tried less and less often, up to so many doublings.
const MOST_DOUBLINGS: u32 = 6;
/// No holder may stand still for longer than this: seconds.
const MOST_SECONDS: f64 = 30.0 * 86_400.0;

impl Worker {
    /// Returns whether all its slots hang.
    pub(super) fn hangs(&self) -> bool {
        !self.hung.is_empty() && self.hung.len() >= self.profile.slots as usize
    }

    /// Returns why it is given nothing, if so.
    pub(super) fn set_aside_because(&self) -> Option<String> {
        let hung = || self.last_error.clone().filter(|_| self.hangs());
        self.unfit.clone().or_else(hung)
    }

    /// Returns when a slot that hangs is tried again.
    pub(super) fn tried_again(&self) -> Option<Time> {
        self.hung.iter().copied().min()
    }
}

impl Scheduler {
    /// A shard was given: it may hang from some time on.
    pub(super) fn watch_for_stalls(&mut self, now: Time) {
        let soonest = now.plus(self.settings.stall_after_ms);
        if self.settings.stall_after_ms > 0 {
            self.next_stall = Some(self.next_stall.map_or(soonest, |next| next.min(soonest)));
        }
    }

    /// A worker has got on with a shard in a way that only its stored checkpoint shows.
    pub(super) fn got_on(&mut self, id: &WorkerId, shard: &ShardRef, now: Time) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        if let Some(held) = worker.held.get_mut(shard) {
            held.headway.begun = true;
            held.headway.moved = now;
            worker.hangs = 0;
        }
    }

    /// Takes shards from those who hang, and tries slots again that have been left alone for long enough.
    pub(super) fn end_stalls(&mut self, now: Time, effects: &mut Effects) {
        if self.next_stall.is_none_or(|next| next > now) {
            return;
        }
        let ids: Vec<WorkerId> = self.workers.keys().cloned().collect();
        ids.iter().for_each(|id| self.try_again(id, now));
        let mut next: Option<Time> = self.workers.values().filter_map(Worker::tried_again).min();
        let mut stalled = Vec::new();
        for (id, worker) in &self.workers {
            for (shard, held) in worker.held.iter().filter(|(_, held)| !held.computed) {
                let end = match self.patience(worker, shard, held) {
                    Some(patience) => held.headway.moved.plus(patience),
                    // It has patience as long as results wait for their places: nothing says when they have gone.
                    None => now.plus(self.settings.stall_after_ms.max(1)),
                };
                if end <= now {
                    stalled.push((id.clone(), shard.clone(), now.seconds_since(held.headway.moved)));
                } else {
                    next = Some(next.map_or(end, |next| next.min(end)));
                }
            }
        }
        self.next_stall = next;
        for (id, shard, seconds) in stalled {
            self.take_from_hung(&id, &shard, seconds, now, effects);
        }
    }

    /// Slots that were left alone for long enough are tried again.
    fn try_again(&mut self, id: &WorkerId, now: Time) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        let before = worker.hung.len();
        worker.hung.retain(|again| *again > now);
        if worker.hung.len() < before {
            self.refresh(id);
            self.kinds_are_stale = true;
            self.wake_all = true;
        }
    }

    fn take_from_hung(&mut self, id: &WorkerId, shard: &ShardRef, seconds: f64, now: Time, effects: &mut Effects) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        let message = format!("no progress for {}: its slot is taken to hang", text::duration(seconds));
        let doublings = worker.hangs.min(MOST_DOUBLINGS);
        worker.hangs = worker.hangs.saturating_add(1);
        let again = now.plus(((seconds * 1e3) as u64) << doublings);
        worker.hung.push(again);
        worker.last_error = Some(message.clone());
        let connected = worker.connected;
        let all_hang = worker.hangs();
        self.next_stall = Some(self.next_stall.map_or(again, |next| next.min(again)));
        if connected {
            let reason = "it has not got on for too long";
            effects.actions.push(Action::Revoke { worker: id.clone(), shard: shard.clone(), reason });
        }
        if all_hang {
            let wait = text::duration(again.seconds_since(now));
            let reason = format!("all its slots hang, the last: {message}; one is tried again in {wait}");
            effects.actions.push(Action::SetAside { worker: id.clone(), reason });
            self.kinds_are_stale = true;
        }
        self.give_up(id, shard, Gone::Failed(&message), now, effects);
        self.refresh(id);
    }

    /// Milliseconds that a holder may stand still; `None` for ever.
    pub(super) fn patience(&self, worker: &Worker, shard: &ShardRef, held: &HeldShard) -> Option<u64> {
        let job = self.job(&shard.job).filter(|_| self.settings.stall_after_ms > 0)?;
        // A slot takes up nothing while results wait for their places: what has not begun may only be queued there.
        if !held.headway.begun && worker.held.values().any(|other| other.computed) {
            return None;
        }
        let files = if held.headway.begun { 0.0 } else { self.bytes_of_inputs(shard) / SLOWEST_BYTES_PER_SECOND };
        let seconds = (self.block_patience(worker, job) + files).min(MOST_SECONDS);
        Some(self.settings.stall_after_ms.max((seconds * 1e3) as u64))
    }

    /// Seconds that a worker may need for a block of a job without a sign of life.
    fn block_patience(&self, worker: &Worker, job: &Job) -> f64 {
        let member = self.member_on(worker, job);
        let times = match member.basis {
            EstimateBasis::Measured => MEASURED,
            EstimateBasis::OtherSize => OTHER_SIZE,
            _ => UNKNOWN,
        };
        let members = u64::from(job.shape.grid.block_size).min(job.shape.grid.networks);
        times * member.seconds * members as f64
    }

    fn bytes_of_inputs(&self, shard: &ShardRef) -> f64 {
        self.shard_inputs(shard).iter().map(|input| input.stored.size as f64).sum()
    }
}
