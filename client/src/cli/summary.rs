//! What `run` says at the end: one row per architecture, and where the files are.

use super::tables::{count, short, table};
use nadgrid_client::{Fetched, FetchedArchitecture, JobView, Record};
use nadgrid_core::text::{duration, thousands};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Of a sweep that is complete and fetched.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    out: String,
    lanes: u32,
    architectures: Vec<Row>,
    record: Record,
}

#[derive(Debug, Serialize)]
struct Row {
    architecture: String,
    networks: u64,
    /// All lanes together.
    seconds: f64,
    networks_per_second: Option<f64>,
    s0: f64,
    /// By k.
    energy_shares: BTreeMap<usize, f64>,
    digest: Option<String>,
}

impl Summary {
    /// Of what was fetched into `out`, computed on so many lanes.
    pub(crate) fn new(fetched: Fetched, out: &Path, lanes: u32) -> Self {
        let lanes = lanes.max(1);
        let jobs = fetched.record.jobs.iter().zip(&fetched.architectures);
        let architectures = jobs.map(|(job, result)| Row::new(job, result, lanes)).collect();
        Self { out: out.display().to_string(), lanes, architectures, record: fetched.record }
    }

    /// For people.
    pub(crate) fn to_text(&self, out: &Path) -> String {
        let rows = self.architectures.iter().map(Row::cells);
        let columns =
            ["architecture", ">networks", ">seconds", ">networks/s", ">s0", ">top 1", ">top 10", ">top 100", "digest"];
        let timings = &self.record.timings;
        let whole = timings.seconds.map_or(String::new(), |seconds| format!(" in {}", duration(seconds)));
        let lanes = count(u64::from(self.lanes), "lane");
        let head = format!("sweep {} is complete{whole} on {lanes}, {}", self.record.name, self.record.numerics_class);
        let digest = format!("digest {}", self.record.digest);
        format!("\n{}\n\n{head}\n{digest}\n{}", table(&columns, rows), self.files(out))
    }

    /// A line per folder.
    fn files(&self, out: &Path) -> String {
        let artifacts = self.record.artifacts.iter().map(|artifact| artifact.name.as_str());
        let names = artifacts.chain(self.record.figures.iter().map(String::as_str));
        let mut folders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for name in [nadgrid_client::RECORD_FILE].into_iter().chain(names) {
            let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
            folders.entry(folder).or_default().push(file);
        }
        // A join with nothing would end in a slash.
        let path = |folder: &str| if folder.is_empty() { out.to_owned() } else { out.join(folder) };
        let line = |(folder, files): (&str, Vec<&str>)| format!("{}: {}", path(folder).display(), files.join(", "));
        folders.into_iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

impl Row {
    fn new(job: &JobView, result: &FetchedArchitecture, lanes: u32) -> Self {
        let seconds = job.lane_seconds / f64::from(lanes);
        Self {
            architecture: job.architecture.clone(),
            networks: job.networks,
            seconds,
            networks_per_second: (seconds > 0.0).then(|| job.networks as f64 / seconds),
            s0: result.spectrum.largest(),
            energy_shares: [1, 10, 100].map(|k| (k, result.spectrum.energy_share(k))).into(),
            digest: job.digest.clone(),
        }
    }

    fn cells(&self) -> Vec<String> {
        let rate = self.networks_per_second.map_or("-".into(), |rate| format!("{rate:.1}"));
        let mut cells = vec![
            self.architecture.clone(),
            thousands(self.networks),
            format!("{:.1}", self.seconds),
            rate,
            format!("{:.4}", self.s0),
        ];
        cells.extend(self.energy_shares.values().map(|share| format!("{:.1} %", 100.0 * share)));
        cells.push(self.digest.as_deref().map_or(String::new(), short));
        cells
    }
}
