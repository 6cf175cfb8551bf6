//! `cargo xtask test`: what CI does, in one command, from a fresh clone. It stops at the first failure.
//!
//! Deliberately absent: installing formatter or lints. A machine without them skips those two steps, and says so.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::process::{cargo, step};
use crate::setup;

/// The domain core computes; whoever serves, stores or multiplies tensors is elsewhere (DESIGN.md, "The house").
const CORE: &str = "nadgrid-core";
const FORBIDDEN_IN_CORE: [&str; 4] = ["tokio", "tonic", "tch", "sqlx"];

/// Runs every check.
pub(crate) fn run(root: &Path, extra: &[String]) -> Result<ExitCode> {
    println!("== setup");
    setup::run(root, false)?;
    for (name, arguments) in [
        ("format", "fmt --all --check"),
        ("lints", "clippy --workspace --all-targets -- -D warnings"),
        ("build", "build --workspace --bins"),
    ] {
        let mut command = cargo(root);
        command.args(arguments.split(' '));
        if !has_component(root, arguments) {
            println!("== {name}: SKIPPED, this Rust has no such component (rustup component add rustfmt clippy)");
        } else if let Some(failed) = step(name, &mut command)? {
            return Ok(failed);
        }
    }
    if let Some(failed) = step("tests", cargo(root).args(["test", "--workspace"]).args(extra))? {
        return Ok(failed);
    }
    check_core(root)
}

/// Whether cargo knows the first word of these arguments.
fn has_component(root: &Path, arguments: &str) -> bool {
    let Some(tool @ ("fmt" | "clippy")) = arguments.split(' ').next() else { return true };
    let status = cargo(root).args([tool, "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn check_core(root: &Path) -> Result<ExitCode> {
    println!("== purity: what {CORE} depends on");
    let started = Instant::now();
    let mut command = cargo(root);
    command.args(["tree", "--package", CORE, "--edges", "normal", "--prefix", "none"]);
    let found = forbidden(&dependencies(&mut command)?);
    let outcome = if found.is_empty() { "done".to_owned() } else { format!("FAILED, it uses {}", found.join(", ")) };
    println!("== purity: {outcome} in {:.1} s", started.elapsed().as_secs_f64());
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn dependencies(command: &mut Command) -> Result<String> {
    let answer = command.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    ensure!(answer.status.success(), "cargo tree failed");
    Ok(String::from_utf8(answer.stdout)?)
}

/// Each line is a package's name, its version, and remarks.
fn forbidden(tree: &str) -> Vec<&'static str> {
    let named = |name: &str| tree.lines().any(|line| line.split(' ').next() == Some(name));
    FORBIDDEN_IN_CORE.into_iter().filter(|name| named(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_whole() {
        assert_eq!(forbidden("nadgrid-core v0.1.0 (/n/core)\ntokio-util v0.7\nmatch v1\n"), [""; 0]);
        assert_eq!(forbidden("nadgrid-core v0.1.0 (/n/core)\ntch v0.24.0 (*)\ntokio v1\n"), ["tokio", "tch"]);
    }
}
