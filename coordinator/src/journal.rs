//! The journal: an append-only list of records, durable before anyone is told of what they say.

use nadgrid_core::scheduler::Record;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Row, SqliteConnection};
use std::future::Future;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Layout of the tables. A journal of another version is refused.
const VERSION: i64 = 1;

/// Records go in in order and come back in order. `append` returns only when all of them are durable.
pub trait Journal: Send {
    /// Appends records, all or none.
    fn append(&mut self, records: &[Record]) -> impl Future<Output = Result<(), JournalError>> + Send;

    /// Every record, oldest first.
    fn replay(&mut self) -> impl Future<Output = Result<Vec<Record>, JournalError>> + Send;
}

/// The journal cannot be used.
#[derive(Debug, Error)]
pub enum JournalError {
    /// SQLite's own error; a second coordinator on the same folder is one ("database is locked").
    #[error("the journal {path} cannot be used: {source}", path = path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: sqlx::Error,
    },
    /// Written by another release.
    #[error("the journal {path} has version {found}, this coordinator reads version {VERSION}", path = path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// A record that cannot be read.
    #[error("record {number} of the journal {path} cannot be read: {source}", path = path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Which record.
        number: i64,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// A journal in one SQLite file, held exclusively.
pub struct SqliteJournal {
    path: PathBuf,
    pool: SqlitePool,
}

impl SqliteJournal {
    /// Opens or creates the journal at `path`.
    ///
    /// # Errors
    /// [`JournalError`] when it cannot be opened, is held by another process or has another version.
    pub async fn open(path: &Path) -> Result<Self, JournalError> {
        let failed = |source| JournalError::Sqlite { path: path.to_owned(), source };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .locking_mode(SqliteLockingMode::Exclusive)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(std::time::Duration::from_millis(500));
        // One connection: the desk is the only writer, and the lock is the connection's.
        let pool = SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
        let pool = pool.connect_with(options).await.map_err(failed)?;
        let mut connection = pool.acquire().await.map_err(failed)?;
        let found = create(&mut connection).await.map_err(failed)?;
        drop(connection);
        if found != VERSION {
            return Err(JournalError::Version { path: path.to_owned(), found });
        }
        Ok(Self { path: path.to_owned(), pool })
    }

    fn failed(&self, source: sqlx::Error) -> JournalError {
        JournalError::Sqlite { path: self.path.clone(), source }
    }

    async fn insert(&self, bodies: &[String]) -> Result<(), sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        for body in bodies {
            sqlx::query("INSERT INTO records (body) VALUES (?)").bind(body).execute(&mut *transaction).await?;
        }
        transaction.commit().await
    }
}

/// Makes the tables if they are not there; returns the journal's version.
async fn create(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    let tables = "CREATE TABLE IF NOT EXISTS journal (version INTEGER NOT NULL);
        CREATE TABLE IF NOT EXISTS records (number INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);
        INSERT INTO journal (version) SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM journal);";
    sqlx::raw_sql(tables).execute(&mut *connection).await?;
    sqlx::query_scalar("SELECT version FROM journal").fetch_one(connection).await
}

impl Journal for SqliteJournal {
    async fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        if records.is_empty() {
            return Ok(());
        }
        let bodies: Result<Vec<String>, _> = records.iter().map(serde_json::to_string).collect();
        let bodies = bodies.map_err(|source| JournalError::Record { path: self.path.clone(), number: -1, source })?;
        self.insert(&bodies).await.map_err(|source| self.failed(source))
    }

    async fn replay(&mut self) -> Result<Vec<Record>, JournalError> {
        let rows = sqlx::query("SELECT number, body FROM records ORDER BY number").fetch_all(&self.pool).await;
        let rows = rows.map_err(|source| self.failed(source))?;
        let read = |row: sqlx::sqlite::SqliteRow| {
            let (number, body): (i64, String) = (row.get(0), row.get(1));
            serde_json::from_str(&body).map_err(|source| JournalError::Record {
                path: self.path.clone(),
                number,
                source,
            })
        };
        rows.into_iter().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nadgrid_core::ids::{SweepId, Time};
    use nadgrid_core::scheduler::Outcome;

    fn ended(number: u64) -> Record {
        let outcome = Outcome::Failed { message: format!("no {number}") };
        Record::Ended { sweep: SweepId::new(number.to_string()), outcome, at: Time(number) }
    }

    #[tokio::test]
    async fn records_come_back_in_order_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.sqlite");
        let mut journal = SqliteJournal::open(&path).await.unwrap();
        journal.append(&[ended(1), ended(2)]).await.unwrap();
        journal.append(&[]).await.unwrap();
        journal.append(&[ended(3)]).await.unwrap();
        journal.pool.close().await;
        let mut journal = SqliteJournal::open(&path).await.unwrap();
        assert_eq!(journal.replay().await.unwrap(), [ended(1), ended(2), ended(3)]);
    }

    #[tokio::test]
    async fn a_journal_in_use_of_another_version_or_unreadable_is_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.sqlite");
        let mut journal = SqliteJournal::open(&path).await.unwrap();
        journal.append(&[ended(1)]).await.unwrap();
        let second = SqliteJournal::open(&path).await.err().unwrap().to_string();
        assert!(second.contains("locked") && second.contains("journal.sqlite"), "{second}");
        sqlx::query("UPDATE records SET body = '{}'").execute(&journal.pool).await.unwrap();
        let unreadable = journal.replay().await.unwrap_err().to_string();
        assert!(unreadable.contains("record 1"), "{unreadable}");
        sqlx::query("UPDATE journal SET version = 9").execute(&journal.pool).await.unwrap();
        journal.pool.close().await;
        let version = SqliteJournal::open(&path).await.err().unwrap().to_string();
        assert!(version.contains("version 9"), "{version}");
    }
}
