//! Every request is sent twice, as a client does that has not heard the answer: the second changes nothing.

mod peer;

use nadgrid_core::ids::Digest;
use nadgrid_core::runs::{Outcome, to_bytes};
use nadgrid_proto::v1;
use nadgrid_proto::v1::session_request::Message as Request;
use nadgrid_proto::v1::session_response::Message as Response;
use nadgrid_tests::Cluster;
use peer::{Peer, assignment, class, header, hello, partial};
use tonic::Streaming;

const SPEC: &str = "name = 'twice'\narchitectures = ['logreg']\n[nads]\nnetworks = 8\nblock_size = 4\n\
                    [directional]\ndirections = { kind = 'pixels', indices = [1] }\nseeds = 3\nblock_size = 1\n\
                    training = { epochs = 2 }";

/// What a sweep is, apart from moments.
async fn sweep(peer: &mut Peer, id: &str) -> v1::Sweep {
    peer.sweeps.get(v1::GetRequest { sweep_id: id.into() }).await.unwrap().into_inner()
}

async fn chunks<T>(mut stream: Streaming<T>) -> Vec<T> {
    let mut all = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        all.push(message);
    }
    all
}

#[tokio::test]
async fn what_users_ask() {
    let cluster = Cluster::start(&[]);
    let mut peer = Peer::of(&cluster).await;
    let spec = SPEC.to_owned();
    let file = b"not a spec's file".to_vec();
    let digest = Digest::of(&file).to_string();
    let (mut ids, mut inputs, mut plans) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..2 {
        let request = v1::PlanRequest { spec: spec.clone(), inputs: Vec::new() };
        plans.push(peer.sweeps.plan(request).await.unwrap().into_inner());
        inputs.push(peer.input(&file).await.unwrap());
        let submitted = peer.submit(&spec, "key").await.unwrap();
        ids.push((submitted.sweep.unwrap().id, submitted.created));
    }
    assert_eq!((&plans[0], &inputs[0]), (&plans[1], &inputs[1]));
    assert_eq!((&ids[0].0, ids[0].1, ids[1].1), (&ids[1].0, true, false));
    let id = ids[0].0.clone();
    let read = v1::ReadInputRequest { digest, ..v1::ReadInputRequest::default() };
    for _ in 0..2 {
        let parts = chunks(peer.workers.read_input(read.clone()).await.unwrap().into_inner()).await;
        assert_eq!(parts.into_iter().flat_map(|part| part.data).collect::<Vec<_>>(), file);
        assert_eq!(peer.sweeps.list(v1::ListRequest::default()).await.unwrap().into_inner().sweeps.len(), 1);
        assert!(peer.sweeps.list_workers(v1::ListWorkersRequest {}).await.unwrap().into_inner().workers.is_empty());
    }
    let mut seen = Vec::new();
    for _ in 0..2 {
        let request = v1::PauseRequest { sweep_id: id.clone() };
        seen.push(peer.sweeps.pause(request).await.unwrap().into_inner());
        let request = v1::ExplainRequest { sweep_id: id.clone(), job: Some(0), block: Some(1) };
        assert_eq!(peer.sweeps.explain(request).await.unwrap().into_inner().state, "pending");
    }
    for _ in 0..2 {
        let request = v1::ResumeRequest { sweep_id: id.clone() };
        seen.push(peer.sweeps.resume(request).await.unwrap().into_inner());
    }
    assert_eq!(seen.iter().map(|sweep| sweep.paused).collect::<Vec<_>>(), [true, true, false, false]);
    for _ in 0..2 {
        let request = v1::CancelRequest { sweep_id: id.clone() };
        seen.push(peer.sweeps.cancel(request).await.unwrap().into_inner());
        let watched = peer.sweeps.watch(v1::WatchRequest { sweep_id: id.clone() }).await.unwrap().into_inner();
        assert_eq!(chunks(watched).await.len(), 1, "it has ended");
    }
    assert_eq!(seen[4], seen[5]);
}

