use super::*;
use nadgrid_client::v1;
use nadgrid_core::cost::{Rates, Sizing};
use nadgrid_core::plan::Plan;
use nadgrid_core::spec::{Inputs, Spec};
use nadgrid_figures::{SingularValueRatio, SubspaceOverlap};

#[test]
fn columns_are_in_line_and_numbers_to_the_right() {
    let rows = [vec!["lenet".to_owned(), "2,048".to_owned()], vec!["x".to_owned(), "7".to_owned()]];
    assert_eq!(table(&["name", ">networks"], rows), "name   networks\nlenet     2,048\nx             7");
}

#[test]
fn a_local_plan_counts_what_will_be_done_and_says_that_it_is_local() {
    let spec = Spec::from_toml("name = 'x'\narchitectures = ['lenet']\n[nads]\nnetworks = 2048").unwrap();
    let mut rates = Rates::default();
    let shown = plan(&PlanView::local(&Plan::new(&spec, &Inputs::new(), &rates, &Sizing::default(), 2)));
    for words in [
        "experiment",
        "nads",
        "lenet",
        "members",
        "2,048",
        "4,194,304",
        "4.0 MiB",
        "2 slots of this machine",
        "assumed rate",
        "on one GPU instead: nads/lenet ~",
    ] {
        assert!(shown.contains(words), "{shown} lacks {words}");
    }
    rates.observe(&spec.jobs(&Inputs::new())[0], 100.0, 10.0);
    let measured = plan(&PlanView::local(&Plan::new(&spec, &Inputs::new(), &rates, &Sizing::default(), 1)));
    assert!(
        measured.contains("total: 3 min 25 s (planned here, for 1 slot of") && !measured.contains("by an assumed rate"),
        "{measured}"
    );
}

#[test]
fn a_coordinators_plan_names_its_workers() {
    let response = v1::PlanResponse { workers: 1, slots: 2, seconds: 3.0, ..Default::default() };
    assert!(plan(&PlanView::remote(&response, "http://x")).contains("on 1 worker of http://x, 2 slots"));
    let response = v1::PlanResponse { slots: 1, ..response };
    let idle = v1::PlanResponse { workers: 0, ..response };
    assert!(plan(&PlanView::remote(&idle, "http://x")).contains("no worker is connected to http://x"));
}

#[test]
fn sweeps_and_workers_have_a_row_each() {
    let sweep = v1::Sweep {
        id: "s-1".into(),
        name: "lenet".into(),
        state: v1::SweepState::Failed.into(),
        message: "a shard is poison".into(),
        digest: "0123456789abcdef".into(),
        progress: 0.2,
        seconds_left: Some(185.0),
        inputs: vec![v1::Input { name: "nads.npy".into(), size: 4 << 20, digest: String::new() }],
        jobs: vec![v1::Job { members: 2048, members_done: 512, experiment: "nads".into(), ..Default::default() }],
        ..Default::default()
    };
    let list = sweeps(std::slice::from_ref(&sweep), 0.0);
    assert!(
        list.lines().count() == 2 && list.contains("20 %  3 min 5 s  512/2,048") && list.contains("0123456789ab"),
        "{list}"
    );
    let facts = super::sweep(&sweep);
    assert!(
        facts.contains("reason       a shard is poison") && facts.contains("files        1 file, 4.0 MiB"),
        "{facts}"
    );
    let worker = v1::Worker { name: "box".into(), unfit: "wrong bits".into(), silent_ms: 1500, ..Default::default() };
    let shown = workers(&[WorkerView::from(&worker)]);
    assert!(shown.contains("1.5 s ago") && shown.contains("unfit: wrong bits"), "{shown}");
    let transfers_waiting = 3;
    let transfers_waiting_ms = 42_000;
    let transfers = 1;
    let transfer_bytes_per_second = 20_480.0;
    let worker = v1::Worker {
        transfers_waiting,
        transfers_waiting_ms,
        transfers,
        transfer_bytes_per_second,
        ..v1::Worker::default()
    };
    let shown = workers(&[WorkerView::from(&worker)]);
    assert!(shown.contains("1 at 20.0 KiB/s, 3 waiting for 42 s"), "{shown}");
}

#[test]
fn a_comparison_without_numbers_of_networks_says_what_is_missing() {
    let overlaps = vec![SubspaceOverlap { k: 1, overlap: 0.95, chance: 0.001 }];
    let ratio = SingularValueRatio { index: 9, a: 2.0, b: 4.0, ratio: None };
    let bare = Comparison { dimension: 1024, overlaps, singular_values: Vec::new() };
    assert!(!comparison(&bare).contains("singular"));
    let unknown = Comparison { singular_values: vec![ratio], ..bare };
    assert!(comparison(&unknown).contains("--networks-a"));
    let known = SingularValueRatio { ratio: Some(0.99), ..ratio };
    let shown = comparison(&Comparison { singular_values: vec![known], ..unknown });
    assert!(shown.contains("s9") && shown.contains("0.9900") && !shown.contains("--networks-a"), "{shown}");
}
