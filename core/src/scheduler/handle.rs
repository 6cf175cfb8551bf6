//! `handle`: what each event changes. Reports have a file of their own.

use super::state::{Lease, Retry, Sweep, SweepState, Worker, submission_digest};
use super::{
    Action, Answer, Effects, Event, FailureKind, Outcome, Record, RequestId, Scheduler, ShardRef, WorkerProfile,
};
use crate::ids::{JobIndex, SweepId, Time, WorkerId};
use crate::spec::{Inputs, Spec};

impl Scheduler {
    /// Applies one event. The records of the effects must be durable before any of its actions is done.
    pub fn handle(&mut self, event: Event, now: Time) -> Effects {
        let mut effects = Effects::default();
        self.apply(event, now, &mut effects);
        self.expire(now, &mut effects);
        self.assign(now, &mut effects);
        effects
    }

    fn apply(&mut self, event: Event, now: Time, effects: &mut Effects) {
        match event {
            Event::Submit { request, id, owner, key, spec, inputs } => {
                self.submit(request, id, (owner, key), (spec, inputs), now, effects)
            }
            Event::Cancel { request, sweep } => self.cancel(request, &sweep, now, effects),
            Event::Join { worker, profile, held } => self.join(worker, profile, held, now, effects),
            Event::Alive { worker } => self.seen(&worker, now),
            Event::Progress { worker, shard, blocks_done } => self.progress(&worker, &shard, blocks_done, now, effects),
            Event::Computed { worker, shard } => self.computed(&worker, &shard, now),
            Event::Report { request, worker, shard, class, partial, seconds } => {
                self.seen(&worker, now);
                let verdict = self.report(&worker, &shard, &class, partial, seconds, effects);
                effects.actions.push(Action::Answer { request, answer: Answer::Reported(verdict) });
            }
            Event::Failed { worker, shard, kind, message } => {
                self.failed(&worker, &shard, kind, &message, now, effects)
            }
            Event::Leave { worker, drained } => self.leave(&worker, drained, effects),
            Event::Reduced { sweep, job, result } => self.reduced(&sweep, job, result, now, effects),
            Event::ReduceFailed { sweep, job, damaged, message } => {
                self.reduce_failed(&sweep, job, &damaged, message, now, effects);
            }
            Event::Tick => {}
        }
    }

    /// When [`Event::Tick`] is due at the latest, if nothing else happens.
    pub fn next_deadline(&self) -> Option<Time> {
        let ttl = self.settings.lease_ttl_ms;
        let leases =
            self.workers.values().filter(|w| w.connected || !w.leases.is_empty()).map(|w| w.last_seen.plus(ttl));
        let open = self.open.iter().filter_map(|id| self.sweeps.get(id));
        let retries = open.flat_map(|s| &s.jobs).flat_map(|job| job.waiting.values()).map(|retry| retry.not_before);
        leases.chain(retries).min()
    }

    fn submit(
        &mut self,
        request: RequestId,
        id: SweepId,
        (owner, key): (String, Option<String>),
        (spec, inputs): (Box<Spec>, Inputs),
        now: Time,
        effects: &mut Effects,
    ) {
        let known = key.as_ref().and_then(|key| self.keys.get(&(owner.clone(), key.clone())));
        let own = self.open.iter().filter_map(|id| self.sweeps.get(id)).filter(|sweep| sweep.owner == owner);
        let answer = match known.and_then(|id| self.sweeps.get_key_value(id)) {
            Some((sweep, held)) if held.digest == submission_digest(&spec, &inputs) => {
                Answer::Submitted { sweep: sweep.clone(), created: false }
            }
            Some((sweep, _)) => Answer::KeyTaken { sweep: sweep.clone() },
            None if self.open.len() >= self.settings.most_open_sweeps => {
                Answer::TooManySweeps { limit: self.settings.most_open_sweeps, each: false }
            }
            None if own.count() >= self.settings.most_open_sweeps_each => {
                Answer::TooManySweeps { limit: self.settings.most_open_sweeps_each, each: true }
            }
            None => {
                effects.records.push(Record::Submitted {
                    sweep: id.clone(),
                    owner: owner.clone(),
                    key: key.clone(),
                    spec: spec.clone(),
                    inputs: inputs.clone(),
                    at: now,
                });
                self.insert_sweep(id.clone(), (owner, key), (spec, inputs), now);
                effects.actions.push(Action::Changed { sweep: id.clone() });
                Answer::Submitted { sweep: id, created: true }
            }
        };
        effects.actions.push(Action::Answer { request, answer });
    }

