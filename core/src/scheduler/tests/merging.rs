//! Merging while computing: few partials, the same bits, and whole withdrawals.

use super::*;
use crate::tree::{Fold, root};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

/// Blocks of four networks; the last one is short.
const SPEC: &str = "name = 't'\narchitectures = ['logreg']\n[nads]\nblock_size = 4\nnetworks = ";

/// A merge that was asked for.
#[derive(Clone, Debug)]
struct Merge {
    job: JobRef,
    number: u64,
    node: Node,
    partials: Vec<StoredPartial>,
}

fn merges(actions: &[Action]) -> Vec<Merge> {
    let merges = actions.iter().filter_map(|action| match action {
        Action::Merge { job, number, node, partials } => {
            let (job, number, node, partials) = (job.clone(), *number, *node, partials.clone());
            Some(Merge { job, number, node, partials })
        }
        _ => None,
    });
    merges.collect()
}

/// A store that holds, in words, which blocks were merged in which order.
#[derive(Default)]
struct Words {
    blobs: BTreeMap<Digest, String>,
    total: u64,
}

impl Words {
    fn put(&mut self, text: String) -> Digest {
        let digest = Digest::of(text.as_bytes());
        self.blobs.insert(digest, text);
        digest
    }

    /// Returns what a worker hands in for a shard.
    fn computed(&mut self, node: Node) -> Partial {
        let mut fold = Fold::below(node, self.total, |a, b| format!("({a} {b})"));
        node.blocks(self.total).for_each(|block| fold.push(Node::block(block), block.to_string()).unwrap());
        Partial::stored(self.put(fold.finish(node).unwrap()))
    }

    /// Returns what the partials of a node give together.
    fn fold(&self, node: Node, partials: impl IntoIterator<Item = StoredPartial>) -> String {
        let mut fold = Fold::below(node, self.total, |a, b| format!("({a} {b})"));
        for partial in partials {
            let PartialBytes::Stored(digest) = partial.bytes else { panic!("moments are stored") };
            fold.push(partial.node, self.blobs[&digest].clone()).unwrap();
        }
        fold.finish(node).unwrap()
    }
}

/// One job in the hands of a few slots.
struct Bench {
    world: World,
    words: Words,
    sweep: SweepId,
    /// Merges that wait for the pool.
    pool: VecDeque<Merge>,
    reductions: Vec<Reduction>,
    most_stored: u64,
    written: u64,
}

impl Bench {
    fn new(blocks: u64, settings: Settings) -> Self {
        let mut world = World::new(Settings { speculate_after: 0.0, ..settings });
        world.merges = false;
        let (request, sweep) = (world.request(), SweepId::new("s"));
        let spec = Box::new(Spec::from_toml(&format!("{SPEC}{}", blocks * 4 - 1)).unwrap());
        world.submit_as(sweep.clone(), spec, FairShare::default(), request);
        let words = Words { total: blocks, ..Words::default() };
        Self { world, words, sweep, pool: VecDeque::new(), reductions: Vec::new(), most_stored: 0, written: 0 }
    }

    fn take(&mut self, actions: &[Action]) {
        for action in actions {
            if let Action::Discard { blobs } = action {
                let needed: BTreeSet<Digest> = self.world.scheduler.referenced().collect();
                blobs.iter().filter(|blob| !needed.contains(blob)).for_each(|blob| drop(self.words.blobs.remove(blob)));
            }
        }
        self.pool.extend(merges(actions));
        self.reductions.extend(reductions(actions));
        self.most_stored = self.most_stored.max(self.stored());
    }

    /// The facts that must survive a restart.
    fn facts(&self) -> Vec<Record> {
        self.world.scheduler.snapshot().collect()
    }

    fn stored(&self) -> u64 {
        self.world.scheduler.sweep(&self.sweep).unwrap().jobs[0].partials
    }

    fn join(&mut self, worker: &str, slots: u32) {
        self.world.join(worker, slots);
    }

    fn report(&mut self, place: usize) {
        let (shard, worker) = self.world.held()[place].clone();
        let partial = self.words.computed(shard.node);
        let (verdict, actions) = self.world.report_as(worker.as_str(), &shard, partial);
        assert!(matches!(verdict, Verdict::Committed | Verdict::Checked), "{verdict:?}");
        self.take(&actions);
    }

    /// The pool does one merge.
    fn merge(&mut self) -> bool {
        let Some(Merge { job, number, node, partials }) = self.pool.pop_front() else { return false };
        let stored = self.words.fold(node, partials);
        let stored = self.words.put(stored);
        self.written += 1;
        let actions = self.world.handle(Event::Merged { job, number, stored });
        self.take(&actions);
        true
    }

