//! The state of sweeps, jobs, workers and leases.

use super::committed::{Committed, Taken};
use super::headway::Headway;
use super::merge::Merges;
use super::progress::JobScale;
use super::ranges::Ranges;
use super::record::{Contribution, JobResult, ShardFailure, SweepOutcome, Tally};
use super::shard::{FairShare, Partial, RequestId, ShardCheckpoint, ShardRef, WorkerProfile};
use crate::cost::Rates;
use crate::grid::Node;
use crate::ids::{Digest, JobIndex, Time, WorkerId};
use crate::numerics::NumericsClass;
use crate::spec::{BasisSource, Inputs, JobShape, Spec};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a spec, as TOML, that one sweep may have; what has more counts as several where sweeps are counted.
const SPEC_BYTES_OF_ONE: usize = 16 << 10;

/// The life of a sweep.
///
/// ```text
///  Queued ──first lease──▶ Running ──all jobs complete──────────▶ Ended(Complete)
///     │                      │  ├──some shards failed for good──▶ Ended(Incomplete)
///     │                      │  └──cannot be completed──────────▶ Ended(Failed)
///     └───────cancel─────────┴──────────────────────────────────▶ Ended(Cancelled)
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SweepState {
    /// No shard of it was leased yet.
    Queued,
    /// It is being computed.
    Running,
    /// Nothing will change any more.
    Ended(SweepOutcome),
}

impl SweepState {
    /// Returns whether nothing will change any more.
    pub fn has_ended(&self) -> bool {
        matches!(self, Self::Ended(_))
    }

    /// Returns whether every job gave its result.
    pub fn is_complete(&self) -> bool {
        matches!(self, Self::Ended(SweepOutcome::Complete { .. }))
    }

    /// Returns whether results are there: those of all jobs, or of those that did not fail.
    pub fn has_results(&self) -> bool {
        matches!(self, Self::Ended(SweepOutcome::Complete { .. } | SweepOutcome::Incomplete { .. }))
    }

    /// The state in one word. A sweep that is paused and has not ended is `paused`, whatever else it is.
    pub fn name(&self, paused: bool) -> &'static str {
        match self {
            Self::Queued | Self::Running if paused => "paused",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Ended(outcome) => outcome.name(),
        }
    }
}

/// The life of a job.
///
/// ```text
///  Computing ──all blocks committed──▶ Reducing ──stored──▶ Complete
///    │    ▲                               │
///    │    └──a partial is damaged─────────┘
///    └──the rest is quarantined──▶ Incomplete
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Another job's result is waited for; only views say so, the scheduler keeps such a job as computing.
    Waiting,
    /// Shards are computed.
    Computing,
    /// Partials are merged, eigenvectors computed.
    Reducing,
    /// Results are stored.
    Complete,
    /// Blocks of it, or of a job that it needs, are quarantined.
    Incomplete,
}

impl JobState {
    /// The state in one word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Computing => "computing",
            Self::Reducing => "reducing",
            Self::Complete => "complete",
            Self::Incomplete => "incomplete",
        }
    }
}

/// A sweep's place among those with something to give out: by priority, then by how little it has for its weight, then by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct QueueKey {
    priority: Reverse<i32>,
    share: u64,
    number: u64,
}

#[derive(Debug)]
pub(super) struct Sweep {
    pub(super) owner: String,
    pub(super) key: Option<String>,
    pub(super) share: FairShare,
    pub(super) spec: Arc<Spec>,
    /// The spec as TOML, as workers get it.
    pub(super) text: Arc<str>,
    pub(super) inputs: Inputs,
    /// The digest of the spec and its inputs.
    pub(super) digest: Digest,
    pub(super) number: u64,
    pub(super) state: SweepState,
    pub(super) paused: bool,
    pub(super) class: Option<NumericsClass>,
    pub(super) jobs: Vec<Job>,
    pub(super) submitted: Time,
    pub(super) started: Option<Time>,
    pub(super) ended: Option<Time>,
    /// Slots that compute for it.
    pub(super) leased: u64,
    /// Its place in the queue, if it is there.
    pub(super) place: Option<QueueKey>,
    /// Share of the sweep that one slot-second of what is left is.
    pub(super) share_per_second: f64,
}

/// A sweep as it is submitted.
pub(super) struct Submission {
    pub(super) owner: String,
    pub(super) key: Option<String>,
    pub(super) share: FairShare,
    pub(super) spec: Box<Spec>,
    pub(super) inputs: Inputs,
}

/// Fit workers that are alike to the scheduler, and their slots.
#[derive(Debug)]
pub(super) struct WorkerKind {
    /// The profile of one of them.
    pub(super) profile: WorkerProfile,
    pub(super) slots: u32,
}

