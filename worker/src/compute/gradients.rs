//! A block of random networks: their gradients at every point, reduced to moments.

use super::{Engine, Job, Watcher, of_kernel};
use crate::board::Fault;
use crate::device::Evaluation;
use crate::population::{self, Derivative, Members, Sampling, memory};
use nadgrid_core::architecture::Shape;
use nadgrid_core::moments::Moments;
use nadgrid_core::random::evaluation_point;
use nadgrid_core::spec::{Estimator, NadsSpec};
use nadgrid_kernels::{CentralDifference, Trainer, block_moments, moments};
use nadgrid_proto::v1::FailureKind;
use std::ops::Range;
use std::panic::resume_unwind;
use std::thread::{Builder, JoinHandle};
use tch::Device;

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

/// The members of a shard, where they are drawn ahead of their evaluation; nadgrid's own kernels draw one after the other.
pub(super) struct Drawn(Option<Members>);

/// The moments of a block.
pub(super) enum Summed {
    /// They are there.
    Here(Moments),
    /// A helper thread sums them up, while the lane has the GPU compute the next block.
    Beside(JoinHandle<Moments>),
}

impl Summed {
    /// Waits until they are there.
    pub(super) fn wait(self) -> Moments {
        match self {
            Self::Here(moments) => moments,
            // A panic is the lane's own, which knows what to do with it.
            Self::Beside(helper) => helper.join().unwrap_or_else(|panic| resume_unwind(panic)),
        }
    }

    /// Of gradients that lie in rows.
    fn of(rows: Vec<f32>, dimension: usize, device: Device) -> Result<Self, Fault> {
        if !device.is_cuda() {
            return Ok(Self::Here(moments(&rows, dimension)));
        }
        let helper = Builder::new().name("moments".to_owned()).spawn(move || moments(&rows, dimension));
        let none = |error| Fault::new(FailureKind::Transient, format!("no thread for moments: {error}"));
        helper.map(Self::Beside).map_err(none)
    }
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

    /// Begins to draw the members of all blocks of a shard, where that is done ahead.
    pub(super) fn drawn(&self, job: &Job, members: Range<u64>) -> Result<Drawn, Fault> {
        let drawn = match self.engine.evaluation {
            Evaluation::Patch => None,
            Evaluation::Dense | Evaluation::Fused => {
                Some(self.sampling(job, nads(job)?).members(members).map_err(|e| e.fault())?)
            }
        };
        Ok(Drawn(drawn))
    }

    /// The moments of the gradients of `members`, of each member at each point in turn; `None` when they are not wanted any more.
    /// Members that were drawn ahead are the next of `drawn`.
    pub(super) fn block(
        &mut self,
        job: &Job,
        members: Range<u64>,
        drawn: &mut Drawn,
        watcher: &dyn Watcher,
    ) -> Result<Option<Summed>, Fault> {
        let nads = nads(job)?;
        let dimension = job.plan.shape.dimension;
        let points: Vec<Vec<f32>> =
            (0..u64::from(nads.points)).map(|index| evaluation_point(job.plan.spec.seed, index, dimension)).collect();
        match &mut drawn.0 {
            // Of a block that is not wanted, gradients are left out.
            None => {
                let moments = self.by_kernels(job, nads, members, &points, watcher)?;
                Ok(Some(Summed::Here(moments)).filter(|_| watcher.wants()))
            }
            Some(drawn) => {
                self.by_populations(job, nads, drawn, (members.end - members.start) as usize, &points, watcher)
            }
        }
    }

    fn by_kernels(
        &mut self,
        job: &Job,
        nads: &NadsSpec,
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
        nads: &NadsSpec,
        members: &mut Members,
        count: usize,
        points: &[Vec<f32>],
        watcher: &dyn Watcher,
    ) -> Result<Option<Summed>, Fault> {
        let goes_on = |part: f64| {
            watcher.advance(part);
            watcher.wants()
        };
        let block = population::block_gradients(&self.sampling(job, nads), members, count, points, &goes_on);
        let rows = block.map_err(|e| e.fault())?.filter(|_| watcher.wants());
        rows.map(|rows| Summed::of(rows, job.plan.shape.dimension, self.engine.device)).transpose()
    }

    fn sampling<'a>(&self, job: &'a Job, nads: &NadsSpec) -> Sampling<'a> {
        let device = self.engine.device;
        let derivative = match nads.estimator {
            Estimator::CentralDifference if self.engine.evaluation == Evaluation::Fused => {
                Derivative::Fused { step: nads.step as f32 }
            }
            Estimator::CentralDifference => Derivative::Difference { step: nads.step as f32 },
            Estimator::Autograd => Derivative::Autograd,
        };
        Sampling {
            network: &job.plan.network,
            device,
            precision: job.plan.spec.precision,
            seed: job.plan.spec.seed,
            architecture: &job.plan.shape.architecture,
            derivative,
            budget: memory::budget(device),
        }
    }
}

fn nads(job: &Job) -> Result<&NadsSpec, Fault> {
    job.plan.spec.nads.as_ref().ok_or_else(|| Fault::new(FailureKind::Spec, "the spec has no [nads]"))
}
