//! Uploads: each result on a stream of its own, offered until the coordinator has it or does not want it any more.
//!
//! On a thread with a runtime of its own and a connection of its own, so that neither a busy lane nor the session waits for it.
//! Nothing of a payload is sent before its grant ([`conversation`]), and there is no limit to waiting for one: what was computed
//! is kept as long as its lease lives, and is given up only when it is refused for what it is. Whatever takes long is told
//! ([`waits`]). Where the coordinator names a place in a shared store, the worker puts results there itself. Checkpoints of running
//! shards go out one at a time, the newest of each, and one that does not arrive is no failure: the next will. Deliberately absent:
//! results on disk. A worker that dies has its shards computed again, from their last checkpoint.

mod conversation;
mod waits;

use crate::backoff::Backoff;
use crate::board::{Board, Fault, Task};
use crate::compute::Snapshot;
use crate::endpoint::{self, Coordinator, Link};
use crate::error::WorkerError;
use crate::lane::{Computed, Name};
use crate::session::Identity;
use conversation::{OutgoingCheckpoint, OutgoingPartial, UploadContext, hand_in};
use nadgrid_core::ids::Digest;
use nadgrid_core::numerics::Precision;
use nadgrid_presigned::DirectStore;
use nadgrid_proto::status::Reason;
use nadgrid_proto::v1;
use nadgrid_proto::v1::worker_service_client::WorkerServiceClient;
use nadgrid_telemetry::{SpanKind, TRACEPARENT, Tracer};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status};
use waits::{UploadWait, UploadWaits, WaitPhase};

/// Times that a payload may arrive damaged.
const MOST_DAMAGED: u32 = 3;

/// What uploads need to know.
#[derive(Clone)]
pub(crate) struct Uploads {
    pub(crate) coordinator: Coordinator,
    pub(crate) identity: Arc<Identity>,
    pub(crate) board: Arc<Board>,
    pub(crate) tracer: Tracer,
    /// The shared store, where there is one.
    pub(crate) store: Arc<DirectStore>,
}

/// Uploads over one connection.
#[derive(Clone)]
struct UploadSender {
    uploads: Uploads,
    link: Link,
    waits: Arc<UploadWaits>,
}

impl Uploads {
    /// Starts the thread. It ends when `stop` is cancelled, whatever is under way.
    pub(crate) fn start(
        self,
        mut results: UnboundedReceiver<Computed>,
        stop: CancellationToken,
    ) -> Result<JoinHandle<()>, WorkerError> {
        let failed = |source| WorkerError::Start { what: "the uploads", source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let work = move || {
            runtime.block_on(async {
                // What is wrong with the credentials, the session tells.
                let Ok(link) = self.coordinator.link() else { return };
                let sender = UploadSender { uploads: self, link, waits: Arc::default() };
                tokio::spawn(waits::tell(sender.waits.clone()));
                tokio::spawn(sender.clone().bring_checkpoints());
                while let Some(Some(computed)) = stop.run_until_cancelled(results.recv()).await {
                    tokio::spawn(sender.clone().bring(computed));
                }
            });
            // Attempts under way are dropped with the runtime.
            runtime.shutdown_background();
        };
        Builder::new().name("uploads".to_owned()).spawn(work).map_err(failed)
    }

    /// The worker's class at a precision.
    fn class(&self, precision: Precision) -> v1::NumericsClass {
        v1::NumericsClass { precision: precision.as_str().to_owned(), ..self.identity.class.clone() }
    }

    fn header(&self, computed: &Computed, through_coordinator: bool) -> v1::PartialHeader {
        v1::PartialHeader {
            worker_id: self.identity.worker_id.clone(),
            shard: Some(computed.task.shard.clone()),
            numerics_class: Some(self.class(computed.precision)),
            size: computed.bytes.len() as u64,
            digest: computed.digest.to_string(),
            seconds: computed.seconds,
            steps: computed.task.steps.told(),
            begin_seconds: computed.begin_seconds,
            through_coordinator,
        }
    }

    fn checkpoint_header(&self, task: &Task, snapshot: &Snapshot) -> v1::CheckpointHeader {
        v1::CheckpointHeader {
            worker_id: self.identity.worker_id.clone(),
            shard: Some(task.shard.clone()),
            numerics_class: Some(self.class(snapshot.precision)),
            size: snapshot.bytes.len() as u64,
            digest: Digest::of(&snapshot.bytes).to_string(),
            members_done: snapshot.members_done,
            epochs: snapshot.epochs,
        }
    }
}

impl UploadSender {
    /// Brings one result home, however often and however long it takes, while it is wanted.
    async fn bring(self, computed: Computed) {
        tokio::select! {
            () = computed.task.lease_lost() => tracing::debug!(shard = %Name(&computed.task), "not wanted any more"),
            () = self.bring_wanted(&computed) => {}
        }
    }

