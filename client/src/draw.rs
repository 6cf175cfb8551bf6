//! One architecture's arrays as a figure, and what a closing table says of its spectrum.

use crate::error::Error;
use nadgrid_core::architecture::find;
use nadgrid_core::spec::{Estimator, Spec};
use nadgrid_figures::npy::{parse_matrix, parse_vector};
use nadgrid_figures::{InputShape, NadFigure, nad_figure};
use std::fmt;
use std::path::Path;

/// A figure, and the spectrum it was drawn from.
#[derive(Clone, Debug)]
pub struct Drawing {
    /// The figure as a self-contained SVG document.
    pub svg: String,
    /// The figure as PNG.
    pub png: Vec<u8>,
    /// The spectrum.
    pub spectrum: Spectrum,
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

/// Draws the NADs of `architecture` from the bytes of `nads.npy` (k x D) and `singular_values.npy`. Takes a second or
/// so, and no I/O.
///
/// # Errors
/// [`Error::Draw`].
pub fn draw(spec: &Spec, architecture: &str, nads: &[u8], singular_values: &[u8]) -> Result<Drawing, Error> {
    let name = |file: &str| format!("nads/{architecture}/{file}");
    let figure_name = name("figure.svg");
    let failed = |e: &dyn fmt::Display| Error::Draw { what: figure_name.clone(), reason: e.to_string() };
    // The errors of these two begin with the name.
    let unreadable = |e: nadgrid_figures::npy::NpyError| {
        let text = e.to_string();
        let (what, reason) = text.split_once(": ").unwrap_or((&figure_name, &text));
        Error::Draw { what: what.into(), reason: reason.into() }
    };
    let nads = parse_matrix(nads, Path::new(&name("nads.npy"))).map_err(unreadable)?;
    let values = parse_vector(singular_values, Path::new(&name("singular_values.npy"))).map_err(unreadable)?;
    let shape = spec.shape();
    let figure = nad_figure(&NadFigure {
        architecture: find(architecture).map_or(architecture, |known| known.title),
        networks: Some(spec.nads.networks),
        estimator: estimator_words(spec.nads.estimator),
        step: Some(spec.nads.step),
        shape: InputShape { channels: shape.channels, height: shape.height, width: shape.width },
        nads: nads.view(),
        singular_values: values.view(),
        reference: None,
    })
    .map_err(|e| failed(&e))?;
    let png = figure.png().map_err(|e| failed(&e))?;
    Ok(Drawing { svg: figure.svg().to_owned(), png, spectrum: Spectrum(values.to_vec()) })
}

fn estimator_words(estimator: Estimator) -> &'static str {
    match estimator {
        Estimator::CentralDifference => "central differences",
    }
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

    #[test]
    fn arrays_that_are_none_are_refused_by_name() {
        let spec = Spec::from_toml("name = 'x'\narchitectures = ['lenet']\n[nads]\nnetworks = 2").unwrap();
        let error = draw(&spec, "lenet", b"no array", b"").unwrap_err().to_string();
        assert!(error.starts_with("nads/lenet/nads.npy: not a .npy file"), "{error}");
    }
}
