//! Returns free memory of this process to the system.
//!
//! glibc keeps freed memory in arenas, one for every thread that ever ran: after a burst of large requests hundreds of
//! megabytes stay allocated though nothing uses them. It returns free pages within an arena on request, and free memory at an
//! arena's end whenever something there is freed and more than a threshold is free, which glibc itself raises up to 64 MiB.
//! Therefore there are few arenas here, and the threshold is fixed. Deliberately absent: another allocator, whose build
//! requires more than a C++ compiler.

/// Returns free memory to the system from time to time, on a thread of its own. Must be called before other threads start,
/// because a thread keeps its arena. Without glibc it does nothing.
pub fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::watch();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use std::time::Duration;
    use tracing::warn;

    /// The time between two checks of the free memory.
    const CHECK_EVERY: Duration = Duration::from_secs(2);
    /// The least amount of free memory that is returned.
    const MIN_FREE: usize = 16 << 20;
    /// Threads that share an arena wait for each other when they allocate; small pieces come from a cache of each thread.
    const MAX_ARENAS: libc::c_int = 4;
    /// Bytes that may stay free at an arena's end: as many as a partial has, so that the next one finds its pages there.
    const MAX_AT_END: libc::c_int = 4 << 20;
    /// Bytes from which a piece is a mapping of its own, which is returned when it is freed.
    const MIN_MAPPED: libc::c_int = 8 << 20;

    pub(super) fn watch() {
        for (option, value) in [
            (libc::M_ARENA_MAX, MAX_ARENAS),
            (libc::M_TRIM_THRESHOLD, MAX_AT_END),
            (libc::M_MMAP_THRESHOLD, MIN_MAPPED),
        ] {
            // SAFETY: mallopt takes two numbers, and refuses options that it does not know.
            if unsafe { libc::mallopt(option, value) } != 1 {
                warn!(option, value, "the allocator refuses an option");
            }
        }
        if let Err(error) = std::thread::Builder::new().name("memory".into()).spawn(trim_forever) {
            warn!(%error, "free memory is not returned to the system");
        }
    }

    fn trim_forever() {
        loop {
            std::thread::sleep(CHECK_EVERY);
            if free() >= MIN_FREE {
                trim();
            }
        }
    }

    /// The number of free bytes within the arenas.
    fn free() -> usize {
        // SAFETY: mallinfo2 takes nothing, and locks what it reads.
        unsafe { libc::mallinfo2() }.fordblks
    }

    fn trim() {
        // SAFETY: malloc_trim locks each arena, and returns pages that contain nothing.
        unsafe { libc::malloc_trim(0) };
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn resident() -> usize {
            let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
            pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
        }

        /// The last of many small pieces stays, so glibc by itself would return none of the others.
        #[test]
        fn free_memory_is_returned() {
            let mut pieces: Vec<Vec<u8>> = (0..40_000).map(|_| vec![1; 4000]).collect();
            let last = pieces.pop();
            let full = resident();
            drop(pieces);
            assert!(free() > 100 << 20);
            trim();
            assert!(resident() + (100 << 20) < full, "{} of {full}", resident());
            drop(last);
        }
    }
}
