//! The manifest of a job: the digest of each shard's result, and the worker that computed it. `nadgrid verify` compares with it.
//!
//! It has a line for each shard, left to right: first block, number of blocks, digest of the content, worker.

use nadgrid_core::grid::Node;
use nadgrid_core::ids::{Digest, WorkerId};
use nadgrid_core::scheduler::{Committed, Contribution};
use std::fmt::Write;

/// The result of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ManifestEntry {
    /// The shard's node in the job's tree.
    pub node: Node,
    /// The digest of its result.
    pub content: Digest,
    /// The worker that computed it.
    pub worker: WorkerId,
}

/// The manifest of the committed shards of a job of `total` blocks.
pub(crate) fn to_bytes(committed: &Committed, total: u64) -> Vec<u8> {
    let mut text = String::with_capacity(committed.len() * 96);
    for Contribution { node, content, worker } in committed.contributions() {
        let blocks = node.blocks(total);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} {} {} {worker}", blocks.start, blocks.end - blocks.start, content);
    }
    text.into_bytes()
}

/// Reads a manifest; `None` if the bytes are not one.
pub(crate) fn parse(bytes: &[u8], total: u64) -> Option<Vec<ManifestEntry>> {
    let entry = |line: &str| {
        let mut words = line.splitn(4, ' ');
        let (start, count): (u64, u64) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let node = Node::over(&(start..start.checked_add(count)?), total)?;
        let content = Digest::from_hex(words.next()?)?;
        Some(ManifestEntry { node, content, worker: WorkerId::new(words.next()?) })
    };
    std::str::from_utf8(bytes).ok()?.lines().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nadgrid_core::scheduler::Partial;

    #[test]
    fn it_reads_what_it_writes() {
        let entry = |level, index, worker: &str| ManifestEntry {
            node: Node { level, index },
            content: Digest::of(worker.as_bytes()),
            worker: WorkerId::new(worker),
        };
        let entries = [entry(2, 0, "a"), entry(0, 4, ""), entry(0, 5, "b c")];
        let mut committed = Committed::new(6);
        for ManifestEntry { node, content, worker } in &entries {
            committed.insert(*node, &Partial::stored(*content), worker);
        }
        assert_eq!(parse(&to_bytes(&committed, 6), 6).unwrap(), entries);
        for wrong in ["1 2 x a", "0 1", "1 2 3", "0 9 0 a"] {
            assert_eq!(parse(wrong.as_bytes(), 6), None, "{wrong}");
        }
    }
}
