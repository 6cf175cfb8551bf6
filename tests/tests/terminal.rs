//! `nadgrid` as it is met: on a terminal, in a pipe, in a script, and by its exit codes.

mod peer;

use nadgrid_proto::v1;
use nadgrid_tests::terminal::Terminal;
use nadgrid_tests::{Cluster, command, example, text};
use peer::{Peer, assignment, header, hello, partial};
use std::process::{Command, Output, Stdio};

/// So many networks that it does not end by itself while a test looks.
const LONG: [&str; 1] = ["nads.networks=2000000"];
const SHORT: [&str; 1] = ["nads.networks=256"];

fn nadgrid(arguments: &[&str]) -> Output {
    command("nadgrid").args(arguments).output().unwrap()
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn lenet() -> String {
    example("lenet.toml").to_str().unwrap().to_owned()
}

/// The live view names what it waits for, fits a terminal that becomes narrow, outlives the coordinator, and leaves its last frame
/// behind.
#[test]
fn the_live_view_draws_fits_and_ends_with_the_sweep() {
    let mut cluster = Cluster::start(&[]);
    let id = cluster.submit("lenet.toml", &["nads.networks=256", "architectures=['lenet', 'logreg']"]);
    let mut terminal = Terminal::nadgrid(100, 30, &["--coordinator", &cluster.url, "watch", &id], &[]);
    let screen = terminal.wait(|screen| screen.contains("workers   none connected"));
    assert!(screen.contains("lenet  queued") && screen.contains("nads/logreg  ───"), "{screen}");
    assert!(screen.contains("waiting for a worker") && screen.contains("whole     0 %, 0 of 512 networks"), "{screen}");
    terminal.resize(60, 20);
    // What was wrapped on the way is drawn over: every row is there once, and whole.
    let fits = |screen: &str| screen.matches("nads/logreg").count() == 1 && screen.matches("whole ").count() == 1;
    let screen = terminal.wait(|screen| fits(screen) && screen.contains("0 %  waiting for a worker\n"));
    assert!(screen.lines().all(|line| line.chars().count() < 60), "{screen}");
    cluster.kill_coordinator();
    terminal.wait(|screen| fits(screen) && screen.contains("lenet  queued; the coordinator is away"));
    cluster.revive_coordinator();
    terminal.wait(|screen| fits(screen) && !screen.contains("is away"));
    cluster.add_worker(&["--slots", "1"]);
    assert_eq!(terminal.exit_code(), Some(0));
    let screen = terminal.wait(|screen| screen.contains("`nadgrid fetch"));
    assert!(screen.contains("lenet  complete after") && screen.contains("100 %  complete"), "{screen}");
    assert!(terminal.written().contains("\x1b[32m━"), "no colours in {:?}", terminal.written());
}

#[test]
fn no_color_and_dumb_terminals_are_honoured() {
    let cluster = Cluster::start(&[]);
    let id = cluster.submit("lenet.toml", &SHORT);
    let arguments = ["--coordinator", &cluster.url, "watch", &id];
    let plain = Terminal::nadgrid(100, 30, &arguments, &[("NO_COLOR", "1")]);
    plain.wait(|screen| screen.contains("workers   none connected"));
    assert!(styles(&plain.written()).is_empty(), "{:?}", plain.written());
    let dumb = Terminal::nadgrid(100, 30, &arguments, &[("TERM", "dumb")]);
    dumb.wait(|screen| screen.contains("nads/lenet: 0 of 256 networks (0 %), waiting for a worker"));
    assert!(!dumb.written().contains('\x1b'), "{:?}", dumb.written());
    // A paused sweep has a colour of its own, where there are colours.
    cluster.nadgrid_ok(&["pause", &id]);
    let top = Terminal::nadgrid(100, 30, &["--coordinator", &cluster.url, "top"], &[("NO_COLOR", "1")]);
    top.wait(|screen| screen.contains("paused") && screen.contains("?: keys"));
    assert_eq!(colours(&top.written()), Vec::<u8>::new(), "{:?}", top.written());
    let coloured = Terminal::nadgrid(100, 30, &["--coordinator", &cluster.url, "top"], &[]);
    coloured.wait(|screen| screen.contains("paused") && screen.contains("?: keys"));
    assert!(!colours(&coloured.written()).is_empty(), "{:?}", coloured.written());
}

/// The parameters of every change of style that is asked of a terminal.
fn styles(written: &str) -> Vec<String> {
    let sequences = written.split("\x1b[").skip(1).filter_map(|after| {
        let end = after.find(|c: char| !(c.is_ascii_digit() || c == ';'))?;
        after[end..].starts_with('m').then(|| after[..end].to_owned())
    });
    sequences.collect()
}

/// The colours among them, by their numbers.
fn colours(written: &str) -> Vec<u8> {
    let numbers = styles(written).join(";").split(';').filter_map(|number| number.parse().ok()).collect::<Vec<u8>>();
    let is_colour = |number: &u8| (30..39).contains(number) || (40..49).contains(number) || (90..108).contains(number);
    numbers.into_iter().filter(is_colour).collect()
}

/// `run` draws on a terminal; in a pipe it is plain, and with --json it is lines that end with the summary.
#[test]
fn run_suits_where_it_is_run() {
    let folder = tempfile::tempdir().unwrap();
    let out = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (spec, [drawn, piped, lines]) = (lenet(), [out("a"), out("b"), out("c")]);
    let run = ["run", &spec, "--set", "nads.networks=256", "--device", "cpu", "--out"];
    let mut terminal = Terminal::nadgrid(100, 40, &[&run[..], &[&drawn]].concat(), &[]);
    assert_eq!(terminal.exit_code(), Some(0), "{}", terminal.written());
    let screen = terminal.wait(|screen| screen.contains("digest "));
    assert!(screen.contains("━━━━") && screen.contains("256/256  100 %"), "{screen}");

    let output = nadgrid(&[&run[..], &[&piped]].concat());
    let (told, said) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && told.contains("sweep lenet is complete"), "{told}{said}");
    assert!(said.contains("nads/lenet: 0 of 256 networks (0 %)"), "{said}");
    assert!(!told.contains('\x1b') && !said.contains('\x1b') && !said.contains('\r'), "{told}{said}");

    let output = nadgrid(&[&run[..], &[&lines, "--json"]].concat());
    let told: Vec<serde_json::Value> = text(&output.stdout).lines().map(json).collect();
    let (summary, changes) = told.split_last().unwrap();
    assert!(changes.len() > 1 && changes.iter().all(|line| line["event"] == "sweep"), "{told:?}");
    let last = changes.last().unwrap();
    assert_eq!((&last["state"], &last["jobs"][0]["members_done"]), (&"complete".into(), &256.into()));
    assert_eq!((&last["progress"], &last["seconds_left"]), (&1.0.into(), &serde_json::Value::Null));
    assert_eq!((&summary["event"], &summary["jobs"][0]["members"]), (&"summary".into(), &256.into()));
    assert_eq!(summary["record"]["digest"], last["digest"]);
}

