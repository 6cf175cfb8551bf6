//! Work on the CPU pool: merges and reductions. Each comes back as an event.
//!
//! There are as many places for merges as for reductions, so neither waits for the other. A store that fails loses nothing: the
//! work is tried again, more and more rarely, until the store is back or nobody wants the result any more.

use super::EventLoop;
use super::handle::{LoopCommand, query_in_turn};
use crate::artifacts::{BlobLease, Store};
use crate::journal::Journal;
use crate::reducer::{self, ReduceError};
use metrics::{counter, histogram};
use nadgrid_core::grid::Node;
use nadgrid_core::ids::Digest;
use nadgrid_core::scheduler::{Committed, Event, JobRef, Scheduler, StoredPartial};
use nadgrid_core::spec::{JobShape, Spec};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tracing::{debug, info, warn};

/// Waits between tries while the store fails: the first, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The places of the pool.
#[derive(Clone)]
pub(super) struct MergePool {
    reductions: Arc<Semaphore>,
    merges: Arc<Semaphore>,
}

impl MergePool {
    /// A pool that does so many reductions at once, and as many merges.
    pub(super) fn new(reducers: usize) -> Self {
        Self { reductions: Arc::new(Semaphore::new(reducers)), merges: Arc::new(Semaphore::new(reducers)) }
    }
}

/// A merge or reduction of a job.
#[derive(Clone)]
pub(super) struct MergeJob {
    pub(super) job: JobRef,
    /// The number of the merge or reduction among those of the job.
    pub(super) number: u64,
}

/// A merge or reduction, and what it needs.
#[derive(Clone)]
struct PoolWork {
    of: MergeJob,
    spec: Arc<Spec>,
    shape: Arc<JobShape>,
    store: Store,
    back: mpsc::WeakSender<LoopCommand>,
}

impl<J: Journal> EventLoop<J> {
    fn work(&self, of: MergeJob) -> Option<PoolWork> {
        let (spec, shape) = self.shell.scheduler().job_spec(&of.job)?;
        let spec = Arc::new(spec.clone());
        let shape = Arc::new(shape.clone());
        Some(PoolWork { of, spec, shape, store: self.store.clone(), back: self.back.clone() })
    }

    pub(super) fn spawn_reduction(&self, of: MergeJob, committed: Committed) {
        let Some(work) = self.work(of) else { return };
        tokio::spawn(work.reduce(committed, self.pool.reductions.clone()));
    }

    pub(super) fn spawn_merge(&self, of: MergeJob, node: Node, partials: Vec<StoredPartial>) {
        let Some(work) = self.work(of) else { return };
        tokio::spawn(work.merge(node, partials, self.pool.merges.clone()));
    }
}

/// Whether the scheduler still waits for what comes out of a job's merge or reduction of this number.
type Awaits = fn(&Scheduler, &JobRef, u64) -> bool;

/// The kind of a piece of work.
struct PoolWorkKind {
    name: &'static str,
    places: Arc<Semaphore>,
    awaits: Awaits,
}

/// The outcome of a piece of work.
enum PoolOutcome<T> {
    Done(T),
    Failed {
        damaged: Vec<Node>,
        message: String,
    },
    /// Nobody wants it any more.
    Dropped,
}

impl PoolWork {
    async fn reduce(self, committed: Committed, places: Arc<Semaphore>) {
        let started = Instant::now();
        let (count, committed) = (committed.len(), Arc::new(committed));
        let work = self.clone();
        let reduce = move || {
            let PoolWork { spec, shape, store, .. } = work.clone();
            let committed = committed.clone();
            move || reducer::reduce(&spec, &shape, &committed, &store, &Handle::current())
        };
        let kind = PoolWorkKind { name: "reduction", places, awaits: Scheduler::awaits_reduction };
        let ended = self.until_stored(kind, reduce).await;
        let MergeJob { job, number: generation } = &self.of;
        let sweep = &job.sweep;
        let (event, stored) = match ended {
            PoolOutcome::Done((result, stored)) => {
                let seconds = started.elapsed().as_secs_f64();
                histogram!("nadgrid_reduction_seconds").record(seconds);
                let name = self.shape.name();
                info!(%sweep, job = name, shards = count, seconds, digest = %result.digest, "reduced");
                let event = Event::Reduced { job: job.clone(), generation: *generation, result };
                (event, stored)
            }
            PoolOutcome::Failed { damaged, message } => {
                counter!("nadgrid_reductions_failed_total").increment(1);
                let event = Event::ReduceFailed { job: job.clone(), generation: *generation, damaged, message };
                (event, Vec::new())
            }
            PoolOutcome::Dropped => return,
        };
        self.tell(event, stored).await;
    }

