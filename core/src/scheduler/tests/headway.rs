//! Rates that are learned from workers, shards that are copied, and slots that hang.

use super::*;
use crate::cost::{Estimate, EstimateBasis, Sizing};
use crate::plan::Plan;

const MINUTE: u64 = 60_000;

/// Training runs of one job, one to a block.
fn runs(name: &str, count: u32, epochs: u32, samples: u32) -> Box<Spec> {
    let text = format!(
        "name = '{name}'\narchitectures = ['lenet']\n[directional]\ndirections = {{ kind = 'random', count = {count} }}\n\
         block_size = 1\ntrain_samples = {samples}\ntest_samples = {samples}\ntraining = {{ epochs = {epochs} }}"
    );
    Box::new(Spec::from_toml(&text).unwrap())
}

impl World {
    fn submit_spec(&mut self, spec: Box<Spec>) -> SweepId {
        let request = self.request();
        let id = SweepId::new(format!("s{}", request.0));
        self.submit_as(id.clone(), spec, FairShare::default(), request);
        id
    }

    /// Lets time pass in which these workers beat.
    fn pass(&mut self, milliseconds: u64, beating: &[&str]) -> Vec<Action> {
        let (end, mut actions) = (self.now.plus(milliseconds), Vec::new());
        while self.now < end {
            self.now = self.now.plus(1_000).min(end);
            for worker in beating {
                actions.extend(self.handle(Event::Alive { worker: id(worker) }));
            }
        }
        actions
    }

    /// A worker says how far it is: seconds are its slot's.
    fn told(&mut self, worker: &str, shard: &ShardRef, (blocks_done, fraction): (u64, f64), seconds: f64) {
        let stand = ShardStand { blocks_done, fraction, seconds, begin_seconds: 0.1 };
        self.handle(Event::Progress { worker: id(worker), shard: shard.clone(), stand });
    }

    /// A shard is reported after so many seconds of its worker's.
    fn report_after(&mut self, worker: &str, shard: &ShardRef, seconds: f64) -> Vec<Action> {
        self.pass((seconds * 1e3) as u64, &[worker]);
        let (request, class) = (self.request(), class("portable"));
        let partial = Partial::stored(Digest::of(format!("{shard:?}").as_bytes()));
        let (worker, shard) = (id(worker), shard.clone());
        self.handle(Event::Report { request, worker, shard, class, partial, seconds, begin_seconds: 0.0 })
    }

    /// A trial: every shard of a sweep is computed on a worker that joins for it, each block in `seconds`.
    fn try_out(&mut self, spec: Box<Spec>, worker: &str, seconds: f64) {
        let sweep = self.submit_spec(spec);
        while let Some(shard) = self.held_by(worker).into_iter().find(|shard| shard.job.sweep == sweep) {
            let blocks = self.scheduler.blocks(&shard).unwrap();
            let actions = self.report_after(worker, &shard, seconds * (blocks.end - blocks.start) as f64);
            reductions(&actions).iter().for_each(|(sweep, job, _)| drop(self.handle(reduced(sweep, *job))));
        }
        assert!(self.scheduler.sweep(&sweep).unwrap().state.has_ended());
    }

    fn blocks_of(&self, shard: &ShardRef) -> u64 {
        let blocks = self.scheduler.blocks(shard).unwrap();
        blocks.end - blocks.start
    }

    /// Returns what one slot would need for the members of a sweep's first job that are not computed.
    fn seconds_left(&self, sweep: &SweepId) -> Estimate {
        let sweep = &self.scheduler.sweeps[sweep];
        let job = &sweep.jobs[0];
        let members = sweep.slot_work_left(job) / job.scale.member_seconds;
        self.scheduler.member_of(sweep, job).times(members)
    }
}

