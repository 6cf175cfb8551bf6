//! The result is a function of the spec: other workers, other shards, crashes, the same digest to the bit.

use nadgrid_tests::{Cluster, members_done};
use std::time::Duration;

/// 63 blocks of LeNet and of LogReg, the last one short.
const NETWORKS: u64 = 1000;
const SPEC: [&str; 2] = ["nads.networks=1000", "nads.block_size=16"];

fn both() -> Vec<&'static str> {
    [&SPEC[..], &["architectures=['lenet', 'logreg']"]].concat()
}

/// Digest of the sweep, and of each job and file.
fn outcome(cluster: &Cluster, id: &str) -> (String, String) {
    let digest = cluster.digest(id);
    let status = cluster.status(id);
    let jobs: Vec<_> = status["jobs"].as_array().unwrap().iter().map(|job| job["digest"].clone()).collect();
    (digest, format!("{jobs:?} {}", status["artifacts"]))
}

fn undisturbed() -> (String, String) {
    let mut cluster = Cluster::start(&[]);
    cluster.add_worker(&["--slots", "1"]);
    let id = cluster.submit("lenet.toml", &both());
    outcome(&cluster, &id)
}

/// A fault that came too late to matter would prove nothing.
fn assert_in_the_middle(cluster: &Cluster, id: &str) {
    let done = members_done(&cluster.status(id));
    assert!(done < 2 * NETWORKS, "all {done} networks were committed before the fault");
}

#[test]
fn workers_shards_and_crashes_do_not_change_a_bit() {
    let expected = undisturbed();

    // Three workers, shards of at most two blocks.
    let mut cluster = Cluster::start(&["--most-shard-blocks", "2"]);
    for _ in 0..3 {
        cluster.add_worker(&["--slots", "1"]);
    }
    let id = cluster.submit("lenet.toml", &both());
    assert_eq!(outcome(&cluster, &id), expected);
    assert!(cluster.status(&id)["jobs"][0]["shards"].as_u64().unwrap() >= 10);

    // A worker dies in the middle; leases are short so that nobody waits for long.
    let mut cluster = Cluster::start(&["--most-shard-blocks", "2", "--lease-ttl", "1"]);
    cluster.add_worker(&["--slots", "1"]);
    cluster.add_worker(&["--slots", "1"]);
    let id = cluster.submit("lenet.toml", &both());
    cluster.wait(&id, |status| members_done(status) > 0);
    cluster.workers.remove(0).kill();
    assert_in_the_middle(&cluster, &id);
    assert_eq!(outcome(&cluster, &id), expected);

    // The only worker is stopped until its leases have expired, and goes on: it is taken back.
    let mut cluster = Cluster::start(&["--most-shard-blocks", "2", "--lease-ttl", "1"]);
    cluster.add_worker(&["--slots", "1"]);
    let id = cluster.submit("lenet.toml", &both());
    cluster.wait(&id, |status| members_done(status) > 0);
    cluster.workers[0].signal("STOP");
    cluster.wait(&id, |status| status["workers"] == 0);
    assert_in_the_middle(&cluster, &id);
    cluster.workers[0].signal("CONT");
    assert_eq!(outcome(&cluster, &id), expected);

    // The coordinator dies in the middle, comes back on its journal, and its worker reconnects.
    let mut cluster = Cluster::start(&["--most-shard-blocks", "1"]);
    cluster.add_worker(&["--slots", "1"]);
    let id = cluster.submit("lenet.toml", &both());
    let done = members_done(&cluster.wait(&id, |status| members_done(status) > 0));
    cluster.crash_coordinator();
    let after = members_done(&cluster.status(&id));
    assert!(after >= done, "{done} networks were committed, {after} after the crash");
    assert_in_the_middle(&cluster, &id);
    assert_eq!(outcome(&cluster, &id), expected);
}

#[test]
fn another_seed_is_another_digest() {
    let mut cluster = Cluster::start(&[]);
    cluster.add_worker(&[]);
    let one = cluster.submit("lenet.toml", &["nads.networks=32", "seed=1"]);
    let two = cluster.submit("lenet.toml", &["nads.networks=32", "seed=2"]);
    assert_ne!(cluster.digest(&one), cluster.digest(&two));
}

/// A worker that is asked to end gives back what it holds, says goodbye and exits with 0; so does the coordinator.
#[test]
fn programs_end_when_they_are_asked() {
    let mut cluster = Cluster::start(&[]);
    cluster.add_worker(&["--slots", "1"]);
    let id = cluster.submit("lenet.toml", &["nads.networks=20000"]);
    cluster.wait(&id, |status| status["state"] == "running");
    cluster.workers[0].signal("TERM");
    assert_eq!(cluster.workers[0].exit_code(Duration::from_secs(10)), Some(0), "{}", cluster.logs());
    let workers: serde_json::Value = serde_json::from_str(&cluster.nadgrid_ok(&["workers", "--json"])).unwrap();
    assert_eq!(workers.as_array().map(Vec::len), Some(0), "{workers}");
    cluster.nadgrid_ok(&["cancel", &id]);
    cluster.nadgrid_ok(&["cancel", &id]);
    assert_eq!(cluster.status(&id)["state"], "cancelled");
    cluster.coordinator().signal("TERM");
    assert_eq!(cluster.coordinator().exit_code(Duration::from_secs(10)), Some(0), "{}", cluster.logs());
}

/// README's figure: coordinator and worker each below 1 GiB for the main job.
#[test]
fn memory_stays_below_a_gibibyte() {
    let mut cluster = Cluster::start(&[]);
    cluster.add_worker(&[]);
    let id = cluster.submit("lenet.toml", &["nads.networks=1024"]);
    cluster.digest(&id);
    let (coordinator, worker) = (cluster.coordinator().peak_memory(), cluster.workers[0].peak_memory());
    println!("peak memory: coordinator {} MiB, worker {} MiB", coordinator >> 20, worker >> 20);
    assert!(coordinator < 1 << 30 && worker < 1 << 30, "{coordinator} {worker}");
}
