//! The same of a journal in a SQLite file and of one in a PostgreSQL database; then what each has of its own.

use super::ledger::{BatchRange, TableFailure, Tables};
use super::*;
use nadgrid_core::ids::{JobIndex, SweepId, Time};
use nadgrid_core::scheduler::{Outcome, Scheduler, Settings, Tally};
use nadgrid_tests::postgres::{PASSWORD, Postgres as Server, Stop};
use sqlx::{ConnectOptions, Connection};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use tempfile::TempDir;
use tokio::sync::Notify;

const PATIENCE: Duration = Duration::from_secs(60);

fn ended(number: u64) -> Record {
    let outcome = Outcome::Failed { message: format!("no {number}") };
    Record::Ended { sweep: SweepId::new(number.to_string()), outcome, at: Time(number) }
}

fn records(numbers: impl IntoIterator<Item = u64>) -> Vec<Record> {
    numbers.into_iter().map(ended).collect()
}

/// What a snapshot is read by where only the rows are looked at.
fn unread() -> Box<dyn SnapshotReader> {
    Box::new(())
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
        journal.compact(&mut dying, unread()).await
    });
    assert!(died.await.unwrap_err().is_panic());
    let mut journal = place.open().await.unwrap();
    assert_eq!(all(&mut journal).await.unwrap(), records(1..=3));
    journal.append(&records([4])).await.unwrap();
    let written = journal.compact(&mut records(100..100 + many).into_iter(), unread()).await.unwrap();
    assert!(written.records == many && written.batches > 1, "{written:?}");
    journal.append(&records([5])).await.unwrap();
    drop(journal);
    let mut journal = place.open().await.unwrap();
    let expected: Vec<_> = (100..100 + many).chain([5]).collect();
    assert!(all(&mut journal).await.unwrap() == records(expected));
    assert_eq!(journal.compact(&mut std::iter::empty(), unread()).await.unwrap(), Replayed::default());
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

fn remove_mark(place: &Place) {
    if let Place::File(folder) = place {
        std::fs::remove_file(mark::path(&folder.path().join("journal.sqlite"))).unwrap();
    }
}

/// A record whose number is not finite, as two workers' seconds may add up to.
fn infinite() -> Record {
    let tally = Tally { lane_seconds: f64::INFINITY, ..Tally::default() };
    Record::Tally { sweep: SweepId::new("s"), job: JobIndex(0), tally }
}

type Refuse = fn() -> Result<(), String>;

/// Refuses a snapshot at its second record, or at the end.
struct Reader {
    seen: u64,
    refuse: Refuse,
    at_end: bool,
}

impl SnapshotReader for Reader {
    fn record(&mut self, _: Record) -> Result<(), String> {
        self.seen += 1;
        if self.seen == 2 && !self.at_end { (self.refuse)() } else { Ok(()) }
    }

    fn end(&mut self) -> Result<(), String> {
        if self.at_end { (self.refuse)() } else { Ok(()) }
    }
}

async fn what_cannot_be_read_back_replaces_nothing(place: Place) {
    let mut journal = place.open().await.unwrap();
    journal.append(&records(1..=3)).await.unwrap();
    let refusals: [(Refuse, _); 2] =
        [(|| Err("no such state".to_owned()), "no such state"), (|| panic!("a mistake of ours"), "panicked")];
    for (refuse, words) in refusals {
        for at_end in [false, true] {
            let reader = Box::new(Reader { seen: 0, refuse, at_end });
            let refused = said(&place, journal.compact(&mut records(10..20).into_iter(), reader).await);
            assert!(refused.contains("old one is kept") && refused.contains(words), "{refused}");
            assert_eq!(all(&mut journal).await.unwrap(), records(1..=3));
        }
    }
    // The state that these records lead to has none of them: they end sweeps that were never submitted.
    let replica = Box::new(Scheduler::new(Settings::default()).replica());
    let refused = said(&place, journal.compact(&mut records(10..20).into_iter(), replica).await);
    assert!(refused.contains("record 1, of sweep 10"), "{refused}");
    let mut infinite_too = records(10..20).into_iter().chain([infinite()]);
    let refused = said(&place, journal.compact(&mut infinite_too, unread()).await);
    assert!(refused.contains("\"tally\"") && refused.contains("tally.lane_seconds"), "{refused}");
    let refused = said(&place, journal.append(&[ended(9), infinite()]).await);
    assert!(refused.contains("tally.lane_seconds"), "{refused}");
    journal.append(&records([4])).await.unwrap();
    drop(journal);
    assert_eq!(all(&mut place.open().await.unwrap()).await.unwrap(), records(1..=4));
}

