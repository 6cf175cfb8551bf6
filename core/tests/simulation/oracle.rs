//! What must hold: a model of the facts, kept beside the scheduler, and what is owed to whoever was told something.
//!
//! The model takes in the same records as the journal, but knows nothing of workers, leases or retries. It says when a record
//! cannot be true (a block committed twice, a wrong digest), and what a restarted scheduler must know.

use crate::journal;
use crate::scenario::{Plan, Scenario};
use crate::truth;
use nadgrid_core::grid::Node;
use nadgrid_core::ids::{Digest, JobIndex, SweepId, WorkerId};
use nadgrid_core::numerics::NumericsClass;
use nadgrid_core::scheduler::{JobResult, Record, Scheduler, ShardFailure, ShardRef, SweepOutcome};
use nadgrid_core::spec::{BasisSource, Inputs, JobShape};
use nadgrid_core::tree::Fold;
use std::collections::{BTreeMap, BTreeSet};

/// The facts of all sweeps.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Model {
    pub(crate) sweeps: BTreeMap<SweepId, Sweep>,
}

/// The facts of one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sweep {
    pub(crate) name: String,
    number: u64,
    key: Option<String>,
    pub(crate) audited: bool,
    pub(crate) class: Option<NumericsClass>,
    pub(crate) paused: bool,
    pub(crate) outcome: Option<SweepOutcome>,
    pub(crate) jobs: Vec<Job>,
}

/// The facts of a job.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Job {
    pub(crate) shape: JobShape,
    pub(crate) total: u64,
    /// What was committed, by first blocks, and by whom.
    pub(crate) committed: BTreeMap<u64, (Node, Digest, WorkerId)>,
    /// What merged partials are of, by first blocks.
    merged: BTreeMap<u64, Node>,
    pub(crate) quarantined: BTreeMap<u64, ShardFailure>,
    pub(crate) result: Option<JobResult>,
    retries: u64,
    speculative: u64,
}

