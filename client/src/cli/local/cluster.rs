//! A coordinator and its workers on this machine.
//!
//! Absent: restarts. A program that dies is told with its last words; the sweep goes on while a worker is left.

use super::process::{Process, Stdout, stop};
use super::programs::{BIN_DIR, ClusterPrograms};
use crate::cli::Failure;
use crate::cli::args::variables;
use crate::cli::progress::Screen;
use crate::cli::tables::count;
use futures::FutureExt;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::oneshot;

/// Until the coordinator must have said where it listens.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The interval at which the programs are checked.
const LOOK: Duration = Duration::from_millis(100);
/// For programs to end by themselves.
const GRACE: Duration = Duration::from_secs(5);
/// The prefix of the coordinator's only line on stdout.
const READY: &str = "listening on ";
/// The prefix of the line that names the page, and the time to wait for it.
const PAGE: &str = "page at ";
const PAGE_TIMEOUT: Duration = Duration::from_secs(1);

/// The programs to start, and how.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Of the coordinator's journal and artifacts.
    pub(crate) data: PathBuf,
    /// The folder for logs.
    pub(crate) logs: PathBuf,
    pub(crate) workers: u32,
    pub(crate) device: String,
    /// Returns the number of cores of this machine.
    pub(crate) cores: u32,
    /// Arguments that say where spans go.
    pub(crate) telemetry: Vec<String>,
}

/// The variables that a program of a cluster of one machine shall not have: this command's own, and those of access.
pub(crate) fn not_inherited() -> Vec<String> {
    let mut without = variables();
    without.push(BIN_DIR.into());
    // A cluster of one machine has no tokens and no certificates.
    without.extend(["NADGRID_TOKENS", "NADGRID_TLS_CLIENT_CA"].map(String::from));
    without
}

/// The processes that were started so far.
#[derive(Debug, Default)]
pub(crate) struct LocalCluster {
    coordinator: Vec<Process>,
    workers: Vec<Process>,
    /// Comes with the coordinator's second line.
    page: Option<oneshot::Receiver<String>>,
}

impl LocalCluster {
    /// Starts everything, and gives the coordinator's address.
    pub(crate) async fn start(&mut self, programs: &ClusterPrograms, layout: &Layout) -> Result<String, Failure> {
        let without = not_inherited();
        let url = self.start_coordinator(programs, layout, &without).await?;
        for number in 1..=layout.workers {
            let name = if layout.workers == 1 { "worker".into() } else { format!("worker-{number}") };
            let arguments = layout.worker_arguments(&url);
            let worker = Process::start(&name, &programs.worker, &arguments, &layout.logs, Stdout::Log, &without)?;
            self.workers.push(worker);
        }
        Ok(url)
    }

    async fn start_coordinator(
        &mut self,
        programs: &ClusterPrograms,
        layout: &Layout,
        without: &[String],
    ) -> Result<String, Failure> {
        let arguments = layout.coordinator_arguments();
        let program = &programs.coordinator;
        let mut process = Process::start("coordinator", program, &arguments, &layout.logs, Stdout::Pipe, without)?;
        let stdout = process.stdout();
        self.coordinator.push(process);
        let (told, page) = oneshot::channel();
        self.page = Some(page);
        let url = match stdout {
            Some(stdout) => tokio::time::timeout(START_TIMEOUT, ready(stdout, told)).await.ok().flatten(),
            None => None,
        };
        match (url, self.coordinator.last_mut()) {
            (None, Some(process)) => Err(process.death(Duration::from_secs(2)).await),
            (url, _) => url.ok_or_else(|| Failure::other("the coordinator could not be started")),
        }
    }

    /// Returns the address of the coordinator's page, with the word that lets it change things. Asked once.
    pub(crate) async fn page(&mut self) -> Option<String> {
        tokio::time::timeout(PAGE_TIMEOUT, self.page.take()?).await.ok()?.ok()
    }

    /// Waits until the cluster cannot finish any more: the coordinator or the last worker has died. A worker that dies
    /// before is told on the screen.
    pub(crate) async fn broken(&mut self, screen: &Screen) -> Failure {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Some(failure) = self.coordinator.iter_mut().find_map(death) {
                return failure;
            }
            let Some(place) = self.workers.iter_mut().position(|worker| worker.ended().is_some()) else { continue };
            let mut dead = self.workers.remove(place);
            let Some(failure) = death(&mut dead) else { continue };
            if self.workers.is_empty() {
                return failure;
            }
            screen.say(&format!("{failure}\n{} left", count(self.workers.len() as u64, "worker")));
        }
    }

    /// Ends everything: workers first, so that they can say goodbye. `hurry` cuts the grace short.
    pub(crate) async fn stop(mut self, hurry: impl Future<Output = ()>) {
        let hurry = hurry.shared();
        stop(&mut self.workers, GRACE, hurry.clone()).await;
        stop(&mut self.coordinator, GRACE, hurry).await;
    }
}

impl Layout {
    fn coordinator_arguments(&self) -> Vec<OsString> {
        let fixed = ["--listen", "127.0.0.1:0", "--until-stdin-closes"].map(OsString::from);
        let telemetry = self.telemetry.iter().map(OsString::from);
        ["--data".into(), self.data.clone().into_os_string()].into_iter().chain(fixed).chain(telemetry).collect()
    }

    fn worker_arguments(&self, url: &str) -> Vec<OsString> {
        let mut arguments = vec!["--coordinator", url, "--device", &self.device, "--until-stdin-closes"];
        let slots = (self.cores / self.workers).max(1).to_string();
        // One worker takes all cores by itself, and a GPU is no matter of cores.
        if self.workers > 1 && !self.device.starts_with("cuda") {
            arguments.extend(["--slots", &slots]);
        }
        arguments.into_iter().map(OsString::from).chain(self.telemetry.iter().map(OsString::from)).collect()
    }
}

fn death(process: &mut Process) -> Option<Failure> {
    process.ended().map(|status| process.died(status))
}

/// The address on the coordinator's ready line. What else it may say is read away, so that it never waits for us.
async fn ready(stdout: impl AsyncRead + Unpin + Send + 'static, page: oneshot::Sender<String>) -> Option<String> {
    let mut lines = BufReader::new(stdout).lines();
    let first = lines.next_line().await.ok().flatten()?;
    tokio::spawn(async move {
        if let Ok(Some(second)) = lines.next_line().await
            && let Some(address) = second.strip_prefix(PAGE)
        {
            drop(page.send(address.trim().to_owned()));
        }
        while let Ok(Some(_)) = lines.next_line().await {}
    });
    first.strip_prefix(READY).map(|url| url.trim().to_owned())
}

#[cfg(test)]
mod tests;
