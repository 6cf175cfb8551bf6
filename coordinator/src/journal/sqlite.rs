//! The journal in a SQLite file, on one connection that holds the file's lock.
//!
//! SQLite itself does not notice a damaged log ([`wal`]), nor that a file was replaced by an older one ([`mark`]).

use super::codec::Encoder;
use super::ledger::{BATCH_BYTES, BatchRange, PAGE, TableFailure, Tables};
use super::mark::{self, Mark};
use super::wal::{self, WalDamage};
use super::{JournalError, VERSION};
use nadgrid_core::scheduler::Record;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteLockingMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Row};
use std::fs::File;
use std::io::{self, BufReader, ErrorKind};
use std::path::Path;
use std::time::Duration;
use tracing::{info, warn};

/// The time to wait for the lock: a coordinator that was just killed may still hold it.
const LOCK_WAIT: Duration = Duration::from_millis(500);
/// The number of reads of a log that seems damaged, and the wait between two reads: another coordinator may be writing
/// to it.
const LOG_READS: u32 = 3;
const LOG_WAIT: Duration = Duration::from_millis(20);
/// The number of records of a version 1 journal that are read at a time.
const MIGRATED_AT_ONCE: i64 = 1000;
/// SQLite's primary result codes for a full disk and a failing disk.
const TRANSIENT: [i32; 2] = [13, 10];

const TABLES: &str = "CREATE TABLE journal (version INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL);
    CREATE TABLE batches (number INTEGER PRIMARY KEY, body BLOB NOT NULL);
    INSERT INTO journal (version, first, last) VALUES (2, 1, 0);";

/// One string of statements, because each message to the connection's thread costs two wake-ups. If it fails,
/// [`Tables::recover`] ends the transaction.
const APPEND: &str = "BEGIN IMMEDIATE;
    INSERT INTO batches (number, body) VALUES (?, ?);
    UPDATE journal SET last = ?;
    COMMIT";

pub(super) struct Sqlite {
    name: String,
    pub(super) connection: SqliteConnection,
    /// `None` if the mark's file cannot be written.
    mark: Option<Mark>,
}

impl Sqlite {
    /// Opens or creates the file, and migrates it if necessary.
    pub(super) async fn open(path: &Path) -> Result<Self, JournalError> {
        let name = path.display().to_string();
        check_log(path, &name).await?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .locking_mode(SqliteLockingMode::Exclusive)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(LOCK_WAIT)
            .disable_statement_logging();
        let connection = options.connect().await;
        let connection = connection.map_err(|source| JournalError::Database { journal: name.clone(), source })?;
        let mut tables = Self { name, connection, mark: None };
        match tables.version().await? {
            None => tables.create().await?,
            Some(1) => tables.migrate().await?,
            Some(VERSION) => {}
            Some(found) => return Err(JournalError::Version { journal: tables.name, found }),
        }
        tables.compare_with_mark(path).await?;
        Ok(tables)
    }

    /// Fails if the journal ends before its mark; otherwise starts the mark.
    async fn compare_with_mark(&mut self, path: &Path) -> Result<(), JournalError> {
        let last = sqlx::query_scalar("SELECT last FROM journal").fetch_one(&mut self.connection).await;
        let last: i64 = last.map_err(|source| self.failed(source))?;
        let path = mark::path(path);
        let marked = mark::read(&path).map_err(|source| self.unmarked(&path, source))?;
        if let Some(marked) = marked.filter(|&marked| marked > last) {
            let journal = self.name.clone();
            let mark = path.display().to_string();
            return Err(JournalError::Shorter { journal, last, marked, mark });
        }
        match Mark::start(&path, last) {
            Ok(mark) => self.mark = Some(mark),
            Err(error) => {
                warn!(journal = self.name, %error, "the journal has no mark: the mark's file cannot be written")
            }
        }
        Ok(())
    }

    fn unmarked(&self, path: &Path, source: io::Error) -> JournalError {
        JournalError::File { journal: self.name.clone(), file: path.display().to_string(), source }
    }

    fn set_mark(&self, last: i64) {
        if let Some(mark) = &self.mark {
            mark.set(last);
        }
    }

