//! Threads that prepare what a slot will need next.
//!
//! A slot that drives a GPU launches work and reads results; whatever else it did, the GPU would wait for. Which thread makes a
//! thing changes no bit of it: random numbers are keyed. Deliberately absent: threads beside a slot on a CPU, where all cores
//! compute.

use super::{PopulationError, at};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use tch::TchError;

/// Things that a helper thread makes, in order. It ends when this is dropped.
pub(super) struct Ahead<T> {
    made: Option<Receiver<Result<T, PopulationError>>>,
    thread: Option<JoinHandle<()>>,
}

/// The helper's end of the queue of things that it has made.
pub(super) struct Made<T>(SyncSender<Result<T, PopulationError>>);

impl<T> Made<T> {
    /// Waits until there is room, and returns false when no more things are needed.
    pub(super) fn give(&self, thing: T) -> bool {
        self.0.send(Ok(thing)).is_ok()
    }
}

impl<T: Send + 'static> Ahead<T> {
    /// Starts a helper that is at most `waiting` things ahead of the slot, beside the one in its hands.
    pub(super) fn start(
        waiting: usize,
        make: impl FnOnce(&Made<T>) -> Result<(), PopulationError> + Send + 'static,
    ) -> Result<Self, PopulationError> {
        let (sender, made) = sync_channel(waiting);
        let work = move || {
            let made = Made(sender);
            if let Err(error) = make(&made) {
                // Nobody hears it where the slot has already given up.
                let _ = made.0.send(Err(error));
            }
        };
        let thread = Builder::new().name("ahead of a slot".to_owned()).spawn(work);
        let thread = thread.map_err(|error| at("starting a helper thread")(TchError::Io(error)))?;
        Ok(Self { made: Some(made), thread: Some(thread) })
    }

    /// Waits for the helper's next thing, not for the GPU.
    pub(super) fn next(&mut self) -> Result<T, PopulationError> {
        let made = self.made.as_ref().and_then(|made| made.recv().ok());
        made.unwrap_or_else(|| {
            Err(at("a helper thread")(TchError::Torch("it ended before its work was done".to_owned())))
        })
    }
}

impl<T> Drop for Ahead<T> {
    fn drop(&mut self) {
        // Without a receiver the helper's next gift is refused.
        self.made = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Returns the number of cores of the machine.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get())
}

/// Processes all pieces on this many threads, the calling one among them. If fewer can be started, it takes longer.
pub(super) fn in_parallel<P: Send>(threads: usize, pieces: Vec<P>, action: impl Fn(P) + Sync) {
    let threads = threads.min(pieces.len());
    let pieces = Mutex::new(pieces.into_iter());
    let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some(piece) = next() {
            action(piece);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            if Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn things_come_in_order_and_no_further_ahead_than_asked() {
        let begun = Arc::new(AtomicUsize::new(0));
        let counter = begun.clone();
        let mut ahead = Ahead::start(1, move |made| {
            for thing in 0..100 {
                counter.fetch_add(1, Ordering::SeqCst);
                if !made.give(thing) {
                    return Ok(());
                }
            }
            Ok(())
        })
        .unwrap();
        for expected in 0..10 {
            assert_eq!(ahead.next().unwrap(), expected);
            // One that waits, one that is offered, and one more if the helper was between the two.
            assert!(begun.load(Ordering::SeqCst) <= expected + 3);
        }
        drop(ahead);
        assert!(begun.load(Ordering::SeqCst) < 20, "the helper has ended");
    }

    #[test]
    fn a_helper_s_error_and_its_panic_reach_the_slot() {
        let failing = Ahead::<()>::start(0, |_| Err(PopulationError::Tf32OnCpu));
        assert!(matches!(failing.unwrap().next(), Err(PopulationError::Tf32OnCpu)));
        let panicking = Ahead::<()>::start(0, |_| panic!("an expected panic"));
        assert!(panicking.unwrap().next().unwrap_err().to_string().contains("ended before"));
    }

    #[test]
    fn every_piece_is_done_once() {
        for threads in [0, 1, 3, 50] {
            let mut done = vec![0; 40];
            in_parallel(threads, done.iter_mut().enumerate().collect(), |(index, piece)| *piece += index + 1);
            assert!(done.iter().copied().eq(1..=40), "{threads} threads: {done:?}");
        }
    }
}
