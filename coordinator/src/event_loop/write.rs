//! The loop's writes to the journal: batches, and the snapshot that replaces them. Questions are answered meanwhile.

use super::EventLoop;
use super::stall::{Answering, JournalWork};
use crate::journal::{Journal, JournalError, Replayed};
use metrics::{counter, histogram};
use nadgrid_core::scheduler::Record;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tracing::{info, warn};

impl<J: Journal> EventLoop<J> {
    /// Appends records; returns when they are durable.
    pub(super) async fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        if records.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let Self { shell, journal, reads, onlookers, clock, watch, .. } = self;
        let answering = Answering { reads, scheduler: shell.scheduler(), onlookers, clock, watch };
        let (appended, deaf) = answering.until(JournalWork::Append, records, journal.append(records)).await;
        self.has_been_deaf(deaf);
        appended?;
        self.batches.fetch_add(1, Ordering::Relaxed);
        histogram!("nadgrid_journal_append_seconds").record(began.elapsed().as_secs_f64());
        counter!("nadgrid_journal_records_total").increment(records.len() as u64);
        Ok(())
    }

    fn has_been_deaf(&mut self, time: Option<Duration>) {
        self.shell.was_deaf(time.map_or(0, |time| time.as_millis() as u64));
    }

    /// Replaces the journal by a snapshot. Where that fails the journal stays as it was.
    pub(super) async fn compact(&mut self) {
        let before = self.shell.journalled();
        let began = Instant::now();
        let (compacted, deaf) = self.replace_journal().await;
        self.has_been_deaf(deaf);
        match compacted {
            Ok(kept) => {
                self.shell.compacted(kept.records);
                self.batches.fetch_add(kept.batches, Ordering::Relaxed);
                info!(before, records = kept.records, seconds = began.elapsed().as_secs_f64(), "journal compacted");
            }
            Err(error) => {
                self.shell.not_compacted();
                warn!(%error, "the journal could not be compacted");
            }
        }
    }

    /// Replaces the journal by a snapshot; also returns for how long nobody was listened to.
    async fn replace_journal(&mut self) -> (Result<Replayed, JournalError>, Option<Duration>) {
        let Self { shell, journal, reads, onlookers, clock, watch, .. } = self;
        let scheduler = shell.scheduler();
        let mut snapshot = scheduler.snapshot();
        let answering = Answering { reads, scheduler, onlookers, clock, watch };
        let replica = Box::new(scheduler.replica());
        answering.until(JournalWork::Compact, &[], journal.compact(&mut snapshot, replica)).await
    }
}
