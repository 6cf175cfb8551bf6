//! Every order of events in a small world of places: three workers, two places, and whatever each of them may do, so many steps deep.
//!
//! Random lives find what is likely; this finds what is possible. What must hold is said by [`crate::turns`]. Workers are alike, so
//! only orders in which they first appear as first, second and third are looked at.

use crate::turns::Turns;
use nadgrid_core::ids::WorkerId;
use nadgrid_core::places::{PlaceBounds, PlaceQueue, PlaceTicket};
use std::collections::BTreeMap;

const WORKERS: usize = 3;
/// Payloads that are offered at once at most: two may wait behind each place.
const MOST_OFFERED: usize = 5;
/// A small payload, one that fits beside nothing else, and the budget.
const SMALL: u64 = 2;
const LARGE: u64 = 5;
const BUDGET: u64 = 4;

/// What may happen next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Offer(usize, u64),
    /// The payload has arrived.
    Arrive(usize),
    /// The payload leaves, whatever became of it: it is stored, its stream is broken, or it is not wanted any more.
    Leave(usize),
}

/// Where a payload is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Waiting,
    Sending,
    Keeping,
}

/// The queue, what must hold of it, and all payloads by number.
struct Small {
    queue: PlaceQueue<WorkerId>,
    turns: Turns<usize>,
    numbers: BTreeMap<PlaceTicket, usize>,
    payloads: BTreeMap<usize, (PlaceTicket, Stage)>,
    offered: usize,
    workers: usize,
}

impl Small {
    /// The world after these steps.
    fn after(steps: &[Step], bounds: PlaceBounds) -> Self {
        let mut small = Self {
            queue: PlaceQueue::new(bounds),
            turns: Turns::new(bounds),
            numbers: BTreeMap::new(),
            payloads: BTreeMap::new(),
            offered: 0,
            workers: 0,
        };
        steps.iter().for_each(|&step| small.take(step));
        small
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Offer(worker, size) => self.offer(worker, size),
            Step::Arrive(number) => {
                let payload = self.payloads.get_mut(&number).unwrap();
                payload.1 = Stage::Keeping;
                self.queue.received(payload.0);
                self.turns.arrived(number);
            }
            Step::Leave(number) => {
                let (ticket, _) = self.payloads.remove(&number).unwrap();
                self.queue.leave(ticket);
                self.turns.leaves(number);
            }
        }
        while let Some(ticket) = self.queue.grant() {
            let number = self.numbers[&ticket];
            self.turns.granted(number);
            self.payloads.get_mut(&number).unwrap().1 = Stage::Sending;
        }
        self.turns.settled();
        self.check();
    }

    fn offer(&mut self, worker: usize, size: u64) {
        let (number, id) = (self.offered, WorkerId::new(worker.to_string()));
        let ticket = self.queue.offer(id.clone(), size);
        self.turns.waits(number, id, size);
        self.numbers.insert(ticket, number);
        self.payloads.insert(number, (ticket, Stage::Waiting));
        self.offered += 1;
        self.workers = self.workers.max(worker + 1);
    }

    /// The queue counts as it is seen from outside.
    fn check(&self) {
        let waiting = self.payloads.values().filter(|(_, stage)| *stage == Stage::Waiting).count();
        assert_eq!((self.queue.waiting(), self.queue.taken()), (waiting, self.payloads.len() - waiting));
        assert_eq!(self.queue.shortage().is_some(), waiting > 0);
    }

    fn possible(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.payloads.len() < MOST_OFFERED {
            let workers = 0..WORKERS.min(self.workers + 1);
            steps.extend(workers.flat_map(|worker| [SMALL, LARGE].map(|size| Step::Offer(worker, size))));
        }
        let sending = self.payloads.iter().filter(|(_, (_, stage))| *stage == Stage::Sending);
        steps.extend(sending.map(|(&number, _)| Step::Arrive(number)));
        steps.extend(self.payloads.keys().map(|&number| Step::Leave(number)));
        steps
    }

    /// Whoever holds a place leaves, until nobody is left: everybody is served on the way.
    fn drain(mut self) {
        while !self.payloads.is_empty() {
            let holder = self.payloads.iter().find(|(_, (_, stage))| *stage != Stage::Waiting);
            let (&number, _) = holder.expect("somebody waits, and nobody holds a place");
            self.take(Step::Leave(number));
        }
        assert!(self.turns.is_empty());
        assert_eq!((self.queue.taken(), self.queue.waiting(), self.queue.bytes()), (0, 0, 0));
    }
}

/// All continuations of some steps; how many there were.
fn go_on(steps: &mut Vec<Step>, most: usize, bounds: PlaceBounds) -> u64 {
    let small = Small::after(steps, bounds);
    if steps.len() == most {
        small.drain();
        return 1;
    }
    let mut count = 0;
    for step in small.possible() {
        steps.push(step);
        count += go_on(steps, most, bounds);
        steps.pop();
    }
    count
}

#[test]
fn places_are_shared_fairly_in_every_order_of_events() {
    for (each, steps) in [(1, 7), (2, 6)] {
        let count = go_on(&mut Vec::new(), steps, PlaceBounds { places: 2, each, bytes: BUDGET });
        println!("each = {each}: {count} orders of {steps} events");
        assert!(count > 10_000, "{count}");
    }
}
