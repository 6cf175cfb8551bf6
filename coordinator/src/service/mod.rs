//! The gRPC handlers: they validate, convert, and ask the desk. No state of their own.

mod checkpoint;
mod inputs;
mod read;
mod sweeps;
mod upload;
mod verify;
mod workers;

pub(crate) use sweeps::{Sweeps, unknown};
pub(crate) use workers::Workers;

use crate::artifacts::StoreError;
use crate::desk::Closed;
use crate::limits::Pace;
use nadgrid_proto::status::Reason;
use tokio::time::{Instant, timeout_at};
use tonic::{Status, Streaming};
use tracing::warn;

impl From<Closed> for Status {
    fn from(closed: Closed) -> Self {
        Reason::ShuttingDown.status(closed.to_string())
    }
}

/// The store's own fault, not the sender's: nothing was acknowledged, and the same request may succeed later.
fn store_failed(error: &StoreError) -> Status {
    warn!(%error, "a request could not be served");
    Reason::StoreUnavailable.status(error.to_string())
}

/// The next message of an upload, at the pace that it must keep; `None` at its end.
async fn next_message<T: prost::Message>(parts: &mut Streaming<T>, pace: &mut Pace) -> Result<Option<T>, Status> {
    let message = timeout_at(pace.deadline(Instant::now()), parts.message()).await;
    let message = message.map_err(|_| Status::deadline_exceeded("the upload was silent or slow for too long"))??;
    pace.moved(message.as_ref().map_or(0, T::encoded_len));
    Ok(message)
}
