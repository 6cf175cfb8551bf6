//! The committed shards of a job: who computed them, and where the bytes of what they yielded lie.
//!
//! The two are apart. A shard stays known until its sweep ends, for audits, late reports and the manifest. Its bytes are a partial
//! of their own at first, and later a part of one that was merged from neighbours: partials are disjoint nodes of the tree that
//! together cover what is committed.

use super::effect::StoredPartial;
use super::packed::PackedShards;
use super::record::Contribution;
use super::shard::{Partial, PartialBytes};
use crate::grid::Node;
use crate::ids::{Digest, WorkerId};
use std::collections::BTreeMap;
use std::ops::Range;

/// The committed shards of a job and their partials. A copy costs little.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    total: u64,
    shards: PackedShards,
    /// Partials in the store by their first blocks; small results are with the shards.
    stored: BTreeMap<u64, Blob>,
}

/// A partial in the store.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Blob {
    node: Node,
    digest: Digest,
}

/// The blocks and shards that a withdrawal took out.
pub(super) struct Taken {
    pub(super) blocks: Range<u64>,
    pub(super) shards: u64,
}

impl Committed {
    /// The empty set of a job with `total` blocks.
    pub fn new(total: u64) -> Self {
        Self { total, shards: PackedShards::default(), stored: BTreeMap::new() }
    }

    /// Takes in what a shard yielded, which shares no block with what is here.
    pub fn insert(&mut self, node: Node, partial: &Partial, worker: &WorkerId) {
        let start = node.blocks(self.total).start;
        let contribution = Contribution { node, content: partial.content, worker: worker.clone() };
        match &partial.bytes {
            PartialBytes::Inline(bytes) => self.shards.insert(start, &contribution, Some(bytes)),
            PartialBytes::Stored(digest) => {
                self.shards.insert(start, &contribution, None);
                self.stored.insert(start, Blob { node, digest: *digest });
            }
        }
    }

    /// Takes in a shard whose bytes are in a merged partial, which is still to come.
    pub(super) fn insert_absorbed(&mut self, contribution: &Contribution) {
        let start = contribution.node.blocks(self.total).start;
        self.shards.insert(start, contribution, None);
    }

    /// Puts one partial in the place of all those below a node.
    pub(super) fn merge(&mut self, node: Node, digest: Digest) {
        let blocks = node.blocks(self.total);
        let starts: Vec<u64> = self.stored.range(blocks.clone()).map(|(&start, _)| start).collect();
        for start in starts {
            self.stored.remove(&start);
        }
        self.stored.insert(blocks.start, Blob { node, digest });
    }

    /// Returns whether there is a partial of exactly this node.
    pub(super) fn has_partial(&self, node: Node) -> bool {
        let start = node.blocks(self.total).start;
        match self.stored_at(start) {
            Some(stored) => stored == node,
            None => self.shards.has_inline(start) && self.has(node),
        }
    }

    /// Takes out a partial with all the shards that are in it; `None` when there is no partial of exactly this node.
    pub(super) fn withdraw(&mut self, node: Node) -> Option<Taken> {
        if !self.has_partial(node) {
            return None;
        }
        let blocks = node.blocks(self.total);
        self.stored.remove(&blocks.start);
        let starts: Vec<u64> = self.within(&blocks).map(|(start, _)| start).collect();
        starts.iter().for_each(|&start| self.shards.remove(start));
        Some(Taken { blocks, shards: starts.len() as u64 })
    }

    /// The same without these shards, whose partials are their own.
    #[must_use]
    pub fn without(mut self, shards: impl Iterator<Item = Node>) -> Self {
        for node in shards {
            let _ = self.withdraw(node);
        }
        self
    }

    /// Returns whether nothing is committed.
    pub fn is_empty(&self) -> bool {
        self.shards.len() == 0
    }

    /// Returns the number of committed shards.
    pub fn len(&self) -> usize {
        self.shards.len()
    }

    /// Returns the number of partials in the store; small results are elsewhere.
    pub fn stored_len(&self) -> usize {
        self.stored.len()
    }

    /// The shard that begins at this block.
    pub(super) fn get(&self, start: u64) -> Option<Contribution> {
        self.shards.get(start)
    }

    /// Returns whether exactly this shard is committed.
    pub(super) fn has(&self, node: Node) -> bool {
        self.get(node.blocks(self.total).start).is_some_and(|held| held.node == node)
    }

