//! The order of the journal's writes, for any database.
//!
//! Batches are numbered without a gap, and a head row has the first and the last number. So an append whose outcome is
//! unknown (the connection broke, the disk was full) is settled by reading the head: either the batch is there, or it is
//! written again under the same number. Nothing is written twice and nothing is lost.
//!
//! A compaction is read back in its own transaction before it replaces other batches: what cannot be read must not replace
//! what can.

use super::codec::{Encoder, Unwritable, decode};
use super::{Journal, JournalError, JournalIdentity, Replayed, SnapshotReader};
use nadgrid_core::ids::Digest;
use nadgrid_core::scheduler::Record;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::{debug, info, warn};

/// The number of batches that are read at a time.
pub(super) const PAGE: i64 = 16;
/// The size of the batches of a compacted journal.
pub(super) const BATCH_BYTES: usize = 1 << 18;
/// The waits between attempts, which double from the first to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// The numbers of all batches: `first..=last`, none if `last` is below `first`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchRange {
    pub(super) first: i64,
    pub(super) last: i64,
}

/// A failed attempt.
pub(super) struct TableFailure {
    pub(super) error: JournalError,
    /// Whether a retry may succeed.
    pub(super) is_transient: bool,
}

/// The tables that store the rows.
pub(super) trait Tables: Send {
    /// The journal's name in messages.
    fn name(&self) -> &str;

    /// The journal's id. If it has none yet, `new` becomes its id.
    fn id(&mut self, new: &str) -> impl Future<Output = Result<String, TableFailure>> + Send;

    /// Makes the tables usable again after a failure, if no other coordinator has used them. Returns the batches.
    fn recover(&mut self) -> impl Future<Output = Result<BatchRange, TableFailure>> + Send;

    /// Writes one batch and the head durably. Its number follows the last.
    fn append(&mut self, number: i64, body: &[u8]) -> impl Future<Output = Result<(), TableFailure>> + Send;

    /// Reads up to [`PAGE`] batches from this number on, in order.
    fn read(&mut self, from: i64) -> impl Future<Output = Result<Vec<(i64, Vec<u8>)>, TableFailure>> + Send;

    /// Begins a compaction, which is invisible before `replace`.
    fn begin(&mut self) -> impl Future<Output = Result<(), TableFailure>> + Send;

    /// Writes a batch of the compaction.
    fn insert(&mut self, number: i64, body: &[u8]) -> impl Future<Output = Result<(), TableFailure>> + Send;

    /// Ends the compaction: batches outside `range` are removed.
    fn replace(&mut self, range: BatchRange) -> impl Future<Output = Result<(), TableFailure>> + Send;
}

/// A journal in some tables.
pub(super) struct Ledger<T> {
    tables: T,
    range: Option<BatchRange>,
    /// The batches after the last change, if its outcome is unknown.
    doubt: Option<BatchRange>,
    patience: Duration,
    /// The error of the last attempt, until one succeeds.
    fault: watch::Sender<Option<Arc<str>>>,
}

impl<T: Tables> Ledger<T> {
    pub(super) fn new(tables: T, patience: Duration) -> Self {
        Self { tables, range: None, doubt: None, patience, fault: watch::Sender::new(None) }
    }

    fn encoding(&self, source: Unwritable) -> JournalError {
        JournalError::Encode { journal: self.tables.name().to_owned(), source }
    }

    /// The batches of the journal. They are read from the tables at first, and after a failure.
    async fn range(&mut self) -> Result<BatchRange, TableFailure> {
        if let (Some(range), None) = (self.range, self.doubt) {
            return Ok(range);
        }
        let found = self.tables.recover().await?;
        if self.range.is_some_and(|range| found != range && Some(found) != self.doubt) {
            let error = JournalError::TakenOver { journal: self.tables.name().to_owned() };
            return Err(TableFailure { error, is_transient: false });
        }
        self.range = Some(found);
        self.doubt = None;
        Ok(found)
    }

