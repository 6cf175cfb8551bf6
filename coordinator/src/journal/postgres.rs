//! The journal in two tables of a PostgreSQL database, on one connection that holds an advisory lock.
//!
//! The lock is the session's: a connection that breaks loses it, and whoever holds it then is the journal's coordinator.
//! Therefore all writing is done on that very connection, and every statement that writes also checks the epoch, which rises
//! by one whenever a coordinator opens the journal. One that was superseded, however late it wakes up, changes no row.
//! Deliberately absent: a pool, and poolers between here and the server, which share sessions and with them locks.

use super::ledger::{Failure, PAGE, Span, Tables};
use super::{JournalError, VERSION};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Row};
use std::future::Future;
use std::time::{Duration, Instant};
use tracing::info;

/// Connecting and a short statement may take this long, and this long one that reads or removes many rows.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const LONG_ANSWER_WITHIN: Duration = Duration::from_secs(120);
/// How long the lock is waited for when the journal is opened: a server needs a moment to notice that a coordinator was killed.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(100);

/// Acknowledged means on disk, whatever the server's default; and a peer that is gone is noticed, and its lock freed, within
/// half a minute.
const SESSION: &str = "SET synchronous_commit = on; SET statement_timeout = 0; SET tcp_keepalives_idle = 10;
    SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; SET tcp_user_timeout = 25000;
    SELECT set_config('idle_session_timeout', '0', false) WHERE current_setting('idle_session_timeout', true) <> ''";
const TABLES: &str = "CREATE TABLE nadgrid_batches (number BIGINT PRIMARY KEY, body BYTEA NOT NULL);
    CREATE TABLE nadgrid_journal (version BIGINT NOT NULL, epoch BIGINT NOT NULL, first BIGINT NOT NULL, last BIGINT NOT NULL);
    INSERT INTO nadgrid_journal (version, epoch, first, last) VALUES (2, 0, 1, 0)";
/// One journal for each schema of a database. The first number is nadgrid's own.
const LOCK: &str = "SELECT pg_try_advisory_lock(1851876711, hashtext(current_schema()))";
const HEAD: &str = "SELECT epoch, first, last FROM nadgrid_journal";
/// One statement, hence one transaction and one round trip.
const APPEND: &str = "WITH head AS (
        UPDATE nadgrid_journal SET last = $1 WHERE epoch = $2 AND last = $1 - 1 RETURNING last
    ) INSERT INTO nadgrid_batches (number, body) SELECT last, $3 FROM head";

pub(super) struct Postgres {
    name: String,
    options: PgConnectOptions,
    epoch: i64,
    /// Holds the lock. `None` after a failure.
    connection: Option<PgConnection>,
    compacting: bool,
}

impl Postgres {
    /// Takes the journal over, once no other coordinator holds it.
    pub(super) async fn open(name: String, options: PgConnectOptions) -> Result<Self, JournalError> {
        let options = options.disable_statement_logging();
        let mut tables = Self { name, options, epoch: 0, connection: None, compacting: false };
        tables.take_over().await.map_err(|failure| failure.error)?;
        Ok(tables)
    }

    async fn take_over(&mut self) -> Result<(), Failure> {
        let mut connection = self.connect().await?;
        let started = Instant::now();
        while !self.answer(lock(&mut connection)).await? {
            if started.elapsed() > LOCK_WAIT {
                return Err(Failure { error: JournalError::Held { journal: self.name.clone() }, passing: false });
            }
            tokio::time::sleep(LOCK_RETRY).await;
        }
        let found = self.answer(create(&mut connection)).await?;
        if found != VERSION {
            let error = JournalError::Version { journal: self.name.clone(), found };
            return Err(Failure { error, passing: false });
        }
        let risen = "UPDATE nadgrid_journal SET epoch = epoch + 1 RETURNING epoch";
        self.epoch = self.answer(sqlx::query_scalar(risen).fetch_one(&mut connection)).await?;
        self.connection = Some(connection);
        Ok(())
    }

    async fn connect(&self) -> Result<PgConnection, Failure> {
        let connected = async {
            let mut connection = self.options.connect().await?;
            sqlx::raw_sql(SESSION).execute(&mut connection).await?;
            Ok(connection)
        };
        self.answer(connected).await
    }

    /// Connects again and takes the lock again. Nobody else may have had the journal meanwhile.
    async fn reconnect(&mut self) -> Result<Span, Failure> {
        let mut connection = self.connect().await?;
        // Looked at before the lock is asked for: if another coordinator holds it, there is nothing to wait for.
        self.head(&mut connection).await?;
        if !self.answer(lock(&mut connection)).await? {
            // The server may still hold our own old session.
            return Err(Failure { error: JournalError::Held { journal: self.name.clone() }, passing: true });
        }
        // From here on the old session is gone, and with it whatever it had still under way.
        let span = self.head(&mut connection).await?;
        info!(journal = self.name, "connected to the journal again");
        (self.connection, self.compacting) = (Some(connection), false);
        Ok(span)
    }

    /// What is there, if it is still ours.
    async fn head(&self, connection: &mut PgConnection) -> Result<Span, Failure> {
        let head = self.answer(sqlx::query(HEAD).fetch_one(connection)).await?;
        if head.get::<i64, _>(0) != self.epoch {
            return Err(self.taken_over());
        }
        Ok(Span { first: head.get(1), last: head.get(2) })
    }

