//! An event loop whose journal can be held: what is told meanwhile, and what is not.

use super::*;
use crate::artifacts::{ArtifactsUrl, PresignSettings, Store};
use crate::journal::{Replayed, SnapshotReader};
use nadgrid_core::ids::{Digest, JobIndex, SweepId, WorkerId};
use nadgrid_core::numerics::{NumericsClass, Precision};
use nadgrid_core::scheduler::{
    Answer, FairShare, JobRef, Partial, Record, Settings, ShardRef, Subject, SweepState, Verdict, WorkerProfile,
};
use nadgrid_core::shell::{SessionNumber, WorkerMessage};
use nadgrid_core::spec::{Inputs, Spec};
use nadgrid_proto::v1;
use std::future::Future;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// Nothing is waited for longer: what is not there then does not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A journal in memory that writes when it is let.
#[derive(Clone)]
struct HeldJournal {
    records: Arc<Mutex<Vec<Record>>>,
    /// Whether it writes.
    open: watch::Sender<bool>,
    /// Writes that were begun.
    begun: watch::Sender<u64>,
    fault: watch::Sender<Option<Arc<str>>>,
}

impl HeldJournal {
    fn new() -> Self {
        let (open, begun, fault) = (watch::Sender::new(true), watch::Sender::new(0), watch::Sender::new(None));
        Self { records: Arc::default(), open, begun, fault }
    }

    fn hold(&self) {
        self.open.send_replace(false);
    }

    fn release(&self) {
        self.fault.send_replace(None);
        self.open.send_replace(true);
    }

    /// Waits until a write is begun beyond those that were when it was held.
    async fn is_waited_for(&self, begun: u64) {
        let mut writes = self.begun.subscribe();
        within(writes.wait_for(|writes| *writes > begun)).await.unwrap();
    }

    fn writes(&self) -> u64 {
        *self.begun.borrow()
    }
}

impl Journal for HeldJournal {
    fn name(&self) -> &str {
        "/data/held.sqlite"
    }

    async fn identity(&mut self) -> Result<JournalIdentity, JournalError> {
        Ok(JournalIdentity { id: "held".into(), batches: 0 })
    }

    fn faults(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.fault.subscribe()
    }

    async fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        self.begun.send_modify(|begun| *begun += 1);
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
        self.records.lock().unwrap().extend_from_slice(records);
        Ok(())
    }

    async fn replay(&mut self, apply: &mut (dyn FnMut(Record) + Send)) -> Result<Replayed, JournalError> {
        let records = self.records.lock().unwrap().clone();
        let replayed = Replayed { records: records.len() as u64, batches: 1 };
        records.into_iter().for_each(apply);
        Ok(replayed)
    }

    async fn compact(
        &mut self,
        records: &mut (dyn Iterator<Item = Record> + Send),
        mut reader: Box<dyn SnapshotReader>,
    ) -> Result<Replayed, JournalError> {
        let records: Vec<Record> = records.collect();
        records.iter().for_each(|record| reader.record(record.clone()).unwrap());
        reader.end().unwrap();
        let kept = Replayed { records: records.len() as u64, batches: 1 };
        *self.records.lock().unwrap() = records;
        Ok(kept)
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it is answered")
}

struct Office {
    handle: CoordinatorHandle,
    journal: HeldJournal,
    _folder: TempDir,
    _running: JoinHandle<Result<(), JournalError>>,
}

/// What a worker is told.
type Inbox = mpsc::Receiver<SessionNews>;

pub(crate) fn class() -> NumericsClass {
    NumericsClass {
        device: "cpu".into(),
        arithmetic: "portable".into(),
        evaluation: "patch".into(),
        libtorch: nadgrid_core::LIBTORCH_VERSION.into(),
        precision: "fp32".into(),
        kernels: 1,
    }
}

impl Office {
    async fn open(settings: Settings) -> Self {
        let (folder, journal) = (tempfile::tempdir().unwrap(), HeldJournal::new());
        let store = Store::open(&ArtifactsUrl::from(""), folder.path(), &PresignSettings::default()).await.unwrap();
        let scheduler = Scheduler::new(settings);
        let opened = EventLoop::open(scheduler, journal.clone(), store, 1, Tracer::off()).await;
        let (task, handle) = opened.unwrap();
        let running = tokio::spawn(task.run(CancellationToken::new()));
        Self { handle, journal, _folder: folder, _running: running }
    }

