//! What Prometheus is told. Names follow its conventions; [`NAMES`] describes each.
//!
//! Counters and histograms are kept where things happen; gauges are set when somebody asks, from the scheduler's views.
//! The label `part` is a job's name: `job` is Prometheus's own. Labels are bounded: architectures and experiments are of the
//! registry, methods of the contract, and only the newest sweeps and the workers that are known have series, which end a while
//! after they do.

use crate::event_loop::{Closed, CoordinatorHandle};
use metrics::{Unit, counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;
use metrics_util::MetricKindMask;
use nadgrid_core::scheduler::{JobState, SweepState, SweepView, WorkerView};
use std::sync::OnceLock;
use std::time::Duration;

/// Sweeps that have series of their own, the newest.
const MOST_SWEEPS: usize = 50;
/// What was not told of for so long is no series any more.
const IDLE: Duration = Duration::from_secs(90);
/// Old samples are put together at least this often, even if nobody asks.
const UPKEEP: Duration = Duration::from_secs(5);

enum Kind {
    Counter,
    Gauge,
    Histogram,
}
use Kind::{Counter, Gauge, Histogram};

/// Every metric, its kind and unit, and what it is.
const NAMES: &[(&str, Kind, Unit, &str)] = &[
    ("nadgrid_build_info", Gauge, Unit::Count, "1, with the version of the coordinator as a label"),
    ("nadgrid_sweeps_submitted_total", Counter, Unit::Count, "Sweeps accepted"),
    ("nadgrid_sweeps_ended_total", Counter, Unit::Count, "Sweeps ended, by how they ended"),
    ("nadgrid_shards_leased_total", Counter, Unit::Count, "Shards given to workers, copies and audits included"),
    ("nadgrid_shards_committed_total", Counter, Unit::Count, "Shards whose result counts"),
    ("nadgrid_shards_failed_total", Counter, Unit::Count, "Failures of shards that workers reported, by kind"),
    ("nadgrid_shards_quarantined_total", Counter, Unit::Count, "Shards that are not tried again"),
    ("nadgrid_members_committed_total", Counter, Unit::Count, "Networks or training runs of committed shards"),
    ("nadgrid_shard_seconds", Histogram, Unit::Seconds, "Seconds that a committed shard took its lane"),
    (
        "nadgrid_reduction_seconds",
        Histogram,
        Unit::Seconds,
        "Seconds to merge a job's partials and compute its results",
    ),
    ("nadgrid_reductions_failed_total", Counter, Unit::Count, "Reductions that did not come to their end"),
    (
        "nadgrid_merge_seconds",
        Histogram,
        Unit::Seconds,
        "Seconds until partials were merged while their job was computed",
    ),
    ("nadgrid_merged_partials_total", Counter, Unit::Count, "Partials that were merged while their job was computed"),
    (
        "nadgrid_merge_bytes_total",
        Counter,
        Unit::Bytes,
        "Bytes of partials that such merges read and wrote, by direction",
    ),
    ("nadgrid_merges_failed_total", Counter, Unit::Count, "Such merges that did not come to their end"),
    ("nadgrid_journal_append_seconds", Histogram, Unit::Seconds, "Seconds until records were durable, a batch each"),
    ("nadgrid_journal_records_total", Counter, Unit::Count, "Records made durable"),
    (
        "nadgrid_journal_wait_seconds",
        Gauge,
        Unit::Seconds,
        "Seconds for which the journal has been waited for, 0 when it is not; nothing new is accepted meanwhile",
    ),
    ("nadgrid_requests_total", Counter, Unit::Count, "Requests let in, by method"),
    (
        "nadgrid_request_seconds",
        Histogram,
        Unit::Seconds,
        "Seconds until a request was answered, of a stream until it began",
    ),
    (
        "nadgrid_transfer_bytes_total",
        Counter,
        Unit::Bytes,
        "Bytes of payloads: in and out through the coordinator, put into the store and offered from it by presigned requests",
    ),
    ("nadgrid_refusals_total", Counter, Unit::Count, "Requests and connections refused, by cause"),
    ("nadgrid_sweeps_open", Gauge, Unit::Count, "Sweeps that have not ended, by state"),
    (
        "nadgrid_workers_left_total",
        Counter,
        Unit::Count,
        "Sessions of workers that ended: drained, or lost with what they held",
    ),
    ("nadgrid_workers", Gauge, Unit::Count, "Workers, by state: fit, unfit, draining or away"),
    ("nadgrid_lanes", Gauge, Unit::Count, "Lanes of all fit workers"),
    ("nadgrid_leases", Gauge, Unit::Count, "Shards that workers hold"),
    ("nadgrid_worker_lanes", Gauge, Unit::Count, "Shards that a worker computes at once"),
    ("nadgrid_worker_leases", Gauge, Unit::Count, "Shards that a worker holds"),
    ("nadgrid_worker_fit", Gauge, Unit::Count, "Whether a worker is connected and may be given shards"),
    ("nadgrid_worker_silence_seconds", Gauge, Unit::Seconds, "Seconds since a worker was last heard"),
    ("nadgrid_worker_members", Gauge, Unit::Count, "Networks or runs of a worker's committed shards, since it came"),
    (
        "nadgrid_worker_members_per_second",
        Gauge,
        Unit::CountPerSecond,
        "Rate of a worker's last committed shards, all its lanes; part is the job",
    ),
    ("nadgrid_sweep_members", Gauge, Unit::Count, "Networks or runs of a job of a sweep"),
    ("nadgrid_sweep_members_done", Gauge, Unit::Count, "Of these, committed"),
    ("nadgrid_sweep_members_failed", Gauge, Unit::Count, "Of these, failed for good"),
    ("nadgrid_sweep_retries", Gauge, Unit::Count, "Shards of a job of a sweep that were given out again"),
    ("nadgrid_sweep_complete", Gauge, Unit::Count, "Whether a job of a sweep is complete"),
    (
        "nadgrid_sweep_progress_ratio",
        Gauge,
        Unit::Count,
        "Share of a sweep's work that is done, from 0 to 1, each job weighted by what it costs",
    ),
    (
        "nadgrid_sweep_seconds_left",
        Gauge,
        Unit::Seconds,
        "Estimated seconds until a sweep ends, 0 after it; NaN where nothing can be said",
    ),
    ("nadgrid_sweep_age_seconds", Gauge, Unit::Seconds, "Seconds since a sweep was submitted, until it ended"),
];

/// Counters that are there from the start, by their label's values.
const AT_ZERO: &[(&str, &str, &[&str])] = &[
    ("nadgrid_sweeps_ended_total", "state", &["complete", "incomplete", "failed", "cancelled"]),
    ("nadgrid_shards_failed_total", "kind", &["spec", "unfit", "task", "transient"]),
    ("nadgrid_merge_bytes_total", "direction", &["read", "written"]),
    ("nadgrid_workers_left_total", "how", &["drained", "lost"]),
    ("nadgrid_transfer_bytes_total", "way", &["in", "out", "put", "get"]),
];

/// Metrics, as they are told.
#[derive(Clone)]
pub(crate) struct Metrics {
    handle: PrometheusHandle,
    process: Collector,
}

impl Metrics {
    /// The program's metrics: all coordinators of one process share them.
    pub(crate) fn install() -> Self {
        static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
        let handle = HANDLE.get_or_init(|| {
            let seconds = |name: &str| Matcher::Full(name.to_owned());
            let wide = [0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];
            let narrow = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];
            // Fails for empty buckets alone, and these are none.
            let builder = PrometheusBuilder::new()
                .idle_timeout(MetricKindMask::GAUGE, Some(IDLE))
                .set_buckets_for_metric(seconds("nadgrid_shard_seconds"), &wide)
                .and_then(|b| b.set_buckets_for_metric(seconds("nadgrid_reduction_seconds"), &wide))
                .and_then(|b| b.set_buckets_for_metric(seconds("nadgrid_merge_seconds"), &wide))
                .and_then(|b| b.set_buckets_for_metric(seconds("nadgrid_journal_append_seconds"), &narrow))
                .and_then(|b| b.set_buckets_for_metric(seconds("nadgrid_request_seconds"), &narrow))
                .unwrap_or_default();
            let recorder = builder.build_recorder();
            let handle = recorder.handle();
            // Another recorder keeps what it has; then there is nothing to tell here.
            drop(metrics::set_global_recorder(recorder));
            handle
        });
        // A series that begins with its first event has no rate until the second.
        for (name, label, values) in AT_ZERO {
            values.iter().for_each(|value| counter!(*name, *label => *value).increment(0));
        }
        for name in
            ["nadgrid_sweeps_submitted_total", "nadgrid_shards_leased_total", "nadgrid_shards_quarantined_total"]
        {
            counter!(name).increment(0);
        }
        for name in ["nadgrid_reductions_failed_total", "nadgrid_merges_failed_total", "nadgrid_merged_partials_total"]
        {
            counter!(name).increment(0);
        }
        for name in ["nadgrid_reduction_seconds", "nadgrid_merge_seconds", "nadgrid_journal_append_seconds"] {
            drop(histogram!(name));
        }
        let process = Collector::default();
        process.describe();
        for (name, kind, unit, what) in NAMES {
            match kind {
                Counter => metrics::describe_counter!(*name, *unit, *what),
                Gauge => metrics::describe_gauge!(*name, *unit, *what),
                Histogram => metrics::describe_histogram!(*name, *unit, *what),
            }
        }
        Self { handle: handle.clone(), process }
    }

    /// Keeps memory bounded while nobody asks.
    pub(crate) async fn keep(self) {
        loop {
            tokio::time::sleep(UPKEEP).await;
            self.handle.run_upkeep();
        }
    }

    /// All metrics in Prometheus's text format. They tell of everybody's sweeps.
    pub(crate) async fn render(&self, desk: &CoordinatorHandle) -> Result<String, Closed> {
        let (sweeps, workers, now, wait) = desk
            .read(move |durable| {
                let sweeps = durable.sweeps_before(None, MOST_SWEEPS, |_| true);
                (sweeps, durable.workers(), durable.now(), durable.wait())
            })
            .await?;
        gauge!("nadgrid_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        self.process.collect();
        of_workers(&workers);
        gauge!("nadgrid_journal_wait_seconds").set(wait.map_or(0.0, |wait| wait.seconds()));
        let (mut queued, mut running, mut paused) = (0, 0, 0);
        for sweep in sweeps.iter().map(|(_, told)| told.view()) {
            match &sweep.state {
                state if state.has_ended() => {}
                _ if sweep.paused => paused += 1,
                SweepState::Queued => queued += 1,
                _ => running += 1,
            }
        }
        for (state, count) in [("queued", queued), ("running", running), ("paused", paused)] {
            gauge!("nadgrid_sweeps_open", "state" => state).set(f64::from(count));
        }
        sweeps.iter().for_each(|(_, told)| of_sweep(told.view(), now.0));
        Ok(self.handle.render())
    }
}

fn of_workers(workers: &[WorkerView]) {
    let (mut states, mut lanes, mut leases) = ([0.0; 4], 0, 0);
    for worker in workers {
        let state = match worker {
            worker if !worker.connected => 3,
            worker if worker.unfit.is_some() => 1,
            worker if worker.draining => 2,
            _ => 0,
        };
        states[state] += 1.0;
        lanes += if state == 0 { worker.profile.lanes } else { 0 };
        leases += worker.leases;
        let labels = [("worker", worker.profile.name.clone()), ("worker_id", worker.id.to_string())];
        let device = worker.profile.class.device.to_string();
        gauge!("nadgrid_worker_lanes", "worker" => labels[0].1.clone(), "worker_id" => labels[1].1.clone(), "device" => device)
            .set(f64::from(worker.profile.lanes));
        gauge!("nadgrid_worker_leases", &labels).set(f64::from(worker.leases));
        gauge!("nadgrid_worker_fit", &labels).set(f64::from(u8::from(state == 0)));
        gauge!("nadgrid_worker_silence_seconds", &labels).set(worker.silent_ms as f64 / 1e3);
        gauge!("nadgrid_worker_members", &labels).set(worker.members_done as f64);
        if let Some((job, rate)) = &worker.rate {
            let [(_, name), (_, id)] = labels;
            gauge!("nadgrid_worker_members_per_second", "worker" => name, "worker_id" => id, "part" => job.clone())
                .set(*rate);
        }
    }
    for (state, count) in ["fit", "unfit", "draining", "away"].into_iter().zip(states) {
        gauge!("nadgrid_workers", "state" => state).set(count);
    }
    gauge!("nadgrid_lanes").set(f64::from(lanes));
    gauge!("nadgrid_leases").set(f64::from(leases));
}

fn of_sweep(sweep: &SweepView, now: u64) {
    let end = sweep.ended.map_or(now, |at| at.0);
    let labels = [("sweep", sweep.id.to_string()), ("name", sweep.spec.name.clone())];
    gauge!("nadgrid_sweep_age_seconds", &labels).set(end.saturating_sub(sweep.submitted.0) as f64 / 1e3);
    gauge!("nadgrid_sweep_progress_ratio", &labels).set(sweep.progress);
    // A gauge keeps its last value: what is not known any more is no number.
    let left = if sweep.state.has_ended() { 0.0 } else { sweep.seconds_left.unwrap_or(f64::NAN) };
    gauge!("nadgrid_sweep_seconds_left", &labels).set(left);
    for job in &sweep.jobs {
        let [sweep, name] = labels.clone();
        let labels = [sweep, name, ("part", job.shape.name())];
        gauge!("nadgrid_sweep_members", &labels).set(job.shape.grid.networks as f64);
        gauge!("nadgrid_sweep_members_done", &labels).set(job.members_done as f64);
        gauge!("nadgrid_sweep_members_failed", &labels).set(job.members_failed as f64);
        gauge!("nadgrid_sweep_retries", &labels).set(job.tally.retries as f64);
        gauge!("nadgrid_sweep_complete", &labels).set(f64::from(u8::from(job.state == JobState::Complete)));
    }
}

/// What is counted for every shard. The handles are kept: looking them up by name costs more than all else that counting does.
#[derive(Default)]
pub(crate) struct ShardMeters {
    leased: Option<metrics::Counter>,
    /// One for each experiment and architecture.
    committed: Vec<CommittedMeters>,
}

struct CommittedMeters {
    experiment: &'static str,
    architecture: String,
    shards: metrics::Counter,
    members: metrics::Counter,
    seconds: metrics::Histogram,
}

impl ShardMeters {
    /// A shard was given to a worker.
    pub(crate) fn leased(&mut self) {
        self.leased.get_or_insert_with(|| counter!("nadgrid_shards_leased_total")).increment(1);
    }

    /// A shard's result counts.
    pub(crate) fn committed(&mut self, experiment: &'static str, architecture: &str, members: u64, seconds: f64) {
        let is_of = |held: &CommittedMeters| held.experiment == experiment && held.architecture == architecture;
        let place = self.committed.iter().position(is_of).unwrap_or_else(|| {
            self.committed.push(CommittedMeters::new(experiment, architecture.to_owned()));
            self.committed.len() - 1
        });
        let meters = &self.committed[place];
        meters.shards.increment(1);
        meters.members.increment(members);
        meters.seconds.record(seconds);
    }
}

impl CommittedMeters {
    fn new(experiment: &'static str, architecture: String) -> Self {
        let labels = [("experiment", experiment.to_owned()), ("architecture", architecture.clone())];
        let shards = counter!("nadgrid_shards_committed_total", &labels);
        let members = counter!("nadgrid_members_committed_total", &labels);
        let seconds = histogram!("nadgrid_shard_seconds", &labels);
        Self { experiment, architecture, shards, members, seconds }
    }
}

/// Which way a payload goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TransferWay {
    /// A payload comes to the coordinator.
    In,
    /// A payload is sent by the coordinator.
    Out,
    /// Into the store, by a worker itself.
    Put,
    /// From the store, by whoever was given a request for it.
    Get,
}

/// Bytes of a payload came or went.
pub(crate) fn transferred(way: TransferWay, bytes: u64) {
    let way = match way {
        TransferWay::In => "in",
        TransferWay::Out => "out",
        TransferWay::Put => "put",
        TransferWay::Get => "get",
    };
    counter!("nadgrid_transfer_bytes_total", "way" => way).increment(bytes);
}

/// A request was answered.
pub(crate) fn answered(method: &'static str, seconds: f64) {
    counter!("nadgrid_requests_total", "method" => method).increment(1);
    histogram!("nadgrid_request_seconds", "method" => method).record(seconds);
}