    fn taken_over(&self) -> Failure {
        Failure { error: JournalError::TakenOver { journal: self.name.clone() }, passing: false }
    }

    /// Waits for the server, but not forever.
    async fn answer<R>(&self, work: impl Future<Output = Result<R, sqlx::Error>>) -> Result<R, Failure> {
        self.answer_within(ANSWER_WITHIN, work).await
    }

    async fn answer_within<R>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<R, sqlx::Error>>,
    ) -> Result<R, Failure> {
        match tokio::time::timeout(limit, work).await {
            Ok(answer) => answer.map_err(|source| self.failure(source)),
            Err(_) => Err(Failure { error: JournalError::Silent { journal: self.name.clone() }, passing: true }),
        }
    }

    fn failure(&self, source: sqlx::Error) -> Failure {
        let passing = is_passing(&source);
        Failure { error: JournalError::Database { journal: self.name.clone(), source }, passing }
    }

    /// The connection, for one piece of work: it is put back when that has succeeded.
    fn take(&mut self) -> Result<PgConnection, Failure> {
        let lost = || Failure { error: JournalError::Silent { journal: self.name.clone() }, passing: true };
        self.connection.take().ok_or_else(lost)
    }
}

/// Makes the tables if they are not there; returns the journal's version. Only whoever holds the lock does so.
async fn create(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    let there = "SELECT to_regclass('nadgrid_journal') IS NOT NULL";
    if !sqlx::query_scalar::<_, bool>(there).fetch_one(&mut *connection).await? {
        let mut transaction = connection.begin().await?;
        sqlx::raw_sql(TABLES).execute(&mut *transaction).await?;
        transaction.commit().await?;
    }
    sqlx::query_scalar("SELECT version FROM nadgrid_journal").fetch_one(connection).await
}

/// The journal's id; one that has none yet takes `new`. Whoever asks holds the lock.
async fn identity(connection: &mut PgConnection, new: &str) -> Result<String, sqlx::Error> {
    // Asked first: the server says aloud when a table is there already.
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

/// Whether a fault may pass: the connection broke, the server restarts, was a standby, or is out of disk or memory.
fn is_passing(error: &sqlx::Error) -> bool {
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

    async fn id(&mut self, new: &str) -> Result<String, Failure> {
        let mut connection = self.take()?;
        let id = self.answer(identity(&mut connection, new)).await?;
        self.connection = Some(connection);
        Ok(id)
    }

    async fn recover(&mut self) -> Result<Span, Failure> {
        let Some(mut connection) = self.connection.take() else { return self.reconnect().await };
        // The lock is held as long as the connection is. Only a compaction that was not finished is open.
        if std::mem::take(&mut self.compacting) {
            self.answer(sqlx::raw_sql("ROLLBACK").execute(&mut connection)).await?;
        }
        let span = self.head(&mut connection).await?;
        self.connection = Some(connection);
        Ok(span)
    }

    async fn append(&mut self, number: i64, body: &[u8]) -> Result<(), Failure> {
        let mut connection = self.take()?;
        let append = sqlx::query(APPEND).bind(number).bind(self.epoch).bind(body);
        let written = self.answer(append.execute(&mut connection)).await?;
        if written.rows_affected() != 1 {
            return Err(self.taken_over());
        }
        self.connection = Some(connection);
        Ok(())
    }

    async fn read(&mut self, from: i64) -> Result<Vec<(i64, Vec<u8>)>, Failure> {
        let mut connection = self.take()?;
        let rows = "SELECT number, body FROM nadgrid_batches WHERE number >= $1 ORDER BY number LIMIT $2";
        let rows = sqlx::query(rows).bind(from).bind(PAGE).fetch_all(&mut connection);
        let rows = self.answer_within(LONG_ANSWER_WITHIN, rows).await?;
        self.connection = Some(connection);
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    async fn begin(&mut self) -> Result<(), Failure> {
        let mut connection = self.take()?;
        self.answer(sqlx::raw_sql("BEGIN").execute(&mut connection)).await?;
        (self.connection, self.compacting) = (Some(connection), true);
        Ok(())
    }

    async fn insert(&mut self, number: i64, body: &[u8]) -> Result<(), Failure> {
        let mut connection = self.take()?;
        let insert = sqlx::query("INSERT INTO nadgrid_batches (number, body) VALUES ($1, $2)").bind(number).bind(body);
        self.answer(insert.execute(&mut connection)).await?;
        self.connection = Some(connection);
        Ok(())
    }

    async fn replace(&mut self, span: Span) -> Result<(), Failure> {
        let mut connection = self.take()?;
        let head = "UPDATE nadgrid_journal SET first = $1, last = $2 WHERE epoch = $3 AND last = $1 - 1";
        let head = sqlx::query(head).bind(span.first).bind(span.last).bind(self.epoch);
        if self.answer(head.execute(&mut connection)).await?.rows_affected() != 1 {
            return Err(self.taken_over());
        }
        let old = sqlx::query("DELETE FROM nadgrid_batches WHERE number < $1").bind(span.first);
        self.answer_within(LONG_ANSWER_WITHIN, old.execute(&mut connection)).await?;
        self.answer_within(LONG_ANSWER_WITHIN, sqlx::raw_sql("COMMIT").execute(&mut connection)).await?;
        (self.connection, self.compacting) = (Some(connection), false);
        Ok(())
    }
}
