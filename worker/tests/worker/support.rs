//! A coordinator for tests: real gRPC over loopback, told what to do by the test, noting what it hears.

use nadgrid_core::ids::Digest;
use nadgrid_proto::chunks::{Assembler, chunks};
use nadgrid_proto::status::Reason;
use nadgrid_proto::v1;
use nadgrid_proto::v1::session_request::Message as Request;
use nadgrid_proto::v1::session_response::Message as Response;
use nadgrid_proto::v1::upload_checkpoint_request::Part as CheckpointPart;
use nadgrid_proto::v1::upload_checkpoint_response::Message as CheckpointAnswer;
use nadgrid_proto::v1::upload_partial_request::Part;
use nadgrid_proto::v1::upload_partial_response::Message as PartialAnswer;
use nadgrid_proto::v1::worker_service_server::{WorkerService, WorkerServiceServer};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request as GrpcRequest, Response as GrpcResponse, Status, Streaming};

/// A partial that came whole.
pub(crate) struct Upload {
    pub(crate) header: v1::PartialHeader,
    pub(crate) bytes: Vec<u8>,
}

impl Upload {
    /// A small result, which came in the session.
    fn of(worker_id: &str, result: &v1::ShardResult) -> Self {
        let v1::ShardResult { shard, numerics_class, data, digest, seconds, steps, begin_seconds } = result.clone();
        let (worker_id, size) = (worker_id.to_owned(), data.len() as u64);
        let header = v1::PartialHeader {
            worker_id,
            shard,
            numerics_class,
            size,
            digest,
            seconds,
            steps,
            begin_seconds,
            through_coordinator: false,
        };
        Self { header, bytes: data }
    }
}

/// A checkpoint that came whole.
#[derive(Clone)]
pub(crate) struct Checkpoint {
    pub(crate) header: v1::CheckpointHeader,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) hellos: Vec<v1::Hello>,
    /// Everything after the hellos, with its time.
    pub(crate) messages: Vec<(Instant, Request)>,
    pub(crate) uploads: Vec<Upload>,
    pub(crate) checkpoints: Vec<Checkpoint>,
    /// Uploads that were begun, but for those that left before their grant.
    pub(crate) offers: usize,
    /// Sessions that have ended.
    pub(crate) ended: usize,
}

#[derive(Default)]
struct Told {
    /// To the session that is open.
    session: Option<Sender<Result<v1::SessionResponse, Status>>>,
    /// Answers to the next hellos, instead of a welcome.
    refusals: VecDeque<Status>,
    /// Answers to the next uploads, instead of taking them.
    upload_failures: VecDeque<Status>,
    /// Whether uploads wait for their grants.
    grants_held: bool,
    /// Answers to checkpoints; without one they are wanted.
    checkpoint_answer: Option<Result<bool, Status>>,
    /// Files by digest.
    files: HashMap<String, Vec<u8>>,
}

#[derive(Clone, Default)]
pub(crate) struct Script {
    heard: Arc<Mutex<Heard>>,
    told: Arc<Mutex<Told>>,
}

pub(crate) struct Coordinator {
    pub(crate) script: Script,
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    runtime: Runtime,
}

impl Coordinator {
    pub(crate) fn start() -> Self {
        Self::on("127.0.0.1:0".parse().unwrap(), Script::default())
    }

    /// Listens; the port may have been another coordinator's.
    pub(crate) fn on(address: SocketAddr, script: Script) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, service) = (CancellationToken::new(), WorkerServiceServer::new(script.clone()));
        let stopped = stop.clone();
        runtime.spawn(async move {
            let server = tonic::transport::Server::builder().add_service(service);
            let serve = server.serve_with_incoming(TcpListenerStream::new(listener));
            stopped.run_until_cancelled(serve).await
        });
        Self { script, address, stop, runtime }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Dies with all its connections; gives back what it heard.
    pub(crate) fn die(self) -> Script {
        self.stop.cancel();
        self.script.told.lock().unwrap().session = None;
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        self.script
    }
}

impl Script {
    pub(crate) fn say(&self, message: Response) {
        let told = self.told.lock().unwrap();
        let session = told.session.as_ref().expect("a session is open");
        session.try_send(Ok(v1::SessionResponse { message: Some(message) })).unwrap();
    }

    pub(crate) fn assign(&self, spec: &str, architecture: &str, shard: &v1::Shard) {
        self.assign_from(spec, architecture, shard, None);
    }

