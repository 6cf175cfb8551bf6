//! Progress and time left of clusters on a virtual clock, against what came.

use super::*;
use std::collections::BTreeMap;

/// Seconds that a reduction takes here.
const REDUCTION_MS: u64 = 300;
/// Milliseconds that a merge takes.
const MERGE_MS: u64 = 20;

/// Workers that compute at a given speed, beside a world.
struct Cluster {
    world: World,
    /// Slot-milliseconds of a member of an experiment.
    member_ms: fn(&str) -> f64,
    /// The factor by which a worker takes longer.
    slowness: BTreeMap<String, f64>,
    due: BTreeMap<(Time, u64), Due>,
    count: u64,
}

/// Something that will happen.
enum Due {
    Progress(WorkerId, ShardRef, ShardStand),
    Report(WorkerId, ShardRef, f64),
    Reduced(JobRef, u64),
    Merged(JobRef, u64),
}

/// A view of a sweep at a moment.
struct Seen {
    at: Time,
    progress: f64,
    seconds_left: Option<f64>,
    members: u64,
}

impl Cluster {
    fn new(member_ms: fn(&str) -> f64) -> Self {
        let world = World::new(Settings { speculate_after: 0.0, ..Settings::default() });
        Self { world, member_ms, slowness: BTreeMap::new(), due: BTreeMap::new(), count: 0 }
    }

    fn submit(&mut self, name: &str, text: &str, share: FairShare) -> SweepId {
        let (request, id) = (self.world.request(), SweepId::new(name));
        let spec = Box::new(Spec::from_toml(text).unwrap());
        let actions = self.world.submit_as(id.clone(), spec, share, request);
        self.take(actions);
        id
    }

    fn join(&mut self, worker: &str, slots: u32, slowness: f64) {
        self.slowness.insert(worker.to_owned(), slowness);
        let profile = WorkerProfile {
            name: worker.into(),
            class: class("portable"),
            precisions: vec![Precision::Fp32],
            slots,
            version: "0".into(),
        };
        let actions = self.world.handle(Event::Join { worker: id(worker), profile, held: Vec::new() });
        self.take(actions);
    }

    fn schedule(&mut self, after_ms: f64, due: Due) {
        self.count += 1;
        self.due.insert((self.world.now.plus(after_ms.ceil() as u64), self.count), due);
    }

    fn take(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Lease { worker, shard } => self.begin(worker, shard),
                Action::Reduce { job, generation, .. } => {
                    self.schedule(REDUCTION_MS as f64, Due::Reduced(job, generation));
                }
                Action::Merge { job, number, .. } => {
                    self.schedule(MERGE_MS as f64, Due::Merged(job, number));
                }
                _ => {}
            }
        }
    }

    fn begin(&mut self, worker: WorkerId, shard: ShardRef) {
        let (_, shape, members) = self.world.scheduler.shard(&shard).unwrap();
        let each = (self.member_ms)(shape.experiment.as_str()) * self.slowness[worker.as_str()];
        let size = u64::from(shape.grid.block_size);
        let blocks = self.world.scheduler.blocks(&shard).unwrap();
        for done in 1..blocks.end - blocks.start {
            let took = each * (done * size) as f64;
            let stand = ShardStand { blocks_done: done, fraction: 0.0, seconds: took / 1e3, begin_seconds: 0.0 };
            self.schedule(took, Due::Progress(worker.clone(), shard.clone(), stand));
        }
        let took = each * members as f64;
        self.schedule(took, Due::Report(worker, shard, took / 1e3));
    }

    /// Lets what is next happen; whether there was anything.
    fn step(&mut self) -> bool {
        let Some(((at, _), due)) = self.due.pop_first() else { return false };
        self.world.now = at;
        for worker in self.slowness.keys().cloned().collect::<Vec<_>>() {
            self.world.handle(Event::Alive { worker: id(&worker) });
        }
        let actions = match due {
            Due::Progress(worker, shard, stand) => self.world.handle(Event::Progress { worker, shard, stand }),
            Due::Report(worker, shard, seconds) => {
                let (request, class) = (self.world.request(), class("portable"));
                let partial = Partial::stored(Digest::of(format!("{shard:?}").as_bytes()));
                self.world.handle(Event::Report { request, worker, shard, class, partial, seconds, begin_seconds: 0.0 })
            }
            Due::Reduced(job, generation) => self.world.handle(reduced(&job.sweep, (job.index, generation))),
            Due::Merged(job, number) => {
                let stored = Digest::of(format!("{job:?} {number}").as_bytes());
                self.world.handle(Event::Merged { job, number, stored })
            }
        };
        self.take(actions);
        true
    }

    fn view(&self, sweep: &SweepId) -> SweepView {
        self.world.scheduler.sweep(sweep).unwrap()
    }

    /// Runs until a sweep has ended; returns what it showed on the way.
    fn run(&mut self, sweep: &SweepId) -> Vec<Seen> {
        let mut seen = Vec::new();
        while !self.world.state(sweep).has_ended() {
            let view = self.view(sweep);
            let members = view.jobs.iter().map(|job| job.members_done).sum();
            let SweepView { progress, seconds_left, .. } = view;
            seen.push(Seen { at: self.world.now, progress, seconds_left, members });
            assert!(self.step(), "nothing happens, and the sweep has not ended");
        }
        seen
    }
}

