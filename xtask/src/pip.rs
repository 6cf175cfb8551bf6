//! The user's pip, with the user's settings: which packages come from where is theirs to say.
//!
//! A large wheel over a weak line wants `--resume-retries` (pip 25.1); an older pip is asked to fetch a recent one, into
//! the cache folder and nowhere else. Deliberately absent: index addresses, and installing anything into the user's Python.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::cache::{Cache, remove_if_there};
use crate::wheels::Wheel;

/// The first release that resumes a broken download.
const RESUMES: (u32, u32) = (25, 1);
/// The release that is fetched where pip is older. It runs on Python 3.9 and later.
const RECENT: &str = "25.3";

/// The tags of the pinned wheels, whatever Python the user has. Older pips do not know that a newer manylinux includes
/// the older ones, so each is named.
const PLATFORMS: [&str; 4] =
    ["manylinux_2_28_x86_64", "manylinux_2_25_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"];

/// A pip that answers.
#[derive(Debug, Clone)]
pub(crate) struct Pip {
    python: PathBuf,
    /// The folder of a pip that is not the Python's own.
    folder: Option<PathBuf>,
    version: (u32, u32),
}

impl Pip {
    /// The first Python here that has pip. The system's is asked too: a virtual environment may be without.
    pub(crate) fn find() -> Option<Self> {
        ["python3", "/usr/bin/python3", "/usr/local/bin/python3"]
            .iter()
            .find_map(|python| Self::probe(python.into(), None))
    }

    fn probe(python: PathBuf, folder: Option<PathBuf>) -> Option<Self> {
        let mut pip = Self { python, folder, version: (0, 0) };
        let answer = pip.command().arg("--version").stderr(Stdio::null()).output().ok()?;
        pip.version = parse_version(&String::from_utf8_lossy(&answer.stdout))?;
        answer.status.success().then_some(pip)
    }

    /// This pip, or a recent one in the cache if this one cannot resume downloads and a recent one can be had.
    pub(crate) fn or_recent(self, cache: &Cache) -> Self {
        if self.version >= RESUMES {
            return self;
        }
        let folder = cache.path(format!("pip-{RECENT}"));
        // Where the folder is missing, the Python's own pip answers.
        let recent = || Self::probe(self.python.clone(), Some(folder.clone())).filter(|pip| pip.version >= RESUMES);
        if let Some(recent) = recent() {
            return recent;
        }
        eprintln!(
            "pip {}.{} cannot resume a broken download: getting pip {RECENT} into {}",
            self.version.0,
            self.version.1,
            folder.display()
        );
        let installed = self.install(&[&format!("pip=={RECENT}")], cache, &folder);
        match installed.map(|()| recent()) {
            Ok(Some(recent)) => recent,
            Ok(None) => self.insist("it does not start"),
            Err(error) => self.insist(&format!("{error:#}")),
        }
    }

    fn insist(self, why: &str) -> Self {
        eprintln!(
            "going on with pip {}.{}, which starts a broken download again ({why})",
            self.version.0, self.version.1
        );
        self
    }

    /// Installs packages into a folder of their own, which appears whole or not at all.
    pub(crate) fn install(&self, packages: &[&str], cache: &Cache, folder: &Path) -> Result<()> {
        let workshop = cache.workshop()?;
        let made = workshop.join("installed");
        let mut command = self.command();
        command.args(["install", "--only-binary", ":all:", "--target"]).arg(&made).args(packages);
        self.carry_out(command, &workshop).with_context(|| format!("could not install {}", packages.join(", ")))?;
        remove_if_there(folder)?;
        fs::rename(&made, folder).with_context(|| format!("cannot create {}", folder.display()))
    }

