//! Transfers as the coordinator sees them: a payload is offered, waits for its place, comes in, is stored, and is reported.
//!
//! Who gets a place is decided by core's own queue; [`crate::turns`] looks at what it decides. All of this is lost in a crash.

use crate::coordinator::{Coordinator, Step};
use crate::faults::{Fault, Sight};
use crate::network::Reply;
use crate::scenario::{Mutation, Plane};
use crate::transfer::{Frame, Payload, Refusal, bytes};
use crate::turns::Turns;
use crate::world::{Happening, World};
use nadgrid_core::ids::WorkerId;
use nadgrid_core::places::{PlaceQueue, PlaceTicket};
use std::collections::{BTreeMap, HashMap};

/// How long a payload may be silent, what its pace is not looked at for, and what a chunk may take.
const SILENCE: u64 = 30_000;
const GRACE: u64 = 10_000;
pub(crate) const SLOWEST_CHUNK: u64 = 4_000;

/// A transfer: a connection and one of its streams.
pub(crate) type Stream = (u64, u64);

/// Where a transfer is.
#[derive(Debug)]
enum Stage {
    /// It is asked whether the payload is of any use.
    Asked,
    /// It waits for its place.
    Waiting(Payload, PlaceTicket),
    Receiving {
        payload: Payload,
        ticket: PlaceTicket,
        chunks: u64,
        over: u64,
        moved: u64,
    },
    Storing(PlaceTicket),
    /// It is reported, and its place is free.
    Reported,
}

/// A payload that comes in.
#[derive(Debug)]
struct Incoming {
    stage: Stage,
    /// Chunks that have come and are not read.
    unread: u64,
}

/// All payloads that come in.
pub(crate) struct Intake {
    queue: PlaceQueue<WorkerId>,
    turns: Turns<Stream>,
    tickets: HashMap<PlaceTicket, Stream>,
    incoming: BTreeMap<Stream, Incoming>,
}

impl Intake {
    /// An intake to which nothing comes yet.
    pub(crate) fn new(plane: &Plane) -> Self {
        let (queue, turns) = (PlaceQueue::new(plane.bounds), Turns::new(plane.bounds));
        Self { queue, turns, tickets: HashMap::new(), incoming: BTreeMap::new() }
    }

    /// Transfers that hold a place.
    pub(crate) fn holders(&self) -> usize {
        self.queue.taken()
    }

    fn leave(&mut self, stream: Stream, ticket: PlaceTicket) {
        self.queue.leave(ticket);
        self.turns.leaves(stream);
        self.tickets.remove(&ticket);
    }
}

impl Coordinator {
    /// When all is over no place is taken or waited for.
    pub(crate) fn check_places(&self) -> Result<(), String> {
        let Some(intake) = self.intake() else { return Ok(()) };
        let (taken, waiting) = (intake.queue.taken(), intake.queue.waiting());
        match intake.turns.is_empty() && (taken, waiting, intake.queue.bytes()) == (0, 0, 0) {
            true => Ok(()),
            false => Err(format!("{taken} places are taken and {waiting} waited for when all is over")),
        }
    }
}

impl World {
    fn intake(&mut self) -> Option<&mut Intake> {
        self.coordinator.intake_mut()
    }

    /// A payload is offered.
    pub(crate) fn offered(&mut self, stream: Stream, payload: Payload) {
        let Some(intake) = self.intake() else { return };
        intake.incoming.insert(stream, Incoming { stage: Stage::Asked, unread: 0 });
        match payload {
            Payload::Partial(report) => self.ask_about(stream, report),
            checkpoint => self.wait_for_place(stream, checkpoint),
        }
    }

