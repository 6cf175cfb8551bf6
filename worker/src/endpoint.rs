//! Connections to the coordinator, and what its answers mean.

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
/// Until a ping must be answered. It may have to wait behind a window of 256 KiB, which takes 16 s on the slowest line that is
/// promised to work, 16,384 bytes a second.
const PING_ANSWERED: Duration = Duration::from_secs(25);
/// Bytes that may be on their way to this worker before it has taken them. What lies there is sent, for the coordinator: more of
/// them, on a slow line, would look like silence, and keep its pings waiting.
const WINDOW: u32 = 256 << 10;

/// A connection whose requests carry the token.
pub(crate) type Link = InterceptedService<Channel, Bearer>;

/// Where the coordinator is, and what to show it.
#[derive(Clone, Debug)]
pub(crate) struct Coordinator {
    pub(crate) url: String,
    pub(crate) credentials: Credentials,
}

impl Coordinator {
    /// How to connect, if address and credentials are sound. A peer that has gone silent is found out by pings.
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

    /// A connection, made when it is first used. It wants a runtime around it.
    pub(crate) fn link(&self) -> Result<Link, AccessError> {
        Ok(InterceptedService::new(self.endpoint()?.connect_lazy(), self.credentials.bearer()))
    }
}

/// Whether trying again cannot help. A session that is missing is opened again, by its own thread.
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

/// Characters of somebody else's words.
const MAX_WORDS: usize = 4_096;

/// One line, cleaned: the innermost cause of a broken connection, else what the coordinator said.
pub(crate) fn reason(status: &Status) -> String {
    let mut innermost: Option<&dyn Error> = status.source();
    while let Some(next) = innermost.and_then(Error::source) {
        innermost = Some(next);
    }
    let reason = innermost.map_or_else(|| describe(status), |cause| explain(&cause.to_string()));
    text::clean(&reason, MAX_WORDS)
}

/// What the coordinator is told of a payload that did not go past it. The store's own words stay here: the address was the coordinator's,
/// and may be of something else on this worker's network.
pub(crate) fn told(failure: &DirectError) -> String {
    match &failure.error {
        PresignedError::Refused { host, status, .. } => format!("the store at {host} answered {status}"),
        PresignedError::Payload { host, .. } => format!("the store at {host} gave other bytes"),
        error => text::clean(&error.to_string(), MAX_WORDS),
    }
}

/// A payload that does not go past the coordinator is no failure, but the user should know.
pub(crate) fn warn_unreachable(failure: &DirectError) {
    let words = text::clean(&failure.to_string(), MAX_WORDS);
    match failure.avoided {
        Some(avoided) => {
            let lasts = text::duration(avoided.as_secs_f64());
            tracing::warn!("for {lasts} all payloads go through the coordinator: {words}");
        }
        None => tracing::warn!("a payload goes through the coordinator: {words}"),
    }
}
