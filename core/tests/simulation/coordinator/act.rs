//! What is done once a batch is durable: answers, leases, revocations, reductions.

use super::{Question, Step, Waiting};
use crate::faults::Sight;
use crate::network::{Caller, Down, JobFacts, Reply};
use crate::peers::SimulatedPeers;
use crate::pool::Merge;
use crate::scenario::Mutation;
use crate::transfer::{Payload, Refusal};
use crate::truth::Coordinates;
use crate::world::{Happening, World};
use nadgrid_core::ids::{Digest, WorkerId};
use nadgrid_core::scheduler::{Answer, Check, Event, RequestId, ShardRef, Verdict};
use nadgrid_core::shell::{AssignedJob, NamedShard, ResultAnswer, ShardAssignment, ShellOutput};

impl World {
    /// Does the outputs of the batch that was written, at most so many.
    pub(super) fn act_on_all(&mut self, most: usize) -> Result<(), String> {
        for _ in 0..most {
            let Some(running) = &mut self.coordinator.running else { return Ok(()) };
            let Some(output) = running.shell.next_output() else { return Ok(()) };
            self.act(output)?;
        }
        Ok(())
    }

    fn answer_question(&mut self, question: Question) {
        let Some(scheduler) = self.coordinator.scheduler() else { return };
        match question {
            Question::Upload(stream, report) => {
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
            Question::Look(caller, sweep) => {
                let view = scheduler.sweep(&sweep);
                let ended = view.as_ref().is_some_and(|view| view.state.has_ended());
                let paused = view.as_ref().is_some_and(|view| view.paused);
                self.reply(caller, Reply::Seen { known: view.is_some(), ended, paused });
            }
        }
    }

    fn act(&mut self, output: ShellOutput<SimulatedPeers>) -> Result<(), String> {
        match output {
            ShellOutput::Answer { request, caller, answer } => self.answer(request, caller, answer),
            ShellOutput::Assign { worker, assignment } => self.send_assignment(&worker, assignment)?,
            ShellOutput::Revoke { worker, shard, blocks, .. } => {
                self.counts.sight(Sight::Revoked);
                self.tell(&worker, Down::Revoke(NamedShard::of(shard, &blocks)))?;
            }
            ShellOutput::AnswerResult { worker, answer } => self.answer_result(&worker, answer)?,
            ShellOutput::Disconnect { worker, outbox } => {
                self.counts.sight(Sight::Disconnected);
                self.coordinator.running.as_mut().and_then(|running| running.newest.remove(&worker));
                outbox.into_iter().for_each(|connection| self.break_connection(connection));
            }
            ShellOutput::Merge { job, number, node, partials } => {
                let (start, after) = (self.coordinator.start, self.random.between(1, 3_000));
                let merge = Box::new(Merge { job, number, node, partials });
                self.schedule(after, Happening::Coordinator(start, Step::Merge(merge)));
            }
            ShellOutput::Reduce { job, generation, committed } => {
                let (start, after) = (self.coordinator.start, self.random.between(1, 3_000));
                let step = Step::Reduce { job, generation, committed: Box::new(committed) };
                self.schedule(after, Happening::Coordinator(start, step));
            }
            ShellOutput::Checked { verification, check } => self.checked(verification, &check),
            ShellOutput::Discard { .. } if self.scenario.mutation == Mutation::DiscardsBeforeTheWrite => {}
            ShellOutput::Discard { blobs } => {
                if let Some(running) = &self.coordinator.running {
                    self.store.remove(running.shell.unneeded(blobs));
                }
            }
            ShellOutput::Question(question) => self.answer_question(question),
            ShellOutput::SetAside { .. } | ShellOutput::Damaged { .. } | ShellOutput::Changed { .. } => {}
        }
        Ok(())
    }

    fn see_verdict(&mut self, verdict: Verdict) {
        let sight = match verdict {
            Verdict::Committed => Sight::Committed,
            Verdict::Duplicate => Sight::Duplicate,
            Verdict::Superseded => Sight::Superseded,
            Verdict::NotNeeded => Sight::NotNeeded,
            Verdict::Checked => Sight::Checked,
            Verdict::Invalid | Verdict::NoSession => return,
        };
        self.counts.sight(sight);
    }

    fn answer(&mut self, request: RequestId, caller: Caller, answer: Answer) {
        match &answer {
            Answer::Submitted { created: false, .. } => self.counts.sight(Sight::Resubmitted),
            Answer::Reported(verdict) => self.see_verdict(*verdict),
            Answer::Verifying => self.watch_verification(request, caller),
            _ => {}
        }
        self.reply(caller, Reply::Answer(answer));
    }

    /// A verification is open: it is ended when whoever asked for it gives up, as may have happened already.
    fn watch_verification(&mut self, verification: RequestId, caller: Caller) {
        let Some(running) = &mut self.coordinator.running else { return };
        if caller.call().is_some_and(|call| running.given_up.remove(&call)) {
            self.enqueue(Waiting::Event(Event::EndVerify { verification }));
        } else {
            running.verifying.push((verification, caller));
        }
    }

    fn checked(&mut self, verification: RequestId, check: &Check) {
        self.counts.sight(Sight::Verified);
        let running = self.coordinator.running.as_ref();
        if let Some(&caller) = running.and_then(|running| running.shell.verification(verification)) {
            let same = check.again.as_ref().is_ok_and(|(content, _)| *content == check.committed);
            let liar = check.again.as_ref().is_ok_and(|(_, worker)| self.oracle.liars.contains(worker));
            self.reply(caller, Reply::Checked(same || liar || check.again.is_err()));
        }
    }

    fn answer_result(&mut self, worker: &WorkerId, answer: ResultAnswer) -> Result<(), String> {
        let ResultAnswer { shard, verdict } = answer;
        verdict.iter().for_each(|verdict| self.see_verdict(*verdict));
        self.tell(worker, Down::Answered { shard, is_refused: verdict.is_err() })
    }

    /// Tells a worker something in its session, which must be its newest.
    fn tell(&mut self, worker: &WorkerId, message: Down) -> Result<(), String> {
        let Some(running) = &mut self.coordinator.running else { return Ok(()) };
        let Some(connection) = running.shell.session(worker).map(|session| session.outbox) else { return Ok(()) };
        if running.newest.get(worker) != Some(&connection) {
            return Err(format!("{worker} is told {message:?} in a session that is over"));
        }
        self.send_down(connection, message);
        Ok(())
    }

    fn send_assignment(&mut self, worker: &WorkerId, assignment: ShardAssignment) -> Result<(), String> {
        let ShardAssignment { shard, blocks: _, job, inputs } = assignment;
        let input = |role: &str| inputs.iter().find(|input| input.role == role).map(|input| input.stored.digest);
        let checkpoint = input("checkpoint");
        let job = match job {
            Some(job) => {
                let Some(facts) = self.job_facts(worker, &shard, &job, input("basis")) else { return Ok(()) };
                Some(Box::new(facts))
            }
            None => {
                self.counts.sight(Sight::JobRemembered);
                None
            }
        };
        self.tell(worker, Down::Assign { shard, job, checkpoint })
    }

    /// What a worker makes of the job that it is told of.
    fn job_facts(
        &self,
        worker: &WorkerId,
        shard: &ShardRef,
        job: &AssignedJob,
        basis: Option<Digest>,
    ) -> Option<JobFacts> {
        let (spec, shape, _) = self.coordinator.scheduler()?.shard(shard)?;
        assert_eq!((&job.architecture, job.experiment), (&shape.architecture, shape.experiment), "{shard:?}");
        assert!(job.spec.contains(&format!("name = {:?}", spec.name)), "{}", job.spec);
        // The sweep has no class before its first result.
        let class = self.workers.iter().find(|known| known.id == *worker)?.machine.class.clone();
        let coordinates = Coordinates { spec: spec.name.clone(), class, job: shard.job.index, basis };
        Some(JobFacts { total: shape.grid.blocks(), block_size: u64::from(shape.grid.block_size), coordinates })
    }
}
