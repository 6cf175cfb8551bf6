//! `nadgrid top`: a whole cluster, live on a full screen, or told once.
//!
//! ```text
//! model    what is known and chosen; a key in, a command out     screen   the model as it is drawn
//! session  the terminal: taken, and given back whatever happens
//! ```
//! The coordinator is asked again and again; one that is away is asked until it is back. Absent: anything that `list`, `workers`,
//! `pause`, `resume` and `cancel` could not also do.

mod model;
mod screen;
mod session;

use super::args::TopArgs;
use super::{Failure, output, tables};
use crossterm::event::{Event, EventStream};
use futures::future::{BoxFuture, FutureExt};
use futures::stream::StreamExt;
use model::{ClusterSnapshot, Model, ScreenCommand, SweepAction};
use nadgrid_client::v1::Sweep;
use nadgrid_client::{Address, Client, Error, SweepView, WorkerView};
use serde::Serialize;
use session::TerminalSession;
use std::io::IsTerminal;
use std::time::{Duration, SystemTime};

/// Between an answer and the next question.
const PAUSE: Duration = Duration::from_secs(1);
/// The newest sweeps, so many.
const SWEEPS: usize = 200;

/// The outcome of a question or an action.
enum ScreenReply {
    Asked(Result<ClusterSnapshot, Error>),
    Acted(SweepAction, Result<Box<Sweep>, Error>),
}

/// Shows the cluster until its user has seen enough.
pub(crate) async fn top(at: Address, args: TopArgs) -> Result<(), Failure> {
    let client = Client::connect(&at).await?;
    let first = ask(&client).await?;
    if args.json {
        return output::print_json(&Document::new(client.url(), &first));
    }
    let stdin = std::io::stdin().is_terminal();
    let stdout = std::io::stdout().is_terminal();
    if args.once || !stdin || !stdout {
        return output::print(&once(&first));
    }
    let mut model = Model::new(client.url(), super::styled::colours());
    model.take(first);
    live(&client, model).await
}

async fn live(client: &Client, mut model: Model) -> Result<(), Failure> {
    let mut session = TerminalSession::begin()?;
    let mut events = EventStream::new();
    let mut question = Some(later(client));
    let mut action: Option<BoxFuture<'static, ScreenReply>> = None;
    loop {
        session.draw(|frame| screen::draw(frame, &mut model, SystemTime::now()))?;
        let outcome = tokio::select! {
            event = events.next() => {
                match event {
                    Some(Ok(Event::Key(key))) => match model.key(key) {
                        ScreenCommand::Nothing => {}
                        ScreenCommand::Quit => return Ok(()),
                        ScreenCommand::Interrupt => return Err(Failure::Interrupted),
                        ScreenCommand::Act(wanted, id) => action = Some(act(client, wanted, id)),
                    },
                    // A resize: the next frame has the new size.
                    Some(Ok(_)) => {}
                    Some(Err(e)) => return Err(Failure::other(format!("cannot read the terminal: {e}"))),
                    None => return Ok(()),
                }
                continue;
            }
            outcome = done(&mut question) => outcome,
            outcome = done(&mut action) => outcome,
        };
        match outcome {
            ScreenReply::Asked(answer) => {
                match answer {
                    Ok(snapshot) => model.take(snapshot),
                    Err(Error::Unreachable { reason, .. }) => model.away(reason),
                    // It is there and cannot answer now, for example because its store is away.
                    Err(Error::Coordinator { message, .. }) => model.away(message),
                    Err(error) => return Err(error.into()),
                }
                question = Some(later(client));
            }
            ScreenReply::Acted(wanted, answer) => {
                model.acted(wanted, answer.as_deref());
                question = Some(now(client));
            }
        }
    }
}

/// Waits for something that may not be under way.
async fn done(work: &mut Option<BoxFuture<'static, ScreenReply>>) -> ScreenReply {
    match work {
        Some(under_way) => {
            let outcome = under_way.await;
            *work = None;
            outcome
        }
        None => std::future::pending().await,
    }
}

fn now(client: &Client) -> BoxFuture<'static, ScreenReply> {
    let client = client.clone();
    async move { ScreenReply::Asked(ask(&client).await) }.boxed()
}

fn later(client: &Client) -> BoxFuture<'static, ScreenReply> {
    let question = now(client);
    async move {
        tokio::time::sleep(PAUSE).await;
        question.await
    }
    .boxed()
}

fn act(client: &Client, action: SweepAction, id: String) -> BoxFuture<'static, ScreenReply> {
    let client = client.clone();
    async move {
        let answer = match action {
            SweepAction::Pause => client.pause(&id).await,
            SweepAction::Resume => client.resume(&id).await,
            SweepAction::Cancel => client.cancel(&id).await,
        };
        ScreenReply::Acted(action, answer.map(Box::new))
    }
    .boxed()
}

async fn ask(client: &Client) -> Result<ClusterSnapshot, Error> {
    let (sweeps, workers) = futures::future::try_join(client.list(SWEEPS), client.workers()).await?;
    Ok(ClusterSnapshot { sweeps, workers })
}

/// The cluster as one JSON document.
#[derive(Serialize)]
struct Document {
    coordinator: String,
    sweeps: Vec<SweepView>,
    workers: Vec<WorkerView>,
}

impl Document {
    fn new(url: &str, snapshot: &ClusterSnapshot) -> Self {
        Self {
            coordinator: url.to_owned(),
            sweeps: snapshot.sweeps.iter().map(SweepView::from).collect(),
            workers: snapshot.workers.iter().map(WorkerView::from).collect(),
        }
    }
}

/// The cluster in two tables.
fn once(snapshot: &ClusterSnapshot) -> String {
    let sweeps = tables::progress(&snapshot.sweeps);
    let workers: Vec<WorkerView> = snapshot.workers.iter().map(WorkerView::from).collect();
    let workers = if workers.is_empty() { "no worker is connected".into() } else { tables::workers(&workers) };
    let sweeps = if snapshot.sweeps.is_empty() { "there are no sweeps yet".into() } else { sweeps };
    format!("{sweeps}\n\n{workers}")
}

#[cfg(test)]
mod tests;