#[test]
fn watch_tells_scripts_every_change_with_the_keys_of_status() {
    let mut cluster = Cluster::start(&[]);
    let id = cluster.submit("lenet.toml", &SHORT);
    cluster.add_worker(&["--slots", "1"]);
    let told = cluster.nadgrid_ok(&["watch", &id, "--json"]);
    let status = cluster.status(&id);
    let last = json(told.lines().last().unwrap());
    for (key, value) in status.as_object().unwrap() {
        assert_eq!(&last[key], value, "{key}");
    }
    assert!(last["event"] == "sweep" && last["progress"] == 1.0 && last["seconds_left"].is_null(), "{last}");
}

/// Draws, pauses and cancels after a question, tells that the coordinator is away and is back, and gives the terminal back.
#[test]
fn top_shows_a_cluster_and_steers_it() {
    let mut cluster = Cluster::start(&["--most-shard-blocks", "1"]);
    let id = cluster.submit("lenet.toml", &LONG);
    cluster.add_worker(&["--slots", "1", "--name", "alpha"]);
    let mut top = Terminal::nadgrid(100, 30, &["--coordinator", &cluster.url, "top"], &[]);
    top.wait(|screen| screen.contains("running") && screen.contains("alpha") && screen.contains("networks/s"));
    assert!(top.is_full_screen());
    top.press("p");
    top.wait(|screen| screen.contains("Pause lenet?") && screen.contains(&id));
    top.press("n");
    top.wait(|screen| !screen.contains("Pause lenet?"));
    assert_eq!(cluster.status(&id)["state"], "running");
    top.press("py");
    top.wait(|screen| screen.contains("lenet is paused now"));
    assert_eq!(cluster.status(&id)["state"], "paused");
    top.press("ry");
    top.wait(|screen| screen.contains("lenet is running now"));
    top.press("?");
    top.wait(|screen| screen.contains("quit; the cluster continues"));
    top.resize(60, 20);
    top.press(" ");
    top.wait(|screen| !screen.contains("the cluster goes on") && screen.contains("cpu "));
    cluster.kill_coordinator();
    top.wait(|screen| screen.contains("is away"));
    cluster.revive_coordinator();
    top.wait(|screen| !screen.contains("is away"));
    top.press("cy");
    top.wait(|screen| screen.contains("lenet is cancelled now"));
    assert_eq!(cluster.status(&id)["state"], "cancelled");
    top.press("q");
    assert_eq!(top.exit_code(), Some(0));
    assert!(!top.is_full_screen() && top.written().ends_with("\x1b[?25h"), "{:?}", top.written());
}