    /// Shards that begin in these blocks.
    fn within(&self, blocks: &Range<u64>) -> impl Iterator<Item = (u64, Contribution)> + use<'_> {
        let end = blocks.end;
        self.shards.onwards(blocks.start).take_while(move |(start, _)| *start < end)
    }

    /// Shards that share blocks with these.
    pub(super) fn meeting(&self, blocks: &Range<u64>) -> impl Iterator<Item = (u64, Contribution)> + use<'_> {
        let total = self.total;
        let start = blocks.start;
        let before = self.shards.before(start).map(|held| (held.node.blocks(total).start, held));
        let reaches = move |(_, held): &(u64, Contribution)| held.node.blocks(total).end > start;
        before.filter(reaches).into_iter().chain(self.within(blocks))
    }

    /// All shards, left to right.
    pub fn contributions(&self) -> impl Iterator<Item = Contribution> + use<'_> {
        self.shards.onwards(0).map(|(_, held)| held)
    }

    /// All partials, left to right.
    pub fn partials(&self) -> impl Iterator<Item = StoredPartial> + use<'_> {
        let inline = |(node, bytes): (Node, Vec<u8>)| StoredPartial { node, bytes: PartialBytes::Inline(bytes.into()) };
        let mut inline = self.shards.inline().map(inline).peekable();
        let mut stored = self.stored.values().map(Blob::partial).peekable();
        let start = |partial: &StoredPartial| partial.node.blocks(self.total).start;
        std::iter::from_fn(move || match (inline.peek(), stored.peek()) {
            (Some(small), Some(large)) if start(small) > start(large) => stored.next(),
            (Some(_), _) => inline.next(),
            (None, _) => stored.next(),
        })
    }

    /// The stored partials that begin in these blocks, left to right.
    pub(super) fn stored_within(&self, blocks: &Range<u64>) -> impl Iterator<Item = StoredPartial> + use<'_> {
        self.stored.range(blocks.clone()).map(|(_, blob)| blob.partial())
    }

    /// The blobs of the stored partials that begin in these blocks.
    pub(super) fn blobs_within(&self, blocks: &Range<u64>) -> impl Iterator<Item = Digest> + use<'_> {
        self.stored.range(blocks.clone()).map(|(_, blob)| blob.digest)
    }

    /// The node of the stored partial that begins at this block.
    pub(super) fn stored_at(&self, start: u64) -> Option<Node> {
        self.stored.get(&start).map(|blob| blob.node)
    }

    /// The node of the partial in which a committed shard's bytes are.
    pub(super) fn partial_of(&self, shard: Node) -> Node {
        let blocks = shard.blocks(self.total);
        let stored = self.stored.range(..=blocks.start).next_back().map(|(_, blob)| blob.node);
        stored.filter(|node| node.blocks(self.total).end >= blocks.end).unwrap_or(shard)
    }

    /// The blobs of all stored partials.
    pub(super) fn blobs(&self) -> impl Iterator<Item = Digest> + use<'_> {
        self.stored.values().map(|blob| blob.digest)
    }

    /// The partial of a shard, if it has one of its own; `None` when it is merged with others.
    pub(super) fn own_partial(&self, shard: &Contribution) -> Option<Partial> {
        let start = shard.node.blocks(self.total).start;
        let bytes = match self.stored.get(&start).filter(|blob| blob.node == shard.node) {
            Some(blob) => PartialBytes::Stored(blob.digest),
            None => PartialBytes::Inline(self.shards.inline_at(start)?.into()),
        };
        Some(Partial { bytes, content: shard.content })
    }

    /// The merged partials: those that are of more than one shard.
    pub(super) fn merged(&self) -> impl Iterator<Item = (Node, Digest)> + use<'_> {
        self.stored.values().filter(|blob| !self.has(blob.node)).map(|blob| (blob.node, blob.digest))
    }

    /// Checks that partials and shards cover the same blocks, each once.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut covered = self.partials().map(|partial| partial.node.blocks(self.total)).peekable();
        for (start, held) in self.shards.onwards(0) {
            let blocks = held.node.blocks(self.total);
            if covered.peek().is_some_and(|partial| partial.end <= start) {
                covered.next();
            }
            let whole = |partial: &Range<u64>| partial.start <= start && blocks.end <= partial.end;
            if !covered.peek().is_some_and(whole) {
                return Err(format!("blocks {blocks:?} are committed and no partial is of them: {:?}", covered.peek()));
            }
        }
        covered.next();
        let sum = |blocks: Range<u64>| blocks.end - blocks.start;
        let partials: u64 = self.partials().map(|partial| sum(partial.node.blocks(self.total))).sum();
        let shards: u64 = self.contributions().map(|held| sum(held.node.blocks(self.total))).sum();
        match covered.next() {
            Some(more) => Err(format!("a partial of blocks {more:?}, which are not committed")),
            None if partials != shards => Err(format!("partials are of {partials} blocks, shards of {shards}")),
            None => Ok(()),
        }
    }
}

impl Blob {
    fn partial(&self) -> StoredPartial {
        StoredPartial { node: self.node, bytes: PartialBytes::Stored(self.digest) }
    }
}
