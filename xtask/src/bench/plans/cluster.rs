//! A coordinator and a worker of their own, and the client that speaks with them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::process::released;

/// The cluster ends when this is dropped.
pub(super) struct TrialCluster {
    programs: Vec<Child>,
    url: String,
}

/// The estimates of a plan.
#[derive(Deserialize)]
pub(super) struct Planned {
    pub(super) seconds: f64,
    jobs: Vec<PlannedJob>,
}

#[derive(Deserialize)]
struct PlannedJob {
    basis: String,
}

impl Planned {
    /// Returns the bases of its estimates.
    pub(super) fn bases(&self) -> String {
        let bases: BTreeSet<&str> = self.jobs.iter().map(|job| job.basis.as_str()).collect();
        bases.into_iter().collect::<Vec<_>>().join(", ")
    }
}

impl Drop for TrialCluster {
    fn drop(&mut self) {
        for program in self.programs.iter_mut().rev() {
            drop(program.kill());
            drop(program.wait());
        }
    }
}

impl TrialCluster {
    /// Starts both in a folder.
    pub(super) fn start(folder: &Path) -> Result<Self> {
        let data = folder.join("data");
        if data.exists() {
            fs::remove_dir_all(&data)?;
        }
        let mut coordinator = Command::new(released("nadgrid-coordinator")?);
        coordinator.args(["--listen", "127.0.0.1:0", "--data"]).arg(&data).stdout(Stdio::piped());
        let mut coordinator = coordinator.env("NADGRID_LOG", "warn").spawn().context("cannot start the coordinator")?;
        let mut line = String::new();
        if let Some(stdout) = coordinator.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let mut cluster = Self { programs: vec![coordinator], url: String::new() };
        let url = line.trim().strip_prefix("listening on ").context("the coordinator says no address")?;
        cluster.url = url.to_owned();
        let mut worker = Command::new(released("nadgrid-worker")?);
        worker.args(["--coordinator", url, "--device", "cpu"]).env("NADGRID_LOG", "warn").stdout(Stdio::null());
        cluster.programs.push(worker.spawn().context("cannot start the worker")?);
        Ok(cluster)
    }

    /// The coordinator's plan of a spec.
    pub(super) fn plan(&self, spec: &Path) -> Result<Planned> {
        let said = self.client(&["plan", "--json"], spec)?;
        serde_json::from_slice(&said).context("the plan is something else")
    }

    /// Computes a sweep.
    pub(super) fn compute(&self, spec: &Path) -> Result<()> {
        self.client(&["submit", "--watch", "--json"], spec).map(drop)
    }

    fn client(&self, command: &[&str], spec: &Path) -> Result<Vec<u8>> {
        let mut client = Command::new(released("nadgrid")?);
        client.args(["--coordinator", &self.url]).args(command).arg(spec);
        let output = client.output().context("cannot start the client")?;
        ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    }
}
