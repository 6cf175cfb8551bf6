//! The search for the programs of a cluster.

use crate::cli::Failure;
use std::env;
use std::path::{Path, PathBuf};

/// May say in which folder the programs are.
pub(crate) const BIN_DIR: &str = "NADGRID_BIN_DIR";

/// The coordinator's name.
pub(crate) const COORDINATOR: &str = "nadgrid-coordinator";
/// The worker's name.
pub(crate) const WORKER: &str = "nadgrid-worker";

/// The programs of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClusterPrograms {
    pub(crate) coordinator: PathBuf,
    pub(crate) worker: PathBuf,
}

impl ClusterPrograms {
    /// Looks in the folder that `NADGRID_BIN_DIR` names and nowhere else; without it beside this program, then in PATH.
    pub(crate) fn find() -> Result<Self, Failure> {
        Self::find_in(&folders())
    }

    fn find_in(folders: &[PathBuf]) -> Result<Self, Failure> {
        Ok(Self { coordinator: find_in(COORDINATOR, folders)?, worker: find_in(WORKER, folders)? })
    }
}

/// One of the programs, by its name.
pub(crate) fn find(name: &str) -> Result<PathBuf, Failure> {
    find_in(name, &folders())
}

fn find_in(name: &str, folders: &[PathBuf]) -> Result<PathBuf, Failure> {
    let found = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| missing(name, folders))
}

fn folders() -> Vec<PathBuf> {
    if let Some(folder) = env::var_os(BIN_DIR) {
        return vec![PathBuf::from(folder)];
    }
    let beside = env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned));
    let path = env::var_os("PATH").unwrap_or_default();
    beside.into_iter().chain(env::split_paths(&path)).collect()
}

fn missing(name: &str, folders: &[PathBuf]) -> Failure {
    let place = match folders {
        [only] => format!("in {}", only.display()),
        [first, ..] => format!("in {} nor in PATH", first.display()),
        [] => "in PATH".into(),
    };
    let first = format!("the program {name} is not {place}");
    Failure::other(format!("{first}; build it with `cargo build --release`, or set {BIN_DIR} to its folder"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_first_folder_wins_and_a_missing_program_is_named() {
        let [a, b] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let folders = [a.path().to_owned(), b.path().to_owned()];
        for path in [b.path().join("nadgrid-coordinator"), a.path().join("nadgrid-worker")] {
            fs::write(path, "").unwrap();
        }
        let programs = ClusterPrograms::find_in(&folders).unwrap();
        assert_eq!(programs.coordinator, b.path().join("nadgrid-coordinator"));
        fs::write(a.path().join("nadgrid-coordinator"), "").unwrap();
        assert_eq!(ClusterPrograms::find_in(&folders).unwrap().coordinator, a.path().join("nadgrid-coordinator"));
        fs::remove_file(a.path().join("nadgrid-worker")).unwrap();
        let error = ClusterPrograms::find_in(&folders).unwrap_err().to_string();
        assert!(error.contains("nadgrid-worker") && error.contains("cargo build"), "{error}");
    }
}
