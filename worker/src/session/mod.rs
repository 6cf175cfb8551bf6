//! The session with the coordinator, on an OS thread and a runtime of its own: heartbeats leave, whatever the lanes do.
//!
//! ```text
//!              hello, welcome             stop, or drained
//!  connecting ───────────────▶ serving ─────────────────▶ leaving ──▶ (end)
//!    ▲   │                        │ connection lost
//!    │   └─▶ refused: the end     │
//!    └───── reconnecting ◀────────┘   lanes compute on; what is held is named in the next hello
//! ```
//!
//! Deliberately absent: results, which travel by [`crate::upload`].

mod received;
mod serve;

use crate::backoff::Backoff;
use crate::board::Board;
use crate::device::Machine;
use crate::endpoint::{self, Coordinator, Link};
use crate::error::WorkerError;
use crate::shutdown::Stop;
use nadgrid_core::PROTOCOL_VERSION;
use nadgrid_core::numerics::Precision;
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

/// Until the welcome, a coordinator may take this long.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// How long results and last checkpoints may take to go out once nothing is computed any more, and their share of the grace
/// period at most.
const LAST_UPLOADS: Duration = Duration::from_secs(5);
const UPLOADS_OF_GRACE: u32 = 5;
/// What a stopping worker grants a handshake, and a goodbye.
const MOMENT: Duration = Duration::from_secs(1);
/// A session that lived so long was one: the waits before the next begin anew.
const SETTLED: Duration = Duration::from_secs(2);
/// Largest message of a session: one with a spec of the greatest length.
const MESSAGE_LIMIT: usize = 2 << 20;
/// Messages on their way at most; a coordinator that reads none for so long is as good as lost.
const OUTBOX: usize = 256;

/// What this worker says of itself.
#[derive(Clone, Debug)]
pub struct Identity {
    /// New with every run of the program.
    pub worker_id: String,
    /// For people.
    pub name: String,
    /// Numerics class of its results, whatever the precision.
    pub class: v1::NumericsClass,
    /// Precisions that it offers.
    pub precisions: Vec<Precision>,
    /// Shards it computes at once.
    pub lanes: u32,
}

impl Identity {
    /// An identity of its own.
    pub fn new(name: String, machine: &Machine, lanes: u32) -> Self {
        let (class, precisions) = ((&machine.class).into(), machine.precisions());
        Self { worker_id: uuid::Uuid::new_v4().to_string(), name, class, precisions, lanes }
    }

    fn hello(&self, held: Vec<v1::Shard>) -> v1::Hello {
        v1::Hello {
            worker_id: self.worker_id.clone(),
            name: self.name.clone(),
            protocol_version: PROTOCOL_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            numerics_class: Some(self.class.clone()),
            lanes: self.lanes,
            held,
            precisions: self.precisions.iter().map(ToString::to_string).collect(),
        }
    }
}

/// What a session needs to know.
pub(crate) struct Session {
    pub(crate) coordinator: Coordinator,
    pub(crate) identity: Arc<Identity>,
    pub(crate) board: Arc<Board>,
    pub(crate) connect_timeout: Duration,
    pub(crate) reconnect_timeout: Duration,
    /// How long it may take once asked to drain.
    pub(crate) grace: Duration,
    /// Asks it to drain, or to end.
    pub(crate) stop: Stop,
}

/// A connection after its welcome.
struct Open {
    requests: mpsc::Sender<v1::SessionRequest>,
    responses: Streaming<v1::SessionResponse>,
    heartbeat: Duration,
}

/// How serving a connection ended.
enum End {
    /// The worker was asked to stop or can do no more, and has said goodbye.
    Left,
    /// The connection broke.
    Lost(String),
}

impl Session {
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
                        End::Left => return Ok(()),
                        End::Lost(reason) => {
                            tracing::warn!("lost the coordinator at {url}: {reason}");
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
                let (url, tried_for) = (url.clone(), backoff.elapsed());
                return Err(WorkerError::Unreachable { url, reason, tried_for });
            };
            tracing::debug!("no coordinator at {url}, trying again in {wait:.1?}: {reason}");
            tokio::select! {
                () = self.leaving() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Returns when it is time to leave: asked to end, or drained, or of no more use.
    async fn leaving(&self) {
        let drained = async {
            self.stop.draining().await;
            self.board.drain();
            self.board.idle().await;
        };
        tokio::select! {
            () = self.stop.ended() => {}
            () = self.board.is_lost() => {}
            () = drained => {}
        }
    }

    /// How long the last uploads may take.
    fn last_uploads(&self) -> Duration {
        if self.stop.is_draining() { LAST_UPLOADS.min(self.grace / UPLOADS_OF_GRACE) } else { LAST_UPLOADS }
    }

    /// Opens a session; `None` when asked to stop before. A hello that is already on its way is given a moment to be
    /// answered, so that a goodbye can follow it.
    async fn open_unless_stopped(&self, link: Link) -> Option<Result<Open, Status>> {
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
    async fn open(&self, link: Link) -> Result<Open, Status> {
        let (requests, outbox) = mpsc::channel(OUTBOX);
        let hello = Request::Hello(self.identity.hello(self.board.held()));
        requests.try_send(request(hello)).map_err(|_| Status::internal("the outbox is closed"))?;
        let handshake = async {
            let mut client = WorkerServiceClient::new(link).max_decoding_message_size(MESSAGE_LIMIT);
            let mut responses = client.session(ReceiverStream::new(outbox)).await?.into_inner();
            let first = responses.message().await?.and_then(cleaned);
            match first {
                Some(Response::Welcome(welcome)) => Ok((responses, welcome)),
                Some(_) => Err(Status::unknown("the first message was no welcome")),
                None => Err(Status::new(Code::Unavailable, "the session was closed before the welcome")),
            }
        };
        let (responses, welcome) = tokio::time::timeout(HANDSHAKE, handshake)
            .await
            .map_err(|_| Status::deadline_exceeded("no welcome came"))??;
        tracing::info!(coordinator = %self.coordinator.url, version = welcome.coordinator_version, "connected");
        let heartbeat = Duration::from_millis(u64::from(welcome.heartbeat_interval_ms.clamp(10, 60_000)));
        Ok(Open { requests, responses, heartbeat })
    }
}

/// A worker that drains is asked to end when lanes have had their time.
async fn end_in_time(stop: Stop, lanes: Duration) {
    stop.draining().await;
    tokio::time::sleep(lanes).await;
    stop.end();
}

fn request(message: Request) -> v1::SessionRequest {
    v1::SessionRequest { message: Some(message) }
}
