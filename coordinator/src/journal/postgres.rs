//! The journal in two tables of a PostgreSQL database, on one connection that holds an advisory lock.
//!
//! The lock belongs to the session: a broken connection loses it, and whoever takes it next is the journal's coordinator.
//! Therefore all writes use the connection that holds the lock, and each of them checks the epoch, which increases whenever a
//! coordinator opens the journal. A coordinator that was superseded changes no row, however late it wakes up. Deliberately
//! absent: a pool of connections, and poolers in front of the server, which share sessions and with them locks.

use super::ledger::{BatchRange, PAGE, TableFailure, Tables};
use super::{JournalError, VERSION};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Row};
use std::future::Future;
use std::time::{Duration, Instant};
use tracing::info;

/// The time limit of connecting and of a short statement.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The time limit of a statement that reads or removes many rows.
const LONG_ANSWER_WITHIN: Duration = Duration::from_secs(120);
/// The time to wait for the lock when the journal is opened: a server needs a moment to notice a killed coordinator.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(100);

/// The settings of the session: a commit waits for the disk, whatever the server's default, and the server notices within
/// half a minute that a coordinator is gone, and frees its lock.
const SESSION: &str = "SET synchronous_commit = on; SET statement_timeout = 0; SET tcp_keepalives_idle = 10;
    SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; SET tcp_user_timeout = 25000;
    SELECT set_config('idle_session_timeout', '0', false) WHERE current_setting('idle_session_timeout', true) <> ''";
const TABLES: &str = "CREATE TABLE nadgrid_batches (number BIGINT PRIMARY KEY, body BYTEA NOT NULL);
    CREATE TABLE nadgrid_journal (version BIGINT NOT NULL, epoch BIGINT NOT NULL, first BIGINT NOT NULL, last BIGINT NOT NULL);
    INSERT INTO nadgrid_journal (version, epoch, first, last) VALUES (2, 0, 1, 0)";
/// Takes the lock. There is one journal for each schema of a database; the first number is nadgrid's own.
const LOCK: &str = "SELECT pg_try_advisory_lock(1851876711, hashtext(current_schema()))";
const HEAD: &str = "SELECT epoch, first, last FROM nadgrid_journal";
/// Appends a batch in one statement, and so in one transaction and one round trip.
const APPEND: &str = "WITH head AS (
        UPDATE nadgrid_journal SET last = $1 WHERE epoch = $2 AND last = $1 - 1 RETURNING last
    ) INSERT INTO nadgrid_batches (number, body) SELECT last, $3 FROM head";

pub(super) struct Postgres {
    name: String,
    options: PgConnectOptions,
    epoch: i64,
    /// The connection that holds the lock; `None` after a failure.
    connection: Option<PgConnection>,
    compacting: bool,
}

impl Postgres {
    /// Takes the journal over once no other coordinator uses it.
    pub(super) async fn open(name: String, options: PgConnectOptions) -> Result<Self, JournalError> {
        let options = options.disable_statement_logging();
        let mut tables = Self { name, options, epoch: 0, connection: None, compacting: false };
        tables.take_over().await.map_err(|failure| failure.error)?;
        Ok(tables)
    }

    async fn take_over(&mut self) -> Result<(), TableFailure> {
        let mut connection = self.connect().await?;
        let started = Instant::now();
        while !self.answer(lock(&mut connection)).await? {
            if started.elapsed() > LOCK_WAIT {
                return Err(TableFailure {
                    error: JournalError::Held { journal: self.name.clone() },
                    is_transient: false,
                });
            }
            tokio::time::sleep(LOCK_RETRY).await;
        }
        let found = self.answer(create(&mut connection)).await?;
        if found != VERSION {
            let error = JournalError::Version { journal: self.name.clone(), found };
            return Err(TableFailure { error, is_transient: false });
        }
        let risen = "UPDATE nadgrid_journal SET epoch = epoch + 1 RETURNING epoch";
        self.epoch = self.answer(sqlx::query_scalar(risen).fetch_one(&mut connection)).await?;
        self.connection = Some(connection);
        Ok(())
    }

