//! Which rows are written when, whatever database holds them.
//!
//! Batches are numbered without a gap, and a head row says which numbers are there. So an append whose outcome is unknown
//! (the connection broke, the disk was full) is settled by looking at the head: it is there, or it is not and goes again
//! under the same number. Nothing is written twice and nothing is lost.
//!
//! What replaces other batches is read back first, in the same transaction: what cannot be read must not take the place of
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

/// Batches that are read at once.
pub(super) const PAGE: i64 = 16;
/// Size of the batches of a compacted journal.
pub(super) const BATCH_BYTES: usize = 1 << 18;
/// Waits between attempts.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// The numbers of the batches that are there: `first..=last`, none when `last` is below `first`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: i64,
    pub(super) last: i64,
}

/// An attempt that failed.
pub(super) struct Failure {
    pub(super) error: JournalError,
    /// Whether trying again may help.
    pub(super) passing: bool,
}

/// What the rows are kept in.
pub(super) trait Tables: Send {
    /// What to call it in messages.
    fn name(&self) -> &str;

    /// The journal's id; a journal that has none yet takes `new`.
    fn id(&mut self, new: &str) -> impl Future<Output = Result<String, Failure>> + Send;

    /// Ready again after a failure, still this coordinator's own; says what is there.
    fn recover(&mut self) -> impl Future<Output = Result<Span, Failure>> + Send;

    /// Writes one batch and the head, durably. Its number is the one after the last.
    fn append(&mut self, number: i64, body: &[u8]) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Up to [`PAGE`] batches from this number on, in order.
    fn read(&mut self, from: i64) -> impl Future<Output = Result<Vec<(i64, Vec<u8>)>, Failure>> + Send;

    /// Begins a compaction. Nothing of it is seen before `replace`.
    fn begin(&mut self) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Writes a batch of the compaction.
    fn insert(&mut self, number: i64, body: &[u8]) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Ends the compaction: what is not in `span` is removed.
    fn replace(&mut self, span: Span) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// A journal in some tables.
pub(super) struct Ledger<T> {
    tables: T,
    span: Option<Span>,
    /// What would be there if the last change, of which this is not known, had been made.
    doubt: Option<Span>,
    patience: Duration,
    /// Why the last attempt failed, until one succeeds.
    fault: watch::Sender<Option<Arc<str>>>,
}

impl<T: Tables> Ledger<T> {
    pub(super) fn new(tables: T, patience: Duration) -> Self {
        Self { tables, span: None, doubt: None, patience, fault: watch::Sender::new(None) }
    }

    fn encoding(&self, source: Unwritable) -> JournalError {
        JournalError::Encode { journal: self.tables.name().to_owned(), source }
    }

    /// What is there. After a failure, and at first, the tables are asked.
    async fn span(&mut self) -> Result<Span, Failure> {
        if let (Some(span), None) = (self.span, self.doubt) {
            return Ok(span);
        }
        let found = self.tables.recover().await?;
        if self.span.is_some_and(|span| found != span && Some(found) != self.doubt) {
            let error = JournalError::TakenOver { journal: self.tables.name().to_owned() };
            return Err(Failure { error, passing: false });
        }
        (self.span, self.doubt) = (Some(found), None);
        Ok(found)
    }

    /// One attempt to append `body`. `tried` is what would be there if an earlier attempt had succeeded unseen.
    async fn attempt(&mut self, body: &[u8], tried: &mut Option<Span>) -> Result<(), Failure> {
        let span = self.span().await?;
        if *tried == Some(span) {
            return Ok(());
        }
        let longer = Span { last: span.last + 1, ..span };
        (self.doubt, *tried) = (Some(longer), Some(longer));
        self.tables.append(longer.last, body).await?;
        (self.span, self.doubt) = (Some(longer), None);
        Ok(())
    }

