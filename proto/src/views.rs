//! The shapes of `--json` and of the coordinator's page: the wire's messages with names of states, times in RFC 3339, and null
//! for what is absent.
//!
//! These shapes are an interface for scripts: from the first release on, keys are added, never renamed.

use crate::v1;
use nadgrid_core::numerics::NumericsClass;
use nadgrid_core::plan::Plan;
use nadgrid_core::spec::Experiment;
use nadgrid_core::text::{bytes, duration};
use serde::Serialize;

/// The current state of a sweep.
#[derive(Clone, Debug, Serialize)]
pub struct SweepView {
    /// The sweep's id.
    pub id: String,
    /// Its name, from the spec.
    pub name: String,
    /// `queued`, `running`, `complete`, `incomplete`, `failed` or `cancelled`; `paused` where an open sweep is.
    pub state: String,
    /// The BLAKE3 digest of the result, once complete.
    pub digest: Option<String>,
    /// The numerics class, once the first result is kept.
    pub numerics_class: Option<NumericsClass>,
    /// The share of its work that is done, from 0 to 1, each job weighted by its cost.
    pub progress: f64,
    /// Estimated seconds until it ends with its current slots; null if unknown.
    pub seconds_left: Option<f64>,
    /// The things that it is waiting for or that delay it, the most important first.
    pub notices: Vec<String>,
    /// The number of connected workers that can take its shards.
    pub workers: u32,
    /// Its jobs, in the spec's order.
    pub jobs: Vec<JobView>,
    /// The files that it was submitted with, and the NADs of earlier sweeps that it uses.
    pub inputs: Vec<InputView>,
    /// The artifacts that can be fetched, once complete.
    pub artifacts: Vec<ArtifactView>,
    /// The reason why it failed or is incomplete.
    pub message: Option<String>,
    /// The time when it was submitted.
    pub submitted_at: Option<String>,
    /// The time when its first shard was leased.
    pub started_at: Option<String>,
    /// The time when it ended.
    pub ended_at: Option<String>,
    /// Sweeps of a higher priority go first.
    pub priority: i32,
    /// Sweeps of one priority share the slots by weight.
    pub weight: f64,
    /// The user who submitted it; null without access control.
    pub owner: Option<String>,
    /// Its quarantined shards, at most a hundred.
    pub failures: Vec<FailureView>,
    /// The spec with every default filled in, in TOML.
    pub spec: String,
    /// The coordinator's version.
    pub coordinator_version: String,
}

impl From<&v1::Sweep> for SweepView {
    fn from(sweep: &v1::Sweep) -> Self {
        let moment = |at: Option<&_>| at.map(ToString::to_string);
        Self {
            id: sweep.id.clone(),
            name: sweep.name.clone(),
            state: sweep_state(sweep),
            digest: present(&sweep.digest),
            numerics_class: sweep.numerics_class.clone().map(Into::into),
            progress: sweep.progress,
            seconds_left: sweep.seconds_left,
            notices: sweep.notices.clone(),
            workers: sweep.workers,
            jobs: sweep.jobs.iter().map(JobView::from).collect(),
            inputs: sweep.inputs.iter().map(InputView::from).collect(),
            artifacts: sweep.artifacts.iter().map(ArtifactView::from).collect(),
            message: present(&sweep.message),
            submitted_at: moment(sweep.submitted_at.as_ref()),
            started_at: moment(sweep.started_at.as_ref()),
            ended_at: moment(sweep.ended_at.as_ref()),
            priority: sweep.priority,
            weight: sweep.weight,
            owner: present(&sweep.owner),
            failures: sweep.failures.iter().map(|failure| FailureView::of(failure, sweep)).collect(),
            spec: sweep.spec.clone(),
            coordinator_version: sweep.coordinator_version.clone(),
        }
    }
}

/// A quarantined shard.
#[derive(Clone, Debug, Serialize)]
pub struct FailureView {
    /// The job's name, for example `nads/lenet`.
    pub job: String,
    /// Its first block.
    pub first_block: u64,
    /// The number of its blocks.
    pub blocks: u64,
    /// The number of times that it was tried.
    pub attempts: u32,
    /// The names of the workers that it failed on.
    pub workers: Vec<String>,
    /// The last worker's error message.
    pub message: String,
}

impl FailureView {
    fn of(failure: &v1::ShardFailure, sweep: &v1::Sweep) -> Self {
        let v1::ShardFailure { job, first_block, blocks, attempts, workers, message } = failure.clone();
        let job = sweep.jobs.get(job as usize);
        let job = job.map_or(String::new(), |job| format!("{}/{}", job.experiment, job.architecture));
        Self { job, first_block, blocks, attempts, workers, message }
    }
}

