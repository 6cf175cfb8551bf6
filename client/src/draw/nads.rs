//! Each architecture's NADs and spectrum.

use super::{Drawing, Files, JobOutcome, artifact, title};
use crate::error::Error;
use nadgrid_core::spec::{Estimator, Experiment, Nads, Spec};
use nadgrid_figures::npy::{NpyError, parse_matrix, parse_vector};
use nadgrid_figures::{InputShape, NadFigure, nad_figure};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Files of an architecture's folder from which it is drawn and summed up.
pub(super) const FILES: [&str; 3] = ["nads.npy", "singular_values.npy", "spectrum.json"];

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

/// Singular values of the centred N x D gradient matrix, in decreasing order.
#[derive(Clone, Debug, PartialEq)]
pub struct Spectrum(pub Vec<f64>);

impl Spectrum {
    /// s0, the largest.
    pub fn largest(&self) -> f64 {
        self.0.first().copied().unwrap_or(0.0)
    }

    /// Share of the energy Σs² that lies in the first `k`.
    pub fn energy_share(&self, k: usize) -> f64 {
        let energy = |values: &[f64]| values.iter().map(|s| s * s).sum::<f64>();
        let all = energy(&self.0);
        if all > 0.0 { energy(&self.0[..k.min(self.0.len())]) / all } else { 0.0 }
    }
}

/// The coordinator's `spectrum.json`; it holds more.
#[derive(Deserialize)]
struct Facts {
    effective_rank: f64,
    anisotropy: f64,
}

/// Draws the NADs of all architectures.
pub(super) fn draw(spec: &Spec, files: &Files, to: &mut Drawing) -> Result<(), Error> {
    let Some(nads) = &spec.nads else { return Ok(()) };
    for architecture in &spec.architectures {
        let summary = draw_one(spec, nads, architecture, files, to)?;
        to.add_result(Experiment::Nads, architecture, JobOutcome::Nads(summary));
    }
    Ok(())
}

fn draw_one(
    spec: &Spec,
    experiment: &Nads,
    architecture: &str,
    files: &Files,
    to: &mut Drawing,
) -> Result<NadsSummary, Error> {
    let names = FILES.map(|file| format!("{}/{architecture}/{file}", Experiment::Nads));
    let (nads, values, facts) = (artifact(files, &names[0])?, artifact(files, &names[1])?, artifact(files, &names[2])?);
    let nads = parse_matrix(nads, Path::new(&names[0])).map_err(|error| unreadable(&names[0], &error))?;
    let values = parse_vector(values, Path::new(&names[1])).map_err(|error| unreadable(&names[1], &error))?;
    let facts: Facts = serde_json::from_slice(facts)
        .map_err(|error| Error::Draw { what: names[2].clone(), reason: error.to_string() })?;
    let shape = spec.shape();
    let (estimator, step) = match experiment.estimator {
        Estimator::CentralDifference => ("central differences", Some(experiment.step)),
        Estimator::Autograd => ("backpropagation", None),
    };
    let figure = nad_figure(&NadFigure {
        architecture: title(architecture),
        networks: Some(experiment.networks),
        estimator,
        step,
        shape: InputShape { channels: shape.channels, height: shape.height, width: shape.width },
        nads: nads.view(),
        singular_values: values.view(),
        reference: None,
    });
    to.add(&format!("{}/{architecture}/figure", Experiment::Nads), figure);
    let Facts { effective_rank, anisotropy } = facts;
    Ok(NadsSummary { spectrum: Spectrum(values.to_vec()), effective_rank, anisotropy })
}

/// These errors begin with the name.
fn unreadable(name: &str, error: &NpyError) -> Error {
    let text = error.to_string();
    let reason = text.strip_prefix(&format!("{name}: ")).unwrap_or(&text);
    Error::Draw { what: name.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn energy_shares_are_of_squares() {
        let spectrum = Spectrum(vec![3.0, 1.0, 1.0, 1.0]);
        assert_eq!(spectrum.largest(), 3.0);
        assert_eq!(spectrum.energy_share(1), 0.75);
        assert_eq!(spectrum.energy_share(100), 1.0);
        assert_eq!(Spectrum(Vec::new()).energy_share(1), 0.0);
    }
}
