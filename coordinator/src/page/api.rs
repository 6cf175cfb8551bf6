//! The page's interface in JSON, with the same views as the command line's `--json`.

use super::{Page, json};
use crate::access::{Admitted, Right};
use crate::http_status::{HttpError, http_response};
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderValue, header};
use nadgrid_proto::v1;
use nadgrid_proto::v1::sweep_service_server::SweepService;
use nadgrid_proto::views::SweepView;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tonic::{Request, Status};

/// The number of sweeps on one page of the list.
const PAGE: u32 = 100;

/// The admission of a request, which the access layer adds.
pub(super) type AdmittedExtension = Extension<Admitted>;

/// A request to the service that also answers gRPC.
pub(super) fn request<T>(admitted: Admitted, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(admitted);
    request
}

/// A sweep as a row of a list.
#[derive(Debug, Serialize)]
pub(super) struct SweepRow {
    id: String,
    name: String,
    state: String,
    owner: Option<String>,
    submitted_at: Option<String>,
    started_at: Option<String>,
    ended_at: Option<String>,
    /// The names of its jobs.
    experiments: Vec<String>,
    members: u64,
    members_done: u64,
    members_in_flight: u64,
    members_failed: u64,
    progress: f64,
    seconds_left: Option<f64>,
    members_per_second: Option<f64>,
    notices: Vec<String>,
    workers: u32,
    priority: i32,
}

impl From<&v1::Sweep> for SweepRow {
    fn from(sweep: &v1::Sweep) -> Self {
        let view = SweepView::from(sweep);
        let rate: f64 = sweep.jobs.iter().map(|job| job.members_per_second).sum();
        Self {
            id: view.id,
            name: view.name,
            state: view.state,
            owner: view.owner,
            submitted_at: view.submitted_at,
            started_at: view.started_at,
            ended_at: view.ended_at,
            experiments: sweep.jobs.iter().map(|job| format!("{}/{}", job.experiment, job.architecture)).collect(),
            members: sweep.jobs.iter().map(|job| job.members).sum(),
            members_done: sweep.jobs.iter().map(|job| job.members_done).sum(),
            members_in_flight: sweep.jobs.iter().map(|job| job.members_in_flight).sum(),
            members_failed: sweep.jobs.iter().map(|job| job.members_failed).sum(),
            progress: view.progress,
            seconds_left: view.seconds_left,
            members_per_second: Some(rate).filter(|&rate| rate > 0.0),
            notices: view.notices,
            workers: view.workers,
            priority: view.priority,
        }
    }
}

#[derive(Serialize)]
struct About {
    version: &'static str,
    /// `open` without access control, else `tokens`.
    access: &'static str,
    caller: Option<String>,
    may_write: bool,
    started_at: String,
}

pub(super) async fn about(State(page): State<Arc<Page>>, Extension(admitted): AdmittedExtension) -> Response {
    let caller = &admitted.caller;
    json(&About {
        version: env!("CARGO_PKG_VERSION"),
        access: if caller.right == Right::Everything { "open" } else { "tokens" },
        caller: (!caller.name.is_empty()).then(|| caller.name.to_string()),
        may_write: admitted.may_write,
        started_at: humantime::format_rfc3339_millis(page.started).to_string(),
    })
}

#[derive(Deserialize)]
pub(super) struct ListQuery {
    #[serde(default)]
    page_token: String,
}

#[derive(Serialize)]
struct SweepList {
    sweeps: Vec<SweepRow>,
    next_page_token: Option<String>,
    /// One message for each thing that the coordinator itself is waiting for.
    notices: Vec<String>,
}

pub(super) async fn list(
    State(page): State<Arc<Page>>,
    Extension(admitted): AdmittedExtension,
    Query(ListQuery { page_token }): Query<ListQuery>,
) -> Result<Response, HttpError> {
    let list = page.sweeps.list(request(admitted, v1::ListRequest { page_size: PAGE, page_token })).await?.into_inner();
    let next_page_token = (!list.next_page_token.is_empty()).then_some(list.next_page_token);
    let sweeps = list.sweeps.iter().map(SweepRow::from).collect();
    Ok(json(&SweepList { sweeps, next_page_token, notices: list.notices }))
}

pub(super) async fn get(page: &Page, admitted: Admitted, sweep_id: String) -> Result<v1::Sweep, Status> {
    Ok(page.sweeps.get(request(admitted, v1::GetRequest { sweep_id })).await?.into_inner())
}

pub(super) async fn sweep(
    State(page): State<Arc<Page>>,
    Extension(admitted): AdmittedExtension,
    Path(id): Path<String>,
) -> Result<Response, HttpError> {
    Ok(json(&SweepView::from(&get(&page, admitted, id).await?)))
}

pub(super) async fn cancel(
    State(page): State<Arc<Page>>,
    Extension(admitted): AdmittedExtension,
    Path(sweep_id): Path<String>,
) -> Result<Response, HttpError> {
    let sweep = page.sweeps.cancel(request(admitted, v1::CancelRequest { sweep_id })).await?;
    Ok(json(&SweepView::from(sweep.get_ref())))
}

pub(super) async fn pause(
    State(page): State<Arc<Page>>,
    Extension(admitted): AdmittedExtension,
    Path(sweep_id): Path<String>,
) -> Result<Response, HttpError> {
    let sweep = page.sweeps.pause(request(admitted, v1::PauseRequest { sweep_id })).await?;
    Ok(json(&SweepView::from(sweep.get_ref())))
}

pub(super) async fn resume(
    State(page): State<Arc<Page>>,
    Extension(admitted): AdmittedExtension,
    Path(sweep_id): Path<String>,
) -> Result<Response, HttpError> {
    let sweep = page.sweeps.resume(request(admitted, v1::ResumeRequest { sweep_id })).await?;
    Ok(json(&SweepView::from(sweep.get_ref())))
}

/// An artifact's bytes, sent as fast as the client reads them.
pub(super) async fn artifact(
    State(page): State<Arc<Page>>,
    Extension(admitted): AdmittedExtension,
    Path((sweep_id, name)): Path<(String, String)>,
) -> Response {
    let asked = v1::ReadArtifactRequest { sweep_id, name: name.clone(), presigned: false };
    let mut stream = match page.sweeps.read_artifact(request(admitted, asked)).await {
        Ok(stream) => stream.into_inner(),
        Err(status) => return http_response(&status),
    };
    let size = match stream.next().await {
        Some(Ok(v1::ReadArtifactResponse { artifact: Some(artifact), .. })) => artifact.size,
        Some(Err(status)) => return http_response(&status),
        _ => return http_response(&Status::internal("the artifact has no header")),
    };
    let bytes = stream.map(|part| part.map(|part| Bytes::from(part.data)));
    let file: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "._-/".contains(*c)).collect();
    let file = file.replace('/', "_");
    let disposition = HeaderValue::try_from(format!("attachment; filename=\"{file}\""));
    let mut response = Body::from_stream(bytes).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(disposition) = disposition {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    response
}