    /// Asks for a sweep; the answer is waited for by whoever wants it.
    fn submit(&self, id: &str) -> JoinHandle<Answer> {
        let text = "name = 't'\narchitectures = ['logreg']\n[nads]\nnetworks = 4096\nblock_size = 4";
        let (spec, id) = (Box::new(Spec::from_toml(text).unwrap()), SweepId::new(id));
        let submit = move |request| {
            let (owner, key, share, inputs) = (String::new(), None, FairShare::default(), Inputs::new());
            Event::Submit { request, id, owner, key, share, spec, inputs }
        };
        let handle = self.handle.clone();
        tokio::spawn(async move { handle.order(submit).await.unwrap() })
    }

    fn cancel(&self, id: &str) -> JoinHandle<Answer> {
        let (handle, sweep) = (self.handle.clone(), SweepId::new(id));
        tokio::spawn(async move { handle.order(move |request| Event::Cancel { request, sweep }).await.unwrap() })
    }

    /// A worker of one slot, and the shard that it is given.
    async fn join(&self, worker: &str) -> (Inbox, SessionNumber, ShardRef) {
        let (outbox, mut inbox) = mpsc::channel(64);
        let profile = WorkerProfile {
            name: worker.into(),
            class: class(),
            precisions: vec![Precision::Fp32],
            slots: 1,
            version: "0".into(),
        };
        let session = self.handle.attach(WorkerId::new(worker), profile, Vec::new(), outbox).await.unwrap();
        let shard = assigned(&mut inbox).await;
        (inbox, session, shard)
    }

    fn report(&self, worker: &str, shard: &ShardRef) -> JoinHandle<Answer> {
        let (handle, worker, shard) = (self.handle.clone(), WorkerId::new(worker), shard.clone());
        let partial = Partial::stored(Digest::of(format!("{shard:?}").as_bytes()));
        let class = class();
        let report =
            move |request| Event::Report { request, worker, shard, class, partial, seconds: 1.0, begin_seconds: 0.0 };
        tokio::spawn(async move { handle.ask(report).await.unwrap() })
    }

    async fn sweep(&self, id: &str) -> Option<v1::Sweep> {
        let id = SweepId::new(id);
        within(self.handle.read(move |durable| durable.sweep(&id))).await.unwrap().map(|told| (&told).into())
    }

    async fn list(&self) -> Vec<(String, v1::SweepState)> {
        let sweeps = within(self.handle.read(|durable| durable.sweeps_before(None, 10, |_| true))).await.unwrap();
        let wire = sweeps.iter().map(|(_, told)| v1::Sweep::from(told));
        wire.map(|sweep| (sweep.id.clone(), sweep.state())).collect()
    }

    async fn done(&self, id: &str) -> u64 {
        self.sweep(id).await.unwrap().jobs[0].members_done
    }
}

async fn assigned(inbox: &mut Inbox) -> ShardRef {
    loop {
        if let SessionNews::Assignment { assignment, .. } = within(inbox.recv()).await.unwrap() {
            return assignment.shard;
        }
    }
}

/// What the journal does not have yet, nobody hears of: it could still be lost.
#[tokio::test]
async fn what_is_not_durable_is_told_to_nobody() {
    let office = Office::open(Settings::default()).await;
    within(office.submit("first")).await.unwrap();
    let before = [("first".to_owned(), v1::SweepState::Queued)];
    assert_eq!(office.list().await, before);
    office.journal.hold();
    let begun = office.journal.writes();
    let (second, cancelled) = (office.submit("second"), office.cancel("first"));
    office.journal.is_waited_for(begun).await;
    assert_eq!(office.list().await, before);
    assert_eq!(office.sweep("second").await, None);
    let id = SweepId::new("second");
    let known = move |durable: &mut Durable<'_>| {
        (durable.is_known(&id), durable.owner(&id), durable.explain(&id, Subject::Sweep))
    };
    assert_eq!(within(office.handle.read(known)).await.unwrap(), (false, None, None));
    let id = SweepId::new("second");
    assert!(within(office.handle.follow(id)).await.unwrap().is_none());
    assert!(!second.is_finished() && !cancelled.is_finished(), "they wait for the journal");
    office.journal.release();
    assert!(matches!(within(second).await.unwrap(), Answer::Submitted { created: true, .. }));
    assert_eq!(within(cancelled).await.unwrap(), Answer::Done);
    let after = [("second".to_owned(), v1::SweepState::Queued), ("first".to_owned(), v1::SweepState::Cancelled)];
    assert_eq!(office.list().await, after);
}

