//! A foreign client and worker: raw gRPC against a real coordinator.

// Each test uses what it needs.
#![allow(dead_code)]

use nadgrid_core::ids::Digest;
use nadgrid_core::moments::Moments;
use nadgrid_core::{LIBTORCH_VERSION, PROTOCOL_VERSION};
use nadgrid_proto::upload::gated;
use nadgrid_proto::v1::session_request::Message as SessionMessage;
use nadgrid_proto::v1::sweep_service_client::SweepServiceClient;
use nadgrid_proto::v1::upload_partial_request::Part;
use nadgrid_proto::v1::upload_partial_response::Message;
use nadgrid_proto::v1::worker_service_client::WorkerServiceClient;
use nadgrid_proto::v1::{self, session_response};
use nadgrid_tests::Cluster;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// Both services of one coordinator.
pub(crate) struct Peer {
    pub(crate) sweeps: SweepServiceClient<Channel>,
    pub(crate) workers: WorkerServiceClient<Channel>,
}

impl Peer {
    pub(crate) async fn of(cluster: &Cluster) -> Self {
        let channel = Channel::from_shared(cluster.url.clone()).unwrap().connect().await.unwrap();
        Self { sweeps: SweepServiceClient::new(channel.clone()), workers: WorkerServiceClient::new(channel) }
    }

