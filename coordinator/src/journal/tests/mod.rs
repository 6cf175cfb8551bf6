//! Tests of the journal. Most run on a SQLite file and on a PostgreSQL database alike.

mod compaction;
mod damage;
mod postgres;
mod sqlite;

use super::*;
use nadgrid_core::ids::{JobIndex, SweepId, Time};
use nadgrid_core::scheduler::{SweepOutcome, Tally};
use nadgrid_tests::postgres::{PASSWORD, Postgres as Server};
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

fn ended(number: u64) -> Record {
    let outcome = SweepOutcome::Failed { message: format!("no {number}") };
    Record::Ended { sweep: SweepId::new(number.to_string()), outcome, at: Time(number) }
}

fn records(numbers: impl IntoIterator<Item = u64>) -> Vec<Record> {
    numbers.into_iter().map(ended).collect()
}

/// A reader that accepts every snapshot.
fn unread() -> Box<dyn SnapshotReader> {
    Box::new(())
}

/// The place of a journal, where tests can change it behind its back.
enum TestJournal {
    File(TempDir),
    Database(Server),
}

impl TestJournal {
    fn file() -> Self {
        Self::File(tempfile::tempdir().unwrap())
    }

    fn database() -> Self {
        Self::Database(Server::start())
    }

    async fn open(&self) -> Result<AnyJournal, JournalError> {
        self.open_with(PATIENCE).await
    }

    async fn open_with(&self, patience: Duration) -> Result<AnyJournal, JournalError> {
        match self {
            Self::File(folder) => open(&JournalUrl::default(), folder.path(), patience).await,
            Self::Database(server) => open(&server.url().as_str().into(), Path::new(""), patience).await,
        }
    }

    /// The beginning of its name in messages.
    fn name(&self) -> &'static str {
        match self {
            Self::File(_) => "journal.sqlite",
            Self::Database(_) => "postgres://nadgrid@127.0.0.1:",
        }
    }

    /// Runs SQL while no journal is open. `{}` is the prefix of the tables' names.
    async fn change(&self, sql: &str) {
        match self {
            Self::File(folder) => in_file(&folder.path().join("journal.sqlite"), &sql.replace("{}", "")).await,
            Self::Database(server) => drop(server.sql(&sql.replace("{}", "nadgrid_"))),
        }
    }
}