#[tokio::test]
async fn a_file_keeps_what_can_be_read() {
    what_cannot_be_read_back_replaces_nothing(Place::file()).await;
}

#[tokio::test]
async fn a_database_keeps_what_can_be_read() {
    what_cannot_be_read_back_replaces_nothing(Place::database()).await;
}

/// How a step of a compaction goes wrong.
#[derive(Clone, Copy, Debug)]
struct Fault {
    /// After it was done, else before.
    done: bool,
    /// The coordinator is killed, else the step fails.
    kills: bool,
}

/// Tables of which one step of a compaction goes wrong.
struct Failing<T> {
    tables: T,
    fault: Fault,
    /// Steps before that one; `None` when it has come, or no step is to fail.
    left: Option<usize>,
    killed: Arc<Notify>,
    replaced: bool,
}

impl<T: Tables> Failing<T> {
    /// Comes before a step, and after it.
    async fn step(&mut self, done: bool) -> Result<(), TableFailure> {
        match self.left {
            None => return Ok(()),
            Some(0) if done != self.fault.done => return Ok(()),
            Some(0) => self.left = None,
            Some(left) => {
                self.left = Some(if done { left - 1 } else { left });
                return Ok(());
            }
        }
        if self.fault.kills {
            self.killed.notify_one();
            std::future::pending::<()>().await;
        }
        Err(TableFailure { error: JournalError::Silent { journal: self.tables.name().to_owned() }, is_transient: true })
    }
}

impl<T: Tables> Tables for Failing<T> {
    fn name(&self) -> &str {
        self.tables.name()
    }

    async fn id(&mut self, new: &str) -> Result<String, TableFailure> {
        self.tables.id(new).await
    }

    async fn recover(&mut self) -> Result<BatchRange, TableFailure> {
        self.tables.recover().await
    }

    async fn append(&mut self, number: i64, body: &[u8]) -> Result<(), TableFailure> {
        self.tables.append(number, body).await
    }

    async fn read(&mut self, from: i64) -> Result<Vec<(i64, Vec<u8>)>, TableFailure> {
        self.step(false).await?;
        let read = self.tables.read(from).await?;
        self.step(true).await?;
        Ok(read)
    }

    async fn begin(&mut self) -> Result<(), TableFailure> {
        self.step(false).await?;
        self.tables.begin().await?;
        self.step(true).await
    }

    async fn insert(&mut self, number: i64, body: &[u8]) -> Result<(), TableFailure> {
        self.step(false).await?;
        self.tables.insert(number, body).await?;
        self.step(true).await
    }

    async fn replace(&mut self, range: BatchRange) -> Result<(), TableFailure> {
        self.step(false).await?;
        self.tables.replace(range).await?;
        self.replaced = true;
        self.step(true).await
    }
}

async fn rows<T: Tables>(ledger: &mut Ledger<T>) -> Vec<Record> {
    let mut found = Vec::new();
    ledger.replay(&mut |record| found.push(record)).await.unwrap();
    found
}

/// A record of which a few are a batch.
fn large(number: u64) -> Record {
    let outcome = Outcome::Failed { message: format!("no {number} {}", "x".repeat(100_000)) };
    Record::Ended { sweep: SweepId::new(number.to_string()), outcome, at: Time(number) }
}

async fn a_compaction_that_goes_wrong_at_any_step<T: Tables>(open: impl AsyncFn() -> T) {
    let faults = [(false, false), (false, true), (true, false), (true, true)];
    for fault in faults.map(|(done, kills)| Fault { done, kills }) {
        let mut replaced = 0;
        for step in 0.. {
            let killed = Arc::new(Notify::new());
            let failing = Failing { tables: open().await, fault, left: None, killed: killed.clone(), replaced: false };
            let mut ledger = Ledger::new(failing, PATIENCE);
            ledger.append(&records([1])).await.unwrap();
            let old = rows(&mut ledger).await;
            let new: Vec<_> = (10..16).map(large).chain([ended(step)]).collect();
            ledger.tables().left = Some(step as usize);
            let mut snapshot = new.clone().into_iter();
            let compacted = tokio::select! {
                compacted = ledger.compact(&mut snapshot, unread()) => Some(compacted),
                () = killed.notified() => None,
            };
            let is_new = ledger.tables().replaced;
            let goes_wrong = ledger.tables().left.take().is_none();
            assert_eq!(compacted.is_some_and(|compacted| compacted.is_ok()), !goes_wrong, "{fault:?}, step {step}");
            if fault.kills && goes_wrong {
                drop(ledger);
                let failing = Failing { tables: open().await, fault, left: None, killed, replaced: false };
                ledger = Ledger::new(failing, PATIENCE);
            }
            let expected = if is_new { new } else { old };
            assert!(rows(&mut ledger).await == expected, "{fault:?}, step {step}");
            ledger.append(&records([2])).await.unwrap();
            assert!(rows(&mut ledger).await == [expected, records([2])].concat(), "{fault:?}, step {step}");
            replaced += usize::from(is_new);
            if !goes_wrong {
                // It begins, writes more than one batch, reads them, and that there are no more, and replaces the old ones.
                assert!(step >= 6, "{step} steps");
                break;
            }
        }
        assert_eq!(replaced, 1 + usize::from(fault.done), "{fault:?}");
    }
}

