//! The page: files that are compiled in, and the HTTP interface that they use, on gRPC's port.
//!
//! ```text
//! assets     /, /page/NAME            the files of the page; the same for everybody, without a token
//! api        /api/...                 JSON, from the service that answers gRPC, with the same rights
//! events     /api/.../events          server-sent events
//! pictures   /api/.../pictures, nads  drawn by `figures`, as the command line draws them
//! shards     /api/.../shards          the latest shards of a sweep
//! metrics    /metrics                 the scrape of Prometheus
//! ```
//! The paths are listed in `access::routes`, whose layer checks every request first. Deliberately absent: cookies, and
//! anything that only the page could do.

mod api;
mod assets;
mod events;
mod metrics;
mod pictures;
mod shards;

use crate::access::PageRoute;
use crate::event_loop::CoordinatorHandle;
use crate::http_status::http_response;
use crate::metrics::Metrics;
use crate::service::Sweeps;
use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use http::{HeaderMap, header};
use serde::Serialize;
use std::sync::Arc;
use std::time::SystemTime;
use tonic::Status;

/// The state of the page's handlers.
pub(crate) struct Page {
    pub(crate) sweeps: Arc<Sweeps>,
    pub(crate) coordinator: CoordinatorHandle,
    pub(crate) metrics: Metrics,
    pub(crate) started: SystemTime,
    pub(crate) pictures: pictures::Pictures,
    overviews: events::Overviews,
}

impl Page {
    pub(crate) fn new(sweeps: Arc<Sweeps>, coordinator: CoordinatorHandle, metrics: Metrics) -> Self {
        let pictures = pictures::Pictures::default();
        let overviews = events::Overviews::default();
        Self { sweeps, coordinator, metrics, started: SystemTime::now(), pictures, overviews }
    }

    /// The router of everything that is served besides gRPC.
    pub(crate) fn router(self) -> Router {
        let routes =
            PageRoute::ALL.iter().fold(Router::new(), |router, route| router.route(route.path(), handler(*route)));
        routes.fallback(not_found).with_state(Arc::new(self))
    }
}

fn handler(route: PageRoute) -> MethodRouter<Arc<Page>> {
    match route {
        PageRoute::Index => get(assets::index),
        PageRoute::File => get(assets::file),
        PageRoute::Metrics => get(metrics::scrape),
        PageRoute::About => get(api::about),
        PageRoute::Overview => get(events::overview),
        PageRoute::Sweeps => get(api::list),
        PageRoute::Sweep => get(api::sweep),
        PageRoute::SweepEvents => get(events::sweep),
        PageRoute::Cancel => post(api::cancel),
        PageRoute::Pause => post(api::pause),
        PageRoute::Resume => post(api::resume),
        PageRoute::Artifact => get(api::artifact),
        PageRoute::Shards => get(shards::list),
        PageRoute::Shard => get(shards::one),
        PageRoute::Pictures => get(pictures::list),
        PageRoute::Picture => get(pictures::one),
        PageRoute::Nads => get(pictures::nads),
        PageRoute::Nad => get(pictures::nad),
    }
}

/// A response with JSON that is not cached.
fn json(value: &impl Serialize) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], axum::Json(value)).into_response()
}

/// Answers a path that does not exist; a call of gRPC gets a status of gRPC.
async fn not_found(headers: HeaderMap) -> Response {
    let grpc = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if grpc {
        let (parts, ()) = Status::unimplemented("there is no such method").into_http::<()>().into_parts();
        return Response::from_parts(parts, axum::body::Body::empty());
    }
    http_response(&Status::not_found("not found; the page is at /"))
}
