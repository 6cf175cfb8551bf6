//! This module compares two sets of NADs by the overlap of their leading subspaces, and the ratio of their singular values.
//!
//! NADs with nearby singular values are defined only up to a rotation among themselves, and each one only up to its
//! sign, so vectors are never compared one by one: the span of the top k is. Absent: alignment of the two sets, error
//! bars, and any judgement of which overlap is good enough.

use ndarray::{Array2, ArrayView1, ArrayView2};
use thiserror::Error;

/// The most that |⟨uᵢ, uⱼ⟩ − δᵢⱼ| may be before a row is refused. The published f32 files stay within 2e-6.
pub const ORTHONORMALITY_TOLERANCE: f64 = 1e-3;

/// The indices at which singular values are compared, those of SCIENCE.md's table.
const RATIO_INDICES: [usize; 3] = [0, 9, 99];

/// One of the two compared sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first argument.
    A,
    /// The second argument.
    B,
}

impl std::fmt::Display for Side {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Side::A => "first",
            Side::B => "second",
        })
    }
}

/// The reason why two sets cannot be compared.
#[derive(Debug, Error, PartialEq)]
pub enum CompareError {
    /// The directions live in spaces of different dimension.
    #[error("the first set has {a}-dimensional directions, the second {b}-dimensional ones")]
    Dimension {
        /// D of the first set.
        a: usize,
        /// D of the second set.
        b: usize,
    },
    /// A set has no rows.
    #[error("the {side} set is empty")]
    Empty {
        /// The set.
        side: Side,
    },
    /// A row is not of unit length, or not orthogonal to another.
    #[error(
        "the {side} set is not orthonormal: ⟨u{row}, u{other}⟩ is off by {deviation:.3e}, \
         more than {ORTHONORMALITY_TOLERANCE:e}"
    )]
    NotOrthonormal {
        /// The set.
        side: Side,
        /// The first row that is off.
        row: usize,
        /// The row with which its inner product is furthest from what it should be; itself for a wrong length.
        other: usize,
        /// |⟨u_row, u_other⟩ − δ|.
        deviation: f64,
    },
}

/// The agreement of two NAD sets.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// D, the dimension of the input space.
    pub dimension: usize,
    /// One entry for each k = 1, 2, 4, …, and for the whole of the smaller set.
    pub overlaps: Vec<SubspaceOverlap>,
    /// One entry for each compared index that both spectra have; empty where a spectrum is missing.
    pub singular_values: Vec<SingularValueRatio>,
}

/// Agreement of the spans of the first k NADs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SubspaceOverlap {
    /// The number of leading NADs that span the compared subspaces.
    pub k: usize,
    /// Mean squared overlap ‖A_k B_kᵀ‖²_F / k: 1 for equal subspaces, 0 for orthogonal ones.
    pub overlap: f64,
    /// k/D, the mean of the overlap over random subspaces.
    pub chance: f64,
}

/// Singular value i of the first set against that of the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SingularValueRatio {
    /// The index i, counted from 0.
    pub index: usize,
    /// sᵢ of the first set.
    pub a: f64,
    /// sᵢ of the second set.
    pub b: f64,
    /// sᵢᵃ/sᵢᵇ · √((N_b−1)/(N_a−1)): the ratio of the standard deviations along uᵢ. `None` while either number of
    /// networks N is unknown, below 2, or sᵢᵇ is zero.
    pub ratio: Option<f64>,
}

/// Compares two sets of NADs (rows, in order of decreasing singular value), which may differ in their number of rows.
///
/// # Errors
/// The sets differ in D, one is empty, or a row is not orthonormal to [`ORTHONORMALITY_TOLERANCE`].
pub fn compare(a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>) -> Result<Comparison, CompareError> {
    let dimension = a.ncols();
    if b.ncols() != dimension {
        return Err(CompareError::Dimension { a: dimension, b: b.ncols() });
    }
    check_orthonormal(a, Side::A)?;
    check_orthonormal(b, Side::B)?;
    let squared_norms = leading_squared_norms(&a.dot(&b.t()));
    let overlaps = subspace_sizes(squared_norms.len())
        .map(|k| SubspaceOverlap { k, overlap: squared_norms[k - 1] / k as f64, chance: k as f64 / dimension as f64 })
        .collect();
    Ok(Comparison { dimension, overlaps, singular_values: Vec::new() })
}

/// Compares two spectra at indices 0, 9 and 99, as far as both reach; N is the number of networks behind each.
pub fn singular_value_ratios(
    a: ArrayView1<'_, f64>,
    networks_a: Option<u64>,
    b: ArrayView1<'_, f64>,
    networks_b: Option<u64>,
) -> Vec<SingularValueRatio> {
    let degrees = |networks: Option<u64>| networks.filter(|&n| n > 1).map(|n| (n - 1) as f64);
    let scale = degrees(networks_a).zip(degrees(networks_b)).map(|(of_a, of_b)| (of_b / of_a).sqrt());
    RATIO_INDICES
        .into_iter()
        .take_while(|&index| index < a.len().min(b.len()))
        .map(|index| {
            let ratio = scale.filter(|_| b[index] > 0.0).map(|scale| a[index] / b[index] * scale);
            SingularValueRatio { index, a: a[index], b: b[index], ratio }
        })
        .collect()
}

/// 1, 2, 4, … below `rows`, then `rows` itself.
fn subspace_sizes(rows: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1_usize), |k| k.checked_mul(2)).take_while(move |&k| k < rows).chain([rows])
}

/// ‖M_k‖²_F of every leading k×k block: element (i, j) enters with block max(i, j) + 1.
fn leading_squared_norms(products: &Array2<f64>) -> Vec<f64> {
    let mut norms = vec![0.0; products.nrows().min(products.ncols())];
    for ((i, j), product) in products.indexed_iter() {
        if let Some(norm) = norms.get_mut(i.max(j)) {
            *norm += product * product;
        }
    }
    let mut total = 0.0;
    for norm in &mut norms {
        total += *norm;
        *norm = total;
    }
    norms
}

fn check_orthonormal(nads: ArrayView2<'_, f64>, side: Side) -> Result<(), CompareError> {
    if nads.is_empty() {
        return Err(CompareError::Empty { side });
    }
    let gram = nads.dot(&nads.t());
    for (row, products) in gram.rows().into_iter().enumerate() {
        let (other, deviation) = products
            .iter()
            .enumerate()
            .map(|(other, product)| (other, (product - f64::from(u8::from(other == row))).abs()))
            .max_by(|left, right| left.1.total_cmp(&right.1))
            .ok_or(CompareError::Empty { side })?;
        // In the total order a NaN is the largest of all, so it cannot hide behind a number.
        if deviation.is_nan() || deviation > ORTHONORMALITY_TOLERANCE {
            return Err(CompareError::NotOrthonormal { side, row, other, deviation });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
