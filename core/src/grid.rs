//! The arithmetic of blocks and shards. Grids are index arithmetic, never lists.
//!
//! `networks` members make `blocks` blocks of `block_size`; a shard is an aligned run of 2^level
//! blocks, cut off at the last block. Shards are therefore nodes of the one binary tree along which
//! `tree` merges, whatever their sizes.

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The number of members, and how they are cut into blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grid {
    /// Members (random networks) in all.
    pub networks: u64,
    /// Members per block, a power of two.
    pub block_size: u32,
}

impl Grid {
    /// Blocks in all; the last one may hold fewer than `block_size` members.
    pub fn blocks(self) -> u64 {
        self.networks.div_ceil(u64::from(self.block_size))
    }

    /// The members of the blocks `blocks`.
    pub fn members(self, blocks: Range<u64>) -> Range<u64> {
        let size = u64::from(self.block_size);
        (blocks.start * size).min(self.networks)..(blocks.end * size).min(self.networks)
    }
}

/// A node of the binary tree over blocks: the 2^level blocks from `index`·2^level on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Node {
    /// The height above the blocks.
    pub level: u32,
    /// Place among the nodes of its level.
    pub index: u64,
}

impl Node {
    /// The highest level a node may have, so that no shift can overflow.
    pub const MAX_LEVEL: u32 = 40;

    /// The node over a single block.
    pub fn block(index: u64) -> Self {
        Self { level: 0, index }
    }

    /// The node over `blocks` of `total`, when that range is one: aligned, and a power of two long
    /// unless it is cut off by the end.
    pub fn over(blocks: &Range<u64>, total: u64) -> Option<Self> {
        if blocks.start >= blocks.end || blocks.end > total {
            return None;
        }
        let length = blocks.end - blocks.start;
        let level = length.next_power_of_two().trailing_zeros();
        let node = Self { level, index: blocks.start >> level };
        (node.blocks(total) == *blocks).then_some(node)
    }

    /// The blocks below this node in a tree of `total` blocks.
    pub fn blocks(self, total: u64) -> Range<u64> {
        let start = self.index.checked_shl(self.level).unwrap_or(u64::MAX).min(total);
        let end = (self.index + 1).checked_shl(self.level).unwrap_or(u64::MAX).min(total);
        start..end
    }

    /// The node above.
    pub fn parent(self) -> Self {
        Self { level: self.level + 1, index: self.index >> 1 }
    }

    /// Whether this is the left child of its parent.
    pub fn is_left(self) -> bool {
        self.index & 1 == 0
    }

    /// The largest node that starts at `pending.start`, stays inside `pending` and covers at most `limit` blocks.
    pub fn first_of(pending: &Range<u64>, limit: u64, total: u64) -> Self {
        let mut node = Self::block(pending.start);
        while node.is_left() && node.level < Self::MAX_LEVEL {
            let above = node.parent();
            let blocks = above.blocks(total);
            if blocks.end > pending.end || blocks.end - blocks.start > limit || blocks == node.blocks(total) {
                break;
            }
            node = above;
        }
        node
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_block_may_be_short() {
        let grid = Grid { networks: 70, block_size: 32 };
        assert_eq!(grid.blocks(), 3);
        assert_eq!(grid.members(2..3), 64..70);
    }

    #[test]
    fn a_range_is_a_node_only_when_aligned() {
        assert_eq!(Node::over(&(4..8), 100), Some(Node { level: 2, index: 1 }));
        assert_eq!(Node::over(&(2..6), 100), None);
        assert_eq!(Node::over(&(96..99), 99), Some(Node { level: 2, index: 24 }));
        assert_eq!(Node::over(&(96..99), 100), None);
        assert_eq!(Node::over(&(5..5), 100), None);
        assert_eq!(Node::over(&(96..101), 100), None);
    }

    proptest! {
        /// Greedy cutting covers every block exactly once, whatever the limits.
        #[test]
        fn cutting_covers_every_block_once(total in 1u64..5000, limits in proptest::collection::vec(1u64..300, 1..20)) {
            let mut pending = 0..total;
            let mut turn = 0;
            while pending.start < pending.end {
                let limit = limits[turn % limits.len()];
                let node = Node::first_of(&pending, limit, total);
                let blocks = node.blocks(total);
                prop_assert_eq!(blocks.start, pending.start);
                prop_assert!(blocks.end - blocks.start <= limit && blocks.end > blocks.start);
                prop_assert_eq!(Node::over(&blocks, total).map(|n| n.blocks(total)), Some(blocks.clone()));
                pending.start = blocks.end;
                turn += 1;
            }
        }
    }
}
