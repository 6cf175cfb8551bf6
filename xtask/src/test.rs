//! `cargo xtask test`: what CI does, in one command, from a fresh clone. It stops at the first failure.
//!
//! The tests start servers of their own: PostgreSQL, Prometheus and a browser, which root has installed here from
//! Debian's packages, and moto, which speaks S3 and comes into the cache folder through pip, as does what the tests in
//! Python need. The CUDA path runs on a card that computes nothing, where the cache has libtorch's wheel. Deliberately
//! absent: installing formatter or lints. A machine without them skips those two steps, and says so.

mod debian;
pub(crate) mod moto;
mod python;

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::process::{cargo, released, step, step_reading};
use crate::{gpu_dry_run, prerequisites, setup};

/// The domain core computes; whoever serves, stores or multiplies tensors is elsewhere (DESIGN.md, "The house").
const CORE: &str = "nadgrid-core";
const FORBIDDEN_IN_CORE: [&str; 4] = ["tokio", "tonic", "tch", "sqlx"];

/// Runs every check.
pub(crate) fn run(root: &Path, extra: &[String]) -> Result<ExitCode> {
    println!("== setup");
    setup::run(root, false)?;
    debian::ensure()?;
    let pip = prerequisites::check(root)?;
    let moto = moto::ensure(pip.clone())?;
    let python = python::ensure(root, pip)?;
    for (name, arguments) in [
        ("format", "fmt --all --check"),
        ("lints", "clippy --workspace --all-targets -- -D warnings"),
        // With the tests, whose dependencies widen features of others: programs and tests are to share one build.
        ("build", "build --workspace --bins --tests"),
    ] {
        let mut command = cargo(root);
        command.args(arguments.split(' '));
        if !has_component(root, arguments) {
            println!("== {name}: SKIPPED, this Rust has no such component (rustup component add rustfmt clippy)");
        } else if let Some(failed) = step(name, &mut command)? {
            return Ok(failed);
        }
    }
    let mut counted = Counted::default();
    let mut tests = cargo(root);
    tests.args(["test", "--workspace"]).args(extra).env(moto::VARIABLE, &moto);
    if let Some(failed) = step_reading("tests", &mut tests, |line| counted.take(line))? {
        return Ok(failed);
    }
    if extra.is_empty()
        && let Some(failed) = python::test(root, &python, |line| counted.take(line))?
    {
        return Ok(failed);
    }
    if extra.is_empty() {
        let dry = gpu_dry_run::test(root, released("")?.with_file_name("debug"))?;
        counted.passed += dry.passed;
        counted.failed += dry.failed;
        if dry.failed > 0 {
            return Ok(ExitCode::FAILURE);
        }
    }
    let checked = check_core(root)?;
    println!("{} passed, {} failed", counted.passed, counted.failed);
    Ok(checked)
}

/// Tests of all programs together: each closes with a line of its own, the last perhaps of no test at all.
#[derive(Debug, Default, PartialEq)]
struct Counted {
    passed: u64,
    failed: u64,
}

impl Counted {
    /// Takes in a closing line: cargo's `test result: ok. 34 passed; ...`, or pytest's `34 passed, 1 skipped in 5.2s`.
    fn take(&mut self, line: &str) {
        let pytest = line.ends_with('s') && line.contains(" in ") && line.starts_with(|c: char| c.is_ascii_digit());
        let counts = line.strip_prefix("test result: ").or(Some(line).filter(|_| pytest));
        let Some(counts) = counts else { return };
        let of = |what: &str| {
            let words: Vec<&str> = counts.split([' ', ';', '.', ',']).filter(|word| !word.is_empty()).collect();
            let place = words.iter().position(|word| *word == what)?;
            words.get(place.checked_sub(1)?)?.parse::<u64>().ok()
        };
        self.passed += of("passed").unwrap_or(0);
        self.failed += of("failed").unwrap_or(0);
    }
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
    fn closing_lines_are_added_up() {
        let mut counted = Counted::default();
        counted.take("test result: ok. 34 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.59s");
        counted.take("test spec::tests::the_demo_is_accepted ... ok");
        counted
            .take("test result: FAILED. 8 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.54s");
        assert_eq!(counted, Counted { passed: 42, failed: 1 });
        counted.take("89 passed, 1 skipped in 45.20s");
        counted.take("2 failed, 3 passed in 5.01s");
        counted.take("7 shards in flight, all passed");
        assert_eq!(counted, Counted { passed: 134, failed: 3 });
    }

    #[test]
    fn names_are_compared_whole() {
        assert_eq!(forbidden("nadgrid-core v0.1.0 (/n/core)\ntokio-util v0.7\nmatch v1\n"), [""; 0]);
        assert_eq!(forbidden("nadgrid-core v0.1.0 (/n/core)\ntch v0.24.0 (*)\ntokio v1\n"), ["tokio", "tch"]);
    }
}
