//! What waits is taken in, and what the shell makes of each is looked at before anything else happens.

use super::{Running, Waiting, report_event};
use crate::faults::{Fault, Sight};
use crate::network::{Caller, Down, Report, Up};
use crate::scenario::Mutation;
use crate::truth;
use crate::world::World;
use nadgrid_core::ids::{Digest, Time, WorkerId};
use nadgrid_core::numerics::NumericsClass;
use nadgrid_core::scheduler::{
    Action, Event, Partial, Record, RequestId, ShardRef, ShardStand, Verdict, WorkerProfile,
};
use nadgrid_core::shell::{InlineResult, JoiningWorker, NamedShard, SessionNumber, WorkerMessage};

/// How much of the open batch has been looked at.
#[derive(Clone, Copy, Default)]
struct Seen {
    records: usize,
    actions: usize,
    refusals: usize,
}

impl Running {
    /// What must hold of the scheduler after each event.
    fn check(&self) -> Result<(), String> {
        self.shell.scheduler().sanity_check()?;
        let latest = self.latest;
        match self.shell.next_deadline().filter(|at| at.0 <= latest) {
            Some(deadline) => {
                Err(format!("the next deadline, {deadline:?}, is not after {latest}: it would tick for ever"))
            }
            None => Ok(()),
        }
    }
}

impl World {
    /// Takes everything that waits.
    pub(super) fn take(&mut self) -> Result<(), String> {
        let Some(running) = &mut self.coordinator.running else { return Ok(()) };
        running.woken = false;
        if running.writing.is_some() {
            return Ok(());
        }
        let waiting = std::mem::take(&mut running.queue);
        let mut changes = 0;
        for waiting in waiting {
            changes += usize::from(!matches!(waiting, Waiting::Question(_)));
            self.take_in_and_look(waiting)?;
        }
        let writes =
            self.coordinator.running.as_ref().is_some_and(|running| !running.shell.open_batch().records().is_empty());
        if changes > 1 && writes {
            self.counts.sight(Sight::GroupCommits);
        }
        self.perform()
    }

    fn seen(&self) -> Seen {
        let Some(running) = &self.coordinator.running else { return Seen::default() };
        let batch = running.shell.open_batch();
        Seen { records: batch.records().len(), actions: batch.actions().len(), refusals: batch.refusals().len() }
    }

    /// Takes something in, and looks at what comes of it.
    fn take_in_and_look(&mut self, waiting: Waiting) -> Result<(), String> {
        let reporter = match &waiting {
            Waiting::Ask(_, Event::Report { worker, .. }) => Some(worker.clone()),
            Waiting::Message(_, Up::Result(_, report)) => Some(report.worker.clone()),
            _ => None,
        };
        let seen = self.seen();
        let now = self.clock();
        let heard = self.coordinator.running.as_ref().map(|running| running.heard);
        self.take_in(waiting, now)?;
        if let Some(running) = self.coordinator.running.as_mut().filter(|running| Some(running.heard) != heard) {
            running.latest = running.latest.max(now.0);
            running.check()?;
        }
        self.look_at_batch(seen, reporter.as_ref())
    }

    /// Looks at what the shell has made of what it took in last.
    fn look_at_batch(&mut self, seen: Seen, reporter: Option<&WorkerId>) -> Result<(), String> {
        let Some(running) = &self.coordinator.running else { return Ok(()) };
        let batch = running.shell.open_batch();
        let mut records = batch.records()[seen.records..].to_vec();
        records.retain(|record| !self.scenario.mutation.hides(record));
        let actions = batch.actions()[seen.actions..].to_vec();
        let refusals = batch.refusals()[seen.refusals..].to_vec();
        for (worker, answer) in refusals {
            self.check_refusal(&worker, &answer.shard, answer.verdict)?;
        }
        for record in &records {
            self.decided(record, reporter)?;
        }
        actions.iter().try_for_each(|action| self.check_action(action))
    }

