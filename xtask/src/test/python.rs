//! The tests in Python: of the package, of the page in a browser, of metrics and traces in other people's stores, of the
//! documentation's commands, and of attacks. Their packages are in an environment of their own in the cache folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::cache::{Cache, remove_if_there};
use crate::hash;
use crate::pip::Pip;
use crate::process::step_reading;

/// The package that makes the environment: unlike `venv`, it needs nothing that Debian packages apart from Python.
const VIRTUALENV: &str = "virtualenv==20.39.1";
const REQUIREMENTS: &str = "tests/requirements.txt";
/// The folders from which pytest is run, one after the other.
const SUITES: [&str; 5] = ["python", "tests/watch", "tests/page", "tests/docs", "tests/hostile"];

/// The Python of an environment that has what the tests need, made if need be.
pub(super) fn ensure(root: &Path, pip: Pip) -> Result<PathBuf> {
    let wanted = root.join(REQUIREMENTS);
    let wanted = hash::file(&wanted).with_context(|| format!("cannot read {}", wanted.display()))?.sha256;
    let cache = Cache::open()?;
    let tag = pip.python_tag()?;
    let environment = cache.path(format!("tests-{}-{tag}", &wanted[..16]));
    let python = environment.join("bin/python");
    let ready = environment.join("ready");
    if !ready.exists() {
        println!("== python: installing {REQUIREMENTS} into {}", environment.display());
        let tool = cache.path(format!("virtualenv-{tag}"));
        let pip = pip.or_recent(&cache);
        if !tool.exists() {
            pip.install(&[VIRTUALENV], &cache, &tool)?;
        }
        // What an interruption left.
        remove_if_there(&environment)?;
        run(pip.python(&tool).args(["-m", "virtualenv", "--quiet"]).arg(&environment))?;
        let mut install = Command::new(&python);
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]);
        run(install.arg("--requirement").arg(root.join(REQUIREMENTS)))?;
        fs::write(&ready, "")?;
    }
    Ok(python)
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().context("cannot start Python")?;
    ensure!(status.success(), "Python failed; its last lines above say why");
    Ok(())
}

/// Runs every suite; the code to exit with if one fails. `reader` sees each line.
pub(super) fn test(root: &Path, python: &Path, mut reader: impl FnMut(&str)) -> Result<Option<ExitCode>> {
    for suite in SUITES {
        let mut command = Command::new(python);
        command.args(["-m", "pytest", "-q"]).current_dir(root.join(suite));
        command.env("NADGRID_REQUIRE_SERVERS", "1").env("NADGRID_BIN_DIR", root.join("target/debug"));
        if let Some(failed) = step_reading(suite, &mut command, &mut reader)? {
            return Ok(Some(failed));
        }
    }
    Ok(None)
}
