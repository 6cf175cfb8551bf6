//! The store of blobs by their digests, and the reduction that reads them.

use crate::scenario::Mutation;
use crate::truth;
use nadgrid_core::grid::Node;
use nadgrid_core::ids::Digest;
use nadgrid_core::scheduler::{ArtifactRef, Committed, JobResult, PartialBytes, StoredPartial};
use nadgrid_core::spec::{Experiment, JobShape, nads_file};
use nadgrid_core::tree::{Fold, root};
use std::collections::{BTreeMap, BTreeSet};

/// What is stored.
#[derive(Default)]
pub(crate) struct Store {
    blobs: BTreeMap<Digest, Vec<u8>>,
    /// What faults have taken or changed.
    pub(crate) harmed: BTreeSet<Digest>,
    /// Until when it takes no payload.
    pub(crate) away_until: u64,
}

impl Store {
    /// Stores bytes under their digest. What was harmed is whole again.
    pub(crate) fn put(&mut self, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        self.harmed.remove(&digest);
        self.blobs.insert(digest, bytes);
        digest
    }

    /// The bytes of a digest, if they are there and are those.
    pub(crate) fn get(&self, digest: Digest) -> Option<&[u8]> {
        self.blobs.get(&digest).map(Vec::as_slice).filter(|bytes| Digest::of(bytes) == digest)
    }

    /// Removes blobs.
    pub(crate) fn remove(&mut self, blobs: BTreeSet<Digest>) {
        self.blobs.retain(|digest, _| !blobs.contains(digest));
    }

    /// Removes whatever nobody needs, as after a start.
    pub(crate) fn collect_orphans(&mut self, needed: &BTreeSet<Digest>) {
        self.blobs.retain(|digest, _| needed.contains(digest));
    }

    /// A blob that is needed and neither there nor harmed by a fault.
    pub(crate) fn missing(&self, needed: impl IntoIterator<Item = Digest>) -> Option<Digest> {
        needed.into_iter().find(|digest| self.get(*digest).is_none() && !self.harmed.contains(digest))
    }

    /// Takes a blob away, or changes a bit of it.
    pub(crate) fn harm(&mut self, digest: Digest, lose: bool) {
        self.harmed.insert(digest);
        match self.blobs.get_mut(&digest).and_then(|bytes| bytes.first_mut()) {
            Some(byte) if !lose => *byte ^= 1,
            _ => drop(self.blobs.remove(&digest)),
        }
    }

    fn bytes<'a>(&'a self, partial: &'a StoredPartial, mutation: Mutation) -> Option<&'a [u8]> {
        match &partial.bytes {
            PartialBytes::Inline(bytes) => Some(bytes),
            PartialBytes::Stored(digest) if mutation == Mutation::ReducerTrustsTheStore => {
                self.blobs.get(digest).map(Vec::as_slice)
            }
            PartialBytes::Stored(digest) => self.get(*digest),
        }
    }

    /// Folds partials along the tree below a node; or says which of them cannot be used.
    fn fold(
        &self,
        (node, total): (Node, u64),
        partials: impl Iterator<Item = StoredPartial>,
        mutation: Mutation,
        swaps: bool,
    ) -> Result<Digest, Node> {
        let merge = |a, b| if swaps { truth::merge(b, a) } else { truth::merge(a, b) };
        let mut fold = Fold::below(node, total, merge);
        for partial in partials {
            let value = self.bytes(&partial, mutation).and_then(truth::value_of).ok_or(partial.node)?;
            fold.push(partial.node, value).expect("partials come left to right, each block once");
        }
        Ok(fold.finish(node).expect("partials of all blocks"))
    }

    /// Merges the partials of a node and stores what comes out; or says which of them cannot be used.
    pub(crate) fn merge(
        &mut self,
        (node, total): (Node, u64),
        partials: &[StoredPartial],
        mutation: Mutation,
    ) -> Result<Digest, Node> {
        let swaps = mutation == Mutation::MergeSwaps;
        let value = self.fold((node, total), partials.iter().cloned(), mutation, swaps)?;
        Ok(self.put(truth::merged_bytes(value)))
    }

    /// Merges a job's partials; or says which of them cannot be used.
    pub(crate) fn reduce(
        &mut self,
        shape: &JobShape,
        committed: &Committed,
        mutation: Mutation,
    ) -> Result<JobResult, Node> {
        let total = shape.grid.blocks();
        let swaps = mutation == Mutation::ReducerSwaps;
        let digest = self.fold((root(total), total), committed.partials(), mutation, swaps)?;
        let mut artifacts = Vec::new();
        if shape.experiment == Experiment::Nads {
            let bytes = truth::artifact_bytes(digest);
            let (name, size) = (nads_file(&shape.architecture), bytes.len() as u64);
            artifacts.push(ArtifactRef { name, size, digest: self.put(bytes) });
        }
        Ok(JobResult { digest, artifacts, manifest: None })
    }
}
