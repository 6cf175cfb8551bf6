//! Workers: they join, are heard, hold shards, drain, leave, and are lost.

use super::Scheduler;
use super::effect::{Action, Effects};
use super::failures::Gone;
use super::headway::Headway;
use super::record::Record;
use super::shard::{ShardCheckpoint, ShardRef, WorkerProfile};
use super::state::{HeldShard, Holder, Lease, Purpose, Worker};
use crate::cost::{Rates, SpeedClass};
use crate::ids::{Time, WorkerId};

impl Scheduler {
    pub(super) fn join(
        &mut self,
        id: WorkerId,
        profile: WorkerProfile,
        held: Vec<ShardRef>,
        now: Time,
        effects: &mut Effects,
    ) {
        let fresh = || Worker {
            profile: profile.clone(),
            last_seen: now,
            connected: true,
            draining: false,
            unfit: None,
            distrusted: false,
            held: Default::default(),
            busy: 0,
            rates: Rates::new(SpeedClass::of(&profile.class)),
            hung: Vec::new(),
            hangs: 0,
            members_done: 0,
            last_error: None,
        };
        let worker = self.workers.entry(id.clone()).or_insert_with(fresh);
        worker.connected = true;
        worker.draining = false;
        worker.last_seen = now;
        worker.profile = profile;
        self.kinds_are_stale = true;
        let expiry = now.plus(self.settings.lease_ttl_ms);
        self.next_expiry = Some(self.next_expiry.map_or(expiry, |next| next.min(expiry)));
        // What it held before and does not name now, it has lost.
        let known = self.workers.get(&id).map(|worker| worker.held.keys().cloned().collect::<Vec<_>>());
        for shard in known.into_iter().flatten().filter(|shard| !held.contains(shard)) {
            self.give_up(&id, &shard, Gone::Lost, now, effects);
        }
        for shard in held {
            if !self.adopt(&id, &shard, now) {
                let reason = "the shard is in other hands or not wanted";
                effects.actions.push(Action::Revoke { worker: id.clone(), shard, reason });
            }
        }
        self.refresh(&id);
    }

    /// Lets a worker keep a shard that it holds from an earlier session, if nobody else has any of it.
    pub(super) fn adopt(&mut self, id: &WorkerId, shard: &ShardRef, now: Time) -> bool {
        let Some(worker) = self.workers.get_mut(id) else { return false };
        if let Some(held) = worker.held.get_mut(shard) {
            // What was computed is told again.
            worker.busy += u32::from(held.computed);
            if std::mem::take(&mut held.computed) {
                held.headway.moved = now;
                self.count_slot(shard, 1);
                self.watch_for_stalls(now);
            }
            return true;
        }
        let may = self.workers.get(id).is_some_and(|worker| self.may_adopt(&worker.profile, shard));
        if may {
            self.hold(id, shard, Purpose::Compute, Headway::new(now, false), now);
        }
        may
    }

    /// Returns whether a shard is nobody's, and a worker of this profile could have it from before a restart.
    pub(super) fn may_adopt(&self, profile: &WorkerProfile, shard: &ShardRef) -> bool {
        let Some(sweep) = self.sweeps.get(&shard.job.sweep) else { return false };
        if sweep.state.has_ended() || !sweep.accepts(profile) {
            return false;
        }
        let Some(job) = sweep.job(shard.job.index) else { return false };
        let blocks = job.blocks(shard.node);
        let waits = job.waiting.get(&blocks.start).is_some_and(|retry| retry.node == shard.node);
        !blocks.is_empty() && (waits || job.pending.contains_all(&blocks))
    }

