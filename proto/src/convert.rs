//! Converts wire types to and from the core's, in this one place at the edge.

use crate::v1;
use nadgrid_core::grid::Node;
use nadgrid_core::ids::{Digest, JobIndex, SweepId, Time, WorkerId};
use nadgrid_core::numerics::NumericsClass;
use nadgrid_core::plan::Plan;
use nadgrid_core::scheduler::{
    ArtifactRef, Explanation, FailureKind, JobRef, JobState, JobView, ShardFailure, ShardInput, ShardRef, SweepOutcome,
    SweepState, SweepView, Verdict, WorkerReason, WorkerView,
};
use nadgrid_core::spec::{InputRef, Inputs};
use std::ops::Range;

impl From<&NumericsClass> for v1::NumericsClass {
    fn from(class: &NumericsClass) -> Self {
        let NumericsClass { device, arithmetic, evaluation, libtorch, precision, kernels } = class.clone();
        Self { device, arithmetic, evaluation, libtorch, precision, kernels }
    }
}

impl From<v1::NumericsClass> for NumericsClass {
    fn from(class: v1::NumericsClass) -> Self {
        let v1::NumericsClass { device, arithmetic, evaluation, libtorch, precision, kernels } = class;
        Self { device, arithmetic, evaluation, libtorch, precision, kernels }
    }
}

impl v1::Shard {
    /// The wire form of these blocks of a job.
    pub fn of(job: &JobRef, blocks: &Range<u64>) -> Self {
        let sweep_id = job.sweep.as_str().to_owned();
        Self { sweep_id, job: job.index.0, first_block: blocks.start, blocks: blocks.end - blocks.start }
    }

    /// Its job, whether or not there is such a one.
    pub fn job_ref(&self) -> JobRef {
        JobRef { sweep: SweepId::new(self.sweep_id.as_str()), index: JobIndex(self.job) }
    }

    /// The shard's blocks; empty if the numbers overflow.
    pub fn range(&self) -> Range<u64> {
        self.first_block..self.first_block.checked_add(self.blocks).unwrap_or(self.first_block)
    }

    /// The core's shard in a job of `total` blocks; `None` if the blocks are not a node of that job's tree.
    pub fn to_core(&self, total: u64) -> Option<ShardRef> {
        let node = Node::over(&self.range(), total)?;
        Some(self.job_ref().shard(node))
    }
}

impl v1::FailureKind {
    /// The core's kind. Unknown kinds count as a failure of the shard itself.
    pub fn to_core(self) -> FailureKind {
        match self {
            Self::Spec => FailureKind::Spec,
            Self::Unfit => FailureKind::Unfit,
            Self::Transient => FailureKind::Transient,
            Self::Task | Self::Unspecified => FailureKind::Task,
        }
    }
}

impl v1::Verdict {
    /// The wire form; `None` for an invalid report, which is answered with a status.
    pub fn of(verdict: Verdict) -> Option<Self> {
        match verdict {
            Verdict::Committed => Some(Self::Committed),
            Verdict::Duplicate => Some(Self::Duplicate),
            Verdict::Superseded => Some(Self::Superseded),
            Verdict::NotNeeded => Some(Self::NotNeeded),
            Verdict::Checked => Some(Self::Checked),
            Verdict::Invalid | Verdict::NoSession => None,
        }
    }
}

impl From<&ArtifactRef> for v1::Artifact {
    fn from(artifact: &ArtifactRef) -> Self {
        Self { name: artifact.name.clone(), size: artifact.size, digest: artifact.digest.to_string() }
    }
}

/// The files of a sweep on the wire, by name.
pub fn inputs_to_wire(inputs: &Inputs) -> Vec<v1::Input> {
    let input = |(name, input): (&String, &InputRef)| v1::Input {
        name: name.clone(),
        size: input.size,
        digest: input.digest.to_string(),
    };
    inputs.iter().map(input).collect()
}