    /// Tries once to append `body`. `tried` are the batches that there would be if an earlier attempt had succeeded unseen.
    async fn attempt(&mut self, body: &[u8], tried: &mut Option<BatchRange>) -> Result<(), TableFailure> {
        let range = self.range().await?;
        if *tried == Some(range) {
            return Ok(());
        }
        let longer = BatchRange { last: range.last + 1, ..range };
        self.doubt = Some(longer);
        *tried = Some(longer);
        self.tables.append(longer.last, body).await?;
        self.range = Some(longer);
        self.doubt = None;
        Ok(())
    }

    /// Writes the batches of a compaction. Also returns the digest of each.
    async fn write_all(
        &mut self,
        from: i64,
        records: &mut (dyn Iterator<Item = Record> + Send),
    ) -> Result<(Replayed, Vec<Digest>), TableFailure> {
        let mut written = Replayed::default();
        let mut batches = Vec::new();
        let mut encoder = Encoder::default();
        loop {
            let record = records.next();
            let ended = record.is_none();
            if let Some(record) = record {
                encoder
                    .push_proven(&record)
                    .map_err(|e| TableFailure { error: self.encoding(e), is_transient: false })?;
            }
            if encoder.records() > 0 && (ended || encoder.bytes() >= BATCH_BYTES) {
                written.records += encoder.records();
                let body = encoder.finish();
                batches.push(Digest::of(&body));
                self.tables.insert(from + written.batches as i64, &body).await?;
                written.batches += 1;
            }
            if ended {
                return Ok((written, batches));
            }
        }
    }

    /// Reads a compaction back, as a coordinator that starts would.
    async fn read_back(
        &mut self,
        range: BatchRange,
        batches: Vec<Digest>,
        reader: Box<dyn SnapshotReader>,
    ) -> Result<(), TableFailure> {
        let mut reading = ReadBack { first: range.first, next: range.first, batches, reader };
        loop {
            let page = self.tables.read(reading.next).await?;
            let ended = page.is_empty();
            // Decoding and replaying would block an async thread.
            let read = tokio::task::spawn_blocking(move || {
                if ended {
                    reading.end()?
                } else {
                    reading.page(page)?
                }
                Ok(reading)
            });
            // A panic means that the records cannot be read.
            let read = read.await.unwrap_or_else(|error| Err(error.to_string()));
            let journal = self.tables.name();
            let unread = |why| TableFailure {
                error: JournalError::ReadBack { journal: journal.to_owned(), why },
                is_transient: false,
            };
            reading = read.map_err(unread)?;
            if ended {
                return Ok(());
            }
        }
    }

    async fn rewrite(
        &mut self,
        records: &mut (dyn Iterator<Item = Record> + Send),
        reader: Box<dyn SnapshotReader>,
    ) -> Result<Replayed, TableFailure> {
        let old = self.range().await?;
        self.doubt = Some(old);
        self.tables.begin().await?;
        let first = old.last + 1;
        let (written, batches) = self.write_all(first, records).await?;
        let new = BatchRange { first, last: old.last + written.batches as i64 };
        self.read_back(new, batches, reader).await?;
        self.doubt = Some(new);
        self.tables.replace(new).await?;
        self.range = Some(new);
        self.doubt = None;
        Ok(written)
    }
}

/// A compaction that is being read back.
struct ReadBack {
    first: i64,
    /// The number of the next batch.
    next: i64,
    /// The digests of the batches that were written.
    batches: Vec<Digest>,
    reader: Box<dyn SnapshotReader>,
}

impl ReadBack {
    fn page(&mut self, page: Vec<(i64, Vec<u8>)>) -> Result<(), String> {
        for (number, body) in page {
            let written = self.batches.get((self.next - self.first) as usize);
            if number != self.next || written != Some(&Digest::of(&body)) {
                return Err(format!("its batch {} is missing or differs", self.next));
            }
            for record in decode(&body).map_err(|damage| format!("its batch {number} is damaged: {damage}"))? {
                self.reader.record(record)?;
            }
            self.next += 1;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        let read = (self.next - self.first) as usize;
        if read < self.batches.len() {
            return Err(format!("its batch {} is missing", self.next));
        }
        self.reader.end()
    }
}

impl<T: Tables> Ledger<T> {
    /// Reports a failure: in the log once, and to the receivers of `faults` until an attempt succeeds.
    fn failed(&self, error: &JournalError, wait: Duration) {
        let reason: Arc<str> = error.reason().into();
        let is_known = self.fault.send_replace(Some(reason.clone())).is_some_and(|known| known == reason);
        if is_known {
            debug!(%error, "the journal still cannot be written to; retrying in {wait:.2?}");
        } else {
            warn!(%error, "the journal cannot be written to; retrying in {wait:.2?}");
        }
    }
}

impl<T: Tables> Journal for Ledger<T> {
    fn name(&self) -> &str {
        self.tables.name()
    }

