//! What a seed stands for: sweeps, workers, settings, and which faults there are how often.
//!
//! Each kind of fault is left out in half of the scenarios: a fault that is always there hides what others would show.

use crate::intake::SLOWEST_CHUNK;
use crate::random::Random;
use crate::transfer::bytes;
use nadgrid_core::cost::Sizing;
use nadgrid_core::ids::JobIndex;
use nadgrid_core::numerics::NumericsClass;
use nadgrid_core::places::PlaceBounds;
use nadgrid_core::scheduler::{FairShare, Settings};
use nadgrid_core::shell::CompactionBounds;
use nadgrid_core::spec::{Inputs, Spec};
use std::collections::BTreeSet;

/// Something that is broken on purpose, to see that the oracle sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// Nothing.
    #[default]
    None,
    /// A crash takes the last batch with it that was acknowledged.
    JournalLosesABatch,
    /// Everybody is told before the journal is written.
    AnswersBeforeTheWrite,
    /// What is said in a session that is over counts as said in the worker's newer one.
    HearsOldSessions,
    /// The end of a session that is over ends the worker's newer one.
    EndsNewSessions,
    /// A result of another class passes for one of the sweep's.
    TakesAnyClass,
    /// A compacted journal lacks a record.
    CompactionDropsARecord,
    /// The reduction takes damaged bytes for good.
    ReducerTrustsTheStore,
    /// The reduction merges in the order of arrival, not of the tree.
    ReducerSwaps,
    /// A merge takes its partials in the wrong order.
    MergeSwaps,
    /// What was merged is removed before the journal says that it was.
    DiscardsBeforeTheWrite,
    /// Whoever compares sees what is committed.
    AuditsAgree,
    /// Workers go on from a checkpoint as if it held one block more.
    ResumesPastTheCheckpoint,
    /// Workers send the bytes of payloads that have no place yet.
    SendsBeforeTheGrant,
    /// The scheduler pauses sweeps and does not record it.
    PausesUnrecorded,
    /// It counts retries and does not record them.
    RetriesUnrecorded,
    /// It counts speculative leases and does not record them.
    SpeculationUnrecorded,
    /// It keeps checkpoints and does not record them.
    CheckpointsUnrecorded,
    /// It ends audits and does not record it.
    AuditsUnrecorded,
    /// It gives blocks up and does not record it.
    QuarantinesUnrecorded,
}

/// Events per virtual second, or probabilities where they say so.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rates {
    pub(crate) coordinator_crash: f64,
    /// The chance of each batch that the coordinator dies in it.
    pub(crate) crash_in_batch: f64,
    /// The chance of each compaction that the coordinator dies in it.
    pub(crate) crash_in_compaction: f64,
    pub(crate) worker_crash: f64,
    pub(crate) worker_stop: f64,
    pub(crate) worker_drain: f64,
    pub(crate) partition: f64,
    pub(crate) clock_jump: f64,
    pub(crate) blob: f64,
    /// The chance of each block that it fails for once.
    pub(crate) transient: f64,
    /// The chance of each block that its worker turns out to be unfit.
    pub(crate) unfit: f64,
    /// The chance of each block that its slot hangs.
    pub(crate) hung: f64,
    /// The chance of each message of a session that the connection breaks with it.
    pub(crate) broken: f64,
    /// The chance of each message under way on a broken connection that it is read all the same.
    pub(crate) late_words: f64,
    /// The chance of each shard that it is computed in another class.
    pub(crate) other_class: f64,
    /// The chance of each compaction that it fails.
    pub(crate) compaction_fails: f64,
    /// The chance of each request that it, or its answer, is lost.
    pub(crate) lost: f64,
    /// The chance of each request that it comes twice.
    pub(crate) duplicated: f64,
    /// The chance of each request that it comes late.
    pub(crate) delayed: f64,
    /// The chance of each write that it takes long.
    pub(crate) slow_write: f64,
    /// The chance of each merge and reduction that the store fails, and it is tried again.
    pub(crate) store_fails: f64,
    /// The chance of each grant that it is lost.
    pub(crate) grant_lost: f64,
    pub(crate) store_away: f64,
    /// The chance of each payload that the store takes long for it.
    pub(crate) store_slow: f64,
}