    async fn merge(self, node: Node, partials: Vec<StoredPartial>, places: Arc<Semaphore>) {
        let started = Instant::now();
        let (count, partials) = (partials.len() as u64, Arc::new(partials));
        let work = self.clone();
        let merge = move || {
            let PoolWork { shape, store, .. } = work.clone();
            let partials = partials.clone();
            move || reducer::merge(&shape, node, &partials, &store, &Handle::current())
        };
        let kind = PoolWorkKind { name: "merge", places, awaits: Scheduler::awaits_merge };
        let ended = self.until_stored(kind, merge).await;
        let MergeJob { job, number } = &self.of;
        let sweep = &job.sweep;
        match ended {
            PoolOutcome::Done((held, bytes)) => {
                let (seconds, digest) = (started.elapsed().as_secs_f64(), held.digest());
                histogram!("nadgrid_merge_seconds").record(seconds);
                counter!("nadgrid_merged_partials_total").increment(count);
                counter!("nadgrid_merge_bytes_total", "direction" => "read").increment(bytes * count);
                counter!("nadgrid_merge_bytes_total", "direction" => "written").increment(bytes);
                let name = self.shape.name();
                debug!(%sweep, job = name, ?node, partials = count, seconds, "merged");
                let event = Event::Merged { job: job.clone(), number: *number, stored: digest };
                self.tell(event, vec![held]).await;
                self.remove_if_unwanted(digest).await;
            }
            PoolOutcome::Failed { damaged, message } => {
                counter!("nadgrid_merges_failed_total").increment(1);
                let event = Event::MergeFailed { job: job.clone(), number: *number, damaged, message };
                self.tell(event, Vec::new()).await;
            }
            PoolOutcome::Dropped => {}
        }
    }

    /// Does something on the pool; again and again while the store fails and the result is wanted.
    async fn until_stored<T, F>(&self, kind: PoolWorkKind, work: impl Fn() -> F) -> PoolOutcome<T>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, ReduceError> + Send + 'static,
    {
        let PoolWorkKind { name: what, places, awaits } = kind;
        let (mut wait, longest) = WAITS;
        let sweep = &self.of.job.sweep;
        let job = self.shape.name();
        loop {
            let place = places.acquire().await;
            let done = tokio::task::spawn_blocking(work()).await;
            drop(place);
            let error = match done {
                Ok(Ok(done)) => return PoolOutcome::Done(done),
                Ok(Err(error)) => error,
                Err(panic) => {
                    let message = format!("the {what} of {job} panicked: {panic}");
                    warn!(%sweep, reason = message, "{what} failed");
                    return PoolOutcome::Failed { damaged: Vec::new(), message };
                }
            };
            if !matches!(error, ReduceError::Store(_)) {
                warn!(%sweep, job, %error, "{what} failed");
                let message = error.to_string();
                let damaged = if let ReduceError::Partial { node, .. } = error { vec![node] } else { Vec::new() };
                return PoolOutcome::Failed { damaged, message };
            }
            warn!(%sweep, job, %error, again_in = wait.as_secs(), "{what} failed: it is tried again");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(longest);
            if !self.is_wanted(awaits).await {
                return PoolOutcome::Dropped;
            }
        }
    }

    /// Asks the loop whether this work's result is still waited for.
    async fn is_wanted(&self, awaits: Awaits) -> bool {
        let Some(commands) = self.back.upgrade() else { return false };
        let MergeJob { job, number } = self.of.clone();
        let awaited = query_in_turn(&commands, move |scheduler, _| awaits(scheduler, &job, number));
        awaited.await.unwrap_or(false)
    }

    /// Tells the loop what came out. What is stored is kept from the collection of orphans until the journal names it.
    async fn tell(&self, event: Event, stored: Vec<BlobLease>) {
        let Some(commands) = self.back.upgrade() else { return };
        drop(commands.send(LoopCommand::Event(event)).await);
        // A question is answered once all before it is in the journal.
        drop(query_in_turn(&commands, |_, _| ()).await);
        drop(stored);
    }

    /// Removes a merged partial that came too late: what it is of was withdrawn, or its sweep has ended.
    async fn remove_if_unwanted(&self, digest: Digest) {
        let Some(commands) = self.back.upgrade() else { return };
        let removal = self.store.removal();
        let job = self.of.job.clone();
        let needed = move |scheduler: &Scheduler| {
            scheduler.keeps(&job, digest) || scheduler.referenced().any(|held| held == digest)
        };
        if let Ok(false) = query_in_turn(&commands, move |scheduler, _| needed(scheduler)).await
            && let Err(error) = removal.remove(digest).await
        {
            warn!(%error, "a blob could not be removed");
        }
    }
}
