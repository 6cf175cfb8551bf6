//! The layer in front of all services. It checks every request before a byte of its message is read.
//!
//! | service | audience |
//! |---|---|
//! | `SweepService` | users' tokens |
//! | `WorkerService` | workers' tokens |
//! | health checks | everybody |
//! | reflection, watching health | any token |
//! | the page's files | everybody |
//! | the page's API, metrics | users' tokens; without access control everybody reads, and the page's own token writes |
//!
//! The table is in [`routes`](super::routes). A browser acts for every page that is open in it, so paths that are not the
//! page's accept gRPC only, which no other page can send without a preflight request that fails; and a request that another
//! site made the browser send is refused. Without access control, so is every path under a host name that another page may
//! have pointed at this machine (DNS rebinding). Today no browser reaches gRPC that way, because browsers speak HTTP/2 only
//! if the certificate has that name; the rule does not rely on it.

use super::buffer::buffer_request;
use super::quotas::CallerQuota;
use super::routes::{AnswerKind, Audience, Protocol, Route};
use super::{Admitted, Caller, CallerQuotas, PageToken, Peer, RejectionLog, Right, Tokens};
use crate::event_loop::JournalWait;
use crate::http_status::http_response;
use crate::limits::Limits;
use crate::metrics;
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

/// Everything that the layer decides by.
pub(crate) struct AuthPolicy {
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) quotas: Arc<CallerQuotas>,
    pub(crate) rejections: Arc<RejectionLog>,
    pub(crate) limits: Limits,
    /// The page's own token, if there are no others.
    pub(crate) page_token: Option<PageToken>,
    pub(crate) tracer: Tracer,
    /// Whether the coordinator waits for its journal: then so does a call that is not answered in time.
    pub(crate) journal: watch::Receiver<Option<JournalWait>>,
}

impl Audience {
    fn admits(self, right: Right) -> Result<(), Status> {
        match (self, right) {
            (_, Right::Everything)
            | (Self::Users, Right::User { .. })
            | (Self::Workers, Right::Worker)
            | (Self::Anybody | Self::AnyToken, _) => Ok(()),
            (Self::Users, Right::Worker) => {
                Err(Reason::RoleWrong.status("a worker's token was sent; this requires a user's"))
            }
            (Self::Workers, Right::User { .. }) => {
                Err(Reason::RoleWrong.status("a user's token was sent; this requires a worker's"))
            }
        }
    }
}

/// The permits that an admitted request occupies.
struct RequestPermit {
    /// One of its caller's open requests.
    open: OwnedSemaphorePermit,
    /// The permits that a call needs once its request is there; streams have none.
    call: Option<CallPermit>,
}

/// The source of the permits that a call needs before it is under way.
struct CallPermit {
    quota: Arc<CallerQuota>,
    calls: Arc<Semaphore>,
}

/// A rejected request: the cause in the log, and the caller's answer.
struct Rejection {
    cause: &'static str,
    status: Status,
}

impl Rejection {
    fn because(cause: &'static str) -> impl FnOnce(Status) -> Self {
        move |status| Self { cause, status }
    }
}

