use super::*;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use model::{Pane, ScreenMode};
use nadgrid_client::v1::{Job, JobState, NumericsClass, SweepState, Worker};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

fn sweep(id: &str, name: &str, state: SweepState, done: u64) -> Sweep {
    let job = Job {
        experiment: "nads".into(),
        architecture: "lenet".into(),
        state: JobState::Computing.into(),
        members: 2048,
        members_done: done,
        members_per_second: if done > 0 && state == SweepState::Running { 64.0 } else { 0.0 },
        ..Default::default()
    };
    let computes = job.members_per_second > 0.0;
    Sweep {
        id: id.into(),
        name: name.into(),
        state: state.into(),
        jobs: vec![job],
        workers: 1,
        progress: done as f64 / 2048.0,
        seconds_left: computes.then_some(22.0),
        notices: if computes { vec!["results wait for a place".into()] } else { Vec::new() },
        ..Default::default()
    }
}

fn worker(id: &str, name: &str) -> Worker {
    let class = NumericsClass { device: "cpu".into(), arithmetic: "portable".into(), ..Default::default() };
    Worker {
        id: id.into(),
        name: name.into(),
        connected: true,
        slots: 4,
        leases: 3,
        members_per_second: 64.0,
        rate_of: "nads/lenet".into(),
        numerics_class: Some(class),
        ..Default::default()
    }
}

/// Two open sweeps, an ended one, and two workers of which one has failed.
fn cluster(done: u64) -> ClusterSnapshot {
    let sweeps = vec![
        sweep("s-3", "ended", SweepState::Complete, 2048),
        sweep("s-2", "second", SweepState::Queued, 0),
        sweep("s-1", "first", SweepState::Running, done),
    ];
    let failed = Worker { last_error: "out of memory".into(), ..worker("w-2", "box") };
    ClusterSnapshot { sweeps, workers: vec![failed, worker("w-1", "alpha")] }
}

fn model() -> Model {
    let mut model = Model::new("http://x:7400", false);
    model.take(cluster(0));
    model.take(cluster(640));
    model
}

fn shown(model: &mut Model, columns: u16, lines: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
    terminal.draw(|frame| screen::draw(frame, model, SystemTime::UNIX_EPOCH)).unwrap();
    terminal.backend().to_string()
}

fn press(model: &mut Model, key: KeyCode) -> ScreenCommand {
    model.key(KeyEvent::new(key, KeyModifiers::NONE))
}

fn type_in(model: &mut Model, key: char) -> ScreenCommand {
    press(model, KeyCode::Char(key))
}

#[test]
fn the_screen_tells_sweeps_jobs_and_workers() {
    let mut model = model();
    press(&mut model, KeyCode::Down);
    let screen = shown(&mut model, 120, 30);
    for words in [
        "http://x:7400  2 open, 2 workers, 6 of 8 slots busy",
        "sweeps 2/3",
        "640/2,048",
        "64.0 networks/s",
        "22 s",
        "results wait for a place",
        "first s-1",
        "nads/lenet",
        "workers 2",
        "cpu portable",
        "error: out of memory",
        "?: keys",
    ] {
        assert!(screen.contains(words), "{words} is not in\n{screen}");
    }
    let line = |word: &str| screen.lines().position(|line| line.contains(word)).unwrap();
    // Open sweeps come first, workers by name.
    assert!(line("second ") < line("first ") && line("first ") < line("ended "), "{screen}");
    assert!(line("alpha") < line("box "), "{screen}");
}

#[test]
fn every_size_of_terminal_gets_what_fits() {
    let mut model = model();
    model.mode = ScreenMode::Help;
    for (columns, lines) in
        (1..130).step_by(3).flat_map(|columns| (1..40).step_by(3).map(move |lines| (columns, lines)))
    {
        shown(&mut model, columns, lines);
    }
    model.mode = ScreenMode::Looking;
    let screen = shown(&mut model, 60, 20);
    for words in ["second", "first", "31%", "64.0/s", "alpha", "leases"] {
        assert!(screen.contains(words), "{words} is not in\n{screen}");
    }
    let mut empty = Model::new("http://x:7400", true);
    let screen = shown(&mut empty, 80, 20);
    assert!(
        screen.contains("no sweeps yet") && screen.contains("no workers: start one with `nadgrid-worker --coordinator"),
        "{screen}"
    );
}

