//! Merging while computing: partials of neighbouring shards become one, along the tree, as soon as there are enough of them.
//!
//! A partial has the same size whatever it is of, so what a merge costs is the number of partials that it reads, and the one that
//! it writes. With groups of g, each merge leaves at least g − 1 partials fewer: n shards write at most n/(g − 1) partials more,
//! and a job holds at most g − 1 for each of log_g(n) sizes, and as many around each gap that a slot has not closed yet. Measured on
//! 100,000 shards of 256 slots that end in any order (`NADGRID_MERGE_TABLE=1`, `merging_keeps_few_partials`):
//!
//! | g | written more, a shard | partials at most |
//! |---|---|---|
//! | 2 | 1.00 | 350 |
//! | 4 | 0.33 | 480 |
//! | 8 | 0.14 | 642 |
//! | 16 | 0.07 | 857 |
//!
//! With 8 an upload of 100 bytes costs 14 more of writing; a larger group saves little, and holds more.
//!
//! What is open to doubt is not merged: a shard that is still to be audited keeps its own partial. Only moments are merged: training
//! runs become a table, which has to hold each of them.

use super::Scheduler;
use super::effect::{Action, Effects};
use super::record::{Record, SweepOutcome};
use super::shard::{JobRef, ShardRef};
use super::state::{Job, JobState};
use crate::grid::Node;
use crate::ids::{Digest, Time};
use crate::spec::Payload;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Partials that are worth a merge.
pub(super) const GROUP: usize = 8;
/// More than so many groups are not merged at once: there are smaller merges below, which come first.
const MOST_GROUPS: usize = 8;

/// The merges of a job.
#[derive(Debug, Default)]
pub(super) struct Merges {
    /// The nodes of those under way, by the numbers of the merges.
    under_way: BTreeMap<u64, Node>,
    /// First blocks of partials around which a merge may be due.
    unchecked: BTreeSet<u64>,
    /// The number of merges of the job that were begun.
    number: u64,
}

impl Merges {
    /// Returns whether none is under way.
    pub(super) fn are_over(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Returns the number of those under way.
    pub(super) fn len(&self) -> usize {
        self.under_way.len()
    }
}

impl Job {
    fn merges_its_partials(&self) -> bool {
        matches!(self.shape.payload, Payload::Moments { .. })
    }

    /// The node of a stored partial that may be merged: nobody is merging it, and none of it is to be audited.
    fn free_partial(&self, start: u64) -> Option<Node> {
        let node = self.committed.stored_at(start)?;
        let is_merged = |other: &Node| self.blocks(*other).contains(&start);
        let is_free = !self.merges.under_way.values().any(is_merged);
        (is_free && self.audits.range(self.blocks(node)).next().is_none()).then_some(node)
    }

    /// Returns how many free partials cover these blocks, if they do and are no more than `most`.
    fn free_partials_over(&self, blocks: &Range<u64>, most: usize) -> Option<usize> {
        let mut next = blocks.start;
        let mut count = 0;
        while next < blocks.end {
            next = self.blocks(self.free_partial(next)?).end;
            count += 1;
            if count > most {
                return None;
            }
        }
        Some(count)
    }

    /// The lowest node around the partial that begins at `start` that has a group of free partials and nothing else below it.
    fn due_merge(&self, start: u64, group: usize) -> Option<Node> {
        let mut node = self.free_partial(start)?;
        let mut count = 1;
        while self.blocks(node) != (0..self.total) && node.level < Node::MAX_LEVEL {
            let beside = Node { index: node.index ^ 1, ..node };
            count += self.free_partials_over(&self.blocks(beside), group * MOST_GROUPS)?;
            node = node.parent();
            if count >= group {
                return Some(node);
            }
        }
        None
    }

    /// Forgets the merges under way that have to do with these blocks: they are open again.
    pub(super) fn end_merges_of(&mut self, blocks: &Range<u64>) {
        let total = self.total;
        let meets = |node: &Node| {
            let merged = node.blocks(total);
            merged.start < blocks.end && blocks.start < merged.end
        };
        let ended: Vec<u64> =
            self.merges.under_way.iter().filter(|(_, node)| meets(node)).map(|(&number, _)| number).collect();
        for number in ended {
            if let Some(node) = self.merges.under_way.remove(&number) {
                self.note_within(node);
            }
        }
    }

    /// The partials below a node may be merged with others than before.
    fn note_within(&mut self, node: Node) {
        let blocks = self.blocks(node);
        let starts: Vec<u64> = self.committed.stored_within(&blocks).map(|p| self.blocks(p.node).start).collect();
        self.merges.unchecked.extend(starts);
    }

