//! What the scheduler knows of sweeps, jobs, workers and leases.

use super::ranges::Ranges;
use super::{JobResult, ShardRef, WorkerProfile};
use crate::cost::Rates;
use crate::grid::Node;
use crate::ids::{Digest, Time, WorkerId};
use crate::numerics::NumericsClass;
use crate::spec::{BasisSource, Inputs, JobShape, Spec};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The life of a sweep.
///
/// ```text
///  Queued ──first lease──▶ Running ──all jobs complete──▶ Complete
///     │                      │  └──cannot be completed──▶ Failed
///     └───────cancel─────────┴──────────────────────────▶ Cancelled
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SweepState {
    /// Nothing leased yet.
    Queued,
    /// Being computed.
    Running,
    /// Ended with this digest.
    Complete {
        /// Of the result.
        digest: Digest,
    },
    /// Ended without a result.
    Failed {
        /// Why.
        message: String,
    },
    /// Ended by its user.
    Cancelled,
}

impl SweepState {
    /// Whether nothing will change any more.
    pub fn has_ended(&self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// The life of a job: Computing → Reducing → Complete; a damaged partial leads from Reducing back to Computing.
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
}

#[derive(Debug)]
pub(super) struct Sweep {
    pub(super) owner: String,
    pub(super) spec: Box<Spec>,
    pub(super) inputs: Inputs,
    /// Of the spec and its inputs.
    pub(super) digest: Digest,
    pub(super) number: u64,
    pub(super) state: SweepState,
    pub(super) class: Option<NumericsClass>,
    pub(super) jobs: Vec<Job>,
    pub(super) submitted: Time,
    pub(super) started: Option<Time>,
    pub(super) ended: Option<Time>,
}

impl Sweep {
    pub(super) fn new(owner: String, spec: Box<Spec>, inputs: Inputs, number: u64, submitted: Time) -> Self {
        let jobs = spec.jobs(&inputs).into_iter().map(Job::new).collect();
        let digest = submission_digest(&spec, &inputs);
        let state = SweepState::Queued;
        Self { owner, spec, inputs, digest, number, state, class: None, jobs, submitted, started: None, ended: None }
    }

    /// The class in which a worker would compute its shards, if it may take them.
    pub(super) fn class_of(&self, worker: &WorkerProfile) -> Option<NumericsClass> {
        let class = worker.class_for(self.spec.precision)?;
        self.class.as_ref().is_none_or(|own| *own == class).then_some(class)
    }

    /// Whether a worker may take its shards.
    pub(super) fn accepts(&self, worker: &WorkerProfile) -> bool {
        self.class_of(worker).is_some()
    }

    /// Whether a job waits for the result of another.
    pub(super) fn waits(&self, job: &Job) -> bool {
        let BasisSource::Job(needed) = job.shape.basis else { return false };
        self.jobs.get(needed.0 as usize).is_none_or(|needed| needed.state != JobState::Complete)
    }
}

/// What a submission's key stands for: the spec and the very files.
pub(super) fn submission_digest(spec: &Spec, inputs: &Inputs) -> Digest {
    let files: String = inputs.iter().map(|(name, input)| format!("\n{name} {}", input.digest)).collect();
    Digest::of((spec.to_toml() + &files).as_bytes())
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) shape: JobShape,
    pub(super) total: u64,
    pub(super) state: JobState,
    pub(super) pending: Ranges,
    pub(super) waiting: BTreeMap<Node, Retry>,
    /// How often each shard that was ever lost or failed was; forgotten when it commits.
    pub(super) attempts: BTreeMap<Node, u32>,
    /// Committed partials by their first block.
    pub(super) committed: BTreeMap<u64, (Node, Digest)>,
    pub(super) blocks_committed: u64,
    pub(super) shards_committed: u64,
    pub(super) lane_seconds: f64,
    pub(super) retries: u64,
    pub(super) result: Option<JobResult>,
}

/// A shard that waits for its next attempt.
#[derive(Clone, Debug)]
pub(super) struct Retry {
    pub(super) not_before: Time,
    /// Who had it last.
    pub(super) last: WorkerId,
}

impl Job {
    fn new(shape: JobShape) -> Self {
        let total = shape.grid.blocks();
        Self {
            shape,
            total,
            state: JobState::Computing,
            pending: Ranges::of(0..total),
            waiting: BTreeMap::new(),
            attempts: BTreeMap::new(),
            committed: BTreeMap::new(),
            blocks_committed: 0,
            shards_committed: 0,
            lane_seconds: 0.0,
            retries: 0,
            result: None,
        }
    }

    /// Members of these blocks.
    pub(super) fn members(&self, blocks: Range<u64>) -> u64 {
        let members = self.shape.grid.members(blocks);
        members.end - members.start
    }

    /// How many of `blocks` are committed.
    pub(super) fn committed_within(&self, blocks: &Range<u64>) -> u64 {
        let overlap = |node: &Node| {
            let held = node.blocks(self.total);
            held.end.min(blocks.end).saturating_sub(held.start.max(blocks.start))
        };
        let before = self.committed.range(..blocks.start).next_back().map_or(0, |(_, (node, _))| overlap(node));
        before + self.committed.range(blocks.clone()).map(|(_, (node, _))| overlap(node)).sum::<u64>()
    }

    pub(super) fn commit(&mut self, node: Node, partial: Digest, seconds: f64) {
        let blocks = node.blocks(self.total);
        self.pending.remove(&blocks);
        self.waiting.retain(|waiting, _| {
            let held = waiting.blocks(self.total);
            held.end <= blocks.start || held.start >= blocks.end
        });
        self.attempts.remove(&node);
        self.blocks_committed += blocks.end - blocks.start;
        self.shards_committed += 1;
        self.lane_seconds += seconds;
        self.committed.insert(blocks.start, (node, partial));
    }

    pub(super) fn withdraw(&mut self, node: Node) {
        let blocks = node.blocks(self.total);
        if self.committed.get(&blocks.start).is_some_and(|(held, _)| *held == node) {
            self.committed.remove(&blocks.start);
            self.blocks_committed -= blocks.end - blocks.start;
            self.shards_committed -= 1;
            self.pending.insert(blocks);
            self.state = JobState::Computing;
        }
    }

    pub(super) fn partials(&self) -> Vec<(Node, Digest)> {
        self.committed.values().copied().collect()
    }
}

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) profile: WorkerProfile,
    pub(super) last_seen: Time,
    pub(super) connected: bool,
    /// Set aside, with the reason.
    pub(super) unfit: Option<String>,
    pub(super) leases: BTreeSet<ShardRef>,
    pub(super) rates: Rates,
}

#[derive(Debug)]
pub(super) struct Lease {
    pub(super) worker: WorkerId,
    pub(super) blocks_done: u64,
    /// Computed and about to be reported: it does not occupy a lane.
    pub(super) computed: bool,
}