/// Who has seen a result still sees it, and the next one only once it is durable.
#[tokio::test]
async fn what_was_seen_stays_and_nothing_is_added() {
    let office = Office::open(Settings::default()).await;
    within(office.submit("s")).await.unwrap();
    let (mut inbox, _, shard) = office.join("w").await;
    let committed = Answer::Reported(Verdict::Committed);
    assert_eq!(within(office.report("w", &shard)).await.unwrap(), committed);
    let (seen, next) = (office.done("s").await, assigned(&mut inbox).await);
    assert!(seen > 0);
    office.journal.hold();
    let begun = office.journal.writes();
    let report = office.report("w", &next);
    office.journal.is_waited_for(begun).await;
    assert_eq!(office.done("s").await, seen);
    let id = SweepId::new("s");
    let committed_now =
        within(office.handle.read(move |durable| durable.committed(&JobRef::new(&id, JobIndex(0))))).await.unwrap();
    assert_eq!(committed_now.unwrap().len(), 1, "no picture shows it either");
    let id = SweepId::new("s");
    let block = |shard: &ShardRef| Subject::Block(JobIndex(0), shard.node.blocks(1024).start);
    let subjects = [block(&shard), block(&next), Subject::Job(JobIndex(0)), Subject::Sweep];
    let explain = move |durable: &mut Durable<'_>| subjects.map(|subject| durable.explain(&id, subject).unwrap().state);
    let states = within(office.handle.read(explain)).await.unwrap();
    assert_eq!(states, ["committed", "waiting for the journal", "computing", "running"]);
    assert!(!report.is_finished());
    office.journal.release();
    assert_eq!(within(report).await.unwrap(), committed);
    assert!(office.done("s").await > seen);
}

/// Whether the first thing that a sweep is told to wait for is the journal.
fn names_the_journal(told: &ToldSweep) -> bool {
    v1::Sweep::from(told).notices.first().is_some_and(|notice| notice.contains("/data/held.sqlite"))
}

/// Everything that is told meanwhile says what is waited for, and since when; afterwards nothing does.
#[tokio::test]
async fn what_is_waited_for_is_told() {
    let office = Office::open(Settings::default()).await;
    within(office.submit("s")).await.unwrap();
    let mut watched = within(office.handle.follow(SweepId::new("s"))).await.unwrap().unwrap();
    assert!(!names_the_journal(&watched.borrow_and_update()));
    office.journal.hold();
    office.journal.fault.send_replace(Some("database or disk is full".into()));
    let paused = office.cancel("other");
    let second = office.submit("second");
    // Watchers are told without asking.
    let notice = within(watched.wait_for(|told| names_the_journal(told))).await.unwrap().waits().unwrap().to_owned();
    for words in ["/data/held.sqlite", "database or disk is full", "nothing new is accepted"] {
        assert!(notice.contains(words), "{notice}");
    }
    assert!(office.sweep("s").await.unwrap().notices[0].contains("/data/held.sqlite"));
    let wait = within(office.handle.read(|durable| durable.wait())).await.unwrap().unwrap();
    assert!(wait.to_string().contains("database or disk is full") && wait.seconds() > 0.0);
    assert!(office.handle.journal_wait().borrow().is_some(), "for calls that are given up");
    let id = SweepId::new("s");
    let told = within(office.handle.read(move |durable| durable.explain(&id, Subject::Sweep))).await.unwrap().unwrap();
    assert!(told.reasons[0].contains("/data/held.sqlite"), "{told:?}");
    office.journal.release();
    assert_eq!(within(paused).await.unwrap(), Answer::UnknownSweep);
    within(second).await.unwrap();
    within(watched.wait_for(|told| !names_the_journal(told))).await.unwrap();
    assert!(office.handle.journal_wait().borrow().is_none());
    assert!(within(office.handle.read(|durable| durable.wait())).await.unwrap().is_none());
}