#[tokio::test]
async fn a_file_is_compacted_or_not_whatever_step_goes_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    a_compaction_that_goes_wrong_at_any_step(async || Sqlite::open(&path).await.unwrap()).await;
}

#[tokio::test]
async fn a_database_is_compacted_or_not_whatever_step_goes_wrong() {
    let server = Server::start();
    let open = async || {
        let place = JournalUrl::from(server.url().as_str()).target(Path::new("")).unwrap();
        let name = place.to_string();
        let super::target::JournalTarget::Postgres(options) = place else { unreachable!() };
        Postgres::open(name, *options).await.unwrap()
    };
    a_compaction_that_goes_wrong_at_any_step(open).await;
}

/// The files of a journal: the database, its log and its mark.
const FILES: [&str; 3] = ["journal.sqlite", "journal.sqlite-wal", "journal.sqlite-mark"];

type Files = [Option<Vec<u8>>; 3];

/// Reads a journal's files, the mark first: it must not promise more than was copied.
fn files_of(folder: &Path) -> Files {
    let mark = std::fs::read(folder.join(FILES[2])).ok();
    let [database, log] = [FILES[0], FILES[1]].map(|name| std::fs::read(folder.join(name)).ok());
    [database, log, mark]
}

/// What a journal with these files gives back.
async fn found_in(files: &Files) -> Result<Vec<Record>, JournalError> {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in FILES.iter().zip(files) {
        bytes.iter().for_each(|bytes| std::fs::write(folder.path().join(name), bytes).unwrap());
    }
    all(&mut open(&JournalUrl::default(), folder.path(), Duration::ZERO).await?).await
}

fn flipped(files: &Files, file: usize, bit: usize) -> Files {
    let mut files = files.clone();
    files[file].as_mut().unwrap()[bit / 8] ^= 1 << (bit % 8);
    files
}

/// Bits all over a file: of its beginning, of its end, and others at odd distances.
fn bits_of(file: &[u8]) -> impl Iterator<Item = usize> + use<> {
    let bits = 8 * file.len();
    let ends = (0..256).step_by(11).chain((bits - 32_000..bits).step_by(4_001));
    ends.chain((0..120).map(move |turn| turn * 7_000_021 % bits))
}