    fn restart(&mut self) {
        self.pool.clear();
        let actions = self.world.restart();
        self.take(&actions);
    }

    /// Everything is computed and merged; what the reduction is given.
    fn finish(&mut self) -> Committed {
        for _ in 0..100_000 {
            if let Some((_, _, committed)) = self.reductions.pop() {
                return committed;
            }
            if !self.merge() {
                match self.world.held().is_empty() {
                    true => drop(self.world.tick()),
                    false => self.report(0),
                }
            }
        }
        panic!("no reduction: {:?}", self.world.scheduler.sweep(&self.sweep));
    }
}

fn one_block_each() -> Settings {
    Settings { sizing: Sizing { most_blocks: 1, ..Sizing::default() }, ..Settings::default() }
}

/// The tree as a recursion over all blocks.
fn whole(total: u64) -> String {
    let mut fold = Fold::over_all(total, |a, b| format!("({a} {b})"));
    (0..total).for_each(|block| fold.push(Node::block(block), block.to_string()).unwrap());
    fold.finish(root(total)).unwrap()
}

#[test]
fn partials_are_merged_while_the_job_is_computed() {
    let mut bench = Bench::new(300, one_block_each());
    bench.join("w", 4);
    while !bench.world.held().is_empty() {
        bench.report(0);
        while bench.merge() {}
    }
    // Three sizes of up to 7, and those of the slots.
    assert!(bench.most_stored <= 3 * 7 + 4, "{} partials at once", bench.most_stored);
    let committed = bench.reductions.remove(0).2;
    assert_eq!(committed.len(), 300, "every shard stays known");
    assert!(committed.stored_len() < 25, "{}", committed.stored_len());
    assert_eq!(bench.words.fold(root(300), committed.partials()), whole(300));
    let blobs: BTreeSet<Digest> = committed.blobs().collect();
    assert_eq!(bench.words.blobs.keys().copied().collect::<BTreeSet<_>>(), blobs, "nothing else is kept");
}

#[test]
fn a_reduction_waits_for_merges_under_way() {
    let mut bench = Bench::new(9, one_block_each());
    bench.join("w", 1);
    (0..9).for_each(|_| bench.report(0));
    assert_eq!((bench.pool.len(), bench.reductions.len()), (1, 0));
    assert_eq!(bench.world.scheduler.sweep(&bench.sweep).unwrap().jobs[0].state, JobState::Computing);
    bench.merge();
    assert_eq!(bench.reductions.len(), 1);
    assert_eq!(bench.reductions[0].2.stored_len(), 2);
}

/// A restart forgets the merges under way; they are due again, and what was merged stays so.
#[test]
fn a_restart_goes_on_merging() {
    let mut bench = Bench::new(80, one_block_each());
    bench.join("w", 1);
    (0..16).for_each(|_| bench.report(0));
    bench.merge();
    let before = bench.facts();
    assert_eq!(bench.pool.len(), 1, "of the second eight");
    bench.restart();
    assert_eq!(bench.facts(), before);
    assert_eq!((bench.pool.len(), bench.stored()), (1, 9));
    // A snapshot leads to the same state as the journal.
    bench.world.journal = before.clone();
    bench.restart();
    assert_eq!(bench.facts(), before);
    bench.join("x", 1);
    let committed = bench.finish();
    assert_eq!(bench.words.fold(root(80), committed.partials()), whole(80));
}

