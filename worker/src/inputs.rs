//! The files that shards need: fetched by digest, once, and kept for the shards to come. They come from the coordinator, or from a
//! shared store where the coordinator names one that can be reached.
//!
//! Lanes call it and wait: without its NADs or images a shard cannot begin. Deliberately absent: files on disk.

use crate::backoff::Backoff;
use crate::board::Fault;
use crate::endpoint::{self, Coordinator, told, warn_unreachable};
use nadgrid_core::ids::Digest;
use nadgrid_core::text;
use nadgrid_presigned::{DirectStore, PresignedPayload};
use nadgrid_proto::access::Credentials;
use nadgrid_proto::chunks::Assembler;
use nadgrid_proto::status::Reason;
use nadgrid_proto::v1;
use nadgrid_proto::v1::FailureKind;
use nadgrid_proto::v1::worker_service_client::WorkerServiceClient;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tonic::Status;

/// Bytes that are kept at most; what was used longest ago goes first.
const KEPT_BYTES: u64 = 1 << 30;
/// Bytes of one file at most.
const MOST_BYTES: u64 = 1 << 30;
/// How long a file is asked for while the coordinator is away.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long no byte may come of a file that is on its way.
const SILENCE: Duration = Duration::from_secs(60);
/// Between two warnings that a file is waited for.
const TOLD_EVERY: Duration = Duration::from_secs(20);

/// Files by digest, the one used last at the end.
#[derive(Debug)]
pub struct Inputs {
    coordinator: Coordinator,
    /// The worker that reads.
    worker_id: String,
    /// The shared store, where there is one.
    store: Arc<DirectStore>,
    kept: Mutex<Vec<(String, Arc<Vec<u8>>)>>,
}

/// How fetching a file goes.
#[derive(Debug, Default)]
struct InputFetch {
    /// Whether the latest attempt brought any bytes.
    moved: bool,
    /// Whether the store did not give it.
    through_coordinator: bool,
}

impl InputFetch {
    /// Whether the attempt that ended so is a reason for more patience: the line carries bytes, however slowly. Bytes that are
    /// damaged would be asked for without end.
    fn got_on(&self, status: &Status) -> bool {
        self.moved && !Reason::PayloadDamaged.is_of(status)
    }
}

impl Inputs {
    /// Files of the coordinator at this address.
    pub fn of(url: &str) -> Self {
        Self::at(Coordinator { url: url.to_owned(), credentials: Credentials::default() }, "", Arc::default())
    }

    /// Files of this coordinator, for the worker of this id.
    pub(crate) fn at(coordinator: Coordinator, worker_id: &str, store: Arc<DirectStore>) -> Self {
        Self { coordinator, worker_id: worker_id.to_owned(), store, kept: Mutex::default() }
    }

    /// The bytes of a file. Other lanes that want one wait meanwhile, so that each is fetched once.
    ///
    /// # Errors
    /// A passing fault when the coordinator does not answer, one of the task when it has no such file.
    pub fn get(&self, input: &v1::ShardInput) -> Result<Arc<Vec<u8>>, Fault> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().position(|(digest, _)| *digest == input.digest);
        let entry = match found {
            Some(place) => kept.remove(place),
            None => (input.digest.clone(), Arc::new(self.fetch(input)?)),
        };
        let bytes = entry.1.clone();
        kept.push(entry);
        let size = |kept: &[(String, Arc<Vec<u8>>)]| kept.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
        while kept.len() > 1 && size(&kept) > KEPT_BYTES {
            kept.remove(0);
        }
        Ok(bytes)
    }

    /// The bytes of a file that is wanted once: it is not kept, and no lane waits for another's.
    ///
    /// # Errors
    /// As for [`Inputs::get`].
    pub fn once(&self, input: &v1::ShardInput) -> Result<Vec<u8>, Fault> {
        self.fetch(input)
    }

    /// Keeps a file as if it had been fetched.
    #[cfg(test)]
    pub(crate) fn keep(&self, digest: &str, bytes: Vec<u8>) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push((digest.to_owned(), Arc::new(bytes)));
    }

    fn fetch(&self, input: &v1::ShardInput) -> Result<Vec<u8>, Fault> {
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
            if fetch.got_on(&status) {
                backoff.renew();
            }
            let Some(wait) = backoff.wait() else { return Err(transient(reason)) };
            std::thread::sleep(wait);
        }
    }

    /// Fetches a file, and notes how that went.
    async fn attempt(&self, input: &v1::ShardInput, fetch: &mut InputFetch) -> Result<Vec<u8>, Status> {
        let link = self.coordinator.link().map_err(|e| Status::unavailable(e.to_string()))?;
        let (digest, worker_id) = (input.digest.clone(), self.worker_id.clone());
        let through_coordinator = fetch.through_coordinator || self.store.is_avoided();
        let request = v1::ReadInputRequest { digest, worker_id, through_coordinator };
        let mut client = WorkerServiceClient::new(link);
        let mut parts = told_while(client.read_input(request), &input.name).await?.into_inner();
        let damaged = |e: nadgrid_proto::chunks::ChunkError| Reason::PayloadDamaged.status(e.to_string());
        let mut assembler = Assembler::new(input.size, MOST_BYTES, &input.digest).map_err(damaged)?;
        let silent = || Status::deadline_exceeded(format!("no byte came for {SILENCE:.0?}"));
        while let Some(part) = timeout(SILENCE, parts.message()).await.map_err(|_| silent())?? {
            if let Some(get) = &part.get {
                let digest = Digest::from_hex(&input.digest).ok_or_else(|| Status::invalid_argument("no digest"))?;
                let read = self.store.get(get, PresignedPayload { size: input.size, digest }).await;
                return read.map_err(|failure| {
                    warn_unreachable(&failure);
                    fetch.through_coordinator = true;
                    Status::unavailable(told(&failure))
                });
            }
            // They would never end.
            if part.data.is_empty() {
                return Err(Reason::PayloadDamaged.status("a chunk without a byte came"));
            }
            assembler.push(&part.data).map_err(damaged)?;
            fetch.moved = true;
        }
        assembler.finish().map(|(bytes, _)| bytes).map_err(damaged)
    }
}

/// Waits for the coordinator to begin sending, as long as that takes, and warns while it does.
async fn told_while<T>(call: impl Future<Output = T>, name: &str) -> T {
    let mut call = pin!(call);
    let began = Instant::now();
    loop {
        if let Ok(answer) = timeout(TOLD_EVERY, &mut call).await {
            return answer;
        }
        let waited = text::duration(began.elapsed().as_secs_f64());
        tracing::warn!(
            "the file {name:?} has been waited for {waited}: the coordinator has no place for its readers yet"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file whose stored bytes are damaged comes damaged each time: without this it would be fetched for ever.
    #[test]
    fn a_slow_line_is_waited_for_and_damage_is_not() {
        let (broken, damaged) = (Status::unavailable("the connection broke"), Reason::PayloadDamaged.status("damaged"));
        let fetch = |moved| InputFetch { moved, through_coordinator: false };
        assert!(fetch(true).got_on(&broken));
        assert!(!fetch(false).got_on(&broken) && !fetch(true).got_on(&damaged));
    }
}
