//! Shards and workers with which something goes wrong.

use super::*;

impl World {
    fn fail(&mut self, worker: &str, shard: &ShardRef, message: &str) -> Vec<Action> {
        let (shard, message) = (shard.clone(), message.to_owned());
        self.handle(Event::Failed { worker: id(worker), shard, kind: FailureKind::Task, message })
    }

    /// All workers compute what they hold, but for what `poison` says of the shard; waits pass.
    fn work(&mut self, sweep: &SweepId, poison: impl Fn(&ShardRef) -> bool) -> Vec<Reduction> {
        let mut due = Vec::new();
        for _ in 0..1_000 {
            if self.state(sweep).has_ended() {
                return due;
            }
            for (_, job, _) in std::mem::take(&mut due) {
                self.handle(reduced(sweep, job));
            }
            let held = self.held();
            if held.is_empty() && !self.state(sweep).has_ended() {
                due.extend(reductions(&self.tick()));
            }
            for (shard, worker) in held {
                let actions = match poison(&shard) {
                    true => self.fail(worker.as_str(), &shard, "it does not converge"),
                    false => self.report(worker.as_str(), &shard).1,
                };
                due.extend(reductions(&actions));
                // The others are alive.
                let workers: Vec<WorkerId> = self.scheduler.workers.keys().cloned().collect();
                for worker in workers {
                    due.extend(reductions(&self.handle(Event::Alive { worker })));
                }
            }
        }
        panic!("it does not end: {:?}", self.scheduler.sweep(sweep));
    }
}

/// A block that fails everywhere is found by halving, tried on different workers, and the rest goes on.
#[test]
fn a_poison_block_is_quarantined_and_the_rest_goes_on() {
    let mut world = World::new(Settings { speculate_after: 0.0, ..Settings::default() });
    for worker in ["a", "b", "c", "d", "e"] {
        world.join(worker, 1);
    }
    let sweep = world.submit(400);
    let total = 100;
    let poison = |shard: &ShardRef| shard.job.index == JobIndex(1) && shard.node.blocks(total).contains(&37);
    world.work(&sweep, poison);
    let SweepState::Ended(SweepOutcome::Incomplete { message }) = world.state(&sweep) else {
        panic!("{:?}", world.state(&sweep))
    };
    assert!(message.contains("blocks 37..38 of nads/lenet") && message.contains("does not converge"), "{message}");
    let view = world.scheduler.sweep(&sweep).unwrap();
    let [failure] = &view.failures[..] else { panic!("{:?}", view.failures) };
    assert_eq!((failure.blocks.clone(), failure.job), (37..38, JobIndex(1)));
    assert!(failure.attempts >= 4 && failure.workers.len() >= 4, "{failure:?}");
    let states: Vec<_> = view.jobs.iter().map(|job| (job.state, job.members_done, job.members_failed)).collect();
    assert_eq!(states, [(JobState::Complete, 400, 0), (JobState::Incomplete, 396, 4)]);
    let told = world.scheduler.explain(&sweep, Subject::Block(JobIndex(1), 37), world.now).unwrap();
    assert!(told.state == "quarantined" && told.reasons[0].contains("does not converge"), "{told:?}");
    let before = format!("{:?}", world.scheduler.sweep(&sweep).unwrap().failures);
    world.restart();
    assert_eq!(before, format!("{:?}", world.scheduler.sweep(&sweep).unwrap().failures));
}

/// With one worker alone a shard is tried again on it; a worker that is lost with a shard counts against the shard, more slowly.
#[test]
fn a_shard_that_takes_its_workers_down_is_quarantined() {
    let settings = Settings { most_losses: 3, speculate_after: 0.0, ..Settings::default() };
    let mut world = World::new(settings);
    let sweep = world.submit(4);
    for attempt in 0..10 {
        let name = format!("w{attempt}");
        world.join(&name, 1);
        for _ in 0..10 {
            let held = world.held_by(&name);
            let Some(shard) = held.first() else { break };
            if shard.job.index == JobIndex(0) {
                let due = reductions(&world.report(&name, shard).1);
                due.iter().for_each(|(_, job, _)| drop(world.handle(reduced(&sweep, *job))));
            } else {
                world.now = world.now.plus(20_000);
                world.handle(Event::Tick);
            }
        }
        if world.state(&sweep).has_ended() {
            break;
        }
        world.now = world.now.plus(60_000);
    }
    let SweepState::Ended(SweepOutcome::Incomplete { message }) = world.state(&sweep) else {
        panic!("{:?}", world.state(&sweep))
    };
    assert!(message.contains("3 attempts") && message.contains("worker was lost"), "{message}");
}

