//! A block of random networks: their gradients at every point, reduced to moments.

use super::{EvaluationBackend, ShardTask, ShardWatcher};
use crate::device::Evaluation;
use crate::fault::Fault;
use crate::population::{self, Derivative, Members, Sampling, memory};
use nadgrid_core::architecture::Shape;
use nadgrid_core::moments::Moments;
use nadgrid_core::random::evaluation_point;
use nadgrid_core::scheduler::FailureKind;
use nadgrid_core::spec::{Estimator, NadsSpec};
use nadgrid_kernels::{CentralDifference, Trainer, block_moments, moments};
use std::ops::Range;
use std::panic::resume_unwind;
use std::thread::{Builder, JoinHandle};
use tch::Device;

/// Blocks of gradients on one device.
pub(super) struct GradientEvaluator {
    backend: EvaluationBackend,
    prepared: Option<PreparedKernel>,
}

/// A kernel for one architecture, input and estimator.
struct PreparedKernel {
    of: (String, Shape, Estimator),
    kernel: GradientKernel,
}

/// nadgrid's own kernels.
enum GradientKernel {
    Difference(Box<CentralDifference>),
    Autograd(Box<Trainer>),
}

/// The members of a shard, where they are drawn ahead of their evaluation; nadgrid's own kernels draw one after the other.
pub(super) struct DrawnMembers(Option<Members>);

/// The moments of a block.
pub(super) enum SummedBlock {
    /// They are computed.
    Here(Moments),
    /// A helper thread sums them up while the GPU computes the next block.
    Beside(JoinHandle<Moments>),
}

impl SummedBlock {
    /// Waits until the moments are computed, and returns them.
    pub(super) fn wait(self) -> Moments {
        match self {
            Self::Here(moments) => moments,
            // A panic is the slot's own, which knows what to do with it.
            Self::Beside(helper) => helper.join().unwrap_or_else(|panic| resume_unwind(panic)),
        }
    }

    /// Sums up gradients that lie in rows, beside the slot where it drives a GPU.
    fn of(rows: Vec<f32>, dimension: usize, device: Device) -> Result<Self, Fault> {
        if !device.is_cuda() {
            return Ok(Self::Here(moments(&rows, dimension)));
        }
        let helper = Builder::new().name("moments".to_owned()).spawn(move || moments(&rows, dimension));
        let none = |error| Fault::new(FailureKind::Transient, format!("cannot start a thread for moments: {error}"));
        helper.map(Self::Beside).map_err(none)
    }
}

impl GradientEvaluator {
    pub(super) fn new(backend: EvaluationBackend) -> Self {
        Self { backend, prepared: None }
    }

