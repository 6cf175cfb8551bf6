//! One shard's arithmetic: its blocks' moments, folded along the fixed tree.
//!
//! Deliberately absent: threads and messages. A shard computed twice gives the same bits.

use crate::board::Fault;
use crate::device::{Evaluation, Machine};
use crate::population::{self, Derivative, Sampling};
use nadgrid_core::architecture::{Network, Shape};
use nadgrid_core::grid::{Grid, Node};
use nadgrid_core::moments::Moments;
use nadgrid_core::numerics::Precision;
use nadgrid_core::random::evaluation_point;
use nadgrid_core::spec::{Estimator, Spec};
use nadgrid_core::tree::Fold;
use nadgrid_kernels::{CentralDifference, KernelError, block_moments};
use nadgrid_proto::v1::{FailureKind, Shard};
use std::ops::Range;
use tch::Device;

/// A shard, understood.
#[derive(Debug)]
pub struct Job {
    architecture: String,
    network: Network,
    grid: Grid,
    node: Node,
    seed: u64,
    step: f32,
}

impl Job {
    /// What a shard of this spec asks for.
    ///
    /// # Errors
    /// A fault of the spec where it cannot be built, of the task where the shard is none of its job.
    pub fn new(spec: &str, architecture: &str, shard: &Shard) -> Result<Self, Fault> {
        let wrong = |message: String| Fault::new(FailureKind::Spec, message);
        let spec = Spec::from_toml(spec).map_err(|e| wrong(e.to_string()))?;
        let network = spec.network(architecture).map_err(|e| wrong(e.to_string()))?;
        let grid = Grid { networks: spec.nads.networks, block_size: spec.nads.block_size };
        let node = shard.to_core(grid.blocks()).map(|shard| shard.node).ok_or_else(|| {
            let message = format!("blocks {:?} are no shard of {}", shard.range(), grid.blocks());
            Fault::new(FailureKind::Task, message)
        })?;
        let Estimator::CentralDifference = spec.nads.estimator;
        let (architecture, seed, step) = (architecture.to_owned(), spec.seed, spec.nads.step as f32);
        Ok(Self { architecture, network, grid, node, seed, step })
    }

    /// Networks of the shard.
    pub fn networks(&self) -> u64 {
        let members = self.grid.members(self.node.blocks(self.grid.blocks()));
        members.end - members.start
    }
}

/// Computes shards on one device, and keeps between them what only the architecture and the input's shape decide.
pub struct Evaluator {
    device: Device,
    evaluation: Evaluation,
    prepared: Option<Prepared>,
}

struct Prepared {
    architecture: String,
    input: Shape,
    engine: Engine,
}

enum Engine {
    Patch(Box<CentralDifference>),
    Dense(Box<Network>),
}

impl Evaluator {
    /// An evaluator on this machine.
    pub fn new(machine: &Machine) -> Self {
        Self { device: machine.device, evaluation: machine.evaluation, prepared: None }
    }

    /// The moments of a shard; `None` when `goes_on`, which is asked after every block, says no.
    ///
    /// # Errors
    /// A [`Fault`] with the kind that tells who is to blame.
    pub fn shard(&mut self, job: &Job, mut goes_on: impl FnMut() -> bool) -> Result<Option<Moments>, Fault> {
        let point = evaluation_point(job.seed, 0, job.network.input().len());
        let total = job.grid.blocks();
        let mut fold = Fold::below(job.node, total, |left: Moments, right| left.merge(&right));
        let disorder = |e: nadgrid_core::tree::TreeError| Fault::new(FailureKind::Task, e.to_string());
        for block in job.node.blocks(total) {
            let moments = self.block(job, job.grid.members(block..block + 1), &point)?;
            fold.push(Node::block(block), moments).map_err(disorder)?;
            if !goes_on() {
                return Ok(None);
            }
        }
        fold.finish(job.node).map(Some).map_err(disorder)
    }

