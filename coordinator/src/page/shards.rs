//! The latest shards of a sweep, and the timeline of one.

use super::api::AdmittedExtension;
use super::{Page, json};
use crate::event_loop::{LeaseTimeline, ShardTimeline};
use crate::http_status::HttpError;
use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use nadgrid_core::ids::SweepId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tonic::Status;

/// The number of shards in a list, unless the request asks for another.
const LISTED: usize = 100;
const MAX_LISTED: usize = 500;

#[derive(Serialize)]
struct ShardRow {
    key: String,
    job: String,
    first_block: u64,
    blocks: u64,
    members: u64,
    state: &'static str,
    worker: Option<String>,
    attempts: u32,
    leased_at: String,
    ended_at: Option<String>,
    seconds: Option<f64>,
    trace_id: String,
}

impl From<&ShardTimeline> for ShardRow {
    fn from(shard: &ShardTimeline) -> Self {
        Self {
            key: shard.key(),
            job: shard.job.to_string(),
            first_block: shard.blocks.start,
            blocks: shard.blocks.end - shard.blocks.start,
            members: shard.members,
            state: shard.fate.as_str(),
            worker: shard.leases.last().map(|lease| lease.name.to_string()),
            attempts: shard.attempts(),
            leased_at: moment(shard.begun),
            ended_at: shard.ended.map(moment),
            seconds: shard.ended.map(|ended| seconds(shard.begun, ended)),
            trace_id: shard.context.trace_id().to_string(),
        }
    }
}

#[derive(Serialize)]
struct TimelineSpan {
    name: String,
    worker: Option<String>,
    begin_ms: f64,
    end_ms: Option<f64>,
    detail: Option<String>,
    depth: u32,
}

#[derive(Serialize)]
struct TimelineBody {
    #[serde(flatten)]
    row: ShardRow,
    spans: Vec<TimelineSpan>,
}

impl From<&ShardTimeline> for TimelineBody {
    fn from(shard: &ShardTimeline) -> Self {
        let since = |at: SystemTime| seconds(shard.begun, at) * 1e3;
        let mut spans = vec![TimelineSpan {
            name: "shard".into(),
            worker: None,
            begin_ms: 0.0,
            end_ms: shard.ended.map(since),
            detail: Some(shard.fate.as_str().to_owned()),
            depth: 0,
        }];
        for lease in &shard.leases {
            spans.push(TimelineSpan {
                name: "lease".into(),
                worker: Some(lease.name.to_string()),
                begin_ms: since(lease.begun),
                end_ms: lease.ended.map(since),
                detail: Some(detail(lease)),
                depth: 1,
            });
            spans.extend(steps(lease, since));
        }
        Self { row: shard.into(), spans }
    }
}

fn detail(lease: &LeaseTimeline) -> String {
    match &lease.fate {
        crate::event_loop::Fate::Failed(message) => format!("failed: {message}"),
        fate => fate.as_str().to_owned(),
    }
}

/// The steps that the worker reported. Its clock differs, so its steps end when the coordinator heard of their end.
fn steps(lease: &LeaseTimeline, since: impl Fn(SystemTime) -> f64) -> Vec<TimelineSpan> {
    let longest = lease.steps.iter().map(|step| step.end_us).max().unwrap_or(0);
    let heard = lease.computed.or(lease.ended);
    let begin = heard.and_then(|heard| heard.checked_sub(Duration::from_micros(longest)));
    let begin = since(begin.unwrap_or(lease.begun).max(lease.begun));
    let worker = || Some(lease.name.to_string());
    let mut spans: Vec<TimelineSpan> = lease
        .steps
        .iter()
        .map(|step| TimelineSpan {
            name: step.name.clone(),
            worker: worker(),
            begin_ms: begin + step.begin_us as f64 / 1e3,
            end_ms: Some(begin + step.end_us as f64 / 1e3),
            detail: None,
            depth: if step.name == "compute" { 2 } else { 3 },
        })
        .collect();
    if let (Some(computed), Some(ended)) = (lease.computed, lease.ended) {
        let begin_ms = since(computed);
        let end_ms = Some(since(ended));
        spans.push(TimelineSpan { name: "report".into(), worker: worker(), begin_ms, end_ms, detail: None, depth: 2 });
    }
    spans
}

fn moment(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

fn seconds(from: SystemTime, to: SystemTime) -> f64 {
    to.duration_since(from).unwrap_or_default().as_secs_f64()
}

#[derive(Deserialize)]
pub(super) struct ShardQuery {
    limit: Option<usize>,
}

#[derive(Serialize)]
struct ShardList {
    shards: Vec<ShardRow>,
    total: usize,
}

pub(super) async fn list(
    State(page): State<Arc<Page>>,
    Extension(admitted): AdmittedExtension,
    Path(id): Path<String>,
    Query(ShardQuery { limit }): Query<ShardQuery>,
) -> Result<Response, HttpError> {
    let sweep = SweepId::new(id);
    page.sweeps.own(&admitted.caller, &sweep).await?;
    let limit = limit.unwrap_or(LISTED).min(MAX_LISTED);
    let list = page.coordinator.timelines(move |timelines| {
        let shards = timelines.shards(&sweep).take(limit).map(ShardRow::from).collect();
        ShardList { shards, total: timelines.shards(&sweep).count() }
    });
    Ok(json(&list.await?))
}

pub(super) async fn one(
    State(page): State<Arc<Page>>,
    Extension(admitted): AdmittedExtension,
    Path((id, key)): Path<(String, String)>,
) -> Result<Response, HttpError> {
    let sweep = SweepId::new(id);
    page.sweeps.own(&admitted.caller, &sweep).await?;
    let asked = key.clone();
    let find = move |timelines: &crate::event_loop::Timelines| {
        timelines.shards(&sweep).find(|shard| shard.key() == asked).map(TimelineBody::from)
    };
    match page.coordinator.timelines(find).await? {
        Some(timeline) => Ok(json(&timeline)),
        None => Err(Status::not_found(format!("the latest shards of the sweep do not include {key:?}")).into()),
    }
}
