//! Server-sent events: what changes, told as it does.

use super::api::{Asked, SweepRow};
use super::{Page, Refused};
use crate::access::{Admitted, Caller, Places};
use crate::event_loop::{Closed, Durable, ToldSweep};
use crate::service::{Sweeps, unknown};
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
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// How often it is looked at what has changed.
const LOOK: Duration = Duration::from_secs(1);
/// A sweep is told of at most this often.
const PACE: Duration = Duration::from_millis(250);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Events that wait to be taken.
const READY: usize = 1;
/// How many times as long as silence a stream over HTTP/1 lasts. Nothing tells a reader there that has stopped from one that is
/// told nothing: its system takes the events for it. Whoever is still there asks again.
const SILENCES: f64 = 10.0;

/// Sweeps that are looked at for all who watch; each is shown the newest of theirs.
const LOOKED_AT: usize = 500;
/// Sweeps that one is shown.
const SHOWN: usize = 100;

#[derive(Serialize)]
struct Overview<'a> {
    sweeps: Vec<&'a SweepRow>,
    workers: &'a [WorkerView],
    /// What the coordinator itself waits for.
    notices: &'a [String],
}

/// What all who watch are shown a part of: looked up once a second, however many they are.
#[derive(Default)]
pub(super) struct Looks(Mutex<Option<(Instant, Arc<Look>)>>);

struct Look {
    /// With their owners, the newest first.
    sweeps: Vec<(String, SweepRow)>,
    workers: Vec<WorkerView>,
    notices: Vec<String>,
}

impl Looks {
    async fn now(&self, page: &Page) -> Result<Arc<Look>, Closed> {
        let mut last = self.0.lock().await;
        if let Some((at, look)) = &*last
            && at.elapsed() < LOOK
        {
            return Ok(look.clone());
        }
        let query = |durable: &mut Durable<'_>| {
            (durable.sweeps_before(None, LOOKED_AT, |_| true), durable.workers(), durable.wait())
        };
        let (sweeps, workers, wait) = page.desk.read(query).await?;
        let row = |(_, told): &(u64, ToldSweep)| (told.view().owner.clone(), SweepRow::from(&v1::Sweep::from(told)));
        let mut workers: Vec<v1::Worker> = workers.iter().map(v1::Worker::from).collect();
        page.sweeps.of_workers.tell(&mut workers);
        let mut workers: Vec<_> = workers.iter().map(WorkerView::from).collect();
        // Milliseconds always change; between heartbeats nobody needs them.
        workers.iter_mut().for_each(|worker| {
            worker.silent_ms -= worker.silent_ms % 5000;
            worker.transfers_waiting_ms -= worker.transfers_waiting_ms % 5000;
            worker.transfer_bytes_per_second = worker.transfer_bytes_per_second.round();
        });
        let notices = wait.iter().map(ToString::to_string).collect();
        let look = Arc::new(Look { sweeps: sweeps.iter().map(row).collect(), workers, notices });
        *last = Some((Instant::now(), look.clone()));
        Ok(look)
    }
}

impl Look {
    fn of(&self, caller: &Caller) -> Overview<'_> {
        let seen = self.sweeps.iter().filter(|(owner, _)| caller.sees(owner));
        Overview {
            sweeps: seen.map(|(_, row)| row).take(SHOWN).collect(),
            workers: &self.workers,
            notices: &self.notices,
        }
    }
}

/// Ends with the coordinator, with its token, and when nobody listens; holds its place among those who watch. Whoever does not
/// take an event in time loses the connection, and with it the place.
fn send(
    page: &Page,
    admitted: &Admitted,
    version: Version,
    place: Places,
    events: impl Stream<Item = Event> + Send + 'static,
) -> Sse<KeepAliveStream<ReceiverStream<Result<Event, Infallible>>>> {
    let (stop, revoked) = (page.sweeps.stop.clone(), admitted.caller.revoked.clone());
    let silence = Duration::from_secs_f64(page.sweeps.limits.silence_seconds);
    let over = async move {
        match version {
            Version::HTTP_2 => std::future::pending().await,
            _ => tokio::time::sleep(silence.mul_f64(SILENCES)).await,
        }
    };
    let peer = admitted.peer.clone();
    let (sender, receiver) = mpsc::channel(READY);
    tokio::spawn(async move {
        let _held = place;
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

/// An event was not taken in time.
#[derive(Debug)]
struct Stuck;

/// Sends events as they are taken, until there are no more or nobody listens.
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
    // What is serialised here are plain structures: that cannot fail.
    Event::default().event(name).json_data(data).unwrap_or_default()
}

/// All sweeps and workers, whenever one of them has changed.
pub(super) async fn overview(
    State(page): State<Arc<Page>>,
    Extension(admitted): Asked,
    version: Version,
) -> Result<impl axum::response::IntoResponse, Refused> {
    let place = page.sweeps.shares.watcher(&admitted)?;
    let asker = admitted.clone();
    let looking = (page.clone(), tokio::time::interval(LOOK), None);
    let events = stream::unfold(looking, move |(page, mut looks, mut last)| {
        let admitted = asker.clone();
        async move {
            loop {
                looks.tick().await;
                let look = page.looks.now(&page).await.ok()?;
                let now = serde_json::to_string(&look.of(&admitted.caller)).ok();
                if last != now {
                    let event = Event::default().event("overview").data(now.as_deref().unwrap_or_default());
                    last = now;
                    return Some((event, (page, looks, last)));
                }
            }
        }
    });
    Ok(send(&page, &admitted, version, place, events))
}

/// One sweep, whenever it has changed.
pub(super) async fn sweep(
    State(page): State<Arc<Page>>,
    Extension(admitted): Asked,
    Path(id): Path<String>,
    version: Version,
) -> Result<impl axum::response::IntoResponse, Refused> {
    let place = page.sweeps.shares.watcher(&admitted)?;
    let receiver = follow(&page.sweeps, &admitted, id).await?;
    let events = stream::unfold((receiver, true), |(mut receiver, first)| async move {
        if !first {
            tokio::time::sleep(PACE).await;
            if receiver.changed().await.is_err() {
                // It has ended: the stream stays, so that the browser does not ask again and again.
                std::future::pending::<()>().await;
            }
        }
        let view = receiver.borrow_and_update().clone();
        Some((event("sweep", &SweepView::from(&v1::Sweep::from(&*view))), (receiver, false)))
    });
    Ok(send(&page, &admitted, version, place, events))
}

async fn follow(sweeps: &Sweeps, admitted: &Admitted, id: String) -> Result<watch::Receiver<Arc<ToldSweep>>, Status> {
    let sweep = SweepId::new(id.clone());
    sweeps.own(&admitted.caller, &sweep).await?;
    sweeps.desk.follow(sweep).await?.ok_or_else(|| unknown(&id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_does_not_take_an_event_in_time_is_stuck() {
        let endless = || stream::repeat_with(Event::default);
        let (sender, _unread) = mpsc::channel::<Result<Event, Infallible>>(READY);
        assert!(offer(endless(), &sender, Duration::from_millis(50)).await.is_err());
        // Whoever takes them may go at any time.
        let (sender, mut receiver) = mpsc::channel::<Result<Event, Infallible>>(READY);
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
