//! What people see of the state: snapshots, and the check that the state makes sense.

use super::state::{JobState, Sweep, SweepState};
use super::{ArtifactRef, Scheduler, ShardInput, ShardRef};
use crate::grid::Node;
use crate::ids::{Digest, JobIndex, SweepId, Time, WorkerId};
use crate::numerics::NumericsClass;
use crate::spec::{BasisSource, InputRef, Inputs, JobShape, Part, Spec, nads_file};

/// A sweep as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepView {
    /// Its id.
    pub id: SweepId,
    /// What is computed.
    pub spec: Spec,
    /// The files it was submitted with.
    pub inputs: Inputs,
    /// Where it stands.
    pub state: SweepState,
    /// The class it runs in, once it has started.
    pub class: Option<NumericsClass>,
    /// Its jobs in order.
    pub jobs: Vec<JobView>,
    /// Result files, once complete.
    pub artifacts: Vec<ArtifactRef>,
    /// When it was accepted.
    pub submitted: Time,
    /// When its first shard was leased.
    pub started: Option<Time>,
    /// When it ended.
    pub ended: Option<Time>,
    /// Connected workers that can take its shards.
    pub workers: u32,
}

/// A job as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct JobView {
    /// What it computes.
    pub shape: JobShape,
    /// Where it stands.
    pub state: JobState,
    /// Members of committed shards.
    pub members_done: u64,
    /// Members computed of leased shards.
    pub members_in_flight: u64,
    /// Lane-seconds of committed shards.
    pub lane_seconds: f64,
    /// Committed shards.
    pub shards: u64,
    /// Shards given out again.
    pub retries: u64,
    /// Digest of the merged moments, or of the runs.
    pub digest: Option<Digest>,
}

/// A worker as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerView {
    /// Its id.
    pub id: WorkerId,
    /// What it says of itself.
    pub profile: super::WorkerProfile,
    /// Shards it holds.
    pub leases: u32,
    /// Milliseconds since it was last heard.
    pub silent_ms: u64,
    /// Whether its session is open.
    pub connected: bool,
    /// Why it was set aside.
    pub unfit: Option<String>,
}

impl Scheduler {
    /// A sweep as it stands.
    pub fn sweep(&self, id: &SweepId) -> Option<SweepView> {
        self.sweeps.get(id).map(|sweep| self.view(id, sweep))
    }

    /// Whether a sweep is known and has not ended.
    pub fn is_open(&self, id: &SweepId) -> bool {
        self.sweeps.get(id).is_some_and(|sweep| !sweep.state.has_ended())
    }

    /// Whose a sweep is; `None` when there is no such sweep.
    pub fn owner(&self, id: &SweepId) -> Option<&str> {
        self.sweeps.get(id).map(|sweep| sweep.owner.as_str())
    }

    /// Up to `limit` sweeps of owners that `seen` picks, newest first, that were submitted before the one of this
    /// number. Each comes with its number, to go on from.
    pub fn sweeps_before(
        &self,
        number: Option<u64>,
        limit: usize,
        seen: impl Fn(&str) -> bool,
    ) -> Vec<(u64, SweepView)> {
        let before = |sweep: &Sweep| number.is_none_or(|n| sweep.number < n) && seen(&sweep.owner);
        let mut sweeps: Vec<_> = self.sweeps.iter().filter(|(_, sweep)| before(sweep)).collect();
        sweeps.sort_by_key(|(_, sweep)| std::cmp::Reverse(sweep.number));
        sweeps.into_iter().take(limit).map(|(id, sweep)| (sweep.number, self.view(id, sweep))).collect()
    }

    /// A result file of a complete sweep.
    pub fn artifact(&self, id: &SweepId, name: &str) -> Option<&ArtifactRef> {
        let results = self.sweeps.get(id)?.jobs.iter().filter_map(|job| job.result.as_ref());
        results.flat_map(|result| &result.artifacts).find(|artifact| artifact.name == name)
    }

    /// The spec of a sweep and the shape of one of its jobs, with the number of members of a shard of it.
    pub fn shard(&self, shard: &ShardRef) -> Option<(&Spec, &JobShape, u64)> {
        let sweep = self.sweeps.get(&shard.sweep)?;
        let job = sweep.jobs.get(shard.job.0 as usize)?;
        Some((&sweep.spec, &job.shape, job.members(shard.node.blocks(job.total))))
    }

    /// The files that a shard needs. An input that the sweep lacks is left out: the worker misses it and says so.
    pub fn shard_inputs(&self, shard: &ShardRef) -> Vec<ShardInput> {
        let Some(sweep) = self.sweeps.get(&shard.sweep) else { return Vec::new() };
        let Some(job) = sweep.jobs.get(shard.job.0 as usize) else { return Vec::new() };
        let basis = match &job.shape.basis {
            BasisSource::None => None,
            BasisSource::Input(name) => sweep.inputs.get(name).map(|input| (name.clone(), *input)),
            BasisSource::Job(_) => {
                let name = nads_file(&job.shape.architecture);
                self.artifact(&shard.sweep, &name).map(|a| (name, InputRef { size: a.size, digest: a.digest }))
            }
        };
        let mut inputs: Vec<_> =
            basis.into_iter().map(|(name, stored)| ShardInput { role: "basis", name, stored }).collect();
        if job.shape.experiment.is_on_images() {
            inputs.extend(sweep.spec.cifar10_files(&sweep.inputs).map(|(part, name, stored)| {
                let role = if part == Part::Test { "test" } else { "train" };
                ShardInput { role, name: name.to_owned(), stored: *stored }
            }));
        }
        inputs
    }