    /// The scheduler has decided something.
    pub(super) fn decided(&mut self, record: &Record, reporter: Option<&WorkerId>) -> Result<(), String> {
        self.trace(|_| format!("  record {record:?}"));
        self.note(record);
        if self.oracle.believes(record, reporter) {
            self.counts.sight(Sight::SelfAudited);
        }
        self.oracle.decided(record, &self.scenario)
    }

    fn take_in(&mut self, waiting: Waiting, now: Time) -> Result<(), String> {
        match waiting {
            Waiting::Event(event) => self.event(event, now),
            Waiting::Ask(caller, event) => self.ask(caller, event, now),
            Waiting::Question(question) => {
                if let Some(running) = &mut self.coordinator.running {
                    running.shell.question(question);
                }
            }
            Waiting::Message(connection, Up::Hello { worker, profile, held }) => {
                self.attach(connection, worker, *profile, held, now);
            }
            Waiting::Message(connection, Up::Goodbye) => {
                self.end_session(connection, true, now)?;
                self.break_connection(connection);
            }
            Waiting::Message(connection, message) => return self.message(connection, message, now),
            Waiting::Broken(connection) => return self.end_session(connection, false, now),
        }
        Ok(())
    }

    fn event(&mut self, event: Event, now: Time) {
        self.trace(|_| format!("{event:?}"));
        if let Some(running) = &mut self.coordinator.running {
            running.shell.event(event, now, &mut running.heard);
        }
    }

    fn ask(&mut self, caller: Caller, event: Event, now: Time) {
        let event = self.mutated(event);
        self.trace(|_| format!("{event:?}"));
        let Some(running) = &mut self.coordinator.running else { return };
        match event {
            Event::Verify { claims, .. } => running.shell.verify(claims, caller, caller, now, &mut running.heard),
            // Payloads are reported even when nobody waits for the answer any more.
            event @ (Event::Report { .. } | Event::Checkpointed { .. }) => {
                running.shell.ask(|request| with_request(event, request), caller, now, &mut running.heard);
            }
            event => running.shell.order(|request| with_request(event, request), caller, now, &mut running.heard),
        }
    }

    /// The connection of a session that is over, if that is what this one is.
    fn session_is_over(&self, connection: u64, worker: &WorkerId) -> bool {
        self.coordinator.running.as_ref().is_some_and(|running| running.newest.get(worker) != Some(&connection))
    }

    /// Everything that what is said in a session that is over must not change.
    fn everything(&self) -> String {
        let Some(running) = &self.coordinator.running else { return String::new() };
        format!("{:?} {}", running.shell.scheduler(), running.shell.open_batch().outputs())
    }

    /// The session of a connection; with this mutation the worker's newest instead.
    fn session_of(&self, connection: u64, mutation: Mutation) -> Option<(WorkerId, SessionNumber)> {
        let running = self.coordinator.running.as_ref()?;
        let (worker, session) = running.listening.get(&connection)?;
        let newest = running.newest.get(worker).and_then(|newest| running.listening.get(newest));
        let mutated = newest.filter(|_| self.scenario.mutation == mutation).map(|(_, newest)| *newest);
        Some((worker.clone(), mutated.unwrap_or(*session)))
    }

    /// A worker says something. What it says in a session that is over changes nothing.
    fn message(&mut self, connection: u64, message: Up, now: Time) -> Result<(), String> {
        let Some((worker, session)) = self.session_of(connection, Mutation::HearsOldSessions) else { return Ok(()) };
        let is_over = self.session_is_over(connection, &worker);
        let before = is_over.then(|| self.everything());
        self.trace(|_| format!("{worker}, in session {}: {message:?}", session.0));
        let message = self.read_message(message);
        let Some(running) = &mut self.coordinator.running else { return Ok(()) };
        running.shell.message(worker.clone(), session, message, now, &mut running.heard);
        self.has_changed_nothing(&worker, before)
    }

