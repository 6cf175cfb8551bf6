//! Bases of directions: what is checked before one is used, and what a published one lacks.

use crate::simd::{InstructionSet, Kernel, Simd};
use thiserror::Error;

/// The largest distance of the products of a basis's rows from 1 (a row with itself) and 0 (with another).
pub const ORTHONORMAL_TOLERANCE: f64 = 1e-4;

/// A basis that cannot be used, or not on these inputs.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum BasisError {
    /// No whole rows.
    #[error("the basis has {numbers} numbers, expected whole rows of {dimension}")]
    Length {
        /// The number of values in the basis.
        numbers: usize,
        /// The number of values in a row.
        dimension: usize,
    },
    /// None, or more rows than can be orthonormal.
    #[error("the basis has {rows} rows, expected 1 to {dimension}")]
    Rows {
        /// The number of rows of the basis.
        rows: usize,
        /// The number of values in a row.
        dimension: usize,
    },
    /// A number that is not finite.
    #[error("element {element} of row {row} of the basis is {value}, expected a finite number")]
    NotFinite {
        /// The row, counted from 0.
        row: usize,
        /// Its element, counted from 0.
        element: usize,
        /// The number.
        value: f64,
    },
    /// Rows that are not of norm 1 or not perpendicular.
    #[error(
        "rows {a} and {b} of the basis have the product {product}, expected {} within {ORTHONORMAL_TOLERANCE}",
        u8::from(a == b)
    )]
    NotOrthonormal {
        /// A row, counted from 0.
        a: usize,
        /// The index of the other row, or of the same.
        b: usize,
        /// Their scalar product.
        product: f64,
    },
    /// Inputs that are not made of three channels.
    #[error("the inputs have {numbers} numbers, expected 3 channels of as many numbers as a row of the basis")]
    Channels {
        /// The number of values in an input.
        numbers: usize,
    },
    /// Inputs that are not made of channels of a row's length.
    #[error("the inputs have {numbers} numbers, expected a multiple of {dimension}, as many as a row of the basis")]
    Inputs {
        /// The number of values in an input.
        numbers: usize,
        /// The number of values in a row.
        dimension: usize,
    },
    /// Two neighbouring rows are asked for of which one is not there.
    #[error("rows {p} and {} of the basis are needed, which has {rows} rows", p + 1)]
    NoPair {
        /// The first of the two.
        p: usize,
        /// The number of rows of the basis.
        rows: usize,
    },
}

/// D orthonormal rows of D numbers, to the last bits of f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Basis {
    dimension: usize,
    rows: Vec<f64>,
}

impl Basis {
    /// Rows, and numbers of each.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// The matrix, D x D, row-major.
    pub fn rows(&self) -> &[f64] {
        &self.rows
    }
}

/// Makes D orthonormal rows of k (k x `dimension`, row-major): those given come first, made orthonormal to f64 from the first on
/// (Gram and Schmidt, modified), then directions perpendicular to all. Of these each is the part of the pixel of which most is
/// missing, the first of equals.
///
/// # Errors
/// [`BasisError`] when there are no whole rows, none or too many, a number is not finite, or rows are not orthonormal within
/// [`ORTHONORMAL_TOLERANCE`].
pub fn complete(rows: &[f64], dimension: usize) -> Result<Basis, BasisError> {
    if dimension == 0 || !rows.len().is_multiple_of(dimension) {
        return Err(BasisError::Length { numbers: rows.len(), dimension });
    }
    let count = rows.len() / dimension;
    if count == 0 || count > dimension {
        return Err(BasisError::Rows { rows: count, dimension });
    }
    if let Some(place) = rows.iter().position(|x| !x.is_finite()) {
        let row = place / dimension;
        let element = place % dimension;
        return Err(BasisError::NotFinite { row, element, value: rows[place] });
    }
    InstructionSet::best().run(Complete { rows, dimension })
}

struct Complete<'a> {
    rows: &'a [f64],
    dimension: usize,
}

impl Kernel for Complete<'_> {
    type Output = Result<Basis, BasisError>;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Result<Basis, BasisError> {
        let Self { rows, dimension } = self;
        let mut done = Vec::with_capacity(dimension * dimension);
        // What of each pixel's square no row has yet.
        let mut missing = vec![1.0; dimension];
        for (place, row) in rows.chunks_exact(dimension).enumerate() {
            let mut row = row.to_vec();
            check(place, place, dot(&row, &row))?;
            for (before, other) in done.chunks_exact(dimension).enumerate() {
                check(before, place, subtract(&mut row, other))?;
            }
            append(&mut row, &mut done, &mut missing);
        }
        while done.len() < dimension * dimension {
            let pixel = (1..dimension).fold(0, |best, i| if missing[i] > missing[best] { i } else { best });
            let mut row = vec![0.0; dimension];
            row[pixel] = 1.0;
            // A second time for what the first one's rounding left.
            for _ in 0..2 {
                for other in done.chunks_exact(dimension) {
                    subtract(&mut row, other);
                }
            }
            append(&mut row, &mut done, &mut missing);
        }
        Ok(Basis { dimension, rows: done })
    }
}

fn check(a: usize, b: usize, product: f64) -> Result<(), BasisError> {
    let expected = if a == b { 1.0 } else { 0.0 };
    if (product - expected).abs() <= ORTHONORMAL_TOLERANCE {
        return Ok(());
    }
    Err(BasisError::NotOrthonormal { a, b, product })
}

/// Takes the part along `other` from a row; returns how much it was.
#[inline(always)]
fn subtract(row: &mut [f64], other: &[f64]) -> f64 {
    let along = dot(row, other);
    row.iter_mut().zip(other).for_each(|(x, o)| *x -= along * o);
    along
}

/// Scales a row to norm 1 and appends it.
#[inline(always)]
fn append(row: &mut [f64], done: &mut Vec<f64>, missing: &mut [f64]) {
    let norm = dot(row, row).sqrt();
    for (x, missing) in row.iter_mut().zip(missing) {
        *x /= norm;
        *missing -= *x * *x;
    }
    done.extend_from_slice(row);
}

/// A scalar product: number i in chain i mod 16, the chains summed in order, then what is left over.
#[inline(always)]
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, a_rest) = a.as_chunks::<16>();
    let (b, b_rest) = b.as_chunks::<16>();
    let mut sums = [0.0; 16];
    for (a, b) in a.iter().zip(b) {
        for i in 0..16 {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}
