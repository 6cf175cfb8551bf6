//! Payloads that wait for a place and payloads in transfer: which is next, and what users see of it.
//!
//! A [`TransferTicket`] is offered, granted and given back by being dropped, so a place lives as long as the request that
//! has it. [`PlaceQueue`] decides the order. The counts are behind a mutex, like the access quotas: they are not coordinator
//! state, and after a restart nothing waits. Deliberately absent: reading and writing the payloads.

mod meter;
#[cfg(test)]
mod tests;

use meter::RateMeter;
use nadgrid_core::ids::SweepId;
use nadgrid_core::places::{PlaceBounds, PlaceQueue, PlaceShortage, PlaceTicket};
use nadgrid_core::text;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The time that a payload waits before it is reported to users.
const WAITS_LONG: Duration = Duration::from_secs(2);
/// The time for which a failure of the store is reported after the last payload of that sweep.
const TROUBLE_REPORTED: Duration = Duration::from_secs(60);
/// The most sweeps whose failures of the store are remembered.
const MAX_TROUBLES: usize = 1024;

/// A payload that waits to be transferred.
#[derive(Clone, Debug)]
pub(crate) struct TransferOffer {
    /// The caller who takes turns: a worker by its id, or a user.
    pub(crate) caller: Arc<str>,
    /// The sweep that waits for the payload.
    pub(crate) sweep: Option<SweepId>,
    /// The bytes that are in memory while the payload has its place; 0 if it is transferred in pieces.
    pub(crate) size: u64,
}

/// The names of the settings that bound one kind of transfer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlaceSettings {
    /// Bounds the number of transfers.
    places: &'static str,
    /// Bounds the transfers of one caller.
    each: &'static str,
    /// Bounds their bytes.
    bytes: &'static str,
}

impl PlaceSettings {
    /// Partials and checkpoints that are sent to the coordinator.
    pub(crate) const PARTIALS: Self =
        Self { places: "uploads", each: "limits.uploads_per_worker", bytes: "limits.upload_bytes" };
    /// Partials that workers put into the store themselves.
    pub(crate) const DIRECT: Self = Self { places: "limits.direct_uploads", ..Self::PARTIALS };
    /// Files that users upload.
    pub(crate) const INPUTS: Self = Self { each: "limits.inputs_per_user", ..Self::PARTIALS };
    /// Artifacts and files that are sent.
    pub(crate) const READS: Self = Self { places: "limits.reads", each: "limits.reads", ..Self::PARTIALS };
}

/// The places for transfers of one kind. Clones share them.
#[derive(Clone)]
pub(crate) struct TransferPlaces {
    state: Arc<Mutex<TransferState>>,
}

/// The transfers of one caller.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct CallerTransfers {
    pub(crate) waiting: u32,
    /// The time for which the first of them has waited.
    pub(crate) waited: Duration,
    pub(crate) moving: u32,
    pub(crate) bytes_per_second: f64,
}

struct TransferState {
    settings: PlaceSettings,
    queue: PlaceQueue<Arc<str>>,
    transfers: BTreeMap<PlaceTicket, Transfer>,
    callers: HashMap<Arc<str>, TransferCaller>,
    troubles: HashMap<SweepId, StoreTrouble>,
}

struct Transfer {
    offer: TransferOffer,
    since: Instant,
    /// Wakes the waiting request; `None` once the place is granted.
    wake: Option<oneshot::Sender<()>>,
}

/// A caller with tickets.
#[derive(Default)]
struct TransferCaller {
    /// The number of its tickets.
    tickets: usize,
    meter: RateMeter,
}

/// A failure of the store to accept payloads.
struct StoreTrouble {
    message: String,
    since: Instant,
    last: Instant,
}

/// A payload's position in the queue and then its place, until it is dropped.
pub(crate) struct TransferTicket {
    ticket: PlaceTicket,
    granted: oneshot::Receiver<()>,
    places: TransferPlaces,
}

