//! Counts what each caller has open, so that no caller can occupy everything.
//!
//! A caller is a token's name; without tokens all callers are one. The counts are in memory only, because after a restart
//! nothing is open. Deliberately absent: the workers' slots, which the scheduler shares among sweeps.

use super::{Admitted, Caller};
use crate::limits::Limits;
use nadgrid_core::ids::Digest;
use nadgrid_proto::status::Reason;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

/// The most quotas that are kept before idle ones are dropped.
const MAX_QUOTAS: usize = 4096;
/// The most workers whose token is remembered.
const MAX_BOUND: usize = 65_536;
/// The time for which unused uploads are counted; by then they are orphans and are removed.
const COUNTED: Duration = Duration::from_secs(24 * 3600);

/// The numbers and bytes that one caller may have open.
pub(super) struct CallerQuota {
    /// The permits for open requests, including streams.
    open: Arc<Semaphore>,
    /// Calls that are under way and change nothing.
    calls: Arc<Semaphore>,
    /// Calls that are under way and change something.
    changes: Arc<Semaphore>,
    /// Bytes of the requests of calls, from their arrival until they are answered.
    memory: Arc<Semaphore>,
    sessions: Arc<Semaphore>,
    watchers: Arc<Semaphore>,
    bucket: Mutex<TokenBucket>,
}

/// A token bucket: the requests that may come now, refilled with time.
struct TokenBucket {
    left: f64,
    at: Instant,
}

impl TokenBucket {
    fn take(&mut self, per_second: f64, now: Instant) -> bool {
        let since = now.duration_since(self.at).as_secs_f64();
        // It holds two seconds' worth of requests.
        self.left = (self.left + since * per_second).min(2.0 * per_second);
        self.at = now;
        let is_left = self.left >= 1.0;
        self.left -= if is_left { 1.0 } else { 0.0 };
        is_left
    }
}

/// The quotas of all callers, and what they share.
pub(crate) struct CallerQuotas {
    limits: Limits,
    quotas: Mutex<HashMap<String, Arc<CallerQuota>>>,
    sessions: Arc<Semaphore>,
    watchers: Arc<Semaphore>,
}

/// Two permits: one of all callers together, and one of the caller's own.
pub(crate) struct QuotaPermits {
    _all: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
}

impl CallerQuotas {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            limits: limits.clone(),
            quotas: Mutex::default(),
            sessions: Arc::new(Semaphore::new(limits.sessions)),
            watchers: Arc::new(Semaphore::new(limits.watchers)),
        }
    }

    /// The quota of a caller; without a token, that of the caller's network.
    pub(super) fn of(&self, caller: Option<&Caller>, network: IpAddr) -> Arc<CallerQuota> {
        let name = caller.map_or_else(|| format!("from {network}"), |caller| caller.name.to_string());
        let mut quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        if quotas.len() >= MAX_QUOTAS {
            quotas.retain(|_, quota| Arc::strong_count(quota) > 1);
        }
        quotas.entry(name).or_insert_with(|| Arc::new(CallerQuota::new(&self.limits))).clone()
    }

    /// Permits for a worker's session.
    ///
    /// # Errors
    /// `FULL`.
    pub(crate) fn session(&self, admitted: &Admitted) -> Result<QuotaPermits, Status> {
        acquire(&self.sessions, &admitted.quota.sessions, "sessions are open")
    }

    /// Permits for following a sweep.
    ///
    /// # Errors
    /// `FULL`.
    pub(crate) fn watcher(&self, admitted: &Admitted) -> Result<QuotaPermits, Status> {
        acquire(&self.watchers, &admitted.quota.watchers, "sweeps are being watched")
    }
}

fn acquire(all: &Arc<Semaphore>, own: &Arc<Semaphore>, what: &str) -> Result<QuotaPermits, Status> {
    let full = |whose: &str| Reason::Full.status(format!("too many {what}{whose}; try again later"));
    let all = all.clone().try_acquire_owned().map_err(|_| full(""))?;
    let own = own.clone().try_acquire_owned().map_err(|_| full(" with this token"))?;
    Ok(QuotaPermits { _all: all, _own: own })
}

