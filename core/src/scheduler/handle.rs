//! `handle` takes each event to where it belongs; here is the life of sweeps. Workers, failures, reports have files of their own.

use super::effect::{Action, Effects};
use super::event::{Answer, Event};
use super::record::{JobResult, Record, SweepOutcome};
use super::report::ReportedShard;
use super::shard::{JobRef, RequestId, ShardRef};
use super::state::{Job, JobState, Submission, Sweep, submission_digest, submission_size};
use super::{Scheduler, Settings};
use crate::grid::Node;
use crate::ids::{Digest, JobIndex, SweepId, Time, WorkerId};

impl Scheduler {
    /// Applies one event. The records of the effects must be durable before any of its actions is done.
    pub fn handle(&mut self, event: Event, now: Time) -> Effects {
        let mut effects = Effects::default();
        self.handle_into(event, now, &mut effects);
        effects
    }

    /// Applies one event; what it leads to comes behind what `effects` holds already.
    pub fn handle_into(&mut self, event: Event, now: Time, effects: &mut Effects) {
        // A clock that was set back must not bring expired leases to life.
        self.now = self.now.max(now);
        let now = self.now;
        self.dispatch(event, now, effects);
        self.expire(now, effects);
        self.end_stalls(now, effects);
        self.assign(now, effects);
    }

    fn dispatch(&mut self, event: Event, now: Time, effects: &mut Effects) {
        match event {
            Event::Submit { request, id, owner, key, share, spec, inputs } => {
                let answer = self.submit(id, Submission { owner, key, share, spec, inputs }, now, effects);
                effects.actions.push(Action::Answer { request, answer });
            }
            Event::Cancel { request, sweep } => self.cancel(request, &sweep, now, effects),
            Event::Pause { request, sweep, paused } => self.pause(request, &sweep, paused, effects),
            Event::Verify { request, claims } => self.verify(request, claims, effects),
            Event::EndVerify { verification } => self.end_verify(verification, effects),
            Event::Join { worker, profile, held } => self.join(worker, profile, held, now, effects),
            Event::Alive { worker } => self.seen(&worker, now),
            Event::Draining { worker } => self.draining(&worker, now),
            Event::Progress { worker, shard, stand } => self.progress(&worker, &shard, stand, now, effects),
            Event::Checkpointed { request, worker, shard, checkpoint } => {
                self.seen(&worker, now);
                let wanted = self.checkpointed(&worker, &shard, checkpoint, now, effects);
                effects.actions.push(Action::Answer { request, answer: Answer::Wanted(wanted) });
            }
            Event::Computed { worker, shard } => self.computed(&worker, &shard, now),
            Event::Report { request, worker, shard, class, partial, seconds, begin_seconds } => {
                self.seen(&worker, now);
                let seconds = self.counted_seconds(&worker, &shard, seconds, now);
                self.learn_from_report(&worker, &shard, seconds, begin_seconds, now);
                let reported = ReportedShard { partial, seconds };
                let verdict = self.report(&worker, &shard, &class, reported, now, effects);
                effects.actions.push(Action::Answer { request, answer: Answer::Reported(verdict) });
            }
            Event::Failed { worker, shard, kind, message } => {
                self.failed(&worker, &shard, kind, &message, now, effects)
            }
            Event::Leave { worker, drained } => self.leave(&worker, drained, now, effects),
            Event::Merged { job, number, stored } => self.merged(&job, number, stored, now, effects),
            Event::MergeFailed { job, number, damaged, message } => {
                self.merge_failed(&job, number, &damaged, message, now, effects);
            }
            Event::Reduced { job, generation, result } if self.awaits_reduction(&job, generation) => {
                self.reduced(&job, result, now, effects);
            }
            Event::ReduceFailed { job, generation, damaged, message } if self.awaits_reduction(&job, generation) => {
                self.reduce_failed(&job, &damaged, message, now, effects);
            }
            // What is said of an earlier reduction says nothing of the current one.
            Event::Reduced { .. } | Event::ReduceFailed { .. } => {}
            Event::Stalled { ms } => self.excuse(ms, now),
            Event::Tick => {}
        }
    }

    /// Returns when [`Event::Tick`] is due at the latest, if nothing else happens.
    pub fn next_deadline(&self) -> Option<Time> {
        [self.next_expiry, self.next_retry, self.next_stall, self.next_speculation()].into_iter().flatten().min()
    }

