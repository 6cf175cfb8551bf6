//! Views of the state, as people see it.

use super::Scheduler;
use super::committed::Committed;
use super::forecast::JobForecast;
use super::record::{ArtifactRef, ShardFailure, Tally};
use super::shard::{FairShare, JobRef, ShardCheckpoint, ShardInput, ShardRef};
use super::state::{Job, JobState, Sweep, SweepState, Worker};
use crate::grid::Node;
use crate::ids::{Digest, JobIndex, SweepId, Time, WorkerId};
use crate::numerics::NumericsClass;
use crate::spec::{BasisSource, ImageSet, InputRef, Inputs, JobShape, Spec, nads_file};
use std::sync::Arc;

/// Failures that a view of a sweep shows at most.
const MOST_FAILURES: usize = 100;

/// A sweep as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepView {
    /// The sweep's id.
    pub id: SweepId,
    /// The owner's name; empty without access control.
    pub owner: String,
    /// Its share of the slots.
    pub share: FairShare,
    /// True if nothing of it is given out for now.
    pub paused: bool,
    /// The spec that is computed.
    pub spec: Arc<Spec>,
    /// The same as TOML, with every default written out.
    pub text: Arc<str>,
    /// The files it was submitted with.
    pub inputs: Inputs,
    /// The sweep's state.
    pub state: SweepState,
    /// The class it runs in, once it has started.
    pub class: Option<NumericsClass>,
    /// Its jobs in order.
    pub jobs: Vec<JobView>,
    /// Result files, once complete; of an incomplete sweep, those of its complete jobs.
    pub artifacts: Vec<ArtifactRef>,
    /// Shards that failed for good, a hundred at most.
    pub failures: Vec<ShardFailure>,
    /// The time when it was accepted.
    pub submitted: Time,
    /// The time when its first shard was leased.
    pub started: Option<Time>,
    /// The time when it ended.
    pub ended: Option<Time>,
    /// Connected workers that can take its shards.
    pub workers: u32,
    /// Share of its work that is done, from 0 to 1.
    pub progress: f64,
    /// Seconds until it ends with the slots that it has now; `None` where nothing can be said.
    pub seconds_left: Option<f64>,
    /// Lines that say what it waits for or what keeps it back, the most important first; at most [`MOST_NOTICES`](super::MOST_NOTICES).
    pub notices: Vec<String>,
}

/// A job as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct JobView {
    /// The shape of what it computes.
    pub shape: JobShape,
    /// The job's state.
    pub state: JobState,
    /// The number of members of committed shards.
    pub members_done: u64,
    /// Members computed of leased shards.
    pub members_in_flight: u64,
    /// Members of shards that failed for good.
    pub members_failed: u64,
    /// Shards that a second worker is to compute.
    pub audits_due: u64,
    /// Shards, their time, retries, speculative leases and audits so far.
    pub tally: Tally,
    /// Partials that are in the store: those that were merged with their neighbours are not counted.
    pub partials: u64,
    /// Digest of the merged moments, or of the runs.
    pub digest: Option<Digest>,
    /// Share of its work that is done, from 0 to 1: the members and what is computed from them.
    pub progress: f64,
    /// Seconds until it ends; `None` where nothing can be said.
    pub seconds_left: Option<f64>,
    /// Members a second on the slots that have its shards now.
    pub members_per_second: Option<f64>,
}

/// A worker as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerView {
    /// The worker's id.
    pub id: WorkerId,
    /// The profile that it gave of itself.
    pub profile: super::WorkerProfile,
    /// Shards it holds.
    pub leases: u32,
    /// Milliseconds since it was last heard.
    pub silent_ms: u64,
    /// True if its session is open.
    pub connected: bool,
    /// The reason for which it was set aside.
    pub unfit: Option<String>,
    /// True if it takes no more shards and will leave.
    pub draining: bool,
    /// Members of its shards that were committed.
    pub members_done: u64,
    /// The job of its last committed shard, and members per second of it on all its slots.
    pub rate: Option<(String, f64)>,
    /// The words of its last failure.
    pub last_error: Option<String>,
}

impl Scheduler {
    /// A sweep as it stands.
    pub fn sweep(&self, id: &SweepId) -> Option<SweepView> {
        self.sweeps.get(id).map(|sweep| self.view(id, sweep))
    }

    /// Returns whether there is such a sweep.
    pub fn is_known(&self, id: &SweepId) -> bool {
        self.sweeps.contains_key(id)
    }

