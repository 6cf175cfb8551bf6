//! Transfers as a worker sees them: it offers a payload, waits for its grant, sends its bytes, and hears a verdict. A result is
//! offered again and again, however that ends, until there is one.
//!
//! All payloads of a worker share one connection beside its session's. Deliberately absent: any limit on how long a grant is waited for.

use crate::faults::{Fault, Sight};
use crate::line::{CHUNK, Line, Sending};
use crate::network::{Reply, Report};
use crate::scenario::Mutation;
use crate::worker::Timer;
use crate::world::{Happening, World};
use nadgrid_core::ids::WorkerId;
use nadgrid_core::scheduler::{ShardCheckpoint, ShardRef};

/// What travels on a connection for payloads; a stream is one transfer.
#[derive(Debug)]
pub(crate) enum Frame {
    /// Up: there is a payload.
    Offer(u64, Payload),
    /// Up: the next of its bytes.
    Chunk(u64),
    /// Up: it is not offered any more.
    Reset(u64),
    /// Down: it may be sent.
    Grant(u64),
    /// Down: the end, with an answer.
    Verdict(u64, Reply),
    /// Down: the end, without one. It may be offered again.
    Refused(u64, Refusal),
}

/// Why a transfer ends without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Too few bytes have come for too long.
    TooSlow,
    /// The store takes nothing now.
    StoreUnavailable,
    /// The worker is to open a session first.
    NoSession,
}

/// What is too large for a message.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    Partial(Box<Report>),
    Checkpoint { worker: WorkerId, shard: ShardRef, checkpoint: ShardCheckpoint, bytes: Vec<u8> },
}

impl Payload {
    /// Whose it is.
    pub(crate) fn worker(&self) -> &WorkerId {
        match self {
            Self::Partial(report) => &report.worker,
            Self::Checkpoint { worker, .. } => worker,
        }
    }
}

impl World {
    /// Chunks of a payload: a partial's are those of a real one, not of the symbols that stand for it.
    pub(crate) fn chunks(&self, payload: &Payload) -> u64 {
        match payload {
            Payload::Partial(_) => self.scenario.plane.partial_chunks,
            Payload::Checkpoint { .. } => self.scenario.plane.checkpoint_chunks,
        }
    }

    /// Offers a payload, on the connection that is there or a new one; later if there can be none.
    pub(crate) fn offer(&mut self, index: usize, key: u64, call: u64, payload: Payload) {
        let is_result = matches!(payload, Payload::Partial(_));
        let Some(connection) = self.payload_connection(index) else {
            return if is_result {
                self.offer_later(index, key)
            };
        };
        self.network.streams += 1;
        let stream = self.network.streams;
        let sending = Sending::new((key, call), is_result, self.chunks(&payload));
        let Some(line) = self.network.lines.get_mut(&connection) else { return };
        line.open(stream, sending);
        self.send_frame(connection, 0, Frame::Offer(stream, payload));
        if self.scenario.mutation == Mutation::SendsBeforeTheGrant {
            self.allow(connection, stream);
        }
    }

    fn payload_connection(&mut self, index: usize) -> Option<u64> {
        if let Some(connection) = self.workers[index].payloads {
            return Some(connection);
        }
        let connection = self.connect(index, self.workers[index].run)?;
        let line = Line::new(self.workers[index].machine.chunk_ms, self.scenario.plane.window_chunks);
        self.network.lines.insert(connection, line);
        self.workers[index].payloads = Some(connection);
        Some(connection)
    }

    pub(crate) fn offer_later(&mut self, index: usize, key: u64) {
        let after = self.random.between(100, 5_000);
        self.worker_later(index, after, Timer::Upload(key));
    }

    /// Whether the result of a shard is on its way.
    pub(crate) fn is_offered(&self, index: usize, key: u64) -> bool {
        let line = self.workers[index].payloads.and_then(|connection| self.network.lines.get(&connection));
        line.is_some_and(|line| line.streams().any(|sending| sending.is_result && sending.key == key))
    }