/// A shard that failed on one worker goes to another while there is one, after a wait that doubles.
#[test]
fn a_failed_shard_goes_elsewhere_after_a_wait() {
    let mut world = World::new(Settings { speculate_after: 0.0, ..Settings::default() });
    let sweep = world.submit(400);
    let first = world.join("a", 1).remove(0);
    let actions = world.fail("a", &first, "no memory");
    assert!(!leases(&actions).contains(&first), "not at once");
    world.join("b", 1);
    let other = world.held_by("b").remove(0);
    world.now = world.now.plus(500);
    let of_a = world.held_by("a").remove(0);
    let (_, actions) = world.report("a", &of_a);
    assert!(!leases(&actions).contains(&first), "a failed on it");
    let (_, actions) = world.report("b", &other);
    assert_eq!(leases(&actions), std::slice::from_ref(&first));
    let told = world.scheduler.explain(&sweep, Subject::Block(JobIndex(0), 0), world.now).unwrap();
    assert!(told.state == "leased" && told.reasons[0].contains("(b)"), "{told:?}");
    world.fail("b", &first, "no memory");
    let told = world.scheduler.explain(&sweep, Subject::Block(JobIndex(0), 0), world.now).unwrap();
    assert_eq!(told.state, "retrying");
    assert!(told.reasons[0].contains("in 1.0 s") && told.reasons[0].contains("on a, b"), "{told:?}");
    assert_eq!(world.scheduler.next_deadline(), Some(world.now.plus(1_000)));
}

/// A worker that was silent while nobody listened keeps its leases; one that is silent afterwards does not.
#[test]
fn a_time_in_which_nobody_listened_costs_no_lease() {
    let mut world = World::new(Settings::default());
    let sweep = world.submit(400);
    for worker in ["a", "b"] {
        let shard = world.join(worker, 1).remove(0);
        world.now = world.now.plus(1_000);
        world.report(worker, &shard);
    }
    let held = world.held();
    assert_eq!(held.len(), 2);
    world.now = world.now.plus(5_000);
    // The journal could not write for a minute; what the workers said meanwhile is taken in afterwards, one by one.
    world.now = world.now.plus(60_000);
    let actions = world.handle(Event::Stalled { ms: 60_000 });
    assert_eq!(leases(&actions), []);
    world.handle(Event::Alive { worker: id("a") });
    assert_eq!(world.held(), held);
    assert_eq!(world.scheduler.next_deadline().map(|at| at > world.now), Some(true));
    // Five seconds of silence were there before: ten are left.
    world.now = world.now.plus(10_500);
    let actions = world.handle(Event::Tick);
    assert!(actions.contains(&Action::Disconnect { worker: id("b") }), "{actions:?}");
    assert!(!world.held_by("a").is_empty() && world.state(&sweep) == SweepState::Running);
}

