//! What each caller has open at present, counted, so that none can take everything.
//!
//! A caller is a token's name; without tokens all callers are one. In memory only: after a restart nobody has anything
//! open. Deliberately absent: what sweeps use, which is the scheduler's.

use super::Caller;
use crate::limits::Limits;
use nadgrid_core::ids::Digest;
use nadgrid_proto::status::Reason;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

/// Accounts that are kept at once before idle ones are dropped.
const ACCOUNTS: usize = 4096;
/// Workers whose token is remembered, at most.
const BOUND: usize = 65_536;
/// Uploads that were never used are counted this long; by then they are orphans, which are removed.
const COUNTED: Duration = Duration::from_secs(24 * 3600);

/// Of one caller.
pub(super) struct Account {
    /// Requests that may be open at once, streams among them.
    open: Arc<Semaphore>,
    /// Calls that are answered at once and may be under way.
    calls: Arc<Semaphore>,
    /// Of calls that change something.
    changes: Arc<Semaphore>,
    /// Bytes of calls' requests: of those that are on their way, wait for a place, or are under way.
    memory: Arc<Semaphore>,
    sessions: Arc<Semaphore>,
    watchers: Arc<Semaphore>,
    bucket: Mutex<Bucket>,
}

/// Requests that may come at present: they come back with time.
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn take(&mut self, per_second: f64, now: Instant) -> bool {
        let since = now.duration_since(self.at).as_secs_f64();
        // A burst of two seconds' worth.
        self.left = (self.left + since * per_second).min(2.0 * per_second);
        self.at = now;
        let there = self.left >= 1.0;
        self.left -= if there { 1.0 } else { 0.0 };
        there
    }
}

/// The accounts of all callers, and what they share.
pub(crate) struct Shares {
    limits: Limits,
    accounts: Mutex<HashMap<String, Arc<Account>>>,
    sessions: Arc<Semaphore>,
    watchers: Arc<Semaphore>,
}

/// Two places: among all and among the caller's own.
pub(crate) type Places = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Shares {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            limits: limits.clone(),
            accounts: Mutex::default(),
            sessions: Arc::new(Semaphore::new(limits.sessions)),
            watchers: Arc::new(Semaphore::new(limits.watchers)),
        }
    }

    /// A caller's account; of somebody without a token, that of their network.
    pub(super) fn account(&self, caller: Option<&Caller>, network: IpAddr) -> Arc<Account> {
        let name = caller.map_or_else(|| format!("from {network}"), |caller| caller.name.to_string());
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if accounts.len() >= ACCOUNTS {
            accounts.retain(|_, account| Arc::strong_count(account) > 1);
        }
        accounts.entry(name).or_insert_with(|| Arc::new(Account::new(&self.limits))).clone()
    }

    /// A place for a worker's session.
    pub(crate) fn session(&self, account: &super::Admitted) -> Result<Places, Status> {
        places(&self.sessions, &account.account.sessions, "sessions are open")
    }

    /// A place for somebody who watches a sweep.
    pub(crate) fn watcher(&self, account: &super::Admitted) -> Result<Places, Status> {
        places(&self.watchers, &account.account.watchers, "sweeps are being watched")
    }
}

fn places(all: &Arc<Semaphore>, own: &Arc<Semaphore>, what: &str) -> Result<Places, Status> {
    let full = |whose: &str| Reason::Full.status(format!("too many {what}{whose}; try again later"));
    let all = all.clone().try_acquire_owned().map_err(|_| full(""))?;
    let own = own.clone().try_acquire_owned().map_err(|_| full(" with this token"))?;
    Ok((all, own))
}

impl Account {
    fn new(limits: &Limits) -> Self {
        let places = |count: usize| Arc::new(Semaphore::new(count));
        let burst = 2.0 * f64::from(limits.requests_per_second);
        Self {
            open: places(limits.requests_per_caller),
            calls: places(limits.calls_per_caller),
            changes: places(limits.calls_per_caller),
            memory: places(limits.calls_per_caller.saturating_mul(limits.message_bytes).min(Semaphore::MAX_PERMITS)),
            sessions: places(limits.sessions_per_token),
            watchers: places(limits.watchers_per_user),
            bucket: Mutex::new(Bucket { left: burst, at: Instant::now() }),
        }
    }

    /// Whether another request may come now.
    pub(super) fn paced(&self, per_second: u32, now: Instant) -> bool {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(f64::from(per_second), now)
    }

    /// A place for a request, until its answer is sent or its stream has ended.
    pub(super) fn open(&self) -> Option<OwnedSemaphorePermit> {
        self.open.clone().try_acquire_owned().ok()
    }

    /// A place for a call; others wait for one. Calls that change something wait for the journal, and questions not for them.
    pub(super) fn calls(&self, changing: bool) -> Arc<Semaphore> {
        if changing { self.changes.clone() } else { self.calls.clone() }
    }

    /// The memory that calls' requests may hold, one permit a byte.
    pub(super) fn memory(&self) -> &Arc<Semaphore> {
        &self.memory
    }
}

impl super::Admitted {
    /// Whose turn it is when this caller transfers files: the token's, or without tokens the network's.
    pub(crate) fn turn(&self) -> Arc<str> {
        match &*self.caller.name {
            "" => self.peer.network().to_string().into(),
            _ => self.caller.name.clone(),
        }
    }
}

