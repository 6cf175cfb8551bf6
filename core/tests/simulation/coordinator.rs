//! The coordinator: core's shell, driven as the event loop drives it. It takes all that waits ([`decide`]), writes the records in one
//! go ([`write`]), and then does the outputs ([`act`]). Here is what it holds, and what arrives.
//!
//! Everything but the journal's records is lost in a crash, which may come between any two steps.

mod act;
mod decide;
mod write;

use crate::faults::Fault;
use crate::intake::{Intake, Stream};
use crate::network::{Caller, Report, Request, Up};
use crate::peers::{EventCount, SimulatedPeers};
use crate::pool::Merge;
use crate::transfer::Payload;
use crate::world::{Happening, World};
use nadgrid_core::ids::{Digest, SweepId, Time, WorkerId};
use nadgrid_core::scheduler::{Committed, Event, JobRef, Record, RequestId, Scheduler};
use nadgrid_core::shell::{SessionNumber, Shell, ShellBatch};
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
    /// A payload was stored, or could not be.
    Stored(Stream, Payload),
    /// A payload that comes in is looked after.
    Watch(Stream),
    /// A merge has come to its end.
    Merge(Box<Merge>),
    /// A reduction has come to its end.
    Reduce { job: JobRef, generation: u64, committed: Box<Committed> },
}

/// What waits to be taken in.
pub(crate) enum Waiting {
    Event(Event),
    Ask(Caller, Event),
    Message(u64, Up),
    Broken(u64),
    Question(Question),
}

/// What is asked and changes nothing.
pub(crate) enum Question {
    /// Whether a result can be of use; if so it is given a place.
    Upload(Stream, Box<Report>),
    Look(Caller, SweepId),
}

/// What a crash leaves of a batch.
#[derive(Clone, Copy, PartialEq)]
enum Crash {
    BeforeWrite,
    Torn,
    AfterWrite,
    AmidActions,
}

/// A write under way.
struct Write {
    lines: Vec<String>,
    /// What is to be told when it is done; nothing if a mutation has told it before.
    batch: Option<ShellBatch<SimulatedPeers>>,
    began: u64,
    crash: Option<Crash>,
}

/// A coordinator that is up: all this is what a crash takes.
struct Running {
    shell: Shell<SimulatedPeers>,
    queue: Vec<Waiting>,
    /// Whether somebody will look into the queue.
    woken: bool,
    writing: Option<Write>,
    /// The sessions of the connections that are listened to.
    listening: BTreeMap<u64, (WorkerId, SessionNumber)>,
    /// The connection of each worker's newest session that is not over, counted beside the shell.
    newest: BTreeMap<WorkerId, u64>,
    heard: EventCount,
    /// Verifications that are open, and those that were given up before they were.
    verifying: Vec<(RequestId, Caller)>,
    given_up: BTreeSet<(usize, u64)>,
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
    running: Option<Running>,
}

impl Coordinator {
    /// Whether it is up.
    pub(crate) fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// Its scheduler, if it is up.
    pub(crate) fn scheduler(&self) -> Option<&Scheduler> {
        self.running.as_ref().map(|running| running.shell.scheduler())
    }

    /// What comes in, if it is up.
    pub(crate) fn intake(&self) -> Option<&Intake> {
        self.running.as_ref().map(|running| &running.intake)
    }

    /// The same, to be changed.
    pub(crate) fn intake_mut(&mut self) -> Option<&mut Intake> {
        self.running.as_mut().map(|running| &mut running.intake)
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
        self.coordinator.running.as_ref().map_or(0, |running| running.latest.saturating_sub(self.clock().0))
    }

    /// Something is due, if the coordinator is still the same that it was due at.
    pub(crate) fn coordinate(&mut self, start: u64, step: Step) -> Result<(), String> {
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
                self.coordinator.running.as_mut().ok_or("down")?.tick_at = None;
                self.enqueue(Waiting::Event(Event::Tick));
            }
            Step::Stored(stream, payload) => return self.stored(stream, payload),
            Step::Watch(stream) => self.look_after(stream),
            Step::Merge(..) | Step::Reduce { .. }
                if self.strikes(self.scenario.rates.store_fails, Fault::StoreFails) =>
            {
                let after = self.random.between(1_000, 30_000);
                self.schedule(after, Happening::Coordinator(start, step));
            }
            Step::Merge(merge) => self.merge(*merge),
            Step::Reduce { job, generation, committed } => self.reduce(job, generation, &committed),
        }
        Ok(())
    }

    /// Something waits to be taken.
    pub(crate) fn enqueue(&mut self, waiting: Waiting) {
        let Some(running) = &mut self.coordinator.running else { return };
        running.queue.push(waiting);
        if !running.woken && running.writing.is_none() {
            running.woken = true;
            let (start, after) = (self.coordinator.start, self.random.between(0, 3));
            self.schedule(after, Happening::Coordinator(start, Step::Take));
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
        let waiting = match request {
            Request::Submit(plan) => Waiting::Ask(caller, self.submission(plan)),
            Request::Pause(sweep, paused) => Waiting::Ask(caller, Event::Pause { request: request_id, sweep, paused }),
            Request::Cancel(sweep) => Waiting::Ask(caller, Event::Cancel { request: request_id, sweep }),
            Request::Look(sweep) => Waiting::Question(Question::Look(caller, sweep)),
            Request::Verify(claims) => Waiting::Ask(caller, Event::Verify { request: request_id, claims }),
            Request::GiveUpVerifying => return self.give_up_verifying(caller),
        };
        self.enqueue(waiting);
    }

    /// Nobody waits for a verification any more: it is ended, now or as soon as it is open.
    fn give_up_verifying(&mut self, caller: Caller) {
        let Some(running) = &mut self.coordinator.running else { return };
        match running.verifying.iter().position(|(_, asker)| asker.is_same(&caller)) {
            Some(place) => {
                let (verification, _) = running.verifying.remove(place);
                self.enqueue(Waiting::Event(Event::EndVerify { verification }));
            }
            None => running.given_up.extend(caller.call()),
        }
    }

    /// It is asked whether a result can be of use.
    pub(crate) fn ask_about(&mut self, stream: Stream, report: Box<Report>) {
        self.enqueue(Waiting::Question(Question::Upload(stream, report)));
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
        self.enqueue(Waiting::Ask(Caller::Stream(stream), event));
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
        self.enqueue(Waiting::Message(connection, message));
    }

    /// A connection is known to be broken.
    pub(crate) fn broken_above(&mut self, connection: u64) {
        self.enqueue(Waiting::Broken(connection));
    }
}

fn report_event(report: Report) -> Event {
    let Report { worker, shard, class, partial, seconds, .. } = report;
    Event::Report { request: RequestId(0), worker, shard, class, partial, seconds, begin_seconds: 0.0 }
}
