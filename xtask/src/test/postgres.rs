//! PostgreSQL for the tests, which start servers of their own with its programs.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

const PACKAGE: &str = "postgresql";
/// Where Debian and Ubuntu keep the programs of each release.
const RELEASES: &str = "/usr/lib/postgresql";

/// Installs the package where that is possible, else says what is missing.
pub(super) fn ensure() -> Result<()> {
    if is_there() {
        return Ok(());
    }
    if !is_root() || !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "this machine lacks PostgreSQL, of which the tests start servers of their own\n\
             on Debian or Ubuntu: sudo apt-get update && sudo apt-get install --no-install-recommends {PACKAGE}"
        );
    }
    println!("== postgresql: installing Debian's package");
    apt_get(&["update"])?;
    apt_get(&["install", "-y", "--no-install-recommends", PACKAGE])?;
    ensure!(is_there(), "{PACKAGE} was installed, and {RELEASES} has no initdb");
    Ok(())
}

fn is_there() -> bool {
    let mut releases = std::fs::read_dir(RELEASES).into_iter().flatten().flatten();
    releases.any(|release| release.path().join("bin/initdb").is_file())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|answer| answer.stdout == b"0\n")
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    let status = command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").status();
    let status = status.context("cannot start apt-get")?;
    ensure!(status.success(), "apt-get {} failed; its last lines above say why", arguments.join(" "));
    Ok(())
}
