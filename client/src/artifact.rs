//! Artifacts as bytes: put together from chunks, and given out only when they are whole and undamaged.

use crate::client::Client;
use crate::error::Error;
use nadgrid_core::ids::Digest;
use nadgrid_proto::chunks::{Assembler, ChunkError};
use nadgrid_proto::v1::{ReadArtifactRequest, ReadArtifactResponse};
use tonic::Streaming;

/// Largest artifact that is taken into memory: the NADs of the largest input have 64 MiB.
const ARTIFACT_LIMIT: u64 = 1 << 30;

impl Client {
    /// The bytes of one artifact of a complete sweep, for example `nads/lenet/nads.npy`, and their digest.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Damaged`] when the bytes do not have the announced length and digest,
    /// [`Error::Unreachable`].
    pub async fn read_artifact(&self, id: &str, name: &str) -> Result<(Vec<u8>, Digest), Error> {
        let request = ReadArtifactRequest { sweep_id: id.into(), name: name.into(), presigned: false };
        let mut chunks = self.service().read_artifact(request).await.map_err(|s| self.error(s))?.into_inner();
        let damaged = |source: ChunkError| Error::Damaged { name: name.into(), source };
        let first = self.next(&mut chunks).await?.unwrap_or_default();
        let artifact =
            first.artifact.ok_or_else(|| Error::Contract(format!("{name} began without its size and digest")))?;
        let mut assembler = Assembler::new(artifact.size, ARTIFACT_LIMIT, &artifact.digest).map_err(damaged)?;
        assembler.push(&first.data).map_err(damaged)?;
        while let Some(chunk) = self.next(&mut chunks).await? {
            assembler.push(&chunk.data).map_err(damaged)?;
        }
        assembler.finish().map_err(damaged)
    }

    async fn next(&self, chunks: &mut Streaming<ReadArtifactResponse>) -> Result<Option<ReadArtifactResponse>, Error> {
        chunks.message().await.map_err(|s| self.error(s))
    }
}
