//! The progress of workers with their shards, and what is learned from it: seconds by kind of work, of each worker and of each class.
//!
//! A worker says how far it is and how long its slot has computed. What it says is believed only within what the lease has lived.
//! What is known of a class outlives its workers, and a restart: the journal's commits say it again.

use super::Scheduler;
use super::effect::{Action, Effects};
use super::shard::{JobRef, ShardRef, ShardStand};
use super::state::{Job, Sweep, Worker};
use crate::cost::{Estimate, EstimateBasis, Rates, SpeedClass};
use crate::ids::{Time, WorkerId};
use crate::numerics::{NumericsClass, Precision};
use std::ops::Range;

/// Seconds that a worker's clock and its messages may be off.
pub(super) const SLACK_SECONDS: f64 = 2.0;
/// Classes whose rates are kept; a worker names its class itself.
const MOST_CLASSES: usize = 64;

/// A worker's progress with a shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Headway {
    /// The last time that it got on: was given the shard, came back with it, began, or computed some of it.
    pub(super) moved: Time,
    /// True if it has begun to compute.
    pub(super) begun: bool,
    /// The furthest that it told.
    pub(super) stand: ShardStand,
    given: Time,
    /// True if it was given to be computed from its beginning.
    anew: bool,
    /// The part of it that the rates know; nothing of a shard that was begun elsewhere, before its first word of how far it is.
    learnt: Option<Learnt>,
}

/// The part of a shard that the rates know.
#[derive(Clone, Copy, Debug)]
struct Learnt {
    members: f64,
    seconds: f64,
    at: Time,
}

/// Members and seconds that the rates are to learn.
struct Lesson {
    members: f64,
    seconds: f64,
}

impl Headway {
    /// The headway of a shard that is given now. `anew`: it is computed from its beginning.
    pub(super) fn new(now: Time, anew: bool) -> Self {
        let learnt = anew.then_some(Learnt { members: 0.0, seconds: 0.0, at: now });
        Self { moved: now, begun: false, stand: ShardStand::default(), given: now, anew, learnt }
    }

    /// Returns since when all of it is computed; unknown where some of it was before.
    pub(super) fn given_anew(&self) -> Option<Time> {
        self.anew.then_some(self.given)
    }

    /// Takes in how far it is; returns whether it has got on.
    fn advance(&mut self, told: ShardStand, now: Time) -> bool {
        let place = |stand: &ShardStand| (stand.blocks_done, stand.fraction);
        let further = place(&told) > place(&self.stand);
        if further {
            self.stand = told;
        }
        let got_on = further || !self.begun;
        self.begun = true;
        if got_on {
            self.moved = now;
        }
        got_on
    }

    /// Returns what the rates have not learned yet when `members` took the slot `seconds`, if that can be. A worker that does not say how long it computed teaches
    /// nothing on the way.
    fn lesson(&mut self, members: f64, seconds: f64, now: Time) -> Option<Lesson> {
        if seconds <= 0.0 {
            return None;
        }
        let before = self.learnt.replace(Learnt { members, seconds, at: now })?;
        let lesson = Lesson { members: members - before.members, seconds: seconds - before.seconds };
        let lived = now.seconds_since(before.at) + SLACK_SECONDS;
        (lesson.members > 0.0 && lesson.seconds > 0.0 && lesson.seconds <= lived).then_some(lesson)
    }
}

impl ShardStand {
    /// Returns the nearest stand that can be true of a shard of so many blocks.
    fn corrected(self, blocks: u64) -> Self {
        let sound = |value: f64| if value.is_finite() { value.max(0.0) } else { 0.0 };
        let blocks_done = self.blocks_done.min(blocks);
        let fraction = if blocks_done < blocks { sound(self.fraction).min(1.0) } else { 0.0 };
        Self { blocks_done, fraction, seconds: sound(self.seconds), begin_seconds: sound(self.begin_seconds) }
    }
}

impl Job {
    /// Members of a shard that are computed when so many of its blocks are, and a fraction of the next; parts of a member count.
    pub(super) fn members_at(&self, blocks: &Range<u64>, blocks_done: u64, fraction: f64) -> f64 {
        let next = blocks.start + blocks_done;
        let whole = self.members(blocks.start..next) as f64;
        if fraction <= 0.0 || next >= blocks.end {
            return whole;
        }
        whole + fraction * self.members(next..next + 1) as f64
    }
}

impl Scheduler {
    pub(super) fn progress(
        &mut self,
        id: &WorkerId,
        shard: &ShardRef,
        stand: ShardStand,
        now: Time,
        effects: &mut Effects,
    ) {
        self.seen(id, now);
        let Some(job) = self.sweeps.get_mut(&shard.job.sweep).and_then(|s| s.jobs.get_mut(shard.job.index.0 as usize))
        else {
            return;
        };
        let Some(worker) = self.workers.get_mut(id) else { return };
        let Some(held) = worker.held.get_mut(shard) else { return };
        let blocks = job.blocks(shard.node);
        let stand = stand.corrected(blocks.end - blocks.start);
        if !held.headway.advance(stand, now) {
            return;
        }
        worker.hangs = 0;
        let members = job.members_at(&blocks, stand.blocks_done, stand.fraction);
        let lesson = held.headway.lesson(members, stand.seconds, now);
        if let Some(lesson) = lesson.filter(|_| !worker.distrusted) {
            worker.rates.observe(&job.shape, lesson.members, lesson.seconds);
            self.class_rates.of(&worker.profile.class).observe(&job.shape, lesson.members, lesson.seconds);
        }
        if let Some(lease) = job.leased.get_mut(&blocks.start).filter(|lease| lease.node == shard.node)
            && let Some(holder) = lease.holders.iter_mut().find(|holder| holder.worker == *id)
        {
            holder.blocks_done = holder.blocks_done.max(stand.blocks_done);
            holder.fraction = stand.fraction;
        }
        effects.actions.push(Action::Changed { sweep: shard.job.sweep.clone() });
    }