    /// Prepares what all blocks of a job share.
    pub(super) fn prepare(&mut self, shard: &ShardTask) -> Result<(), Fault> {
        match (self.backend.evaluation, &shard.job.spec.nads) {
            (Evaluation::Patch, Some(nads)) => self.kernel(shard, nads.estimator).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// Begins to draw the members of all blocks of a shard, where that is done ahead.
    pub(super) fn drawn(&self, shard: &ShardTask, members: Range<u64>) -> Result<DrawnMembers, Fault> {
        let drawn = match self.backend.evaluation {
            Evaluation::Patch => None,
            Evaluation::Dense | Evaluation::Fused => Some(self.sampling(shard, nads(shard)?).members(members)?),
        };
        Ok(DrawnMembers(drawn))
    }

    /// Computes the moments of the gradients of `members`, of each member at each point in turn; `None` when they are no longer
    /// wanted. Members that were drawn ahead are the next ones of `drawn`.
    pub(super) fn block(
        &mut self,
        shard: &ShardTask,
        members: Range<u64>,
        drawn: &mut DrawnMembers,
        watcher: &dyn ShardWatcher,
    ) -> Result<Option<SummedBlock>, Fault> {
        let nads = nads(shard)?;
        let dimension = shard.job.shape.dimension;
        let points: Vec<Vec<f32>> =
            (0..u64::from(nads.points)).map(|index| evaluation_point(shard.job.spec.seed, index, dimension)).collect();
        match &mut drawn.0 {
            // A block that is no longer wanted lacks gradients.
            None => {
                let moments = self.by_kernels(shard, nads, members, &points, watcher)?;
                Ok(Some(SummedBlock::Here(moments)).filter(|_| watcher.wants()))
            }
            Some(drawn) => {
                self.by_populations(shard, nads, drawn, (members.end - members.start) as usize, &points, watcher)
            }
        }
    }

    fn by_kernels(
        &mut self,
        shard: &ShardTask,
        nads: &NadsSpec,
        members: Range<u64>,
        points: &[Vec<f32>],
        watcher: &dyn ShardWatcher,
    ) -> Result<Moments, Fault> {
        let all = (members.end - members.start) as f64 * points.len() as f64;
        let mut done = 0u64;
        let mut advance = || {
            done += 1;
            watcher.advance(done as f64 / all);
        };
        let seed = shard.job.spec.seed;
        let architecture = shard.job.shape.architecture.as_str();
        let step = nads.step as f32;
        let draw =
            |member, parameters: &mut [f32]| shard.job.network.initialise(seed, architecture, member, parameters);
        let block = match self.kernel(shard, nads.estimator)? {
            GradientKernel::Difference(kernel) => {
                block_moments(&shard.job.network, members, points, draw, |p, point, out| {
                    if watcher.wants() {
                        kernel.gradient(p, point, step, out)?;
                        advance();
                    }
                    Ok(())
                })
            }
            GradientKernel::Autograd(kernel) => {
                block_moments(&shard.job.network, members, points, draw, |p, point, out| {
                    if watcher.wants() {
                        kernel.gradient_at(p, point, out)?;
                        advance();
                    }
                    Ok(())
                })
            }
        };
        Ok(block?)
    }

    fn kernel(&mut self, shard: &ShardTask, estimator: Estimator) -> Result<&mut GradientKernel, Fault> {
        let of = (shard.job.shape.architecture.clone(), shard.job.network.input(), estimator);
        let prepared = match self.prepared.take().filter(|prepared| prepared.of == of) {
            Some(prepared) => prepared,
            None => {
                let kernel = match estimator {
                    Estimator::CentralDifference => CentralDifference::new(&shard.job.network)
                        .map(|kernel| GradientKernel::Difference(Box::new(kernel))),
                    Estimator::Autograd => {
                        Trainer::new(&shard.job.network).map(|kernel| GradientKernel::Autograd(Box::new(kernel)))
                    }
                };
                PreparedKernel { of, kernel: kernel? }
            }
        };
        Ok(&mut self.prepared.insert(prepared).kernel)
    }

    fn by_populations(
        &self,
        shard: &ShardTask,
        nads: &NadsSpec,
        members: &mut Members,
        count: usize,
        points: &[Vec<f32>],
        watcher: &dyn ShardWatcher,
    ) -> Result<Option<SummedBlock>, Fault> {
        let goes_on = |part: f64| {
            watcher.advance(part);
            watcher.wants()
        };
        let block = population::block_gradients(&self.sampling(shard, nads), members, count, points, &goes_on);
        let rows = block?.filter(|_| watcher.wants());
        rows.map(|rows| SummedBlock::of(rows, shard.job.shape.dimension, self.backend.device)).transpose()
    }

    fn sampling<'a>(&self, shard: &'a ShardTask, nads: &NadsSpec) -> Sampling<'a> {
        let device = self.backend.device;
        let derivative = match nads.estimator {
            Estimator::CentralDifference if self.backend.evaluation == Evaluation::Fused => {
                Derivative::Fused { step: nads.step as f32 }
            }
            Estimator::CentralDifference => Derivative::Difference { step: nads.step as f32 },
            Estimator::Autograd => Derivative::Autograd,
        };
        Sampling {
            network: &shard.job.network,
            device,
            precision: shard.job.spec.precision,
            seed: shard.job.spec.seed,
            architecture: &shard.job.shape.architecture,
            derivative,
            budget: memory::budget(device),
        }
    }
}

fn nads(shard: &ShardTask) -> Result<&NadsSpec, Fault> {
    shard.job.spec.nads.as_ref().ok_or_else(|| Fault::new(FailureKind::Spec, "the spec has no [nads]"))
}
