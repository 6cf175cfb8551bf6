//! Reads a blob piece by piece and checks its digest on the way, so that a large blob is never in memory as a whole.

use super::{Store, StoreError, path};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use nadgrid_core::ids::Digest;
use object_store::{GetResultPayload, ObjectStoreExt};
use std::fs::File;
use std::io::Read;

/// The number of bytes that are read from a file at a time.
const PIECE_BYTES: usize = 256 << 10;

/// A blob that is being read.
pub(crate) struct BlobReader {
    digest: Digest,
    size: u64,
    pieces: BlobPieces,
    hasher: blake3::Hasher,
    store: Store,
}

enum BlobPieces {
    /// The blob is a file in a folder.
    File(File),
    /// The blob is an object in a bucket.
    Stream(BoxStream<'static, object_store::Result<Bytes>>),
    /// All pieces have been read.
    End,
}

impl Store {
    /// Opens a blob for reading.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Store`].
    pub(crate) async fn reader(&self, digest: Digest) -> Result<BlobReader, StoreError> {
        let found = match self.objects.get(&path(digest)).await {
            Err(object_store::Error::NotFound { .. }) => return Err(StoreError::Missing(digest)),
            other => other.map_err(|source| self.failed(source))?,
        };
        let size = found.meta.size;
        let pieces = match found.payload {
            GetResultPayload::File(file, _) => BlobPieces::File(file),
            GetResultPayload::Stream(stream) => BlobPieces::Stream(stream),
        };
        Ok(BlobReader { digest, size, pieces, hasher: blake3::Hasher::new(), store: self.clone() })
    }

    /// Whether an undamaged blob of this digest and size exists. A damaged one is removed.
    ///
    /// # Errors
    /// [`StoreError::Store`].
    pub(crate) async fn has(&self, digest: Digest, size: u64) -> Result<bool, StoreError> {
        let mut reader = match self.reader(digest).await {
            Err(error) if error.is_loss() => return Ok(false),
            other => other?,
        };
        if reader.size != size {
            return self.heal(digest).await.map(|()| false);
        }
        loop {
            match reader.next().await {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(true),
                Err(error) if error.is_loss() => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes a damaged blob, unless reading it again while nothing writes it shows that it is intact.
    pub(crate) async fn heal(&self, digest: Digest) -> Result<(), StoreError> {
        let _turn = self.guard.enter(digest).await;
        let mut reader = match self.reader(digest).await {
            Err(StoreError::Missing(_)) => return Ok(()),
            other => other?,
        };
        loop {
            match reader.piece().await? {
                Some(_) => {}
                None if reader.actual() == digest => return Ok(()),
                None => return self.delete(digest).await,
            }
        }
    }
}

impl BlobReader {
    /// Reads the next bytes; `None` at the end, after the digest was checked. A damaged blob is removed.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] at the end, [`StoreError::Store`].
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        if let Some(piece) = self.piece().await? {
            return Ok(Some(piece));
        }
        let expected = self.digest;
        let actual = self.actual();
        if actual == expected {
            return Ok(None);
        }
        self.store.heal(expected).await?;
        Err(StoreError::Damaged { expected, actual })
    }

    fn actual(&self) -> Digest {
        Digest(*self.hasher.finalize().as_bytes())
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, StoreError> {
        let piece = match &mut self.pieces {
            BlobPieces::Stream(stream) => {
                stream.next().await.transpose().map_err(|source| self.store.failed(source))?
            }
            BlobPieces::File(_) => self.file_piece().await?,
            BlobPieces::End => None,
        };
        match &piece {
            Some(bytes) => drop(self.hasher.update(bytes)),
            None => self.pieces = BlobPieces::End,
        }
        Ok(piece)
    }

    async fn file_piece(&mut self) -> Result<Option<Bytes>, StoreError> {
        let BlobPieces::File(mut file) = std::mem::replace(&mut self.pieces, BlobPieces::End) else { return Ok(None) };
        let reading = tokio::task::spawn_blocking(move || {
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            let read = Read::by_ref(&mut file).take(PIECE_BYTES as u64).read_to_end(&mut piece);
            read.map(|_| (file, piece))
        });
        let failed = |source| object_store::Error::Generic { store: "LocalFileSystem", source };
        let read = reading.await.map_err(|panic| self.store.failed(failed(Box::new(panic))))?;
        let (file, piece) = read.map_err(|error| self.store.failed(failed(Box::new(error))))?;
        self.pieces = BlobPieces::File(file);
        Ok((!piece.is_empty()).then(|| Bytes::from(piece)))
    }
}
