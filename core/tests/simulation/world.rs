//! The world: a virtual clock, what is to happen next, and all who take part.
//!
//! Nothing happens at the same time: happenings are taken one by one, by time and then by age. What the actors do is in files
//! of their own, as methods of the world.

use crate::coordinator::{Coordinator, Step};
use crate::faults::{Counts, Fault, Sight};
use crate::journal::Journal;
use crate::network::{Caller, Down, Network, Reply, Request, Up};
use crate::oracle::{self, Oracle};
use crate::random::Random;
use crate::scenario::{self, Mutation, Scenario};
use crate::shadow::Shadow;
use crate::store::Store;
use crate::transfer::Frame;
use crate::user::User;
use crate::worker::{Timer, Worker};
use nadgrid_core::ids::Time;
use nadgrid_core::scheduler::{Explanation, Subject, SweepOutcome, Tally};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// After the faults have stopped, all must have come to an end in this time: two hours, of which a sweep with blocks that take
/// their workers down needs the most.
const PATIENCE: u64 = 7_200_000;
/// When nothing is to come any more, silent workers are forgotten in this time.
const AFTERMATH: u64 = 120_000;

/// Something that happens.
pub(crate) enum Happening {
    /// A message of a session arrives at the coordinator.
    Up(u64, Up),
    /// The same, of a connection that is broken.
    LateUp(u64, Up),
    /// A message of a session arrives at its worker.
    Down(u64, Down),
    /// Something arrives on a connection for payloads.
    Frame(u64, Frame),
    /// The coordinator learns that a connection is broken.
    BrokenAbove(u64),
    /// The worker learns it.
    BrokenBelow(u64),
    /// A request arrives at the coordinator; it was sent when it had been started so many times.
    Request { caller: Caller, request: Request, sent_in: u64 },
    /// Its answer arrives.
    Reply(Caller, Reply),
    /// Something is due at the coordinator of this start.
    Coordinator(u64, Step),
    /// Something is due at a worker, if it is still the same run of its program.
    Worker(usize, u64, Timer),
    /// Something is due at a user.
    User(usize, u64),
    /// Something goes wrong.
    Fault(Fault),
    /// Nothing goes wrong any more.
    Calm,
}

/// Who takes part, and what is to come.
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) random: Random,
    /// The time, which the coordinator's clock may differ from.
    pub(crate) time: u64,
    age: u64,
    due: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    pub(crate) calm: bool,
    pub(crate) coordinator: Coordinator,
    pub(crate) journal: Journal,
    pub(crate) store: Store,
    pub(crate) network: Network,
    pub(crate) workers: Vec<Worker>,
    pub(crate) users: Vec<User>,
    pub(crate) oracle: Oracle,
    pub(crate) shadow: Shadow,
    pub(crate) counts: Counts,
    verbose: bool,
}

impl World {
    /// The world of a seed, before anything has happened.
    pub(crate) fn new(seed: u64, mutation: Mutation, verbose: bool) -> Self {
        Self::of(Scenario::new(seed, mutation), seed, verbose)
    }

    /// The world of a scenario, with the chance of a seed.
    pub(crate) fn of(scenario: Scenario, seed: u64, verbose: bool) -> Self {
        let mut world = Self {
            random: Random::new(!seed),
            time: 0,
            age: 0,
            due: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            calm: false,
            coordinator: Coordinator::default(),
            journal: Journal::default(),
            store: Store::default(),
            network: Network::default(),
            workers: Vec::new(),
            users: Vec::new(),
            oracle: Oracle::default(),
            shadow: Shadow::default(),
            counts: Counts::default(),
            verbose,
            scenario,
        };
        world.trace(|world| format!("{:#?}", world.scenario));
        for machine in world.scenario.machines.clone() {
            world.add_machine(machine);
        }
        for plan in 0..world.scenario.plans.len() {
            world.add_user(plan);
        }
        world.schedule(0, Happening::Coordinator(0, Step::Start));
        world.schedule(world.scenario.calm_at, Happening::Calm);
        Fault::ALL.iter().for_each(|&fault| world.schedule_fault(fault));
        world
    }

    /// Says what happens, if somebody wants to see it.
    pub(crate) fn trace(&self, what: impl FnOnce(&Self) -> String) {
        if self.verbose {
            println!("{:>9} {}", self.time, what(self));
        }
    }

