//! The artifact store: bytes by their digest. Every read checks the digest; a blob is written once.

use nadgrid_core::ids::Digest;
use object_store::local::LocalFileSystem;
use object_store::path::Path as BlobPath;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use thiserror::Error;

use futures::TryStreamExt;

/// The store failed, or holds something else than it should.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The store's own error.
    #[error("the artifact store failed: {0}")]
    Store(#[from] object_store::Error),
    /// The folder cannot be made.
    #[error("the artifact folder {path} cannot be made: {source}")]
    Folder {
        /// The folder.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// There is no such blob.
    #[error("the artifact {0} is missing")]
    Missing(Digest),
    /// The bytes are not those that were stored.
    #[error("the artifact {expected} is damaged: its bytes have the digest {actual}")]
    Damaged {
        /// The blob asked for.
        expected: Digest,
        /// What its bytes give.
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
    objects: Arc<dyn ObjectStore>,
}

impl Store {
    /// A store in a local folder, made if need be.
    ///
    /// # Errors
    /// [`StoreError`] when the folder cannot be made.
    pub fn local(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.display().to_string();
        std::fs::create_dir_all(folder).map_err(|source| StoreError::Folder { path, source })?;
        let objects = LocalFileSystem::new_with_prefix(folder)?.with_fsync(true);
        Ok(Self { objects: Arc::new(objects) })
    }

    /// Stores bytes; returns their digest. Storing them again changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Store`].
    pub async fn put(&self, bytes: Vec<u8>) -> Result<Digest, StoreError> {
        let digest = Digest::of(&bytes);
        match self.objects.put_opts(&path(digest), bytes.into(), PutMode::Create.into()).await {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(digest),
            Err(error) => Err(error.into()),
        }
    }

    /// The bytes of this digest, checked. A damaged blob is removed, so that it can be stored again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn get(&self, digest: Digest) -> Result<Vec<u8>, StoreError> {
        let found = match self.objects.get(&path(digest)).await {
            Err(object_store::Error::NotFound { .. }) => return Err(StoreError::Missing(digest)),
            other => other?,
        };
        let bytes = Vec::from(found.bytes().await?);
        let actual = Digest::of(&bytes);
        if actual != digest {
            self.remove(digest).await?;
            return Err(StoreError::Damaged { expected: digest, actual });
        }
        Ok(bytes)
    }

    /// Removes a blob, if it is there.
    ///
    /// # Errors
    /// [`StoreError::Store`].
    pub async fn remove(&self, digest: Digest) -> Result<(), StoreError> {
        match self.objects.delete(&path(digest)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes every blob that is not in `needed`: what a crash left between storing and journalling.
    ///
    /// # Errors
    /// [`StoreError::Store`].
    pub async fn retain(&self, needed: &BTreeSet<Digest>) -> Result<usize, StoreError> {
        let held: Vec<_> = self.objects.list(None).try_collect().await?;
        let mut removed = 0;
        for object in held {
            let digest = object.location.filename().and_then(Digest::from_hex);
            if digest.is_none_or(|digest| !needed.contains(&digest)) {
                self.objects.delete(&object.location).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// Blobs are spread over 256 folders.
fn path(digest: Digest) -> BlobPath {
    let hex = digest.to_string();
    BlobPath::from(format!("{}/{hex}", &hex[..2]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_come_back_and_damage_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::local(folder.path()).unwrap();
        let digest = store.put(b"gradient".to_vec()).await.unwrap();
        assert_eq!(store.put(b"gradient".to_vec()).await.unwrap(), digest);
        assert_eq!(store.get(digest).await.unwrap(), b"gradient");
        let file = folder.path().join(path(digest).to_string());
        std::fs::write(&file, b"gradienT").unwrap();
        assert!(matches!(store.get(digest).await, Err(StoreError::Damaged { .. })));
        assert!(matches!(store.get(digest).await, Err(StoreError::Missing(_))));
        store.put(b"gradient".to_vec()).await.unwrap();
        assert_eq!(store.get(digest).await.unwrap(), b"gradient");
    }

    #[tokio::test]
    async fn orphans_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::local(folder.path()).unwrap();
        let (kept, orphan) = (store.put(vec![1]).await.unwrap(), store.put(vec![2]).await.unwrap());
        assert_eq!(store.retain(&BTreeSet::from([kept])).await.unwrap(), 1);
        assert!(store.get(kept).await.is_ok() && store.get(orphan).await.is_err());
        store.remove(orphan).await.unwrap();
    }
}
