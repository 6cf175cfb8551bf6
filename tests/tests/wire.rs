//! The contract as a foreign client meets it: raw gRPC against the real coordinator.

mod peer;

use nadgrid_core::ids::Digest;
use nadgrid_core::runs::{Outcome, to_bytes};
use nadgrid_proto::status::{Reason, blamed_fields};
use nadgrid_proto::v1;
use nadgrid_proto::v1::session_request::Message;
use nadgrid_tests::Cluster;
use peer::{Peer, assignment, class, header, hello, partial};
use std::time::Duration;
use tonic::Code;

const SPEC: &str = "name = 'wire'\narchitectures = ['logreg']\n[nads]\nnetworks = 8\nblock_size = 4";

#[tokio::test]
async fn submissions_are_idempotent_and_refusals_name_their_fields() {
    let cluster = Cluster::start(&[]);
    let mut peer = Peer::of(&cluster).await;
    let first = peer.submit(SPEC, "key").await.unwrap();
    let second = peer.submit(SPEC, "key").await.unwrap();
    assert!(first.created && !second.created);
    assert_eq!(first.sweep.as_ref().unwrap().id, second.sweep.unwrap().id);
    let taken = peer.submit(&SPEC.replace("= 8", "= 9"), "key").await.unwrap_err();
    assert_eq!((taken.code(), Reason::KeyTaken.is_of(&taken)), (Code::AlreadyExists, true));
    let refused = peer.submit(&SPEC.replace("= 8", "= 1"), "").await.unwrap_err();
    assert_eq!((refused.code(), blamed_fields(&refused)[0].0.as_str()), (Code::InvalidArgument, "nads.networks"));
    let id = first.sweep.unwrap().id;
    for _ in 0..2 {
        let sweep = peer.sweeps.cancel(v1::CancelRequest { sweep_id: id.clone() }).await.unwrap().into_inner();
        assert_eq!(sweep.state(), v1::SweepState::Cancelled);
    }
    let unknown = peer.sweeps.get(v1::GetRequest { sweep_id: "none".into() }).await.unwrap_err();
    assert_eq!((unknown.code(), Reason::SweepUnknown.is_of(&unknown)), (Code::NotFound, true));
}

