//! The speed that a worker, or all workers of a class, have shown: seconds of a member by kind and amount of work.
//!
//! For every kind of work a few amounts are kept, each with decayed sums of members and seconds, so that recent blocks weigh
//! more. An amount that was measured is answered from its own sums; others from a fit over all of its kind; other kinds of work
//! from their slowness, that is measured over assumed seconds. Single observations that contradict all before are cut: a slot that
//! was stopped for a while says little of the work.

use super::{Estimate, EstimateBasis, SpeedClass};
use crate::numerics::Precision;
use crate::spec::{Experiment, JobShape};
use crate::work::{Work, WorkKind};

/// Amounts of one kind of work that are kept: the latest.
const MOST_AMOUNTS: usize = 8;
/// Kinds of work that are kept: experiments, architectures and precisions are few.
const MOST_KINDS: usize = 128;
/// Observations after which one that contradicts is cut, and by how much it may differ.
const TRUSTED: u32 = 3;
const MOST_FACTOR: f64 = 8.0;
/// The strength of the doubt about a fixed part: amounts that hardly differ say nothing of it.
const DOUBT: f64 = 0.05;
/// No member takes less, nor longer (a year).
const LEAST_SECONDS: f64 = 1e-9;
const MOST_SECONDS: f64 = 3.2e7;
/// More members than a job has.
const MOST_MEMBERS: f64 = 1e18;

/// Seconds per member, learned from what was reported.
#[derive(Clone, Debug, PartialEq)]
pub struct Rates {
    speed: SpeedClass,
    /// Share of what was known that is left when another member's worth of evidence comes.
    memory: f64,
    /// The kinds of work that were measured, the latest last.
    kinds: Vec<LearntKind>,
}

impl Default for Rates {
    fn default() -> Self {
        Self::new(SpeedClass::default())
    }
}

#[derive(Clone, Debug, PartialEq)]
struct LearntKind {
    experiment: Experiment,
    architecture: String,
    kind: WorkKind,
    precision: Precision,
    /// Seconds from taking a shard to its first block.
    beginning: Option<f64>,
    /// The amounts that were measured, the latest last; never empty once something was computed.
    amounts: Vec<LearntAmount>,
}

#[derive(Clone, Debug, PartialEq)]
struct LearntAmount {
    work: Work,
    block_size: u32,
    /// Seconds of a member by assumed speeds.
    assumed: f64,
    /// Decayed sums of members and of their slot-seconds.
    members: f64,
    seconds: f64,
    observations: u32,
}

impl LearntAmount {
    fn each(&self) -> f64 {
        (self.seconds / self.members).clamp(LEAST_SECONDS, MOST_SECONDS)
    }

    fn slowness(&self) -> f64 {
        self.each() / self.assumed
    }
}

impl LearntKind {
    fn is_of(&self, job: &JobShape) -> bool {
        self.is_alike(job) && self.architecture == job.architecture
    }

    /// Whether it differs in the architecture at most.
    fn is_alike(&self, job: &JobShape) -> bool {
        self.experiment == job.experiment && self.kind == job.work.kind && self.precision == job.precision
    }

    /// Returns the latest amount's seconds over its assumed seconds.
    fn slowness(&self) -> Option<f64> {
        self.amounts.last().map(LearntAmount::slowness)
    }
}

impl Rates {
    /// The rates of one machine of which nothing is known. What it shows is soon half forgotten.
    pub const fn new(speed: SpeedClass) -> Self {
        Self { speed, memory: 0.7, kinds: Vec::new() }
    }

    /// The rates of many machines alike of which nothing is known: what one of them shows weighs less.
    pub const fn of_many(speed: SpeedClass) -> Self {
        Self { speed, memory: 0.95, kinds: Vec::new() }
    }

    /// Takes in that `members` of a job took one slot `seconds`. Parts of a member count, too.
    pub fn observe(&mut self, job: &JobShape, members: f64, seconds: f64) {
        let sound = |value: f64| value.is_finite() && value > 0.0;
        if !sound(members) || !sound(seconds) {
            return;
        }
        let (members, seconds) = (members.min(MOST_MEMBERS), seconds.min(MOST_SECONDS));
        let (memory, assumed) = (self.memory, self.assumed(job));
        let kind = self.kind_of(job);
        let alike = |held: &LearntAmount| held.work == job.work && held.block_size == job.grid.block_size;
        let mut amount = match kind.amounts.iter().position(alike) {
            Some(place) => kind.amounts.remove(place),
            None => LearntAmount {
                work: job.work,
                block_size: job.grid.block_size,
                assumed,
                members: 0.0,
                seconds: 0.0,
                observations: 0,
            },
        };
        let mut seconds = seconds;
        if amount.observations >= TRUSTED {
            let expected = amount.each() * members;
            seconds = seconds.clamp(expected / MOST_FACTOR, expected * MOST_FACTOR);
        }
        // Little evidence moves little: half a member forgets half as much.
        let kept = memory.powf(members.min(1.0));
        amount.members = amount.members * kept + members;
        amount.seconds = amount.seconds * kept + seconds;
        amount.observations = amount.observations.saturating_add(1);
        if kind.amounts.len() >= MOST_AMOUNTS {
            kind.amounts.remove(0);
        }
        kind.amounts.push(amount);
    }

