//! Uploads: each result on a stream of its own, in chunks with a digest, until the coordinator has it.
//!
//! On a thread with a runtime of its own, so that neither a busy lane nor the session waits for it. Checkpoints of running
//! shards go out one at a time, the newest of each, and one that does not arrive is no failure: the next will. Deliberately
//! absent: results on disk. A worker that dies has its shards computed again, from their last checkpoint.

use crate::backoff::Backoff;
use crate::board::{Board, Fault, Task};
use crate::compute::Snapshot;
use crate::endpoint::{self, Coordinator, Link};
use crate::error::WorkerError;
use crate::lane::{Computed, Name};
use crate::session::Identity;
use bytes::Bytes;
use nadgrid_core::ids::Digest;
use nadgrid_core::numerics::Precision;
use nadgrid_proto::chunks::chunks;
use nadgrid_proto::status::Reason;
use nadgrid_proto::v1;
use nadgrid_proto::v1::worker_service_client::WorkerServiceClient;
use nadgrid_proto::v1::{upload_checkpoint_request as checkpoint, upload_partial_request::Part};
use nadgrid_telemetry::{SpanKind, TRACEPARENT, Tracer};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

/// Times that a payload may arrive damaged.
const MOST_DAMAGED: u32 = 3;
/// What an attempt may take besides its bytes, and the slowest connection that is worth waiting for.
const PATIENCE: Duration = Duration::from_secs(60);
const SLOWEST_BYTES_PER_SECOND: f64 = 256.0 * 1024.0;