/// Progress never goes back and is 1 at the end.
fn assert_forward(cluster: &Cluster, sweep: &SweepId, seen: &[Seen]) {
    for pair in seen.windows(2) {
        let (before, after) = (pair[0].progress, pair[1].progress);
        assert!(after >= before - 1e-12, "progress went from {before} back to {after}");
    }
    assert!(seen.iter().all(|seen| seen.progress < 1.0), "it is done before its result is there");
    assert_eq!(cluster.view(sweep).progress, 1.0);
}

/// From `members` committed members on, the time left is right by a quarter and by `slack` seconds.
fn assert_true(cluster: &Cluster, seen: &[Seen], members: u64, slack: f64) {
    let end = cluster.world.now;
    let mut told = 0;
    for seen in seen.iter().filter(|seen| seen.members >= members) {
        let (left, truth) = (seen.seconds_left.unwrap(), end.seconds_since(seen.at));
        assert!((left - truth).abs() <= 0.25 * truth + slack, "{left} s left, in truth {truth} s");
        told += 1;
    }
    assert!(told > 3, "nothing was told");
}

const NETWORKS: &str = "name = 't'\narchitectures = ['lenet']\n[nads]\nnetworks = 4096\nblock_size = 8";

#[test]
fn the_time_left_is_true_after_the_first_blocks() {
    let mut cluster = Cluster::new(|_| 250.0);
    let sweep = cluster.submit("s", NETWORKS, FairShare::default());
    cluster.join("quick", 4, 0.5);
    cluster.join("plain", 2, 1.0);
    cluster.join("slow", 2, 2.0);
    let seen = cluster.run(&sweep);
    assert_forward(&cluster, &sweep, &seen);
    assert_true(&cluster, &seen, 512, 4.0);
    assert!(seen[0].seconds_left.is_none(), "nothing is measured yet");
}

/// 2,048 networks of 5 ms and nine runs of 20 s: the networks are most of the members, the runs most of the work.
#[test]
fn cheap_networks_do_not_stand_for_expensive_runs() {
    let mut cluster = Cluster::new(|experiment| if experiment == "nads" { 5.0 } else { 20_000.0 });
    let text = "name = 't'\narchitectures = ['logreg']\n[nads]\nnetworks = 2048\nblock_size = 32\n\
                [directional]\ndirections = { kind = 'nads', indices = [{ start = 0, end = 9 }] }\nseeds = 1\nblock_size = 1";
    let sweep = cluster.submit("s", text, FairShare::default());
    cluster.join("w", 2, 1.0);
    let seen = cluster.run(&sweep);
    assert_forward(&cluster, &sweep, &seen);
    let networks_done = seen.iter().find(|seen| seen.members >= 2_048).unwrap();
    assert!(networks_done.progress < 0.5, "{} when only networks were done", networks_done.progress);
    assert_true(&cluster, &seen, 2_050, 1.0);
}

/// Nine runs on eight slots take two rounds, of which the second is one run.
#[test]
fn the_last_of_a_few_long_runs_is_not_spread_over_all_slots() {
    let mut cluster = Cluster::new(|_| 20_000.0);
    let text = "name = 't'\narchitectures = ['logreg']\n[directional]\ndirections = { kind = 'pixels', indices = [{ start = 0, end = 9 }] }\n\
                seeds = 1\nblock_size = 1";
    let first = cluster.submit("first", text, FairShare::default());
    cluster.join("w", 8, 1.0);
    let seen = cluster.run(&first);
    assert_forward(&cluster, &first, &seen);
    let again = cluster.submit("again", text, FairShare::default());
    cluster.join("w", 8, 1.0);
    let told = cluster.view(&again).seconds_left.unwrap();
    assert!((told - 40.0).abs() < 2.0, "{told} s left of two rounds of 20 s");
}