/// The last shard sits on a slow worker: an idle one gets a copy, and the first report counts.
#[test]
fn a_straggler_is_copied_and_the_first_report_counts() {
    let mut world = World::new(Settings::default());
    let sweep = world.submit(8);
    let slow = world.join("slow", 1).remove(0);
    world.join("quick", 1);
    while let [shard, ..] = &world.held_by("quick")[..] {
        world.report("quick", shard);
    }
    let copied =
        |world: &World| world.scheduler.sweep(&sweep).unwrap().jobs[slow.job.index.0 as usize].tally.speculative;
    for worker in ["slow", "quick"] {
        world.now = world.now.plus(2_000);
        world.handle(Event::Alive { worker: id(worker) });
    }
    assert_eq!(copied(&world), 0, "it has not had it for five seconds");
    assert_eq!(world.scheduler.next_deadline().map(|at| at <= world.now.plus(1_000)), Some(true));
    world.now = world.now.plus(2_000);
    assert_eq!(leases(&world.handle(Event::Alive { worker: id("slow") })), std::slice::from_ref(&slow));
    assert_eq!(
        (copied(&world), world.held_by("quick"), world.held_by("slow")),
        (1, vec![slow.clone()], vec![slow.clone()])
    );
    let (verdict, actions) = world.report("quick", &slow);
    assert_eq!(verdict, Verdict::Committed);
    let revoked = |action: &Action| matches!(action, Action::Revoke { worker, .. } if *worker == id("slow"));
    assert!(actions.iter().any(revoked), "{actions:?}");
    assert_eq!(world.report("slow", &slow).0, Verdict::Duplicate);
    // A copy whose first holder is lost goes on.
    let mut world = World::new(Settings::default());
    world.submit(8);
    let slow = world.join("slow", 1).remove(0);
    world.join("quick", 1);
    while let [shard, ..] = &world.held_by("quick")[..] {
        world.report("quick", shard);
    }
    world.now = world.now.plus(6_000);
    world.handle(Event::Alive { worker: id("quick") });
    assert_eq!(world.held_by("quick"), std::slice::from_ref(&slow));
    world.now = world.now.plus(10_000);
    world.handle(Event::Alive { worker: id("quick") });
    assert_eq!(world.held(), [(slow.clone(), id("quick"))], "the other is lost");
    assert_eq!(world.report("quick", &slow).0, Verdict::Committed);
}

/// The checkpoint of a lost worker is handed to the next, also after a restart; a report ends it.
#[test]
fn a_checkpoint_goes_with_its_shard() {
    let mut world = World::new(Settings { speculate_after: 0.0, ..Settings::default() });
    world.submit(400);
    let shard = world.join("a", 1).remove(0);
    let checkpoint = |epochs| ShardCheckpoint {
        stored: InputRef { size: 9, digest: Digest::of(&[epochs as u8]) },
        members_done: 0,
        epochs,
    };
    let tell = |world: &mut World, worker: &str, epochs| {
        let request = world.request();
        let (worker, shard, checkpoint) = (id(worker), shard.clone(), checkpoint(epochs));
        let actions = world.handle(Event::Checkpointed { request, worker, shard, checkpoint });
        let answer = actions
            .iter()
            .find_map(|a| if let Action::Answer { answer, .. } = a { Some(answer.clone()) } else { None });
        (answer.unwrap(), actions)
    };
    assert_eq!(tell(&mut world, "a", 2).0, Answer::Wanted(true));
    let records = world.journal.len();
    assert_eq!(tell(&mut world, "a", 2).0, Answer::Wanted(true));
    assert_eq!(tell(&mut world, "a", 1).0, Answer::Wanted(true), "an older one is not kept");
    assert_eq!(world.journal.len(), records);
    assert_eq!(tell(&mut world, "x", 3).0, Answer::Wanted(false), "it is not x's to compute");
    let (_, actions) = tell(&mut world, "a", 3);
    assert!(actions.contains(&Action::Discard { blobs: vec![Digest::of(&[2])] }), "{actions:?}");
    world.restart();
    let again = world.join("b", 1).remove(0);
    assert_eq!(again, shard, "whole, so that the checkpoint fits");
    let inputs = world.scheduler.shard_inputs(&again);
    assert_eq!((inputs[0].role, inputs[0].stored.digest), ("checkpoint", Digest::of(&[3])));
    world.handle(Event::Leave { worker: id("b"), drained: true });
    assert_eq!(world.join("c", 1), std::slice::from_ref(&shard));
    world.report("c", &shard);
    assert!(world.scheduler.referenced().all(|blob| blob != Digest::of(&[3])));
}

