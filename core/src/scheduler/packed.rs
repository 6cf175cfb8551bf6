//! Committed shards in little memory: a job may have millions of them.
//!
//! Neighbours share a chunk: a sorted array of what is known of each, and one array of the bytes of small results. Results of one
//! job begin alike, so a chunk keeps that beginning once. Workers are named by their place in a table. A shard with one training
//! run takes at most 125 bytes. Chunks are shared and copied when they change: a copy of all, for a reduction, costs next to nothing.
//! Deliberately absent: stored partials, which are few.

use super::record::Contribution;
use crate::grid::Node;
use crate::ids::{Digest, WorkerId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Shards that a chunk holds at most.
const MOST_ENTRIES: usize = 64;
/// Bytes of small results beyond which a chunk takes no more shards.
const MOST_DATA: usize = 16 << 10;
/// Shards that a chunk gets room for at once. Doubling would leave half of it empty: most chunks are split before they are full,
/// and take no more shards once their neighbours are there.
const ROOM: usize = 4;
/// Bytes at the beginning of a small result that are kept once in a chunk: the header of training runs.
const HEAD_BYTES: usize = 24;

/// Committed shards by their first blocks.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PackedShards {
    /// The chunks by the first block of each one's first shard.
    chunks: BTreeMap<u64, Arc<Chunk>>,
    len: usize,
    workers: WorkerTable,
}

/// The workers, each under a number.
#[derive(Clone, Debug, Default, PartialEq)]
struct WorkerTable {
    ids: Vec<WorkerId>,
    numbers: BTreeMap<WorkerId, u32>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Chunk {
    /// The bytes that small results begin with; some may begin otherwise.
    head: Vec<u8>,
    /// The shards in the order of their first blocks.
    entries: Vec<PackedShard>,
    /// The small results, in the same order, without `head`.
    data: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq)]
struct PackedShard {
    start: u64,
    content: Digest,
    worker: u32,
    /// The number of bytes in `data` that are its result.
    length: u32,
    level: u8,
    bytes: EntryBytes,
}

/// The place of the bytes of a shard's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntryBytes {
    /// The partial is in the store, by itself or merged with others.
    Elsewhere,
    /// The whole result is in `data`.
    Whole,
    /// The result is the chunk's head and then what is in `data`.
    Headed,
}

impl WorkerTable {
    fn number(&mut self, worker: &WorkerId) -> u32 {
        if let Some(&number) = self.numbers.get(worker) {
            return number;
        }
        let number = self.ids.len() as u32;
        self.ids.push(worker.clone());
        self.numbers.insert(worker.clone(), number);
        number
    }

    fn worker(&self, number: u32) -> WorkerId {
        self.ids.get(number as usize).cloned().unwrap_or_default()
    }
}

impl PackedShard {
    fn node(&self) -> Node {
        let level = u32::from(self.level);
        Node { level, index: self.start >> level }
    }
}

impl Chunk {
    /// The place of the first shard that begins at `start` or later.
    fn place(&self, start: u64) -> usize {
        self.entries.partition_point(|entry| entry.start < start)
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= MOST_ENTRIES || self.data.len() >= MOST_DATA
    }

    /// Returns where in `data` the bytes of an entry are.
    fn range(&self, place: usize) -> std::ops::Range<usize> {
        let before: usize = self.entries[..place].iter().map(|entry| entry.length as usize).sum();
        before..before + self.entries[place].length as usize
    }

    fn inline(&self, place: usize) -> Option<Vec<u8>> {
        let bytes = &self.data[self.range(place)];
        match self.entries[place].bytes {
            EntryBytes::Elsewhere => None,
            EntryBytes::Whole => Some(bytes.to_vec()),
            EntryBytes::Headed => Some([&self.head, bytes].concat()),
        }
    }

    fn insert(&mut self, mut entry: PackedShard, inline: Option<&[u8]>) {
        let place = self.place(entry.start);
        let mut rest = inline.unwrap_or_default();
        if inline.is_some() {
            if self.head.is_empty() && rest.len() >= HEAD_BYTES {
                self.head = rest[..HEAD_BYTES].to_vec();
            }
            entry.bytes = EntryBytes::Whole;
            if let Some(behind) = rest.strip_prefix(&self.head[..]).filter(|_| !self.head.is_empty()) {
                entry.bytes = EntryBytes::Headed;
                rest = behind;
            }
        }
        entry.length = rest.len() as u32;
        self.make_room(rest.len());
        self.entries.insert(place, entry);
        let at = self.range(place).start;
        self.data.splice(at..at, rest.iter().copied());
    }

