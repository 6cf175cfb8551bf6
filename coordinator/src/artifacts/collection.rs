//! Removes blobs that nothing refers to, while others are being stored.
//!
//! A blob is stored before the record that names it is journalled, so for a while nothing refers to it. Three rules keep it:
//!
//! 1. It has a *lease* ([`BlobLease`]): a handler that stores it, or finds it in the store for a sweep that is being
//!    submitted, leases it until the record is in the journal. A leased blob is not removed.
//! 2. A [`Removal`] begins before its caller looks up the referenced blobs. If a lease ended before that, the caller sees the
//!    blob's record, if there is one; if it ends later, this removal spares the blob. So a record that the caller has not
//!    seen cannot lose its blob.
//! 3. The collection spares young blobs and begins a while after the start. An uploaded file has no lease between its upload
//!    and the submission, and a sender whose coordinator died sends again: their age protects both, and storing a blob again
//!    makes it young.
//!
//! Collected blobs are not deleted at once but moved to `collected/TIME`, where they stay for a while and can be taken back:
//! if the journal turns out to be the wrong one, nothing is lost.
//!
//! Storing and removing the same blob exclude each other. So a blob that is stored while it is being removed is there
//! afterwards, and a leased one is not being removed. A crash ends all leases, which is harmless: what was not journalled was
//! not acknowledged, and its sender sends it again.

use super::{Store, StoreError, path};
use futures::TryStreamExt;
use nadgrid_core::ids::Digest;
use object_store::ObjectStoreExt;
use object_store::path::Path as BlobPath;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// The folder of collected blobs. It has a folder for each collection, named by its time in seconds.
const COLLECTED: &str = "collected";
/// The number of locks: blobs whose digests begin with the same byte share one.
const TURNS: usize = 256;

/// The leases of all blobs, and the locks for storing and removing them.
pub(super) struct BlobGuard {
    turns: Vec<tokio::sync::Mutex<()>>,
    counts: Mutex<LeaseCounts>,
}

#[derive(Default)]
struct LeaseCounts {
    leased: HashMap<Digest, u32>,
    /// Removals under way.
    removals: u32,
    /// Blobs whose leases ended since the first of these removals began.
    released: HashSet<Digest>,
}

impl Default for BlobGuard {
    fn default() -> Self {
        Self { turns: (0..TURNS).map(|_| tokio::sync::Mutex::default()).collect(), counts: Mutex::default() }
    }
}

impl BlobGuard {
    fn counts(&self) -> MutexGuard<'_, LeaseCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lease(self: &Arc<Self>, digest: Digest) -> BlobLease {
        *self.counts().leased.entry(digest).or_default() += 1;
        BlobLease { digest, guard: self.clone() }
    }

    /// Waits until nothing else stores or removes this blob.
    pub(super) async fn enter(&self, digest: Digest) -> tokio::sync::MutexGuard<'_, ()> {
        self.turns[usize::from(digest.as_bytes()[0])].lock().await
    }

    fn spares(&self, digest: Digest) -> bool {
        let counts = self.counts();
        counts.leased.contains_key(&digest) || counts.released.contains(&digest)
    }
}

/// Keeps a blob from being removed while it lives.
#[must_use]
pub(crate) struct BlobLease {
    digest: Digest,
    guard: Arc<BlobGuard>,
}

impl BlobLease {
    /// The digest of the leased blob.
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }
}

impl Drop for BlobLease {
    fn drop(&mut self) {
        let mut counts = self.guard.counts();
        if let Some(count) = counts.leased.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                counts.leased.remove(&self.digest);
            }
        }
        if counts.removals > 0 {
            counts.released.insert(self.digest);
        }
    }
}

/// A removal under way. It must begin *before* the referenced blobs are looked up.
pub(crate) struct Removal {
    store: Store,
}

impl Drop for Removal {
    fn drop(&mut self) {
        let mut counts = self.store.guard.counts();
        counts.removals -= 1;
        if counts.removals == 0 {
            counts.released = HashSet::new();
        }
    }
}

impl Store {
    /// Leases blobs that are in the store, or may be. Blobs that are being removed at this moment are gone when this returns.
    pub(crate) async fn lease(&self, digests: impl IntoIterator<Item = Digest>) -> Vec<BlobLease> {
        let mut leases = Vec::new();
        for digest in digests {
            leases.push(self.guard.lease(digest));
            drop(self.guard.enter(digest).await);
        }
        leases
    }

