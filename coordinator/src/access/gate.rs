//! The gate: a layer in front of all services. Every request passes it before a byte of its message is read.
//!
//! | service | who |
//! |---|---|
//! | `SweepService` | a user's token |
//! | `WorkerService` | a worker's token |
//! | health checks | anybody |
//! | reflection, watching health | any token |
//! | the page's files | anybody |
//! | the page's API, metrics | a user's token; without tokens anybody reads, and the page's own token writes |
//!
//! A browser also speaks for every other page that is open in it. What is not the page's takes gRPC alone, which no page can
//! send without being asked first whether it may (and it may not); what another site makes a browser ask is refused. Without
//! tokens, so is every path under a host name that another page may have made to mean this machine. No browser reaches gRPC that
//! way today, since it speaks HTTP/2 only where the certificate has that name; the rule holds without relying on that.

use super::shares::Account;
use super::whole::whole;
use super::{Admitted, Caller, Peer, Refusals, Right, Shares, Tokens};
use crate::event_loop::JournalWait;
use crate::limits::Limits;
use crate::metrics;
use crate::page::{self, PageToken, Place};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use http_body_util::Full;
use nadgrid_proto::access::{BEARER, MAX_TOKEN};
use nadgrid_proto::status::Reason;
use nadgrid_telemetry::{Span, SpanKind, TRACEPARENT, TraceContext, Tracer};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

const SWEEPS: &str = "/nadgrid.v1.SweepService/";
const WORKERS: &str = "/nadgrid.v1.WorkerService/";
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
/// Methods that stream, or take as long as their payload does: no time limit is put on them as a whole.
const STREAMS: &[&str] =
    &["Session", "Watch", "UploadInput", "UploadPartial", "UploadCheckpoint", "ReadArtifact", "ReadInput", "Verify"];

/// Of these, those that are measured until their end: they take as long as their payload does.
const UPLOADS: &[&str] = &["UploadInput", "UploadPartial", "UploadCheckpoint"];

/// Calls that change something.
const CHANGES: &[&str] = &["Submit", "Cancel", "Pause", "Resume"];

/// What the gate decides by.
pub(crate) struct Gate {
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) shares: Arc<Shares>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) limits: Limits,
    /// Where there are no other tokens.
    pub(crate) page_token: Option<PageToken>,
    pub(crate) tracer: Tracer,
    /// Whether the journal is waited for: what a call that was not answered in time waited for, too.
    pub(crate) journal: watch::Receiver<Option<JournalWait>>,
}

/// Who is let in to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Users,
    Workers,
    Anybody,
    AnyToken,
}

impl Door {
    fn of(path: &str) -> Self {
        match path {
            HEALTH_CHECK => Self::Anybody,
            _ if page::place(path) == Some(Place::Asset) => Self::Anybody,
            _ if page::place(path) == Some(Place::Api) => Self::Users,
            _ if path.starts_with(SWEEPS) => Self::Users,
            _ if path.starts_with(WORKERS) => Self::Workers,
            _ => Self::AnyToken,
        }
    }

    fn admits(self, right: Right) -> Result<(), Status> {
        match (self, right) {
            (_, Right::Everything)
            | (Self::Users, Right::User { .. })
            | (Self::Workers, Right::Worker)
            | (Self::Anybody | Self::AnyToken, _) => Ok(()),
            (Self::Users, Right::Worker) => Err(Reason::RoleWrong.status("a worker's token: this needs a user's")),
            (Self::Workers, Right::User { .. }) => {
                Err(Reason::RoleWrong.status("a user's token: this needs a worker's"))
            }
        }
    }
}

/// A request that may go on.
struct Pass {
    open: OwnedSemaphorePermit,
    /// What a call that is answered at once needs.
    call: Option<Call>,
}

/// What a call needs before it is under way.
struct Call {
    account: Arc<Account>,
    places: Arc<Semaphore>,
}