    /// A session ends, with a goodbye or without. The end of one that is over changes nothing.
    fn end_session(&mut self, connection: u64, drained: bool, now: Time) -> Result<(), String> {
        let Some((worker, session)) = self.session_of(connection, Mutation::EndsNewSessions) else { return Ok(()) };
        let is_over = self.session_is_over(connection, &worker);
        let before = is_over.then(|| self.everything());
        self.trace(|_| format!("{worker}: session {} has ended", session.0));
        let Some(running) = &mut self.coordinator.running else { return Ok(()) };
        running.listening.remove(&connection);
        if !is_over {
            running.newest.remove(&worker);
        }
        running.shell.detach(worker.clone(), session, drained, now, &mut running.heard);
        self.has_changed_nothing(&worker, before)
    }

    fn has_changed_nothing(&mut self, worker: &WorkerId, before: Option<String>) -> Result<(), String> {
        let Some(before) = before else { return Ok(()) };
        self.counts.fault(Fault::StaleSession);
        match self.everything() == before {
            true => Ok(()),
            false => Err(format!("{worker} is heard in a session that is over, and it counts")),
        }
    }

    fn attach(&mut self, connection: u64, worker: WorkerId, profile: WorkerProfile, held: Vec<NamedShard>, now: Time) {
        self.trace(|_| format!("{worker} joins by {connection} and holds {held:?}"));
        let Some(running) = &mut self.coordinator.running else { return };
        let brought = held.iter().filter(|shard| running.shell.find_shard(shard).is_some()).count();
        let joining = JoiningWorker { worker: worker.clone(), profile, held, outbox: connection };
        let attached = running.shell.attach(joining, now, &mut running.heard);
        running.listening.insert(connection, (worker.clone(), attached.session));
        let before = running.newest.insert(worker, connection);
        assert_eq!(before, attached.replaced, "the session that is replaced is the one before");
        (0..brought).for_each(|_| self.counts.sight(Sight::Brought));
        attached.replaced.into_iter().for_each(|replaced| self.break_connection(replaced));
        self.send_down(connection, Down::Welcome);
    }

    /// What a worker says, as it comes out of the wire.
    fn read_message(&self, message: Up) -> WorkerMessage {
        match message {
            Up::Progress(shard, blocks_done) => {
                WorkerMessage::Progress { shard, stand: ShardStand { blocks_done, ..ShardStand::default() } }
            }
            Up::Computed(shard) => WorkerMessage::Computed { shard },
            Up::Failed(shard, kind, message) => WorkerMessage::Failed { shard, kind, message },
            Up::Result(shard, report) => {
                let Event::Report { class, partial, .. } = self.mutated(report_event((*report).clone())) else {
                    return WorkerMessage::Alive;
                };
                let Report { seconds, bytes, .. } = *report;
                let data = if partial.content == report.partial.content {
                    bytes
                } else {
                    truth::partial_bytes(partial.content, 0)
                };
                let digest = Digest::of(&data).to_string();
                let class = Some(class);
                let result =
                    InlineResult { shard, class, data, digest, seconds, begin_seconds: 0.0, steps: Vec::new() };
                WorkerMessage::Result(Box::new(result))
            }
            Up::Draining => WorkerMessage::Draining,
            // Sessions begin and end elsewhere.
            Up::Heartbeat | Up::Hello { .. } | Up::Goodbye => WorkerMessage::Alive,
        }
    }

    /// A report as it would be if the mutation were in whoever takes it.
    fn mutated(&self, mut event: Event) -> Event {
        let Event::Report { shard, partial, class, .. } = &mut event else { return event };
        match self.scenario.mutation {
            // Whoever compares always sees what is committed.
            Mutation::AuditsAgree => {
                *partial = Partial { content: self.agreed(shard, partial.content), ..partial.clone() }
            }
            Mutation::TakesAnyClass => *class = self.class_of(shard).unwrap_or_else(|| class.clone()),
            _ => {}
        }
        event
    }

    fn agreed(&self, shard: &ShardRef, content: Digest) -> Digest {
        let job = self.oracle.model.job(shard).filter(|job| job.has(shard.node));
        let held = job.and_then(|job| job.committed.get(&shard.node.blocks(job.total).start));
        held.map_or(content, |(_, held, _)| *held)
    }

    fn class_of(&self, shard: &ShardRef) -> Option<NumericsClass> {
        self.oracle.model.sweeps.get(&shard.job.sweep)?.class.clone()
    }

