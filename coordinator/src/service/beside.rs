//! Payloads that go past the coordinator: into a shared store and out of it, by presigned requests.
//!
//! ```text
//!  header ──▶ a place among the direct ones ──▶ Grant with a request ──▶ the sender puts the blob ──▶ Stored ──▶ is it there?
//!                                                                                   └──▶ StoreUnreachable ──▶ through the stream
//! ```
//!
//! The blob is held from before the grant, so that it is not taken for an orphan while nothing names it. Here only its size is
//! looked at: its bytes are checked when they are read to be merged. Deliberately absent: payloads whose content has to be read to
//! be reported, training runs and checkpoints.

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

/// What the sender says of a payload that it was to put into the store.
pub(super) enum BesideOutcome {
    /// The payload is in the store.
    Stored,
    /// It could not be put there, for this reason.
    Unreachable(String),
}

/// Characters of a sender's message that are kept.
const MAX_WORDS: usize = 300;

/// Lets the sender put its payload into the store itself. `None` when it has to come in the stream: the store makes no presigned
/// requests, or the sender cannot reach it.
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
    let held = workers.store.lease([announced.digest]).await.pop();
    let signed = workers.store.presign_put(announced.digest, validity(&workers.limits)).await;
    let Some(put) = signed.inspect_err(|error| warn!(%error, "no presigned request")).ok().flatten() else {
        return Ok(None);
    };
    match receiver.beside(put.into(), until(&workers.limits, announced.size)).await? {
        BesideOutcome::Stored => ticket.moved(announced.size as usize),
        BesideOutcome::Unreachable(why) => {
            let why = text::clean(&why, MAX_WORDS);
            warn!(%worker, why, "a worker cannot reach the store: its result comes through the coordinator");
            return Ok(None);
        }
    }
    ticket.received();
    ensure_there(&workers.store, announced).await?;
    metrics::transferred(TransferWay::Put, announced.size);
    Ok(held)
}

/// Whether what was said to be stored is there, with its size. What has another size is no blob, and is removed.
async fn ensure_there(store: &Store, announced: &Announced) -> Result<(), Status> {
    let Announced { size, digest } = *announced;
    let why = match store.head(digest).await.map_err(|error| store_failed(&error))? {
        Some(found) if found == size => return Ok(()),
        Some(found) => {
            store.heal(digest).await.map_err(|error| store_failed(&error))?;
            format!("it has {found} bytes there, {size} were announced")
        }
        None => "it is not there".to_owned(),
    };
    Err(Reason::PayloadDamaged.status(format!("header.digest = {digest}: it was said to be in the store; {why}")))
}

/// A request that reads a blob from the store, for one who can reach it. `None` when it has to be sent: the store makes no
/// presigned requests, or the blob is not there, which the coordinator's own reading says best.
pub(super) async fn offer_read(store: &Store, limits: &Limits, digest: Digest) -> Option<v1::PresignedRequest> {
    if !store.presigns() {
        return None;
    }
    let size = store.head(digest).await.inspect_err(|error| warn!(%error, "a blob cannot be looked at")).ok()??;
    let signed = store.presign_get(digest, validity(limits)).await;
    let get = signed.inspect_err(|error| warn!(%error, "no presigned request")).ok()??;
    metrics::transferred(TransferWay::Get, size);
    Some(get.into())
}

fn validity(limits: &Limits) -> Duration {
    Duration::from_secs(limits.presigned_seconds)
}

/// Until when the sender of so many bytes has to say what became of them: a request that begins in time may take as long as the
/// slowest transfer.
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
