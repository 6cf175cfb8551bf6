//! Bad input: one clear line, a non-zero exit code, nothing half-written left behind, nothing lost.

use nadgrid_tests::{Cluster, command, example, text};
use std::process::Output;

fn nadgrid(arguments: &[&str]) -> Output {
    command("nadgrid").args(arguments).output().unwrap()
}

/// The command fails, and its message holds these words.
fn refused(output: &Output, words: &[&str]) {
    let said = text(&output.stderr);
    assert!(!output.status.success(), "it succeeded: {said}");
    assert!(output.status.code().is_some(), "it was killed: {said}");
    assert!(said.contains("error: ") && !said.contains("panicked"), "{said}");
    for word in words {
        assert!(said.contains(word), "{said:?} lacks {word:?}");
    }
}

const BAD: &[(&str, &[&str])] = &[
    ("architectures=['lennet']", &["architectures[0]", "lennet", "did you mean \"lenet\""]),
    ("nads.netwroks=3", &["nads.netwroks", "did you mean `networks`"]),
    ("nads.networks=0", &["nads.networks", "0", "from 2"]),
    ("nads.step=nan", &["nads.step", "nan", "finite"]),
    ("input.width=0", &["input.width", "0", "at least 1"]),
    ("input.width=100000", &["input", "100000", "4096"]),
    ("nads.block_size=24", &["nads.block_size", "24", "power of two"]),
    ("architectures=['lenet', 'lenet']", &["architectures[1]", "at most once"]),
];

#[test]
fn a_wrong_spec_is_refused_at_plan_and_at_submit() {
    let cluster = Cluster::start(&[]);
    let spec = example("lenet.toml");
    let spec = spec.to_str().unwrap();
    for (change, words) in BAD {
        refused(&nadgrid(&["plan", spec, "--set", change]), words);
        refused(&cluster.nadgrid(&["plan", spec, "--set", change]), words);
        refused(&cluster.nadgrid(&["submit", spec, "--set", change]), words);
    }
    assert_eq!(cluster.nadgrid_ok(&["list", "--json"]).trim(), "[]");
    refused(&nadgrid(&["plan", "/nowhere.toml"]), &["/nowhere.toml"]);
}

#[test]
fn an_unreachable_coordinator_is_one_line() {
    let spec = example("lenet.toml");
    let away = ["--coordinator", "http://127.0.0.1:1", "submit", spec.to_str().unwrap()];
    let output = nadgrid(&away);
    refused(&output, &["http://127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(3));
    let arguments = ["--coordinator", "http://127.0.0.1:1", "--connect-timeout", "1", "--device", "cpu"];
    let worker = command("nadgrid-worker").args(arguments).output().unwrap();
    refused(&worker, &["http://127.0.0.1:1"]);
}

#[test]
fn a_port_in_use_is_named() {
    let cluster = Cluster::start(&[]);
    let listen = cluster.url.trim_start_matches("http://");
    let data = tempfile::tempdir().unwrap();
    let arguments = ["--listen", listen, "--data", data.path().to_str().unwrap()];
    refused(&command("nadgrid-coordinator").args(arguments).output().unwrap(), &[listen, "in use"]);
}

/// Each program ends for another reason, and has named the variable before. What Kubernetes sets beside a service called
/// nadgrid is nothing to any of them.
#[test]
fn a_misspelt_variable_is_a_warning_and_a_foreign_one_is_nothing() {
    for (program, arguments, misspelt, meant) in [
        ("nadgrid-coordinator", ["--lease-ttl", "0"], "NADGRID_LISTN", "NADGRID_LISTEN"),
        ("nadgrid-worker", ["--grace", "1e9"], "NADGRID_SLOTZ", "NADGRID_SLOTS"),
        ("nadgrid", ["status", "x"], "NADGRID_COORDINATR", "NADGRID_COORDINATOR"),
    ] {
        let mut command = command(program);
        command.args(arguments).env("NADGRID_PORT", "tcp://10.0.0.1:7400").env("NADGRID_SERVICE_HOST", "10.0.0.1");
        let plain = text(&command.output().unwrap().stderr).to_owned();
        assert!(!plain.contains("warning"), "{plain}");
        let said = text(&command.env(misspelt, "x").output().unwrap().stderr).to_owned();
        assert!(said.contains("warning: ") && said.contains(misspelt) && said.contains(meant), "{program}: {said}");
    }
}

#[test]
fn a_misspelt_key_is_refused_by_every_program() {
    for program in ["nadgrid-coordinator", "nadgrid-worker"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nadgrid.toml");
        std::fs::write(&file, "lissten = '127.0.0.1:0'\n").unwrap();
        refused(&command(program).arg("--config").arg(&file).output().unwrap(), &["lissten"]);
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_refused_before_anything_runs() {
    let spec = example("lenet.toml");
    // /proc takes no folders, not even root's.
    let output = nadgrid(&["run", spec.to_str().unwrap(), "--out", "/proc/nadgrid"]);
    refused(&output, &["/proc/nadgrid"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    refused(&nadgrid(&["run", spec.to_str().unwrap(), "--out", file.to_str().unwrap()]), &["file"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn unknown_sweeps_and_early_fetches_are_told() {
    let cluster = Cluster::start(&[]);
    refused(&cluster.nadgrid(&["status", "no-such"]), &["no-such"]);
    refused(&cluster.nadgrid(&["cancel", "no-such"]), &["no-such"]);
    let id = cluster.submit("lenet.toml", &[]);
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("result");
    refused(&cluster.nadgrid(&["fetch", &id, "--out", target.to_str().unwrap()]), &["queued"]);
    assert!(!target.exists() || std::fs::read_dir(&target).unwrap().count() == 0);
}
