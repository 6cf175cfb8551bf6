//! The state after a restart: the journal's records in order, then what is due.

use super::state::{JobState, SweepState};
use super::{Effects, Record, Scheduler};
use crate::ids::{Digest, JobIndex, SweepId, Time};

impl Scheduler {
    /// Applies a record of the journal. Records come in the order in which they were written, before any event.
    pub fn replay(&mut self, record: Record) {
        match record {
            Record::Submitted { sweep, owner, key, spec, inputs, at } => {
                self.insert_sweep(sweep, (owner, key), (spec, inputs), at);
            }
            Record::Started { sweep, class, at } => {
                if let Some(sweep) = self.sweeps.get_mut(&sweep) {
                    sweep.class = Some(class);
                    sweep.started = Some(at);
                    sweep.state = SweepState::Running;
                }
            }
            Record::Committed { shard, partial, seconds } => {
                if let Some(job) = self.job_mut(&shard.sweep, shard.job) {
                    job.commit(shard.node, partial, seconds);
                }
            }
            Record::Withdrawn { shard } => {
                if let Some(job) = self.job_mut(&shard.sweep, shard.job) {
                    job.withdraw(shard.node);
                }
            }
            Record::Reduced { sweep, job, result } => {
                if let Some(job) = self.job_mut(&sweep, job) {
                    job.state = JobState::Complete;
                    job.result = Some(result);
                }
            }
            Record::Ended { sweep, outcome, at } => drop(self.close(&sweep, outcome, at)),
        }
    }

    fn job_mut(&mut self, sweep: &SweepId, job: JobIndex) -> Option<&mut super::state::Job> {
        self.sweeps.get_mut(sweep)?.jobs.get_mut(job.0 as usize)
    }

    /// What is due after the replay: reductions that had not come back, ends that were not written.
    pub fn resume(&mut self, now: Time) -> Effects {
        let mut effects = Effects::default();
        for id in self.open.clone() {
            let jobs = self.sweeps.get(&id).map_or(0, |sweep| sweep.jobs.len());
            for index in 0..jobs {
                self.reduce_if_whole(&id, JobIndex(index as u32), &mut effects);
            }
            if let Some(sweep) = self.sweeps.get(&id)
                && sweep.jobs.iter().all(|job| job.state == JobState::Complete)
            {
                let digest = Self::result_digest(sweep);
                self.end(&id, super::Outcome::Complete { digest }, now, &mut effects);
            }
        }
        effects
    }

    /// Every partial, result file and input of an open sweep that is still needed: what else lies in the store is an orphan.
    pub fn referenced(&self) -> impl Iterator<Item = Digest> {
        let open = self.sweeps.values().filter(|sweep| !sweep.state.has_ended());
        let inputs = open.flat_map(|sweep| sweep.inputs.values().map(|input| input.digest));
        let jobs = self.sweeps.values().flat_map(|sweep| &sweep.jobs).flat_map(|job| {
            let partials = job.committed.values().map(|(_, digest)| *digest);
            let results = job.result.iter().flat_map(|result| result.artifacts.iter().map(|a| a.digest));
            partials.chain(results)
        });
        inputs.chain(jobs)
    }
}
