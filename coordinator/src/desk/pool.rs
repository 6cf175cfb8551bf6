//! Work on the CPU pool: merges and reductions. Each comes back as an event.
//!
//! There are as many places for merges as for reductions, so neither waits for the other. A store that fails loses nothing: the
//! work is tried again, more and more rarely, until the store is back or nobody wants the result any more.

use super::DeskTask;
use super::handle::{Command, query_in_turn};
use crate::artifacts::{BlobLease, Store};
use crate::journal::Journal;
use crate::reducer::{self, ReduceError};
use metrics::{counter, histogram};
use nadgrid_core::grid::Node;
use nadgrid_core::ids::{Digest, JobIndex, SweepId};
use nadgrid_core::scheduler::{Committed, Event, Scheduler, ShardRef, StoredPartial};
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
pub(super) struct Pool {
    reductions: Arc<Semaphore>,
    merges: Arc<Semaphore>,
}

impl Pool {
    /// A pool that does so many reductions at once, and as many merges.
    pub(super) fn new(reducers: usize) -> Self {
        Self { reductions: Arc::new(Semaphore::new(reducers)), merges: Arc::new(Semaphore::new(reducers)) }
    }
}

/// Whose work it is, and what it needs.
#[derive(Clone)]
struct Work {
    sweep: SweepId,
    job: JobIndex,
    /// Which merge or reduction of the job.
    number: u64,
    spec: Arc<Spec>,
    shape: Arc<JobShape>,
    store: Store,
    back: mpsc::WeakSender<Command>,
}

impl<J: Journal> DeskTask<J> {
    fn work(&self, sweep: SweepId, job: JobIndex, number: u64) -> Option<Work> {
        let shard = ShardRef { sweep, job, node: Node::block(0) };
        let (spec, shape, _) = self.scheduler.shard(&shard)?;
        let (spec, shape) = (Arc::new(spec.clone()), Arc::new(shape.clone()));
        let (store, back) = (self.store.clone(), self.back.clone());
        Some(Work { sweep: shard.sweep, job, number, spec, shape, store, back })
    }

    pub(super) fn spawn_reduction(&self, sweep: SweepId, (job, generation): (JobIndex, u64), committed: Committed) {
        let Some(work) = self.work(sweep, job, generation) else { return };
        tokio::spawn(work.reduce(committed, self.pool.reductions.clone()));
    }

    pub(super) fn spawn_merge(
        &self,
        sweep: SweepId,
        (job, number): (JobIndex, u64),
        node: Node,
        partials: Vec<StoredPartial>,
    ) {
        let Some(work) = self.work(sweep, job, number) else { return };
        tokio::spawn(work.merge(node, partials, self.pool.merges.clone()));
    }
}

/// Whether the desk still waits for what comes out of a job's merge or reduction of this number.
type Awaits = fn(&Scheduler, &SweepId, JobIndex, u64) -> bool;

/// What kind of work it is.
struct Kind {
    name: &'static str,
    places: Arc<Semaphore>,
    awaits: Awaits,
}

/// How a piece of work ended.
enum Ended<T> {
    Done(T),
    Failed {
        damaged: Vec<Node>,
        message: String,
    },
    /// Nobody wants it any more.
    Dropped,
}

impl Work {
    async fn reduce(self, committed: Committed, places: Arc<Semaphore>) {
        let started = Instant::now();
        let (count, committed) = (committed.len(), Arc::new(committed));
        let work = self.clone();
        let reduce = move || {
            let Work { spec, shape, store, .. } = work.clone();
            let committed = committed.clone();
            move || reducer::reduce(&spec, &shape, &committed, &store, &Handle::current())
        };
        let kind = Kind { name: "reduction", places, awaits: Scheduler::awaits_reduction };
        let ended = self.until_stored(kind, reduce).await;
        let Self { sweep, job, number: generation, .. } = &self;
        let (event, stored) = match ended {
            Ended::Done((result, stored)) => {
                let seconds = started.elapsed().as_secs_f64();
                histogram!("nadgrid_reduction_seconds").record(seconds);
                let name = self.shape.name();
                info!(%sweep, job = name, shards = count, seconds, digest = %result.digest, "reduced");
                let event = Event::Reduced { sweep: sweep.clone(), job: *job, generation: *generation, result };
                (event, stored)
            }
            Ended::Failed { damaged, message } => {
                counter!("nadgrid_reductions_failed_total").increment(1);
                let (sweep, generation) = (sweep.clone(), *generation);
                (Event::ReduceFailed { sweep, job: *job, generation, damaged, message }, Vec::new())
            }
            Ended::Dropped => return,
        };
        self.tell(event, stored).await;
    }