    fn failed(&self, source: sqlx::Error) -> JournalError {
        JournalError::Database { journal: self.name.clone(), source }
    }

    fn failure(&self, source: sqlx::Error) -> TableFailure {
        let code = source.as_database_error().and_then(|error| error.code());
        let code = code.and_then(|code| code.parse::<i32>().ok());
        let is_transient = code.is_some_and(|code| TRANSIENT.contains(&(code & 0xff)));
        TableFailure { error: self.failed(source), is_transient }
    }

    async fn execute(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(sql).execute(&mut self.connection).await.map(drop)
    }

    /// The version of the tables; `None` for a new file.
    async fn version(&mut self) -> Result<Option<i64>, JournalError> {
        // Taking the write lock now makes a second coordinator fail here, rather than at its first append.
        let found = async {
            self.execute("BEGIN IMMEDIATE").await?;
            let tables = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'journal'";
            let tables: i64 = sqlx::query_scalar(tables).fetch_one(&mut self.connection).await?;
            let version = match tables {
                0 => None,
                _ => sqlx::query_scalar("SELECT version FROM journal").fetch_optional(&mut self.connection).await?,
            };
            self.execute("COMMIT").await?;
            Ok(version)
        };
        found.await.map_err(|source| self.failed(source))
    }

    async fn create(&mut self) -> Result<(), JournalError> {
        // Version 1 created its table and the row in two steps, so a crash between them left a table without a row.
        let made = async {
            self.execute("BEGIN IMMEDIATE; DROP TABLE IF EXISTS journal").await?;
            self.execute(TABLES).await?;
            self.execute("COMMIT").await
        };
        made.await.map_err(|source| self.failed(source))
    }

    /// Migrates version 1, which had a row for each record, in one transaction: a crash leaves the old journal.
    async fn migrate(&mut self) -> Result<(), JournalError> {
        info!(journal = self.name, "migrating the journal from version 1 to version {VERSION}");
        let begun = async {
            self.execute("BEGIN IMMEDIATE; DROP TABLE journal").await?;
            self.execute(TABLES).await
        };
        begun.await.map_err(|source| self.failed(source))?;
        let last = self.convert().await?;
        let ended = async {
            sqlx::query("UPDATE journal SET last = ?").bind(last).execute(&mut self.connection).await?;
            self.execute("DROP TABLE records; COMMIT").await
        };
        ended.await.map_err(|source| self.failed(source))?;
        self.shrink().await;
        Ok(())
    }

    /// Writes the rows of version 1 as batches. Returns the number of the last.
    async fn convert(&mut self) -> Result<i64, JournalError> {
        let mut after = i64::MIN;
        let mut last = 0;
        let mut encoder = Encoder::default();
        loop {
            let rows = "SELECT number, body FROM records WHERE number > ? ORDER BY number LIMIT ?";
            let rows = sqlx::query(rows).bind(after).bind(MIGRATED_AT_ONCE).fetch_all(&mut self.connection).await;
            let rows = rows.map_err(|source| self.failed(source))?;
            for row in &rows {
                let number: i64 = row.get(0);
                let body: String = row.try_get(1).map_err(|source| self.failed(source))?;
                let unreadable = |source| JournalError::Record { journal: self.name.clone(), number, source };
                let record: Record = serde_json::from_str(&body).map_err(unreadable)?;
                let unwritable = |source| JournalError::Encode { journal: self.name.clone(), source };
                encoder.push_proven(&record).map_err(unwritable)?;
                after = number;
            }
            if encoder.records() > 0 && (rows.is_empty() || encoder.bytes() >= BATCH_BYTES) {
                last += 1;
                self.put(last, &encoder.finish()).await.map_err(|source| self.failed(source))?;
            }
            if rows.is_empty() {
                return Ok(last);
            }
        }
    }

    async fn put(&mut self, number: i64, body: &[u8]) -> Result<(), sqlx::Error> {
        let insert = sqlx::query("INSERT INTO batches (number, body) VALUES (?, ?)").bind(number).bind(body);
        insert.execute(&mut self.connection).await.map(drop)
    }