    async fn connect(&self) -> Result<PgConnection, TableFailure> {
        let connected = async {
            let mut connection = self.options.connect().await?;
            sqlx::raw_sql(SESSION).execute(&mut connection).await?;
            Ok(connection)
        };
        self.answer(connected).await
    }

    /// Reconnects and takes the lock again. Fails if another coordinator has used the journal in the meantime.
    async fn reconnect(&mut self) -> Result<BatchRange, TableFailure> {
        let mut connection = self.connect().await?;
        // The head comes before the lock: if another coordinator has taken over, there is nothing to wait for.
        self.head(&mut connection).await?;
        if !self.answer(lock(&mut connection)).await? {
            // Our own old session may still exist on the server.
            return Err(TableFailure { error: JournalError::Held { journal: self.name.clone() }, is_transient: true });
        }
        // The old session is gone now, and with it whatever it was doing.
        let range = self.head(&mut connection).await?;
        info!(journal = self.name, "reconnected to the journal");
        self.connection = Some(connection);
        self.compacting = false;
        Ok(range)
    }

    /// Reads the head. Fails if another coordinator has taken over.
    async fn head(&self, connection: &mut PgConnection) -> Result<BatchRange, TableFailure> {
        let head = self.answer(sqlx::query(HEAD).fetch_one(connection)).await?;
        if head.get::<i64, _>(0) != self.epoch {
            return Err(self.taken_over());
        }
        Ok(BatchRange { first: head.get(1), last: head.get(2) })
    }

    fn taken_over(&self) -> TableFailure {
        TableFailure { error: JournalError::TakenOver { journal: self.name.clone() }, is_transient: false }
    }

    /// Waits for the server's answer, for a limited time.
    async fn answer<R>(&self, work: impl Future<Output = Result<R, sqlx::Error>>) -> Result<R, TableFailure> {
        self.answer_within(ANSWER_WITHIN, work).await
    }

    async fn answer_within<R>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<R, sqlx::Error>>,
    ) -> Result<R, TableFailure> {
        match tokio::time::timeout(limit, work).await {
            Ok(answer) => answer.map_err(|source| self.failure(source)),
            Err(_) => {
                Err(TableFailure { error: JournalError::Silent { journal: self.name.clone() }, is_transient: true })
            }
        }
    }

    fn failure(&self, source: sqlx::Error) -> TableFailure {
        let is_transient = is_transient(&source);
        TableFailure { error: JournalError::Database { journal: self.name.clone(), source }, is_transient }
    }

    /// Takes the connection for one operation. The caller puts it back if the operation succeeds.
    fn take(&mut self) -> Result<PgConnection, TableFailure> {
        let lost = || TableFailure { error: JournalError::Silent { journal: self.name.clone() }, is_transient: true };
        self.connection.take().ok_or_else(lost)
    }
}

/// Creates the tables if they do not exist. Returns the journal's version. The caller must hold the lock.
async fn create(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    let there = "SELECT to_regclass('nadgrid_journal') IS NOT NULL";
    if !sqlx::query_scalar::<_, bool>(there).fetch_one(&mut *connection).await? {
        let mut transaction = connection.begin().await?;
        sqlx::raw_sql(TABLES).execute(&mut *transaction).await?;
        transaction.commit().await?;
    }
    sqlx::query_scalar("SELECT version FROM nadgrid_journal").fetch_one(connection).await
}

/// The journal's id. If it has none yet, `new` becomes its id. The caller must hold the lock.
async fn identity(connection: &mut PgConnection, new: &str) -> Result<String, sqlx::Error> {
    // `CREATE TABLE IF NOT EXISTS` would log a notice for an existing table.
    let there = "SELECT to_regclass('nadgrid_identity') IS NOT NULL";
    if !sqlx::query_scalar::<_, bool>(there).fetch_one(&mut *connection).await? {
        sqlx::raw_sql("CREATE TABLE nadgrid_identity (id TEXT NOT NULL)").execute(&mut *connection).await?;
    }
    let take = "INSERT INTO nadgrid_identity (id) SELECT $1 WHERE NOT EXISTS (SELECT 1 FROM nadgrid_identity)";
    sqlx::query(take).bind(new).execute(&mut *connection).await?;
    sqlx::query_scalar("SELECT id FROM nadgrid_identity LIMIT 1").fetch_one(connection).await
}

