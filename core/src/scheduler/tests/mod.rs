//! The scheduler on a virtual clock.

mod fates;
mod faults;
mod headway;
mod merging;
mod progress;
mod sharing;

use super::*;
use crate::grid::Node;
use crate::ids::{Digest, JobIndex};
use crate::numerics::{NumericsClass, Precision};
use crate::spec::{InputRef, Inputs, Spec};
use std::collections::BTreeSet;

/// A scheduler, its clock and its journal; every step is checked.
struct World {
    scheduler: Scheduler,
    settings: Settings,
    now: Time,
    journal: Vec<Record>,
    requests: u64,
    /// True if merges come back at once; else the test does them.
    merges: bool,
}

fn class(name: &str) -> NumericsClass {
    NumericsClass {
        device: "cpu".into(),
        arithmetic: name.into(),
        evaluation: "patch".into(),
        libtorch: "2.11.0".into(),
        precision: "fp32".into(),
        kernels: 1,
    }
}

fn spec(networks: u64, block_size: u32) -> Box<Spec> {
    let text = format!(
        "name = 't'\narchitectures = ['logreg', 'lenet']\n[nads]\nnetworks = {networks}\nblock_size = {block_size}"
    );
    Box::new(Spec::from_toml(&text).unwrap())
}

fn id(text: &str) -> WorkerId {
    WorkerId::new(text)
}

impl World {
    fn new(settings: Settings) -> Self {
        Self {
            scheduler: Scheduler::new(settings),
            settings,
            now: Time(1_000),
            journal: Vec::new(),
            requests: 0,
            merges: true,
        }
    }

    fn handle(&mut self, event: Event) -> Vec<Action> {
        let effects = self.scheduler.handle(event, self.now);
        self.done(effects)
    }

    /// Takes down what happened; merges that are due are done, if this test does not look at them.
    fn done(&mut self, effects: Effects) -> Vec<Action> {
        self.scheduler.sanity_check().unwrap();
        self.journal.extend(effects.records);
        let mut actions = effects.actions;
        while self.merges
            && let Some(place) = actions.iter().position(|action| matches!(action, Action::Merge { .. }))
        {
            let Action::Merge { job, number, node, .. } = actions.remove(place) else { break };
            let stored = Digest::of(format!("merged {node:?}").as_bytes());
            actions.extend(self.handle(Event::Merged { job, number, stored }));
        }
        actions
    }

    fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    fn submit(&mut self, networks: u64) -> SweepId {
        let request = self.request();
        let id = SweepId::new(format!("s{}", request.0));
        self.submit_as(id.clone(), spec(networks, 4), FairShare::default(), request);
        id
    }

    fn submit_as(&mut self, id: SweepId, spec: Box<Spec>, share: FairShare, request: RequestId) -> Vec<Action> {
        let (owner, key, inputs) = (String::new(), None, Inputs::new());
        self.handle(Event::Submit { request, id, owner, key, share, spec, inputs })
    }

    /// All shards in somebody's hands.
    fn held(&self) -> Vec<(ShardRef, WorkerId)> {
        let workers = self.scheduler.workers.iter();
        workers.flat_map(|(id, worker)| worker.held.keys().map(move |shard| (shard.clone(), id.clone()))).collect()
    }

    fn held_by(&self, worker: &str) -> Vec<ShardRef> {
        self.held().into_iter().filter(|(_, holder)| *holder == id(worker)).map(|(shard, _)| shard).collect()
    }

    fn join(&mut self, worker: &str, slots: u32) -> Vec<ShardRef> {
        self.join_as(worker, slots, "portable", Vec::new())
    }

    fn join_as(&mut self, worker: &str, slots: u32, arithmetic: &str, held: Vec<ShardRef>) -> Vec<ShardRef> {
        let profile = WorkerProfile {
            name: worker.into(),
            class: class(arithmetic),
            precisions: vec![Precision::Fp32],
            slots,
            version: "0".into(),
        };
        leases(&self.handle(Event::Join { worker: id(worker), profile, held }))
    }

