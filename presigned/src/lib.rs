//! The shared store as workers and clients see it: presigned requests, sent by HTTP past the coordinator.
//!
//! A presigned request is made by the coordinator and good for one object and a while, so whoever sends it needs no keys. The
//! address holds the signature: it appears in no error and no log. Redirects are not followed, since they could lead anywhere.
//! Deliberately absent: trying again (whoever cannot reach the store goes through the coordinator), and keys.

mod body;
mod direct;
mod reach;

pub use direct::{DirectError, DirectStore};
pub use reach::StoreReach;

use body::CountedBody;
use bytes::Bytes;
use nadgrid_core::ids::Digest;
use nadgrid_proto::access::root_cause;
use nadgrid_proto::chunks::{Assembler, ChunkError};
use nadgrid_proto::v1::PresignedRequest;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, StatusCode, Url};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use thiserror::Error;
use tokio::time::{sleep, timeout};

/// The longest time to connect.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest time in which no byte moves. The system's buffers hold some MB of what was sent, and take more only once a
/// part of them is empty: on a line of 16,384 bytes a second, the slowest that is promised to work, that takes more than
/// a minute.
const STALLED: Duration = Duration::from_secs(120);
/// Longest time until the store answers once all bytes are in the system's buffers, which that line empties in four minutes.
const ANSWERED: Duration = Duration::from_secs(300);
/// Bytes of the store's message that are kept.
const MAX_WORDS: usize = 300;
/// The number of times that a put is repeated when it met another put of the same object.
const MOST_CONFLICTS: u32 = 3;
/// Wait before each of these.
const AFTER_CONFLICT: Duration = Duration::from_secs(1);

/// The store did not take a payload or did not give it.
#[derive(Debug, Error)]
pub enum PresignedError {
    /// The request cannot be sent.
    #[error("the presigned request cannot be sent: {0}")]
    Request(String),
    /// No connection, or one that broke.
    #[error("the store at {host} cannot be reached: {why}")]
    Unreachable {
        /// Host and port of the address.
        host: String,
        /// The innermost cause.
        why: String,
    },
    /// The store refused.
    #[error("the store at {host} answered {status}{words}")]
    Refused {
        /// Host and port of the address.
        host: String,
        /// Its HTTP status.
        status: StatusCode,
        /// The beginning of its message, after a colon; may be empty.
        words: String,
    },
    /// Nothing moved for too long.
    #[error("the store at {host} was silent for {seconds} s")]
    Silent {
        /// Host and port of the address.
        host: String,
        /// The seconds for which it was waited for.
        seconds: u64,
    },
    /// The bytes are not those that were announced.
    #[error("the store at {host} gave other bytes: {source}")]
    Payload {
        /// Host and port of the address.
        host: String,
        /// The difference of the bytes from the announced ones.
        source: ChunkError,
    },
}

/// The bytes that a read must yield.
#[derive(Clone, Copy, Debug)]
pub struct PresignedPayload {
    /// The number of bytes of the payload.
    pub size: u64,
    /// The BLAKE3 digest of these bytes.
    pub digest: Digest,
}

/// Sends presigned requests. Clones share their connections.
#[derive(Clone, Debug)]
pub struct PresignedStore {
    http: Client,
}

impl PresignedStore {
    /// With connections of its own, and the system's authorities for TLS.
    ///
    /// # Errors
    /// [`PresignedError::Request`] when TLS cannot be set up.
    pub fn new() -> Result<Self, PresignedError> {
        // TLS has one provider in a program. That it was installed before is fine.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = Client::builder().connect_timeout(CONNECT).redirect(Policy::none()).build();
        Ok(Self { http: http.map_err(|error| PresignedError::Request(cause_of(&error)))? })
    }

    /// Puts a payload where the request says. One that is there already counts as put.
    ///
    /// # Errors
    /// [`PresignedError`]; whether the payload is there is unknown then.
    pub async fn put(&self, request: &PresignedRequest, bytes: Bytes) -> Result<(), PresignedError> {
        let call = StoreCall::new(request, Method::PUT)?;
        let mut conflicts = 0;
        loop {
            let response = self.send(&call, Some(bytes.clone())).await?;
            match response.status() {
                status if status.is_success() => return Ok(()),
                // A condition of the request: only what is not there may be put.
                StatusCode::PRECONDITION_FAILED if call.is_conditional() => return Ok(()),
                StatusCode::CONFLICT if conflicts < MOST_CONFLICTS => {
                    conflicts += 1;
                    sleep(AFTER_CONFLICT).await;
                }
                _ => return Err(call.refused(response).await),
            }
        }
    }

