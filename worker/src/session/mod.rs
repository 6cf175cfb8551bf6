//! The session with the coordinator, on an OS thread and a runtime of its own: heartbeats leave, whatever the slots do.
//!
//! ```text
//!              hello, welcome             stop, or drained
//!  connecting ───────────────▶ serving ─────────────────▶ leaving ──▶ (end)
//!    ▲   │                        │ connection lost
//!    │   └─▶ refused: the end     │
//!    └───── reconnecting ◀────────┘   slots compute on; what is held is named in the next hello
//! ```
//!
//! Wire messages become the worker's own types here (`convert`, `received`). Deliberately absent: large results, which
//! [`crate::upload`] sends.

mod convert;
pub(crate) mod download;
mod received;
mod serve;

use crate::backoff::Backoff;
use crate::device::Machine;
use crate::endpoint::{self, CoordinatorEndpoint, Link};
use crate::error::WorkerError;
use crate::shutdown::Stop;
use crate::tasks::TaskTable;
use nadgrid_core::PROTOCOL_VERSION;
use nadgrid_core::numerics::{NumericsClass, Precision};
use nadgrid_proto::v1;
use nadgrid_proto::v1::session_request::Message as Request;
use nadgrid_proto::v1::session_response::Message as Response;
use nadgrid_proto::v1::worker_service_client::WorkerServiceClient;
use received::cleaned;
use std::pin::pin;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

/// The longest time that a coordinator may take until its welcome.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// The longest time that results and last checkpoints may take to be sent once nothing is computed any more. Of the grace period it
/// is one part in [`UPLOADS_OF_GRACE`] at most.
const LAST_UPLOADS: Duration = Duration::from_secs(5);
const UPLOADS_OF_GRACE: u32 = 5;
/// The time that a stopping worker allows for a handshake, and for a goodbye.
const MOMENT: Duration = Duration::from_secs(1);
/// After a session that lasted this long, the waits before the next one start anew.
const SETTLED: Duration = Duration::from_secs(2);
/// The largest message of a session: one with a spec of the greatest length.
const MESSAGE_LIMIT: usize = 2 << 20;
/// The most messages that wait to be sent. A coordinator that reads none of them meanwhile counts as lost.
const OUTBOX: usize = 256;

/// The properties that this worker reports about itself.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// A new id with every run of the program.
    pub(crate) worker_id: String,
    /// The display name.
    pub(crate) name: String,
    /// The numerics class of its results, whatever the precision.
    pub(crate) class: NumericsClass,
    /// The precisions that it offers.
    pub(crate) precisions: Vec<Precision>,
    /// Shards it computes at once.
    pub(crate) slots: u32,
}

impl Identity {
    /// Makes an identity with a new id.
    pub(crate) fn new(name: String, machine: &Machine, slots: u32) -> Self {
        let worker_id = uuid::Uuid::new_v4().to_string();
        Self { worker_id, name, class: machine.class.clone(), precisions: machine.precisions(), slots }
    }

    fn hello(&self, held: Vec<v1::Shard>) -> v1::Hello {
        v1::Hello {
            worker_id: self.worker_id.clone(),
            name: self.name.clone(),
            protocol_version: PROTOCOL_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            numerics_class: Some((&self.class).into()),
            slots: self.slots,
            held,
            precisions: self.precisions.iter().map(ToString::to_string).collect(),
        }
    }
}

/// The worker's side of its sessions with the coordinator, one after the other.
pub(crate) struct WorkerSession {
    pub(crate) coordinator: CoordinatorEndpoint,
    pub(crate) identity: Arc<Identity>,
    pub(crate) tasks: Arc<TaskTable>,
    pub(crate) connect_timeout: Duration,
    pub(crate) reconnect_timeout: Duration,
    /// The longest time from the request to drain to the end.
    pub(crate) grace: Duration,
    /// The request to drain, or to end.
    pub(crate) stop: Stop,
}

/// A connection after its welcome.
struct OpenConnection {
    requests: mpsc::Sender<v1::SessionRequest>,
    responses: Streaming<v1::SessionResponse>,
    heartbeat: Duration,
}

/// The end of a connection.
enum ConnectionEnd {
    /// The worker was asked to stop or can do no more, and has said goodbye.
    Left,
    /// The connection broke.
    Lost(String),
}