/// Two agree against one: what the one computed is computed again, and nothing of it counts any more.
#[test]
fn an_audit_finds_the_worker_that_is_wrong() {
    let lie = |shard: &ShardRef| Partial::stored(Digest::of(format!("lie {shard:?}").as_bytes()));
    let mut world = World::new(Settings { speculate_after: 0.0, ..Settings::default() });
    let text = "name = 't'\narchitectures = ['logreg']\naudit = 1.0\n[nads]\nnetworks = 64\nblock_size = 4";
    let (sweep, request) = (SweepId::new("s"), world.request());
    world.submit_as(sweep.clone(), Box::new(Spec::from_toml(text).unwrap()), FairShare::default(), request);
    for worker in ["a", "b", "liar"] {
        world.join(worker, 1);
    }
    let mut due = Vec::new();
    let mut lies = 0;
    for _ in 0..1_000 {
        for (shard, worker) in world.held() {
            let actions = match worker == id("liar") {
                true => {
                    lies += 1;
                    world.report_as("liar", &shard, lie(&shard)).1
                }
                false => world.report(worker.as_str(), &shard).1,
            };
            due.extend(reductions(&actions));
        }
        if !due.is_empty() {
            break;
        }
    }
    assert!(lies > 0, "the liar was never asked");
    let liar = world.scheduler.workers(world.now).into_iter().find(|w| w.id == id("liar")).unwrap();
    assert!(liar.unfit.as_ref().is_some_and(|reason| reason.contains("differ from those of two others")), "{liar:?}");
    let [(_, _, committed)] = &due[..] else { panic!("{due:?}") };
    for held in committed.contributions() {
        let shard = JobRef::new(&sweep, JobIndex(0)).shard(held.node);
        assert_eq!(held.content, Digest::of(format!("{shard:?}").as_bytes()));
        assert_ne!(held.worker, id("liar"));
    }
    let late = JobRef::new(&sweep, JobIndex(0)).shard(Node::block(0));
    assert_eq!(world.report_as("liar", &late, lie(&late)).0, Verdict::NotNeeded);
    let view = world.scheduler.sweep(&sweep).unwrap();
    assert_eq!((view.jobs[0].audits_due, view.jobs[0].tally.audits), (0, committed.len() as u64));
    world.restart();
    assert_eq!(world.scheduler.sweep(&sweep).unwrap().jobs[0].audits_due, 0, "what was audited stays so");
}

/// A single worker audits itself, since there is nobody else.
#[test]
fn a_worker_alone_audits_itself() {
    let mut world = World::new(Settings { speculate_after: 0.0, ..Settings::default() });
    let text = "name = 't'\narchitectures = ['logreg']\naudit = 0.5\n[nads]\nnetworks = 256\nblock_size = 4";
    let (sweep, request) = (SweepId::new("s"), world.request());
    world.submit_as(sweep.clone(), Box::new(Spec::from_toml(text).unwrap()), FairShare::default(), request);
    world.join("only", 2);
    world.work(&sweep, |_| false);
    let SweepState::Ended(SweepOutcome::Complete { .. }) = world.state(&sweep) else {
        panic!("{:?}", world.state(&sweep))
    };
    let tally = world.scheduler.sweep(&sweep).unwrap().jobs[0].tally;
    assert!(tally.audits > 0 && tally.audits < tally.shards, "{tally:?}");
}

/// Shards of a complete sweep are computed again for whoever asks; a lost worker is replaced.
#[test]
fn a_verification_compares_what_was_committed() {
    let mut world = World::new(Settings { speculate_after: 0.0, ..Settings::default() });
    let sweep = world.submit(16);
    world.join("a", 1);
    world.work(&sweep, |_| false);
    let shard = |index| JobRef::new(&sweep, JobIndex(0)).shard(Node::block(index));
    let claim =
        |index: u64, text: &str| Claim { shard: shard(index), content: Digest::of(text.as_bytes()), worker: id("a") };
    let request = world.request();
    let right = format!("{:?}", shard(0));
    let actions = world.handle(Event::Verify { request, claims: vec![claim(0, &right), claim(1, "what was stored")] });
    assert_eq!(leases(&actions), [shard(0)]);
    assert!(world.scheduler.expects(&shard(0)) && !world.scheduler.expects(&shard(2)));
    let check = |actions: &[Action]| {
        let checks = actions
            .iter()
            .filter_map(|a| if let Action::Checked { check, .. } = a { Some(check.clone()) } else { None });
        checks.collect::<Vec<_>>().remove(0)
    };
    let (verdict, actions) = world.report("a", &shard(0));
    assert_eq!(verdict, Verdict::Checked);
    let first = check(&actions);
    assert_eq!(first.again.unwrap().0, first.committed);
    world.now = world.now.plus(20_000);
    world.handle(Event::Tick);
    assert_eq!(world.join("b", 1), [shard(1)], "a was lost with it");
    let second = check(&world.report("b", &shard(1)).1);
    assert_ne!(second.again.unwrap().0, second.committed);
    // Whoever asked goes away.
    let request = world.request();
    world.handle(Event::Verify { request, claims: vec![claim(2, "x")] });
    assert_eq!(world.held(), [(shard(2), id("b"))]);
    let actions = world.handle(Event::EndVerify { verification: request });
    assert!(matches!(&actions[..], [Action::Revoke { .. }]), "{actions:?}");
    assert!(world.held().is_empty());
}