    fn report(&mut self, worker: &str, shard: &ShardRef) -> (Verdict, Vec<Action>) {
        self.report_as(worker, shard, Partial::stored(Digest::of(format!("{shard:?}").as_bytes())))
    }

    fn report_as(&mut self, worker: &str, shard: &ShardRef, partial: Partial) -> (Verdict, Vec<Action>) {
        let request = self.request();
        let (shard, class) = (shard.clone(), class("portable"));
        let actions = self.handle(Event::Report {
            request,
            worker: id(worker),
            shard,
            class,
            partial,
            seconds: 0.5,
            begin_seconds: 0.0,
        });
        let verdict = actions.iter().find_map(|action| match action {
            Action::Answer { answer: Answer::Reported(verdict), .. } => Some(*verdict),
            _ => None,
        });
        (verdict.unwrap(), actions)
    }

    /// Lets the clock run to the next deadline.
    fn tick(&mut self) -> Vec<Action> {
        if let Some(deadline) = self.scheduler.next_deadline() {
            self.now = self.now.max(deadline);
        }
        self.handle(Event::Tick)
    }

    fn state(&self, sweep: &SweepId) -> SweepState {
        self.scheduler.sweep(sweep).unwrap().state
    }

    /// Kills the coordinator: the state is what the journal says.
    fn restart(&mut self) -> Vec<Action> {
        let lived = std::mem::replace(&mut self.scheduler, Scheduler::new(self.settings));
        for record in self.journal.clone() {
            // As the journal has it.
            let text = serde_json::to_string(&record).unwrap();
            assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
            self.scheduler.replay(record);
        }
        assert!(self.scheduler.snapshot().eq(lived.snapshot()), "whoever replays knows what whoever lived did");
        let effects = self.scheduler.resume(self.now);
        self.done(effects)
    }
}

fn leases(actions: &[Action]) -> Vec<ShardRef> {
    let shards = actions.iter().filter_map(|action| match action {
        Action::Lease { shard, .. } => Some(shard.clone()),
        _ => None,
    });
    shards.collect()
}

/// A job, the number of its reduction, and what is committed of it.
type Reduction = (SweepId, (JobIndex, u64), Committed);

fn reductions(actions: &[Action]) -> Vec<Reduction> {
    let reductions = actions.iter().filter_map(|action| match action {
        Action::Reduce { job, generation, committed } => {
            Some((job.sweep.clone(), (job.index, *generation), committed.clone()))
        }
        _ => None,
    });
    reductions.collect()
}

fn result(text: &str) -> JobResult {
    JobResult { digest: Digest::of(text.as_bytes()), artifacts: Vec::new(), manifest: None }
}

fn reduced(sweep: &SweepId, (job, generation): (JobIndex, u64)) -> Event {
    Event::Reduced { job: JobRef::new(sweep, job), generation, result: result("r") }
}

#[test]
fn a_sweep_runs_to_its_end() {
    let mut world = World::new(Settings::default());
    let sweep = world.submit(70);
    assert_eq!(world.state(&sweep), SweepState::Queued);
    let mut todo = world.join("w", 2);
    assert_eq!(todo.len(), 2);
    assert_eq!(world.state(&sweep), SweepState::Running);
    let mut due = Vec::new();
    while let Some(shard) = todo.pop() {
        let (verdict, actions) = world.report("w", &shard);
        assert_eq!(verdict, Verdict::Committed);
        todo.extend(leases(&actions));
        due.extend(reductions(&actions));
    }
    assert_eq!(due.len(), 2);
    for (_, job, committed) in &due {
        let covered: u64 = committed.partials().map(|held| held.node.blocks(18).end - held.node.blocks(18).start).sum();
        assert_eq!(covered, 18);
        world.handle(reduced(&sweep, *job));
    }
    assert!(world.state(&sweep).is_complete());
    let view = world.scheduler.sweep(&sweep).unwrap();
    assert!(view.jobs.iter().all(|job| job.members_done == 70), "{view:?}");
    let before = format!("{:?}", world.scheduler.sweep(&sweep));
    world.restart();
    assert_eq!(before.replace("workers: 1", "workers: 0"), format!("{:?}", world.scheduler.sweep(&sweep)));
}