    /// Downloads one wheel, exactly the pinned file, to `destination`, which appears whole or not at all.
    pub(crate) fn download(&self, wheel: &Wheel, cache: &Cache, destination: &Path) -> Result<()> {
        let Wheel { package, version, sha256, file_name, .. } = wheel;
        let workshop = cache.workshop()?;
        // The hash makes pip choose this very file, should the index offer several builds of the version.
        let pinned = workshop.join("requirements.txt");
        fs::write(&pinned, format!("{package}=={version} --hash=sha256:{sha256}\n"))?;
        let mut command = self.command();
        command.args(["download", "--no-deps", "--only-binary", ":all:", "--python-version", "3.11"]);
        command.args(["--implementation", "cp", "--abi", "cp311"]);
        command.args(PLATFORMS.iter().flat_map(|platform| ["--platform", platform]));
        // It is kept here already: a second copy in pip's cache would be half a gigabyte.
        command.arg("--no-cache-dir").arg("--dest").arg(&workshop).arg("--requirement").arg(&pinned);
        self.carry_out(command, &workshop).with_context(|| format!("could not download {package} {version}"))?;
        let downloaded = workshop.join(file_name);
        fs::rename(&downloaded, destination).with_context(|| format!("pip did not leave {}", downloaded.display()))
    }

    /// Runs a download, again where a broken connection would otherwise end it.
    fn carry_out(&self, mut command: Command, workshop: &Path) -> Result<()> {
        // pip downloads to its temporary folder first: /tmp may be small, and nobody would sweep up there.
        let temporary = workshop.join("temporary");
        fs::create_dir_all(&temporary)?;
        command.env("TMPDIR", &temporary);
        let resumes = self.version >= RESUMES;
        if resumes {
            command.args(["--resume-retries", "20"]);
        }
        for _ in 0..if resumes { 1 } else { 3 } {
            let status = command.status().with_context(|| format!("cannot start {}", self.python.display()))?;
            if status.success() {
                return Ok(());
            }
        }
        bail!("pip failed; its last lines above say why")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.python);
        // Two settings that make sense for a person's own installs would forbid `--target` and `download`.
        command.args(["-m", "pip"]).env("PIP_USER", "0").env("PIP_REQUIRE_VIRTUALENV", "0");
        command.env("PIP_DISABLE_PIP_VERSION_CHECK", "1").env("PIP_ROOT_USER_ACTION", "ignore").stdin(Stdio::null());
        if let Some(folder) = &self.folder {
            command.env("PYTHONPATH", python_path(folder));
        }
        command
    }

    /// A command that runs this pip's Python with a folder of packages.
    pub(crate) fn python(&self, packages: &Path) -> Command {
        let mut command = Command::new(&self.python);
        command.env("PYTHONPATH", python_path(packages));
        command
    }

    /// Returns the tag of binary packages for this Python, such as `cpython-311`.
    pub(crate) fn python_tag(&self) -> Result<String> {
        let ask = "import sys; print(sys.implementation.cache_tag)";
        let answer = Command::new(&self.python).args(["-c", ask]).output()?;
        ensure!(answer.status.success(), "{} does not say its version", self.python.display());
        Ok(String::from_utf8_lossy(&answer.stdout).trim().to_owned())
    }
}

/// `PYTHONPATH` with a folder before what the user has in it.
fn python_path(folder: &Path) -> OsString {
    let users = env::var_os("PYTHONPATH").unwrap_or_default();
    let folders =
        [folder.to_path_buf()].into_iter().chain(env::split_paths(&users).filter(|path| path != Path::new("")));
    env::join_paths(folders).unwrap_or_else(|_| folder.into())
}

/// From `pip 25.3 from /usr/lib/... (python 3.11)`.
fn parse_version(answer: &str) -> Option<(u32, u32)> {
    let mut numbers = answer.strip_prefix("pip ")?.split([' ', '.']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        assert_eq!(parse_version("pip 23.2.1 from /usr/lib (python 3.11)\n"), Some((23, 2)));
        assert_eq!(parse_version("pip 26.0 from /usr/lib (python 3.11)\n"), Some((26, 0)));
        assert_eq!(parse_version("No module named pip"), None);
        assert!(parse_version("pip 9.0.3 from x") < Some(RESUMES));
    }
}
