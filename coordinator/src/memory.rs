//! Memory that is free in this process is given back to the system.
//!
//! glibc keeps what was freed, in an arena for every thread there ever was: after a burst of large requests hundreds of megabytes
//! stay, though nothing uses them. Pages that are free within an arena are given back when it is asked to; what is free at an
//! arena's end only when something at that end is freed, and the more so the lower the threshold for it, which glibc raises by
//! itself up to 64 MiB. So there are few arenas here, and the threshold stays where it is put. Deliberately absent: an allocator of
//! our own, whose build wants more than a C++ compiler.

/// Gives free memory back now and again, on a thread of its own. To be called before there are other threads, since a thread
/// keeps its arena. Elsewhere than on glibc nothing is done.
pub fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::watch();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use std::time::Duration;
    use tracing::warn;

    /// How often it is looked at how much is free.
    const LOOK: Duration = Duration::from_secs(2);
    /// Less is not worth looking for.
    const LEAST: usize = 16 << 20;
    /// Threads that allocate at once wait for each other where they share one; small pieces have a cache for each thread.
    const MOST_ARENAS: libc::c_int = 4;
    /// Bytes that may stay free at an arena's end: a partial's, so that the next one finds its pages there.
    const MOST_AT_END: libc::c_int = 4 << 20;
    /// Bytes from which on a piece is a mapping of its own, which is gone when it is freed.
    const LEAST_MAPPED: libc::c_int = 8 << 20;

    pub(super) fn watch() {
        for (option, value) in [
            (libc::M_ARENA_MAX, MOST_ARENAS),
            (libc::M_TRIM_THRESHOLD, MOST_AT_END),
            (libc::M_MMAP_THRESHOLD, LEAST_MAPPED),
        ] {
            // SAFETY: it takes two numbers, and refuses what it does not know.
            if unsafe { libc::mallopt(option, value) } != 1 {
                warn!(option, value, "the allocator does not take an option");
            }
        }
        let look = || {
            loop {
                std::thread::sleep(LOOK);
                if free() >= LEAST {
                    trim();
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().name("memory".into()).spawn(look) {
            warn!(%error, "free memory is not given back to the system");
        }
    }

    /// Bytes that are free within the arenas.
    fn free() -> usize {
        // SAFETY: it takes nothing, and locks what it reads.
        unsafe { libc::mallinfo2() }.fordblks
    }

    fn trim() {
        // SAFETY: it locks each arena, and gives back pages that hold nothing.
        unsafe { libc::malloc_trim(0) };
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn resident() -> usize {
            let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
            pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
        }

        /// Small pieces, of which the last stays: without being asked glibc gives nothing of them back.
        #[test]
        fn what_is_free_is_given_back() {
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
