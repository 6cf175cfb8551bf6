//! What happened, once it is durable: for metrics and timelines. Nothing here changes anything.

use super::DeskTask;
use super::timeline::{Fate, sweep_context};
use crate::journal::Journal;
use metrics::counter;
use nadgrid_core::ids::{SweepId, Time, WorkerId};
use nadgrid_core::scheduler::{Record, ShardRef, SweepOutcome};
use nadgrid_telemetry::{KeyValue, SpanKind, SpanRecord};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

impl<J: Journal> DeskTask<J> {
    pub(super) fn observe(&mut self, record: &Record) {
        match record {
            Record::Submitted { .. } => counter!("nadgrid_sweeps_submitted_total").increment(1),
            Record::Committed { shard, seconds, worker, .. } => {
                self.timelines.committed(shard, worker);
                if let Some((_, job, members)) = self.scheduler.shard(shard) {
                    self.meters.committed(job.experiment.as_str(), &job.architecture, members, *seconds);
                }
            }
            Record::Quarantined { .. } => counter!("nadgrid_shards_quarantined_total").increment(1),
            Record::Ended { sweep, outcome, at } => self.sweep_ended(sweep, outcome, *at),
            _ => {}
        }
    }

    fn sweep_ended(&mut self, id: &SweepId, outcome: &SweepOutcome, at: Time) {
        let state = outcome.name();
        let error = match outcome {
            SweepOutcome::Incomplete { message } | SweepOutcome::Failed { message } => Some(message.clone()),
            SweepOutcome::Complete { .. } | SweepOutcome::Cancelled => None,
        };
        counter!("nadgrid_sweeps_ended_total", "state" => state).increment(1);
        let view = self.scheduler.sweep(id);
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

    /// A worker's turn at a shard is over without a result.
    pub(super) fn gone(&mut self, shard: &ShardRef, worker: &WorkerId, error: Option<&str>) {
        let fate = error.map_or(Fate::Superseded, |message| Fate::Failed(message.to_owned()));
        self.timelines.lease_ended(shard, worker, fate);
    }
}

fn moment(at: Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(at.0)
}
