//! The state that may be reported: as far as the journal has it.
//!
//! Between two writes all of the scheduler's state is durable, and answers come from it. While a write is under way the
//! scheduler is ahead of the journal by the records of that write. Should it take long, a sweep that one of them touches is shown
//! as it was last looked at ([`Views`]), and every other sweep as it is. What is in no journal (workers, leases, progress) is
//! shown as it is: a crash takes it whatever was told. Deliberately absent: a second state machine that lags behind the first; and
//! views of ended sweeps, so that one that is being forgotten is unknown a moment too early, and after a crash forgotten again.

use super::stall::JournalWait;
use nadgrid_core::ids::{JobIndex, SweepId, Time};
use nadgrid_core::numerics::Precision;
use nadgrid_core::scheduler::{
    ArtifactRef, Committed, Explanation, JobRef, Record, Scheduler, Subject, SweepView, WorkerView, Workforce,
};
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Views of sweeps that nobody watches are this old at most.
const REFRESH_EVERY: Duration = Duration::from_secs(1);
/// The reported state of a block while a record about it is being written.
const UNWRITTEN: &str = "waiting for the journal";

/// Open sweeps as they were last looked at, all of it durable, and who watches them.
pub(super) struct Views {
    /// A view is never older than what anybody was told of its sweep, and at most [`REFRESH_EVERY`] older than the journal.
    shown: HashMap<SweepId, Arc<SweepView>>,
    watchers: HashMap<SweepId, watch::Sender<Arc<ToldSweep>>>,
    /// Sweeps that have changed since they were looked at.
    changed: BTreeSet<SweepId>,
    refreshed: Instant,
}

impl Views {
    /// The views of what a journal gave back.
    pub(super) fn of(scheduler: &Scheduler) -> Self {
        let all = scheduler.sweeps_before(None, usize::MAX, |_| true).into_iter();
        let open = all.filter(|(_, view)| !view.state.has_ended());
        let shown = open.map(|(_, view)| (view.id.clone(), Arc::new(view))).collect();
        Self { shown, watchers: HashMap::new(), changed: BTreeSet::new(), refreshed: Instant::now() }
    }

    /// Takes a new view of a sweep. Everything that the scheduler knows of it must be durable.
    fn look(&mut self, id: &SweepId, scheduler: &Scheduler) -> Option<Arc<SweepView>> {
        let view = Arc::new(scheduler.sweep(id)?);
        self.keep(&view);
        Some(view)
    }

    /// Keeps what is told of a sweep while that is open: an ended one does not change any more.
    fn keep(&mut self, view: &Arc<SweepView>) {
        match view.state.has_ended() {
            true => self.shown.remove(&view.id),
            false => self.shown.insert(view.id.clone(), view.clone()),
        };
    }

    /// A record is durable. What users are told by their answers is looked at now, the work of a sweep now and then.
    pub(super) fn written(&mut self, record: &Record, scheduler: &Scheduler) {
        let id = record.sweep();
        match record {
            Record::Submitted { .. } | Record::Started { .. } | Record::Paused { .. } | Record::Ended { .. } => {
                drop(self.look(id, scheduler));
            }
            Record::Forgotten { .. } => {
                self.shown.remove(id);
                self.changed(id);
            }
            _ => self.mark(id),
        }
    }

    fn mark(&mut self, id: &SweepId) {
        if !self.changed.contains(id) {
            self.changed.insert(id.clone());
        }
    }

    /// Something changed that a watcher would want to see.
    pub(super) fn changed(&mut self, id: &SweepId) {
        if self.watchers.contains_key(id) {
            self.mark(id);
        }
    }

    /// Whether there is something to publish.
    pub(super) fn are_stale(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Tells watchers what has changed.
    pub(super) fn publish(&mut self, scheduler: &Scheduler) {
        let all = self.refreshed.elapsed() >= REFRESH_EVERY;
        if all {
            self.refreshed = Instant::now();
        }
        let due = self.changed.iter().filter(|id| all || self.watchers.contains_key(*id));
        let due: Vec<SweepId> = due.cloned().collect();
        for id in due {
            self.changed.remove(&id);
            let Some(view) = self.look(&id, scheduler) else {
                // It is forgotten: who follows it is let go.
                self.watchers.remove(&id);
                continue;
            };
            let Some(sender) = self.watchers.get(&id) else { continue };
            tell(sender, ToldSweep { view: view.clone(), waits: None });
            if sender.receiver_count() == 0 || view.state.has_ended() {
                self.watchers.remove(&id);
            }
        }
    }

    /// Reports whether anybody watches a sweep.
    pub(super) fn are_watched(&self) -> bool {
        !self.watchers.is_empty()
    }

    /// All watchers are to be told again.
    pub(super) fn watched_changed(&mut self) {
        self.changed.extend(self.watchers.keys().cloned());
    }
}

/// Records that are being written.
#[derive(Default)]
pub(super) struct Pending<'a> {
    records: &'a [Record],
    /// The sweeps that they are about.
    sweeps: HashSet<&'a SweepId>,
}