#[test]
fn sweeps_that_share_the_slots_say_when_each_ends() {
    let mut cluster = Cluster::new(|_| 250.0);
    cluster.join("w", 4, 1.0);
    cluster.submit("before", NETWORKS, FairShare::default());
    let before = SweepId::new("before");
    cluster.run(&before);
    let long = cluster.submit("long", NETWORKS, FairShare::default());
    let short = cluster.submit("short", &NETWORKS.replace("4096", "1024"), FairShare::default());
    let urgent = cluster.submit("urgent", &NETWORKS.replace("4096", "512"), FairShare { priority: 1, weight: 1.0 });
    let begun = cluster.world.now;
    let told = [&urgent, &short, &long].map(|sweep| cluster.view(sweep).seconds_left.unwrap());
    for (sweep, told) in [urgent, short, long].iter().zip(told) {
        let seen = cluster.run(sweep);
        assert_forward(&cluster, sweep, &seen);
        let truth = cluster.world.now.seconds_since(begun);
        // A shard that was begun before the urgent sweep came is not taken away.
        assert!((told - truth).abs() <= 0.25 * truth + 20.0, "{sweep:?}: {told} s left, in truth {truth} s");
    }
}

#[test]
fn without_slots_no_time_is_told() {
    let mut cluster = Cluster::new(|_| 250.0);
    let sweep = cluster.submit("s", NETWORKS, FairShare::default());
    assert_eq!(cluster.view(&sweep).notices, ["no worker is connected"]);
    cluster.join("w", 2, 1.0);
    while cluster.view(&sweep).jobs[0].members_done < 100 {
        cluster.step();
    }
    let view = cluster.view(&sweep);
    assert!(view.seconds_left.is_some() && view.notices.is_empty(), "{view:?}");
    assert_eq!(view.jobs[0].seconds_left, view.seconds_left);
    let request = cluster.world.request();
    cluster.world.handle(Event::Pause { request, sweep: sweep.clone(), paused: true });
    let paused = cluster.view(&sweep);
    assert_eq!((paused.seconds_left, paused.jobs[0].seconds_left, paused.progress), (None, None, view.progress));
    assert!(paused.notices[0].contains("paused"), "{paused:?}");
    cluster.world.handle(Event::Pause { request, sweep: sweep.clone(), paused: false });
    cluster.world.handle(Event::Draining { worker: id("w") });
    let drained = cluster.view(&sweep);
    assert_eq!(drained.seconds_left, None, "a worker that drains takes nothing more");
    cluster.world.join_as("gpu", 64, "sm_90", Vec::new());
    assert_eq!(cluster.view(&sweep).seconds_left, None, "slots of another class are none of this sweep's");
    let request = cluster.world.request();
    cluster.world.handle(Event::Cancel { request, sweep: sweep.clone() });
    let ended = cluster.view(&sweep);
    assert!(ended.progress > 0.0 && ended.progress < 0.2 && ended.seconds_left.is_none(), "{ended:?}");
    assert!(ended.notices.is_empty());
}

/// More slots, less time; and the other way round.
#[test]
fn workers_that_come_and_go_change_the_time_left() {
    let mut cluster = Cluster::new(|_| 250.0);
    let sweep = cluster.submit("s", NETWORKS, FairShare::default());
    cluster.join("a", 2, 1.0);
    while cluster.view(&sweep).jobs[0].members_done < 200 {
        cluster.step();
    }
    let with_two = cluster.view(&sweep).seconds_left.unwrap();
    cluster.join("b", 6, 1.0);
    let with_eight = cluster.view(&sweep).seconds_left.unwrap();
    assert!((with_eight / with_two - 0.25).abs() < 0.05, "{with_two} s, then {with_eight} s");
    let actions = cluster.world.handle(Event::Leave { worker: id("b"), drained: true });
    cluster.take(actions);
    let with_two_again = cluster.view(&sweep).seconds_left.unwrap();
    assert!((with_two_again / with_two - 1.0).abs() < 0.05, "{with_two} s, then {with_two_again} s");
}

