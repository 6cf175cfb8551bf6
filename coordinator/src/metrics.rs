//! The metrics for Prometheus, by its conventions. [`METRICS`] describes each.
//!
//! Counters and histograms are updated where things happen; gauges are set at each scrape (`page/metrics.rs`). The label
//! `part` is a job's name, because Prometheus itself uses `job`. Label values are bounded: architectures and experiments come
//! from the registry, methods from the contract, and only the newest sweeps and the known workers have series.

use metrics::{Unit, counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;
use metrics_util::MetricKindMask;
use std::sync::OnceLock;
use std::time::Duration;

/// Gauges that were not updated for this long are dropped.
const IDLE: Duration = Duration::from_secs(90);
/// The time between two merges of old samples, even if nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}
use MetricKind::{Counter, Gauge, Histogram};

/// Every metric with its kind, unit and description.
const METRICS: &[(&str, MetricKind, Unit, &str)] = &[
    ("nadgrid_build_info", Gauge, Unit::Count, "1, with the version of the coordinator as a label"),
    ("nadgrid_sweeps_submitted_total", Counter, Unit::Count, "Sweeps accepted"),
    ("nadgrid_sweeps_ended_total", Counter, Unit::Count, "Sweeps ended, by outcome"),
    ("nadgrid_shards_leased_total", Counter, Unit::Count, "Leases of shards, including speculative ones and audits"),
    ("nadgrid_shards_committed_total", Counter, Unit::Count, "Shards committed"),
    ("nadgrid_shards_failed_total", Counter, Unit::Count, "Failures of shards that workers reported, by kind"),
    ("nadgrid_shards_quarantined_total", Counter, Unit::Count, "Shards quarantined: they are not tried again"),
    ("nadgrid_members_committed_total", Counter, Unit::Count, "Networks or training runs of committed shards"),
    ("nadgrid_shard_seconds", Histogram, Unit::Seconds, "Seconds that a committed shard took its slot"),
    (
        "nadgrid_reduction_seconds",
        Histogram,
        Unit::Seconds,
        "Seconds to merge a job's partials and compute its results",
    ),
    ("nadgrid_reductions_failed_total", Counter, Unit::Count, "Reductions that failed"),
    (
        "nadgrid_merge_seconds",
        Histogram,
        Unit::Seconds,
        "Seconds to merge partials while their job is still being computed",
    ),
    ("nadgrid_merged_partials_total", Counter, Unit::Count, "Partials merged while their job was being computed"),
    (
        "nadgrid_merge_bytes_total",
        Counter,
        Unit::Bytes,
        "Bytes of partials that these merges read and wrote, by direction",
    ),
    ("nadgrid_merges_failed_total", Counter, Unit::Count, "Merges that failed"),
    ("nadgrid_journal_append_seconds", Histogram, Unit::Seconds, "Seconds until a batch of records was durable"),
    ("nadgrid_journal_records_total", Counter, Unit::Count, "Records made durable"),
    (
        "nadgrid_journal_wait_seconds",
        Gauge,
        Unit::Seconds,
        "Seconds for which the coordinator has been waiting for its journal, else 0; nothing new is accepted meanwhile",
    ),
    ("nadgrid_requests_total", Counter, Unit::Count, "Requests admitted, by method"),
    (
        "nadgrid_request_seconds",
        Histogram,
        Unit::Seconds,
        "Seconds until a call was answered, a stream began or an upload ended",
    ),
    (
        "nadgrid_transfer_bytes_total",
        Counter,
        Unit::Bytes,
        "Bytes of payloads: in and out through the coordinator, and put into or read from the store by presigned requests",
    ),
    ("nadgrid_refusals_total", Counter, Unit::Count, "Requests and connections refused, by cause"),
    ("nadgrid_sweeps_open", Gauge, Unit::Count, "Sweeps that have not ended, by state"),
    (
        "nadgrid_workers_left_total",
        Counter,
        Unit::Count,
        "Sessions of workers that ended: drained, or lost with their leases",
    ),
    ("nadgrid_workers", Gauge, Unit::Count, "Workers, by state: fit, unfit, draining or away"),
    ("nadgrid_slots", Gauge, Unit::Count, "Slots of all fit workers"),
    ("nadgrid_leases", Gauge, Unit::Count, "Shards that workers hold"),
    ("nadgrid_worker_slots", Gauge, Unit::Count, "Shards that a worker computes at once"),
    ("nadgrid_worker_leases", Gauge, Unit::Count, "Shards that a worker holds"),
    ("nadgrid_worker_fit", Gauge, Unit::Count, "Whether a worker is connected and can be given shards"),
    ("nadgrid_worker_silence_seconds", Gauge, Unit::Seconds, "Seconds since a worker's last message"),
    ("nadgrid_worker_members", Gauge, Unit::Count, "Networks or runs in a worker's committed shards since it joined"),
    (
        "nadgrid_worker_members_per_second",
        Gauge,
        Unit::CountPerSecond,
        "Members per second of all a worker's slots, measured on its last committed shards; part is the job",
    ),
    ("nadgrid_sweep_members", Gauge, Unit::Count, "Networks or runs of a job of a sweep"),
    ("nadgrid_sweep_members_done", Gauge, Unit::Count, "Committed networks or runs of a job of a sweep"),
    ("nadgrid_sweep_members_failed", Gauge, Unit::Count, "Quarantined networks or runs of a job of a sweep"),
    ("nadgrid_sweep_retries", Gauge, Unit::Count, "Shards of a job of a sweep that were leased again"),
    ("nadgrid_sweep_complete", Gauge, Unit::Count, "Whether a job of a sweep is complete"),
    (
        "nadgrid_sweep_progress_ratio",
        Gauge,
        Unit::Count,
        "Share of a sweep's work that is done, from 0 to 1, each job weighted by its cost",
    ),
    (
        "nadgrid_sweep_seconds_left",
        Gauge,
        Unit::Seconds,
        "Estimated seconds until a sweep ends, 0 after its end; NaN if unknown",
    ),
    ("nadgrid_sweep_age_seconds", Gauge, Unit::Seconds, "Seconds since a sweep was submitted, until it ended"),
];

/// Counters that exist from the start, with the values of their label.
const AT_ZERO: &[(&str, &str, &[&str])] = &[
    ("nadgrid_sweeps_ended_total", "state", &["complete", "incomplete", "failed", "cancelled"]),
    ("nadgrid_shards_failed_total", "kind", &["spec", "unfit", "task", "transient"]),
    ("nadgrid_merge_bytes_total", "direction", &["read", "written"]),
    ("nadgrid_workers_left_total", "how", &["drained", "lost"]),
    ("nadgrid_transfer_bytes_total", "way", &["in", "out", "put", "get"]),
];

/// The metrics of this process.
#[derive(Clone)]
pub(crate) struct Metrics {
    handle: PrometheusHandle,
    process: Collector,
}

impl Metrics {
    /// Installs the metrics of this process, which all its coordinators share.
    pub(crate) fn install() -> Self {
        static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
        let handle = HANDLE.get_or_init(|| {
            let seconds = |name: &str| Matcher::Full(name.to_owned());
            let wide = [0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];
            let narrow = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];
            // It fails only for empty buckets, which these are not.
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
            // If the process has another recorder, that one keeps the metrics and this one stays empty.
            drop(metrics::set_global_recorder(recorder));
            handle
        });
        // A series that begins with its first event would have no rate until the second.
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
        for (name, kind, unit, what) in METRICS {
            match kind {
                Counter => metrics::describe_counter!(*name, *unit, *what),
                Gauge => metrics::describe_gauge!(*name, *unit, *what),
                Histogram => metrics::describe_histogram!(*name, *unit, *what),
            }
        }
        Self { handle: handle.clone(), process }
    }

    /// Keeps memory bounded while nobody scrapes.
    pub(crate) async fn keep(self) {
        loop {
            tokio::time::sleep(UPKEEP).await;
            self.handle.run_upkeep();
        }
    }

    /// All metrics in Prometheus's text format.
    pub(crate) fn render(&self) -> String {
        gauge!("nadgrid_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        self.process.collect();
        self.handle.render()
    }
}

/// The meters that are updated for every shard. Their handles are kept, because looking them up by name costs more than
/// counting itself.
#[derive(Default)]
pub(crate) struct ShardMeters {
    leased: Option<metrics::Counter>,
    /// The meters of committed shards, for each experiment and architecture.
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
    /// Counts a lease.
    pub(crate) fn leased(&mut self) {
        self.leased.get_or_insert_with(|| counter!("nadgrid_shards_leased_total")).increment(1);
    }

    /// Counts a committed shard.
    pub(crate) fn committed(&mut self, experiment: &'static str, architecture: &str, members: u64, seconds: f64) {
        let known = self
            .committed
            .iter()
            .position(|known| known.experiment == experiment && known.architecture == architecture);
        let index = known.unwrap_or_else(|| {
            self.committed.push(CommittedMeters::new(experiment, architecture.to_owned()));
            self.committed.len() - 1
        });
        let meters = &self.committed[index];
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

/// The way of a payload.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TransferWay {
    /// It is sent to the coordinator.
    In,
    /// It is sent by the coordinator.
    Out,
    /// A worker puts it into the store by a presigned request.
    Put,
    /// A worker or client reads it from the store by a presigned request.
    Get,
}

/// Counts bytes of a payload.
pub(crate) fn transferred(way: TransferWay, bytes: u64) {
    let way = match way {
        TransferWay::In => "in",
        TransferWay::Out => "out",
        TransferWay::Put => "put",
        TransferWay::Get => "get",
    };
    counter!("nadgrid_transfer_bytes_total", "way" => way).increment(bytes);
}

/// Counts and measures an answered request.
pub(crate) fn answered(method: &'static str, seconds: f64) {
    counter!("nadgrid_requests_total", "method" => method).increment(1);
    histogram!("nadgrid_request_seconds", "method" => method).record(seconds);
}
