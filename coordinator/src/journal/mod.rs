//! The journal: an append-only list of records, which are durable before their effects are visible to anyone.
//!
//! Records that are appended together are one batch, one row and one commit ([`codec`]). Rows are stored in a SQLite file
//! ([`sqlite`]) or a PostgreSQL database ([`postgres`]); which rows are written when, and how failures are handled, is the
//! same for both ([`ledger`]). Deliberately absent: reading what others write, since a journal has one coordinator at a time.

pub mod codec;
mod ledger;
mod mark;
mod postgres;
mod sqlite;
mod target;
#[cfg(test)]
mod tests;
mod wal;

pub(crate) use target::ACCEPTED;
pub use target::JournalUrl;
pub use wal::WalDamage;

use codec::{Damage, Unwritable};
use ledger::Ledger;
use nadgrid_core::scheduler::{Record, Replica};
use postgres::Postgres;
use serde::{Deserialize, Serialize};
use sqlite::Sqlite;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use target::JournalTarget;
use thiserror::Error;
use tokio::sync::watch;

/// The version of the tables. An older journal is migrated when it is opened, a newer one is refused.
const VERSION: i64 = 2;

/// A durable list of records. They are read in the order in which they were appended.
pub trait Journal: Send {
    /// The journal's name in messages, without its password.
    fn name(&self) -> &str;

    /// Identifies the journal and says how long it is.
    fn identity(&mut self) -> impl Future<Output = Result<JournalIdentity, JournalError>> + Send;

    /// Reports why the journal cannot write now, while it retries; `None` if it has not failed.
    fn faults(&self) -> watch::Receiver<Option<Arc<str>>>;

    /// Appends records, all or none, and returns when they are durable. Transient failures (a full disk, a database that
    /// restarts) are retried until the journal's patience ends.
    fn append(&mut self, records: &[Record]) -> impl Future<Output = Result<(), JournalError>> + Send;

    /// Passes every record to `apply`, oldest first, a few batches at a time.
    fn replay(
        &mut self,
        apply: &mut (dyn FnMut(Record) + Send),
    ) -> impl Future<Output = Result<Replayed, JournalError>> + Send;

    /// Replaces the whole journal by these records atomically: whatever happens, either the old ones or the new ones are
    /// there. Before they replace anything they are read back, compared byte for byte and passed to `reader`, off the async
    /// threads. After an error the journal can still be appended to; it has the old records, or the next start finds out
    /// which it has.
    fn compact(
        &mut self,
        records: &mut (dyn Iterator<Item = Record> + Send),
        reader: Box<dyn SnapshotReader>,
    ) -> impl Future<Output = Result<Replayed, JournalError>> + Send;
}

/// Checks a compacted journal before it replaces the old one.
pub trait SnapshotReader: Send + 'static {
    /// Checks the next record, as it was read back.
    ///
    /// # Errors
    /// Describes what is wrong with the records so far.
    fn record(&mut self, record: Record) -> Result<(), String>;

    /// Checks the records as a whole, after the last one.
    ///
    /// # Errors
    /// Describes what is wrong with them.
    fn end(&mut self) -> Result<(), String>;
}

/// `()` accepts every record; the bytes are compared nevertheless.
impl SnapshotReader for () {
    fn record(&mut self, _: Record) -> Result<(), String> {
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }
}

impl SnapshotReader for Replica {
    fn record(&mut self, record: Record) -> Result<(), String> {
        self.replay(record).map_err(|difference| difference.to_string())
    }

    fn end(&mut self) -> Result<(), String> {
        Self::end(self).map_err(|difference| difference.to_string())
    }
}

/// Identifies a journal, wherever it is moved, and says how long it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalIdentity {
    /// The id that was created with the journal and that no other has.
    pub id: String,
    /// The number of batches ever appended, which never decreases.
    pub batches: u64,
}

/// The size of a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// The number of its records.
    pub records: u64,
    /// The number of its batches.
    pub batches: u64,
}