#[tokio::test]
async fn what_workers_say() {
    let cluster = Cluster::start(&["--most-shard-blocks", "1"]);
    let mut peer = Peer::of(&cluster).await;
    let id = peer.submit(SPEC, "").await.unwrap().sweep.unwrap().id;
    // A second session takes over what the first had, by naming it.
    let (_first, mut responses) = peer.session(hello()).await.unwrap();
    let shard = assignment(&mut responses).await.shard.unwrap();
    let again = v1::Hello { held: vec![shard.clone()], ..hello() };
    let (messages, mut responses) = peer.session(again).await.unwrap();
    let say = |message| v1::SessionRequest { message: Some(message) };
    for _ in 0..2 {
        let progress = v1::Progress { shard: Some(shard.clone()), blocks_done: 1, ..v1::Progress::default() };
        messages.send(say(Request::Progress(progress))).await.unwrap();
        messages.send(say(Request::Heartbeat(v1::Heartbeat {}))).await.unwrap();
    }
    let bytes = partial(4);
    let mut verdicts = Vec::new();
    for _ in 0..2 {
        verdicts.push(peer.upload(header(&shard, &bytes), &bytes).await.unwrap());
    }
    assert_eq!(verdicts, [v1::Verdict::Committed, v1::Verdict::Duplicate]);
    assert_eq!(sweep(&mut peer, &id).await.jobs[0].members_done, 4);
    let second = assignment(&mut responses).await.shard.unwrap();
    peer.upload(header(&second, &bytes), &bytes).await.unwrap();
    // A training run: a checkpoint, and a result in the session.
    let run = assignment(&mut responses).await.shard.unwrap();
    assert_eq!(run.job, 1);
    for _ in 0..2 {
        let data = b"how far it came".to_vec();
        let header = v1::CheckpointHeader {
            worker_id: "peer".into(),
            shard: Some(run.clone()),
            numerics_class: Some(class()),
            size: data.len() as u64,
            digest: Digest::of(&data).to_string(),
            members_done: 0,
            epochs: 1,
        };
        assert!(peer.checkpoint(header, &data).await.unwrap());
    }
    let data = to_bytes(&[Outcome::default()], 0);
    let result = v1::ShardResult {
        shard: Some(run.clone()),
        numerics_class: Some(class()),
        digest: Digest::of(&data).to_string(),
        data,
        seconds: 0.1,
        ..v1::ShardResult::default()
    };
    let mut told = Vec::new();
    for result in [v1::ShardResult { digest: "0".repeat(64), ..result.clone() }, result.clone(), result] {
        messages.send(say(Request::Result(result))).await.unwrap();
        loop {
            match responses.message().await.unwrap().unwrap().message.unwrap() {
                Response::Answer(answer) => break told.push(answer.verdict()),
                other => assert!(matches!(other, Response::Assignment(_)), "{other:?}"),
            }
        }
    }
    assert_eq!(told, [v1::Verdict::Refused, v1::Verdict::Committed, v1::Verdict::Duplicate]);
    assert_eq!(sweep(&mut peer, &id).await.jobs[1].members_done, 1);
    for _ in 0..2 {
        messages.send(say(Request::Draining(v1::Draining {}))).await.unwrap();
    }
    messages.send(say(Request::Goodbye(v1::Goodbye {}))).await.unwrap();
    drop(messages);
    while let Ok(Some(_)) = responses.message().await {}
    let workers = peer.sweeps.list_workers(v1::ListWorkersRequest {}).await.unwrap().into_inner().workers;
    assert!(workers.is_empty(), "{workers:?}");
}

/// A complete sweep is read and verified twice.
#[tokio::test]
async fn what_is_asked_of_a_complete_sweep() {
    let mut cluster = Cluster::start(&[]);
    cluster.add_worker(&["--slots", "1"]);
    let mut peer = Peer::of(&cluster).await;
    let id = peer.submit(SPEC, "").await.unwrap().sweep.unwrap().id;
    cluster.digest(&id);
    let mut read = Vec::new();
    for _ in 0..2 {
        let request =
            v1::ReadArtifactRequest { sweep_id: id.clone(), name: "nads/logreg/nads.npy".into(), presigned: false };
        read.push(chunks(peer.sweeps.read_artifact(request).await.unwrap().into_inner()).await);
        let request = v1::VerifyRequest { sweep_id: id.clone(), sample: 9, seed: 3 };
        let checks = chunks(peer.sweeps.verify(request).await.unwrap().into_inner()).await;
        let total = checks[0].total;
        assert!(total > 0 && checks.len() == total as usize + 1, "{checks:?}");
        assert!(checks[1..].iter().all(|check| check.agrees), "{checks:?}");
    }
    assert_eq!(read[0], read[1]);
}
