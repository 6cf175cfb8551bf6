//! The folder in which a cluster of one machine keeps its state and its logs; it goes unless it shall stay.

use crate::cli::{Failure, output};
use nadgrid_client::Error;
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

/// A temporary folder.
#[derive(Debug)]
pub(crate) struct KeptState(TempDir);

impl KeptState {
    /// Makes one; `keep` lets it stay.
    pub(crate) fn new(keep: bool) -> Result<Self, Failure> {
        let place = std::env::temp_dir();
        let mut builder = tempfile::Builder::new();
        let folder = builder.prefix("nadgrid-run-").disable_cleanup(keep).tempdir_in(&place);
        let folder = folder.map_err(Error::io(&place, "create the state folder in it"))?;
        if keep {
            output::note(&format!("state and logs are kept in {}", folder.path().display()));
        }
        let state = Self(folder);
        fs::create_dir(state.logs()).map_err(Error::io(&state.logs(), "create the folder"))?;
        Ok(state)
    }

    /// The coordinator's journal and artifacts.
    pub(crate) fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    /// One file per program.
    pub(crate) fn logs(&self) -> PathBuf {
        self.0.path().join("logs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_goes_unless_it_shall_stay() {
        let gone = KeptState::new(false).unwrap();
        let logs = gone.logs();
        assert!(logs.is_dir());
        drop(gone);
        assert!(!logs.exists());
        let kept = KeptState::new(true).unwrap();
        let folder = kept.0.path().to_owned();
        let logs = kept.logs();
        drop(kept);
        assert!(logs.is_dir());
        fs::remove_dir_all(folder).unwrap();
    }
}