/// What uploads need to know.
#[derive(Clone)]
pub(crate) struct Uploads {
    pub(crate) coordinator: Coordinator,
    pub(crate) identity: Arc<Identity>,
    pub(crate) board: Arc<Board>,
    /// How long a result is kept while the coordinator is away.
    pub(crate) reconnect_timeout: Duration,
    pub(crate) tracer: Tracer,
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
                tokio::spawn(self.clone().bring_checkpoints(link.clone()));
                while let Some(Some(computed)) = stop.run_until_cancelled(results.recv()).await {
                    tokio::spawn(self.clone().bring(link.clone(), computed));
                }
            });
            // Attempts under way are dropped with the runtime.
            runtime.shutdown_background();
        };
        Builder::new().name("uploads".to_owned()).spawn(work).map_err(failed)
    }

    /// Brings one result home, however often it takes.
    async fn bring(self, link: Link, computed: Computed) {
        let mut backoff = Backoff::new(self.reconnect_timeout);
        let mut damaged = 0;
        while !computed.task.is_cancelled() {
            let status = match self.attempt(link.clone(), &computed).await {
                Ok(verdict) => {
                    tracing::debug!(shard = %Name(&computed.task), verdict = verdict.as_str_name(), "uploaded");
                    return self.board.uploaded(&computed.task);
                }
                Err(status) => status,
            };
            let reason = endpoint::reason(&status);
            damaged += u32::from(status.code() == Code::DataLoss || Reason::PayloadDamaged.is_of(&status));
            if endpoint::is_final(&status) || damaged > MOST_DAMAGED {
                let kind = if damaged > 0 { v1::FailureKind::Transient } else { v1::FailureKind::Task };
                return self.give_up(&computed, kind, &format!("the upload was refused: {reason}"));
            }
            let Some(wait) = backoff.wait() else {
                return self.give_up(&computed, v1::FailureKind::Transient, &format!("the upload failed: {reason}"));
            };
            tracing::debug!(shard = %Name(&computed.task), "upload failed, trying again in {wait:.1?}: {reason}");
            tokio::time::sleep(wait).await;
        }
    }

    fn give_up(&self, computed: &Computed, kind: v1::FailureKind, message: &str) {
        tracing::warn!(shard = %Name(&computed.task), "{message}");
        self.board.failed(&computed.task, Fault::new(kind, message));
    }

    /// Brings checkpoints home, one after the other.
    async fn bring_checkpoints(self, link: Link) {
        loop {
            let (task, snapshot) = self.board.next_checkpoint().await;
            let (members, epochs, size) = (snapshot.members_done, snapshot.epochs, snapshot.bytes.len());
            let answer = self.checkpoint(link.clone(), &task, snapshot).await;
            match &answer {
                Ok(true) => tracing::info!(shard = %Name(&task), members, epochs, size, "checkpoint uploaded"),
                Ok(false) => {
                    tracing::info!(shard = %Name(&task), "dropped: its lease is gone");
                    self.board.unwanted(&task);
                }
                Err(status) => {
                    let reason = endpoint::reason(status);
                    tracing::warn!(shard = %Name(&task), "a checkpoint was not taken: {reason}");
                }
            }
            self.board.checkpoint_done(&task, answer.is_ok());
        }
    }

    /// Whether the shard is still wanted.
    async fn checkpoint(&self, link: Link, task: &Task, snapshot: Snapshot) -> Result<bool, Status> {
        let Snapshot { bytes, members_done, epochs, precision } = snapshot;
        let header = v1::CheckpointHeader {
            worker_id: self.identity.worker_id.clone(),
            shard: Some(task.shard.clone()),
            numerics_class: Some(self.class(precision)),
            size: bytes.len() as u64,
            digest: Digest::of(&bytes).to_string(),
            members_done,
            epochs,
        };
        let limit = patience(bytes.len());
        let parts = std::iter::once(checkpoint::Part::Header(header)).chain(chunks(bytes).map(checkpoint::Part::Data));
        let messages = parts.map(|part| v1::UploadCheckpointRequest { part: Some(part) });
        let mut client = WorkerServiceClient::new(link);
        let answer = tokio::time::timeout(limit, client.upload_checkpoint(tokio_stream::iter(messages))).await;
        let answer = answer.map_err(|_| Status::deadline_exceeded("no answer to the checkpoint"))??;
        Ok(answer.into_inner().wanted)
    }

    /// The worker's class at a precision.
    fn class(&self, precision: Precision) -> v1::NumericsClass {
        v1::NumericsClass { precision: precision.as_str().to_owned(), ..self.identity.class.clone() }
    }

    async fn attempt(&self, link: Link, computed: &Computed) -> Result<v1::Verdict, Status> {
        let limit = patience(computed.bytes.len());
        let messages = tokio_stream::iter(messages(self.header(computed), computed.bytes.clone()));
        let mut client = WorkerServiceClient::new(link);
        let mut request = tonic::Request::new(messages);
        // A shard without a lease's span is none of a trace.
        let mut span = computed.task.lease.map(|lease| self.tracer.span("upload", SpanKind::Client, Some(lease)));
        if let Some(span) = &mut span {
            span.set("size", computed.bytes.len() as i64);
            if let Ok(traceparent) = span.context().to_string().parse() {
                request.metadata_mut().insert(TRACEPARENT, traceparent);
            }
        }
        let answer = tokio::time::timeout(limit, client.upload_partial(request)).await;
        let answer = answer.map_err(|_| Status::deadline_exceeded("no answer to the upload")).flatten();
        if let (Some(span), Err(status)) = (&mut span, &answer) {
            span.fail(status.message());
        }
        Ok(answer?.into_inner().verdict())
    }

    fn header(&self, computed: &Computed) -> v1::PartialHeader {
        v1::PartialHeader {
            worker_id: self.identity.worker_id.clone(),
            shard: Some(computed.task.shard.clone()),
            numerics_class: Some(self.class(computed.precision)),
            size: computed.bytes.len() as u64,
            digest: computed.digest.to_string(),
            seconds: computed.seconds,
            steps: computed.task.steps.told(),
            begin_seconds: computed.begin_seconds,
            ..v1::PartialHeader::default()
        }
    }
}

fn patience(bytes: usize) -> Duration {
    PATIENCE + Duration::from_secs_f64(bytes as f64 / SLOWEST_BYTES_PER_SECOND)
}

/// Header first, then the bytes, a chunk being copied only when its turn has come.
fn messages(header: v1::PartialHeader, bytes: Bytes) -> impl Iterator<Item = v1::UploadPartialRequest> {
    let parts = std::iter::once(Part::Header(header)).chain(chunks(bytes).map(Part::Data));
    parts.map(|part| v1::UploadPartialRequest { part: Some(part) })
}