async fn settled(folder: &Path, last: i64) {
    while mark::read(&folder.join(FILES[2])).unwrap() != Some(last) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn no_flipped_bit_of_a_log_loses_anything_in_silence() {
    let place = Place::file();
    let Place::File(folder) = &place else { unreachable!() };
    let mut journal = place.open().await.unwrap();
    for number in 1..=12 {
        journal.append(&records([number, 100 + number])).await.unwrap();
    }
    settled(folder.path(), 12).await;
    let files = files_of(folder.path());
    let expected = all(&mut journal).await.unwrap();
    assert_eq!(found_in(&files).await.unwrap(), expected, "the copy is whole");
    let unmarked = [files[0].clone(), files[1].clone(), None];
    let (mut by_the_mark, mut in_the_log) = (0, 0);
    for bit in bits_of(files[1].as_ref().unwrap()) {
        match found_in(&flipped(&files, 1, bit)).await {
            Ok(found) => assert_eq!(found, expected, "bit {bit}"),
            Err(JournalError::Log { .. }) => in_the_log += 1,
            Err(_) => {
                by_the_mark += 1;
                // Without the mark this would go unnoticed, and so could no batch but the last.
                let found = found_in(&flipped(&unmarked, 1, bit)).await.unwrap();
                assert!(found == expected[..22], "bit {bit}: {} records", found.len());
            }
        }
    }
    assert!(in_the_log > 80 && by_the_mark > 0, "{in_the_log} were noticed in the log, {by_the_mark} by the mark");
    // A log that is cut off or gone is noticed by the mark.
    for length in [0, 1_000, files[1].as_ref().unwrap().len() - 1] {
        let mut cut = files.clone();
        cut[1].as_mut().unwrap().truncate(length);
        let shorter = found_in(&cut).await.unwrap_err();
        assert!(matches!(shorter, JournalError::Shorter { marked: 12, .. }), "{length}: {shorter}");
    }
}

#[tokio::test]
async fn no_flipped_bit_of_a_file_loses_anything_in_silence() {
    let place = Place::file();
    let Place::File(folder) = &place else { unreachable!() };
    let mut journal = place.open().await.unwrap();
    for number in 1..=12 {
        journal.append(&records([number, 100 + number])).await.unwrap();
    }
    let expected = all(&mut journal).await.unwrap();
    settled(folder.path(), 12).await;
    drop(journal);
    // Its log goes into the file when it is closed.
    while folder.path().join(FILES[1]).exists() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let [database, _, mark] = files_of(folder.path());
    let files = [database, None, mark];
    assert_eq!(found_in(&files).await.unwrap(), expected);
    let mut noticed = 0;
    for bit in bits_of(files[0].as_ref().unwrap()) {
        match found_in(&flipped(&files, 0, bit)).await {
            Ok(found) => assert_eq!(found, expected, "bit {bit}"),
            Err(_) => noticed += 1,
        }
    }
    assert!(noticed > 10, "{noticed} were noticed");
}

/// A journal's files are copied while it is written: what was acknowledged before is in the copy, or the copy is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_made_at_any_instant_has_what_was_acknowledged() {
    let place = Place::file();
    let Place::File(folder) = &place else { unreachable!() };
    let path = folder.path().to_owned();
    let mut journal = place.open().await.unwrap();
    // Between two appends a copy is whole, and nothing of it is refused.
    for number in 1..=5 {
        journal.append(&[ended(number)]).await.unwrap();
        assert_eq!(found_in(&files_of(&path)).await.unwrap(), records(1..=number));
    }
    let (acknowledged, over) = (Arc::new(AtomicU64::new(5)), Arc::new(AtomicBool::new(false)));
    let writer = tokio::spawn({
        let (acknowledged, over) = (acknowledged.clone(), over.clone());
        async move {
            for number in 6.. {
                if over.load(Ordering::SeqCst) {
                    break;
                }
                // Every few batches are a checkpoint, and now and then a compaction replaces them all.
                let batch: &[Record] = if number % 3 == 0 { &[large(number)] } else { &[ended(number)] };
                journal.append(batch).await.unwrap();
                acknowledged.store(number, Ordering::SeqCst);
                if number % 64 == 0 {
                    journal.compact(&mut records(1..=number).into_iter(), unread()).await.unwrap();
                }
            }
        }
    });
    let mut whole = 0;
    for turn in 0..60_u64 {
        tokio::time::sleep(Duration::from_millis(turn * 7 % 11)).await;
        let before = acknowledged.load(Ordering::SeqCst);
        let files = tokio::task::spawn_blocking({
            let path = path.clone();
            move || files_of(&path)
        });
        if let Ok(found) = found_in(&files.await.unwrap()).await {
            assert!(found.len() as u64 >= before, "{} records of {before}", found.len());
            assert!(found.iter().zip(1..).all(|(record, number)| record.sweep().as_str() == number.to_string()));
            whole += 1;
        }
    }
    over.store(true, Ordering::SeqCst);
    writer.await.unwrap();
    assert!(whole > 0, "no copy was whole");
}

#[tokio::test]
async fn a_file_in_the_place_of_a_longer_one_is_refused() {
    let place = Place::file();
    let Place::File(folder) = &place else { unreachable!() };
    let mut journal = place.open().await.unwrap();
    journal.append(&records([1])).await.unwrap();
    let old = files_of(folder.path());
    journal.append(&records([2])).await.unwrap();
    settled(folder.path(), 2).await;
    let [.., mark] = files_of(folder.path());
    for [database, log] in [[old[0].clone(), old[1].clone()], [None, None]] {
        let refused = found_in(&[database.clone(), log.clone(), mark.clone()]).await.unwrap_err().to_string();
        assert!(refused.contains("batch 2 was acknowledged") && refused.contains("remove"), "{refused}");
        let had = if database.is_some() { records([1]) } else { Vec::new() };
        assert_eq!(found_in(&[database, log, None]).await.unwrap(), had);
    }
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
    let full = journal.compact(&mut records(1_000..9_000).into_iter(), unread()).await;
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
    journal.compact(&mut records(0..10).into_iter(), unread()).await.unwrap();
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
    assert!(said(&place, first.compact(&mut records([6]).into_iter(), unread()).await).contains("taken over"));
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
    for answers in 0..16 {
        let new = records([10 * answers, 10 * answers + 1]);
        proxy.lose_answer_after(answers as i64);
        let compacted = journal.compact(&mut new.clone().into_iter(), unread()).await;
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
