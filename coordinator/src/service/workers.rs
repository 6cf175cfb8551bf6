//! `WorkerService`: sessions. Uploads have a file of their own.

use super::{store_failed, upload};
use crate::artifacts::Store;
use crate::desk::Desk;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use nadgrid_core::ids::{Digest, WorkerId};
use nadgrid_core::numerics::Precision;
use nadgrid_core::scheduler::WorkerProfile;
use nadgrid_core::{LIBTORCH_VERSION, PROTOCOL_VERSION};
use nadgrid_proto::chunks::chunks;
use nadgrid_proto::convert::worker_id;
use nadgrid_proto::status::Reason;
use nadgrid_proto::v1::session_request::Message;
use nadgrid_proto::v1::{self, worker_service_server::WorkerService};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// Messages to a worker that may wait to be read.
const OUTBOX: usize = 4096;
/// A session that does not begin with a hello within this time is closed.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// Most lanes a worker may claim.
const MAX_LANES: u32 = 1024;

#[derive(Clone)]
pub(crate) struct Workers {
    pub(crate) desk: Desk,
    pub(crate) store: Store,
    pub(crate) heartbeat: Duration,
    pub(crate) uploads: Arc<Semaphore>,
    pub(crate) stop: CancellationToken,
}

#[tonic::async_trait]
impl WorkerService for Workers {
    type SessionStream = BoxStream<'static, Result<v1::SessionResponse, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut messages = request.into_inner();
        let first = tokio::time::timeout(HELLO_WITHIN, messages.message()).await;
        let hello = match first.map_err(|_| invalid("the session did not begin with a hello in time"))?? {
            Some(v1::SessionRequest { message: Some(Message::Hello(hello)) }) => hello,
            _ => return Err(invalid("a session begins with a hello")),
        };
        let (worker, profile) = check(&hello)?;
        let (outbox, inbox) = mpsc::channel(OUTBOX);
        let welcome = v1::Welcome {
            coordinator_version: env!("CARGO_PKG_VERSION").to_owned(),
            heartbeat_interval_ms: self.heartbeat.as_millis() as u32,
        };
        let message = Some(v1::session_response::Message::Welcome(welcome));
        drop(outbox.try_send(v1::SessionResponse { message }));
        let session = self.desk.attach(worker.clone(), profile, hello.held, outbox).await?;
        tokio::spawn(self.clone().listen(worker, session, messages));
        let ended = self.stop.clone().cancelled_owned();
        Ok(Response::new(ReceiverStream::new(inbox).map(Ok).take_until(ended).boxed()))
    }

    type ReadInputStream = BoxStream<'static, Result<v1::ReadInputResponse, Status>>;

    async fn read_input(
        &self,
        request: Request<v1::ReadInputRequest>,
    ) -> Result<Response<Self::ReadInputStream>, Status> {
        let asked = request.into_inner().digest;
        let digest = Digest::from_hex(&asked).ok_or_else(|| invalid("digest: 64 hexadecimal digits"))?;
        let bytes = self.store.get(digest).await.map_err(|error| match error.is_loss() {
            true => Reason::InputMissing.status(error.to_string()),
            false => store_failed(&error),
        })?;
        let chunks = chunks(bytes).map(|data| Ok(v1::ReadInputResponse { data }));
        Ok(Response::new(stream::iter(chunks).boxed()))
    }

    async fn upload_partial(
        &self,
        request: Request<Streaming<v1::UploadPartialRequest>>,
    ) -> Result<Response<v1::UploadPartialResponse>, Status> {
        // Waiting here is the backpressure: memory is taken only by uploads that have a place.
        let _place = self.uploads.acquire().await.map_err(|_| Reason::ShuttingDown.status("no more uploads"))?;
        let verdict = upload::receive(&self.desk, &self.store, request.into_inner()).await?;
        Ok(Response::new(v1::UploadPartialResponse { verdict: verdict.into() }))
    }

    async fn upload_checkpoint(
        &self,
        _: Request<Streaming<v1::UploadCheckpointRequest>>,
    ) -> Result<Response<v1::UploadCheckpointResponse>, Status> {
        Err(Status::unimplemented("checkpoints are not taken yet"))
    }
}

impl Workers {
    /// Takes a session's messages until it ends.
    async fn listen(self, worker: WorkerId, session: u64, mut messages: Streaming<v1::SessionRequest>) {
        let mut drained = false;
        while let Some(Ok(v1::SessionRequest { message: Some(message) })) = messages.next().await {
            drained = matches!(message, Message::Goodbye(_));
            let over = drained || matches!(message, Message::Hello(_));
            if over || self.desk.message(worker.clone(), session, message).await.is_err() {
                break;
            }
        }
        self.desk.detach(worker, session, drained).await;
    }
}

fn invalid(message: &str) -> Status {
    Reason::RequestInvalid.status(message)
}

/// A worker's own words are kept, but not at any length.
fn shorten(message: String) -> String {
    message.chars().take(2_000).collect()
}

/// Whether this worker may work here, and what it is.
fn check(hello: &v1::Hello) -> Result<(WorkerId, WorkerProfile), Status> {
    let version = hello.protocol_version;
    if version != PROTOCOL_VERSION {
        let message = format!("the worker speaks protocol {version}, this coordinator speaks {PROTOCOL_VERSION}");
        return Err(Reason::ProtocolMismatch.status(message));
    }
    let class = hello.numerics_class.clone().ok_or_else(|| invalid("hello.numerics_class is missing"))?;
    if class.libtorch != LIBTORCH_VERSION {
        let message = format!("the worker runs libtorch {}, this coordinator needs {LIBTORCH_VERSION}", class.libtorch);
        return Err(Reason::LibtorchMismatch.status(message));
    }
    let worker = worker_id(&hello.worker_id);
    let worker =
        worker.ok_or_else(|| invalid("hello.worker_id: 1 to 100 printable ASCII characters without spaces"))?;
    if !(1..=MAX_LANES).contains(&hello.lanes) {
        let message = format!("hello.lanes = {}: from 1 to {MAX_LANES}", hello.lanes);
        return Err(invalid(&message));
    }
    // A precision that this coordinator does not know cannot be asked for.
    let precisions = hello.precisions.iter().filter_map(|name| Precision::find(name)).collect();
    let (name, version) = (shorten(hello.name.clone()), shorten(hello.version.clone()));
    Ok((worker, WorkerProfile { name, class: class.into(), precisions, lanes: hello.lanes, version }))
}
