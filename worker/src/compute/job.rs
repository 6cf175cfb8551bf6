//! A shard, understood: its job as the spec has it, and its place in it.
//!
//! A spec may be a megabyte and its networks large, and a job has thousands of shards: each job is read once and shared by all
//! lanes. Deliberately absent: what a lane prepares for itself, which is the evaluators'.

use crate::board::{Fault, Task};
use nadgrid_core::architecture::Network;
use nadgrid_core::grid::{Grid, Node};
use nadgrid_core::ids::Digest;
use nadgrid_core::numerics::Precision;
use nadgrid_core::spec::{self, JobShape, Spec};
use nadgrid_proto::v1::{FailureKind, Shard, ShardInput};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Jobs that are kept; the one used longest ago goes first.
const MOST: usize = 16;

/// A job, read from its spec.
#[derive(Debug)]
pub struct JobSpec {
    pub(super) spec: Spec,
    pub(super) shape: JobShape,
    pub(super) network: Network,
    /// Digest of the spec with every default written out.
    pub(super) digest: Digest,
}

impl JobSpec {
    /// Job `place` of this spec.
    ///
    /// # Errors
    /// A fault of the spec where it cannot be read, of the task where there is no such job.
    pub fn read(spec: &str, place: u32) -> Result<Self, Fault> {
        let wrong = |message: String| Fault::new(FailureKind::Spec, message);
        let spec = Spec::from_toml(spec).map_err(|e| wrong(e.to_string()))?;
        let count = spec.job_count();
        // Costs depend on the images' number, blocks do not.
        let Some((shape, network)) = spec.job(place as usize, &spec::Inputs::new()) else {
            return Err(Fault::new(FailureKind::Task, format!("job {place} of {count}")));
        };
        let digest = Digest::of(spec.to_toml().as_bytes());
        Ok(Self { spec, shape, network, digest })
    }
}

/// The jobs of the latest shards.
#[derive(Debug, Default)]
pub struct JobSpecs {
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
    sweep: String,
    place: u32,
    text: Arc<str>,
    job: Arc<JobSpec>,
}

impl JobSpecs {
    /// The job of a shard. Other lanes wait meanwhile, so that each is read once.
    ///
    /// # Errors
    /// As for [`JobSpec::read`].
    pub fn get(&self, spec: &Arc<str>, shard: &Shard) -> Result<Arc<JobSpec>, Fault> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        let same_text = |text: &Arc<str>| Arc::ptr_eq(text, spec) || text == spec;
        let found = state
            .kept
            .iter()
            .position(|kept| kept.sweep == shard.sweep_id && kept.place == shard.job && same_text(&kept.text));
        let entry = match found {
            Some(place) => state.kept.remove(place),
            None => {
                state.reads += 1;
                let job = Arc::new(JobSpec::read(spec, shard.job)?);
                KeptJob { sweep: shard.sweep_id.clone(), place: shard.job, text: spec.clone(), job }
            }
        };
        let job = entry.job.clone();
        if state.kept.len() >= MOST {
            state.kept.remove(0);
        }
        state.kept.push(entry);
        Ok(job)
    }

    /// How many specs were read.
    pub fn reads(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).reads
    }
}

/// A shard, understood.
#[derive(Debug)]
pub struct Job {
    pub(super) plan: Arc<JobSpec>,
    pub(super) node: Node,
    /// Sweep and place of the job in it: what is prepared for one shard serves the next.
    pub(super) of: (String, u32),
    pub(super) inputs: Vec<ShardInput>,
}

impl Job {
    /// What a task asks for.
    ///
    /// # Errors
    /// A fault of the spec where it cannot be built, of the task where the shard is none of its job.
    pub fn of_task(task: &Task, specs: &JobSpecs) -> Result<Self, Fault> {
        Self::new(specs.get(&task.spec, &task.shard)?, &task.shard, &task.inputs)
    }

    /// A shard of a job.
    ///
    /// # Errors
    /// A fault of the task where the shard is none of its job.
    pub fn new(plan: Arc<JobSpec>, shard: &Shard, inputs: &[ShardInput]) -> Result<Self, Fault> {
        let total = plan.shape.grid.blocks();
        let node = shard.to_core(total).map(|shard| shard.node);
        let node = node.ok_or_else(|| {
            let message = format!("blocks {:?} are no shard of {total}", shard.range());
            Fault::new(FailureKind::Task, message)
        })?;
        Ok(Self { plan, node, of: (shard.sweep_id.clone(), shard.job), inputs: inputs.to_vec() })
    }

    /// Its name, for example `nads/lenet`.
    pub fn name(&self) -> String {
        self.plan.shape.name()
    }

    /// The sweep's precision.
    pub fn precision(&self) -> Precision {
        self.plan.spec.precision
    }

    /// Networks or runs of the shard.
    pub fn members(&self) -> u64 {
        let members = self.members_of(self.node.blocks(self.grid().blocks()));
        members.end - members.start
    }

    pub(super) fn grid(&self) -> Grid {
        self.plan.shape.grid
    }

    pub(super) fn members_of(&self, blocks: Range<u64>) -> Range<u64> {
        self.grid().members(blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = "name = 'x'\narchitectures = ['logreg', 'lenet']\n[nads]\nnetworks = 4096\nblock_size = 1";

    /// Thousands of shards, of two jobs in turns, on whatever lanes.
    #[test]
    fn a_job_is_read_once_however_many_shards_it_has() {
        let (specs, first): (_, Arc<str>) = (JobSpecs::default(), SPEC.into());
        std::thread::scope(|scope| {
            for lane in 0..4 {
                let (specs, first) = (&specs, &first);
                scope.spawn(move || {
                    for block in 0..1_000 {
                        let shard =
                            Shard { sweep_id: "s".into(), job: block % 2, first_block: u64::from(block), blocks: 1 };
                        // A new session brings the text anew.
                        let text = if lane % 2 == 0 { first.clone() } else { SPEC.into() };
                        let task = Task::new(shard, text, "nads/logreg".into(), Vec::new());
                        assert_eq!(Job::of_task(&task, specs).unwrap().members(), 1);
                    }
                });
            }
        });
        assert_eq!(specs.reads(), 2);
    }

    #[test]
    fn another_spec_is_another_job_and_few_are_kept() {
        let specs = JobSpecs::default();
        let shard = |sweep: u64| Shard { sweep_id: format!("s{sweep}"), job: 0, first_block: 0, blocks: 1 };
        let text: Arc<str> = SPEC.into();
        (0..100).for_each(|sweep| drop(specs.get(&text, &shard(sweep)).unwrap()));
        assert_eq!((specs.reads(), specs.state.lock().unwrap().kept.len()), (100, MOST));
        let other: Arc<str> = SPEC.replace("4096", "8").into();
        assert_eq!(specs.get(&other, &shard(99)).unwrap().shape.grid.networks, 8);
        assert_eq!(specs.get(&"name = 1".into(), &shard(99)).unwrap_err().kind, FailureKind::Spec);
        let none = Shard { job: 7, ..shard(99) };
        assert_eq!(specs.get(&text, &none).unwrap_err().message, "job 7 of 2");
    }
}
