//! The journal: an append-only list of records, durable before anyone is told of what they say.
//!
//! What is appended together is one batch, one row and one commit ([`codec`]). Two places hold rows: a SQLite file
//! ([`sqlite`]) and a PostgreSQL database ([`postgres`]); which rows are written when, and what is done when that fails, is
//! written once, in [`ledger`]. Deliberately absent: reading what others write, for a journal has one coordinator at a time.

pub mod codec;
mod ledger;
mod mark;
mod place;
mod postgres;
mod sqlite;
#[cfg(test)]
mod tests;
mod wal;

pub(crate) use place::ACCEPTED;
pub use place::JournalUrl;
pub use wal::WalDamage;

use codec::{Damage, Unwritable};
use ledger::Ledger;
use nadgrid_core::scheduler::{Record, Replica};
use place::Place;
use postgres::Postgres;
use serde::{Deserialize, Serialize};
use sqlite::Sqlite;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::watch;

/// Layout of the tables. An older journal is migrated when it is opened, a newer one is refused.
const VERSION: i64 = 2;

/// Records go in in order and come back in order.
pub trait Journal: Send {
    /// What to call it in messages, without its password.
    fn name(&self) -> &str;

    /// Which journal it is, and how long.
    fn identity(&mut self) -> impl Future<Output = Result<JournalIdentity, JournalError>> + Send;

    /// Why it cannot write at present, while it tries again; nothing when it has not failed.
    fn faults(&self) -> watch::Receiver<Option<Arc<str>>>;

    /// Appends records, all or none; returns when they are durable. What fails for a passing reason (a full disk, a database
    /// that restarts) is tried again until the journal's patience ends.
    fn append(&mut self, records: &[Record]) -> impl Future<Output = Result<(), JournalError>> + Send;

    /// Gives every record to `apply`, oldest first, a few batches at a time.
    fn replay(
        &mut self,
        apply: &mut (dyn FnMut(Record) + Send),
    ) -> impl Future<Output = Result<Replayed, JournalError>> + Send;

    /// Replaces all that was appended by these records, at once: whatever happens, either the old ones or the new ones are
    /// there. Before they replace anything they are read back, byte for byte what was written, and given to `reader`, off the
    /// async threads. After an error the old ones are there, or a coordinator that starts would settle it, and the journal can
    /// still be appended to.
    fn compact(
        &mut self,
        records: &mut (dyn Iterator<Item = Record> + Send),
        reader: Box<dyn SnapshotReader>,
    ) -> impl Future<Output = Result<Replayed, JournalError>> + Send;
}

/// Who looks at a compacted journal before it replaces the old one.
pub trait SnapshotReader: Send + 'static {
    /// Takes the next record, as it was read back.
    ///
    /// # Errors
    /// What is wrong with those that came so far.
    fn record(&mut self, record: Record) -> Result<(), String>;

    /// There are no more.
    ///
    /// # Errors
    /// What is wrong with them.
    fn end(&mut self) -> Result<(), String>;
}

/// Looks at nothing: what is read back is compared with what was written all the same.
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

/// Which journal it is, wherever it is moved to, and how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalIdentity {
    /// Made with the journal, and no other's.
    pub id: String,
    /// How many batches were ever appended; it never falls.
    pub batches: u64,
}

/// How much a journal holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Its records.
    pub records: u64,
    /// Its batches.
    pub batches: u64,
}

