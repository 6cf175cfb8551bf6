//! The picture of one architecture's NADs: a gallery of directions over the normalised spectrum.
//!
//! ```text
//! page ── header (what was measured)
//!      ── gallery    leading NADs, each over its DFT magnitude; later NADs at logarithmic steps
//!      ── spectrum   sᵢ²/Σs² on log-log axes │ key   colour bars, line samples, energy shares
//! ```
//!
//! Absent: error bars, and any fit to the data.

mod dft;
mod gallery;
mod key;
mod page;
mod spectrum;

use ndarray::{ArrayView1, ArrayView2};

use super::{Figure, FigureError, InputShape};
use spectrum::Shares;

/// A second spectrum drawn for comparison, normalised by its own sum.
#[derive(Clone, Copy, Debug)]
pub struct ReferenceSpectrum<'a> {
    /// What the key calls it.
    pub label: &'a str,
    /// Singular values in decreasing order.
    pub singular_values: ArrayView1<'a, f64>,
}

/// What a NAD figure shows.
#[derive(Clone, Copy, Debug)]
pub struct NadFigure<'a> {
    /// Name of the architecture.
    pub architecture: &'a str,
    /// N, the number of networks sampled.
    pub networks: Option<u64>,
    /// How gradients were estimated, in words ("central differences").
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
pub fn nad_figure(figure: &NadFigure<'_>) -> Result<Figure, FigureError> {
    check_nads(figure)?;
    let shares = Shares::new(figure.architecture, figure.singular_values)?;
    let reference =
        figure.reference.map(|reference| Shares::new(reference.label, reference.singular_values)).transpose()?;
    Ok(Figure { svg: page::draw(figure, &shares, reference.as_ref())? })
}

fn check_nads(figure: &NadFigure<'_>) -> Result<(), FigureError> {
    let (rows, dimension) = figure.nads.dim();
    if rows == 0 || dimension == 0 {
        return Err(FigureError::Empty { rows, dimension });
    }
    let expected = figure.shape.dimension();
    if expected != dimension {
        return Err(FigureError::Shape { found: dimension, shape: figure.shape, expected });
    }
    let singular_values = figure.singular_values.len();
    if singular_values < rows {
        return Err(FigureError::TooFewSingularValues { nads: rows, singular_values });
    }
    match figure.nads.indexed_iter().find(|(_, value)| !value.is_finite()) {
        Some(((row, column), &value)) => Err(FigureError::NotFinite { row, column, value }),
        None => Ok(()),
    }
}