impl TransferPlaces {
    pub(crate) fn new(bounds: PlaceBounds, settings: PlaceSettings) -> Self {
        let state = TransferState {
            settings,
            queue: PlaceQueue::new(bounds),
            transfers: BTreeMap::new(),
            callers: HashMap::new(),
            troubles: HashMap::new(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Queues a payload.
    pub(crate) fn offer(&self, offer: TransferOffer) -> TransferTicket {
        let (wake, granted) = oneshot::channel();
        let mut state = self.lock();
        let ticket = state.queue.offer(offer.caller.clone(), offer.size);
        state.callers.entry(offer.caller.clone()).or_default().tickets += 1;
        state.transfers.insert(ticket, Transfer { offer, since: Instant::now(), wake: Some(wake) });
        state.grant();
        TransferTicket { ticket, granted, places: self.clone() }
    }

    /// Notes that the store did not accept a payload of this sweep.
    pub(crate) fn refused(&self, sweep: &SweepId, message: String) {
        let now = Instant::now();
        let mut state = self.lock();
        state.troubles.retain(|_, trouble| now.duration_since(trouble.last) < TROUBLE_REPORTED);
        if state.troubles.len() >= MAX_TROUBLES && !state.troubles.contains_key(sweep) {
            return;
        }
        let trouble = state.troubles.entry(sweep.clone());
        let trouble = trouble.or_insert_with(|| StoreTrouble { message: String::new(), since: now, last: now });
        trouble.message = message;
        trouble.last = now;
    }

    /// Notes that the store accepted a payload of this sweep.
    pub(crate) fn stored(&self, sweep: &SweepId) {
        self.lock().troubles.remove(sweep);
    }

    /// The transfers of each caller.
    pub(crate) fn by_caller(&self) -> HashMap<Arc<str>, CallerTransfers> {
        let now = Instant::now();
        let state = self.lock();
        let mut callers: HashMap<Arc<str>, CallerTransfers> = HashMap::new();
        for transfer in state.transfers.values() {
            let caller = callers.entry(transfer.offer.caller.clone()).or_default();
            if transfer.wake.is_some() {
                caller.waiting += 1;
                caller.waited = caller.waited.max(now.duration_since(transfer.since));
            } else {
                caller.moving += 1;
                let known = state.callers.get(&transfer.offer.caller);
                caller.bytes_per_second = known.map_or(0.0, |known| known.meter.bytes_per_second(now));
            }
        }
        callers
    }

    /// Returns the reasons why payloads of a sweep are delayed, one sentence each; empty if there are none.
    pub(crate) fn notices(&self, sweep: &SweepId) -> Vec<String> {
        let now = Instant::now();
        let state = self.lock();
        let trouble = state.troubles.get(sweep).filter(|trouble| now.duration_since(trouble.last) < TROUBLE_REPORTED);
        let trouble = trouble.map(|trouble| {
            let lasts = text::duration(now.duration_since(trouble.since).as_secs_f64());
            format!(
                "the artifact store has accepted no result for {lasts}; workers offer them again: {}",
                trouble.message
            )
        });
        trouble.into_iter().chain(state.waiting_notice(sweep, now)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, TransferState> {
        // Nothing panics while holding the lock; if something did, the state is consistent between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TransferState {
    /// Grants whatever can be granted.
    fn grant(&mut self) {
        while let Some(ticket) = self.queue.grant() {
            let wake = self.transfers.get_mut(&ticket).and_then(|transfer| transfer.wake.take());
            // A request that no longer listens is about to drop its ticket.
            wake.map(|wake| wake.send(()));
        }
    }

    /// Forgets a ticket of this caller.
    fn forget(&mut self, caller: &Arc<str>) {
        let Some(known) = self.callers.get_mut(caller) else { return };
        known.tickets -= 1;
        if known.tickets == 0 {
            self.callers.remove(caller);
        }
    }

    fn waiting_notice(&self, sweep: &SweepId, now: Instant) -> Option<String> {
        if self.queue.waiting() == 0 {
            return None;
        }
        let of_sweep = |transfer: &&Transfer| transfer.wake.is_some() && transfer.offer.sweep.as_ref() == Some(sweep);
        let waiting: Vec<&Transfer> = self.transfers.values().filter(of_sweep).collect();
        let longest = waiting.iter().map(|transfer| now.duration_since(transfer.since)).max()?;
        if longest < WAITS_LONG {
            return None;
        }
        let workers = waiting.iter().map(|transfer| &transfer.offer.caller).collect::<BTreeSet<_>>().len();
        let results = counted(waiting.len(), "result", "waits", "wait");
        let of_workers = counted(workers, "worker", "", "");
        let lasts = text::duration(longest.as_secs_f64());
        let why = self.shortage();
        Some(format!("{results} to be transferred, the first for {lasts} ({of_workers}): {why}"))
    }

    /// The reason why payloads wait, with the setting that bounds them.
    fn shortage(&self) -> String {
        let PlaceBounds { places, each, bytes } = self.queue.bounds();
        let settings = self.settings;
        match self.queue.shortage() {
            Some(PlaceShortage::Places) => format!("all {places} places are taken; raise {}", settings.places),
            Some(PlaceShortage::Bytes) => {
                let held = text::bytes(self.queue.bytes());
                let most = text::bytes(bytes);
                format!("{held} are being transferred, at most {most} may be; raise {}", settings.bytes)
            }
            Some(PlaceShortage::Callers) => {
                format!("each worker sends {each} at a time; its line is slow, or raise {}", settings.each)
            }
            None => "a place is about to be free".to_owned(),
        }
    }
}

/// A counted noun with its verb, in singular or plural.
fn counted(count: usize, noun: &str, singular: &str, plural: &str) -> String {
    let (plural, verb) = if count == 1 { ("", singular) } else { ("s", plural) };
    format!("{count} {noun}{plural} {verb}").trim_end().to_owned()
}

impl TransferTicket {
    /// Waits until the place is granted.
    pub(crate) async fn granted(&mut self) {
        if (&mut self.granted).await.is_err() {
            // A ticket is granted or dropped, so this is not reached. Without a place, waiting is right.
            std::future::pending::<()>().await;
        }
    }

    /// Counts transferred bytes of the payload.
    pub(crate) fn moved(&self, bytes: usize) {
        let mut state = self.places.lock();
        let caller = state.transfers.get(&self.ticket).map(|transfer| transfer.offer.caller.clone());
        if let Some(known) = caller.and_then(|caller| state.callers.get_mut(&caller)) {
            known.meter.moved(bytes, Instant::now());
        }
    }

    /// Notes that the whole payload was received, so that the caller's next may be sent. The place is kept until the ticket is
    /// dropped.
    pub(crate) fn received(&self) {
        let mut state = self.places.lock();
        state.queue.received(self.ticket);
        state.grant();
    }
}

impl Drop for TransferTicket {
    fn drop(&mut self) {
        let mut state = self.places.lock();
        state.queue.leave(self.ticket);
        if let Some(Transfer { offer, .. }) = state.transfers.remove(&self.ticket) {
            state.forget(&offer.caller);
        }
        state.grant();
    }
}
