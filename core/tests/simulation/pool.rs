//! The coordinator's pool: merges and reductions, as the real one does them on blobs of symbols.

use crate::coordinator::Waiting;
use crate::faults::Sight;
use crate::world::World;
use nadgrid_core::grid::Node;
use nadgrid_core::ids::{JobIndex, SweepId};
use nadgrid_core::scheduler::{Committed, Event, ShardRef, StoredPartial};

/// A merge under way.
#[derive(Clone)]
pub(crate) struct Merge {
    pub(crate) sweep: SweepId,
    pub(crate) job: JobIndex,
    pub(crate) number: u64,
    pub(crate) node: Node,
    pub(crate) partials: Vec<StoredPartial>,
}

impl World {
    /// A merge has come to its end.
    pub(crate) fn merge(&mut self, merge: Merge) {
        let Merge { sweep, job, number, node, partials } = merge;
        let Some(scheduler) = self.coordinator.scheduler() else { return };
        if !scheduler.awaits_merge(&sweep, job, number) {
            self.counts.sight(Sight::MergeUnwanted);
        }
        let shard = ShardRef { sweep, job, node };
        let Some(total) = scheduler.shard(&shard).map(|(_, shape, _)| shape.grid.blocks()) else { return };
        let sweep = shard.sweep;
        let event = match self.store.merge((node, total), &partials, self.scenario.mutation) {
            Ok(stored) => Event::Merged { sweep, job, number, stored },
            Err(node) => {
                let message = "a partial cannot be used".to_owned();
                Event::MergeFailed { sweep, job, number, damaged: vec![node], message }
            }
        };
        self.enqueue(Waiting::Event(event));
    }

    /// A reduction has come to its end.
    pub(crate) fn reduce(&mut self, sweep: SweepId, job: JobIndex, generation: u64, committed: &Committed) {
        let shard = ShardRef { sweep, job, node: Node::block(0) };
        let Some(shape) = self.coordinator.scheduler().and_then(|s| s.shard(&shard)).map(|(_, shape, _)| shape.clone())
        else {
            return;
        };
        let sweep = shard.sweep;
        let event = match self.store.reduce(&shape, committed, self.scenario.mutation) {
            Ok(result) => Event::Reduced { sweep, job, generation, result },
            Err(node) => {
                let message = "a partial cannot be used".to_owned();
                Event::ReduceFailed { sweep, job, generation, damaged: vec![node], message }
            }
        };
        self.enqueue(Waiting::Event(event));
    }
}
