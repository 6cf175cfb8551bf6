//! The wire's types to and from those of the loop.

use crate::event_loop::{SessionNews, ToldSweep};
use crate::partial;
use nadgrid_core::ids::{JobIndex, SweepId};
use nadgrid_core::scheduler::{JobRef, ShardStand};
use nadgrid_core::shell::{InlineResult, NamedShard, ResultAnswer, ShardAssignment, WorkerMessage, WorkerStep};
use nadgrid_core::text;
use nadgrid_proto::v1::session_request::Message as Request;
use nadgrid_proto::v1::session_response::Message as Response;
use nadgrid_proto::v1::{self, SessionResponse};
use nadgrid_telemetry::TraceContext;

/// A worker's own words are kept, but not at any length: characters.
const MAX_WORDS: usize = 2_000;
/// Bytes of a sweep's id in a result: a longer one is of no sweep, and nothing to repeat.
const MAX_SWEEP_ID: usize = 100;

/// Returns the shard that a worker names.
pub(crate) fn named_shard(shard: &v1::Shard) -> NamedShard {
    let v1::Shard { sweep_id, job, first_block, blocks } = shard;
    let job = JobRef::new(&SweepId::new(sweep_id.as_str()), JobIndex(*job));
    NamedShard { job, first_block: *first_block, blocks: *blocks }
}

fn wire_shard(shard: &NamedShard) -> v1::Shard {
    let NamedShard { job: JobRef { sweep, index }, first_block, blocks } = shard;
    v1::Shard { sweep_id: sweep.as_str().to_owned(), job: index.0, first_block: *first_block, blocks: *blocks }
}

/// Returns the steps that a worker took for a shard.
pub(crate) fn worker_steps(steps: Vec<v1::Step>) -> Vec<WorkerStep> {
    steps.into_iter().map(|v1::Step { name, begin_us, end_us }| WorkerStep { name, begin_us, end_us }).collect()
}

/// Returns what a worker says in its session; `None` for what is no message of a session under way, or about no shard.
pub(super) fn worker_message(message: Request) -> Option<WorkerMessage> {
    Some(match message {
        Request::Heartbeat(_) => WorkerMessage::Alive,
        Request::Draining(_) => WorkerMessage::Draining,
        Request::Progress(v1::Progress { shard, blocks_done, seconds, begin_seconds, fraction }) => {
            let stand = ShardStand { blocks_done, fraction, seconds, begin_seconds };
            WorkerMessage::Progress { shard: named_shard(&shard?), stand }
        }
        Request::Computed(v1::Computed { shard }) => WorkerMessage::Computed { shard: named_shard(&shard?) },
        Request::Failure(failure) => {
            let kind = failure.kind().to_core();
            let message = text::clean(&failure.message, MAX_WORDS);
            WorkerMessage::Failed { shard: named_shard(&failure.shard?), kind, message }
        }
        Request::Result(result) => WorkerMessage::Result(Box::new(inline_result(result)?)),
        // A session begins and ends with these.
        Request::Hello(_) | Request::Goodbye(_) => return None,
    })
}

fn inline_result(result: v1::ShardResult) -> Option<InlineResult> {
    let v1::ShardResult { shard, numerics_class, data, digest, seconds, steps, begin_seconds } = result;
    let mut shard = shard?;
    if shard.sweep_id.len() > MAX_SWEEP_ID {
        shard.sweep_id = text::clean(&shard.sweep_id, MAX_SWEEP_ID);
    }
    Some(InlineResult {
        shard: named_shard(&shard),
        class: numerics_class.map(Into::into),
        data,
        digest,
        seconds: partial::seconds(seconds),
        begin_seconds: partial::seconds(begin_seconds),
        steps: worker_steps(steps),
    })
}

/// Returns what a worker is told in its session.
pub(super) fn session_response(news: SessionNews) -> SessionResponse {
    let message = match news {
        SessionNews::Assignment { assignment, context } => Response::Assignment(wire_assignment(assignment, context)),
        SessionNews::Revocation { shard, reason } => {
            Response::Revocation(v1::Revocation { shard: Some(wire_shard(&shard)), reason: reason.to_owned() })
        }
        SessionNews::Answer(answer) => Response::Answer(wire_answer(answer)),
    };
    SessionResponse { message: Some(message) }
}

/// Returns an assignment. The job is left out where it is that of the assignment before.
fn wire_assignment(assignment: ShardAssignment, context: Option<TraceContext>) -> v1::Assignment {
    let ShardAssignment { shard, blocks, job, inputs } = assignment;
    let wire = v1::Assignment {
        shard: Some(v1::Shard::of(&shard.job, &blocks)),
        inputs: inputs.iter().map(Into::into).collect(),
        traceparent: context.map_or(String::new(), |context| context.to_string()),
        ..v1::Assignment::default()
    };
    match job {
        None => wire,
        Some(job) => v1::Assignment {
            spec: job.spec,
            architecture: job.architecture,
            experiment: job.experiment.to_string(),
            ..wire
        },
    }
}

fn wire_answer(answer: ResultAnswer) -> v1::Answer {
    let shard = Some(wire_shard(&answer.shard));
    let (verdict, message) = match answer.verdict {
        Ok(verdict) => (v1::Verdict::of(verdict).unwrap_or(v1::Verdict::Refused), String::new()),
        Err(why) => (v1::Verdict::Refused, why),
    };
    v1::Answer { shard, verdict: verdict.into(), message }
}

impl From<&ToldSweep> for v1::Sweep {
    fn from(told: &ToldSweep) -> Self {
        let mut sweep = Self::from(told.view());
        if let Some(waits) = told.waits() {
            sweep.notices.insert(0, waits.to_owned());
            sweep.seconds_left = None;
        }
        sweep
    }
}