    /// Frees the space of removed rows. The remaining rows are few, so rewriting them is cheap. A failure (it needs space at
    /// first) costs only space.
    async fn shrink(&mut self) {
        if let Err(error) = self.execute("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)").await {
            warn!(journal = self.name, %error, "the journal's file could not be shrunk");
        }
    }
}

/// Fails if SQLite would not read all of the log.
async fn check_log(path: &Path, journal: &str) -> Result<(), JournalError> {
    let path = mark::beside(path, "-wal");
    for reads in 1.. {
        let journal = journal.to_owned();
        let file = path.display().to_string();
        match examine_log(&path) {
            Ok(None) => break,
            Ok(Some(damage)) if reads >= LOG_READS => return Err(JournalError::Log { journal, file, damage }),
            Ok(Some(_)) => tokio::time::sleep(LOG_WAIT).await,
            Err(source) => return Err(JournalError::File { journal, file, source }),
        }
    }
    Ok(())
}

/// The damage of a log. There need not be a log.
fn examine_log(path: &Path) -> io::Result<Option<WalDamage>> {
    match File::open(path) {
        Ok(log) => wal::examine(BufReader::with_capacity(1 << 16, log)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Tables for Sqlite {
    fn name(&self) -> &str {
        &self.name
    }

    async fn id(&mut self, new: &str) -> Result<String, TableFailure> {
        let found = async {
            self.execute("CREATE TABLE IF NOT EXISTS identity (id TEXT NOT NULL)").await?;
            let take = sqlx::query("INSERT INTO identity (id) SELECT ? WHERE NOT EXISTS (SELECT 1 FROM identity)");
            take.bind(new).execute(&mut self.connection).await?;
            sqlx::query_scalar("SELECT id FROM identity LIMIT 1").fetch_one(&mut self.connection).await
        };
        found.await.map_err(|source| self.failure(source))
    }

    async fn recover(&mut self) -> Result<BatchRange, TableFailure> {
        // There may be no transaction, because SQLite itself ends some.
        drop(self.execute("ROLLBACK").await);
        let head = sqlx::query("SELECT first, last FROM journal").fetch_one(&mut self.connection).await;
        let head = head.map_err(|source| self.failure(source))?;
        Ok(BatchRange { first: head.get(0), last: head.get(1) })
    }

    async fn append(&mut self, number: i64, body: &[u8]) -> Result<(), TableFailure> {
        let append = sqlx::query(APPEND).bind(number).bind(body).bind(number);
        append.execute(&mut self.connection).await.map_err(|source| self.failure(source))?;
        self.set_mark(number);
        Ok(())
    }

    async fn read(&mut self, from: i64) -> Result<Vec<(i64, Vec<u8>)>, TableFailure> {
        let rows = "SELECT number, body FROM batches WHERE number >= ? ORDER BY number LIMIT ?";
        let rows = sqlx::query(rows).bind(from).bind(PAGE).fetch_all(&mut self.connection).await;
        let rows = rows.map_err(|source| self.failure(source))?;
        let read: Result<_, _> = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect();
        read.map_err(|source| self.failure(source))
    }

    async fn begin(&mut self) -> Result<(), TableFailure> {
        self.execute("BEGIN IMMEDIATE").await.map_err(|source| self.failure(source))
    }

    async fn insert(&mut self, number: i64, body: &[u8]) -> Result<(), TableFailure> {
        self.put(number, body).await.map_err(|source| self.failure(source))
    }

    async fn replace(&mut self, range: BatchRange) -> Result<(), TableFailure> {
        let replaced = async {
            let old = sqlx::query("DELETE FROM batches WHERE number < ?").bind(range.first);
            old.execute(&mut self.connection).await?;
            let head = sqlx::query("UPDATE journal SET first = ?, last = ?").bind(range.first).bind(range.last);
            head.execute(&mut self.connection).await?;
            self.execute("COMMIT").await
        };
        replaced.await.map_err(|source| self.failure(source))?;
        self.set_mark(range.last);
        self.shrink().await;
        Ok(())
    }
}