    /// The node over these blocks of a job, if they are one.
    pub fn node(&self, sweep: &SweepId, job: JobIndex, blocks: std::ops::Range<u64>) -> Option<Node> {
        let job = self.sweeps.get(sweep)?.jobs.get(job.0 as usize)?;
        Node::over(&blocks, job.total)
    }

    /// The blocks of a shard.
    pub fn blocks(&self, shard: &ShardRef) -> Option<std::ops::Range<u64>> {
        let job = self.sweeps.get(&shard.sweep)?.jobs.get(shard.job.0 as usize)?;
        Some(shard.node.blocks(job.total))
    }

    /// All workers that are known.
    pub fn workers(&self, now: Time) -> Vec<WorkerView> {
        let view = |(id, worker): (&WorkerId, &super::state::Worker)| WorkerView {
            id: id.clone(),
            profile: worker.profile.clone(),
            leases: worker.leases.len() as u32,
            silent_ms: now.0.saturating_sub(worker.last_seen.0),
            connected: worker.connected,
            unfit: worker.unfit.clone(),
        };
        self.workers.iter().map(view).collect()
    }

    fn view(&self, id: &SweepId, sweep: &Sweep) -> SweepView {
        let jobs: Vec<JobView> = (0..sweep.jobs.len()).map(|index| self.job_view(id, sweep, index)).collect();
        let complete = matches!(sweep.state, SweepState::Complete { .. });
        let results = sweep.jobs.iter().filter(|_| complete).filter_map(|job| job.result.as_ref());
        SweepView {
            id: id.clone(),
            spec: (*sweep.spec).clone(),
            inputs: sweep.inputs.clone(),
            state: sweep.state.clone(),
            class: sweep.class.clone(),
            jobs,
            artifacts: results.flat_map(|result| result.artifacts.clone()).collect(),
            submitted: sweep.submitted,
            started: sweep.started,
            ended: sweep.ended,
            workers: self.workers_for(id),
        }
    }

    fn job_view(&self, id: &SweepId, sweep: &Sweep, index: usize) -> JobView {
        let job = &sweep.jobs[index];
        let leased = self.leases.iter().filter(|(shard, _)| shard.sweep == *id && shard.job.0 as usize == index);
        let in_flight = leased.map(|(shard, lease)| {
            let start = shard.node.blocks(job.total).start;
            job.members(start..start + lease.blocks_done)
        });
        // A block has a fixed number of members, except the last: count members, not blocks.
        let short = job.total * u64::from(job.shape.grid.block_size) - job.shape.grid.networks;
        let last_done = job.blocks_committed > 0 && job.committed_within(&(job.total - 1..job.total)) == 1;
        let whole = job.blocks_committed * u64::from(job.shape.grid.block_size);
        let ended = job.committed.is_empty() && job.blocks_committed == job.total;
        JobView {
            shape: job.shape.clone(),
            state: if sweep.waits(job) { JobState::Waiting } else { job.state },
            members_done: whole - if last_done || ended { short } else { 0 },
            members_in_flight: in_flight.sum(),
            lane_seconds: job.lane_seconds,
            shards: job.shards_committed,
            retries: job.retries,
            digest: job.result.as_ref().map(|result| result.digest),
        }
    }

    /// Whether every block is in exactly one place and every index agrees; the first disagreement in words.
    ///
    /// # Errors
    /// What disagrees. A scheduler that ever returns one has a bug.
    pub fn sanity_check(&self) -> Result<(), String> {
        for (id, sweep) in &self.sweeps {
            if sweep.state.has_ended() == self.open.contains(id) {
                return Err(format!("{id} is {:?} and its place among the open sweeps is wrong", sweep.state));
            }
            for index in 0..if sweep.state.has_ended() { 0 } else { sweep.jobs.len() } {
                self.check_job(id, sweep, index)?;
            }
        }
        for (shard, lease) in &self.leases {
            let worker = self.workers.get(&lease.worker).ok_or_else(|| format!("{shard:?} is leased to nobody"))?;
            if !worker.leases.contains(shard) {
                return Err(format!("{:?} does not know of its lease {shard:?}", lease.worker));
            }
        }
        let held: usize = self.workers.values().map(|worker| worker.leases.len()).sum();
        if held == self.leases.len() { Ok(()) } else { Err(format!("{held} leases held, {} given", self.leases.len())) }
    }

    fn check_job(&self, id: &SweepId, sweep: &Sweep, index: usize) -> Result<(), String> {
        let job = &sweep.jobs[index];
        let leased = self.leases.keys().filter(|shard| shard.sweep == *id && shard.job.0 as usize == index);
        let mut places: Vec<(std::ops::Range<u64>, &str)> = job.pending.iter().map(|r| (r, "pending")).collect();
        places.extend(job.waiting.keys().map(|node| (node.blocks(job.total), "waiting")));
        places.extend(leased.map(|shard| (shard.node.blocks(job.total), "leased")));
        places.extend(job.committed.values().map(|(node, _)| (node.blocks(job.total), "committed")));
        places.sort_by_key(|(range, _)| range.start);
        let mut next = 0;
        for (range, place) in &places {
            if range.start != next {
                return Err(format!("{id} job {index}: block {next} is followed by {range:?} ({place}): {places:?}"));
            }
            next = range.end;
        }
        let committed: u64 =
            job.committed.values().map(|(node, _)| node.blocks(job.total)).map(|r| r.end - r.start).sum();
        let whole = committed == job.total;
        if next != job.total || committed != job.blocks_committed || whole != (job.state != JobState::Computing) {
            return Err(format!(
                "{id} job {index}: {next} of {} blocks, {committed} committed, {:?}",
                job.total, job.state
            ));
        }
        Ok(())
    }
}