    pub(super) fn insert_sweep(
        &mut self,
        id: SweepId,
        (owner, key): (String, Option<String>),
        (spec, inputs): (Box<Spec>, Inputs),
        now: Time,
    ) {
        if let Some(key) = key {
            self.keys.insert((owner.clone(), key), id.clone());
        }
        self.submissions += 1;
        self.sweeps.insert(id.clone(), Sweep::new(owner, spec, inputs, self.submissions, now));
        self.open.push(id);
    }

    fn cancel(&mut self, request: RequestId, id: &SweepId, now: Time, effects: &mut Effects) {
        let answer = match self.sweeps.get(id) {
            None => Answer::UnknownSweep,
            Some(sweep) => {
                if !sweep.state.has_ended() {
                    self.end(id, Outcome::Cancelled, now, effects);
                }
                Answer::Cancelled
            }
        };
        effects.actions.push(Action::Answer { request, answer });
    }

    /// Ends a sweep: its leases are revoked, its partials not needed any more.
    pub(super) fn end(&mut self, id: &SweepId, outcome: Outcome, now: Time, effects: &mut Effects) {
        effects.records.push(Record::Ended { sweep: id.clone(), outcome: outcome.clone(), at: now });
        let leased: Vec<ShardRef> = self.leases.keys().filter(|shard| shard.sweep == *id).cloned().collect();
        for shard in leased {
            self.revoke(&shard, "the sweep has ended", effects);
        }
        let partials = self.close(id, outcome, now);
        effects.actions.push(Action::Discard { partials });
        effects.actions.push(Action::Changed { sweep: id.clone() });
    }

    /// Marks a sweep as ended; returns its partials and input files, which it does not need any more.
    pub(super) fn close(&mut self, id: &SweepId, outcome: Outcome, now: Time) -> Vec<crate::ids::Digest> {
        self.open.retain(|open| open != id);
        let Some(sweep) = self.sweeps.get_mut(id) else { return Vec::new() };
        sweep.ended = Some(now);
        sweep.state = match outcome {
            Outcome::Complete { digest } => SweepState::Complete { digest },
            Outcome::Failed { message } => SweepState::Failed { message },
            Outcome::Cancelled => SweepState::Cancelled,
        };
        let mut partials: Vec<_> = sweep.inputs.values().map(|input| input.digest).collect();
        for job in &mut sweep.jobs {
            partials.extend(std::mem::take(&mut job.committed).into_values().map(|(_, digest)| digest));
            job.pending = super::ranges::Ranges::default();
            job.waiting.clear();
            job.attempts.clear();
        }
        partials
    }

    /// Takes a lease away and says so to its worker.
    pub(super) fn revoke(&mut self, shard: &ShardRef, reason: &'static str, effects: &mut Effects) -> Option<Lease> {
        let lease = self.leases.remove(shard)?;
        if let Some(worker) = self.workers.get_mut(&lease.worker) {
            worker.leases.remove(shard);
            if worker.connected {
                effects.actions.push(Action::Revoke { worker: lease.worker.clone(), shard: shard.clone(), reason });
            }
        }
        Some(lease)
    }

    fn join(&mut self, id: WorkerId, profile: WorkerProfile, held: Vec<ShardRef>, now: Time, effects: &mut Effects) {
        let fresh = || Worker {
            profile: profile.clone(),
            last_seen: now,
            connected: true,
            unfit: None,
            leases: Default::default(),
            rates: Default::default(),
        };
        let worker = self.workers.entry(id.clone()).or_insert_with(fresh);
        (worker.connected, worker.last_seen, worker.profile) = (true, now, profile);
        // What it held before and does not name now, it has lost.
        let lost: Vec<ShardRef> = worker.leases.iter().filter(|shard| !held.contains(shard)).cloned().collect();
        for shard in lost {
            self.lose(&shard, now, effects);
        }
        for shard in held {
            if !self.adopt(&id, &shard) {
                let reason = "the shard is in other hands or not wanted";
                effects.actions.push(Action::Revoke { worker: id.clone(), shard, reason });
            }
        }
    }

