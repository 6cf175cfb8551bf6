//! The fixed reduction: what order partial results merge in depends on the number of blocks alone.
//!
//! Two siblings merge into their parent; a node whose sibling would be empty (it lies past the last
//! block) stands for its parent unchanged. Values arrive left to right at any levels, so at most one
//! value per level is held: O(log blocks).

use crate::grid::Node;
use thiserror::Error;

/// A value arrived out of turn, or the end came too early.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TreeError {
    /// A node that does not start where the last one ended.
    #[error("blocks {start}.. arrived where block {expected} is due")]
    OutOfOrder {
        /// First block of what arrived.
        start: u64,
        /// First block that is due.
        expected: u64,
    },
    /// Not all blocks have arrived.
    #[error("only {have} of {total} blocks have arrived")]
    Incomplete {
        /// Blocks that have arrived.
        have: u64,
        /// Blocks there are.
        total: u64,
    },
}

/// Folds values over a run of blocks along the tree. `T` merges by `merge(left, right)`.
pub struct Fold<T, F> {
    total: u64,
    next: u64,
    start: u64,
    stack: Vec<(Node, T)>,
    merge: F,
}

impl<T, F: FnMut(T, T) -> T> Fold<T, F> {
    /// A fold over the blocks below `root`, in a tree of `total` blocks.
    pub fn below(root: Node, total: u64, merge: F) -> Self {
        let start = root.blocks(total).start;
        Self { total, next: start, start, stack: Vec::new(), merge }
    }

    /// A fold over all `total` blocks.
    pub fn over_all(total: u64, merge: F) -> Self {
        Self { total, next: 0, start: 0, stack: Vec::new(), merge }
    }

    /// Takes the value of the next node.
    ///
    /// # Errors
    /// [`TreeError::OutOfOrder`] when the node does not start at the next block.
    pub fn push(&mut self, node: Node, value: T) -> Result<(), TreeError> {
        let blocks = node.blocks(self.total);
        if blocks.start != self.next || blocks.end == blocks.start {
            return Err(TreeError::OutOfOrder { start: blocks.start, expected: self.next });
        }
        self.next = blocks.end;
        let (mut node, mut value) = (node, value);
        loop {
            if node.is_left() {
                let above = node.parent().blocks(self.total);
                if above != node.blocks(self.total) || node.level >= Node::MAX_LEVEL {
                    break;
                }
            } else {
                match self.stack.pop() {
                    Some((left, held)) if left.parent() == node.parent() => value = (self.merge)(held, value),
                    Some(other) => {
                        self.stack.push(other);
                        break;
                    }
                    None => break,
                }
            }
            node = node.parent();
        }
        self.stack.push((node, value));
        Ok(())
    }

    /// The value over all blocks that were pushed, which must be all below `root`.
    ///
    /// # Errors
    /// [`TreeError::Incomplete`] when blocks are missing.
    pub fn finish(mut self, root: Node) -> Result<T, TreeError> {
        let due = root.blocks(self.total);
        match self.stack.pop() {
            Some((_, value)) if self.next == due.end && self.start == due.start && self.stack.is_empty() => Ok(value),
            _ => Err(TreeError::Incomplete { have: self.next - self.start, total: due.end - due.start }),
        }
    }

    /// Returns the number of values that are held.
    pub fn held(&self) -> usize {
        self.stack.len()
    }
}

/// The root of a tree of `total` blocks.
pub fn root(total: u64) -> Node {
    Node { level: total.next_power_of_two().trailing_zeros(), index: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The oracle: the tree written as a recursion, with every merge shown.
    fn recursive(node: Node, total: u64) -> Option<String> {
        let blocks = node.blocks(total);
        if blocks.is_empty() {
            return None;
        }
        if node.level == 0 {
            return Some(blocks.start.to_string());
        }
        let below = Node { level: node.level - 1, index: node.index * 2 };
        let left = recursive(below, total)?;
        match recursive(Node { index: below.index + 1, ..below }, total) {
            Some(right) => Some(format!("({left} {right})")),
            None => Some(left),
        }
    }

    proptest! {
        /// However the blocks are cut into shards, the merges are those of the recursion.
        #[test]
        fn any_cut_merges_alike(total in 1u64..700, limits in proptest::collection::vec(1u64..200, 1..12)) {
            let merge = |a: String, b: String| format!("({a} {b})");
            let mut fold = Fold::over_all(total, merge);
            let mut pending = 0..total;
            let mut turn = 0;
            while !pending.is_empty() {
                let shard = Node::first_of(&pending, limits[turn % limits.len()], total);
                let mut inner = Fold::below(shard, total, merge);
                for block in shard.blocks(total) {
                    inner.push(Node::block(block), block.to_string()).unwrap();
                }
                fold.push(shard, inner.finish(shard).unwrap()).unwrap();
                prop_assert!(fold.held() <= 64 - total.leading_zeros() as usize + 1);
                pending.start = shard.blocks(total).end;
                turn += 1;
            }
            prop_assert_eq!(fold.finish(root(total)).ok(), recursive(root(total), total));
        }
    }

    #[test]
    fn gaps_and_early_ends_are_errors() {
        let mut fold = Fold::over_all(4, |a: u64, b: u64| a + b);
        assert_eq!(fold.push(Node::block(1), 1), Err(TreeError::OutOfOrder { start: 1, expected: 0 }));
        fold.push(Node::block(0), 1).unwrap();
        assert_eq!(fold.push(Node::block(0), 1), Err(TreeError::OutOfOrder { start: 0, expected: 1 }));
        assert_eq!(fold.finish(root(4)), Err(TreeError::Incomplete { have: 1, total: 4 }));
    }
}