/// The state of a sweep, job or block, and the reasons.
#[derive(Clone, Debug, Serialize)]
pub struct ExplanationView {
    /// The thing that is explained.
    pub subject: String,
    /// Its state in one word.
    pub state: String,
    /// The most important reason first.
    pub reasons: Vec<String>,
    /// The reasons that keep each worker from computing it.
    pub workers: Vec<WorkerReasonView>,
}

/// The reason that keeps a worker from computing something.
#[derive(Clone, Debug, Serialize)]
pub struct WorkerReasonView {
    /// The worker's id.
    pub id: String,
    /// The worker's display name.
    pub name: String,
    /// The reason that keeps the worker from computing it.
    pub reason: String,
}

impl From<v1::ExplainResponse> for ExplanationView {
    fn from(response: v1::ExplainResponse) -> Self {
        let v1::ExplainResponse { subject, state, reasons, workers } = response;
        let view = |v1::WorkerReason { worker_id, name, reason }| WorkerReasonView { id: worker_id, name, reason };
        Self { subject, state, reasons, workers: workers.into_iter().map(view).collect() }
    }
}

/// A shard that was recomputed.
#[derive(Clone, Debug, Serialize)]
pub struct CheckView {
    /// The job's name, for example `nads/lenet`.
    pub job: String,
    /// Its first block.
    pub first_block: u64,
    /// The number of its blocks.
    pub blocks: u64,
    /// Whether the bits are the same.
    pub agrees: bool,
    /// The digest of the committed result.
    pub committed: String,
    /// The id of the worker that computed it.
    pub committed_by: String,
    /// The digest of the recomputed result; empty if there is none.
    pub recomputed: String,
    /// The id of the worker that recomputed it.
    pub recomputed_by: String,
    /// The reason why it could not be recomputed.
    pub message: Option<String>,
}

impl CheckView {
    /// The shard of a response, if it is about one.
    pub fn of(response: &v1::VerifyResponse) -> Option<Self> {
        let shard = response.shard.as_ref()?;
        Some(Self {
            job: response.job.clone(),
            first_block: shard.first_block,
            blocks: shard.blocks,
            agrees: response.agrees,
            committed: response.committed.clone(),
            committed_by: response.committed_by.clone(),
            recomputed: response.recomputed.clone(),
            recomputed_by: response.recomputed_by.clone(),
            message: present(&response.message),
        })
    }
}

/// One architecture of one experiment of a sweep.
#[derive(Clone, Debug, Serialize)]
pub struct JobView {
    /// `nads`, `directional`, `poisoning`, `flipping` or `margins`.
    pub experiment: String,
    /// The architecture.
    pub architecture: String,
    /// `waiting` (for the NADs of another job), `computing`, `reducing`, `complete` or `incomplete`.
    pub state: String,
    /// Networks N, or training runs.
    pub members: u64,
    /// Members committed.
    pub members_done: u64,
    /// Members computed so far in shards that are still leased.
    pub members_in_flight: u64,
    /// The share of its work that is done, from 0 to 1: members, audits, and the results computed from them.
    pub progress: f64,
    /// Estimated seconds until it ends; null if unknown.
    pub seconds_left: Option<f64>,
    /// Members per second of all slots that compute its shards now; null if nothing is measured or no slot has a shard.
    pub members_per_second: Option<f64>,
    /// The number D of input pixels.
    pub dimension: u32,
    /// The number of committed shards.
    pub shards: u64,
    /// The number of times that a shard was leased again.
    pub retries: u64,
    /// The number of members of quarantined shards.
    pub members_failed: u64,
    /// Speculative leases of shards that took too long on another worker.
    pub speculative: u64,
    /// Audits that are due: shards that a second worker computes.
    pub audits_due: u64,
    /// Audits that a second worker passed with the same bits.
    pub audits_passed: u64,
    /// Partials in the store; neighbours that were merged count as one.
    pub partials: u64,
    /// Slot-seconds spent on committed shards.
    pub slot_seconds: f64,
    /// The BLAKE3 digest of the merged moments, or of the runs, once complete.
    pub digest: Option<String>,
}

impl From<&v1::Job> for JobView {
    fn from(job: &v1::Job) -> Self {
        Self {
            experiment: job.experiment.clone(),
            architecture: job.architecture.clone(),
            state: job_state(job),
            members: job.members,
            members_done: job.members_done,
            members_in_flight: job.members_in_flight,
            progress: job.progress,
            seconds_left: job.seconds_left,
            members_per_second: (job.members_per_second > 0.0).then_some(job.members_per_second),
            dimension: job.dimension,
            shards: job.shards,
            retries: job.retries,
            members_failed: job.members_failed,
            speculative: job.speculative,
            audits_due: job.audits_due,
            audits_passed: job.audits_passed,
            partials: job.partials,
            slot_seconds: job.slot_seconds,
            digest: present(&job.digest),
        }
    }
}