/// The journal cannot be used. Every message names the journal, without its password.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The URL names no journal.
    #[error("the journal's URL: {why}; accepted: {ACCEPTED}")]
    Url {
        /// What went wrong.
        why: String,
    },
    /// The database's own error; a second coordinator on the same SQLite file is one ("database is locked").
    #[error("the journal {journal} cannot be used: {source}")]
    Database {
        /// The journal's name.
        journal: String,
        /// What the database says.
        source: sqlx::Error,
    },
    /// It did not answer in time.
    #[error("the journal {journal} does not answer")]
    Silent {
        /// The journal's name.
        journal: String,
    },
    /// Another coordinator has it.
    #[error("the journal {journal} is in use by another coordinator; one at a time may run on it")]
    Held {
        /// The journal's name.
        journal: String,
    },
    /// Another coordinator has had it since.
    #[error("the journal {journal} was taken over by another coordinator: this one may not write to it any more")]
    TakenOver {
        /// The journal's name.
        journal: String,
    },
    /// The fault did not pass in time.
    #[error("{last}; tried for {seconds} s")]
    Patience {
        /// For how long.
        seconds: f64,
        /// What was said last.
        last: Box<JournalError>,
    },
    /// Written by another release.
    #[error("the journal {journal} has version {found}, this coordinator reads versions up to {VERSION}")]
    Version {
        /// The journal's name.
        journal: String,
        /// Its version.
        found: i64,
    },
    /// A batch that is not what was written.
    #[error("batch {number} of the journal {journal} is damaged: {damage}")]
    Damaged {
        /// The journal's name.
        journal: String,
        /// The number of the batch.
        number: i64,
        /// What is wrong with it.
        damage: Damage,
    },
    /// A batch that is not there.
    #[error("batch {number} of the journal {journal} is missing")]
    Missing {
        /// The journal's name.
        journal: String,
        /// The number of the batch.
        number: i64,
    },
    /// A batch that the journal does not name.
    #[error(
        "the journal {journal} has a batch {number}, and its head says that it ends at {last} or begins later: the head is damaged"
    )]
    Surplus {
        /// The journal's name.
        journal: String,
        /// The number of the batch.
        number: i64,
        /// Where it ends, by its head.
        last: i64,
    },
    /// SQLite's log is damaged: SQLite would leave out what was acknowledged, and say nothing.
    #[error(
        "the log {file} of the journal {journal} is damaged: {damage}. Restore the journal from a backup; or move {file} and \
         {journal}-mark away, and the coordinator starts with what is in {journal}, without all that the log holds"
    )]
    Log {
        /// The journal's name.
        journal: String,
        /// The path of the log.
        file: String,
        /// What is wrong with it.
        damage: WalDamage,
    },
    /// The journal ends sooner than it did.
    #[error(
        "the journal {journal} ends with batch {last}, and batch {marked} was acknowledged, says {mark}: the last batches are lost, \
         or these are not the files that were here. Restore the journal's files; or remove {mark}, and the coordinator starts \
         with what is there"
    )]
    Shorter {
        /// The journal's name.
        journal: String,
        /// Its last batch.
        last: i64,
        /// The last batch that was acknowledged.
        marked: i64,
        /// The file that says so.
        mark: String,
    },
    /// A file beside the journal cannot be read.
    #[error("{file}, beside the journal {journal}, cannot be read: {source}")]
    File {
        /// The journal's name.
        journal: String,
        /// The path of that file.
        file: String,
        /// What went wrong.
        source: std::io::Error,
    },
    /// A compacted journal that is not what was written, or does not lead to the same state. The old one stays.
    #[error("the compacted journal {journal} would not be read as it was written, and the old one is kept: {why}")]
    ReadBack {
        /// The journal's name.
        journal: String,
        /// What went wrong.
        why: String,
    },
    /// A record of a journal of version 1 that cannot be read.
    #[error("record {number} of the journal {journal} cannot be read: {source}")]
    Record {
        /// The journal's name.
        journal: String,
        /// The number of the record.
        number: i64,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A record that cannot be written. Appending it ends the coordinator: the state in memory has it, and cannot be kept.
    #[error("the journal {journal} cannot hold a record: {source}")]
    Encode {
        /// The journal's name.
        journal: String,
        /// What went wrong.
        source: Unwritable,
    },
}

impl JournalError {
    /// What is wrong, without the journal's name.
    fn reason(&self) -> String {
        match self {
            Self::Database { source: sqlx::Error::Database(error), .. } => error.message().to_owned(),
            Self::Database { source, .. } => source.to_string(),
            Self::Silent { .. } => "it does not answer".to_owned(),
            other => other.to_string(),
        }
    }
}

/// A journal in either place, held exclusively.
pub struct AnyJournal(Inner);

enum Inner {
    Sqlite(Ledger<Sqlite>),
    Postgres(Box<Ledger<Postgres>>),
}

/// Opens or creates the journal that `url` names, in `data` unless it says otherwise. `patience` is how long an append is
/// tried again.
///
/// # Errors
/// [`JournalError`] when it cannot be opened, is held by another coordinator or was written by a newer release.
pub async fn open(url: &JournalUrl, data: &Path, patience: Duration) -> Result<AnyJournal, JournalError> {
    let place = url.place(data)?;
    let name = place.to_string();
    Ok(AnyJournal(match place {
        Place::Sqlite(path) => Inner::Sqlite(Ledger::new(Sqlite::open(&path).await?, patience)),
        Place::Postgres(options) => {
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
