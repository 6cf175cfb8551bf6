//! The artifact store: bytes by their digest, in a local folder or in an S3 bucket. Every read checks the digest.
//!
//! A blob appears under its name whole or not at all. Storing it again writes the same bytes again: that heals a damaged
//! blob and makes it young, so that it is spared by the collection of [`orphans`]. Deliberately absent: trust in what is
//! there already, and removing anything under a name that is not a blob's.

mod orphans;
mod owner;
mod place;
mod presign;
mod reader;
#[cfg(test)]
mod tests;

pub use orphans::{Held, Removal};
pub use owner::OwnerError;
pub(crate) use place::ACCEPTED;
pub use place::ArtifactsUrl;
pub use presign::{PresignSettings, PresignedCall};
pub use reader::BlobReader;

use nadgrid_core::ids::Digest;
use object_store::path::Path as BlobPath;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use orphans::Guard;
use presign::StoreSigner;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

use futures::TryStreamExt;

/// The store failed, or holds something else than it should.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The URL names no store.
    #[error("the artifacts' URL: {why}; accepted: {ACCEPTED}")]
    Url {
        /// What is wrong with the URL.
        why: String,
    },
    /// The store's own error.
    #[error("the artifact store {store} failed: {source}")]
    Store {
        /// The store's URL or folder.
        store: String,
        /// The store's error.
        source: object_store::Error,
    },
    /// The folder cannot be made.
    #[error("the artifact folder {path} cannot be made: {source}")]
    Folder {
        /// Path of the folder.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// What the store says of its owner cannot be read.
    #[error(
        "the artifact store {store}: its file {file} does not say whose it is: {why}; restore it, or remove it and start once \
         with --adopt-artifacts"
    )]
    Owner {
        /// The store's URL or folder.
        store: String,
        /// The file's name.
        file: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// There is no such blob.
    #[error("the artifact {0} is missing")]
    Missing(Digest),
    /// The bytes are not those that were stored.
    #[error("the artifact {expected} is damaged: its bytes have the digest {actual}")]
    Damaged {
        /// Digest of the blob that was asked for.
        expected: Digest,
        /// Digest of the bytes that were read.
        actual: Digest,
    },
}

impl StoreError {
    /// Whether the blob itself is lost, so that computing it again helps.
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::Damaged { .. })
    }
}

/// Blobs below one root.
#[derive(Clone)]
pub struct Store {
    name: Arc<str>,
    objects: Arc<dyn ObjectStore>,
    /// Where the blobs are files.
    folder: Option<PathBuf>,
    /// Where others may reach single blobs themselves.
    signer: Option<Arc<StoreSigner>>,
    guard: Arc<Guard>,
}

impl Store {
    /// The store that `url` names, in `data` unless it says otherwise.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be made or does not answer.
    pub async fn open(url: &ArtifactsUrl, data: &Path, presign: &PresignSettings) -> Result<Self, StoreError> {
        Self::open_with(url, data, presign, std::env::vars()).await
    }

    async fn open_with(
        url: &ArtifactsUrl,
        data: &Path,
        presign: &PresignSettings,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, StoreError> {
        let store = url.open(data, presign, variables)?;
        // A wrong bucket or key is to be known now, not when the first result is there.
        store.objects.list(None).try_next().await.map_err(|source| store.failed(source))?;
        Ok(store)
    }

    fn new(name: String, objects: Arc<dyn ObjectStore>, folder: Option<PathBuf>) -> Self {
        Self { name: name.into(), objects, folder, signer: None, guard: Arc::default() }
    }

    fn failed(&self, source: object_store::Error) -> StoreError {
        StoreError::Store { store: self.name.to_string(), source }
    }

    /// Stores bytes, durably. Until what comes back is dropped, nobody removes them.
    ///
    /// # Errors
    /// [`StoreError::Store`]; nothing is stored then, or all of it.
    pub async fn put(&self, bytes: Vec<u8>) -> Result<Held, StoreError> {
        let digest = Digest::of(&bytes);
        self.put_checked(bytes, digest).await
    }

    /// The same of bytes whose digest the caller has taken.
    ///
    /// # Errors
    /// [`StoreError::Store`]; nothing is stored then, or all of it.
    pub(crate) async fn put_checked(&self, bytes: Vec<u8>, digest: Digest) -> Result<Held, StoreError> {
        let held = self.guard.hold(digest);
        let _place = self.guard.enter(digest).await;
        self.objects.put(&path(digest), PutPayload::from(bytes)).await.map_err(|source| self.failed(source))?;
        Ok(held)
    }

    /// The bytes of this digest, checked. A damaged blob is removed, so that nobody takes it for one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn get(&self, digest: Digest) -> Result<Vec<u8>, StoreError> {
        match self.read(digest).await {
            Err(StoreError::Damaged { .. }) => {}
            other => return other,
        }
        // Once more while nobody writes: it may have been stored anew, or it was only read badly.
        let _place = self.guard.enter(digest).await;
        let read = self.read(digest).await;
        if let Err(StoreError::Damaged { .. }) = read {
            self.delete(digest).await?;
        }
        read
    }

    async fn read(&self, digest: Digest) -> Result<Vec<u8>, StoreError> {
        let found = match self.objects.get(&path(digest)).await {
            Err(object_store::Error::NotFound { .. }) => return Err(StoreError::Missing(digest)),
            other => other.map_err(|source| self.failed(source))?,
        };
        let bytes = Vec::from(found.bytes().await.map_err(|source| self.failed(source))?);
        let actual = Digest::of(&bytes);
        if actual == digest { Ok(bytes) } else { Err(StoreError::Damaged { expected: digest, actual }) }
    }

    async fn delete(&self, digest: Digest) -> Result<(), StoreError> {
        match self.objects.delete(&path(digest)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(self.failed(source)),
        }
    }
}

/// Blobs are spread over 256 folders.
fn path(digest: Digest) -> BlobPath {
    let hex = digest.to_string();
    BlobPath::from(format!("{}/{hex}", &hex[..2]))
}
