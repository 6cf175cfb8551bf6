//! What a worker leaves when it is taken away, and what another makes of it: checkpoints and draining.

use crate::session::{Worker, count, shard};
use crate::support::{Checkpoint, Coordinator, Heard, Script};
use nadgrid_core::ids::Digest;
use nadgrid_core::runs;
use nadgrid_proto::v1::session_request::Message;
use tonic::Status;

/// Two runs of a network with dropout, one to a block. An epoch takes a fraction of a second.
const RUNS: &str = "name = 'runs'\nseed = 4\narchitectures = ['vgg11']\n\
                    [directional]\ndirections = { kind = 'dft', frequencies = [[0, 0], [2, 1]] }\nseeds = 1\n\
                    block_size = 1\nsigma = 1.0\ntrain_samples = 8\ntest_samples = 4\n\
                    training = { epochs = EPOCHS, batch_size = 4, momentum = 0.9 }";
/// Epochs that no test sees the end of.
pub(crate) const ENDLESS: &str = "100000";

pub(crate) fn spec(epochs: &str) -> String {
    RUNS.replace("EPOCHS", epochs)
}

fn start(coordinator: &Coordinator, options: &[(&'static str, &str)]) -> Worker {
    let hellos = coordinator.script.heard(|heard| heard.hellos.len());
    let worker = Worker::start(&coordinator.url(), &[&[("slots", "1")], options].concat());
    coordinator.script.until("a hello", |heard| heard.hellos.len() > hellos);
    worker
}

/// The digest of the only upload, without how long it took.
fn digest(script: &Script) -> Digest {
    script.until("the upload", |heard| heard.uploads.len() == 1);
    script.heard(|heard| runs::digest(&runs::from_bytes(&heard.uploads[0].bytes, 2, 0).unwrap(), 0))
}

fn seconds(script: &Script) -> f64 {
    script.heard(|heard| heard.uploads[0].header.seconds)
}

fn newest(heard: &Heard) -> Option<&Checkpoint> {
    heard.checkpoints.last()
}

fn far(checkpoint: &Checkpoint) -> (u64, u32) {
    (checkpoint.header.members_done, checkpoint.header.epochs)
}

/// How the shard ends when it is computed from these bytes by a worker that knows nothing else; how far its first checkpoint
/// was, and the seconds that it tells.
fn from(checkpoint: Option<Vec<u8>>) -> (Digest, Option<(u64, u32)>, f64) {
    let coordinator = Coordinator::start();
    let worker = start(&coordinator, &[("checkpoint_interval", "0")]);
    let script = &coordinator.script;
    script.assign_from(&spec("3"), "vgg11", &shard(0, 2), checkpoint);
    let digest = digest(script);
    worker.stop().unwrap();
    let first = script.heard(|heard| heard.checkpoints.first().map(far));
    (digest, first, seconds(script))
}

#[test]
fn another_worker_goes_on_with_the_same_result() {
    let coordinator = Coordinator::start();
    let worker = start(&coordinator, &[("checkpoint_interval", "0")]);
    let script = &coordinator.script;
    script.assign(&spec("3"), "vgg11", &shard(0, 2));
    script.until("a checkpoint in the second run", |heard| newest(heard).is_some_and(|c| c.header.members_done > 0));
    // Taken away in the middle: no goodbye, no result.
    script.hang_up();
    worker.stop().unwrap();
    let left = script.heard(|heard| newest(heard).unwrap().clone());
    let (hello, header) = (script.heard(|heard| heard.hellos[0].clone()), &left.header);
    assert_eq!((&header.worker_id, &header.shard), (&hello.worker_id, &Some(shard(0, 2))));
    assert_eq!(header.numerics_class.as_ref().map(|class| class.precision.as_str()), Some("fp32"));
    let (whole, ..) = from(None);
    let (resumed, first, seconds) = from(Some(left.bytes.clone()));
    assert_eq!(resumed, whole);
    assert!(first.is_none_or(|first| first > far(&left)), "what was done is done again: {first:?}");
    assert!(seconds > 0.0);
    let mut damaged = left.bytes;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 4;
    assert_eq!(from(Some(damaged)).0, whole);
}

/// A checkpoint that the coordinator does not take is no failure; one that it answers with no more interest ends the shard.
#[test]
fn checkpoints_cost_nothing_but_a_lost_lease_ends_the_shard() {
    let coordinator = Coordinator::start();
    let worker = start(&coordinator, &[("checkpoint_interval", "0")]);
    let script = &coordinator.script;
    script.answer_checkpoints(Err(Status::unimplemented("an older coordinator")));
    // Epochs enough for a checkpoint of the first to arrive before the last has ended.
    script.assign(&spec("6"), "vgg11", &shard(0, 1));
    script.until("a checkpoint of the first shard", |heard| !heard.checkpoints.is_empty());
    script.until("the upload", |heard| heard.uploads.len() == 1);
    script.answer_checkpoints(Ok(false));
    // A last checkpoint of the first shard may still come: it is not the one that is waited for.
    script.assign(&spec(ENDLESS), "vgg11", &shard(1, 1));
    let of_second = |checkpoint: &Checkpoint| checkpoint.header.shard == Some(shard(1, 1));
    script.until("a checkpoint", |heard| heard.checkpoints.iter().any(of_second));
    script.answer_checkpoints(Ok(true));
    script.assign(&spec("1"), "vgg11", &shard(0, 1));
    script.until("the next shard", |heard| heard.uploads.len() == 2);
    script.heard(|heard| {
        assert_eq!(heard.uploads[1].header.shard, Some(shard(0, 1)));
        assert_eq!(count(heard, |m| matches!(m, Message::Failure(_))), 0);
    });
    worker.stop().unwrap();
}

fn drained(heard: &Heard) -> bool {
    count(heard, |m| matches!(m, Message::Draining(_))) == 1
}

/// The shard in hand is finished and handed in; the one that waits is given back.
#[test]
fn draining_finishes_what_is_running() {
    let coordinator = Coordinator::start();
    let worker = start(&coordinator, &[("grace", "600"), ("checkpoint_interval", "0")]);
    let script = &coordinator.script;
    script.assign(&spec("3"), "vgg11", &shard(0, 2));
    script.until("an epoch", |heard| !heard.checkpoints.is_empty());
    script.assign(&spec(ENDLESS), "vgg11", &shard(0, 1));
    worker.drain().unwrap();
    script.until("the end", |heard| heard.ended == 1);
    script.heard(|heard| {
        assert!(drained(heard));
        assert!(matches!(heard.messages.last(), Some((_, Message::Goodbye(_)))));
        assert_eq!(heard.uploads.iter().map(|u| u.header.shard.clone()).collect::<Vec<_>>(), [Some(shard(0, 2))]);
    });
}

/// What does not end in time is given back, with its last checkpoint.
#[test]
fn draining_gives_back_what_takes_too_long() {
    let coordinator = Coordinator::start();
    let worker = start(&coordinator, &[("grace", "8"), ("checkpoint_interval", "0")]);
    let script = &coordinator.script;
    script.assign(&spec(ENDLESS), "vgg11", &shard(0, 1));
    script.until("an epoch", |heard| !heard.checkpoints.is_empty());
    let before = script.heard(|heard| newest(heard).map(far));
    worker.drain().unwrap();
    script.until("the end", |heard| heard.ended == 1);
    script.heard(|heard| {
        assert!(drained(heard) && heard.uploads.is_empty());
        assert!(matches!(heard.messages.last(), Some((_, Message::Goodbye(_)))));
        assert!(newest(heard).map(far) > before, "it went on while it drained");
    });
}

/// With a slot free there is nothing to wait for.
#[test]
fn an_idle_worker_drains_at_once() {
    let coordinator = Coordinator::start();
    let worker = start(&coordinator, &[("grace", "600")]);
    worker.drain().unwrap();
    coordinator.script.until("the end", |heard| heard.ended == 1);
}