    fn submit(&mut self, id: SweepId, new: Submission, now: Time, effects: &mut Effects) -> Answer {
        let known = new.key.as_ref().and_then(|key| self.keys.get(&(new.owner.clone(), key.clone())));
        if let Some((sweep, held)) = known.and_then(|id| self.sweeps.get_key_value(id)) {
            let sweep = sweep.clone();
            return if held.digest == submission_digest(&new.spec.to_toml(), &new.inputs) {
                Answer::Submitted { sweep, created: false }
            } else {
                Answer::KeyTaken { sweep }
            };
        }
        let Submission { owner, key, share, spec, inputs } = new;
        let size = submission_size(&spec.to_toml());
        let mut all = size;
        let mut own = size;
        for open in self.open.iter().filter_map(|id| self.sweeps.get(id)) {
            all += open.size();
            own += if open.owner == owner { open.size() } else { 0 };
        }
        let Settings { most_open_sweeps, most_open_sweeps_each, .. } = self.settings;
        for (count, limit, each) in [(all, most_open_sweeps, false), (own, most_open_sweeps_each, true)] {
            if count > limit {
                return Answer::TooManySweeps { limit, each };
            }
        }
        let sweep = id.clone();
        let number = self.submissions + 1;
        self.record(Record::Submitted { sweep, number, owner, key, share, spec, inputs, at: now }, effects);
        self.wake_all = true;
        self.requeue(&id);
        effects.actions.push(Action::Changed { sweep: id.clone() });
        Answer::Submitted { sweep: id, created: true }
    }

    fn cancel(&mut self, request: RequestId, id: &SweepId, now: Time, effects: &mut Effects) {
        let answer = match self.sweeps.get(id) {
            None => Answer::UnknownSweep,
            Some(sweep) => {
                if !sweep.state.has_ended() {
                    self.end(id, SweepOutcome::Cancelled, now, effects);
                }
                Answer::Done
            }
        };
        effects.actions.push(Action::Answer { request, answer });
    }

    fn pause(&mut self, request: RequestId, id: &SweepId, paused: bool, effects: &mut Effects) {
        let answer = match self.sweeps.get(id) {
            None => Answer::UnknownSweep,
            Some(sweep) => {
                if !sweep.state.has_ended() && sweep.paused != paused {
                    self.record(Record::Paused { sweep: id.clone(), paused }, effects);
                    self.wake_all = true;
                    effects.actions.push(Action::Changed { sweep: id.clone() });
                    self.requeue(id);
                }
                Answer::Done
            }
        };
        effects.actions.push(Action::Answer { request, answer });
    }

    /// Ends a sweep: its leases are revoked, its partials not needed any more.
    pub(super) fn end(&mut self, id: &SweepId, outcome: SweepOutcome, now: Time, effects: &mut Effects) {
        for (worker, shard) in self.holders_of(id) {
            self.revoke(&worker, &shard, "the sweep has ended", effects);
        }
        let jobs = self.sweeps.get(id).into_iter().flat_map(|sweep| &sweep.jobs);
        let blobs = jobs.flat_map(Job::blobs_until_the_end).collect();
        self.record(Record::Ended { sweep: id.clone(), outcome, at: now }, effects);
        self.requeue(id);
        effects.actions.push(Action::Discard { blobs });
        effects.actions.push(Action::Changed { sweep: id.clone() });
        self.forget_oldest(effects);
    }

    /// Returns who computes what for a sweep.
    pub(super) fn holders_of(&self, id: &SweepId) -> Vec<(WorkerId, ShardRef)> {
        let Some(sweep) = self.sweeps.get(id) else { return Vec::new() };
        let mut held = Vec::new();
        for (index, job) in sweep.jobs.iter().enumerate() {
            let of = JobRef::new(id, JobIndex(index as u32));
            for lease in job.leased.values() {
                held.extend(lease.holders.iter().map(|holder| (holder.worker.clone(), of.shard(lease.node))));
            }
            for audit in job.audits.values() {
                held.extend(audit.holder.iter().map(|worker| (worker.clone(), of.shard(audit.node))));
            }
        }
        held
    }

    /// Forgets ended sweeps beyond the number that is kept.
    pub(super) fn forget_oldest(&mut self, effects: &mut Effects) {
        while self.ended.size() > self.settings.most_ended_sweeps {
            let Some(id) = self.ended.next_to_forget().cloned() else { return };
            self.end_verifications_of(&id, effects);
            let blobs = self.sweeps.get(&id).into_iter().flat_map(Sweep::kept_blobs).collect();
            self.record(Record::Forgotten { sweep: id }, effects);
            effects.actions.push(Action::Discard { blobs });
        }
    }

    /// Puts a sweep where it belongs in the queue.
    pub(super) fn requeue(&mut self, id: &SweepId) {
        let Some(sweep) = self.sweeps.get_mut(id) else { return };
        let due = sweep.due_place();
        if due == sweep.place {
            return;
        }
        if let Some(place) = std::mem::replace(&mut sweep.place, due) {
            self.queue.remove(&place);
        }
        if let Some(place) = due {
            self.queue.insert(place, id.clone());
        }
    }

