//! The scrape of Prometheus: gauges are set from the scheduler's views when they are asked for.
//!
//! Only the newest sweeps and the workers that are connected or were lately have series, which end a while after they do.

use super::Page;
use super::api::AdmittedExtension;
use crate::access::Right;
use crate::event_loop::{Closed, JournalWait};
use crate::http_status::HttpError;
use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use metrics::gauge;
use nadgrid_core::ids::Time;
use nadgrid_core::scheduler::{JobState, SweepState, SweepView, WorkerView};
use nadgrid_proto::status::Reason;
use std::sync::Arc;

/// The most sweeps that have series of their own, the newest.
const MAX_SWEEPS: usize = 50;

/// All metrics in Prometheus's text format. They are about everybody's sweeps.
pub(super) async fn scrape(
    State(page): State<Arc<Page>>,
    Extension(admitted): AdmittedExtension,
) -> Result<Response, HttpError> {
    if !matches!(admitted.caller.right, Right::Everything | Right::User { admin: true }) {
        let message = "metrics are about everybody's sweeps: this requires an admin's token";
        return Err(Reason::RoleWrong.status(message).into());
    }
    set_gauges(&page).await?;
    let text = page.metrics.render();
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

async fn set_gauges(page: &Page) -> Result<(), Closed> {
    let query = page.coordinator.read(move |durable| {
        let sweeps = durable.sweeps_before(None, MAX_SWEEPS, |_| true);
        (sweeps, durable.workers(), durable.now(), durable.wait())
    });
    let (sweeps, workers, now, wait) = query.await?;
    gauge!("nadgrid_journal_wait_seconds").set(wait.as_ref().map_or(0.0, JournalWait::seconds));
    set_workers(&workers);
    set_open_sweeps(sweeps.iter().map(|(_, sweep)| sweep.view()));
    sweeps.iter().for_each(|(_, sweep)| set_sweep(sweep.view(), now));
    Ok(())
}

fn set_open_sweeps<'a>(sweeps: impl Iterator<Item = &'a SweepView>) {
    let mut queued = 0;
    let mut running = 0;
    let mut paused = 0;
    for sweep in sweeps.filter(|sweep| !sweep.state.has_ended()) {
        match &sweep.state {
            _ if sweep.paused => paused += 1,
            SweepState::Queued => queued += 1,
            _ => running += 1,
        }
    }
    for (state, count) in [("queued", queued), ("running", running), ("paused", paused)] {
        gauge!("nadgrid_sweeps_open", "state" => state).set(f64::from(count));
    }
}

/// Returns the label under which `nadgrid_workers` counts a worker.
fn state_of(worker: &WorkerView) -> &'static str {
    match worker {
        worker if !worker.connected => "away",
        worker if worker.unfit.is_some() => "unfit",
        worker if worker.draining => "draining",
        _ => "fit",
    }
}

fn set_workers(workers: &[WorkerView]) {
    for state in ["fit", "unfit", "draining", "away"] {
        let count = workers.iter().filter(|worker| state_of(worker) == state).count();
        gauge!("nadgrid_workers", "state" => state).set(count as f64);
    }
    let fit = workers.iter().filter(|worker| state_of(worker) == "fit");
    let slots: u32 = fit.map(|worker| worker.profile.slots).sum();
    gauge!("nadgrid_slots").set(f64::from(slots));
    let leases: u32 = workers.iter().map(|worker| worker.leases).sum();
    gauge!("nadgrid_leases").set(f64::from(leases));
    workers.iter().for_each(set_worker);
}

fn set_worker(worker: &WorkerView) {
    let name = ("worker", worker.profile.name.clone());
    let id = ("worker_id", worker.id.to_string());
    let labels = [name.clone(), id.clone()];
    let with_device = [name.clone(), id.clone(), ("device", worker.profile.class.device.to_string())];
    gauge!("nadgrid_worker_slots", &with_device).set(f64::from(worker.profile.slots));
    gauge!("nadgrid_worker_leases", &labels).set(f64::from(worker.leases));
    gauge!("nadgrid_worker_fit", &labels).set(f64::from(u8::from(state_of(worker) == "fit")));
    gauge!("nadgrid_worker_silence_seconds", &labels).set(worker.silent_ms as f64 / 1e3);
    gauge!("nadgrid_worker_members", &labels).set(worker.members_done as f64);
    if let Some((job, rate)) = &worker.rate {
        let with_job = [name, id, ("part", job.clone())];
        gauge!("nadgrid_worker_members_per_second", &with_job).set(*rate);
    }
}

fn set_sweep(sweep: &SweepView, now: Time) {
    let end = sweep.ended.unwrap_or(now);
    let id = ("sweep", sweep.id.to_string());
    let name = ("name", sweep.spec.name.clone());
    let labels = [id.clone(), name.clone()];
    gauge!("nadgrid_sweep_age_seconds", &labels).set(end.0.saturating_sub(sweep.submitted.0) as f64 / 1e3);
    gauge!("nadgrid_sweep_progress_ratio", &labels).set(sweep.progress);
    // A gauge keeps its last value, so one that is no longer known is set to NaN.
    let left = if sweep.state.has_ended() { 0.0 } else { sweep.seconds_left.unwrap_or(f64::NAN) };
    gauge!("nadgrid_sweep_seconds_left", &labels).set(left);
    for job in &sweep.jobs {
        let labels = [id.clone(), name.clone(), ("part", job.shape.name())];
        gauge!("nadgrid_sweep_members", &labels).set(job.shape.grid.networks as f64);
        gauge!("nadgrid_sweep_members_done", &labels).set(job.members_done as f64);
        gauge!("nadgrid_sweep_members_failed", &labels).set(job.members_failed as f64);
        gauge!("nadgrid_sweep_retries", &labels).set(job.tally.retries as f64);
        gauge!("nadgrid_sweep_complete", &labels).set(f64::from(u8::from(job.state == JobState::Complete)));
    }
}
