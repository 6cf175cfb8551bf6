//! A partial that nobody computed: valid moments, made once, and another one for every shard by its first number.

use nadgrid_core::ids::Digest;
use nadgrid_core::moments::{Moments, packed_len};
use nadgrid_proto::chunks::CHUNK_BYTES;
use std::cell::RefCell;

/// Where the first number of the mean begins: after magic, dimension and count.
const MEAN: usize = 24;

/// The bytes of all partials but for eight of them.
pub(crate) struct MadeUpPartial {
    bytes: RefCell<Vec<u8>>,
}

impl MadeUpPartial {
    /// Moments of `members` gradients of this dimension. The scatter has a dominant diagonal and no two eigenvalues alike, so
    /// that its decomposition is as much work as that of a measured one.
    pub(crate) fn new(dimension: usize, members: u64) -> Self {
        let mut state = 1_u64;
        let mut number = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
        };
        let mean = (0..dimension).map(|_| number()).collect();
        let mut scatter = Vec::with_capacity(packed_len(dimension));
        for row in 0..dimension {
            scatter.push(1.0 + row as f64 / dimension as f64);
            scatter.extend((row + 1..dimension).map(|_| number() / dimension as f64));
        }
        Self { bytes: RefCell::new(Moments { count: members, mean, scatter }.to_bytes()) }
    }

    pub(crate) fn size(&self) -> u64 {
        self.bytes.borrow().len() as u64
    }

    /// The digest of a shard's partial.
    pub(crate) fn digest(&self, shard: u64) -> Digest {
        let mut bytes = self.bytes.borrow_mut();
        bytes[MEAN..MEAN + 8].copy_from_slice(&(shard as f64).to_le_bytes());
        Digest::of(&bytes)
    }

    /// The chunk of a shard's partial that begins at this byte; none at the end.
    pub(crate) fn chunk(&self, shard: u64, start: usize) -> Option<Vec<u8>> {
        let bytes = self.bytes.borrow();
        let chunk = bytes.get(start..bytes.len().min(start + CHUNK_BYTES)).filter(|chunk| !chunk.is_empty())?;
        let mut chunk = chunk.to_vec();
        if start == 0 {
            chunk[MEAN..MEAN + 8].copy_from_slice(&(shard as f64).to_le_bytes());
        }
        Some(chunk)
    }
}