/// Parses the files of a sweep.
///
/// # Errors
/// Describes what is wrong with one of them.
pub fn inputs_to_core(inputs: Vec<v1::Input>) -> Result<Inputs, String> {
    let mut found = Inputs::new();
    for v1::Input { name, size, digest } in inputs {
        let digest = Digest::from_hex(&digest)
            .ok_or_else(|| format!("inputs[{name:?}].digest = {digest:?}: a digest is 64 hexadecimal digits"))?;
        if found.insert(name.clone(), InputRef { size, digest }).is_some() {
            return Err(format!("inputs[{name:?}]: named twice"));
        }
    }
    Ok(found)
}

impl From<&ShardInput> for v1::ShardInput {
    fn from(input: &ShardInput) -> Self {
        Self {
            role: input.role.to_owned(),
            name: input.name.clone(),
            size: input.stored.size,
            digest: input.stored.digest.to_string(),
        }
    }
}

/// The wire form of a time.
pub fn timestamp(time: Time) -> prost_types::Timestamp {
    let (seconds, nanos) = ((time.0 / 1_000) as i64, (time.0 % 1_000) as i32 * 1_000_000);
    prost_types::Timestamp { seconds, nanos }
}

impl From<&SweepView> for v1::Sweep {
    fn from(view: &SweepView) -> Self {
        let (state, digest, message) = match &view.state {
            SweepState::Queued => (v1::SweepState::Queued, String::new(), String::new()),
            SweepState::Running => (v1::SweepState::Running, String::new(), String::new()),
            SweepState::Ended(SweepOutcome::Complete { digest }) => {
                (v1::SweepState::Complete, digest.to_string(), String::new())
            }
            SweepState::Ended(SweepOutcome::Incomplete { message }) => {
                (v1::SweepState::Incomplete, String::new(), message.clone())
            }
            SweepState::Ended(SweepOutcome::Failed { message }) => {
                (v1::SweepState::Failed, String::new(), message.clone())
            }
            SweepState::Ended(SweepOutcome::Cancelled) => (v1::SweepState::Cancelled, String::new(), String::new()),
        };
        Self {
            id: view.id.to_string(),
            name: view.spec.name.clone(),
            state: state.into(),
            spec: view.text.to_string(),
            digest,
            numerics_class: view.class.as_ref().map(Into::into),
            jobs: view.jobs.iter().map(Into::into).collect(),
            artifacts: view.artifacts.iter().map(Into::into).collect(),
            message,
            submitted_at: Some(timestamp(view.submitted)),
            started_at: view.started.map(timestamp),
            ended_at: view.ended.map(timestamp),
            workers: view.workers,
            coordinator_version: env!("CARGO_PKG_VERSION").to_owned(),
            inputs: inputs_to_wire(&view.inputs),
            paused: view.paused,
            priority: view.share.priority,
            weight: view.share.weight,
            owner: view.owner.clone(),
            failures: view.failures.iter().map(Into::into).collect(),
            progress: view.progress,
            seconds_left: view.seconds_left,
            notices: view.notices.clone(),
        }
    }
}

impl From<&ShardFailure> for v1::ShardFailure {
    fn from(failure: &ShardFailure) -> Self {
        let ShardFailure { job, node: _, blocks, attempts, workers, message } = failure.clone();
        let (first_block, blocks) = (blocks.start, blocks.end - blocks.start);
        Self { job: job.0, first_block, blocks, attempts, workers, message }
    }
}

impl From<Explanation> for v1::ExplainResponse {
    fn from(Explanation { subject, state, reasons, workers }: Explanation) -> Self {
        Self { subject, state, reasons, workers: workers.into_iter().map(Into::into).collect() }
    }
}

impl From<WorkerReason> for v1::WorkerReason {
    fn from(WorkerReason { id, name, reason }: WorkerReason) -> Self {
        Self { worker_id: id.to_string(), name, reason }
    }
}

