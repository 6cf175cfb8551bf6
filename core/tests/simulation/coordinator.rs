//! The coordinator as its desk is: it takes all that waits, applies it, writes the records in one go, and then acts.
//!
//! Everything here but the scheduler is lost in a crash, which may come between any two steps.

use crate::faults::{Fault, Sight};
use crate::journal;
use crate::network::{Assignment, Caller, Down, Reply, Report, Request, Up};
use crate::pool::Merge;
use crate::scenario::Mutation;
use crate::truth::Coordinates;
use crate::world::{Happening, World};
use nadgrid_core::ids::{Digest, JobIndex, SweepId, Time, WorkerId};
use nadgrid_core::scheduler::{
    Action, Answer, Committed, Effects, Event, Partial, PartialBytes, Record, RequestId, Scheduler, ShardRef,
    ShardStand, Verdict,
};
use nadgrid_core::spec::Inputs;
use std::collections::{BTreeMap, BTreeSet};

/// What is due at the coordinator.
pub(crate) enum Step {
    /// It is started.
    Start,
    /// Something waits to be taken.
    Take,
    /// A write has come to its end.
    Written,
    /// The scheduler's deadline.
    Tick,
    /// A blob was stored: the upload is reported.
    Stored(Caller, Box<Report>),
    /// A checkpoint was stored.
    Checkpointed(Caller, Box<Event>),
    /// A merge has come to its end.
    Merge(Box<Merge>),
    /// A reduction has come to its end.
    Reduce { sweep: SweepId, job: JobIndex, generation: u64, committed: Box<Committed> },
}

/// What waits at the desk.
pub(crate) enum Command {
    Event(Event),
    Ask(Caller, Event),
    Message(u64, Up),
    Broken(u64),
    /// Whether an upload can be of use; if so it is stored.
    Upload(Caller, Box<Report>),
    Look(Caller, SweepId),
}

/// Who waits for the answer to a request.
enum Asker {
    Call(Caller),
    Session(WorkerId, ShardRef),
}

/// What a crash leaves of a batch.
#[derive(Clone, Copy, PartialEq)]
enum Crash {
    BeforeWrite,
    Torn,
    AfterWrite,
    AmidActions,
}

/// A batch under way.
struct Batch {
    records: Vec<Record>,
    actions: Vec<Action>,
    questions: Vec<Command>,
    crash: Option<Crash>,
}

/// What a crash takes.
struct Desk {
    scheduler: Scheduler,
    queue: Vec<Command>,
    /// Whether somebody will look into the queue.
    woken: bool,
    writing: Option<Batch>,
    askers: BTreeMap<RequestId, Asker>,
    requests: u64,
    /// Sessions: connections by workers.
    sessions: BTreeMap<WorkerId, u64>,
    verifications: BTreeMap<RequestId, Caller>,
    tick_at: Option<u64>,
    /// The latest time that the scheduler has heard of.
    latest: u64,
}

/// The coordinator, up or down.
#[derive(Default)]
pub(crate) struct Coordinator {
    /// How often it was started.
    pub(crate) start: u64,
    /// How much its clock is ahead.
    pub(crate) clock: u64,
    desk: Option<Desk>,
}

impl Coordinator {
    /// Whether it is up.
    pub(crate) fn is_up(&self) -> bool {
        self.desk.is_some()
    }

    /// Its scheduler, if it is up.
    pub(crate) fn scheduler(&self) -> Option<&Scheduler> {
        self.desk.as_ref().map(|desk| &desk.scheduler)
    }

    /// Blobs that can be computed again.
    pub(crate) fn partials_and_checkpoints(&self) -> Vec<Digest> {
        let Some(scheduler) = self.scheduler() else { return Vec::new() };
        let blob = |record: Record| match record {
            Record::Committed { partial, .. } => partial.blob(),
            Record::Merged { stored, .. } => Some(stored),
            Record::Checkpointed { checkpoint, .. } => Some(checkpoint.stored.digest),
            _ => None,
        };
        scheduler.snapshot().filter_map(blob).collect()
    }
}