#[test]
fn top_gives_the_terminal_back_when_it_is_interrupted() {
    let cluster = Cluster::start(&[]);
    let top = || {
        let top = Terminal::nadgrid(80, 20, &["--coordinator", &cluster.url, "top"], &[]);
        top.wait(|screen| screen.contains("no sweeps yet"));
        assert!(top.is_full_screen());
        top
    };
    let gone = |mut top: Terminal| {
        assert_eq!(top.exit_code(), Some(130));
        let screen = top.wait(|screen| screen.contains("error: interrupted"));
        assert!(!top.is_full_screen() && !screen.contains("no sweeps yet"), "{screen}");
    };
    let typed = top();
    typed.press("\x03");
    gone(typed);
    let signalled = top();
    assert!(Command::new("kill").arg(signalled.id().to_string()).status().unwrap().success());
    gone(signalled);
}

#[test]
fn top_is_told_once_where_there_is_no_terminal() {
    let mut cluster = Cluster::start(&[]);
    assert_eq!(cluster.nadgrid_ok(&["top"]), "there are no sweeps yet\n\nno worker is connected");
    cluster.add_worker(&["--slots", "1", "--name", "alpha"]);
    let id = cluster.submit("lenet.toml", &SHORT);
    cluster.digest(&id);
    let told = cluster.nadgrid_ok(&["top"]);
    assert!(told.contains(&id) && told.contains("256/256") && told.contains("alpha"), "{told}");
    assert!(!told.contains('\x1b'), "{told}");
    let told = json(&cluster.nadgrid_ok(&["top", "--json"]));
    assert_eq!(
        (&told["coordinator"], &told["sweeps"][0]["jobs"][0]["members_done"]),
        (&cluster.url.clone().into(), &256.into())
    );
    assert_eq!((&told["workers"][0]["name"], &told["workers"][0]["members_done"]), (&"alpha".into(), &256.into()));
    let mut once = Terminal::nadgrid(100, 30, &["--coordinator", &cluster.url, "top", "--once"], &[]);
    assert_eq!(once.exit_code(), Some(0));
    once.wait(|screen| screen.contains("256/256"));
    assert!(!once.written().contains('\x1b'), "{:?}", once.written());
}