    /// Something will happen after so many milliseconds.
    pub(crate) fn schedule(&mut self, after: u64, happening: Happening) {
        self.age += 1;
        self.due.push(Reverse((self.time + after, self.age)));
        self.happenings.insert(self.age, happening);
    }

    /// True with this probability, while things go wrong; counts the fault.
    pub(crate) fn strikes(&mut self, probability: f64, fault: Fault) -> bool {
        let strikes = !self.calm && self.random.chance(probability);
        if strikes {
            self.counts.fault(fault);
        }
        strikes
    }

    fn schedule_fault(&mut self, fault: Fault) {
        let rates = &self.scenario.rates;
        let rate = match fault {
            Fault::CrashIdle => rates.coordinator_crash,
            Fault::WorkerCrash => rates.worker_crash,
            Fault::WorkerStop => rates.worker_stop,
            Fault::WorkerDrain => rates.worker_drain,
            Fault::Partition => rates.partition,
            Fault::ClockForward | Fault::ClockBack => rates.clock_jump / 2.0,
            Fault::BlobLost | Fault::BlobDamaged => rates.blob / 2.0,
            Fault::StoreAway => rates.store_away,
            _ => 0.0,
        };
        if rate > 0.0 && !self.calm {
            // Exponential waits: faults come in swarms too.
            let wait = -(1.0 - self.random.unit()).ln() / rate * 1e3;
            self.schedule(wait as u64 + 1, Happening::Fault(fault));
        }
    }

    fn go_wrong(&mut self, fault: Fault) {
        if self.calm {
            return;
        }
        let happened = match fault {
            Fault::CrashIdle => self.crash_from_outside(),
            Fault::ClockForward => self.jump(|now, by| now.saturating_add(by)),
            Fault::ClockBack => self.jump(u64::saturating_sub),
            Fault::BlobLost | Fault::BlobDamaged => self.harm_a_blob(fault == Fault::BlobLost),
            Fault::StoreAway => self.lose_the_store(),
            _ => {
                let index = self.random.below(self.workers.len() as u64) as usize;
                self.harm_worker(index, fault)
            }
        };
        if happened {
            self.counts.fault(fault);
        }
        self.schedule_fault(fault);
    }

    fn jump(&mut self, jump: impl Fn(u64, u64) -> u64) -> bool {
        let by = self.random.between(1, 90_000);
        self.coordinator.clock = jump(self.coordinator.clock, by);
        self.trace(|world| format!("the clock is {} ms ahead", world.coordinator.clock));
        true
    }

    /// The store takes nothing for a while: its disk is full, or it is away.
    fn lose_the_store(&mut self) -> bool {
        self.store.away_until = self.time + self.random.between(100, 60_000);
        self.trace(|world| format!("the store takes nothing until {}", world.store.away_until));
        true
    }

    /// Takes away a partial or checkpoint that is needed.
    fn harm_a_blob(&mut self, lose: bool) -> bool {
        let needed = self.coordinator.partials_and_checkpoints();
        if needed.is_empty() {
            return false;
        }
        let blob = *self.random.pick(&needed);
        self.trace(|_| format!("{blob} is harmed"));
        self.store.harm(blob, lose);
        true
    }

