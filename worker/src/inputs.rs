//! The files that shards need: fetched by digest, once, and kept for later shards.
//!
//! Slots call it and wait, since a shard cannot begin without its NADs or images. Deliberately absent: files on disk, and how a
//! file is fetched, which is a matter of the session.

use crate::fault::Fault;
use crate::shard::InputFile;
use nadgrid_core::scheduler::FailureKind;
use std::sync::{Arc, Mutex, PoisonError};

/// The most bytes that are kept; the file used longest ago is dropped first.
const KEPT_BYTES: u64 = 1 << 30;

/// A source that files are fetched from.
pub(crate) trait InputSource: Send + Sync {
    /// Returns the bytes of a file, whose digest has been checked.
    ///
    /// # Errors
    /// A transient fault when the source does not answer, and a fault of the task when it has no such file.
    fn fetch(&self, input: &InputFile) -> Result<Vec<u8>, Fault>;
}

/// A source for work that needs no files.
pub(crate) struct NoInputSource;

impl InputSource for NoInputSource {
    fn fetch(&self, input: &InputFile) -> Result<Vec<u8>, Fault> {
        Err(Fault::new(
            FailureKind::Task,
            format!("the file {:?}: there is no coordinator to fetch it from", input.name),
        ))
    }
}

/// Files by digest, the one used last at the end.
pub(crate) struct InputCache {
    source: Box<dyn InputSource>,
    kept: Mutex<Vec<KeptInput>>,
}

struct KeptInput {
    digest: String,
    bytes: Arc<Vec<u8>>,
}

impl InputCache {
    /// Makes an empty cache of files from this source.
    pub(crate) fn new(source: impl InputSource + 'static) -> Self {
        Self { source: Box::new(source), kept: Mutex::default() }
    }

    /// Returns the bytes of a file. Other slots that need one wait meanwhile, so that each is fetched once.
    ///
    /// # Errors
    /// As for [`InputSource::fetch`].
    pub(crate) fn get(&self, input: &InputFile) -> Result<Arc<Vec<u8>>, Fault> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().position(|kept| kept.digest == input.digest);
        let entry = match found {
            Some(index) => kept.remove(index),
            None => KeptInput { digest: input.digest.clone(), bytes: Arc::new(self.source.fetch(input)?) },
        };
        let bytes = entry.bytes.clone();
        kept.push(entry);
        while kept.len() > 1 && total_bytes(&kept) > KEPT_BYTES {
            kept.remove(0);
        }
        Ok(bytes)
    }

    /// Returns the bytes of a file that is needed once: it is not kept, and no slot waits for another's.
    ///
    /// # Errors
    /// As for [`InputSource::fetch`].
    pub(crate) fn once(&self, input: &InputFile) -> Result<Vec<u8>, Fault> {
        self.source.fetch(input)
    }

    /// Keeps a file as if it had been fetched.
    #[cfg(test)]
    pub(crate) fn keep(&self, digest: &str, bytes: Vec<u8>) {
        let entry = KeptInput { digest: digest.to_owned(), bytes: Arc::new(bytes) };
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }
}

fn total_bytes(kept: &[KeptInput]) -> u64 {
    kept.iter().map(|kept| kept.bytes.len() as u64).sum()
}