/// A trial of tiny runs, then long ones: 4 s each. A first shard held 16 of them.
#[test]
fn first_shards_of_long_runs_are_not_sized_by_a_tiny_trial() {
    let mut world = World::new(Settings::default());
    world.join("w", 1);
    let (trial, whole) = (runs("trial", 20, 1, 200), runs("whole", 64, 10, 2_000));
    let work = |spec: &Spec| spec.jobs(&Inputs::new())[0].work.multiply_adds as f64;
    let each = 0.05;
    world.try_out(trial.clone(), "w", each);
    let truth = each * work(&whole) / work(&trial);
    assert!((3.0..5.0).contains(&truth), "{truth}");
    let force = world.scheduler.workforce(Precision::Fp32);
    let plan = Plan::new(&whole, &Inputs::new(), &force.rates, &Sizing::default(), force.slots);
    assert_eq!(plan.jobs[0].basis, EstimateBasis::OtherSize);
    let ratio = plan.seconds() / (64.0 * truth);
    assert!((0.5..2.0).contains(&ratio), "planned {} s for {} s", plan.seconds(), 64.0 * truth);
    let sweep = world.submit_spec(whole);
    let first = world.held_by("w").into_iter().find(|shard| shard.job.sweep == sweep).unwrap();
    let seconds = truth * world.blocks_of(&first) as f64;
    assert!(seconds <= 3.0 * Settings::default().sizing.target_seconds, "{seconds} s in the first shard");
    // The worker's own word of the first blocks corrects the rest.
    world.told("w", &first, (1, 0.0), truth);
    let left = world.seconds_left(&sweep);
    assert_eq!(left.basis, EstimateBasis::OtherSize, "what cannot have been computed yet is not believed");
    world.pass(4_000, &["w"]);
    world.told("w", &first, (1, 0.5), 1.5 * truth);
    let left = world.seconds_left(&sweep);
    assert_eq!(left.basis, EstimateBasis::Measured);
    assert!((left.seconds / (62.5 * truth) - 1.0).abs() < 0.1, "{left:?}, truth {truth}");
}

/// Planned as 0.0 s after a trial of other work, it was computed twice.
#[test]
fn a_run_is_not_copied_because_its_estimate_was_wrong() {
    let mut world = World::new(Settings::default());
    world.join("a", 1);
    // Rates that are far off: what was tried out was a hundred times as fast for its work.
    world.try_out(runs("trial", 20, 1, 2_000), "a", 0.004);
    world.join("b", 1);
    let sweep = world.submit_spec(runs("long", 1, 20, 10_000));
    let (shard, holder) = world.held().into_iter().find(|(shard, _)| shard.job.sweep == sweep).unwrap();
    let holder = holder.to_string();
    for second in 1..=20u64 {
        world.pass(1_000, &["a", "b"]);
        world.told(&holder, &shard, (0, second as f64 / 20.0), second as f64);
    }
    let view = world.scheduler.sweep(&sweep).unwrap();
    assert_eq!(view.jobs[0].tally.speculative, 0, "it got on all the time");
    // One that stands still is helped.
    world.pass(10 * MINUTE, &["a", "b"]);
    assert!(world.held().iter().any(|(held, worker)| *held == shard && worker.to_string() != holder));
}

/// Before anything was measured: a run that gets on is not copied either, and one that does not is.
#[test]
fn unknown_work_is_copied_only_where_it_stands_still() {
    let mut world = World::new(Settings::default());
    world.join("a", 1);
    world.join("b", 1);
    let sweep = world.submit_spec(runs("unknown", 1, 1, 200));
    let (shard, holder) = world.held().remove(0);
    world.pass(60_000, &["a", "b"]);
    world.told(holder.as_str(), &shard, (0, 0.0), 0.01);
    let copies = |world: &World| world.scheduler.sweep(&sweep).unwrap().jobs[0].tally.speculative;
    assert_eq!(copies(&world), 0);
    world.pass(4 * MINUTE, &["a", "b"]);
    assert_eq!(copies(&world), 1, "it has not got on for minutes");
}

/// Four hung slots held a sweep for ever beside an idle worker: their hearts beat on.
#[test]
fn hung_slots_lose_their_shards() {
    let mut world = World::new(Settings { speculate_after: 0.0, ..Settings::default() });
    world.join("hung", 4);
    let sweep = world.submit_spec(runs("s", 4, 1, 200));
    assert_eq!(world.held_by("hung").len(), 4);
    world.join("idle", 1);
    let actions = world.pass(4 * MINUTE, &["hung", "idle"]);
    assert_eq!((leases(&actions).len(), world.held_by("hung").len()), (0, 4), "not yet");
    let actions = world.pass(2 * MINUTE, &["hung", "idle"]);
    let told = |action: &Action| matches!(action, Action::Revoke { worker, .. } if *worker == id("hung"));
    assert_eq!(actions.iter().filter(|action| told(action)).count(), 4);
    assert!(actions.iter().any(|action| matches!(action, Action::SetAside { worker, .. } if *worker == id("hung"))));
    assert_eq!((world.held_by("hung").len(), world.held_by("idle").len()), (0, 1));
    let why = world.scheduler.explain(&sweep, Subject::Block(JobIndex(0), 3), world.now).unwrap();
    assert!(format!("{why:?}").contains("all its slots hang"), "{why:?}");
    let shown = world.scheduler.workers(world.now).into_iter().find(|worker| worker.id == id("hung")).unwrap();
    assert!(shown.unfit.is_some_and(|reason| reason.contains("no progress")));
    let mut due = Vec::new();
    for _ in 0..100 {
        let Some(shard) = world.held_by("idle").pop() else {
            world.pass(1_000, &["hung", "idle"]);
            continue;
        };
        due.extend(reductions(&world.report("idle", &shard).1));
    }
    assert_eq!(due.len(), 1, "the sweep is computed");
}