impl<'a> Pending<'a> {
    pub(super) fn of(records: &'a [Record]) -> Self {
        Self { records, sweeps: records.iter().map(Record::sweep).collect() }
    }

    fn of_sweep(&self, id: &SweepId) -> impl Iterator<Item = &'a Record> + use<'a> {
        let records = if self.sweeps.contains(id) { self.records } else { &[] };
        let id = id.clone();
        records.iter().filter(move |record| *record.sweep() == id)
    }

    /// Whether one of the records is about where a block of a job of `total` blocks stands.
    fn are_about(&self, id: &SweepId, job: JobIndex, block: u64, total: u64) -> bool {
        self.of_sweep(id).any(|record| match record {
            Record::Committed { shard, .. } | Record::Withdrawn { shard } => {
                shard.job.index == job && shard.node.blocks(total).contains(&block)
            }
            Record::Quarantined { failure, .. } => failure.job == job && failure.blocks.contains(&block),
            Record::Started { .. }
            | Record::Checkpointed { .. }
            | Record::Merged { .. }
            | Record::Audited { .. }
            | Record::Retried { .. }
            | Record::Speculated { .. } => false,
            // The whole sweep, or a job that others may need.
            _ => true,
        })
    }

    /// Sweeps that nobody may hear of yet.
    fn submissions(&self) -> usize {
        self.records.iter().filter(|record| matches!(record, Record::Submitted { .. })).count()
    }
}

/// A sweep as it may be told, and what it and everything else waits for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ToldSweep {
    view: Arc<SweepView>,
    /// The journal, in words, while the sweep is open and a write takes long.
    waits: Option<String>,
}

impl ToldSweep {
    fn new(view: Arc<SweepView>, wait: Option<&JournalWait>) -> Self {
        let waits = wait.filter(|_| !view.state.has_ended()).map(ToString::to_string);
        Self { view, waits }
    }

    /// Returns the sweep as it stands in the journal.
    pub(crate) fn view(&self) -> &SweepView {
        &self.view
    }

    /// Returns, in words, that the journal is waited for; nothing while it is not, or once the sweep has ended.
    pub(crate) fn waits(&self) -> Option<&str> {
        self.waits.as_deref()
    }
}

/// The durable state, for one answer.
pub(crate) struct Durable<'a> {
    pub(super) scheduler: &'a Scheduler,
    pub(super) views: &'a mut Views,
    pub(super) pending: &'a Pending<'a>,
    pub(super) wait: Option<JournalWait>,
    /// The time until which workers were listened to.
    pub(super) now: Time,
}