/// A file of a complete sweep.
#[derive(Clone, Debug, Serialize)]
pub struct ArtifactView {
    /// The file's name, for example `nads/lenet/nads.npy`.
    pub name: String,
    /// The file's size in bytes.
    pub size: u64,
    /// The file's BLAKE3 digest, in hexadecimal.
    pub digest: String,
}

impl From<&v1::Artifact> for ArtifactView {
    fn from(artifact: &v1::Artifact) -> Self {
        Self { name: artifact.name.clone(), size: artifact.size, digest: artifact.digest.clone() }
    }
}

/// A file that a sweep was submitted with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InputView {
    /// The path as the spec writes it; for a folder, that path, a slash and the file's name.
    pub name: String,
    /// The file's size in bytes.
    pub size: u64,
    /// The file's BLAKE3 digest, in hexadecimal.
    pub digest: String,
}

impl From<&v1::Input> for InputView {
    fn from(input: &v1::Input) -> Self {
        Self { name: input.name.clone(), size: input.size, digest: input.digest.clone() }
    }
}

/// The estimated work and time of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanView {
    /// The coordinator that made the plan; null for a plan made locally.
    pub coordinator: Option<String>,
    /// Connected workers; null for a plan made locally.
    pub workers: Option<u32>,
    /// The number of slots (CPU cores or GPUs) that the estimate assumes.
    pub slots: u32,
    /// Estimated seconds for the whole sweep.
    pub seconds: f64,
    /// Its jobs, in the spec's order.
    pub jobs: Vec<JobPlanView>,
}

/// The estimated work and time of one architecture of one experiment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobPlanView {
    /// `nads`, `directional`, `poisoning`, `flipping` or `margins`.
    pub experiment: String,
    /// The architecture.
    pub architecture: String,
    /// Networks N, or training runs.
    pub members: u64,
    /// The number of parameters of one network.
    pub parameters: u64,
    /// The number D of input pixels.
    pub dimension: u64,
    /// Forward passes of all members by the estimator's definition, without backward passes.
    pub forward_passes: u64,
    /// Blocks, the unit of numerics.
    pub blocks: u64,
    /// The estimated number of shards.
    pub shards: u64,
    /// The size of one partial in bytes.
    pub partial_bytes: u64,
    /// Estimated seconds on all slots together.
    pub seconds: f64,
    /// Whether the estimate comes from measured rates of this kind of work.
    pub measured: bool,
    /// The basis of the estimate: `measured`, `other-size`, `other-architecture`, `other-experiment` or `assumed`.
    pub basis: String,
    /// Seconds on one GPU at an assumed speed, whatever was measured.
    pub gpu_seconds: f64,
}

impl PlanView {
    /// A plan that was made locally, by the coordinator's code.
    pub fn local(plan: &Plan) -> Self {
        let view = Self::new(&v1::PlanResponse::of(plan, 0));
        Self { coordinator: None, workers: None, ..view }
    }

    /// A plan that the coordinator at `url` made.
    pub fn remote(plan: &v1::PlanResponse, url: &str) -> Self {
        Self { coordinator: Some(url.into()), ..Self::new(plan) }
    }

    fn new(plan: &v1::PlanResponse) -> Self {
        let jobs = plan.jobs.iter().map(JobPlanView::from).collect();
        Self { coordinator: None, workers: Some(plan.workers), slots: plan.slots, seconds: plan.seconds, jobs }
    }
}

impl From<&v1::JobPlan> for JobPlanView {
    fn from(job: &v1::JobPlan) -> Self {
        Self {
            experiment: job.experiment.clone(),
            architecture: job.architecture.clone(),
            members: job.members,
            parameters: job.parameters,
            dimension: u64::from(job.dimension),
            forward_passes: job.forward_passes,
            blocks: job.blocks,
            shards: job.shards,
            partial_bytes: job.partial_bytes,
            seconds: job.seconds,
            measured: job.measured,
            basis: job.basis.clone(),
            gpu_seconds: job.gpu_seconds,
        }
    }
}