#[test]
fn a_silent_worker_loses_its_leases_and_a_late_report_still_counts_once() {
    let mut world = World::new(Settings::default());
    world.submit(8);
    let shard = world.join("slow", 1).remove(0);
    world.now = world.now.plus(1);
    let other = world.join("quick", 1);
    assert_ne!(other[0], shard);
    world.now = world.now.plus(14_000);
    world.handle(Event::Alive { worker: id("quick") });
    world.now = world.now.plus(1_500);
    let actions = world.handle(Event::Tick);
    assert!(actions.contains(&Action::Disconnect { worker: id("slow") }), "{actions:?}");
    assert!(world.scheduler.workers(world.now).iter().all(|w| w.id != id("slow")));
    // Its connection is ended too: by its next hello it is known again.
    world.report("quick", &other[0]);
    world.now = world.now.plus(1_000);
    world.handle(Event::Alive { worker: id("quick") });
    assert_eq!(world.report("slow", &shard).0, Verdict::NoSession);
    world.join_as("slow", 1, "portable", vec![shard.clone()]);
    assert_eq!(world.report("slow", &shard).0, Verdict::Committed);
    assert_eq!(world.report("quick", &shard).0, Verdict::Duplicate);
    assert_eq!(world.report("slow", &shard).0, Verdict::Duplicate);
}

#[test]
fn reports_of_other_cuts_never_count_a_block_twice() {
    let mut world = World::new(Settings::default());
    let sweep = world.submit(64);
    world.join("w", 1);
    let shard = |level, index| JobRef::new(&sweep, JobIndex(0)).shard(Node { level, index });
    // It comes with what it had computed before anybody knew of it.
    world.join_as("x", 1, "portable", vec![shard(1, 1)]);
    assert_eq!(world.report("x", &shard(1, 1)).0, Verdict::Committed);
    assert_eq!(world.report("x", &shard(2, 0)).0, Verdict::Superseded);
    assert_eq!(world.report("x", &shard(0, 3)).0, Verdict::Duplicate);
    // The lease of block 0 is inside of what is now reported: it is another's.
    assert_eq!(world.report("x", &shard(1, 0)).0, Verdict::NotNeeded);
    assert_eq!(world.report("x", &shard(5, 7)).0, Verdict::Invalid);
    let gone = JobRef::new(&SweepId::new("gone"), JobIndex(0)).shard(shard(0, 0).node);
    assert_eq!(world.report("x", &gone).0, Verdict::NotNeeded);
}

#[test]
fn an_unfit_worker_is_set_aside_and_a_wrong_spec_ends_its_sweep() {
    let mut world = World::new(Settings::default());
    let sweep = world.submit(8);
    let shard = world.join("a", 1).remove(0);
    let kind = FailureKind::Unfit;
    world.handle(Event::Failed { worker: id("a"), shard: shard.clone(), kind, message: "no libtorch".into() });
    assert_eq!(world.scheduler.workers(world.now)[0].unfit.as_deref(), Some("no libtorch"));
    assert_eq!(world.join("b", 1), vec![shard.clone()]);
    world.handle(Event::Failed { worker: id("b"), shard, kind: FailureKind::Spec, message: "bad".into() });
    assert_eq!(
        world.state(&sweep),
        SweepState::Ended(SweepOutcome::Failed { message: "worker b says of the spec: bad".into() })
    );
}

