//! One shard's arithmetic: gradients folded to moments along the fixed tree, or training runs in a row.
//!
//! Deliberately absent: threads and messages. A shard computed twice gives the same bits.

mod basis;
mod course;
mod gradients;
mod job;
mod runs;
mod samples;
#[cfg(test)]
mod tests;

use crate::board::Fault;
use crate::device::{Evaluation, Machine};
use crate::inputs::Inputs;
pub use course::MOST_BYTES;
pub(crate) use course::ROLE;
use gradients::{Gradients, Summed};
pub use job::{Job, JobSpec, JobSpecs};
use nadgrid_core::grid::Node;
use nadgrid_core::moments::Moments;
use nadgrid_core::numerics::{NumericsClass, Precision};
use nadgrid_core::runs::{Outcome, to_bytes};
use nadgrid_core::spec::Payload;
use nadgrid_core::tree::{Fold, TreeError};
use nadgrid_kernels::KernelError;
use nadgrid_proto::v1::FailureKind;
use runs::Runs;
use std::sync::Arc;
use tch::Device;

/// Whoever waits for a shard.
pub trait Watcher {
    /// Whether its result is still wanted; asked often.
    fn wants(&self) -> bool;
    /// All that blocks need is there: the first one begins.
    fn begun(&self) {}
    /// This part of the next block is computed, from 0 to 1; told often.
    fn advance(&self, _fraction: f64) {}
    /// Another block is computed.
    fn block_done(&self);
    /// Whether a checkpoint is due; asked after every epoch of training and after every run.
    fn wants_checkpoint(&self) -> bool {
        false
    }
    /// Takes the checkpoint that was due.
    fn take_checkpoint(&self, _snapshot: Snapshot) {}
}

/// How far a shard has come, for another worker to go on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// A [`nadgrid_core::checkpoint`].
    pub bytes: Vec<u8>,
    /// Members of the shard that are done with.
    pub members_done: u64,
    /// Epochs of the members in training.
    pub epochs: u32,
    /// The precision in which they are trained.
    pub precision: Precision,
}

/// A shard that is computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated {
    /// Its result.
    pub yielded: Yield,
    /// Seconds that it took other lanes, before a checkpoint.
    pub earlier: f64,
}

/// What a shard yields.
#[derive(Clone, Debug, PartialEq)]
pub enum Yield {
    /// Moments of gradients.
    Moments(Moments),
    /// Outcomes of training runs, with this many further numbers each.
    Runs(Vec<Outcome>, usize),
}

impl Yield {
    /// As it is uploaded.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Moments(moments) => moments.to_bytes(),
            Self::Runs(runs, extra) => to_bytes(runs, *extra),
        }
    }
}

/// Computes shards on one device, and keeps between them what only the job decides.
pub struct Evaluator {
    class: NumericsClass,
    gradients: Gradients,
    runs: Runs,
}

/// The device of an evaluator and how it computes there.
#[derive(Clone, Copy, Debug)]
struct Engine {
    device: Device,
    evaluation: Evaluation,
}

impl Evaluator {
    /// An evaluator on this machine.
    pub fn new(machine: &Machine, inputs: Arc<Inputs>) -> Self {
        let engine = Engine { device: machine.device, evaluation: machine.evaluation };
        let class = machine.class.clone();
        Self { class, gradients: Gradients::new(engine), runs: Runs::new(engine, inputs) }
    }

    /// What a shard yields; `None` when it is not wanted any more. Training runs go on `from` a checkpoint of the same shard; one
    /// of anything else is passed over.
    ///
    /// # Errors
    /// A [`Fault`] with the kind that tells who is to blame.
    pub fn shard(&mut self, job: &Job, from: Option<&[u8]>, watcher: &dyn Watcher) -> Result<Option<Evaluated>, Fault> {
        match job.plan.shape.payload {
            Payload::Moments { .. } => {
                let moments = self.moments(job, watcher)?;
                Ok(moments.map(|moments| Evaluated { yielded: Yield::Moments(moments), earlier: 0.0 }))
            }
            Payload::Runs { extra, .. } => {
                let class = self.class.with(job.precision());
                let runs = self.runs.shard(job, (&class, extra), from, watcher)?;
                Ok(runs.map(|(runs, earlier)| Evaluated { yielded: Yield::Runs(runs, extra), earlier }))
            }
        }
    }

    /// Blocks are short: a shard of them is not worth a checkpoint.
    fn moments(&mut self, job: &Job, watcher: &dyn Watcher) -> Result<Option<Moments>, Fault> {
        let total = job.grid().blocks();
        let mut fold = Fold::below(job.node, total, |left: Moments, right: Moments| left.merge(&right));
        let disorder = |e: TreeError| Fault::new(FailureKind::Task, e.to_string());
        self.gradients.prepare(job)?;
        let mut drawn = self.gradients.drawn(job, job.members_of(job.node.blocks(total)))?;
        watcher.begun();
        // The moments of the block before may still be summed up while a GPU computes the next.
        let mut before = None;
        for block in job.node.blocks(total) {
            let members = job.members_of(block..block + 1);
            let Some(summed) = self.gradients.block(job, members, &mut drawn, watcher)? else { return Ok(None) };
            if let Some((before, summed)) = before.replace((block, summed)) {
                fold.push(Node::block(before), Summed::wait(summed)).map_err(disorder)?;
            }
            watcher.block_done();
        }
        if let Some((before, summed)) = before {
            fold.push(Node::block(before), Summed::wait(summed)).map_err(disorder)?;
        }
        fold.finish(job.node).map(Some).map_err(disorder)
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
