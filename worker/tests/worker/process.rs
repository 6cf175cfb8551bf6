//! The program itself: exit codes, signals, standard input, and one clear line where something is wrong.

use crate::support::{Coordinator, Heard};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

fn worker(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nadgrid-worker"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Exit code, standard output and standard error.
fn outcome(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn ends_within(child: &mut Child, limit: Duration) -> Option<i32> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("the worker did not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn signal(child: &Child, signal: i32) {
    // Safety: the child is ours and not yet waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

fn connected(extra: &[&str]) -> (Coordinator, Child) {
    let coordinator = Coordinator::start();
    let url = coordinator.url();
    let mut command = worker(&["--coordinator", &url, "--device", "cpu", "--slots", "1"]);
    let child = command.args(extra).stdin(Stdio::piped()).spawn().unwrap();
    coordinator.script.until("a hello", |heard| heard.hellos.len() == 1);
    (coordinator, child)
}

fn ended_with_goodbye(heard: &Heard) -> bool {
    use nadgrid_proto::v1::session_request::Message::Goodbye;
    heard.ended == 1 && matches!(heard.messages.last(), Some((_, Goodbye(_))))
}

#[test]
fn what_is_wrong_is_said_in_one_line_with_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("worker.toml");
    std::fs::write(&file, "slotts = 3").unwrap();
    let file = file.to_str().unwrap();
    for (arguments, variable, code, words) in [
        (&["--config", file][..], None, 2, "unknown key `slotts`; did you mean `slots`?"),
        (&["--device", "gpu"], None, 2, "device = gpu: one of auto, cpu, cuda or cuda:N"),
        (&[], Some(("NADGRID_DEVICE", "gpu")), 2, "device = gpu: one of auto, cpu, cuda or cuda:N"),
        (&[], Some(("NADGRID_LOG", "nadgrid=loud")), 2, "log = nadgrid=loud"),
        (&["--device", "cuda:99"], None, 1, "device = cuda:99: "),
        (
            &["--device", "cpu", "--coordinator", "http://127.0.0.1:1", "--connect-timeout", "0.3"],
            None,
            3,
            "cannot reach the coordinator at http://127.0.0.1:1: Connection refused",
        ),
    ] {
        let (found, output, errors) = outcome(worker(arguments).envs(variable));
        assert_eq!(found, Some(code), "{errors}");
        let lines: Vec<&str> = errors.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(lines.len() == 1 && lines[0].contains(words), "{errors}");
        assert_eq!(output, "");
    }
}

#[test]
fn sigterm_ends_it_with_a_goodbye() {
    for number in [libc::SIGTERM, libc::SIGINT] {
        let (coordinator, mut child) = connected(&[]);
        signal(&child, number);
        assert_eq!(ends_within(&mut child, Duration::from_secs(10)), Some(0));
        coordinator.script.until("the goodbye", ended_with_goodbye);
    }
}

/// A shard is in the slot: a signal gives it its grace period, the end of standard input none.
#[test]
fn a_busy_worker_drains_on_a_signal_and_ends_with_standard_input() {
    use crate::checkpoints::{ENDLESS, spec};
    use nadgrid_proto::v1::session_request::Message::Draining;
    for (grace, by_signal) in [("3", true), ("3600", false)] {
        let options = ["--grace", grace, "--checkpoint-interval", "0", "--until-stdin-closes"];
        let (coordinator, mut child) = connected(&options);
        let script = &coordinator.script;
        script.assign(&spec(ENDLESS), "vgg11", &crate::session::shard(0, 1));
        script.until("an epoch", |heard| !heard.checkpoints.is_empty());
        match by_signal {
            true => signal(&child, libc::SIGTERM),
            false => drop::<Option<ChildStdin>>(child.stdin.take()),
        }
        // The grace period and a moment for the goodbye; a batch of this network takes a fraction of a second.
        assert_eq!(ends_within(&mut child, Duration::from_secs(30)), Some(0));
        script.until("the goodbye", ended_with_goodbye);
        script.heard(|heard| {
            assert!(heard.uploads.is_empty());
            assert_eq!(heard.messages.iter().any(|(_, message)| matches!(message, Draining(_))), by_signal);
        });
    }
}

/// One network whose gradient is one call that takes minutes: 8,192 forward passes of ResNet18, on libtorch.
const ONE_LONG_CALL: &str = "name = 'long'\narchitectures = ['resnet18']\ninput = { height = 64, width = 64 }\n\
                             [nads]\nnetworks = 2\nblock_size = 1";

/// A worker whose slot is in that call.
fn computing(extra: &[&str]) -> (Coordinator, Child) {
    let options = [&["--evaluation", "dense", "--log", "debug"], extra].concat();
    let (coordinator, mut child) = connected(&options);
    coordinator.script.assign(ONE_LONG_CALL, "resnet18", &crate::session::shard(0, 1));
    read_until(&mut child, "computing");
    (coordinator, child)
}

/// Reads the log up to these words, which come before any failure; what follows is read and thrown away.
fn read_until(child: &mut Child, words: &str) {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let told =
        lines.find_map(|line| Some(line.unwrap()).filter(|line| line.contains(words) || line.contains("failed")));
    assert!(told.as_ref().is_some_and(|line| line.contains(words)), "no {words:?}: {told:?}");
    std::thread::spawn(move || lines.for_each(drop));
}

/// No thread can be interrupted in a kernel or in libtorch, so the process ends under it.
#[test]
fn after_its_grace_period_a_worker_ends_whatever_its_slots_do() {
    let (coordinator, mut child) = computing(&["--grace", "1"]);
    signal(&child, libc::SIGTERM);
    assert_eq!(ends_within(&mut child, Duration::from_secs(30)), Some(0));
    coordinator.script.until("the goodbye", ended_with_goodbye);
}

#[test]
fn a_second_signal_ends_a_worker_at_once() {
    let (_coordinator, mut child) = computing(&["--grace", "3600"]);
    signal(&child, libc::SIGTERM);
    signal(&child, libc::SIGINT);
    let code = ends_within(&mut child, Duration::from_secs(30));
    assert!([128 + libc::SIGTERM, 128 + libc::SIGINT].map(Some).contains(&code), "{code:?}");
}

/// A coordinator that is gone for good, and one that will not have the worker back.
#[test]
fn a_worker_without_a_coordinator_ends_whatever_its_slots_do() {
    let (coordinator, mut child) = computing(&["--reconnect-timeout", "1"]);
    coordinator.die();
    assert_eq!(ends_within(&mut child, Duration::from_secs(30)), Some(3));
    let (coordinator, mut child) = computing(&[]);
    coordinator.script.refuse_next(tonic::Status::permission_denied("not you"));
    coordinator.script.hang_up();
    assert_eq!(ends_within(&mut child, Duration::from_secs(30)), Some(4));
}

/// `nadgrid run` holds the other end of its workers' standard input: however it dies, they end.
#[test]
fn a_closed_standard_input_ends_it_only_if_asked_to() {
    let (coordinator, mut child) = connected(&["--until-stdin-closes"]);
    drop::<Option<ChildStdin>>(child.stdin.take());
    assert_eq!(ends_within(&mut child, Duration::from_secs(10)), Some(0));
    coordinator.script.until("the goodbye", ended_with_goodbye);
    let (_coordinator, mut child) = connected(&[]);
    drop::<Option<ChildStdin>>(child.stdin.take());
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_benchmark_prints_one_line_of_json() {
    let arguments = ["bench", "jacobian", "--architecture", "logreg", "--networks", "64", "--device", "cpu", "--json"];
    let (code, output, errors) = outcome(&mut worker(&arguments));
    assert_eq!(code, Some(0), "{errors}");
    let measured: serde_json::Value = serde_json::from_str(output.trim_end()).unwrap();
    assert_eq!((measured["networks"].as_u64(), measured["evaluation"].as_str()), (Some(64), Some("patch")));
    assert!(measured["seconds"].as_f64().unwrap() > 0.0 && measured["slots"].as_u64().unwrap() > 0);
    assert!(measured["peak_rss_bytes"].as_u64().unwrap() < 1 << 30);
    let (code, _, errors) = outcome(&mut worker(&["bench", "jacobian", "--architecture", "lennet"]));
    assert_eq!(code, Some(1));
    assert!(errors.contains("error: the benchmark failed: ") && errors.contains("did you mean \"lenet\""), "{errors}");
}

/// Also before any session: there is nobody to say goodbye to.
#[test]
fn a_signal_ends_the_wait_for_a_coordinator() {
    let mut command = worker(&["--device", "cpu", "--coordinator", "http://127.0.0.1:1", "--connect-timeout", "60"]);
    let mut child = command.env("NADGRID_LOG", "debug").spawn().unwrap();
    let mut seen = Vec::new();
    let mut errors = child.stderr.take().unwrap();
    while !String::from_utf8_lossy(&seen).contains("cannot reach the coordinator at") {
        let mut bytes = [0; 256];
        let count = errors.read(&mut bytes).unwrap();
        assert!(count > 0, "it ended early: {}", String::from_utf8_lossy(&seen));
        seen.extend(&bytes[..count]);
    }
    signal(&child, libc::SIGTERM);
    assert_eq!(ends_within(&mut child, Duration::from_secs(5)), Some(0));
}
