//! The prerequisites of setup and a build on the machine, checked before anything is downloaded, and reported in words
//! all at once.
//!
//! Deliberately absent: installing anything, and macOS, Windows or 64-bit ARM, for which no wheels are pinned.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::cache;
use crate::pip::Pip;

/// Wheels, `.libtorch` and a debug build.
const NEEDED_BYTES: u64 = 3_000_000_000;
/// The wheels are built for this C library and later ones.
const GLIBC: (u32, u32) = (2, 28);

/// Something that is not there.
struct Missing {
    what: String,
    /// The Debian packages that would bring it.
    debian: &'static [&'static str],
}

/// Finds pip, and fails with everything that is missing.
pub(crate) fn check(root: &Path) -> Result<Pip> {
    let mut missing = Vec::new();
    let mut miss = |what: &str, debian| missing.push(Missing { what: what.to_owned(), debian });

    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        miss("Linux on x86_64: libtorch is pinned for it alone", &[]);
    } else if let Err(found) = glibc() {
        miss(&format!("the GNU C library 2.28 or later (found: {found})"), &[]);
    }
    if !compiles(&compiler("CXX", "c++"), &["-x", "c++", "-std=c++17"], "#include <string>\n") {
        miss("a C++17 compiler with its headers, as `c++` or in the variable CXX", &["g++"]);
    }
    if !compiles(&compiler("CC", "cc"), &["-x", "c"], "#include <stdio.h>\n") {
        miss("a C compiler, as `cc` or in the variable CC", &["gcc"]);
    }
    let pip = Pip::find();
    if !answers("python3") {
        miss("Python 3.9 or later, as `python3`: its pip fetches libtorch", &["python3", "python3-pip"]);
    } else if pip.is_none() {
        miss("pip for Python 3: `python3 -m pip` does not answer", &["python3-pip"]);
    }
    for (place, free) in disks(root) {
        if free < NEEDED_BYTES {
            let free = free as f64 / 1e9;
            let needed = NEEDED_BYTES as f64 / 1e9;
            miss(&format!("disk space: {} has {free:.1} GB free, {needed:.0} GB are needed", place.display()), &[]);
        }
    }
    match pip {
        Some(pip) if missing.is_empty() => Ok(pip),
        _ => bail!("{}", in_words(&missing)),
    }
}

fn in_words(missing: &[Missing]) -> String {
    let mut words = "this machine lacks:".to_owned();
    for Missing { what, .. } in missing {
        words.push_str(&format!("\n  - {what}"));
    }
    let packages: Vec<_> = missing.iter().flat_map(|missing| missing.debian).copied().collect();
    if !packages.is_empty() {
        words.push_str(&format!(
            "\non Debian or Ubuntu: sudo apt-get update && sudo apt-get install {}",
            packages.join(" ")
        ));
    }
    words
}

/// The compiler that the `cc` crate would take.
pub(crate) fn compiler(variable: &str, usual: &str) -> String {
    std::env::var(variable).ok().filter(|chosen| !chosen.trim().is_empty()).unwrap_or_else(|| usual.to_owned())
}

/// A command from a compiler's name, which may hold arguments (`ccache g++`).
pub(crate) fn compiler_command(compiler: &str) -> Command {
    let mut words = compiler.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or("cc"));
    command.args(words);
    command
}

fn compiles(compiler: &str, options: &[&str], source: &str) -> bool {
    let mut command = compiler_command(compiler);
    command.args(options).args(["-fsyntax-only", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return false };
    // Dropping the pipe ends the source. A compiler that stopped reading has failed, which `wait` tells.
    drop(child.stdin.take().map(|mut pipe| pipe.write_all(source.as_bytes())));
    child.wait().is_ok_and(|status| status.success())
}

fn answers(program: &str) -> bool {
    let status = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Fails with what was found instead, in words.
fn glibc() -> Result<(), String> {
    let found = Command::new("getconf").arg("GNU_LIBC_VERSION").output().map_err(|_| "another C library".to_owned())?;
    let found = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    match parse_glibc(&found) {
        Some(version) if version >= GLIBC => Ok(()),
        Some(_) => Err(found),
        None => Err("another C library".to_owned()),
    }
}

/// Parses `glibc 2.36`.
fn parse_glibc(answer: &str) -> Option<(u32, u32)> {
    let (major, minor) = answer.strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}

/// Free bytes where the working tree and the cache lie; one entry for each file system that answers.
fn disks(root: &Path) -> Vec<(PathBuf, u64)> {
    let mut devices = Vec::new();
    let mut disks = Vec::new();
    for place in [Some(root.to_path_buf()), cache::folder().ok()].into_iter().flatten() {
        let Some(there) = place.ancestors().find(|path| path.exists()) else { continue };
        let Ok(answer) = Command::new("df").arg("-Pk").arg(there).output() else { continue };
        let Some((device, free)) = parse_df(&String::from_utf8_lossy(&answer.stdout)) else { continue };
        if !devices.contains(&device) {
            devices.push(device);
            disks.push((place, free));
        }
    }
    disks
}

/// Mount point and free bytes from the POSIX format, whose last line is
/// `/dev/vda 263174212 11922152 82478456 13% /`.
fn parse_df(answer: &str) -> Option<(String, u64)> {
    let words: Vec<_> = answer.lines().nth(1)?.split_whitespace().collect();
    let percent = words.iter().rposition(|word| word.ends_with('%'))?;
    let free: u64 = words.get(percent.checked_sub(1)?)?.parse().ok()?;
    Some((words.get(percent + 1..)?.join(" "), free * 1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_df() {
        let answer = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/vda 100 80 20 80% /a b\n";
        assert_eq!(parse_df(answer), Some(("/a b".to_owned(), 20 * 1024)));
        assert_eq!(parse_df("df: no such file"), None);
    }

    #[test]
    fn reads_glibc() {
        assert_eq!(parse_glibc("glibc 2.36"), Some((2, 36)));
        assert_eq!(parse_glibc(""), None);
    }

    #[test]
    fn says_everything_that_is_missing_at_once() {
        let missing = [
            Missing { what: "a compiler".to_owned(), debian: &["g++"] },
            Missing { what: "disk space".to_owned(), debian: &[] },
            Missing { what: "pip".to_owned(), debian: &["python3-pip"] },
        ];
        let words = in_words(&missing);
        assert!(words.contains("a compiler") && words.contains("disk space"), "{words}");
        assert!(words.ends_with("apt-get install g++ python3-pip"), "{words}");
    }
}
