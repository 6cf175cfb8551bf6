//! What is done once a batch is durable: answers, leases, revocations, reductions.

use super::{Asker, Command, Step};
use crate::faults::Sight;
use crate::network::{Assignment, Down, Reply};
use crate::pool::Merge;
use crate::scenario::Mutation;
use crate::transfer::{Payload, Refusal};
use crate::truth::Coordinates;
use crate::world::{Happening, World};
use nadgrid_core::ids::WorkerId;
use nadgrid_core::scheduler::{Action, Answer, RequestId, ShardRef, Verdict};

impl World {
    pub(super) fn answer_question(&mut self, question: Command) {
        let Some(scheduler) = self.coordinator.scheduler() else { return };
        match question {
            Command::Upload(stream, report) => {
                let known = scheduler.blocks(&report.shard).is_some_and(|blocks| !blocks.is_empty());
                let taken = scheduler.takes_report(&report.worker, &report.shard);
                if known && scheduler.expects(&report.shard) {
                    match taken {
                        Some(true) => self.wait_for_place(stream, Payload::Partial(report)),
                        Some(false) => self.conclude(stream, Reply::Answer(Answer::Reported(Verdict::NotNeeded))),
                        None => self.refuse(stream, Refusal::NoSession),
                    }
                } else {
                    self.counts.sight(Sight::NotNeeded);
                    assert!(!self.oracle.model.lacks(&report.shard), "a result is turned away: {:?}", report.shard);
                    self.conclude(stream, Reply::Answer(Answer::Reported(Verdict::NotNeeded)));
                }
            }
            Command::Look(caller, sweep) => {
                let view = scheduler.sweep(&sweep);
                let ended = view.as_ref().is_some_and(|view| view.state.has_ended());
                let paused = view.as_ref().is_some_and(|view| view.paused);
                self.reply(caller, Reply::Seen { known: view.is_some(), ended, paused });
            }
            _ => {}
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Answer { request, answer } => self.answer(request, answer),
            Action::Lease { worker, shard } => self.send_assignment(&worker, shard),
            Action::Revoke { worker, shard, .. } => {
                self.counts.sight(Sight::Revoked);
                self.tell(&worker, Down::Revoke(shard));
            }
            Action::Disconnect { worker } => {
                self.counts.sight(Sight::Disconnected);
                let session = self.coordinator.desk.as_mut().and_then(|desk| desk.sessions.remove(&worker));
                session.into_iter().for_each(|connection| self.break_connection(connection));
            }
            Action::Merge { job, number, node, partials } => {
                let (start, after) = (self.coordinator.start, self.random.between(1, 3_000));
                let merge = Box::new(Merge { job, number, node, partials });
                self.schedule(after, Happening::Desk(start, Step::Merge(merge)));
            }
            Action::Reduce { job, generation, committed } => {
                let (start, after) = (self.coordinator.start, self.random.between(1, 3_000));
                let committed = Box::new(committed);
                self.schedule(after, Happening::Desk(start, Step::Reduce { job, generation, committed }));
            }
            Action::Checked { verification, check } => {
                self.counts.sight(Sight::Verified);
                let caller = self.coordinator.desk.as_ref().and_then(|desk| desk.verifications.get(&verification));
                if let Some(&caller) = caller {
                    let same = check.again.as_ref().is_ok_and(|(content, _)| *content == check.committed);
                    let liar = check.again.as_ref().is_ok_and(|(_, worker)| self.oracle.liars.contains(worker));
                    self.reply(caller, Reply::Checked(same || liar || check.again.is_err()));
                }
            }
            Action::Discard { .. } if self.scenario.mutation == Mutation::DiscardsBeforeTheWrite => {}
            Action::Discard { blobs } => {
                if let Some(scheduler) = self.coordinator.desk.as_ref().map(|desk| &desk.scheduler) {
                    self.store.remove(blobs, scheduler.referenced());
                }
            }
            Action::SetAside { .. } | Action::Damaged { .. } | Action::Changed { .. } => {}
        }
    }

    fn see_verdict(&mut self, verdict: Verdict) {
        let sight = match verdict {
            Verdict::Committed => Sight::Committed,
            Verdict::Duplicate => Sight::Duplicate,
            Verdict::Superseded => Sight::Superseded,
            Verdict::NotNeeded => Sight::NotNeeded,
            Verdict::Checked => Sight::Checked,
            // Leases are given when the class is durable: no worker computes in another.
            Verdict::Invalid | Verdict::NoSession => return,
        };
        self.counts.sight(sight);
    }

    fn answer(&mut self, request: RequestId, answer: Answer) {
        let asker = self.coordinator.desk.as_mut().and_then(|desk| desk.askers.remove(&request));
        match &answer {
            Answer::Submitted { created: false, .. } => self.counts.sight(Sight::Resubmitted),
            Answer::Reported(verdict) => self.see_verdict(*verdict),
            _ => {}
        }
        match (asker, answer) {
            (Some(Asker::Call(caller)), answer) => self.reply(caller, Reply::Answer(answer)),
            (Some(Asker::Session(worker, shard)), Answer::Reported(_)) => {
                self.tell(&worker, Down::Answered(shard));
            }
            _ => {}
        }
    }

    fn tell(&mut self, worker: &WorkerId, message: Down) {
        let session = self.coordinator.desk.as_ref().and_then(|desk| desk.sessions.get(worker).copied());
        if let Some(connection) = session {
            self.send_down(connection, message);
        }
    }

    fn send_assignment(&mut self, worker: &WorkerId, shard: ShardRef) {
        let Some(scheduler) = self.coordinator.scheduler() else { return };
        let Some((spec, shape, _)) = scheduler.shard(&shard) else { return };
        let inputs = scheduler.shard_inputs(&shard);
        let input = |role: &str| inputs.iter().find(|input| input.role == role).map(|input| input.stored.digest);
        // The sweep has none before its first result.
        let machine = self.workers.iter().find(|known| known.id == *worker);
        let Some(class) = machine.map(|known| known.machine.class.clone()) else { return };
        let coordinates = Coordinates { spec: spec.name.clone(), class, job: shard.job.index, basis: input("basis") };
        let (total, block_size) = (shape.grid.blocks(), u64::from(shape.grid.block_size));
        let checkpoint = input("checkpoint");
        let assignment = Assignment { shard, total, block_size, coordinates, checkpoint };
        self.tell(worker, Down::Assign(Box::new(assignment)));
    }
}