    /// Takes in how long a shard of a job took to begin.
    pub fn observe_beginning(&mut self, job: &JobShape, seconds: f64) {
        if !seconds.is_finite() || seconds < 0.0 {
            return;
        }
        let memory = self.memory;
        let kind = self.kind_of(job);
        let held = kind.beginning.unwrap_or(seconds);
        kind.beginning = Some(memory * held + (1.0 - memory) * seconds.min(MOST_SECONDS));
    }

    /// Returns what is kept of a job's kind of work, which becomes the latest.
    fn kind_of(&mut self, job: &JobShape) -> &mut LearntKind {
        let kind = match self.kinds.iter().position(|kind| kind.is_of(job)) {
            Some(place) if place + 1 == self.kinds.len() => return &mut self.kinds[place],
            Some(place) => self.kinds.remove(place),
            None => LearntKind {
                experiment: job.experiment,
                architecture: job.architecture.clone(),
                kind: job.work.kind,
                precision: job.precision,
                beginning: None,
                amounts: Vec::new(),
            },
        };
        if self.kinds.len() >= MOST_KINDS {
            self.kinds.remove(0);
        }
        self.kinds.push(kind);
        let last = self.kinds.len() - 1;
        &mut self.kinds[last]
    }

    /// The job that was measured last, and its seconds per member of one slot.
    pub fn latest(&self) -> Option<(String, f64)> {
        let kind = self.kinds.iter().rev().find(|kind| !kind.amounts.is_empty())?;
        let amount = kind.amounts.last()?;
        Some((format!("{}/{}", kind.experiment, kind.architecture), amount.each()))
    }

    /// Seconds that one member of `job` takes one slot.
    pub fn member(&self, job: &JobShape) -> Estimate {
        let assumed = self.assumed(job);
        let estimate = |seconds: f64, basis| Estimate { seconds: seconds.clamp(LEAST_SECONDS, MOST_SECONDS), basis };
        let own = self.kinds.iter().find(|kind| kind.is_of(job)).map(|kind| &kind.amounts[..]).unwrap_or_default();
        let alike = |held: &&LearntAmount| held.work == job.work && held.block_size == job.grid.block_size;
        if let Some(amount) = own.iter().find(alike) {
            return estimate(amount.each(), EstimateBasis::Measured);
        }
        if !own.is_empty() {
            return estimate(fitted(own, assumed), EstimateBasis::OtherSize);
        }
        let others = self.kinds.iter().filter(|kind| kind.is_alike(job));
        if let Some(slowness) = mean_slowness(others) {
            return estimate(assumed * slowness, EstimateBasis::OtherArchitecture);
        }
        match mean_slowness(self.kinds.iter()) {
            Some(slowness) => estimate(assumed * slowness, EstimateBasis::OtherExperiment),
            None => estimate(assumed, EstimateBasis::Assumed),
        }
    }

    /// Seconds from taking a shard of `job` to its first block; 0 where that is not known.
    pub fn beginning(&self, job: &JobShape) -> f64 {
        self.kinds.iter().find(|kind| kind.is_of(job)).and_then(|kind| kind.beginning).unwrap_or(0.0)
    }

    fn assumed(&self, job: &JobShape) -> f64 {
        self.speed.seconds(&job.work, job.grid.block_size, job.precision).max(LEAST_SECONDS)
    }
}

/// The geometric mean.
fn mean_slowness<'a>(kinds: impl Iterator<Item = &'a LearntKind>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0.0);
    for slowness in kinds.filter_map(LearntKind::slowness) {
        sum += libm::log(slowness);
        count += 1.0;
    }
    (count > 0.0).then(|| libm::exp(sum / count))
}

/// Seconds of an amount that is assumed to take `assumed`: a fixed part and a slowness that fit the measured amounts, by least
/// squares of the relative errors. Neither is negative, and a fixed part is taken only where the amounts really show one.
fn fitted(amounts: &[LearntAmount], assumed: f64) -> f64 {
    // With u = 1/measured and v = assumed/measured: minimise Σ (fixed·u + slowness·v − 1)² + doubt·(fixed·ū)².
    let (mut uu, mut uv, mut vv, mut u, mut v) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for amount in amounts {
        let (a, b) = (1.0 / amount.each(), amount.assumed / amount.each());
        uu += a * a;
        uv += a * b;
        vv += b * b;
        u += a;
        v += b;
    }
    let count = amounts.len() as f64;
    let doubted = uu + DOUBT * u * u / count;
    let determinant = doubted * vv - uv * uv;
    let fixed = (u * vv - v * uv) / determinant;
    let slowness = (v * doubted - u * uv) / determinant;
    match fixed.is_finite() && slowness.is_finite() && fixed > 0.0 && slowness > 0.0 {
        true => fixed + slowness * assumed,
        false => v / vv * assumed,
    }
}

#[cfg(test)]
mod tests;