    /// With what an earlier worker left.
    pub(crate) fn assign_from(&self, spec: &str, architecture: &str, shard: &v1::Shard, checkpoint: Option<Vec<u8>>) {
        let inputs = checkpoint.map(|bytes| {
            let (size, digest) = (bytes.len() as u64, Digest::of(&bytes).to_string());
            self.told.lock().unwrap().files.insert(digest.clone(), bytes);
            v1::ShardInput { role: "checkpoint".into(), name: "checkpoint".into(), size, digest }
        });
        self.say(Response::Assignment(v1::Assignment {
            shard: Some(shard.clone()),
            spec: spec.to_owned(),
            architecture: architecture.to_owned(),
            experiment: "nads".into(),
            inputs: inputs.into_iter().collect(),
            ..v1::Assignment::default()
        }));
    }

    /// From now on checkpoints are answered so.
    pub(crate) fn answer_checkpoints(&self, answer: Result<bool, Status>) {
        self.told.lock().unwrap().checkpoint_answer = Some(answer);
    }

    pub(crate) fn revoke(&self, shard: &v1::Shard) {
        self.say(Response::Revocation(v1::Revocation { shard: Some(shard.clone()), reason: "test".into() }));
    }

    /// Ends the open session, as a broken connection does.
    pub(crate) fn hang_up(&self) {
        self.told.lock().unwrap().session = None;
    }

    pub(crate) fn refuse_next(&self, status: Status) {
        self.told.lock().unwrap().refusals.push_back(status);
    }

    /// From now on, the next `times` uploads fail; no others.
    pub(crate) fn fail_uploads(&self, times: usize, status: &Status) {
        self.told.lock().unwrap().upload_failures = std::iter::repeat_n(status.clone(), times).collect();
    }

    /// From now on uploads get no grant, or those that wait do.
    pub(crate) fn hold_grants(&self, held: bool) {
        self.told.lock().unwrap().grants_held = held;
    }

    pub(crate) fn heard<T>(&self, look: impl FnOnce(&Heard) -> T) -> T {
        look(&self.heard.lock().unwrap())
    }

