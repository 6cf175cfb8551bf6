//! Users: each submits one sweep and does with it what it has in mind, asking again until it is answered.

use crate::network::{Caller, Reply, Request};
use crate::world::{Happening, World};
use nadgrid_core::ids::{JobIndex, SweepId};
use nadgrid_core::scheduler::{Answer, Claim, JobRef};
use std::collections::VecDeque;

/// What a user wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Submit,
    Pause(bool),
    Cancel,
    /// Look again and again until the sweep has ended.
    SeeTheEnd,
    Verify,
}

/// A user.
#[derive(Debug)]
pub(crate) struct User {
    plan: usize,
    wishes: VecDeque<(u64, Wish)>,
    /// The sweep, once it is acknowledged.
    sweep: Option<SweepId>,
    /// The current call: answers to earlier ones are nothing to it.
    call: u64,
    /// Shards of which the user waits to hear.
    claims: usize,
}

impl User {
    /// Whether nothing is left to wish for.
    pub(crate) fn is_done(&self) -> bool {
        self.wishes.is_empty()
    }

    /// Its sweep, once it is acknowledged.
    pub(crate) fn sweep(&self) -> Option<&SweepId> {
        self.sweep.as_ref()
    }
}

impl World {
    /// A user with a plan.
    pub(crate) fn add_user(&mut self, index: usize) {
        let plan = &self.scenario.plans[index];
        let submit_at = plan.submit_at;
        let mut wishes = VecDeque::from([(submit_at, Wish::Submit)]);
        if let Some((from, until)) = plan.pause {
            wishes.extend([(from, Wish::Pause(true)), (until, Wish::Pause(false))]);
        }
        wishes.extend(plan.cancel_at.map(|at| (at, Wish::Cancel)));
        wishes.push_back((0, Wish::SeeTheEnd));
        wishes.extend(plan.verify.then_some((0, Wish::Verify)));
        self.users.push(User { plan: index, wishes, sweep: None, call: 0, claims: 0 });
        self.schedule(submit_at, Happening::User(index, 0));
    }

    /// A user asks for what it wants, if it has not heard since it last asked.
    pub(crate) fn user_step(&mut self, index: usize, call: u64) -> Result<(), String> {
        let user = &mut self.users[index];
        let Some(&(at, wish)) = user.wishes.front().filter(|_| user.call == call) else { return Ok(()) };
        if at > self.time {
            self.schedule(at - self.time, Happening::User(index, call));
            return Ok(());
        }
        if wish == Wish::Verify && user.claims > 0 {
            // It has waited for long enough.
            self.request(Caller::User { index, call }, Request::GiveUpVerifying);
        }
        let Some(request) = self.wished(index, wish) else { return self.fulfilled(index) };
        self.users[index].call += 1;
        let call = self.users[index].call;
        self.request(Caller::User { index, call }, request);
        let patience = if wish == Wish::Verify { 60_000 } else { 10_000 };
        let after = self.random.between(patience / 2, patience);
        self.schedule(after, Happening::User(index, call));
        Ok(())
    }

    /// The request of a wish; `None` when there is nothing to ask for.
    fn wished(&mut self, index: usize, wish: Wish) -> Option<Request> {
        let user = &self.users[index];
        if wish == Wish::Submit {
            return Some(Request::Submit(user.plan));
        }
        let sweep = user.sweep.clone()?;
        match wish {
            Wish::Submit => None,
            Wish::Pause(paused) => Some(Request::Pause(sweep, paused)),
            Wish::Cancel => Some(Request::Cancel(sweep)),
            Wish::SeeTheEnd => Some(Request::Look(sweep)),
            Wish::Verify => {
                let claims = self.claims(&sweep);
                self.users[index].claims = claims.len();
                (!claims.is_empty()).then_some(Request::Verify(claims))
            }
        }
    }

