//! What must hold of places, kept beside those that decide: never more than there are, in the order that is owed, nobody forgotten.
//!
//! It knows nothing of how a decision is made. It counts who was passed over by whom.

use nadgrid_core::ids::WorkerId;
use nadgrid_core::places::PlaceBounds;
use std::collections::BTreeMap;

/// Grants that another worker may get while one waits: those of a round.
const MOST_OVERTAKEN: u64 = 1;

/// A payload that waits for its place.
#[derive(Debug)]
struct Waiting<T> {
    ticket: T,
    worker: WorkerId,
    bytes: u64,
    /// Grants of others while it could have had one, by worker.
    overtaken: BTreeMap<WorkerId, u64>,
}

/// A payload that has a place.
#[derive(Debug)]
struct Holder {
    worker: WorkerId,
    bytes: u64,
    /// Whether it is on its way, not arrived.
    is_sending: bool,
}

/// Who waits, in the order of arrival, and who holds how much.
#[derive(Debug)]
pub(crate) struct Turns<T> {
    bounds: PlaceBounds,
    waiting: Vec<Waiting<T>>,
    holders: BTreeMap<T, Holder>,
}

impl<T: Copy + Ord + std::fmt::Debug> Turns<T> {
    /// An account of places for which nobody waits.
    pub(crate) fn new(bounds: PlaceBounds) -> Self {
        Self { bounds, waiting: Vec::new(), holders: BTreeMap::new() }
    }

    /// Somebody begins to wait.
    pub(crate) fn waits(&mut self, ticket: T, worker: WorkerId, bytes: u64) {
        self.waiting.push(Waiting { ticket, worker, bytes, overtaken: BTreeMap::new() });
    }

    /// Somebody waits no more, or gives the place back.
    pub(crate) fn leaves(&mut self, ticket: T) {
        self.waiting.retain(|waiting| waiting.ticket != ticket);
        self.holders.remove(&ticket);
    }

    /// A payload has arrived.
    pub(crate) fn arrived(&mut self, ticket: T) {
        if let Some(holder) = self.holders.get_mut(&ticket) {
            holder.is_sending = false;
        }
    }

    /// Somebody gets a place.
    ///
    /// # Panics
    /// When it is not the one whose turn it is, or there is no place.
    pub(crate) fn granted(&mut self, ticket: T) {
        let place = self.waiting.iter().position(|waiting| waiting.ticket == ticket);
        let place = place.unwrap_or_else(|| panic!("{ticket:?} gets a place and does not wait for one"));
        let Waiting { worker, bytes, .. } = self.waiting.remove(place);
        let mut earlier = self.waiting[..place].iter();
        assert!(earlier.all(|waiting| waiting.worker != worker), "{worker} was served out of its order");
        self.count_overtaken(&worker);
        self.holders.insert(ticket, Holder { worker: worker.clone(), bytes, is_sending: true });
        let PlaceBounds { places, each, bytes: most } = self.bounds;
        let held: u64 = self.holders.values().map(|holder| holder.bytes).sum();
        let (count, own) = (self.holders.len(), self.sending(&worker));
        assert!(count <= places, "{count} places of {places}");
        assert!(own <= each, "{worker} sends {own} payloads at once, {each} at most");
        assert!(held <= most || count == 1, "{held} bytes of {most}");
    }

    /// Everybody who could have had the place that `worker` gets is overtaken by it.
    fn count_overtaken(&mut self, worker: &WorkerId) {
        let mut seen = Vec::new();
        for place in 0..self.waiting.len() {
            let waits = self.waiting[place].worker.clone();
            let is_first = !seen.contains(&waits);
            if is_first && waits != *worker && self.sending(&waits) < self.bounds.each {
                let waiting = &mut self.waiting[place];
                let overtaken = waiting.overtaken.entry(worker.clone()).or_default();
                *overtaken += 1;
                assert!(*overtaken <= MOST_OVERTAKEN, "{waiting:?} was overtaken again by {worker}");
            }
            seen.push(waits);
        }
    }

    fn sending(&self, worker: &WorkerId) -> usize {
        self.holders.values().filter(|holder| holder.is_sending && holder.worker == *worker).count()
    }

    /// After all grants that can be given: nobody waits beside free places that would do.
    ///
    /// # Panics
    /// When somebody does.
    pub(crate) fn settled(&self) {
        let idle = self.holders.is_empty() && !self.waiting.is_empty();
        assert!(!idle, "{:?} waits, and all places are free", self.waiting);
    }

    /// Whether nobody waits and nobody holds a place.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.holders.is_empty()
    }

    /// Whether this one holds a place.
    pub(crate) fn holds(&self, ticket: T) -> bool {
        self.holders.contains_key(&ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// Two workers, `a` with the even payloads and `b` with the odd ones, all of which wait.
    fn two(places: usize, each: usize, bytes: u64) -> Turns<u32> {
        let mut turns = Turns::new(PlaceBounds { places, each, bytes });
        (0..8).for_each(|ticket| turns.waits(ticket, WorkerId::new(["a", "b"][ticket as usize % 2]), 2));
        turns
    }

    /// What the oracle says of grants in this order, each of which is given back before the next if `one_by_one`.
    fn said(turns: &mut Turns<u32>, order: &[u32], one_by_one: bool) -> String {
        let grant = |turns: &mut Turns<u32>| {
            for &ticket in order {
                turns.granted(ticket);
                if one_by_one {
                    turns.leaves(ticket);
                }
            }
        };
        let panic = catch_unwind(AssertUnwindSafe(|| grant(turns)));
        panic.err().and_then(|panic| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
    }

    #[test]
    fn the_oracle_sees_what_is_unfair_and_what_is_too_much() {
        assert_eq!(said(&mut two(9, 9, 99), &[0, 1, 2, 3, 4, 5, 6, 7], false), "");
        assert_eq!(said(&mut two(9, 9, 99), &[1, 0, 3, 2], true), "");
        for (mut turns, order, one_by_one, words) in [
            (two(9, 9, 99), &[0, 2][..], true, "was overtaken again by a"),
            (two(9, 9, 99), &[2], true, "a was served out of its order"),
            (two(1, 9, 99), &[0, 1], false, "2 places of 1"),
            (two(9, 1, 99), &[0, 1, 2], false, "a sends 2 payloads at once, 1 at most"),
            (two(9, 9, 3), &[0, 1], false, "4 bytes of 3"),
            (two(9, 9, 99), &[0, 0], false, "does not wait for one"),
        ] {
            let said = said(&mut turns, order, one_by_one);
            assert!(said.contains(words), "{order:?}: {said:?}");
        }
        // Larger than the budget, and alone.
        assert_eq!(said(&mut two(9, 9, 1), &[0, 1], true), "");
        assert!(catch_unwind(AssertUnwindSafe(|| two(9, 9, 99).settled())).is_err());
    }
}
