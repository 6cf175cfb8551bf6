//! One shard's arithmetic: gradients folded to moments along the fixed tree, or training runs one after the other.
//!
//! Deliberately absent: threads and messages. A shard computed twice gives the same bits.

mod basis;
mod blame;
mod gradients;
mod resume;
mod runs;
mod samples;
mod shard_task;
#[cfg(test)]
mod tests;
mod watcher;

use crate::device::{Evaluation, Machine};
use crate::fault::Fault;
use crate::inputs::InputCache;
use gradients::{GradientEvaluator, SummedBlock};
use nadgrid_core::grid::Node;
use nadgrid_core::moments::Moments;
use nadgrid_core::numerics::NumericsClass;
use nadgrid_core::runs::{Outcome, to_bytes};
use nadgrid_core::scheduler::FailureKind;
use nadgrid_core::spec::Payload;
use nadgrid_core::tree::{Fold, TreeError};
use resume::OutcomeForm;
use runs::RunEvaluator;
pub(crate) use shard_task::{JobSpecs, ShardTask};
use std::sync::Arc;
use tch::Device;
pub(crate) use watcher::{ShardSnapshot, ShardWatcher};

/// A shard that is computed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EvaluatedShard {
    pub(crate) yielded: ShardYield,
    /// Seconds that it took other slots, before a checkpoint.
    pub(crate) earlier: f64,
}

/// The result of a shard.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ShardYield {
    /// The moments of gradients.
    Moments(Moments),
    /// Outcomes of training runs, with this many further numbers each.
    Runs(Vec<Outcome>, usize),
}

impl ShardYield {
    /// Returns the bytes that are uploaded.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Moments(moments) => moments.to_bytes(),
            Self::Runs(runs, extra) => to_bytes(runs, *extra),
        }
    }
}

/// Computes shards on one device, and keeps what depends on the job alone from one shard to the next.
pub(crate) struct ShardEvaluator {
    class: NumericsClass,
    gradients: GradientEvaluator,
    runs: RunEvaluator,
}

/// The device of an evaluator, and how it computes there.
#[derive(Clone, Copy, Debug)]
struct EvaluationBackend {
    device: Device,
    evaluation: Evaluation,
}

impl ShardEvaluator {
    /// Makes an evaluator on this machine.
    pub(crate) fn new(machine: &Machine, inputs: Arc<InputCache>) -> Self {
        let backend = EvaluationBackend { device: machine.device, evaluation: machine.evaluation };
        let class = machine.class.clone();
        Self { class, gradients: GradientEvaluator::new(backend), runs: RunEvaluator::new(backend, inputs) }
    }

    /// Computes a shard, and returns `None` when it is no longer wanted. Training runs continue `from` a checkpoint of the same
    /// shard; a checkpoint of anything else is ignored.
    ///
    /// # Errors
    /// A [`Fault`] whose kind says what is to blame.
    pub(crate) fn shard(
        &mut self,
        shard: &ShardTask,
        from: Option<&[u8]>,
        watcher: &dyn ShardWatcher,
    ) -> Result<Option<EvaluatedShard>, Fault> {
        match shard.job.shape.payload {
            Payload::Moments { .. } => {
                let moments = self.moments(shard, watcher)?;
                Ok(moments.map(|moments| EvaluatedShard { yielded: ShardYield::Moments(moments), earlier: 0.0 }))
            }
            Payload::Runs { extra, .. } => {
                let class = self.class.with(shard.precision());
                let form = OutcomeForm { class: &class, extra };
                let runs = self.runs.shard(shard, &form, from, watcher)?;
                Ok(runs.map(|(runs, earlier)| EvaluatedShard { yielded: ShardYield::Runs(runs, extra), earlier }))
            }
        }
    }

    /// Computes the moments of a shard. Its blocks are short, so that it is not worth a checkpoint.
    fn moments(&mut self, shard: &ShardTask, watcher: &dyn ShardWatcher) -> Result<Option<Moments>, Fault> {
        let total = shard.grid().blocks();
        let mut fold = Fold::below(shard.node, total, |left: Moments, right: Moments| left.merge(&right));
        let disorder = |e: TreeError| Fault::new(FailureKind::Task, e.to_string());
        self.gradients.prepare(shard)?;
        let mut drawn = self.gradients.drawn(shard, shard.members_of(shard.node.blocks(total)))?;
        watcher.begun();
        // The moments of the block before may still be summed up while a GPU computes the next.
        let mut before = None;
        for block in shard.node.blocks(total) {
            let members = shard.members_of(block..block + 1);
            let Some(summed) = self.gradients.block(shard, members, &mut drawn, watcher)? else { return Ok(None) };
            if let Some((before, summed)) = before.replace((block, summed)) {
                fold.push(Node::block(before), SummedBlock::wait(summed)).map_err(disorder)?;
            }
            watcher.block_done();
        }
        if let Some((before, summed)) = before {
            fold.push(Node::block(before), SummedBlock::wait(summed)).map_err(disorder)?;
        }
        fold.finish(shard.node).map(Some).map_err(disorder)
    }
}