/// The first result decides the class: a worker that only takes shards, in whatever class, keeps nobody else away.
#[test]
fn one_sweep_runs_in_one_class() {
    let mut world = World::new(Settings::default());
    let sweep = world.submit(64);
    assert_eq!(world.join_as("made-up", 1, "made-up", Vec::new()).len(), 1);
    let held = world.join("cpu", 1).remove(0);
    assert_eq!(world.scheduler.sweep(&sweep).unwrap().class, None);
    let of_other = world.held_by("made-up").remove(0);
    let (verdict, actions) = world.report("cpu", &held);
    assert_eq!(verdict, Verdict::Committed);
    let revoked = actions.iter().any(|action| matches!(action, Action::Revoke { shard, .. } if *shard == of_other));
    assert!(revoked && world.held_by("made-up").is_empty(), "{actions:?}");
    assert_eq!(world.scheduler.sweep(&sweep).unwrap().class, Some(class("portable")));
    assert!(world.join_as("gpu", 1, "sm_90", Vec::new()).is_empty());
    // The class is in the journal with the result, and nothing else is.
    world.restart();
    assert_eq!(world.scheduler.sweep(&sweep).unwrap().class, Some(class("portable")));
    assert!(world.join_as("gpu", 1, "sm_90", Vec::new()).is_empty());
}

/// A shard that takes down whoever has it is given up after as many as before, however many workers there are.
#[test]
fn a_shard_that_fails_on_proven_workers_is_given_up() {
    let mut world = World::new(Settings { most_attempts: 2, ..Settings::default() });
    world.submit(64);
    for worker in ["a", "b", "c", "d", "e"] {
        let own = world.join(worker, 1).remove(0);
        world.report(worker, &own);
    }
    let poison = world.held_by("a").remove(0);
    let mut failed = 0;
    for _ in 0..20 {
        for (shard, worker) in world.held() {
            if shard == poison {
                failed += 1;
                world.handle(Event::Failed { worker, shard, kind: FailureKind::Task, message: "no".into() });
            } else {
                world.report(worker.as_str(), &shard);
            }
        }
        world.now = world.now.plus(1_000);
        for worker in ["a", "b", "c", "d", "e"] {
            world.handle(Event::Alive { worker: id(worker) });
        }
    }
    let view = world.scheduler.sweeps_before(None, 1, |_| true).remove(0).1;
    assert_eq!((failed, view.failures.len()), (2, 1), "{view:?}");
}

/// A worker that has never yielded anything says nothing of a shard by failing on it, nor by being lost with it.
#[test]
fn whoever_comes_and_goes_does_not_keep_a_shard_from_others() {
    let mut world = World::new(Settings { most_attempts: 2, most_losses: 2, ..Settings::default() });
    world.submit(8);
    let first = world.join("honest", 1).remove(0);
    world.report("honest", &first);
    let second = world.held_by("honest").remove(0);
    world.handle(Event::Failed {
        worker: id("honest"),
        shard: second.clone(),
        kind: FailureKind::Transient,
        message: "x".into(),
    });
    for round in 0..40 {
        let liar = format!("!{round}");
        world.join(&liar, 1);
        for shard in world.held_by(&liar) {
            let (worker, message) = (id(&liar), "no".to_owned());
            world.handle(Event::Failed { worker, shard, kind: FailureKind::Task, message });
        }
        world.handle(Event::Leave { worker: id(&liar), drained: true });
        world.now = world.now.plus(1_000);
        world.handle(Event::Alive { worker: id("honest") });
        for shard in world.held_by("honest") {
            world.report("honest", &shard);
        }
    }
    let view = world.scheduler.sweeps_before(None, 1, |_| true).remove(0).1;
    assert_eq!(view.failures, [], "{view:?}");
    assert!(view.jobs.iter().all(|job| job.members_done == 8), "{view:?}");
}