    /// Makes room for one more shard whose result takes this many bytes.
    fn make_room(&mut self, bytes: usize) {
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(ROOM);
        }
        if self.data.capacity() - self.data.len() < bytes {
            self.data.reserve_exact(ROOM * bytes);
        }
    }

    fn remove(&mut self, place: usize) {
        let range = self.range(place);
        self.data.drain(range);
        self.entries.remove(place);
    }

    /// Takes the later half out.
    fn split(&mut self) -> Self {
        let half = self.entries.len() / 2;
        let at = self.range(half).start;
        let later =
            Self { head: self.head.clone(), entries: self.entries.split_off(half), data: self.data.split_off(at) };
        self.fit();
        later
    }

    /// Gives back memory that was kept for growing.
    fn fit(&mut self) {
        self.entries.shrink_to_fit();
        self.data.shrink_to_fit();
    }
}

impl PackedShards {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Takes a shard in that shares no block with any other; `inline` are the bytes of its result, if they are kept here.
    pub(super) fn insert(&mut self, start: u64, contribution: &Contribution, inline: Option<&[u8]>) {
        let entry = PackedShard {
            start,
            content: contribution.content,
            worker: self.workers.number(&contribution.worker),
            length: 0,
            level: contribution.node.level as u8,
            bytes: EntryBytes::Elsewhere,
        };
        self.len += 1;
        let chunks = &mut self.chunks;
        let before = chunks.range(..=start).next_back().map(|(&key, _)| key);
        let Some(found) = before.or_else(|| chunks.first_key_value().map(|(&key, _)| key)) else {
            return Self::begin(chunks, start, entry, inline);
        };
        let Some(mut chunk) = chunks.remove(&found) else { return };
        let inner = Arc::make_mut(&mut chunk);
        if inner.is_full() {
            if inner.place(start) == inner.entries.len() {
                // Blocks are mostly committed from left to right.
                inner.fit();
                chunks.insert(found, chunk);
                return Self::begin(chunks, start, entry, inline);
            }
            let later = inner.split();
            let first = later.entries.first().map_or(u64::MAX, |entry| entry.start);
            let mut later = Arc::new(later);
            if start < first {
                inner.insert(entry, inline);
            } else {
                Arc::make_mut(&mut later).insert(entry, inline);
            }
            chunks.insert(first, later);
        } else {
            inner.insert(entry, inline);
        }
        chunks.insert(found.min(start), chunk);
    }

    fn begin(chunks: &mut BTreeMap<u64, Arc<Chunk>>, key: u64, entry: PackedShard, inline: Option<&[u8]>) {
        let mut chunk = Chunk::default();
        chunk.insert(entry, inline);
        chunks.insert(key, Arc::new(chunk));
    }

    /// Takes a shard out that begins at this block.
    pub(super) fn remove(&mut self, start: u64) {
        let Some((&key, chunk)) = self.chunks.range_mut(..=start).next_back() else { return };
        let place = chunk.place(start);
        if chunk.entries.get(place).is_none_or(|entry| entry.start != start) {
            return;
        }
        let inner = Arc::make_mut(chunk);
        inner.remove(place);
        self.len -= 1;
        if place > 0 {
            return;
        }
        let first = inner.entries.first().map(|entry| entry.start);
        if let (Some(chunk), Some(first)) = (self.chunks.remove(&key), first) {
            self.chunks.insert(first, chunk);
        }
    }

    fn find(&self, start: u64) -> Option<(&Chunk, usize)> {
        let (_, chunk) = self.chunks.range(..=start).next_back()?;
        let place = chunk.place(start);
        chunk.entries.get(place).filter(|entry| entry.start == start).map(|_| (&**chunk, place))
    }

    /// The shard that begins at this block.
    pub(super) fn get(&self, start: u64) -> Option<Contribution> {
        self.find(start).map(|(chunk, place)| self.contribution(&chunk.entries[place]))
    }

    /// Returns whether the result of the shard that begins at this block is here.
    pub(super) fn has_inline(&self, start: u64) -> bool {
        self.find(start).is_some_and(|(chunk, place)| chunk.entries[place].bytes != EntryBytes::Elsewhere)
    }

    /// The result of the shard that begins at this block, if it is here.
    pub(super) fn inline_at(&self, start: u64) -> Option<Vec<u8>> {
        self.find(start).and_then(|(chunk, place)| chunk.inline(place))
    }

    fn contribution(&self, entry: &PackedShard) -> Contribution {
        Contribution { node: entry.node(), content: entry.content, worker: self.workers.worker(entry.worker) }
    }

    /// The last shard that begins before this block.
    pub(super) fn before(&self, start: u64) -> Option<Contribution> {
        let (_, chunk) = self.chunks.range(..start).next_back()?;
        let place = chunk.place(start).checked_sub(1)?;
        chunk.entries.get(place).map(|entry| self.contribution(entry))
    }