impl Gate {
    fn admit(&self, request: &mut Request<Body>) -> Result<Pass, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let peer = peer.ok_or_else(|| Reason::Internal.status("the connection has no address"))?;
        let passed = self.check(request, &peer);
        match passed {
            Ok((pass, admitted)) => {
                request.extensions_mut().insert(admitted);
                Ok(pass)
            }
            Err((cause, status)) => {
                self.refusals.log(peer.address, cause, format_args!("{}: {}", request.uri().path(), status.message()));
                Err(status)
            }
        }
    }

    fn check(&self, request: &mut Request<Body>, peer: &Peer) -> Result<(Pass, Admitted), (&'static str, Status)> {
        let path = request.uri().path();
        let door = Door::of(path);
        let of_page = page::place(path) == Some(Place::Api);
        let is_stream = match of_page {
            true => page::is_stream(path),
            false => path.rsplit('/').next().is_some_and(|method| STREAMS.contains(&method)),
        };
        let changes = match of_page {
            true => !request.method().is_safe(),
            false => path.rsplit('/').next().is_some_and(|method| CHANGES.contains(&method)),
        };
        if let Some(own) = &self.page_token {
            own.admits_host(request.uri(), request.headers()).map_err(|status| ("host", status))?;
        }
        if page::place(path) != Some(Place::Asset) {
            from_here(request.headers()).map_err(|status| ("cross_site", status))?;
        }
        // The token ends here: nothing behind the gate sees it.
        let value = request.headers_mut().remove(header::AUTHORIZATION);
        let token = value.as_ref().and_then(|value| bearer(value.as_bytes()));
        let may_write = match &self.page_token {
            Some(own) if of_page => {
                if !request.method().is_safe() {
                    own.admits_write(token).map_err(|status| ("page_token", status))?;
                }
                own.is(token)
            }
            _ => true,
        };
        let caller = match self.tokens.find(token, SystemTime::now()) {
            Ok(caller) => Some(caller),
            Err(_) if door == Door::Anybody => None,
            Err((reason, message)) => return Err((reason.as_str(), reason.status(message))),
        };
        let account = self.shares.account(caller.as_ref(), peer.network());
        // Where there are tokens, what anybody may ask leaves the connection anonymous.
        let is_known = caller.is_some();
        let caller = caller.unwrap_or_else(Caller::anybody);
        door.admits(caller.right).map_err(|status| (Reason::RoleWrong.as_str(), status))?;
        if is_known {
            peer.prove();
        }
        // Workers report as fast as they compute: their places are their limit.
        if door != Door::Workers && !account.paced(self.limits.requests_per_second, Instant::now()) {
            let message = format!("more than {} requests a second", self.limits.requests_per_second);
            return Err(("requests_per_second", Reason::Full.status(message)));
        }
        let Some(open) = account.open() else {
            let message =
                format!("{} requests are open, the most that one caller may have", self.limits.requests_per_caller);
            return Err(("requests_per_caller", Reason::Full.status(message)));
        };
        let call = (!is_stream && door != Door::AnyToken)
            .then(|| Call { places: account.calls(changes), account: account.clone() });
        Ok((Pass { open, call }, Admitted { caller, peer: peer.clone(), may_write, account }))
    }
}

/// Whether a request is gRPC's: over HTTP/2, and of a type that makes browsers ask first.
fn is_grpc<B>(request: &Request<B>) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    let kind = request.headers().get(header::CONTENT_TYPE).map(|kind| kind.as_bytes());
    let further = kind.and_then(|kind| kind.strip_prefix(TYPE));
    request.version() == Version::HTTP_2
        && further.is_some_and(|further| matches!(further.first(), None | Some(b'+' | b';')))
}