impl Sweep {
    pub(super) fn new(
        Submission { owner, key, share, spec, inputs }: Submission,
        number: u64,
        submitted: Time,
    ) -> Self {
        let text = spec.to_toml();
        let jobs = spec.jobs(&inputs).into_iter().map(Job::new).collect();
        let mut sweep = Self {
            owner,
            key,
            share,
            digest: submission_digest(&text, &inputs),
            text: text.into(),
            spec: Arc::from(spec),
            inputs,
            number,
            state: SweepState::Queued,
            paused: false,
            class: None,
            jobs,
            submitted,
            started: None,
            ended: None,
            leased: 0,
            place: None,
            share_per_second: 0.0,
        };
        sweep.weigh();
        sweep
    }

    /// Returns how many sweeps it counts as: what is kept of one grows with its spec.
    pub(super) fn size(&self) -> usize {
        submission_size(&self.text)
    }

    /// Returns whether a worker may take its shards.
    pub(super) fn accepts(&self, worker: &WorkerProfile) -> bool {
        worker.precisions.contains(&self.spec.precision)
            && self.class.as_ref().is_none_or(|own| own.differs_in_precision_alone(&worker.class))
    }

    /// Returns whether a job waits for the result of another.
    pub(super) fn waits(&self, job: &Job) -> bool {
        self.needed(job).is_some_and(|needed| needed.state != JobState::Complete)
    }

    /// The job whose result a job needs.
    pub(super) fn needed(&self, job: &Job) -> Option<&Job> {
        self.jobs.get(self.needed_index(job)?)
    }

    /// The place of the job whose result a job needs.
    pub(super) fn needed_index(&self, job: &Job) -> Option<usize> {
        let BasisSource::Job(needed) = job.shape.basis else { return None };
        Some(needed.0 as usize)
    }

    /// Returns whether it has a shard that could be given to somebody, now or after a wait.
    fn has_work(&self) -> bool {
        let offers = |job: &Job| job.state == JobState::Computing && job.offers() && !self.waits(job);
        !self.state.has_ended() && !self.paused && self.jobs.iter().any(offers)
    }

    /// Returns where it belongs in the queue.
    pub(super) fn due_place(&self) -> Option<QueueKey> {
        let share = (self.leased as f64 / self.share.weight * 1_000.0) as u64;
        self.has_work().then_some(QueueKey { priority: Reverse(self.share.priority), share, number: self.number })
    }

    pub(super) fn job(&self, index: JobIndex) -> Option<&Job> {
        self.jobs.get(index.0 as usize)
    }

    /// Shards that are not tried again, of all jobs.
    pub(super) fn failures(&self) -> impl Iterator<Item = &ShardFailure> {
        self.jobs.iter().flat_map(|job| job.quarantined.values())
    }
}

/// Returns the digest of what a submission's key stands for: the spec, as TOML, and the very files.
pub(super) fn submission_digest(spec: &str, inputs: &Inputs) -> Digest {
    let files: String = inputs.iter().map(|(name, input)| format!("\n{name} {}", input.digest)).collect();
    Digest::of(format!("{spec}{files}").as_bytes())
}

/// Returns how many sweeps one of this spec, as TOML, counts as.
pub(super) fn submission_size(spec: &str) -> usize {
    1 + spec.len() / SPEC_BYTES_OF_ONE
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) shape: JobShape,
    /// The job's name, for example `nads/lenet`.
    pub(super) name: String,
    pub(super) total: u64,
    pub(super) state: JobState,
    pub(super) pending: Ranges,
    // Shards by their first block; no two of them share one, but for audits, which lie over committed ones.
    pub(super) waiting: BTreeMap<u64, Retry>,
    pub(super) leased: BTreeMap<u64, Lease>,
    pub(super) committed: Committed,
    pub(super) merges: Merges,
    pub(super) quarantined: BTreeMap<u64, ShardFailure>,
    pub(super) audits: BTreeMap<u64, Audit>,
    /// Failures of shards that are not committed yet.
    pub(super) attempts: BTreeMap<Node, Attempts>,
    /// The furthest that shards have come that are not committed yet.
    pub(super) checkpoints: BTreeMap<Node, ShardCheckpoint>,
    pub(super) blocks_quarantined: u64,
    pub(super) tally: Tally,
    /// The weight of a member against those of other jobs.
    pub(super) scale: JobScale,
    /// The number of reductions that were begun.
    pub(super) generation: u64,
    pub(super) result: Option<JobResult>,
}

/// Something that lies over some blocks of a job.
pub(super) trait OverBlocks {
    fn node(&self) -> Node;
}

/// A shard that waits for its next attempt.
#[derive(Clone, Debug)]
pub(super) struct Retry {
    pub(super) node: Node,
    pub(super) not_before: Time,
}

