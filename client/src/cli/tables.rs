//! Text tables: columns in line, no borders, no colours, easy on `grep` and `awk`.

use super::progress::totals::{SweepTotals, pace, word};
use super::styled::plain;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use nadgrid_client::v1::{Job, Sweep};
use nadgrid_client::{FailureView, InputView, JobPlanView, PlanView, SweepView, WorkerView};
use nadgrid_core::text::{bytes, duration, percent, thousands};
use nadgrid_figures::Comparison;

/// Hexadecimal digits that are enough to tell two digests apart by eye.
const SHORT: usize = 12;

/// A table of these columns. A name that begins with `>` belongs to a column of numbers.
pub(crate) fn table(columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(columns.iter().map(|name| name.trim_start_matches('>')));
    table.add_rows(rows);
    for (column, name) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, 2));
        column.set_cell_alignment(if name.starts_with('>') { CellAlignment::Right } else { CellAlignment::Left });
    }
    table.trim_fmt()
}

/// The first digits of a digest.
pub(crate) fn short(digest: &str) -> String {
    digest.chars().take(SHORT).collect()
}

/// Returns a duration, marked where it was not measured.
fn estimate(seconds: f64, measured: bool) -> String {
    let mark = if measured { "" } else { "~" };
    format!("{mark}{}", duration(seconds))
}

/// Renders a plan, and the source of its estimates.
pub(crate) fn plan(plan: &PlanView) -> String {
    let rows = plan.jobs.iter().map(|job| {
        vec![
            job.experiment.clone(),
            job.architecture.clone(),
            thousands(job.members),
            thousands(job.parameters),
            thousands(job.forward_passes),
            thousands(job.blocks),
            thousands(job.shards),
            bytes(job.partial_bytes),
            estimate(job.seconds, job.measured),
        ]
    });
    let columns = [
        "experiment",
        "architecture",
        ">members",
        ">parameters",
        ">forward passes",
        ">blocks",
        ">shards",
        ">partial",
        ">time",
    ];
    let measured = plan.jobs.iter().all(|job| job.measured);
    let total = estimate(plan.seconds, measured);
    let slots = count(u64::from(plan.slots), "slot");
    let basis = match (&plan.coordinator, plan.workers) {
        (Some(url), Some(0)) => format!("no worker is connected to {url}: for {slots}"),
        (Some(url), Some(workers)) => {
            format!("on {} of {url}, {slots}", count(u64::from(workers), "worker"))
        }
        _ => format!("planned here, for {slots} of this machine's CPU"),
    };
    let assumed = plan.jobs.iter().find(|job| !job.measured).map_or("", |job| match job.basis.as_str() {
        "other-architecture" => "; ~ by the rates of other architectures, of this one nothing is measured yet",
        "other-experiment" => "; ~ by the rates of other experiments, of this one nothing is measured yet",
        _ => "; ~ by an assumed rate, nothing is measured yet",
    });
    let on_gpu = if plan.coordinator.is_none() { on_gpu(plan) } else { String::new() };
    format!("{}\ntotal: {total} ({basis}{assumed}){on_gpu}", table(&columns, rows))
}

/// Returns the time that each job would take on one GPU, for users who have yet to choose a machine.
fn on_gpu(plan: &PlanView) -> String {
    let job = |job: &JobPlanView| format!("{}/{} ~{}", job.experiment, job.architecture, duration(job.gpu_seconds));
    let jobs: Vec<String> = plan.jobs.iter().map(job).collect();
    format!("\non one GPU instead: {} (predicted, never measured)", jobs.join(", "))
}

/// `1 slot`, `2 slots`.
pub(crate) fn count(n: u64, what: &str) -> String {
    format!("{} {what}{}", thousands(n), if n == 1 { "" } else { "s" })
}

/// Sweeps, `now` in seconds since the Unix epoch.
pub(crate) fn sweeps(sweeps: &[Sweep], now: f64) -> String {
    let rows = sweeps.iter().map(|sweep| {
        let view = SweepView::from(sweep);
        let done: u64 = sweep.jobs.iter().map(|job| job.members_done).sum();
        let all: u64 = sweep.jobs.iter().map(|job| job.members).sum();
        let age = sweep.submitted_at.map_or(String::new(), |at| duration((now - at.seconds as f64).max(0.0)));
        let members = format!("{}/{}", thousands(done), thousands(all));
        let share = percent(sweep.progress);
        let left = time_left(sweep);
        vec![view.id, view.name, view.state, share, left, members, age, short(&sweep.digest)]
    });
    table(&["id", "name", "state", ">progress", ">left", ">members", ">age", "digest"], rows)
}

/// The time left of a sweep, or a dash.
fn time_left(sweep: &Sweep) -> String {
    sweep.seconds_left.map_or("-".into(), duration)
}

/// Renders a table of sweeps.
pub(crate) fn progress(sweeps: &[Sweep]) -> String {
    let rows = sweeps.iter().map(|sweep| {
        let view = SweepView::from(sweep);
        let totals = SweepTotals::of(sweep);
        let members = format!("{}/{}", thousands(totals.computed), thousands(totals.members));
        let retries: u64 = sweep.jobs.iter().map(|job| job.retries).sum();
        let failed: u64 = sweep.jobs.iter().map(|job| job.members_failed).sum();
        let rate = totals.members_per_second.map_or("-".into(), |rate| pace(rate, word(&sweep.jobs)));
        let share = percent(sweep.progress);
        let left = time_left(sweep);
        vec![view.id, view.name, view.state, share, left, members, rate, thousands(retries), thousands(failed)]
    });
    let columns = ["id", "name", "state", ">progress", ">left", ">members", ">rate", ">retries", ">failed"];
    table(&columns, rows)
}

