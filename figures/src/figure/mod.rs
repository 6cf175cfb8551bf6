//! Pictures of what was measured, each as one SVG document and as a PNG.
//!
//! The SVG is composed by hand ([`svg`]): plotters places everything on whole pixels and has no bitmaps in its SVG
//! backend, while a page with embedded images, a few axes and one font needs little more than `format!`.
//!
//! Absent: animation, interactive parts, and any fit to the data.

mod accuracy_bars;
mod accuracy_curve;
mod accuracy_map;
mod axis;
mod bitmap;
mod error;
mod input;
mod legend;
mod margin_curve;
mod marks;
mod nad;
mod numbers;
mod raster;
mod sheet;
mod svg;
mod theme;

pub use accuracy_bars::{AccuracyBars, BarGroup, BarSeries, Origin, accuracy_bars};
pub use accuracy_curve::{AccuracyCurve, CurvePoint, CurveSeries, ReferenceCurve, ReferencePoint, accuracy_curve};
pub use accuracy_map::{AccuracyMap, MapCell, accuracy_map};
pub use error::FigureError;
pub use input::{Level, SeedRange};
pub use margin_curve::{MarginBlock, MarginCurve, MarginSeries, margin_curve};
pub use nad::{
    NadFigure, NadPair, NadSide, ReferenceSpectrum, SingleNad, Spectra, SpectrumSeries, nad_figure, nad_pair,
    single_nad, spectra,
};
pub use theme::Theme;

/// The shape of a network's input; a NAD is laid out channel by channel, row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputShape {
    /// The number of channels.
    pub channels: usize,
    /// The number of pixel rows.
    pub height: usize,
    /// The number of pixel columns.
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
    /// [`FigureError::Render`] or [`FigureError::Bitmap`], neither of which a figure of this crate should give.
    pub fn png(&self) -> Result<Vec<u8>, FigureError> {
        raster::render(&self.svg)
    }
}
