use super::*;
use crate::compute::Watcher;
use nadgrid_core::numerics::Precision;

fn shard(first_block: u64) -> v1::Shard {
    v1::Shard { sweep_id: "s".into(), job: 0, first_block, blocks: 1 }
}

fn task(first_block: u64) -> Task {
    Task::new(shard(first_block), "", "nads/lenet".into(), Vec::new())
}

fn names(news: &[Message]) -> Vec<&'static str> {
    let name = |message: &Message| match message {
        Message::Progress(_) => "progress",
        Message::Computed(_) => "computed",
        Message::Failure(_) => "failure",
        _ => "other",
    };
    news.iter().map(name).collect()
}

#[test]
fn a_shard_passes_its_stages_and_each_is_told_once() {
    let board = Board::new(1);
    board.assign(task(0));
    let held = board.next().unwrap();
    assert!(board.news(true).is_empty());
    held.block_done();
    assert!(board.news(false).is_empty());
    assert_eq!(names(&board.news(true)), ["progress"]);
    assert!(board.news(true).is_empty());
    assert!(board.computed(&held, None));
    assert_eq!(names(&board.news(false)), ["computed"]);
    assert_eq!(board.held(), [shard(0)]);
    assert_eq!(names(&board.news(false)), ["computed"], "a new session hears it again");
    board.uploaded(&held);
    assert!(board.held().is_empty() && board.news(true).is_empty());
}

/// A coordinator that gives out shards without end fills no memory, and names in them reach no log as they are.
#[test]
fn what_is_held_has_an_end() {
    let board = Board::new(1);
    (0..23).for_each(|block| board.assign(task(block)));
    assert!(!board.is_full());
    board.assign(task(23));
    assert!(board.is_full());
    board.revoke(&shard(0));
    assert!(!board.is_full());
    assert_eq!(Fault::new(v1::FailureKind::Spec, "a\u{1b}[2J\nb").message, "a\u{fffd}[2J\u{fffd}b");
}

/// A block may take hours: how far it is gets told, but not with every network.
#[test]
fn progress_within_a_block_is_told_now_and_then() {
    let board = Board::new(1);
    board.assign(task(0));
    let held = board.next().unwrap();
    let told = || match board.news(true).pop() {
        Some(Message::Progress(v1::Progress { blocks_done, fraction, .. })) => Some((blocks_done, fraction)),
        None => None,
        other => panic!("{other:?}"),
    };
    assert_eq!(told(), None, "no block has begun");
    held.begun();
    assert_eq!((told(), told()), (Some((0, 0.0)), None));
    held.advance(0.25);
    assert_eq!(told(), None);
    board.lock().held[0].told.as_mut().unwrap().at -= WITHIN_A_BLOCK;
    assert_eq!((told(), told()), (Some((0, 0.25)), None));
    held.block_done();
    assert_eq!(told(), Some((1, 0.0)), "a block is news at once");
}

#[test]
fn a_failure_is_held_until_it_is_told() {
    let board = Board::new(1);
    board.assign(task(0));
    let held = board.next().unwrap();
    board.failed(&held, Fault::new(v1::FailureKind::Task, "overflow"));
    assert_eq!(board.held(), [shard(0)]);
    assert_eq!(names(&board.news(false)), ["failure"]);
    assert!(board.held().is_empty());
}

#[test]
fn a_revoked_shard_can_come_back_while_its_lane_still_computes() {
    let board = Board::new(1);
    board.assign(task(0));
    board.assign(task(0));
    let first = board.next().unwrap();
    assert!(board.revoke(&shard(0)) && !board.revoke(&shard(0)));
    assert!(first.is_cancelled());
    board.assign(task(0));
    assert!(!board.computed(&first, None), "its result is not wanted");
    let second = board.next().unwrap();
    assert!(!second.is_cancelled() && board.computed(&second, None));
}

#[test]
fn a_queued_shard_is_revoked_unseen() {
    let board = Board::new(1);
    board.assign(task(0));
    board.assign(task(1));
    board.revoke(&shard(0));
    assert_eq!(board.next().unwrap().shard, shard(1));
}

#[test]
fn lanes_pause_while_too_many_results_wait_for_their_upload() {
    let board = Arc::new(Board::new(1));
    let mut waiting = Vec::new();
    for block in 0..3 {
        board.assign(task(block));
        let held = board.next().unwrap();
        board.computed(&held, None);
        waiting.push(held);
    }
    board.assign(task(9));
    let lane = std::thread::spawn({
        let board = board.clone();
        move || board.next().map(|task| task.shard.clone())
    });
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(!lane.is_finished());
    board.uploaded(&waiting[0]);
    assert_eq!(lane.join().unwrap(), Some(shard(9)));
}

#[tokio::test]
async fn closing_keeps_results_and_drops_the_rest() {
    let board = Board::new(2);
    for block in 0..3 {
        board.assign(task(block));
    }
    let (computed, running) = (board.next().unwrap(), board.next().unwrap());
    board.computed(&computed, None);
    board.close();
    assert!(running.is_cancelled() && !computed.is_cancelled());
    assert_eq!(board.held(), [shard(0)]);
    assert!(board.next().is_none());
    board.assign(task(7));
    assert_eq!(board.held(), [shard(0)]);
    let uploads = board.all_uploaded();
    let report = async { board.uploaded(&computed) };
    tokio::join!(uploads, report);
    assert!(board.held().is_empty());
}