#[test]
fn an_action_is_done_after_a_yes_and_not_else() {
    let mut model = model();
    assert_eq!(type_in(&mut model, 'c'), ScreenCommand::Nothing);
    assert_eq!(model.mode, ScreenMode::Confirm(SweepAction::Cancel, "s-2".into(), "second".into()));
    let screen = shown(&mut model, 100, 30);
    assert!(screen.contains("Cancel second?") && screen.contains("y: yes"), "{screen}");
    // The sweep moves, the question stays with it.
    model.take(ClusterSnapshot::default());
    assert_eq!(type_in(&mut model, 'y'), ScreenCommand::Act(SweepAction::Cancel, "s-2".into()));
    assert_eq!(model.mode, ScreenMode::Looking);
    model.take(cluster(640));
    for no in ['n', 'q', 'x'] {
        type_in(&mut model, 'p');
        assert_eq!((type_in(&mut model, no), &model.mode), (ScreenCommand::Nothing, &ScreenMode::Looking), "{no}");
    }
    model.acted(SweepAction::Cancel, Ok(&sweep("s-2", "second", SweepState::Cancelled, 0)));
    assert!(shown(&mut model, 100, 30).contains("second is cancelled now"));
    // The answer counts before the cluster is asked again.
    assert_eq!(model.sweeps[0].state(), SweepState::Cancelled);
    model.acted(SweepAction::Pause, Err(&Error::NotFound("no sweep s-2".into())));
    assert!(shown(&mut model, 100, 30).contains("cannot pause it: no sweep s-2"));
}

#[test]
fn what_would_change_nothing_is_not_asked() {
    let mut model = model();
    type_in(&mut model, 'r');
    assert!(model.mode == ScreenMode::Looking && shown(&mut model, 100, 30).contains("second is not paused"));
    press(&mut model, KeyCode::End);
    type_in(&mut model, 'c');
    assert!(model.mode == ScreenMode::Looking && shown(&mut model, 100, 30).contains("ended is complete already"));
    let mut empty = Model::new("http://x:7400", false);
    assert_eq!((type_in(&mut empty, 'c'), empty.mode), (ScreenCommand::Nothing, ScreenMode::Looking));
}

#[test]
fn a_selection_stays_on_its_sweep() {
    let mut model = model();
    press(&mut model, KeyCode::Down);
    assert_eq!(model.selected().unwrap().id, "s-1");
    let mut newer = cluster(700);
    newer.sweeps.insert(0, sweep("s-9", "newest", SweepState::Running, 0));
    model.take(newer);
    assert_eq!((model.sweep_place(), model.selected().unwrap().id.as_str()), (Some(2), "s-1"));
    for _ in 0..9 {
        press(&mut model, KeyCode::Down);
    }
    assert_eq!(model.selected().unwrap().id, "s-3");
    press(&mut model, KeyCode::Tab);
    press(&mut model, KeyCode::Down);
    assert_eq!((model.pane, model.worker_place(), model.sweep_place()), (Pane::Workers, Some(1), Some(3)));
}

#[test]
fn keys_end_it_and_a_coordinator_that_is_away_is_told() {
    let mut model = model();
    model.away("connection refused".into());
    let screen = shown(&mut model, 100, 30);
    // What was known last stays.
    assert!(screen.contains("is away (connection refused), trying again") && screen.contains("second"), "{screen}");
    model.take(cluster(650));
    assert!(!shown(&mut model, 100, 30).contains("is away"));
    assert_eq!(type_in(&mut model, '?'), ScreenCommand::Nothing);
    assert!(shown(&mut model, 100, 30).contains("pause the sweep"));
    // The key that closes the help does nothing else.
    assert_eq!(type_in(&mut model, 'q'), ScreenCommand::Nothing);
    assert_eq!(type_in(&mut model, 'q'), ScreenCommand::Quit);
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(model.key(interrupt), ScreenCommand::Interrupt);
}

#[test]
fn it_is_told_once_where_there_is_no_terminal() {
    let snapshot = cluster(640);
    let text = once(&snapshot);
    for words in ["s-1", "first", "640/2,048", "nads/lenet", "alpha", "out of memory"] {
        assert!(text.contains(words), "{words} is not in\n{text}");
    }
    assert!(!text.contains('\x1b'));
    let json = serde_json::to_value(Document::new("http://x", &snapshot)).unwrap();
    assert_eq!((&json["coordinator"], &json["workers"][0]["name"]), (&"http://x".into(), &"box".into()));
    let first = &json["sweeps"][2];
    assert_eq!((&first["id"], &first["jobs"][0]["members_done"]), (&"s-1".into(), &640.into()));
    assert_eq!((&first["progress"], &first["seconds_left"]), (&0.3125.into(), &22.0.into()));
    assert!(once(&ClusterSnapshot::default()).contains("no worker is connected"));
}
