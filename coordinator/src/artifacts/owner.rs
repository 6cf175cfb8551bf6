//! Whose a store is. A file in it names the journal that knows what its files are for.
//!
//! What a journal does not name is collected, so beside a wrong journal everything would be. A journal that was lost, mistyped or
//! restored from a backup is recognised here, at the start, before anything is written to either.

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
/// No such file is longer.
const MOST_BYTES: u64 = 4096;

/// The store's files are another journal's.
#[derive(Debug, Error)]
pub enum OwnerError {
    /// The store failed, or what it says of its owner cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There are files, and the journal knows of none.
    #[error(
        "the artifact store {store} has files, and the journal {journal} is new: beside it they would all be removed. \
         If the journal is somewhere else, say where (`journal`, `data`); if it is lost, start once with \
         --adopt-artifacts: what no new sweep needs is then moved to {store}/collected"
    )]
    New {
        /// The store's URL or folder.
        store: String,
        /// The journal's name.
        journal: String,
    },
    /// There is a file that names another journal.
    #[error(
        "the artifact store {store} belongs to another journal than {journal}. If its own is somewhere else, say where \
         (`journal`, `data`), or give this one a store of its own (`artifacts`); if it is lost, start once with \
         --adopt-artifacts: what this journal does not name is then moved to {store}/collected"
    )]
    Another {
        /// The store's URL or folder.
        store: String,
        /// The journal's name.
        journal: String,
    },
    /// The journal was longer before.
    #[error(
        "the journal {journal} has {batches} batches and had {known} when it was last seen beside the artifact store {store}: \
         it was restored from an older copy, or is damaged. Restore a newer one; or start once with --adopt-artifacts: \
         what this one does not name is then moved to {store}/collected"
    )]
    Shorter {
        /// The store's URL or folder.
        store: String,
        /// The journal's name.
        journal: String,
        /// How many it has.
        batches: u64,
        /// How many it had.
        known: u64,
    },
}

impl Store {
    /// Takes the store for the journal of this name, which `is_new` where it holds no record. With `adopts` whatever it was before.
    ///
    /// # Errors
    /// [`OwnerError`].
    pub async fn claim(
        &self,
        identity: &JournalIdentity,
        name: &str,
        is_new: bool,
        adopts: bool,
    ) -> Result<(), OwnerError> {
        let (store, journal) = (self.name.to_string(), name.to_owned());
        let batches = identity.batches;
        let refusal = match self.owner().await? {
            Some(known) if known.id != identity.id => Some(OwnerError::Another { store, journal }),
            Some(JournalIdentity { batches: known, .. }) if known > batches => {
                Some(OwnerError::Shorter { store, journal, batches, known })
            }
            Some(_) => None,
            None if is_new && self.has_blobs().await? => Some(OwnerError::New { store, journal }),
            None => {
                info!(store = %self.name, journal = name, "the artifact store is this journal's from now on");
                None
            }
        };
        match refusal {
            Some(refusal) if !adopts => return Err(refusal),
            Some(refusal) => warn!(reason = %refusal, "the artifact store is adopted all the same"),
            None => {}
        }
        Ok(self.note_owner(identity).await?)
    }

    /// Writes down whose the store is, and how long its journal was.
    ///
    /// # Errors
    /// [`StoreError::Store`].
    pub async fn note_owner(&self, identity: &JournalIdentity) -> Result<(), StoreError> {
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
        if found.meta.size > MOST_BYTES {
            return Err(unreadable(format!("it has {} bytes", found.meta.size)));
        }
        let bytes = found.bytes().await.map_err(|source| self.failed(source))?;
        serde_json::from_slice(&bytes).map(Some).map_err(|error| unreadable(error.to_string()))
    }

    /// Whether there is any blob; other files are somebody else's.
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
