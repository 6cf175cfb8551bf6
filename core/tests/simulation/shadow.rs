//! A second scheduler that only replays what the first one records, and must know the same.
//!
//! It is made from the journal when the coordinator starts, and from the snapshot when the journal is compacted; then, and after
//! every few batches, the two are compared. A handler that changes what must survive a restart without recording it, or that
//! records what it does not do, shows here. Deliberately absent: what no restart has to know again (leases, workers, rates,
//! forecasts).

use crate::scenario::Mutation;
use crate::world::World;
use nadgrid_core::scheduler::{JobState, JobView, Record, Scheduler, Settings, SweepState, SweepView};

/// Batches from one comparison to the next: a difference stays, and comparing takes longer than all else.
const COMPARED_EVERY: u64 = 8;

/// The scheduler that replays.
#[derive(Default)]
pub(crate) struct Shadow {
    scheduler: Scheduler,
    batches: u64,
}

impl Shadow {
    /// The shadow of a coordinator that starts from these records.
    pub(crate) fn of(settings: Settings, records: impl IntoIterator<Item = Record>) -> Self {
        let mut scheduler = Scheduler::new(settings);
        records.into_iter().for_each(|record| scheduler.replay(record));
        Self { scheduler, batches: 0 }
    }

    /// Replays a batch. After the first, and after every few, what is known is compared.
    fn follow(&mut self, records: &[Record], lived: &Scheduler) -> Result<(), String> {
        records.iter().for_each(|record| self.scheduler.replay(record.clone()));
        self.batches += 1;
        if self.batches % COMPARED_EVERY == 1 { self.compare(lived) } else { Ok(()) }
    }

    /// Compares what the coordinator that lived knows with what one that replays would.
    pub(crate) fn compare(&self, lived: &Scheduler) -> Result<(), String> {
        same("would record", self.scheduler.snapshot(), lived.snapshot())?;
        same("would show", views(&self.scheduler), views(lived))
    }
}

impl World {
    /// Lets the shadow follow a batch.
    pub(crate) fn follow(&mut self, records: &[Record]) -> Result<(), String> {
        let Some(lived) = self.coordinator.scheduler() else { return Ok(()) };
        self.shadow.follow(records, lived)
    }
}

impl Mutation {
    /// Whether it hides records of any kind.
    pub(crate) fn hides_records(self) -> bool {
        matches!(
            self,
            Self::PausesUnrecorded
                | Self::RetriesUnrecorded
                | Self::SpeculationUnrecorded
                | Self::CheckpointsUnrecorded
                | Self::AuditsUnrecorded
                | Self::QuarantinesUnrecorded
        )
    }

    /// Whether a handler changes the state for this record, and does not record it.
    pub(crate) fn hides(self, record: &Record) -> bool {
        match self {
            Self::PausesUnrecorded => matches!(record, Record::Paused { .. }),
            Self::RetriesUnrecorded => matches!(record, Record::Retried { .. }),
            Self::SpeculationUnrecorded => matches!(record, Record::Speculated { .. }),
            Self::CheckpointsUnrecorded => matches!(record, Record::Checkpointed { .. }),
            Self::AuditsUnrecorded => matches!(record, Record::Audited { .. }),
            Self::QuarantinesUnrecorded => matches!(record, Record::Quarantined { .. }),
            _ => false,
        }
    }
}

fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    replayed: impl IntoIterator<Item = T>,
    lived: impl IntoIterator<Item = T>,
) -> Result<(), String> {
    let mut replayed = replayed.into_iter();
    let mut lived = lived.into_iter();
    loop {
        match (replayed.next(), lived.next()) {
            (None, None) => return Ok(()),
            (replayed, lived) if replayed == lived => {}
            (replayed, lived) => {
                return Err(format!("whoever replays {what}\n{replayed:?}\nand whoever lived\n{lived:?}"));
            }
        }
    }
}

/// All sweeps as users see them, but for what no restart has to know again.
fn views(scheduler: &Scheduler) -> impl Iterator<Item = SweepView> + use<> {
    scheduler.sweeps_before(None, usize::MAX, |_| true).into_iter().map(|(_, view)| durable(view))
}

fn durable(view: SweepView) -> SweepView {
    // A sweep that has leases but no result yet is queued again after a restart.
    let has_begun = view.class.is_some();
    let is_running = view.state == SweepState::Running && has_begun;
    SweepView {
        state: if is_running || view.state.has_ended() { view.state } else { SweepState::Queued },
        started: view.started.filter(|_| has_begun),
        jobs: view.jobs.into_iter().map(durable_job).collect(),
        workers: 0,
        progress: 0.0,
        seconds_left: None,
        notices: Vec::new(),
        ..view
    }
}

fn durable_job(view: JobView) -> JobView {
    JobView {
        // A reduction begins anew after a restart.
        state: if view.state == JobState::Reducing { JobState::Computing } else { view.state },
        members_in_flight: 0,
        progress: 0.0,
        seconds_left: None,
        members_per_second: None,
        ..view
    }
}