/// A merged partial that is damaged is withdrawn with all its shards, also when the journal is read again.
#[test]
fn a_damaged_merged_partial_is_withdrawn_whole() {
    let mut bench = Bench::new(128, one_block_each());
    bench.join("w", 1);
    (0..64).for_each(|_| {
        bench.report(0);
        while bench.pool.len() > 1 || (bench.pool.front().is_some_and(|merge| merge.node.level < 6) && bench.merge()) {}
    });
    let merge = bench.pool.pop_front().expect("the merge of the first 64 blocks");
    assert_eq!((merge.node, merge.partials.len()), (Node { level: 6, index: 0 }, 8));
    let damaged = vec![merge.partials[1].node];
    let (job, number, message) = (merge.job.clone(), merge.number, "gone".to_owned());
    let failed = Event::MergeFailed { job, number, damaged, message };
    let actions = bench.world.handle(failed);
    bench.take(&actions);
    let view = bench.world.scheduler.sweep(&bench.sweep).unwrap();
    assert_eq!((view.jobs[0].members_done, view.jobs[0].partials), (56 * 4, 7));
    let told = bench.world.scheduler.explain(&bench.sweep, Subject::Block(JobIndex(0), 12), bench.world.now).unwrap();
    assert_ne!(told.state, "committed");
    let before = bench.facts();
    bench.restart();
    assert_eq!(bench.facts(), before);
    // The late answer of the merge that failed is nothing any more.
    let stored = Digest::of(b"late");
    let actions = bench.world.handle(Event::Merged { job: merge.job, number: 99, stored });
    assert!(actions.is_empty() && !bench.world.scheduler.keeps(&JobRef::new(&bench.sweep, JobIndex(0)), stored));
    bench.join("w", 1);
    let committed = bench.finish();
    assert_eq!(bench.words.fold(root(128), committed.partials()), whole(128));
    // The reduction may find damage too.
    let node = committed.partials().next().unwrap().node;
    assert!(node.level >= 3);
    let (sweep, generation) = (bench.sweep.clone(), 1);
    let message = "gone".to_owned();
    let failed =
        Event::ReduceFailed { job: JobRef::new(&sweep, JobIndex(0)), generation, damaged: vec![node], message };
    let actions = bench.world.handle(failed);
    bench.take(&actions);
    let committed = bench.finish();
    assert_eq!(bench.words.fold(root(128), committed.partials()), whole(128));
}

/// Partials that cannot be merged for another reason than damage cannot be reduced either.
#[test]
fn a_merge_that_cannot_be_ends_the_sweep() {
    let mut bench = Bench::new(80, one_block_each());
    bench.join("w", 1);
    (0..8).for_each(|_| bench.report(0));
    let Merge { job, number, .. } = bench.pool.pop_front().unwrap();
    let message = "blocks 0..1 and 1..2 merge to scatter[0] = inf".to_owned();
    let failed = Event::MergeFailed { job, number, damaged: Vec::new(), message: message.clone() };
    bench.world.handle(failed);
    assert_eq!(bench.world.state(&bench.sweep), SweepState::Ended(SweepOutcome::Failed { message }));
}

/// A late report of a shard that was merged since gets the answer that it always got.
#[test]
fn late_reports_of_merged_shards_change_nothing() {
    let mut bench = Bench::new(80, one_block_each());
    bench.join("w", 1);
    (0..8).for_each(|_| bench.report(0));
    bench.merge();
    assert_eq!(bench.stored(), 1);
    // It has a session, and holds none of them.
    bench.join("late", 1);
    let shard = |level, index| JobRef::new(&bench.sweep, JobIndex(0)).shard(Node { level, index });
    let shards = [shard(0, 3), shard(2, 1), shard(3, 0), shard(4, 0)];
    let verdicts = shards.map(|shard| bench.world.report("late", &shard).0);
    assert_eq!(verdicts, [Verdict::Duplicate, Verdict::Duplicate, Verdict::Duplicate, Verdict::Superseded]);
    assert_eq!(bench.stored(), 1);
    let told = bench.world.scheduler.explain(&bench.sweep, Subject::Block(JobIndex(0), 3), bench.world.now).unwrap();
    assert_eq!(told.reasons, ["blocks 3..4 were computed by w", "their partial is merged into that of blocks 0..8"]);
}

/// A merge of what is withdrawn meanwhile is forgotten, and its neighbours are merged when they can be.
#[test]
fn a_merge_ends_with_what_it_merges() {
    let mut bench = Bench::new(80, one_block_each());
    bench.join("w", 1);
    bench.join("liar", 1);
    for _ in 0..8 {
        bench.report(0);
        while bench.world.held().first().is_some_and(|(_, worker)| *worker != id("w")) && bench.pool.is_empty() {
            bench.report(0);
        }
    }
    (0..8).for_each(|_| {
        if bench.pool.is_empty() {
            bench.report(0)
        }
    });
    let late = bench.pool.pop_front().expect("a merge is due");
    // As if the reduction or an audit had found it: the first partial does not stand.
    let mut effects = Effects::default();
    let shard = late.partials[0].node;
    bench.world.scheduler.withdraw_damaged(&JobRef::new(&bench.sweep, JobIndex(0)), &[shard], &mut effects);
    bench.world.scheduler.sanity_check().unwrap();
    bench.world.journal.extend(effects.records);
    let stored = bench.words.fold(late.node, late.partials.clone());
    let stored = bench.words.put(stored);
    let event = Event::Merged { job: late.job.clone(), number: late.number, stored };
    let records = bench.world.journal.len();
    bench.world.handle(event);
    assert!(bench.world.journal[records..].iter().all(|record| !matches!(record, Record::Merged { .. })));
    let committed = bench.finish();
    assert_eq!(bench.words.fold(root(80), committed.partials()), whole(80));
}