/// A shard that has not begun may be queued behind results that wait for their places; once these have gone, it hangs.
#[test]
fn a_slot_that_hangs_behind_waiting_results_is_found_when_they_have_gone() {
    let mut world = World::new(Settings { speculate_after: 0.0, ..Settings::default() });
    world.join("w", 2);
    world.submit_spec(runs("s", 2, 1, 200));
    let held = world.held_by("w");
    world.handle(Event::Computed { worker: id("w"), shard: held[0].clone() });
    world.pass(20 * MINUTE, &["w"]);
    assert_eq!(world.held_by("w"), held);
    world.report("w", &held[0]);
    let actions = world.pass(20 * MINUTE, &["w"]);
    let taken = |action: &Action| matches!(action, Action::Revoke { shard, .. } if *shard == held[1]);
    assert!(actions.iter().any(taken), "nobody looks at it any more");
}

/// A computed shard occupies a slot again when its worker comes back, until the worker says once more that it is computed.
#[test]
fn a_slot_that_hangs_after_its_worker_came_back_is_found() {
    let mut world = World::new(Settings { speculate_after: 0.0, ..Settings::default() });
    world.join("w", 1);
    world.submit_spec(runs("s", 1, 1, 200));
    let held = world.held_by("w");
    world.handle(Event::Computed { worker: id("w"), shard: held[0].clone() });
    world.pass(20 * MINUTE, &["w"]);
    world.join_as("w", 1, "portable", held.clone());
    let actions = world.pass(20 * MINUTE, &["w"]);
    let taken = |action: &Action| matches!(action, Action::Revoke { shard, .. } if *shard == held[0]);
    assert!(actions.iter().any(taken), "nobody looks at it any more");
}

#[test]
fn a_worker_with_a_hung_and_a_busy_slot_is_not_said_to_be_free() {
    let mut world = World::new(Settings { speculate_after: 0.0, ..Settings::default() });
    world.join("w", 2);
    let sweep = world.submit_spec(runs("s", 3, 1, 200));
    let held = world.held_by("w");
    for minute in 1..=7u32 {
        world.pass(MINUTE, &["w"]);
        world.told("w", &held[0], (0, f64::from(minute) / 10.0), 0.0);
    }
    let why = world.scheduler.explain(&sweep, Subject::Block(JobIndex(0), 2), world.now).unwrap();
    assert!(format!("{why:?}").contains("1 of its 2 slots hang"), "{why:?}");
}

/// A slot that hung is tried again, later and later; one that works is left alone.
#[test]
fn a_hung_slot_is_tried_again() {
    let mut world = World::new(Settings { speculate_after: 0.0, most_attempts: 100, ..Settings::default() });
    world.join("w", 1);
    world.submit_spec(runs("s", 2, 1, 200));
    let mut gaps = Vec::new();
    let mut since = world.now;
    for _ in 0..40 * 4 {
        let held = !world.held_by("w").is_empty();
        world.pass(MINUTE / 4, &["w"]);
        if !held && !world.held_by("w").is_empty() {
            gaps.push(world.now.seconds_since(since));
            since = world.now;
        }
    }
    assert!(gaps.len() >= 2 && gaps[1] > gaps[0], "{gaps:?}");
    // It works again: what it computes counts.
    while world.held_by("w").is_empty() {
        world.pass(MINUTE, &["w"]);
    }
    let shard = world.held_by("w").remove(0);
    assert_eq!(world.report("w", &shard).0, Verdict::Committed);
}

/// Slow is not hung: every sign of life begins the wait anew, and a block that takes long is waited for.
#[test]
fn a_slow_slot_is_not_hung() {
    let mut world = World::new(Settings { speculate_after: 0.0, ..Settings::default() });
    world.join("slow", 1);
    world.submit_spec(runs("s", 1, 20, 10_000));
    let shard = world.held_by("slow").remove(0);
    for step in 0..100u32 {
        world.pass(4 * MINUTE, &["slow"]);
        world.told("slow", &shard, (0, f64::from(step) / 100.0), 240.0 * f64::from(step) + 0.1);
        assert_eq!(world.held_by("slow"), std::slice::from_ref(&shard));
    }
    // Epochs that only its checkpoints show are a sign of life, too.
    for epochs in 1..5 {
        world.pass(4 * MINUTE, &["slow"]);
        let stored = InputRef { size: 1, digest: Digest::of(&[epochs as u8]) };
        let checkpoint = ShardCheckpoint { stored, members_done: 0, epochs };
        let (request, worker, shard) = (world.request(), id("slow"), shard.clone());
        world.handle(Event::Checkpointed { request, worker, shard, checkpoint });
    }
    assert_eq!(world.held_by("slow"), std::slice::from_ref(&shard));
}