    /// Waits until something was heard.
    pub(crate) fn until(&self, what: &str, holds: impl Fn(&Heard) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.heard(&holds) {
            assert!(Instant::now() < deadline, "waited too long for {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[tonic::async_trait]
impl WorkerService for Script {
    type SessionStream = ReceiverStream<Result<v1::SessionResponse, Status>>;

    async fn session(
        &self,
        request: GrpcRequest<Streaming<v1::SessionRequest>>,
    ) -> Result<GrpcResponse<Self::SessionStream>, Status> {
        let mut requests = request.into_inner();
        let Some(Request::Hello(hello)) = requests.message().await?.and_then(|request| request.message) else {
            return Err(Status::invalid_argument("no hello"));
        };
        if let Some(refusal) = self.told.lock().unwrap().refusals.pop_front() {
            return Err(refusal);
        }
        let worker_id = hello.worker_id.clone();
        self.heard.lock().unwrap().hellos.push(hello);
        let (session, responses) = channel(64);
        let welcome = v1::Welcome { coordinator_version: "test".into(), heartbeat_interval_ms: 50 };
        let _ = session.try_send(Ok(v1::SessionResponse { message: Some(Response::Welcome(welcome)) }));
        self.told.lock().unwrap().session = Some(session);
        let Self { heard, told } = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                match &request.message {
                    Some(Request::Goodbye(_)) => told.lock().unwrap().session = None,
                    Some(Request::Result(result)) => {
                        heard.lock().unwrap().uploads.push(Upload::of(&worker_id, result));
                        let verdict = v1::Verdict::Committed.into();
                        let answer = v1::Answer { shard: result.shard.clone(), verdict, message: String::new() };
                        let answer = v1::SessionResponse { message: Some(Response::Answer(answer)) };
                        if let Some(session) = &told.lock().unwrap().session {
                            session.try_send(Ok(answer)).unwrap();
                        }
                    }
                    _ => {}
                }
                heard.lock().unwrap().messages.extend(request.message.map(|message| (Instant::now(), message)));
            }
            heard.lock().unwrap().ended += 1;
        });
        Ok(GrpcResponse::new(ReceiverStream::new(responses)))
    }

    type ReadInputStream = ReceiverStream<Result<v1::ReadInputResponse, Status>>;

    async fn read_input(
        &self,
        request: GrpcRequest<v1::ReadInputRequest>,
    ) -> Result<GrpcResponse<Self::ReadInputStream>, Status> {
        let bytes = self.told.lock().unwrap().files.get(&request.into_inner().digest).cloned();
        let bytes = bytes.ok_or_else(|| Reason::InputMissing.status("this script has no such file"))?;
        let part = |data| Ok(v1::ReadInputResponse { data, ..v1::ReadInputResponse::default() });
        let parts: Vec<_> = chunks(bytes).map(part).collect();
        let (sender, receiver) = channel(parts.len().max(1));
        parts.into_iter().for_each(|part| sender.try_send(part).unwrap());
        Ok(GrpcResponse::new(ReceiverStream::new(receiver)))
    }

    type UploadCheckpointStream = ReceiverStream<Result<v1::UploadCheckpointResponse, Status>>;

    async fn upload_checkpoint(
        &self,
        request: GrpcRequest<Streaming<v1::UploadCheckpointRequest>>,
    ) -> Result<GrpcResponse<Self::UploadCheckpointStream>, Status> {
        let mut parts = request.into_inner();
        let Some(CheckpointPart::Header(header)) = parts.message().await?.and_then(|request| request.part) else {
            return Err(Status::invalid_argument("no header"));
        };
        let say = |message| v1::UploadCheckpointResponse { message: Some(message) };
        let (answers, receiver) = channel(2);
        let _ = answers.try_send(Ok(say(CheckpointAnswer::Grant(v1::Grant::default()))));
        let script = self.clone();
        tokio::spawn(async move {
            let bytes = whole(header.size, &header.digest, parts, |request| match request.part {
                Some(CheckpointPart::Data(data)) => Some(data),
                _ => None,
            });
            let answer = match bytes.await {
                Ok(bytes) => {
                    let answer = script.told.lock().unwrap().checkpoint_answer.clone().unwrap_or(Ok(true));
                    script.heard.lock().unwrap().checkpoints.push(Checkpoint { header, bytes });
                    answer
                }
                Err(status) => Err(status),
            };
            let _ = answers.send(answer.map(|wanted| say(CheckpointAnswer::Wanted(wanted)))).await;
        });
        Ok(GrpcResponse::new(ReceiverStream::new(receiver)))
    }

    type UploadPartialStream = ReceiverStream<Result<v1::UploadPartialResponse, Status>>;

    async fn upload_partial(
        &self,
        request: GrpcRequest<Streaming<v1::UploadPartialRequest>>,
    ) -> Result<GrpcResponse<Self::UploadPartialStream>, Status> {
        let mut parts = request.into_inner();
        let Some(Part::Header(header)) = parts.message().await?.and_then(|request| request.part) else {
            return Err(Status::invalid_argument("no header"));
        };
        let say = |message| v1::UploadPartialResponse { message: Some(message) };
        let (answers, receiver) = channel(2);
        let script = self.clone();
        tokio::spawn(async move {
            script.heard.lock().unwrap().offers += 1;
            while script.told.lock().unwrap().grants_held {
                tokio::time::sleep(Duration::from_millis(5)).await;
                if answers.is_closed() {
                    script.heard.lock().unwrap().offers -= 1;
                    return;
                }
            }
            let failure = script.told.lock().unwrap().upload_failures.pop_front();
            let _ = answers.try_send(Ok(say(PartialAnswer::Grant(v1::Grant::default()))));
            let bytes = whole(header.size, &header.digest, parts, |request| match request.part {
                Some(Part::Data(data)) => Some(data),
                _ => None,
            });
            let answer = match (bytes.await, failure) {
                (Ok(bytes), None) => {
                    script.heard.lock().unwrap().uploads.push(Upload { header, bytes });
                    Ok(say(PartialAnswer::Verdict(v1::Verdict::Committed.into())))
                }
                (Err(status), _) | (_, Some(status)) => Err(status),
            };
            let _ = answers.send(answer).await;
        });
        Ok(GrpcResponse::new(ReceiverStream::new(receiver)))
    }
}

/// The bytes of an upload after its header, whole.
async fn whole<T>(
    size: u64,
    digest: &str,
    mut parts: Streaming<T>,
    data: fn(T) -> Option<Vec<u8>>,
) -> Result<Vec<u8>, Status> {
    let damaged = |e: nadgrid_proto::chunks::ChunkError| Status::data_loss(e.to_string());
    let mut assembler = Assembler::new(size, 1 << 30, digest).map_err(damaged)?;
    while let Some(request) = parts.message().await? {
        if let Some(data) = data(request) {
            assembler.push(&data).map_err(damaged)?;
        }
    }
    assembler.finish().map(|(bytes, _)| bytes).map_err(damaged)
}