    /// Learns from a whole shard, before its lease ends. `seconds` are all that it took, of them `begin_seconds` before its
    /// first block.
    pub(super) fn learn_from_report(
        &mut self,
        id: &WorkerId,
        shard: &ShardRef,
        seconds: f64,
        begin_seconds: f64,
        now: Time,
    ) {
        let Some(job) = self.sweeps.get(&shard.job.sweep).and_then(|sweep| sweep.job(shard.job.index)) else { return };
        let Some(worker) = self.workers.get_mut(id) else { return };
        let Some(held) = worker.held.get_mut(shard) else { return };
        worker.hangs = 0;
        // What was begun elsewhere took seconds there, too.
        if worker.distrusted || !held.headway.anew {
            return;
        }
        let class = self.class_rates.of(&worker.profile.class);
        let begin_seconds = if begin_seconds.is_finite() { begin_seconds.max(0.0) } else { 0.0 };
        if begin_seconds <= now.seconds_since(held.headway.given) + SLACK_SECONDS {
            worker.rates.observe_beginning(&job.shape, begin_seconds);
            class.observe_beginning(&job.shape, begin_seconds);
        }
        let members = job.members(job.blocks(shard.node)) as f64;
        if let Some(lesson) = held.headway.lesson(members, seconds - begin_seconds, now) {
            worker.rates.observe(&job.shape, lesson.members, lesson.seconds);
            class.observe(&job.shape, lesson.members, lesson.seconds);
        }
    }

    /// Learns from a commit of the journal.
    pub(super) fn learn_from_journal(&mut self, of: &JobRef, members: u64, seconds: f64) {
        let Some(sweep) = self.sweeps.get(&of.sweep) else { return };
        let Some(job) = sweep.job(of.index) else { return };
        let Some(class) = &sweep.class else { return };
        self.class_rates.of(class).observe(&job.shape, members as f64, seconds);
    }

    /// Seconds that a member of a job takes a slot of a worker. What others of its class measured is better than what the
    /// worker itself measured of other work.
    pub(super) fn member_on(&self, worker: &Worker, job: &Job) -> Estimate {
        let own = worker.rates.member(&job.shape);
        if own.basis == EstimateBasis::Measured {
            return own;
        }
        self.class_rates.get(&worker.profile.class).map_or(own, |class| own.or_better(class.member(&job.shape)))
    }

    /// Seconds that a member of a job takes a slot of the workers that compute it, or that would.
    pub(super) fn member_of(&self, sweep: &Sweep, job: &Job) -> Estimate {
        let class = sweep.class.as_ref().or_else(|| self.likely_class(sweep.spec.precision));
        match class.and_then(|class| self.class_rates.get(class)) {
            Some(rates) => rates.member(&job.shape),
            None => Rates::new(class.map(SpeedClass::of).unwrap_or_default()).member(&job.shape),
        }
    }

    /// The class that a sweep of a precision would run in, most likely: that of most slots.
    fn likely_class(&self, precision: Precision) -> Option<&NumericsClass> {
        let offering = self.kinds.iter().filter(|kind| kind.profile.precisions.contains(&precision));
        offering.max_by_key(|kind| kind.slots).map(|kind| &kind.profile.class)
    }

    /// Returns what a new sweep of a precision can count on.
    pub fn workforce(&self, precision: Precision) -> Workforce {
        let offering = || self.kinds.iter().filter(|kind| kind.profile.precisions.contains(&precision));
        let slots_of = |class: &NumericsClass| -> u32 {
            offering().filter(|kind| kind.profile.class.differs_in_precision_alone(class)).map(|kind| kind.slots).sum()
        };
        let class = offering().map(|kind| &kind.profile.class).max_by_key(|class| slots_of(class));
        let rates = match class {
            Some(class) => self.class_rates.get(class).cloned().unwrap_or_else(|| Rates::new(SpeedClass::of(class))),
            None => self.class_rates.latest().cloned().unwrap_or_default(),
        };
        let workers = self.workers.values().filter(|worker| worker.is_fit()).count() as u32;
        Workforce { workers, slots: class.map_or(0, slots_of), rates }
    }
}

/// The workers and slots that a sweep can count on.
#[derive(Clone, Debug, PartialEq)]
pub struct Workforce {
    /// Connected workers that are given shards.
    pub workers: u32,
    /// Slots of those in the class that the sweep would run in.
    pub slots: u32,
    /// The rates of that class.
    pub rates: Rates,
}

/// The rates of each class, whatever the precision.
#[derive(Debug, Default)]
pub(super) struct ClassRates(Vec<(NumericsClass, Rates)>);

impl ClassRates {
    fn get(&self, class: &NumericsClass) -> Option<&Rates> {
        self.0.iter().find(|(own, _)| own.differs_in_precision_alone(class)).map(|(_, rates)| rates)
    }

    /// The rates of the class that was heard of last.
    fn latest(&self) -> Option<&Rates> {
        self.0.last().map(|(_, rates)| rates)
    }

    fn of(&mut self, class: &NumericsClass) -> &mut Rates {
        let place = match self.0.iter().position(|(own, _)| own.differs_in_precision_alone(class)) {
            Some(place) => place,
            None => {
                if self.0.len() >= MOST_CLASSES {
                    self.0.remove(0);
                }
                self.0.push((class.clone(), Rates::of_many(SpeedClass::of(class))));
                self.0.len() - 1
            }
        };
        &mut self.0[place].1
    }
}