    /// A result that is wanted and in its worker's hands is not turned away.
    fn check_refusal(
        &self,
        worker: &WorkerId,
        shard: &NamedShard,
        verdict: Result<Verdict, String>,
    ) -> Result<(), String> {
        verdict.map_err(|why| format!("a result of {shard:?} by {worker} is refused: {why}"))?;
        let Some(running) = &self.coordinator.running else { return Ok(()) };
        let Some(found) = running.shell.find_shard(shard) else { return Ok(()) };
        let is_held = running.shell.scheduler().holds(worker, &found);
        match is_held && self.oracle.model.lacks(&found) {
            true => Err(format!("a result is turned away: {found:?}")),
            false => Ok(()),
        }
    }

    pub(super) fn note(&mut self, record: &Record) {
        match record {
            Record::Paused { paused: true, .. } => self.counts.sight(Sight::Paused),
            Record::Withdrawn { shard } => {
                self.counts.sight(Sight::Withdrawn);
                if self.oracle.model.job(shard).is_some_and(|job| !job.has(shard.node)) {
                    self.counts.sight(Sight::MergedWithdrawn);
                }
            }
            Record::Merged { .. } => self.counts.sight(Sight::Merged),
            Record::Speculated { .. } => self.counts.sight(Sight::Speculated),
            Record::Audited { .. } => self.counts.sight(Sight::Audited),
            Record::Quarantined { .. } => self.counts.sight(Sight::Quarantined),
            Record::Forgotten { .. } => self.counts.sight(Sight::Forgotten),
            _ => {}
        }
    }

    /// What may be asked of the shell, given the facts.
    fn check_action(&mut self, action: &Action) -> Result<(), String> {
        self.trace(|_| match action {
            Action::Changed { .. } => String::new(),
            action => format!("  action {action:?}"),
        });
        match action {
            Action::Lease { worker, shard } => self.check_lease(worker, shard),
            Action::SetAside { worker, reason } if reason.contains("differ") => {
                self.counts.sight(Sight::Distrusted);
                match self.oracle.liars.contains(worker) || !self.oracle.deceived.is_empty() {
                    true => Ok(()),
                    false => Err(format!("{worker} is honest and set aside: {reason}")),
                }
            }
            _ => Ok(()),
        }
    }

    /// Only what is open, not paused and not committed is leased, but for what is computed to be compared.
    fn check_lease(&self, worker: &WorkerId, shard: &ShardRef) -> Result<(), String> {
        let is_verified = self.coordinator.scheduler().is_some_and(|scheduler| scheduler.is_verified(shard));
        if is_verified {
            return Ok(());
        }
        let sweep = self.oracle.model.sweeps.get(&shard.job.sweep).ok_or("a lease of no sweep")?;
        let job = self.oracle.model.job(shard).ok_or("a lease of no job")?;
        let machine = self.workers.iter().find(|known| known.id == *worker).map(|known| &known.machine.class);
        let needed = match job.shape.basis {
            nadgrid_core::spec::BasisSource::Job(needed) => sweep.jobs[needed.0 as usize].result.is_some(),
            _ => true,
        };
        let wrong = [
            (sweep.outcome.is_some(), "has ended"),
            (sweep.paused, "is paused"),
            (job.meets(shard.node) && !(sweep.audited && job.has(shard.node)), "is committed"),
            (machine.zip(sweep.class.as_ref()).is_some_and(|(class, own)| class != own), "is of another class"),
            (!needed, "waits for another job"),
        ];
        match wrong.into_iter().find(|(is, _)| *is) {
            Some((_, why)) => Err(format!("{shard:?} is leased to {worker}, but {why}")),
            None => Ok(()),
        }
    }
}

/// An event that is asked, with the id of its request.
fn with_request(mut event: Event, id: RequestId) -> Event {
    match &mut event {
        Event::Submit { request, .. }
        | Event::Cancel { request, .. }
        | Event::Pause { request, .. }
        | Event::Verify { request, .. }
        | Event::Checkpointed { request, .. }
        | Event::Report { request, .. } => *request = id,
        _ => {}
    }
    event
}