async fn in_file(path: &Path, sql: &str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn all(journal: &mut AnyJournal) -> Result<Vec<Record>, JournalError> {
    let mut found = Vec::new();
    let replayed = journal.replay(&mut |record| found.push(record)).await?;
    assert_eq!(replayed.records, found.len() as u64);
    Ok(found)
}

/// The error of a result. It must name the journal and contain no password.
fn said<T>(place: &TestJournal, result: Result<T, JournalError>) -> String {
    let said = result.err().unwrap().to_string();
    assert!(said.contains(place.name()) && !said.contains(PASSWORD), "{said}");
    said
}

async fn records_come_back_in_order(place: TestJournal) {
    let mut journal = place.open().await.unwrap();
    assert_eq!(all(&mut journal).await.unwrap(), []);
    journal.append(&records(1..=2)).await.unwrap();
    journal.append(&[]).await.unwrap();
    // More batches than are read at once.
    for number in 3..=40 {
        journal.append(&records([number])).await.unwrap();
    }
    drop(journal);
    let mut journal = place.open().await.unwrap();
    assert_eq!(all(&mut journal).await.unwrap(), records(1..=40));
    journal.append(&records([41])).await.unwrap();
    assert_eq!(all(&mut journal).await.unwrap(), records(1..=41));
    let replayed = journal.replay(&mut drop).await.unwrap();
    assert_eq!(replayed, Replayed { records: 41, batches: 40 });
}

async fn one_coordinator_at_a_time(place: TestJournal) {
    let mut journal = place.open().await.unwrap();
    journal.append(&records([1])).await.unwrap();
    let second = said(&place, place.open().await);
    assert!(second.contains("locked") || second.contains("in use by another coordinator"), "{second}");
    journal.append(&records([2])).await.unwrap();
    drop(journal);
    assert_eq!(all(&mut place.open().await.unwrap()).await.unwrap(), records(1..=2));
}

async fn damage_is_named_and_nothing_is_skipped(place: TestJournal) {
    let mut journal = place.open().await.unwrap();
    for number in 1..=4 {
        journal.append(&records([number])).await.unwrap();
    }
    drop(journal);
    place.change("UPDATE {}journal SET last = 5").await;
    let missing = said(&place, all(&mut place.open().await.unwrap()).await);
    assert!(missing.contains("batch 5") && missing.contains("missing"), "{missing}");
    for (head, hidden) in [("last = 3", "batch 4"), ("last = 0", "batch 1"), ("first = 2, last = 4", "batch 1")] {
        place.change(&format!("UPDATE {{}}journal SET {head}")).await;
        remove_mark(&place);
        let surplus = said(&place, all(&mut place.open().await.unwrap()).await);
        assert!(surplus.contains(hidden) && surplus.contains("head is damaged"), "{head}: {surplus}");
    }
    place.change("UPDATE {}journal SET first = 1, last = 4").await;
    place
        .change("UPDATE {}batches SET body = (SELECT body FROM {}batches WHERE number = 1) || '1' WHERE number = 3")
        .await;
    let mut seen = Vec::new();
    let mut journal = place.open().await.unwrap();
    let damaged = journal.replay(&mut |record| seen.push(record)).await;
    let damaged = said(&place, damaged);
    assert!(damaged.contains("batch 3") && damaged.contains("damaged"), "{damaged}");
    assert_eq!(seen, records(1..=2), "what comes before it is read");
    drop(journal);
    place.change("DELETE FROM {}batches WHERE number = 3").await;
    let missing = said(&place, all(&mut place.open().await.unwrap()).await);
    assert!(missing.contains("batch 3") && missing.contains("missing"), "{missing}");
    place.change("UPDATE {}journal SET version = 9").await;
    let newer = said(&place, place.open().await);
    assert!(newer.contains("version 9") && newer.contains("up to 2"), "{newer}");
}

fn remove_mark(place: &TestJournal) {
    if let TestJournal::File(folder) = place {
        std::fs::remove_file(mark::path(&folder.path().join("journal.sqlite"))).unwrap();
    }
}

/// A record with a number that is not finite, which the sum of two workers' seconds may be.
fn infinite() -> Record {
    let tally = Tally { slot_seconds: f64::INFINITY, ..Tally::default() };
    Record::Tally { sweep: SweepId::new("s"), job: JobIndex(0), tally }
}

/// A large record: a few of them fill a batch.
fn large(number: u64) -> Record {
    let outcome = SweepOutcome::Failed { message: format!("no {number} {}", "x".repeat(100_000)) };
    Record::Ended { sweep: SweepId::new(number.to_string()), outcome, at: Time(number) }
}

#[tokio::test]
async fn a_file_gives_records_back_in_order() {
    records_come_back_in_order(TestJournal::file()).await;
}

#[tokio::test]
async fn a_database_gives_records_back_in_order() {
    records_come_back_in_order(TestJournal::database()).await;
}

#[tokio::test]
async fn a_file_has_one_coordinator() {
    one_coordinator_at_a_time(TestJournal::file()).await;
}

#[tokio::test]
async fn a_database_has_one_coordinator() {
    one_coordinator_at_a_time(TestJournal::database()).await;
}

#[tokio::test]
async fn damage_of_a_file_is_named() {
    damage_is_named_and_nothing_is_skipped(TestJournal::file()).await;
}

#[tokio::test]
async fn damage_of_a_database_is_named() {
    damage_is_named_and_nothing_is_skipped(TestJournal::database()).await;
}
