//! The artifact store: bytes by their digest, in a local folder or in an S3 bucket. Every read checks the digest.
//!
//! A blob appears under its name whole or not at all. Storing it again writes the same bytes again, which repairs a damaged
//! blob and makes it young, so that the [`collection`] of orphans spares it. Deliberately absent: trust in stored bytes, and
//! removing files whose names are not a blob's.

mod collection;
mod owner;
mod presign;
mod reader;
mod target;
#[cfg(test)]
mod tests;

pub(crate) use collection::BlobLease;
pub(crate) use owner::OwnerError;
pub(crate) use presign::{PresignSettings, PresignedCall};
pub(crate) use reader::BlobReader;
pub(crate) use target::ACCEPTED;
pub(crate) use target::ArtifactsUrl;

use collection::BlobGuard;
use nadgrid_core::ids::Digest;
use object_store::path::Path as BlobPath;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use presign::StoreSigner;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

use futures::TryStreamExt;

/// The store failed, or a blob is missing or damaged.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The URL is not one of a store.
    #[error("the artifacts' URL: {why}; accepted: {ACCEPTED}")]
    Url {
        /// The reason why the URL is refused.
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
    /// The folder cannot be created.
    #[error("the artifact folder {path} cannot be created: {source}")]
    Folder {
        /// The folder's path.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file that names the store's owner cannot be read.
    #[error(
        "the artifact store {store}: the file {file}, which names its owner, cannot be read: {why}; restore it, or remove it \
         and start once with --adopt-artifacts"
    )]
    Owner {
        /// The store's URL or folder.
        store: String,
        /// The file's name.
        file: &'static str,
        /// The reason why the file cannot be read.
        why: String,
    },
    /// There is no such blob.
    #[error("the artifact {0} is missing")]
    Missing(Digest),
    /// The bytes are not those that were stored.
    #[error("the artifact {expected} is damaged: its bytes have the digest {actual}")]
    Damaged {
        /// The blob's digest.
        expected: Digest,
        /// The digest of the bytes that were read.
        actual: Digest,
    },
}

impl StoreError {
    /// Whether the blob itself is lost, so that it has to be computed again.
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::Damaged { .. })
    }
}

/// A store of blobs.
#[derive(Clone)]
pub(crate) struct Store {
    name: Arc<str>,
    objects: Arc<dyn ObjectStore>,
    /// The folder, if blobs are files.
    folder: Option<PathBuf>,
    /// Signs requests for single blobs, if others may access the store.
    signer: Option<Arc<StoreSigner>>,
    guard: Arc<BlobGuard>,
}

impl Store {
    /// Opens the store that `url` names, by default a folder in `data`.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be created or does not answer.
    pub(crate) async fn open(url: &ArtifactsUrl, data: &Path, presign: &PresignSettings) -> Result<Self, StoreError> {
        Self::open_with(url, data, presign, std::env::vars()).await
    }

    async fn open_with(
        url: &ArtifactsUrl,
        data: &Path,
        presign: &PresignSettings,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, StoreError> {
        let store = url.open(data, presign, variables)?;
        // A wrong bucket or key must be reported now, not when the first result is there.
        store.objects.list(None).try_next().await.map_err(|source| store.failed(source))?;
        Ok(store)
    }

    fn new(name: String, objects: Arc<dyn ObjectStore>, folder: Option<PathBuf>) -> Self {
        Self { name: name.into(), objects, folder, signer: None, guard: Arc::default() }
    }

    fn failed(&self, source: object_store::Error) -> StoreError {
        StoreError::Store { store: self.name.to_string(), source }
    }

    /// Stores bytes durably. They are not removed before the lease is dropped.
    ///
    /// # Errors
    /// [`StoreError::Store`]; then nothing is stored, or all of it.
    pub(crate) async fn put(&self, bytes: Vec<u8>) -> Result<BlobLease, StoreError> {
        let digest = Digest::of(&bytes);
        self.put_checked(bytes, digest).await
    }

    /// Stores bytes like [`Store::put`], with the digest that the caller has computed.
    ///
    /// # Errors
    /// [`StoreError::Store`]; then nothing is stored, or all of it.
    pub(crate) async fn put_checked(&self, bytes: Vec<u8>, digest: Digest) -> Result<BlobLease, StoreError> {
        let lease = self.guard.lease(digest);
        let _turn = self.guard.enter(digest).await;
        self.objects.put(&path(digest), PutPayload::from(bytes)).await.map_err(|source| self.failed(source))?;
        Ok(lease)
    }

    /// Reads a blob and checks its digest. A damaged blob is removed, so that it is computed again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn get(&self, digest: Digest) -> Result<Vec<u8>, StoreError> {
        match self.read(digest).await {
            Err(StoreError::Damaged { .. }) => {}
            other => return other,
        }
        // It is read again while nothing writes it: it may have been stored anew, or the first read may have failed.
        let _turn = self.guard.enter(digest).await;
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

/// The path of a blob, in one of 256 folders.
fn path(digest: Digest) -> BlobPath {
    let hex = digest.to_string();
    BlobPath::from(format!("{}/{hex}", &hex[..2]))
}