    /// Something comes from the coordinator.
    pub(crate) fn take_frame(&mut self, index: usize, connection: u64, frame: Frame) {
        match frame {
            Frame::Grant(stream) => self.take_grant(index, connection, stream),
            Frame::Verdict(stream, reply) => {
                let sending = self.close_stream(connection, stream);
                sending.into_iter().for_each(|ended| self.take_reply(index, (ended.key, ended.call), reply.clone()));
            }
            Frame::Refused(stream, refusal) => {
                let result = self.close_stream(connection, stream).filter(|ended| ended.is_result);
                if let Some(ended) = result {
                    self.trace(|_| format!("the result {} is refused: {refusal:?}", ended.key));
                    self.offer_later(index, ended.key);
                }
            }
            Frame::Offer(..) | Frame::Chunk(_) | Frame::Reset(_) => {}
        }
    }

    /// What is not wanted any more gives its place back.
    fn take_grant(&mut self, index: usize, connection: u64, stream: u64) {
        let line = self.network.lines.get(&connection);
        let Some(key) = line.and_then(|line| line.key(stream)) else { return };
        if self.workers[index].holds(key) {
            return self.allow(connection, stream);
        }
        self.close_stream(connection, stream);
        self.counts.sight(Sight::GaveUpItsPlace);
        self.send_frame(connection, 0, Frame::Reset(stream));
    }

    fn allow(&mut self, connection: u64, stream: u64) {
        if let Some(line) = self.network.lines.get_mut(&connection) {
            line.allow(stream);
        }
        self.send_bytes(connection);
    }

    fn close_stream(&mut self, connection: u64, stream: u64) -> Option<Sending> {
        self.network.lines.get_mut(&connection)?.close(stream)
    }

    /// The next chunk goes on the line, if it is free. Workers that are stopped send nothing.
    pub(crate) fn send_bytes(&mut self, connection: u64) {
        let Some((index, run)) = self.network.below(connection) else { return };
        self.worker_timer(index, run, Timer::Send(connection));
    }

    /// The next chunk goes on the line.
    pub(crate) fn send_chunk(&mut self, connection: u64) {
        let Some(line) = self.network.lines.get_mut(&connection) else { return };
        let Some(stream) = line.next() else { return };
        let takes = line.chunk_ms;
        if let Some(after) = self.send(connection, 0, takes) {
            self.schedule(after, Happening::Frame(connection, Frame::Chunk(stream)));
        }
    }

    /// Sends a frame, up (0) or down (1).
    pub(crate) fn send_frame(&mut self, connection: u64, direction: usize, frame: Frame) {
        if let Some(after) = self.send(connection, direction, 0) {
            self.schedule(after, Happening::Frame(connection, frame));
        }
    }

    /// A frame arrives at the end that it was sent to.
    pub(crate) fn frame_arrives(&mut self, connection: u64, frame: Frame) -> Result<(), String> {
        let Some((index, run)) = self.network.below(connection).filter(|_| self.network.is_whole(connection)) else {
            return Ok(());
        };
        match frame {
            Frame::Offer(stream, payload) => self.offered((connection, stream), payload),
            Frame::Chunk(stream) => return self.chunk_arrives((connection, stream)),
            Frame::Reset(stream) => self.end_transfer((connection, stream)),
            down => self.worker_timer(index, run, Timer::Frame(connection, Box::new(down))),
        }
        Ok(())
    }

    /// A worker learns that its connection for payloads is broken: what was on it is offered again.
    pub(crate) fn line_breaks(&mut self, connection: u64) {
        let (Some(line), Some((index, run))) = (self.network.lines.remove(&connection), self.network.below(connection))
        else {
            return;
        };
        if self.workers[index].run != run {
            return;
        }
        if self.workers[index].payloads == Some(connection) {
            self.workers[index].payloads = None;
        }
        for ended in line.streams().filter(|ended| ended.is_result) {
            self.counts.sight(Sight::OfferedAgain);
            self.offer_later(index, ended.key);
        }
    }

    /// The program of a worker has ended: its connection for payloads breaks.
    pub(crate) fn drop_payloads(&mut self, index: usize) {
        if self.holds_a_grant(index) {
            self.counts.fault(Fault::HolderDied);
        }
        let Some(connection) = self.workers[index].payloads.take() else { return };
        self.network.lines.remove(&connection);
        self.break_connection(connection);
    }

    /// Whether a worker is amid a payload.
    pub(crate) fn holds_a_grant(&self, index: usize) -> bool {
        let line = self.workers[index].payloads.and_then(|connection| self.network.lines.get(&connection));
        line.is_some_and(|line| line.streams().any(|sending| sending.granted))
    }
}

/// Bytes of so many chunks.
pub(crate) fn bytes(chunks: u64) -> u64 {
    chunks * CHUNK
}
