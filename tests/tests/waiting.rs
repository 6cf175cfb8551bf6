//! A coordinator whose journal cannot be written to: it answers, says what it waits for, and loses nothing that it told.

use nadgrid_tests::postgres::{Postgres, Stop};
use nadgrid_tests::{Cluster, example, members_done, text};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const SPEC: [&str; 3] = ["nads.networks=600", "nads.block_size=16", "architectures=['lenet', 'logreg']"];
/// A call that waits for the journal is given up after so many seconds: what is answered before was not waited for.
const PATIENT: [&str; 4] = ["--journal-patience", "600", "--limit", "request_seconds=60"];
const PATIENCE: Duration = Duration::from_secs(60);

/// The body of a page of the coordinator.
fn page(cluster: &Cluster, path: &str) -> String {
    let mut stream = TcpStream::connect(cluster.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", cluster.address());
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = text(&answer);
    assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    answer
}

/// What a command says on either side; it must succeed.
fn told(cluster: &Cluster, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = cluster.nadgrid(arguments);
    let said = text(&stdout) + &text(&stderr);
    assert!(status.success(), "nadgrid {arguments:?}: {said}\n{}", cluster.logs());
    said
}

/// Waits until commands say that the journal is waited for, and why.
fn wait_for_notice(cluster: &Cluster, why: &str) {
    let started = Instant::now();
    while !told(cluster, &["list"]).contains(why) {
        assert!(started.elapsed() < PATIENCE, "nobody says {why:?}: {}", cluster.logs());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Everything that only asks, with what each must say besides the notice.
fn assert_all_answer(cluster: &Cluster, id: &str, why: &str) {
    for (arguments, word) in [
        (vec!["list"], id),
        (vec!["status", id], id),
        (vec!["workers"], "slots"),
        (vec!["explain", id], id),
        (vec!["top", "--once"], id),
    ] {
        let said = told(cluster, &arguments);
        assert!(said.contains(word), "nadgrid {arguments:?}: {said}");
        assert!(said.contains(why) || arguments[0] == "top", "nadgrid {arguments:?} does not say {why:?}: {said}");
    }
    let metrics = page(cluster, "/metrics");
    let waits = metrics.lines().find_map(|line| line.strip_prefix("nadgrid_journal_wait_seconds "));
    assert!(waits.unwrap().parse::<f64>().unwrap() > 0.0, "{waits:?}");
    assert!(page(cluster, "/api/sweeps").contains(why));
    assert!(page(cluster, &format!("/api/sweeps/{id}")).contains(id));
    assert!(page(cluster, &format!("/api/sweeps/{id}/shards")).contains("lenet"));
    page(cluster, &format!("/api/sweeps/{id}/pictures"));
    page(cluster, "/");
}

/// A submission that waits, as a process of its own.
fn submission(cluster: &Cluster) -> std::process::Child {
    let mut command = nadgrid_tests::command("nadgrid");
    command.args(["--coordinator", &cluster.url, "submit"]).arg(example("lenet.toml"));
    command.args(["--set", "nads.networks=16", "--set", "nads.block_size=16"]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
}

/// The database goes away while workers compute; in the middle of the wait the coordinator is killed.
#[test]
fn a_coordinator_without_its_database_answers_and_loses_nothing_that_it_told() {
    let mut undisturbed = Cluster::start(&[]);
    undisturbed.add_worker(&["--slots", "1"]);
    let expected = undisturbed.digest(&undisturbed.submit("lenet.toml", &SPEC));
    drop(undisturbed);

    let mut database = Postgres::start();
    let journal = database.url();
    let arguments: Vec<&str> =
        ["--journal", &journal, "--most-shard-blocks", "1", "--lease-ttl", "3"].into_iter().chain(PATIENT).collect();
    let mut cluster = Cluster::start(&arguments);
    cluster.add_worker(&["--slots", "1"]);
    let id = cluster.submit("lenet.toml", &SPEC);
    let seen = members_done(&cluster.wait(&id, |status| members_done(status) > 0));
    database.stop(Stop::Immediate);
    // The worker's next result is what waits.
    wait_for_notice(&cluster, "nothing new is accepted");
    assert_all_answer(&cluster, &id, "the journal (postgres://nadgrid@127.0.0.1");
    let told = members_done(&cluster.status(&id));
    assert!(told >= seen, "{seen} networks were told before, {told} now");
    let waiting = submission(&cluster);
    // Longer than a lease lives that nobody renews.
    std::thread::sleep(Duration::from_secs(5));
    database.start_again();
    let submitted = waiting.wait_with_output().unwrap();
    assert!(submitted.status.success(), "{}", text(&submitted.stderr));
    let second = text(&submitted.stdout).trim().to_owned();
    let after = cluster.wait(&id, |status| members_done(status) > told);
    let retries: u64 = after["jobs"].as_array().unwrap().iter().map(|job| job["retries"].as_u64().unwrap()).sum();
    assert_eq!(retries, 0, "no lease ran out: {}", cluster.logs());
    assert!(!told_of_journal(&cluster), "nothing is waited for any more");

    database.stop(Stop::Immediate);
    wait_for_notice(&cluster, "nothing new is accepted");
    let before = members_done(&cluster.status(&id));
    cluster.kill_coordinator();
    database.start_again();
    cluster.revive_coordinator();
    let after = members_done(&cluster.status(&id));
    assert!(after >= before, "{before} networks were told of, {after} are left after the crash");
    assert!(["queued", "running", "complete"].contains(&cluster.status(&second)["state"].as_str().unwrap()));
    assert_eq!(cluster.digest(&id), expected);
}

fn told_of_journal(cluster: &Cluster) -> bool {
    told(cluster, &["list"]).contains("the journal (")
}

/// A folder on a disk of its own that can be filled; nothing where this test may not mount.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]).arg(folder.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(folder))
    }

    fn ballast(&self) -> std::path::PathBuf {
        self.0.path().join("ballast")
    }

    fn fill(&self) {
        // Writing ends with an error when the disk is full.
        let mut ballast = std::fs::File::create(self.ballast()).unwrap();
        drop(std::io::copy(&mut std::io::repeat(1), &mut ballast));
    }

    fn relieve(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.0.path()).status());
    }
}

/// The disk of the journal is full: what waits is accepted when there is room, what is given up is told why.
#[test]
fn a_full_disk_is_told_and_waited_for() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("nothing is tested here: this needs the right to mount");
        return;
    };
    let journal = format!("sqlite:{}", disk.0.path().join("journal.sqlite").display());
    let cluster = Cluster::start(&["--journal", &journal, "--journal-patience", "600", "--limit", "request_seconds=8"]);
    let id = cluster.submit("lenet.toml", &SPEC);
    disk.fill();
    // SQLite may still have room in the pages that it has: what does not fit is refused by the disk.
    let refused = (0..1000).map(|_| submission(&cluster).wait_with_output().unwrap()).find(|it| !it.status.success());
    let said = text(&refused.expect("the disk is full").stderr);
    assert!(said.contains("full") && said.contains("nothing new is accepted"), "{said}");
    assert!(!said.contains("start one with"), "it is there: {said}");
    wait_for_notice(&cluster, "full");
    assert!(told(&cluster, &["status", &id]).contains("full"));
    let waiting = submission(&cluster);
    std::thread::sleep(Duration::from_secs(1));
    disk.relieve();
    let submitted = waiting.wait_with_output().unwrap();
    assert!(submitted.status.success(), "{}", text(&submitted.stderr));
    assert!(!told_of_journal(&cluster));
}
