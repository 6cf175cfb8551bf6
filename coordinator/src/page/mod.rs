//! The page: files that are compiled in, and the HTTP interface that they use, on the port of gRPC.
//!
//! ```text
//! assets     /, /page/NAME            what a browser loads; the same for everybody, without a token
//! api        /api/...                 JSON; asks the same service as gRPC does, with the same rights
//! events     /api/.../events          server-sent events
//! pictures   /api/.../pictures, nads  drawn by `figures`, as the command line draws them
//! token      what a browser shows where there are no tokens, so that no other page can write in its name
//! ```
//! Every request passes the gate (`access::gate`) before. Deliberately absent: cookies, and anything that only the page could do.

mod api;
mod assets;
mod events;
mod pictures;
mod shards;
mod token;

pub(crate) use token::PageToken;

use crate::event_loop::CoordinatorHandle;
use crate::metrics::Metrics;
use crate::service::Sweeps;
use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode, header};
use nadgrid_proto::status::DOMAIN;
use serde::Serialize;
use std::sync::Arc;
use std::time::SystemTime;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// What the page's handlers need.
pub(crate) struct Page {
    pub(crate) sweeps: Arc<Sweeps>,
    pub(crate) desk: CoordinatorHandle,
    pub(crate) metrics: Metrics,
    pub(crate) started: SystemTime,
    pub(crate) pictures: pictures::Pictures,
    looks: events::Looks,
}

impl Page {
    pub(crate) fn new(sweeps: Arc<Sweeps>, desk: CoordinatorHandle, metrics: Metrics) -> Self {
        let (pictures, looks) = (pictures::Pictures::default(), events::Looks::default());
        Self { sweeps, desk, metrics, started: SystemTime::now(), pictures, looks }
    }

    /// Everything that is served besides gRPC.
    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/", get(assets::index))
            .route("/page/{name}", get(assets::file))
            .route("/metrics", get(api::metrics))
            .route("/api/about", get(api::about))
            .route("/api/events", get(events::overview))
            .route("/api/sweeps", get(api::list))
            .route("/api/sweeps/{id}", get(api::sweep))
            .route("/api/sweeps/{id}/events", get(events::sweep))
            .route("/api/sweeps/{id}/cancel", post(api::cancel))
            .route("/api/sweeps/{id}/pause", post(api::pause))
            .route("/api/sweeps/{id}/resume", post(api::resume))
            .route("/api/sweeps/{id}/artifacts/{*name}", get(api::artifact))
            .route("/api/sweeps/{id}/shards", get(shards::list))
            .route("/api/sweeps/{id}/shards/{key}", get(shards::one))
            .route("/api/sweeps/{id}/pictures", get(pictures::list))
            .route("/api/sweeps/{id}/pictures/{*name}", get(pictures::one))
            .route("/api/sweeps/{id}/nads", get(pictures::nads))
            .route("/api/sweeps/{id}/nads/{architecture}/{file}", get(pictures::nad))
            .fallback(nothing)
            .with_state(Arc::new(self))
    }
}

/// Whether a path is the page's rather than gRPC's, and whether it needs no token.
pub(crate) fn place(path: &str) -> Option<Place> {
    match path {
        "/" => Some(Place::Asset),
        "/metrics" => Some(Place::Api),
        _ if path.starts_with("/page/") => Some(Place::Asset),
        _ if path.starts_with("/api/") => Some(Place::Api),
        _ => None,
    }
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A file that is the same for everybody.
    Asset,
    /// What users may ask.
    Api,
}

/// Whether a request is answered for as long as somebody listens.
pub(crate) fn is_stream(path: &str) -> bool {
    path.ends_with("/events") || path.contains("/artifacts/")
}

#[derive(Serialize)]
struct Refusal<'a> {
    error: &'a str,
    reason: &'a str,
}

/// A status of gRPC as HTTP has it, with the same words and reason.
pub(crate) fn refusal(status: &Status) -> Response {
    let code = match status.code() {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let info = status.get_details_error_info().filter(|info| info.domain == DOMAIN);
    let reason = info.map_or_else(|| format!("{:?}", status.code()).to_uppercase(), |info| info.reason);
    let body = axum::Json(Refusal { error: status.message(), reason: &reason });
    let mut response = (code, [(header::CACHE_CONTROL, "no-store")], body).into_response();
    if code == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, http::HeaderValue::from_static("Bearer"));
    }
    response
}

/// An error of a handler.
struct Refused(Status);

impl<T: Into<Status>> From<T> for Refused {
    fn from(status: T) -> Self {
        Self(status.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        refusal(&self.0)
    }
}

/// JSON that nobody keeps.
fn json(value: &impl Serialize) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], axum::Json(value)).into_response()
}

/// A path that leads nowhere; a method of gRPC that is not of the contract is told so in its own words.
async fn nothing(headers: HeaderMap) -> Response {
    let grpc = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if grpc {
        let (parts, ()) = Status::unimplemented("there is no such method").into_http::<()>().into_parts();
        return Response::from_parts(parts, axum::body::Body::empty());
    }
    refusal(&Status::not_found("there is nothing here; the page is at /"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nadgrid_proto::status::Reason;

    #[test]
    fn every_path_has_its_place() {
        for (path, found) in [
            ("/", Some(Place::Asset)),
            ("/page/app.js", Some(Place::Asset)),
            ("/api/sweeps", Some(Place::Api)),
            ("/metrics", Some(Place::Api)),
            ("/nadgrid.v1.SweepService/List", None),
            ("/elsewhere", None),
            ("/api", None),
        ] {
            assert_eq!(place(path), found, "{path}");
        }
        assert!(is_stream("/api/sweeps/s/events") && is_stream("/api/sweeps/s/artifacts/nads/lenet/nads.npy"));
        assert!(!is_stream("/api/sweeps/s"));
    }

    #[test]
    fn refusals_keep_their_class() {
        for (reason, code) in [
            (Reason::TokenMissing, 401),
            (Reason::NotYours, 403),
            (Reason::SweepUnknown, 404),
            (Reason::RequestInvalid, 400),
            (Reason::Full, 429),
            (Reason::ShuttingDown, 503),
        ] {
            let response = refusal(&reason.status("words"));
            assert_eq!(response.status().as_u16(), code, "{reason:?}");
        }
    }
}
