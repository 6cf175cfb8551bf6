//! Artifacts as bytes: put together from chunks, and given out only when they are whole and undamaged. They come from the coordinator,
//! or from a shared store where the coordinator says so and that can be reached.

use crate::client::Client;
use crate::error::Error;
use nadgrid_core::ids::Digest;
use nadgrid_presigned::PresignedPayload;
use nadgrid_proto::chunks::{Assembler, ChunkError};
use nadgrid_proto::v1::{Artifact, PresignedRequest, ReadArtifactRequest, ReadArtifactResponse};
use std::time::Duration;
use tokio::time::timeout;
use tonic::{Status, Streaming};

/// Largest artifact that is taken into memory: the NADs of the largest input have 64 MiB.
const ARTIFACT_LIMIT: u64 = 1 << 30;
/// The time that a file may wait for a place among those that are read, and the time in which no chunk of it may come
/// then.
const PLACE_TIMEOUT: Duration = Duration::from_secs(600);
const SILENCE: Duration = Duration::from_secs(60);

impl Client {
    /// The bytes of one artifact of a complete sweep, for example `nads/lenet/nads.npy`, and their digest.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Damaged`] when the bytes do not have the announced length and digest,
    /// [`Error::Unreachable`].
    pub async fn read_artifact(&self, id: &str, name: &str) -> Result<(Vec<u8>, Digest), Error> {
        self.read_artifact_within(id, name, ARTIFACT_LIMIT).await
    }

    /// The bytes of an artifact of which a sweep has told the size, and their digest.
    pub(crate) async fn read_announced(&self, id: &str, artifact: &Artifact) -> Result<(Vec<u8>, Digest), Error> {
        let Artifact { name, size, .. } = artifact;
        if *size > ARTIFACT_LIMIT {
            let source = ChunkError::TooLarge { size: *size, limit: ARTIFACT_LIMIT };
            return Err(Error::Damaged { name: name.clone(), source });
        }
        self.read_artifact_within(id, name, *size).await
    }

    /// The bytes of an artifact of at most `limit` bytes, from the store or the coordinator.
    async fn read_artifact_within(&self, id: &str, name: &str, limit: u64) -> Result<(Vec<u8>, Digest), Error> {
        if !self.store().is_avoided()
            && let Some(read) = self.read_artifact_by(id, name, limit, true).await?
        {
            return Ok(read);
        }
        let read = self.read_artifact_by(id, name, limit, false).await?;
        read.ok_or_else(|| Error::Contract(format!("{name} was requested, but an address was received")))
    }

    /// The same, from a shared store if that is asked for and there is one; `None` when the store does not give it.
    async fn read_artifact_by(
        &self,
        id: &str,
        name: &str,
        limit: u64,
        presigned: bool,
    ) -> Result<Option<(Vec<u8>, Digest)>, Error> {
        let request = ReadArtifactRequest { sweep_id: id.into(), name: name.into(), presigned };
        let late =
            |_| Err(Status::unavailable(format!("the transfer of {name} could not start within {PLACE_TIMEOUT:.0?}")));
        let called = timeout(PLACE_TIMEOUT, self.service().read_artifact(request)).await.unwrap_or_else(late);
        let mut chunks = called.map_err(|s| self.error(s))?.into_inner();
        let damaged = |source: ChunkError| Error::Damaged { name: name.into(), source };
        let first = self.next(&mut chunks).await?.unwrap_or_default();
        let artifact = first
            .artifact
            .ok_or_else(|| Error::Contract(format!("{name} was announced without its size and digest")))?;
        let mut assembler = Assembler::new(artifact.size, limit, &artifact.digest).map_err(damaged)?;
        if let Some(get) = &first.get {
            return Ok(self.read_presigned(get, &artifact).await);
        }
        assembler.push(&first.data).map_err(damaged)?;
        while let Some(chunk) = self.next(&mut chunks).await? {
            // They would never end.
            if chunk.data.is_empty() {
                return Err(Error::Contract(format!("{name} has an empty chunk")));
            }
            assembler.push(&chunk.data).map_err(damaged)?;
        }
        assembler.finish().map(Some).map_err(damaged)
    }

    /// Reads an artifact from the store. One that cannot be had there, or is damaged, is the coordinator's to send or to refuse.
    async fn read_presigned(&self, get: &PresignedRequest, artifact: &Artifact) -> Option<(Vec<u8>, Digest)> {
        let digest = Digest::from_hex(&artifact.digest)?;
        let payload = PresignedPayload { size: artifact.size, digest };
        Some((self.store().get(get, payload).await.ok()?, digest))
    }

    async fn next(&self, chunks: &mut Streaming<ReadArtifactResponse>) -> Result<Option<ReadArtifactResponse>, Error> {
        let silent = |_| Err(Status::unavailable(format!("no bytes of the file arrived for {SILENCE:.0?}")));
        self.received(timeout(SILENCE, chunks.message()).await.unwrap_or_else(silent))
    }
}
