//! The queue that decides who may send a payload next: a bounded number of places, shared in turns.
//!
//! A payload is offered by a caller (a worker, a user), waits for a place, is granted one, and leaves. Places are bounded by
//! their number and by the bytes of all payloads that hold one, so that memory is. Callers take turns; what one of them offers
//! is granted in order, and never more than [`PlaceBounds::each`] of it is on its way at once, so that the payloads of one
//! caller do not halve each other's line.
//!
//! ```text
//!   offer             grant            received             leave
//!  ───────▶ waiting ───────▶ sending ───────────▶ keeping ───────▶ (gone)
//!              └────────────────┴────────── leave ──────────▶ (gone)
//! ```
//!
//! Nobody overtakes the caller whose turn it is: a large payload waits until there is room for it, and others wait behind it. One that is
//! larger than the budget is granted when it is alone. So whoever waits is served once those before it have left, and a place
//! that is left comes back whatever its holder was doing. Deliberately absent: clocks, and who the callers are.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;

/// The bounds on the payloads that may hold a place at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaceBounds {
    /// The most payloads that may hold a place, of all callers.
    pub places: usize,
    /// The most payloads of one caller that may be on their way; those that have arrived do not count.
    pub each: usize,
    /// The most bytes that the payloads that hold a place may have together.
    pub bytes: u64,
}

/// A payload that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlaceTicket(u64);

/// The reason that the first of those that wait is not granted a place yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceShortage {
    /// All places are taken.
    Places,
    /// The payloads that hold a place leave too few bytes of the budget.
    Bytes,
    /// Every caller that waits has as many payloads on their way as it may.
    Callers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TicketStage {
    Waiting,
    Sending,
    Keeping,
}

#[derive(Debug)]
struct OfferedPayload<C> {
    caller: C,
    size: u64,
    stage: TicketStage,
}

#[derive(Debug, Default)]
struct CallerQueue {
    waiting: VecDeque<PlaceTicket>,
    /// The number of payloads that are on their way.
    sending: usize,
    /// Its number in the order of turns, while something waits.
    turn: u64,
}

/// The payloads that wait for a place and those that hold one.
#[derive(Debug)]
pub struct PlaceQueue<C> {
    bounds: PlaceBounds,
    next: u64,
    offered: HashMap<PlaceTicket, OfferedPayload<C>>,
    callers: HashMap<C, CallerQueue>,
    /// The callers with something that waits, in the order of their turns.
    turns: BTreeMap<u64, C>,
    taken: usize,
    bytes: u64,
    waiting: usize,
}

impl<C: Clone + Eq + Hash> PlaceQueue<C> {
    /// A queue with these bounds, in which nobody waits and all places are free.
    pub fn new(bounds: PlaceBounds) -> Self {
        let (offered, callers) = (HashMap::new(), HashMap::new());
        Self { bounds, next: 0, offered, callers, turns: BTreeMap::new(), taken: 0, bytes: 0, waiting: 0 }
    }

    /// A caller has a payload of this size. It waits until [`PlaceQueue::grant`] names it.
    pub fn offer(&mut self, caller: C, size: u64) -> PlaceTicket {
        let ticket = PlaceTicket(self.number());
        let turn = self.number();
        let queue = self.callers.entry(caller.clone()).or_default();
        if queue.waiting.is_empty() {
            queue.turn = turn;
            self.turns.insert(turn, caller.clone());
        }
        queue.waiting.push_back(ticket);
        self.waiting += 1;
        self.offered.insert(ticket, OfferedPayload { caller, size, stage: TicketStage::Waiting });
        ticket
    }

    /// Grants the next place, if there is one to grant. To be called until it returns nothing, after every other change.
    pub fn grant(&mut self) -> Option<PlaceTicket> {
        let (turn, ticket) = self.first().ok()?;
        let caller = self.turns.remove(&turn)?;
        let again = self.number();
        let queue = self.callers.get_mut(&caller)?;
        queue.waiting.pop_front();
        queue.sending += 1;
        if !queue.waiting.is_empty() {
            queue.turn = again;
            self.turns.insert(again, caller);
        }
        let payload = self.offered.get_mut(&ticket)?;
        payload.stage = TicketStage::Sending;
        self.taken += 1;
        self.bytes += payload.size;
        self.waiting -= 1;
        Some(ticket)
    }

    /// A payload has arrived: the next of its caller may be sent. It keeps its place until it leaves.
    pub fn received(&mut self, ticket: PlaceTicket) {
        let Some(payload) = self.offered.get_mut(&ticket).filter(|payload| payload.stage == TicketStage::Sending)
        else {
            return;
        };
        payload.stage = TicketStage::Keeping;
        let caller = payload.caller.clone();
        self.end_sending(&caller);
    }

    /// A payload is done with, or is not offered any more. Leaving twice changes nothing.
    pub fn leave(&mut self, ticket: PlaceTicket) {
        let Some(OfferedPayload { caller, size, stage }) = self.offered.remove(&ticket) else { return };
        if stage == TicketStage::Waiting {
            self.waiting -= 1;
            return self.forget(&caller, ticket);
        }
        self.taken -= 1;
        self.bytes -= size;
        if stage == TicketStage::Sending {
            self.end_sending(&caller);
        }
    }

    /// Returns the number of payloads that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Returns the number of places that are taken.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Returns the bytes of all payloads that hold a place.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The bounds that hold.
    pub fn bounds(&self) -> PlaceBounds {
        self.bounds
    }

    /// Returns why the next payload is not granted a place; nothing when none waits, or one could be granted.
    pub fn shortage(&self) -> Option<PlaceShortage> {
        if self.waiting == 0 { None } else { self.first().err() }
    }

    /// The turn and the payload that are next.
    fn first(&self) -> Result<(u64, PlaceTicket), PlaceShortage> {
        if self.taken >= self.bounds.places {
            return Err(PlaceShortage::Places);
        }
        // Callers that are passed over hold a place: there are no more of them than places.
        let ready = self.turns.iter().find_map(|(&turn, caller)| {
            let queue = self.callers.get(caller).filter(|queue| queue.sending < self.bounds.each)?;
            Some((turn, *queue.waiting.front()?))
        });
        let (turn, ticket) = ready.ok_or(PlaceShortage::Callers)?;
        let size = self.offered.get(&ticket).map_or(0, |payload| payload.size);
        let fits = self.taken == 0 || self.bytes.saturating_add(size) <= self.bounds.bytes;
        if fits { Ok((turn, ticket)) } else { Err(PlaceShortage::Bytes) }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn end_sending(&mut self, caller: &C) {
        if let Some(queue) = self.callers.get_mut(caller) {
            queue.sending -= 1;
            self.drop_idle(caller);
        }
    }

    /// Takes a payload that waits out of its caller's queue.
    fn forget(&mut self, caller: &C, ticket: PlaceTicket) {
        let Some(queue) = self.callers.get_mut(caller) else { return };
        queue.waiting.retain(|&other| other != ticket);
        if queue.waiting.is_empty() {
            self.turns.remove(&queue.turn);
        }
        self.drop_idle(caller);
    }

    fn drop_idle(&mut self, caller: &C) {
        if self.callers.get(caller).is_some_and(|queue| queue.waiting.is_empty() && queue.sending == 0) {
            self.callers.remove(caller);
        }
    }
}

#[cfg(test)]
mod tests;
