//! Each architecture's NADs and spectrum.

use std::path::Path;

use nadgrid_core::{
    spec::{Estimator, Experiment, Spec},
    text::thousands,
};
use ndarray::{Array1, Array2};
use serde::Deserialize;

use super::{NadsSummary, Picture, Source, SweepError, shape, title};
use crate::{
    Figure, NadFigure, NadPair, NadSide, SingleNad, Spectra, SpectrumSeries, Theme, nad_figure, nad_pair,
    npy::{NpyError, parse_matrix, parse_row, parse_vector},
    single_nad, spectra,
};

pub(super) const NADS: &str = "nads.npy";
pub(super) const SINGULAR_VALUES: &str = "singular_values.npy";
pub(super) const STANDARD_ERRORS: &str = "standard_errors.npy";
pub(super) const FACTS: &str = "spectrum.json";

/// Files of an architecture's folder from which it is drawn and summed up.
pub(super) const FILES: [&str; 4] = [NADS, SINGULAR_VALUES, STANDARD_ERRORS, FACTS];

/// Singular values of the centred N x D gradient matrix, in decreasing order.
#[derive(Clone, Debug, PartialEq)]
pub struct Spectrum(pub Vec<f64>);

impl Spectrum {
    /// The largest singular value.
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
struct SpectrumFacts {
    effective_rank: f64,
    anisotropy: f64,
}

/// Draws the NADs of an architecture.
pub(super) fn draw(spec: &Spec, picture: &Picture, source: &impl Source, theme: Theme) -> Result<Figure, SweepError> {
    let architecture = picture.architectures.first().map_or("", String::as_str);
    let nads = matrix(architecture, source)?;
    let singular_values = singular_values(architecture, source)?;
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
    nad_figure(&figure, theme).map_err(|source| SweepError::Figure { name: picture.name.clone(), source })
}

/// The numbers of an architecture.
pub(super) fn summary(architecture: &str, source: &impl Source) -> Result<NadsSummary, SweepError> {
    let SpectrumFacts { effective_rank, anisotropy } = facts(architecture, source)?;
    let spectrum = Spectrum(singular_values(architecture, source)?.to_vec());
    Ok(NadsSummary { spectrum, effective_rank, anisotropy })
}

/// Draws one NAD. Only its row is read.
pub(super) fn draw_nad(
    spec: &Spec,
    picture: &Picture,
    source: &impl Source,
    theme: Theme,
) -> Result<Figure, SweepError> {
    let architecture = picture.architectures.first().map_or("", String::as_str);
    let name = file(architecture, NADS);
    let bytes = source.artifact(&name)?;
    let nad =
        parse_row(&bytes, Path::new(&name), picture.index.unwrap_or(0)).map_err(|error| unreadable(&name, &error))?;
    let view = SingleNad { title: &picture.title, subtitle: &setting(spec), shape: shape(spec), nad: nad.view() };
    single_nad(&view, theme).map_err(|source| SweepError::Figure { name: picture.name.clone(), source })
}

/// Draws the first NADs of two architectures.
pub(super) fn draw_pair(
    spec: &Spec,
    picture: &Picture,
    source: &impl Source,
    theme: Theme,
) -> Result<Figure, SweepError> {
    let read = |architecture: &String| Ok((matrix(architecture, source)?, singular_values(architecture, source)?));
    let sides = picture.architectures.iter().map(read).collect::<Result<Vec<_>, SweepError>>()?;
    let side = |place: usize| {
        let (nads, singular_values) = sides.get(place)?;
        let name = title(picture.architectures.get(place)?);
        Some(NadSide { name, nads: nads.view(), singular_values: singular_values.view() })
    };
    let Some((first, second)) = side(0).zip(side(1)) else {
        return Err(SweepError::nothing(&picture.name, "it takes two architectures"));
    };
    let pair = NadPair { title: &picture.title, subtitle: &setting(spec), shape: shape(spec), first, second };
    nad_pair(&pair, theme).map_err(|source| SweepError::Figure { name: picture.name.clone(), source })
}

/// Draws the spectra of all architectures whose NADs are there.
pub(super) fn draw_spectra(
    spec: &Spec,
    picture: &Picture,
    source: &impl Source,
    theme: Theme,
) -> Result<Figure, SweepError> {
    let mut found = Vec::new();
    for architecture in &picture.architectures {
        // While a sweep is computed, some architectures have their NADs and others do not.
        let Some(values) = unless_missing(singular_values(architecture, source))? else { continue };
        let errors = unless_missing(vector(architecture, STANDARD_ERRORS, source))?;
        let facts = unless_missing(facts(architecture, source))?;
        found.push((title(architecture), values, errors, facts));
    }
    if found.is_empty() {
        return Err(SweepError::nothing(&picture.name, "no architecture has its NADs so far"));
    }
    let series = found.iter().map(|(name, values, errors, facts)| SpectrumSeries {
        name,
        singular_values: values.view(),
        standard_errors: errors.as_ref().map(|errors| errors.view()),
        effective_rank: facts.as_ref().map(|facts| facts.effective_rank),
    });
    let so_far = match picture.architectures.len() {
        all if found.len() < all => format!(" · {} of {all} architectures so far", found.len()),
        _ => String::new(),
    };
    let subtitle = setting(spec) + &so_far;
    let series = series.collect::<Vec<_>>();
    let figure = Spectra { title: &picture.title, subtitle: &subtitle, series: &series };
    spectra(&figure, theme).map_err(|source| SweepError::Figure { name: picture.name.clone(), source })
}

fn unless_missing<T>(found: Result<T, SweepError>) -> Result<Option<T>, SweepError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(SweepError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the measurement of the NADs, for a subtitle.
fn setting(spec: &Spec) -> String {
    let networks = spec.nads.as_ref().map(|nads| format!("N = {} networks · ", thousands(nads.networks)));
    let estimator = match estimator(spec) {
        (estimator, Some(step)) => format!("{estimator}, h = {step}"),
        (estimator, None) => estimator.to_owned(),
    };
    format!("{}{estimator} · input {}", networks.unwrap_or_default(), shape(spec))
}

/// Returns the estimator of the gradients, in words, with its step.
fn estimator(spec: &Spec) -> (&'static str, Option<f64>) {
    match &spec.nads {
        Some(nads) if nads.estimator == Estimator::CentralDifference => ("central differences", Some(nads.step)),
        _ => ("backpropagation", None),
    }
}

/// Names of these files of an architecture.
pub(super) fn files(architecture: &str, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| file(architecture, name)).collect()
}

fn file(architecture: &str, name: &str) -> String {
    format!("{}/{architecture}/{name}", Experiment::Nads)
}

fn matrix(architecture: &str, source: &impl Source) -> Result<Array2<f64>, SweepError> {
    let name = file(architecture, NADS);
    parse_matrix(&source.artifact(&name)?, Path::new(&name)).map_err(|error| unreadable(&name, &error))
}

fn singular_values(architecture: &str, source: &impl Source) -> Result<Array1<f64>, SweepError> {
    vector(architecture, SINGULAR_VALUES, source)
}

fn vector(architecture: &str, name: &str, source: &impl Source) -> Result<Array1<f64>, SweepError> {
    let name = file(architecture, name);
    parse_vector(&source.artifact(&name)?, Path::new(&name)).map_err(|error| unreadable(&name, &error))
}

fn facts(architecture: &str, source: &impl Source) -> Result<SpectrumFacts, SweepError> {
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
