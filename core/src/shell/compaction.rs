//! The rule by which the journal is replaced by a snapshot.

use crate::scheduler::Scheduler;

/// Bounds on how much longer than a snapshot the journal gets: compacting it then costs a part of what appending to it has cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionBounds {
    /// The journal holds more than this many records beyond those of a snapshot when it is replaced.
    pub beyond: u64,
    /// It then also holds more than this many times as many.
    pub times: u64,
}

impl Default for CompactionBounds {
    fn default() -> Self {
        Self { beyond: 50_000, times: 2 }
    }
}

/// The number of records in the journal, and the number beyond which it is compared with a snapshot again.
#[derive(Debug)]
pub(super) struct JournalLength {
    bounds: CompactionBounds,
    records: u64,
    /// Up to here the journal is not compared with a snapshot, whose length takes a look at every job to know.
    due_beyond: u64,
}

impl JournalLength {
    pub(super) fn new(records: u64, bounds: CompactionBounds) -> Self {
        Self { bounds, records, due_beyond: 0 }
    }

    pub(super) fn records(&self) -> u64 {
        self.records
    }

    pub(super) fn grows(&mut self, records: u64) {
        self.records += records;
    }

    pub(super) fn is_compaction_due(&mut self, scheduler: &Scheduler) -> bool {
        if self.records <= self.due_beyond {
            return false;
        }
        let least = scheduler.snapshot_len();
        self.due_beyond = (least + self.bounds.beyond).max(least * self.bounds.times);
        self.records > self.due_beyond
    }

    pub(super) fn compacted(&mut self, records: u64) {
        self.records = records;
    }

    pub(super) fn not_compacted(&mut self) {
        self.due_beyond = self.records + self.bounds.beyond;
    }
}
