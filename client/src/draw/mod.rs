//! The files of a sweep as figures, and what a closing table says of each job.
//!
//! ```text
//! nads/ARCHITECTURE/figure.*            the first NADs and the spectrum
//! directional/ARCHITECTURE_map.*        accuracy over a grid of frequencies
//! directional/curve.*                   accuracy along NADs or rows of a file
//! poisoning/curve.*  flipping/bars.*  margins/curve.*
//! ```
//! A run that diverged is in no figure; subtitles say how many. Absent: files and the network (bytes come in, bytes go out), and
//! figures of directions in no order, single pixels and random ones.

mod margins;
mod nads;
mod runs;

pub use nads::{NadsSummary, Spectrum};
pub use runs::RunsSummary;

use crate::error::Error;
use nadgrid_core::architecture::find;
use nadgrid_core::spec::{Experiment, Spec};
use nadgrid_figures::{Figure, FigureError};
use serde::Serialize;
use std::collections::BTreeMap;

/// Files by their names.
pub type Files = BTreeMap<String, Vec<u8>>;

/// What was drawn, and what there is to say.
#[derive(Clone, Debug, Default)]
pub struct Drawing {
    /// Figures, as SVG and as PNG.
    pub figures: Files,
    /// A result for each job, in the sweep's order.
    pub results: Vec<JobResult>,
    /// What could not be drawn and why, a line each.
    pub notes: Vec<String>,
}

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

/// What a job yields.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum JobOutcome {
    /// NADs.
    Nads(NadsSummary),
    /// Training runs.
    Runs(RunsSummary),
}

/// Whether [`draw`] looks at the artifact of this name.
pub(crate) fn is_drawn(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or_default();
    nads::FILES.contains(&file) || file.ends_with(".csv")
}

/// Draws the figures of a complete sweep from its artifacts. Takes a second or so a figure, and no I/O.
///
/// # Errors
/// [`Error::Contract`] when an artifact is missing, [`Error::Draw`] when one is not understood.
pub fn draw(spec: &Spec, files: &Files) -> Result<Drawing, Error> {
    let mut drawing = Drawing::default();
    for experiment in spec.experiments() {
        match experiment {
            Experiment::Nads => nads::draw(spec, files, &mut drawing)?,
            Experiment::Directional | Experiment::Poisoning | Experiment::Flipping | Experiment::Margins => {
                runs::draw(spec, experiment, files, &mut drawing)?;
            }
        }
    }
    Ok(drawing)
}

impl Drawing {
    /// Takes in a figure in both formats, or says why there is none: results are there all the same.
    fn add(&mut self, name: &str, figure: Result<Figure, FigureError>) {
        match figure.and_then(|figure| Ok((figure.png()?, figure))) {
            Ok((png, figure)) => {
                self.figures.insert(format!("{name}.png"), png);
                self.figures.insert(format!("{name}.svg"), figure.svg().as_bytes().to_vec());
            }
            Err(error) => self.notes.push(format!("{name} is not drawn: {error}")),
        }
    }

    fn add_result(&mut self, experiment: Experiment, architecture: &str, outcome: JobOutcome) {
        self.results.push(JobResult { experiment, architecture: architecture.to_owned(), outcome });
    }
}

/// An artifact's bytes.
fn artifact<'a>(files: &'a Files, name: &str) -> Result<&'a [u8], Error> {
    files.get(name).map(Vec::as_slice).ok_or_else(|| Error::Contract(format!("the sweep has no artifact {name}")))
}

/// An architecture's name for people.
fn title(architecture: &str) -> &str {
    find(architecture).map_or(architecture, |known| known.title)
}

#[cfg(test)]
mod tests;