/// A worker that drains finishes what it has and gets nothing more.
#[test]
fn a_draining_worker_gets_nothing_more() {
    let mut world = World::new(Settings::default());
    world.submit(64);
    let shard = world.join("w", 1).remove(0);
    world.handle(Event::Draining { worker: id("w") });
    let (verdict, actions) = world.report("w", &shard);
    assert_eq!((verdict, leases(&actions).len()), (Verdict::Committed, 0));
    assert!(world.scheduler.workers(world.now)[0].draining);
    assert_eq!(world.join("w", 1).len(), 1, "a new session is a new beginning");
}

/// The simulation found these: each waited for ever, or counted wrongly.
mod found_by_simulation {
    use super::*;

    fn audited(world: &mut World, audit: f64) -> SweepId {
        let request = world.request();
        let sweep = SweepId::new("audited");
        let spec = Box::new(Spec { audit, ..*spec(16, 4) });
        world.submit_as(sweep.clone(), spec, FairShare::default(), request);
        sweep
    }

    /// A worker that computes a shard to compare it may store checkpoints, but others do not go on from them.
    #[test]
    fn an_auditor_that_stores_a_checkpoint_is_not_sent_away() {
        let mut world = World::new(Settings { speculate_after: 0.0, ..Settings::default() });
        audited(&mut world, 1.0);
        let shard = world.join("a", 1).remove(0);
        world.report("a", &shard);
        assert!(world.held_by("a").contains(&shard));
        let (request, stored) = (world.request(), InputRef { size: 1, digest: Digest::of(b"half") });
        let checkpoint = ShardCheckpoint { stored, members_done: 1, epochs: 0 };
        let actions = world.handle(Event::Checkpointed { request, worker: id("a"), shard: shard.clone(), checkpoint });
        assert!(actions.contains(&Action::Answer { request, answer: Answer::Wanted(true) }), "{actions:?}");
        assert!(world.scheduler.checkpoint_of(&shard).is_none());
    }

    /// A shard that takes down its workers is given up even when there is always a copy of it that goes on.
    #[test]
    fn speculative_leases_that_are_lost_in_turns_count() {
        let settings = Settings { most_losses: 3, speculate_after: 1.0, speculate_least_ms: 1, ..Settings::default() };
        let mut world = World::new(settings);
        let sweep = world.submit(8);
        let kills = |shard: &ShardRef| (shard.job.index, shard.node) == (JobIndex(1), Node::block(1));
        for round in 0..200 {
            let name = format!("w{round}");
            world.join(&name, 1);
            while let Some(shard) = world.held_by(&name).into_iter().find(|shard| !kills(shard)) {
                let due = reductions(&world.report(&name, &shard).1);
                due.iter().for_each(|(_, job, _)| drop(world.handle(reduced(&sweep, *job))));
            }
            // It is alive for a while and then lost; the next one has a copy by then.
            for _ in 0..5 {
                world.now = world.now.plus(1_500);
                world.handle(Event::Alive { worker: id(&name) });
            }
            if world.state(&sweep).has_ended() {
                break;
            }
        }
        assert!(world.scheduler.sweep(&sweep).unwrap().jobs[1].tally.speculative > 1);
        let SweepState::Ended(SweepOutcome::Incomplete { message }) = world.state(&sweep) else {
            panic!("{:?}", world.state(&sweep))
        };
        assert!(message.contains("worker was lost"), "{message}");
    }

