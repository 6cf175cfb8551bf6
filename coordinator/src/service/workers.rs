//! `WorkerService`, the service for workers: their sessions, and the entry of reads and uploads.

use super::beside;
use super::checkpoint::{self, CheckpointUpload};
use super::convert;
use super::receive::{Answers, converse};
use super::upload::{self, PartialUpload};
use super::{invalid, read, unreadable};
use crate::access::{Admitted, CallerQuotas, QuotaPermits, RejectionLog, WorkerBindings};
use crate::artifacts::{BlobLease, Store};
use crate::event_loop::CoordinatorHandle;
use crate::limits::Limits;
use crate::transfers::{TransferOffer, TransferPlaces};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use nadgrid_core::ids::{Digest, SweepId, WorkerId};
use nadgrid_core::numerics::{ClassPatterns, Precision};
use nadgrid_core::scheduler::WorkerProfile;
use nadgrid_core::shell::SessionNumber;
use nadgrid_core::text;
use nadgrid_core::{LIBTORCH_VERSION, PROTOCOL_VERSION};
use nadgrid_proto::convert::worker_id;
use nadgrid_proto::status::Reason;
use nadgrid_proto::v1::session_request::Message;
use nadgrid_proto::v1::{self, worker_service_server::WorkerService};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};

/// The most messages to a worker that wait to be sent.
const OUTBOX: usize = 4096;
/// The time within which a session must begin with a hello.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// The most characters of a worker's name and version that are kept.
const MAX_NAME: usize = 200;
/// The most shards that a worker may hold: those of its slots, and those that are computed but not reported.
const MAX_HELD: usize = 8192;
/// The most slots of a worker.
const MAX_SLOTS: u32 = 1024;

#[derive(Clone)]
pub(crate) struct Workers {
    pub(crate) coordinator: CoordinatorHandle,
    pub(crate) store: Store,
    pub(crate) heartbeat: Duration,
    /// The places for partials and checkpoints that are received.
    pub(crate) uploads: TransferPlaces,
    /// The places for partials that workers put into the store themselves.
    pub(crate) direct: TransferPlaces,
    pub(crate) stop: CancellationToken,
    pub(crate) limits: Limits,
    /// The places for files that are read.
    pub(crate) reads: TransferPlaces,
    pub(crate) quotas: Arc<CallerQuotas>,
    pub(crate) bindings: Arc<WorkerBindings>,
    pub(crate) rejections: Arc<RejectionLog>,
    /// The numerics classes that are accepted.
    pub(crate) classes: ClassPatterns,
}

