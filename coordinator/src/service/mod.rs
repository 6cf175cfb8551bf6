//! The gRPC handlers: they validate, convert, and ask the event loop. No state of their own.

mod beside;
mod checkpoint;
mod convert;
mod inputs;
mod read;
mod receive;
mod sweeps;
mod upload;
mod verify;
mod workers;

pub(crate) use inputs::FoundBlobs;
pub(crate) use sweeps::{Sweeps, WorkerTransfers, unknown};
pub(crate) use workers::Workers;

use crate::artifacts::StoreError;
use crate::event_loop::Closed;
use nadgrid_proto::status::Reason;
use tonic::Status;
use tracing::warn;

impl From<Closed> for Status {
    fn from(closed: Closed) -> Self {
        Reason::ShuttingDown.status(closed.to_string())
    }
}

/// A request that breaks the protocol.
fn invalid(message: &str) -> Status {
    Reason::RequestInvalid.status(message)
}

/// The store's own fault, not the sender's: nothing was acknowledged, and the same request may succeed later.
fn store_failed(error: &StoreError) -> Status {
    warn!(%error, "a request could not be served");
    Reason::StoreUnavailable.status(error.to_string())
}
