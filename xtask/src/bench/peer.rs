//! The peer: PyTorch for the user's Python, installed once into the cache folder, and the programs of `xtask/bench`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::bench::turns::{self, TurnMeasurement};
use crate::cache::Cache;
use crate::hash::{self, Condition};
use crate::pip::Pip;
use crate::wheels::{TORCH, WHEELS};

/// A Python with PyTorch.
pub(super) struct PythonPeer {
    pip: Pip,
    /// The folder of packages.
    packages: PathBuf,
}

impl PythonPeer {
    /// Finds PyTorch in the cache, or puts it there.
    pub(super) fn install(pip: Pip) -> Result<Self> {
        let cache = Cache::open()?;
        let packages = cache.path(format!("pytorch-{TORCH}-{}", pip.python_tag()?));
        if !packages.exists() {
            println!("installing PyTorch {TORCH} and all it depends on into {}:", packages.display());
            println!("a download of about 3 GB, and 5 GB of disk; delete the folder when you are done with benchmarks");
            pip.clone().or_recent(&cache).install(&[&pytorch(&pip, &cache)?, "numpy"], &cache, &packages)?;
        }
        Ok(Self { pip, packages })
    }

    /// One measurement by a program of `xtask/bench`, on so many threads.
    pub(super) fn measure(&self, root: &Path, program: &str, what: &[&str], slots: u32) -> Result<TurnMeasurement> {
        let mut python = self.pip.python(&self.packages);
        python.arg(root.join("xtask/bench").join(program).with_extension("py"));
        turns::measure(python.args(what).args(["--threads", &slots.to_string()]))
    }
}

/// PyTorch for this Python, as pip wants it said: the wheel that setup keeps, where it fits and is sound.
fn pytorch(pip: &Pip, cache: &Cache) -> Result<String> {
    let kept =
        WHEELS.iter().find(|wheel| wheel.package == "torch" && pip.python_tag().is_ok_and(|tag| tag == "cpython-311"));
    if let Some(wheel) = kept {
        let path = cache.path("wheels").join(wheel.file_name);
        if hash::inspect(&path, wheel.size, wheel.sha256)? == Condition::Sound {
            return Ok(path.to_str().context("the cache folder's name is not UTF-8")?.to_owned());
        }
    }
    Ok(format!("torch=={TORCH}"))
}