impl AuthPolicy {
    fn admit(&self, request: &mut Request<Body>, route: Route) -> Result<RequestPermit, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let peer = peer.ok_or_else(|| Reason::Internal.status("the connection has no address"))?;
        match self.check(request, route, &peer) {
            Ok((permit, admitted)) => {
                request.extensions_mut().insert(admitted);
                Ok(permit)
            }
            Err(Rejection { cause, status }) => {
                let what = format_args!("{}: {}", request.uri().path(), status.message());
                self.rejections.log(peer.address, cause, what);
                Err(status)
            }
        }
    }

    fn check(
        &self,
        request: &mut Request<Body>,
        route: Route,
        peer: &Peer,
    ) -> Result<(RequestPermit, Admitted), Rejection> {
        if let Some(own) = &self.page_token {
            own.admits_host(request.uri(), request.headers()).map_err(Rejection::because("host"))?;
        }
        if route.protocol != Protocol::PageFile {
            is_same_site(request.headers()).map_err(Rejection::because("cross_site"))?;
        }
        // The token goes no further: no service sees it.
        let value = request.headers_mut().remove(header::AUTHORIZATION);
        let token = value.as_ref().and_then(|value| bearer(value.as_bytes()));
        let changes = route.changes(request.method());
        let may_write = self.may_write(route, changes, token)?;
        let caller = match self.tokens.find(token, SystemTime::now()) {
            Ok(caller) => Some(caller),
            Err(_) if route.audience == Audience::Anybody => None,
            Err((reason, message)) => {
                return Err(Rejection { cause: reason.as_str(), status: reason.status(message) });
            }
        };
        let quota = self.quotas.of(caller.as_ref(), peer.network());
        // With access control, a request that needs no token leaves its connection anonymous.
        let is_known = caller.is_some();
        let caller = caller.unwrap_or_else(Caller::anybody);
        route.audience.admits(caller.right).map_err(Rejection::because(Reason::RoleWrong.as_str()))?;
        if is_known {
            peer.prove();
        }
        let permit = self.permit(route, changes, &quota)?;
        Ok((permit, Admitted { caller, peer: peer.clone(), may_write, quota }))
    }

    /// Whether the page may change something. Where it has a token of its own, a request that does requires it.
    fn may_write(&self, route: Route, changes: bool, token: Option<&[u8]>) -> Result<bool, Rejection> {
        match &self.page_token {
            Some(own) if route.protocol == Protocol::PageApi => {
                if changes {
                    own.admits_write(token).map_err(Rejection::because("page_token"))?;
                }
                Ok(own.is(token))
            }
            _ => Ok(true),
        }
    }

    fn permit(&self, route: Route, changes: bool, quota: &Arc<CallerQuota>) -> Result<RequestPermit, Rejection> {
        // Workers report as fast as they compute: only the number of their open requests is limited.
        let per_second = self.limits.requests_per_second;
        if route.audience != Audience::Workers && !quota.paced(per_second, Instant::now()) {
            let status = Reason::Full.status(format!("more than {per_second} requests a second"));
            return Err(Rejection { cause: "requests_per_second", status });
        }
        let Some(open) = quota.open() else {
            let most = self.limits.requests_per_caller;
            let status = Reason::Full.status(format!("{most} requests are open, the most that one caller may have"));
            return Err(Rejection { cause: "requests_per_caller", status });
        };
        let is_call = route.answer == AnswerKind::Call;
        let call = is_call.then(|| CallPermit { quota: quota.clone(), calls: quota.calls(changes) });
        Ok(RequestPermit { open, call })
    }
}

/// Whether a request is gRPC's: over HTTP/2, and of a type that makes browsers send a preflight request.
fn is_grpc<B>(request: &Request<B>) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    let kind = request.headers().get(header::CONTENT_TYPE).map(|kind| kind.as_bytes());
    let further = kind.and_then(|kind| kind.strip_prefix(TYPE));
    request.version() == Version::HTTP_2
        && further.is_some_and(|further| matches!(further.first(), None | Some(b'+' | b';')))
}