    /// A payload is of use: it waits for its place, unless its stream has ended.
    pub(crate) fn wait_for_place(&mut self, stream: Stream, payload: Payload) {
        let size = bytes(self.chunks(&payload));
        let Some(intake) = self.intake() else { return };
        let Some(incoming) = intake.incoming.get_mut(&stream) else { return };
        let worker = payload.worker().clone();
        let ticket = intake.queue.offer(worker.clone(), size);
        incoming.stage = Stage::Waiting(payload, ticket);
        intake.tickets.insert(ticket, stream);
        intake.turns.waits(stream, worker, size);
        self.give_places();
        if self.intake().is_some_and(|intake| !intake.turns.holds(stream)) {
            self.counts.sight(Sight::WaitedForAPlace);
        }
    }

    /// Gives all the places that can be given.
    fn give_places(&mut self) {
        while let Some(ticket) = self.intake().and_then(|intake| intake.queue.grant()) {
            let Some(intake) = self.intake() else { return };
            let stream = intake.tickets[&ticket];
            intake.turns.granted(stream);
            self.grant(stream);
        }
        self.intake().into_iter().for_each(|intake| intake.turns.settled());
    }

    fn grant(&mut self, stream: Stream) {
        let time = self.time;
        let Some(incoming) = self.intake().and_then(|intake| intake.incoming.get_mut(&stream)) else { return };
        let unread = std::mem::take(&mut incoming.unread);
        incoming.stage = match std::mem::replace(&mut incoming.stage, Stage::Asked) {
            Stage::Waiting(payload, ticket) => {
                Stage::Receiving { payload, ticket, chunks: 0, over: time + GRACE, moved: time }
            }
            other => other,
        };
        self.watch(stream, GRACE);
        if self.scenario.mutation == Mutation::SendsBeforeTheGrant {
            return self.read(stream, unread);
        }
        match self.strikes(self.scenario.rates.grant_lost, Fault::GrantLost) {
            true => self.break_connection(stream.0),
            false => self.send_frame(stream.0, 1, Frame::Grant(stream.1)),
        }
    }

    fn watch(&mut self, stream: Stream, after: u64) {
        self.schedule(after, Happening::Coordinator(self.coordinator.start, Step::Watch(stream)));
    }

    /// Looks whether a payload still comes.
    pub(crate) fn look_after(&mut self, stream: Stream) {
        let time = self.time;
        let incoming = self.intake().and_then(|intake| intake.incoming.get(&stream));
        let Some(Stage::Receiving { over, moved, .. }) = incoming.map(|incoming| &incoming.stage) else { return };
        let deadline = *over.min(&(moved + SILENCE));
        if deadline > time {
            return self.watch(stream, deadline - time);
        }
        self.counts.sight(Sight::TooSlow);
        self.refuse(stream, Refusal::TooSlow);
    }

    /// A chunk arrives: it is read, if its payload has a place.
    pub(crate) fn chunk_arrives(&mut self, stream: Stream) -> Result<(), String> {
        if let Some(line) = self.network.lines.get_mut(&stream.0) {
            line.arrived();
        }
        let sends_early = self.scenario.mutation == Mutation::SendsBeforeTheGrant;
        match self.intake().and_then(|intake| intake.incoming.get_mut(&stream)) {
            Some(Incoming { stage: Stage::Asked | Stage::Waiting(..), .. }) if !sends_early => {
                return Err(format!("{stream:?} sends before its grant"));
            }
            Some(Incoming { stage: Stage::Asked | Stage::Waiting(..), unread }) => *unread += 1,
            Some(_) => self.read(stream, 1),
            // Of a stream that has ended: it is thrown away.
            None => self.give_window_back(stream.0, 1),
        }
        self.send_bytes(stream.0);
        Ok(())
    }

    fn give_window_back(&mut self, connection: u64, chunks: u64) {
        if let Some(line) = self.network.lines.get_mut(&connection) {
            line.read(chunks);
        }
        self.send_bytes(connection);
    }

