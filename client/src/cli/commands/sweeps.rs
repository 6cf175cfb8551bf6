//! `nadgrid list`, `status`, `cancel`, `pause`, `resume` and `workers`: one question to the coordinator, one table.

use crate::cli::args::{ListArgs, SweepArgs, WorkersArgs};
use crate::cli::{Failure, output, tables};
use nadgrid_client::v1::Sweep;
use nadgrid_client::{Client, SweepView, WorkerView};
use std::time::{SystemTime, UNIX_EPOCH};

/// The newest sweeps.
pub(crate) async fn list(at: String, args: ListArgs) -> Result<(), Failure> {
    let sweeps = Client::connect(&at).await?.list(args.limit).await?;
    if args.json.json {
        return output::print_json(&sweeps.iter().map(SweepView::from).collect::<Vec<_>>());
    }
    if sweeps.is_empty() {
        output::note("there are no sweeps yet; `nadgrid submit SPEC` makes one");
        return Ok(());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    output::print(&tables::sweeps(&sweeps, now))
}

/// One sweep.
pub(crate) async fn status(at: String, args: SweepArgs) -> Result<(), Failure> {
    let sweep = Client::connect(&at).await?.get(&args.id).await?;
    if args.json.json { output::print_json(&SweepView::from(&sweep)) } else { output::print(&tables::sweep(&sweep)) }
}

/// Cancels a sweep, and tells how it stands then.
pub(crate) async fn cancel(at: String, args: SweepArgs) -> Result<(), Failure> {
    let sweep = Client::connect(&at).await?.cancel(&args.id).await?;
    told(&sweep, args.json.json)
}

/// Gives out no more of a sweep, and tells how it stands then.
pub(crate) async fn pause(at: String, args: SweepArgs) -> Result<(), Failure> {
    let sweep = Client::connect(&at).await?.pause(&args.id).await?;
    told(&sweep, args.json.json)
}

/// Goes on with a sweep, and tells how it stands then.
pub(crate) async fn resume(at: String, args: SweepArgs) -> Result<(), Failure> {
    let sweep = Client::connect(&at).await?.resume(&args.id).await?;
    told(&sweep, args.json.json)
}

fn told(sweep: &Sweep, json: bool) -> Result<(), Failure> {
    let view = SweepView::from(sweep);
    if json { output::print_json(&view) } else { output::print(&format!("{} {}", view.id, view.state)) }
}

/// The workers.
pub(crate) async fn workers(at: String, args: WorkersArgs) -> Result<(), Failure> {
    let workers: Vec<WorkerView> = Client::connect(&at).await?.workers().await?.iter().map(WorkerView::from).collect();
    if args.json.json {
        return output::print_json(&workers);
    }
    if workers.is_empty() {
        output::note(&format!("no worker is connected; `nadgrid-worker --coordinator {at}` starts one"));
        return Ok(());
    }
    output::print(&tables::workers(&workers))
}
