//! Every job of a sweep in a few numbers.

use nadgrid_core::spec::{Experiment, Spec};
use serde::Serialize;

use super::{Run, Source, Spectrum, SweepError, nads};
use crate::SeedRange;

/// The result of one job in a few numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobResult {
    /// The experiment.
    pub experiment: Experiment,
    /// The architecture.
    pub architecture: String,
    /// The numbers.
    #[serde(flatten)]
    pub outcome: JobOutcome,
}

/// The outcome of a job.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum JobOutcome {
    /// The NADs of an architecture.
    Nads(NadsSummary),
    /// The training runs of an architecture.
    Runs(RunsSummary),
}

/// NADs in a few numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NadsSummary {
    /// The singular values.
    #[serde(skip)]
    pub spectrum: Spectrum,
    /// D if all directions are alike, 1 if there is but one.
    pub effective_rank: f64,
    /// 0 if all directions are alike, 1 if there is but one.
    pub anisotropy: f64,
}

/// Training runs in a few numbers; accuracies are percent of the test samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RunsSummary {
    /// The number of runs.
    pub runs: u64,
    /// The number that diverged; the numbers below are of the others.
    pub diverged: u64,
    /// Mean over the runs; `None` when all diverged.
    pub mean_accuracy: Option<f64>,
    /// The lowest.
    pub min_accuracy: Option<f64>,
    /// The highest.
    pub max_accuracy: Option<f64>,
}

impl RunsSummary {
    /// Summarises runs.
    pub fn of(runs: &[Run]) -> Self {
        let accuracies: Vec<f64> = runs.iter().filter_map(|run| run.test_accuracy).collect();
        let range = SeedRange::of(&accuracies);
        Self {
            runs: runs.len() as u64,
            diverged: (runs.len() - accuracies.len()) as u64,
            mean_accuracy: range.map(|range| range.mean),
            min_accuracy: range.map(|range| range.min),
            max_accuracy: range.map(|range| range.max),
        }
    }
}

/// The result of each job of a sweep, in the sweep's order.
///
/// # Errors
/// An artifact is missing or damaged.
pub fn results(spec: &Spec, source: &impl Source) -> Result<Vec<JobResult>, SweepError> {
    let mut results = Vec::new();
    for experiment in spec.experiments() {
        for architecture in &spec.architectures {
            let outcome = match experiment {
                Experiment::Nads => JobOutcome::Nads(nads::summary(architecture, source)?),
                _ => JobOutcome::Runs(RunsSummary::of(&source.runs(experiment, architecture)?.ended)),
            };
            results.push(JobResult { experiment, architecture: architecture.clone(), outcome });
        }
    }
    Ok(results)
}