fn snapshot(epochs: u32) -> Snapshot {
    Snapshot { bytes: vec![epochs as u8], members_done: 0, epochs, precision: Precision::Fp32 }
}

fn checkpointing(seconds: u64) -> Board {
    Board::new(2).checkpointing(std::time::Duration::from_secs(seconds))
}

/// Draining begins nothing, and hurries checkpoints; what is queued goes back when it closes.
#[tokio::test]
async fn draining_ends_what_is_running() {
    let board = checkpointing(3600);
    (0..3).for_each(|block| board.assign(task(block)));
    let (first, second) = (board.next().unwrap(), board.next().unwrap());
    assert!(!first.wants_checkpoint(), "an hour is not over");
    board.drain();
    assert!(first.wants_checkpoint() && second.wants_checkpoint() && !first.is_cancelled());
    board.assign(task(7));
    assert_eq!(board.held(), [shard(0), shard(1), shard(2)]);
    board.computed(&first, None);
    board.failed(&second, Fault::new(v1::FailureKind::Task, "overflow"));
    let end = async {
        board.uploaded(&first);
        assert_eq!(names(&board.news(false)), ["failure"]);
    };
    tokio::join!(board.idle(), end);
    assert_eq!(board.held(), [shard(2)]);
    board.close();
    assert!(board.held().is_empty() && board.next().is_none());
}

/// Of the checkpoints that are handed out while one is on its way, the newest follows.
#[tokio::test]
async fn only_the_newest_checkpoint_waits() {
    let board = checkpointing(0);
    board.assign(task(0));
    let running = board.next().unwrap();
    assert!(running.wants_checkpoint());
    running.take_checkpoint(snapshot(1));
    let (of, first) = board.next_checkpoint().await;
    assert!(Arc::ptr_eq(&of, &running) && first == snapshot(1));
    running.take_checkpoint(snapshot(2));
    running.take_checkpoint(snapshot(3));
    board.checkpoint_done(&running, true);
    assert_eq!(board.next_checkpoint().await.1, snapshot(3));
    board.checkpoint_done(&running, true);
    // A result makes them superfluous.
    running.take_checkpoint(snapshot(4));
    board.computed(&running, None);
    board.assign(task(1));
    let other = board.next().unwrap();
    other.take_checkpoint(snapshot(5));
    assert_eq!(board.next_checkpoint().await.1, snapshot(5));
    board.checkpoint_done(&other, true);
    board.unwanted(&other);
    assert!(other.is_cancelled() && board.held() == [shard(0)]);
}

#[test]
fn a_checkpoint_that_did_not_arrive_is_due_again() {
    let board = checkpointing(1);
    board.assign(task(0));
    let running = board.next().unwrap();
    assert!(!running.wants_checkpoint());
    running.take_checkpoint(snapshot(1));
    assert!(!running.wants_checkpoint());
    board.checkpoint_done(&running, false);
    assert!(running.wants_checkpoint());
}

/// After draining the last checkpoint goes out before the goodbye; on a plain end nothing is waited for.
#[tokio::test]
async fn the_last_checkpoint_of_a_drained_shard_goes_out() {
    for drained in [true, false] {
        let board = checkpointing(0);
        board.assign(task(0));
        let running = board.next().unwrap();
        running.take_checkpoint(snapshot(1));
        if drained {
            board.drain();
        }
        board.close();
        assert!(running.is_cancelled() && board.held().is_empty());
        let bring = async {
            if drained {
                let (of, last) = board.next_checkpoint().await;
                assert_eq!(last, snapshot(1));
                board.checkpoint_done(&of, true);
            }
        };
        tokio::join!(board.all_uploaded(), bring);
    }
}

#[tokio::test]
async fn a_lost_device_is_heard_of() {
    let board = Board::new(1);
    assert_eq!(board.lost(), None);
    let lose = async { board.lose("an illegal memory access") };
    tokio::join!(board.is_lost(), lose);
    board.lose("what follows from it");
    assert_eq!(board.lost().as_deref(), Some("an illegal memory access"));
}

/// The coordinator gives a shard out once more, to compare, before its acknowledgement of the first result is here.
#[test]
fn a_computed_shard_that_is_assigned_once_more_is_computed_again() {
    let board = Board::new(1);
    board.assign(task(0));
    let first = board.next().unwrap();
    board.computed(&first, None);
    board.assign(task(0));
    board.uploaded(&first);
    let second = board.next().unwrap();
    assert!(second.shard == first.shard && !Arc::ptr_eq(&first, &second));
    // The same where results are told in the session; a refusal is a failure.
    let result = v1::ShardResult { shard: Some(shard(0)), ..v1::ShardResult::default() };
    board.computed(&second, Some(result.clone()));
    assert_eq!(names(&board.news(false)), ["other"]);
    board.assign(task(0));
    let answer =
        |verdict: v1::Verdict| v1::Answer { shard: Some(shard(0)), verdict: verdict.into(), ..v1::Answer::default() };
    board.answered(&answer(v1::Verdict::Committed));
    let third = board.next().unwrap();
    board.computed(&third, Some(result));
    board.answered(&answer(v1::Verdict::Refused));
    assert_eq!(names(&board.news(false)), ["failure"]);
    assert!(board.held().is_empty());
}
