//! A small file beside a SQLite journal that says up to which batch the journal was durable.
//!
//! It is written after each batch, without waiting for the disk: so it never promises more than the journal has, and after a
//! killed process it promises all of it, after a power failure what it did some seconds before. A journal that ends sooner has
//! lost what was acknowledged: the last transaction of its log was damaged, or its files are not those that were there.
//! Deliberately absent: waiting for it. A disk that hangs holds up the journal, not its mark.

use nadgrid_core::ids::Digest;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use tracing::{debug, warn};

/// Digits of the number, which make all marks of one length.
const DIGITS: usize = 19;
/// Characters of its digest, against damage.
const CHECK: usize = 16;

/// Where the mark of a journal is.
pub(super) fn path(journal: &Path) -> PathBuf {
    beside(journal, "-mark")
}

/// A file beside a journal.
pub(super) fn beside(journal: &Path, ending: &str) -> PathBuf {
    let mut path = OsString::from(journal);
    path.push(ending);
    path.into()
}

/// The number that was marked, if one was. A mark that is damaged promises nothing.
pub(super) fn read(path: &Path) -> io::Result<Option<i64>> {
    let text = match std::fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let number: Option<i64> = text.split(' ').next().and_then(|number| number.parse().ok());
    let number = number.filter(|&number| line(number) == text);
    if number.is_none() {
        warn!(mark = %path.display(), "the journal's mark is damaged: it is made anew, from what the journal has");
    }
    Ok(number)
}

fn line(number: i64) -> String {
    let number = format!("{number:0DIGITS$}");
    let digest = Digest::of(number.as_bytes()).to_string();
    format!("{number} {}\n", &digest[..CHECK])
}

/// A mark that can be moved. A thread of its own writes it.
#[derive(Debug)]
pub(super) struct Mark(Sender<i64>);

impl Mark {
    /// Makes the mark, or moves the one that is there, to `last`.
    pub(super) fn start(path: &Path, last: i64) -> io::Result<Self> {
        // It is written over, never made shorter: it takes room once.
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let (sender, numbers) = channel();
        file.set_len(line(last).len() as u64)?;
        file.write_all_at(line(last).as_bytes(), 0)?;
        std::thread::Builder::new().name("journal-mark".to_owned()).spawn(move || write(&file, &numbers))?;
        Ok(Self(sender))
    }

    /// Up to here everything is durable.
    pub(super) fn set(&self, last: i64) {
        // Without its thread there is no mark: the journal is what counts.
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