    /// Reads chunks of a payload that has a place; with the last one it goes to the store.
    fn read(&mut self, stream: Stream, read: u64) {
        let (time, plane) = (self.time, self.scenario.plane.clone());
        let Some(incoming) = self.intake().and_then(|intake| intake.incoming.get_mut(&stream)) else { return };
        let Stage::Receiving { payload, ticket, chunks, over, moved } = &mut incoming.stage else { return };
        *chunks += read;
        *over += read * SLOWEST_CHUNK;
        *moved = time;
        let size = match payload {
            Payload::Partial(_) => plane.partial_chunks,
            Payload::Checkpoint { .. } => plane.checkpoint_chunks,
        };
        if *chunks >= size {
            let (payload, ticket) = (payload.clone(), *ticket);
            incoming.stage = Stage::Storing(ticket);
            self.arrived(stream, ticket, payload);
        }
        self.give_window_back(stream.0, read);
    }

    /// A payload is there: the next of its worker may be sent while it is stored.
    fn arrived(&mut self, stream: Stream, ticket: PlaceTicket, payload: Payload) {
        if let Some(intake) = self.intake() {
            intake.queue.received(ticket);
            intake.turns.arrived(stream);
        }
        self.store_later(stream, payload.clone());
        if self.strikes(self.scenario.rates.duplicated, Fault::ReportedTwice) {
            // As from a stream that was broken, and whose payload was stored and reported all the same.
            self.store_later(stream, payload);
        }
        self.give_places();
    }

    fn store_later(&mut self, stream: Stream, payload: Payload) {
        let slow = self.strikes(self.scenario.rates.store_slow, Fault::StoreSlow);
        let after = if slow { self.random.between(1_000, 30_000) } else { self.random.between(0, 30) };
        self.schedule(after, Happening::Coordinator(self.coordinator.start, Step::Stored(stream, payload)));
    }

    /// A payload is stored, and reported; or the store does not take it.
    pub(crate) fn stored(&mut self, stream: Stream, payload: Payload) -> Result<(), String> {
        if self.store.away_until > self.time && !self.calm {
            self.counts.sight(Sight::StoreUnavailable);
            self.refuse(stream, Refusal::StoreUnavailable);
            return Ok(());
        }
        self.report(stream, payload)?;
        let Some(intake) = self.intake() else { return Ok(()) };
        if let Some(incoming) = intake.incoming.get_mut(&stream)
            && let Stage::Storing(ticket) = incoming.stage
        {
            incoming.stage = Stage::Reported;
            intake.leave(stream, ticket);
            self.give_places();
        }
        Ok(())
    }

    /// Ends a transfer without an answer.
    pub(crate) fn refuse(&mut self, stream: Stream, refusal: Refusal) {
        self.end_transfer(stream);
        self.send_frame(stream.0, 1, Frame::Refused(stream.1, refusal));
    }

    /// Ends a transfer with its answer.
    pub(crate) fn conclude(&mut self, stream: Stream, reply: Reply) {
        self.end_transfer(stream);
        match self.strikes(self.scenario.rates.lost, Fault::ReplyLost) {
            true => self.break_connection(stream.0),
            false => self.send_frame(stream.0, 1, Frame::Verdict(stream.1, reply)),
        }
    }

    /// A transfer has ended: its place, if it has one, is free.
    pub(crate) fn end_transfer(&mut self, stream: Stream) {
        let Some(intake) = self.intake() else { return };
        let Some(Incoming { stage, unread }) = intake.incoming.remove(&stream) else { return };
        if let Stage::Waiting(_, ticket) | Stage::Receiving { ticket, .. } | Stage::Storing(ticket) = stage {
            intake.leave(stream, ticket);
        }
        self.give_window_back(stream.0, unread);
        self.give_places();
    }

    /// The coordinator learns that a connection is broken: its transfers have ended.
    pub(crate) fn transfers_break(&mut self, connection: u64) {
        let Some(intake) = self.intake() else { return };
        let own = intake.incoming.range((connection, 0)..=(connection, u64::MAX));
        let own: Vec<Stream> = own.map(|(&stream, _)| stream).collect();
        own.into_iter().for_each(|stream| self.end_transfer(stream));
    }
}
