//! The reason why a figure could not be drawn: what is wrong with its input, or what failed in the making.

use thiserror::Error;

use super::InputShape;

/// The reason why a figure could not be drawn.
#[derive(Debug, Error)]
pub enum FigureError {
    /// There is nothing to draw.
    #[error("no NADs to draw (shape {rows} x {dimension})")]
    Empty {
        /// The number of NADs.
        rows: usize,
        /// Their length.
        dimension: usize,
    },
    /// The NADs do not have the input's size.
    #[error("NADs of length {found} do not fit an input of {shape}, which has {expected} values")]
    Shape {
        /// The length of a NAD.
        found: usize,
        /// The input.
        shape: InputShape,
        /// channels · height · width.
        expected: usize,
    },
    /// A NAD holds an infinity or a NaN.
    #[error("NAD {row} is {value} at position {column}")]
    NotFinite {
        /// The index of the NAD.
        row: usize,
        /// The index within the NAD.
        column: usize,
        /// The value.
        value: f64,
    },
    /// There are fewer singular values than NADs.
    #[error("{nads} NADs, but only {singular_values} singular values")]
    TooFewSingularValues {
        /// The number of NADs.
        nads: usize,
        /// The number of singular values.
        singular_values: usize,
    },
    /// A singular value is negative or not finite, or the first is zero.
    #[error("singular value {index} of {spectrum} is {value}")]
    SingularValue {
        /// The label of the spectrum.
        spectrum: String,
        /// The index, counted from 0.
        index: usize,
        /// The value.
        value: f64,
    },
    /// A list of the figure's input holds nothing.
    #[error("{field} is empty")]
    EmptyField {
        /// The list, as a path in the input: `series[1].points`.
        field: String,
    },
    /// A value of the figure's input cannot be drawn.
    #[error("{field} is {value}; accepted is {accepted}")]
    Value {
        /// The value's place, as a path in the input: `series[1].points[3].index`.
        field: String,
        /// The value.
        value: f64,
        /// The thing to draw, in words.
        accepted: String,
    },
    /// Two cells of a map lie at the same frequencies.
    #[error("cells[{first}] and cells[{second}] both lie at k1 = {k1}, k2 = {k2}")]
    SameCell {
        /// One of them.
        first: usize,
        /// The other.
        second: usize,
        /// Their row.
        k1: i64,
        /// Their column.
        k2: i64,
    },
    /// A bitmap could not be encoded.
    #[error("a bitmap of {width} x {height} pixels: {reason}")]
    Bitmap {
        /// The width in pixels.
        width: usize,
        /// The height in pixels.
        height: usize,
        /// The reason.
        reason: String,
    },
    /// The SVG could not be read back for rendering.
    #[error("rendering the figure: {0}")]
    Render(#[from] resvg::usvg::Error),
}