#[test]
fn what_is_withdrawn_is_work_again() {
    let mut cluster = Cluster::new(|_| 250.0);
    let sweep = cluster.submit("s", &NETWORKS.replace("4096", "64"), FairShare::default());
    cluster.join("w", 1, 1.0);
    while cluster.view(&sweep).jobs[0].state == JobState::Computing {
        cluster.step();
    }
    let all = cluster.view(&sweep);
    assert!(all.progress > 0.9 && all.progress < 1.0, "the result is still to come: {}", all.progress);
    assert!(all.seconds_left.is_some_and(|left| left > 0.0 && left < 1.0), "{all:?}");
    let node =
        cluster.world.scheduler.committed(&JobRef::new(&sweep, JobIndex(0))).unwrap().partials().next().unwrap().node;
    let (job, generation, damaged) = (JobIndex(0), 1, vec![node]);
    let message = "damaged".into();
    cluster.world.handle(Event::ReduceFailed { job: JobRef::new(&sweep, job), generation, damaged, message });
    let less = cluster.view(&sweep);
    assert!(less.progress < all.progress && less.progress > 0.3, "{} after {}", less.progress, all.progress);
}

/// Audits are work: a sweep of which every shard is computed twice is half done when all is computed once.
#[test]
fn audits_are_a_part_of_the_work() {
    let mut cluster = Cluster::new(|_| 250.0);
    let text = NETWORKS.replace("[nads]", "audit = 1.0\n[nads]").replace("4096", "512");
    let sweep = cluster.submit("s", &text, FairShare::default());
    cluster.join("a", 1, 1.0);
    cluster.join("b", 1, 1.0);
    let seen = cluster.run(&sweep);
    assert_forward(&cluster, &sweep, &seen);
    let half = seen.iter().find(|seen| seen.members >= 256).unwrap();
    assert!(half.progress > 0.3 && half.progress < 0.7, "{}", half.progress);
    assert_true(&cluster, &seen, 64, 8.0);
}

#[test]
fn quarantined_blocks_are_over() {
    let mut cluster = Cluster::new(|_| 250.0);
    cluster.world.scheduler.settings.most_attempts = 1;
    let sweep = cluster.submit("s", &NETWORKS.replace("4096", "16"), FairShare::default());
    cluster.join("w", 1, 1.0);
    for last in [false, true] {
        let shard = cluster.world.held()[0].0.clone();
        let kind = FailureKind::Task;
        cluster.world.handle(Event::Failed { worker: id("w"), shard, kind, message: "NaN".into() });
        let view = cluster.view(&sweep);
        assert!(view.progress > 0.0 && (view.progress == 1.0) == last, "{}", view.progress);
        assert_eq!(view.state.has_ended(), last);
    }
}

#[test]
fn a_shard_that_failed_and_a_worker_that_is_set_aside_are_told() {
    let mut cluster = Cluster::new(|_| 250.0);
    let sweep = cluster.submit("s", NETWORKS, FairShare::default());
    cluster.join("a", 1, 1.0);
    cluster.join("b", 1, 1.0);
    let fail = |cluster: &mut Cluster, worker: &str, kind, message: &str| {
        let shard = cluster.world.held_by(worker)[0].clone();
        cluster.world.handle(Event::Failed { worker: id(worker), shard, kind, message: message.into() });
    };
    fail(&mut cluster, "a", FailureKind::Unfit, "no libtorch");
    fail(&mut cluster, "b", FailureKind::Task, "out of memory");
    let notices = cluster.view(&sweep).notices;
    assert_eq!(
        notices,
        [
            "a shard of nads/lenet waits for another attempt; the last one failed: out of memory",
            "the worker a is set aside: no libtorch"
        ]
    );
}

/// Half of the blocks computed again do not make a member take twice as long.
#[test]
fn withdrawn_blocks_take_their_seconds_with_them() {
    let mut world = World::new(Settings::default());
    let sweep = world.submit(16);
    world.join("w", 1);
    let (_, (job, generation), committed) = loop {
        let shard = world.held_by("w").remove(0);
        let (_, actions) = world.report("w", &shard);
        if let Some(reduction) = reductions(&actions).pop() {
            break reduction;
        }
    };
    let tally = |world: &World| world.scheduler.sweep(&sweep).unwrap().jobs[job.0 as usize].tally;
    let each = |tally: Tally| tally.slot_seconds / tally.blocks as f64;
    let before = tally(&world);
    let damaged: Vec<Node> = committed.partials().skip(1).map(|partial| partial.node).collect();
    let message = "damaged".to_owned();
    world.handle(Event::ReduceFailed { job: JobRef::new(&sweep, job), generation, damaged, message });
    let after = tally(&world);
    assert!(0 < after.blocks && after.blocks < before.blocks, "{after:?}");
    assert!((each(after) - each(before)).abs() < 1e-9, "{before:?} {after:?}");
    world.restart();
    assert_eq!(tally(&world).slot_seconds, after.slot_seconds);
}
