//! Removing blobs that nothing refers to, while others are being stored.
//!
//! A blob is stored before the record that names it is journalled, so for a while nothing refers to it. Three rules keep it:
//!
//! 1. It is *held*: whoever stores it, or finds it in the store for a sweep that is being submitted, holds it until the
//!    record is in the journal. What is held is not removed.
//! 2. A [`Removal`] begins before its caller looks at what is referred to. What was let go of before that is in what the
//!    caller sees, if it was ever journalled; what is let go of later is spared by this removal. So a record that the caller
//!    has not seen cannot lose its blob.
//! 3. The collection spares young blobs, and begins a while after the start. An uploaded file is not held between its upload and the submission, and a sender
//!    whose coordinator died sends again: both have the age for it, and storing a blob again makes it young.
//!
//! What is collected is not gone: it is moved to `collected/TIME`, from where it can be taken back until it has been there for a
//! while, too. Whoever finds out late that a journal was the wrong one has lost nothing.
//!
//! Storing and removing the same blob exclude one another. So one that is stored while it is being removed is there
//! afterwards, and one that is held is not being removed. A crash forgets who holds what, and needs not remember: what was
//! not journalled was not acknowledged, and whoever has it sends it again.

use super::{Store, StoreError, path};
use futures::TryStreamExt;
use nadgrid_core::ids::Digest;
use object_store::ObjectStoreExt;
use object_store::path::Path as BlobPath;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// The folder of what was collected; in it there is one for each collection, called by its time in seconds.
const COLLECTED: &str = "collected";
/// Blobs with the same first byte take turns.
const PLACES: usize = 256;

/// Who holds what.
pub(super) struct Guard {
    places: Vec<tokio::sync::Mutex<()>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: HashMap<Digest, u32>,
    /// Removals under way, and what was let go of since the first of them began.
    removals: u32,
    let_go: HashSet<Digest>,
}

impl Default for Guard {
    fn default() -> Self {
        Self { places: (0..PLACES).map(|_| tokio::sync::Mutex::default()).collect(), state: Mutex::default() }
    }
}

impl Guard {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hold(self: &Arc<Self>, digest: Digest) -> Held {
        *self.state().held.entry(digest).or_default() += 1;
        Held { digest, guard: self.clone() }
    }

    /// Waits until nobody else stores or removes this blob.
    pub(super) async fn enter(&self, digest: Digest) -> tokio::sync::MutexGuard<'_, ()> {
        self.places[usize::from(digest.as_bytes()[0])].lock().await
    }

    fn spares(&self, digest: Digest) -> bool {
        let state = self.state();
        state.held.contains_key(&digest) || state.let_go.contains(&digest)
    }
}

/// A blob that is not removed while this lives.
#[must_use]
pub struct Held {
    digest: Digest,
    guard: Arc<Guard>,
}

impl Held {
    /// The blob that is held.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.guard.state();
        if let Some(count) = state.held.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                state.held.remove(&self.digest);
            }
        }
        if state.removals > 0 {
            state.let_go.insert(self.digest);
        }
    }
}

/// A time in which blobs are removed. It is begun *before* looking at what is referred to.
pub struct Removal {
    store: Store,
}

impl Drop for Removal {
    fn drop(&mut self) {
        let mut state = self.store.guard.state();
        state.removals -= 1;
        if state.removals == 0 {
            state.let_go = HashSet::new();
        }
    }
}

impl Store {
    /// Holds blobs that are in the store, or may be. Those being removed at this moment are gone when this returns.
    pub async fn hold(&self, digests: impl IntoIterator<Item = Digest>) -> Vec<Held> {
        let mut held = Vec::new();
        for digest in digests {
            held.push(self.guard.hold(digest));
            drop(self.guard.enter(digest).await);
        }
        held
    }

    /// Begins to remove blobs.
    pub fn removal(&self) -> Removal {
        self.guard.state().removals += 1;
        Removal { store: self.clone() }
    }
}

impl Removal {
    /// Removes a blob that nothing refers to, unless it is or was held since this removal began. Says whether it is gone.
    ///
    /// # Errors
    /// [`StoreError::Store`].
    pub async fn remove(&self, digest: Digest) -> Result<bool, StoreError> {
        let _place = self.store.guard.enter(digest).await;
        if self.store.guard.spares(digest) {
            return Ok(false);
        }
        self.store.delete(digest).await.map(|()| true)
    }

    /// Moves every blob that is not in `needed` and was last stored longer than `age` ago to the folder of what was collected, and
    /// removes what a crash left of blobs that were being written, and what was collected longer than `age` ago. Returns how many
    /// were moved.
    ///
    /// # Errors
    /// [`StoreError::Store`].
    pub async fn collect(&self, needed: &BTreeSet<Digest>, age: Duration) -> Result<usize, StoreError> {
        let now = SystemTime::now();
        let young = now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        self.sweep_unfinished(young).await;
        self.forget_collected(seconds(young)).await?;
        let folder = BlobPath::from(COLLECTED).join(seconds(now).to_string());
        let mut moved = 0;
        let mut blobs = self.store.objects.list(None);
        while let Some(blob) = blobs.try_next().await.map_err(|source| self.store.failed(source))? {
            // Other files are somebody else's.
            let digest = blob.location.filename().and_then(Digest::from_hex);
            let Some(digest) = digest.filter(|digest| path(*digest) == blob.location) else { continue };
            let old = SystemTime::from(blob.last_modified) <= young;
            if old && !needed.contains(&digest) && self.set_aside(digest, &folder).await? {
                moved += 1;
            }
        }
        Ok(moved)
    }

    /// Moves a blob that nothing refers to, unless it is or was held since this removal began. Says whether it is gone.
    async fn set_aside(&self, digest: Digest, folder: &BlobPath) -> Result<bool, StoreError> {
        let _place = self.store.guard.enter(digest).await;
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

    /// Removes what was collected before this time, in seconds.
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

    /// In a folder, a blob is written beside its place and renamed. `object_store` does not list what was not.
    async fn sweep_unfinished(&self, young: SystemTime) -> usize {
        let Some(folder) = self.store.folder.clone() else { return 0 };
        tokio::task::spawn_blocking(move || unfinished(&folder, young)).await.unwrap_or(0)
    }
}

/// Seconds since 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Removes old files called `ab/ab...#1`; one that cannot be read or removed waits for the next time.
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
