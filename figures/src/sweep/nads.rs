//! Each architecture's NADs and spectrum.

use std::path::Path;

use nadgrid_core::spec::{Estimator, Experiment, Spec};
use ndarray::{Array1, Array2};
use serde::Deserialize;

use super::{NadsSummary, Picture, Source, SweepError, shape, title};
use crate::{
    Figure, NadFigure, nad_figure,
    npy::{NpyError, parse_matrix, parse_vector},
};

const NADS: &str = "nads.npy";
const SINGULAR_VALUES: &str = "singular_values.npy";
const FACTS: &str = "spectrum.json";

/// Files of an architecture's folder from which it is drawn and summed up.
pub(super) const FILES: [&str; 3] = [NADS, SINGULAR_VALUES, FACTS];

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
#[derive(Debug, Deserialize)]
struct Facts {
    effective_rank: f64,
    anisotropy: f64,
}

/// Draws the NADs of an architecture.
pub(super) fn draw(spec: &Spec, picture: &Picture, source: &impl Source) -> Result<Figure, SweepError> {
    let architecture = picture.architectures.first().map_or("", String::as_str);
    let (nads, singular_values) = (matrix(architecture, source)?, singular_values(architecture, source)?);
    let (estimator, step) = estimator(spec);
    let figure = NadFigure {
        architecture: title(architecture),
        networks: spec.nads.as_ref().map(|nads| nads.networks),
        estimator,
        step,
        shape: shape(spec),
        nads: nads.view(),
        singular_values: singular_values.view(),
        reference: None,
    };
    nad_figure(&figure).map_err(|source| SweepError::Figure { name: picture.name.clone(), source })
}

/// The numbers of an architecture.
pub(super) fn summary(architecture: &str, source: &impl Source) -> Result<NadsSummary, SweepError> {
    let Facts { effective_rank, anisotropy } = facts(architecture, source)?;
    let spectrum = Spectrum(singular_values(architecture, source)?.to_vec());
    Ok(NadsSummary { spectrum, effective_rank, anisotropy })
}

/// How gradients were estimated, in words, and with which step.
fn estimator(spec: &Spec) -> (&'static str, Option<f64>) {
    match &spec.nads {
        Some(nads) if nads.estimator == Estimator::CentralDifference => ("central differences", Some(nads.step)),
        _ => ("backpropagation", None),
    }
}

fn file(architecture: &str, name: &str) -> String {
    format!("{}/{architecture}/{name}", Experiment::Nads)
}

fn matrix(architecture: &str, source: &impl Source) -> Result<Array2<f64>, SweepError> {
    let name = file(architecture, NADS);
    parse_matrix(&source.artifact(&name)?, Path::new(&name)).map_err(|error| unreadable(&name, &error))
}

fn singular_values(architecture: &str, source: &impl Source) -> Result<Array1<f64>, SweepError> {
    let name = file(architecture, SINGULAR_VALUES);
    parse_vector(&source.artifact(&name)?, Path::new(&name)).map_err(|error| unreadable(&name, &error))
}

fn facts(architecture: &str, source: &impl Source) -> Result<Facts, SweepError> {
    let name = file(architecture, FACTS);
    serde_json::from_slice(&source.artifact(&name)?).map_err(|error| SweepError::unreadable(&name, error))
}

/// These errors begin with the name.
fn unreadable(name: &str, error: &NpyError) -> SweepError {
    let text = error.to_string();
    SweepError::unreadable(name, text.strip_prefix(&format!("{name}: ")).unwrap_or(&text))
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