impl Durable<'_> {
    /// Returns the wait for the journal, if a write takes long.
    pub(crate) fn wait(&self) -> Option<JournalWait> {
        self.wait.clone()
    }

    /// Returns the time when workers were last listened to.
    pub(crate) fn now(&self) -> Time {
        self.now
    }

    fn is_pending(&self, id: &SweepId) -> bool {
        self.pending.sweeps.contains(id)
    }

    /// A sweep as it may be told.
    pub(crate) fn sweep(&mut self, id: &SweepId) -> Option<ToldSweep> {
        Some(ToldSweep::new(self.view(id)?, self.wait.as_ref()))
    }

    fn view(&mut self, id: &SweepId) -> Option<Arc<SweepView>> {
        match self.is_pending(id) {
            true => self.views.shown.get(id).cloned(),
            false => self.views.look(id, self.scheduler),
        }
    }

    /// Returns the owner of a sweep; `None` when there is no such sweep.
    pub(crate) fn owner(&self, id: &SweepId) -> Option<String> {
        match self.is_pending(id) {
            true => self.views.shown.get(id).map(|view| view.owner.clone()),
            false => self.scheduler.owner(id).map(str::to_owned),
        }
    }

    /// Whether there is such a sweep.
    pub(crate) fn is_known(&self, id: &SweepId) -> bool {
        if self.is_pending(id) { self.views.shown.contains_key(id) } else { self.scheduler.is_known(id) }
    }

    /// Up to `limit` sweeps of owners that `seen` picks, newest first, that were submitted before the one of this number.
    pub(crate) fn sweeps_before(
        &mut self,
        number: Option<u64>,
        limit: usize,
        seen: impl Fn(&str) -> bool,
    ) -> Vec<(u64, ToldSweep)> {
        let most = limit.saturating_add(self.pending.submissions());
        let found = self.scheduler.sweeps_before(number, most, seen);
        let told = found.into_iter().filter_map(|(number, view)| {
            let view = match self.is_pending(&view.id) {
                true => self.views.shown.get(&view.id)?.clone(),
                false => Arc::new(view),
            };
            self.views.keep(&view);
            Some((number, ToldSweep::new(view, self.wait.as_ref())))
        });
        told.take(limit).collect()
    }

    /// Result files of the complete jobs of a sweep.
    pub(crate) fn artifacts(&self, id: &SweepId) -> Vec<ArtifactRef> {
        let unwritten = |artifact: &ArtifactRef| {
            self.pending.of_sweep(id).any(|record| match record {
                Record::Reduced { result, .. } => result.artifacts.contains(artifact),
                _ => false,
            })
        };
        self.scheduler.artifacts_so_far(id).filter(|artifact| !unwritten(artifact)).cloned().collect()
    }

    /// Returns the committed shards of a job while its sweep is open.
    pub(crate) fn committed(&self, job: &JobRef) -> Option<Committed> {
        let unwritten = self.pending.of_sweep(&job.sweep).filter_map(|record| match record {
            Record::Committed { shard, .. } if shard.job == *job => Some(shard.node),
            _ => None,
        });
        Some(self.scheduler.committed(job)?.clone().without(unwritten))
    }

    /// Returns the state of a sweep, a job or a block, and the reasons for it; `None` when there is no such thing.
    pub(crate) fn explain(&self, id: &SweepId, subject: Subject) -> Option<Explanation> {
        if !self.is_known(id) {
            return None;
        }
        let mut told = self.scheduler.explain(id, subject, self.now)?;
        if let Some(state) = self.unwritten_state(id, subject) {
            state.clone_into(&mut told.state);
            told.reasons = vec!["what happened last is reported once it is in the journal".to_owned()];
            told.workers.clear();
        }
        if let Some(wait) = &self.wait {
            told.reasons.insert(0, wait.to_string());
        }
        Some(told)
    }

    /// Returns the state as far as the journal has it; `None` when no record that is being written is about the
    /// subject.
    fn unwritten_state(&self, id: &SweepId, subject: Subject) -> Option<&'static str> {
        if !self.is_pending(id) {
            return None;
        }
        let view = self.views.shown.get(id)?;
        let job = |index: JobIndex| view.jobs.get(index.0 as usize);
        match subject {
            Subject::Sweep => Some(view.state.name(view.paused)),
            Subject::Job(index) => Some(job(index)?.state.name()),
            Subject::Block(index, block) => {
                let total = job(index)?.shape.grid.blocks();
                self.pending.are_about(id, index, block, total).then_some(UNWRITTEN)
            }
        }
    }

    /// All workers that are known.
    pub(crate) fn workers(&self) -> Vec<WorkerView> {
        self.scheduler.workers(self.now)
    }

    /// Returns the workers that a new sweep of a precision can count on.
    pub(crate) fn workforce(&self, precision: Precision) -> Workforce {
        self.scheduler.workforce(precision)
    }

    /// Follows a sweep from now on; `None` when there is no such sweep.
    pub(super) fn follow(&mut self, id: &SweepId) -> Option<watch::Receiver<Arc<ToldSweep>>> {
        let told = self.sweep(id)?;
        if told.view.state.has_ended() {
            // Nothing will change: nothing is kept.
            return Some(watch::Sender::new(Arc::new(told)).subscribe());
        }
        match self.views.watchers.entry(id.clone()) {
            Entry::Occupied(watchers) => {
                tell(watchers.get(), told);
                Some(watchers.get().subscribe())
            }
            Entry::Vacant(nobody) => Some(nobody.insert(watch::Sender::new(Arc::new(told))).subscribe()),
        }
    }

    /// Tells all watchers what is waited for.
    pub(super) fn tell_watchers(&mut self) {
        let watched: Vec<SweepId> = self.views.watchers.keys().cloned().collect();
        for id in watched {
            let Some(told) = self.sweep(&id) else { continue };
            if let Some(sender) = self.views.watchers.get(&id) {
                sender.send_replace(Arc::new(told));
            }
        }
    }
}

/// Tells watchers what is news to them.
fn tell(watchers: &watch::Sender<Arc<ToldSweep>>, told: ToldSweep) {
    watchers.send_if_modified(|last| {
        let is_new = **last != told;
        if is_new {
            *last = Arc::new(told);
        }
        is_new
    });
}
