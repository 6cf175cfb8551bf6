//! Workers: they compute block by block, keep what they have while the coordinator is away, and bring it when it is back.
//!
//! A machine runs one worker after the other, each with an id of its own; timers of an earlier run are nothing to a later one.

mod slots;

use crate::faults::{Fault, Sight};
use crate::intake::SLOWEST_CHUNK;
use crate::network::{Assignment, Down, JobFacts, Reply, Report, Up};
use crate::scenario::{Machine, Mutation};
use crate::transfer::{Frame, Payload};
use crate::world::{Happening, World};
use nadgrid_core::ids::{Digest, WorkerId};
use nadgrid_core::numerics::Precision;
use nadgrid_core::scheduler::{Answer, FailureKind, JobRef, ShardCheckpoint, ShardRef, Verdict, WorkerProfile};
use nadgrid_core::shell::NamedShard;
use nadgrid_core::spec::InputRef;
use std::collections::BTreeSet;

/// How often a worker says that it is alive, and how far it is.
const HEARTBEAT: u64 = 3_000;
/// How long a hello may take to be answered.
const HANDSHAKE: u64 = 15_000;

/// Something is due at a worker.
pub(crate) enum Timer {
    /// The program starts.
    Start,
    /// It tries to connect.
    Connect,
    /// The hello of this connection should be answered.
    Handshake(u64),
    Heartbeat,
    /// A block of this shard is computed.
    Block(u64),
    /// The result of this shard is to be offered.
    Upload(u64),
    /// The line of this connection may be free.
    Send(u64),
    /// Something came on a connection for payloads.
    Frame(u64, Box<Frame>),
    /// What is not computed by now is given back.
    Close,
    /// It leaves, whatever is left.
    Leave,
    /// A message that came while it was stopped.
    Late(u64, Box<Down>),
}

/// Where a held shard is.
#[derive(Debug)]
enum Stage {
    Queued,
    Running,
    /// It will never end, nor does its slot take another.
    Hung,
    Computed(Box<Report>),
    Failed(FailureKind, &'static str),
}

/// A shard that a worker has.
#[derive(Debug)]
struct HeldShard {
    key: u64,
    assignment: Assignment,
    stage: Stage,
    values: Vec<Digest>,
    began: u64,
    told_blocks: u64,
    told_computed: bool,
    /// It was given again, for example to be compared, while the answer to its result was still under way.
    again: bool,
    /// The last upload or checkpoint of it.
    call: u64,
}

/// A machine and the worker that runs on it.
pub(crate) struct Worker {
    pub(crate) machine: Machine,
    pub(crate) id: WorkerId,
    pub(crate) run: u64,
    up: bool,
    /// Until when it is stopped.
    stopped_until: u64,
    connection: Option<u64>,
    welcome: bool,
    /// Its connection for payloads.
    pub(crate) payloads: Option<u64>,
    held: Vec<HeldShard>,
    keys: u64,
    /// The job of the session's last assignment.
    last_job: Option<(JobRef, JobFacts)>,
    /// The shards that it has said in this session to have computed.
    said_computed: BTreeSet<NamedShard>,
    draining: bool,
    /// Slots that hang.
    hung: usize,
    /// It takes nothing any more.
    closed: bool,
}

impl Worker {
    fn new(machine: Machine) -> Self {
        Self {
            machine,
            id: WorkerId::default(),
            run: 0,
            up: false,
            stopped_until: 0,
            connection: None,
            welcome: false,
            payloads: None,
            held: Vec::new(),
            keys: 0,
            last_job: None,
            said_computed: BTreeSet::new(),
            draining: false,
            hung: 0,
            closed: false,
        }
    }

    /// Whether its program runs.
    pub(crate) fn is_up(&self) -> bool {
        self.up
    }

    fn session(&self) -> Option<u64> {
        self.connection.filter(|_| self.welcome)
    }

    fn find(&mut self, key: u64) -> Option<&mut HeldShard> {
        self.held.iter_mut().find(|held| held.key == key)
    }

    /// Whether it still has a shard.
    pub(crate) fn holds(&self, key: u64) -> bool {
        self.held.iter().any(|held| held.key == key)
    }

    /// The key of a held shard of this name.
    fn key_of(&self, shard: &NamedShard) -> Option<u64> {
        self.held.iter().find(|held| held.assignment.named() == *shard).map(|held| held.key)
    }

    fn profile(&self) -> WorkerProfile {
        WorkerProfile {
            name: self.id.to_string(),
            class: self.machine.class.clone(),
            precisions: vec![Precision::Fp32],
            slots: self.machine.slots,
            version: "0".to_owned(),
        }
    }
}

impl World {
    /// A machine more; its worker starts soon.
    pub(crate) fn add_machine(&mut self, machine: Machine) {
        if machine.slow {
            self.counts.fault(Fault::WorkerSlow);
        }
        if machine.chunk_ms >= SLOWEST_CHUNK / 2 {
            self.counts.fault(Fault::LineSlow);
        }
        self.workers.push(Worker::new(machine));
        let after = self.random.between(0, 5_000);
        self.worker_later(self.workers.len() - 1, after, Timer::Start);
    }