impl CallerQuota {
    fn new(limits: &Limits) -> Self {
        let memory = limits.calls_per_caller.saturating_mul(limits.message_bytes).min(Semaphore::MAX_PERMITS);
        let burst = 2.0 * f64::from(limits.requests_per_second);
        Self {
            open: permits(limits.requests_per_caller),
            calls: permits(limits.calls_per_caller),
            changes: permits(limits.calls_per_caller),
            memory: permits(memory),
            sessions: permits(limits.sessions_per_token),
            watchers: permits(limits.watchers_per_user),
            bucket: Mutex::new(TokenBucket { left: burst, at: Instant::now() }),
        }
    }

    /// Counts a request against the rate; false if it came too soon.
    pub(super) fn paced(&self, per_second: u32, now: Instant) -> bool {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(f64::from(per_second), now)
    }

    /// A permit for a request, until its answer is sent or its stream has ended.
    pub(super) fn open(&self) -> Option<OwnedSemaphorePermit> {
        self.open.clone().try_acquire_owned().ok()
    }

    /// The permits of calls, which wait for one. Calls that change something may wait for the journal; the others have permits
    /// of their own, so that they do not wait behind those.
    pub(super) fn calls(&self, changing: bool) -> Arc<Semaphore> {
        if changing { self.changes.clone() } else { self.calls.clone() }
    }

    /// The memory that requests of calls may occupy, one permit for each byte.
    pub(super) fn memory(&self) -> &Arc<Semaphore> {
        &self.memory
    }
}

fn permits(count: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(count))
}

impl Admitted {
    /// Returns who takes turns when this caller transfers files: the token's holder, or without tokens the network.
    pub(crate) fn turn(&self) -> Arc<str> {
        match &*self.caller.name {
            "" => self.peer.network().to_string().into(),
            _ => self.caller.name.clone(),
        }
    }
}

/// The token of each worker: no other token may be used in a worker's name.
#[derive(Default)]
pub(crate) struct WorkerBindings(Mutex<HashMap<String, (Arc<str>, Instant)>>);

impl WorkerBindings {
    /// Binds a worker to the caller's token with its first request.
    ///
    /// # Errors
    /// `NOT_YOURS` if it is bound to another token.
    pub(crate) fn bind(&self, worker: &str, caller: &Caller) -> Result<(), Status> {
        let now = Instant::now();
        let mut bound = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((name, at)) = bound.get_mut(worker) {
            if *name != caller.name {
                return Err(Reason::NotYours.status(format!("worker {worker} uses another token")));
            }
            *at = now;
            return Ok(());
        }
        if bound.len() >= MAX_BOUND {
            let oldest = bound.iter().min_by_key(|(_, (_, at))| *at).map(|(worker, _)| worker.clone());
            oldest.and_then(|oldest| bound.remove(&oldest));
        }
        bound.insert(worker.to_owned(), (caller.name.clone(), now));
        Ok(())
    }
}

/// A file that was uploaded and that no sweep uses yet.
struct UnusedUpload {
    size: u64,
    since: Instant,
}

/// Counts the files that each user has uploaded and no sweep uses yet.
pub(crate) struct UploadQuota {
    max_bytes: u64,
    max_files: usize,
    unused: Mutex<HashMap<Arc<str>, HashMap<Digest, UnusedUpload>>>,
}

