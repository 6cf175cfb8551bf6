//! Server-sent events: sweeps and workers, whenever they change.

use super::Page;
use super::api::{AdmittedExtension, SweepRow};
use crate::access::{Admitted, Caller, QuotaPermits};
use crate::event_loop::{Closed, Durable, ToldSweep};
use crate::http_status::HttpError;
use crate::service::{Sweeps, unknown_sweep};
use axum::Extension;
use axum::extract::{Path, State};
use axum::response::sse::{Event, KeepAlive, KeepAliveStream, Sse};
use futures::Stream;
use futures::stream::{self, StreamExt};
use http::Version;
use nadgrid_core::ids::SweepId;
use nadgrid_proto::v1;
use nadgrid_proto::views::{SweepView, WorkerView};
use serde::Serialize;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::{Interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// The time between two updates of the overview.
const UPDATE_EVERY: Duration = Duration::from_secs(1);
/// The shortest time between two events of one sweep.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// The most events that wait to be sent.
const MAX_READY: usize = 1;
/// The duration of a stream over HTTP/1, as a multiple of `silence_seconds`. There, a reader that has stopped cannot be
/// told from one that has nothing to read, because its system accepts the events for it. A page that is still open asks
/// again.
const SILENCES: f64 = 10.0;

/// The number of newest sweeps in a snapshot, which all watchers share.
const MAX_SWEEPS: usize = 500;
/// The number of sweeps that one caller is shown, the newest that are theirs.
const MAX_SHOWN: usize = 100;

#[derive(Serialize)]
struct Overview<'a> {
    sweeps: Vec<&'a SweepRow>,
    workers: &'a [WorkerView],
    /// One message for each thing that the coordinator itself is waiting for.
    notices: &'a [String],
}

/// The latest snapshot of sweeps and workers. It is made once a second, however many callers watch.
#[derive(Default)]
pub(super) struct Overviews(Mutex<Option<(Instant, Arc<OverviewSnapshot>)>>);

struct OverviewSnapshot {
    /// Sweeps with their owners, the newest first.
    sweeps: Vec<(String, SweepRow)>,
    workers: Vec<WorkerView>,
    notices: Vec<String>,
}

impl Overviews {
    async fn now(&self, page: &Page) -> Result<Arc<OverviewSnapshot>, Closed> {
        let mut last = self.0.lock().await;
        if let Some((at, snapshot)) = &*last
            && at.elapsed() < UPDATE_EVERY
        {
            return Ok(snapshot.clone());
        }
        let query = |durable: &mut Durable<'_>| {
            (durable.sweeps_before(None, MAX_SWEEPS, |_| true), durable.workers(), durable.wait())
        };
        let (sweeps, workers, wait) = page.coordinator.read(query).await?;
        let row = |(_, told): &(u64, ToldSweep)| (told.view().owner.clone(), SweepRow::from(&v1::Sweep::from(told)));
        let mut workers: Vec<v1::Worker> = workers.iter().map(v1::Worker::from).collect();
        page.sweeps.of_workers.fill_in(&mut workers);
        let mut workers: Vec<_> = workers.iter().map(WorkerView::from).collect();
        // Milliseconds always change, so they are rounded: without that, every snapshot would be an event.
        workers.iter_mut().for_each(|worker| {
            worker.silent_ms -= worker.silent_ms % 5000;
            worker.transfers_waiting_ms -= worker.transfers_waiting_ms % 5000;
            worker.transfer_bytes_per_second = worker.transfer_bytes_per_second.round();
        });
        let notices = wait.iter().map(ToString::to_string).collect();
        let snapshot = Arc::new(OverviewSnapshot { sweeps: sweeps.iter().map(row).collect(), workers, notices });
        *last = Some((Instant::now(), snapshot.clone()));
        Ok(snapshot)
    }
}

impl OverviewSnapshot {
    fn of(&self, caller: &Caller) -> Overview<'_> {
        let seen = self.sweeps.iter().filter(|(owner, _)| caller.sees(owner));
        Overview {
            sweeps: seen.map(|(_, row)| row).take(MAX_SHOWN).collect(),
            workers: &self.workers,
            notices: &self.notices,
        }
    }
}

