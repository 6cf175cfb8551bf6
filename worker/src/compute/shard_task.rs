//! A shard to compute: its job, read from the spec, and its node in the job's tree.
//!
//! A spec may be a megabyte and its networks large, and a job has thousands of shards, so each job is read once and shared by all
//! slots. Deliberately absent: what a slot prepares for itself, which is the evaluators'.

use crate::fault::Fault;
use crate::shard::{InputFile, JobKey, ShardKey};
use nadgrid_core::architecture::Network;
use nadgrid_core::grid::{Grid, Node};
use nadgrid_core::ids::{Digest, JobIndex};
use nadgrid_core::numerics::Precision;
use nadgrid_core::scheduler::FailureKind;
use nadgrid_core::spec::{self, JobShape, Spec};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// The most jobs that are kept; the one used longest ago is dropped first.
const MAX_KEPT: usize = 16;

/// A job, read from its spec.
#[derive(Debug)]
pub(crate) struct JobSpec {
    pub(super) spec: Spec,
    pub(super) shape: JobShape,
    pub(super) network: Network,
    /// Digest of the spec with every default written out.
    pub(super) digest: Digest,
}

impl JobSpec {
    /// Reads a job of this spec.
    ///
    /// # Errors
    /// A fault of the spec where it cannot be read, and of the task where it has no such job.
    pub(crate) fn read(spec: &str, index: JobIndex) -> Result<Self, Fault> {
        let wrong = |message: String| Fault::new(FailureKind::Spec, message);
        let spec = Spec::from_toml(spec).map_err(|e| wrong(e.to_string()))?;
        let count = spec.job_count();
        // Costs depend on the images' number, blocks do not.
        let Some((shape, network)) = spec.job(index.0 as usize, &spec::Inputs::new()) else {
            return Err(Fault::new(FailureKind::Task, format!("the spec has no job {}, only {count}", index.0)));
        };
        let digest = Digest::of(spec.to_toml().as_bytes());
        Ok(Self { spec, shape, network, digest })
    }
}

/// The jobs of the latest shards.
#[derive(Debug, Default)]
pub(crate) struct JobSpecs {
    state: Mutex<KeptJobs>,
}

#[derive(Debug, Default)]
struct KeptJobs {
    /// Jobs in the order of their last use, the latest at the end.
    kept: Vec<KeptJob>,
    reads: u64,
}

#[derive(Debug)]
struct KeptJob {
    key: JobKey,
    text: Arc<str>,
    job: Arc<JobSpec>,
}

impl JobSpecs {
    /// Returns a job of a spec. Other slots wait meanwhile, so that each job is read once.
    ///
    /// # Errors
    /// As for [`JobSpec::read`].
    pub(crate) fn get(&self, spec: &Arc<str>, key: &JobKey) -> Result<Arc<JobSpec>, Fault> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        let same_text = |text: &Arc<str>| Arc::ptr_eq(text, spec) || text == spec;
        let found = state.kept.iter().position(|kept| kept.key == *key && same_text(&kept.text));
        let entry = match found {
            Some(index) => state.kept.remove(index),
            None => {
                state.reads += 1;
                let job = Arc::new(JobSpec::read(spec, key.job)?);
                KeptJob { key: key.clone(), text: spec.clone(), job }
            }
        };
        let job = entry.job.clone();
        if state.kept.len() >= MAX_KEPT {
            state.kept.remove(0);
        }
        state.kept.push(entry);
        Ok(job)
    }

    /// Returns how many specs were read.
    #[cfg(test)]
    pub(crate) fn reads(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).reads
    }
}

/// A shard to compute.
#[derive(Debug)]
pub(crate) struct ShardTask {
    pub(super) job: Arc<JobSpec>,
    pub(super) node: Node,
    /// The job's key, by which one shard reuses what was prepared for another.
    pub(super) key: JobKey,
    pub(super) inputs: Vec<InputFile>,
}

impl ShardTask {
    /// Makes the task of a shard of this job.
    ///
    /// # Errors
    /// A fault of the task where the job has no such shard.
    pub(crate) fn new(job: Arc<JobSpec>, shard: &ShardKey, inputs: &[InputFile]) -> Result<Self, Fault> {
        let total = job.shape.grid.blocks();
        let blocks = shard.range();
        let node = Node::over(&blocks, total).ok_or_else(|| {
            Fault::new(FailureKind::Task, format!("blocks {blocks:?} are not a shard of a job of {total} blocks"))
        })?;
        Ok(Self { job, node, key: shard.job.clone(), inputs: inputs.to_vec() })
    }

    /// Returns the name of its job, for example `nads/lenet`.
    pub(crate) fn name(&self) -> String {
        self.job.shape.name()
    }

    /// Returns the sweep's precision.
    pub(crate) fn precision(&self) -> Precision {
        self.job.spec.precision
    }

    /// Returns how many networks or runs the shard has.
    pub(crate) fn members(&self) -> u64 {
        let members = self.members_of(self.node.blocks(self.grid().blocks()));
        members.end - members.start
    }

    pub(super) fn grid(&self) -> Grid {
        self.job.shape.grid
    }

    pub(super) fn members_of(&self, blocks: Range<u64>) -> Range<u64> {
        self.grid().members(blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nadgrid_core::ids::SweepId;

    const SPEC: &str = "name = 'x'\narchitectures = ['logreg', 'lenet']\n[nads]\nnetworks = 4096\nblock_size = 1";

    /// Thousands of shards, of two jobs in turns, on whatever slots.
    #[test]
    fn a_job_is_read_once_however_many_shards_it_has() {
        let (specs, first): (_, Arc<str>) = (JobSpecs::default(), SPEC.into());
        std::thread::scope(|scope| {
            for slot in 0..4 {
                let specs = &specs;
                let first = &first;
                scope.spawn(move || {
                    for block in 0..1_000 {
                        let shard = ShardKey::of_tests(block % 2, u64::from(block), 1);
                        // A new session brings the text anew.
                        let text = if slot % 2 == 0 { first.clone() } else { SPEC.into() };
                        let job = specs.get(&text, &shard.job).unwrap();
                        assert_eq!(ShardTask::new(job, &shard, &[]).unwrap().members(), 1);
                    }
                });
            }
        });
        assert_eq!(specs.reads(), 2);
    }

    #[test]
    fn another_spec_is_another_job_and_few_are_kept() {
        let specs = JobSpecs::default();
        let key = |sweep: u64| JobKey { sweep: SweepId::new(format!("s{sweep}")), job: JobIndex(0) };
        let text: Arc<str> = SPEC.into();
        (0..100).for_each(|sweep| drop(specs.get(&text, &key(sweep)).unwrap()));
        assert_eq!((specs.reads(), specs.state.lock().unwrap().kept.len()), (100, MAX_KEPT));
        let other: Arc<str> = SPEC.replace("4096", "8").into();
        assert_eq!(specs.get(&other, &key(99)).unwrap().shape.grid.networks, 8);
        assert_eq!(specs.get(&"name = 1".into(), &key(99)).unwrap_err().kind, FailureKind::Spec);
        let none = JobKey { job: JobIndex(7), ..key(99) };
        assert_eq!(specs.get(&text, &none).unwrap_err().message, "the spec has no job 7, only 2");
    }
}