    /// Checks that the merges under way are of what is there, each of its own.
    pub(super) fn check_merges(&self) -> Result<(), String> {
        let mut next = 0;
        let mut nodes: Vec<Range<u64>> = self.merges.under_way.values().map(|node| self.blocks(*node)).collect();
        nodes.sort_by_key(|blocks| blocks.start);
        for blocks in nodes {
            let held: u64 =
                self.committed.stored_within(&blocks).map(|p| self.blocks(p.node)).map(|b| b.end - b.start).sum();
            let audited = self.audits.range(blocks.clone()).next().is_some();
            if blocks.start < next || held != blocks.end - blocks.start || audited {
                return Err(format!("a merge of {blocks:?}, of which {held} blocks have partials, audits: {audited}"));
            }
            next = blocks.end;
        }
        Ok(())
    }
}

impl Scheduler {
    /// A shard's partial is there, or free: a merge may be due.
    pub(super) fn note_for_merging(&mut self, shard: &ShardRef) {
        if let Some(job) = self.job_mut(&shard.job).filter(|job| job.merges_its_partials()) {
            job.note_within(shard.node);
        }
    }

    /// After a restart any merge may be due.
    pub(super) fn note_all_for_merging(&mut self, of: &JobRef) {
        self.note_for_merging(&of.shard(Node { level: Node::MAX_LEVEL, index: 0 }));
    }

    /// Begins merges that are due, a few at once. What is left when all is committed is the reduction's.
    pub(super) fn start_merges(&mut self, of: &JobRef, effects: &mut Effects) {
        let settings = self.settings;
        let Some(job) = self.open_job(of) else { return };
        if job.state != JobState::Computing || job.tally.blocks == job.total {
            return;
        }
        while job.merges.len() < settings.most_merges {
            let Some(start) = job.merges.unchecked.pop_first() else { return };
            let Some(node) = job.due_merge(start, settings.merge_group) else { continue };
            job.merges.number += 1;
            let number = job.merges.number;
            job.merges.under_way.insert(number, node);
            let partials = job.committed.stored_within(&job.blocks(node)).collect();
            effects.actions.push(Action::Merge { job: of.clone(), number, node, partials });
        }
    }

    /// A job of a sweep that has not ended.
    fn open_job(&mut self, of: &JobRef) -> Option<&mut Job> {
        let sweep = self.sweeps.get_mut(&of.sweep).filter(|sweep| !sweep.state.has_ended())?;
        sweep.jobs.get_mut(of.index.0 as usize)
    }

    /// The job of a merge that is still wanted, and what it is of.
    fn end_merge(&mut self, of: &JobRef, number: u64) -> Option<(&mut Job, Node)> {
        let job = self.open_job(of)?;
        let node = job.merges.under_way.remove(&number)?;
        Some((job, node))
    }

    /// Puts what came out of a merge in the place of what went in. Of one that is not wanted any more, whoever stored it removes it.
    pub(super) fn merged(&mut self, of: &JobRef, number: u64, stored: Digest, now: Time, effects: &mut Effects) {
        let Some((job, node)) = self.end_merge(of, number) else { return };
        let blobs = job.committed.blobs_within(&job.blocks(node)).collect();
        let shard = of.shard(node);
        self.record(Record::Merged { shard: shard.clone(), stored }, effects);
        self.note_for_merging(&shard);
        effects.actions.push(Action::Discard { blobs });
        effects.actions.push(Action::Changed { sweep: of.sweep.clone() });
        self.settle(of, now, effects);
    }

    pub(super) fn merge_failed(
        &mut self,
        of: &JobRef,
        number: u64,
        damaged: &[Node],
        message: String,
        now: Time,
        effects: &mut Effects,
    ) {
        let Some((job, node)) = self.end_merge(of, number) else { return };
        job.note_within(node);
        if damaged.is_empty() {
            return self.end(&of.sweep, SweepOutcome::Failed { message }, now, effects);
        }
        let reporters = self.reporters(of, damaged);
        self.withdraw_damaged(of, damaged, effects);
        self.note_damaged(of, reporters, now, effects);
        self.settle(of, now, effects);
    }

    /// Returns whether what comes out of a merge is still wanted.
    pub fn awaits_merge(&self, of: &JobRef, number: u64) -> bool {
        self.job(of).is_some_and(|job| job.merges.under_way.contains_key(&number))
    }

    /// Returns whether what comes out of a reduction is still wanted.
    pub fn awaits_reduction(&self, of: &JobRef, generation: u64) -> bool {
        let job = self.job(of).filter(|_| self.is_open(&of.sweep));
        job.is_some_and(|job| job.state == JobState::Reducing && job.generation == generation)
    }

    /// Returns whether a blob is a partial of this job: what a merge stored and nobody wanted is not.
    pub fn keeps(&self, of: &JobRef, blob: Digest) -> bool {
        self.committed(of).is_some_and(|committed| committed.blobs().any(|held| held == blob))
    }
}