    pub(super) fn job_mut(&mut self, of: &JobRef) -> Option<&mut Job> {
        self.sweeps.get_mut(&of.sweep)?.jobs.get_mut(of.index.0 as usize)
    }

    pub(super) fn job(&self, of: &JobRef) -> Option<&Job> {
        self.sweeps.get(&of.sweep)?.job(of.index)
    }

    /// Opens the blocks of partials again that are lost or damaged.
    pub(super) fn withdraw_damaged(&mut self, of: &JobRef, nodes: &[Node], effects: &mut Effects) {
        for &node in nodes {
            let shard = of.shard(node);
            if self.job(&shard.job).is_some_and(|job| job.committed.has_partial(node)) {
                self.record(Record::Withdrawn { shard: shard.clone() }, effects);
                self.record(Record::Retried { shard }, effects);
            }
        }
        self.wake_all = true;
        self.weigh_after_withdrawal(&of.sweep);
        self.requeue(&of.sweep);
        effects.actions.push(Action::Changed { sweep: of.sweep.clone() });
    }

    /// Begins a job's reduction once every block is committed and no merge is under way. When all jobs are over, so is the sweep.
    pub(super) fn settle(&mut self, of: &JobRef, now: Time, effects: &mut Effects) {
        self.start_merges(of, effects);
        let Some(job) = self.job_mut(of) else { return };
        let is_committed = job.state == JobState::Computing && job.tally.blocks == job.total;
        if is_committed && job.audits.is_empty() && job.merges.are_over() {
            job.state = JobState::Reducing;
            job.generation += 1;
            let generation = job.generation;
            let committed = job.committed.clone();
            effects.actions.push(Action::Reduce { job: of.clone(), generation, committed });
        }
        self.requeue(&of.sweep);
        self.end_if_over(&of.sweep, now, effects);
    }

    fn end_if_over(&mut self, id: &SweepId, now: Time, effects: &mut Effects) {
        let Some(sweep) = self.sweeps.get(id).filter(|sweep| !sweep.state.has_ended()) else { return };
        if sweep.jobs.iter().all(|job| job.state == JobState::Complete) {
            let digest = Self::result_digest(sweep);
            self.end(id, SweepOutcome::Complete { digest }, now, effects);
        } else if sweep.jobs.iter().all(|job| sweep.is_over(job)) {
            let message = sweep.what_failed();
            self.end(id, SweepOutcome::Incomplete { message }, now, effects);
        }
    }

    fn reduced(&mut self, of: &JobRef, result: JobResult, now: Time, effects: &mut Effects) {
        self.record(Record::Reduced { sweep: of.sweep.clone(), job: of.index, result }, effects);
        // Others may have waited for it.
        self.wake_all = true;
        effects.actions.push(Action::Changed { sweep: of.sweep.clone() });
        self.settle(of, now, effects);
    }

    fn reduce_failed(&mut self, of: &JobRef, damaged: &[Node], message: String, now: Time, effects: &mut Effects) {
        if damaged.is_empty() {
            return self.end(&of.sweep, SweepOutcome::Failed { message }, now, effects);
        }
        let reporters = self.reporters(of, damaged);
        self.withdraw_damaged(of, damaged, effects);
        self.note_damaged(of, reporters, now, effects);
    }
}

impl Sweep {
    /// Returns whether nothing more will come of a job.
    pub(super) fn is_over(&self, job: &Job) -> bool {
        let over = |job: &Job| matches!(job.state, JobState::Complete | JobState::Incomplete);
        over(job) || self.needed(job).is_some_and(|needed| needed.state == JobState::Incomplete)
    }

    /// The failures of an incomplete sweep in one line.
    fn what_failed(&self) -> String {
        let count = self.failures().count();
        let Some(first) = self.failures().next() else { return "a job that others need is incomplete".to_owned() };
        let job = self.job(first.job).map_or("", |job| job.name.as_str());
        let shards = if count == 1 { "1 shard".to_owned() } else { format!("{count} shards") };
        format!("{shards} failed for good; {}", first.in_words(job))
    }

    /// Blobs that are kept as long as the sweep is: files, results, and what verifying needs.
    pub(super) fn kept_blobs(&self) -> impl Iterator<Item = Digest> {
        let results = self.jobs.iter().filter_map(|job| job.result.as_ref());
        let results = results.flat_map(|result| {
            result.artifacts.iter().map(|a| a.digest).chain(result.manifest.iter().map(|manifest| manifest.digest))
        });
        self.inputs.values().map(|input| input.digest).chain(results)
    }
}
