//! Several sweeps at once, pauses, and snapshots.

use super::*;

fn slots_of(world: &World, sweep: &SweepId) -> usize {
    world.held().iter().filter(|(shard, _)| shard.job.sweep == *sweep).count()
}

impl World {
    fn submit_shared(&mut self, name: &str, priority: i32, weight: f64) -> SweepId {
        let (sweep, request) = (SweepId::new(name), self.request());
        self.submit_as(sweep.clone(), spec(4_000, 4), FairShare { priority, weight }, request);
        sweep
    }

    fn pause(&mut self, sweep: &SweepId, paused: bool) -> Vec<Action> {
        let request = self.request();
        self.handle(Event::Pause { request, sweep: sweep.clone(), paused })
    }
}

#[test]
fn slots_are_shared_by_weight_and_priority_goes_first() {
    let mut world = World::new(Settings { speculate_after: 0.0, ..Settings::default() });
    let (light, heavy) = (world.submit_shared("light", 0, 1.0), world.submit_shared("heavy", 0, 3.0));
    for worker in 0..8 {
        world.join(&worker.to_string(), 1);
    }
    assert_eq!((slots_of(&world, &light), slots_of(&world, &heavy)), (2, 6));
    // It stays so as shards come and go, in whatever order.
    for turn in 0..200 {
        let held = world.held();
        let (shard, worker) = &held[(turn * 5) % held.len()];
        world.report(worker.as_str(), shard);
        let (of_light, of_heavy) = (slots_of(&world, &light), slots_of(&world, &heavy));
        assert!((1..=3).contains(&of_light) && of_light + of_heavy == 8, "{of_light} and {of_heavy}");
    }
    let urgent = world.submit_shared("urgent", 1, 1.0);
    for (shard, worker) in world.held() {
        world.report(worker.as_str(), &shard);
    }
    assert_eq!(slots_of(&world, &urgent), 8);
    let told = world.scheduler.explain(&light, Subject::Sweep, world.now).unwrap();
    assert!(told.reasons[0].contains("1 sweeps come before it"), "{told:?}");
}

#[test]
fn a_paused_sweep_gives_nothing_out_and_goes_on_where_it_was() {
    let mut world = World::new(Settings { speculate_after: 0.0, ..Settings::default() });
    let sweep = world.submit(64);
    let shard = world.join("w", 1).remove(0);
    world.pause(&sweep, true);
    let records = world.journal.len();
    world.pause(&sweep, true);
    assert_eq!(world.journal.len(), records, "pausing again changes nothing");
    let (verdict, actions) = world.report("w", &shard);
    assert_eq!((verdict, leases(&actions).len()), (Verdict::Committed, 0));
    let told = world.scheduler.explain(&sweep, Subject::Job(JobIndex(0)), world.now).unwrap();
    assert!(told.reasons[0].contains("paused"), "{told:?}");
    world.restart();
    assert!(world.join("w", 1).is_empty() && world.scheduler.sweep(&sweep).unwrap().paused);
    assert_eq!(leases(&world.pause(&sweep, false)).len(), 1);
    let request = world.request();
    world.handle(Event::Cancel { request, sweep: sweep.clone() });
    let records = world.journal.len();
    world.pause(&sweep, true);
    assert_eq!(world.journal.len(), records, "an ended sweep is not paused");
}

/// Owners have a limit of their own.
#[test]
fn open_sweeps_are_limited() {
    let mut world = World::new(Settings { most_open_sweeps: 3, most_open_sweeps_each: 2, ..Settings::default() });
    let mut submit = |owner: &str| {
        let request = world.request();
        let (id, owner, inputs) = (SweepId::new(request.0.to_string()), owner.to_owned(), Inputs::new());
        let event =
            Event::Submit { request, id, owner, key: None, share: FairShare::default(), spec: spec(8, 4), inputs };
        let actions = world.handle(event);
        actions
            .into_iter()
            .find_map(|a| if let Action::Answer { answer, .. } = a { Some(answer) } else { None })
            .unwrap()
    };
    assert!(matches!(submit("ada"), Answer::Submitted { .. }));
    assert!(matches!(submit("ada"), Answer::Submitted { .. }));
    assert_eq!(submit("ada"), Answer::TooManySweeps { limit: 2, each: true });
    assert!(matches!(submit("ben"), Answer::Submitted { .. }));
    assert_eq!(submit("ben"), Answer::TooManySweeps { limit: 3, each: false });
}

