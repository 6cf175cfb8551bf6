//! The gRPC handlers: they validate, convert, and ask the desk. No state of their own.

mod inputs;
mod sweeps;
mod upload;
mod verify;
mod workers;

pub(crate) use sweeps::Sweeps;
pub(crate) use workers::Workers;

use crate::artifacts::StoreError;
use crate::desk::Closed;
use nadgrid_proto::status::Reason;
use std::time::Duration;
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

/// A sender that is silent for this long is given up.
const SILENCE: Duration = Duration::from_secs(30);

/// The next message of an upload; `None` at its end.
async fn next_message<T>(parts: &mut Streaming<T>) -> Result<Option<T>, Status> {
    let message = tokio::time::timeout(SILENCE, parts.message()).await;
    message.map_err(|_| Status::deadline_exceeded("the upload was silent for too long"))?
}
