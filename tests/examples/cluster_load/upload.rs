//! Handing one partial in, as a worker does: header, grant, bytes (through the coordinator or beside it), verdict.

use crate::partial::MadeUpPartial;
use nadgrid_proto::v1;
use nadgrid_proto::v1::upload_partial_request::Part;
use nadgrid_proto::v1::upload_partial_response::Message;
use nadgrid_proto::v1::worker_service_client::WorkerServiceClient;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

/// Until an upload that failed is offered again.
const PAUSE: Duration = Duration::from_millis(500);
/// Times that one is offered.
const MOST_TRIES: u64 = 20;

/// How a partial came home.
pub(crate) struct Outcome {
    pub(crate) verdict: v1::Verdict,
    pub(crate) tried_again: u64,
}

/// Offers a partial until it is taken.
///
/// # Errors
/// The last refusal, when there were too many.
pub(crate) async fn bring(
    uploads: &mut WorkerServiceClient<Channel>,
    header: v1::PartialHeader,
    partial: &MadeUpPartial,
) -> Result<Outcome, Status> {
    let mut tried_again = 0;
    loop {
        match attempt(uploads, header.clone(), partial).await {
            Ok(verdict) => return Ok(Outcome { verdict, tried_again }),
            Err(status) if tried_again < MOST_TRIES => eprintln!("tried again: {status}"),
            Err(status) => return Err(status),
        }
        tried_again += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn attempt(
    uploads: &mut WorkerServiceClient<Channel>,
    header: v1::PartialHeader,
    partial: &MadeUpPartial,
) -> Result<v1::Verdict, Status> {
    let shard = header.shard.as_ref().map_or(0, |shard| shard.first_block);
    let (says, messages) = mpsc::channel(1);
    say(&says, Part::Header(header)).await;
    let mut says = Some(says);
    let mut answers = uploads.upload_partial(ReceiverStream::new(messages)).await?.into_inner();
    loop {
        let answer = answers.message().await?.and_then(|answer| answer.message);
        match answer.ok_or_else(|| Status::unavailable("no verdict"))? {
            Message::Verdict(verdict) => return Ok(verdict.try_into().unwrap_or_default()),
            Message::Grant(grant) => {
                let says = says.take().ok_or_else(|| Status::internal("a second grant"))?;
                match grant.put {
                    None => send(&says, shard, partial).await,
                    Some(put) => {
                        store(&put, shard, partial).await.map_err(|error| Status::unavailable(error.to_string()))?;
                        say(&says, Part::Stored(v1::Stored {})).await;
                    }
                }
            }
        }
    }
}

/// The bytes, in the stream.
async fn send(says: &mpsc::Sender<v1::UploadPartialRequest>, shard: u64, partial: &MadeUpPartial) {
    let mut start = 0;
    while let Some(chunk) = partial.chunk(shard, start) {
        start += chunk.len();
        say(says, Part::Data(chunk)).await;
    }
}

/// A coordinator that does not listen any more has said why.
async fn say(says: &mpsc::Sender<v1::UploadPartialRequest>, part: Part) {
    drop(says.send(v1::UploadPartialRequest { part: Some(part) }).await);
}

/// The bytes, where the grant says: plain HTTP, since the S3 server of the benchmark speaks that.
async fn store(put: &v1::PresignedRequest, shard: u64, partial: &MadeUpPartial) -> std::io::Result<()> {
    let rest = put.url.strip_prefix("http://").expect("a plain address");
    let (host, path) = rest.split_once('/').expect("a path");
    let mut stream = TcpStream::connect(host).await?;
    let mut head = format!("{} /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n", put.method);
    let named = put.headers.iter().filter(|(name, _)| !["host", "content-length"].contains(&name.as_str()));
    named.for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    head.push_str(&format!("Content-Length: {}\r\n\r\n", partial.size()));
    stream.write_all(head.as_bytes()).await?;
    let mut start = 0;
    while let Some(chunk) = partial.chunk(shard, start) {
        start += chunk.len();
        stream.write_all(&chunk).await?;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    match answer.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => Err(std::io::Error::other(format!("the store says {}", answer.lines().next().unwrap_or_default()))),
    }
}
