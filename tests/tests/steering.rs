//! What users do with a running or complete sweep besides waiting: pause, explain, verify, share.

use nadgrid_tests::{Cluster, members_done, text};

const LONG: [&str; 1] = ["nads.networks=20000"];

#[test]
fn a_paused_sweep_waits_and_says_so() {
    let mut cluster = Cluster::start(&["--most-shard-blocks", "1"]);
    let id = cluster.submit("lenet.toml", &LONG);
    let told = cluster.nadgrid_ok(&["explain", &id]);
    assert!(told.contains("is queued") && told.contains("no worker is connected"), "{told}");
    for _ in 0..2 {
        assert_eq!(cluster.nadgrid_ok(&["pause", &id]), format!("{id} paused"));
    }
    cluster.add_worker(&["--slots", "1"]);
    let other = cluster.submit("lenet.toml", &["nads.networks=64"]);
    cluster.digest(&other);
    let status = cluster.status(&id);
    assert_eq!((&status["state"], members_done(&status)), (&"paused".into(), 0));
    let told = cluster.nadgrid_ok(&["explain", &format!("{id}/nads/lenet/7")]);
    assert!(told.contains("block 7 of nads/lenet") && told.contains("the sweep is paused"), "{told}");
    for _ in 0..2 {
        cluster.nadgrid_ok(&["resume", &id]);
    }
    cluster.wait(&id, |status| members_done(status) > 0);
    let told = cluster.nadgrid_ok(&["explain", &format!("{id}/0"), "--json"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["state"], "computing", "{told}");
    cluster.nadgrid_ok(&["cancel", &id]);
    for (task, words) in
        [(format!("{id}/x"), "TASK"), (format!("{id}/nads/vgg"), "nads/lenet"), ("none".into(), "none")]
    {
        let output = cluster.nadgrid(&["explain", &task]);
        assert!(!output.status.success() && text(&output.stderr).contains(words), "{}", text(&output.stderr));
    }
}

/// Sweeps of a higher priority go first, whenever they come.
#[test]
fn priorities_go_first() {
    let mut cluster = Cluster::start(&["--most-shard-blocks", "1"]);
    let low = cluster.submit("lenet.toml", &LONG);
    cluster.add_worker(&["--slots", "1"]);
    cluster.wait(&low, |status| members_done(status) > 0);
    let spec = nadgrid_tests::example("lenet.toml");
    let spec = spec.to_str().unwrap();
    let high = cluster.nadgrid_ok(&["submit", spec, "--set", "nads.networks=320", "--priority", "5"]);
    // Read in this order, the low one's count is from a moment when the high one still wanted the slot.
    let before = members_done(&cluster.status(&low));
    let mut after = before;
    loop {
        let count = members_done(&cluster.status(&low));
        let status = cluster.status(&high);
        let in_flight = status["jobs"][0]["members_in_flight"].as_u64().unwrap();
        // From here on it needs no slot, however long its reduction takes.
        if members_done(&status) + in_flight >= 320 {
            break;
        }
        after = count;
    }
    // One shard was under way when the other came, and one more may have begun when it ended.
    assert!(after - before <= 4 * 32, "{before} and {after}");
    let refused = cluster.nadgrid(&["submit", spec, "--weight", "1000"]);
    assert!(text(&refused.stderr).contains("weight = 1000"), "{}", text(&refused.stderr));
}

/// Blocks of a complete sweep are computed again, by another worker, with the same bits; training runs too, whose seconds differ.
#[test]
fn a_complete_sweep_can_be_verified() {
    let mut cluster = Cluster::start(&["--most-shard-blocks", "1"]);
    cluster.add_worker(&["--slots", "2"]);
    let runs = "directional={directions={kind='pixels', indices=[3, 70]}, block_size=1, train_samples=64, \
                test_samples=32, training={epochs=2, batch_size=32}}";
    let id = cluster.submit("lenet.toml", &["nads.networks=256", "audit=0.5", runs]);
    let early = cluster.nadgrid(&["verify", &id]);
    assert!(text(&early.stderr).contains("not complete") || early.status.success(), "{}", text(&early.stderr));
    cluster.digest(&id);
    let status = cluster.status(&id);
    let audited: u64 = status["jobs"].as_array().unwrap().iter().filter_map(|job| job["audits_passed"].as_u64()).sum();
    assert!(audited > 0, "{status:#}");
    cluster.workers.remove(0).kill();
    cluster.add_worker(&["--slots", "2"]);
    let told = cluster.nadgrid_ok(&["verify", &id, "--sample", "40", "--seed", "1", "--json"]);
    let checks: Vec<serde_json::Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(checks.len() >= 5 && checks.iter().all(|check| check["agrees"] == true), "{told}");
    let jobs: std::collections::BTreeSet<&str> = checks.iter().filter_map(|check| check["job"].as_str()).collect();
    assert_eq!(jobs.into_iter().collect::<Vec<_>>(), ["directional/lenet", "nads/lenet"], "{told}");
    assert!(checks.iter().all(|check| check["committed_by"] != check["recomputed_by"]), "{told}");
    // It survives the coordinator.
    cluster.crash_coordinator();
    cluster.nadgrid_ok(&["verify", &id, "--sample", "1"]);
}