/// What payloads travel by.
#[derive(Clone, Debug)]
pub(crate) struct Plane {
    pub(crate) bounds: PlaceBounds,
    /// Chunks that a connection takes before any is read.
    pub(crate) window_chunks: u64,
    pub(crate) partial_chunks: u64,
    pub(crate) checkpoint_chunks: u64,
}

/// A place where a worker runs, again and again.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) class: NumericsClass,
    pub(crate) slots: u32,
    /// Milliseconds of a block.
    pub(crate) block_ms: u64,
    /// How often it lies.
    pub(crate) lies: f64,
    /// Whether small results go over the session.
    pub(crate) inline: bool,
    /// Whether it is many times slower than the others.
    pub(crate) slow: bool,
    /// Milliseconds that a chunk of a payload takes.
    pub(crate) chunk_ms: u64,
}

/// A sweep that a user has in mind, and what the user will do with it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) spec: Box<Spec>,
    pub(crate) share: FairShare,
    pub(crate) submit_at: u64,
    /// From when to when.
    pub(crate) pause: Option<(u64, u64)>,
    pub(crate) cancel_at: Option<u64>,
    pub(crate) verify: bool,
    /// Blocks that fail wherever they are computed.
    pub(crate) poison: BTreeSet<(JobIndex, u64)>,
    /// Blocks that take down whoever computes them.
    pub(crate) killers: BTreeSet<(JobIndex, u64)>,
}

/// Everything that a seed decides beforehand.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) mutation: Mutation,
    pub(crate) settings: Settings,
    pub(crate) rates: Rates,
    pub(crate) plane: Plane,
    pub(crate) machines: Vec<Machine>,
    pub(crate) plans: Vec<Plan>,
    /// When faults stop.
    pub(crate) calm_at: u64,
    /// Probability of a checkpoint after a block.
    pub(crate) checkpoints: f64,
    /// When the journal is compacted.
    pub(crate) compaction: CompactionBounds,
    /// Whether workers are lost so easily, for the settings, that a good block may be given up with a bad one.
    pub(crate) losses_count: bool,
}

impl Scenario {
    /// The scenario of a seed.
    pub(crate) fn new(seed: u64, mutation: Mutation) -> Self {
        let mut random = Random::new(seed);
        let random = &mut random;
        let has_liar = random.chance(0.15);
        let losses_count = random.chance(0.08);
        let quiet = random.chance(0.08);
        let rates = if quiet { Rates::default() } else { rates(random) };
        let classes = if random.chance(0.25) { 2 } else { 1 };
        let machines = machines(random, classes, has_liar, quiet);
        let plans = (0..random.between(1, 3)).map(|index| plan(random, index, has_liar, losses_count)).collect();
        Self {
            mutation,
            settings: settings(random, losses_count),
            rates,
            plane: plane(random),
            machines,
            plans,
            calm_at: random.between(20_000, 90_000),
            checkpoints: if random.chance(0.4) { 0.4 } else { 0.0 },
            compaction: CompactionBounds { beyond: random.between(3, 120), times: random.between(1, 2) },
            losses_count,
        }
    }

