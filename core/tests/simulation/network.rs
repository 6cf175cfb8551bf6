//! What lies between the actors: connections, on which messages come in order or not at all, and users' requests, which may be
//! lost, late, or come twice.

use crate::faults::Fault;
use crate::intake::Stream;
use crate::line::Line;
use crate::truth::Coordinates;
use crate::world::{Happening, World};
use nadgrid_core::ids::{Digest, SweepId, WorkerId};
use nadgrid_core::numerics::NumericsClass;
use nadgrid_core::scheduler::{Answer, Claim, FailureKind, Partial, ShardRef, WorkerProfile};
use nadgrid_core::shell::NamedShard;
use std::collections::BTreeMap;
use std::ops::Range;

/// What a worker says in its session.
#[derive(Debug)]
pub(crate) enum Up {
    Hello { worker: WorkerId, profile: Box<WorkerProfile>, held: Vec<NamedShard> },
    Heartbeat,
    Progress(NamedShard, u64),
    Computed(NamedShard),
    Failed(NamedShard, FailureKind, String),
    Result(NamedShard, Box<Report>),
    Draining,
    Goodbye,
}

impl Up {
    /// The shard that is said to be computed.
    pub(crate) fn computed(&self) -> Option<NamedShard> {
        match self {
            Self::Computed(shard) => Some(shard.clone()),
            _ => None,
        }
    }
}

/// What it hears.
#[derive(Debug)]
pub(crate) enum Down {
    Welcome,
    /// A shard, with its job unless that is the job of the assignment before it in the same session.
    Assign {
        shard: ShardRef,
        job: Option<Box<JobFacts>>,
        checkpoint: Option<Digest>,
    },
    Revoke(NamedShard),
    /// A result is taken or not needed; or it is refused.
    Answered {
        shard: NamedShard,
        is_refused: bool,
    },
}

/// What a worker must know of a job.
#[derive(Clone, Debug)]
pub(crate) struct JobFacts {
    pub(crate) total: u64,
    pub(crate) block_size: u64,
    pub(crate) coordinates: Coordinates,
}

/// A shard to compute.
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    pub(crate) shard: ShardRef,
    pub(crate) job: JobFacts,
    pub(crate) checkpoint: Option<Digest>,
}

impl Assignment {
    /// The blocks to compute.
    pub(crate) fn blocks(&self) -> Range<u64> {
        self.shard.node.blocks(self.job.total)
    }

    /// The shard by its blocks, as it is named in a session.
    pub(crate) fn named(&self) -> NamedShard {
        NamedShard::of(self.shard.clone(), &self.blocks())
    }
}

/// A computed shard.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) worker: WorkerId,
    pub(crate) shard: ShardRef,
    pub(crate) class: NumericsClass,
    pub(crate) partial: Partial,
    /// What is to be stored.
    pub(crate) bytes: Vec<u8>,
    pub(crate) seconds: f64,
}

/// A user's request.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    /// Submit this plan.
    Submit(usize),
    Pause(SweepId, bool),
    Cancel(SweepId),
    Look(SweepId),
    Verify(Vec<Claim>),
    /// Whoever waits for a verification, waits no more.
    GiveUpVerifying,
}

/// Its answer, or a part of it.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Answer(Answer),
    /// Whether the sweep is known, whether it has ended, whether it is paused.
    Seen {
        known: bool,
        ended: bool,
        paused: bool,
    },
    /// A shard was computed again; whether it gave the same.
    Checked(bool),
}

/// Who waits for an answer: a user with one of its calls, or a worker with one of its transfers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Caller {
    User { index: usize, call: u64 },
    Stream(Stream),
}

impl Caller {
    /// The user and its call.
    pub(crate) fn call(&self) -> Option<(usize, u64)> {
        match self {
            Self::User { index, call } => Some((*index, *call)),
            Self::Stream(_) => None,
        }
    }

    /// Whether it is the same user with the same call.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        matches!((self, other), (Self::User { index: a, call: b }, Self::User { index: c, call: d }) if (a, b) == (c, d))
    }
}

/// A connection, of a session or for payloads.
#[derive(Debug)]
struct Connection {
    index: usize,
    run: u64,
    /// When the last message will arrive, up and down: the next does not come before.
    last: [u64; 2],
    broken: bool,
    /// The start of the coordinator that it was opened to, until that knows that it is broken.
    read_by: Option<u64>,
}

/// All connections, and who is cut off until when.
#[derive(Default)]
pub(crate) struct Network {
    connections: BTreeMap<u64, Connection>,
    opened: u64,
    cut_off: BTreeMap<usize, u64>,
    /// The workers' ends of connections for payloads, and how many streams there were on them.
    pub(crate) lines: BTreeMap<u64, Line>,
    pub(crate) streams: u64,
}

impl Network {
    /// The worker of a connection that is whole, and the run of its program.
    pub(crate) fn below(&self, connection: u64) -> Option<(usize, u64)> {
        self.connections.get(&connection).map(|connection| (connection.index, connection.run))
    }

    /// The coordinator knows that it is broken, and reads nothing more from it.
    pub(crate) fn is_read_no_more(&mut self, connection: u64) {
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.read_by = None;
        }
    }

    /// Whether nothing has broken it.
    pub(crate) fn is_whole(&self, connection: u64) -> bool {
        self.connections.get(&connection).is_some_and(|connection| !connection.broken)
    }
}

