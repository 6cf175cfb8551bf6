//! The coordinator as its desk is: it takes all that waits, applies it ([`decide`]), writes the records in one go ([`write`]), and
//! then acts ([`act`]). Here is what it holds, and what arrives.
//!
//! Everything but the scheduler's records is lost in a crash, which may come between any two steps.

mod act;
mod decide;
mod write;

use crate::faults::Fault;
use crate::intake::{Intake, Stream};
use crate::network::{Caller, Report, Request, Up};
use crate::pool::Merge;
use crate::transfer::Payload;
use crate::world::{Happening, World};
use nadgrid_core::ids::{Digest, SweepId, Time, WorkerId};
use nadgrid_core::scheduler::{Action, Committed, Event, JobRef, Record, RequestId, Scheduler, ShardRef};
use nadgrid_core::spec::Inputs;
use std::collections::BTreeMap;

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
    /// A payload was stored, or could not be.
    Stored(Stream, Payload),
    /// A payload that comes in is looked after.
    Watch(Stream),
    /// A merge has come to its end.
    Merge(Box<Merge>),
    /// A reduction has come to its end.
    Reduce { job: JobRef, generation: u64, committed: Box<Committed> },
}

/// What waits at the desk.
pub(crate) enum Command {
    Event(Event),
    Ask(Caller, Event),
    Message(u64, Up),
    Broken(u64),
    /// Whether a result can be of use; if so it is given a place.
    Upload(Stream, Box<Report>),
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
    intake: Intake,
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

    /// What comes in, if it is up.
    pub(crate) fn intake(&self) -> Option<&Intake> {
        self.desk.as_ref().map(|desk| &desk.intake)
    }

    /// The same, to be changed.
    pub(crate) fn intake_mut(&mut self) -> Option<&mut Intake> {
        self.desk.as_mut().map(|desk| &mut desk.intake)
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
            Step::Stored(stream, payload) => return self.stored(stream, payload),
            Step::Watch(stream) => self.look_after(stream),
            Step::Merge(..) | Step::Reduce { .. }
                if self.strikes(self.scenario.rates.store_fails, Fault::StoreFails) =>
            {
                let after = self.random.between(1_000, 30_000);
                self.schedule(after, Happening::Desk(start, step));
            }
            Step::Merge(merge) => self.merge(*merge),
            Step::Reduce { job, generation, committed } => self.reduce(job, generation, &committed),
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

    /// It is asked whether a result can be of use.
    pub(crate) fn ask_about(&mut self, stream: Stream, report: Box<Report>) {
        self.enqueue(Command::Upload(stream, report));
    }

    /// Stores a payload and reports it.
    pub(crate) fn report(&mut self, stream: Stream, payload: Payload) -> Result<(), String> {
        let event = match payload {
            Payload::Partial(report) => {
                if Some(self.store.put(report.bytes.clone())) != report.partial.blob() {
                    return Err("an upload of other bytes than its partial's".to_owned());
                }
                report_event(*report)
            }
            Payload::Checkpoint { worker, shard, checkpoint, bytes } => {
                self.store.put(bytes);
                Event::Checkpointed { request: RequestId(0), worker, shard, checkpoint }
            }
        };
        self.enqueue(Command::Ask(Caller::Stream(stream), event));
        Ok(())
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
}

fn report_event(report: Report) -> Event {
    let Report { worker, shard, class, partial, seconds, .. } = report;
    Event::Report { request: RequestId(0), worker, shard, class, partial, seconds, begin_seconds: 0.0 }
}