    /// The manifests of a complete sweep's jobs: what each shard yielded. `None` when it is not complete.
    pub fn manifests(&self, id: &SweepId) -> Option<Vec<(JobIndex, JobShape, InputRef)>> {
        let sweep = self.sweeps.get(id).filter(|sweep| sweep.state.is_complete())?;
        let jobs = sweep.jobs.iter().enumerate().filter_map(|(index, job)| {
            Some((JobIndex(index as u32), job.shape.clone(), job.result.as_ref()?.manifest?))
        });
        Some(jobs.collect())
    }

    /// Returns whether a sweep is known and has not ended.
    pub fn is_open(&self, id: &SweepId) -> bool {
        self.sweeps.get(id).is_some_and(|sweep| !sweep.state.has_ended())
    }

    /// Up to `limit` sweeps of owners that `seen` picks, newest first, that were submitted before the one of this
    /// number. Each comes with its number, to go on from.
    pub fn sweeps_before(
        &self,
        number: Option<u64>,
        limit: usize,
        seen: impl Fn(&str) -> bool,
    ) -> Vec<(u64, SweepView)> {
        let shown = |sweep: &Sweep| number.is_none_or(|n| sweep.number < n) && seen(&sweep.owner);
        let mut sweeps: Vec<_> = self.sweeps.iter().filter(|(_, sweep)| shown(sweep)).collect();
        sweeps.sort_by_key(|(_, sweep)| std::cmp::Reverse(sweep.number));
        sweeps.into_iter().take(limit).map(|(id, sweep)| (sweep.number, self.view(id, sweep))).collect()
    }

    /// The spec of a sweep and the shape of one of its jobs, with the number of members of a shard of it.
    pub fn shard(&self, shard: &ShardRef) -> Option<(&Spec, &JobShape, u64)> {
        let (spec, shape) = self.job_spec(&shard.job)?;
        let job = self.job(&shard.job)?;
        Some((spec, shape, job.members(job.blocks(shard.node))))
    }

    /// The spec of a sweep and the shape of one of its jobs.
    pub fn job_spec(&self, of: &JobRef) -> Option<(&Spec, &JobShape)> {
        let sweep = self.sweeps.get(&of.sweep)?;
        Some((&sweep.spec, &sweep.job(of.index)?.shape))
    }

    /// A sweep's spec as TOML, with every default written out.
    pub fn spec_text(&self, id: &SweepId) -> Option<&str> {
        self.sweeps.get(id).map(|sweep| &*sweep.text)
    }

    /// Returns a sweep's owner; `None` when there is no such sweep.
    pub fn owner(&self, id: &SweepId) -> Option<&str> {
        self.sweeps.get(id).map(|sweep| sweep.owner.as_str())
    }

    /// Returns whether what a shard yields can still be of use.
    pub fn expects(&self, shard: &ShardRef) -> bool {
        self.is_open(&shard.job.sweep) || self.is_verified(shard)
    }

    /// The files that a shard needs. An input that the sweep lacks is left out: the worker misses it and says so.
    pub fn shard_inputs(&self, shard: &ShardRef) -> Vec<ShardInput> {
        let Some(sweep) = self.sweeps.get(&shard.job.sweep) else { return Vec::new() };
        let Some(job) = sweep.job(shard.job.index) else { return Vec::new() };
        let basis = match &job.shape.basis {
            BasisSource::None => None,
            BasisSource::Input(name) => sweep.inputs.get(name).map(|input| (name.clone(), *input)),
            BasisSource::Job(_) => {
                let name = nads_file(&job.shape.architecture);
                self.artifact(&shard.job.sweep, &name).map(|a| (name, InputRef { size: a.size, digest: a.digest }))
            }
        };
        let mut inputs: Vec<_> =
            basis.into_iter().map(|(name, stored)| ShardInput { role: "basis", name, stored }).collect();
        if job.shape.experiment.is_on_images() {
            inputs.extend(sweep.spec.cifar10_files(&sweep.inputs).map(|(part, name, stored)| {
                let role = if part == ImageSet::Test { "test" } else { "train" };
                ShardInput { role, name: name.to_owned(), stored: *stored }
            }));
        }
        inputs.extend(self.checkpoint_of(shard));
        inputs
    }