#[tonic::async_trait]
impl WorkerService for Workers {
    type SessionStream = BoxStream<'static, Result<v1::SessionResponse, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let admitted = Admitted::of(&request)?;
        let permits = self.quotas.session(&admitted)?;
        let mut messages = request.into_inner();
        let first = tokio::time::timeout(HELLO_WITHIN, messages.message()).await;
        let hello = match first.map_err(|_| invalid("the session did not begin with a hello in time"))?? {
            Some(v1::SessionRequest { message: Some(Message::Hello(hello)) }) => hello,
            _ => return Err(invalid("a session begins with a hello")),
        };
        let (worker, profile) = check(&hello)?;
        if !self.classes.admit(&profile.class) {
            let message = format!("the worker's class is {}; this coordinator accepts {}", profile.class, self.classes);
            return Err(Reason::ClassRefused.status(message));
        }
        self.bindings.bind(worker.as_str(), &admitted.caller)?;
        let (outbox, inbox) = mpsc::channel(OUTBOX);
        let welcome = v1::Welcome {
            coordinator_version: env!("CARGO_PKG_VERSION").to_owned(),
            heartbeat_interval_ms: self.heartbeat.as_millis() as u32,
        };
        let welcome = v1::SessionResponse { message: Some(v1::session_response::Message::Welcome(welcome)) };
        let held = hello.held.iter().map(convert::named_shard).collect();
        let session = self.coordinator.attach(worker.clone(), profile, held, outbox).await?;
        // The session is over when the token is revoked or the stream of responses has ended, whatever the worker still sends.
        let over = admitted.caller.revoked.child_token();
        let listening = self.clone().listen(worker, session, messages, over.clone(), permits);
        tokio::spawn(listening);
        let stop = self.stop.clone().cancelled_owned();
        let revoked = admitted.caller.revoked.cancelled_owned();
        let ended = async move {
            tokio::select! { () = stop => {}, () = revoked => {} }
        };
        let ends_with_us = over.drop_guard();
        let news = ReceiverStream::new(inbox).map(convert::session_response);
        let responses = stream::iter([welcome]).chain(news).map(move |response| {
            let _guard = &ends_with_us;
            Ok(response)
        });
        Ok(Response::new(responses.take_until(ended).boxed()))
    }

    type ReadInputStream = BoxStream<'static, Result<v1::ReadInputResponse, Status>>;

    async fn read_input(
        &self,
        request: Request<v1::ReadInputRequest>,
    ) -> Result<Response<Self::ReadInputStream>, Status> {
        // Every worker may read every file, because any of them may be assigned a shard that needs it.
        let admitted = Admitted::of(&request)?;
        let v1::ReadInputRequest { digest, worker_id: reader, through_coordinator } = request.into_inner();
        let digest = Digest::from_hex(&digest).ok_or_else(|| invalid("digest: 64 hexadecimal digits"))?;
        let caller = if reader.is_empty() { admitted.turn() } else { self.reader(&reader, &admitted)? };
        if !through_coordinator && let Some(get) = beside::offer_read(&self.store, &self.limits, digest).await {
            let answer = v1::ReadInputResponse { data: Vec::new(), get: Some(get) };
            return Ok(Response::new(stream::iter([Ok(answer)]).boxed()));
        }
        let ticket = read::place(&self.reads, TransferOffer { caller, sweep: None, size: 0 }).await;
        let blob = self.store.reader(digest).await;
        let blob = blob.map_err(|error| unreadable(&error, Reason::InputMissing))?;
        let reading = read::Reading { blob, ticket, reader: admitted, stop: self.stop.clone() };
        let wrap = |data| v1::ReadInputResponse { data, get: None };
        Ok(Response::new(reading.send(None, wrap, &self.limits)))
    }

    type UploadPartialStream = Answers<v1::UploadPartialResponse>;

    async fn upload_partial(
        &self,
        request: Request<Streaming<v1::UploadPartialRequest>>,
    ) -> Result<Response<Self::UploadPartialStream>, Status> {
        let workers = self.clone();
        converse::<PartialUpload, _>(request, &self.limits, &self.stop, |admitted, receiver| async move {
            let received = upload::receive(&workers, &admitted, receiver).await;
            let verdict = received.inspect_err(|status| {
                let token = &admitted.caller.name;
                let what = format_args!("a report with token {token:?}: {}", status.message());
                workers.rejections.log(admitted.peer.address, cause(status), what);
            })?;
            let message = v1::upload_partial_response::Message::Verdict(verdict.into());
            Ok(v1::UploadPartialResponse { message: Some(message) })
        })
    }

    type UploadCheckpointStream = Answers<v1::UploadCheckpointResponse>;

    async fn upload_checkpoint(
        &self,
        request: Request<Streaming<v1::UploadCheckpointRequest>>,
    ) -> Result<Response<Self::UploadCheckpointStream>, Status> {
        let workers = self.clone();
        converse::<CheckpointUpload, _>(request, &self.limits, &self.stop, |admitted, receiver| async move {
            let wanted = checkpoint::receive(&workers, &admitted, receiver).await?;
            let message = v1::upload_checkpoint_response::Message::Wanted(wanted);
            Ok(v1::UploadCheckpointResponse { message: Some(message) })
        })
    }
}

impl Workers {
    /// Returns the name under which this worker takes turns when it reads.
    fn reader(&self, id: &str, admitted: &Admitted) -> Result<Arc<str>, Status> {
        let worker = worker_id(id).ok_or_else(|| invalid("worker_id is not a worker's id"))?;
        self.bindings.bind(worker.as_str(), &admitted.caller)?;
        Ok(worker.as_str().into())
    }

    /// Notes, for users, whether the store accepted a payload of the sweep.
    pub(super) fn observed(&self, sweep: &SweepId, stored: Result<BlobLease, Status>) -> Result<BlobLease, Status> {
        match &stored {
            Ok(_) => self.uploads.stored(sweep),
            Err(status) => self.note_refusal(sweep, status),
        }
        stored
    }

    /// Notes, for users, that the store failed, if it did.
    pub(super) fn note_refusal(&self, sweep: &SweepId, status: &Status) {
        if Reason::StoreUnavailable.is_of(status) {
            self.uploads.refused(sweep, status.message().to_owned());
        }
    }

    /// Takes a session's messages until it ends.
    async fn listen(
        self,
        worker: WorkerId,
        session: SessionNumber,
        mut messages: Streaming<v1::SessionRequest>,
        session_over: CancellationToken,
        permits: QuotaPermits,
    ) {
        let mut drained = false;
        while let Some(Some(Ok(v1::SessionRequest { message: Some(message) }))) =
            session_over.run_until_cancelled(messages.next()).await
        {
            drained = matches!(message, Message::Goodbye(_));
            if drained || matches!(message, Message::Hello(_)) {
                break;
            }
            // What is about no shard is passed over.
            let Some(message) = convert::worker_message(message) else { continue };
            if self.coordinator.message(worker.clone(), session, message).await.is_err() {
                break;
            }
        }
        self.coordinator.detach(worker, session, drained).await;
        drop(permits);
    }
}