fn overlap(a: &std::ops::Range<u64>, b: &std::ops::Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

impl Job {
    fn new(shape: JobShape) -> Self {
        let total = shape.grid.blocks();
        Self {
            shape,
            total,
            committed: BTreeMap::new(),
            merged: BTreeMap::new(),
            quarantined: BTreeMap::new(),
            result: None,
            retries: 0,
            speculative: 0,
        }
    }

    /// Whether exactly this shard is committed.
    pub(crate) fn has(&self, node: Node) -> bool {
        self.committed.get(&node.blocks(self.total).start).is_some_and(|(held, ..)| *held == node)
    }

    /// Whether any block of a shard is committed.
    pub(crate) fn meets(&self, node: Node) -> bool {
        let blocks = node.blocks(self.total);
        self.committed.values().any(|(held, ..)| overlap(&held.blocks(self.total), &blocks))
    }

    /// Whether there is a partial of exactly this node.
    fn has_partial(&self, node: Node) -> bool {
        let blocks = node.blocks(self.total);
        let around = self.merged.range(..=blocks.start).next_back();
        match around.filter(|(_, merged)| overlap(&merged.blocks(self.total), &blocks)) {
            Some((_, merged)) => *merged == node,
            None => self.has(node),
        }
    }

    fn withdraw(&mut self, node: Node) -> Result<(), String> {
        if !self.has_partial(node) {
            return Err(format!("{node:?} of {} is withdrawn and there is no partial of it", self.shape.name()));
        }
        let blocks = node.blocks(self.total);
        self.merged.remove(&blocks.start);
        self.committed.retain(|start, _| !blocks.contains(start));
        self.result = None;
        Ok(())
    }

    /// The value of a node all of whose blocks are committed, by what was committed.
    fn merged_value(&self, node: Node) -> Option<Digest> {
        let mut fold = Fold::below(node, self.total, truth::merge);
        for (shard, content, _) in self.committed.range(node.blocks(self.total)).map(|(_, held)| held) {
            fold.push(*shard, *content).ok()?;
        }
        fold.finish(node).ok()
    }

    fn merge(&mut self, node: Node, stored: Digest) -> Result<(), String> {
        let name = self.shape.name();
        let value = self.merged_value(node).ok_or_else(|| format!("{node:?} of {name} is merged and not committed"))?;
        let expected = Digest::of(&truth::merged_bytes(value));
        if stored != expected {
            return Err(format!("{node:?} of {name} is merged to {stored}, should be {expected}"));
        }
        let blocks = node.blocks(self.total);
        self.merged.retain(|start, _| !blocks.contains(start));
        self.merged.insert(blocks.start, node);
        Ok(())
    }

    fn commit(&mut self, node: Node, content: Digest, worker: WorkerId) -> Result<(), String> {
        if self.meets(node) {
            return Err(format!("blocks {:?} of {} are committed twice", node.blocks(self.total), self.shape.name()));
        }
        let blocks = node.blocks(self.total);
        self.quarantined.retain(|_, failure| !overlap(&failure.blocks, &blocks));
        self.committed.insert(blocks.start, (node, content, worker));
        Ok(())
    }
}

impl Model {
    /// The facts that these records say.
    pub(crate) fn of(records: impl IntoIterator<Item = Record>) -> Result<Self, String> {
        let mut model = Self::default();
        records.into_iter().try_for_each(|record| model.apply(&record))?;
        Ok(model)
    }

    /// The job of a shard.
    pub(crate) fn job(&self, shard: &ShardRef) -> Option<&Job> {
        self.sweeps.get(&shard.job.sweep)?.jobs.get(shard.job.index.0 as usize)
    }

    /// Whether a shard is still to be computed: its sweep is open, and none of its blocks is committed or given up.
    pub(crate) fn lacks(&self, shard: &ShardRef) -> bool {
        let is_open = self.sweeps.get(&shard.job.sweep).is_some_and(|sweep| sweep.outcome.is_none());
        let lacks = |job: &Job| {
            let blocks = shard.node.blocks(job.total);
            let is_given_up = job.quarantined.values().any(|failure| overlap(&failure.blocks, &blocks));
            !blocks.is_empty() && !job.meets(shard.node) && !is_given_up
        };
        is_open && self.job(shard).is_some_and(lacks)
    }

    /// An open sweep: no fact but one is told of a sweep that has ended.
    fn open(&mut self, id: &SweepId) -> Result<&mut Sweep, String> {
        let sweep = self.sweeps.get_mut(id).filter(|sweep| sweep.outcome.is_none());
        sweep.ok_or_else(|| format!("a record of {id}, which is not open"))
    }

    fn job_mut(&mut self, id: &SweepId, index: JobIndex) -> Result<&mut Job, String> {
        let job = self.open(id)?.jobs.get_mut(index.0 as usize);
        job.ok_or_else(|| format!("a record of job {} of {id}", index.0))
    }

    /// Takes in a fact, if it can be true.
    pub(crate) fn apply(&mut self, record: &Record) -> Result<(), String> {
        match record {
            Record::Submitted { sweep, number, key, spec, inputs, .. } => {
                let jobs = spec.jobs(inputs).into_iter().map(Job::new).collect();
                let (name, audited) = (spec.name.clone(), spec.audit > 0.0);
                let (number, key) = (*number, key.clone());
                let new = Sweep { name, number, key, audited, class: None, paused: false, outcome: None, jobs };
                if self.sweeps.insert(sweep.clone(), new).is_some() {
                    return Err(format!("{sweep} is submitted twice"));
                }
            }
            Record::Started { sweep, class, .. } => {
                if self.open(sweep)?.class.replace(class.clone()).is_some() {
                    return Err(format!("{sweep} is started twice"));
                }
            }
            Record::Paused { sweep, paused } => self.open(sweep)?.paused = *paused,
            Record::Committed { shard, partial, worker, .. } => {
                self.job_mut(&shard.job.sweep, shard.job.index)?.commit(shard.node, partial.content, worker.clone())?;
            }
            Record::Absorbed { shard, content, worker } => {
                self.job_mut(&shard.job.sweep, shard.job.index)?.commit(shard.node, *content, worker.clone())?;
            }
            Record::Merged { shard, stored } => {
                self.job_mut(&shard.job.sweep, shard.job.index)?.merge(shard.node, *stored)?
            }
            Record::Withdrawn { shard } => self.job_mut(&shard.job.sweep, shard.job.index)?.withdraw(shard.node)?,
            Record::Quarantined { sweep, failure } => {
                let job = self.job_mut(sweep, failure.job)?;
                if job.meets(failure.node) {
                    return Err(format!("{failure:?} of {sweep} is quarantined and committed"));
                }
                job.quarantined.insert(failure.blocks.start, failure.clone());
            }
            Record::Reduced { sweep, job, result } => {
                let job = self.job_mut(sweep, *job)?;
                job.result = Some(result.clone());
            }
            Record::Ended { sweep, outcome, .. } => {
                let sweep = self.open(sweep)?;
                sweep.outcome = Some(outcome.clone());
                for job in &mut sweep.jobs {
                    (job.committed, job.merged) = Default::default();
                }
            }
            Record::Forgotten { sweep } => {
                if self.sweeps.remove(sweep).is_none_or(|sweep| sweep.outcome.is_none()) {
                    return Err(format!("{sweep} is forgotten before its end"));
                }
            }
            Record::Retried { shard } => self.job_mut(&shard.job.sweep, shard.job.index)?.retries += 1,
            Record::Speculated { shard } => self.job_mut(&shard.job.sweep, shard.job.index)?.speculative += 1,
            Record::Tally { sweep, job, tally } => {
                let job = self.job_mut(sweep, *job)?;
                job.retries = tally.retries;
                job.speculative = tally.speculative;
            }
            Record::Audited { .. } | Record::Checkpointed { .. } => {}
        }
        Ok(())
    }
}

/// The model, what was promised, and what may count as an excuse.
#[derive(Default)]
pub(crate) struct Oracle {
    /// What the scheduler must know now.
    pub(crate) model: Model,
    /// What a restart must know: the facts that somebody was told of.
    durable: Model,
    /// Their lines: they are in the journal, in this order, since the last compaction.
    promised: Vec<String>,
    /// Sweeps of which there were too many.
    pub(crate) forgotten: BTreeSet<SweepId>,
    /// Blocks that have failed without being poison.
    pub(crate) failed_once: BTreeSet<(SweepId, JobIndex, u64)>,
    /// Workers that lie.
    pub(crate) liars: BTreeSet<WorkerId>,
    /// Sweeps with a lie that its liar alone has checked: what comes of them is as it is.
    pub(crate) deceived: BTreeSet<SweepId>,
    /// Blocks that workers have computed.
    pub(crate) computed: u64,
    /// Blocks that were withdrawn.
    pub(crate) withdrawn: u64,
}

impl Oracle {
    /// Whether a lie is now believed: a worker that is alone checks itself, and its result, brought twice, is like two.
    pub(crate) fn believes(&mut self, record: &Record, reporter: Option<&WorkerId>) -> bool {
        let Record::Audited { shard } = record else { return false };
        let held = self.model.job(shard).and_then(|job| job.committed.get(&shard.node.blocks(job.total).start));
        let own = held.is_some_and(|(.., worker)| Some(worker) == reporter && self.liars.contains(worker));
        if own {
            self.deceived.insert(shard.job.sweep.clone());
        }
        own
    }

    /// Takes in what the scheduler has just decided.
    pub(crate) fn decided(&mut self, record: &Record, scenario: &Scenario) -> Result<(), String> {
        if let Record::Withdrawn { shard } = record
            && let Some(job) = self.model.job(shard)
        {
            let blocks = shard.node.blocks(job.total);
            self.withdrawn += blocks.end - blocks.start;
        }
        self.model.apply(record)?;
        match record {
            Record::Committed { shard, .. } if self.deceived.contains(&shard.job.sweep) => {}
            Record::Reduced { sweep, .. } | Record::Ended { sweep, .. } if self.deceived.contains(sweep) => {}
            Record::Committed { shard, partial, worker, .. } if !self.liars.contains(worker) => {
                let sweep = &self.model.sweeps[&shard.job.sweep];
                let right = sweep.value(shard, scenario)?;
                if right != partial.content {
                    return Err(format!("{shard:?} of {} has a wrong value by an honest worker", sweep.name));
                }
            }
            Record::Quarantined { sweep, failure } => self.may_quarantine(sweep, failure, scenario)?,
            Record::Reduced { sweep, job, result } => {
                let facts = &self.model.sweeps[sweep];
                let expected = facts.expected_jobs(scenario)?[job.0 as usize];
                if expected != result.digest {
                    return Err(format!("job {} of {sweep} is {}, should be {expected}", job.0, result.digest));
                }
            }
            Record::Ended { sweep, outcome: SweepOutcome::Complete { digest }, .. } => {
                let facts = &self.model.sweeps[sweep];
                let plan = scenario.plan(&facts.name).ok_or("a sweep of no plan")?;
                let class = facts.class.as_ref().ok_or("a sweep is complete that was not started")?;
                let expected = truth::expected_sweep(&plan.spec, class);
                if *digest != expected {
                    return Err(format!("{sweep} ended with {digest}, the uninterrupted run with {expected}"));
                }
            }
            Record::Forgotten { sweep } => drop(self.forgotten.insert(sweep.clone())),
            _ => {}
        }
        Ok(())
    }

    /// A block is given up when it fails wherever it is computed; never one that has not failed.
    fn may_quarantine(&self, id: &SweepId, failure: &ShardFailure, scenario: &Scenario) -> Result<(), String> {
        let plan = scenario.plan(&self.model.sweeps[id].name).ok_or("a sweep of no plan")?;
        let failed = |block: u64| {
            let place = (failure.job, block);
            plan.poison.contains(&place)
                || plan.killers.contains(&place)
                || self.failed_once.contains(&(id.clone(), failure.job, block))
        };
        if failure.blocks.end - failure.blocks.start != 1 {
            return Err(format!("{failure:?} is given up without having been split"));
        }
        if scenario.losses_count || failed(failure.blocks.start) {
            return Ok(());
        }
        Err(format!("{failure:?} of {id} is given up, but its block never failed"))
    }

    /// Somebody is about to be told: from now on the records must be in the journal.
    pub(crate) fn promise(&mut self, records: &[Record]) -> Result<(), String> {
        self.promised.extend(journal::lines(records));
        records.iter().try_for_each(|record| self.durable.apply(record))
    }

    /// The journal was compacted.
    pub(crate) fn compacted(&mut self, lines: Vec<String>) {
        self.promised = lines;
    }

    /// What a restart read is all that was promised, and at most one batch more.
    pub(crate) fn restarted(&mut self, read: &[Record]) -> Result<(), String> {
        let lines = journal::lines(read);
        if let Some(place) = (0..self.promised.len()).find(|&place| lines.get(place) != self.promised.get(place)) {
            return Err(format!("acknowledged and lost: {}", self.promised[place]));
        }
        let unheard = &read[self.promised.len()..];
        self.promise(unheard)?;
        for record in unheard {
            if let Record::Forgotten { sweep } = record {
                self.forgotten.insert(sweep.clone());
            }
        }
        self.model = Model::of(read.iter().cloned())?;
        if self.model == self.durable {
            return Ok(());
        }
        Err(format!("the journal says\n{:?}\nand should say\n{:?}", self.model, self.durable))
    }

    /// The scheduler knows what the model knows.
    pub(crate) fn agrees(&self, scheduler: &Scheduler) -> Result<(), String> {
        let known = Model::of(scheduler.snapshot())?;
        if known == self.model {
            return Ok(());
        }
        Err(format!("the scheduler knows\n{known:?}\nand should know\n{:?}", self.model))
    }

    /// How each sweep must have ended.
    pub(crate) fn check_ends(&self, scenario: &Scenario) -> Result<(), String> {
        for (id, sweep) in &self.model.sweeps {
            let plan = scenario.plan(&sweep.name).ok_or("a sweep of no plan")?;
            sweep.check_end(plan).map_err(|error| format!("{id}: {error}"))?;
        }
        Ok(())
    }
}

impl Sweep {
    fn coordinates(&self, job: JobIndex, scenario: &Scenario) -> Result<truth::Coordinates, String> {
        let class = self.class.clone().ok_or("a commit before the start")?;
        let shape = &self.jobs[job.0 as usize].shape;
        let basis = match shape.basis {
            BasisSource::Job(needed) => {
                Some(Digest::of(&truth::artifact_bytes(self.expected_jobs(scenario)?[needed.0 as usize])))
            }
            _ => None,
        };
        Ok(truth::Coordinates { spec: self.name.clone(), class, job, basis })
    }

    /// What a shard yields.
    pub(crate) fn value(&self, shard: &ShardRef, scenario: &Scenario) -> Result<Digest, String> {
        let coordinates = self.coordinates(shard.job.index, scenario)?;
        let total = self.jobs[shard.job.index.0 as usize].total;
        let values: Vec<Digest> = shard.node.blocks(total).map(|block| coordinates.block(block)).collect();
        Ok(truth::fold(shard.node, total, &values))
    }

    fn expected_jobs(&self, scenario: &Scenario) -> Result<Vec<Digest>, String> {
        let plan = scenario.plan(&self.name).ok_or("a sweep of no plan")?;
        let class = self.class.as_ref().ok_or("a result before the start")?;
        Ok(truth::expected_jobs(&plan.spec, class))
    }

    /// The first block that cannot be computed, of a job or of one that it needs.
    fn cannot_be_computed(&self, plan: &Plan) -> Option<(JobIndex, u64)> {
        plan.poison.union(&plan.killers).next().copied()
    }

    fn check_end(&self, plan: &Plan) -> Result<(), String> {
        match &self.outcome {
            None => Err("it has not ended".to_owned()),
            Some(SweepOutcome::Cancelled) if plan.cancel_at.is_some() => Ok(()),
            Some(SweepOutcome::Complete { .. }) => match self.cannot_be_computed(plan) {
                None => Ok(()),
                Some(block) => Err(format!("it is complete, and {block:?} cannot be computed")),
            },
            Some(SweepOutcome::Incomplete { .. }) => self.check_incomplete(plan),
            Some(other) => Err(format!("it ended as {other:?}")),
        }
    }

    /// All that cannot be computed is quarantined, unless its job could not begin; and something is.
    fn check_incomplete(&self, plan: &Plan) -> Result<(), String> {
        let bad = |index: JobIndex| !self.jobs[index.0 as usize].quarantined.is_empty();
        if !(0..self.jobs.len() as u32).any(|index| bad(JobIndex(index))) {
            return Err("it is incomplete, and nothing failed".to_owned());
        }
        for &(index, block) in plan.poison.union(&plan.killers) {
            let job = &self.jobs[index.0 as usize];
            let could_not_begin = matches!(job.shape.basis, BasisSource::Job(needed) if bad(needed));
            if !could_not_begin && !job.quarantined.contains_key(&block) {
                return Err(format!("block {block} of {} cannot be computed and is not quarantined", job.shape.name()));
            }
        }
        for (index, job) in self.jobs.iter().enumerate() {
            let could_not_begin = matches!(job.shape.basis, BasisSource::Job(needed) if bad(needed));
            let complete = job.result.is_some();
            if complete != (job.quarantined.is_empty() && !could_not_begin) {
                return Err(format!("job {index}: a result {complete}, quarantined {:?}", job.quarantined.keys()));
            }
        }
        Ok(())
    }
}

/// Blocks of all jobs of a plan.
pub(crate) fn blocks(plan: &Plan) -> u64 {
    plan.spec.jobs(&Inputs::new()).iter().map(|job| job.grid.blocks()).sum()
}
