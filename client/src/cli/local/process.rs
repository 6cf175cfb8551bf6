//! One program of a local cluster as a process of its own.
//!
//! It leads its own process group, so that the terminal's Ctrl-C reaches `nadgrid` alone and the programs are ended in
//! order. Its standard input is a pipe that `nadgrid` holds: should `nadgrid` be killed, the pipe closes and the program
//! ends by itself. What it says goes to a log file.

use crate::cli::Failure;
use futures::future::join_all;
use nadgrid_client::Error;
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// The length of a log's end that is shown.
const LAST_LINES: usize = 10;
const LAST_BYTES: u64 = 8 << 10;

/// A running program.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    // Held open: see the module's header.
    stdin: Option<ChildStdin>,
}

/// The use of a process's stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stdout {
    Log,
    Pipe,
}

impl Process {
    /// Starts `executable`; `name` is for people, and its log is `NAME.log` in `logs`. `without` names variables that it
    /// shall not inherit.
    pub(crate) fn start(
        name: &str,
        executable: &Path,
        arguments: &[OsString],
        logs: &Path,
        stdout: Stdout,
        without: &[String],
    ) -> Result<Self, Failure> {
        let log = logs.join(format!("{name}.log"));
        let open = || File::options().create(true).append(true).open(&log).map_err(Error::io(&log, "write"));
        let mut command = Command::new(executable);
        command.args(arguments).stdin(Stdio::piped()).stderr(open()?).process_group(0).kill_on_drop(true);
        // Its log is a file, and parts of it may be shown.
        command.env("NO_COLOR", "1");
        match stdout {
            Stdout::Log => command.stdout(open()?),
            Stdout::Pipe => command.stdout(Stdio::piped()),
        };
        without.iter().for_each(|variable| {
            command.env_remove(variable);
        });
        let mut child = command.spawn().map_err(Error::io(executable, "start the program"))?;
        Ok(Self { name: name.to_owned(), stdin: child.stdin.take(), child, log })
    }

    /// Its stdout, once, if it is a pipe.
    pub(crate) fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Its exit status, once it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end, and says how it died.
    pub(crate) async fn death(&mut self, within: Duration) -> Failure {
        match tokio::time::timeout(within, self.child.wait()).await {
            Ok(Ok(status)) => self.died(status),
            _ => Failure::Died { what: format!("{} does not answer", self.name), log: self.last_lines() },
        }
    }

    /// The failure of a program that ended by itself.
    pub(crate) fn died(&self, status: ExitStatus) -> Failure {
        Failure::Died { what: format!("{} exited early ({status})", self.name), log: self.last_lines() }
    }

    fn last_lines(&self) -> String {
        let text = File::open(&self.log).and_then(|mut log| {
            let length = log.metadata()?.len();
            log.seek(SeekFrom::Start(length.saturating_sub(LAST_BYTES)))?;
            let mut bytes = Vec::new();
            log.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        });
        let text = text.unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    fn signal(&self, signal: Signal) {
        // No id any more once the process was waited for: its number may be another's by now.
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(group) = id {
            let _ = kill_process_group(group, signal);
        }
    }
}

/// Ends processes: SIGTERM, and SIGKILL for those that are still there when the grace is over or `hurry` comes.
pub(crate) async fn stop(processes: &mut [Process], grace: Duration, hurry: impl Future<Output = ()>) {
    for process in processes.iter_mut() {
        process.signal(Signal::TERM);
        // Says the same again, to a program that reads its standard input until the end.
        process.stdin = None;
    }
    let all = join_all(processes.iter_mut().map(|process| process.child.wait()));
    let patient = tokio::time::timeout(grace, all);
    tokio::select! { _ = patient => {}, () = hurry => {} }
    processes.iter().for_each(|process| process.signal(Signal::KILL));
    join_all(processes.iter_mut().map(|process| process.child.wait())).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use std::time::Instant;

    fn shell(script: &str, logs: &Path, stdout: Stdout) -> Process {
        let arguments = ["-c", script].map(OsString::from);
        Process::start("shell", Path::new("/bin/sh"), &arguments, logs, stdout, &["NADGRID_OUT".into()]).unwrap()
    }

    /// Waits until the script has said so.
    async fn ready(logs: &Path) {
        while !std::fs::read_to_string(logs.join("shell.log")).is_ok_and(|log| log.contains("ready")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_willing_program_ends_at_once_and_a_deaf_one_after_the_grace() {
        let logs = tempfile::tempdir().unwrap();
        let mut willing = [shell("exec sleep 60", logs.path(), Stdout::Log)];
        let began = Instant::now();
        stop(&mut willing, Duration::from_secs(30), pending()).await;
        assert!(began.elapsed() < Duration::from_secs(10) && willing[0].ended().is_some());

        let deaf = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
        let mut deaf = [shell(deaf, logs.path(), Stdout::Log)];
        ready(logs.path()).await;
        let began = Instant::now();
        stop(&mut deaf, Duration::from_millis(300), pending()).await;
        assert!(began.elapsed() >= Duration::from_millis(300) && deaf[0].ended().is_some());
    }

    #[tokio::test]
    async fn a_second_interruption_does_not_wait_for_the_grace() {
        let logs = tempfile::tempdir().unwrap();
        let mut deaf = [shell("trap '' TERM; echo ready; while :; do sleep 0.05; done", logs.path(), Stdout::Log)];
        ready(logs.path()).await;
        let began = Instant::now();
        stop(&mut deaf, Duration::from_secs(60), async {}).await;
        assert!(began.elapsed() < Duration::from_secs(10) && deaf[0].ended().is_some());
    }

    #[tokio::test]
    async fn a_program_that_dies_leaves_its_last_words() {
        let logs = tempfile::tempdir().unwrap();
        let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo line $i >&2; done; exit 7";
        let mut process = shell(script, logs.path(), Stdout::Log);
        let said = process.death(Duration::from_secs(30)).await.to_string();
        assert!(said.contains("shell exited early (exit status: 7)") && said.contains("| line 12"), "{said}");
        assert!(!said.contains("line 2\n"), "{said}");
        let mut silent = shell("exec sleep 60", logs.path(), Stdout::Log);
        let said = silent.death(Duration::from_millis(10)).await.to_string();
        assert!(said.contains("does not answer"), "{said}");
    }

    #[tokio::test]
    async fn its_stdin_stays_open_while_it_is_held_and_closes_with_it() {
        let logs = tempfile::tempdir().unwrap();
        let mut process = shell("echo ready; cat; echo closed", logs.path(), Stdout::Log);
        ready(logs.path()).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(process.ended().is_none());
        process.stdin = None;
        process.child.wait().await.unwrap();
        assert!(process.last_lines().contains("closed"));
    }
}
