//! Fetching the files that shards need: from the coordinator, or from a shared store where the coordinator names one that can be
//! reached.
//!
//! A slot fetches a file itself, on a runtime made for it. Deliberately absent: keeping files, which is [`crate::inputs`]'s.

use crate::backoff::Backoff;
use crate::endpoint::{self, CoordinatorEndpoint, reportable, warn_unreachable};
use crate::fault::Fault;
use crate::inputs::InputSource;
use crate::shard::InputFile;
use nadgrid_core::ids::Digest;
use nadgrid_core::scheduler::FailureKind;
use nadgrid_core::text;
use nadgrid_presigned::{DirectStore, PresignedPayload};
use nadgrid_proto::chunks::Assembler;
use nadgrid_proto::status::Reason;
use nadgrid_proto::v1;
use nadgrid_proto::v1::worker_service_client::WorkerServiceClient;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tonic::Status;

/// The largest file that is accepted.
const MAX_BYTES: u64 = 1 << 30;
/// The time for which a file is asked for while the coordinator is away.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest wait for the next byte of a file that is being sent.
const SILENCE: Duration = Duration::from_secs(60);
/// The time between two warnings that a file has not come yet.
const WARN_EVERY: Duration = Duration::from_secs(20);

/// The coordinator as a source of files.
pub(crate) struct InputDownload {
    pub(crate) coordinator: CoordinatorEndpoint,
    /// The worker that reads.
    pub(crate) worker_id: String,
    /// The shared store, where there is one.
    pub(crate) store: Arc<DirectStore>,
}

/// The state of fetching a file.
#[derive(Debug, Default)]
struct InputFetch {
    /// Whether the latest attempt brought any bytes.
    moved: bool,
    /// Whether the store could not be read, so that the coordinator has to send it.
    through_coordinator: bool,
}

impl InputFetch {
    /// Whether the failed attempt made progress, which is a reason for more patience: the line carries bytes, however slowly. A
    /// damaged file would otherwise be asked for without end.
    fn made_progress(&self, status: &Status) -> bool {
        self.moved && !Reason::PayloadDamaged.is_of(status)
    }
}

impl InputSource for InputDownload {
    fn fetch(&self, input: &InputFile) -> Result<Vec<u8>, Fault> {
        let transient = |message: String| {
            Fault::new(FailureKind::Transient, format!("the file {:?} could not be fetched: {message}", input.name))
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| transient(e.to_string()))?;
        let mut backoff = Backoff::new(PATIENCE);
        let mut fetch = InputFetch::default();
        loop {
            fetch.moved = false;
            let status = match runtime.block_on(self.attempt(input, &mut fetch)) {
                Ok(bytes) => {
                    tracing::info!(name = input.name, bytes = bytes.len(), "fetched");
                    return Ok(bytes);
                }
                Err(status) => status,
            };
            let reason = endpoint::reason(&status);
            if Reason::InputMissing.is_of(&status) || endpoint::is_final(&status) {
                return Err(Fault::new(FailureKind::Task, format!("the file {:?}: {reason}", input.name)));
            }
            if fetch.made_progress(&status) {
                backoff.renew();
            }
            let Some(wait) = backoff.wait() else { return Err(transient(reason)) };
            std::thread::sleep(wait);
        }
    }
}

impl InputDownload {
    /// Makes one attempt to fetch a file, and notes in `fetch` how that went.
    async fn attempt(&self, input: &InputFile, fetch: &mut InputFetch) -> Result<Vec<u8>, Status> {
        let link = self.coordinator.link().map_err(|e| Status::unavailable(e.to_string()))?;
        let digest = input.digest.clone();
        let worker_id = self.worker_id.clone();
        let through_coordinator = fetch.through_coordinator || self.store.is_avoided();
        let request = v1::ReadInputRequest { digest, worker_id, through_coordinator };
        let mut client = WorkerServiceClient::new(link);
        let mut parts = warn_while_waiting(client.read_input(request), &input.name).await?.into_inner();
        let damaged = |e: nadgrid_proto::chunks::ChunkError| Reason::PayloadDamaged.status(e.to_string());
        let mut assembler = Assembler::new(input.size, MAX_BYTES, &input.digest).map_err(damaged)?;
        let silent = || Status::deadline_exceeded(format!("no byte arrived for {SILENCE:.0?}"));
        while let Some(part) = timeout(SILENCE, parts.message()).await.map_err(|_| silent())?? {
            if let Some(get) = &part.get {
                let digest = Digest::from_hex(&input.digest).ok_or_else(|| Status::invalid_argument("no digest"))?;
                let read = self.store.get(get, PresignedPayload { size: input.size, digest }).await;
                return read.map_err(|failure| {
                    warn_unreachable(&failure);
                    fetch.through_coordinator = true;
                    Status::unavailable(reportable(&failure))
                });
            }
            // Empty chunks could go on for ever.
            if part.data.is_empty() {
                return Err(Reason::PayloadDamaged.status("an empty chunk was sent"));
            }
            assembler.push(&part.data).map_err(damaged)?;
            fetch.moved = true;
        }
        assembler.finish().map(|(bytes, _)| bytes).map_err(damaged)
    }
}

/// Waits for the coordinator to begin sending, however long that takes, and warns meanwhile.
async fn warn_while_waiting<T>(call: impl Future<Output = T>, name: &str) -> T {
    let mut call = pin!(call);
    let began = Instant::now();
    loop {
        if let Ok(answer) = timeout(WARN_EVERY, &mut call).await {
            return answer;
        }
        let waited = text::duration(began.elapsed().as_secs_f64());
        tracing::warn!("the file {name:?} has not come for {waited}: the coordinator has no capacity to send it yet");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file whose stored bytes are damaged comes damaged each time: without this it would be fetched for ever.
    #[test]
    fn a_slow_line_is_waited_for_and_damage_is_not() {
        let broken = Status::unavailable("the connection broke");
        let damaged = Reason::PayloadDamaged.status("damaged");
        let fetch = |moved| InputFetch { moved, through_coordinator: false };
        assert!(fetch(true).made_progress(&broken));
        assert!(!fetch(false).made_progress(&broken) && !fetch(true).made_progress(&damaged));
    }
}
