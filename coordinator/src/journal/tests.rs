//! The same of a journal in a SQLite file and of one in a PostgreSQL database; then what each has of its own.

use super::*;
use nadgrid_core::ids::{SweepId, Time};
use nadgrid_core::scheduler::Outcome;
use nadgrid_tests::postgres::{PASSWORD, Postgres as Server, Stop};
use sqlx::{ConnectOptions, Connection};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

fn ended(number: u64) -> Record {
    let outcome = Outcome::Failed { message: format!("no {number}") };
    Record::Ended { sweep: SweepId::new(number.to_string()), outcome, at: Time(number) }
}

fn records(numbers: impl IntoIterator<Item = u64>) -> Vec<Record> {
    numbers.into_iter().map(ended).collect()
}

/// Where a journal is, and how to change it behind its back.
enum Place {
    File(TempDir),
    Database(Server),
}

impl Place {
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

    /// What messages call it.
    fn name(&self) -> &'static str {
        match self {
            Self::File(_) => "journal.sqlite",
            Self::Database(_) => "postgres://nadgrid@127.0.0.1:",
        }
    }

    /// Runs SQL while no journal is open; `{}` stands before the tables' names.
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

/// What is refused, in words that name the journal and no password.
fn said<T>(place: &Place, result: Result<T, JournalError>) -> String {
    let said = result.err().unwrap().to_string();
    assert!(said.contains(place.name()) && !said.contains(PASSWORD), "{said}");
    said
}

