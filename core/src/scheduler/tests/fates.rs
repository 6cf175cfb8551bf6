//! Any run of joins, reports, failures, losses and restarts ends with every block committed once.

use super::*;
use proptest::prelude::*;

/// One thing that may happen to a cluster.
#[derive(Clone, Debug)]
enum Fate {
    Join(u8),
    Report(u8),
    Duplicate(u8),
    Fail(u8),
    Vanish(u8),
    Drain(u8),
    Restart,
    Wait,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => (0u8..4).prop_map(Fate::Join),
        8 => any::<u8>().prop_map(Fate::Report),
        2 => any::<u8>().prop_map(Fate::Duplicate),
        1 => any::<u8>().prop_map(Fate::Fail),
        1 => (0u8..4).prop_map(Fate::Vanish),
        1 => (0u8..4).prop_map(Fate::Drain),
        1 => Just(Fate::Restart),
        2 => Just(Fate::Wait),
    ]
}

/// Runs fates, then lets a good worker finish; returns the reductions' partials covering all blocks.
fn live(fates: Vec<Fate>, most_blocks: u64) -> Result<(), TestCaseError> {
    let sizing = Sizing { most_blocks, ..Sizing::default() };
    let mut world = World::new(Settings { sizing, most_attempts: 1_000, most_losses: 1_000, ..Settings::default() });
    let sweep = world.submit(150);
    let mut reported: Vec<ShardRef> = Vec::new();
    let mut pending: Vec<Reduction> = Vec::new();
    for fate in fates {
        world.now = world.now.plus(300);
        let held = world.held();
        let pick = |n: u8| held.get(n as usize % held.len().max(1)).cloned();
        let actions = match fate {
            Fate::Join(n) => {
                let profile = WorkerProfile {
                    name: "x".into(),
                    class: class("portable"),
                    precisions: vec![Precision::Fp32],
                    slots: 1 + u32::from(n % 2),
                    version: "0".into(),
                };
                let own = held.iter().filter(|(_, w)| *w == id(&n.to_string())).map(|(s, _)| s.clone()).collect();
                world.handle(Event::Join { worker: id(&n.to_string()), profile, held: own })
            }
            Fate::Report(n) => match pick(n) {
                Some((shard, worker)) => {
                    reported.push(shard.clone());
                    world.report(worker.as_str(), &shard).1
                }
                None => Vec::new(),
            },
            Fate::Duplicate(n) if !reported.is_empty() => {
                let shard = reported[n as usize % reported.len()].clone();
                let records = world.journal.len();
                let (verdict, actions) = world.report("late", &shard);
                prop_assert_ne!(verdict, Verdict::Invalid);
                let recorded = world.journal[records..].iter().any(|r| matches!(r, Record::Committed { .. }));
                prop_assert!(!recorded, "a shard that was committed commits again");
                actions
            }
            Fate::Fail(n) => match pick(n) {
                Some((shard, worker)) => {
                    world.handle(Event::Failed { worker, shard, kind: FailureKind::Transient, message: "x".into() })
                }
                None => Vec::new(),
            },
            Fate::Vanish(n) => world.handle(Event::Leave { worker: id(&n.to_string()), drained: false }),
            Fate::Drain(n) => world.handle(Event::Leave { worker: id(&n.to_string()), drained: true }),
            Fate::Restart => {
                pending.clear();
                world.restart()
            }
            Fate::Wait => world.tick(),
            Fate::Duplicate(_) => Vec::new(),
        };
        pending.extend(reductions(&actions));
    }
    for _ in 0..10_000 {
        if world.state(&sweep).has_ended() {
            break;
        }
        for (_, job, committed) in std::mem::take(&mut pending) {
            let mut next = 0;
            for held in committed.partials() {
                prop_assert_eq!(held.node.blocks(38).start, next);
                next = held.node.blocks(38).end;
            }
            prop_assert_eq!(next, 38);
            world.handle(reduced(&sweep, job));
        }
        let held = world.held();
        if held.is_empty() {
            world.tick();
        }
        for (shard, worker) in held {
            let (_, more) = world.report(worker.as_str(), &shard);
            pending.extend(reductions(&more));
        }
        let own = world.held_by("good");
        world.join_as("good", 2, "portable", own);
    }
    prop_assert!(world.state(&sweep).is_complete(), "{:?}", world.scheduler.sweep(&sweep));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Whatever happens, in whatever order, every block is reduced exactly once and the sweep ends.
    #[test]
    fn any_fate_ends_with_every_block_once(fates in proptest::collection::vec(fate(), 0..80), most in 1u64..20) {
        live(fates, most)?;
    }
}