    /// Reads a payload, and checks that it is the one.
    ///
    /// # Errors
    /// [`PresignedError`].
    pub async fn get(&self, request: &PresignedRequest, payload: PresignedPayload) -> Result<Vec<u8>, PresignedError> {
        let call = StoreCall::new(request, Method::GET)?;
        let mut response = self.send(&call, None).await?;
        if !response.status().is_success() {
            return Err(call.refused(response).await);
        }
        let damaged = |source| PresignedError::Payload { host: call.host.clone(), source };
        let mut assembler = Assembler::of(payload.size, payload.digest);
        loop {
            let chunk = timeout(STALLED, response.chunk()).await.map_err(|_| call.silent(STALLED))?;
            let Some(chunk) = chunk.map_err(|error| call.unreachable(&error))? else { break };
            assembler.push(&chunk).map_err(damaged)?;
        }
        assembler.finish().map(|(bytes, _)| bytes).map_err(damaged)
    }

    /// Sends a request and waits for the head of its answer, while bytes move.
    async fn send(&self, call: &StoreCall, bytes: Option<Bytes>) -> Result<Response, PresignedError> {
        let size = bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let taken = Arc::<AtomicU64>::default();
        let mut request = self.http.request(call.method.clone(), call.url.clone()).headers(call.headers.clone());
        if let Some(bytes) = bytes {
            request = request.body(reqwest::Body::wrap(CountedBody::new(bytes, taken.clone())));
        }
        let mut sending = std::pin::pin!(request.send());
        let mut before = 0;
        loop {
            let is_through = before == size;
            let patience = if is_through { ANSWERED } else { STALLED };
            if let Ok(answer) = timeout(patience, &mut sending).await {
                return answer.map_err(|error| call.unreachable(&error));
            }
            let now = taken.load(Ordering::Relaxed);
            if is_through || now == before {
                return Err(call.silent(patience));
            }
            before = now;
        }
    }
}

/// A presigned request, ready to be sent.
struct StoreCall {
    method: Method,
    url: Url,
    headers: HeaderMap,
    /// Host and port of the address, for messages; the rest of it is secret.
    host: String,
}

impl StoreCall {
    fn new(request: &PresignedRequest, method: Method) -> Result<Self, PresignedError> {
        let refused = |why: String| PresignedError::Request(why);
        if request.method != method.as_str() {
            return Err(refused(format!("its method is {:?}, {method} is needed", request.method)));
        }
        let url = Url::parse(&request.url).map_err(|error| refused(format!("its address is none: {error}")))?;
        let scheme = url.scheme();
        if !matches!(scheme, "http" | "https") {
            return Err(refused(format!("the scheme of its address is {scheme:?}; http and https are accepted")));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &request.headers {
            let header = HeaderName::try_from(name.as_str()).ok().zip(HeaderValue::try_from(value.as_str()).ok());
            let (name, value) = header.ok_or_else(|| refused(format!("its header {name:?} is none")))?;
            headers.insert(name, value);
        }
        let port = url.port().map_or(String::new(), |port| format!(":{port}"));
        let host = format!("{}{port}", url.host_str().unwrap_or_default());
        Ok(Self { method, url, headers, host })
    }

    fn is_conditional(&self) -> bool {
        self.headers.contains_key(reqwest::header::IF_NONE_MATCH)
    }

    fn unreachable(&self, error: &reqwest::Error) -> PresignedError {
        PresignedError::Unreachable { host: self.host.clone(), why: cause_of(error) }
    }

    fn silent(&self, waited: Duration) -> PresignedError {
        PresignedError::Silent { host: self.host.clone(), seconds: waited.as_secs() }
    }

    /// A refusal with the beginning of the store's message.
    async fn refused(&self, mut response: Response) -> PresignedError {
        let status = response.status();
        let first = timeout(CONNECT, response.chunk()).await;
        let first = first.ok().and_then(Result::ok).flatten().unwrap_or_default();
        let said = String::from_utf8_lossy(&first[..first.len().min(MAX_WORDS)]).into_owned();
        let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
        let words = if words.is_empty() { words } else { format!(": {words}") };
        PresignedError::Refused { host: self.host.clone(), status, words }
    }
}

/// The innermost cause of an error; outer ones repeat the address, which is secret.
fn cause_of(error: &reqwest::Error) -> String {
    // An error without a source describes itself; `plain` removes its address.
    error.source().map_or_else(|| plain(error), root_cause)
}

fn plain(error: &reqwest::Error) -> String {
    let words = error.to_string();
    error.url().map_or(words.clone(), |url| words.replace(url.as_str(), "the store"))
}

#[cfg(test)]
mod tests;
