//! nadgrid-figures: pictures and comparisons of Neural Anisotropy Directions (NADs).
//!
//! The command line, the result files and the coordinator's page draw with this one code:
//!
//! - [`npy`] reads and writes the `.npy` arrays in which NADs travel;
//! - [`NadSet`] finds the arrays that belong together in a result folder or among published files;
//! - [`compare`] says how far two NAD sets agree, subspace by subspace;
//! - [`nad_figure`] draws one architecture's NADs and its spectrum, as SVG and as PNG; [`single_nad`] one NAD in detail,
//!   [`nad_pair`] two architectures side by side, [`spectra`] the spectra of several;
//! - [`accuracy_map`], [`accuracy_curve`] and [`accuracy_bars`] draw what networks learned from which directions, and
//!   [`margin_curve`] how far away they put their decision boundaries;
//! - [`sweep`] knows which of these a sweep has, and draws them from its files or from the runs that have ended so far.
//!
//! Absent: the network, the clock, threads and random numbers. The same input gives the same bytes;
//! files are only read, and only by [`npy`] and [`NadSet`].

mod comparison;
mod figure;
mod nad_set;
pub mod npy;
pub mod sweep;

pub use comparison::{
    CompareError, Comparison, ORTHONORMALITY_TOLERANCE, Side, SingularValueRatio, SubspaceOverlap, compare,
    singular_value_ratios,
};
pub use figure::{
    AccuracyBars, AccuracyCurve, AccuracyMap, BarGroup, BarSeries, CurvePoint, CurveSeries, Figure, FigureError,
    InputShape, Level, MapCell, MarginBlock, MarginCurve, MarginSeries, NadFigure, NadPair, NadSide, Origin,
    ReferenceCurve, ReferencePoint, ReferenceSpectrum, SeedRange, SingleNad, Spectra, SpectrumSeries, Theme,
    accuracy_bars, accuracy_curve, accuracy_map, margin_curve, nad_figure, nad_pair, single_nad, spectra,
};
pub use nad_set::{NadSet, NadSetError};