/// Sends events until the coordinator stops, the token is revoked, or nobody listens. The permits are kept until then. A
/// client that does not read an event in time loses its connection, and with it the permits.
fn send(
    page: &Page,
    admitted: &Admitted,
    version: Version,
    permits: QuotaPermits,
    events: impl Stream<Item = Event> + Send + 'static,
) -> Sse<KeepAliveStream<ReceiverStream<Result<Event, Infallible>>>> {
    let stop = page.sweeps.stop.clone();
    let revoked = admitted.caller.revoked.clone();
    let silence = Duration::from_secs_f64(page.sweeps.limits.silence_seconds);
    let over = async move {
        match version {
            Version::HTTP_2 => std::future::pending().await,
            _ => tokio::time::sleep(silence.mul_f64(SILENCES)).await,
        }
    };
    let peer = admitted.peer.clone();
    let (sender, receiver) = mpsc::channel(MAX_READY);
    tokio::spawn(async move {
        let _permits = permits;
        let sent = tokio::select! {
            sent = offer(events, &sender, silence) => sent,
            () = stop.cancelled() => Ok(()),
            () = revoked.cancelled() => Ok(()),
            () = sender.closed() => Ok(()),
            () = over => Ok(()),
        };
        if let Err(Stuck) = sent {
            peer.stuck();
        }
    });
    Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

/// The client did not read an event in time.
#[derive(Debug)]
struct Stuck;

/// Sends events as they are read, until there are no more or nobody listens.
async fn offer(
    events: impl Stream<Item = Event>,
    sender: &mpsc::Sender<Result<Event, Infallible>>,
    silence: Duration,
) -> Result<(), Stuck> {
    let mut events = pin!(events);
    while let Some(event) = events.next().await {
        match timeout(silence, sender.send(Ok(event))).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Ok(()),
            Err(_) => return Err(Stuck),
        }
    }
    Ok(())
}

fn event(name: &str, data: &impl Serialize) -> Event {
    // Plain structures are serialised here, which cannot fail.
    Event::default().event(name).json_data(data).unwrap_or_default()
}

/// Sends all sweeps and workers whenever one of them has changed.
pub(super) async fn overview(
    State(page): State<Arc<Page>>,
    Extension(admitted): AdmittedExtension,
    version: Version,
) -> Result<impl axum::response::IntoResponse, HttpError> {
    let permits = page.sweeps.quotas.watcher(&admitted)?;
    let followed = FollowedOverview {
        page: page.clone(),
        caller: admitted.caller.clone(),
        ticks: tokio::time::interval(UPDATE_EVERY),
        last: None,
    };
    let events = stream::unfold(followed, |mut followed| async { Some((followed.next().await?, followed)) });
    Ok(send(&page, &admitted, version, permits, events))
}

/// The overview of one caller, and the text that was sent last.
struct FollowedOverview {
    page: Arc<Page>,
    caller: Caller,
    ticks: Interval,
    last: Option<String>,
}

impl FollowedOverview {
    /// Waits until the overview has changed; `None` when the coordinator ends.
    async fn next(&mut self) -> Option<Event> {
        loop {
            self.ticks.tick().await;
            let snapshot = self.page.overviews.now(&self.page).await.ok()?;
            let now = serde_json::to_string(&snapshot.of(&self.caller)).ok();
            if self.last != now {
                let event = Event::default().event("overview").data(now.as_deref().unwrap_or_default());
                self.last = now;
                return Some(event);
            }
        }
    }
}

/// Sends one sweep whenever it has changed.
pub(super) async fn sweep(
    State(page): State<Arc<Page>>,
    Extension(admitted): AdmittedExtension,
    Path(id): Path<String>,
    version: Version,
) -> Result<impl axum::response::IntoResponse, HttpError> {
    let permits = page.sweeps.quotas.watcher(&admitted)?;
    let receiver = follow(&page.sweeps, &admitted, id).await?;
    let events = stream::unfold((receiver, true), |(mut receiver, first)| async move {
        if !first {
            tokio::time::sleep(SWEEP_EVERY).await;
            if receiver.changed().await.is_err() {
                // The sweep has ended. The stream stays open, so that the browser does not ask again and again.
                std::future::pending::<()>().await;
            }
        }
        let view = receiver.borrow_and_update().clone();
        Some((event("sweep", &SweepView::from(&v1::Sweep::from(&*view))), (receiver, false)))
    });
    Ok(send(&page, &admitted, version, permits, events))
}

async fn follow(sweeps: &Sweeps, admitted: &Admitted, id: String) -> Result<watch::Receiver<Arc<ToldSweep>>, Status> {
    let sweep = SweepId::new(id.clone());
    sweeps.own(&admitted.caller, &sweep).await?;
    sweeps.coordinator.follow(sweep).await?.ok_or_else(|| unknown_sweep(&id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_does_not_read_an_event_in_time_is_stuck() {
        let endless = || stream::repeat_with(Event::default);
        let (sender, _unread) = mpsc::channel::<Result<Event, Infallible>>(MAX_READY);
        assert!(offer(endless(), &sender, Duration::from_millis(50)).await.is_err());
        // A client that reads them may leave at any time.
        let (sender, mut receiver) = mpsc::channel::<Result<Event, Infallible>>(MAX_READY);
        let reading = async {
            for _ in 0..10 {
                drop(receiver.recv().await.unwrap().unwrap());
            }
            drop(receiver);
        };
        let (sent, ()) = tokio::join!(offer(endless(), &sender, Duration::from_secs(60)), reading);
        assert!(sent.is_ok());
    }
}