impl From<&JobView> for v1::Job {
    fn from(job: &JobView) -> Self {
        let state = match job.state {
            JobState::Waiting => v1::JobState::Waiting,
            JobState::Computing => v1::JobState::Computing,
            JobState::Reducing => v1::JobState::Reducing,
            JobState::Complete => v1::JobState::Complete,
            JobState::Incomplete => v1::JobState::Incomplete,
        };
        Self {
            architecture: job.shape.architecture.clone(),
            state: state.into(),
            experiment: job.shape.experiment.to_string(),
            members: job.shape.grid.networks,
            members_done: job.members_done,
            members_in_flight: job.members_in_flight,
            dimension: job.shape.dimension as u32,
            slot_seconds: job.tally.slot_seconds,
            shards: job.tally.shards,
            digest: job.digest.map(|digest| digest.to_string()).unwrap_or_default(),
            retries: job.tally.retries,
            members_failed: job.members_failed,
            speculative: job.tally.speculative,
            audits_due: job.audits_due,
            audits_passed: job.tally.audits,
            partials: job.partials,
            progress: job.progress,
            seconds_left: job.seconds_left,
            members_per_second: job.members_per_second.unwrap_or(0.0),
        }
    }
}

impl From<&WorkerView> for v1::Worker {
    fn from(worker: &WorkerView) -> Self {
        Self {
            id: worker.id.to_string(),
            name: worker.profile.name.clone(),
            numerics_class: Some((&worker.profile.class).into()),
            slots: worker.profile.slots,
            version: worker.profile.version.clone(),
            leases: worker.leases,
            silent_ms: worker.silent_ms,
            connected: worker.connected,
            unfit: worker.unfit.clone().unwrap_or_default(),
            draining: worker.draining,
            members_done: worker.members_done,
            members_per_second: worker.rate.as_ref().map_or(0.0, |(_, rate)| *rate),
            rate_of: worker.rate.as_ref().map_or(String::new(), |(job, _)| job.clone()),
            last_error: worker.last_error.clone().unwrap_or_default(),
            ..Self::default()
        }
    }
}

impl v1::PlanResponse {
    /// The wire form of a plan for `workers` workers.
    pub fn of(plan: &Plan, workers: u32) -> Self {
        let jobs = plan.jobs.iter().map(|job| v1::JobPlan {
            architecture: job.shape.architecture.clone(),
            experiment: job.shape.experiment.to_string(),
            members: job.shape.grid.networks,
            blocks: job.blocks,
            shards: job.shards,
            forward_passes: job.forward_passes,
            parameters: job.shape.parameters as u64,
            dimension: job.shape.dimension as u32,
            partial_bytes: job.partial_bytes,
            seconds: job.seconds,
            measured: job.basis.is_measured(),
            basis: job.basis.as_str().to_owned(),
            gpu_seconds: job.gpu_seconds,
        });
        Self { jobs: jobs.collect(), slots: plan.slots, workers, seconds: plan.seconds() }
    }
}

/// Parses the worker id of a message; `None` unless it is short plain text.
pub fn worker_id(text: &str) -> Option<WorkerId> {
    let plain = (1..=100).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    plain.then(|| WorkerId::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nodes_of_the_tree_become_shards() {
        let shard = |first_block, blocks| v1::Shard { sweep_id: "s".into(), job: 0, first_block, blocks };
        assert_eq!(shard(4, 4).to_core(10).map(|s| s.node), Some(Node { level: 2, index: 1 }));
        assert_eq!(shard(8, 2).to_core(10).map(|s| s.node), Some(Node { level: 1, index: 4 }));
        assert_eq!(shard(2, 4).to_core(10), None);
        assert_eq!(shard(8, 4).to_core(10), None);
        assert_eq!(shard(u64::MAX, 2).to_core(10), None);
        assert_eq!(shard(3, 0).to_core(10), None);
    }
}
