//! The gRPC handlers: they validate requests, convert messages and ask the event loop. They have no state of their own.

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
pub(crate) use sweeps::{Sweeps, WorkerTransfers};
pub(crate) use workers::Workers;

use crate::artifacts::StoreError;
use crate::event_loop::Closed;
use nadgrid_core::scheduler::Answer;
use nadgrid_core::text;
use nadgrid_proto::status::Reason;
use nadgrid_proto::v1::sweep_service_server::SweepServiceServer;
use nadgrid_proto::v1::worker_service_server::WorkerServiceServer;
use tonic::Status;
use tracing::warn;

/// The users' service as the server routes requests to it.
pub(crate) type SweepServer = SweepServiceServer<Sweeps>;
/// The workers' service as the server routes requests to it.
pub(crate) type WorkerServer = WorkerServiceServer<Workers>;

/// The most characters of a request's own text that an error repeats.
const MAX_REPEATED: usize = 200;

impl From<Closed> for Status {
    fn from(closed: Closed) -> Self {
        Reason::ShuttingDown.status(closed.to_string())
    }
}

/// The status of a request that breaks the contract.
fn invalid(message: impl Into<String>) -> Status {
    Reason::RequestInvalid.status(message)
}

/// The status of a request for a sweep that does not exist.
pub(crate) fn unknown_sweep(sweep: &str) -> Status {
    Reason::SweepUnknown.status(format!("there is no sweep {:?}", text::clean(sweep, MAX_REPEATED)))
}

/// The status of a reply that does not belong to its request, which is a bug.
fn unexpected(answer: &Answer) -> Status {
    Reason::Internal.status(format!("unexpected scheduler reply: {answer:?}"))
}

/// The status of a failure of the store: nothing was acknowledged, and the same request may succeed later.
fn store_failed(error: &StoreError) -> Status {
    warn!(%error, "a request could not be served");
    Reason::StoreUnavailable.status(error.to_string())
}

/// The status of a blob that cannot be read. If it is lost, the reason is `loss`.
fn unreadable(error: &StoreError, loss: Reason) -> Status {
    if error.is_loss() { loss.status(error.to_string()) } else { store_failed(error) }
}
