use super::*;
use crate::ids::{JobIndex, SweepId};
use crate::numerics::{NumericsClass, Precision};
use crate::scheduler::{FairShare, JobRef, Settings, Verdict, WorkerProfile};
use crate::spec::{Inputs, Spec};

const NOW: Time = Time(1_000_000);

/// Workers are numbers, callers are words, and a partial says what it is.
struct Numbers;

impl ShellPeers for Numbers {
    type Outbox = u32;
    type Caller = &'static str;
    type Checks = ();
    type Question = &'static str;

    fn has_gone(caller: &&'static str) -> bool {
        *caller == "gone"
    }

    fn check_partial(_: &[u8], digest: Digest, _: Payload, _: u64) -> Result<Digest, String> {
        Ok(digest)
    }
}

fn class() -> NumericsClass {
    NumericsClass {
        device: "cpu".into(),
        arithmetic: "portable".into(),
        evaluation: "patch".into(),
        libtorch: crate::LIBTORCH_VERSION.into(),
        precision: "fp32".into(),
        kernels: 1,
    }
}

fn shell() -> Shell<Numbers> {
    Shell::new(Scheduler::new(Settings::default()), 0, CompactionBounds::default())
}

fn submit(shell: &mut Shell<Numbers>, caller: &'static str) {
    let spec = "name = 't'\narchitectures = ['logreg']\n[nads]\nnetworks = 4096\nblock_size = 4";
    let spec = Box::new(Spec::from_toml(spec).unwrap());
    let event = |request| Event::Submit {
        request,
        id: SweepId::new("s"),
        owner: String::new(),
        key: None,
        share: FairShare::default(),
        spec,
        inputs: Inputs::new(),
    };
    shell.order(event, caller, NOW, &mut ());
}

fn attach(shell: &mut Shell<Numbers>, outbox: u32) -> SessionNumber {
    let profile = WorkerProfile {
        name: "w".into(),
        class: class(),
        precisions: vec![Precision::Fp32],
        slots: 1,
        version: "0".into(),
    };
    let joining = JoiningWorker { worker: WorkerId::new("w"), profile, held: Vec::new(), outbox };
    shell.attach(joining, NOW, &mut ()).session
}

/// Everything that follows from what has happened, once it is written.
fn outputs(shell: &mut Shell<Numbers>) -> Vec<ShellOutput<Numbers>> {
    let batch = shell.batch();
    shell.written(batch, &mut ());
    std::iter::from_fn(|| shell.next_output()).collect()
}

fn assignments(outputs: Vec<ShellOutput<Numbers>>) -> Vec<ShardAssignment> {
    let of = |output| match output {
        ShellOutput::Assign { assignment, .. } => Some(assignment),
        _ => None,
    };
    outputs.into_iter().filter_map(of).collect()
}

fn result(assigned: &ShardAssignment, data: &[u8]) -> WorkerMessage {
    WorkerMessage::Result(Box::new(InlineResult {
        shard: NamedShard::of(assigned.shard.clone(), &assigned.blocks),
        class: Some(class()),
        data: data.to_vec(),
        digest: Digest::of(b"bytes").to_string(),
        seconds: 1.0,
        begin_seconds: 0.0,
        steps: Vec::new(),
    }))
}

fn verdicts(outputs: &[ShellOutput<Numbers>]) -> Vec<Result<Verdict, String>> {
    let of = |output: &ShellOutput<Numbers>| match output {
        ShellOutput::AnswerResult { answer, .. } => Some(answer.verdict.clone()),
        _ => None,
    };
    outputs.iter().filter_map(of).collect()
}

#[test]
fn nothing_comes_of_a_batch_before_it_is_written() {
    let mut shell = shell();
    submit(&mut shell, "user");
    shell.question("what is there?");
    let batch = shell.batch();
    assert_eq!(batch.records().len(), 1);
    assert!(shell.next_output().is_none());
    shell.written(batch, &mut ());
    assert_eq!(shell.journalled(), 1);
    let outputs: Vec<_> = std::iter::from_fn(|| shell.next_output()).collect();
    let answer = |output: &ShellOutput<Numbers>| {
        matches!(output, ShellOutput::Answer { caller: "user", answer: Answer::Submitted { created: true, .. }, .. })
    };
    assert_eq!(outputs.iter().filter(|output| answer(output)).count(), 1);
    assert!(matches!(outputs.last(), Some(ShellOutput::Question("what is there?"))));
}

