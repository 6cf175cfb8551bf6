//! Memory that is free in this process is given back to the system.
//!
//! glibc keeps what was freed, in an arena for every thread there ever was: after a burst of large requests hundreds of megabytes
//! stay, though nothing uses them. Deliberately absent: an allocator of our own, whose build wants more than a C++ compiler.

/// Gives free memory back now and again, on a thread of its own. Elsewhere than on glibc nothing is done.
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

    pub(super) fn watch() {
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
