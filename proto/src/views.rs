//! What `--json` and the coordinator's page show: the wire's messages with words for states, RFC 3339 for moments, and absent things as null.
//!
//! These shapes are an interface for scripts: from the first release on, keys are added, never renamed.

use crate::v1;
use nadgrid_core::numerics::NumericsClass;
use nadgrid_core::plan::Plan;
use nadgrid_core::spec::Experiment;
use nadgrid_core::text::{bytes, duration};
use serde::Serialize;

/// A sweep as it stands.
#[derive(Clone, Debug, Serialize)]
pub struct SweepView {
    /// The sweep's id.
    pub id: String,
    /// Its name, from the spec.
    pub name: String,
    /// `queued`, `running`, `complete`, `incomplete`, `failed` or `cancelled`; `paused` where an open sweep is.
    pub state: String,
    /// BLAKE3 of the result, once complete.
    pub digest: Option<String>,
    /// Set once the first shard is leased.
    pub numerics_class: Option<NumericsClass>,
    /// Share of its work that is done, from 0 to 1, each job weighted by what it costs.
    pub progress: f64,
    /// Estimated seconds until it ends with the lanes that it has now; null where nothing can be said.
    pub seconds_left: Option<f64>,
    /// What it waits for or what keeps it back, the most important first.
    pub notices: Vec<String>,
    /// Workers connected that can take its shards.
    pub workers: u32,
    /// Its jobs, in the spec's order.
    pub jobs: Vec<JobView>,
    /// The files it was submitted with, and NADs of earlier sweeps.
    pub inputs: Vec<InputView>,
    /// What can be fetched, once complete.
    pub artifacts: Vec<ArtifactView>,
    /// Why it failed or is incomplete.
    pub message: Option<String>,
    /// When it was submitted.
    pub submitted_at: Option<String>,
    /// When its first shard was leased.
    pub started_at: Option<String>,
    /// When it ended.
    pub ended_at: Option<String>,
    /// Sweeps of a higher priority go first.
    pub priority: i32,
    /// Sweeps of one priority share the lanes by weight.
    pub weight: f64,
    /// Whose it is; null without access control.
    pub owner: Option<String>,
    /// Shards that failed for good, a hundred at most.
    pub failures: Vec<FailureView>,
    /// The spec with every default filled in, TOML.
    pub spec: String,
    /// Version of the coordinator.
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

/// A shard that failed for good.
#[derive(Clone, Debug, Serialize)]
pub struct FailureView {
    /// The job's name, for example `nads/lenet`.
    pub job: String,
    /// Its first block.
    pub first_block: u64,
    /// Number of its blocks.
    pub blocks: u64,
    /// How often it was tried.
    pub attempts: u32,
    /// Names of the workers that it failed on.
    pub workers: Vec<String>,
    /// What the last one said.
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

/// Where something stands, and why.
#[derive(Clone, Debug, Serialize)]
pub struct ExplanationView {
    /// What was asked about.
    pub subject: String,
    /// Where it stands, in a word.
    pub state: String,
    /// The most important reason first.
    pub reasons: Vec<String>,
    /// What keeps each worker from it.
    pub workers: Vec<WorkerReasonView>,
}

/// What keeps a worker from something.
#[derive(Clone, Debug, Serialize)]
pub struct WorkerReasonView {
    /// The worker's id.
    pub id: String,
    /// The worker's display name.
    pub name: String,
    /// What keeps the worker from it.
    pub reason: String,
}

impl From<v1::ExplainResponse> for ExplanationView {
    fn from(response: v1::ExplainResponse) -> Self {
        let v1::ExplainResponse { subject, state, reasons, workers } = response;
        let view = |v1::WorkerReason { worker_id, name, reason }| WorkerReasonView { id: worker_id, name, reason };
        Self { subject, state, reasons, workers: workers.into_iter().map(view).collect() }
    }
}

/// A shard that was computed again.
#[derive(Clone, Debug, Serialize)]
pub struct CheckView {
    /// The job's name, for example `nads/lenet`.
    pub job: String,
    /// Its first block.
    pub first_block: u64,
    /// Number of its blocks.
    pub blocks: u64,
    /// Whether the bits are the same.
    pub agrees: bool,
    /// Digest of what was committed, and who computed it.
    pub committed: String,
    /// Id of that worker.
    pub committed_by: String,
    /// Digest of what was computed now, and by whom; empty when it was not.
    pub recomputed: String,
    /// Id of that worker.
    pub recomputed_by: String,
    /// Why it could not be computed again.
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
    /// Members computed of shards that are still leased.
    pub members_in_flight: u64,
    /// Share of its work that is done, from 0 to 1: members, audits, and what is computed from them.
    pub progress: f64,
    /// Estimated seconds until it ends; null where nothing can be said.
    pub seconds_left: Option<f64>,
    /// Members a second on the lanes that have its shards now; null while nothing is measured or no lane has any.
    pub members_per_second: Option<f64>,
    /// Input pixels D.
    pub dimension: u32,
    /// Number of committed shards.
    pub shards: u64,
    /// Number of times that a shard was leased again.
    pub retries: u64,
    /// Members of shards that failed for good.
    pub members_failed: u64,
    /// Second copies of shards that took too long elsewhere.
    pub copies: u64,
    /// Shards that a second worker is to compute.
    pub audits_due: u64,
    /// Shards that a second worker got the same bits of.
    pub audits_passed: u64,
    /// Partials in the store: those that were merged with their neighbours are not counted.
    pub partials: u64,
    /// Lane-seconds spent on committed shards.
    pub lane_seconds: f64,
    /// BLAKE3 of the merged moments, or of the runs, once complete.
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
            copies: job.copies,
            audits_due: job.audits_due,
            audits_passed: job.audits_passed,
            partials: job.partials,
            lane_seconds: job.lane_seconds,
            digest: present(&job.digest),
        }
    }
}

