//! Hostile and clumsy clients: none fills the coordinator, none keeps it from others.

mod peer;

#[path = "limits/connections.rs"]
mod connections;
#[path = "limits/floods.rs"]
mod floods;
#[path = "limits/http2.rs"]
mod http2;
#[path = "limits/transfers.rs"]
mod transfers;

use nadgrid_core::PROTOCOL_VERSION;
use nadgrid_proto::status::Reason;
use nadgrid_proto::v1::session_request::Message;
use nadgrid_proto::v1::sweep_service_client::SweepServiceClient;
use nadgrid_proto::v1::worker_service_client::WorkerServiceClient;
use nadgrid_proto::v1::{self};
use nadgrid_tests::Cluster;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use transfers::{input, upload};

const SPEC: &str = "name = 'limits'\narchitectures = ['logreg']\n[nads]\nnetworks = 8\nblock_size = 4";
/// As many as the issue asks for.
const MANY: usize = 10_000;
/// What a coordinator may have resident at most, whatever is done to it: a debug build with nothing to do has some 40 MB.
const MEMORY: u64 = 256 << 20;
/// Until something that must happen has happened.
const PATIENCE: Duration = Duration::from_secs(60);

async fn channel(cluster: &Cluster) -> Channel {
    Channel::from_shared(cluster.url.clone()).unwrap().connect().await.unwrap()
}

async fn sweeps(cluster: &Cluster) -> SweepServiceClient<Channel> {
    SweepServiceClient::new(channel(cluster).await)
}

async fn submit(cluster: &Cluster) -> Result<String, Status> {
    let request = v1::SubmitRequest { spec: SPEC.into(), ..Default::default() };
    Ok(sweeps(cluster).await.submit(request).await?.into_inner().sweep.unwrap().id)
}

/// Another client is served as if nothing were.
fn assert_served(cluster: &Cluster, flags: &[&str]) {
    cluster.nadgrid_ok(&[flags, &["list", "--json"]].concat());
}

fn assert_bounded(cluster: &mut Cluster) {
    let peak = cluster.coordinator().peak_memory();
    assert!(peak < MEMORY, "{} MB resident", peak >> 20);
}

fn hello(worker: &str) -> v1::SessionRequest {
    let hello = v1::Hello {
        worker_id: worker.into(),
        name: worker.into(),
        protocol_version: PROTOCOL_VERSION,
        version: "0".into(),
        numerics_class: Some(peer::class()),
        slots: 1,
        precisions: vec!["fp32".into()],
        ..Default::default()
    };
    v1::SessionRequest { message: Some(Message::Hello(hello)) }
}

#[tokio::test]
async fn what_is_beyond_a_limit_is_refused_and_comes_through_later() {
    let limits = ["sessions=1", "watchers=1", "unused_input_bytes=1048576", "open_sweeps=2"];
    let cluster = Cluster::start(&limits.iter().flat_map(|l| ["--limit", l]).collect::<Vec<_>>());
    let full = |status: Status, words: &str| {
        let fits = status.code() == Code::ResourceExhausted && Reason::Full.is_of(&status);
        assert!(fits && status.message().contains(words), "{status}");
    };
    let id = submit(&cluster).await.unwrap();
    let watch = async || {
        let request = v1::WatchRequest { sweep_id: id.clone() };
        sweeps(&cluster).await.watch(request).await
    };
    let first = watch().await.unwrap();
    full(watch().await.unwrap_err(), "watched");
    drop(first);
    let freed = tokio::time::timeout(PATIENCE, async { while watch().await.is_err() {} });
    freed.await.expect("the place of a watcher who has left is free");

    let session = async |worker: &str| {
        let (sender, requests) = mpsc::channel(4);
        sender.send(hello(worker)).await.unwrap();
        let mut service = WorkerServiceClient::new(channel(&cluster).await);
        service.session(ReceiverStream::new(requests)).await.map(|responses| (sender, responses))
    };
    let held = session("w-1").await.unwrap();
    full(session("w-2").await.unwrap_err(), "sessions");
    drop(held);
    let freed = tokio::time::timeout(PATIENCE, async { while session("w-2").await.is_err() {} });
    freed.await.expect("the place of a worker that has left is free");

    upload(&cluster, &input(1_000_000)).await.unwrap();
    upload(&cluster, &input(1_000_000)).await.unwrap();
    full(upload(&cluster, &input(500_000)).await.unwrap_err(), "not used by a sweep");
    submit(&cluster).await.unwrap();
    full(submit(&cluster).await.unwrap_err(), "2 sweeps are open");
}

#[tokio::test]
async fn messages_headers_and_rates_are_bounded() {
    let cluster = Cluster::start(&["--limit", "requests_per_second=20"]);
    let mut service = sweeps(&cluster).await;
    let request = v1::SubmitRequest { spec: "#".repeat(5 << 20), ..Default::default() };
    assert_eq!(service.submit(request).await.unwrap_err().code(), Code::OutOfRange);
    let request = v1::SubmitRequest { spec: "#".repeat(2 << 20), ..Default::default() };
    let refused = service.submit(request).await.unwrap_err();
    assert!(refused.code() == Code::InvalidArgument && refused.message().contains("bytes"), "{refused}");
    let mut request = Request::new(v1::ListRequest::default());
    request.metadata_mut().insert("x-long", "x".repeat(100 << 10).parse().unwrap());
    service.list(request).await.unwrap_err();
    let mut service = sweeps(&cluster).await;
    let mut refused = None;
    while refused.is_none() {
        refused = service.list(v1::ListRequest::default()).await.err();
    }
    let refused = refused.unwrap();
    assert!(Reason::Full.is_of(&refused) && refused.message().contains("requests a second"), "{refused}");
    let served =
        tokio::time::timeout(PATIENCE, async { while service.list(v1::ListRequest::default()).await.is_err() {} });
    served.await.expect("requests are served again in time");
}