    /// A worker's audit of what a distrusted one had committed ends with it, and its slot is free.
    #[test]
    fn an_audit_ends_with_what_it_compares() {
        let mut world = World::new(Settings { speculate_after: 0.0, ..Settings::default() });
        audited(&mut world, 1.0);
        let of_liar = world.join("liar", 2);
        world.join("a", 2);
        world.join("b", 2);
        world.report_as("liar", &of_liar[0], Partial::stored(Digest::of(b"a lie")));
        world.report("liar", &of_liar[1]);
        // The others do all but the audit of the second shard, which is under way when the lie comes out.
        let mut actions = Vec::new();
        for _ in 0..50 {
            for name in ["a", "b"] {
                for shard in world.held_by(name).into_iter().filter(|shard| *shard != of_liar[1]) {
                    actions.extend(world.report(name, &shard).1);
                }
            }
        }
        let of_second = |action: &&Action| matches!(action, Action::Revoke { worker, shard, .. } if *shard == of_liar[1] && *worker != id("liar"));
        assert_eq!(actions.iter().filter(of_second).count(), 1, "{actions:?}");
        let view = world.scheduler.sweep(&SweepId::new("audited")).unwrap();
        let told = world.scheduler.workers(world.now).into_iter().find(|w| w.id == id("liar")).unwrap().unfit;
        assert!(told.is_some_and(|reason| reason.contains("differ")), "{view:?}");
    }

    /// A verification of a sweep that is forgotten comes to its end.
    #[test]
    fn a_forgotten_sweep_is_verified_no_more() {
        let settings = Settings { most_ended_sweeps: 1, speculate_after: 0.0, ..Settings::default() };
        let mut world = World::new(settings);
        let old = world.submit(4);
        let shard = world.join("a", 1).remove(0);
        let request = world.request();
        world.handle(Event::Cancel { request, sweep: old.clone() });
        let request = world.request();
        let claim = Claim { shard, content: Digest::of(b"x"), worker: id("a") };
        world.handle(Event::Verify { request, claims: vec![claim] });
        let new = world.submit(4);
        let cancel = world.request();
        let actions = world.handle(Event::Cancel { request: cancel, sweep: new });
        let ended = actions.iter().any(
            |a| matches!(a, Action::Checked { verification, check } if *verification == request && check.again.is_err()),
        );
        assert!(ended, "{actions:?}");
        assert!(world.held().iter().all(|(shard, _)| shard.job.sweep != old));
    }

    /// Numbers come out of the journal to the last bit.
    #[test]
    fn the_journal_keeps_every_bit_of_a_number() {
        for bits in (0..2_000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            let weight = f64::from_bits(bits >> 2 | 1 << 61);
            let share = FairShare { priority: 0, weight };
            let text = serde_json::to_string(&share).unwrap();
            assert_eq!(serde_json::from_str::<FairShare>(&text).unwrap().weight.to_bits(), weight.to_bits(), "{text}");
        }
    }
}

/// Nothing that a user was shown of what went wrong is forgotten.
#[test]
fn retries_copies_and_what_failed_survive_a_restart() {
    let settings = Settings { most_attempts: 1, speculate_least_ms: 0, ..Settings::default() };
    let mut world = World::new(settings);
    let sweep = world.submit(4);
    for worker in ["a", "b", "c"] {
        world.join(worker, 2);
    }
    let poison = world.held_by("a").remove(0);
    for _ in 0..100 {
        for (shard, worker) in world.held() {
            if shard == poison {
                let (kind, message) = (FailureKind::Task, "no".to_owned());
                world.handle(Event::Failed { worker, shard, kind, message });
            } else if world.scheduler.sweep(&sweep).unwrap().jobs.iter().any(|job| job.tally.speculative > 0) {
                world.report(worker.as_str(), &shard);
            } else {
                world.handle(Event::Alive { worker });
            }
        }
        world.now = world.now.plus(5_000);
        for worker in ["a", "b", "c"] {
            world.handle(Event::Alive { worker: id(worker) });
        }
    }
    let seen = |world: &World| {
        let jobs = world.scheduler.sweep(&sweep).unwrap().jobs;
        jobs.iter().map(|job| (job.state, job.tally, job.members_failed)).collect::<Vec<_>>()
    };
    let before = seen(&world);
    assert!(
        before
            .iter()
            .any(|(state, tally, failed)| { *state == JobState::Incomplete && tally.retries > 0 && *failed > 0 })
    );
    assert!(before.iter().any(|(_, tally, _)| tally.speculative > 0), "{before:?}");
    world.restart();
    assert_eq!(seen(&world), before);
}
