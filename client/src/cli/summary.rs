//! The summary of `run` and `fetch`: a row for each job, and where the files are.

use super::tables::{count, short, table};
use nadgrid_client::{Fetched, JobOutcome, JobResult, JobView, NadsSummary, Record, RunsSummary};
use nadgrid_core::text::{duration, thousands};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Of a sweep that is complete and fetched.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    out: String,
    /// The slots that computed it, where that is known.
    slots: Option<u32>,
    jobs: Vec<SummaryRow>,
    /// The pictures that could not be drawn and the reasons.
    notes: Vec<String>,
    record: Record,
}

#[derive(Debug, Serialize)]
struct SummaryRow {
    #[serde(flatten)]
    result: JobResult,
    members: u64,
    /// All slots together.
    seconds: Option<f64>,
    members_per_second: Option<f64>,
    #[serde(flatten)]
    spectrum: Option<SpectrumRow>,
    digest: Option<String>,
}

#[derive(Debug, Serialize)]
struct SpectrumRow {
    s0: f64,
    /// The values, by k.
    energy_shares: BTreeMap<usize, f64>,
}

impl Summary {
    /// Summarises the results that were fetched into `out`, computed on so many slots where that is known.
    pub(crate) fn new(fetched: Fetched, out: &Path, slots: Option<u32>) -> Self {
        let slots = slots.map(|slots| slots.max(1));
        let Fetched { record, results, notes } = fetched;
        let jobs = record.jobs.iter().zip(results).map(|(job, result)| SummaryRow::new(job, result, slots)).collect();
        Self { out: out.display().to_string(), slots, jobs, notes, record }
    }

    /// The pictures that could not be drawn and the reasons, a line each.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Renders a table for people to read.
    pub(crate) fn to_text(&self, out: &Path) -> String {
        let timings = &self.record.timings;
        let whole = timings.seconds.map_or(String::new(), |seconds| format!(" in {}", duration(seconds)));
        let slots = self.slots.map_or(String::new(), |slots| format!(" on {}", count(u64::from(slots), "slot")));
        let head = format!("sweep {} is complete{whole}{slots}, {}", self.record.name, self.record.numerics_class);
        let digest = format!("digest {}", self.record.digest);
        format!("\n{}\n\n{head}\n{digest}\n{}", self.tables(), self.files(out))
    }

