use super::*;
use crate::compute::ShardWatcher;
use bytes::Bytes;
use nadgrid_core::ids::Digest;
use nadgrid_core::numerics::{NumericsClass, Precision};

fn shard(first_block: u64) -> ShardKey {
    ShardKey::of_tests(0, first_block, 1)
}

fn task(first_block: u64) -> Task {
    Task::new(shard(first_block), "", "nads/lenet".into(), Vec::new())
}

fn names(reports: &[TaskReport]) -> Vec<&'static str> {
    let name = |report: &TaskReport| match report {
        TaskReport::Progress { .. } => "progress",
        TaskReport::Computed { .. } => "computed",
        TaskReport::Failed { .. } => "failure",
        TaskReport::Result(_) => "result",
    };
    reports.iter().map(name).collect()
}

/// A result of a task that is small enough for the session.
fn small_result(task: &Arc<Task>) -> Arc<ComputedShard> {
    let class = NumericsClass {
        device: "cpu".into(),
        arithmetic: "portable".into(),
        evaluation: "patch".into(),
        libtorch: "2".into(),
        precision: "fp32".into(),
        kernels: 1,
    };
    Arc::new(ComputedShard {
        task: task.clone(),
        class,
        bytes: Bytes::new(),
        digest: Digest::of(b""),
        seconds: 0.0,
        begin_seconds: 0.0,
        phases: Vec::new(),
    })
}

#[test]
fn a_shard_passes_its_stages_and_each_is_told_once() {
    let table = TaskTable::new(1);
    table.assign(task(0));
    let held = table.next().unwrap();
    assert!(table.reports(true).is_empty());
    held.block_done();
    assert!(table.reports(false).is_empty());
    assert_eq!(names(&table.reports(true)), ["progress"]);
    assert!(table.reports(true).is_empty());
    assert!(table.computed(&held, None));
    assert_eq!(names(&table.reports(false)), ["computed"]);
    assert_eq!(table.held(), [shard(0)]);
    assert_eq!(names(&table.reports(false)), ["computed"], "a new session hears it again");
    table.uploaded(&held);
    assert!(table.held().is_empty() && table.reports(true).is_empty());
}

/// A coordinator that gives out shards without end fills no memory, and names in them reach no log as they are.
#[test]
fn what_is_held_has_an_end() {
    let table = TaskTable::new(1);
    (0..23).for_each(|block| table.assign(task(block)));
    assert!(!table.is_full());
    table.assign(task(23));
    assert!(table.is_full());
    table.revoke(&shard(0));
    assert!(!table.is_full());
    assert_eq!(Fault::new(FailureKind::Spec, "a\u{1b}[2J\nb").message, "a\u{fffd}[2J\u{fffd}b");
}

/// A block may take hours: how far it is gets told, but not with every network.
#[test]
fn progress_within_a_block_is_told_now_and_then() {
    let table = TaskTable::new(1);
    table.assign(task(0));
    let held = table.next().unwrap();
    let told = || match table.reports(true).pop() {
        Some(TaskReport::Progress { stand, .. }) => Some((stand.blocks_done, stand.fraction)),
        None => None,
        other => panic!("{other:?}"),
    };
    assert_eq!(told(), None, "no block has begun");
    held.begun();
    assert_eq!((told(), told()), (Some((0, 0.0)), None));
    held.advance(0.25);
    assert_eq!(told(), None);
    table.lock().tasks[0].reported.as_mut().unwrap().at -= WITHIN_A_BLOCK;
    assert_eq!((told(), told()), (Some((0, 0.25)), None));
    held.block_done();
    assert_eq!(told(), Some((1, 0.0)), "a block is news at once");
}

#[test]
fn a_failure_is_held_until_it_is_told() {
    let table = TaskTable::new(1);
    table.assign(task(0));
    let held = table.next().unwrap();
    table.failed(&held, Fault::new(FailureKind::Task, "overflow"));
    assert_eq!(table.held(), [shard(0)]);
    assert_eq!(names(&table.reports(false)), ["failure"]);
    assert!(table.held().is_empty());
}

#[test]
fn a_revoked_shard_can_come_back_while_its_slot_still_computes() {
    let table = TaskTable::new(1);
    table.assign(task(0));
    table.assign(task(0));
    let first = table.next().unwrap();
    assert!(table.revoke(&shard(0)) && !table.revoke(&shard(0)));
    assert!(first.is_cancelled());
    table.assign(task(0));
    assert!(!table.computed(&first, None), "its result is not wanted");
    let second = table.next().unwrap();
    assert!(!second.is_cancelled() && table.computed(&second, None));
}

#[test]
fn a_queued_shard_is_revoked_unseen() {
    let table = TaskTable::new(1);
    table.assign(task(0));
    table.assign(task(1));
    table.revoke(&shard(0));
    assert_eq!(table.next().unwrap().shard, shard(1));
}

#[test]
fn slots_pause_while_too_many_results_wait_for_their_upload() {
    let table = Arc::new(TaskTable::new(1));
    let mut waiting = Vec::new();
    for block in 0..3 {
        table.assign(task(block));
        let held = table.next().unwrap();
        table.computed(&held, None);
        waiting.push(held);
    }
    table.assign(task(9));
    let slot = std::thread::spawn({
        let table = table.clone();
        move || table.next().map(|task| task.shard.clone())
    });
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(!slot.is_finished());
    table.uploaded(&waiting[0]);
    assert_eq!(slot.join().unwrap(), Some(shard(9)));
}

