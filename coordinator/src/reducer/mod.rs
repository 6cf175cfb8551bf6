//! The reduction of one job: what its shards yielded, merged along the fixed tree, and the results computed from it.
//!
//! [`nads`] merges moments and computes eigenvectors; [`runs`] puts training runs in a row. Blocks the thread: it runs on a
//! CPU pool, outside the desk's loop.

pub mod manifest;
mod nads;
mod runs;
#[cfg(test)]
mod tests;

pub use nads::{Nads, decompose};

use crate::artifacts::{Held, Store, StoreError};
use nadgrid_core::grid::Node;
use nadgrid_core::scheduler::{ArtifactRef, Contribution, JobResult, PartialBytes};
use nadgrid_core::spec::{InputRef, JobShape, Payload, Spec};
use nadgrid_core::tree::{Fold, TreeError, root};
use std::borrow::Cow;
use std::fmt;
use thiserror::Error;
use tokio::runtime::Handle;

/// A reduction that did not come to its end.
#[derive(Debug, Error)]
pub enum ReduceError {
    /// A partial is gone, damaged or no partial: it must be computed again.
    #[error("the partial of blocks {node:?} cannot be used: {cause}")]
    Partial {
        /// Which.
        node: Node,
        /// Why.
        cause: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The partials are not those of all blocks.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The eigendecomposition did not converge.
    #[error("the eigendecomposition of the {0} x {0} covariance did not converge")]
    Eigen(usize),
}

/// Merges a job's partials, computes its results and stores them. They are held until the caller has journalled them.
///
/// # Errors
/// [`ReduceError`].
pub fn reduce(
    spec: &Spec,
    job: &JobShape,
    contributions: &[Contribution],
    store: &Store,
    io: &Handle,
) -> Result<(JobResult, Vec<Held>), ReduceError> {
    let partials = Partials { job, contributions, store, io };
    let (digest, files) = match job.payload {
        Payload::Moments { dimension, points } => nads::reduce(&partials, dimension, points)?,
        Payload::Runs { extra } => runs::reduce(spec, &partials, extra)?,
    };
    let (mut artifacts, mut stored) = (Vec::new(), Vec::new());
    for (name, bytes) in files {
        let size = bytes.len() as u64;
        let held = io.block_on(store.put(bytes))?;
        artifacts.push(ArtifactRef { name, size, digest: held.digest() });
        stored.push(held);
    }
    let manifest = manifest::to_bytes(contributions, job.grid.blocks());
    let size = manifest.len() as u64;
    let held = io.block_on(store.put(manifest))?;
    let manifest = InputRef { size, digest: held.digest() };
    stored.push(held);
    Ok((JobResult { digest, artifacts, manifest: Some(manifest) }, stored))
}

/// Result files by their names.
type Files = Vec<(String, Vec<u8>)>;

/// The partials of a job, left to right.
struct Partials<'a> {
    job: &'a JobShape,
    contributions: &'a [Contribution],
    store: &'a Store,
    io: &'a Handle,
}

impl Partials<'_> {
    /// Reads one after the other and folds them: at most one value per level of the tree is held. `read` takes the bytes and
    /// the number of members.
    fn fold<T, E: fmt::Display>(
        &self,
        read: impl Fn(&[u8], u64) -> Result<T, E>,
        merge: impl FnMut(T, T) -> T,
    ) -> Result<T, ReduceError> {
        let grid = self.job.grid;
        let total = grid.blocks();
        let mut fold = Fold::over_all(total, merge);
        for Contribution { node, partial, .. } in self.contributions {
            let node = *node;
            let lost = |cause: String| ReduceError::Partial { node, cause };
            let bytes = match &partial.bytes {
                PartialBytes::Inline(bytes) => Cow::Borrowed(&**bytes),
                PartialBytes::Stored(digest) => {
                    let bytes = self.io.block_on(self.store.get(*digest));
                    Cow::Owned(bytes.map_err(|e| if e.is_loss() { lost(e.to_string()) } else { e.into() })?)
                }
            };
            let members = grid.members(node.blocks(total));
            fold.push(node, read(&bytes, members.end - members.start).map_err(|e| lost(e.to_string()))?)?;
        }
        Ok(fold.finish(root(total))?)
    }
}
