//! A cluster of one's own: the real coordinator on a port that the system chooses, workers with the null GPU, and
//! `nadgrid`.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::cache::remove_if_there;
use crate::gpu_dry_run::counts::CallCounts;
use crate::gpu_dry_run::library::NullGpu;

/// The longest time for anything that takes seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(20);

/// The programs of a cluster, and the card that its workers find.
#[derive(Clone, Debug)]
pub(super) struct DryRunPrograms {
    folder: PathBuf,
    card: NullGpu,
    /// Whether workers prove that their device computes, and know the variable that lets one pass that does not.
    proves: bool,
}

/// A card that computes nothing cannot prove that it computes.
const SKIP_PROOF: (&str, &str) = ("NADGRID_SKIP_DEVICE_PROOF", "1");

impl DryRunPrograms {
    /// Fails where one is missing.
    pub(super) fn new(folder: PathBuf, card: NullGpu) -> Result<Self> {
        for name in ["nadgrid", "nadgrid-coordinator", "nadgrid-worker"] {
            ensure!(folder.join(name).is_file(), "there is no program {}", folder.join(name).display());
        }
        // An older worker, as one compares with, refuses a variable that it does not know.
        let mut probe = Command::new(folder.join("nadgrid-worker"));
        probe.args("bench jacobian --architecture logreg --networks 2 --device cpu".split(' ')).envs([SKIP_PROOF]);
        let proves = probe.stdout(Stdio::null()).stderr(Stdio::null()).status()?.success();
        Ok(Self { folder, card, proves })
    }

    fn command(&self, name: &str) -> Command {
        Command::new(self.folder.join(name))
    }
}

/// A coordinator with an empty journal, ended when this is dropped.
pub(super) struct DryRunCluster<'a> {
    programs: &'a DryRunPrograms,
    /// Of the journal, logs and counts.
    folder: PathBuf,
    address: String,
    coordinator: Running,
    /// Kept open: a program cannot print into a pipe that nobody holds.
    _said: BufReader<ChildStdout>,
    workers: AtomicU32,
}