    /// Something will be due at a worker.
    pub(crate) fn worker_later(&mut self, index: usize, after: u64, timer: Timer) {
        let run = self.workers[index].run;
        self.schedule(after, Happening::Worker(index, run, timer));
    }

    /// Something is due at a worker. One that is stopped does it when it goes on.
    pub(crate) fn worker_timer(&mut self, index: usize, run: u64, timer: Timer) {
        let worker = &self.workers[index];
        if worker.run != run {
            return;
        }
        if worker.stopped_until > self.time {
            let after = worker.stopped_until - self.time;
            return self.schedule(after, Happening::Worker(index, run, timer));
        }
        match timer {
            Timer::Start => self.start_worker(index),
            Timer::Connect => self.connect_worker(index),
            Timer::Handshake(connection) => self.give_up_handshake(index, connection),
            Timer::Heartbeat => self.heartbeat(index),
            Timer::Block(key) => self.compute_block(index, key),
            Timer::Upload(key) => self.upload(index, key),
            Timer::Close => self.close_worker(index),
            Timer::Leave => self.say_goodbye(index),
            Timer::Late(connection, message) => self.take_message(index, connection, *message),
            Timer::Send(connection) => self.send_chunk(connection),
            Timer::Frame(connection, frame) => self.take_frame(index, connection, *frame),
        }
    }

    fn start_worker(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        (worker.up, worker.draining, worker.closed) = (true, false, false);
        worker.id = WorkerId::new(format!("w{index}.{}", worker.run));
        if worker.machine.lies > 0.0 {
            self.oracle.liars.insert(worker.id.clone());
        }
        self.worker_later(index, 0, Timer::Connect);
        self.worker_later(index, HEARTBEAT, Timer::Heartbeat);
    }

    /// The worker's program ends, with all that it has; another starts later.
    fn stop_worker(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        worker.run += 1;
        (worker.up, worker.welcome, worker.stopped_until) = (false, false, 0);
        worker.hung = 0;
        worker.held.clear();
        self.drop_payloads(index);
        let worker = &mut self.workers[index];
        if let Some(connection) = worker.connection.take() {
            self.break_connection(connection);
        }
        let after = self.random.between(500, 20_000);
        self.worker_later(index, after, Timer::Start);
    }

    /// Something goes wrong with a worker.
    pub(crate) fn harm_worker(&mut self, index: usize, fault: Fault) -> bool {
        if !self.workers[index].up {
            return false;
        }
        self.trace(|world| format!("{}: {fault:?}", world.workers[index].id));
        match fault {
            Fault::WorkerCrash => self.stop_worker(index),
            Fault::WorkerStop => self.workers[index].stopped_until = self.time + self.random.between(100, 40_000),
            Fault::Partition => self.cut_off(index),
            Fault::WorkerDrain if !self.workers[index].draining => {
                self.workers[index].draining = true;
                self.tell_draining(index);
                let after = self.random.between(0, 20_000);
                self.worker_later(index, after, Timer::Close);
            }
            _ => return false,
        }
        true
    }

    fn tell_draining(&mut self, index: usize) {
        if let Some(connection) = self.workers[index].session() {
            self.send_up(connection, Up::Draining);
        }
    }

    fn close_worker(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        worker.closed = true;
        worker.held.retain(|held| matches!(held.stage, Stage::Computed(_)));
        let after = if worker.held.is_empty() { 0 } else { 5_000 };
        self.worker_later(index, after, Timer::Leave);
    }

    fn say_goodbye(&mut self, index: usize) {
        if let Some(connection) = self.workers[index].session() {
            self.send_up(connection, Up::Goodbye);
            // The coordinator ends the connection when it has read it.
            self.workers[index].connection = None;
        }
        self.stop_worker(index);
    }

    fn connect_worker(&mut self, index: usize) {
        let run = self.workers[index].run;
        if self.workers[index].connection.is_some() {
            return;
        }
        let Some(connection) = self.connect(index, run) else {
            let after = self.random.between(100, 5_000);
            return self.worker_later(index, after, Timer::Connect);
        };
        let worker = &mut self.workers[index];
        (worker.connection, worker.welcome) = (Some(connection), false);
        worker.held.iter_mut().for_each(|held| (held.told_blocks, held.told_computed) = (0, false));
        worker.last_job = None;
        worker.said_computed.clear();
        let held = worker.held.iter().map(|held| held.assignment.named()).collect();
        let hello = Up::Hello { worker: worker.id.clone(), profile: Box::new(worker.profile()), held };
        self.send_up(connection, hello);
        self.worker_later(index, HANDSHAKE, Timer::Handshake(connection));
    }