    /// Lets a worker keep a shard that it holds from an earlier session, if nobody else has any of it.
    fn adopt(&mut self, id: &WorkerId, shard: &ShardRef) -> bool {
        if let Some(lease) = self.leases.get(shard) {
            return lease.worker == *id;
        }
        let Some(worker) = self.workers.get_mut(id) else { return false };
        let Some(sweep) = self.sweeps.get_mut(&shard.sweep) else { return false };
        if sweep.state.has_ended() || sweep.class.is_none() || !sweep.accepts(&worker.profile) {
            return false;
        }
        let Some(job) = sweep.jobs.get_mut(shard.job.0 as usize) else { return false };
        let blocks = shard.node.blocks(job.total);
        if blocks.is_empty() || (job.waiting.remove(&shard.node).is_none() && !job.pending.contains_all(&blocks)) {
            return false;
        }
        job.pending.remove(&blocks);
        worker.leases.insert(shard.clone());
        self.leases.insert(shard.clone(), Lease { worker: id.clone(), blocks_done: 0, computed: false });
        true
    }

    fn seen(&mut self, id: &WorkerId, now: Time) {
        if let Some(worker) = self.workers.get_mut(id) {
            worker.last_seen = worker.last_seen.max(now);
        }
    }

    fn progress(&mut self, id: &WorkerId, shard: &ShardRef, blocks_done: u64, now: Time, effects: &mut Effects) {
        self.seen(id, now);
        let Some(lease) = self.leases.get_mut(shard).filter(|lease| lease.worker == *id) else { return };
        let Some(job) = self.sweeps.get(&shard.sweep).and_then(|s| s.jobs.get(shard.job.0 as usize)) else { return };
        let blocks = shard.node.blocks(job.total);
        lease.blocks_done = lease.blocks_done.max(blocks_done.min(blocks.end - blocks.start));
        effects.actions.push(Action::Changed { sweep: shard.sweep.clone() });
    }

    fn computed(&mut self, id: &WorkerId, shard: &ShardRef, now: Time) {
        self.seen(id, now);
        if let Some(lease) = self.leases.get_mut(shard).filter(|lease| lease.worker == *id) {
            lease.computed = true;
        }
    }

    fn failed(
        &mut self,
        id: &WorkerId,
        shard: &ShardRef,
        kind: FailureKind,
        message: &str,
        now: Time,
        effects: &mut Effects,
    ) {
        self.seen(id, now);
        if self.leases.get(shard).is_none_or(|lease| lease.worker != *id) {
            return;
        }
        match kind {
            FailureKind::Spec => {
                let outcome = Outcome::Failed { message: message.to_owned() };
                self.end(&shard.sweep, outcome, now, effects);
            }
            FailureKind::Unfit => {
                self.release(shard, effects);
                if let Some(worker) = self.workers.get_mut(id) {
                    worker.unfit = Some(message.to_owned());
                }
            }
            FailureKind::Task | FailureKind::Transient => self.retry(shard, message, now, effects),
        }
    }