/// What somebody is told who does not speak gRPC.
fn not_grpc() -> Response<Body> {
    let mut response = Response::new(Body::new(Full::from("this path takes gRPC over HTTP/2\n")));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// Whether no other site made a browser send this; what is no browser says nothing of sites.
fn from_here(headers: &HeaderMap) -> Result<(), Status> {
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    if matches!(site, None | Some(b"same-origin" | b"none")) {
        return Ok(());
    }
    Err(Reason::RoleWrong.status("another page made the browser ask this"))
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let scheme = value.get(..BEARER.len())?;
    let token = &value[BEARER.len()..];
    (scheme.eq_ignore_ascii_case(BEARER.as_bytes()) && (1..=MAX_TOKEN).contains(&token.len())).then_some(token)
}

/// Puts a [`Gate`] in front of services.
#[derive(Clone)]
pub(crate) struct GateLayer(pub(crate) Arc<Gate>);

impl<S> Layer<S> for GateLayer {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { gate: self.0.clone(), inner }
    }
}

impl Gate {
    pub(crate) fn layer(self) -> GateLayer {
        GateLayer(Arc::new(self))
    }
}

/// Services behind a gate.
#[derive(Clone)]
pub(crate) struct Gated<S> {
    gate: Arc<Gate>,
    inner: S,
}

impl<S> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let of_page = page::place(request.uri().path()).is_some();
        if !of_page && !is_grpc(&request) {
            return Box::pin(async move { Ok(not_grpc()) });
        }
        let Pass { open, call } = match self.gate.admit(&mut request) {
            Ok(pass) => pass,
            Err(status) if of_page => return Box::pin(async move { Ok(page::refusal(&status).map(Body::new)) }),
            Err(status) => return Box::pin(async move { Ok(status.into_http()) }),
        };
        let watched = Watched::begin(&self.gate.tracer, &mut request);
        let Some(call) = call else {
            let answer = self.inner.call(request);
            return Box::pin(async move {
                let answer = answer.await;
                let watched = watched.unless_upload();
                Ok(answer?.map(|body| Body::new(Held { body, _place: open, _watched: watched })))
            });
        };
        // The clone is taken in place of the service that was asked whether it is ready.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let within = Duration::from_secs_f64(self.gate.limits.request_seconds);
        let (journal, message_bytes) = (self.gate.journal.clone(), self.gate.limits.message_bytes);
        Box::pin(async move {
            let refusal = |status: Status| match of_page {
                true => page::refusal(&status).map(Body::new),
                false => status.into_http(),
            };
            let answer = async {
                let (request, _memory) = match whole(request, call.account.memory(), message_bytes).await {
                    Ok(whole) => whole,
                    Err(status) => return Ok(refusal(status)),
                };
                // Closed by nobody.
                let _place = call.places.acquire_owned().await;
                inner.call(request).await
            };
            let answer = tokio::time::timeout(within, answer).await;
            let answer = answer.unwrap_or_else(|_| Ok(refusal(late(within, journal.borrow().as_ref()))));
            drop(watched);
            Ok(answer?.map(|body| Body::new(Held { body, _place: open, _watched: None })))
        })
    }
}

/// What a call is told that was given up. What it asked for may still be done, unless it was told otherwise.
fn late(within: Duration, journal: Option<&JournalWait>) -> Status {
    match journal {
        Some(wait) => Reason::JournalWaits.status(format!("not answered within {within:?}: {wait}")),
        None => Status::deadline_exceeded(format!("not answered within {within:?}")),
    }
}

/// A request on its way, for metrics and traces; it ends when it is dropped.
struct Watched {
    method: &'static str,
    began: Instant,
    _span: Option<Span>,
}

impl Watched {
    /// A request that comes with a trace is a span of it, and its handler finds the context among the extensions.
    fn begin(tracer: &Tracer, request: &mut Request<Body>) -> Self {
        let method = known(request.uri().path());
        let parent = request.headers().get(TRACEPARENT).and_then(|value| TraceContext::parse(value.to_str().ok()?));
        let span = parent.map(|parent| tracer.span(method, SpanKind::Server, Some(parent)).of_remote_parent());
        if let Some(span) = &span {
            request.extensions_mut().insert(span.context());
        }
        Self { method, began: Instant::now(), _span: span }
    }