impl UploadQuota {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { max_bytes: limits.unused_input_bytes, max_files: limits.unused_inputs, unused: Mutex::default() }
    }

    /// Counts a file of the caller before it is received. Returns whether it was counted already.
    ///
    /// # Errors
    /// `FULL` if the caller would have too many files or bytes.
    pub(crate) fn reserve(&self, caller: &Caller, digest: Digest, size: u64) -> Result<bool, Status> {
        let mut unused = self.unused.lock().unwrap_or_else(PoisonError::into_inner);
        let own = unused.entry(caller.name.clone()).or_default();
        own.retain(|_, file| file.since.elapsed() < COUNTED);
        let others = || own.iter().filter(|(other, _)| **other != digest);
        let files = others().count();
        let bytes: u64 = others().map(|(_, file)| file.size).sum();
        if files >= self.max_files {
            return Err(too_much(&format!(
                "{files} uploaded files are not used by a sweep, the most that are allowed"
            )));
        }
        if bytes.saturating_add(size) > self.max_bytes {
            let message = format!(
                "{bytes} uploaded bytes are not used by a sweep, and {size} more would exceed the {} that are allowed",
                self.max_bytes
            );
            return Err(too_much(&message));
        }
        Ok(own.insert(digest, UnusedUpload { size, since: Instant::now() }).is_some())
    }

    /// Forgets a file that was not received after all.
    pub(crate) fn release(&self, caller: &Caller, digest: Digest) {
        self.used(caller, std::iter::once(digest));
    }

    /// Forgets files that a sweep uses from now on.
    pub(crate) fn used(&self, caller: &Caller, digests: impl IntoIterator<Item = Digest>) {
        let used: BTreeSet<Digest> = digests.into_iter().collect();
        let mut unused = self.unused.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = unused.get_mut(&caller.name) {
            own.retain(|digest, _| !used.contains(digest));
            if own.is_empty() {
                unused.remove(&caller.name);
            }
        }
    }
}

fn too_much(message: &str) -> Status {
    Reason::Full.status(format!("{message}; submit the sweeps that they are for"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Caller {
        Caller { name: name.into(), ..Caller::anybody() }
    }

    #[test]
    fn requests_come_back_with_time() {
        let start = Instant::now();
        let mut bucket = TokenBucket { left: 2.0, at: start };
        assert!(bucket.take(1.0, start) && bucket.take(1.0, start) && !bucket.take(1.0, start));
        assert!(!bucket.take(1.0, start + Duration::from_millis(500)));
        assert!(bucket.take(1.0, start + Duration::from_millis(1000)));
        // Never more than a burst.
        let later = start + Duration::from_secs(100);
        assert!(bucket.take(1.0, later) && bucket.take(1.0, later) && !bucket.take(1.0, later));
    }

    #[test]
    fn a_worker_speaks_with_one_token() {
        let bindings = WorkerBindings::default();
        bindings.bind("w-1", &named("lab")).unwrap();
        bindings.bind("w-1", &named("lab")).unwrap();
        assert!(Reason::NotYours.is_of(&bindings.bind("w-1", &named("other")).unwrap_err()));
        bindings.bind("w-2", &named("other")).unwrap();
    }

    #[test]
    fn unused_uploads_are_counted_once_per_file_and_user() {
        let limits = Limits { unused_input_bytes: 100, ..Limits::default() };
        let quota = UploadQuota::new(&limits);
        let ada = named("ada");
        let bob = named("bob");
        let a = Digest::of(b"a");
        let b = Digest::of(b"b");
        quota.reserve(&ada, a, 60).unwrap();
        quota.reserve(&ada, a, 60).unwrap();
        assert!(Reason::Full.is_of(&quota.reserve(&ada, b, 60).unwrap_err()));
        quota.reserve(&bob, b, 60).unwrap();
        quota.used(&ada, [a]);
        quota.reserve(&ada, b, 60).unwrap();
        quota.release(&ada, b);
        quota.reserve(&ada, a, 100).unwrap();
    }

    #[test]
    fn unused_uploads_are_only_so_many_however_small() {
        let quota = UploadQuota::new(&Limits { unused_inputs: 2, ..Limits::default() });
        let [a, b, c] = [b"a", b"b", b"c"].map(|bytes| Digest::of(bytes));
        quota.reserve(&named("ada"), a, 1).unwrap();
        quota.reserve(&named("ada"), b, 1).unwrap();
        let refused = quota.reserve(&named("ada"), c, 0).unwrap_err();
        assert!(Reason::Full.is_of(&refused) && refused.message().starts_with("2 uploaded files"), "{refused}");
        quota.reserve(&named("ada"), b, 1).unwrap();
        quota.reserve(&named("bob"), c, 1).unwrap();
    }
}
