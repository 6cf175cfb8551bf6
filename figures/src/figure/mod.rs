//! The picture of one architecture's NADs: a gallery of directions over the normalised spectrum.
//!
//! The SVG is composed by hand ([`svg`]): plotters places everything on whole pixels and has no bitmaps in its SVG
//! backend, while a page with embedded images, a log-log plot and one font needs little more than `format!`.
//!
//! ```text
//! page ── header (what was measured)
//!      ── gallery    leading NADs, each over its DFT magnitude; later NADs at logarithmic steps
//!      ── spectrum   sᵢ²/Σs² on log-log axes │ key   colour bars, line samples, energy shares
//! ```
//!
//! Absent: error bars, animation, interactive parts, and any fit to the data.

mod bitmap;
mod dft;
mod gallery;
mod key;
mod page;
mod raster;
mod spectrum;
mod svg;

use ndarray::{ArrayView1, ArrayView2};
use thiserror::Error;

use spectrum::Shares;

/// Why a figure could not be drawn.
#[derive(Debug, Error)]
pub enum FigureError {
    /// There is nothing to draw.
    #[error("no NADs to draw (shape {rows} x {dimension})")]
    Empty {
        /// Number of NADs.
        rows: usize,
        /// Their length.
        dimension: usize,
    },
    /// The NADs do not have the input's size.
    #[error("NADs of length {found} do not fit an input of {shape}, which has {expected} values")]
    Shape {
        /// Length of a NAD.
        found: usize,
        /// The input.
        shape: InputShape,
        /// channels · height · width.
        expected: usize,
    },
    /// A NAD holds an infinity or a NaN.
    #[error("NAD {row} is {value} at position {column}")]
    NotFinite {
        /// Which NAD.
        row: usize,
        /// Where in it.
        column: usize,
        /// The value.
        value: f64,
    },
    /// There are fewer singular values than NADs.
    #[error("{nads} NADs, but only {singular_values} singular values")]
    TooFewSingularValues {
        /// Number of NADs.
        nads: usize,
        /// Number of singular values.
        singular_values: usize,
    },
    /// A singular value is negative or not finite, or the first is zero.
    #[error("singular value {index} of {spectrum} is {value}")]
    SingularValue {
        /// Label of the spectrum.
        spectrum: String,
        /// Index from 0.
        index: usize,
        /// The value.
        value: f64,
    },
    /// A bitmap could not be encoded.
    #[error("a bitmap of {width} x {height} pixels: {reason}")]
    Bitmap {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// What went wrong.
        reason: String,
    },
    /// The SVG could not be read back for rendering.
    #[error("rendering the figure: {0}")]
    Render(#[from] resvg::usvg::Error),
}

/// The shape of a network's input; a NAD is laid out channel by channel, row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputShape {
    /// Number of channels.
    pub channels: usize,
    /// Rows of pixels.
    pub height: usize,
    /// Columns of pixels.
    pub width: usize,
}

impl InputShape {
    /// D, the number of values in one input.
    pub fn dimension(&self) -> usize {
        self.channels * self.height * self.width
    }
}

impl std::fmt::Display for InputShape {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} × {} × {}", self.channels, self.height, self.width)
    }
}

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

/// A finished picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    svg: String,
}

impl Figure {
    /// The picture as a self-contained SVG document.
    pub fn svg(&self) -> &str {
        &self.svg
    }

    /// The picture as a PNG, two pixels to an SVG unit, its text set in the embedded DejaVu Sans.
    ///
    /// # Errors
    /// [`FigureError::Render`] or [`FigureError::Bitmap`], neither of which a figure from [`nad_figure`] should give.
    pub fn png(&self) -> Result<Vec<u8>, FigureError> {
        raster::render(&self.svg)
    }
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
