//! Verifications: shards of a complete sweep are computed again because a user wants to see it.
//!
//! They are not journalled: who asked is connected, and asks again after a restart. They go before everything else, since
//! somebody waits and they are few.

use super::Scheduler;
use super::effect::{Action, Check, Effects};
use super::event::Answer;
use super::failures::Gone;
use super::shard::{Claim, Partial, RequestId, ShardRef};
use super::state::Worker;
use crate::ids::{SweepId, WorkerId};

/// Verifications that may be open at once.
const MOST: usize = 64;

/// The shards that a user wants computed again.
#[derive(Debug)]
pub(super) struct Verification {
    tasks: Vec<VerificationTask>,
}

#[derive(Debug)]
struct VerificationTask {
    claim: Claim,
    holder: Option<WorkerId>,
    failures: u32,
}

impl Scheduler {
    pub(super) fn verify(&mut self, request: RequestId, claims: Vec<Claim>, effects: &mut Effects) {
        let answer = match self.verifications.len() {
            open if open < MOST => {
                let tasks =
                    claims.into_iter().map(|claim| VerificationTask { claim, holder: None, failures: 0 }).collect();
                self.verifications.insert(request, Verification { tasks });
                self.wake_all = true;
                Answer::Verifying
            }
            _ => Answer::TooManyVerifications { limit: MOST },
        };
        effects.actions.push(Action::Answer { request, answer });
    }

    pub(super) fn end_verify(&mut self, request: RequestId, effects: &mut Effects) {
        let Some(verification) = self.verifications.remove(&request) else { return };
        for task in verification.tasks {
            if let Some(worker) = &task.holder {
                self.revoke(worker, &task.claim.shard, "the verification has ended", effects);
            }
        }
    }

    /// Ends what is to be computed again of a sweep that is about to be forgotten.
    pub(super) fn end_verifications_of(&mut self, sweep: &SweepId, effects: &mut Effects) {
        let tasks = self.verifications.iter().flat_map(|(request, open)| open.tasks.iter().map(move |t| (*request, t)));
        let of_sweep = tasks.filter(|(_, task)| task.claim.shard.job.sweep == *sweep);
        let due: Vec<_> = of_sweep.map(|(r, task)| (r, task.claim.shard.clone(), task.holder.clone())).collect();
        for (request, shard, holder) in due {
            if let Some(worker) = holder {
                self.revoke(&worker, &shard, "the sweep is not kept any more", effects);
            }
            self.conclude(request, &shard, Err("the sweep is not kept any more".to_owned()), effects);
        }
    }

    /// Returns whether a shard is to be computed again for somebody.
    pub fn is_verified(&self, shard: &ShardRef) -> bool {
        self.verifications.values().flat_map(|verification| &verification.tasks).any(|task| task.claim.shard == *shard)
    }

    pub(super) fn choose_verification(&self, worker: &Worker) -> Option<(RequestId, ShardRef)> {
        self.verifications.iter().find_map(|(request, verification)| {
            let open = verification.tasks.iter().filter(|task| task.holder.is_none());
            let mut fitting = open.map(|task| &task.claim.shard).filter(|shard| {
                let accepted = self.sweeps.get(&shard.job.sweep).is_some_and(|sweep| sweep.accepts(&worker.profile));
                accepted && !worker.held.contains_key(shard)
            });
            fitting.next().map(|shard| (*request, shard.clone()))
        })
    }

    fn task(&mut self, request: RequestId, shard: &ShardRef) -> Option<&mut VerificationTask> {
        self.verifications.get_mut(&request)?.tasks.iter_mut().find(|task| task.claim.shard == *shard)
    }

    pub(super) fn verification_held(&mut self, request: RequestId, shard: &ShardRef, holder: Option<&WorkerId>) {
        if let Some(task) = self.task(request, shard) {
            task.holder = holder.cloned();
        }
    }

    /// Takes in what came out this time.
    pub(super) fn verified(
        &mut self,
        id: &WorkerId,
        request: RequestId,
        shard: &ShardRef,
        partial: &Partial,
        effects: &mut Effects,
    ) {
        self.conclude(request, shard, Ok((partial.content, id.clone())), effects);
    }

    /// A shard could not be computed again here: it is tried a few times.
    pub(super) fn verification_failed(
        &mut self,
        request: RequestId,
        shard: &ShardRef,
        how: Gone<'_>,
        effects: &mut Effects,
    ) {
        let most = self.settings.most_attempts;
        let Some(task) = self.task(request, shard) else { return };
        let message = match how {
            Gone::Released => return,
            Gone::Lost => "the worker was lost",
            Gone::Failed(message) => message,
        };
        task.failures += 1;
        if task.failures >= most {
            let message = format!("it failed {} times, last: {message}", task.failures);
            self.conclude(request, shard, Err(message), effects);
        }
    }

    fn conclude(
        &mut self,
        request: RequestId,
        shard: &ShardRef,
        again: Result<(crate::ids::Digest, WorkerId), String>,
        effects: &mut Effects,
    ) {
        let Some(verification) = self.verifications.get_mut(&request) else { return };
        let Some(place) = verification.tasks.iter().position(|task| task.claim.shard == *shard) else { return };
        let Claim { shard, content, worker } = verification.tasks.swap_remove(place).claim;
        if verification.tasks.is_empty() {
            self.verifications.remove(&request);
        }
        let check = Check { shard, committed: content, committed_by: worker, again };
        effects.actions.push(Action::Checked { verification: request, check });
    }
}