    fn block(&mut self, job: &Job, members: Range<u64>, point: &[f32]) -> Result<Moments, Fault> {
        let device = self.device;
        match self.engine(job)? {
            Engine::Patch(plan) => {
                block_moments(plan, job.seed, &job.architecture, members, point, job.step).map_err(|e| of_kernel(&e))
            }
            Engine::Dense(network) => {
                let sampling = Sampling {
                    network,
                    device,
                    precision: Precision::Fp32,
                    seed: job.seed,
                    architecture: &job.architecture,
                    derivative: Derivative::Difference { step: job.step },
                    budget: population::memory::budget(device),
                };
                population::block_moments(&sampling, members, point).map_err(|e| e.fault(device))
            }
        }
    }

    fn engine(&mut self, job: &Job) -> Result<&mut Engine, Fault> {
        let input = job.network.input();
        let fits = |p: &Prepared| p.architecture == job.architecture && p.input == input;
        let prepared = match self.prepared.take().filter(fits) {
            Some(prepared) => prepared,
            None => {
                let engine = match self.evaluation {
                    Evaluation::Patch => {
                        Engine::Patch(Box::new(CentralDifference::new(&job.network).map_err(|e| of_kernel(&e))?))
                    }
                    Evaluation::Dense => Engine::Dense(Box::new(job.network.clone())),
                };
                Prepared { architecture: job.architecture.clone(), input, engine }
            }
        };
        Ok(&mut self.prepared.insert(prepared).engine)
    }
}

/// An architecture that this program's kernels lack may be known to another's; an overflow is the shard's own.
fn of_kernel(error: &KernelError) -> Fault {
    let kind = match error {
        KernelError::Unsupported { .. } => FailureKind::Unfit,
        KernelError::NotFinite { .. } => FailureKind::Task,
    };
    Fault::new(kind, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{DeviceChoice, prepare};

    const SPEC: &str = "name = 'x'\narchitectures = ['lenet', 'logreg']\ninput = { height = 16, width = 16 }\n\
                        [nads]\nnetworks = 21\nblock_size = 4";

    fn shard(first_block: u64, blocks: u64) -> Shard {
        Shard { sweep_id: "s".into(), job: 0, first_block, blocks }
    }

    fn compute(evaluator: &mut Evaluator, architecture: &str, first_block: u64, blocks: u64) -> Moments {
        let job = Job::new(SPEC, architecture, &shard(first_block, blocks)).unwrap();
        evaluator.shard(&job, || true).unwrap().unwrap()
    }

    /// Architectures in turn on one evaluator: what it keeps does not leak into results, and shards merge to their parent.
    #[test]
    fn halves_merge_to_the_whole_whatever_was_computed_before() {
        let mut evaluator = Evaluator::new(&prepare(DeviceChoice::Cpu, None).unwrap());
        let left = compute(&mut evaluator, "lenet", 0, 2);
        let other = compute(&mut evaluator, "logreg", 0, 4);
        let right = compute(&mut evaluator, "lenet", 2, 2);
        assert_eq!(left.merge(&right), compute(&mut evaluator, "lenet", 0, 4));
        assert_eq!(other, compute(&mut evaluator, "logreg", 0, 4));
        assert_eq!(compute(&mut evaluator, "logreg", 4, 2).count, 5);
    }

    #[test]
    fn a_shard_ends_with_the_block_in_which_it_is_told_to() {
        let mut evaluator = Evaluator::new(&prepare(DeviceChoice::Cpu, None).unwrap());
        let job = Job::new(SPEC, "logreg", &shard(0, 4)).unwrap();
        let mut blocks = 0;
        let outcome = evaluator.shard(&job, || {
            blocks += 1;
            blocks < 2
        });
        assert_eq!((outcome, blocks), (Ok(None), 2));
        assert_eq!(job.networks(), 16);
    }

    #[test]
    fn faults_say_whose_they_are() {
        let kind = |spec: &str, architecture, blocks| Job::new(spec, architecture, &shard(0, blocks)).unwrap_err().kind;
        assert_eq!(kind("name = 3", "lenet", 1), FailureKind::Spec);
        assert_eq!(kind(SPEC, "vgg", 1), FailureKind::Spec);
        assert_eq!(kind(SPEC, "lenet", 3), FailureKind::Task);
        // Steps so large that squares overflow are refused by the spec; weights cannot overflow. A step is all there is.
        let huge = "name = 'x'\narchitectures = ['logreg']\n[nads]\nnetworks = 2\nstep = 1e9";
        assert!(Job::new(huge, "logreg", &shard(0, 1)).is_ok());
    }
}