fn audited(audit: f64, blocks: u64) -> Bench {
    let mut bench = Bench::new(blocks, one_block_each());
    let (cancel, request, sweep) = (bench.world.request(), bench.world.request(), SweepId::new("audited"));
    bench.world.handle(Event::Cancel { request: cancel, sweep: bench.sweep.clone() });
    let spec = Box::new(Spec { audit, ..Spec::from_toml(&format!("{SPEC}{}", blocks * 4 - 1)).unwrap() });
    bench.world.submit_as(sweep.clone(), spec, FairShare::default(), request);
    bench.sweep = sweep;
    bench
}

/// A shard that is to be audited keeps its own partial until it is.
#[test]
fn open_audits_keep_shards_from_being_merged() {
    let mut bench = audited(0.3, 32);
    bench.join("a", 1);
    bench.join("b", 1);
    let mut waited = 0;
    while let Some(place) = bench.world.held().iter().position(|held| !bench.world.is_audit(held)) {
        bench.report(place);
        while bench.merge() {}
        waited = waited.max(bench.world.scheduler.sweep(&bench.sweep).unwrap().jobs[0].audits_due);
    }
    assert!(waited > 0, "no shard was drawn");
    let committed = bench.finish();
    assert_eq!(bench.words.fold(root(32), committed.partials()), whole(32));
}

/// A worker that is outvoted takes merged partials with it that hold anything of it, also when the journal is read again.
#[test]
fn what_an_outvoted_worker_had_a_part_in_is_withdrawn_whole() {
    let mut bench = audited(0.05, 256);
    ["liar", "a", "b"].iter().for_each(|worker| bench.join(worker, 1));
    let (mut lies, mut turn) = (0, 0);
    while let Some(place) = bench.world.nth_computed(turn) {
        turn += 1;
        let (shard, worker) = bench.world.held()[place].clone();
        let drawn = bench.world.scheduler.sweeps[&bench.sweep].audits(&shard);
        if worker == id("liar") && drawn {
            let lie = Partial::stored(bench.words.put(format!("a lie of {shard:?}")));
            let actions = bench.world.report_as("liar", &shard, lie).1;
            bench.take(&actions);
            lies += 1;
        } else {
            bench.report(place);
        }
        while bench.merge() {}
    }
    let committed = bench.world.scheduler.committed(&JobRef::new(&bench.sweep, JobIndex(0))).unwrap().clone();
    let of_liar = committed.contributions().filter(|held| held.worker == id("liar"));
    let touched: BTreeSet<Node> =
        of_liar.map(|held| committed.partial_of(held.node)).filter(|node| node.level >= 3).collect();
    assert!(lies > 0 && !touched.is_empty(), "{lies} lies, {touched:?} merged");
    let records = bench.world.journal.len();
    let committed = bench.finish();
    let told = bench.world.scheduler.workers(bench.world.now).into_iter().find(|worker| worker.id == id("liar"));
    assert!(told.unwrap().unfit.is_some_and(|reason| reason.contains("differ")));
    let withdrawn: BTreeSet<Node> = bench.world.journal[records..]
        .iter()
        .filter_map(|record| if let Record::Withdrawn { shard } = record { Some(shard.node) } else { None })
        .collect();
    assert!(touched.is_subset(&withdrawn), "{touched:?} of {withdrawn:?}");
    assert_eq!(bench.words.fold(root(256), committed.partials()), whole(256));
    let before = bench.facts();
    bench.restart();
    assert_eq!(bench.facts(), before);
}

impl World {
    /// The place among what is held of one that is no audit, another with every turn.
    fn nth_computed(&self, turn: usize) -> Option<usize> {
        let held = self.held();
        let computed: Vec<usize> = (0..held.len()).filter(|&place| !self.is_audit(&held[place])).collect();
        computed.get(turn % computed.len().max(1)).copied()
    }

    fn is_audit(&self, (shard, worker): &(ShardRef, WorkerId)) -> bool {
        let held = self.scheduler.workers[worker].held[shard];
        held.purpose == super::super::state::Purpose::Audit
    }
}

