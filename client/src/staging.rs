//! A result folder is filled all at once or not at all.
//!
//! Files are written into a hidden folder inside the target, so that the moves at the end stay on one file system.
//! [`Staging::publish`] takes away the files of an earlier sweep, moves the new ones in, and the sweep's record last:
//! a folder that holds `sweep.json` is whole. When a move fails, those before it are undone. However a staging ends,
//! its hidden folder goes, and with it every folder it had to make and left empty. Nothing is written or taken away through a
//! symbolic link below the target. Absent: any lock; two fetches into one folder at the same time may each win a part.

use crate::error::Error;
use crate::paths::{HIDDEN, ensure_plain, refuse_links};
use crate::record::{RECORD_FILE, recorded_files};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Files on their way into a folder.
#[derive(Debug)]
pub struct Staging {
    target: PathBuf,
    // Always there until the drop, which must remove it before the folders around it.
    folder: Option<TempDir>,
    replaced: PathBuf,
    names: BTreeSet<String>,
    made: Vec<PathBuf>,
}

impl Staging {
    /// Begins to fill `target`, which is made when it is not there. Fails at once when it cannot be written.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn new(target: &Path) -> Result<Self, Error> {
        let mut staging = Self {
            target: target.to_owned(),
            folder: None,
            replaced: PathBuf::new(),
            names: BTreeSet::new(),
            made: Vec::new(),
        };
        make_folders(target, &mut staging.made)?;
        let folder =
            tempfile::Builder::new().prefix(HIDDEN).tempdir_in(target).map_err(Error::io(target, "write into it"))?;
        staging.replaced = folder.path().join(".replaced");
        staging.folder = Some(folder);
        Ok(staging)
    }

    /// Checks that `target` can be filled, and leaves everything as it was.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn probe(target: &Path) -> Result<(), Error> {
        let mut staging = Self::new(target)?;
        staging.write("probe", b"can a file be written here?")
    }

    /// Writes one file, for example `nads/lenet/nads.npy`.
    ///
    /// # Errors
    /// [`Error::Io`], for a folder of the target that is a symbolic link too; [`Error::Contract`] for a name that leads out of the
    /// folder.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        ensure_plain(name)?;
        refuse_links(&self.target, name)?;
        let path = self.staged(name);
        // The user knows the place where the file will be, not the hidden one.
        let shown = self.target.join(name);
        let parent = path.parent().unwrap_or(&path);
        fs::create_dir_all(parent).map_err(Error::io(&shown, "write"))?;
        let written = File::create(&path).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
        written.map_err(Error::io(&shown, "write"))?;
        self.names.insert(name.to_owned());
        Ok(())
    }

    /// Moves everything into place.
    ///
    /// # Errors
    /// [`Error::Io`]; the target is then as it was before.
    pub fn publish(mut self) -> Result<(), Error> {
        let mut earlier: BTreeSet<String> = recorded_files(&self.target.join(RECORD_FILE));
        earlier.extend(self.names.iter().cloned());
        // A record is a file that anybody may have written.
        earlier.iter().try_for_each(|name| refuse_links(&self.target, name))?;
        let mut moves = Moves::default();
        match self.move_all(&earlier, &mut moves) {
            Ok(()) => {
                self.made.clear();
                self.sweep_empty_folders(&earlier);
                Ok(())
            }
            Err(error) => {
                moves.undo();
                Err(error)
            }
        }
    }

    fn move_all(&mut self, earlier: &BTreeSet<String>, moves: &mut Moves) -> Result<(), Error> {
        for name in record_first(earlier) {
            let old = self.target.join(name);
            if old.is_file() {
                moves.rename(&old, &self.replaced.join(name), &old)?;
            }
        }
        let names = self.names.clone();
        for name in record_first(&names).rev() {
            let new = self.target.join(name);
            make_folders(new.parent().unwrap_or(&new), &mut self.made)?;
            moves.rename(&self.staged(name), &new, &new)?;
        }
        Ok(())
    }

    /// Removes folders of the earlier sweep in which nothing is left.
    fn sweep_empty_folders(&self, earlier: &BTreeSet<String>) {
        for name in earlier.difference(&self.names) {
            for parent in Path::new(name).ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
                let _ = fs::remove_dir(self.target.join(parent));
            }
        }
    }

    fn staged(&self, name: &str) -> PathBuf {
        self.hidden().join(name)
    }

    /// The folder of files until they are moved into place.
    pub(crate) fn hidden(&self) -> &Path {
        self.folder.as_ref().map_or(self.target.as_path(), TempDir::path)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        drop(self.folder.take());
        for folder in self.made.iter().rev() {
            // A folder that is not empty stays: someone else uses it.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// The record before all others: it is the first to go and, in reverse, the last to come.
fn record_first(names: &BTreeSet<String>) -> impl DoubleEndedIterator<Item = &String> {
    let record = names.get(RECORD_FILE);
    record.into_iter().chain(names.iter().filter(|name| *name != RECORD_FILE))
}

/// Makes a folder and those above it, and notes which were not there.
fn make_folders(folder: &Path, made: &mut Vec<PathBuf>) -> Result<(), Error> {
    let above = folder.ancestors().filter(|path| !path.as_os_str().is_empty());
    let missing: Vec<&Path> = above.take_while(|path| !path.exists()).collect();
    for path in missing.into_iter().rev() {
        fs::create_dir(path).map_err(Error::io(path, "create the folder"))?;
        made.push(path.to_owned());
    }
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    Err(Error::io(folder, "write into it")(std::io::ErrorKind::NotADirectory.into()))
}

/// Renames that can be undone.
#[derive(Default)]
struct Moves(Vec<(PathBuf, PathBuf)>);

impl Moves {
    fn rename(&mut self, from: &Path, to: &Path, shown: &Path) -> Result<(), Error> {
        let parent = to.parent().unwrap_or(to);
        let moved = fs::create_dir_all(parent).and_then(|()| fs::rename(from, to));
        moved.map_err(Error::io(shown, "move into place"))?;
        self.0.push((from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn undo(self) {
        for (from, to) in self.0.into_iter().rev() {
            let _ = fs::rename(to, from);
        }
    }
}

#[cfg(test)]
mod tests;