/// The cause of a refused report, for the log.
fn cause(status: &Status) -> &'static str {
    match status.code() {
        Code::InvalidArgument => "invalid report",
        Code::DataLoss => "damaged report",
        Code::PermissionDenied => "report in another worker's name",
        Code::DeadlineExceeded => "report timed out",
        _ => "report failed",
    }
}

/// The most bytes of a part of a numerics class.
const MAX_CLASS: usize = 64;

/// Checks the parts of a numerics class, which are compared, logged and shown.
fn check_class(class: &v1::NumericsClass) -> Result<(), Status> {
    let v1::NumericsClass { device, arithmetic, evaluation, libtorch, precision, .. } = class;
    let parts = [
        ("device", device),
        ("arithmetic", arithmetic),
        ("evaluation", evaluation),
        ("libtorch", libtorch),
        ("precision", precision),
    ];
    let is_fine =
        |part: &str| (1..=MAX_CLASS).contains(&part.len()) && part.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let Some((key, part)) = parts.into_iter().find(|(_, part)| !is_fine(part)) else { return Ok(()) };
    let message = format!(
        "hello.numerics_class.{key} = {:?}: 1 to {MAX_CLASS} printable ASCII characters",
        text::clean(part, MAX_CLASS)
    );
    Err(invalid(message))
}

/// Checks a hello. Returns the worker's id and profile.
fn check(hello: &v1::Hello) -> Result<(WorkerId, WorkerProfile), Status> {
    let version = hello.protocol_version;
    if version != PROTOCOL_VERSION {
        let message = format!("the worker speaks protocol {version}, this coordinator {PROTOCOL_VERSION}");
        return Err(Reason::ProtocolMismatch.status(message));
    }
    let class = hello.numerics_class.clone().ok_or_else(|| invalid("hello.numerics_class is missing"))?;
    check_class(&class)?;
    if class.libtorch != LIBTORCH_VERSION {
        let message =
            format!("the worker runs libtorch {}, this coordinator requires {LIBTORCH_VERSION}", class.libtorch);
        return Err(Reason::LibtorchMismatch.status(message));
    }
    let worker = worker_id(&hello.worker_id);
    let worker =
        worker.ok_or_else(|| invalid("hello.worker_id: 1 to 100 printable ASCII characters without spaces"))?;
    if !(1..=MAX_SLOTS).contains(&hello.slots) {
        let message = format!("hello.slots = {}: from 1 to {MAX_SLOTS}", hello.slots);
        return Err(invalid(message));
    }
    if hello.held.len() > MAX_HELD {
        let message = format!("hello.held has {} shards: at most {MAX_HELD}", hello.held.len());
        return Err(invalid(message));
    }
    // Precisions that this coordinator does not know are ignored, since no spec can ask for them.
    let precisions = Precision::ALL.into_iter().filter(|known| hello.precisions.iter().any(|p| p == known.as_str()));
    let precisions = precisions.collect();
    let name = text::clean(&hello.name, MAX_NAME);
    let version = text::clean(&hello.version, MAX_NAME);
    Ok((worker, WorkerProfile { name, class: class.into(), precisions, slots: hello.slots, version }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_loop::tests::class;

    fn hello() -> v1::Hello {
        v1::Hello {
            worker_id: "w".into(),
            protocol_version: PROTOCOL_VERSION,
            numerics_class: Some((&class()).into()),
            slots: 1,
            ..v1::Hello::default()
        }
    }

    #[test]
    fn the_texts_of_a_hello_are_short_and_harmless_to_a_terminal() {
        let name = "gpu\u{1b}[2J\nINFO forged".into();
        let version = "v".repeat(1 << 20);
        let (_, profile) = check(&v1::Hello { name, version, ..hello() }).unwrap();
        assert_eq!(profile.name, "gpu\u{fffd}[2J\u{fffd}INFO forged");
        assert_eq!(profile.version.chars().count(), MAX_NAME);
        for wrong in [String::new(), "sm_90\r".into(), "x".repeat(MAX_CLASS + 1)] {
            let mut hello = hello();
            hello.numerics_class.as_mut().unwrap().arithmetic = wrong;
            let status = check(&hello).unwrap_err();
            assert!(status.message().contains("hello.numerics_class.arithmetic = "), "{status}");
            assert!(status.message().len() < 300 && !status.message().chars().any(char::is_control), "{status}");
        }
    }
}
