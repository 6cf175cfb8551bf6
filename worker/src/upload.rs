//! Uploads: each result on a stream of its own, in chunks with a digest, until the coordinator has it.
//!
//! On a thread with a runtime of its own, so that neither a busy lane nor the session waits for it. Deliberately absent:
//! results on disk. A worker that dies has its shards computed again.

use crate::backoff::Backoff;
use crate::board::{Board, Fault};
use crate::endpoint::{self, Coordinator, Link};
use crate::error::WorkerError;
use crate::lane::{Computed, Name};
use crate::session::Identity;
use bytes::Bytes;
use nadgrid_proto::chunks::chunks;
use nadgrid_proto::status::Reason;
use nadgrid_proto::v1;
use nadgrid_proto::v1::upload_partial_request::Part;
use nadgrid_proto::v1::worker_service_client::WorkerServiceClient;
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

    async fn attempt(&self, link: Link, computed: &Computed) -> Result<v1::Verdict, Status> {
        let limit = PATIENCE + Duration::from_secs_f64(computed.bytes.len() as f64 / SLOWEST_BYTES_PER_SECOND);
        let messages = tokio_stream::iter(messages(self.header(computed), computed.bytes.clone()));
        let mut client = WorkerServiceClient::new(link);
        let answer = tokio::time::timeout(limit, client.upload_partial(messages)).await;
        let answer = answer.map_err(|_| Status::deadline_exceeded("no answer to the upload"))??;
        Ok(answer.into_inner().verdict())
    }

    fn header(&self, computed: &Computed) -> v1::PartialHeader {
        v1::PartialHeader {
            worker_id: self.identity.worker_id.clone(),
            shard: Some(computed.task.shard.clone()),
            numerics_class: Some(v1::NumericsClass {
                precision: computed.precision.as_str().to_owned(),
                ..self.identity.class.clone()
            }),
            size: computed.bytes.len() as u64,
            digest: computed.digest.to_string(),
            seconds: computed.seconds,
        }
    }
}

/// Header first, then the bytes, a chunk being copied only when its turn has come.
fn messages(header: v1::PartialHeader, bytes: Bytes) -> impl Iterator<Item = v1::UploadPartialRequest> {
    let parts = std::iter::once(Part::Header(header)).chain(chunks(bytes).map(Part::Data));
    parts.map(|part| v1::UploadPartialRequest { part: Some(part) })
}
