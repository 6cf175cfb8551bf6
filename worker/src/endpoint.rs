//! Connections to the coordinator, and the meaning of its answers.

use nadgrid_core::text;
use nadgrid_presigned::{DirectError, PresignedError};
use nadgrid_proto::access::{AccessError, Bearer, Credentials, explain};
use nadgrid_proto::status::{Reason, describe};
use std::error::Error;
use std::time::Duration;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

const CONNECT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// The longest time until a ping must be answered. It may have to wait behind a window of 256 KiB, which takes 16 s on the slowest
/// line that is promised to work, 16,384 bytes a second.
const PING_ANSWERED: Duration = Duration::from_secs(25);
/// Bytes that may be in flight to this worker before it has taken them. To the coordinator they are sent: more of them, on a slow
/// line, would look like silence, and would delay its pings.
const WINDOW: u32 = 256 << 10;

/// A connection whose requests carry the token.
pub(crate) type Link = InterceptedService<Channel, Bearer>;

/// The coordinator's address, and the worker's credentials.
#[derive(Clone, Debug)]
pub(crate) struct CoordinatorEndpoint {
    pub(crate) url: String,
    pub(crate) credentials: Credentials,
}

impl CoordinatorEndpoint {
    /// Returns how to connect, if address and credentials are valid. Pings detect a peer that has gone silent.
    pub(crate) fn endpoint(&self) -> Result<Endpoint, AccessError> {
        let endpoint = self.credentials.endpoint(&self.url)?;
        Ok(endpoint
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(PING_ANSWERED)
            .keep_alive_while_idle(true))
    }

    /// Returns a connection, which is made when it is first used. It requires a runtime.
    pub(crate) fn link(&self) -> Result<Link, AccessError> {
        Ok(InterceptedService::new(self.endpoint()?.connect_lazy(), self.credentials.bearer()))
    }
}

/// Whether a retry cannot help. A missing session is no reason to give up: its own thread opens it again.
pub(crate) fn is_final(status: &Status) -> bool {
    use Code::{
        FailedPrecondition, InvalidArgument, NotFound, OutOfRange, PermissionDenied, Unauthenticated, Unimplemented,
    };
    let is_refusal = matches!(
        status.code(),
        FailedPrecondition
            | InvalidArgument
            | NotFound
            | OutOfRange
            | PermissionDenied
            | Unauthenticated
            | Unimplemented
    );
    is_refusal && !Reason::SessionMissing.is_of(status)
}

/// Characters of a message from outside.
const MAX_MESSAGE: usize = 4_096;

/// Returns one cleaned line: the innermost cause of a broken connection, or else the coordinator's message.
pub(crate) fn reason(status: &Status) -> String {
    let mut innermost: Option<&dyn Error> = status.source();
    while let Some(next) = innermost.and_then(Error::source) {
        innermost = Some(next);
    }
    let reason = innermost.map_or_else(|| describe(status), |cause| explain(&cause.to_string()));
    text::clean(&reason, MAX_MESSAGE)
}

/// Returns what may be reported to the coordinator about a payload that could not be exchanged with the store directly. The store's
/// own message stays here: the address came from the coordinator, and may be that of something else on this worker's network.
pub(crate) fn reportable(failure: &DirectError) -> String {
    match &failure.error {
        PresignedError::Refused { host, status, .. } => format!("the store at {host} answered {status}"),
        PresignedError::Payload { host, .. } => format!("the store at {host} gave other bytes"),
        error => text::clean(&error.to_string(), MAX_MESSAGE),
    }
}

/// Warns that a payload goes through the coordinator, which is no failure, but slower.
pub(crate) fn warn_unreachable(failure: &DirectError) {
    let reason = text::clean(&failure.to_string(), MAX_MESSAGE);
    match failure.avoided {
        Some(avoided) => {
            let lasts = text::duration(avoided.as_secs_f64());
            tracing::warn!("for {lasts} all payloads go through the coordinator: {reason}");
        }
        None => tracing::warn!("a payload goes through the coordinator: {reason}"),
    }
}
