//! What waits at the desk becomes events, and what the scheduler makes of each is looked at before anything else happens.

use super::{Asker, Command, report_event};
use crate::faults::{Fault, Sight};
use crate::network::{Down, Report, Up};
use crate::scenario::Mutation;
use crate::world::World;
use nadgrid_core::ids::WorkerId;
use nadgrid_core::scheduler::{Action, Effects, Event, Partial, PartialBytes, Record, RequestId, ShardRef, ShardStand};

impl World {
    /// Takes everything that waits.
    pub(super) fn take(&mut self) -> Result<(), String> {
        let Some(desk) = &mut self.coordinator.desk else { return Ok(()) };
        desk.woken = false;
        if desk.writing.is_some() {
            return Ok(());
        }
        let commands = std::mem::take(&mut desk.queue);
        let (mut effects, mut questions) = (Effects::default(), Vec::new());
        let mut events = 0;
        for command in commands {
            match command {
                Command::Upload(..) | Command::Look(..) => questions.push(command),
                change => {
                    if let Some(event) = self.event(change) {
                        events += 1;
                        self.handle(event, &mut effects)?;
                    }
                }
            }
        }
        if events > 1 && !effects.records.is_empty() {
            self.counts.sight(Sight::GroupCommits);
        }
        self.perform(effects, questions)
    }

    /// What a command is to the scheduler.
    fn event(&mut self, command: Command) -> Option<Event> {
        match command {
            Command::Event(event) => Some(event),
            Command::Ask(caller, event) => {
                let request = self.asked_by(Asker::Call(caller));
                if let Event::Verify { .. } = event {
                    self.coordinator.desk.as_mut()?.verifications.insert(request, caller);
                }
                Some(with_request(event, request))
            }
            Command::Broken(connection) => {
                let worker = self.worker_of(connection)?;
                self.coordinator.desk.as_mut()?.sessions.remove(&worker);
                self.trace(|_| format!("{worker}: its session has ended"));
                Some(Event::Leave { worker, drained: false })
            }
            Command::Message(connection, message) => self.message(connection, message),
            Command::Upload(..) | Command::Look(..) => None,
        }
    }

    fn asked_by(&mut self, asker: Asker) -> RequestId {
        let desk = self.coordinator.desk.as_mut().expect("somebody asks a coordinator that is up");
        desk.requests += 1;
        desk.askers.insert(RequestId(desk.requests), asker);
        RequestId(desk.requests)
    }

    /// Whose session a connection is, if it was not replaced.
    fn worker_of(&self, connection: u64) -> Option<WorkerId> {
        let mut sessions = self.coordinator.desk.as_ref()?.sessions.iter();
        sessions.find(|(_, current)| **current == connection).map(|(worker, _)| worker.clone())
    }

    fn message(&mut self, connection: u64, message: Up) -> Option<Event> {
        if let Up::Hello { worker, profile, held } = message {
            return Some(self.attach(connection, worker, *profile, held));
        }
        let Some(worker) = self.worker_of(connection) else {
            self.counts.fault(Fault::StaleSession);
            return None;
        };
        let scheduler = self.coordinator.scheduler()?;
        let exists = |shard: &ShardRef| scheduler.blocks(shard).is_some_and(|blocks| !blocks.is_empty());
        match message {
            Up::Hello { .. } => None,
            Up::Heartbeat => Some(Event::Alive { worker }),
            Up::Draining => Some(Event::Draining { worker }),
            Up::Progress(shard, blocks_done) => {
                let stand = ShardStand { blocks_done, ..ShardStand::default() };
                exists(&shard).then_some(Event::Progress { worker, shard, stand })
            }
            Up::Computed(shard) => exists(&shard).then_some(Event::Computed { worker, shard }),
            Up::Failed(shard, kind, message) => {
                exists(&shard).then_some(Event::Failed { worker, shard, kind, message })
            }
            Up::Result(report) => self.result(connection, *report),
            Up::Goodbye => {
                self.coordinator.desk.as_mut()?.sessions.remove(&worker);
                self.break_connection(connection);
                Some(Event::Leave { worker, drained: true })
            }
        }
    }

    fn attach(
        &mut self,
        connection: u64,
        worker: WorkerId,
        profile: nadgrid_core::scheduler::WorkerProfile,
        mut held: Vec<ShardRef>,
    ) -> Event {
        if let Some(scheduler) = self.coordinator.scheduler() {
            held.retain(|shard| scheduler.blocks(shard).is_some_and(|blocks| !blocks.is_empty()));
        }
        let replaced = self.coordinator.desk.as_mut().and_then(|desk| desk.sessions.insert(worker.clone(), connection));
        if let Some(replaced) = replaced {
            self.break_connection(replaced);
        }
        held.iter().for_each(|_| self.counts.sight(Sight::Brought));
        self.send_down(connection, Down::Welcome);
        Event::Join { worker, profile, held }
    }

    /// A result that came in the session.
    fn result(&mut self, connection: u64, report: Report) -> Option<Event> {
        let scheduler = self.coordinator.scheduler()?;
        let known = scheduler.blocks(&report.shard).is_some_and(|blocks| !blocks.is_empty());
        if !known || !scheduler.expects(&report.shard) {
            self.counts.sight(Sight::NotNeeded);
            self.send_down(connection, Down::Answered(report.shard));
            return None;
        }
        let request = self.asked_by(Asker::Session(report.worker.clone(), report.shard.clone()));
        let partial = Partial { bytes: PartialBytes::Inline(report.bytes.as_slice().into()), ..report.partial.clone() };
        Some(with_request(report_event(Report { partial, ..report }), request))
    }

    /// Applies an event, and looks at what the scheduler makes of it.
    fn handle(&mut self, event: Event, effects: &mut Effects) -> Result<(), String> {
        let now = self.clock();
        let event = if self.scenario.mutation == Mutation::AuditsAgree { self.agreeing(event) } else { event };
        self.trace(|_| format!("{event:?}"));
        let reporter = if let Event::Report { worker, .. } = &event { Some(worker.clone()) } else { None };
        let Some(desk) = &mut self.coordinator.desk else { return Ok(()) };
        let (records, actions) = (effects.records.len(), effects.actions.len());
        desk.latest = desk.latest.max(now.0);
        desk.scheduler.handle_into(event, now, effects);
        effects.records.retain(|record| !self.scenario.mutation.hides(record));
        desk.scheduler.sanity_check()?;
        if let Some(deadline) = desk.scheduler.next_deadline().filter(|at| at.0 <= desk.latest) {
            return Err(format!(
                "the next deadline, {deadline:?}, is not after {}: it would tick for ever",
                desk.latest
            ));
        }
        for record in &effects.records[records..] {
            self.trace(|_| format!("  record {record:?}"));
            self.note(record);
            if self.oracle.believes(record, reporter.as_ref()) {
                self.counts.sight(Sight::SelfAudited);
            }
            self.oracle.decided(record, &self.scenario)?;
        }
        effects.actions[actions..].iter().try_for_each(|action| self.check_action(action))
    }

    /// The event as it would be if whoever compares always saw what is committed.
    fn agreeing(&self, mut event: Event) -> Event {
        if let Event::Report { shard, partial, .. } = &mut event
            && let Some(job) = self.oracle.model.job(shard).filter(|job| job.has(shard.node))
            && let Some((_, content, _)) = job.committed.get(&shard.node.blocks(job.total).start)
        {
            partial.content = *content;
        }
        event
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
            Record::Copied { .. } => self.counts.sight(Sight::Copied),
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