#[derive(Clone, Debug)]
enum Turn {
    Report(u8),
    Merge,
    Restart,
    Damage(u8),
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        12 => any::<u8>().prop_map(Turn::Report),
        4 => Just(Turn::Merge),
        1 => Just(Turn::Restart),
        1 => any::<u8>().prop_map(Turn::Damage),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Whatever the cuts, orders, group sizes, delays, damages and restarts: the merges are those of the tree.
    #[test]
    fn any_order_and_group_merges_to_the_same(
        turns in proptest::collection::vec(turn(), 0..300),
        blocks in 1u64..150,
        most_blocks in 1u64..9,
        merge_group in 2usize..10,
        most_merges in 1usize..4,
        slots in 1u32..9,
    ) {
        let sizing = Sizing { most_blocks, ..Sizing::default() };
        let mut bench = Bench::new(blocks, Settings { sizing, merge_group, most_merges, ..Settings::default() });
        bench.join("w", slots);
        for turn in turns {
            let held = bench.world.held().len();
            match turn {
                Turn::Report(n) if held > 0 => bench.report(n as usize % held),
                Turn::Report(_) => {}
                Turn::Merge => drop(bench.merge()),
                Turn::Restart => {
                    let before = bench.facts();
                    bench.reductions.clear();
                    bench.restart();
                    prop_assert_eq!(bench.facts(), before);
                    bench.join("w", slots);
                }
                Turn::Damage(n) => if let Some(Merge { job, number, partials, .. }) = bench.pool.pop_front() {
                    let damaged = vec![partials[n as usize % partials.len()].node];
                    let message = "gone".to_owned();
                    let actions = bench.world.handle(Event::MergeFailed { job, number, damaged, message });
                    bench.take(&actions);
                },
            }
        }
        let committed = bench.finish();
        prop_assert_eq!(bench.words.fold(root(blocks), committed.partials()), whole(blocks));
    }
}

/// Measures what a group size costs and saves: the table in [`crate::scheduler::merge`]. The scheduler alone, without a check after each step.
#[test]
fn merging_keeps_few_partials() {
    let full = std::env::var_os("NADGRID_MERGE_TABLE").is_some();
    let (shards, slots) = if full { (100_000u64, 256u64) } else { (5_000, 64) };
    for group in [2usize, 4, 8, 16] {
        let settings = Settings { merge_group: group, speculate_after: 0.0, ..one_block_each() };
        let (most, written) = run_of_many(shards, slots, settings);
        println!("group {group:>2}: {written:.3} written a shard, {most} partials at most");
        let sizes = (shards as f64).ln() / (group as f64).ln();
        let bound = (group - 1) as f64 * sizes.ceil() + 5.0 * slots as f64;
        assert!((most as f64) < bound, "group {group}: {most} partials, {bound} expected");
        assert!(written <= 1.0 / (group - 1) as f64, "group {group}: {written}");
    }
}

/// The most partials at once, and how many were written for each shard, when slots end in any order.
fn run_of_many(shards: u64, slots: u64, settings: Settings) -> (usize, f64) {
    let mut world = World::new(settings);
    let (request, sweep) = (world.request(), SweepId::new("s"));
    let spec = Box::new(Spec::from_toml(&format!("{SPEC}{}", shards * 4)).unwrap());
    world.submit_as(sweep.clone(), spec, FairShare::default(), request);
    let mut held = VecDeque::from(world.join("w", slots as u32));
    let (mut most, mut written, mut turn) = (0, 0u64, 1u64);
    while !held.is_empty() {
        turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let shard = held.swap_remove_back((turn >> 33) as usize % held.len()).unwrap();
        let partial = Partial::stored(Digest::of(format!("{shard:?}").as_bytes()));
        let (request, class) = (RequestId(turn), class("portable"));
        let event = Event::Report { request, worker: id("w"), shard, class, partial, seconds: 0.5, begin_seconds: 0.0 };
        let actions = world.scheduler.handle(event, world.now).actions;
        held.extend(leases(&actions));
        let mut pool = merges(&actions);
        while let Some(Merge { job, number, node, .. }) = pool.pop() {
            written += 1;
            let stored = Digest::of(format!("{node:?}").as_bytes());
            let merged = Event::Merged { job, number, stored };
            pool.extend(merges(&world.scheduler.handle(merged, world.now).actions));
        }
        most = most.max(world.scheduler.committed(&JobRef::new(&sweep, JobIndex(0))).unwrap().stored_len());
    }
    (most, written as f64 / shards as f64)
}
