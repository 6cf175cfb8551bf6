//! The latest shards of a sweep, and what became of one.

use super::api::Asked;
use super::{Page, Refused, json};
use crate::event_loop::{LeaseTimeline, ShardTimeline};
use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use nadgrid_core::ids::SweepId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tonic::Status;

/// Shards that are listed unless asked otherwise, and at most.
const LISTED: (usize, usize) = (100, 500);

#[derive(Serialize)]
struct Row {
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

impl From<&ShardTimeline> for Row {
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
struct Span {
    name: String,
    worker: Option<String>,
    begin_ms: f64,
    end_ms: Option<f64>,
    detail: Option<String>,
    depth: u32,
}

#[derive(Serialize)]
struct Timeline {
    #[serde(flatten)]
    row: Row,
    spans: Vec<Span>,
}

impl From<&ShardTimeline> for Timeline {
    fn from(shard: &ShardTimeline) -> Self {
        let since = |at: SystemTime| seconds(shard.begun, at) * 1e3;
        let mut spans = vec![Span {
            name: "shard".into(),
            worker: None,
            begin_ms: 0.0,
            end_ms: shard.ended.map(since),
            detail: Some(shard.fate.as_str().to_owned()),
            depth: 0,
        }];
        for lease in &shard.leases {
            spans.push(Span {
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

/// What the worker told. Its clock is another one: its steps end when the coordinator heard that they had.
fn steps(lease: &LeaseTimeline, since: impl Fn(SystemTime) -> f64) -> Vec<Span> {
    let longest = lease.steps.iter().map(|step| step.end_us).max().unwrap_or(0);
    let heard = lease.computed.or(lease.ended);
    let begin = heard.and_then(|heard| heard.checked_sub(Duration::from_micros(longest)));
    let begin = since(begin.unwrap_or(lease.begun).max(lease.begun));
    let worker = || Some(lease.name.to_string());
    let mut spans: Vec<Span> = lease
        .steps
        .iter()
        .map(|step| Span {
            name: step.name.clone(),
            worker: worker(),
            begin_ms: begin + step.begin_us as f64 / 1e3,
            end_ms: Some(begin + step.end_us as f64 / 1e3),
            detail: None,
            depth: if step.name == "compute" { 2 } else { 3 },
        })
        .collect();
    if let (Some(computed), Some(ended)) = (lease.computed, lease.ended) {
        let (begin_ms, end_ms) = (since(computed), Some(since(ended)));
        spans.push(Span { name: "report".into(), worker: worker(), begin_ms, end_ms, detail: None, depth: 2 });
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
pub(super) struct Limit {
    limit: Option<usize>,
}

#[derive(Serialize)]
struct List {
    shards: Vec<Row>,
    total: usize,
}

pub(super) async fn list(
    State(page): State<Arc<Page>>,
    Extension(admitted): Asked,
    Path(id): Path<String>,
    Query(Limit { limit }): Query<Limit>,
) -> Result<Response, Refused> {
    let sweep = SweepId::new(id);
    page.sweeps.own(&admitted.caller, &sweep).await?;
    let limit = limit.unwrap_or(LISTED.0).min(LISTED.1);
    let list = page.desk.timelines(move |timelines| {
        let shards = timelines.shards(&sweep).take(limit).map(Row::from).collect();
        List { shards, total: timelines.shards(&sweep).count() }
    });
    Ok(json(&list.await?))
}

pub(super) async fn one(
    State(page): State<Arc<Page>>,
    Extension(admitted): Asked,
    Path((id, key)): Path<(String, String)>,
) -> Result<Response, Refused> {
    let sweep = SweepId::new(id);
    page.sweeps.own(&admitted.caller, &sweep).await?;
    let asked = key.clone();
    let find = move |timelines: &crate::event_loop::Timelines| {
        timelines.shards(&sweep).find(|shard| shard.key() == asked).map(Timeline::from)
    };
    match page.desk.timelines(find).await? {
        Some(timeline) => Ok(json(&timeline)),
        None => Err(Status::not_found(format!("no shard {key:?} among the latest of the sweep")).into()),
    }
}
