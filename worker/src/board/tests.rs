use super::*;

fn shard(first_block: u64) -> v1::Shard {
    v1::Shard { sweep_id: "s".into(), job: 0, first_block, blocks: 1 }
}

fn task(first_block: u64) -> Task {
    Task::new(shard(first_block), String::new(), "nads/lenet".into(), Vec::new())
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
    assert!(board.computed(&held));
    assert_eq!(names(&board.news(false)), ["computed"]);
    assert_eq!(board.held(), [shard(0)]);
    assert_eq!(names(&board.news(false)), ["computed"], "a new session hears it again");
    board.uploaded(&held);
    assert!(board.held().is_empty() && board.news(true).is_empty());
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
    assert!(!board.computed(&first), "its result is not wanted");
    let second = board.next().unwrap();
    assert!(!second.is_cancelled() && board.computed(&second));
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
        board.computed(&held);
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
    board.computed(&computed);
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