impl World {
    /// What its clock says. Never 0, so that it can go back.
    fn clock(&self) -> Time {
        Time(1_000_000 + self.time + self.coordinator.clock)
    }

    /// How long the scheduler's time stands still, because the clock went back.
    pub(crate) fn lag(&self) -> u64 {
        self.coordinator.desk.as_ref().map_or(0, |desk| desk.latest.saturating_sub(self.clock().0))
    }

    /// Something is due, if the coordinator is still the same that it was due at.
    pub(crate) fn desk(&mut self, start: u64, step: Step) -> Result<(), String> {
        if start != self.coordinator.start {
            match step {
                Step::Reduce { .. } => self.counts.fault(Fault::ReductionLost),
                Step::Merge(..) => self.counts.fault(Fault::MergeLost),
                _ => {}
            }
            return Ok(());
        }
        match step {
            Step::Start => return self.start_coordinator(),
            _ if !self.coordinator.is_up() => return Ok(()),
            Step::Take => return self.take(),
            Step::Written => return self.written(),
            Step::Tick => {
                self.coordinator.desk.as_mut().ok_or("down")?.tick_at = None;
                self.enqueue(Command::Event(Event::Tick));
            }
            Step::Stored(caller, report) => {
                let digest = self.store.put(report.bytes.clone());
                if Some(digest) != report.partial.blob() {
                    return Err("an upload of other bytes than its partial's".to_owned());
                }
                self.enqueue(Command::Ask(caller, report_event(*report)));
            }
            Step::Checkpointed(caller, event) => self.enqueue(Command::Ask(caller, *event)),
            Step::Merge(..) | Step::Reduce { .. }
                if self.strikes(self.scenario.rates.store_fails, Fault::StoreFails) =>
            {
                let after = self.random.between(1_000, 30_000);
                self.schedule(after, Happening::Desk(start, step));
            }
            Step::Merge(merge) => self.merge(*merge),
            Step::Reduce { sweep, job, generation, committed } => self.reduce(sweep, job, generation, &committed),
        }
        Ok(())
    }

    /// Something waits to be taken.
    pub(crate) fn enqueue(&mut self, command: Command) {
        let Some(desk) = &mut self.coordinator.desk else { return };
        desk.queue.push(command);
        if !desk.woken && desk.writing.is_none() {
            desk.woken = true;
            let (start, after) = (self.coordinator.start, self.random.between(0, 3));
            self.schedule(after, Happening::Desk(start, Step::Take));
        }
    }

    /// A request arrives.
    pub(crate) fn request_arrives(&mut self, caller: Caller, request: Request, sent_in: u64) {
        if !self.coordinator.is_up() {
            return;
        }
        if sent_in != self.coordinator.start {
            self.counts.fault(Fault::RequestAcrossRestart);
        }
        // The real request is made with its id; here the id is filled in when it is applied.
        let request_id = RequestId(0);
        let command = match request {
            Request::Upload(report) => Command::Upload(caller, report),
            Request::Checkpoint { worker, shard, checkpoint, bytes } => {
                self.store.put(bytes);
                let event = Event::Checkpointed { request: request_id, worker, shard, checkpoint };
                let (start, after) = (self.coordinator.start, self.random.between(0, 10));
                return self.schedule(after, Happening::Desk(start, Step::Checkpointed(caller, Box::new(event))));
            }
            Request::Submit(plan) => Command::Ask(caller, self.submission(plan)),
            Request::Pause(sweep, paused) => Command::Ask(caller, Event::Pause { request: request_id, sweep, paused }),
            Request::Cancel(sweep) => Command::Ask(caller, Event::Cancel { request: request_id, sweep }),
            Request::Look(sweep) => Command::Look(caller, sweep),
            Request::Verify(claims) => Command::Ask(caller, Event::Verify { request: request_id, claims }),
            Request::GiveUpVerifying => {
                let verifications = self.coordinator.desk.as_ref().map(|desk| &desk.verifications);
                let open = verifications.and_then(|open| open.iter().find(|(_, asker)| asker.is_same(&caller)));
                let Some((&verification, _)) = open else { return };
                Command::Event(Event::EndVerify { verification })
            }
        };
        self.enqueue(command);
    }