#[test]
fn a_spec_that_init_writes_can_be_planned_and_submitted() {
    let folder = tempfile::tempdir().unwrap();
    let init =
        |arguments: &[&str]| command("nadgrid").current_dir(&folder).arg("init").args(arguments).output().unwrap();
    let file = folder.path().join("sweep.toml");
    let file = file.to_str().unwrap();
    let output = init(&["--experiment", "nads", "--experiment", "directional", "--architecture", "logreg"]);
    assert!(
        output.status.success() && text(&output.stderr).contains("`nadgrid plan sweep.toml`"),
        "{}",
        text(&output.stderr)
    );
    let planned = nadgrid(&["plan", file]);
    let told = text(&planned.stdout);
    assert!(planned.status.success() && told.contains("directional") && told.contains("logreg"), "{told}");
    let cluster = Cluster::start(&[]);
    cluster.nadgrid_ok(&["submit", file]);

    std::fs::write(file, "mine").unwrap();
    let output = init(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("--force"), "{}", text(&output.stderr));
    assert_eq!(std::fs::read_to_string(file).unwrap(), "mine");
    assert!(init(&["--force"]).status.success());
    assert!(std::fs::read_to_string(file).unwrap().contains("[nads]"));

    let output = init(&["-"]);
    let mut plan = command("nadgrid").args(["plan", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut plan.stdin.take().unwrap(), &output.stdout).unwrap();
    let planned = plan.wait_with_output().unwrap();
    assert!(planned.status.success() && text(&planned.stdout).contains("lenet"), "{}", text(&planned.stdout));
    assert_eq!(init(&["--experiment", "margin", "x.toml"]).status.code(), Some(2));
}

#[test]
fn doctor_tells_what_works_and_what_does_not() {
    let output = command("nadgrid").args(["doctor", "--json"]).output().unwrap();
    let told = json(&text(&output.stdout));
    assert!(output.status.success() && told["problems"] == 0, "{told:#}");
    let level = |told: &serde_json::Value, check: &str| {
        let findings = told["findings"].as_array().unwrap().iter();
        let mut found = findings.filter(|finding| finding["check"] == check).map(|finding| finding["level"].clone());
        found.next().unwrap_or_else(|| panic!("{check} is not in {told:#}"))
    };
    for check in ["nadgrid", "nadgrid-coordinator", "nadgrid-worker", "libtorch", "devices", "computation", "processor"]
    {
        assert_eq!(level(&told, check), "ok", "{check}: {told:#}");
    }
    for check in ["memory", "current folder", "data folder", "temporary folder", "open files", "port"] {
        assert!(["ok", "warning"].contains(&level(&told, check).as_str().unwrap()), "{check}: {told:#}");
    }
    let empty = tempfile::tempdir().unwrap();
    let output = command("nadgrid").arg("doctor").env("NADGRID_BIN_DIR", empty.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stdout);
    assert!(told.contains("problem nadgrid-worker") && told.contains("→ build it with `cargo build"), "{told}");
    assert!(text(&output.stderr).contains("error: 2 of these checks failed"), "{}", text(&output.stderr));

    let cluster = Cluster::start(&[]);
    cluster.submit("lenet.toml", &SHORT);
    let told = json(&cluster.nadgrid_ok(&["doctor", "--json"]));
    for check in ["coordinator", "access", "its version", "its clock"] {
        assert_eq!(level(&told, check), "ok", "{check}: {told:#}");
    }
    let output = nadgrid(&["--coordinator", "http://127.0.0.1:1", "doctor"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("problem coordinator"), "{}", text(&output.stdout));
}

/// A worker that the loader cannot start is told apart from one that is missing.
#[test]
fn doctor_names_a_libtorch_that_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let worker =
        "#!/bin/sh\necho 'error while loading shared libraries: libtorch_cpu.so: cannot open it' >&2\nexit 127\n";
    for (name, script) in
        [("nadgrid-worker", worker), ("nadgrid-coordinator", "#!/bin/sh\necho nadgrid-coordinator 0.0.0\n")]
    {
        let path = folder.path().join(name);
        std::fs::write(&path, script).unwrap();
        assert!(Command::new("chmod").arg("+x").arg(&path).status().unwrap().success());
    }
    let output = command("nadgrid").arg("doctor").env("NADGRID_BIN_DIR", folder.path()).output().unwrap();
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("warning nadgrid-coordinator 0.0.0"), "{told}");
    assert!(told.contains("problem libtorch") && told.contains("LD_LIBRARY_PATH"), "{told}");
}

#[test]
fn completions_complete_in_bash() {
    let script = "source <(\"$0\" completions bash)\nCOMP_WORDS=(nadgrid do)\nCOMP_CWORD=1\n\
                  _nadgrid nadgrid do nadgrid\necho \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    let output = bash.arg("-c").arg(script).arg(command("nadgrid").get_program()).output().unwrap();
    assert_eq!(text(&output.stdout).trim(), "doctor", "{}", text(&output.stderr));
    assert_eq!(nadgrid(&["completions", "tcsh"]).status.code(), Some(2));
}