    /// Writes the batches of a compaction; also returns a digest of each.
    async fn write_all(
        &mut self,
        from: i64,
        records: &mut (dyn Iterator<Item = Record> + Send),
    ) -> Result<(Replayed, Vec<Digest>), Failure> {
        let (mut written, mut batches) = (Replayed::default(), Vec::new());
        let mut encoder = Encoder::default();
        loop {
            let record = records.next();
            let ended = record.is_none();
            if let Some(record) = record {
                encoder.push_proven(&record).map_err(|e| Failure { error: self.encoding(e), passing: false })?;
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

    /// Reads what was written of a compaction, as a coordinator that starts would.
    async fn read_back(
        &mut self,
        span: Span,
        batches: Vec<Digest>,
        reader: Box<dyn SnapshotReader>,
    ) -> Result<(), Failure> {
        let mut reading = ReadBack { first: span.first, next: span.first, batches, reader };
        loop {
            let page = self.tables.read(reading.next).await?;
            let ended = page.is_empty();
            // Decoding and replaying are no work for an async thread.
            let read = tokio::task::spawn_blocking(move || match ended {
                true => reading.end().map(|()| reading),
                false => reading.page(page).map(|()| reading),
            });
            // One that panicked has not shown that the records can be read.
            let read = read.await.unwrap_or_else(|error| Err(error.to_string()));
            let journal = self.tables.name();
            let unread =
                |why| Failure { error: JournalError::ReadBack { journal: journal.to_owned(), why }, passing: false };
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
    ) -> Result<Replayed, Failure> {
        let old = self.span().await?;
        self.doubt = Some(old);
        self.tables.begin().await?;
        let first = old.last + 1;
        let (written, batches) = self.write_all(first, records).await?;
        let new = Span { first, last: old.last + written.batches as i64 };
        self.read_back(new, batches, reader).await?;
        self.doubt = Some(new);
        self.tables.replace(new).await?;
        (self.span, self.doubt) = (Some(new), None);
        Ok(written)
    }
}

/// A compaction that is read back.
struct ReadBack {
    first: i64,
    /// The batch that comes next.
    next: i64,
    /// Digests of the batches that were written.
    batches: Vec<Digest>,
    reader: Box<dyn SnapshotReader>,
}

impl ReadBack {
    fn page(&mut self, page: Vec<(i64, Vec<u8>)>) -> Result<(), String> {
        for (number, body) in page {
            let written = self.batches.get((self.next - self.first) as usize);
            if number != self.next || written != Some(&Digest::of(&body)) {
                return Err(format!("batch {} of it is not there, or another", self.next));
            }
            for record in decode(&body).map_err(|damage| format!("batch {number} of it is damaged: {damage}"))? {
                self.reader.record(record)?;
            }
            self.next += 1;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        let read = (self.next - self.first) as usize;
        if read < self.batches.len() {
            return Err(format!("batch {} of it is missing", self.next));
        }
        self.reader.end()
    }
}

impl<T: Tables> Ledger<T> {
    /// Says what has failed: in the log once, and for as long as it fails to whoever wants to know.
    fn failed(&self, error: &JournalError, wait: Duration) {
        let reason: Arc<str> = error.reason().into();
        let known = self.fault.send_replace(Some(reason.clone())).is_some_and(|known| known == reason);
        match known {
            true => debug!(%error, "the journal still cannot be written to: trying again in {wait:.2?}"),
            false => warn!(%error, "the journal cannot be written to: trying again in {wait:.2?}"),
        }
    }
}

impl<T: Tables> Journal for Ledger<T> {
    fn name(&self) -> &str {
        self.tables.name()
    }

    async fn identity(&mut self) -> Result<JournalIdentity, JournalError> {
        let span = self.span().await.map_err(|failure| failure.error)?;
        let id = self.tables.id(&uuid::Uuid::new_v4().to_string()).await.map_err(|failure| failure.error)?;
        Ok(JournalIdentity { id, batches: span.last.max(0).cast_unsigned() })
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
        let (started, mut wait, mut tried, mut failures) = (Instant::now(), FIRST_WAIT, None, 0);
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
            if !failure.passing {
                return Err(failure.error);
            }
            if started.elapsed() + wait > self.patience {
                let (seconds, last) = (self.patience.as_secs_f64(), Box::new(failure.error));
                return Err(JournalError::Patience { seconds, last });
            }
            failures += 1;
            self.failed(&failure.error, wait);
            tokio::time::sleep(wait).await;
            wait = (2 * wait).min(LONGEST_WAIT);
        }
    }

    async fn replay(&mut self, apply: &mut (dyn FnMut(Record) + Send)) -> Result<Replayed, JournalError> {
        let span = self.span().await.map_err(|failure| failure.error)?;
        let journal = self.tables.name().to_owned();
        let missing = |number| JournalError::Missing { journal: journal.clone(), number };
        let surplus = |number| JournalError::Surplus { journal: journal.clone(), number, last: span.last };
        // All that is there is read, not what the head names alone: a head that is damaged must not hide a batch.
        let (mut replayed, mut next, mut from) = (Replayed::default(), span.first, i64::MIN);
        loop {
            let page = self.tables.read(from).await.map_err(|failure| failure.error)?;
            if page.is_empty() {
                return if next > span.last { Ok(replayed) } else { Err(missing(next)) };
            }
            for (number, body) in page {
                if number < next || next > span.last {
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
            // What was written of it is let go now, if that is possible, and else before the next append.
            drop(self.span().await);
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