/// The journal cannot be used. Every message names the journal, without its password.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The URL is not one of a journal.
    #[error("the journal's URL: {why}; accepted: {ACCEPTED}")]
    Url {
        /// The reason why the URL is refused.
        why: String,
    },
    /// The database failed. A second coordinator on the same SQLite file gets this error, too ("database is locked").
    #[error("the journal {journal} cannot be used: {source}")]
    Database {
        /// The journal's name.
        journal: String,
        /// The database's error.
        source: sqlx::Error,
    },
    /// The database did not answer in time.
    #[error("the journal {journal} does not answer")]
    Silent {
        /// The journal's name.
        journal: String,
    },
    /// Another coordinator uses the journal.
    #[error("the journal {journal} is in use by another coordinator; only one at a time can use it")]
    Held {
        /// The journal's name.
        journal: String,
    },
    /// Another coordinator has used the journal in the meantime.
    #[error("the journal {journal} was taken over by another coordinator; this one can no longer write to it")]
    TakenOver {
        /// The journal's name.
        journal: String,
    },
    /// The failure lasted longer than the journal's patience.
    #[error("{last}; retried for {seconds} s")]
    Patience {
        /// The patience.
        seconds: f64,
        /// The last error.
        last: Box<JournalError>,
    },
    /// The journal was written by a newer release.
    #[error("the journal {journal} has version {found}; this coordinator reads versions up to {VERSION}")]
    Version {
        /// The journal's name.
        journal: String,
        /// Its version.
        found: i64,
    },
    /// A batch differs from what was written.
    #[error("batch {number} of the journal {journal} is damaged: {damage}")]
    Damaged {
        /// The journal's name.
        journal: String,
        /// The number of the batch.
        number: i64,
        /// The damage of the batch.
        damage: Damage,
    },
    /// A batch is missing.
    #[error("batch {number} of the journal {journal} is missing")]
    Missing {
        /// The journal's name.
        journal: String,
        /// The number of the batch.
        number: i64,
    },
    /// There is a batch outside the journal's head.
    #[error(
        "the journal {journal} has a batch {number}, but its head ends at {last} or begins later: the head is damaged"
    )]
    Surplus {
        /// The journal's name.
        journal: String,
        /// The number of the batch.
        number: i64,
        /// The last batch by the head.
        last: i64,
    },
    /// SQLite's log is damaged: SQLite would silently ignore acknowledged transactions.
    #[error(
        "the log {file} of the journal {journal} is damaged: {damage}. Restore the journal from a backup; or move {file} and \
         {journal}-mark away, and the coordinator starts with the content of {journal}, without that of the log"
    )]
    Log {
        /// The journal's name.
        journal: String,
        /// The path of the log.
        file: String,
        /// The damage of the log.
        damage: WalDamage,
    },
    /// The journal is shorter than it was.
    #[error(
        "the journal {journal} ends with batch {last}, but batch {marked} was acknowledged according to {mark}: the last batches \
         are lost, or the files were replaced. Restore the journal's files; or remove {mark}, and the coordinator starts with \
         the batches that are left"
    )]
    Shorter {
        /// The journal's name.
        journal: String,
        /// Its last batch.
        last: i64,
        /// The last batch that was acknowledged.
        marked: i64,
        /// The file that records the acknowledged batch.
        mark: String,
    },
    /// A file beside the journal cannot be read.
    #[error("{file}, beside the journal {journal}, cannot be read: {source}")]
    File {
        /// The journal's name.
        journal: String,
        /// The path of that file.
        file: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// A compacted journal differs from what was written, or leads to another state. The old one stays.
    #[error("the compacted journal {journal} could not be read back, so the old one is kept: {why}")]
    ReadBack {
        /// The journal's name.
        journal: String,
        /// The difference.
        why: String,
    },
    /// A record of a journal of version 1 cannot be read.
    #[error("record {number} of the journal {journal} cannot be read: {source}")]
    Record {
        /// The journal's name.
        journal: String,
        /// The number of the record.
        number: i64,
        /// The parser's error for this record.
        source: serde_json::Error,
    },
    /// A record cannot be written. That ends the coordinator, because its state in memory already contains the record.
    #[error("a record cannot be written to the journal {journal}: {source}")]
    Encode {
        /// The journal's name.
        journal: String,
        /// The reason why the record cannot be written.
        source: Unwritable,
    },
}

impl JournalError {
    /// The error without the journal's name.
    fn reason(&self) -> String {
        match self {
            Self::Database { source: sqlx::Error::Database(error), .. } => error.message().to_owned(),
            Self::Database { source, .. } => source.to_string(),
            Self::Silent { .. } => "it does not answer".to_owned(),
            other => other.to_string(),
        }
    }
}

/// A journal in SQLite or PostgreSQL, used exclusively.
pub struct AnyJournal(Inner);

enum Inner {
    Sqlite(Ledger<Sqlite>),
    Postgres(Box<Ledger<Postgres>>),
}

/// Opens or creates the journal that `url` names, by default a file in `data`. `patience` is how long a failed append is
/// retried.
///
/// # Errors
/// [`JournalError`] if it cannot be opened, is in use by another coordinator or was written by a newer release.
pub async fn open(url: &JournalUrl, data: &Path, patience: Duration) -> Result<AnyJournal, JournalError> {
    let target = url.target(data)?;
    let name = target.to_string();
    Ok(AnyJournal(match target {
        JournalTarget::Sqlite(path) => Inner::Sqlite(Ledger::new(Sqlite::open(&path).await?, patience)),
        JournalTarget::Postgres(options) => {
            Inner::Postgres(Box::new(Ledger::new(Postgres::open(name, *options).await?, patience)))
        }
    }))
}

impl Journal for AnyJournal {
    fn name(&self) -> &str {
        match &self.0 {
            Inner::Sqlite(journal) => journal.name(),
            Inner::Postgres(journal) => journal.name(),
        }
    }

    async fn identity(&mut self) -> Result<JournalIdentity, JournalError> {
        match &mut self.0 {
            Inner::Sqlite(journal) => journal.identity().await,
            Inner::Postgres(journal) => journal.identity().await,
        }
    }

    fn faults(&self) -> watch::Receiver<Option<Arc<str>>> {
        match &self.0 {
            Inner::Sqlite(journal) => journal.faults(),
            Inner::Postgres(journal) => journal.faults(),
        }
    }

    async fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        match &mut self.0 {
            Inner::Sqlite(journal) => journal.append(records).await,
            Inner::Postgres(journal) => journal.append(records).await,
        }
    }

    async fn replay(&mut self, apply: &mut (dyn FnMut(Record) + Send)) -> Result<Replayed, JournalError> {
        match &mut self.0 {
            Inner::Sqlite(journal) => journal.replay(apply).await,
            Inner::Postgres(journal) => journal.replay(apply).await,
        }
    }

    async fn compact(
        &mut self,
        records: &mut (dyn Iterator<Item = Record> + Send),
        reader: Box<dyn SnapshotReader>,
    ) -> Result<Replayed, JournalError> {
        match &mut self.0 {
            Inner::Sqlite(journal) => journal.compact(records, reader).await,
            Inner::Postgres(journal) => journal.compact(records, reader).await,
        }
    }
}
