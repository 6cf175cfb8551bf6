//! `nadgrid run`: a sweep on this machine, from a spec to a folder of files.
//!
//! ```text
//! check spec, files, --out and programs ─► start ─► upload, submit ─► watch ─► fetch ─► end the programs ─► closing table
//!                                     └────────── Ctrl-C ──────────► cancel ─┘
//! ```
//! Whatever happens after the start, the programs are ended before this command is.

use super::plan::cores;
use crate::cli::args::RunArgs;
use crate::cli::interrupt::Interrupt;
use crate::cli::local::{ClusterPrograms, KeptState, Layout, LocalCluster};
use crate::cli::progress::{Progress, Screen, follow};
use crate::cli::spec_file::{LoadedSpec, load};
use crate::cli::upload::upload;
use crate::cli::{Failure, output, summary};
use nadgrid_client::{Address, Client, Patience, Staging, ensure_complete};
use nadgrid_core::scheduler::FairShare;
use nadgrid_telemetry::TraceContext;
use serde::Serialize;
use std::path::Path;
use std::time::Duration;

/// The longest time for which a coordinator on this machine may be silent: it is watched as a process too.
const PATIENCE: Duration = Duration::from_secs(30);
/// For the courtesy of cancelling an interrupted sweep.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

/// A sweep that was submitted, so that it can be cancelled.
type Submitted = Option<(Client, String)>;

/// The last of the JSON lines.
#[derive(Serialize)]
struct SummaryLine {
    event: &'static str,
    #[serde(flatten)]
    summary: summary::Summary,
}

/// Computes a sweep on this machine.
pub(crate) async fn run(
    args: RunArgs,
    telemetry: Vec<String>,
    trace: Option<TraceContext>,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let loaded = interrupt.guard(load(args.spec)).await?;
    Staging::probe(&args.out)?;
    let programs = ClusterPrograms::find()?;
    let state = KeptState::new(args.keep_state)?;
    let layout = Layout {
        data: state.data(),
        logs: state.logs(),
        workers: args.workers,
        device: args.device,
        cores: cores(),
        telemetry,
    };
    let mut cluster = LocalCluster::default();
    let mut submitted = None;
    let screen = Screen::new(args.json.json);
    let work = compute(&mut cluster, &programs, &layout, &screen, &mut submitted, &loaded, (&args.out, trace));
    let outcome = interrupt.guard(work).await;
    if let Err(Failure::Interrupted) = outcome {
        output::note("interrupted: stopping the programs");
        cancel(submitted).await;
    }
    cluster.stop(interrupt.happened(2)).await;
    drop(state);
    let summary = outcome?;
    summary.notes().iter().for_each(|line| output::note(line));
    if args.json.json {
        return output::print_json_line(&SummaryLine { event: "summary", summary });
    }
    output::print(&summary.to_text(&args.out))
}

async fn compute(
    cluster: &mut LocalCluster,
    programs: &ClusterPrograms,
    layout: &Layout,
    screen: &Screen,
    submitted: &mut Submitted,
    loaded: &LoadedSpec,
    (out, trace): (&Path, Option<TraceContext>),
) -> Result<summary::Summary, Failure> {
    let url = cluster.start(programs, layout).await?;
    if !matches!(screen, Screen::Json)
        && let Some(page) = cluster.page().await
    {
        screen.say(&format!("watch it at {page}"));
    }
    let address = Address { trace, ..Address::from(&url) };
    tokio::select! {
        biased;
        failure = cluster.broken(screen) => Err(failure),
        outcome = sweep(&address, screen, submitted, loaded, out) => outcome,
    }
}

async fn sweep(
    address: &Address,
    screen: &Screen,
    submitted: &mut Submitted,
    loaded: &LoadedSpec,
    out: &Path,
) -> Result<summary::Summary, Failure> {
    let client = Client::connect(address).await?;
    let LoadedSpec { spec, files, .. } = loaded;
    upload(&client, files, |line| screen.say(line)).await?;
    let answer = client.submit(&spec.to_toml(), "run", &files.inputs(), FairShare::default()).await;
    let (sweep, _) = answer.map_err(|e| loaded.refused(e))?;
    *submitted = Some((client.clone(), sweep.id.clone()));
    let mut progress = Progress::new(screen.clone());
    let patience = Patience { limit: PATIENCE, ..Patience::default() };
    let sweep = follow(&client, &sweep.id, patience, &mut progress).await?;
    drop(progress);
    ensure_complete(&sweep).map_err(Failure::RunEnded)?;
    let slots = client.workers().await?.iter().filter(|worker| worker.connected).map(|worker| worker.slots).sum();
    let fetched = nadgrid_client::fetch(&client, &sweep.id, out).await?;
    Ok(summary::Summary::new(fetched, out, Some(slots)))
}

/// So that workers drop what they hold. The state goes anyway: no answer is no harm.
async fn cancel(submitted: Submitted) {
    if let Some((client, id)) = submitted {
        let _ = tokio::time::timeout(CANCEL_TIMEOUT, client.cancel(&id)).await;
    }
}