    /// Begins to remove blobs.
    pub(crate) fn removal(&self) -> Removal {
        self.guard.counts().removals += 1;
        Removal { store: self.clone() }
    }
}

impl Removal {
    /// Removes a blob that nothing refers to, unless it has had a lease since this removal began. Returns whether it is gone.
    ///
    /// # Errors
    /// [`StoreError::Store`].
    pub(crate) async fn remove(&self, digest: Digest) -> Result<bool, StoreError> {
        let _turn = self.store.guard.enter(digest).await;
        if self.store.guard.spares(digest) {
            return Ok(false);
        }
        self.store.delete(digest).await.map(|()| true)
    }

    /// Moves every blob that is not in `needed` and was last stored longer than `age` ago to the folder of collected blobs.
    /// Deletes unfinished files that a crash left, and blobs that were collected longer than `age` ago. Returns how many
    /// blobs were moved.
    ///
    /// # Errors
    /// [`StoreError::Store`].
    pub(crate) async fn collect(&self, needed: &BTreeSet<Digest>, age: Duration) -> Result<usize, StoreError> {
        let now = SystemTime::now();
        let young = now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        self.sweep_unfinished(young).await;
        self.forget_collected(seconds(young)).await?;
        let folder = BlobPath::from(COLLECTED).join(seconds(now).to_string());
        let mut moved = 0;
        let mut blobs = self.store.objects.list(None);
        while let Some(blob) = blobs.try_next().await.map_err(|source| self.store.failed(source))? {
            // Other files do not belong to this store.
            let digest = blob.location.filename().and_then(Digest::from_hex);
            let Some(digest) = digest.filter(|digest| path(*digest) == blob.location) else { continue };
            let old = SystemTime::from(blob.last_modified) <= young;
            if old && !needed.contains(&digest) && self.set_aside(digest, &folder).await? {
                moved += 1;
            }
        }
        Ok(moved)
    }

    /// Moves a blob that nothing refers to, unless it has had a lease since this removal began. Returns whether it was moved.
    async fn set_aside(&self, digest: Digest, folder: &BlobPath) -> Result<bool, StoreError> {
        let _turn = self.store.guard.enter(digest).await;
        if self.store.guard.spares(digest) {
            return Ok(false);
        }
        let from = path(digest);
        let to = from.parts().fold(folder.clone(), |folder, part| folder.join(part));
        match self.store.objects.rename(&from, &to).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(true),
            Err(source) => Err(self.store.failed(source)),
        }
    }

    /// Deletes blobs that were collected before this time, in seconds.
    async fn forget_collected(&self, before: u64) -> Result<(), StoreError> {
        let failed = |source| self.store.failed(source);
        let mut files = self.store.objects.list(Some(&BlobPath::from(COLLECTED)));
        while let Some(file) = files.try_next().await.map_err(failed)? {
            let time = file.location.parts().nth(1).and_then(|part| part.as_ref().parse::<u64>().ok());
            let is_blob = file.location.filename().and_then(Digest::from_hex).is_some();
            if is_blob && time.is_some_and(|time| time < before) {
                match self.store.objects.delete(&file.location).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(source) => return Err(failed(source)),
                }
            }
        }
        Ok(())
    }

    /// Deletes files that were not written to their end. In a folder, a blob is written under another name, which
    /// `object_store` does not list, and then renamed.
    async fn sweep_unfinished(&self, young: SystemTime) -> usize {
        let Some(folder) = self.store.folder.clone() else { return 0 };
        tokio::task::spawn_blocking(move || unfinished(&folder, young)).await.unwrap_or(0)
    }
}

/// The seconds since 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Deletes old files named `ab/ab...#1`. One that cannot be read or deleted is left for the next time.
fn unfinished(folder: &Path, young: SystemTime) -> usize {
    let inside = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    let is_ours = |name: &str| {
        let (digest, number) = name.split_once('#').unwrap_or_default();
        Digest::from_hex(digest).is_some() && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    let files = inside(folder).flat_map(|entry| inside(&entry.path()));
    let ours = files.filter(|file| file.file_name().to_str().is_some_and(is_ours));
    let is_old = |file: &std::fs::DirEntry| file.metadata().and_then(|m| m.modified()).is_ok_and(|at| at <= young);
    ours.filter(is_old).filter(|file| std::fs::remove_file(file.path()).is_ok()).count()
}