    /// Returns the checkpoint of a shard that came some way in other hands.
    pub fn checkpoint_of(&self, shard: &ShardRef) -> Option<ShardInput> {
        let checkpoint = self.job(&shard.job)?.checkpoints.get(&shard.node)?;
        let ShardCheckpoint { stored, members_done, epochs } = checkpoint;
        let name = format!("checkpoint after {members_done} members and {epochs} epochs");
        Some(ShardInput { role: "checkpoint", name, stored: *stored })
    }

    /// The node over these blocks of a job, if they are one.
    pub fn node(&self, of: &JobRef, blocks: std::ops::Range<u64>) -> Option<Node> {
        Node::over(&blocks, self.job(of)?.total)
    }

    /// The blocks of a shard.
    pub fn blocks(&self, shard: &ShardRef) -> Option<std::ops::Range<u64>> {
        Some(shard.node.blocks(self.job(&shard.job)?.total))
    }

    /// Result files of the jobs of a sweep that are complete, also while others are not.
    pub fn artifacts_so_far(&self, id: &SweepId) -> impl Iterator<Item = &ArtifactRef> {
        let jobs = self.sweeps.get(id).into_iter().flat_map(|sweep| &sweep.jobs);
        jobs.filter_map(|job| job.result.as_ref()).flat_map(|result| &result.artifacts)
    }

    /// Returns what is committed of a job, while its sweep is open.
    pub fn committed(&self, of: &JobRef) -> Option<&Committed> {
        self.job(of).map(|job| &job.committed)
    }

    /// All workers that are known.
    pub fn workers(&self, now: Time) -> Vec<WorkerView> {
        let view = |(id, worker): (&WorkerId, &Worker)| WorkerView {
            id: id.clone(),
            profile: worker.profile.clone(),
            leases: worker.held.len() as u32,
            silent_ms: now.0.saturating_sub(worker.last_seen.0),
            connected: worker.connected,
            unfit: worker.set_aside_because(),
            draining: worker.draining,
            members_done: worker.members_done,
            rate: worker.rates.latest().map(|(job, seconds)| (job, f64::from(worker.profile.slots) / seconds)),
            last_error: worker.last_error.clone(),
        };
        self.workers.iter().map(view).collect()
    }

    /// Connected workers that could take the shards of a sweep.
    pub fn workers_for(&self, id: &SweepId) -> u32 {
        let Some(sweep) = self.sweeps.get(id) else { return 0 };
        self.workers.values().filter(|worker| worker.is_fit() && sweep.accepts(&worker.profile)).count() as u32
    }

    fn view(&self, id: &SweepId, sweep: &Sweep) -> SweepView {
        let forecast = self.forecast(sweep);
        let jobs = sweep.jobs.iter().zip(&forecast.jobs);
        let jobs = jobs.map(|(job, outlook)| job_view(sweep, job, outlook)).collect();
        let results = sweep.jobs.iter().filter(|_| sweep.state.has_results()).filter_map(|job| job.result.as_ref());
        SweepView {
            id: id.clone(),
            owner: sweep.owner.clone(),
            share: sweep.share,
            paused: sweep.paused,
            spec: sweep.spec.clone(),
            text: sweep.text.clone(),
            inputs: sweep.inputs.clone(),
            state: sweep.state.clone(),
            class: sweep.class.clone(),
            jobs,
            artifacts: results.flat_map(|result| result.artifacts.clone()).collect(),
            failures: sweep.failures().take(MOST_FAILURES).cloned().collect(),
            submitted: sweep.submitted,
            started: sweep.started,
            ended: sweep.ended,
            workers: self.workers_for(id),
            progress: sweep.progress(),
            seconds_left: forecast.seconds,
            notices: self.notices(sweep),
        }
    }
}

fn job_view(sweep: &Sweep, job: &Job, outlook: &JobForecast) -> JobView {
    let over = sweep.is_over(job) && job.state == JobState::Computing;
    let state = match job.state {
        _ if over => JobState::Incomplete,
        _ if sweep.waits(job) => JobState::Waiting,
        state => state,
    };
    let count = job.count();
    JobView {
        shape: job.shape.clone(),
        state,
        members_done: count.done,
        members_in_flight: count.in_flight,
        members_failed: count.failed,
        audits_due: job.audits.len() as u64,
        tally: job.tally,
        partials: job.committed.stored_len() as u64,
        digest: job.result.as_ref().map(|result| result.digest),
        progress: sweep.job_progress(job),
        seconds_left: outlook.seconds,
        members_per_second: outlook.members_per_second,
    }
}