/// The failures of a shard so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempts {
    /// Failures, a worker's own counted once unless nobody else could take the shard.
    pub(super) failures: u32,
    /// The number of times that a worker was lost with it.
    pub(super) losses: u32,
    /// The workers that failed, with names; not those that were lost.
    pub(super) workers: BTreeMap<WorkerId, String>,
    /// The workers that were lost with it.
    pub(super) lost: BTreeSet<WorkerId>,
    /// True if any of the workers had yielded something before: then the shard itself may be at fault.
    pub(super) proven: bool,
    /// The words of the last one.
    pub(super) message: String,
}

/// A shard in computation.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) node: Node,
    /// One, or two when the first takes too long.
    pub(super) holders: Vec<Holder>,
}

#[derive(Debug)]
pub(super) struct Holder {
    pub(super) worker: WorkerId,
    pub(super) since: Time,
    pub(super) blocks_done: u64,
    /// The part of the next block that is computed.
    pub(super) fraction: f64,
}

/// A committed shard that others compute again.
#[derive(Debug)]
pub(super) struct Audit {
    pub(super) node: Node,
    /// The worker that computes it now.
    pub(super) holder: Option<WorkerId>,
    /// Results of others that are not what is committed.
    pub(super) dissent: Vec<Dissent>,
}

/// An auditor's result that is not what is committed.
#[derive(Clone, Debug)]
pub(super) struct Dissent {
    pub(super) partial: Partial,
    pub(super) worker: WorkerId,
}

impl OverBlocks for Retry {
    fn node(&self) -> Node {
        self.node
    }
}

impl OverBlocks for Lease {
    fn node(&self) -> Node {
        self.node
    }
}

impl OverBlocks for ShardFailure {
    fn node(&self) -> Node {
        self.node
    }
}

impl OverBlocks for Audit {
    fn node(&self) -> Node {
        self.node
    }
}

