//! Observes events for metrics, timelines and what users are shown. Nothing here changes anything.

use super::durable::Views;
use super::timelines::{Fate, LeasedShard, Timelines, sweep_context};
use crate::metrics::ShardMeters;
use metrics::counter;
use nadgrid_core::ids::{SweepId, Time, WorkerId};
use nadgrid_core::scheduler::{Event, FailureKind, Record, Scheduler, ShardRef, SweepOutcome, WorkerProfile};
use nadgrid_core::shell::{ShellObserver, WorkerStep};
use nadgrid_telemetry::{KeyValue, SpanKind, SpanRecord, TraceContext, Tracer};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracing::field::display;
use tracing::{info, warn};

/// All who look on while the shell works.
pub(super) struct Onlookers {
    pub(super) views: Views,
    pub(super) timelines: Timelines,
    pub(super) meters: ShardMeters,
    pub(super) tracer: Tracer,
}

impl ShellObserver for Onlookers {
    fn event(&mut self, event: &Event, scheduler: &Scheduler) {
        match event {
            Event::Join { worker, profile, held } => self.joined(worker, profile, held, scheduler),
            Event::Leave { worker, drained } => {
                counter!("nadgrid_workers_left_total", "how" => if *drained { "drained" } else { "lost" }).increment(1);
                info!(%worker, drained, "worker left");
            }
            Event::Computed { worker, shard } => self.timelines.computed(shard, worker),
            Event::Failed { worker, shard, kind, message } => self.failed(worker, shard, *kind, message),
            _ => {}
        }
    }

    fn steps(&mut self, worker: &WorkerId, shard: &ShardRef, steps: Vec<WorkerStep>) {
        self.timelines.told(shard, worker, steps);
    }

    fn record(&mut self, record: &Record, scheduler: &Scheduler) {
        self.views.written(record, scheduler);
        match record {
            Record::Submitted { .. } => counter!("nadgrid_sweeps_submitted_total").increment(1),
            Record::Committed { shard, seconds, worker, .. } => {
                self.timelines.committed(shard, worker);
                if let Some((_, job, members)) = scheduler.shard(shard) {
                    self.meters.committed(job.experiment.as_str(), &job.architecture, members, *seconds);
                }
            }
            Record::Quarantined { .. } => counter!("nadgrid_shards_quarantined_total").increment(1),
            Record::Ended { sweep, outcome, at } => self.sweep_ended(sweep, outcome, *at, scheduler),
            _ => {}
        }
    }
}

impl Onlookers {
    fn joined(&mut self, worker: &WorkerId, profile: &WorkerProfile, held: &[ShardRef], scheduler: &Scheduler) {
        info!(%worker, name = %profile.name, class = %profile.class, slots = profile.slots, "worker joined");
        for shard in held {
            // After a restart nothing is known of it, but its span has the same id.
            if !self.timelines.knows(shard, worker) {
                self.leased(worker, profile.name.as_str().into(), shard, scheduler);
            }
        }
    }

    fn failed(&mut self, worker: &WorkerId, shard: &ShardRef, kind: FailureKind, message: &str) {
        let trace_id = self.timelines.trace_id(shard).map(display);
        warn!(%worker, ?kind, reason = message, trace_id, "a shard failed");
        counter!("nadgrid_shards_failed_total", "kind" => kind.as_str()).increment(1);
        self.gone(shard, worker, Some(message));
    }

    /// Takes down that the worker has the shard now; returns the lease's span.
    pub(super) fn leased(
        &mut self,
        worker: &WorkerId,
        name: Arc<str>,
        shard: &ShardRef,
        scheduler: &Scheduler,
    ) -> Option<TraceContext> {
        let (_, job, members) = scheduler.shard(shard)?;
        let job = job.name();
        let blocks = scheduler.blocks(shard)?;
        Some(self.timelines.leased(LeasedShard { shard, job, blocks, members, worker, name }))
    }

    /// Takes down that a worker's turn at a shard is over without a result.
    pub(super) fn gone(&mut self, shard: &ShardRef, worker: &WorkerId, error: Option<&str>) {
        let fate = error.map_or(Fate::Superseded, |message| Fate::Failed(message.to_owned()));
        self.timelines.lease_ended(shard, worker, fate);
    }

    fn sweep_ended(&mut self, id: &SweepId, outcome: &SweepOutcome, at: Time, scheduler: &Scheduler) {
        let state = outcome.name();
        let error = match outcome {
            SweepOutcome::Incomplete { message } | SweepOutcome::Failed { message } => Some(message.clone()),
            SweepOutcome::Complete { .. } | SweepOutcome::Cancelled => None,
        };
        counter!("nadgrid_sweeps_ended_total", "state" => state).increment(1);
        let view = scheduler.sweep(id);
        let context = sweep_context(id, &self.tracer);
        let span = || {
            let view = view?;
            Some(SpanRecord {
                name: "sweep".into(),
                kind: SpanKind::Internal,
                context,
                parent: None,
                parent_is_remote: false,
                begin: moment(view.submitted),
                end: moment(at),
                attributes: vec![
                    KeyValue::new("sweep.id", id.to_string()),
                    KeyValue::new("sweep.name", view.spec.name.clone()),
                    KeyValue::new("outcome", state),
                ],
                links: Vec::new(),
                error,
            })
        };
        self.timelines.sweep_ended(id, span);
    }
}

fn moment(at: Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(at.0)
}
