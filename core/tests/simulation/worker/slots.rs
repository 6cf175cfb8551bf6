//! A worker's slots: they begin with what waits, compute block by block, hang, fail, and fold what they computed.

use super::{Stage, Timer};
use crate::faults::Fault;
use crate::network::{Assignment, JobFacts, Report};
use crate::scenario::{self, CLASSES};
use crate::truth::{self, Coordinates};
use crate::world::World;
use nadgrid_core::ids::Digest;
use nadgrid_core::numerics::NumericsClass;
use nadgrid_core::scheduler::{FailureKind, JobRef, Partial, PartialBytes, ShardRef};
use std::ops::Range;

impl World {
    /// Free slots begin with what waits.
    pub(super) fn begin(&mut self, index: usize) {
        loop {
            let worker = &mut self.workers[index];
            let running = worker.held.iter().filter(|held| matches!(held.stage, Stage::Running)).count();
            let waiting = worker.held.iter_mut().find(|held| matches!(held.stage, Stage::Queued));
            let busy = running + worker.hung;
            let Some(held) = waiting.filter(|_| busy < worker.machine.slots as usize) else { return };
            held.stage = Stage::Running;
            held.began = self.time;
            let key = held.key;
            let after = self.block_time(index);
            self.worker_later(index, after, Timer::Block(key));
        }
    }

    fn block_time(&mut self, index: usize) -> u64 {
        let machine = &self.workers[index].machine;
        let slow = if machine.slow && !self.calm { 20 } else { 1 };
        let time = machine.block_ms * slow;
        self.random.between(time / 2, time * 3 / 2)
    }

    pub(super) fn compute_block(&mut self, index: usize, key: u64) {
        let Some(held) = self.workers[index].find(key).filter(|held| matches!(held.stage, Stage::Running)) else {
            return self.begin(index);
        };
        let blocks = held.assignment.blocks();
        let block = blocks.start + held.values.len() as u64;
        let named = held.assignment.named();
        let (shard, coordinates) = (held.assignment.shard.clone(), held.assignment.job.coordinates.clone());
        self.oracle.computed += 1;
        // That a shard is computed may be said of it before it is given out anew, and be heard after: then nobody waits for its slot.
        let is_watched = !self.workers[index].said_computed.contains(&named);
        if is_watched && self.strikes(self.scenario.rates.hung, Fault::SlotHung) {
            return self.hang(index, key);
        }
        if let Some((kind, message)) = self.fails(&shard, &coordinates.spec, block) {
            return self.fail(index, key, kind, message);
        }
        if self.kills(&shard, &coordinates.spec, block) {
            self.counts.fault(Fault::KillerBlock);
            return self.stop_worker(index);
        }
        let Some(held) = self.workers[index].find(key) else { return };
        held.values.push(coordinates.block(block));
        if block + 1 == blocks.end {
            self.computed(index, key);
        } else {
            self.perhaps_checkpoint(index, key);
            let after = self.block_time(index);
            self.worker_later(index, after, Timer::Block(key));
        }
    }

    /// The slot computes on for ever. What it has, and what waits for it, may fail for that.
    fn hang(&mut self, index: usize, key: u64) {
        self.workers[index].hung += 1;
        if let Some(held) = self.workers[index].find(key) {
            held.stage = Stage::Hung;
        }
        let shards: Vec<_> = self.workers[index].held.iter().map(|held| held.assignment.clone()).collect();
        shards.iter().for_each(|assignment| self.may_fail(assignment));
    }

    /// A shard's blocks may be given up though they are good.
    pub(super) fn may_fail(&mut self, assignment: &Assignment) {
        let JobRef { sweep, index } = &assignment.shard.job;
        let blocks = assignment.blocks();
        self.oracle.failed_once.extend(blocks.map(|block| (sweep.clone(), *index, block)));
    }

    fn fails(&mut self, shard: &ShardRef, spec: &str, block: u64) -> Option<(FailureKind, &'static str)> {
        if self.scenario.plan(spec)?.poison.contains(&(shard.job.index, block)) {
            self.counts.fault(Fault::PoisonBlock);
            return Some((FailureKind::Task, "it does not converge"));
        }
        if self.strikes(self.scenario.rates.unfit, Fault::WorkerUnfit) {
            return Some((FailureKind::Unfit, "the device is gone"));
        }
        if self.strikes(self.scenario.rates.transient, Fault::TransientFailure) {
            self.oracle.failed_once.insert((shard.job.sweep.clone(), shard.job.index, block));
            return Some((FailureKind::Transient, "no memory"));
        }
        None
    }

    fn kills(&self, shard: &ShardRef, spec: &str, block: u64) -> bool {
        self.scenario.plan(spec).is_some_and(|plan| plan.killers.contains(&(shard.job.index, block)))
    }

    pub(super) fn fail(&mut self, index: usize, key: u64, kind: FailureKind, message: &'static str) {
        if let Some(held) = self.workers[index].find(key) {
            held.stage = Stage::Failed(kind, message);
        }
        self.tell_news(index, false);
        self.begin(index);
    }

    fn computed(&mut self, index: usize, key: u64) {
        let lies = self.random.chance(self.workers[index].machine.lies);
        let is_other = !lies && self.strikes(self.scenario.rates.other_class, Fault::OtherClass);
        let nonce = self.random.next();
        let (id, now) = (self.workers[index].id.clone(), self.time);
        let Some(held) = self.workers[index].find(key) else { return };
        let Assignment { shard, job: JobFacts { total, coordinates, .. }, .. } = &held.assignment;
        let (class, values) = match is_other {
            true => other_class(coordinates, held.assignment.blocks()),
            false => (coordinates.class.clone(), held.values.clone()),
        };
        let right = truth::fold(shard.node, *total, &values);
        // No two lies are alike: two that agree are believed.
        let content = if lies { truth::merge(right, Digest::of(&nonce.to_le_bytes())) } else { right };
        let bytes = truth::partial_bytes(content, nonce);
        let partial = Partial { bytes: PartialBytes::Stored(Digest::of(&bytes)), content };
        let shard = shard.clone();
        let seconds = (now - held.began) as f64 / 1e3;
        held.stage = Stage::Computed(Box::new(Report { worker: id, shard, class, partial, bytes, seconds }));
        if lies {
            self.counts.fault(Fault::Lie);
        }
        self.tell_news(index, false);
        match self.workers[index].machine.inline {
            true => self.bring_inline(index, key),
            false => self.upload(index, key),
        }
        self.begin(index);
    }
}

/// What a worker yields whose arithmetic is not what it said when it joined, and says so with its result.
fn other_class(coordinates: &Coordinates, blocks: Range<u64>) -> (NumericsClass, Vec<Digest>) {
    let is_other = |name: &&&str| ***name != *coordinates.class.arithmetic;
    let other = CLASSES.iter().find(is_other).copied().unwrap_or_default();
    let class = scenario::class(other);
    let elsewhere = Coordinates { class: class.clone(), ..coordinates.clone() };
    (class, blocks.map(|block| elsewhere.block(block)).collect())
}