    async fn identity(&mut self) -> Result<JournalIdentity, JournalError> {
        let range = self.range().await.map_err(|failure| failure.error)?;
        let id = self.tables.id(&uuid::Uuid::new_v4().to_string()).await.map_err(|failure| failure.error)?;
        Ok(JournalIdentity { id, batches: range.last.max(0).cast_unsigned() })
    }

    fn faults(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.fault.subscribe()
    }

    async fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        if records.is_empty() {
            return Ok(());
        }
        let mut encoder = Encoder::default();
        records.iter().try_for_each(|record| encoder.push(record)).map_err(|source| self.encoding(source))?;
        let body = encoder.finish();
        let started = Instant::now();
        let mut wait = FIRST_WAIT;
        let mut tried = None;
        let mut failures = 0;
        loop {
            let failure = match self.attempt(&body, &mut tried).await {
                Ok(()) if failures == 0 => return Ok(()),
                Ok(()) => {
                    self.fault.send_replace(None);
                    let seconds = started.elapsed().as_secs_f64();
                    info!(journal = self.tables.name(), failures, seconds, "the journal can be written to again");
                    return Ok(());
                }
                Err(failure) => failure,
            };
            if !failure.is_transient {
                return Err(failure.error);
            }
            if started.elapsed() + wait > self.patience {
                let seconds = self.patience.as_secs_f64();
                let last = Box::new(failure.error);
                return Err(JournalError::Patience { seconds, last });
            }
            failures += 1;
            self.failed(&failure.error, wait);
            tokio::time::sleep(wait).await;
            wait = (2 * wait).min(LONGEST_WAIT);
        }
    }

    async fn replay(&mut self, apply: &mut (dyn FnMut(Record) + Send)) -> Result<Replayed, JournalError> {
        let range = self.range().await.map_err(|failure| failure.error)?;
        let journal = self.tables.name().to_owned();
        let missing = |number| JournalError::Missing { journal: journal.clone(), number };
        let surplus = |number| JournalError::Surplus { journal: journal.clone(), number, last: range.last };
        // All batches are read, not only those that the head names: a damaged head must not hide a batch.
        let mut replayed = Replayed::default();
        let mut next = range.first;
        let mut from = i64::MIN;
        loop {
            let page = self.tables.read(from).await.map_err(|failure| failure.error)?;
            if page.is_empty() {
                return if next > range.last { Ok(replayed) } else { Err(missing(next)) };
            }
            for (number, body) in page {
                if number < next || next > range.last {
                    return Err(surplus(number));
                }
                if number > next {
                    return Err(missing(next));
                }
                let damaged = |damage| JournalError::Damaged { journal: journal.clone(), number, damage };
                let records = decode(&body).map_err(damaged)?;
                replayed.records += records.len() as u64;
                replayed.batches += 1;
                records.into_iter().for_each(&mut *apply);
                next += 1;
            }
            from = next;
        }
    }

    async fn compact(
        &mut self,
        records: &mut (dyn Iterator<Item = Record> + Send),
        reader: Box<dyn SnapshotReader>,
    ) -> Result<Replayed, JournalError> {
        let rewritten = self.rewrite(records, reader).await;
        if rewritten.is_err() {
            // The transaction is rolled back now if possible, and else before the next append.
            drop(self.range().await);
        }
        rewritten.map_err(|failure| failure.error)
    }
}

#[cfg(test)]
impl<T> Ledger<T> {
    pub(super) fn tables(&mut self) -> &mut T {
        &mut self.tables
    }
}