async fn records_come_back_in_order(place: Place) {
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

async fn compaction_is_all_or_nothing(place: Place) {
    let mut journal = place.open().await.unwrap();
    journal.append(&records(1..=3)).await.unwrap();
    // Many batches of the new journal are written when its coordinator dies.
    let many = 20_000;
    let died = tokio::spawn(async move {
        let mut dying = (1_000..).map(|number| if number < 1_000 + many { ended(number) } else { panic!("a crash") });
        journal.compact(&mut dying).await
    });
    assert!(died.await.unwrap_err().is_panic());
    let mut journal = place.open().await.unwrap();
    assert_eq!(all(&mut journal).await.unwrap(), records(1..=3));
    journal.append(&records([4])).await.unwrap();
    let written = journal.compact(&mut records(100..100 + many).into_iter()).await.unwrap();
    assert!(written.records == many && written.batches > 1, "{written:?}");
    journal.append(&records([5])).await.unwrap();
    drop(journal);
    let mut journal = place.open().await.unwrap();
    let expected: Vec<_> = (100..100 + many).chain([5]).collect();
    assert!(all(&mut journal).await.unwrap() == records(expected));
    assert_eq!(journal.compact(&mut std::iter::empty()).await.unwrap(), Replayed::default());
    journal.append(&records([6])).await.unwrap();
    assert_eq!(all(&mut journal).await.unwrap(), records([6]));
}

async fn one_coordinator_at_a_time(place: Place) {
    let mut journal = place.open().await.unwrap();
    journal.append(&records([1])).await.unwrap();
    let second = said(&place, place.open().await);
    assert!(second.contains("locked") || second.contains("in use by another coordinator"), "{second}");
    journal.append(&records([2])).await.unwrap();
    drop(journal);
    assert_eq!(all(&mut place.open().await.unwrap()).await.unwrap(), records(1..=2));
}

async fn damage_is_named_and_nothing_is_skipped(place: Place) {
    let mut journal = place.open().await.unwrap();
    for number in 1..=4 {
        journal.append(&records([number])).await.unwrap();
    }
    drop(journal);
    place.change("UPDATE {}journal SET last = 5").await;
    let missing = said(&place, all(&mut place.open().await.unwrap()).await);
    assert!(missing.contains("batch 5") && missing.contains("missing"), "{missing}");
    place.change("UPDATE {}journal SET last = 4").await;
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

#[tokio::test]
async fn a_file_gives_records_back_in_order() {
    records_come_back_in_order(Place::file()).await;
}

#[tokio::test]
async fn a_database_gives_records_back_in_order() {
    records_come_back_in_order(Place::database()).await;
}

#[tokio::test]
async fn a_file_is_compacted_or_not() {
    compaction_is_all_or_nothing(Place::file()).await;
}

#[tokio::test]
async fn a_database_is_compacted_or_not() {
    compaction_is_all_or_nothing(Place::database()).await;
}

#[tokio::test]
async fn a_file_has_one_coordinator() {
    one_coordinator_at_a_time(Place::file()).await;
}

#[tokio::test]
async fn a_database_has_one_coordinator() {
    one_coordinator_at_a_time(Place::database()).await;
}

#[tokio::test]
async fn damage_of_a_file_is_named() {
    damage_is_named_and_nothing_is_skipped(Place::file()).await;
}

#[tokio::test]
async fn damage_of_a_database_is_named() {
    damage_is_named_and_nothing_is_skipped(Place::database()).await;
}

/// As version 1 made it.
async fn version_1(path: &Path, bodies: &[String]) {
    let tables = "PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS journal (version INTEGER NOT NULL);
        CREATE TABLE IF NOT EXISTS records (number INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);
        INSERT INTO journal (version) SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM journal);";
    let insert = |body: &String| format!("INSERT INTO records (body) VALUES ('{}');", body.replace('\'', "''"));
    let rows: String = bodies.iter().map(insert).collect();
    in_file(path, &format!("{tables} BEGIN; {rows} COMMIT;")).await;
}

#[tokio::test]
async fn a_journal_of_version_1_is_migrated() {
    let place = Place::file();
    let Place::File(folder) = &place else { unreachable!() };
    let path = folder.path().join("journal.sqlite");
    // Enough for more than one batch and more than one page of rows.
    let old = records(1..=5_000);
    let bodies: Vec<_> = old.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
    version_1(&path, &bodies).await;
    let before = std::fs::metadata(&path).unwrap().len();
    let mut journal = place.open().await.unwrap();
    assert!(all(&mut journal).await.unwrap() == old);
    journal.append(&records([5_001])).await.unwrap();
    drop(journal);
    let after = std::fs::metadata(&path).unwrap().len();
    assert!(after < before * 3 / 2, "{before} bytes became {after}");
    assert!(all(&mut place.open().await.unwrap()).await.unwrap() == records(1..=5_001));
}

#[tokio::test]
async fn a_journal_of_version_1_that_cannot_be_read_is_left_as_it_is() {
    let place = Place::file();
    let Place::File(folder) = &place else { unreachable!() };
    let body = serde_json::to_string(&ended(1)).unwrap();
    version_1(&folder.path().join("journal.sqlite"), &[body.clone(), "{}".to_owned(), body]).await;
    for _ in 0..2 {
        let unreadable = said(&place, place.open().await);
        assert!(unreadable.contains("record 2"), "{unreadable}");
    }
    place.change("DELETE FROM records WHERE number = 2").await;
    assert_eq!(all(&mut place.open().await.unwrap()).await.unwrap(), records([1, 1]));
}

/// Version 1 could die between making its table and saying its version there.
#[tokio::test]
async fn a_journal_that_was_hardly_begun_is_empty() {
    let place = Place::file();
    place.change("CREATE TABLE journal (version INTEGER NOT NULL)").await;
    let mut journal = place.open().await.unwrap();
    journal.append(&records([1])).await.unwrap();
    assert_eq!(all(&mut journal).await.unwrap(), records([1]));
}

#[tokio::test]
async fn a_file_that_is_full_takes_records_again_once_there_is_room() {
    let place = Place::file();
    let mut journal = place.open_with(Duration::ZERO).await.unwrap();
    journal.append(&records([1])).await.unwrap();
    limit(&mut journal, "PRAGMA max_page_count = 1").await;
    // A fault that may pass: it is the patience that has ended.
    let full = journal.append(&records(1_000..2_000)).await;
    assert!(matches!(full, Err(JournalError::Patience { .. })), "{full:?}");
    assert!(said(&place, full).contains("full"));
    assert_eq!(all(&mut journal).await.unwrap(), records([1]));
    let full = journal.compact(&mut records(1_000..9_000).into_iter()).await;
    assert!(said(&place, full).contains("full"));
    limit(&mut journal, "PRAGMA max_page_count = 1000000").await;
    journal.append(&records([2])).await.unwrap();
    drop(journal);
    assert_eq!(all(&mut place.open().await.unwrap()).await.unwrap(), records(1..=2));
}

/// SQLite's own limit is to it what a full disk is.
async fn limit(journal: &mut AnyJournal, pragma: &'static str) {
    let Inner::Sqlite(ledger) = &mut journal.0 else { panic!("a file") };
    sqlx::raw_sql(pragma).execute(&mut ledger.tables().connection).await.unwrap();
}

/// What a compaction frees is given back to the disk.
#[tokio::test]
async fn a_compacted_file_is_small() {
    let place = Place::file();
    let Place::File(folder) = &place else { unreachable!() };
    let size =
        || -> u64 { std::fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum() };
    let mut journal = place.open().await.unwrap();
    journal.append(&records(0..50_000)).await.unwrap();
    let before = size();
    journal.compact(&mut records(0..10).into_iter()).await.unwrap();
    assert!(before > 1 << 22 && size() < 1 << 16, "{before} bytes became {}", size());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_restarts_is_waited_for() {
    let mut server = Server::start();
    let url = JournalUrl::from(server.socket_url().as_str());
    let mut journal = open(&url, Path::new(""), PATIENCE).await.unwrap();
    for (number, how) in [(1, Stop::Fast), (2, Stop::Immediate)] {
        server.stop(how);
        let started = tokio::task::spawn_blocking(move || {
            server.start_again();
            server
        });
        journal.append(&records([number])).await.unwrap();
        server = started.await.unwrap();
        assert_eq!(all(&mut journal).await.unwrap(), records(1..=number));
    }
}

#[tokio::test]
async fn a_database_that_stays_away_is_given_up() {
    let mut place = Place::database();
    let mut journal = place.open_with(Duration::from_millis(200)).await.unwrap();
    journal.append(&records([1])).await.unwrap();
    let Place::Database(server) = &mut place else { unreachable!() };
    server.stop(Stop::Immediate);
    let away = journal.append(&records([2])).await;
    assert!(matches!(away, Err(JournalError::Patience { .. })), "{away:?}");
    assert!(said(&place, away).contains("tried for 0.2 s"));
    let Place::Database(server) = &mut place else { unreachable!() };
    server.start_again();
    journal.append(&records([3])).await.unwrap();
    assert_eq!(all(&mut journal).await.unwrap(), records([1, 3]));
}

/// The connection breaks, another coordinator comes, and the first one wakes up: it must not write another word.
#[tokio::test]
async fn a_coordinator_that_lost_its_lock_writes_nothing() {
    let place = Place::database();
    let Place::Database(server) = &place else { unreachable!() };
    let mut first = place.open().await.unwrap();
    first.append(&records([1])).await.unwrap();
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory'";
    // Broken by itself it comes back, its own still.
    assert_eq!(server.sql(end), "1");
    first.append(&records([2])).await.unwrap();
    assert_eq!(server.sql(end), "1");
    let mut second = place.open().await.unwrap();
    for _ in 0..2 {
        let refused = said(&place, first.append(&records([3])).await);
        assert!(refused.contains("taken over"), "{refused}");
    }
    second.append(&records([4])).await.unwrap();
    drop(second);
    // And not when the other one is gone again either.
    let refused = said(&place, first.append(&records([5])).await);
    assert!(refused.contains("taken over"), "{refused}");
    assert!(said(&place, first.compact(&mut records([6]).into_iter()).await).contains("taken over"));
    assert_eq!(all(&mut place.open().await.unwrap()).await.unwrap(), records([1, 2, 4]));
}

/// Should a lock not be what it promises (a pooler in between shares sessions), the epoch is.
#[tokio::test]
async fn the_epoch_alone_keeps_an_old_coordinator_out() {
    let place = Place::database();
    let Place::Database(server) = &place else { unreachable!() };
    let mut journal = place.open().await.unwrap();
    journal.append(&records([1])).await.unwrap();
    server.sql("UPDATE nadgrid_journal SET epoch = epoch + 1");
    assert!(said(&place, journal.append(&records([2])).await).contains("taken over"));
    assert_eq!(server.sql("SELECT count(*) FROM nadgrid_batches"), "1");
}

/// The server has committed, and its answer is lost: the batch is there once.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_no_second_batch() {
    let server = Server::start();
    let proxy = Proxy::start(&server);
    let mut journal = open(&proxy.url.as_str().into(), Path::new(""), PATIENCE).await.unwrap();
    journal.append(&records([1])).await.unwrap();
    proxy.lose_answer_after(0);
    journal.append(&records([2])).await.unwrap();
    assert!(proxy.has_lost(), "an answer was lost");
    assert_eq!(all(&mut journal).await.unwrap(), records(1..=2));
    // Whichever answer of a compaction is lost: the old records or the new ones, and a journal that goes on.
    let (mut old, mut outcomes) = (records(1..=2), std::collections::BTreeSet::new());
    for answers in 0..8 {
        let new = records([10 * answers, 10 * answers + 1]);
        proxy.lose_answer_after(answers as i64);
        let compacted = journal.compact(&mut new.clone().into_iter()).await;
        if !proxy.has_lost() {
            compacted.unwrap();
            break;
        }
        assert!(compacted.is_err());
        let more = records([1_000 + answers]);
        journal.append(&more).await.unwrap();
        let found = all(&mut journal).await.unwrap();
        let was_new = found == [new, more.clone()].concat();
        assert!(was_new || found == [old, more].concat(), "{found:?}");
        outcomes.insert(was_new);
        old = found;
    }
    assert_eq!(outcomes.len(), 2, "both were seen");
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_refused_without_its_password() {
    let server = Server::start();
    for (from, to) in [(PASSWORD, "battery-staple"), ("/postgres", "/nowhere"), ("nadgrid:", "nobody:")] {
        let url = server.url().replacen(from, to, 1);
        let said = open(&url.as_str().into(), Path::new(""), PATIENCE).await.err().unwrap().to_string();
        assert!(said.contains("cannot be used") && !said.contains(PASSWORD) && !said.contains("staple"), "{said}");
    }
}

/// Stands between a journal and its server.
struct Proxy {
    url: String,
    /// After so many answers of the server one is thrown away, and the connection with it; none if negative.
    answers: Arc<AtomicI64>,
}

impl Proxy {
    fn start(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let direct = url::Url::parse(&server.url()).unwrap();
        let mut url = direct.clone();
        url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let answers = Arc::new(AtomicI64::new(-1));
        let left = answers.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(("127.0.0.1", direct.port().unwrap())).unwrap();
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    drop(std::io::copy(&mut from, &mut to));
                    drop(to.shutdown(Shutdown::Both));
                });
                let left = left.clone();
                std::thread::spawn(move || forward(server, client, &left));
            }
        });
        Self { url: url.to_string(), answers }
    }

    fn lose_answer_after(&self, answers: i64) {
        self.answers.store(answers, Ordering::SeqCst);
    }

    /// Whether it has; if not, it will not any more.
    fn has_lost(&self) -> bool {
        self.answers.swap(-1, Ordering::SeqCst) < 0
    }
}

fn forward(mut server: TcpStream, mut client: TcpStream, answers: &AtomicI64) {
    use std::io::{Read, Write};
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = server.read(&mut buffer) {
        let left = answers.load(Ordering::SeqCst);
        if left >= 0 {
            answers.store(left - 1, Ordering::SeqCst);
        }
        if left == 0 || client.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    drop(client.shutdown(Shutdown::Both));
}
