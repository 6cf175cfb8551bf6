//! Records change the state here: the one place where what a restart must know again is changed.
//!
//! Handlers decide and [`Scheduler::record`] what they have decided; [`Scheduler::replay`] applies what was recorded before. So a
//! coordinator that was restarted knows what the one that lived did. Deliberately absent: decisions, and whatever is not
//! journalled (leases, waits, rates, the queue), which handlers change themselves and [`Scheduler::resume`] makes anew.

use super::Scheduler;
use super::effect::Effects;
use super::ended::EndedKey;
use super::record::{Contribution, Record, SweepOutcome};
use super::shard::JobRef;
use super::state::{Job, JobState, Submission, Sweep, SweepState};
use crate::ids::{SweepId, Time};

impl Scheduler {
    /// Applies a record of the journal. Records come in the order in which they were written, before any event.
    pub fn replay(&mut self, record: Record) {
        self.apply(&record);
        self.learn_from_record(&record);
    }

    /// Changes the state by a fact that was just decided, which goes into the journal.
    pub(super) fn record(&mut self, record: Record, effects: &mut Effects) {
        self.apply(&record);
        effects.records.push(record);
    }

    fn apply(&mut self, record: &Record) {
        match record {
            Record::Submitted { sweep: id, number, owner, key, share, spec, inputs, at } => {
                let number = if *number == 0 { self.submissions + 1 } else { *number };
                let new = Submission {
                    owner: owner.clone(),
                    key: key.clone(),
                    share: *share,
                    spec: spec.clone(),
                    inputs: inputs.clone(),
                };
                self.open(id, Sweep::new(new, number, *at));
            }
            Record::Started { sweep, class, at } => {
                if let Some(sweep) = self.sweeps.get_mut(sweep) {
                    sweep.class = Some(class.clone());
                    sweep.started = Some(*at);
                    sweep.state = SweepState::Running;
                }
            }
            Record::Paused { sweep, paused } => {
                if let Some(sweep) = self.sweeps.get_mut(sweep) {
                    sweep.paused = *paused;
                }
            }
            Record::Committed { shard, partial, seconds, worker } => {
                self.change(&shard.job, |job| {
                    job.clear_way(&job.blocks(shard.node));
                    job.commit(shard.node, partial, worker, *seconds);
                });
                self.audit_if_drawn(shard);
            }
            Record::Absorbed { shard, content, worker } => self.change(&shard.job, |job| {
                job.clear_way(&job.blocks(shard.node));
                job.absorb(&Contribution { node: shard.node, content: *content, worker: worker.clone() });
            }),
            Record::Merged { shard, stored } => self.change(&shard.job, |job| job.committed.merge(shard.node, *stored)),
            Record::Audited { shard } => self.change(&shard.job, |job| {
                let start = job.blocks(shard.node).start;
                job.tally.audits += u64::from(job.audits.remove(&start).is_some());
            }),
            Record::Withdrawn { shard } => self.change(&shard.job, |job| job.withdraw(shard.node)),
            Record::Retried { shard } => self.change(&shard.job, |job| job.tally.retries += 1),
            Record::Speculated { shard } => self.change(&shard.job, |job| job.tally.speculative += 1),
            Record::Checkpointed { shard, checkpoint } => self.change(&shard.job, |job| {
                job.checkpoints.insert(shard.node, checkpoint.clone());
            }),
            Record::Quarantined { sweep, failure } => {
                self.change(&JobRef::new(sweep, failure.job), |job| job.quarantine(failure.clone()));
            }
            Record::Reduced { sweep, job, result } => {
                self.change(&JobRef::new(sweep, *job), |job| {
                    job.state = JobState::Complete;
                    job.result = Some(result.clone());
                });
            }
            Record::Ended { sweep, outcome, at } => self.close(sweep, outcome, *at),
            Record::Forgotten { sweep } => self.forget(sweep),
            Record::Tally { sweep, job, tally } => {
                self.change(&JobRef::new(sweep, *job), |job| {
                    job.tally = *tally;
                    job.note_whether_incomplete();
                });
            }
        }
    }

    fn change(&mut self, job: &JobRef, change: impl FnOnce(&mut Job)) {
        if let Some(job) = self.job_mut(job) {
            change(job);
        }
    }

    fn open(&mut self, id: &SweepId, sweep: Sweep) {
        if let Some(key) = &sweep.key {
            self.keys.insert((sweep.owner.clone(), key.clone()), id.clone());
        }
        self.submissions = self.submissions.max(sweep.number);
        self.sweeps.insert(id.clone(), sweep);
        self.open.insert(id.clone());
    }

    fn close(&mut self, id: &SweepId, outcome: &SweepOutcome, at: Time) {
        self.open.remove(id);
        let Some(sweep) = self.sweeps.get_mut(id) else { return };
        sweep.ended = Some(at);
        sweep.state = SweepState::Ended(outcome.clone());
        sweep.jobs.iter_mut().for_each(Job::close);
        sweep.weigh();
        let place = EndedKey { at, number: sweep.number, size: sweep.size() };
        self.ended.insert(sweep.owner.clone(), place, id.clone());
    }

    fn forget(&mut self, id: &SweepId) {
        let Some(sweep) = self.sweeps.remove(id) else { return };
        if let Some(at) = sweep.ended {
            self.ended.remove(&sweep.owner, &EndedKey { at, number: sweep.number, size: sweep.size() });
        }
        if let Some(key) = &sweep.key {
            self.keys.remove(&(sweep.owner.clone(), key.clone()));
        }
    }

    /// Rates are not journalled: those of classes are learned again from what was committed.
    fn learn_from_record(&mut self, record: &Record) {
        match record {
            Record::Committed { shard, seconds, .. } => {
                let members = self.job(&shard.job).map_or(0, |job| job.members(job.blocks(shard.node)));
                self.learn_from_journal(&shard.job, members, *seconds);
            }
            Record::Tally { sweep, job, tally } => {
                let job = JobRef::new(sweep, *job);
                let block_size = self.job(&job).map_or(0, |job| job.shape.grid.block_size);
                self.learn_from_journal(&job, tally.blocks * u64::from(block_size), tally.slot_seconds);
            }
            _ => {}
        }
    }
}
