//! Child processes: cargo as the user has it, programs just built, exit codes passed on.

use std::env;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

/// The programs of a cluster, by package.
const PROGRAMS: [&str; 3] = ["nadgrid-coordinator", "nadgrid-worker", "nadgrid-client"];

/// The cargo that runs this, in the repository.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// Builds the cluster's programs as users run them; the code to exit with if that fails.
pub(crate) fn build_release(root: &Path) -> Result<Option<ExitCode>> {
    let mut command = cargo(root);
    command.args(["build", "--release", "--bins"]);
    command.args(PROGRAMS.iter().flat_map(|package| ["--package", package]));
    step("build", &mut command)
}

/// The programs of `tests/examples` that put a load on a cluster.
const LOADS: [&str; 3] = ["cluster_load", "coordinator_rate", "worker_load"];

/// Builds those programs, and the loads that benchmarks put on them. Always all of them: another selection has other features,
/// and most of what they depend on would be compiled again for each.
pub(crate) fn build_loads(root: &Path) -> Result<Option<ExitCode>> {
    let mut command = cargo(root);
    command.args(["build", "--release", "--bins", "--package", "nadgrid-tests"]);
    command.args(PROGRAMS.iter().flat_map(|package| ["--package", package]));
    command.args(LOADS.iter().flat_map(|load| ["--example", load]));
    step("build", &mut command)
}

/// Returns the path where cargo puts a released program: beside the profile that this program was built in.
pub(crate) fn released(program: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("cannot tell where this program lies")?;
    let target = own.ancestors().nth(2).context("this program does not lie in a target folder")?;
    Ok(target.join("release").join(program))
}

/// Runs one step under a heading, with its duration; the code to exit with if it fails.
pub(crate) fn step(name: &str, command: &mut Command) -> Result<Option<ExitCode>> {
    headed(name, command, |command| Ok(command.status()?))
}

/// As [`step`], and shows every line that the program prints to `reader` too.
pub(crate) fn step_reading(
    name: &str,
    command: &mut Command,
    mut reader: impl FnMut(&str),
) -> Result<Option<ExitCode>> {
    headed(name, command.stdout(Stdio::piped()), |command| {
        let mut child = command.spawn()?;
        for line in child.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).split(b'\n')) {
            let line = String::from_utf8_lossy(&line?).into_owned();
            println!("{line}");
            reader(&line);
        }
        Ok(child.wait()?)
    })
}

fn headed(
    name: &str,
    command: &mut Command,
    run: impl FnOnce(&mut Command) -> Result<ExitStatus>,
) -> Result<Option<ExitCode>> {
    println!("== {name}: {}", in_words(command));
    let started = Instant::now();
    let status = run(command).with_context(|| format!("cannot run {}", in_words(command)))?;
    let outcome = if status.success() { "done" } else { "FAILED" };
    println!("== {name}: {outcome} in {:.1} s", started.elapsed().as_secs_f64());
    Ok((!status.success()).then(|| exit_code(status)))
}

/// Runs a program that shares this terminal and answers Ctrl-C itself: this process waits for it whatever is pressed.
pub(crate) fn foreground(command: &mut Command) -> Result<ExitCode> {
    // A handler, not "ignore": the child would inherit that, but gets the default back where a handler is set.
    ctrlc::set_handler(|| {}).context("cannot take over Ctrl-C")?;
    let status = command.status().with_context(|| format!("cannot start {}", in_words(command)))?;
    Ok(exit_code(status))
}

/// The child's own code; for a child that a signal ended, what a shell says of it.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

fn in_words(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_passed_on() {
        assert_eq!(exit_code(ExitStatus::from_raw(3 << 8)), ExitCode::from(3));
        assert_eq!(exit_code(ExitStatus::from_raw(0)), ExitCode::SUCCESS);
    }

    #[test]
    fn a_child_ended_by_a_signal_is_a_failure() {
        assert_eq!(exit_code(ExitStatus::from_raw(9)), ExitCode::from(137));
    }

    #[test]
    fn a_command_reads_as_typed() {
        assert_eq!(in_words(Command::new("/usr/bin/cargo").args(["fmt", "--check"])), "cargo fmt --check");
    }
}