#[test]
fn what_was_given_up_is_not_done() {
    let mut shell = shell();
    submit(&mut shell, "gone");
    assert!(shell.batch().records().is_empty());
    assert!(!shell.scheduler().is_known(&SweepId::new("s")));
}

#[test]
fn only_the_first_assignment_of_a_job_in_a_session_says_what_the_job_is() {
    let mut shell = shell();
    submit(&mut shell, "user");
    let session = attach(&mut shell, 1);
    let first = assignments(outputs(&mut shell));
    assert!(first.len() == 1 && first[0].job.is_some());
    shell.message(WorkerId::new("w"), session, result(&first[0], b"bytes"), NOW, &mut ());
    let outputs = outputs(&mut shell);
    assert_eq!(verdicts(&outputs), [Ok(Verdict::Committed)]);
    let second = assignments(outputs);
    assert!(second.len() == 1 && second[0].job.is_none());
    attach(&mut shell, 2);
    // What it holds is given to it anew, with all that belongs to it.
    assert!(assignments(super::tests::outputs(&mut shell)).iter().all(|assigned| assigned.job.is_some()));
}

#[test]
fn what_an_older_session_says_is_nothing_to_a_newer_one() {
    let mut shell = shell();
    submit(&mut shell, "user");
    let old = attach(&mut shell, 1);
    let assigned = assignments(outputs(&mut shell)).remove(0);
    let worker = WorkerId::new("w");
    assert_eq!(attach(&mut shell, 2), SessionNumber(old.0 + 1));
    drop(outputs(&mut shell));
    shell.message(worker.clone(), old, result(&assigned, b"bytes"), NOW, &mut ());
    shell.detach(worker.clone(), old, true, NOW, &mut ());
    assert_eq!(shell.batch().outputs(), 0);
    assert_eq!(shell.session(&worker).map(|session| session.outbox), Some(2));
}

#[test]
fn a_result_that_is_not_what_it_says_is_refused_once_the_batch_is_written() {
    let mut shell = shell();
    submit(&mut shell, "user");
    let session = attach(&mut shell, 1);
    let assigned = assignments(outputs(&mut shell)).remove(0);
    shell.message(WorkerId::new("w"), session, result(&assigned, b"other bytes"), NOW, &mut ());
    let [Err(why)] = &verdicts(&outputs(&mut shell))[..] else { panic!("it is refused") };
    assert!(why.starts_with("digest = "), "{why}");
    let unknown =
        NamedShard { job: JobRef::new(&SweepId::new("other"), JobIndex(0)), first_block: u64::MAX, blocks: 2 };
    let WorkerMessage::Result(mut result) = result(&assigned, b"bytes") else { return };
    result.shard = unknown.clone();
    shell.message(WorkerId::new("w"), session, WorkerMessage::Result(result), NOW, &mut ());
    assert_eq!(verdicts(&outputs(&mut shell)), [Ok(Verdict::NotNeeded)]);
    assert!(unknown.range().is_empty());
}

#[test]
fn a_journal_is_compacted_when_it_is_much_longer_than_a_snapshot() {
    let mut shell: Shell<Numbers> =
        Shell::new(Scheduler::new(Settings::default()), 11, CompactionBounds { beyond: 10, times: 2 });
    assert!(shell.is_compaction_due());
    shell.not_compacted();
    assert!(!shell.is_compaction_due());
    submit(&mut shell, "user");
    drop(outputs(&mut shell));
    assert_eq!((shell.journalled(), shell.is_compaction_due()), (12, false));
    shell.compacted(1);
    assert_eq!((shell.journalled(), shell.is_compaction_due()), (1, false));
}