/// The response to a request that does not speak gRPC.
fn not_grpc() -> Response<Body> {
    let mut response = Response::new(Body::new(Full::from("this path accepts gRPC over HTTP/2\n")));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// Refuses what another site made a browser send. Only browsers send this header.
fn is_same_site(headers: &HeaderMap) -> Result<(), Status> {
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    if matches!(site, None | Some(b"same-origin" | b"none")) {
        return Ok(());
    }
    Err(Reason::RoleWrong.status("another site made the browser send this request"))
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let scheme = value.get(..BEARER.len())?;
    let token = &value[BEARER.len()..];
    (scheme.eq_ignore_ascii_case(BEARER.as_bytes()) && (1..=MAX_TOKEN).contains(&token.len())).then_some(token)
}

/// Puts an [`AuthPolicy`] in front of services.
#[derive(Clone)]
pub(crate) struct AuthLayer(Arc<AuthPolicy>);

impl AuthLayer {
    pub(crate) fn new(policy: AuthPolicy) -> Self {
        Self(Arc::new(policy))
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = AuthService<S>;

    fn layer(&self, inner: S) -> AuthService<S> {
        AuthService { policy: self.0.clone(), inner }
    }
}

/// Services behind an [`AuthPolicy`].
#[derive(Clone)]
pub(crate) struct AuthService<S> {
    policy: Arc<AuthPolicy>,
    inner: S,
}

impl<S> Service<Request<Body>> for AuthService<S>
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
        let route = Route::of(request.uri().path());
        if !route.is_page() && !is_grpc(&request) {
            return Box::pin(async move { Ok(not_grpc()) });
        }
        let RequestPermit { open, call } = match self.policy.admit(&mut request, route) {
            Ok(permit) => permit,
            Err(status) => return Box::pin(async move { Ok(refusal(route, status)) }),
        };
        let meter = RequestMeter::begin(route, &self.policy.tracer, &mut request);
        let Some(call) = call else {
            let answer = self.inner.call(request);
            return Box::pin(async move {
                let answer = answer.await;
                // Of other streams the beginning is measured.
                let meter = Some(meter).filter(|_| route.answer == AnswerKind::Upload);
                Ok(answer?.map(|body| Body::new(PermitBody { body, _open: open, _meter: meter })))
            });
        };
        // The service that was asked whether it is ready must be the one that is called.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let policy = self.policy.clone();
        Box::pin(async move {
            let message_bytes = policy.limits.message_bytes;
            let answer = async {
                let (request, _memory) = match buffer_request(request, call.quota.memory(), message_bytes).await {
                    Ok(whole) => whole,
                    Err(status) => return Ok(refusal(route, status)),
                };
                // The semaphore is never closed.
                let _call = call.calls.acquire_owned().await;
                inner.call(request).await
            };
            let within = Duration::from_secs_f64(policy.limits.request_seconds);
            let answer = tokio::time::timeout(within, answer).await;
            let answer = answer.unwrap_or_else(|_| {
                let wait = policy.journal.borrow();
                Ok(refusal(route, late(within, wait.as_ref())))
            });
            drop(meter);
            Ok(answer?.map(|body| Body::new(PermitBody { body, _open: open, _meter: None })))
        })
    }
}

/// A status as this route's protocol has it.
fn refusal(route: Route, status: Status) -> Response<Body> {
    if route.is_page() { http_response(&status).map(Body::new) } else { status.into_http() }
}

/// The answer to a call that took too long. The change that it asked for may still be made.
fn late(within: Duration, journal: Option<&JournalWait>) -> Status {
    match journal {
        Some(wait) => Reason::JournalWaits.status(format!("not answered within {within:?}: {wait}")),
        None => Status::deadline_exceeded(format!("not answered within {within:?}")),
    }
}

/// Measures a request, for metrics and traces, until it is dropped.
struct RequestMeter {
    name: &'static str,
    began: Instant,
    _span: Option<Span>,
}

impl RequestMeter {
    /// A request with a trace context becomes a span of that trace; its handler finds the span's context among the extensions.
    fn begin(route: Route, tracer: &Tracer, request: &mut Request<Body>) -> Self {
        let name = route.name;
        let parent = request.headers().get(TRACEPARENT).and_then(|value| TraceContext::parse(value.to_str().ok()?));
        let span = parent.map(|parent| tracer.span(name, SpanKind::Server, Some(parent)).of_remote_parent());
        if let Some(span) = &span {
            request.extensions_mut().insert(span.context());
        }
        Self { name, began: Instant::now(), _span: span }
    }
}

impl Drop for RequestMeter {
    fn drop(&mut self) {
        metrics::answered(self.name, self.began.elapsed().as_secs_f64());
    }
}

/// A response body that keeps its request's permit until it is sent.
struct PermitBody {
    body: Body,
    _open: OwnedSemaphorePermit,
    _meter: Option<RequestMeter>,
}

impl http_body::Body for PermitBody {
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
    fn every_audience_knows_whom_it_admits() {
        let user = Right::User { admin: false };
        let worker = Right::Worker;
        for (path, users, workers) in [
            ("/nadgrid.v1.SweepService/Submit", true, false),
            ("/nadgrid.v1.WorkerService/Session", false, true),
            ("/grpc.health.v1.Health/Check", true, true),
            ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", true, true),
            ("/api/sweeps/s/cancel", true, false),
            ("/metrics", true, false),
        ] {
            let audience = Route::of(path).audience;
            let admitted = (audience.admits(user).is_ok(), audience.admits(worker).is_ok());
            assert_eq!(admitted, (users, workers), "{path}");
            assert!(audience.admits(Right::Everything).is_ok());
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
            is_same_site(&HeaderMap::from_iter(site)).is_ok()
        };
        assert!(asks(None) && asks(Some("same-origin")) && asks(Some("none")));
        assert!(!asks(Some("cross-site")) && !asks(Some("same-site")));
    }
}