/// A worker and its state.
#[derive(Clone, Debug, Serialize)]
pub struct WorkerView {
    /// The worker's id, which is new whenever its program starts.
    pub id: String,
    /// The worker's display name.
    pub name: String,
    /// Whether it is connected.
    pub connected: bool,
    /// The reason why it is set aside; null if it is fit.
    pub unfit: Option<String>,
    /// Whether it takes no more shards and will leave.
    pub draining: bool,
    /// Its numerics class, which its bits depend on.
    pub numerics_class: Option<NumericsClass>,
    /// The number of shards that it computes at the same time.
    pub slots: u32,
    /// The number of its leases.
    pub leases: u32,
    /// Members (networks or training runs) of its committed shards.
    pub members_done: u64,
    /// Members per second of all its slots, measured on its last committed shards; null before the first.
    pub members_per_second: Option<f64>,
    /// The job that this rate was measured on, for example `nads/lenet`.
    pub rate_of: Option<String>,
    /// Its last error.
    pub last_error: Option<String>,
    /// Milliseconds since its last message.
    pub silent_ms: u64,
    /// The number of its payloads that wait for a grant.
    pub transfers_waiting: u32,
    /// Milliseconds since the first of them was offered.
    pub transfers_waiting_ms: u64,
    /// The number of payloads in transfer to or from it.
    pub transfers: u32,
    /// Their total bytes per second.
    pub transfer_bytes_per_second: f64,
    /// The version of the worker's program.
    pub version: String,
}

impl From<&v1::Worker> for WorkerView {
    fn from(worker: &v1::Worker) -> Self {
        Self {
            id: worker.id.clone(),
            name: worker.name.clone(),
            connected: worker.connected,
            unfit: present(&worker.unfit),
            draining: worker.draining,
            numerics_class: worker.numerics_class.clone().map(Into::into),
            slots: worker.slots,
            leases: worker.leases,
            members_done: worker.members_done,
            members_per_second: (worker.members_per_second > 0.0).then_some(worker.members_per_second),
            rate_of: present(&worker.rate_of),
            last_error: present(&worker.last_error),
            silent_ms: worker.silent_ms,
            transfers_waiting: worker.transfers_waiting,
            transfers_waiting_ms: worker.transfers_waiting_ms,
            transfers: worker.transfers,
            transfer_bytes_per_second: worker.transfer_bytes_per_second,
            version: worker.version.clone(),
        }
    }
}

impl WorkerView {
    /// Its transfers as text; `None` if there are none.
    pub fn transfer_words(&self) -> Option<String> {
        let rate = bytes(self.transfer_bytes_per_second as u64);
        let moving = (self.transfers > 0).then(|| format!("{} at {rate}/s", self.transfers));
        let waited = duration(self.transfers_waiting_ms as f64 / 1e3);
        let waiting = (self.transfers_waiting > 0).then(|| format!("{} waiting for {waited}", self.transfers_waiting));
        let words: Vec<String> = moving.into_iter().chain(waiting).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

/// The noun for members of an experiment's jobs: networks or runs.
pub fn members_word(experiment: &str) -> &'static str {
    Experiment::find(experiment).map_or("members", Experiment::members)
}

/// The name of a sweep's state.
pub fn sweep_state(sweep: &v1::Sweep) -> String {
    if sweep.paused && matches!(sweep.state(), v1::SweepState::Queued | v1::SweepState::Running) {
        return "paused".to_owned();
    }
    word(sweep.state().as_str_name(), "SWEEP_STATE_")
}

fn job_state(job: &v1::Job) -> String {
    word(job.state().as_str_name(), "JOB_STATE_")
}

fn word(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_ascii_lowercase()
}

fn present(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_words_and_what_is_not_there_is_null() {
        let job = v1::Job { architecture: "lenet".into(), state: v1::JobState::Reducing.into(), ..Default::default() };
        let waiting =
            v1::Job { experiment: "directional".into(), state: v1::JobState::Waiting.into(), ..Default::default() };
        let sweep = v1::Sweep {
            id: "s-1".into(),
            state: v1::SweepState::Running.into(),
            jobs: vec![job, waiting],
            ..Default::default()
        };
        let view = serde_json::to_value(SweepView::from(&sweep)).unwrap();
        assert!(view["seconds_left"].is_null() && view["jobs"][0]["members_per_second"].is_null());
        assert_eq!((&view["progress"], &view["notices"]), (&0.0.into(), &serde_json::json!([])));
        assert_eq!(view["state"], "running");
        assert_eq!(view["jobs"][0]["state"], "reducing");
        assert_eq!(
            (&view["jobs"][1]["state"], &view["jobs"][1]["experiment"]),
            (&"waiting".into(), &"directional".into())
        );
        assert!(view["digest"].is_null() && view["ended_at"].is_null() && view["numerics_class"].is_null());
    }
}