#[tokio::test]
async fn closing_keeps_results_and_drops_the_rest() {
    let table = TaskTable::new(2);
    for block in 0..3 {
        table.assign(task(block));
    }
    let computed = table.next().unwrap();
    let running = table.next().unwrap();
    table.computed(&computed, None);
    table.close();
    assert!(running.is_cancelled() && !computed.is_cancelled());
    assert_eq!(table.held(), [shard(0)]);
    assert!(table.next().is_none());
    table.assign(task(7));
    assert_eq!(table.held(), [shard(0)]);
    let uploads = table.all_uploaded();
    let report = async { table.uploaded(&computed) };
    tokio::join!(uploads, report);
    assert!(table.held().is_empty());
}

fn snapshot(epochs: u32) -> ShardSnapshot {
    ShardSnapshot { bytes: vec![epochs as u8], members_done: 0, epochs, precision: Precision::Fp32 }
}

fn checkpointing(seconds: u64) -> TaskTable {
    TaskTable::new(2).checkpointing(std::time::Duration::from_secs(seconds))
}

/// Draining begins nothing, and hurries checkpoints; what is queued goes back when it closes.
#[tokio::test]
async fn draining_ends_what_is_running() {
    let table = checkpointing(3600);
    (0..3).for_each(|block| table.assign(task(block)));
    let first = table.next().unwrap();
    let second = table.next().unwrap();
    assert!(!first.wants_checkpoint(), "an hour is not over");
    table.drain();
    assert!(first.wants_checkpoint() && second.wants_checkpoint() && !first.is_cancelled());
    table.assign(task(7));
    assert_eq!(table.held(), [shard(0), shard(1), shard(2)]);
    table.computed(&first, None);
    table.failed(&second, Fault::new(FailureKind::Task, "overflow"));
    let end = async {
        table.uploaded(&first);
        assert_eq!(names(&table.reports(false)), ["failure"]);
    };
    tokio::join!(table.idle(), end);
    assert_eq!(table.held(), [shard(2)]);
    table.close();
    assert!(table.held().is_empty() && table.next().is_none());
}

/// Of the checkpoints that are handed out while one is on its way, the newest follows.
#[tokio::test]
async fn only_the_newest_checkpoint_waits() {
    let table = checkpointing(0);
    table.assign(task(0));
    let running = table.next().unwrap();
    assert!(running.wants_checkpoint());
    running.take_checkpoint(snapshot(1));
    let (of, first) = table.next_checkpoint().await;
    assert!(Arc::ptr_eq(&of, &running) && first == snapshot(1));
    running.take_checkpoint(snapshot(2));
    running.take_checkpoint(snapshot(3));
    table.checkpoint_done(&running, true);
    assert_eq!(table.next_checkpoint().await.1, snapshot(3));
    table.checkpoint_done(&running, true);
    // A result makes them superfluous.
    running.take_checkpoint(snapshot(4));
    table.computed(&running, None);
    table.assign(task(1));
    let other = table.next().unwrap();
    other.take_checkpoint(snapshot(5));
    assert_eq!(table.next_checkpoint().await.1, snapshot(5));
    table.checkpoint_done(&other, true);
    table.unwanted(&other);
    assert!(other.is_cancelled() && table.held() == [shard(0)]);
}

#[test]
fn a_checkpoint_that_did_not_arrive_is_due_again() {
    let table = checkpointing(1);
    table.assign(task(0));
    let running = table.next().unwrap();
    assert!(!running.wants_checkpoint());
    running.take_checkpoint(snapshot(1));
    assert!(!running.wants_checkpoint());
    table.checkpoint_done(&running, false);
    assert!(running.wants_checkpoint());
}

/// After draining the last checkpoint goes out before the goodbye; on a plain end nothing is waited for.
#[tokio::test]
async fn the_last_checkpoint_of_a_drained_shard_goes_out() {
    for drained in [true, false] {
        let table = checkpointing(0);
        table.assign(task(0));
        let running = table.next().unwrap();
        running.take_checkpoint(snapshot(1));
        if drained {
            table.drain();
        }
        table.close();
        assert!(running.is_cancelled() && table.held().is_empty());
        let bring = async {
            if drained {
                let (of, last) = table.next_checkpoint().await;
                assert_eq!(last, snapshot(1));
                table.checkpoint_done(&of, true);
            }
        };
        tokio::join!(table.all_uploaded(), bring);
    }
}

#[tokio::test]
async fn a_lost_device_is_heard_of() {
    let table = TaskTable::new(1);
    assert_eq!(table.lost(), None);
    let lose = async { table.lose("an illegal memory access") };
    tokio::join!(table.is_lost(), lose);
    table.lose("what follows from it");
    assert_eq!(table.lost().as_deref(), Some("an illegal memory access"));
}

/// The coordinator gives a shard out once more, to compare, before its acknowledgement of the first result is here.
#[test]
fn a_computed_shard_that_is_assigned_once_more_is_computed_again() {
    let table = TaskTable::new(1);
    table.assign(task(0));
    let first = table.next().unwrap();
    table.computed(&first, None);
    table.assign(task(0));
    table.uploaded(&first);
    let second = table.next().unwrap();
    assert!(second.shard == first.shard && !Arc::ptr_eq(&first, &second));
    // The same where results are told in the session; a refusal is a failure.
    table.computed(&second, Some(small_result(&second)));
    assert_eq!(names(&table.reports(false)), ["result"]);
    table.assign(task(0));
    table.answered(&shard(0), None);
    let third = table.next().unwrap();
    table.computed(&third, Some(small_result(&third)));
    table.answered(&shard(0), Some("no"));
    assert_eq!(names(&table.reports(false)), ["failure"]);
    assert!(table.held().is_empty());
}
