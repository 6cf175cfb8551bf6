//! Payloads that bypass the coordinator: into a shared store and out of it, by presigned requests.
//!
//! ```text
//!  header ──▶ a place for direct uploads ──▶ Grant with a request ──▶ the sender puts the blob ──▶ Stored ──▶ does it exist?
//!                                                                               └──▶ StoreUnreachable ──▶ through the stream
//! ```
//!
//! The blob is leased before the grant, so that it is not collected as an orphan while nothing names it. Only its size is
//! checked here; its bytes are checked when they are read to be merged. Deliberately absent: payloads whose content must be
//! read before they are reported, which are training runs and checkpoints.

use super::receive::{Announced, Receiver, UploadKind};
use super::store_failed;
use super::workers::Workers;
use crate::artifacts::{BlobLease, PresignedCall, Store};
use crate::limits::Limits;
use crate::metrics::{self, TransferWay};
use crate::transfers::TransferOffer;
use nadgrid_core::ids::Digest;
use nadgrid_core::text;
use nadgrid_proto::status::Reason;
use nadgrid_proto::v1;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;
use tracing::warn;

/// The outcome of the sender's attempt to put its payload into the store.
pub(super) enum BesideOutcome {
    /// The payload is in the store.
    Stored,
    /// The payload could not be stored, for this reason.
    Unreachable(String),
}

/// The most characters of a sender's message that are kept.
const MAX_MESSAGE: usize = 300;

/// Lets the sender put its payload into the store itself. Returns `None` if it must come in the stream: the store does not
/// presign requests, or the sender cannot reach it.
pub(super) async fn receive<K: UploadKind>(
    workers: &Workers,
    receiver: &mut Receiver<K>,
    announced: &Announced,
    offer: TransferOffer,
) -> Result<Option<BlobLease>, Status> {
    if !workers.store.presigns() {
        return Ok(None);
    }
    let worker = offer.caller.clone();
    let ticket = receiver.place(&workers.direct, offer).await?;
    let lease = workers.store.lease([announced.digest]).await.pop();
    let signed = workers.store.presign_put(announced.digest, validity(&workers.limits)).await;
    let Some(put) = signed.inspect_err(|error| warn!(%error, "a request cannot be presigned")).ok().flatten() else {
        return Ok(None);
    };
    match receiver.beside(put.into(), until(&workers.limits, announced.size)).await? {
        BesideOutcome::Stored => ticket.moved(announced.size as usize),
        BesideOutcome::Unreachable(why) => {
            let why = text::clean(&why, MAX_MESSAGE);
            warn!(%worker, why, "a worker cannot reach the store: it sends its result through the coordinator");
            return Ok(None);
        }
    }
    ticket.received();
    ensure_stored(&workers.store, announced).await?;
    metrics::transferred(TransferWay::Put, announced.size);
    Ok(lease)
}

/// Checks that the blob exists with the announced size. One of another size is damaged, and is removed.
async fn ensure_stored(store: &Store, announced: &Announced) -> Result<(), Status> {
    let Announced { size, digest } = *announced;
    let why = match store.head(digest).await.map_err(|error| store_failed(&error))? {
        Some(found) if found == size => return Ok(()),
        Some(found) => {
            store.heal(digest).await.map_err(|error| store_failed(&error))?;
            format!("it has {found} bytes there, {size} were announced")
        }
        None => "it does not exist there".to_owned(),
    };
    Err(Reason::PayloadDamaged
        .status(format!("header.digest = {digest}: reported as stored in the artifact store, but {why}")))
}

/// A request with which a reader fetches a blob from the store itself. `None` if the coordinator has to send it: the store
/// does not presign requests, or the blob is missing, which reading it will report.
pub(super) async fn offer_read(store: &Store, limits: &Limits, digest: Digest) -> Option<v1::PresignedRequest> {
    if !store.presigns() {
        return None;
    }
    let size =
        store.head(digest).await.inspect_err(|error| warn!(%error, "the size of a blob cannot be read")).ok()??;
    let signed = store.presign_get(digest, validity(limits)).await;
    let get = signed.inspect_err(|error| warn!(%error, "a request cannot be presigned")).ok()??;
    metrics::transferred(TransferWay::Get, size);
    Some(get.into())
}

fn validity(limits: &Limits) -> Duration {
    Duration::from_secs(limits.presigned_seconds)
}

/// The time until which the sender of so many bytes must report the outcome: a request that begins in time may take as long
/// as the slowest transfer.
fn until(limits: &Limits, size: u64) -> Instant {
    let slowest = size as f64 / f64::from(limits.slowest_bytes_per_second);
    Instant::now() + validity(limits) + Duration::from_secs_f64(limits.grace_seconds + slowest)
}

impl From<PresignedCall> for v1::PresignedRequest {
    fn from(call: PresignedCall) -> Self {
        let PresignedCall { method, url, headers, valid } = call;
        let expires_in_ms = valid.as_millis() as u64;
        Self { method: method.to_string(), url: url.into(), headers: headers.into_iter().collect(), expires_in_ms }
    }
}
