//! A set of blocks as disjoint ranges: its size is the number of gaps, not of blocks.

use std::collections::BTreeMap;
use std::ops::Range;

/// Disjoint, non-adjacent, non-empty ranges: their ends by their starts, and how many blocks they hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(BTreeMap<u64, u64>, u64);

impl Ranges {
    pub(super) fn of(range: Range<u64>) -> Self {
        let mut ranges = Self::default();
        ranges.insert(range);
        ranges
    }

    /// The first range.
    pub(super) fn first(&self) -> Option<Range<u64>> {
        self.0.first_key_value().map(|(&start, &end)| start..end)
    }

    /// The number of blocks in the set.
    pub(super) fn len(&self) -> u64 {
        self.1
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains_all(&self, range: &Range<u64>) -> bool {
        self.0.range(..=range.start).next_back().is_some_and(|(_, &end)| end >= range.end)
    }

    /// Adds blocks, of which none may be in the set.
    pub(super) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        debug_assert!(!self.overlaps(&range), "{range:?} is in {self:?}");
        self.1 += range.end - range.start;
        let mut start = range.start;
        let mut end = range.end;
        if let Some((&before, &until)) = self.0.range(..start).next_back()
            && until == start
        {
            self.0.remove(&before);
            start = before;
        }
        if let Some(until) = self.0.remove(&end) {
            end = until;
        }
        self.0.insert(start, end);
    }

    /// Takes out blocks, in the set or not.
    pub(super) fn remove(&mut self, range: &Range<u64>) {
        if range.is_empty() {
            return;
        }
        let before = self.0.range(..range.start).next_back().map(|(&s, &e)| (s, e));
        if let Some((start, end)) = before.filter(|(_, end)| *end > range.start) {
            self.1 -= end.min(range.end) - range.start;
            self.0.insert(start, range.start);
            if end > range.end {
                self.0.insert(range.end, end);
            }
        }
        let inside: Vec<(u64, u64)> = self.0.range(range.clone()).map(|(&s, &e)| (s, e)).collect();
        for (start, end) in inside {
            self.0.remove(&start);
            self.1 -= end.min(range.end) - start;
            if end > range.end {
                self.0.insert(range.end, end);
            }
        }
    }

    fn overlaps(&self, range: &Range<u64>) -> bool {
        let before = self.0.range(..range.end).next_back();
        before.is_some_and(|(_, &end)| end > range.start)
    }

    /// The ranges in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.0.iter().map(|(&start, &end)| start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        /// Against a plain set of blocks.
        #[test]
        fn it_is_the_set_it_says(steps in proptest::collection::vec((any::<bool>(), 0u64..60, 0u64..20), 0..60)) {
            let mut ranges = Ranges::default();
            let mut oracle = BTreeSet::new();
            for (add, start, length) in steps {
                let range = start..start + length;
                if add {
                    if range.clone().all(|b| !oracle.contains(&b)) {
                        ranges.insert(range.clone());
                        oracle.extend(range.clone());
                    }
                } else {
                    ranges.remove(&range);
                    oracle.retain(|b| !range.contains(b));
                }
                let blocks: Vec<u64> = ranges.iter().flatten().collect();
                prop_assert_eq!(&blocks, &oracle.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(ranges.len(), oracle.len() as u64);
                prop_assert!(range.is_empty() || ranges.contains_all(&range) == range.clone().all(|b| oracle.contains(&b)));
                let gaps = ranges.iter().zip(ranges.iter().skip(1)).all(|(a, b)| a.end < b.start);
                prop_assert!(gaps, "{:?}", ranges);
            }
        }
    }
}