#[test]
fn a_submission_is_idempotent_by_key() {
    let mut world = World::new(Settings::default());
    let mut submit = |owner: &str, name: &str, key: &str, networks| {
        let request = world.request();
        let (id, key) = (SweepId::new(name), Some(key.into()));
        let (owner, share, inputs) = (owner.to_owned(), FairShare::default(), Inputs::new());
        let event = Event::Submit { request, id, owner, key, share, spec: spec(networks, 4), inputs };
        let actions = world.handle(event);
        actions.into_iter().find_map(|a| match a {
            Action::Answer { answer, .. } => Some(answer),
            _ => None,
        })
    };
    let (a, b, c) = (SweepId::new("a"), SweepId::new("b"), SweepId::new("c"));
    assert_eq!(submit("", "a", "k", 8), Some(Answer::Submitted { sweep: a.clone(), created: true }));
    assert_eq!(submit("", "b", "k", 8), Some(Answer::Submitted { sweep: a.clone(), created: false }));
    assert_eq!(submit("", "b", "k", 9), Some(Answer::KeyTaken { sweep: a }));
    assert_eq!(submit("", "b", "l", 9), Some(Answer::Submitted { sweep: b, created: true }));
    assert_eq!(submit("ada", "c", "k", 9), Some(Answer::Submitted { sweep: c, created: true }), "a key is its owner's");
}

#[test]
fn cancelling_revokes_and_discards_and_is_idempotent() {
    let mut world = World::new(Settings::default());
    let sweep = world.submit(64);
    let shard = world.join("w", 1).remove(0);
    let (_, actions) = world.report("w", &shard);
    let held = leases(&actions).remove(0);
    let request = world.request();
    let actions = world.handle(Event::Cancel { request, sweep: sweep.clone() });
    assert!(actions.iter().any(|a| matches!(a, Action::Revoke { shard, .. } if *shard == held)));
    assert!(actions.iter().any(|a| matches!(a, Action::Discard { blobs } if blobs.len() == 1)));
    let records = world.journal.len();
    world.handle(Event::Cancel { request, sweep: sweep.clone() });
    assert_eq!((world.state(&sweep), world.journal.len()), (SweepState::Ended(SweepOutcome::Cancelled), records));
    assert_eq!(world.report("w", &held).0, Verdict::NotNeeded);
}

#[test]
fn a_restarted_coordinator_lets_workers_keep_what_they_hold() {
    let mut world = World::new(Settings::default());
    world.submit(64);
    let held = world.join("w", 2);
    world.restart();
    assert!(world.held().is_empty());
    assert!(world.join_as("w", 2, "portable", held.clone()).is_empty(), "both slots are busy");
    assert_eq!(world.held_by("w"), held.into_iter().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>());
}

#[test]
fn a_damaged_partial_is_computed_again() {
    let mut world = World::new(Settings::default());
    let sweep = world.submit(4);
    let mut todo = world.join("w", 2);
    let mut due = Vec::new();
    while let Some(shard) = todo.pop() {
        let (_, actions) = world.report("w", &shard);
        todo.extend(leases(&actions));
        due.extend(reductions(&actions));
    }
    let (_, (job, generation), committed) = due.remove(0);
    let damaged: Vec<Node> = committed.partials().take(1).map(|partial| partial.node).collect();
    let failed = |generation, damaged: &[Node], message: &str| Event::ReduceFailed {
        job: JobRef::new(&sweep, job),
        generation,
        damaged: damaged.to_vec(),
        message: message.to_owned(),
    };
    let again = leases(&world.handle(failed(generation, &damaged, "damaged")));
    assert_eq!(again.len(), 1);
    let (verdict, actions) = world.report("w", &again[0]);
    let anew = reductions(&actions);
    assert_eq!((verdict, anew.len()), (Verdict::Committed, 1));
    // What is still said of the first reduction is nothing to the second.
    world.handle(failed(generation, &[], "late"));
    world.handle(reduced(&sweep, (job, generation)));
    assert!(!world.state(&sweep).has_ended());
    assert_eq!(world.scheduler.sweep(&sweep).unwrap().jobs[0].state, JobState::Reducing);
    let message = "disk full".to_owned();
    world.handle(failed(anew[0].1.1, &[], &message));
    assert_eq!(world.state(&sweep), SweepState::Ended(SweepOutcome::Failed { message }));
}