    fn submission(&mut self, plan: usize) -> Event {
        let id = SweepId::new(format!("{plan}-{:x}", self.random.next()));
        let plan = &self.scenario.plans[plan];
        Event::Submit {
            request: RequestId(0),
            id,
            owner: "somebody".to_owned(),
            key: Some(plan.spec.name.clone()),
            share: plan.share,
            spec: plan.spec.clone(),
            inputs: Inputs::new(),
        }
    }

    /// A message of a session arrives.
    pub(crate) fn message_arrives(&mut self, connection: u64, message: Up) {
        self.enqueue(Command::Message(connection, message));
    }

    /// A connection is known to be broken.
    pub(crate) fn broken_above(&mut self, connection: u64) {
        self.enqueue(Command::Broken(connection));
    }

    /// Takes everything that waits.
    fn take(&mut self) -> Result<(), String> {
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

    fn note(&mut self, record: &Record) {
        match record {
            Record::Paused { paused: true, .. } => self.counts.sight(Sight::Paused),
            Record::Withdrawn { shard } => {
                self.counts.sight(Sight::Withdrawn);
                if self.oracle.model.job(shard).is_some_and(|job| !job.has(shard.node)) {
                    self.counts.sight(Sight::MergedWithdrawn);
                }
            }
            Record::Merged { .. } => self.counts.sight(Sight::Merged),
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
        let sweep = self.oracle.model.sweeps.get(&shard.sweep).ok_or("a lease of no sweep")?;
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
            (machine.is_some_and(|class| Some(class) != sweep.class.as_ref()), "is of another class"),
            (!needed, "waits for another job"),
        ];
        match wrong.into_iter().find(|(is, _)| *is) {
            Some((_, why)) => Err(format!("{shard:?} is leased to {worker}, but {why}")),
            None => Ok(()),
        }
    }

    /// Durable first, then everything else; unless a crash comes.
    fn perform(&mut self, effects: Effects, questions: Vec<Command>) -> Result<(), String> {
        let Effects { records, actions } = effects;
        let crash = self.draw_crash(!records.is_empty());
        let batch = Batch { records, actions, questions, crash };
        if self.scenario.mutation == Mutation::DiscardsBeforeTheWrite {
            self.discard_early(&batch.actions);
        }
        if crash == Some(Crash::BeforeWrite) {
            return self.crash();
        }
        if self.scenario.mutation == Mutation::ActsBeforeTheWrite {
            self.oracle.promise(&batch.records)?;
        }
        let is_empty = batch.records.is_empty();
        self.coordinator.desk.as_mut().ok_or("down")?.writing = Some(batch);
        if is_empty {
            return self.written();
        }
        let slow = self.strikes(self.scenario.rates.slow_write, Fault::SlowWrite);
        let after = if slow { self.random.between(100, 5_000) } else { self.random.between(0, 5) };
        self.schedule(after, Happening::Desk(self.coordinator.start, Step::Written));
        Ok(())
    }

    fn discard_early(&mut self, actions: &[Action]) {
        let Some(scheduler) = self.coordinator.desk.as_ref().map(|desk| &desk.scheduler) else { return };
        for action in actions {
            let Action::Discard { blobs } = action else { continue };
            self.store.remove(blobs.clone(), scheduler.referenced());
        }
    }

    fn draw_crash(&mut self, writes: bool) -> Option<Crash> {
        if self.calm || !self.random.chance(self.scenario.rates.crash_in_batch) {
            return None;
        }
        let (crash, fault) = match self.random.below(if writes { 4 } else { 1 }) {
            0 => (Crash::AmidActions, Fault::CrashAmidActions),
            1 => (Crash::BeforeWrite, Fault::CrashBeforeWrite),
            2 => (Crash::Torn, Fault::TornTail),
            _ => (Crash::AfterWrite, Fault::CrashAfterWrite),
        };
        self.counts.fault(fault);
        Some(crash)
    }

    /// A batch has been written, or what a crash leaves of it.
    fn written(&mut self) -> Result<(), String> {
        let batch = self.coordinator.desk.as_mut().and_then(|desk| desk.writing.take()).ok_or("nothing is written")?;
        if batch.crash == Some(Crash::Torn) {
            let share = self.random.unit();
            self.journal.append_torn(&journal::lines(&batch.records), share);
            return self.crash();
        }
        if !batch.records.is_empty() {
            self.journal.append(&journal::lines(&batch.records));
        }
        if batch.crash == Some(Crash::AfterWrite) {
            return self.crash();
        }
        if self.scenario.mutation != Mutation::ActsBeforeTheWrite {
            self.oracle.promise(&batch.records)?;
        }
        let done = match batch.crash {
            Some(Crash::AmidActions) => self.random.below(batch.actions.len() as u64 + 1) as usize,
            _ => batch.actions.len(),
        };
        batch.actions.into_iter().take(done).for_each(|action| self.act(action));
        if batch.crash.is_some() {
            return self.crash();
        }
        batch.questions.into_iter().for_each(|question| self.answer_question(question));
        if self.journal.frames >= self.scenario.compact_after {
            self.compact()?;
        }
        self.go_on();
        Ok(())
    }

    /// Looks into the queue, and sets the alarm.
    fn go_on(&mut self) {
        let (start, now, time) = (self.coordinator.start, self.clock(), self.time);
        let Some(desk) = &mut self.coordinator.desk else { return };
        let waits = !desk.queue.is_empty() && !desk.woken;
        desk.woken |= waits;
        let after = desk.scheduler.next_deadline().map(|at| at.0.saturating_sub(now.0).max(1));
        let due = after.filter(|after| desk.tick_at.is_none_or(|at| time + after < at || at < time));
        if let Some(after) = due {
            desk.tick_at = Some(time + after);
            self.schedule(after, Happening::Desk(start, Step::Tick));
        }
        if waits {
            self.schedule(0, Happening::Desk(start, Step::Take));
        }
    }

    /// Puts a snapshot in the place of the journal.
    fn compact(&mut self) -> Result<(), String> {
        let Some(scheduler) = self.coordinator.scheduler() else { return Ok(()) };
        self.oracle.agrees(scheduler)?;
        let mut records: Vec<Record> = scheduler.snapshot().collect();
        if self.scenario.mutation == Mutation::CompactionLosesACommit
            && let Some(place) = records.iter().position(|record| matches!(record, Record::Committed { .. }))
        {
            records.remove(place);
        }
        let crash = !self.calm && self.random.chance(self.scenario.rates.crash_in_compaction);
        if crash && self.random.chance(0.5) {
            self.counts.fault(Fault::CrashInCompactionOld);
            return self.crash();
        }
        let lines = journal::lines(&records);
        self.journal.replace(&lines);
        self.oracle.compacted(lines);
        self.counts.sight(Sight::Compactions);
        if crash {
            self.counts.fault(Fault::CrashInCompactionNew);
            return self.crash();
        }
        Ok(())
    }

    /// The coordinator dies; a write that is under way comes to its end, or not, or in part.
    pub(crate) fn crash_from_outside(&mut self) -> bool {
        let Some(desk) = &mut self.coordinator.desk else { return false };
        if let Some(batch) = desk.writing.take() {
            match self.random.below(3) {
                0 => {}
                1 => {
                    let share = self.random.unit();
                    self.journal.append_torn(&journal::lines(&batch.records), share);
                }
                _ => self.journal.append(&journal::lines(&batch.records)),
            }
        }
        self.crash().is_ok()
    }

    fn copies_given(&self) -> u64 {
        let Some(scheduler) = self.coordinator.scheduler() else { return 0 };
        let sweeps = self.oracle.model.sweeps.keys().filter_map(|id| scheduler.sweep(id));
        sweeps.flat_map(|sweep| sweep.jobs).map(|job| job.tally.copies).sum()
    }

    fn crash(&mut self) -> Result<(), String> {
        self.trace(|_| "the coordinator dies".to_owned());
        let copies = self.copies_given();
        (0..copies).for_each(|_| self.counts.sight(Sight::Copied));
        self.oracle.copies += copies;
        if self.scenario.mutation == Mutation::JournalLosesABatch {
            self.journal.lose_last();
        }
        self.coordinator.desk = None;
        self.coordinator.start += 1;
        self.break_all_connections();
        let after = self.random.between(10, 30_000);
        self.schedule(after, Happening::Desk(self.coordinator.start, Step::Start));
        Ok(())
    }

    fn start_coordinator(&mut self) -> Result<(), String> {
        let records = self.journal.read();
        if self.coordinator.start > 0 {
            self.counts.sight(Sight::Restarts);
            self.oracle.restarted(&records)?;
        }
        let mut scheduler = Scheduler::new(self.scenario.settings);
        records.into_iter().for_each(|record| scheduler.replay(record));
        self.oracle.agrees(&scheduler)?;
        let now = self.clock();
        let effects = scheduler.resume(now);
        scheduler.sanity_check()?;
        let needed: BTreeSet<Digest> = scheduler.referenced().collect();
        if let Some(missing) = self.store.missing(needed.iter().copied()) {
            return Err(format!("{missing} is needed and not in the store"));
        }
        self.store.collect_orphans(&needed);
        self.trace(|_| format!("the coordinator starts: {effects:?}"));
        self.coordinator.desk = Some(Desk {
            scheduler,
            queue: Vec::new(),
            woken: false,
            writing: None,
            askers: BTreeMap::new(),
            requests: 0,
            sessions: BTreeMap::new(),
            verifications: BTreeMap::new(),
            tick_at: None,
            latest: now.0,
        });
        for record in &effects.records {
            self.note(record);
            self.oracle.decided(record, &self.scenario)?;
        }
        self.perform(effects, Vec::new())
    }

    fn answer_question(&mut self, question: Command) {
        let Some(scheduler) = self.coordinator.scheduler() else { return };
        match question {
            Command::Upload(caller, report) => {
                let known = scheduler.blocks(&report.shard).is_some_and(|blocks| !blocks.is_empty());
                if known && scheduler.expects(&report.shard) {
                    let (start, after) = (self.coordinator.start, self.random.between(0, 30));
                    self.schedule(after, Happening::Desk(start, Step::Stored(caller, report)));
                } else {
                    self.counts.sight(Sight::NotNeeded);
                    self.reply(caller, Reply::Answer(Answer::Reported(Verdict::NotNeeded)));
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

    fn act(&mut self, action: Action) {
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
            Action::Merge { sweep, job, number, node, partials } => {
                let (start, after) = (self.coordinator.start, self.random.between(1, 3_000));
                let merge = Box::new(Merge { sweep, job, number, node, partials });
                self.schedule(after, Happening::Desk(start, Step::Merge(merge)));
            }
            Action::Reduce { sweep, job, generation, committed } => {
                let (start, after) = (self.coordinator.start, self.random.between(1, 3_000));
                let committed = Box::new(committed);
                self.schedule(after, Happening::Desk(start, Step::Reduce { sweep, job, generation, committed }));
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
            Verdict::Invalid => return,
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
        let Some(class) = self.oracle.model.sweeps.get(&shard.sweep).and_then(|sweep| sweep.class.clone()) else {
            return;
        };
        let coordinates = Coordinates { spec: spec.name.clone(), class, job: shard.job, basis: input("basis") };
        let (total, block_size) = (shape.grid.blocks(), u64::from(shape.grid.block_size));
        let checkpoint = input("checkpoint");
        let assignment = Assignment { shard, total, block_size, coordinates, checkpoint };
        self.tell(worker, Down::Assign(Box::new(assignment)));
    }
}

fn report_event(report: Report) -> Event {
    let Report { worker, shard, class, partial, seconds, .. } = report;
    Event::Report { request: RequestId(0), worker, shard, class, partial, seconds, begin_seconds: 0.0 }
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
