//! `nadgrid list`, `status`, `cancel`, `pause`, `resume` and `workers`: one question to the coordinator, one table.

use crate::cli::args::{ListArgs, SweepArgs, WorkersArgs};
use crate::cli::{Failure, output, tables};
use nadgrid_client::v1::Sweep;
use nadgrid_client::{Address, Client, SweepView, WorkerView};
use std::time::{SystemTime, UNIX_EPOCH};

/// The newest sweeps.
pub(crate) async fn list(at: Address, args: ListArgs) -> Result<(), Failure> {
    let (sweeps, notices) = Client::connect(&at).await?.list_with_notices(args.limit).await?;
    note_all(&notices);
    if args.json.json {
        return output::print_json(&sweeps.iter().map(SweepView::from).collect::<Vec<_>>());
    }
    if sweeps.is_empty() {
        output::note("there are no sweeps yet; submit one with `nadgrid submit SPEC`");
        return Ok(());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    output::print(&tables::sweeps(&sweeps, now))
}

/// One sweep.
pub(crate) async fn status(at: Address, args: SweepArgs) -> Result<(), Failure> {
    let sweep = Client::connect(&at).await?.get(&args.id).await?;
    note_all(&sweep.notices);
    if args.json.json { output::print_json(&SweepView::from(&sweep)) } else { output::print(&tables::sweep(&sweep)) }
}

/// Cancels a sweep, and tells how it stands then.
pub(crate) async fn cancel(at: Address, args: SweepArgs) -> Result<(), Failure> {
    let sweep = Client::connect(&at).await?.cancel(&args.id).await?;
    told(&sweep, args.json.json)
}

/// Gives out no more of a sweep, and tells how it stands then.
pub(crate) async fn pause(at: Address, args: SweepArgs) -> Result<(), Failure> {
    let sweep = Client::connect(&at).await?.pause(&args.id).await?;
    told(&sweep, args.json.json)
}

/// Goes on with a sweep, and tells how it stands then.
pub(crate) async fn resume(at: Address, args: SweepArgs) -> Result<(), Failure> {
    let sweep = Client::connect(&at).await?.resume(&args.id).await?;
    told(&sweep, args.json.json)
}

/// Writes notices to stderr, so that a script reads the same from stdout with and without them.
fn note_all(notices: &[String]) {
    notices.iter().for_each(|notice| output::note(&format!("note: {notice}")));
}

fn told(sweep: &Sweep, json: bool) -> Result<(), Failure> {
    let view = SweepView::from(sweep);
    if json { output::print_json(&view) } else { output::print(&format!("{} {}", view.id, view.state)) }
}

/// The workers.
pub(crate) async fn workers(at: Address, args: WorkersArgs) -> Result<(), Failure> {
    let (workers, notices) = Client::connect(&at).await?.workers_with_notices().await?;
    note_all(&notices);
    let workers: Vec<WorkerView> = workers.iter().map(WorkerView::from).collect();
    if args.json.json {
        return output::print_json(&workers);
    }
    if workers.is_empty() {
        output::note(&format!("no worker is connected; start one with `nadgrid-worker --coordinator {}`", at.url));
        return Ok(());
    }
    output::print(&tables::workers(&workers))
}
