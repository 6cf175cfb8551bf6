//! Shell scripts stand in for the programs: only starting, dying and ending is looked at.

use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

const READY_COORDINATOR: &str = "echo listening on http://127.0.0.1:7; exec cat";
const WORKER: &str = "exec cat";

fn program(home: &Path, name: &str, script: &str) -> PathBuf {
    let path = home.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A cluster of `workers` from these scripts, and what its start gave.
async fn started(
    home: &Path,
    coordinator: &str,
    worker: &str,
    workers: u32,
) -> (LocalCluster, Result<String, Failure>) {
    let programs = ClusterPrograms { coordinator: program(home, "c", coordinator), worker: program(home, "w", worker) };
    let data = home.join("data");
    let logs = home.to_owned();
    let layout = Layout { data, logs, workers, device: "auto".into(), cores: 4, telemetry: Vec::new() };
    let mut cluster = LocalCluster::default();
    let url = cluster.start(&programs, &layout).await;
    (cluster, url)
}

#[tokio::test]
async fn a_cluster_starts_at_the_address_that_the_coordinator_says_and_ends_quickly() {
    let home = tempfile::tempdir().unwrap();
    let (cluster, url) = started(home.path(), READY_COORDINATOR, WORKER, 2).await;
    assert_eq!(url.unwrap(), "http://127.0.0.1:7");
    assert_eq!(cluster.workers.len(), 2);
    let began = Instant::now();
    cluster.stop(std::future::pending()).await;
    assert!(began.elapsed() < GRACE);
}

#[tokio::test]
async fn a_coordinator_that_cannot_start_says_why() {
    let home = tempfile::tempdir().unwrap();
    let script = "echo 'error: the journal is of another version' >&2; exit 1";
    let (_cluster, url) = started(home.path(), script, WORKER, 1).await;
    let said = url.unwrap_err().to_string();
    assert!(said.contains("coordinator exited early") && said.contains("another version"), "{said}");
}

#[tokio::test]
async fn the_death_of_the_last_worker_or_the_coordinator_is_the_end() {
    let home = tempfile::tempdir().unwrap();
    let (mut cluster, _) = started(home.path(), READY_COORDINATOR, "echo no libtorch >&2; exit 3", 2).await;
    let said = cluster.broken(&Screen::Lines).await.to_string();
    assert!(said.contains("worker-") && said.contains("exit status: 3") && said.contains("no libtorch"), "{said}");
    cluster.stop(std::future::pending()).await;

    let (mut cluster, _) = started(home.path(), "echo listening on x; sleep 0.2; exit 4", WORKER, 1).await;
    let said = cluster.broken(&Screen::Lines).await.to_string();
    assert!(said.contains("coordinator exited early (exit status: 4)"), "{said}");
    cluster.stop(async {}).await;
}

#[test]
fn several_workers_share_the_cores_and_one_takes_them_all() {
    let arguments = |workers, device: &str| {
        let data = PathBuf::new();
        let logs = PathBuf::new();
        let layout = Layout { data, logs, workers, device: device.into(), cores: 4, telemetry: Vec::new() };
        layout.worker_arguments("http://x").join(&OsString::from(" ")).into_string().unwrap()
    };
    let common = "--coordinator http://x --device cpu --until-stdin-closes";
    assert_eq!(arguments(1, "cpu"), common);
    assert_eq!(arguments(2, "cpu"), format!("{common} --slots 2"));
    assert_eq!(arguments(8, "cpu"), format!("{common} --slots 1"));
    assert!(!arguments(2, "cuda:0").contains("--slots"));
}