    fn leave(&mut self, id: &WorkerId, drained: bool, effects: &mut Effects) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        // After a broken connection the leases stay until they expire: the worker may come back with its work.
        worker.connected = false;
        if drained {
            for shard in std::mem::take(&mut worker.leases) {
                self.release(&shard, effects);
            }
            self.workers.remove(id);
        }
    }

    /// Gives a lease's blocks back as they were: nothing went wrong with them.
    fn release(&mut self, shard: &ShardRef, effects: &mut Effects) {
        let Some(lease) = self.leases.remove(shard) else { return };
        if let Some(worker) = self.workers.get_mut(&lease.worker) {
            worker.leases.remove(shard);
        }
        if let Some(job) = self.sweeps.get_mut(&shard.sweep).and_then(|s| s.jobs.get_mut(shard.job.0 as usize)) {
            job.pending.insert(shard.node.blocks(job.total));
        }
        effects.actions.push(Action::Changed { sweep: shard.sweep.clone() });
    }

    /// Workers that were not heard for too long lose what they hold, and are forgotten.
    fn expire(&mut self, now: Time, effects: &mut Effects) {
        let ttl = self.settings.lease_ttl_ms;
        let silent: Vec<WorkerId> =
            self.workers.iter().filter(|(_, w)| w.last_seen.plus(ttl) <= now).map(|(id, _)| id.clone()).collect();
        for id in silent {
            let leases = self.workers.get(&id).map(|w| w.leases.clone()).unwrap_or_default();
            for shard in leases {
                self.lose(&shard, now, effects);
            }
            if self.workers.remove(&id).is_some_and(|worker| worker.connected) {
                // It may only have been stopped for a while: a new session makes it known again.
                effects.actions.push(Action::Disconnect { worker: id });
            }
        }
    }

    fn lose(&mut self, shard: &ShardRef, now: Time, effects: &mut Effects) {
        self.retry(shard, "the worker was lost", now, effects);
    }

    /// Queues a shard for another attempt, or fails its sweep when it has had too many.
    fn retry(&mut self, shard: &ShardRef, cause: &str, now: Time, effects: &mut Effects) {
        let Some(lease) = self.leases.remove(shard) else { return };
        if let Some(worker) = self.workers.get_mut(&lease.worker) {
            worker.leases.remove(shard);
        }
        let settings = self.settings;
        let Some(sweep) = self.sweeps.get_mut(&shard.sweep) else { return };
        let Some(job) = sweep.jobs.get_mut(shard.job.0 as usize) else { return };
        let attempts = job.attempts.entry(shard.node).or_insert(0);
        *attempts += 1;
        job.retries += 1;
        let wait = settings.retry_wait_ms << (*attempts - 1).min(6);
        let exhausted = *attempts >= settings.most_attempts;
        let message = format!(
            "blocks {:?} of {} failed {attempts} times, last: {cause}",
            shard.node.blocks(job.total),
            job.shape.name()
        );
        job.waiting.insert(shard.node, Retry { not_before: now.plus(wait), last: lease.worker });
        effects.actions.push(Action::Changed { sweep: shard.sweep.clone() });
        if exhausted {
            self.end(&shard.sweep, Outcome::Failed { message }, now, effects);
        }
    }

    fn reduced(&mut self, id: &SweepId, index: JobIndex, result: super::JobResult, now: Time, effects: &mut Effects) {
        let Some(sweep) = self.sweeps.get_mut(id).filter(|sweep| !sweep.state.has_ended()) else { return };
        let Some(job) = sweep.jobs.get_mut(index.0 as usize) else { return };
        if job.state != super::JobState::Reducing {
            return;
        }
        effects.records.push(Record::Reduced { sweep: id.clone(), job: index, result: result.clone() });
        job.state = super::JobState::Complete;
        job.result = Some(result);
        effects.actions.push(Action::Changed { sweep: id.clone() });
        if sweep.jobs.iter().all(|job| job.state == super::JobState::Complete) {
            let digest = Self::result_digest(sweep);
            self.end(id, Outcome::Complete { digest }, now, effects);
        }
    }

    fn reduce_failed(
        &mut self,
        id: &SweepId,
        index: JobIndex,
        damaged: &[crate::grid::Node],
        message: String,
        now: Time,
        effects: &mut Effects,
    ) {
        let Some(sweep) = self.sweeps.get_mut(id).filter(|sweep| !sweep.state.has_ended()) else { return };
        let Some(job) = sweep.jobs.get_mut(index.0 as usize) else { return };
        if damaged.is_empty() {
            return self.end(id, Outcome::Failed { message }, now, effects);
        }
        for &node in damaged {
            let shard = ShardRef { sweep: id.clone(), job: index, node };
            job.withdraw(node);
            job.retries += 1;
            effects.records.push(Record::Withdrawn { shard });
        }
        effects.actions.push(Action::Changed { sweep: id.clone() });
    }
}