    /// LeNet's NADs of 8,192 networks on twelve workers of two slots, ten and the two that come when faults stop, with the defaults
    /// of the programs: partials of 4 MiB, a window of 1 MiB, eight places. Faults are rare or not at all.
    pub(crate) fn crowd(rates: Rates, calm_at: u64, mutation: Mutation) -> Self {
        let class = class(CLASSES[0]);
        let machines = vec![good(&class); 10];
        let spec = "name = 's0'\narchitectures = ['logreg']\n[nads]\nnetworks = 8192\nblock_size = 32\n";
        let spec = Spec::from_toml(spec).unwrap_or_else(|error| panic!("{error}"));
        let share = FairShare { priority: 0, weight: 1.0 };
        let (poison, killers) = (BTreeSet::new(), BTreeSet::new());
        let plan = Plan {
            spec: Box::new(spec),
            share,
            submit_at: 0,
            pause: None,
            cancel_at: None,
            verify: false,
            poison,
            killers,
        };
        // Who sends what it likes has as many payloads on their way as it has results.
        let each = if mutation == Mutation::SendsBeforeTheGrant { usize::MAX } else { 1 };
        let bounds = PlaceBounds { places: 8, each, bytes: bytes(8 * 64) };
        Self {
            mutation,
            settings: Settings::default(),
            rates,
            plane: Plane { bounds, window_chunks: 16, partial_chunks: 64, checkpoint_chunks: 1 },
            machines,
            plans: vec![plan],
            calm_at,
            checkpoints: 0.0,
            compaction: CompactionBounds::default(),
            losses_count: false,
        }
    }

    /// The plan of a spec's name.
    pub(crate) fn plan(&self, name: &str) -> Option<&Plan> {
        self.plans.iter().find(|plan| plan.spec.name == name)
    }
}

fn settings(random: &mut Random, losses_count: bool) -> Settings {
    Settings {
        sizing: Sizing { target_seconds: random.between(1, 8) as f64, most_blocks: 1 << random.below(5) },
        most_attempts: random.between(2, 4) as u32,
        most_losses: if losses_count { 3 } else { 100_000 },
        speculate_after: if random.chance(0.7) { 2.0 } else { 0.0 },
        speculate_least_ms: random.between(1_000, 6_000),
        stall_after_ms: random.between(150_000, 300_000),
        most_ended_sweeps: if random.chance(0.15) { 1 } else { 1_000 },
        merge_group: random.between(2, 8) as usize,
        most_merges: random.between(1, 4) as usize,
        ..Settings::default()
    }
}

fn rates(random: &mut Random) -> Rates {
    // Few faults of few kinds, or many.
    let scale = *random.pick(&[0.1, 0.5, 1.0]);
    let mut rate = |most: f64| if random.chance(0.5) { 0.0 } else { random.unit() * most * scale };
    Rates {
        coordinator_crash: rate(0.1),
        crash_in_batch: rate(0.03),
        crash_in_compaction: rate(0.3),
        worker_crash: rate(0.1),
        worker_stop: rate(0.1),
        worker_drain: rate(0.1),
        partition: rate(0.1),
        clock_jump: rate(0.1),
        blob: rate(0.2),
        transient: rate(0.05),
        unfit: rate(0.01),
        hung: rate(0.01),
        broken: rate(0.03),
        lost: rate(0.2),
        duplicated: rate(0.2),
        delayed: rate(0.2),
        slow_write: rate(0.1),
        store_fails: rate(0.3),
        grant_lost: rate(0.1),
        store_away: rate(0.05),
        store_slow: rate(0.1),
        late_words: rate(0.9),
        other_class: rate(0.03),
        compaction_fails: rate(0.3),
    }
}

/// A class of this name.
pub(crate) fn class(arithmetic: &str) -> NumericsClass {
    NumericsClass {
        device: "cpu".into(),
        arithmetic: arithmetic.into(),
        evaluation: "patch".into(),
        libtorch: "2.11.0".into(),
        precision: "fp32".into(),
        kernels: 1,
    }
}

fn plane(random: &mut Random) -> Plane {
    let (partial_chunks, checkpoint_chunks) = (random.between(1, 8), random.between(1, 8));
    Plane {
        bounds: PlaceBounds { places: random.between(1, 4) as usize, each: 1, bytes: bytes(random.between(1, 16)) },
        window_chunks: random.between(1, 8),
        partial_chunks,
        checkpoint_chunks,
    }
}