    async fn merge(self, node: Node, partials: Vec<StoredPartial>, places: Arc<Semaphore>) {
        let started = Instant::now();
        let (count, partials) = (partials.len() as u64, Arc::new(partials));
        let work = self.clone();
        let merge = move || {
            let Work { shape, store, .. } = work.clone();
            let partials = partials.clone();
            move || reducer::merge(&shape, node, &partials, &store, &Handle::current())
        };
        let kind = Kind { name: "merge", places, awaits: Scheduler::awaits_merge };
        let ended = self.until_stored(kind, merge).await;
        let Self { sweep, job, number, .. } = &self;
        match ended {
            Ended::Done((held, bytes)) => {
                let (seconds, digest) = (started.elapsed().as_secs_f64(), held.digest());
                histogram!("nadgrid_merge_seconds").record(seconds);
                counter!("nadgrid_merged_partials_total").increment(count);
                counter!("nadgrid_merge_bytes_total", "direction" => "read").increment(bytes * count);
                counter!("nadgrid_merge_bytes_total", "direction" => "written").increment(bytes);
                let name = self.shape.name();
                debug!(%sweep, job = name, ?node, partials = count, seconds, "merged");
                let event = Event::Merged { sweep: sweep.clone(), job: *job, number: *number, stored: digest };
                self.tell(event, vec![held]).await;
                self.remove_if_unwanted(digest).await;
            }
            Ended::Failed { damaged, message } => {
                counter!("nadgrid_merges_failed_total").increment(1);
                let (sweep, number) = (sweep.clone(), *number);
                self.tell(Event::MergeFailed { sweep, job: *job, number, damaged, message }, Vec::new()).await;
            }
            Ended::Dropped => {}
        }
    }

    /// Does something on the pool; again and again while the store fails and the result is wanted.
    async fn until_stored<T, F>(&self, kind: Kind, work: impl Fn() -> F) -> Ended<T>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, ReduceError> + Send + 'static,
    {
        let Kind { name: what, places, awaits } = kind;
        let (mut wait, longest) = WAITS;
        let (sweep, job) = (&self.sweep, self.shape.name());
        loop {
            let place = places.acquire().await;
            let done = tokio::task::spawn_blocking(work()).await;
            drop(place);
            let error = match done {
                Ok(Ok(done)) => return Ended::Done(done),
                Ok(Err(error)) => error,
                Err(panic) => {
                    let message = format!("the {what} of {job} panicked: {panic}");
                    warn!(%sweep, reason = message, "{what} failed");
                    return Ended::Failed { damaged: Vec::new(), message };
                }
            };
            if !matches!(error, ReduceError::Store(_)) {
                warn!(%sweep, job, %error, "{what} failed");
                let message = error.to_string();
                let damaged = if let ReduceError::Partial { node, .. } = error { vec![node] } else { Vec::new() };
                return Ended::Failed { damaged, message };
            }
            warn!(%sweep, job, %error, again_in = wait.as_secs(), "{what} failed: it is tried again");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(longest);
            if !self.is_wanted(awaits).await {
                return Ended::Dropped;
            }
        }
    }

    /// Asks the desk whether this work's result is still waited for.
    async fn is_wanted(&self, awaits: Awaits) -> bool {
        let Some(desk) = self.back.upgrade() else { return false };
        let (sweep, job, number) = (self.sweep.clone(), self.job, self.number);
        let awaited = query_in_turn(&desk, move |scheduler, _| awaits(scheduler, &sweep, job, number));
        awaited.await.unwrap_or(false)
    }

    /// Tells the desk what came out. What is stored is kept from the collection of orphans until the journal names it.
    async fn tell(&self, event: Event, stored: Vec<BlobLease>) {
        let Some(desk) = self.back.upgrade() else { return };
        drop(desk.send(Command::Event(event)).await);
        // A question is answered once all before it is in the journal.
        drop(query_in_turn(&desk, |_, _| ()).await);
        drop(stored);
    }

    /// Removes a merged partial that came too late: what it is of was withdrawn, or its sweep has ended.
    async fn remove_if_unwanted(&self, digest: Digest) {
        let Some(desk) = self.back.upgrade() else { return };
        let removal = self.store.removal();
        let (sweep, job) = (self.sweep.clone(), self.job);
        let needed = move |scheduler: &Scheduler| {
            scheduler.keeps(&sweep, job, digest) || scheduler.referenced().any(|held| held == digest)
        };
        if let Ok(false) = query_in_turn(&desk, move |scheduler, _| needed(scheduler)).await
            && let Err(error) = removal.remove(digest).await
        {
            warn!(%error, "a blob could not be removed");
        }
    }
}
