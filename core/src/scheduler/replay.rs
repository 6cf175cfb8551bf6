//! Resuming after a restart, and the snapshot: a shorter list of records that replays to the same state.

use super::Scheduler;
use super::effect::Effects;
use super::record::{ArtifactRef, Contribution, Record};
use super::shard::JobRef;
use super::state::{Job, Sweep, SweepState};
use crate::ids::{Digest, JobIndex, SweepId, Time};

impl Scheduler {
    /// Begins what is due after the replay: reductions that had not come back, ends that were not written.
    pub fn resume(&mut self, now: Time) -> Effects {
        self.now = self.now.max(now);
        let mut effects = Effects::default();
        for id in self.open.clone() {
            self.make_room_for_checkpoints(&id);
            self.weigh_after_withdrawal(&id);
            let jobs = self.sweeps.get(&id).map_or(0, |sweep| sweep.jobs.len() as u32);
            for index in (0..jobs).map(JobIndex) {
                let job = JobRef::new(&id, index);
                self.note_all_for_merging(&job);
                self.settle(&job, now, &mut effects);
            }
        }
        self.forget_oldest(&mut effects);
        effects
    }

    /// Shards that have a checkpoint are given out whole, so that it can be used.
    fn make_room_for_checkpoints(&mut self, id: &SweepId) {
        let Some(sweep) = self.sweeps.get_mut(id) else { return };
        for job in &mut sweep.jobs {
            for node in job.checkpoints.keys().copied().collect::<Vec<_>>() {
                let blocks = job.blocks(node);
                if job.pending.contains_all(&blocks) {
                    job.pending.remove(&blocks);
                    job.waiting.insert(blocks.start, super::state::Retry { node, not_before: Time(0) });
                }
            }
        }
    }

    /// Records that replay to this state: fewer than were written, and none of what has ended but its results.
    pub fn snapshot(&self) -> impl Iterator<Item = Record> + Send + '_ {
        let mut sweeps: Vec<(&SweepId, &Sweep)> = self.sweeps.iter().collect();
        sweeps.sort_by_key(|(_, sweep)| sweep.number);
        sweeps.into_iter().flat_map(|(id, sweep)| {
            let head = head(id, sweep);
            let jobs = sweep.jobs.iter().enumerate();
            let jobs = jobs.flat_map(move |(index, job)| of_job(JobRef::new(id, JobIndex(index as u32)), sweep, job));
            head.into_iter().chain(jobs).chain(ended(id, sweep))
        })
    }

    /// Every partial, checkpoint, result file and input that is still needed: what else lies in the store is an orphan.
    pub fn referenced(&self) -> impl Iterator<Item = Digest> + '_ {
        let kept = self.sweeps.values().flat_map(Sweep::kept_blobs);
        kept.chain(self.sweeps.values().flat_map(|sweep| &sweep.jobs).flat_map(Job::blobs_until_the_end))
    }
}

fn head(id: &SweepId, sweep: &Sweep) -> Vec<Record> {
    let mut records = vec![Record::Submitted {
        sweep: id.clone(),
        number: sweep.number,
        owner: sweep.owner.clone(),
        key: sweep.key.clone(),
        share: sweep.share,
        spec: Box::new((*sweep.spec).clone()),
        inputs: sweep.inputs.clone(),
        at: sweep.submitted,
    }];
    if let (Some(class), Some(at)) = (&sweep.class, sweep.started) {
        records.push(Record::Started { sweep: id.clone(), class: class.clone(), at });
    }
    if sweep.paused {
        records.push(Record::Paused { sweep: id.clone(), paused: true });
    }
    records
}

fn of_job<'a>(of: JobRef, sweep: &'a Sweep, job: &'a Job) -> impl Iterator<Item = Record> + Send + 'a {
    let JobRef { sweep: id, index } = of.clone();
    let tally = std::iter::once(Record::Tally { sweep: id.clone(), job: index, tally: job.tally });
    let result = job.result.clone();
    let reduced = result.map(|result| Record::Reduced { sweep: id.clone(), job: index, result });
    let quarantined = job.quarantined.values().cloned();
    let quarantined = quarantined.map(move |failure| Record::Quarantined { sweep: id.clone(), failure });
    let job_of = of.clone();
    let merged = job.committed.merged();
    let merged = merged.map(move |(node, stored)| Record::Merged { shard: job_of.shard(node), stored });
    let job_of = of.clone();
    let checkpoints = job.checkpoints.iter().map(move |(node, checkpoint)| Record::Checkpointed {
        shard: job_of.shard(*node),
        checkpoint: checkpoint.clone(),
    });
    let committed = job.committed.contributions().flat_map(move |held| {
        let shard = of.shard(held.node);
        let Some(partial) = job.committed.own_partial(&held) else {
            let Contribution { content, worker, .. } = held;
            return [Record::Absorbed { shard, content, worker }].into_iter().chain(None);
        };
        // Only the sum of seconds is kept; the tally below sets it.
        let worker = held.worker;
        let passed = sweep.audits(&shard) && !job.audits.contains_key(&job.blocks(shard.node).start);
        let audited = passed.then(|| Record::Audited { shard: shard.clone() });
        [Record::Committed { shard, partial, seconds: 0.0, worker }].into_iter().chain(audited)
    });
    committed.chain(merged).chain(checkpoints).chain(quarantined).chain(tally).chain(reduced)
}

fn ended(id: &SweepId, sweep: &Sweep) -> Option<Record> {
    let SweepState::Ended(outcome) = &sweep.state else { return None };
    Some(Record::Ended { sweep: id.clone(), outcome: outcome.clone(), at: sweep.ended.unwrap_or_default() })
}

impl Scheduler {
    /// Records that a snapshot would have, about: what compacting is worth is judged by it.
    pub fn snapshot_len(&self) -> u64 {
        let jobs = self.sweeps.values().flat_map(|sweep| &sweep.jobs);
        let of_jobs: usize = jobs
            .map(|job| {
                job.committed.len() + job.committed.stored_len() + job.checkpoints.len() + job.quarantined.len() + 2
            })
            .sum();
        (of_jobs + 3 * self.sweeps.len()) as u64
    }

    /// A result file of a complete or incomplete sweep.
    pub fn artifact(&self, id: &SweepId, name: &str) -> Option<&ArtifactRef> {
        let results = self.sweeps.get(id)?.jobs.iter().filter_map(|job| job.result.as_ref());
        results.flat_map(|result| &result.artifacts).find(|artifact| artifact.name == name)
    }
}
