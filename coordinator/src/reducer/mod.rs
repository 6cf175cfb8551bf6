//! The reduction of a job: its partials are merged along the fixed tree, and its results computed from them. Some of the
//! partials may be merged before that, while the job is still being computed.
//!
//! [`nads`] merges moments and computes eigenvectors; [`runs`] writes the table of training runs. A reduction blocks its
//! thread, so it runs on a CPU pool outside the event loop.

pub(crate) mod manifest;
mod nads;
mod runs;
#[cfg(test)]
mod tests;

use crate::artifacts::{BlobLease, Store, StoreError};
use nadgrid_core::grid::Node;
use nadgrid_core::scheduler::{ArtifactRef, Committed, JobResult, PartialBytes, StoredPartial};
use nadgrid_core::spec::{InputRef, JobShape, Payload, Spec};
use nadgrid_core::tree::{Fold, TreeError, root};
use std::borrow::Cow;
use std::fmt;
use thiserror::Error;
use tokio::runtime::Handle;

/// The most partials that an error names.
const MAX_NAMED: usize = 20;

/// A reduction or merge failed.
#[derive(Debug, Error)]
pub(crate) enum ReduceError {
    /// A partial is missing, damaged or invalid: it must be computed again.
    #[error("the partial of blocks {node:?} cannot be used: {cause}")]
    Partial {
        /// The node of the partial.
        node: Node,
        /// The reason why its bytes are refused.
        cause: String,
    },
    /// The partials are valid one by one, but their merge is not.
    #[error("the merged partials of blocks {blocks} are invalid: {cause}")]
    Merged {
        /// The blocks of the partials.
        blocks: String,
        /// The reason why the merged numbers are refused.
        cause: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The partials do not cover all blocks once.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The eigendecomposition did not converge.
    #[error("the eigendecomposition of the {0} x {0} covariance did not converge")]
    Eigen(usize),
}

/// Merges a job's partials, computes its results and stores them. The caller keeps the leases until they are journalled.
///
/// # Errors
/// [`ReduceError`].
pub(crate) fn reduce(
    spec: &Spec,
    job: &JobShape,
    committed: &Committed,
    store: &Store,
    io: &Handle,
) -> Result<(JobResult, Vec<BlobLease>), ReduceError> {
    let partials =
        Partials { job, node: root(job.grid.blocks()), sources: &|| Box::new(committed.partials()), store, io };
    let (digest, files) = match job.payload {
        Payload::Moments { dimension, points } => nads::reduce(&partials, dimension, points)?,
        Payload::Runs { extra, .. } => runs::reduce(spec, &partials, extra)?,
    };
    let mut artifacts = Vec::new();
    let mut stored = Vec::new();
    for (name, bytes) in files {
        let size = bytes.len() as u64;
        let lease = io.block_on(store.put(bytes))?;
        artifacts.push(ArtifactRef { name, size, digest: lease.digest() });
        stored.push(lease);
    }
    let manifest = manifest::to_bytes(committed, job.grid.blocks());
    let size = manifest.len() as u64;
    let lease = io.block_on(store.put(manifest))?;
    let manifest = InputRef { size, digest: lease.digest() };
    stored.push(lease);
    Ok((JobResult { digest, artifacts, manifest: Some(manifest) }, stored))
}

/// Merges the partials of one node and stores the result. Returns its lease, which the caller keeps until it is journalled,
/// and its size in bytes.
///
/// # Errors
/// [`ReduceError`].
pub(crate) fn merge(
    job: &JobShape,
    node: Node,
    partials: &[StoredPartial],
    store: &Store,
    io: &Handle,
) -> Result<(BlobLease, u64), ReduceError> {
    let Payload::Moments { dimension, points } = job.payload else {
        return Err(ReduceError::Merged {
            blocks: format!("{node:?}"),
            cause: "the job consists of training runs".to_owned(),
        });
    };
    let partials = Partials { job, node, sources: &|| Box::new(partials.iter().cloned()), store, io };
    let bytes = nads::merge(&partials, dimension, points)?.to_bytes();
    let size = bytes.len() as u64;
    Ok((io.block_on(store.put(bytes))?, size))
}

/// Result files with their names.
type ResultFiles = Vec<(String, Vec<u8>)>;

/// The partials of a node of a job's tree, left to right.
struct Partials<'a> {
    job: &'a JobShape,
    node: Node,
    sources: &'a dyn Fn() -> Box<dyn Iterator<Item = StoredPartial> + 'a>,
    store: &'a Store,
    io: &'a Handle,
}

impl Partials<'_> {
    /// Reads one partial after the other and folds them, with at most one value per level of the tree in memory. `read`
    /// takes the bytes and the number of members.
    fn fold<T, E: fmt::Display>(
        &self,
        mut read: impl FnMut(&[u8], u64) -> Result<T, E>,
        merge: impl FnMut(T, T) -> T,
    ) -> Result<T, ReduceError> {
        let grid = self.job.grid;
        let total = grid.blocks();
        let mut fold = Fold::below(self.node, total, merge);
        for partial in (self.sources)() {
            let node = partial.node;
            let bytes = self.bytes(&partial)?;
            let members = grid.members(node.blocks(total));
            let read = read(&bytes, members.end - members.start);
            fold.push(node, read.map_err(|e| ReduceError::Partial { node, cause: e.to_string() })?)?;
        }
        Ok(fold.finish(self.node)?)
    }

    fn bytes<'b>(&self, partial: &'b StoredPartial) -> Result<Cow<'b, [u8]>, ReduceError> {
        let node = partial.node;
        match &partial.bytes {
            PartialBytes::Inline(bytes) => Ok(Cow::Borrowed(&**bytes)),
            PartialBytes::Stored(digest) => match self.io.block_on(self.store.get(*digest)) {
                Err(error) if error.is_loss() => Err(ReduceError::Partial { node, cause: error.to_string() }),
                other => Ok(Cow::Owned(other?)),
            },
        }
    }

    /// The error of an invalid merge. It names the first partial that is invalid by the strict `check`, which takes the bytes
    /// and the number of members.
    fn invalid_merge<E: fmt::Display>(
        &self,
        cause: &impl fmt::Display,
        check: impl Fn(&[u8], u64) -> Result<(), E>,
    ) -> Result<ReduceError, ReduceError> {
        let grid = self.job.grid;
        for partial in (self.sources)() {
            let members = grid.members(partial.node.blocks(grid.blocks()));
            if let Err(cause) = check(&self.bytes(&partial)?, members.end - members.start) {
                return Ok(ReduceError::Partial { node: partial.node, cause: cause.to_string() });
            }
        }
        Ok(ReduceError::Merged { blocks: self.blocks(), cause: cause.to_string() })
    }

    /// The blocks of the partials as text, at most [`MAX_NAMED`] of them.
    fn blocks(&self) -> String {
        let total = self.job.grid.blocks();
        let blocks = (self.sources)().take(MAX_NAMED + 1).map(|partial| partial.node.blocks(total));
        let mut words: Vec<String> = blocks.map(|blocks| format!("{}..{}", blocks.start, blocks.end)).collect();
        if words.len() > MAX_NAMED {
            words[MAX_NAMED] = "more".to_owned();
        }
        words.join(", ")
    }
}
