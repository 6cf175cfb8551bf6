//! The end of the process, which no slot can delay.
//!
//! A slot that is inside a kernel or a libtorch call cannot be interrupted, and a call may take minutes. Slots are asked to end and
//! given a moment; those that compute on are left running, and the process ends under them. This is why [`exit`] runs no
//! destructors: libtorch's must not run while a slot uses it. Deliberately absent: killing threads, which no system does safely.

use std::io::Write;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The time between two checks whether threads have ended.
const CHECK_EVERY: Duration = Duration::from_millis(5);

/// Waits until all threads have ended, for `limit` at most, and returns how many have not. These run on.
pub(crate) fn join_within(limit: Duration, threads: Vec<JoinHandle<()>>) -> usize {
    let deadline = Instant::now() + limit;
    let mut left = threads;
    loop {
        for thread in left.extract_if(.., |thread| thread.is_finished()) {
            // A panic has been reported where it happened.
            let _ = thread.join();
        }
        if left.is_empty() || Instant::now() >= deadline {
            return left.len();
        }
        std::thread::sleep(CHECK_EVERY);
    }
}

/// Ends the process with this exit code at once: threads that still run are stopped where they are, and no destructor runs.
pub fn exit(code: u8) -> ! {
    // Nobody is left to be told that an output is closed.
    let _ = std::io::stdout().flush();
    let _ = std::io::stderr().flush();
    // Safety: it only ends the process.
    unsafe { libc::_exit(code.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn threads_that_end_are_waited_for_and_others_are_counted() {
        let (hold, held) = channel::<()>();
        let busy = std::thread::spawn(move || {
            let _ = held.recv();
        });
        let quick = std::thread::spawn(|| ());
        let panics = std::thread::spawn(|| panic!("on purpose"));
        // The two that end are not waited for here: the time is up at once.
        while !(quick.is_finished() && panics.is_finished()) {
            std::thread::yield_now();
        }
        assert_eq!(join_within(Duration::ZERO, vec![busy, quick, panics]), 1);
        drop(hold);
        let ends = std::thread::spawn(|| std::thread::sleep(Duration::from_millis(20)));
        assert_eq!(join_within(Duration::from_secs(60), vec![ends]), 0);
    }
}