    /// Shards that begin at this block or later, left to right, each with its first block.
    pub(super) fn onwards(&self, start: u64) -> impl Iterator<Item = (u64, Contribution)> {
        let key = self.chunks.range(..=start).next_back().map_or(start, |(&key, _)| key);
        let chunks = self.chunks.range(key..);
        let entries = chunks.flat_map(move |(_, chunk)| &chunk.entries[chunk.place(start)..]);
        entries.map(|entry| (entry.start, self.contribution(entry)))
    }

    /// The results that are here, left to right.
    pub(super) fn inline(&self) -> impl Iterator<Item = (Node, Vec<u8>)> {
        self.chunks.values().flat_map(|chunk| {
            let places = 0..chunk.entries.len();
            places.filter_map(|place| Some((chunk.entries[place].node(), chunk.inline(place)?)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An entry in the plain way.
    type Plain = (Contribution, Option<Vec<u8>>);

    fn step() -> impl Strategy<Value = (bool, u64, Option<Vec<u8>>)> {
        let headed =
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(|rest| [vec![7; HEAD_BYTES], rest].concat());
        let other = proptest::collection::vec(any::<u8>(), 0..40);
        let bytes = prop_oneof![Just(None), headed.prop_map(Some), other.prop_map(Some)];
        (prop::bool::weighted(0.8), 0u64..400, bytes)
    }

    proptest! {
        /// A plain map is the oracle.
        #[test]
        fn it_is_the_map_it_says(steps in proptest::collection::vec(step(), 0..600)) {
            let mut packed = PackedShards::default();
            let mut oracle = BTreeMap::<u64, Plain>::new();
            for (add, start, bytes) in steps {
                let worker = WorkerId::new(format!("w{}", start % 5));
                let content = Digest::of(&start.to_le_bytes());
                let contribution = Contribution { node: Node::block(start), content, worker };
                if add && !oracle.contains_key(&start) {
                    packed.insert(start, &contribution, bytes.as_deref());
                    oracle.insert(start, (contribution, bytes));
                } else {
                    packed.remove(start);
                    oracle.remove(&start);
                }
                prop_assert_eq!(packed.len(), oracle.len());
                prop_assert_eq!(packed.get(start), oracle.get(&start).map(|(held, _)| held.clone()));
                prop_assert_eq!(packed.has_inline(start), oracle.get(&start).is_some_and(|(_, bytes)| bytes.is_some()));
                let before = oracle.range(..start).next_back().map(|(_, (held, _))| held.clone());
                prop_assert_eq!(packed.before(start), before);
                let behind: Vec<_> = oracle.range(start..).map(|(&at, (held, _))| (at, held.clone())).collect();
                prop_assert_eq!(packed.onwards(start).collect::<Vec<_>>(), behind);
            }
            let inline: Vec<_> = oracle.values().filter_map(|(held, bytes)| Some((held.node, bytes.clone()?))).collect();
            prop_assert_eq!(packed.inline().collect::<Vec<_>>(), inline);
        }
    }

    /// Shards of one run each, of which `slots` are computed at once and end in any order.
    fn shards_of_one_run(shards: u64, slots: u64) -> PackedShards {
        let mut packed = PackedShards::default();
        let mut held: Vec<u64> = (0..slots).collect();
        let mut pending = slots..shards;
        let mut turn = 1u64;
        while !held.is_empty() {
            turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let slot = (turn >> 33) as usize % held.len();
            let start = held[slot];
            match pending.next() {
                Some(next) => held[slot] = next,
                None => {
                    held.swap_remove(slot);
                }
            }
            let run = [vec![1; HEAD_BYTES], start.to_le_bytes().repeat(7)].concat();
            let content = Digest::of(b"x");
            let worker = WorkerId::new("worker");
            packed.insert(start, &Contribution { node: Node::block(start), content, worker }, Some(&run));
        }
        packed
    }

    /// A million shards take what an array of them takes: bytes are counted here, the process in the benchmark.
    #[test]
    fn a_shard_of_one_run_takes_little_memory() {
        let shards = 20_000;
        for slots in [1, 2, 8, 64, 256, 1_024] {
            let packed = shards_of_one_run(shards, slots);
            let bytes_of = |chunk: &Arc<Chunk>| {
                let entries = chunk.entries.capacity() * size_of::<PackedShard>();
                entries + chunk.data.capacity() + chunk.head.capacity() + size_of::<Chunk>() + 2 * 16 + 4 * 16
            };
            let bytes: usize = packed.chunks.values().map(bytes_of).sum();
            assert_eq!(packed.len() as u64, shards);
            assert!(bytes as u64 <= 125 * shards, "{slots} slots: {} bytes a shard", bytes as u64 / shards);
        }
    }
}