/// A child process that ends when its standard input is closed, and is killed where it does not.
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Running {
    fn start(command: &mut Command) -> Result<Self> {
        let command = command.arg("--until-stdin-closes").stdin(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
        let stdin = child.stdin.take();
        Ok(Self { child, stdin })
    }

    fn end(&mut self) -> Result<i32> {
        drop(self.stdin.take());
        until("a program to end", || self.ended())
    }

    /// The exit code of a program that has ended; 256 if a signal ended it.
    fn ended(&mut self) -> Result<Option<i32>> {
        Ok(self.child.try_wait()?.map(|status| status.code().unwrap_or(256)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The output of `nadgrid status --json`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct SweepStatus {
    pub(super) state: String,
    pub(super) message: Option<String>,
    pub(super) jobs: Vec<JobStatus>,
    /// Blocks that are given up.
    pub(super) failures: Vec<Value>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct JobStatus {
    pub(super) members_failed: u64,
    /// Seconds that slots computed.
    pub(super) slot_seconds: f64,
}

impl SweepStatus {
    pub(super) fn is_open(&self) -> bool {
        !["complete", "incomplete", "failed", "cancelled"].contains(&self.state.as_str())
    }

    /// Blocks given up, or members of them.
    pub(super) fn quarantined(&self) -> u64 {
        self.failures.len() as u64 + self.jobs.iter().map(|job| job.members_failed).sum::<u64>()
    }
}

impl<'a> DryRunCluster<'a> {
    /// Starts a coordinator in a folder of this name, which is emptied.
    pub(super) fn start(programs: &'a DryRunPrograms, name: &str) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("nadgrid-gpu-dry-run-{}", std::process::id())).join(name);
        remove_if_there(&folder)?;
        fs::create_dir_all(&folder)?;
        let mut command = programs.command("nadgrid-coordinator");
        command.arg("--data").arg(folder.join("data")).args(["--listen", "127.0.0.1:0"]);
        // A shard of several blocks, as there are where blocks are quick, uploads less for each.
        command.args(["--most-shard-blocks", "1"]);
        command.stdout(Stdio::piped()).stderr(File::create(folder.join("coordinator.log"))?);
        let mut coordinator = Running::start(&mut command)?;
        let stdout = coordinator.child.stdout.take().context("the coordinator's output is not piped")?;
        let mut said = BufReader::new(stdout);
        let mut first = String::new();
        said.read_line(&mut first)?;
        let address = first.trim().strip_prefix("listening on ").map(str::to_owned);
        let address = address.with_context(|| format!("the coordinator says no address: {first:?}"))?;
        Ok(Self { programs, folder, address, coordinator, _said: said, workers: AtomicU32::new(0) })
    }

    /// Returns the folder in which a case may put files.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts a worker with the null GPU, set by these variables; `device` as `--device` takes it.
    pub(super) fn worker(&self, device: &str, variables: &[(&str, &str)]) -> Result<DryRunWorker> {
        let number = self.workers.fetch_add(1, Ordering::Relaxed);
        let counts = self.folder.join(format!("counts-{number}"));
        let log = self.folder.join(format!("worker-{number}.log"));
        let mut command = self.programs.command("nadgrid-worker");
        command.args(["--coordinator", &self.address, "--device", device, "--name", &format!("card-{number}")]);
        command.args(["--log-format", "json", "--grace", "1"]).stdout(Stdio::null()).stderr(File::create(&log)?);
        self.programs.card.plug_into(&mut command, &counts);
        command.envs(Some(SKIP_PROOF).filter(|_| self.programs.proves)).envs(variables.iter().copied());
        Ok(DryRunWorker { running: Running::start(&mut command)?, log, counts })
    }

    /// Submits a spec and returns the sweep's id.
    pub(super) fn submit(&self, spec: &str) -> Result<String> {
        let file = self.folder.join("spec.toml");
        fs::write(&file, spec)?;
        Ok(self.nadgrid(&["submit", &file.to_string_lossy()])?.lines().last().unwrap_or_default().trim().to_owned())
    }

    pub(super) fn status(&self, sweep: &str) -> Result<SweepStatus> {
        serde_json::from_str(&self.nadgrid(&["status", "--json", sweep])?).context("status printed something else")
    }

    /// Waits until a sweep is complete; fails if it ends otherwise, with what its worker said.
    pub(super) fn complete(&self, sweep: &str, worker: &mut DryRunWorker) -> Result<SweepStatus> {
        let ended = until("a sweep to end", || {
            let now = self.status(sweep)?;
            if now.is_open() && worker.running.ended()?.is_some() {
                bail!("the worker ended: {}", worker.last_words());
            }
            Ok((!now.is_open()).then_some(now))
        })?;
        ensure!(
            ended.state == "complete",
            "the sweep ended as {}: {}",
            ended.state,
            ended.message.clone().unwrap_or_else(|| worker.last_words())
        );
        Ok(ended)
    }

    fn nadgrid(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.programs.command("nadgrid");
        let answer = command.args(arguments).env("NADGRID_COORDINATOR", &self.address).output()?;
        let words = String::from_utf8_lossy(&answer.stderr);
        ensure!(answer.status.success(), "nadgrid {} failed: {}", arguments.join(" "), words.trim());
        Ok(String::from_utf8(answer.stdout)?)
    }
}

impl Drop for DryRunCluster<'_> {
    fn drop(&mut self) {
        let _ = self.coordinator.end();
        let _ = fs::remove_dir_all(&self.folder);
        // Empty after the last one.
        let _ = self.folder.parent().map(fs::remove_dir);
    }
}

/// A worker with a null GPU.
pub(super) struct DryRunWorker {
    running: Running,
    log: PathBuf,
    counts: PathBuf,
}

/// A shard that a worker reported as failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WorkerFailure {
    pub(super) kind: String,
    pub(super) message: String,
}

impl DryRunWorker {
    pub(super) fn counts(&self) -> Result<CallCounts> {
        CallCounts::read(&self.counts)
    }

    /// Seconds that its threads have computed, in user mode and in the system.
    pub(super) fn cpu_seconds(&self) -> Result<f64> {
        const TICKS_PER_SECOND: f64 = 100.0;
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.running.child.id()))?;
        // The program's name, in parentheses, may have spaces.
        let numbers = stat.rsplit_once(')').map(|(_, numbers)| numbers).unwrap_or_default().split_whitespace();
        Ok(numbers.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND)
    }

    /// Its exit code, once it has ended.
    pub(super) fn ended(&mut self) -> Result<Option<i32>> {
        self.running.ended()
    }

    /// Asks it to end.
    pub(super) fn end(mut self) -> Result<()> {
        self.running.end().map(drop)
    }

    /// The shards that it reported as failed, in order.
    pub(super) fn failures(&self) -> Vec<WorkerFailure> {
        let failure = |line: &str| {
            let event: Value = serde_json::from_str(line).ok()?;
            let message = event["message"].as_str()?.strip_prefix("failed: ")?.to_owned();
            Some(WorkerFailure {
                kind: event["kind"].as_str()?.trim_start_matches("FAILURE_KIND_").to_lowercase(),
                message,
            })
        };
        self.log().lines().filter_map(failure).collect()
    }

    /// Returns everything that it wrote.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Returns the messages that it wrote at warning level or worse.
    pub(super) fn warnings(&self) -> Vec<String> {
        let message = |line: &str| {
            let event: Value = serde_json::from_str(line).ok()?;
            (event["level"] == "WARN").then(|| event["message"].as_str().map(str::to_owned))?
        };
        self.log().lines().filter_map(message).collect()
    }

    fn last_words(&self) -> String {
        self.log().lines().last().unwrap_or("it said nothing").to_owned()
    }
}

/// Asks again and again until there is an answer.
pub(super) fn until<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        ensure!(Instant::now() < deadline, "waited {} s in vain for {what}", PATIENCE.as_secs());
        sleep(LOOK);
    }
}
