//! Uploads: each result on a stream of its own, retried until the coordinator has it or no longer wants it.
//!
//! Uploads have a thread, a runtime and a connection of their own, so that neither a busy slot nor the session waits for them.
//! Nothing of a payload is sent before its grant ([`conversation`]), and there is no limit to waiting for one: a result is kept as
//! long as its lease lives, and is given up only when the coordinator refuses it. What waits for long is logged ([`waits`]). Where
//! the coordinator names a place in a shared store, the worker puts results there itself. Checkpoints of running shards are
//! uploaded one at a time, the newest of each, and one that fails is no failure of the shard: the next will follow. Deliberately
//! absent: results on disk. If a worker dies, its shards are computed again, from their last checkpoint.

mod conversation;
mod waits;

use crate::backoff::Backoff;
use crate::compute::ShardSnapshot;
use crate::endpoint::{self, CoordinatorEndpoint, Link};
use crate::error::WorkerError;
use crate::fault::Fault;
use crate::session::Identity;
use crate::task::{ComputedShard, Task};
use crate::tasks::TaskTable;
use conversation::{OutgoingCheckpoint, OutgoingPartial, UploadContext, upload};
use nadgrid_core::ids::Digest;
use nadgrid_core::scheduler::FailureKind;
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

/// The number of times that a payload may arrive damaged before its upload is given up.
const MAX_DAMAGED: u32 = 3;

/// The resources that all uploads share.
#[derive(Clone)]
pub(crate) struct Uploads {
    pub(crate) coordinator: CoordinatorEndpoint,
    pub(crate) identity: Arc<Identity>,
    pub(crate) tasks: Arc<TaskTable>,
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
        mut results: UnboundedReceiver<Arc<ComputedShard>>,
        stop: CancellationToken,
    ) -> Result<JoinHandle<()>, WorkerError> {
        let failed = |source| WorkerError::Start { what: "the uploads", source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let work = move || {
            runtime.block_on(async {
                // The session reports what is wrong with the credentials.
                let Ok(link) = self.coordinator.link() else { return };
                let sender = UploadSender { uploads: self, link, waits: Arc::default() };
                tokio::spawn(waits::warn(sender.waits.clone()));
                tokio::spawn(sender.clone().upload_checkpoints());
                while let Some(Some(computed)) = stop.run_until_cancelled(results.recv()).await {
                    tokio::spawn(sender.clone().upload(computed));
                }
            });
            // Attempts under way are dropped with the runtime.
            runtime.shutdown_background();
        };
        Builder::new().name("uploads".to_owned()).spawn(work).map_err(failed)
    }

    fn header(&self, computed: &ComputedShard, through_coordinator: bool) -> v1::PartialHeader {
        v1::PartialHeader {
            worker_id: self.identity.worker_id.clone(),
            shard: Some((&computed.task.shard).into()),
            numerics_class: Some((&computed.class).into()),
            size: computed.bytes.len() as u64,
            digest: computed.digest.to_string(),
            seconds: computed.seconds,
            steps: computed.phases.iter().map(Into::into).collect(),
            begin_seconds: computed.begin_seconds,
            through_coordinator,
        }
    }

    fn checkpoint_header(&self, task: &Task, snapshot: &ShardSnapshot) -> v1::CheckpointHeader {
        v1::CheckpointHeader {
            worker_id: self.identity.worker_id.clone(),
            shard: Some((&task.shard).into()),
            numerics_class: Some((&self.identity.class.with(snapshot.precision)).into()),
            size: snapshot.bytes.len() as u64,
            digest: Digest::of(&snapshot.bytes).to_string(),
            members_done: snapshot.members_done,
            epochs: snapshot.epochs,
        }
    }
}

impl UploadSender {
    /// Uploads one result, however many attempts it takes, while it is wanted.
    async fn upload(self, computed: Arc<ComputedShard>) {
        tokio::select! {
            () = computed.task.lease_lost() => tracing::debug!(shard = %computed.task, "no longer wanted"),
            () = self.upload_wanted(&computed) => {}
        }
    }

    async fn upload_wanted(&self, computed: &ComputedShard) {
        let wait = self.waits.begin(computed.task.to_string());
        let mut backoff = Backoff::endless();
        let mut damaged = 0;
        loop {
            let status = match self.attempt(computed, damaged > 0, &wait).await {
                Ok(verdict) => {
                    tracing::debug!(shard = %computed.task, verdict = verdict.as_str_name(), "uploaded");
                    return self.uploads.tasks.uploaded(&computed.task);
                }
                Err(status) => status,
            };
            let reason = endpoint::reason(&status);
            damaged += u32::from(status.code() == Code::DataLoss || Reason::PayloadDamaged.is_of(&status));
            if endpoint::is_final(&status) || damaged > MAX_DAMAGED {
                let kind = if damaged > 0 { FailureKind::Transient } else { FailureKind::Task };
                let message = format!("the upload was refused: {reason}");
                tracing::warn!(shard = %computed.task, "{message}");
                return self.uploads.tasks.failed(&computed.task, Fault::new(kind, message));
            }
            tracing::debug!(shard = %computed.task, "the upload failed, retrying: {reason}");
            wait.enter(WaitPhase::Refused(reason));
            tokio::time::sleep(backoff.next()).await;
        }
    }

    /// Makes one attempt to upload a result. One that arrived damaged goes through the coordinator, which checks its bytes at once.
    async fn attempt(
        &self,
        computed: &ComputedShard,
        was_damaged: bool,
        wait: &UploadWait,
    ) -> Result<v1::Verdict, Status> {
        let mut client = WorkerServiceClient::new(self.link.clone());
        // A shard whose lease has no span is not traced.
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
            upload::<OutgoingPartial, _>(header, computed.bytes.clone(), call, UploadContext { store, wait }).await;
        if let (Some(span), Err(status)) = (&mut span, &answer) {
            span.fail(endpoint::reason(status));
        }
        answer
    }

    /// Uploads checkpoints, one after the other.
    async fn upload_checkpoints(self) {
        let tasks = self.uploads.tasks.clone();
        loop {
            let (task, snapshot) = tasks.next_checkpoint().await;
            let members = snapshot.members_done;
            let epochs = snapshot.epochs;
            let size = snapshot.bytes.len();
            // Nobody needs the checkpoint of a shard whose lease is gone.
            let answer = tokio::select! {
                answer = self.checkpoint(&task, snapshot) => answer,
                () = task.lease_lost() => Ok(false),
            };
            match &answer {
                Ok(true) => tracing::info!(shard = %task, members, epochs, size, "checkpoint uploaded"),
                Ok(false) => {
                    tracing::info!(shard = %task, "dropped: its lease is gone");
                    tasks.unwanted(&task);
                }
                Err(status) => {
                    let reason = endpoint::reason(status);
                    tracing::warn!(shard = %task, "a checkpoint was not uploaded: {reason}");
                }
            }
            tasks.checkpoint_done(&task, answer.is_ok());
        }
    }

    /// Uploads a checkpoint, and returns whether the shard is still wanted.
    async fn checkpoint(&self, task: &Task, snapshot: ShardSnapshot) -> Result<bool, Status> {
        let header = self.uploads.checkpoint_header(task, &snapshot);
        let wait = self.waits.begin(format!("a checkpoint of {}", task));
        let mut client = WorkerServiceClient::new(self.link.clone());
        let call = async move |messages| client.upload_checkpoint(messages).await;
        upload::<OutgoingCheckpoint, _>(
            header,
            snapshot.bytes.into(),
            call,
            UploadContext { store: &self.uploads.store, wait: &wait },
        )
        .await
    }
}
