//! Large payloads are sent in chunks, and accepted only if their length and BLAKE3 digest agree.

use nadgrid_core::ids::Digest;
use nadgrid_core::text;
use thiserror::Error;

/// The number of bytes per chunk. The rate of a transfer is measured in whole chunks: at 16,384 bytes per second, the
/// slowest rate that is guaranteed to work, one comes every 4 s.
pub const CHUNK_BYTES: usize = 64 << 10;

/// The most characters of a malformed digest that an error repeats.
const MAX_DIGEST: usize = 80;

/// Parses the digest that was announced for a payload.
///
/// # Errors
/// [`ChunkError::Digest`].
pub fn announced_digest(digest: &str) -> Result<Digest, ChunkError> {
    Digest::from_hex(digest).ok_or_else(|| ChunkError::Digest(text::clean(digest, MAX_DIGEST)))
}

/// The chunks of a payload in order. Each is copied only when it is asked for.
pub fn chunks(bytes: impl AsRef<[u8]>) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.as_ref().len()).step_by(CHUNK_BYTES).map(move |start| {
        let bytes = bytes.as_ref();
        bytes[start..bytes.len().min(start + CHUNK_BYTES)].to_vec()
    })
}

/// A payload did not arrive as it was sent.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ChunkError {
    /// The sender ended early.
    #[error("the payload is truncated: {received} of {size} bytes were received")]
    Truncated {
        /// The announced number of bytes.
        size: u64,
        /// The received number of bytes.
        received: u64,
    },
    /// More bytes came than were announced.
    #[error("the payload is longer than the {size} bytes announced")]
    TooLong {
        /// The announced number of bytes.
        size: u64,
    },
    /// More bytes were announced than are accepted.
    #[error("a payload of {size} bytes was announced, at most {limit} are accepted")]
    TooLarge {
        /// The announced number of bytes.
        size: u64,
        /// The most bytes that are accepted.
        limit: u64,
    },
    /// The length is right, the bytes are not.
    #[error("the payload is damaged: its digest is {actual}, {expected} was announced")]
    Damaged {
        /// The announced digest.
        expected: Digest,
        /// The digest of the received bytes.
        actual: Digest,
    },
    /// The announced digest is malformed.
    #[error("the announced digest {0:?} is not 64 hexadecimal digits")]
    Digest(String),
}

/// Assembles a payload from its chunks.
#[derive(Debug)]
pub struct Assembler {
    size: u64,
    digest: Digest,
    bytes: Vec<u8>,
    hasher: blake3::Hasher,
}

impl Assembler {
    /// An assembler for a payload of `size` bytes, at most `limit`, with this digest in hexadecimal. Memory is allocated as
    /// bytes come.
    ///
    /// # Errors
    /// [`ChunkError::TooLarge`], [`ChunkError::Digest`].
    pub fn new(size: u64, limit: u64, digest: &str) -> Result<Self, ChunkError> {
        if size > limit {
            return Err(ChunkError::TooLarge { size, limit });
        }
        Ok(Self::of(size, announced_digest(digest)?))
    }

    /// An assembler for a payload whose size was checked. Memory is allocated as bytes come.
    pub fn of(size: u64, digest: Digest) -> Self {
        Self { size, digest, bytes: Vec::new(), hasher: blake3::Hasher::new() }
    }

    /// Adds the next bytes.
    ///
    /// # Errors
    /// [`ChunkError::TooLong`].
    pub fn push(&mut self, data: &[u8]) -> Result<(), ChunkError> {
        if self.bytes.len() as u64 + data.len() as u64 > self.size {
            return Err(ChunkError::TooLong { size: self.size });
        }
        self.hasher.update(data);
        self.make_room(data.len());
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    /// Doubles the memory when it is full, as a vector does, but not beyond the payload.
    fn make_room(&mut self, more: usize) {
        let (held, size) = (self.bytes.len(), self.size as usize);
        if held + more > self.bytes.capacity() {
            self.bytes.reserve_exact((2 * held).max(held + more).min(size) - held);
        }
    }

    /// Bytes so far.
    pub fn received(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The payload and its digest.
    ///
    /// # Errors
    /// [`ChunkError::Truncated`], [`ChunkError::Damaged`].
    pub fn finish(self) -> Result<(Vec<u8>, Digest), ChunkError> {
        let received = self.received();
        if received != self.size {
            return Err(ChunkError::Truncated { size: self.size, received });
        }
        let actual = Digest(*self.hasher.finalize().as_bytes());
        if actual != self.digest {
            return Err(ChunkError::Damaged { expected: self.digest, actual });
        }
        Ok((self.bytes, actual))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_the_bytes_in_order() {
        let payload: Vec<u8> = (0..CHUNK_BYTES * 2 + 5).map(|i| (i % 251) as u8).collect();
        let cut: Vec<Vec<u8>> = chunks(&payload).collect();
        assert_eq!(cut.iter().map(Vec::len).collect::<Vec<_>>(), [CHUNK_BYTES, CHUNK_BYTES, 5]);
        assert_eq!(cut.concat(), payload);
        assert_eq!(chunks([]).count(), 0);
    }

    fn assemble(chunks: &[&[u8]], size: u64, digest: Digest) -> Result<Vec<u8>, ChunkError> {
        let mut assembler = Assembler::new(size, 100, &digest.to_string())?;
        for chunk in chunks {
            assembler.push(chunk)?;
        }
        assembler.finish().map(|(bytes, _)| bytes)
    }

    #[test]
    fn only_the_very_payload_comes_out() {
        let digest = Digest::of(b"anisotropy");
        assert_eq!(assemble(&[b"aniso", b"", b"tropy"], 10, digest).unwrap(), b"anisotropy");
        assert_eq!(assemble(&[b"aniso"], 10, digest), Err(ChunkError::Truncated { size: 10, received: 5 }));
        assert_eq!(assemble(&[b"anisotropy", b"!"], 10, digest), Err(ChunkError::TooLong { size: 10 }));
        assert!(matches!(assemble(&[b"anisotrOpy"], 10, digest), Err(ChunkError::Damaged { .. })));
        assert_eq!(assemble(&[], 101, digest), Err(ChunkError::TooLarge { size: 101, limit: 100 }));
        assert_eq!(Assembler::new(1, 1, "xyz").unwrap_err(), ChunkError::Digest("xyz".into()));
        assert!(Assembler::new(1, 1, &"f".repeat(60_000)).unwrap_err().to_string().len() < 200);
    }
}
