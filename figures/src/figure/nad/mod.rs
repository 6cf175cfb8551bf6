//! This module draws pictures of NADs. That of one architecture is a gallery of directions over the normalised spectrum:
//!
//! ```text
//! page ── header (what was measured)
//!      ── gallery    leading NADs, each over its DFT magnitude; later NADs at logarithmic steps
//!      ── spectrum   sᵢ²/Σs² on log-log axes │ key   colour bars, line samples, energy shares
//! ```
//!
//! Beside it: one NAD alone ([`single_nad`]), two architectures index by index ([`nad_pair`]), and the spectra of several
//! ([`spectra`]). Absent: any fit to the data.

mod dft;
mod gallery;
mod key;
mod layout;
mod page;
mod pair;
mod single;
mod spectra;
mod spectrum;

use ndarray::{Array2, Array3, ArrayView1, ArrayView2};

use super::{Figure, FigureError, InputShape, Theme};
use spectrum::SpectrumShares;

pub use pair::{NadPair, NadSide, nad_pair};
pub use single::{SingleNad, single_nad};
pub use spectra::{Spectra, SpectrumSeries, spectra};

/// A second spectrum drawn for comparison, normalised by its own sum.
#[derive(Clone, Copy, Debug)]
pub struct ReferenceSpectrum<'a> {
    /// The name in the key.
    pub label: &'a str,
    /// Singular values in decreasing order.
    pub singular_values: ArrayView1<'a, f64>,
}

/// The content of a NAD figure.
#[derive(Clone, Copy, Debug)]
pub struct NadFigure<'a> {
    /// The name of the architecture.
    pub architecture: &'a str,
    /// N, the number of networks sampled.
    pub networks: Option<u64>,
    /// The estimator of the gradients, in words ("central differences").
    pub estimator: &'a str,
    /// h, the step of a finite difference.
    pub step: Option<f64>,
    /// The input's shape.
    pub shape: InputShape,
    /// k × D, one NAD a row, in order of decreasing singular value.
    pub nads: ArrayView2<'a, f64>,
    /// Singular values, at least k of them; more only enter the spectrum.
    pub singular_values: ArrayView1<'a, f64>,
    /// A second spectrum, if any.
    pub reference: Option<ReferenceSpectrum<'a>>,
}

/// Draws one architecture's NADs.
///
/// - The first 8 NADs, then up to 8 more at logarithmic steps to the last one. Each is a pixel map (blue negative, red
///   positive, limits symmetric about 0) over the magnitude of its 2-D DFT (zero frequency in the centre).
/// - *Several channels* are stacked, at most four of them, on one colour scale for the whole NAD; the DFT magnitude
///   below is the root of the summed squares over all channels.
/// - NADs whose sᵢ² is below 1e-12 s₀² (fewer networks than dimensions) span a null space in an arbitrary basis. They
///   are neither shown nor plotted.
/// - The spectrum is sᵢ²/Σs² over the singular values given.
///
/// # Errors
/// The arrays are empty, do not fit each other, or hold values that cannot be drawn.
pub fn nad_figure(figure: &NadFigure<'_>, theme: Theme) -> Result<Figure, FigureError> {
    check_nads(figure)?;
    let shares = SpectrumShares::new(figure.architecture, figure.singular_values)?;
    let reference = figure
        .reference
        .map(|reference| SpectrumShares::new(reference.label, reference.singular_values))
        .transpose()?;
    Ok(Figure { svg: page::draw(figure, &shares, reference.as_ref(), theme)? })
}

fn check_nads(figure: &NadFigure<'_>) -> Result<(), FigureError> {
    check_rows(figure.nads, figure.shape)?;
    let nads = figure.nads.nrows();
    let singular_values = figure.singular_values.len();
    if singular_values < nads {
        return Err(FigureError::TooFewSingularValues { nads, singular_values });
    }
    Ok(())
}

/// Checks that there are NADs, finite and of the input's size.
fn check_rows(nads: ArrayView2<'_, f64>, shape: InputShape) -> Result<(), FigureError> {
    let (rows, dimension) = nads.dim();
    if rows == 0 || dimension == 0 {
        return Err(FigureError::Empty { rows, dimension });
    }
    let expected = shape.dimension();
    if expected != dimension {
        return Err(FigureError::Shape { found: dimension, shape, expected });
    }
    match nads.indexed_iter().find(|(_, value)| !value.is_finite()) {
        Some(((row, column), &value)) => Err(FigureError::NotFinite { row, column, value }),
        None => Ok(()),
    }
}

/// A NAD as it is drawn: its channels, and what they hold by frequency.
struct Maps {
    /// channels x height x width.
    channels: Array3<f64>,
    /// The largest magnitude of a value.
    limit: f64,
    /// Magnitude of the DFT over all channels, zero frequency in the centre.
    magnitude: Array2<f64>,
    /// Its largest value.
    max: f64,
}

impl Maps {
    fn new(nad: ArrayView1<'_, f64>, shape: InputShape) -> Result<Self, FigureError> {
        let InputShape { channels, height, width } = shape;
        let channels = Array3::from_shape_vec((channels, height, width), nad.to_vec())
            .map_err(|error| FigureError::Bitmap { width, height, reason: error.to_string() })?;
        let limit = channels.fold(0.0_f64, |limit, value| limit.max(value.abs()));
        let magnitude = dft::magnitude(channels.view());
        let max = magnitude.fold(0.0_f64, |max, &value| max.max(value));
        Ok(Self { channels, limit, magnitude, max })
    }
}
