//! A simulation of the coordinator's loop with its journal, its store, workers, users and the network between them, on a virtual clock.
//!
//! Each seed is a scenario: what is computed, by whom, and what goes wrong how often. Whatever goes wrong, each sweep must end
//! as the uninterrupted run of a single worker ends, nothing that was acknowledged may be lost, and no block may count twice
//! ([`oracle`]). The scheduler and the loop around it (core's shell: sessions, requests, batches, compaction) are those of the coordinator;
//! everything else is here. Deliberately
//! absent: processes, sockets and files, which the chaos tests have.
//!
//! Payloads have a size and travel on connections with a line and a window ([`line`]), from an offer over a grant to a verdict
//! ([`transfer`], [`intake`]). Who gets a place is decided by core's own queue, and held against what it owes ([`turns`]).
//!
//! `NADGRID_SIM_SEEDS` is how many seeds are run, `NADGRID_SIM_SEED` the one that is run and told in detail.

// In a test, an unwrap is an assertion.
#![allow(clippy::unwrap_used)]

mod coordinator;
mod faults;
mod intake;
mod interleavings;
mod journal;
mod line;
mod network;
mod oracle;
mod peers;
mod pool;
mod random;
mod scenario;
mod shadow;
mod store;
mod transfer;
mod truth;
mod turns;
mod user;
mod worker;
mod world;

use faults::{Counts, Fault, Sight};
use scenario::{Mutation, Rates, Scenario};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use world::World;

/// Seeds of a usual run.
const SEEDS: u64 = 3_000;
/// Seeds within which a mutation must be seen.
const MUTANT_SEEDS: u64 = 1_200;

/// Runs a seed: what was counted, or what does not hold.
fn run(seed: u64, mutation: Mutation, verbose: bool) -> Result<Counts, String> {
    let run = || {
        let mut world = World::new(seed, mutation, verbose);
        world.run().map(|()| world.counts)
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
        Err(format!("panic: {}", words.unwrap_or_default()))
    })
}

/// Runs seeds on all cores: what was counted, or the first seed that fails.
fn run_all(seeds: u64, mutation: Mutation) -> Result<Counts, (u64, String)> {
    let (next, counts, failed) = (AtomicU64::new(0), Mutex::new(Counts::default()), Mutex::new(None));
    let work = || {
        while failed.lock().expect("no panic holds it").is_none() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            match run(seed, mutation, false) {
                Ok(more) => counts.lock().expect("no panic holds it").add(&more),
                Err(error) => drop(failed.lock().expect("no panic holds it").get_or_insert((seed, error))),
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    match failed.into_inner().expect("no panic holds it") {
        Some(failure) => Err(failure),
        None => Ok(counts.into_inner().expect("no panic holds it")),
    }
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} = {text:?}: a number")))
}

/// Whatever goes wrong, every sweep ends as it must; and everything that can go wrong does.
#[test]
fn whatever_dies_the_digest_is_the_same() {
    if let Some(seed) = from_environment("NADGRID_SIM_SEED") {
        let counts = run(seed, Mutation::None, true).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        println!("{}", counts.table());
        return;
    }
    let seeds = from_environment("NADGRID_SIM_SEEDS");
    let counts = run_all(seeds.unwrap_or(SEEDS), Mutation::None).unwrap_or_else(|(seed, error)| {
        let again = "cargo test -p nadgrid-core --test simulation whatever_dies -- --nocapture";
        panic!("seed {seed}: {error}\nagain, in detail: NADGRID_SIM_SEED={seed} {again}")
    });
    println!("{}", counts.table());
    if seeds.is_none() {
        let faults: Vec<_> = Fault::ALL.iter().filter(|&&fault| counts.of(fault) == 0).collect();
        let sights: Vec<_> = Sight::ALL.iter().filter(|&&sight| counts.seen(sight) == 0).collect();
        assert!(faults.is_empty() && sights.is_empty(), "never happened: {faults:?} {sights:?}");
    }
}

#[test]
fn a_seed_is_a_run() {
    for seed in 0..20 {
        assert_eq!(run(seed, Mutation::None, false), run(seed, Mutation::None, false), "seed {seed}");
    }
}

/// A crowd of workers with one chance: what was counted, or what does not hold.
fn run_crowd(rates: Rates, calm_at: u64, mutation: Mutation) -> Result<Counts, String> {
    let mut world = World::of(Scenario::crowd(rates, calm_at, mutation), 7, false);
    world.run().map(|()| world.counts)
}

/// Whose bytes fill the window before there is a place for them holds up whoever has one, on every worker at once. Nobody does so
/// since places are granted.
#[test]
fn a_crowd_hangs_that_sends_before_its_grants() {
    let counts = run_crowd(Rates::default(), 0, Mutation::None).unwrap();
    assert!(counts.seen(Sight::WaitedForAPlace) > 0, "there was no crowd");
    let hangs = run_crowd(Rates::default(), 0, Mutation::SendsBeforeTheGrant).unwrap_err();
    assert!(hangs.contains("waits for ever"), "{hangs}");
}

/// Grants get lost, whoever has one dies, is stopped or cut off, the coordinator dies with all of them, the store is full for a while.
#[test]
fn whoever_vanishes_with_a_grant_holds_nobody_up() {
    let rates = Rates {
        coordinator_crash: 0.02,
        worker_crash: 0.2,
        worker_stop: 0.2,
        partition: 0.2,
        grant_lost: 0.1,
        store_away: 0.02,
        ..Rates::default()
    };
    let counts = run_crowd(rates, 60_000, Mutation::None).unwrap();
    for fault in [Fault::GrantLost, Fault::HolderDied, Fault::CrashWithHolders, Fault::StoreAway] {
        assert!(counts.of(fault) > 0, "never happened: {fault:?}");
    }
}

/// What the oracle is there to see, it sees.
#[test]
fn what_is_broken_on_purpose_is_seen() {
    for (mutation, words) in [
        (Mutation::JournalLosesABatch, "acknowledged and lost"),
        (Mutation::AnswersBeforeTheWrite, "acknowledged and lost"),
        (Mutation::TakesAnyClass, "has a wrong value by an honest worker"),
        (Mutation::HearsOldSessions, "in a session that is over, and it counts"),
        (Mutation::EndsNewSessions, "in a session that is over, and it counts"),
        (Mutation::CompactionDropsARecord, "should say"),
        (Mutation::ReducerTrustsTheStore, "should be"),
        (Mutation::ReducerSwaps, "should be"),
        (Mutation::MergeSwaps, "should be"),
        (Mutation::DiscardsBeforeTheWrite, "is needed and not in the store"),
        (Mutation::AuditsAgree, "should be"),
        (Mutation::ResumesPastTheCheckpoint, "wrong value"),
        (Mutation::PausesUnrecorded, "whoever replays"),
        (Mutation::RetriesUnrecorded, "whoever replays"),
        (Mutation::SpeculationUnrecorded, "whoever replays"),
        (Mutation::CheckpointsUnrecorded, "whoever replays"),
        (Mutation::AuditsUnrecorded, "whoever replays"),
        (Mutation::QuarantinesUnrecorded, "whoever replays"),
    ] {
        let Err((seed, error)) = run_all(MUTANT_SEEDS, mutation) else { panic!("{mutation:?} was not seen") };
        assert!(error.contains(words), "{mutation:?}, seed {seed}: {error}");
    }
}
