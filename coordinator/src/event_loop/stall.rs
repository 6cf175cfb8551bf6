//! A write to the journal that takes long: those who only ask are answered meanwhile, and told what is waited for.

use super::Clock;
use super::durable::{Durable, Pending};
use super::handle::LoopRead;
use super::observe::Onlookers;
use nadgrid_core::ids::Time;
use nadgrid_core::scheduler::{Record, Scheduler};
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

/// A write that takes no longer is waited for by everybody: usually it takes a few milliseconds.
const UNNOTICED: Duration = Duration::from_millis(250);
/// A write that takes longer is told.
const TOLD_AFTER: Duration = Duration::from_secs(1);
/// Watchers hear this often how long it has been.
const WATCHERS_EVERY: Duration = Duration::from_secs(5);
/// The log repeats this often that the journal is waited for.
const LOG_EVERY: Duration = Duration::from_secs(30);

/// The work of the journal that takes so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JournalWork {
    /// The journal appends a batch of records.
    Append,
    /// It is replaced by a snapshot.
    Compact,
}

/// A journal that is waited for.
#[derive(Clone, Debug)]
pub(crate) struct JournalWait {
    journal: Arc<str>,
    work: JournalWork,
    since: Instant,
    /// The journal's last message; `None` when it has reported nothing.
    fault: Option<Arc<str>>,
}

impl JournalWait {
    /// Returns the seconds that the wait has lasted.
    pub(crate) fn seconds(&self) -> f64 {
        self.since.elapsed().as_secs_f64()
    }
}

impl fmt::Display for JournalWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { journal, work, since, fault } = self;
        let seconds = since.elapsed().as_secs();
        match (work, fault) {
            (JournalWork::Append, Some(fault)) => {
                write!(f, "the journal ({journal}) has waited for {seconds} s: {fault}")?;
            }
            (JournalWork::Append, None) => write!(f, "the journal ({journal}) has not answered for {seconds} s")?,
            (JournalWork::Compact, _) => write!(f, "the journal ({journal}) has been compacted for {seconds} s")?,
        }
        f.write_str("; nothing new is accepted until it can write")
    }
}

/// The journal's name, its faults, and the receivers of the wait for it.
pub(super) struct JournalWatch {
    pub(super) journal: Arc<str>,
    /// The journal's last message while it tries again.
    pub(super) faults: watch::Receiver<Option<Arc<str>>>,
    /// The current wait, for those who may give up waiting.
    pub(super) told: watch::Sender<Option<JournalWait>>,
}

/// Everything that answers are made from, while the journal is busy.
pub(super) struct Answering<'a> {
    pub(super) reads: &'a mut mpsc::Receiver<LoopRead>,
    pub(super) scheduler: &'a Scheduler,
    pub(super) onlookers: &'a mut Onlookers,
    pub(super) clock: &'a Clock,
    pub(super) watch: &'a JournalWatch,
}

impl Answering<'_> {
    /// Answers one question from what is durable.
    pub(super) fn answer(&mut self, read: LoopRead, pending: &Pending<'_>, wait: Option<JournalWait>, now: Time) {
        match read {
            LoopRead::State(query) => query(&mut self.durable(pending, wait, now)),
            LoopRead::Timelines(query) => query(&self.onlookers.timelines),
            LoopRead::Follow(sweep, reply) => drop(reply.send(self.durable(pending, wait, now).follow(&sweep))),
        }
    }

    fn durable<'b>(&'b mut self, pending: &'b Pending<'b>, wait: Option<JournalWait>, now: Time) -> Durable<'b> {
        Durable { scheduler: self.scheduler, views: &mut self.onlookers.views, pending, wait, now }
    }

    /// Waits for the journal, and answers meanwhile if that takes long. Also returns for how long nobody was listened to, if
    /// that is worth a word.
    pub(super) async fn until<T>(
        mut self,
        work: JournalWork,
        records: &[Record],
        done: impl Future<Output = T>,
    ) -> (T, Option<Duration>) {
        let mut done = pin!(done);
        let (since, now) = (Instant::now(), self.clock.now());
        if let Ok(done) = tokio::time::timeout(UNNOTICED, &mut done).await {
            return (done, None);
        }
        let pending = Pending::of(records);
        let mut look = tokio::time::interval(TOLD_AFTER);
        let mut telling = Telling::default();
        let result = loop {
            tokio::select! {
                biased;
                result = &mut done => break result,
                Some(read) = self.reads.recv() => {
                    let wait = self.wait(work, since);
                    self.answer(read, &pending, wait, now);
                }
                _ = look.tick() => if let Some(wait) = self.wait(work, since) {
                    self.watch.told.send_replace(Some(wait.clone()));
                    if telling.watchers_are_due() {
                        self.durable(&pending, Some(wait.clone()), now).tell_watchers();
                    }
                    if telling.log_is_due() {
                        warn!("{wait}");
                    }
                },
            }
        };
        if self.watch.told.send_replace(None).is_some() {
            info!(
                journal = &*self.watch.journal,
                seconds = since.elapsed().as_secs_f64(),
                "the journal is no longer waited for"
            );
            self.onlookers.views.watched_changed();
        }
        (result, Some(since.elapsed()))
    }

    fn wait(&self, work: JournalWork, since: Instant) -> Option<JournalWait> {
        let journal = self.watch.journal.clone();
        let fault = self.watch.faults.borrow().clone();
        (since.elapsed() >= TOLD_AFTER).then_some(JournalWait { journal, work, since, fault })
    }
}

/// The times when watchers and the log were last told.
#[derive(Default)]
struct Telling {
    watchers: Option<Instant>,
    log: Option<Instant>,
}

impl Telling {
    fn watchers_are_due(&mut self) -> bool {
        is_due(&mut self.watchers, WATCHERS_EVERY)
    }

    fn log_is_due(&mut self) -> bool {
        is_due(&mut self.log, LOG_EVERY)
    }
}

fn is_due(last: &mut Option<Instant>, every: Duration) -> bool {
    let due = last.is_none_or(|last| last.elapsed() >= every);
    if due {
        *last = Some(Instant::now());
    }
    due
}