#[tokio::test]
async fn workers_of_another_protocol_or_libtorch_are_turned_away() {
    let cluster = Cluster::start(&[]);
    let mut peer = Peer::of(&cluster).await;
    let protocol = v1::Hello { protocol_version: 99, ..hello() };
    let refused = peer.session(protocol).await.unwrap_err();
    assert!(Reason::ProtocolMismatch.is_of(&refused) && refused.message().contains("99"), "{refused}");
    let libtorch = v1::NumericsClass { libtorch: "1.0.0".into(), ..class() };
    let refused = peer.session(v1::Hello { numerics_class: Some(libtorch), ..hello() }).await.unwrap_err();
    assert!(Reason::LibtorchMismatch.is_of(&refused) && refused.message().contains("1.0.0"), "{refused}");
    let nameless = peer.session(v1::Hello { worker_id: String::new(), ..hello() }).await.unwrap_err();
    assert_eq!(nameless.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_large_partial_commits_once_and_damage_never() {
    let cluster = Cluster::start(&["--most-shard-blocks", "1"]);
    let mut peer = Peer::of(&cluster).await;
    let id = peer.submit(SPEC, "").await.unwrap().sweep.unwrap().id;
    let (_messages, mut responses) = peer.session(hello()).await.unwrap();
    let shard = assignment(&mut responses).await.shard.unwrap();
    assert_eq!((shard.first_block, shard.blocks), (0, 1));
    let bytes = partial(4);

    let truncated = peer.upload(header(&shard, &bytes), &bytes[..bytes.len() - 1]).await.unwrap_err();
    assert!(truncated.code() == Code::DataLoss && truncated.message().contains("truncated"), "{truncated}");
    let mut flipped = bytes.clone();
    flipped[2_000_000] ^= 1;
    let damaged = peer.upload(header(&shard, &bytes), &flipped).await.unwrap_err();
    assert!(Reason::PayloadDamaged.is_of(&damaged) && damaged.message().contains("damaged"), "{damaged}");
    let few = partial(3);
    let wrong = peer.upload(header(&shard, &few), &few).await.unwrap_err();
    assert!(Reason::PayloadInvalid.is_of(&wrong) && wrong.message().contains("count"), "{wrong}");
    let huge = v1::PartialHeader { size: 1 << 40, ..header(&shard, &bytes) };
    assert!(Reason::PayloadInvalid.is_of(&peer.upload(huge, &bytes).await.unwrap_err()));
    let askew = v1::Shard { first_block: 1, blocks: 7, ..shard.clone() };
    assert_eq!(peer.upload(header(&askew, &bytes), &bytes).await.unwrap_err().code(), Code::InvalidArgument);

    assert_eq!(peer.upload(header(&shard, &bytes), &bytes).await.unwrap(), v1::Verdict::Committed);
    assert_eq!(peer.upload(header(&shard, &bytes), &bytes).await.unwrap(), v1::Verdict::Duplicate);
    let next = assignment(&mut responses).await.shard.unwrap();
    assert_eq!(next.first_block, 1);
    assert_eq!(peer.upload(header(&next, &bytes), &bytes).await.unwrap(), v1::Verdict::Committed);

    let request = v1::WatchRequest { sweep_id: id.clone() };
    let mut watched = peer.sweeps.watch(request).await.unwrap().into_inner();
    let mut last = None;
    while let Some(sweep) = watched.message().await.unwrap() {
        last = Some(sweep);
    }
    let last = last.unwrap();
    assert_eq!((last.state(), last.digest.len(), last.artifacts.len()), (v1::SweepState::Complete, 64, 6));
    assert_eq!(peer.upload(header(&shard, &bytes), &bytes).await.unwrap(), v1::Verdict::NotNeeded);
}

const RUNS: &str = "name = 'runs'\narchitectures = ['logreg']\n[directional]\n\
                    directions = { kind = 'random', count = 2 }\nblock_size = 2";

fn checkpoint(shard: &v1::Shard, bytes: &[u8], epochs: u32) -> v1::CheckpointHeader {
    v1::CheckpointHeader {
        worker_id: "peer".into(),
        shard: Some(shard.clone()),
        numerics_class: Some(class()),
        size: bytes.len() as u64,
        digest: Digest::of(bytes).to_string(),
        members_done: 0,
        epochs,
    }
}

/// The bytes are the worker's affair; their number, their digest and whose they are is the coordinator's.
#[tokio::test]
async fn a_checkpoint_is_kept_for_the_next_worker() {
    let cluster = Cluster::start(&[]);
    let mut peer = Peer::of(&cluster).await;
    peer.submit(RUNS, "").await.unwrap();
    let (session, mut responses) = peer.session(v1::Hello { slots: 2, ..hello() }).await.unwrap();
    let shard = assignment(&mut responses).await.shard.unwrap();
    let bytes = vec![7u8; 20_000];
    for _ in 0..2 {
        assert!(peer.checkpoint(checkpoint(&shard, &bytes, 3), &bytes).await.unwrap());
    }
    // One that is behind changes nothing.
    assert!(peer.checkpoint(checkpoint(&shard, b"behind", 2), b"behind").await.unwrap());
    // Whoever does not hold the shard is told so, with a session or without.
    let idle = peer.open("idle", 1, Vec::new()).await;
    for worker in ["idle", "other"] {
        let foreign = v1::CheckpointHeader { worker_id: worker.into(), ..checkpoint(&shard, &bytes, 4) };
        assert!(!peer.checkpoint(foreign, &bytes).await.unwrap(), "{worker}");
    }
    idle.say(Message::Goodbye(v1::Goodbye {})).await;
    gone(&mut peer, "idle").await;
    let unknown = v1::Shard { sweep_id: "none".into(), ..shard.clone() };
    assert!(!peer.checkpoint(checkpoint(&unknown, &bytes, 4), &bytes).await.unwrap());

    let cut = peer.checkpoint(checkpoint(&shard, &bytes, 4), &bytes[1..]).await.unwrap_err();
    assert!(cut.code() == Code::DataLoss && cut.message().contains("truncated"), "{cut}");
    // Two runs of 2,050 parameters with their velocities are 33 kB.
    let huge = vec![0u8; 100_000];
    let huge = peer.checkpoint(checkpoint(&shard, &huge, 4), &huge).await.unwrap_err();
    assert!(Reason::PayloadInvalid.is_of(&huge) && huge.message().contains("header.size"), "{huge}");
    let ahead = v1::CheckpointHeader { members_done: 3, ..checkpoint(&shard, &bytes, 4) };
    assert_eq!(peer.checkpoint(ahead, &bytes).await.unwrap_err().code(), Code::InvalidArgument);
    let nads = peer.submit(SPEC, "").await.unwrap().sweep.unwrap().id;
    let of_nads = assignment(&mut responses).await.shard.unwrap();
    assert_eq!(of_nads.sweep_id, nads);
    let none = peer.checkpoint(checkpoint(&of_nads, &bytes, 4), &bytes).await.unwrap_err();
    assert!(none.code() == Code::InvalidArgument && none.message().contains("training runs"), "{none}");
    // So that what is given out next is this shard.
    peer.sweeps.cancel(v1::CancelRequest { sweep_id: nads }).await.unwrap();

    session.send(v1::SessionRequest { message: Some(Message::Goodbye(v1::Goodbye {})) }).await.unwrap();
    let mut other = Peer::of(&cluster).await;
    let (_session, mut responses) = other.session(v1::Hello { worker_id: "other".into(), ..hello() }).await.unwrap();
    let again = assignment(&mut responses).await;
    let input = again.inputs.iter().find(|input| input.role == "checkpoint").expect("a checkpoint").clone();
    assert_eq!((again.shard, input.size), (Some(shard), 20_000));
    let request = v1::ReadInputRequest { digest: input.digest, ..v1::ReadInputRequest::default() };
    let mut parts = other.workers.read_input(request).await.unwrap().into_inner();
    let mut read = Vec::new();
    while let Some(part) = parts.message().await.unwrap() {
        read.extend(part.data);
    }
    assert_eq!(read, bytes);
}

/// Waits until a worker is known no more.
async fn gone(peer: &mut Peer, worker: &str) {
    let left = async {
        loop {
            let workers = peer.sweeps.list_workers(v1::ListWorkersRequest {}).await.unwrap().into_inner().workers;
            if workers.iter().all(|known| known.id != worker) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), left).await.expect("the worker leaves");
}

async fn members_done(peer: &mut Peer, id: &str) -> u64 {
    peer.sweeps.get(v1::GetRequest { sweep_id: id.into() }).await.unwrap().into_inner().jobs[0].members_done
}

/// A report of another's lease is not needed. One without a session is refused before a byte is sent, and what was computed counts
/// once there is a session that names it.
#[tokio::test]
async fn a_report_belongs_to_a_lease_of_a_session() {
    let mut cluster = Cluster::start(&["--most-shard-blocks", "1"]);
    let mut peer = Peer::of(&cluster).await;
    let id = peer.submit(SPEC, "").await.unwrap().sweep.unwrap().id;
    let mut holder = peer.open("peer", 1, Vec::new()).await;
    let shard = holder.shard().await;
    let mut other = peer.open("other", 1, Vec::new()).await;
    let of_other = other.shard().await;
    assert_ne!(of_other, shard);
    let bytes = partial(4);

    let answer = peer.offer(other.header(&shard, &bytes)).await.answer().await.unwrap();
    assert_eq!(answer, v1::upload_partial_response::Message::Verdict(v1::Verdict::NotNeeded.into()));
    assert_eq!(members_done(&mut peer, &id).await, 0);
    let workers = peer.sweeps.list_workers(v1::ListWorkersRequest {}).await.unwrap().into_inner().workers;
    assert_eq!(workers.iter().map(|worker| worker.leases).collect::<Vec<_>>(), [1, 1], "{workers:?}");
    assert_eq!(peer.upload(holder.header(&shard, &bytes), &bytes).await.unwrap(), v1::Verdict::Committed);
    assert_eq!(members_done(&mut peer, &id).await, 4);

    // After a crash nobody has a session.
    let late = other.header(&of_other, &bytes);
    drop((holder, other));
    cluster.crash_coordinator();
    let mut peer = Peer::of(&cluster).await;
    let refused = peer.offer(late.clone()).await.answer().await.unwrap_err();
    assert_eq!((refused.code(), Reason::SessionMissing.is_of(&refused)), (Code::Unavailable, true), "{refused}");
    assert_eq!(members_done(&mut peer, &id).await, 4);
    let _session = peer.open("other", 1, vec![of_other]).await;
    assert_eq!(peer.upload(late, &bytes).await.unwrap(), v1::Verdict::Committed);
    assert_eq!(members_done(&mut peer, &id).await, 8);
}

/// The same of a result that comes in a session.
#[tokio::test]
async fn a_result_of_anothers_lease_is_not_needed() {
    let cluster = Cluster::start(&["--most-shard-blocks", "1"]);
    let mut peer = Peer::of(&cluster).await;
    let spec = RUNS.replace("block_size = 2", "block_size = 1");
    let id = peer.submit(&spec, "").await.unwrap().sweep.unwrap().id;
    let mut holder = peer.open("peer", 1, Vec::new()).await;
    let shard = holder.shard().await;
    let mut other = peer.open("other", 1, Vec::new()).await;
    assert_ne!(other.shard().await, shard);
    let data = to_bytes(&[Outcome::default()], 0);
    let result = v1::ShardResult {
        shard: Some(shard),
        numerics_class: Some(class()),
        digest: Digest::of(&data).to_string(),
        data,
        seconds: 0.1,
        ..v1::ShardResult::default()
    };
    other.say(Message::Result(result.clone())).await;
    assert_eq!(other.verdict().await, v1::Verdict::NotNeeded);
    assert_eq!(members_done(&mut peer, &id).await, 0);
    holder.say(Message::Result(result)).await;
    assert_eq!(holder.verdict().await, v1::Verdict::Committed);
    assert_eq!(members_done(&mut peer, &id).await, 1);
}

/// Heartbeats keep a lease; silence loses it, and the shard goes to whoever is there.
#[tokio::test]
async fn a_silent_worker_loses_its_shard() {
    let cluster = Cluster::start(&["--lease-ttl", "0.5"]);
    let mut peer = Peer::of(&cluster).await;
    peer.submit(SPEC, "").await.unwrap();
    let (silent, mut responses) = peer.session(hello()).await.unwrap();
    let lost = assignment(&mut responses).await.shard.unwrap();
    let started = std::time::Instant::now();
    while started.elapsed() < Duration::from_millis(1500) {
        silent.send(v1::SessionRequest { message: Some(Message::Heartbeat(v1::Heartbeat {})) }).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut other = Peer::of(&cluster).await;
    let workers = peer.sweeps.list_workers(v1::ListWorkersRequest {}).await.unwrap().into_inner().workers;
    assert_eq!(workers[0].leases, 1, "{workers:?}");
    let (messages, mut responses) =
        other.session(v1::Hello { worker_id: "other".into(), slots: 2, ..hello() }).await.unwrap();
    tokio::spawn(async move {
        let alive = || v1::SessionRequest { message: Some(Message::Heartbeat(v1::Heartbeat {})) };
        while messages.send(alive()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let mut seen = vec![assignment(&mut responses).await.shard.unwrap()];
    seen.push(assignment(&mut responses).await.shard.unwrap());
    assert!(seen.contains(&lost), "{seen:?} lacks {lost:?}");
}

/// Whatever a worker claims, it is refused by its class, said once in the log, and the honest report still counts.
#[tokio::test]
async fn a_worker_that_lies_changes_nothing() {
    let cluster = Cluster::start(&["--most-shard-blocks", "1"]);
    let mut peer = Peer::of(&cluster).await;
    let id = peer.submit(SPEC, "").await.unwrap().sweep.unwrap().id;
    let (_messages, mut responses) = peer.session(hello()).await.unwrap();
    let shard = assignment(&mut responses).await.shard.unwrap();
    let bytes = partial(4);
    let honest = header(&shard, &bytes);
    let shard_with = |change: fn(&mut v1::Shard)| {
        let mut other = shard.clone();
        change(&mut other);
        v1::PartialHeader { shard: Some(other), ..honest.clone() }
    };
    let class_with = |change: fn(&mut v1::NumericsClass)| {
        let mut other = class();
        change(&mut other);
        v1::PartialHeader { numerics_class: Some(other), ..honest.clone() }
    };
    let lies = [
        ("a block beyond the last", shard_with(|s| s.first_block = 1 << 40)),
        ("blocks that are no shard", shard_with(|s| (s.first_block, s.blocks) = (1, 2))),
        ("no blocks", shard_with(|s| s.blocks = 0)),
        ("blocks that overflow", shard_with(|s| (s.first_block, s.blocks) = (u64::MAX, u64::MAX))),
        ("a job that is none", shard_with(|s| s.job = 7)),
        ("no shard", v1::PartialHeader { shard: None, ..honest.clone() }),
        ("a size that is another's", v1::PartialHeader { size: honest.size + 8, ..honest.clone() }),
        ("the class of another machine", class_with(|c| c.device = "cuda".into())),
        ("the class of other kernels", class_with(|c| c.kernels += 1)),
        ("no class", v1::PartialHeader { numerics_class: None, ..honest.clone() }),
        ("nobody's name", v1::PartialHeader { worker_id: "two words".into(), ..honest.clone() }),
    ];
    for (what, header) in lies {
        for _ in 0..2 {
            let refused = peer.upload(header.clone(), &bytes).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{what}: {refused}");
        }
    }
    for number in [f64::NAN, f64::INFINITY] {
        let mut poisoned = bytes.clone();
        let last = poisoned.len() - 8;
        poisoned[last..].copy_from_slice(&number.to_le_bytes());
        let refused = peer.upload(header(&shard, &poisoned), &poisoned).await.unwrap_err();
        assert!(Reason::PayloadInvalid.is_of(&refused), "{number}: {refused}");
    }
    let nothing = v1::PartialHeader { digest: Digest::of(b"").to_string(), ..honest.clone() };
    assert!(Reason::PayloadDamaged.is_of(&peer.upload(nothing, &bytes).await.unwrap_err()));
    let elsewhere = shard_with(|s| s.sweep_id = "no-such-sweep".into());
    assert_eq!(peer.upload(elsewhere, &bytes).await.unwrap(), v1::Verdict::NotNeeded);
    for cause in ["invalid report", "damaged report"] {
        assert_eq!(cluster.logs().matches(&format!("cause=\"{cause}\"")).count(), 1, "{}", cluster.logs());
    }

    assert_eq!(peer.upload(honest, &bytes).await.unwrap(), v1::Verdict::Committed);
    let next = assignment(&mut responses).await.shard.unwrap();
    assert_eq!(peer.upload(header(&next, &bytes), &bytes).await.unwrap(), v1::Verdict::Committed);
    let mut watched = peer.sweeps.watch(v1::WatchRequest { sweep_id: id }).await.unwrap().into_inner();
    let mut last = None;
    while let Some(sweep) = watched.message().await.unwrap() {
        last = Some(sweep);
    }
    let job = &last.unwrap().jobs[0];
    assert_eq!((job.members_done, job.retries), (8, 0));
}
