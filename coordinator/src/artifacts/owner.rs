//! The owner of a store: a file in it names the journal that refers to its blobs.
//!
//! Blobs that the journal does not name are collected, so with a wrong journal all of them would be. A journal that was lost,
//! mistyped or restored from a backup is recognised here at the start, before anything is written to either.

use super::{Store, StoreError, path};
use crate::journal::JournalIdentity;
use futures::TryStreamExt;
use nadgrid_core::ids::Digest;
use object_store::path::Path as BlobPath;
use object_store::{ObjectStoreExt, PutPayload};
use thiserror::Error;
use tracing::{info, warn};

/// The file's name.
const FILE: &str = "owner.json";
/// The most bytes that the file may have.
const MAX_BYTES: u64 = 4096;

/// The store belongs to another journal.
#[derive(Debug, Error)]
pub enum OwnerError {
    /// The store failed, or its owner cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There are blobs, and the journal is empty.
    #[error(
        "the artifact store {store} contains files but the journal {journal} is new, so all of them would be removed. \
         If the journal is elsewhere, configure its place (`journal`, `data`); if it is lost, start once with \
         --adopt-artifacts: files that no new sweep needs are then moved to {store}/collected"
    )]
    New {
        /// The store's URL or folder.
        store: String,
        /// The journal's name.
        journal: String,
    },
    /// The store's owner is another journal.
    #[error(
        "the artifact store {store} belongs to another journal than {journal}. If that journal is elsewhere, configure its \
         place (`journal`, `data`), or configure another store (`artifacts`); if it is lost, start once with \
         --adopt-artifacts: files that this journal does not name are then moved to {store}/collected"
    )]
    Another {
        /// The store's URL or folder.
        store: String,
        /// The journal's name.
        journal: String,
    },
    /// The journal is shorter than it was.
    #[error(
        "the journal {journal} has {batches} batches but had {known} when it was last used with the artifact store {store}: \
         it was restored from an older copy, or is damaged. Restore a newer one, or start once with --adopt-artifacts: \
         files that this journal does not name are then moved to {store}/collected"
    )]
    Shorter {
        /// The store's URL or folder.
        store: String,
        /// The journal's name.
        journal: String,
        /// The number of its batches.
        batches: u64,
        /// The number of its batches when it was last used.
        known: u64,
    },
}

impl Store {
    /// Claims the store for the journal of this name. `is_new` says that the journal is empty. With `adopts` the claim
    /// succeeds whatever the store's owner is.
    ///
    /// # Errors
    /// [`OwnerError`].
    pub(crate) async fn claim(
        &self,
        identity: &JournalIdentity,
        name: &str,
        is_new: bool,
        adopts: bool,
    ) -> Result<(), OwnerError> {
        let store = self.name.to_string();
        let journal = name.to_owned();
        let batches = identity.batches;
        let refusal = match self.owner().await? {
            Some(known) if known.id != identity.id => Some(OwnerError::Another { store, journal }),
            Some(JournalIdentity { batches: known, .. }) if known > batches => {
                Some(OwnerError::Shorter { store, journal, batches, known })
            }
            Some(_) => None,
            None if is_new && self.has_blobs().await? => Some(OwnerError::New { store, journal }),
            None => {
                info!(store = %self.name, journal = name, "the artifact store belongs to this journal from now on");
                None
            }
        };
        match refusal {
            Some(refusal) if !adopts => return Err(refusal),
            Some(refusal) => warn!(reason = %refusal, "the artifact store is adopted nevertheless"),
            None => {}
        }
        Ok(self.note_owner(identity).await?)
    }

    /// Records the store's owner, and how long that journal is.
    ///
    /// # Errors
    /// [`StoreError::Store`].
    pub(crate) async fn note_owner(&self, identity: &JournalIdentity) -> Result<(), StoreError> {
        let text = serde_json::to_vec(identity).unwrap_or_default();
        let put = self.objects.put(&BlobPath::from(FILE), PutPayload::from(text)).await;
        put.map(drop).map_err(|source| self.failed(source))
    }

    async fn owner(&self) -> Result<Option<JournalIdentity>, StoreError> {
        let file = BlobPath::from(FILE);
        let found = match self.objects.get(&file).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            other => other.map_err(|source| self.failed(source))?,
        };
        let unreadable = |why: String| StoreError::Owner { store: self.name.to_string(), file: FILE, why };
        if found.meta.size > MAX_BYTES {
            return Err(unreadable(format!("it has {} bytes", found.meta.size)));
        }
        let bytes = found.bytes().await.map_err(|source| self.failed(source))?;
        serde_json::from_slice(&bytes).map(Some).map_err(|error| unreadable(error.to_string()))
    }

    /// Whether there is any blob. Other files do not belong to this store.
    async fn has_blobs(&self) -> Result<bool, StoreError> {
        let mut files = self.objects.list(None);
        while let Some(file) = files.try_next().await.map_err(|source| self.failed(source))? {
            let digest = file.location.filename().and_then(Digest::from_hex);
            if digest.is_some_and(|digest| path(digest) == file.location) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