    /// Puts a shard into a worker's hands, from wherever it is.
    pub(super) fn hold(&mut self, id: &WorkerId, shard: &ShardRef, purpose: Purpose, headway: Headway, now: Time) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        worker.held.insert(shard.clone(), HeldShard { purpose, computed: false, headway });
        worker.busy += 1;
        self.watch_for_stalls(now);
        match purpose {
            Purpose::Compute => {
                let holder = Holder { worker: id.clone(), since: now, blocks_done: 0, fraction: 0.0 };
                if let Some(job) = self.job_mut(&shard.job) {
                    let blocks = job.blocks(shard.node);
                    job.waiting.remove(&blocks.start);
                    job.pending.remove(&blocks);
                    let lease = Lease { node: shard.node, holders: Vec::with_capacity(1) };
                    job.leased.entry(blocks.start).or_insert(lease).holders.push(holder);
                }
            }
            Purpose::Audit => {
                let audit = self.job_mut(&shard.job).and_then(|job| {
                    let start = job.blocks(shard.node).start;
                    job.audits.get_mut(&start)
                });
                if let Some(audit) = audit {
                    audit.holder = Some(id.clone());
                }
            }
            Purpose::Verify(request) => self.verification_held(request, shard, Some(id)),
        }
        self.count_slot(shard, 1);
        self.refresh(id);
    }

    /// Takes a shard out of a worker's hands; its blocks are then nowhere if nobody else computes them for the result.
    pub(super) fn unhold(&mut self, id: &WorkerId, shard: &ShardRef) -> Option<Purpose> {
        let worker = self.workers.get_mut(id)?;
        let held = worker.held.remove(shard)?;
        if !held.computed {
            worker.busy -= 1;
            self.count_slot(shard, -1);
        }
        match held.purpose {
            Purpose::Compute => {
                if let Some(job) = self.job_mut(&shard.job) {
                    let start = job.blocks(shard.node).start;
                    if let Some(lease) = job.leased.get_mut(&start).filter(|lease| lease.node == shard.node) {
                        lease.holders.retain(|holder| holder.worker != *id);
                        if lease.holders.is_empty() {
                            job.leased.remove(&start);
                        }
                    }
                }
            }
            Purpose::Audit => {
                let start = self.job(&shard.job).map(|job| job.blocks(shard.node).start);
                let audit = start.and_then(|start| self.job_mut(&shard.job)?.audits.get_mut(&start));
                if let Some(audit) = audit.filter(|audit| audit.node == shard.node) {
                    audit.holder = None;
                }
            }
            Purpose::Verify(request) => self.verification_held(request, shard, None),
        }
        self.requeue(&shard.job.sweep);
        self.refresh(id);
        Some(held.purpose)
    }

    /// Takes a shard from a worker and says so to it.
    pub(super) fn revoke(&mut self, id: &WorkerId, shard: &ShardRef, reason: &'static str, effects: &mut Effects) {
        if self.unhold(id, shard).is_some() && self.workers.get(id).is_some_and(|worker| worker.connected) {
            effects.actions.push(Action::Revoke { worker: id.clone(), shard: shard.clone(), reason });
        }
    }

    /// A slot more or less computes for a shard's sweep.
    fn count_slot(&mut self, shard: &ShardRef, by: i64) {
        self.slots_leased = self.slots_leased.saturating_add_signed(by);
        if let Some(sweep) = self.sweeps.get_mut(&shard.job.sweep) {
            sweep.leased = sweep.leased.saturating_add_signed(by);
            self.requeue(&shard.job.sweep);
        }
    }

    /// Notes whether a worker can take a shard now, after something about it changed.
    pub(super) fn refresh(&mut self, id: &WorkerId) {
        if self.workers.get(id).is_some_and(Worker::has_free_slot) {
            self.idle.insert(id.clone());
            self.woken.insert(id.clone());
        } else {
            self.idle.remove(id);
        }
    }

    pub(super) fn seen(&mut self, id: &WorkerId, now: Time) {
        let ttl = self.settings.lease_ttl_ms;
        if let Some(worker) = self.workers.get_mut(id) {
            let silent = now.0.saturating_sub(worker.last_seen.0);
            if silent > ttl {
                // The clock was set, or this machine slept: in that time nobody could have been heard to get on.
                worker.held.values_mut().for_each(|held| held.headway.moved = held.headway.moved.plus(silent));
            }
            worker.last_seen = worker.last_seen.max(now);
        }
    }

    /// Moves silences and leases on by a time in which nobody was listened to: it is nobody's fault.
    pub(super) fn excuse(&mut self, ms: u64, now: Time) {
        for worker in self.workers.values_mut() {
            worker.last_seen = worker.last_seen.plus(ms).min(now);
            for held in worker.held.values_mut() {
                held.headway.moved = held.headway.moved.plus(ms).min(now);
            }
        }
        for id in &self.open {
            let Some(sweep) = self.sweeps.get_mut(id) else { continue };
            let leases = sweep.jobs.iter_mut().flat_map(|job| job.leased.values_mut());
            for holder in leases.flat_map(|lease| &mut lease.holders) {
                holder.since = holder.since.plus(ms).min(now);
            }
        }
        let ttl = self.settings.lease_ttl_ms;
        self.next_expiry = self.workers.values().map(|worker| worker.last_seen.plus(ttl)).min();
    }

    /// Wakes everybody: whoever avoided a worker that is gone may now have to take what is left.
    fn workforce_changed(&mut self) {
        self.kinds_are_stale = true;
        self.wake_all = true;
    }

    pub(super) fn draining(&mut self, id: &WorkerId, now: Time) {
        self.seen(id, now);
        if let Some(worker) = self.workers.get_mut(id) {
            worker.draining = true;
            self.refresh(id);
            self.workforce_changed();
        }
    }

    /// Gives a worker nothing any more.
    pub(super) fn set_aside(&mut self, id: &WorkerId, reason: &str, effects: &mut Effects) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        if worker.unfit.is_none() {
            effects.actions.push(Action::SetAside { worker: id.clone(), reason: reason.to_owned() });
        }
        worker.unfit = Some(reason.to_owned());
        self.refresh(id);
        self.workforce_changed();
    }

    /// Takes in how far a shard has come; whether it is the worker's to compute. A checkpoint that is behind is not kept.
    pub(super) fn checkpointed(
        &mut self,
        id: &WorkerId,
        shard: &ShardRef,
        checkpoint: ShardCheckpoint,
        now: Time,
        effects: &mut Effects,
    ) -> bool {
        let Some(worker) = self.workers.get(id) else { return false };
        let Some(held) = worker.held.get(shard) else { return false };
        if held.purpose != Purpose::Compute {
            // What is computed to be compared is computed from the beginning.
            return true;
        }
        let precision = self.sweeps.get(&shard.job.sweep).map(|sweep| sweep.spec.precision);
        if let Some(class) = precision.and_then(|precision| worker.profile.class_for(precision)) {
            // Whoever goes on from there must be of the class.
            self.bind_class(&shard.job.sweep, &class, now, effects);
        }
        let Some(job) = self.job(&shard.job) else { return false };
        let far = |checkpoint: &ShardCheckpoint| (checkpoint.members_done, checkpoint.epochs);
        let held = job.checkpoints.get(&shard.node);
        if held.is_some_and(|held| far(held) >= far(&checkpoint)) {
            return true;
        }
        let replaced = held.map(|held| held.stored.digest).filter(|digest| *digest != checkpoint.stored.digest);
        self.record(Record::Checkpointed { shard: shard.clone(), checkpoint }, effects);
        self.got_on(id, shard, now);
        if let Some(replaced) = replaced {
            effects.actions.push(Action::Discard { blobs: vec![replaced] });
        }
        true
    }

    pub(super) fn computed(&mut self, id: &WorkerId, shard: &ShardRef, now: Time) {
        self.seen(id, now);
        let Some(worker) = self.workers.get_mut(id) else { return };
        let Some(held) = worker.held.get_mut(shard).filter(|held| !held.computed) else { return };
        held.computed = true;
        held.headway.moved = now;
        worker.busy -= 1;
        self.count_slot(shard, -1);
        self.refresh(id);
    }

    pub(super) fn leave(&mut self, id: &WorkerId, drained: bool, now: Time, effects: &mut Effects) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        // After a broken connection the leases stay until they expire: the worker may come back with its work.
        worker.connected = false;
        if drained {
            let held: Vec<ShardRef> = worker.held.keys().cloned().collect();
            held.iter().for_each(|shard| self.give_up(id, shard, Gone::Released, now, effects));
            self.workers.remove(id);
        }
        self.refresh(id);
        self.workforce_changed();
    }

    /// Workers that were not heard for too long lose what they hold, and are forgotten.
    pub(super) fn expire(&mut self, now: Time, effects: &mut Effects) {
        if self.next_expiry.is_none_or(|next| next > now) {
            return;
        }
        let ttl = self.settings.lease_ttl_ms;
        let silent: Vec<WorkerId> =
            self.workers.iter().filter(|(_, w)| w.last_seen.plus(ttl) <= now).map(|(id, _)| id.clone()).collect();
        for id in silent {
            let held = self.workers.get(&id).map(|w| w.held.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
            for shard in held {
                self.give_up(&id, &shard, Gone::Lost, now, effects);
            }
            if self.workers.remove(&id).is_some_and(|worker| worker.connected) {
                // It may only have been stopped for a while: a new session makes it known again.
                effects.actions.push(Action::Disconnect { worker: id.clone() });
            }
            self.refresh(&id);
            self.workforce_changed();
        }
        self.next_expiry = self.workers.values().map(|worker| worker.last_seen.plus(ttl)).min();
    }
}
