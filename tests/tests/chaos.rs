//! Real processes under real faults. Whatever dies, the digest is that of the undisturbed run by one worker.
//!
//! Full disks and databases that restart are in `durability.rs`, what a single fault does to a sweep of two architectures in
//! `digest.rs`.

use nadgrid_tests::{Cluster, command, members_done, program};
use std::process::Command;
use std::time::Duration;

/// 250 blocks of LeNet, a shard each.
const SPEC: [&str; 2] = ["nads.networks=4000", "nads.block_size=16"];
const BLOCKS: usize = 250;
/// One block a shard, short leases, and no second copies: what is computed twice, a fault explains.
const COORDINATOR: [&str; 6] = ["--most-shard-blocks", "1", "--lease-ttl", "1", "--speculate-after", "0"];

/// A fault, and what it pins down.
struct Scenario {
    name: &'static str,
    pins_down: &'static str,
    /// Inflicts it on a running sweep; how many shards may have been computed again for it.
    inflict: fn(&mut Cluster, &str) -> usize,
}

const SCENARIOS: [Scenario; 3] = [
    Scenario {
        name: "twenty kills",
        pins_down: "nothing acknowledged is lost, and nothing is computed again but what a kill explains",
        inflict: twenty_kills,
    },
    Scenario {
        name: "a stopped coordinator",
        pins_down: "workers compute on while nobody answers, and hand in what they have",
        inflict: a_stopped_coordinator,
    },
    Scenario {
        name: "stopped workers, in turns",
        pins_down: "a worker that comes back with an expired lease is taken back, and what it reports late counts once",
        inflict: stopped_workers,
    },
];

/// Shards that a worker of one slot can lose: one in its slot, one queued, and results that wait for their upload.
const HELD: usize = 5;

fn undisturbed() -> String {
    let mut cluster = Cluster::start(&[]);
    cluster.add_worker(&["--slots", "1"]);
    let id = cluster.submit("lenet.toml", &SPEC);
    cluster.digest(&id)
}

fn wait_for_more(cluster: &Cluster, id: &str, than: u64) -> u64 {
    let done = members_done(&cluster.wait(id, |status| members_done(status) > than));
    assert!(done < 4000, "all was committed before the fault");
    done
}

fn twenty_kills(cluster: &mut Cluster, id: &str) -> usize {
    let (mut done, mut explained) = (0, 0);
    for kill in 0..20 {
        done = wait_for_more(cluster, id, done);
        if kill % 4 == 3 {
            cluster.crash_coordinator();
            // Both workers may have lost their leases to the other before they were back.
            explained += 2 * HELD;
        } else {
            cluster.workers.remove(0).kill();
            cluster.add_worker(&["--slots", "1"]);
            explained += HELD;
        }
    }
    explained
}

fn a_stopped_coordinator(cluster: &mut Cluster, id: &str) -> usize {
    wait_for_more(cluster, id, 0);
    cluster.coordinator().signal("STOP");
    std::thread::sleep(Duration::from_secs(3));
    cluster.coordinator().signal("CONT");
    2 * HELD
}

fn stopped_workers(cluster: &mut Cluster, id: &str) -> usize {
    let mut done = 0;
    for turn in 0..4 {
        done = wait_for_more(cluster, id, done);
        cluster.workers[turn % 2].signal("STOP");
        cluster.wait(id, |status| status["workers"] == 1);
        cluster.workers[turn % 2].signal("CONT");
    }
    4 * HELD
}

#[test]
fn whatever_dies_the_digest_is_the_same() {
    let expected = undisturbed();
    for Scenario { name, pins_down, inflict } in SCENARIOS {
        println!("{name}: {pins_down}");
        let mut cluster = Cluster::start(&COORDINATOR);
        cluster.add_worker(&["--slots", "1"]);
        cluster.add_worker(&["--slots", "1"]);
        let id = cluster.submit("lenet.toml", &SPEC);
        let explained = inflict(&mut cluster, &id);
        assert_eq!(cluster.digest(&id), expected, "{name}\n{}", cluster.logs());
        let computed = cluster.logs().matches("computed in").count();
        println!("{name}: {computed} shards computed for {BLOCKS} blocks, up to {explained} more explained");
        assert!((BLOCKS..=BLOCKS + explained).contains(&computed), "{name}: {computed}\n{}", cluster.logs());
    }
}

/// Two hosts on this machine, joined by a cable that can be pulled.
struct Hosts {
    namespace: String,
    cable: String,
}

impl Hosts {
    const HERE: &str = "10.213.77.1";
    const THERE: &str = "10.213.77.2";

    /// `None` where this machine does not let us.
    fn new() -> Option<Self> {
        let id = std::process::id();
        let hosts = Self { namespace: format!("nadgrid{id}"), cable: format!("ng{id}") };
        let Self { namespace, cable } = &hosts;
        let there = format!("nw{id}");
        let steps = [
            format!("netns add {namespace}"),
            format!("link add {cable} type veth peer name {there} netns {namespace}"),
            format!("addr add {}/30 dev {cable}", Self::HERE),
            format!("link set {cable} up"),
            format!("-n {namespace} addr add {}/30 dev {there}", Self::THERE),
            format!("-n {namespace} link set {there} up"),
            format!("-n {namespace} link set lo up"),
        ];
        steps.iter().all(|step| Self::ip(step)).then_some(hosts)
    }

    fn ip(arguments: &str) -> bool {
        let status = Command::new("ip").args(arguments.split(' ')).stderr(std::process::Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }

    fn cable(&self, state: &str) {
        assert!(Self::ip(&format!("link set {} {state}", self.cable)));
    }

    /// The worker's program on the other host.
    fn worker(&self) -> Command {
        let worker = program("nadgrid-worker");
        let clean = command("nadgrid-worker");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(worker);
        for (name, _) in clean.get_envs() {
            command.env_remove(name);
        }
        command
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        Self::ip(&format!("link del {}", self.cable));
        Self::ip(&format!("netns del {}", self.namespace));
    }
}

/// A cable is pulled for longer than a lease: the worker beyond it loses its shards, comes back, and goes on.
#[test]
fn a_partition_heals() {
    let Some(hosts) = Hosts::new() else {
        println!("this machine makes no network namespaces: not tried");
        return;
    };
    let expected = undisturbed();
    let arguments = [&COORDINATOR[..], &["--insecure"]].concat();
    let mut cluster = Cluster::start_at(&format!("{}:0", Hosts::HERE), &arguments);
    cluster.add_worker_by(hosts.worker(), &["--slots", "1"]);
    let id = cluster.submit("lenet.toml", &SPEC);
    let mut done = 0;
    for _ in 0..2 {
        done = wait_for_more(&cluster, &id, done);
        hosts.cable("down");
        cluster.wait(&id, |status| status["workers"] == 0);
        hosts.cable("up");
    }
    assert_eq!(cluster.digest(&id), expected, "{}", cluster.logs());
}