/// Renders everything about one sweep.
pub(crate) fn sweep(sweep: &Sweep) -> String {
    let view = SweepView::from(sweep);
    let mut facts = vec![("sweep", view.id), ("name", view.name), ("state", view.state)];
    let mut fact = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
    fact("progress", Some(percent(sweep.progress)));
    fact("left", sweep.seconds_left.map(duration));
    fact("notice", Some(view.notices.join("; ")).filter(|notices| !notices.is_empty()));
    fact("reason", view.message);
    fact("digest", view.digest);
    fact("numerics", view.numerics_class.map(|class| class.to_string()));
    fact("submitted", view.submitted_at);
    fact("started", view.started_at);
    fact("ended", view.ended_at);
    fact("files", (!view.inputs.is_empty()).then(|| files(&view.inputs)));
    fact("workers", Some(sweep.workers.to_string()));
    fact("owner", view.owner);
    fact("priority", (view.priority != 0).then(|| view.priority.to_string()));
    fact("weight", (view.weight != 1.0).then(|| view.weight.to_string()));
    fact("coordinator", Some(view.coordinator_version));
    let facts: String = facts.into_iter().map(|(name, value)| format!("{name:<12} {value}\n")).collect();
    format!("{facts}\n{}{}", jobs(&sweep.jobs), failures(&view.failures))
}

fn failures(failures: &[FailureView]) -> String {
    if failures.is_empty() {
        return String::new();
    }
    let rows = failures.iter().map(|failure| {
        let blocks = format!("{}..{}", failure.first_block, failure.first_block + failure.blocks);
        let workers = failure.workers.join(", ");
        vec![failure.job.clone(), blocks, failure.attempts.to_string(), workers, failure.message.clone()]
    });
    format!("\n\n{}", table(&["failed for good", ">blocks", ">attempts", "workers", "last message"], rows))
}

fn files(inputs: &[InputView]) -> String {
    let size = inputs.iter().map(|input| input.size).sum();
    format!("{}, {}", count(inputs.len() as u64, "file"), bytes(size))
}

fn jobs(jobs: &[Job]) -> String {
    let rows = jobs.iter().map(|job| {
        let view = nadgrid_client::JobView::from(job);
        vec![
            view.experiment,
            view.architecture,
            view.state,
            percent(view.progress),
            view.seconds_left.map_or("-".into(), duration),
            thousands(view.members),
            thousands(view.members_done),
            thousands(view.members_in_flight),
            thousands(view.shards),
            thousands(view.retries),
            duration(view.slot_seconds),
            short(&job.digest),
        ]
    });
    let columns = [
        "experiment",
        "architecture",
        "state",
        ">progress",
        ">left",
        ">members",
        ">done",
        ">in flight",
        ">shards",
        ">retries",
        ">slot time",
        "digest",
    ];
    table(&columns, rows)
}

/// A coordinator's workers.
pub(crate) fn workers(workers: &[WorkerView]) -> String {
    let rows = workers.iter().map(|worker| {
        let state = match (&worker.unfit, worker.connected) {
            (Some(reason), _) => format!("unfit: {reason}"),
            (None, true) if worker.draining => "draining".into(),
            (None, true) => "connected".into(),
            (None, false) => "away".into(),
        };
        let class = worker.numerics_class.as_ref().map_or(String::new(), ToString::to_string);
        let heard = format!("{} ago", duration(worker.silent_ms as f64 / 1e3));
        let [slots, leases] = [worker.slots, worker.leases].map(|n| n.to_string());
        let of = worker.rate_of.clone().unwrap_or_default();
        let error = worker.last_error.as_deref().map(plain);
        let rate = worker.members_per_second.map_or("-".into(), |rate| format!("{} {of}", pace(rate, "")));
        let done = thousands(worker.members_done);
        let error = error.unwrap_or_default();
        let transfers = worker.transfer_words().unwrap_or_else(|| "-".into());
        let version = worker.version.clone();
        vec![worker.name.clone(), slots, leases, rate, done, transfers, version, heard, class, state, error]
    });
    let columns = [
        "name",
        ">slots",
        ">leases",
        ">rate",
        ">done",
        ">transfers",
        "version",
        ">heard",
        "numerics",
        "state",
        "last error",
    ];
    table(&columns, rows)
}

/// Two sets of NADs side by side.
pub(crate) fn comparison(comparison: &Comparison) -> String {
    let overlaps = comparison
        .overlaps
        .iter()
        .map(|at| vec![at.k.to_string(), format!("{:.4}", at.overlap), format!("{:.4}", at.chance)]);
    let overlaps = table(&[">k", ">overlap", ">by chance"], overlaps);
    if comparison.singular_values.is_empty() {
        return overlaps;
    }
    let values = comparison.singular_values.iter().map(|at| {
        let ratio = at.ratio.map_or("-".into(), |ratio| format!("{ratio:.4}"));
        vec![format!("s{}", at.index), format!("{:.4}", at.a), format!("{:.4}", at.b), ratio]
    });
    let values = table(&["singular value", ">A", ">B", ">A/B, scaled"], values);
    let unknown = comparison.singular_values.iter().any(|at| at.ratio.is_none());
    let hint = if unknown { "\n(scaled ratios need both numbers of networks: --networks-a, --networks-b)" } else { "" };
    format!("{overlaps}\n\n{values}{hint}")
}

#[cfg(test)]
mod tests;
