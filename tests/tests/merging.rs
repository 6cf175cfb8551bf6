//! Partials are merged while their job is computed: few are stored at any time, whatever dies, and the digest is the same.

use nadgrid_tests::{Cluster, members_done};
use std::path::Path;

/// 500 blocks of two LogRegs.
const NETWORKS: u64 = 999;
const SPEC: [&str; 4] =
    ["nads.networks=999", "nads.block_size=2", "architectures=['logreg']", "input={ height = 16, width = 16 }"];
/// A block a shard, and no second copies.
const COORDINATOR: [&str; 6] = ["--most-shard-blocks", "1", "--lease-ttl", "2", "--speculate-after", "0"];
/// A quarter of the shards. Three sizes of merged partials, seven of each, and what lies around the gaps of four slots would be
/// about 60; but merging goes on beside computing, and a busy machine may give it its turn later. Without it there were 500.
const MOST: usize = 500 / 4;

/// Files of the artifact store.
fn blobs(folder: &Path) -> usize {
    let inside = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    inside(folder).flat_map(|entry| inside(&entry.path())).count()
}

fn undisturbed() -> String {
    let mut cluster = Cluster::start(&[]);
    cluster.add_worker(&["--slots", "1"]);
    let id = cluster.submit("lenet.toml", &SPEC);
    cluster.digest(&id)
}

/// Partials that the coordinator says it holds.
fn partials(status: &serde_json::Value) -> usize {
    status["jobs"][0]["partials"].as_u64().unwrap() as usize
}

#[test]
fn a_job_of_many_shards_holds_few_partials_and_survives_kills_amid_merges() {
    let expected = undisturbed();
    let mut cluster = Cluster::start(&COORDINATOR);
    let folder = cluster.data().join("artifacts");
    (0..2).for_each(|_| cluster.add_worker(&["--slots", "2"]));
    let id = cluster.submit("lenet.toml", &SPEC);
    let (mut done, mut kills) = (0, 0);
    loop {
        let status = cluster.status(&id);
        let ended = !["queued", "running"].contains(&status["state"].as_str().unwrap());
        let now = members_done(&status);
        assert!(now >= done, "{done} networks were committed, now {now}");
        if ended {
            break;
        }
        assert!(partials(&status) <= MOST, "{status:#}");
        // Besides the partials: those that a kill left behind, which the start removes, and what is being written or removed.
        let found = blobs(&folder);
        assert!(found <= 2 * MOST, "{found} files when {now} networks are committed");
        if now > done + NETWORKS / 8 && kills < 4 {
            cluster.crash_coordinator();
            kills += 1;
            done = now;
        }
    }
    assert_eq!(kills, 4, "a kill that came too late would prove nothing");
    assert_eq!(cluster.digest(&id), expected, "{}", cluster.logs());
    let status = cluster.status(&id);
    assert!(status["jobs"][0]["shards"].as_u64().unwrap() >= 500, "{status:#}");
    // What is left are the results and the manifest.
    let files = status["artifacts"].as_array().unwrap().len() + 1;
    assert!(blobs(&folder) <= files + MOST, "{} files", blobs(&folder));
    cluster.nadgrid_ok(&["verify", &id, "--sample", "5"]);
}
