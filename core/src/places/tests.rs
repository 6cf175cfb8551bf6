use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const BOUNDS: PlaceBounds = PlaceBounds { places: 3, each: 1, bytes: 100 };

fn grants<C: Clone + Eq + Hash>(queue: &mut PlaceQueue<C>) -> Vec<PlaceTicket> {
    std::iter::from_fn(|| queue.grant()).collect()
}

#[test]
fn callers_take_turns_and_one_of_them_cannot_take_all() {
    let mut queue = PlaceQueue::new(PlaceBounds { places: 2, each: 2, ..BOUNDS });
    let many: Vec<_> = (0..64).map(|_| queue.offer("many", 1)).collect();
    let other = queue.offer("other", 1);
    assert_eq!(grants(&mut queue), [many[0], other]);
    let second = queue.offer("other", 1);
    queue.leave(many[0]);
    assert_eq!(grants(&mut queue), [many[1]], "it waited before the second of the other");
    queue.leave(other);
    assert_eq!(grants(&mut queue), [second]);
}

#[test]
fn payloads_of_one_caller_follow_each_other() {
    let mut queue = PlaceQueue::new(BOUNDS);
    let (first, second) = (queue.offer("slow", 10), queue.offer("slow", 10));
    assert_eq!(grants(&mut queue), [first]);
    assert_eq!(queue.shortage(), Some(PlaceShortage::Callers));
    queue.received(first);
    assert_eq!(grants(&mut queue), [second], "the first has arrived and keeps its place");
    assert_eq!((queue.taken(), queue.bytes()), (2, 20));
}

#[test]
fn nobody_overtakes_a_large_payload_and_the_largest_goes_alone() {
    let mut queue = PlaceQueue::new(BOUNDS);
    let small = queue.offer("a", 60);
    let large = queue.offer("b", 1000);
    let behind = queue.offer("c", 1);
    assert_eq!(grants(&mut queue), [small]);
    assert_eq!(queue.shortage(), Some(PlaceShortage::Bytes));
    queue.leave(small);
    assert_eq!(grants(&mut queue), [large]);
    queue.leave(large);
    assert_eq!(grants(&mut queue), [behind]);
    queue.leave(behind);
    assert_eq!((queue.taken(), queue.bytes(), queue.waiting(), queue.shortage()), (0, 0, 0, None));
}

#[test]
fn who_leaves_is_not_waited_for() {
    let mut queue = PlaceQueue::new(PlaceBounds { places: 1, ..BOUNDS });
    let (holder, gone, next) = (queue.offer("a", 1), queue.offer("b", 1), queue.offer("c", 1));
    assert_eq!(grants(&mut queue), [holder]);
    queue.leave(gone);
    queue.leave(gone);
    queue.leave(holder);
    assert_eq!(grants(&mut queue), [next]);
}

#[derive(Clone, Debug)]
enum Step {
    Offer { caller: u8, size: u64 },
    Received(usize),
    Leave(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u8..5, 0u64..150).prop_map(|(caller, size)| Step::Offer { caller, size }),
        1 => any::<usize>().prop_map(Step::Received),
        2 => any::<usize>().prop_map(Step::Leave),
    ]
}

/// The queue beside a plain account of what it was told.
struct Watched {
    queue: PlaceQueue<u8>,
    bounds: PlaceBounds,
    waiting: BTreeMap<PlaceTicket, (u8, u64)>,
    held: BTreeMap<PlaceTicket, (u8, u64, bool)>,
    /// Callers that were granted a place while another could have been and has waited since.
    passed: BTreeMap<u8, BTreeSet<u8>>,
}

impl Watched {
    fn new(bounds: PlaceBounds) -> Self {
        let (waiting, held, passed) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { queue: PlaceQueue::new(bounds), bounds, waiting, held, passed }
    }

    fn sending(&self, caller: u8) -> usize {
        self.held.values().filter(|held| held.0 == caller && held.2).count()
    }

    fn take(&mut self, step: Step) {
        let nth = |place: usize, tickets: Vec<PlaceTicket>| tickets.get(place % tickets.len().max(1)).copied();
        match step {
            Step::Offer { caller, size } => {
                let ticket = self.queue.offer(caller, size);
                self.waiting.insert(ticket, (caller, size));
            }
            Step::Received(place) => {
                let Some(ticket) = nth(place, self.held.keys().copied().collect()) else { return };
                self.queue.received(ticket);
                self.held.get_mut(&ticket).unwrap().2 = false;
            }
            Step::Leave(place) => {
                let all = self.waiting.keys().chain(self.held.keys()).copied().collect();
                let Some(ticket) = nth(place, all) else { return };
                self.queue.leave(ticket);
                self.waiting.remove(&ticket);
                self.held.remove(&ticket);
            }
        }
        self.passed.retain(|caller, _| self.waiting.values().any(|(other, _)| other == caller));
        while let Some(ticket) = self.queue.grant() {
            self.granted(ticket);
        }
        self.check();
    }

    fn granted(&mut self, ticket: PlaceTicket) {
        let (caller, size) = self.waiting.remove(&ticket).expect("only what waits is granted");
        let earlier = self.waiting.iter().find(|(other, (own, _))| *own == caller && **other < ticket);
        assert_eq!(earlier, None, "what a caller offers is granted in order");
        self.passed.remove(&caller);
        let others: BTreeSet<u8> = self.waiting.values().map(|(other, _)| *other).filter(|o| *o != caller).collect();
        for other in others {
            if self.sending(other) < self.bounds.each {
                let twice = !self.passed.entry(other).or_default().insert(caller);
                assert!(!twice, "{caller} was served twice while {other} waited");
            }
        }
        self.held.insert(ticket, (caller, size, true));
    }

    fn check(&self) {
        let bytes: u64 = self.held.values().map(|held| held.1).sum();
        assert!(self.held.len() <= self.bounds.places);
        assert!(bytes <= self.bounds.bytes || self.held.len() == 1, "{bytes} bytes in {} places", self.held.len());
        assert!((0..5).all(|caller| self.sending(caller) <= self.bounds.each));
        let counted = (self.queue.taken(), self.queue.bytes(), self.queue.waiting());
        assert_eq!(counted, (self.held.len(), bytes, self.waiting.len()));
        // Places are idle only for a reason.
        let could = self.waiting.values().any(|(caller, _)| self.sending(*caller) < self.bounds.each);
        assert!(!self.held.is_empty() || !could);
        assert_eq!(self.queue.shortage().is_some(), !self.waiting.is_empty());
    }
}

proptest! {
    #[test]
    fn bounds_hold_turns_are_kept_and_everybody_is_served(
        places in 1usize..4,
        each in 1usize..3,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut watched = Watched::new(PlaceBounds { places, each, bytes: 100 });
        steps.into_iter().for_each(|step| watched.take(step));
        // Whatever holds a place leaves in the end: then everything that waits is served.
        let mut rounds = watched.waiting.len() + watched.held.len();
        while !(watched.waiting.is_empty() && watched.held.is_empty()) {
            prop_assert!(rounds > 0, "{:?} still wait", watched.waiting);
            rounds -= 1;
            let ticket = *watched.held.keys().next().expect("while some wait, some are served");
            watched.queue.leave(ticket);
            watched.held.remove(&ticket);
            while let Some(ticket) = watched.queue.grant() {
                watched.granted(ticket);
            }
            watched.check();
        }
        prop_assert!(watched.queue.callers.is_empty() && watched.queue.turns.is_empty() && watched.queue.offered.is_empty());
    }
}