    fn give_up_handshake(&mut self, index: usize, connection: u64) {
        let worker = &self.workers[index];
        if worker.connection == Some(connection) && !worker.welcome {
            self.break_connection(connection);
        }
    }

    /// A worker learns that its connection is broken.
    pub(crate) fn broken_below(&mut self, connection: u64) {
        let Some((index, run)) = self.network.below(connection) else { return };
        let worker = &mut self.workers[index];
        if worker.run == run && worker.connection == Some(connection) {
            (worker.connection, worker.welcome) = (None, false);
            let after = self.random.between(50, 3_000);
            self.worker_later(index, after, Timer::Connect);
        }
    }

    fn heartbeat(&mut self, index: usize) {
        self.worker_later(index, HEARTBEAT, Timer::Heartbeat);
        if let Some(connection) = self.workers[index].session() {
            self.send_up(connection, Up::Heartbeat);
            self.tell_news(index, true);
        }
    }

    /// Says what has changed since the last time in this session.
    fn tell_news(&mut self, index: usize, progress: bool) {
        let worker = &mut self.workers[index];
        let Some(connection) = worker.session() else { return };
        let news: Vec<Up> = worker.held.iter_mut().filter_map(|held| held.news(progress)).collect();
        worker.held.retain(|held| !matches!(held.stage, Stage::Failed(..)));
        worker.said_computed.extend(news.iter().filter_map(Up::computed));
        news.into_iter().for_each(|message| self.send_up(connection, message));
    }

    /// A message for a worker; one that is stopped reads it when it goes on.
    pub(crate) fn worker_message(&mut self, index: usize, run: u64, connection: u64, message: Down) {
        self.worker_timer(index, run, Timer::Late(connection, Box::new(message)));
    }

    fn take_message(&mut self, index: usize, connection: u64, message: Down) {
        if self.workers[index].connection != Some(connection) {
            return;
        }
        match message {
            Down::Welcome => self.welcome(index),
            Down::Assign { shard, job, checkpoint } => {
                let job = self.job_of(index, &shard, job.map(|job| *job));
                self.assigned(index, Assignment { shard, job, checkpoint });
            }
            Down::Revoke(shard) => {
                let revoked = self.workers[index].key_of(&shard);
                self.workers[index].held.retain(|held| Some(held.key) != revoked);
                self.begin(index);
            }
            Down::Answered { shard, is_refused } => {
                let Some(key) = self.workers[index].key_of(&shard) else { return };
                match is_refused {
                    true => self.refused(index, key),
                    false => self.answered(index, key),
                }
            }
        }
    }

    /// The job of an assignment: it comes with it, or it is that of the assignment before.
    fn job_of(&mut self, index: usize, shard: &ShardRef, job: Option<JobFacts>) -> JobFacts {
        let last = &mut self.workers[index].last_job;
        if let Some(job) = job {
            *last = Some((shard.job.clone(), job.clone()));
            return job;
        }
        let known = last.as_ref().filter(|(job, _)| *job == shard.job);
        let Some((.., known)) = known else { panic!("{shard:?} is assigned without its job") };
        known.clone()
    }

    fn welcome(&mut self, index: usize) {
        self.workers[index].welcome = true;
        if self.workers[index].draining {
            self.tell_draining(index);
        }
        self.tell_news(index, false);
        // Results that go over the session were perhaps lost with the last one.
        let keys: Vec<u64> = self.workers[index].held.iter().map(|held| held.key).collect();
        keys.into_iter().for_each(|key| self.bring_inline(index, key));
    }

    fn assigned(&mut self, index: usize, assignment: Assignment) {
        let worker = &mut self.workers[index];
        if let Some(held) = worker.held.iter_mut().find(|held| held.assignment.shard == assignment.shard) {
            (held.told_blocks, held.told_computed) = (0, false);
            held.again = matches!(held.stage, Stage::Computed(_));
            return self.tell_news(index, false);
        }
        if worker.closed {
            return;
        }
        worker.keys += 1;
        let (key, hangs) = (worker.keys, worker.hung > 0);
        if hangs {
            self.may_fail(&assignment);
        }
        let values = self.resume(&assignment);
        let began = self.time;
        self.workers[index].held.push(HeldShard {
            key,
            assignment,
            stage: Stage::Queued,
            values,
            began,
            told_blocks: 0,
            told_computed: false,
            again: false,
            call: 0,
        });
        self.begin(index);
    }