async fn lock(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(LOCK).fetch_one(connection).await
}

/// Whether a retry may succeed: the connection broke, the server restarts, was a standby, or is out of disk or memory.
fn is_transient(error: &sqlx::Error) -> bool {
    let code = match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => return true,
        sqlx::Error::Database(error) => error.code().unwrap_or_default(),
        _ => return false,
    };
    // https://www.postgresql.org/docs/current/errcodes-appendix.html
    ["08", "53", "58", "57P0"].iter().any(|class| code.starts_with(class)) || code == "25006"
}

impl Tables for Postgres {
    fn name(&self) -> &str {
        &self.name
    }

    async fn id(&mut self, new: &str) -> Result<String, TableFailure> {
        let mut connection = self.take()?;
        let id = self.answer(identity(&mut connection, new)).await?;
        self.connection = Some(connection);
        Ok(id)
    }

    async fn recover(&mut self) -> Result<BatchRange, TableFailure> {
        let Some(mut connection) = self.connection.take() else { return self.reconnect().await };
        // The lock is held as long as the connection lives. At most an unfinished compaction is open.
        if std::mem::take(&mut self.compacting) {
            self.answer(sqlx::raw_sql("ROLLBACK").execute(&mut connection)).await?;
        }
        let range = self.head(&mut connection).await?;
        self.connection = Some(connection);
        Ok(range)
    }

    async fn append(&mut self, number: i64, body: &[u8]) -> Result<(), TableFailure> {
        let mut connection = self.take()?;
        let append = sqlx::query(APPEND).bind(number).bind(self.epoch).bind(body);
        let written = self.answer(append.execute(&mut connection)).await?;
        if written.rows_affected() != 1 {
            return Err(self.taken_over());
        }
        self.connection = Some(connection);
        Ok(())
    }

    async fn read(&mut self, from: i64) -> Result<Vec<(i64, Vec<u8>)>, TableFailure> {
        let mut connection = self.take()?;
        let rows = "SELECT number, body FROM nadgrid_batches WHERE number >= $1 ORDER BY number LIMIT $2";
        let rows = sqlx::query(rows).bind(from).bind(PAGE).fetch_all(&mut connection);
        let rows = self.answer_within(LONG_ANSWER_WITHIN, rows).await?;
        self.connection = Some(connection);
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    async fn begin(&mut self) -> Result<(), TableFailure> {
        let mut connection = self.take()?;
        self.answer(sqlx::raw_sql("BEGIN").execute(&mut connection)).await?;
        self.connection = Some(connection);
        self.compacting = true;
        Ok(())
    }

    async fn insert(&mut self, number: i64, body: &[u8]) -> Result<(), TableFailure> {
        let mut connection = self.take()?;
        let insert = sqlx::query("INSERT INTO nadgrid_batches (number, body) VALUES ($1, $2)").bind(number).bind(body);
        self.answer(insert.execute(&mut connection)).await?;
        self.connection = Some(connection);
        Ok(())
    }

    async fn replace(&mut self, range: BatchRange) -> Result<(), TableFailure> {
        let mut connection = self.take()?;
        let head = "UPDATE nadgrid_journal SET first = $1, last = $2 WHERE epoch = $3 AND last = $1 - 1";
        let head = sqlx::query(head).bind(range.first).bind(range.last).bind(self.epoch);
        if self.answer(head.execute(&mut connection)).await?.rows_affected() != 1 {
            return Err(self.taken_over());
        }
        let old = sqlx::query("DELETE FROM nadgrid_batches WHERE number < $1").bind(range.first);
        self.answer_within(LONG_ANSWER_WITHIN, old.execute(&mut connection)).await?;
        self.answer_within(LONG_ANSWER_WITHIN, sqlx::raw_sql("COMMIT").execute(&mut connection)).await?;
        self.connection = Some(connection);
        self.compacting = false;
        Ok(())
    }
}
