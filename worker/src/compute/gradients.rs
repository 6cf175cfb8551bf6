//! A block of random networks: their gradients at every point, reduced to moments.

use super::{Engine, Job, Watcher, of_kernel};
use crate::board::Fault;
use crate::device::Evaluation;
use crate::population::{self, Derivative, Sampling, memory};
use nadgrid_core::architecture::Shape;
use nadgrid_core::moments::Moments;
use nadgrid_core::random::evaluation_point;
use nadgrid_core::spec::{Estimator, Nads};
use nadgrid_kernels::{CentralDifference, Trainer, block_moments, moments};
use nadgrid_proto::v1::FailureKind;
use std::ops::Range;

/// Blocks of gradients on one device.
pub(super) struct Gradients {
    engine: Engine,
    prepared: Option<Prepared>,
}

/// What architecture, input and estimator decide.
struct Prepared {
    of: (String, Shape, Estimator),
    kernel: Kernel,
}

/// nadgrid's own kernels.
enum Kernel {
    Difference(Box<CentralDifference>),
    Autograd(Box<Trainer>),
}

impl Gradients {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine, prepared: None }
    }

    /// Prepares what all blocks of a job share.
    pub(super) fn prepare(&mut self, job: &Job) -> Result<(), Fault> {
        match (self.engine.evaluation, &job.plan.spec.nads) {
            (Evaluation::Patch, Some(nads)) => self.kernel(job, nads.estimator).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// The moments of the gradients of `members`, of each member at each point in turn; `None` when they are not wanted any more.
    pub(super) fn block(
        &mut self,
        job: &Job,
        members: Range<u64>,
        watcher: &dyn Watcher,
    ) -> Result<Option<Moments>, Fault> {
        let nads =
            job.plan.spec.nads.as_ref().ok_or_else(|| Fault::new(FailureKind::Spec, "the spec has no [nads]"))?;
        let dimension = job.plan.shape.dimension;
        let points: Vec<Vec<f32>> =
            (0..u64::from(nads.points)).map(|index| evaluation_point(job.plan.spec.seed, index, dimension)).collect();
        let moments = match self.engine.evaluation {
            Evaluation::Patch => self.by_kernels(job, nads, members, &points, watcher),
            Evaluation::Dense | Evaluation::Fused => self.by_populations(job, nads, members, &points, watcher),
        };
        // Of a block that is not wanted, gradients are left out.
        Ok(Some(moments?).filter(|_| watcher.wants()))
    }

    fn by_kernels(
        &mut self,
        job: &Job,
        nads: &Nads,
        members: Range<u64>,
        points: &[Vec<f32>],
        watcher: &dyn Watcher,
    ) -> Result<Moments, Fault> {
        let all = (members.end - members.start) as f64 * points.len() as f64;
        let mut done = 0u64;
        let mut advance = || {
            done += 1;
            watcher.advance(done as f64 / all);
        };
        let (seed, architecture, step) = (job.plan.spec.seed, job.plan.shape.architecture.as_str(), nads.step as f32);
        let draw = |member, parameters: &mut [f32]| job.plan.network.initialise(seed, architecture, member, parameters);
        let block = match self.kernel(job, nads.estimator)? {
            Kernel::Difference(kernel) => block_moments(&job.plan.network, members, points, draw, |p, point, out| {
                if watcher.wants() {
                    kernel.gradient(p, point, step, out)?;
                    advance();
                }
                Ok(())
            }),
            Kernel::Autograd(kernel) => block_moments(&job.plan.network, members, points, draw, |p, point, out| {
                if watcher.wants() {
                    kernel.gradient_at(p, point, out)?;
                    advance();
                }
                Ok(())
            }),
        };
        block.map_err(|e| of_kernel(&e))
    }

    fn kernel(&mut self, job: &Job, estimator: Estimator) -> Result<&mut Kernel, Fault> {
        let of = (job.plan.shape.architecture.clone(), job.plan.network.input(), estimator);
        let prepared = match self.prepared.take().filter(|prepared| prepared.of == of) {
            Some(prepared) => prepared,
            None => {
                let kernel = match estimator {
                    Estimator::CentralDifference => {
                        CentralDifference::new(&job.plan.network).map(|kernel| Kernel::Difference(Box::new(kernel)))
                    }
                    Estimator::Autograd => {
                        Trainer::new(&job.plan.network).map(|kernel| Kernel::Autograd(Box::new(kernel)))
                    }
                };
                Prepared { of, kernel: kernel.map_err(|e| of_kernel(&e))? }
            }
        };
        Ok(&mut self.prepared.insert(prepared).kernel)
    }

    fn by_populations(
        &self,
        job: &Job,
        nads: &Nads,
        members: Range<u64>,
        points: &[Vec<f32>],
        watcher: &dyn Watcher,
    ) -> Result<Moments, Fault> {
        let device = self.engine.device;
        let derivative = match nads.estimator {
            Estimator::CentralDifference if self.engine.evaluation == Evaluation::Fused => {
                Derivative::Fused { step: nads.step as f32 }
            }
            Estimator::CentralDifference => Derivative::Difference { step: nads.step as f32 },
            Estimator::Autograd => Derivative::Autograd,
        };
        let sampling = Sampling {
            network: &job.plan.network,
            device,
            precision: job.plan.spec.precision,
            seed: job.plan.spec.seed,
            architecture: &job.plan.shape.architecture,
            derivative,
            budget: memory::budget(device),
        };
        let dimension = job.plan.shape.dimension;
        let mut rows = vec![0.0; (members.end - members.start) as usize * points.len() * dimension];
        for (place, point) in points.iter().enumerate().take_while(|_| watcher.wants()) {
            let advance = |part: f64| watcher.advance((place as f64 + part) / points.len() as f64);
            let block = population::block_gradients(&sampling, members.clone(), point, &advance);
            let block = block.map_err(|e| e.fault())?;
            let own = rows.chunks_exact_mut(dimension).skip(place).step_by(points.len());
            own.zip(block.chunks_exact(dimension)).for_each(|(row, gradient)| row.copy_from_slice(gradient));
        }
        Ok(moments(&rows, dimension))
    }
}