    /// The values that a checkpoint holds, if there is one that can be read.
    fn resume(&mut self, assignment: &Assignment) -> Vec<Digest> {
        let stored = assignment.checkpoint.and_then(|digest| self.store.get(digest));
        let Some(bytes) = stored else { return Vec::new() };
        let mut values: Vec<Digest> = bytes.as_chunks().0.iter().map(|value| Digest(*value)).collect();
        if self.scenario.mutation == Mutation::ResumesPastTheCheckpoint {
            values.extend(values.last().copied());
        }
        self.counts.sight(Sight::Resumed);
        // At least the last block is still to be computed.
        let blocks = assignment.blocks();
        values.truncate((blocks.end - blocks.start - 1) as usize);
        values
    }

    fn bring_inline(&mut self, index: usize, key: u64) {
        let worker = &mut self.workers[index];
        if !worker.machine.inline {
            return;
        }
        let Some(connection) = worker.session() else { return };
        let Some(held) = worker.find(key) else { return };
        if let Stage::Computed(report) = &held.stage {
            let (shard, report) = (held.assignment.named(), report.clone());
            self.send_up(connection, Up::Result(shard, report));
        }
    }

    /// Offers a result, unless it is on its way.
    fn upload(&mut self, index: usize, key: u64) {
        if self.is_offered(index, key) {
            return;
        }
        let Some(held) = self.workers[index].find(key) else { return };
        let Stage::Computed(report) = &held.stage else { return };
        let payload = Payload::Partial(report.clone());
        held.call += 1;
        let call = held.call;
        self.offer(index, key, call, payload);
    }

    fn perhaps_checkpoint(&mut self, index: usize, key: u64) {
        if !self.random.chance(self.scenario.checkpoints) || self.workers[index].machine.lies > 0.0 {
            return;
        }
        let worker = self.workers[index].id.clone();
        let Some(held) = self.workers[index].find(key) else { return };
        let bytes: Vec<u8> = held.values.iter().flat_map(|value| value.0).collect();
        let stored = InputRef { size: bytes.len() as u64, digest: Digest::of(&bytes) };
        let members_done = held.values.len() as u64 * held.assignment.job.block_size;
        let checkpoint = ShardCheckpoint { stored, members_done, epochs: 0 };
        held.call += 1;
        let (call, shard) = (held.call, held.assignment.shard.clone());
        self.offer(index, key, call, Payload::Checkpoint { worker, shard, checkpoint, bytes });
    }

    /// An answer to a payload.
    pub(crate) fn take_reply(&mut self, index: usize, (key, call): (u64, u64), reply: Reply) {
        let Reply::Answer(answer) = reply else { return };
        let Some(held) = self.workers[index].find(key) else { return };
        match answer {
            Answer::Reported(Verdict::NoSession) => self.offer_later(index, key),
            Answer::Reported(Verdict::Invalid) => self.refused(index, key),
            Answer::Reported(_) => self.answered(index, key),
            Answer::Wanted(false) if held.call == call && !matches!(held.stage, Stage::Computed(_)) => {
                self.workers[index].held.retain(|held| held.key != key);
                self.begin(index);
            }
            _ => {}
        }
    }

    /// The coordinator refuses a result: its shard has failed, whoever's fault it is.
    fn refused(&mut self, index: usize, key: u64) {
        let held = self.workers[index].find(key).filter(|held| matches!(held.stage, Stage::Computed(_)));
        let Some(assignment) = held.map(|held| held.assignment.clone()) else { return };
        self.counts.sight(Sight::Refused);
        self.may_fail(&assignment);
        self.fail(index, key, FailureKind::Task, "the result was refused");
    }

    /// The coordinator has a result, or does not want it. What was given again meanwhile is computed again.
    fn answered(&mut self, index: usize, key: u64) {
        let worker = &mut self.workers[index];
        let Some(held) = worker.find(key).filter(|held| matches!(held.stage, Stage::Computed(_))) else { return };
        if held.again && !self.workers[index].closed {
            let worker = &mut self.workers[index];
            worker.keys += 1;
            let next = worker.keys;
            if let Some(held) = worker.find(key) {
                (held.key, held.stage, held.again) = (next, Stage::Queued, false);
                held.values.clear();
            }
        } else {
            self.workers[index].held.retain(|held| held.key != key);
        }
        self.begin(index);
    }
}

impl HeldShard {
    fn news(&mut self, progress: bool) -> Option<Up> {
        let shard = || self.assignment.named();
        let done = self.values.len() as u64;
        match &self.stage {
            Stage::Running if progress && done > self.told_blocks => {
                self.told_blocks = done;
                Some(Up::Progress(shard(), done))
            }
            Stage::Computed(_) if !self.told_computed => {
                self.told_computed = true;
                Some(Up::Computed(shard()))
            }
            Stage::Failed(kind, message) => Some(Up::Failed(shard(), *kind, (*message).to_owned())),
            _ => None,
        }
    }
}
