//! A snapshot that is replayed beside the state it was taken of: what comes of it must yield the same snapshot again.
//!
//! It is replayed sweep by sweep, since a snapshot names one sweep after the other and no sweep's records depend on another's.
//! So a replica holds one sweep at a time, and of its records a number each. Deliberately absent: repair, and a comparison with
//! the records that were written, which is the journal's.

use super::record::Record;
use super::{Scheduler, Settings};
use crate::ids::SweepId;
use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hasher};
use thiserror::Error;

/// Characters of a record that an error shows.
const SHOWN: usize = 200;

/// A snapshot that does not lead back to the state it was taken of.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("record {number}, of sweep {sweep}, does not lead back to the same state, which would have there: {again}")]
pub struct SnapshotDifference {
    /// The first record that differs, counted from 1.
    pub number: u64,
    /// The sweep that it is about.
    pub sweep: SweepId,
    /// The beginning of the record that the replayed state has in its place.
    pub again: String,
}

/// Replays a snapshot and compares it with the snapshot of what it led to.
#[derive(Debug)]
pub struct Replica {
    settings: Settings,
    /// Holds the sweep that is being replayed.
    scheduler: Scheduler,
    sweep: Option<SweepId>,
    /// Fingerprints of the sweep's records.
    records: Vec<u64>,
    /// Records of the sweeps before it.
    before: u64,
}

impl Scheduler {
    /// An empty replica, with the same settings.
    pub fn replica(&self) -> Replica {
        Replica {
            settings: self.settings,
            scheduler: Scheduler::new(self.settings),
            sweep: None,
            records: Vec::new(),
            before: 0,
        }
    }
}

impl Replica {
    /// Takes the snapshot's next record.
    ///
    /// # Errors
    /// When the sweep that was complete before it does not yield the records that it was made of.
    pub fn replay(&mut self, record: Record) -> Result<(), SnapshotDifference> {
        if self.sweep.as_ref() != Some(record.sweep()) {
            self.compare()?;
            self.sweep = Some(record.sweep().clone());
        }
        self.records.push(fingerprint(&record));
        self.scheduler.replay(record);
        Ok(())
    }

    /// Ends the snapshot.
    ///
    /// # Errors
    /// When its last sweep does not yield the records that it was made of.
    pub fn end(&mut self) -> Result<(), SnapshotDifference> {
        self.compare()
    }

    fn compare(&mut self) -> Result<(), SnapshotDifference> {
        let Some(sweep) = self.sweep.take() else { return Ok(()) };
        let scheduler = std::mem::replace(&mut self.scheduler, Scheduler::new(self.settings));
        let records = std::mem::take(&mut self.records);
        let first = self.before + 1;
        self.before += records.len() as u64;
        let differs = |place: usize, again: Option<Record>| SnapshotDifference {
            number: first + place as u64,
            sweep: sweep.clone(),
            again: again.map_or_else(|| "no record".to_owned(), |record| beginning(&record)),
        };
        let mut again = scheduler.snapshot();
        for (place, record) in records.iter().enumerate() {
            let same = again.next();
            if same.as_ref().map(fingerprint) != Some(*record) {
                return Err(differs(place, same));
            }
        }
        match again.next() {
            None => Ok(()),
            more => Err(differs(records.len(), more)),
        }
    }
}

/// A hash of everything that `Debug` shows of a record, which is all of it.
fn fingerprint(record: &Record) -> u64 {
    let mut hashed = Hashed(DefaultHasher::new());
    // It takes whatever it is given.
    let _ = write!(hashed, "{record:?}");
    hashed.0.finish()
}

struct Hashed(DefaultHasher);

impl Write for Hashed {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

fn beginning(record: &Record) -> String {
    format!("{record:?}").chars().take(SHOWN).collect()
}
