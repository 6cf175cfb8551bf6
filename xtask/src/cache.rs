//! The user's cache folder: wheels, a recent pip, what benchmarks install. A second clone finds them there.
//!
//! A file or folder appears under its final name whole or not at all: it is made in a folder of its own beside it and
//! renamed. Whoever changes the cache holds its lock, so what is found half-made was left by a run that died.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

const UNFINISHED: &str = "unfinished";

/// The cache, locked for this process until dropped.
pub(crate) struct Cache {
    folder: PathBuf,
    _lock: File,
}

impl Cache {
    /// Creates the folder if need be, waits for other runs to finish, and sweeps up what dead ones left.
    pub(crate) fn open() -> Result<Self> {
        let folder = folder()?;
        let context = || format!("cannot use the cache folder {}", folder.display());
        fs::create_dir_all(folder.join("wheels")).with_context(context)?;
        let lock = File::create(folder.join("lock")).with_context(context)?;
        if lock.try_lock().is_err() {
            eprintln!("waiting for another `cargo xtask` to leave the cache folder {}", folder.display());
            lock.lock().with_context(context)?;
        }
        remove_if_there(&folder.join(UNFINISHED)).with_context(context)?;
        Ok(Self { folder, _lock: lock })
    }

    /// Returns the path of something in the cache, which need not exist.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.join(name)
    }

    /// An empty folder to make something in; on the same file system as its final place.
    pub(crate) fn workshop(&self) -> Result<PathBuf> {
        let folder = self.folder.join(UNFINISHED);
        remove_if_there(&folder)?;
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(folder)
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // What is left there is of no use, and the next run sweeps it up as well.
        let _ = remove_if_there(&self.folder.join(UNFINISHED));
    }
}

/// `$NADGRID_CACHE`, else `nadgrid` in `$XDG_CACHE_HOME`, else in `~/.cache`.
pub(crate) fn folder() -> Result<PathBuf> {
    choose(|name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
}

fn choose(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf> {
    if let Some(chosen) = variable("NADGRID_CACHE") {
        return std::path::absolute(&chosen).with_context(|| format!("NADGRID_CACHE={}", chosen.display()));
    }
    // The XDG specification: a relative path there is to be ignored.
    if let Some(caches) = variable("XDG_CACHE_HOME").filter(|path| path.is_absolute()) {
        return Ok(caches.join("nadgrid"));
    }
    match variable("HOME") {
        Some(home) => Ok(home.join(".cache/nadgrid")),
        None => bail!("no place for a cache: set NADGRID_CACHE, XDG_CACHE_HOME or HOME"),
    }
}

/// Removes a file or a whole folder; that there is none is fine.
pub(crate) fn remove_if_there(path: &Path) -> std::io::Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(variables: &[(&str, &str)]) -> Option<PathBuf> {
        choose(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())).ok()
    }

    #[test]
    fn the_nearest_variable_wins() {
        let all = [("NADGRID_CACHE", "/n"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(chosen(&all), Some("/n".into()));
        assert_eq!(chosen(&all[1..]), Some("/x/nadgrid".into()));
        assert_eq!(chosen(&all[2..]), Some("/h/.cache/nadgrid".into()));
        assert_eq!(chosen(&[]), None);
    }

    #[test]
    fn a_relative_xdg_folder_is_ignored() {
        assert_eq!(chosen(&[("XDG_CACHE_HOME", "x"), ("HOME", "/h")]), Some("/h/.cache/nadgrid".into()));
    }
}