/// A worker that puts its partials into a shared store may put anything there: it is named, and another one computes them again.
#[test]
fn whose_partial_is_damaged_is_named_and_another_computes_it_again() {
    let mut world = World::new(Settings::default());
    let sweep = world.submit(4);
    let mut todo = world.join("careless", 2);
    let mut due = Vec::new();
    while let Some(shard) = todo.pop() {
        let (_, actions) = world.report("careless", &shard);
        todo.extend(leases(&actions));
        due.extend(reductions(&actions));
    }
    assert!(world.join("careful", 1).is_empty());
    let (_, (job, generation), committed) = due.remove(0);
    let damaged: Vec<Node> = committed.partials().take(1).map(|partial| partial.node).collect();
    let message = "damaged".to_owned();
    let actions = world.handle(Event::ReduceFailed { job: JobRef::new(&sweep, job), generation, damaged, message });
    let named = actions.iter().find_map(|action| match action {
        Action::Damaged { worker, reason } => Some((worker.clone(), reason.clone())),
        _ => None,
    });
    let (worker, reason) = named.unwrap();
    assert!(worker == id("careless") && reason.contains("blocks 0..1 of nads/"), "{reason}");
    let seen = world.scheduler.workers(world.now);
    let error = |name: &str| seen.iter().find(|seen| seen.id == id(name)).unwrap().last_error.clone();
    assert_eq!((error("careless"), error("careful")), (Some(reason), None));
    assert_eq!((world.held_by("careless").len(), world.held_by("careful").len()), (0, 1));
}

/// Runs along a sweep's own NADs are given out when these are there, and the worker is told where they lie.
#[test]
fn a_job_waits_for_the_nads_that_it_needs() {
    let mut world = World::new(Settings::default());
    let text = "name = 't'\narchitectures = ['logreg']\n[nads]\nnetworks = 8\nblock_size = 8\n\
                [directional]\ndirections = { kind = 'nads', indices = [0, 1] }\nblock_size = 1";
    let (request, id) = (world.request(), SweepId::new("s"));
    let spec = Box::new(Spec::from_toml(text).unwrap());
    world.submit_as(id.clone(), spec, FairShare::default(), request);
    let first = world.join("w", 2);
    assert_eq!((first.len(), first[0].job.index), (1, JobIndex(0)), "one block of networks, and no run yet");
    let states = |world: &World| world.scheduler.sweep(&id).unwrap().jobs.iter().map(|j| j.state).collect::<Vec<_>>();
    assert_eq!(states(&world), [JobState::Computing, JobState::Waiting]);
    let (_, actions) = world.report("w", &first[0]);
    assert_eq!(leases(&actions), []);
    let digest = Digest::of(b"nads");
    let nads = ArtifactRef { name: "nads/logreg/nads.npy".into(), size: 7, digest };
    let result = JobResult { artifacts: vec![nads], ..result("moments") };
    let actions = world.handle(Event::Reduced { job: JobRef::new(&id, JobIndex(0)), generation: 1, result });
    let runs = leases(&actions);
    assert_eq!(runs.iter().map(|shard| shard.job.index).collect::<Vec<_>>(), [JobIndex(1); 2]);
    let inputs = world.scheduler.shard_inputs(&runs[0]);
    assert_eq!((inputs.len(), inputs[0].role, inputs[0].stored.digest), (1, "basis", digest));
    // After a restart the runs are open, not the networks.
    world.restart();
    assert_eq!(states(&world), [JobState::Complete, JobState::Computing]);
    assert!(world.scheduler.referenced().any(|needed| needed == digest));
}

