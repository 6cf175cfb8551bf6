//! The journal: an append-only list of records, durable before anyone is told of what they say.
//!
//! What is appended together is one batch, one row and one commit ([`codec`]). Two places hold rows: a SQLite file
//! ([`sqlite`]) and a PostgreSQL database ([`postgres`]); which rows are written when, and what is done when that fails, is
//! written once, in [`ledger`]. Deliberately absent: reading what others write, for a journal has one coordinator at a time.

pub mod codec;
mod ledger;
mod place;
mod postgres;
mod sqlite;
#[cfg(test)]
mod tests;

pub(crate) use place::ACCEPTED;
pub use place::JournalUrl;

use codec::Damage;
use ledger::Ledger;
use nadgrid_core::scheduler::Record;
use place::Place;
use postgres::Postgres;
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
    /// there. After an error the journal can still be appended to.
    fn compact(
        &mut self,
        records: &mut (dyn Iterator<Item = Record> + Send),
    ) -> impl Future<Output = Result<Replayed, JournalError>> + Send;
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
        /// Why.
        why: String,
    },
    /// The database's own error; a second coordinator on the same SQLite file is one ("database is locked").
    #[error("the journal {journal} cannot be used: {source}")]
    Database {
        /// Which.
        journal: String,
        /// What the database says.
        source: sqlx::Error,
    },
    /// It did not answer in time.
    #[error("the journal {journal} does not answer")]
    Silent {
        /// Which.
        journal: String,
    },
    /// Another coordinator has it.
    #[error("the journal {journal} is in use by another coordinator; one at a time may run on it")]
    Held {
        /// Which.
        journal: String,
    },
    /// Another coordinator has had it since.
    #[error("the journal {journal} was taken over by another coordinator: this one may not write to it any more")]
    TakenOver {
        /// Which.
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
        /// Which.
        journal: String,
        /// Its version.
        found: i64,
    },
    /// A batch that is not what was written.
    #[error("batch {number} of the journal {journal} is damaged: {damage}")]
    Damaged {
        /// Which.
        journal: String,
        /// Which batch.
        number: i64,
        /// What is wrong with it.
        damage: Damage,
    },
    /// A batch that is not there.
    #[error("batch {number} of the journal {journal} is missing")]
    Missing {
        /// Which.
        journal: String,
        /// Which batch.
        number: i64,
    },
    /// A record of a journal of version 1 that cannot be read.
    #[error("record {number} of the journal {journal} cannot be read: {source}")]
    Record {
        /// Which.
        journal: String,
        /// Which record.
        number: i64,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A record that cannot be written.
    #[error("a record for the journal {journal} cannot be written as JSON: {source}")]
    Encode {
        /// Which.
        journal: String,
        /// Why.
        source: serde_json::Error,
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

    async fn compact(&mut self, records: &mut (dyn Iterator<Item = Record> + Send)) -> Result<Replayed, JournalError> {
        match &mut self.0 {
            Inner::Sqlite(journal) => journal.compact(records).await,
            Inner::Postgres(journal) => journal.compact(records).await,
        }
    }
}