/// Which token each worker speaks with: nobody may speak for another's worker.
#[derive(Default)]
pub(crate) struct Bindings(Mutex<HashMap<String, (Arc<str>, Instant)>>);

impl Bindings {
    /// Binds a worker to the caller's token, at its first word.
    ///
    /// # Errors
    /// `NOT_YOURS` when it is bound to another.
    pub(crate) fn bind(&self, worker: &str, caller: &Caller) -> Result<(), Status> {
        let now = Instant::now();
        let mut bound = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((name, at)) = bound.get_mut(worker) {
            if *name != caller.name {
                return Err(Reason::NotYours.status(format!("worker {worker} has spoken with another token")));
            }
            *at = now;
            return Ok(());
        }
        if bound.len() >= BOUND {
            let oldest = bound.iter().min_by_key(|(_, (_, at))| *at).map(|(worker, _)| worker.clone());
            oldest.and_then(|oldest| bound.remove(&oldest));
        }
        bound.insert(worker.to_owned(), (caller.name.clone(), now));
        Ok(())
    }
}

/// A user's files: their sizes, and when they were uploaded.
type Uploaded = HashMap<Digest, (u64, Instant)>;

/// Files that users have uploaded and no sweep uses yet.
pub(crate) struct Quota {
    most_bytes: u64,
    most_files: usize,
    held: Mutex<HashMap<Arc<str>, Uploaded>>,
}

impl Quota {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { most_bytes: limits.unused_input_bytes, most_files: limits.unused_inputs, held: Mutex::default() }
    }

    /// Counts a file of the caller before it is received; tells whether it was counted already.
    ///
    /// # Errors
    /// `FULL` when it would be too much.
    pub(crate) fn reserve(&self, caller: &Caller, digest: Digest, size: u64) -> Result<bool, Status> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let own = held.entry(caller.name.clone()).or_default();
        own.retain(|_, (_, at)| at.elapsed() < COUNTED);
        let others = own.iter().filter(|(other, _)| **other != digest);
        let (files, unused) = others.fold((0, 0_u64), |(files, bytes), (_, (size, _))| (files + 1, bytes + size));
        let too_much = match (files < self.most_files, unused.saturating_add(size) <= self.most_bytes) {
            (true, true) => None,
            (false, _) => Some(format!("{files} files were uploaded that no sweep uses yet, as many as are allowed")),
            (true, false) => Some(format!(
                "{unused} bytes were uploaded that no sweep uses yet, and {size} more would exceed the {} allowed",
                self.most_bytes
            )),
        };
        if let Some(message) = too_much {
            return Err(Reason::Full.status(format!("{message}; submit the sweeps they are for")));
        }
        Ok(own.insert(digest, (size, Instant::now())).is_some())
    }

    /// A file was not received after all.
    pub(crate) fn release(&self, caller: &Caller, digest: Digest) {
        self.used(caller, std::iter::once(digest));
    }

    /// These files belong to a sweep from now on.
    pub(crate) fn used(&self, caller: &Caller, digests: impl IntoIterator<Item = Digest>) {
        let used: BTreeSet<Digest> = digests.into_iter().collect();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = held.get_mut(&caller.name) {
            own.retain(|digest, _| !used.contains(digest));
            if own.is_empty() {
                held.remove(&caller.name);
            }
        }
    }
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
        let mut bucket = Bucket { left: 2.0, at: start };
        assert!(bucket.take(1.0, start) && bucket.take(1.0, start) && !bucket.take(1.0, start));
        assert!(!bucket.take(1.0, start + Duration::from_millis(500)));
        assert!(bucket.take(1.0, start + Duration::from_millis(1000)));
        // Never more than a burst.
        let later = start + Duration::from_secs(100);
        assert!(bucket.take(1.0, later) && bucket.take(1.0, later) && !bucket.take(1.0, later));
    }

    #[test]
    fn a_worker_speaks_with_one_token() {
        let bindings = Bindings::default();
        bindings.bind("w-1", &named("lab")).unwrap();
        bindings.bind("w-1", &named("lab")).unwrap();
        assert!(Reason::NotYours.is_of(&bindings.bind("w-1", &named("other")).unwrap_err()));
        bindings.bind("w-2", &named("other")).unwrap();
    }

    #[test]
    fn unused_uploads_are_counted_once_per_file_and_user() {
        let limits = Limits { unused_input_bytes: 100, ..Limits::default() };
        let (quota, ada, bob) = (Quota::new(&limits), named("ada"), named("bob"));
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
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
        let quota = Quota::new(&Limits { unused_inputs: 2, ..Limits::default() });
        let [a, b, c] = [b"a", b"b", b"c"].map(|bytes| Digest::of(bytes));
        quota.reserve(&named("ada"), a, 1).unwrap();
        quota.reserve(&named("ada"), b, 1).unwrap();
        let refused = quota.reserve(&named("ada"), c, 0).unwrap_err();
        assert!(Reason::Full.is_of(&refused) && refused.message().starts_with("2 files"), "{refused}");
        quota.reserve(&named("ada"), b, 1).unwrap();
        quota.reserve(&named("bob"), c, 1).unwrap();
    }
}
