//! Compactions: all or nothing, whatever goes wrong at any step.

use super::*;
use crate::journal::ledger::{BatchRange, TableFailure, Tables};
use nadgrid_core::scheduler::{Scheduler, Settings};
use tokio::sync::Notify;

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

/// The way in which a step of a compaction fails.
#[derive(Clone, Copy, Debug)]
struct Fault {
    /// Whether it fails after it was done; otherwise before.
    done: bool,
    /// Whether the coordinator is killed; otherwise the step returns an error.
    kills: bool,
}

/// Tables that fail at one step of a compaction.
struct Failing<T> {
    tables: T,
    fault: Fault,
    /// The number of steps before that one; `None` after it, or if no step fails.
    left: Option<usize>,
    killed: Arc<Notify>,
    replaced: bool,
}

impl<T: Tables> Failing<T> {
    /// Called before and after each step; fails at the chosen one.
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

async fn compaction_is_all_or_nothing(place: TestJournal) {
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

#[tokio::test]
async fn a_file_is_compacted_or_not() {
    compaction_is_all_or_nothing(TestJournal::file()).await;
}

#[tokio::test]
async fn a_database_is_compacted_or_not() {
    compaction_is_all_or_nothing(TestJournal::database()).await;
}

async fn what_cannot_be_read_back_replaces_nothing(place: TestJournal) {
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
    assert!(refused.contains("\"tally\"") && refused.contains("tally.slot_seconds"), "{refused}");
    let refused = said(&place, journal.append(&[ended(9), infinite()]).await);
    assert!(refused.contains("tally.slot_seconds"), "{refused}");
    journal.append(&records([4])).await.unwrap();
    drop(journal);
    assert_eq!(all(&mut place.open().await.unwrap()).await.unwrap(), records(1..=4));
}

#[tokio::test]
async fn a_file_keeps_what_can_be_read() {
    what_cannot_be_read_back_replaces_nothing(TestJournal::file()).await;
}

#[tokio::test]
async fn a_database_keeps_what_can_be_read() {
    what_cannot_be_read_back_replaces_nothing(TestJournal::database()).await;
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
        let crate::journal::target::JournalTarget::Postgres(options) = place else { unreachable!() };
        Postgres::open(name, *options).await.unwrap()
    };
    a_compaction_that_goes_wrong_at_any_step(open).await;
}

/// A compaction returns the space of removed rows to the disk.
#[tokio::test]
async fn a_compacted_file_is_small() {
    let place = TestJournal::file();
    let TestJournal::File(folder) = &place else { unreachable!() };
    let size =
        || -> u64 { std::fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum() };
    let mut journal = place.open().await.unwrap();
    journal.append(&records(0..50_000)).await.unwrap();
    let before = size();
    journal.compact(&mut records(0..10).into_iter(), unread()).await.unwrap();
    assert!(before > 1 << 22 && size() < 1 << 16, "{before} bytes became {}", size());
}