    /// A table of the NADs and one of the training runs, as far as there are any.
    pub(crate) fn tables(&self) -> String {
        let mut times = vec![">seconds", ">networks/s"];
        times.retain(|_| self.slots.is_some());
        let nads = [">s0", ">top 1", ">top 10", ">top 100", ">effective rank", ">anisotropy", "digest"];
        let nads = [&["architecture", ">networks"], &times[..], &nads].concat();
        times.truncate(1);
        let runs = [">diverged", ">mean accuracy", ">lowest", ">highest", "digest"];
        let runs = [&["experiment", "architecture", ">runs"], &times[..], &runs].concat();
        let rows =
            |cells: fn(&SummaryRow) -> Option<Vec<String>>| self.jobs.iter().filter_map(cells).collect::<Vec<_>>();
        let filled = [(nads, rows(SummaryRow::nads_cells)), (runs, rows(SummaryRow::runs_cells))].into_iter();
        let filled = filled.filter(|(_, rows)| !rows.is_empty());
        filled.map(|(columns, rows)| table(&columns, rows)).collect::<Vec<_>>().join("\n\n")
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

impl SummaryRow {
    fn new(job: &JobView, result: JobResult, slots: Option<u32>) -> Self {
        let seconds = slots.map(|slots| job.slot_seconds / f64::from(slots));
        let spectrum = match &result.outcome {
            JobOutcome::Nads(NadsSummary { spectrum, .. }) => Some(SpectrumRow {
                s0: spectrum.largest(),
                energy_shares: [1, 10, 100].map(|k| (k, spectrum.energy_share(k))).into(),
            }),
            JobOutcome::Runs(_) => None,
        };
        Self {
            result,
            members: job.members,
            seconds,
            members_per_second: seconds.filter(|&seconds| seconds > 0.0).map(|seconds| job.members as f64 / seconds),
            spectrum,
            digest: job.digest.clone(),
        }
    }

    fn nads_cells(&self) -> Option<Vec<String>> {
        let (JobOutcome::Nads(nads), Some(spectrum)) = (&self.result.outcome, &self.spectrum) else { return None };
        let mut cells = vec![self.result.architecture.clone(), thousands(self.members)];
        if let Some(seconds) = self.seconds {
            let rate = self.members_per_second.map_or("-".into(), |rate| format!("{rate:.1}"));
            cells.extend([format!("{seconds:.1}"), rate]);
        }
        cells.push(format!("{:.4}", spectrum.s0));
        cells.extend(spectrum.energy_shares.values().map(|share| format!("{:.1} %", 100.0 * share)));
        cells.extend([format!("{:.1}", nads.effective_rank), format!("{:.4}", nads.anisotropy), self.short_digest()]);
        Some(cells)
    }

    fn runs_cells(&self) -> Option<Vec<String>> {
        let JobOutcome::Runs(RunsSummary { runs, diverged, mean_accuracy, min_accuracy, max_accuracy }) =
            self.result.outcome
        else {
            return None;
        };
        let JobResult { experiment, architecture, .. } = &self.result;
        let mut cells = vec![experiment.to_string(), architecture.clone(), thousands(runs)];
        cells.extend(self.seconds.map(|seconds| format!("{seconds:.1}")));
        cells.push(thousands(diverged));
        let percent = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.2} %"));
        cells.extend([mean_accuracy, min_accuracy, max_accuracy].map(percent));
        cells.push(self.short_digest());
        Some(cells)
    }

    fn short_digest(&self) -> String {
        self.digest.as_deref().map_or(String::new(), short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nadgrid_client::{Spectrum, v1};
    use nadgrid_core::spec::{Experiment, Spec};

    fn fetched() -> Fetched {
        let spec = "name = 'x'\narchitectures = ['lenet']\n[nads]\nnetworks = 64\n[directional]\ndirections = { kind = 'nads' }";
        let job = |experiment: &str, members| v1::Job {
            experiment: experiment.into(),
            architecture: "lenet".into(),
            members,
            slot_seconds: 8.0,
            ..Default::default()
        };
        let sweep = v1::Sweep {
            spec: Spec::from_toml(spec).unwrap().to_toml(),
            digest: "ab".into(),
            numerics_class: Some(v1::NumericsClass::default()),
            jobs: vec![job("nads", 64), job("directional", 63)],
            ..Default::default()
        };
        let nads = NadsSummary { spectrum: Spectrum(vec![2.0, 1.0]), effective_rank: 1.65, anisotropy: 0.9994 };
        let runs = RunsSummary {
            runs: 63,
            diverged: 2,
            mean_accuracy: Some(75.5),
            min_accuracy: Some(49.25),
            max_accuracy: Some(100.0),
        };
        let result = |experiment, outcome| JobResult { experiment, architecture: "lenet".into(), outcome };
        let results = vec![
            result(Experiment::Nads, JobOutcome::Nads(nads)),
            result(Experiment::Directional, JobOutcome::Runs(runs)),
        ];
        Fetched { record: Record::new(&sweep, Vec::new()).unwrap(), results, notes: Vec::new() }
    }

    #[test]
    fn every_job_has_a_row() {
        let summary = Summary::new(fetched(), Path::new("out"), Some(2));
        let text = summary.tables();
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            rows[1],
            ["lenet", "64", "4.0", "16.0", "2.0000", "80.0", "%", "100.0", "%", "100.0", "%", "1.6", "0.9994"]
        );
        assert_eq!(rows[4], ["directional", "lenet", "63", "4.0", "2", "75.50", "%", "49.25", "%", "100.00", "%"]);
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!((&json["jobs"][0]["s0"], &json["jobs"][0]["effective_rank"]), (&2.0.into(), &1.65.into()));
        assert_eq!((&json["jobs"][1]["experiment"], &json["jobs"][1]["diverged"]), (&"directional".into(), &2.into()));
        let unknown = Summary::new(fetched(), Path::new("out"), None).tables();
        assert!(!unknown.contains("seconds") && unknown.contains("75.50 %"), "{unknown}");
    }
}