    /// Some blocks of a complete sweep, with what the uninterrupted run gives: what was committed, since it is complete.
    fn claims(&mut self, id: &SweepId) -> Vec<Claim> {
        let Some(sweep) = self.oracle.model.sweeps.get(id) else { return Vec::new() };
        let jobs = sweep.jobs.iter().enumerate().filter(|(_, job)| job.result.is_some());
        let totals: Vec<(JobIndex, u64)> = jobs.map(|(index, job)| (JobIndex(index as u32), job.total)).collect();
        let complete = matches!(sweep.outcome, Some(nadgrid_core::scheduler::SweepOutcome::Complete { .. }));
        let mut claims: Vec<Claim> = Vec::new();
        for (job, total) in totals.into_iter().filter(|_| complete) {
            let node = nadgrid_core::grid::Node::block(self.random.below(total));
            let shard = JobRef::new(id, job).shard(node);
            let content = self.oracle.model.sweeps[id].value(&shard, &self.scenario);
            let worker = nadgrid_core::ids::WorkerId::new("whoever");
            claims.extend(content.map(|content| Claim { shard, content, worker }));
        }
        claims
    }

    /// An answer comes.
    pub(crate) fn user_hears(&mut self, index: usize, call: u64, reply: Reply) -> Result<(), String> {
        let user = &mut self.users[index];
        let Some(&(_, wish)) = user.wishes.front().filter(|_| user.call == call) else { return Ok(()) };
        match (wish, reply) {
            (Wish::Submit, Reply::Answer(Answer::Submitted { sweep, created })) => {
                self.acknowledged(index, sweep, created)?;
            }
            (Wish::Pause(_) | Wish::Cancel, Reply::Answer(answer)) => self.changed(index, &answer)?,
            (Wish::SeeTheEnd, Reply::Seen { known, ended, paused }) => {
                if !known {
                    self.is_forgotten(index)?;
                }
                if known && !ended {
                    if paused {
                        // An old request came late.
                        self.users[index].wishes.push_front((self.time, Wish::Pause(false)));
                    }
                    let call = self.next_call(index);
                    self.schedule(3_000, Happening::User(index, call));
                    return Ok(());
                }
            }
            (Wish::Verify, Reply::Answer(Answer::Verifying)) => return Ok(()),
            (Wish::Verify, Reply::Checked(same)) => {
                if !same {
                    return Err(format!("a shard of {:?} is not what it was", self.users[index].sweep));
                }
                let user = &mut self.users[index];
                user.claims -= 1;
                if user.claims > 0 {
                    return Ok(());
                }
            }
            (wish, reply) => return Err(format!("{wish:?} is answered by {reply:?}")),
        }
        self.fulfilled(index)
    }

    /// A submission is answered: by the same sweep each time, which exists.
    fn acknowledged(&mut self, index: usize, sweep: SweepId, created: bool) -> Result<(), String> {
        let name = &self.scenario.plans[self.users[index].plan].spec.name;
        let known = self.oracle.model.sweeps.get(&sweep).is_some_and(|facts| facts.name == *name);
        if !known && !self.oracle.forgotten.contains(&sweep) {
            return Err(format!("{sweep} was acknowledged (created: {created}) and is not there"));
        }
        self.users[index].sweep = Some(sweep);
        Ok(())
    }

    fn changed(&mut self, index: usize, answer: &Answer) -> Result<(), String> {
        match answer {
            Answer::Done => Ok(()),
            Answer::UnknownSweep => self.is_forgotten(index),
            other => Err(format!("a change is answered by {other:?}")),
        }
    }

    fn is_forgotten(&self, index: usize) -> Result<(), String> {
        let sweep = self.users[index].sweep.clone().unwrap_or_default();
        match self.oracle.forgotten.contains(&sweep) {
            true => Ok(()),
            false => Err(format!("{sweep} was acknowledged and is unknown")),
        }
    }

    fn next_call(&mut self, index: usize) -> u64 {
        self.users[index].call += 1;
        self.users[index].call
    }

    /// On to the next wish.
    fn fulfilled(&mut self, index: usize) -> Result<(), String> {
        self.users[index].wishes.pop_front();
        let call = self.next_call(index);
        self.schedule(1, Happening::User(index, call));
        Ok(())
    }
}