    async fn bring_wanted(&self, computed: &Computed) {
        let wait = self.waits.begin(Name(&computed.task).to_string());
        let mut backoff = Backoff::endless();
        let mut damaged = 0;
        loop {
            let status = match self.attempt(computed, damaged > 0, &wait).await {
                Ok(verdict) => {
                    tracing::debug!(shard = %Name(&computed.task), verdict = verdict.as_str_name(), "uploaded");
                    return self.uploads.board.uploaded(&computed.task);
                }
                Err(status) => status,
            };
            let reason = endpoint::reason(&status);
            damaged += u32::from(status.code() == Code::DataLoss || Reason::PayloadDamaged.is_of(&status));
            if endpoint::is_final(&status) || damaged > MOST_DAMAGED {
                let kind = if damaged > 0 { v1::FailureKind::Transient } else { v1::FailureKind::Task };
                let message = format!("the upload was refused: {reason}");
                tracing::warn!(shard = %Name(&computed.task), "{message}");
                return self.uploads.board.failed(&computed.task, Fault::new(kind, message));
            }
            tracing::debug!(shard = %Name(&computed.task), "upload failed, trying again: {reason}");
            wait.enter(WaitPhase::Refused(reason));
            tokio::time::sleep(backoff.next()).await;
        }
    }

    /// Offers a result once. One that arrived damaged goes through the coordinator, which looks at its bytes at once.
    async fn attempt(&self, computed: &Computed, was_damaged: bool, wait: &UploadWait) -> Result<v1::Verdict, Status> {
        let mut client = WorkerServiceClient::new(self.link.clone());
        // A shard without a lease's span is none of a trace.
        let tracer = &self.uploads.tracer;
        let mut span = computed.task.lease.map(|lease| tracer.span("upload", SpanKind::Client, Some(lease)));
        let traceparent = span.as_mut().and_then(|span| {
            span.set("size", computed.bytes.len() as i64);
            span.context().to_string().parse().ok()
        });
        let call = async move |messages| {
            let mut request = Request::new(messages);
            if let Some(traceparent) = traceparent {
                request.metadata_mut().insert(TRACEPARENT, traceparent);
            }
            client.upload_partial(request).await
        };
        let store = &*self.uploads.store;
        let header = self.uploads.header(computed, was_damaged || store.is_avoided());
        let answer =
            hand_in::<OutgoingPartial, _>(header, computed.bytes.clone(), call, UploadContext { store, wait }).await;
        if let (Some(span), Err(status)) = (&mut span, &answer) {
            span.fail(endpoint::reason(status));
        }
        answer
    }

    /// Brings checkpoints home, one after the other.
    async fn bring_checkpoints(self) {
        let board = self.uploads.board.clone();
        loop {
            let (task, snapshot) = board.next_checkpoint().await;
            let (members, epochs, size) = (snapshot.members_done, snapshot.epochs, snapshot.bytes.len());
            // Without its shard nobody waits for it.
            let answer = tokio::select! {
                answer = self.checkpoint(&task, snapshot) => answer,
                () = task.lease_lost() => Ok(false),
            };
            match &answer {
                Ok(true) => tracing::info!(shard = %Name(&task), members, epochs, size, "checkpoint uploaded"),
                Ok(false) => {
                    tracing::info!(shard = %Name(&task), "dropped: its lease is gone");
                    board.unwanted(&task);
                }
                Err(status) => {
                    let reason = endpoint::reason(status);
                    tracing::warn!(shard = %Name(&task), "a checkpoint was not taken: {reason}");
                }
            }
            board.checkpoint_done(&task, answer.is_ok());
        }
    }

    /// Whether the shard is still wanted.
    async fn checkpoint(&self, task: &Task, snapshot: Snapshot) -> Result<bool, Status> {
        let header = self.uploads.checkpoint_header(task, &snapshot);
        let wait = self.waits.begin(format!("a checkpoint of {}", Name(task)));
        let mut client = WorkerServiceClient::new(self.link.clone());
        let call = async move |messages| client.upload_checkpoint(messages).await;
        hand_in::<OutgoingCheckpoint, _>(
            header,
            snapshot.bytes.into(),
            call,
            UploadContext { store: &self.uploads.store, wait: &wait },
        )
        .await
    }
}