/// A machine that slept, or a clock that was set: nobody is taken to hang for it.
#[test]
fn a_clock_that_jumps_makes_no_slot_hang() {
    let mut world = World::new(Settings { speculate_after: 0.0, ..Settings::default() });
    world.join("w", 1);
    world.submit_spec(runs("s", 1, 1, 200));
    let shard = world.held_by("w").remove(0);
    world.now = world.now.plus(60 * MINUTE);
    world.handle(Event::Alive { worker: id("w") });
    assert_eq!(world.held_by("w"), [shard]);
    world.pass(6 * MINUTE, &["w"]);
    assert!(world.held_by("w").is_empty(), "from then on it counts");
}

/// A file may come at 16,384 bytes a second.
#[test]
fn a_slow_line_is_not_a_hung_slot() {
    let mut world = World::new(Settings { speculate_after: 0.0, ..Settings::default() });
    world.join("far", 1);
    let text = "name = 'x'\narchitectures = ['logreg']\n[directional]\nblock_size = 1\n\
                directions = { kind = 'file', path = 'v.npy', indices = [0] }";
    let spec = Box::new(Spec::from_toml(text).unwrap());
    let stored = InputRef { size: 16_384 * 3_600, digest: Digest::of(b"v") };
    let inputs = Inputs::from([("v.npy".to_owned(), stored)]);
    let (request, owner, key) = (world.request(), String::new(), None);
    let sweep = SweepId::new("s");
    world.handle(Event::Submit { request, id: sweep, owner, key, share: FairShare::default(), spec, inputs });
    let shard = world.held_by("far").remove(0);
    world.pass(59 * MINUTE, &["far"]);
    assert_eq!(world.held_by("far"), std::slice::from_ref(&shard));
    world.pass(10 * MINUTE, &["far"]);
    assert!(world.held_by("far").is_empty());
}

#[test]
fn nonsense_of_a_worker_teaches_nothing() {
    let mut world = World::new(Settings::default());
    world.join("w", 1);
    let sweep = world.submit_spec(runs("s", 4, 20, 10_000));
    let shard = world.held_by("w").remove(0);
    let before = world.seconds_left(&sweep);
    for (place, seconds) in
        [(f64::NAN, 1.0), (0.1, f64::NAN), (0.2, -1.0), (0.3, f64::INFINITY), (0.4, 1e9), (7.0, 1e300)]
    {
        world.told("w", &shard, (0, place), seconds);
    }
    world.told("w", &shard, (u64::MAX, 0.5), 1e9);
    let after = world.seconds_left(&sweep);
    assert_eq!(after.basis, EstimateBasis::Assumed);
    assert!(after.seconds <= before.seconds && after.seconds >= 0.75 * before.seconds - 1e-9, "{after:?} {before:?}");
}

/// JSON has no word for them: a journal that says one cannot be read again.
#[test]
fn a_reported_time_without_end_leaves_the_journal_readable() {
    let mut world = World::new(Settings::default());
    let sweep = world.submit(8);
    world.join("w", 1);
    for seconds in [f64::MAX, f64::MAX, f64::NAN] {
        let (request, worker, shard) = (world.request(), id("w"), world.held_by("w").remove(0));
        let partial = Partial::stored(Digest::of(format!("{shard:?}").as_bytes()));
        let class = class("portable");
        world.handle(Event::Report { request, worker, shard, class, partial, seconds, begin_seconds: 0.0 });
    }
    let told =
        |world: &World| world.scheduler.sweep(&sweep).unwrap().jobs.into_iter().map(|job| job.tally.slot_seconds);
    assert!(told(&world).all(f64::is_finite));
    world.restart();
    assert!(told(&world).all(f64::is_finite));
}

/// The rates of a class outlive its workers, and the coordinator.
#[test]
fn rates_are_kept_when_workers_leave_and_after_a_restart() {
    let mut world = World::new(Settings::default());
    world.join("w", 1);
    world.try_out(runs("trial", 20, 2, 1_000), "w", 0.5);
    world.handle(Event::Leave { worker: id("w"), drained: true });
    let estimate = |world: &World| {
        let rates = world.scheduler.workforce(Precision::Fp32).rates;
        rates.member(&runs("again", 1, 2, 1_000).jobs(&Inputs::new())[0])
    };
    let before = estimate(&world);
    assert_eq!(before.basis, EstimateBasis::Measured);
    assert!((before.seconds - 0.5).abs() < 0.05, "{before:?}");
    world.restart();
    let after = estimate(&world);
    assert_eq!(after.basis, EstimateBasis::Measured);
    assert!((after.seconds - 0.5).abs() < 0.05, "{after:?}");
}