/// A sweep goes to workers that offer its precision, in a class that says so.
#[test]
fn a_precision_that_nobody_offers_waits() {
    let mut world = World::new(Settings::default());
    let text = "name = 't'\narchitectures = ['logreg']\nprecision = 'bf16'\n[nads]\nnetworks = 8";
    let (request, id) = (world.request(), SweepId::new("s"));
    let spec = Box::new(Spec::from_toml(text).unwrap());
    world.submit_as(id.clone(), spec, FairShare::default(), request);
    assert_eq!(world.join("plain", 1), []);
    assert_eq!(world.scheduler.sweep(&id).unwrap().workers, 0);
    let precisions = vec![Precision::Fp32, Precision::Bf16];
    let profile =
        WorkerProfile { name: "gpu".into(), class: class("sm_90"), precisions, slots: 1, version: "0".into() };
    let actions = world.handle(Event::Join { worker: super::tests::id("gpu"), profile, held: Vec::new() });
    let held = leases(&actions);
    assert_eq!(held.len(), 1);
    let (request, partial) = (world.request(), Partial::stored(Digest::of(b"x")));
    let report = |precision| Event::Report {
        request,
        worker: super::tests::id("gpu"),
        shard: held[0].clone(),
        class: class("sm_90").with(precision),
        partial: partial.clone(),
        seconds: 0.5,
        begin_seconds: 0.0,
    };
    let refused = world.handle(report(Precision::Fp32));
    assert!(refused.contains(&Action::Answer { request, answer: Answer::Reported(Verdict::Invalid) }), "{refused:?}");
    world.handle(report(Precision::Bf16));
    assert_eq!(world.scheduler.sweep(&id).unwrap().class.unwrap().precision, "bf16");
}

/// Files are a part of what a key stands for, and are needed as long as the sweep is kept.
#[test]
fn the_files_of_a_sweep_are_kept_with_it() {
    let mut world = World::new(Settings { most_ended_sweeps: 1, ..Settings::default() });
    let file = |text: &[u8]| Inputs::from([("x".to_owned(), InputRef { size: 1, digest: Digest::of(text) })]);
    let submit = |world: &mut World, name: &str, inputs: Inputs| {
        let (request, id, key) = (world.request(), SweepId::new(name), Some("key".to_owned()));
        let (owner, share) = (String::new(), FairShare::default());
        let actions = world.handle(Event::Submit { request, id, owner, key, share, spec: spec(8, 4), inputs });
        actions.into_iter().find_map(|action| match action {
            Action::Answer { answer, .. } => Some(answer),
            _ => None,
        })
    };
    let sweep = SweepId::new("a");
    let created = |created| Some(Answer::Submitted { sweep: sweep.clone(), created });
    assert_eq!(submit(&mut world, "a", file(b"1")), created(true));
    assert_eq!(submit(&mut world, "b", file(b"1")), created(false));
    assert_eq!(submit(&mut world, "c", file(b"2")), Some(Answer::KeyTaken { sweep: sweep.clone() }));
    assert!(world.scheduler.referenced().any(|digest| digest == Digest::of(b"1")));
    world.restart();
    assert!(world.scheduler.referenced().any(|digest| digest == Digest::of(b"1")));
    let request = world.request();
    world.handle(Event::Cancel { request, sweep: sweep.clone() });
    assert!(world.scheduler.referenced().any(|digest| digest == Digest::of(b"1")), "it is kept with its sweep");
    // Another sweep ends, and only one ended sweep is kept.
    let other = world.submit(8);
    let request = world.request();
    let actions = world.handle(Event::Cancel { request, sweep: other });
    let discarded = |action: &Action| matches!(action, Action::Discard { blobs } if *blobs == [Digest::of(b"1")]);
    assert!(actions.iter().any(discarded));
    assert!(world.scheduler.sweep(&sweep).is_none());
    assert!(world.scheduler.referenced().all(|digest| digest != Digest::of(b"1")));
    world.restart();
    assert!(world.scheduler.sweep(&sweep).is_none());
}

/// A sweep of days is not forgotten because shorter ones have come and gone meanwhile.
#[test]
fn the_sweeps_that_ended_first_are_forgotten_first() {
    let mut world = World::new(Settings { most_ended_sweeps: 1, ..Settings::default() });
    let (long, short) = (world.submit(8), world.submit(8));
    for sweep in [&short, &long] {
        world.now.0 += 1;
        let request = world.request();
        world.handle(Event::Cancel { request, sweep: sweep.clone() });
    }
    for _ in 0..2 {
        assert!(world.scheduler.sweep(&short).is_none());
        assert!(world.scheduler.sweep(&long).is_some());
        world.restart();
    }
}