impl World {
    /// Opens a connection for a worker, if the coordinator can be reached.
    pub(crate) fn connect(&mut self, index: usize, run: u64) -> Option<u64> {
        if !self.coordinator.is_up() || self.is_cut_off(index) {
            return None;
        }
        self.network.opened += 1;
        let read_by = Some(self.coordinator.start);
        let connection = Connection { index, run, last: [self.time; 2], broken: false, read_by };
        self.network.connections.insert(self.network.opened, connection);
        Some(self.network.opened)
    }

    fn is_cut_off(&self, index: usize) -> bool {
        !self.calm && self.network.cut_off.get(&index).is_some_and(|until| *until > self.time)
    }

    /// Cuts a worker off for a while.
    pub(crate) fn cut_off(&mut self, index: usize) {
        let until = self.time + self.random.between(100, 40_000);
        if self.holds_a_grant(index) {
            self.counts.fault(Fault::HolderCutOff);
        }
        self.network.cut_off.insert(index, until);
        let own = |(number, connection): (&u64, &Connection)| (connection.index == index).then_some(*number);
        let connections: Vec<u64> = self.network.connections.iter().filter_map(own).collect();
        connections.into_iter().for_each(|connection| self.break_connection(connection));
    }

    /// A connection breaks: what is under way is lost, and either end learns of it in its own time.
    pub(crate) fn break_connection(&mut self, connection: u64) {
        if let Some(held) = self.network.connections.get_mut(&connection).filter(|held| !held.broken) {
            held.broken = true;
            let (above, below) = (self.random.between(0, 20_000), self.random.between(0, 5_000));
            self.schedule(above, Happening::BrokenAbove(connection));
            self.schedule(below, Happening::BrokenBelow(connection));
            self.trace(|_| format!("connection {connection} breaks"));
        }
    }

    /// All connections break: the coordinator is gone.
    pub(crate) fn break_all_connections(&mut self) {
        let connections: Vec<u64> = self.network.connections.keys().copied().collect();
        connections.into_iter().for_each(|connection| self.break_connection(connection));
    }

    /// When a message that takes the line so long will arrive: not before those that were sent before it. `None` when it will not.
    pub(crate) fn send(&mut self, connection: u64, direction: usize, takes: u64) -> Option<u64> {
        if !self.network.is_whole(connection) {
            return None;
        }
        if self.strikes(self.scenario.rates.broken, Fault::ConnectionBroken) {
            self.break_connection(connection);
            return None;
        }
        let at = self.time + takes + self.random.between(0, 20);
        let connection = self.network.connections.get_mut(&connection)?;
        let last = &mut connection.last[direction];
        *last = at.max(*last);
        Some(*last - self.time)
    }

    /// A worker says something.
    pub(crate) fn send_up(&mut self, connection: u64, message: Up) {
        if let Some(after) = self.send(connection, 0, 0) {
            self.schedule(after, Happening::Up(connection, message));
        }
    }

    /// The coordinator says something to a worker.
    pub(crate) fn send_down(&mut self, connection: u64, message: Down) {
        if let Some(after) = self.send(connection, 1, 0) {
            self.schedule(after, Happening::Down(connection, message));
        }
    }

    /// A message arrives at the coordinator. What was under way when its connection broke may be read later all the same.
    pub(crate) fn arrive(&mut self, connection: u64, message: Up) {
        if self.network.is_whole(connection) {
            return self.message_arrives(connection, message);
        }
        if self.strikes(self.scenario.rates.late_words, Fault::WordsAfterTheBreak) {
            let at = self.time + self.random.between(0, 8_000);
            let Some(broken) = self.network.connections.get_mut(&connection) else { return };
            broken.last[0] = broken.last[0].max(at);
            let after = broken.last[0] - self.time;
            self.schedule(after, Happening::LateUp(connection, message));
        }
    }

    /// A message is read whose connection is broken, unless the coordinator knows of that, or is another.
    pub(crate) fn arrive_late(&mut self, connection: u64, message: Up) {
        let read_by = self.network.connections.get(&connection).and_then(|connection| connection.read_by);
        if read_by == Some(self.coordinator.start) {
            self.message_arrives(connection, message);
        }
    }

    /// A message arrives at a worker.
    pub(crate) fn hear(&mut self, connection: u64, message: Down) {
        if let Some((index, run)) = self.network.below(connection).filter(|_| self.network.is_whole(connection)) {
            self.worker_message(index, run, connection, message);
        }
    }

    /// Sends a request, which may get lost, be late, or come twice.
    pub(crate) fn request(&mut self, caller: Caller, request: Request) {
        let rates = self.scenario.rates.clone();
        let sent_in = self.coordinator.start;
        if self.strikes(rates.lost, Fault::RequestLost) {
            return;
        }
        if self.strikes(rates.duplicated, Fault::RequestDuplicated) {
            let after = self.random.between(0, 30_000);
            self.schedule(after, Happening::Request { caller, request: request.clone(), sent_in });
        }
        let late = self.strikes(rates.delayed, Fault::RequestDelayed);
        let after = if late { self.random.between(1_000, 30_000) } else { self.random.between(0, 30) };
        self.schedule(after, Happening::Request { caller, request, sent_in });
    }

    /// Sends an answer back.
    pub(crate) fn reply(&mut self, caller: Caller, reply: Reply) {
        if let Caller::Stream(stream) = caller {
            return self.conclude(stream, reply);
        }
        if !self.strikes(self.scenario.rates.lost, Fault::ReplyLost) {
            let after = self.random.between(0, 30);
            self.schedule(after, Happening::Reply(caller, reply));
        }
    }
}
