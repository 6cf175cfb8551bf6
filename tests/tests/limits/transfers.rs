//! Transfers that hold a place and do not go on.

use crate::{channel, peer, sweeps};
use nadgrid_core::ids::Digest;
use nadgrid_proto::v1;
use nadgrid_proto::v1::upload_input_request::Part;
use nadgrid_proto::v1::worker_service_client::WorkerServiceClient;
use nadgrid_tests::Cluster;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

pub(crate) fn input(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i * 31 % 251) as u8).collect()
}

fn header(bytes: &[u8]) -> v1::UploadInputRequest {
    let header = v1::InputHeader { size: bytes.len() as u64, digest: Digest::of(bytes).to_string() };
    v1::UploadInputRequest { part: Some(Part::Header(header)) }
}

fn data(bytes: &[u8]) -> v1::UploadInputRequest {
    v1::UploadInputRequest { part: Some(Part::Data(bytes.to_vec())) }
}

pub(crate) async fn upload(cluster: &Cluster, bytes: &[u8]) -> Result<v1::InputHeader, Status> {
    peer::input(&mut sweeps(cluster).await, bytes).await
}

/// An upload by hand, after its grant.
async fn granted(
    cluster: &Cluster,
    bytes: &[u8],
) -> (mpsc::Sender<v1::UploadInputRequest>, Streaming<v1::UploadInputResponse>) {
    let (sender, parts) = mpsc::channel(4);
    sender.send(header(bytes)).await.unwrap();
    let mut answers = sweeps(cluster).await.upload_input(ReceiverStream::new(parts)).await.unwrap().into_inner();
    let first = answers.message().await.unwrap().unwrap().message;
    assert!(matches!(first, Some(v1::upload_input_response::Message::Grant(_))), "{first:?}");
    (sender, answers)
}

/// One place for uploads, held by somebody who says nothing, then by one who trickles: the next comes through.
#[tokio::test]
async fn a_slow_upload_gives_its_place_up() {
    let limits = ["silence_seconds=0.5", "grace_seconds=1", "slowest_bytes_per_second=1000"];
    let flags: Vec<&str> = ["--uploads", "1"].into_iter().chain(limits.iter().flat_map(|l| ["--limit", l])).collect();
    let cluster = Cluster::start(&flags);
    let bytes = input(100_000);
    let (_silent, mut answers) = granted(&cluster, &bytes).await;
    upload(&cluster, &bytes).await.unwrap();
    assert_eq!(answers.message().await.unwrap_err().code(), Code::DeadlineExceeded);

    let others = input(90_000);
    let (trickle, mut answers) = granted(&cluster, &others).await;
    let dripping = tokio::spawn(async move {
        while trickle.send(data(b"drop")).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    upload(&cluster, &others).await.unwrap();
    assert_eq!(answers.message().await.unwrap_err().code(), Code::DeadlineExceeded);
    dripping.abort();
}

async fn read(cluster: &Cluster, digest: &str) -> Streaming<v1::ReadInputResponse> {
    let request = v1::ReadInputRequest { digest: digest.into(), ..v1::ReadInputRequest::default() };
    WorkerServiceClient::new(channel(cluster).await).read_input(request).await.unwrap().into_inner()
}

/// One place for reading, held by somebody who takes nothing: he loses his connection, and the next is served.
#[tokio::test]
async fn a_reader_that_does_not_read_gives_its_place_up() {
    let cluster = Cluster::start(&["--limit", "reads=1", "--limit", "silence_seconds=0.5"]);
    let bytes = input(32 << 20);
    let digest = upload(&cluster, &bytes).await.unwrap().digest;
    let mut stuck = read(&cluster, &digest).await;
    let mut eager = read(&cluster, &digest).await;
    let mut got = 0;
    while let Some(part) = eager.message().await.unwrap() {
        got += part.data.len();
    }
    assert_eq!(got, bytes.len());
    let mut held = 0;
    let ended = loop {
        match stuck.message().await {
            Ok(Some(part)) => held += part.data.len(),
            Ok(None) => break None,
            Err(status) => break Some(status),
        }
    };
    assert!(ended.is_some() && held < bytes.len(), "{held} bytes came in the end");
    assert!(cluster.logs().contains("does not read what it asked for"), "{}", cluster.logs());
}