/// The shards of `places` that share blocks with `blocks`.
pub(super) fn meeting<'a, T: OverBlocks>(
    places: &'a BTreeMap<u64, T>,
    blocks: &'a Range<u64>,
    total: u64,
) -> impl Iterator<Item = (u64, &'a T)> + use<'a, T> {
    let reaches = move |place: &T| place.node().blocks(total).end > blocks.start;
    let before = places.range(..blocks.start).next_back().filter(move |(_, place)| reaches(place));
    before.into_iter().chain(places.range(blocks.clone())).map(|(&start, place)| (start, place))
}

impl Job {
    fn new(shape: JobShape) -> Self {
        let total = shape.grid.blocks();
        Self {
            name: shape.name(),
            scale: JobScale::assumed(&shape),
            shape,
            total,
            state: JobState::Computing,
            pending: Ranges::of(0..total),
            waiting: BTreeMap::new(),
            leased: BTreeMap::new(),
            committed: Committed::new(total),
            merges: Merges::default(),
            quarantined: BTreeMap::new(),
            audits: BTreeMap::new(),
            attempts: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            blocks_quarantined: 0,
            tally: Tally::default(),
            generation: 0,
            result: None,
        }
    }

    /// Returns whether a shard of it could be given to somebody, now or after a wait.
    fn offers(&self) -> bool {
        let unheld = |audit: &Audit| audit.holder.is_none();
        !self.pending.is_empty() || !self.waiting.is_empty() || self.audits.values().any(unheld)
    }

    pub(super) fn blocks(&self, node: Node) -> Range<u64> {
        node.blocks(self.total)
    }

    /// Returns the number of members of these blocks.
    pub(super) fn members(&self, blocks: Range<u64>) -> u64 {
        let members = self.shape.grid.members(blocks);
        members.end - members.start
    }

    /// Returns how many of these blocks are committed.
    pub(super) fn committed_within(&self, blocks: &Range<u64>) -> u64 {
        let shared = |held: Range<u64>| held.end.min(blocks.end) - held.start.max(blocks.start);
        self.committed.meeting(blocks).map(|(_, c)| shared(self.blocks(c.node))).sum()
    }

    /// The lease of exactly this shard.
    pub(super) fn lease(&self, node: Node) -> Option<&Lease> {
        self.leased.get(&self.blocks(node).start).filter(|lease| lease.node == node)
    }

    /// Returns whether this shard is leased to this worker.
    pub(super) fn is_held_by(&self, node: Node, worker: &WorkerId) -> bool {
        self.lease(node).is_some_and(|lease| lease.holders.iter().any(|holder| holder.worker == *worker))
    }

    /// Takes a partial in. Its blocks are nowhere but in pending.
    pub(super) fn commit(&mut self, node: Node, partial: &Partial, worker: &WorkerId, seconds: f64) {
        self.count_commit(node, seconds);
        self.committed.insert(node, partial, worker);
    }

    /// Takes in what is known of a shard whose partial is merged with others.
    pub(super) fn absorb(&mut self, contribution: &Contribution) {
        self.count_commit(contribution.node, 0.0);
        self.committed.insert_absorbed(contribution);
    }

    fn count_commit(&mut self, node: Node, seconds: f64) {
        let blocks = self.blocks(node);
        self.pending.remove(&blocks);
        self.attempts.remove(&node);
        self.checkpoints.remove(&node);
        self.tally.blocks += blocks.end - blocks.start;
        self.tally.shards += 1;
        self.tally.slot_seconds += seconds;
        self.note_whether_incomplete();
    }

    /// A job is incomplete while nothing but quarantined blocks is left of it.
    pub(super) fn note_whether_incomplete(&mut self) {
        let is_incomplete = self.blocks_quarantined > 0 && self.tally.blocks + self.blocks_quarantined == self.total;
        match self.state {
            JobState::Computing if is_incomplete => self.state = JobState::Incomplete,
            JobState::Incomplete if !is_incomplete => self.state = JobState::Computing,
            _ => {}
        }
    }

    /// Opens the blocks of a partial again, of all the shards that are in it, if there is a partial of this node.
    pub(super) fn withdraw(&mut self, node: Node) {
        let Some(Taken { blocks, shards }) = self.committed.withdraw(node) else { return };
        let audits: Vec<u64> = self.audits.range(blocks.clone()).map(|(&start, _)| start).collect();
        audits.iter().for_each(|start| drop(self.audits.remove(start)));
        self.end_merges_of(&blocks);
        // What each shard took is not kept: every block takes its share with it, or the seconds of a member would seem to grow.
        let left = self.tally.blocks - (blocks.end - blocks.start);
        self.tally.slot_seconds *= left as f64 / self.tally.blocks as f64;
        self.tally.blocks = left;
        self.tally.shards -= shards;
        self.pending.insert(blocks);
        self.state = JobState::Computing;
        self.result = None;
    }

    pub(super) fn quarantine(&mut self, failure: ShardFailure) {
        let blocks = self.blocks(failure.node);
        self.pending.remove(&blocks);
        self.attempts.remove(&failure.node);
        self.checkpoints.remove(&failure.node);
        self.blocks_quarantined += blocks.end - blocks.start;
        self.quarantined.insert(blocks.start, failure);
        self.note_whether_incomplete();
    }

    /// Blobs that are needed until the sweep ends: partials, checkpoints, and what auditors got.
    pub(super) fn blobs_until_the_end(&self) -> impl Iterator<Item = Digest> {
        let checkpoints = self.checkpoints.values().map(|checkpoint| checkpoint.stored.digest);
        self.committed.blobs().chain(checkpoints).chain(self.audits.values().flat_map(Audit::blobs))
    }

    /// Forgets everything but numbers and results: the sweep has ended.
    pub(super) fn close(&mut self) {
        self.committed = Committed::new(self.total);
        self.checkpoints.clear();
        self.pending = Ranges::default();
        self.waiting.clear();
        self.leased.clear();
        self.audits.clear();
        self.merges = Merges::default();
        self.attempts.clear();
    }
}

impl Audit {
    pub(super) fn blobs(&self) -> impl Iterator<Item = Digest> {
        self.dissent.iter().filter_map(|dissent| dissent.partial.blob())
    }
}

/// The purpose for which a worker computes a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It is computed for the result.
    Compute,
    /// It is compared with what is committed.
    Audit,
    /// A user asked for it, to compare it.
    Verify(RequestId),
}

/// A shard in a worker's hands.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeldShard {
    pub(super) purpose: Purpose,
    /// Computed and about to be reported: it does not occupy a slot.
    pub(super) computed: bool,
    pub(super) headway: Headway,
}

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) profile: WorkerProfile,
    pub(super) last_seen: Time,
    pub(super) connected: bool,
    pub(super) draining: bool,
    /// Set aside, with the reason.
    pub(super) unfit: Option<String>,
    /// Set aside because its results were wrong: nothing that it reports counts.
    pub(super) distrusted: bool,
    pub(super) held: BTreeMap<ShardRef, HeldShard>,
    /// Shards that occupy a slot.
    pub(super) busy: u32,
    pub(super) rates: Rates,
    /// The times when the slots that hang are tried again.
    pub(super) hung: Vec<Time>,
    /// The number of shards that hung in a row.
    pub(super) hangs: u32,
    /// Members of its shards that were committed.
    pub(super) members_done: u64,
    /// The words of its last failure.
    pub(super) last_error: Option<String>,
}

impl Worker {
    /// Returns whether it can be given anything, now or when a slot is free.
    pub(super) fn is_fit(&self) -> bool {
        self.connected && self.unfit.is_none() && !self.draining && !self.hangs()
    }

    pub(super) fn has_free_slot(&self) -> bool {
        self.is_fit() && self.busy as usize + self.hung.len() < self.profile.slots as usize
    }
}