impl WorkerSession {
    /// Starts the thread; it ends with the session.
    pub(crate) fn start(self) -> Result<JoinHandle<Result<(), WorkerError>>, WorkerError> {
        let failed = |source| WorkerError::Start { what: "the session", source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        Builder::new().name("session".to_owned()).spawn(move || runtime.block_on(self.keep())).map_err(failed)
    }

    /// Keeps a session with the coordinator until asked to stop, refused, or out of time.
    async fn keep(&self) -> Result<(), WorkerError> {
        let uploads = LAST_UPLOADS.min(self.grace / UPLOADS_OF_GRACE);
        tokio::spawn(end_in_time(self.stop.clone(), self.grace - uploads));
        let link = self.coordinator.link()?;
        let url = &self.coordinator.url;
        let mut backoff = Backoff::new(self.connect_timeout);
        loop {
            let Some(opened) = self.open_unless_stopped(link.clone()).await else { return Ok(()) };
            let reason = match opened {
                Ok(open) => {
                    let began = Instant::now();
                    match self.serve(open).await {
                        ConnectionEnd::Left => return Ok(()),
                        ConnectionEnd::Lost(reason) => {
                            tracing::warn!("lost the connection to the coordinator at {url}: {reason}");
                            if began.elapsed() >= SETTLED {
                                backoff = Backoff::new(self.reconnect_timeout);
                            } else {
                                // One that welcomes and closes, again and again, is asked for ever less often.
                                backoff.begin_again(self.reconnect_timeout);
                            }
                            reason
                        }
                    }
                }
                Err(status) if endpoint::is_final(&status) => {
                    return Err(WorkerError::Refused { url: url.clone(), reason: endpoint::reason(&status) });
                }
                Err(status) => endpoint::reason(&status),
            };
            let Some(wait) = backoff.wait() else {
                let url = url.clone();
                let tried_for = backoff.elapsed();
                return Err(WorkerError::Unreachable { url, reason, tried_for });
            };
            tracing::debug!("cannot reach the coordinator at {url}, retrying in {wait:.1?}: {reason}");
            tokio::select! {
                () = self.leaving() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Returns when it is time to leave: the worker was asked to end, is drained, or can no longer compute.
    async fn leaving(&self) {
        let drained = async {
            self.stop.draining().await;
            self.tasks.drain();
            self.tasks.idle().await;
        };
        tokio::select! {
            () = self.stop.ended() => {}
            () = self.tasks.is_lost() => {}
            () = drained => {}
        }
    }

    /// Returns how long the last uploads may take.
    fn last_uploads(&self) -> Duration {
        if self.stop.is_draining() { LAST_UPLOADS.min(self.grace / UPLOADS_OF_GRACE) } else { LAST_UPLOADS }
    }

    /// Opens a session, and returns `None` when asked to stop before. A hello that is already sent is given a moment to be
    /// answered, so that a goodbye can follow it.
    async fn open_unless_stopped(&self, link: Link) -> Option<Result<OpenConnection, Status>> {
        let mut opening = pin!(self.open(link));
        tokio::select! {
            opened = &mut opening => Some(opened),
            () = self.leaving() => match tokio::time::timeout(MOMENT, opening).await {
                Ok(Ok(open)) => Some(Ok(open)),
                _ => None,
            },
        }
    }

    /// Connects, says hello and waits for the welcome.
    async fn open(&self, link: Link) -> Result<OpenConnection, Status> {
        let (requests, outbox) = mpsc::channel(OUTBOX);
        let held = self.tasks.held().iter().map(Into::into).collect();
        let hello = Request::Hello(self.identity.hello(held));
        requests.try_send(request(hello)).map_err(|_| Status::internal("the outbox is closed"))?;
        let handshake = async {
            let mut client = WorkerServiceClient::new(link).max_decoding_message_size(MESSAGE_LIMIT);
            let mut responses = client.session(ReceiverStream::new(outbox)).await?.into_inner();
            let first = responses.message().await?.and_then(cleaned);
            match first {
                Some(Response::Welcome(welcome)) => Ok((responses, welcome)),
                Some(_) => Err(Status::unknown("the first message was not a welcome")),
                None => Err(Status::new(Code::Unavailable, "the session was closed before the welcome")),
            }
        };
        let (responses, welcome) = tokio::time::timeout(HANDSHAKE, handshake)
            .await
            .map_err(|_| Status::deadline_exceeded("the coordinator sent no welcome in time"))??;
        tracing::info!(coordinator = %self.coordinator.url, version = welcome.coordinator_version, "connected");
        let heartbeat = Duration::from_millis(u64::from(welcome.heartbeat_interval_ms.clamp(10, 60_000)));
        Ok(OpenConnection { requests, responses, heartbeat })
    }
}

/// Asks a draining worker to end when slots have had their time.
async fn end_in_time(stop: Stop, slots: Duration) {
    stop.draining().await;
    tokio::time::sleep(slots).await;
    stop.end();
}

fn request(message: Request) -> v1::SessionRequest {
    v1::SessionRequest { message: Some(message) }
}