/// A file of a complete sweep.
#[derive(Clone, Debug, Serialize)]
pub struct ArtifactView {
    /// For example `nads/lenet/nads.npy`.
    pub name: String,
    /// Size of the file in bytes.
    pub size: u64,
    /// BLAKE3 of the file, in hexadecimal.
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
    /// The path as the spec has it; for a folder, that path, a slash and the file's name.
    pub name: String,
    /// Size of the file in bytes.
    pub size: u64,
    /// BLAKE3 of the file, in hexadecimal.
    pub digest: String,
}

impl From<&v1::Input> for InputView {
    fn from(input: &v1::Input) -> Self {
        Self { name: input.name.clone(), size: input.size, digest: input.digest.clone() }
    }
}

/// What a sweep will take.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanView {
    /// The coordinator that was asked; null for a plan made here.
    pub coordinator: Option<String>,
    /// Workers connected; null for a plan made here.
    pub workers: Option<u32>,
    /// Lanes (a CPU core or a GPU) that the estimate is for.
    pub lanes: u32,
    /// Estimated seconds of the whole sweep.
    pub seconds: f64,
    /// Its jobs, in the spec's order.
    pub jobs: Vec<JobPlanView>,
}

/// What one architecture of one experiment will take.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobPlanView {
    /// `nads`, `directional`, `poisoning`, `flipping` or `margins`.
    pub experiment: String,
    /// The architecture.
    pub architecture: String,
    /// Networks N, or training runs.
    pub members: u64,
    /// Parameters of one network.
    pub parameters: u64,
    /// Input pixels D.
    pub dimension: u64,
    /// Forward passes by the definition, of all members; backward passes not counted.
    pub forward_passes: u64,
    /// Blocks, the unit of numerics.
    pub blocks: u64,
    /// Estimated number of shards.
    pub shards: u64,
    /// Bytes of one partial.
    pub partial_bytes: u64,
    /// Estimated seconds on all lanes together.
    pub seconds: f64,
    /// Whether the estimate comes from measured rates of this kind of work.
    pub measured: bool,
    /// What it rests on: `measured`, `other-size`, `other-architecture`, `other-experiment` or `assumed`.
    pub basis: String,
    /// Seconds on one GPU at an assumed speed, whatever was measured.
    pub gpu_seconds: f64,
}

impl PlanView {
    /// A plan made here, by the same code as the coordinator's.
    pub fn local(plan: &Plan) -> Self {
        let view = Self::new(&v1::PlanResponse::of(plan, 0));
        Self { coordinator: None, workers: None, ..view }
    }

    /// The plan that the coordinator at `url` gave.
    pub fn remote(plan: &v1::PlanResponse, url: &str) -> Self {
        Self { coordinator: Some(url.into()), ..Self::new(plan) }
    }

    fn new(plan: &v1::PlanResponse) -> Self {
        let jobs = plan.jobs.iter().map(JobPlanView::from).collect();
        Self { coordinator: None, workers: Some(plan.workers), lanes: plan.lanes, seconds: plan.seconds, jobs }
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

/// A worker as its coordinator sees it.
#[derive(Clone, Debug, Serialize)]
pub struct WorkerView {
    /// Its id, new with every run of the program.
    pub id: String,
    /// The worker's display name.
    pub name: String,
    /// Whether it is connected.
    pub connected: bool,
    /// Why it is set aside; null when it is fit.
    pub unfit: Option<String>,
    /// Whether it takes no more shards and will leave.
    pub draining: bool,
    /// What its bits depend on.
    pub numerics_class: Option<NumericsClass>,
    /// Shards it computes at once.
    pub lanes: u32,
    /// Number of shards that it has leased.
    pub leases: u32,
    /// Networks or training runs of its shards that were committed.
    pub members_done: u64,
    /// Members per second on all its lanes, by the last committed shards; null before the first.
    pub members_per_second: Option<f64>,
    /// Of what the rate is, for example `nads/lenet`.
    pub rate_of: Option<String>,
    /// What it last failed with.
    pub last_error: Option<String>,
    /// Milliseconds since it was last heard.
    pub silent_ms: u64,
    /// Payloads that it offers and for which there is no place yet, and milliseconds since the first of them was offered.
    pub transfers_waiting: u32,
    /// See `transfers_waiting`.
    pub transfers_waiting_ms: u64,
    /// Payloads that are on their way to or from it, and bytes a second of all of them.
    pub transfers: u32,
    /// See `transfers`.
    pub transfer_bytes_per_second: f64,
    /// Version of the worker's program.
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
            lanes: worker.lanes,
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
    /// What it transfers and waits for, in words; nothing while it does neither.
    pub fn transfer_words(&self) -> Option<String> {
        let rate = bytes(self.transfer_bytes_per_second as u64);
        let moving = (self.transfers > 0).then(|| format!("{} at {rate}/s", self.transfers));
        let waited = duration(self.transfers_waiting_ms as f64 / 1e3);
        let waiting = (self.transfers_waiting > 0).then(|| format!("{} waiting for {waited}", self.transfers_waiting));
        let words: Vec<String> = moving.into_iter().chain(waiting).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

/// What the members of an experiment's jobs are called: networks or runs.
pub fn members_word(experiment: &str) -> &'static str {
    Experiment::find(experiment).map_or("members", Experiment::members)
}

/// The sweep's state as a word.
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
