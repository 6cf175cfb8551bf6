//! The plan of a sweep: what it will take, told before anything runs.

use crate::cost::{Estimate, EstimateBasis, Rates, Sizing, SpeedClass};
use crate::spec::{BasisSource, Inputs, JobShape, Spec};

/// The plan of one job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobPlan {
    /// The shape of the job.
    pub shape: JobShape,
    /// Blocks, the unit of numerics.
    pub blocks: u64,
    /// Shards that the slots would be given, about.
    pub shards: u64,
    /// Forward passes by the definition, of all members: two per pixel, point and network for central differences.
    pub forward_passes: u64,
    /// Bytes that a shard of one block hands in.
    pub partial_bytes: u64,
    /// Estimated seconds on one slot.
    pub slot_seconds: f64,
    /// Estimated seconds on all slots together.
    pub seconds: f64,
    /// The evidence for the estimate.
    pub basis: EstimateBasis,
    /// Seconds on one GPU at its assumed speed, whatever was measured: which device suits the job.
    pub gpu_seconds: f64,
}

/// The plan of a sweep.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Its jobs, in the spec's order.
    pub jobs: Vec<JobPlan>,
    /// Slots (a CPU core's population or a GPU) that the estimate is for.
    pub slots: u32,
}

impl Plan {
    /// The plan of `spec` with these files, where they are known, on `slots` slots of these rates.
    pub fn new(spec: &Spec, inputs: &Inputs, rates: &Rates, sizing: &Sizing, slots: u32) -> Self {
        let slots = slots.max(1);
        let jobs = spec.jobs(inputs).into_iter().map(|shape| JobPlan::new(shape, rates, sizing, slots)).collect();
        Self { jobs, slots }
    }

    /// Estimated seconds of all jobs. Those that need another's result come after all that do not; of jobs that run together
    /// none ends before its own time.
    pub fn seconds(&self) -> f64 {
        let together = |waits: bool| {
            let jobs = self.jobs.iter().filter(|job| matches!(job.shape.basis, BasisSource::Job(_)) == waits);
            let (slots, longest) =
                jobs.fold((0.0, 0.0f64), |(sum, longest), job| (sum + job.slot_seconds, longest.max(job.seconds)));
            longest.max(slots / f64::from(self.slots))
        };
        together(false) + together(true)
    }
}

impl JobPlan {
    fn new(shape: JobShape, rates: &Rates, sizing: &Sizing, slots: u32) -> Self {
        let blocks = shape.grid.blocks();
        let member = rates.member(&shape);
        // The first shards are small until work of this kind was measured.
        let known = Estimate { basis: EstimateBasis::Measured, ..member };
        let first = if member.basis.is_measured() { 0 } else { blocks.min(u64::from(slots)) };
        let limit = |remaining| sizing.limit(&shape, known, remaining, slots);
        let shards = first + shards(blocks - first, slots, limit);
        let slot_seconds = member.seconds * shape.grid.networks as f64 + rates.beginning(&shape) * shards as f64;
        // Whoever has the last block is waited for.
        let block = member.seconds * u64::from(shape.grid.block_size).min(shape.grid.networks) as f64;
        let rounds = blocks.div_ceil(u64::from(slots)) as f64;
        let on_gpu = Rates::new(SpeedClass::Gpu).member(&shape).seconds;
        Self {
            blocks,
            shards,
            forward_passes: shape.forward_passes * shape.grid.networks,
            partial_bytes: shape.payload.bytes(u64::from(shape.grid.block_size).min(shape.grid.networks)),
            slot_seconds,
            seconds: (slot_seconds / f64::from(slots)).max(rounds * block),
            basis: member.basis,
            gpu_seconds: on_gpu * shape.grid.networks as f64,
            shape,
        }
    }
}

/// Returns about how many shards `blocks` blocks make when the next one has at most `limit(remaining)`. Until the
/// slots' shares shrink, all are alike: they are counted, not walked, however many there are.
fn shards(blocks: u64, slots: u32, limit: impl Fn(u64) -> u64) -> u64 {
    let size = |remaining: u64| 1 << limit(remaining).max(1).ilog2();
    let whole = limit(u64::MAX).max(1);
    let alike = blocks.saturating_sub(2 * u64::from(slots) * whole) / size(u64::MAX);
    let mut remaining = blocks - alike * size(u64::MAX);
    let mut shards = alike;
    while remaining > 0 {
        remaining = remaining.saturating_sub(size(remaining));
        shards += 1;
    }
    shards
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_is_planned_as_the_definition_counts_it() {
        let spec = Spec::from_toml("name = 'x'\narchitectures = ['lenet']\n[nads]\nnetworks = 2048").unwrap();
        let plan = Plan::new(&spec, &Inputs::new(), &Rates::default(), &Sizing::default(), 2);
        let job = &plan.jobs[0];
        assert_eq!(job.forward_passes, 4_194_304);
        assert_eq!(job.blocks, 64);
        assert!(job.shards > 4 && job.shards < 64, "{}", job.shards);
        assert!(job.basis == EstimateBasis::Assumed && job.seconds > 0.0);
        let mut rates = Rates::default();
        rates.observe(&plan.jobs[0].shape, 100.0, 10.0);
        assert_eq!(Plan::new(&spec, &Inputs::new(), &rates, &Sizing::default(), 2).seconds(), 102.4);
    }

    /// 10^8 blocks: an answer at once, and the number that the target time gives.
    #[test]
    fn a_huge_sweep_is_counted_not_walked() {
        let text = "name = 'x'\narchitectures = ['lenet']\n[nads]\nnetworks = 100_000_000\nblock_size = 1";
        let spec = Spec::from_toml(text).unwrap();
        let mut rates = Rates::default();
        rates.observe(&spec.jobs(&Inputs::new())[0], 1.0, 10.0);
        let plan = Plan::new(&spec, &Inputs::new(), &rates, &Sizing::default(), 4);
        let even = 100_000_000 / 2;
        assert!((even..even + 100).contains(&plan.jobs[0].shards), "{}", plan.jobs[0].shards);
    }
}