/// The reason why nobody takes a sweep is told worker by worker.
#[test]
fn what_keeps_each_worker_is_told() {
    let mut world = World::new(Settings::default());
    let sweep = world.submit(64);
    let told = world.scheduler.explain(&sweep, Subject::Sweep, world.now).unwrap();
    assert!(told.state == "queued" && told.reasons[0] == "no worker is connected", "{told:?}");
    let shard = world.join("a", 1).remove(0);
    world.join_as("gpu", 1, "sm_90", Vec::new());
    world.join("b", 1);
    world.handle(Event::Draining { worker: id("b") });
    let kind = FailureKind::Unfit;
    world.handle(Event::Failed { worker: id("a"), shard, kind, message: "no libtorch".into() });
    let held = world.held_by("b");
    held.iter().for_each(|shard| drop(world.report("b", shard)));
    let told = world.scheduler.explain(&sweep, Subject::Sweep, world.now).unwrap();
    assert_eq!(told.reasons[0], "none of 3 workers can take it");
    let of = |name: &str| told.workers.iter().find(|worker| worker.id.as_str() == name).unwrap().reason.clone();
    assert_eq!(of("a"), "it is set aside: no libtorch");
    assert_eq!(of("b"), "it is draining");
    assert!(of("gpu").contains("class") && of("gpu").contains("sm_90"), "{told:?}");
    assert!(world.scheduler.explain(&sweep, Subject::Block(JobIndex(0), 99), world.now).is_none());
    assert!(world.scheduler.explain(&SweepId::new("x"), Subject::Sweep, world.now).is_none());
}

/// A snapshot replays to the same state as all that was written, and is shorter.
#[test]
fn a_snapshot_stands_for_the_journal() {
    let mut world = World::new(Settings { speculate_after: 0.0, most_ended_sweeps: 2, ..Settings::default() });
    for turn in 0..4 {
        let sweep = world.submit(400);
        world.join("w", 2);
        let request = world.request();
        for _ in 0..70 * turn {
            let Some((shard, worker)) = world.held().first().cloned() else { continue };
            let due = reductions(&world.report(worker.as_str(), &shard).1);
            due.iter().for_each(|(sweep, job, _)| drop(world.handle(reduced(sweep, *job))));
        }
        if turn == 1 {
            world.handle(Event::Cancel { request, sweep });
        } else if turn == 2 {
            world.pause(&sweep, true);
        }
    }
    world.restart();
    let snapshot: Vec<Record> = world.scheduler.snapshot().collect();
    assert!(snapshot.len() < world.journal.len(), "{} and {}", snapshot.len(), world.journal.len());
    let views = |world: &World| format!("{:#?}", world.scheduler.sweeps_before(None, 100, |_| true));
    let referenced = |world: &World| world.scheduler.referenced().collect::<BTreeSet<_>>();
    let (of_journal, blobs) = (views(&world), referenced(&world));
    world.journal = snapshot.clone();
    world.restart();
    assert!(views(&world) == of_journal, "{of_journal}\nbecame {}", views(&world));
    assert_eq!(referenced(&world), blobs);
    assert!(world.scheduler.snapshot().eq(snapshot.clone()), "a snapshot of it is the same");
    replicate(&world.scheduler, snapshot.clone()).unwrap();
    let with = |change: &dyn Fn(&mut Vec<Record>)| {
        let mut changed = snapshot.clone();
        change(&mut changed);
        replicate(&world.scheduler, changed)
    };
    // A record without which the others have no meaning is noticed, and so is one that comes at the wrong time, or twice.
    let head = snapshot.iter().rposition(|record| matches!(record, Record::Submitted { .. })).unwrap();
    let tally = snapshot.iter().position(|record| matches!(record, Record::Tally { .. })).unwrap();
    let headless = with(&|records| drop(records.remove(head))).unwrap_err();
    assert!(headless.number == head as u64 + 1 && headless.again == "no record", "{headless}");
    assert_eq!(with(&|records| drop(records.remove(tally))).unwrap_err().number, tally as u64 + 1);
    assert!(with(&|records| records.swap(tally, tally + 1)).is_err());
    let twice = with(&|records| records.insert(tally, records[tally].clone())).unwrap_err();
    assert!(twice.number == tally as u64 + 2 && twice.sweep == *snapshot[tally].sweep(), "{twice}");
}

fn replicate(scheduler: &Scheduler, records: Vec<Record>) -> Result<(), SnapshotDifference> {
    let mut replica = scheduler.replica();
    records.into_iter().try_for_each(|record| replica.replay(record))?;
    replica.end()
}
