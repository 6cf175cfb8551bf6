//! Servers and a browser for the tests, from Debian's packages: the tests start their own with these programs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The folder where Debian and Ubuntu keep the programs of each release of PostgreSQL.
const POSTGRESQL: &str = "/usr/lib/postgresql";

/// A package, and what tells that it is there.
struct Package {
    name: &'static str,
    what: &'static str,
    is_there: fn() -> bool,
}

const PACKAGES: [Package; 5] = [
    Package { name: "postgresql", what: "PostgreSQL, a database", is_there: postgresql },
    Package { name: "prometheus", what: "Prometheus and promtool", is_there: || in_path("promtool") },
    Package { name: "chromium", what: "Chromium, a browser", is_there: || in_path("chromium") },
    // The guide's commands use these.
    Package { name: "jq", what: "jq", is_there: || in_path("jq") },
    Package { name: "openssl", what: "openssl", is_there: || in_path("openssl") },
];

/// Installs what is missing where that is possible, else says what it is.
pub(super) fn ensure() -> Result<()> {
    let missing: Vec<&Package> = PACKAGES.iter().filter(|package| !(package.is_there)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    let what: Vec<&str> = missing.iter().map(|package| package.what).collect();
    if !is_root() || !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "this machine lacks what the tests start for themselves: {}\n\
             on Debian or Ubuntu: sudo apt-get update && sudo apt-get install --no-install-recommends {}",
            what.join("; "),
            names.join(" ")
        );
    }
    println!("== packages: installing Debian's {}", names.join(", "));
    apt_get(&["update"])?;
    apt_get(&[&["install", "-y", "--no-install-recommends"], &names[..]].concat())?;
    for package in missing {
        ensure!((package.is_there)(), "{} was installed, and {} is not found", package.name, package.what);
    }
    Ok(())
}

fn postgresql() -> bool {
    let mut releases = std::fs::read_dir(POSTGRESQL).into_iter().flatten().flatten();
    releases.any(|release| release.path().join("bin/initdb").is_file())
}

fn in_path(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder: PathBuf| folder.join(program).is_file())
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
