//! The coordinator's pool: merges and reductions, as the real one does them on blobs of symbols.

use crate::coordinator::Waiting;
use crate::faults::Sight;
use crate::world::World;
use nadgrid_core::grid::Node;
use nadgrid_core::scheduler::{Committed, Event, JobRef, StoredPartial};

/// A merge under way.
#[derive(Clone)]
pub(crate) struct Merge {
    pub(crate) job: JobRef,
    pub(crate) number: u64,
    pub(crate) node: Node,
    pub(crate) partials: Vec<StoredPartial>,
}

impl World {
    /// A merge has come to its end.
    pub(crate) fn merge(&mut self, merge: Merge) {
        let Merge { job, number, node, partials } = merge;
        let Some(scheduler) = self.coordinator.scheduler() else { return };
        if !scheduler.awaits_merge(&job, number) {
            self.counts.sight(Sight::MergeUnwanted);
        }
        let Some(total) = scheduler.job_spec(&job).map(|(_, shape)| shape.grid.blocks()) else { return };
        let event = match self.store.merge((node, total), &partials, self.scenario.mutation) {
            Ok(stored) => Event::Merged { job, number, stored },
            Err(node) => {
                let message = "a partial cannot be used".to_owned();
                Event::MergeFailed { job, number, damaged: vec![node], message }
            }
        };
        self.enqueue(Waiting::Event(event));
    }

    /// A reduction has come to its end.
    pub(crate) fn reduce(&mut self, job: JobRef, generation: u64, committed: &Committed) {
        let Some(scheduler) = self.coordinator.scheduler() else { return };
        let Some(shape) = scheduler.job_spec(&job).map(|(_, shape)| shape.clone()) else { return };
        let event = match self.store.reduce(&shape, committed, self.scenario.mutation) {
            Ok(result) => Event::Reduced { job, generation, result },
            Err(node) => {
                let message = "a partial cannot be used".to_owned();
                Event::ReduceFailed { job, generation, damaged: vec![node], message }
            }
        };
        self.enqueue(Waiting::Event(event));
    }
}