    /// Ends here where the answer's beginning is what is measured.
    fn unless_upload(self) -> Option<Self> {
        UPLOADS.contains(&self.method).then_some(self)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        metrics::answered(self.method, self.began.elapsed().as_secs_f64());
    }
}

/// The method's name; everything that is none of the contract's has one together.
fn known(path: &str) -> &'static str {
    const METHODS: &[&str] = &[
        "Plan",
        "UploadInput",
        "Submit",
        "Get",
        "List",
        "Watch",
        "Cancel",
        "Pause",
        "Resume",
        "Explain",
        "Verify",
        "ReadArtifact",
        "ListWorkers",
        "Session",
        "ReadInput",
        "UploadPartial",
        "UploadCheckpoint",
    ];
    let ours = path.starts_with(SWEEPS) || path.starts_with(WORKERS);
    let method = path.rsplit('/').next().filter(|_| ours);
    let found = method.and_then(|method| METHODS.iter().find(|known| **known == method));
    found.copied().unwrap_or(if page::place(path).is_some() { "page" } else { "other" })
}

/// A response that holds its place until it is sent.
struct Held {
    body: Body,
    _place: OwnedSemaphorePermit,
    _watched: Option<Watched>,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_door_knows_whom_it_admits() {
        let (user, worker) = (Right::User { admin: false }, Right::Worker);
        for (path, users, workers) in [
            ("/nadgrid.v1.SweepService/Submit", true, false),
            ("/nadgrid.v1.WorkerService/Session", false, true),
            ("/grpc.health.v1.Health/Check", true, true),
            ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", true, true),
            ("/api/sweeps/s/cancel", true, false),
            ("/metrics", true, false),
        ] {
            let door = Door::of(path);
            assert_eq!((door.admits(user).is_ok(), door.admits(worker).is_ok()), (users, workers), "{path}");
            assert!(door.admits(Right::Everything).is_ok());
        }
        assert_eq!(Door::of("/grpc.health.v1.Health/Check"), Door::Anybody);
        for closed in ["/grpc.health.v1.Health/Watch", "/other", "/nadgrid.v1.SweepServic/Submit"] {
            assert_eq!(Door::of(closed), Door::AnyToken, "{closed}");
        }
    }

    #[test]
    fn a_bearer_is_one_word_of_bounded_length() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"Basic abc"), None);
        assert_eq!(bearer(b"Bearer "), None);
        assert_eq!(bearer(&[b"Bearer ".as_slice(), &[b'x'; MAX_TOKEN + 1]].concat()), None);
    }

    #[test]
    fn only_grpc_over_http_2_is_grpc() {
        let request = |version, kind: Option<&str>| {
            let mut request = Request::builder().version(version);
            if let Some(kind) = kind {
                request = request.header(header::CONTENT_TYPE, kind);
            }
            is_grpc(&request.body(()).unwrap())
        };
        for fine in ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"] {
            assert!(request(Version::HTTP_2, Some(fine)), "{fine}");
            assert!(!request(Version::HTTP_11, Some(fine)), "{fine}");
        }
        for other in [Some("text/plain"), Some("application/grpc-web"), Some("application/json"), None] {
            assert!(!request(Version::HTTP_2, other), "{other:?}");
        }
    }

    #[test]
    fn what_another_site_makes_a_browser_ask_is_refused() {
        let asks = |site: Option<&'static str>| {
            let site = site.map(|site| ("sec-fetch-site".parse().unwrap(), HeaderValue::from_static(site)));
            from_here(&HeaderMap::from_iter(site)).is_ok()
        };
        assert!(asks(None) && asks(Some("same-origin")) && asks(Some("none")));
        assert!(!asks(Some("cross-site")) && !asks(Some("same-site")));
    }
}
