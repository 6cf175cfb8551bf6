//! A worker that computes nothing: its session, and how many of its results may wait.

use crate::partial::MadeUpPartial;
use crate::upload::{self, Outcome};
use nadgrid_core::{LIBTORCH_VERSION, PROTOCOL_VERSION};
use nadgrid_proto::v1;
use nadgrid_proto::v1::session_request::Message as Request;
use nadgrid_proto::v1::session_response::Message as Response;
use nadgrid_proto::v1::worker_service_client::WorkerServiceClient;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

/// Results that wait beside one for each slot, as in a worker.
const MORE_WAITING: u32 = 2;
/// What a worker's connection has.
const WINDOW: u32 = 256 << 10;
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const PING_ANSWERED: Duration = Duration::from_secs(25);

/// What all sessions count together.
pub(crate) struct Tally {
    missing: Cell<u64>,
    tried_again: Cell<u64>,
    not_committed: Cell<u64>,
    failure: RefCell<Option<String>>,
    changed: Notify,
}

impl Tally {
    pub(crate) fn new(partials: u64) -> Self {
        Self {
            missing: Cell::new(partials),
            tried_again: Cell::default(),
            not_committed: Cell::default(),
            failure: RefCell::default(),
            changed: Notify::new(),
        }
    }

    /// Returns once every partial is committed.
    ///
    /// # Panics
    /// When a session or an upload has failed for good: nothing would be measured.
    pub(crate) async fn all_handed_in(&self) {
        while self.missing.get() > 0 {
            self.changed.notified().await;
            let failure = self.failure.borrow();
            assert!(failure.is_none(), "{failure:?}");
        }
    }

    fn fail(&self, why: String) {
        *self.failure.borrow_mut() = Some(why);
        self.changed.notify_one();
    }

    /// Uploads that were offered once more.
    pub(crate) fn tried_again(&self) -> u64 {
        self.tried_again.get()
    }

    /// Uploads that ended without a commit: what somebody else handed in, too.
    pub(crate) fn not_committed(&self) -> u64 {
        self.not_committed.get()
    }

    fn take(&self, outcome: &Outcome) {
        self.tried_again.set(self.tried_again.get() + outcome.tried_again);
        if outcome.verdict == v1::Verdict::Committed {
            self.missing.set(self.missing.get() - 1);
            self.changed.notify_one();
        } else {
            self.not_committed.set(self.not_committed.get() + 1);
        }
    }
}

/// A session that was welcomed.
pub(crate) struct LoadSession {
    id: String,
    slots: u32,
    requests: mpsc::Sender<v1::SessionRequest>,
    responses: Streaming<v1::SessionResponse>,
    heartbeat: Duration,
    uploads: WorkerServiceClient<Channel>,
}

impl LoadSession {
    pub(crate) async fn connect(url: String, id: String, slots: u32) -> Self {
        let (requests, outbox) = mpsc::channel(4 * slots as usize + 8);
        requests.send(request(Request::Hello(hello(&id, slots)))).await.expect("there is room");
        let mut client = WorkerServiceClient::new(endpoint(&url).connect().await.expect("it listens"));
        let mut responses = client.session(ReceiverStream::new(outbox)).await.expect("a session").into_inner();
        let welcome = responses.message().await.expect("an answer").and_then(|response| response.message);
        let Some(Response::Welcome(welcome)) = welcome else { panic!("no welcome: {welcome:?}") };
        let heartbeat = Duration::from_millis(welcome.heartbeat_interval_ms.into());
        // Made when it is first used, as a worker's.
        let uploads = WorkerServiceClient::new(endpoint(&url).connect_lazy());
        Self { id, slots, requests, responses, heartbeat, uploads }
    }

    /// Hands in a partial for every assignment.
    pub(crate) async fn work(mut self, partial: Rc<MadeUpPartial>, tally: Rc<Tally>) {
        let mut beat = tokio::time::interval(self.heartbeat);
        let waiting = Arc::new(Semaphore::new((self.slots + MORE_WAITING) as usize));
        loop {
            tokio::select! {
                response = self.responses.message() => {
                    let message = match response {
                        Ok(Some(response)) => response.message,
                        Ok(None) => return tally.fail("the coordinator ended a session".to_owned()),
                        Err(status) => return tally.fail(format!("a session: {status}")),
                    };
                    if let Some(Response::Assignment(v1::Assignment { shard: Some(shard), .. })) = message {
                        let result = LoadResult {
                            worker: self.id.clone(),
                            shard,
                            requests: self.requests.clone(),
                            uploads: self.uploads.clone(),
                            waiting: waiting.clone(),
                        };
                        tokio::task::spawn_local(result.hand_in(partial.clone(), tally.clone()));
                    }
                }
                _ = beat.tick() => drop(self.requests.send(request(Request::Heartbeat(v1::Heartbeat {}))).await),
            }
        }
    }
}

/// One shard that is "computed" as soon as fewer than enough results wait.
struct LoadResult {
    worker: String,
    shard: v1::Shard,
    requests: mpsc::Sender<v1::SessionRequest>,
    uploads: WorkerServiceClient<Channel>,
    waiting: Arc<Semaphore>,
}

impl LoadResult {
    async fn hand_in(mut self, partial: Rc<MadeUpPartial>, tally: Rc<Tally>) {
        let _waiting = self.waiting.acquire().await.expect("it is never closed");
        let computed = v1::Computed { shard: Some(self.shard.clone()) };
        drop(self.requests.send(request(Request::Computed(computed))).await);
        let header = v1::PartialHeader {
            worker_id: self.worker,
            numerics_class: Some(class()),
            size: partial.size(),
            digest: partial.digest(self.shard.first_block).to_string(),
            seconds: 20.0,
            shard: Some(self.shard),
            ..v1::PartialHeader::default()
        };
        match upload::bring(&mut self.uploads, header, &partial).await {
            Ok(outcome) => tally.take(&outcome),
            Err(status) => tally.fail(format!("an upload: {status}")),
        }
    }
}

fn request(message: Request) -> v1::SessionRequest {
    v1::SessionRequest { message: Some(message) }
}

/// As a worker connects.
fn endpoint(url: &str) -> Endpoint {
    Endpoint::from_shared(url.to_owned())
        .expect("a URL")
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(PING_ANSWERED)
        .keep_alive_while_idle(true)
}

fn class() -> v1::NumericsClass {
    v1::NumericsClass {
        device: "cpu".into(),
        arithmetic: "portable".into(),
        evaluation: "patch".into(),
        libtorch: LIBTORCH_VERSION.into(),
        precision: "fp32".into(),
        kernels: 1,
    }
}

fn hello(id: &str, slots: u32) -> v1::Hello {
    v1::Hello {
        worker_id: id.into(),
        name: id.into(),
        protocol_version: PROTOCOL_VERSION,
        version: "load".into(),
        numerics_class: Some(class()),
        slots,
        held: Vec::new(),
        precisions: vec!["fp32".into()],
    }
}
