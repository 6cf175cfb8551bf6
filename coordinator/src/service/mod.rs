//! The gRPC handlers: they validate, convert, and ask the desk. No state of their own.

mod inputs;
mod sweeps;
mod upload;
mod workers;

pub(crate) use sweeps::Sweeps;
pub(crate) use workers::Workers;

use crate::desk::Closed;
use nadgrid_proto::status::Reason;
use tonic::Status;

impl From<Closed> for Status {
    fn from(closed: Closed) -> Self {
        Reason::ShuttingDown.status(closed.to_string())
    }
}