    /// Lets everything happen, until all has come to its end.
    ///
    /// # Errors
    /// What does not hold.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        let end = self.scenario.calm_at + PATIENCE;
        let mut over_at = None;
        while let Some(Reverse((time, age))) = self.due.pop() {
            self.time = time;
            let happening = self.happenings.remove(&age).ok_or("nothing happens")?;
            self.happen(happening)?;
            if self.calm && over_at.is_none() && self.is_over() {
                over_at = Some(self.time + AFTERMATH + self.lag());
            }
            if time > over_at.unwrap_or(end) {
                break;
            }
        }
        self.check_end()
    }

    fn happen(&mut self, happening: Happening) -> Result<(), String> {
        match happening {
            Happening::Up(connection, message) => self.arrive(connection, message),
            Happening::LateUp(connection, message) => self.arrive_late(connection, message),
            Happening::Down(connection, message) => self.hear(connection, message),
            Happening::Frame(connection, frame) => self.frame_arrives(connection, frame)?,
            Happening::BrokenAbove(connection) => {
                self.network.is_read_no_more(connection);
                self.transfers_break(connection);
                self.broken_above(connection);
            }
            Happening::BrokenBelow(connection) => {
                self.line_breaks(connection);
                self.broken_below(connection);
            }
            Happening::Request { caller, request, sent_in } => self.request_arrives(caller, request, sent_in),
            Happening::Reply(caller, reply) => self.reply_arrives(caller, reply)?,
            Happening::Coordinator(start, step) => self.coordinate(start, step)?,
            Happening::Worker(index, run, timer) => self.worker_timer(index, run, timer),
            Happening::User(index, call) => self.user_step(index, call)?,
            Happening::Fault(fault) => self.go_wrong(fault),
            Happening::Calm => self.calm_down(),
        }
        Ok(())
    }

    fn reply_arrives(&mut self, caller: Caller, reply: Reply) -> Result<(), String> {
        match caller {
            Caller::User { index, call } => self.user_hears(index, call, reply),
            // An answer to a transfer comes in its stream.
            Caller::Stream(_) => Ok(()),
        }
    }

    fn calm_down(&mut self) {
        self.trace(|_| "calm".to_owned());
        self.calm = true;
        for machine in scenario::helpers(&self.scenario.machines) {
            self.add_machine(machine);
        }
    }

    fn is_over(&self) -> bool {
        self.users.iter().all(User::is_done) && self.oracle.model.sweeps.values().all(|sweep| sweep.outcome.is_some())
    }

    fn check_end(&mut self) -> Result<(), String> {
        if let Some(user) = self.users.iter().find(|user| !user.is_done()) {
            return Err(format!("{user:?} waits for ever: {:?}", self.explain(user)));
        }
        self.oracle.check_ends(&self.scenario)?;
        self.check_workers()?;
        self.coordinator.check_places()?;
        self.check_work()?;
        for sweep in self.oracle.model.sweeps.values() {
            self.counts.sight(match sweep.outcome {
                Some(SweepOutcome::Complete { .. }) => Sight::Complete,
                Some(SweepOutcome::Incomplete { .. }) => Sight::Incomplete,
                _ => Sight::Cancelled,
            });
        }
        Ok(())
    }

    /// What the scheduler says of a user's sweep.
    fn explain(&self, user: &User) -> Option<Explanation> {
        self.coordinator.scheduler()?.explain(user.sweep()?, Subject::Sweep, Time(0))
    }

    /// Nobody holds anything any more, and whoever is gone is forgotten.
    fn check_workers(&self) -> Result<(), String> {
        let Some(scheduler) = self.coordinator.scheduler() else { return Err("the coordinator is down".to_owned()) };
        self.oracle.agrees(scheduler)?;
        self.shadow.compare(scheduler)?;
        for view in scheduler.workers(Time(0)) {
            if !self.workers.iter().any(|worker| worker.id == view.id && worker.is_up()) {
                return Err(format!("{} is gone and still known", view.id));
            }
            if view.leases > 0 {
                return Err(format!("{} holds {} shards when all is over", view.id, view.leases));
            }
        }
        Ok(())
    }

    /// No block was computed more often than faults, withdrawals, audits, verifications and copies explain: exactly once without any.
    fn check_work(&self) -> Result<(), String> {
        let blocks: u64 = self.scenario.plans.iter().map(oracle::blocks).sum();
        let scheduler = self.coordinator.scheduler().ok_or("the coordinator is down")?;
        let tallies = |of: fn(&Tally) -> u64| -> u64 {
            let sweeps = self.oracle.model.sweeps.keys().filter_map(|id| scheduler.sweep(id));
            sweeps.flat_map(|sweep| sweep.jobs).map(|job| of(&job.tally)).sum()
        };
        // A shard that is lost is at most this much work; a worker that is lost, this much for each of its slots and for each
        // result that waits.
        let shard = self.scenario.settings.sizing.most_blocks;
        let slots: u64 = self.workers.iter().map(|worker| 2 * u64::from(worker.machine.slots) + 2).sum();
        let copies = tallies(|tally| tally.speculative) + self.counts.seen(Sight::Verified);
        let ended_early = self.counts.seen(Sight::Paused) + self.counts.seen(Sight::Revoked);
        let audits = if self.scenario.plans.iter().any(|plan| plan.spec.audit > 0.0) { blocks } else { 0 };
        let most =
            blocks + audits + self.oracle.withdrawn + shard * (copies + ended_early + slots * self.counts.faults());
        match self.oracle.computed > most {
            true => Err(format!("{} blocks were computed, at most {most} are explained", self.oracle.computed)),
            false => Ok(()),
        }
    }
}