/// A worker speaks while nobody listens: its lease is not lost for that, although its words are taken in late.
#[tokio::test]
async fn a_worker_keeps_its_lease_while_the_journal_waits() {
    let lease_ttl_ms = 2_000;
    let office = Office::open(Settings { lease_ttl_ms, ..Settings::default() }).await;
    within(office.submit("s")).await.unwrap();
    let (mut inbox, session, shard) = office.join("w").await;
    office.journal.hold();
    let begun = office.journal.writes();
    let second = office.submit("second");
    office.journal.is_waited_for(begun).await;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(lease_ttl_ms / 4)).await;
        office.handle.message(WorkerId::new("w"), session, WorkerMessage::Alive).await.unwrap();
    }
    office.journal.release();
    within(second).await.unwrap();
    // In its turn, so that all that the worker said was taken in.
    let held =
        office.handle.query(|scheduler, now| scheduler.workers(now).iter().map(|worker| worker.leases).sum::<u32>());
    assert_eq!(within(held).await.unwrap(), 1);
    assert_eq!(within(office.report("w", &shard)).await.unwrap(), Answer::Reported(Verdict::Committed));
    let told = std::iter::from_fn(|| inbox.try_recv().ok());
    let revoked = told.filter(|told| matches!(told, SessionNews::Revocation { .. })).count();
    assert_eq!(revoked, 0);
}

/// The oldest sweep may be forgotten as it ends: nobody follows it for ever.
#[tokio::test]
async fn who_follows_a_sweep_that_is_forgotten_is_let_go() {
    let office = Office::open(Settings { most_ended_sweeps: 1, ..Settings::default() }).await;
    within(office.submit("first")).await.unwrap();
    within(office.submit("second")).await.unwrap();
    let mut watched = within(office.handle.follow(SweepId::new("first"))).await.unwrap().unwrap();
    within(office.cancel("second")).await.unwrap();
    within(office.cancel("first")).await.unwrap();
    assert_eq!(office.sweep("first").await, None);
    within(async { while watched.changed().await.is_ok() {} }).await;
}

/// Who gave up waiting finds later that nothing was done.
#[tokio::test]
async fn what_was_given_up_is_not_done_afterwards() {
    let office = Office::open(Settings::default()).await;
    within(office.submit("s")).await.unwrap();
    office.journal.hold();
    let begun = office.journal.writes();
    let second = office.submit("second");
    office.journal.is_waited_for(begun).await;
    let (given_up, cancelled) = (office.submit("third"), office.cancel("s"));
    // Both are in the queue.
    within(async {
        while office.handle.commands.capacity() > QUEUE - 2 {
            tokio::task::yield_now().await
        }
    })
    .await;
    given_up.abort();
    assert!(within(given_up).await.unwrap_err().is_cancelled());
    office.journal.release();
    within(second).await.unwrap();
    assert_eq!(within(cancelled).await.unwrap(), Answer::Done);
    assert_eq!(office.sweep("third").await, None);
}

/// What is told after a crash in the middle of a wait is what was told before it.
#[tokio::test]
async fn a_crash_while_the_journal_waits_loses_nothing_that_was_told() {
    let office = Office::open(Settings::default()).await;
    within(office.submit("s")).await.unwrap();
    let (_inbox, _, shard) = office.join("w").await;
    office.journal.hold();
    let begun = office.journal.writes();
    let report = office.report("w", &shard);
    office.journal.is_waited_for(begun).await;
    let (told, listed) = (office.sweep("s").await.unwrap(), office.list().await);
    report.abort();
    let mut scheduler = Scheduler::new(Settings::default());
    office.journal.records.lock().unwrap().clone().into_iter().for_each(|record| scheduler.replay(record));
    let after = v1::Sweep::from(&scheduler.sweep(&SweepId::new("s")).unwrap());
    assert_eq!((told.state(), told.jobs[0].members_done), (after.state(), after.jobs[0].members_done));
    assert_eq!(listed.len(), scheduler.sweeps_before(None, 10, |_| true).len());
    // Its lease is gone with the crash, and nothing of it is kept yet: no class is decided either.
    let sweep = scheduler.sweep(&SweepId::new("s")).unwrap();
    assert_eq!((sweep.state, sweep.class), (SweepState::Queued, None));
}