/// Every exit code of `nadgrid --help`, but 5.
#[test]
fn exit_codes_are_as_they_are_told() {
    let cluster = Cluster::start(&[]);
    let code = |output: &Output, expected: i32, words: &[&str]| {
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(expected), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said} lacks one of {words:?}");
    };
    code(&cluster.nadgrid(&["list"]), 0, &["`nadgrid submit SPEC`"]);
    code(&cluster.nadgrid(&["status", "none"]), 1, &["error: ", "none", "`nadgrid list`"]);
    code(&nadgrid(&["list", "--no-such-flag"]), 2, &["--no-such-flag"]);
    let folder = tempfile::tempdir().unwrap();
    let spec = folder.path().join("wrong.toml");
    std::fs::write(&spec, "name = ''\narchitectures = ['lennet']\n[nads]\nnetworks = 2\n").unwrap();
    let output = nadgrid(&["plan", spec.to_str().unwrap()]);
    code(&output, 2, &["wrong.toml: the spec is refused: line 1, column 8: name", "did you mean \"lenet\""]);
    assert_eq!(text(&output.stderr).lines().count(), 2, "{}", text(&output.stderr));
    code(
        &nadgrid(&["--coordinator", "http://127.0.0.1:1", "list"]),
        3,
        &["cannot be reached", "nadgrid-coordinator --data"],
    );
    let id = cluster.submit("lenet.toml", &LONG);
    cluster.nadgrid_ok(&["cancel", &id]);
    code(&cluster.nadgrid(&["watch", &id]), 4, &["was cancelled", "nadgrid explain"]);
    let open = cluster.submit("lenet.toml", &LONG);
    let mut watch = Terminal::nadgrid(80, 20, &["--coordinator", &cluster.url, "watch", &open], &[]);
    watch.wait(|screen| screen.contains("none connected"));
    watch.press("\x03");
    assert_eq!(watch.exit_code(), Some(130));
    watch.wait(|screen| screen.contains("error: interrupted") && screen.contains("nads/lenet"));

    let tokens = folder.path().join("tokens.toml");
    let hash = nadgrid_proto::access::Secret::new("a-token-of-somebody".to_owned()).digest();
    std::fs::write(&tokens, format!("[[token]]\nname = \"ada\"\nrole = \"user\"\nblake3 = \"{hash}\"\n")).unwrap();
    let guarded = Cluster::start(&["--tokens", tokens.to_str().unwrap()]);
    code(&guarded.nadgrid(&["list"]), 6, &["--token-file", "docs/security.md"]);
    let output = guarded.nadgrid(&["doctor"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("problem access"), "{}", text(&output.stdout));
}

/// Exit code 5: what a worker made up is found out.
#[tokio::test]
async fn other_bits_have_an_exit_code_of_their_own() {
    let spec = "name = 'lie'\narchitectures = ['logreg']\n[nads]\nnetworks = 4\nblock_size = 4\n";
    let mut cluster = Cluster::start(&[]);
    cluster.add_worker(&["--slots", "1"]);
    let mut peer = Peer::of(&cluster).await;
    let honest = peer.submit(spec, "honest").await.unwrap().sweep.unwrap().id;
    cluster.digest(&honest);
    // The class of the programs that were built, so that the lie is of the same.
    let class = peer.sweeps.get(v1::GetRequest { sweep_id: honest }).await.unwrap().into_inner().numerics_class;
    cluster.workers.remove(0).kill();
    let (messages, mut responses) = peer.session(v1::Hello { numerics_class: class.clone(), ..hello() }).await.unwrap();
    let id = peer.submit(&spec.replace("lie", "lie-2"), "lie").await.unwrap().sweep.unwrap().id;
    let shard = assignment(&mut responses).await.shard.unwrap();
    let bytes = partial(4);
    let verdict = peer.upload(v1::PartialHeader { numerics_class: class, ..header(&shard, &bytes) }, &bytes).await;
    assert_eq!(verdict.unwrap(), v1::Verdict::Committed);
    cluster.digest(&id);
    drop((messages, responses));
    cluster.add_worker(&["--slots", "1"]);
    let output = cluster.nadgrid(&["verify", &id]);
    let (told, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(5), "{told}{said}");
    assert!(told.contains("OTHER BITS") && said.contains("differ from their committed results"), "{told}{said}");
}

/// Ctrl-C ends the programs and takes their state away.
#[test]
fn an_interrupted_run_ends_its_programs() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let spec = lenet();
    let arguments = ["run", &spec, "--set", LONG[0], "--device", "cpu", "--out", out.to_str().unwrap()];
    let mut run = Terminal::nadgrid(100, 30, &arguments, &[("TMPDIR", folder.path().to_str().unwrap())]);
    run.wait(|screen| screen.contains("nads/lenet") && screen.contains("1 connected"));
    run.press("\x03");
    assert_eq!(run.exit_code(), Some(130));
    run.wait(|screen| screen.contains("interrupted: stopping the programs"));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "out"), "{left:?}");
}
