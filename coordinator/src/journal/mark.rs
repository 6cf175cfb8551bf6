//! A small file beside a SQLite journal that has the number of the last durable batch.
//!
//! It is written after each batch, without waiting for the disk. So it never names a batch that the journal does not have;
//! after a killed process it names the last one, and after a power failure that of some seconds before. A journal that ends
//! before its mark has lost acknowledged batches: the last transaction of its log was damaged, or its files were replaced.
//! Deliberately absent: waiting for the mark. A disk that hangs delays the journal, but not because of its mark.

use nadgrid_core::ids::Digest;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use tracing::{debug, warn};

/// The number of digits, which gives all marks the same length.
const DIGITS: usize = 19;
/// The number of characters of the digest, which detects damage.
const CHECK: usize = 16;

/// The path of a journal's mark.
pub(super) fn path(journal: &Path) -> PathBuf {
    beside(journal, "-mark")
}

/// The path of a file beside a journal.
pub(super) fn beside(journal: &Path, ending: &str) -> PathBuf {
    let mut path = OsString::from(journal);
    path.push(ending);
    path.into()
}

/// Reads the mark; `None` if there is none, or it is damaged.
pub(super) fn read(path: &Path) -> io::Result<Option<i64>> {
    let text = match std::fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let number: Option<i64> = text.split(' ').next().and_then(|number| number.parse().ok());
    let number = number.filter(|&number| line(number) == text);
    if number.is_none() {
        warn!(mark = %path.display(), "the journal's mark is damaged: it is written anew from the journal");
    }
    Ok(number)
}

fn line(number: i64) -> String {
    let number = format!("{number:0DIGITS$}");
    let digest = Digest::of(number.as_bytes()).to_string();
    format!("{number} {}\n", &digest[..CHECK])
}

/// A mark that can be moved. A thread writes it.
#[derive(Debug)]
pub(super) struct Mark(Sender<i64>);

impl Mark {
    /// Creates the mark at `last`, or moves an existing one there.
    pub(super) fn start(path: &Path, last: i64) -> io::Result<Self> {
        // The file is overwritten and never shortened, so it needs space on the disk only once.
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let (sender, numbers) = channel();
        file.set_len(line(last).len() as u64)?;
        file.write_all_at(line(last).as_bytes(), 0)?;
        std::thread::Builder::new().name("journal-mark".to_owned()).spawn(move || write(&file, &numbers))?;
        Ok(Self(sender))
    }

    /// Moves the mark: the batches up to `last` are durable.
    pub(super) fn set(&self, last: i64) {
        // If the thread is gone the mark stays behind, which is harmless.
        let _ = self.0.send(last);
    }
}

fn write(file: &File, numbers: &Receiver<i64>) {
    while let Ok(number) = numbers.recv() {
        let last = numbers.try_iter().last().unwrap_or(number);
        if let Err(error) = file.write_all_at(line(last).as_bytes(), 0) {
            debug!(%error, "the journal's mark was not moved");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_set_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(&folder.path().join("journal.sqlite"));
        assert!(path.ends_with("journal.sqlite-mark") && read(&path).unwrap().is_none());
        for last in [7, 0, i64::MAX] {
            drop(Mark::start(&path, last).unwrap());
            assert_eq!(read(&path).unwrap(), Some(last));
        }
        let whole = std::fs::read(&path).unwrap();
        for bit in 0..8 * whole.len() {
            let mut changed = whole.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, changed).unwrap();
            assert_eq!(read(&path).unwrap(), None, "bit {bit}");
        }
        std::fs::write(&path, &whole[..5]).unwrap();
        assert_eq!(read(&path).unwrap(), None);
    }

    #[test]
    fn a_mark_is_moved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mark");
        let mark = Mark::start(&path, 1).unwrap();
        (2..=1_000).for_each(|last| mark.set(last));
        while read(&path).unwrap() != Some(1_000) {
            std::thread::yield_now();
        }
    }
}