/// Lines are fast, or little faster than the slowest that the coordinator waits for.
fn chunk_ms(random: &mut Random, quiet: bool) -> u64 {
    if !quiet && random.chance(0.1) {
        random.between(SLOWEST_CHUNK / 2, SLOWEST_CHUNK - 100)
    } else {
        random.between(1, 20)
    }
}

pub(crate) const CLASSES: [&str; 2] = ["portable", "avx512"];

fn machines(random: &mut Random, classes: u64, has_liar: bool, quiet: bool) -> Vec<Machine> {
    let count = random.between(1, 6) + if has_liar { 2 } else { 0 };
    let inline = *random.pick(&[0.0, 0.5, 1.0]);
    let mut machine = |index: u64| Machine {
        class: class(CLASSES[(index % classes) as usize]),
        slots: random.between(1, 3) as u32,
        block_ms: random.between(100, 1_500),
        lies: if has_liar && index == 0 { 0.5 } else { 0.0 },
        inline: random.chance(inline),
        slow: !quiet && index > 0 && random.chance(0.1),
        chunk_ms: chunk_ms(random, quiet),
    };
    (0..count).map(&mut machine).collect()
}

fn good(class: &NumericsClass) -> Machine {
    Machine { class: class.clone(), slots: 2, block_ms: 100, lies: 0.0, inline: false, slow: false, chunk_ms: 1 }
}

/// Machines that come when faults stop: without them nobody might be left to end what was begun.
pub(crate) fn helpers(machines: &[Machine]) -> Vec<Machine> {
    let classes: BTreeSet<&NumericsClass> = machines.iter().map(|machine| &machine.class).collect();
    classes.into_iter().flat_map(|class| [good(class), good(class)]).collect()
}

fn plan(random: &mut Random, index: u64, audited: bool, losses_count: bool) -> Plan {
    let audit = if audited { 1.0 } else { *random.pick(&[0.0, 0.0, 0.2]) };
    let spec = spec(random, index, audit);
    let jobs = spec.jobs(&Inputs::new());
    let mut some = |probability: f64| {
        let mut blocks = BTreeSet::new();
        while random.chance(probability) && blocks.len() < 2 {
            let job = random.below(jobs.len() as u64) as usize;
            blocks.insert((JobIndex(job as u32), random.below(jobs[job].grid.blocks())));
        }
        blocks
    };
    let poison = some(0.15);
    let killers = if losses_count { some(0.5) } else { BTreeSet::new() };
    let submit_at = random.below(20_000);
    let pause_at = submit_at + random.below(20_000);
    Plan {
        spec: Box::new(spec),
        share: FairShare { priority: random.below(3) as i32 - 1, weight: random.between(1, 3) as f64 },
        submit_at,
        pause: random.chance(0.2).then(|| (pause_at, pause_at + random.below(20_000))),
        cancel_at: random.chance(0.1).then(|| submit_at + random.below(40_000)),
        verify: random.chance(0.3),
        poison,
        killers,
    }
}

/// NADs alone, of two architectures, or with training runs along them: jobs that need another's result.
fn spec(random: &mut Random, index: u64, audit: f64) -> Spec {
    let (size, blocks) = (1u64 << random.below(4), random.between(5, 60));
    // The last block may be short.
    let networks = blocks * size - random.below(size);
    let architectures = *random.pick(&["'logreg'", "'logreg'", "'logreg', 'deep_linear'"]);
    let mut text = format!("name = 's{index}'\nseed = {index}\narchitectures = [{architectures}]\n");
    if audit > 0.0 {
        text += &format!("audit = {audit:?}\n");
    }
    text += &format!("input = {{ height = 8, width = 8 }}\n[nads]\nnetworks = {networks}\nblock_size = {size}\n");
    if random.chance(0.3) {
        let (seeds, size) = (random.between(5, 20), 1 << random.below(3));
        text += "[directional]\ndirections = { kind = 'nads', indices = [0, 1] }\n";
        text += &format!("seeds = {seeds}\nblock_size = {size}\n");
    }
    Spec::from_toml(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}