    pub(crate) async fn submit(&mut self, spec: &str, key: &str) -> Result<v1::SubmitResponse, Status> {
        let request =
            v1::SubmitRequest { spec: spec.into(), idempotency_key: key.into(), ..v1::SubmitRequest::default() };
        self.sweeps.submit(request).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn session(
        &mut self,
        hello: v1::Hello,
    ) -> Result<(mpsc::Sender<v1::SessionRequest>, Streaming<v1::SessionResponse>), Status> {
        let (sender, receiver) = mpsc::channel(16);
        sender.send(v1::SessionRequest { message: Some(SessionMessage::Hello(hello)) }).await.unwrap();
        let responses = self.workers.session(ReceiverStream::new(receiver)).await?.into_inner();
        Ok((sender, responses))
    }

    /// A session of this worker, with these slots and with what it says it holds.
    pub(crate) async fn open(&mut self, worker: &str, slots: u32, held: Vec<v1::Shard>) -> OpenSession {
        let hello = v1::Hello { worker_id: worker.into(), name: worker.into(), slots, held, ..hello() };
        let (says, responses) = self.session(hello).await.unwrap();
        let sender = says.clone();
        let heart = tokio::spawn(async move {
            let alive = || v1::SessionRequest { message: Some(SessionMessage::Heartbeat(v1::Heartbeat {})) };
            while sender.send(alive()).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        OpenSession { worker: worker.into(), says, responses, heart }
    }

    pub(crate) async fn checkpoint(&mut self, header: v1::CheckpointHeader, bytes: &[u8]) -> Result<bool, Status> {
        use v1::{upload_checkpoint_request::Part, upload_checkpoint_response::Message};
        let header = v1::UploadCheckpointRequest { part: Some(Part::Header(header)) };
        let data = |data| v1::UploadCheckpointRequest { part: Some(Part::Data(data)) };
        let (mut gate, messages) = gated(header, bytes.to_vec(), data);
        let mut answers = self.workers.upload_checkpoint(messages).await?.into_inner();
        loop {
            match answers.message().await?.and_then(|answer| answer.message) {
                Some(Message::Grant(_)) => gate.open(),
                Some(Message::Wanted(wanted)) => return Ok(wanted),
                None => return Err(Status::unknown("no answer")),
            }
        }
    }

    pub(crate) async fn input(&mut self, bytes: &[u8]) -> Result<v1::InputHeader, Status> {
        input(&mut self.sweeps, bytes).await
    }

    pub(crate) async fn upload(&mut self, header: v1::PartialHeader, bytes: &[u8]) -> Result<v1::Verdict, Status> {
        let header = v1::UploadPartialRequest { part: Some(Part::Header(header)) };
        let data = |data| v1::UploadPartialRequest { part: Some(Part::Data(data)) };
        let (mut gate, messages) = gated(header, bytes.to_vec(), data);
        let mut answers = self.workers.upload_partial(messages).await?.into_inner();
        loop {
            match answers.message().await?.and_then(|answer| answer.message) {
                Some(Message::Grant(_)) => gate.open(),
                Some(Message::Verdict(verdict)) => return Ok(verdict.try_into().unwrap()),
                None => return Err(Status::unknown("no answer")),
            }
        }
    }

    /// An upload that says what the test has it say.
    pub(crate) async fn offer(&mut self, header: v1::PartialHeader) -> UploadOffer {
        let (says, messages) = mpsc::channel(4);
        let offer = v1::UploadPartialRequest { part: Some(Part::Header(header)) };
        says.send(offer).await.unwrap();
        let answers = self.workers.upload_partial(ReceiverStream::new(messages)).await.unwrap().into_inner();
        UploadOffer { says, answers }
    }
}

/// A worker's session, which is heard every second until it is dropped.
pub(crate) struct OpenSession {
    worker: String,
    says: mpsc::Sender<v1::SessionRequest>,
    responses: Streaming<v1::SessionResponse>,
    heart: JoinHandle<()>,
}

impl OpenSession {
    pub(crate) async fn say(&self, message: SessionMessage) {
        self.says.send(v1::SessionRequest { message: Some(message) }).await.unwrap();
    }

    /// The next shard that it is given.
    pub(crate) async fn shard(&mut self) -> v1::Shard {
        assignment(&mut self.responses).await.shard.unwrap()
    }

    /// What its next result is answered, whatever it is given meanwhile.
    pub(crate) async fn verdict(&mut self) -> v1::Verdict {
        use session_response::Message;
        loop {
            match self.responses.message().await.unwrap().unwrap().message.unwrap() {
                Message::Answer(answer) => return answer.verdict(),
                other => assert!(matches!(other, Message::Welcome(_) | Message::Assignment(_)), "{other:?}"),
            }
        }
    }

    /// How it begins to upload a partial of this shard.
    pub(crate) fn header(&self, shard: &v1::Shard, bytes: &[u8]) -> v1::PartialHeader {
        v1::PartialHeader { worker_id: self.worker.clone(), ..header(shard, bytes) }
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        // While anybody can speak in it, the session keeps its connection open.
        self.heart.abort();
    }
}

/// An upload by hand.
pub(crate) struct UploadOffer {
    pub(crate) says: mpsc::Sender<v1::UploadPartialRequest>,
    pub(crate) answers: Streaming<v1::UploadPartialResponse>,
}

impl UploadOffer {
    pub(crate) async fn data(&self, bytes: &[u8]) {
        let part = Some(Part::Data(bytes.to_vec()));
        self.says.send(v1::UploadPartialRequest { part }).await.unwrap();
    }

    pub(crate) async fn answer(&mut self) -> Result<Message, Status> {
        let answer = self.answers.message().await?;
        Ok(answer.and_then(|answer| answer.message).expect("an answer"))
    }

    pub(crate) async fn granted(&mut self) {
        assert!(matches!(self.answer().await, Ok(Message::Grant(_))));
    }

    /// Sends the bytes after the grant, and the end; returns the verdict.
    pub(crate) async fn finish(mut self, bytes: &[u8]) -> Result<v1::Verdict, Status> {
        for chunk in bytes.chunks(1 << 20) {
            self.data(chunk).await;
        }
        self.says = mpsc::channel(1).0;
        match self.answer().await? {
            Message::Verdict(verdict) => Ok(verdict.try_into().unwrap()),
            other => panic!("{other:?}"),
        }
    }
}

/// Uploads a file, which may be there already.
pub(crate) async fn input(sweeps: &mut SweepServiceClient<Channel>, bytes: &[u8]) -> Result<v1::InputHeader, Status> {
    use v1::{upload_input_request::Part, upload_input_response::Message};
    let header = v1::InputHeader { size: bytes.len() as u64, digest: Digest::of(bytes).to_string() };
    let header = v1::UploadInputRequest { part: Some(Part::Header(header)) };
    let data = |data| v1::UploadInputRequest { part: Some(Part::Data(data)) };
    let (mut gate, messages) = gated(header, bytes.to_vec(), data);
    let mut answers = sweeps.upload_input(messages).await?.into_inner();
    loop {
        match answers.message().await?.and_then(|answer| answer.message) {
            Some(Message::Grant(_)) => gate.open(),
            Some(Message::Stored(stored)) => return Ok(stored),
            None => return Err(Status::unknown("no answer")),
        }
    }
}

pub(crate) fn class() -> v1::NumericsClass {
    v1::NumericsClass {
        device: "cpu".into(),
        arithmetic: "portable".into(),
        evaluation: "patch".into(),
        libtorch: LIBTORCH_VERSION.into(),
        precision: "fp32".into(),
        kernels: 1,
    }
}

pub(crate) fn hello() -> v1::Hello {
    v1::Hello {
        worker_id: "peer".into(),
        name: "peer".into(),
        protocol_version: PROTOCOL_VERSION,
        version: "0".into(),
        numerics_class: Some(class()),
        slots: 1,
        held: Vec::new(),
        precisions: vec!["fp32".into()],
    }
}

pub(crate) async fn assignment(responses: &mut Streaming<v1::SessionResponse>) -> v1::Assignment {
    loop {
        match responses.message().await.unwrap().unwrap().message {
            Some(session_response::Message::Assignment(assignment)) => return assignment,
            other => assert!(matches!(other, Some(session_response::Message::Welcome(_))), "{other:?}"),
        }
    }
}

pub(crate) fn header(shard: &v1::Shard, bytes: &[u8]) -> v1::PartialHeader {
    v1::PartialHeader {
        worker_id: "peer".into(),
        shard: Some(shard.clone()),
        numerics_class: Some(class()),
        size: bytes.len() as u64,
        digest: Digest::of(bytes).to_string(),
        seconds: 0.1,
        ..v1::PartialHeader::default()
    }
}

/// A partial of made-up gradients: more than 4 MiB, tonic's default limit of a message.
pub(crate) fn partial(networks: usize) -> Vec<u8> {
    let rows: Vec<f32> = (0..networks * 1024).map(|i| ((i * 37 % 101) as f32 - 50.0) / 1e3).collect();
    let bytes = Moments::of_rows(&rows, 1024).to_bytes();
    assert!(bytes.len() > 4 << 20);
    bytes
}
