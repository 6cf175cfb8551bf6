//! What a coordinator keeps, and where: on PostgreSQL and S3, with a full disk, with a database that comes and goes.

use nadgrid_tests::postgres::{PASSWORD, Postgres, Stop};
use nadgrid_tests::s3::S3;
use nadgrid_tests::{Cluster, command, members_done, text};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const SPEC: [&str; 3] = ["nads.networks=600", "nads.block_size=16", "architectures=['lenet', 'logreg']"];
/// A sweep whose files are some 60 MiB.
const SMALL: [&str; 3] = ["nads.networks=96", "nads.block_size=16", "architectures=['lenet', 'logreg']"];
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the logs say something.
fn wait_for(cluster: &Cluster, words: &str) {
    let started = Instant::now();
    while !cluster.logs().contains(words) {
        assert!(started.elapsed() < PATIENCE, "nobody says {words:?}: {}", cluster.logs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_cluster_on_postgresql_and_s3_is_as_durable_as_one_on_files() {
    let mut files = Cluster::start(&[]);
    files.add_worker(&["--slots", "1"]);
    let expected = files.digest(&files.submit("lenet.toml", &SPEC));
    drop(files);

    let (mut database, s3) = (Postgres::start(), S3::start());
    let (journal, artifacts) = (database.url(), s3.url("cluster"));
    let arguments = ["--journal", &journal, "--artifacts", &artifacts, "--most-shard-blocks", "1"];
    let mut cluster = Cluster::start_with(&arguments, &s3.variables());
    cluster.add_worker(&["--slots", "1"]);
    let id = cluster.submit("lenet.toml", &SPEC);
    let done = |cluster: &Cluster| members_done(&cluster.status(&id));
    let some = done(&cluster);
    cluster.wait(&id, |status| members_done(status) > some);

    // Enough is left for the faults to come.
    cluster.nadgrid_ok(&["pause", &id]);

    // A second coordinator on the same journal is refused, in words.
    let other = tempfile::tempdir().unwrap();
    let mut second = command("nadgrid-coordinator");
    second.args(arguments).args(["--listen", "127.0.0.1:0", "--data"]).arg(other.path()).envs(s3.variables());
    let refused = second.output().unwrap();
    let said = text(&refused.stderr);
    assert!(!refused.status.success() && said.contains("in use by another coordinator"), "{said}");
    assert!(!said.contains(PASSWORD), "{said}");

    let before = done(&cluster);
    cluster.crash_coordinator();
    let after = done(&cluster);
    assert!(after >= before, "{before} networks were committed, {after} after the crash");
    cluster.nadgrid_ok(&["resume", &id]);
    cluster.wait(&id, |status| members_done(status) > after);
    database.restart(Stop::Immediate);
    assert!(done(&cluster) < 1200, "the faults came too late to matter");
    assert_eq!(cluster.digest(&id), expected);
    wait_for(&cluster, "the journal can be written to again");
    let folder = tempfile::tempdir().unwrap();
    cluster.nadgrid_ok(&["fetch", &id, "--out", folder.path().join("results").to_str().unwrap()]);
    assert!(!cluster.logs().contains(PASSWORD), "{}", cluster.logs());
}

/// A store that takes nothing until it is relieved. Where this test may mount, it is a disk that is full; elsewhere
/// there is a file in the folder's place.
struct Full {
    folder: tempfile::TempDir,
    mounted: bool,
}

impl Full {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=256m", "tmpfs"]).arg(folder.path()).output();
        let mounted = mounted.is_ok_and(|output| output.status.success());
        Self { folder, mounted }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("store")
    }

    fn fill(&self) {
        if self.mounted {
            // Writing ends with an error when the disk is full.
            let mut ballast = std::fs::File::create(self.folder.path().join("ballast")).unwrap();
            drop(std::io::copy(&mut std::io::repeat(1), &mut ballast));
        } else {
            std::fs::rename(self.path(), self.folder.path().join("aside")).unwrap();
            std::fs::write(self.path(), "").unwrap();
        }
    }

    fn relieve(&self) {
        if self.mounted {
            std::fs::remove_file(self.folder.path().join("ballast")).unwrap();
        } else {
            std::fs::remove_file(self.path()).unwrap();
            std::fs::rename(self.folder.path().join("aside"), self.path()).unwrap();
        }
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        if self.mounted {
            drop(Command::new("umount").arg("-l").arg(self.folder.path()).status());
        }
    }
}

/// Uploads are refused and come again; the coordinator lives on, and nothing is acknowledged that is not stored.
#[test]
fn a_full_store_is_waited_for() {
    let store = Full::new();
    let url = format!("file://{}", store.path().display());
    let mut cluster = Cluster::start(&["--artifacts", &url, "--most-shard-blocks", "1"]);
    // The coordinator makes the folder before it answers.
    let id = cluster.submit("lenet.toml", &SMALL);
    store.fill();
    cluster.add_worker(&["--slots", "1"]);
    wait_for(&cluster, &format!("the artifact store {} failed", store.path().display()));
    let status = cluster.status(&id);
    assert_eq!((status["state"].as_str(), members_done(&status)), (Some("running"), 0), "{}", cluster.logs());
    store.relieve();
    let relieved = cluster.digest(&id);
    let mut undisturbed = Cluster::start(&[]);
    undisturbed.add_worker(&["--slots", "1"]);
    assert_eq!(undisturbed.digest(&undisturbed.submit("lenet.toml", &SMALL)), relieved);
}

/// A request waits for the journal; when its patience ends, so does the coordinator, in words. What was acknowledged is there.
#[test]
fn a_journal_that_stays_away_ends_the_coordinator() {
    let mut database = Postgres::start();
    let journal = database.url();
    let mut cluster = Cluster::start(&["--journal", &journal, "--journal-patience", "1"]);
    let id = cluster.submit("lenet.toml", &SPEC);
    database.stop(Stop::Immediate);
    let refused = cluster.nadgrid(&["cancel", &id]);
    assert!(!refused.status.success(), "nothing can be acknowledged");
    assert_eq!(cluster.coordinator().exit_code(PATIENCE), Some(1), "{}", cluster.logs());
    let logs = cluster.logs();
    assert!(logs.contains("tried for 1 s") && !logs.contains(PASSWORD), "{logs}");
    database.start_again();
    cluster.crash_coordinator();
    assert_eq!(cluster.status(&id)["state"], "queued");
}

/// Both kinds of URL are refused before anything listens, without what is secret in them.
#[test]
fn wrong_urls_are_refused_in_words() {
    let run = |arguments: &[&str]| {
        let output = command("nadgrid-coordinator").args(arguments).output().unwrap();
        (output.status.code(), text(&output.stderr))
    };
    let (code, said) = run(&["--journal", "mysql://me:hunter2@db/x"]);
    assert!(code == Some(1) && said.contains("sqlite:PATH or postgres://") && !said.contains("hunter2"), "{said}");
    let (code, said) = run(&["--artifacts", "s3://id:hunter2@bucket"]);
    assert!(code == Some(1) && said.contains("AWS_SECRET_ACCESS_KEY") && !said.contains("hunter2"), "{said}");
    assert!(!Path::new("nadgrid-data").exists());
}
