//! The partial result: count, mean and centred scatter matrix of a run of gradients, and its exact merge.
//!
//! Chan, Golub, LeVeque (1979): for parts A and B with δ = mean_B − mean_A,
//! mean = mean_A + δ·n_B/n and S = S_A + S_B + δδᵀ·n_A·n_B/n. Every element is computed by one fixed
//! expression, so a merge gives the same bits on every machine, vectorised or not.

use thiserror::Error;

/// The first bytes of a partial.
const MAGIC: [u8; 8] = *b"NADPART1";

/// Bytes before the numbers: magic, dimension (u64), count (u64).
const HEADER_BYTES: usize = 24;

/// Count, mean (D) and centred scatter Σ(g−ḡ)(g−ḡ)ᵀ of gradients; the scatter is the packed upper
/// triangle by rows: (0,0), (0,1), … (0,D−1), (1,1), ….
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Gradients summed up.
    pub count: u64,
    /// Their mean, D numbers.
    pub mean: Vec<f64>,
    /// The scatter, D(D+1)/2 numbers.
    pub scatter: Vec<f64>,
}

/// Bytes that are no partial, or not the one that was expected.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PartialError {
    /// The bytes do not begin as a partial does.
    #[error("the bytes are no partial: they begin with {0:?}")]
    Magic(Vec<u8>),
    /// The length does not fit the dimension.
    #[error("a partial of dimension {dimension} has {expected} bytes, these are {actual}")]
    Length {
        /// The number of input pixels D.
        dimension: u64,
        /// Bytes that a partial of that dimension has.
        expected: u64,
        /// Bytes that came.
        actual: u64,
    },
    /// A partial of another shape.
    #[error("{field} is {actual}, expected {expected}")]
    Unexpected {
        /// `dimension` or `count`.
        field: &'static str,
        /// The value that was asked for.
        expected: u64,
        /// The value that came.
        actual: u64,
    },
    /// A number that no sum of gradients in float32 gives.
    #[error("{field}[{index}] is {value}; with gradients in float32 it is from {least} to {most}")]
    Value {
        /// `mean` or `scatter`.
        field: &'static str,
        /// The place in that array.
        index: usize,
        /// The number, as text.
        value: String,
        /// The least that can be there, as text.
        least: String,
        /// The most.
        most: String,
    },
}

/// Length of the packed upper triangle of a D x D matrix.
pub const fn packed_len(dimension: usize) -> usize {
    dimension * (dimension + 1) / 2
}

/// Bytes of a partial of this dimension on disk and on the wire.
pub const fn partial_bytes(dimension: usize) -> usize {
    HEADER_BYTES + 8 * (dimension + packed_len(dimension))
}

impl Moments {
    /// The moments of the rows of `gradients` (count x dimension, row-major), by the definition: mean
    /// first, then the centred products, each summed in row order with fused multiply-adds.
    /// The obvious version; `nadgrid-kernels` has the fast one, equal to the bit.
    ///
    /// # Panics
    /// When `gradients` is empty or not a whole number of rows.
    pub fn of_rows(gradients: &[f32], dimension: usize) -> Self {
        assert!(!gradients.is_empty() && gradients.len().is_multiple_of(dimension), "whole rows, at least one");
        let count = gradients.len() / dimension;
        let mut mean = vec![0.0; dimension];
        for row in gradients.chunks_exact(dimension) {
            for (sum, &g) in mean.iter_mut().zip(row) {
                *sum += f64::from(g);
            }
        }
        for sum in &mut mean {
            *sum /= count as f64;
        }
        let mut scatter = vec![0.0; packed_len(dimension)];
        for row in gradients.chunks_exact(dimension) {
            let centred: Vec<f64> = row.iter().zip(&mean).map(|(&g, m)| f64::from(g) - m).collect();
            let mut at = 0;
            for i in 0..dimension {
                for &c in &centred[i..] {
                    scatter[at] = centred[i].mul_add(c, scatter[at]);
                    at += 1;
                }
            }
        }
        Self { count: count as u64, mean, scatter }
    }

    /// Returns the number of input pixels D.
    pub fn dimension(&self) -> usize {
        self.mean.len()
    }

    /// The moments of both runs of gradients together. The order of the two matters for the last bits.
    ///
    /// # Panics
    /// When the dimensions differ: the caller checks what comes from outside with [`Moments::from_bytes`].
    pub fn merge(mut self, right: &Self) -> Self {
        assert_eq!(self.dimension(), right.dimension(), "partials of one job have one dimension");
        let (a, b) = (self.count as f64, right.count as f64);
        let n = a + b;
        let delta: Vec<f64> = right.mean.iter().zip(&self.mean).map(|(r, l)| r - l).collect();
        for (mean, d) in self.mean.iter_mut().zip(&delta) {
            *mean += d * (b / n);
        }
        let weight = a * b / n;
        let mut at = 0;
        for i in 0..delta.len() {
            let scaled = delta[i] * weight;
            let row = &delta[i..];
            let left = &mut self.scatter[at..at + row.len()];
            for ((s, r), d) in left.iter_mut().zip(&right.scatter[at..at + row.len()]).zip(row) {
                *s = (*s + r) + scaled * d;
            }
            at += row.len();
        }
        self.count += right.count;
        self
    }

    /// The partial as bytes, little-endian: magic, D, count, mean, scatter.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(partial_bytes(self.dimension()));
        bytes.extend(MAGIC);
        bytes.extend((self.dimension() as u64).to_le_bytes());
        bytes.extend(self.count.to_le_bytes());
        for value in self.mean.iter().chain(&self.scatter) {
            bytes.extend(value.to_le_bytes());
        }
        bytes
    }

    /// Reads a partial that must have this dimension and count.
    ///
    /// # Errors
    /// [`PartialError`] when the bytes are something else, another shape, or hold a number that no gradients give.
    pub fn from_bytes(bytes: &[u8], dimension: usize, count: u64) -> Result<Self, PartialError> {
        // Each array is made once: a partial may have a hundred million bytes.
        let (mean, scatter) = numbers_of(bytes, dimension, count)?;
        let moments = Self { count, mean: read_numbers(mean).collect(), scatter: read_numbers(scatter).collect() };
        moments.check()?;
        Ok(moments)
    }

    /// Whether bytes can be a partial that a worker computed, of this dimension and count; they are read where they lie. Whatever
    /// is merged of such partials, [`Moments::check`] finds nothing wrong with it.
    ///
    /// # Errors
    /// The errors of [`Moments::from_bytes`].
    pub fn check_bytes(bytes: &[u8], dimension: usize, count: u64) -> Result<(), PartialError> {
        let (mean, scatter) = numbers_of(bytes, dimension, count)?;
        check_numbers(dimension, Bounds::computed(count), read_numbers(mean), read_numbers(scatter))
    }

    /// Whether every number is one that merges of float32 gradients can give, and every variance at least zero.
    ///
    /// # Errors
    /// [`PartialError::Value`]: the first number that is not.
    pub fn check(&self) -> Result<(), PartialError> {
        check_numbers(self.dimension(), Bounds::MERGED, self.mean.iter().copied(), self.scatter.iter().copied())
    }
}

/// The bytes of mean and scatter of a partial that must have this dimension and count.
fn numbers_of(bytes: &[u8], dimension: usize, count: u64) -> Result<(&[u8], &[u8]), PartialError> {
    if bytes.len() < HEADER_BYTES || bytes[..8] != MAGIC {
        return Err(PartialError::Magic(bytes[..bytes.len().min(8)].to_vec()));
    }
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
    for (field, expected, actual) in [("dimension", dimension as u64, word(8)), ("count", count, word(16))] {
        if expected != actual {
            return Err(PartialError::Unexpected { field, expected, actual });
        }
    }
    let expected = partial_bytes(dimension);
    if bytes.len() != expected {
        let (expected, actual) = (expected as u64, bytes.len() as u64);
        return Err(PartialError::Length { dimension: dimension as u64, expected, actual });
    }
    Ok(bytes[HEADER_BYTES..].split_at(8 * dimension))
}

fn read_numbers(bytes: &[u8]) -> impl Iterator<Item = f64> + '_ {
    bytes.chunks_exact(8).map(|chunk| f64::from_le_bytes(std::array::from_fn(|i| chunk[i])))
}

/// The largest magnitudes that mean and scatter can have.
struct Bounds {
    mean: f64,
    scatter: f64,
}

impl Bounds {
    /// Of whatever is merged of partials within [`Bounds::computed`], however many: with N ≤ 2⁶⁴ gradients the scatters add up to
    /// 2NM², and the merges of each of at most 64 levels add at most (4M)²·N/4. That is below 10⁹⁹, and no sum of such overflows.
    const MERGED: Self = Self { mean: 4.0 * f32::MAX as f64, scatter: 1e120 };

    /// Of N gradients in float32: |g| ≤ M = `f32::MAX`, and with it the mean. By the Cauchy-Schwarz inequality no element of the
    /// scatter matrix is beyond the largest variance, Σ(g−ḡ)² ≤ Σg² ≤ N·M². Twice that, for sums are rounded.
    fn computed(count: u64) -> Self {
        const LARGEST: f64 = f32::MAX as f64;
        Self { mean: 2.0 * LARGEST, scatter: 2.0 * count as f64 * LARGEST * LARGEST }
    }
}

fn check_numbers(
    dimension: usize,
    bounds: Bounds,
    mean: impl Iterator<Item = f64>,
    scatter: impl Iterator<Item = f64>,
) -> Result<(), PartialError> {
    check_values("mean", mean, bounds.mean, |_| false)?;
    // The diagonal: a row of the triangle is shorter by one than the row before.
    let (mut variance, mut row) = (0, dimension);
    check_values("scatter", scatter, bounds.scatter, |index| {
        let is_variance = index == variance;
        if is_variance {
            (variance, row) = (variance + row, row.saturating_sub(1));
        }
        is_variance
    })
}

/// Whether values are from −`most` to `most`, those that are variances from 0.
fn check_values(
    field: &'static str,
    values: impl Iterator<Item = f64>,
    most: f64,
    mut is_variance: impl FnMut(usize) -> bool,
) -> Result<(), PartialError> {
    for (index, value) in values.enumerate() {
        let least = if is_variance(index) { 0.0 } else { -most };
        // What is not a number is in no range.
        if !(least..=most).contains(&value) {
            let [value, least, most] = [value, least, most].map(|number| format!("{number:e}"));
            return Err(PartialError::Value { field, index, value, least, most });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Node;
    use crate::tree::{Fold, root};
    use proptest::prelude::*;

    /// The oracle: two passes in f64 over all rows at once.
    fn two_pass(rows: &[f32], d: usize) -> (Vec<f64>, Vec<f64>) {
        let n = (rows.len() / d) as f64;
        let mean: Vec<f64> =
            (0..d).map(|i| rows.iter().skip(i).step_by(d).map(|&g| f64::from(g)).sum::<f64>() / n).collect();
        let mut scatter = Vec::new();
        for i in 0..d {
            for j in i..d {
                let products = rows.chunks(d).map(|r| (f64::from(r[i]) - mean[i]) * (f64::from(r[j]) - mean[j]));
                scatter.push(products.sum::<f64>());
            }
        }
        (mean, scatter)
    }

    fn tree(rows: &[f32], d: usize, block: usize, shard: u64) -> Moments {
        let blocks: Vec<&[f32]> = rows.chunks(block * d).collect();
        let total = blocks.len() as u64;
        let merge = |a: Moments, b: Moments| a.merge(&b);
        let mut all = Fold::over_all(total, merge);
        let mut pending = 0..total;
        while !pending.is_empty() {
            let node = Node::first_of(&pending, shard, total);
            let mut inner = Fold::below(node, total, merge);
            for b in node.blocks(total) {
                inner.push(Node::block(b), Moments::of_rows(blocks[b as usize], d)).unwrap();
            }
            all.push(node, inner.finish(node).unwrap()).unwrap();
            pending.start = node.blocks(total).end;
        }
        all.finish(root(total)).unwrap()
    }

    proptest! {
        /// The tree of merges equals the two-pass oracle to rounding, and itself to the bit under any cut.
        #[test]
        fn the_tree_is_the_two_pass_result(
            d in 1usize..7, n in 1usize..60, block in 0u32..4, shards in (1u64..40, 1u64..40),
            offset in -100f32..100.0, seed in any::<u64>(),
        ) {
            let mut state = seed | 1;
            let rows: Vec<f32> = (0..n * d).map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                offset + (state >> 40) as f32 / 16_777_216.0
            }).collect();
            let merged = tree(&rows, d, 1 << block, shards.0);
            prop_assert_eq!(&merged, &tree(&rows, d, 1 << block, shards.1));
            let (mean, scatter) = two_pass(&rows, d);
            prop_assert_eq!(merged.count, n as u64);
            // Means are of size 100 at most, centred products of size 1: rounding grows with both and with n.
            for (got, want) in merged.mean.iter().zip(&mean) {
                prop_assert!((got - want).abs() <= 1e-13 * (1.0 + want.abs()), "mean {got} {want}");
            }
            for (got, want) in merged.scatter.iter().zip(&scatter) {
                prop_assert!((got - want).abs() <= 1e-11 * n as f64, "scatter {got} {want}");
            }
        }
    }

    #[test]
    fn bytes_round_trip_and_damage_is_named() {
        let moments = Moments::of_rows(&[1.0, 2.0, 3.0, 5.0, 8.0, 13.0], 2);
        let bytes = moments.to_bytes();
        assert_eq!(bytes.len(), partial_bytes(2));
        assert_eq!(Moments::from_bytes(&bytes, 2, 3), Ok(moments.clone()));
        assert_eq!(Moments::check_bytes(&bytes, 2, 3), Ok(()));
        assert!(matches!(Moments::from_bytes(&bytes[..20], 2, 3), Err(PartialError::Magic(_))));
        assert!(matches!(Moments::from_bytes(&bytes[..40], 2, 3), Err(PartialError::Length { .. })));
        let wrong = PartialError::Unexpected { field: "count", expected: 4, actual: 3 };
        assert_eq!(Moments::from_bytes(&bytes, 2, 4), Err(wrong));
        let mut lie = moments.clone();
        lie.mean[1] = f64::NAN;
        assert!(matches!(
            Moments::from_bytes(&lie.to_bytes(), 2, 3),
            Err(PartialError::Value { field: "mean", index: 1, .. })
        ));
        let mut lie = moments;
        lie.scatter[2] = -1.0;
        assert!(matches!(Moments::from_bytes(&lie.to_bytes(), 2, 3), Err(PartialError::Value { index: 2, .. })));
    }

    #[test]
    fn what_no_gradients_in_float32_give_is_named_with_its_range() {
        let honest = Moments::of_rows(&[1.0, 2.0, 3.0, 5.0], 2);
        for (place, value) in [(0, 1e39), (1, -1e39), (2, 1e300), (3, -1e79), (4, f64::INFINITY)] {
            let mut lie = honest.clone();
            match place {
                0 | 1 => lie.mean[place] = value,
                _ => lie.scatter[place - 2] = value,
            }
            let error = Moments::check_bytes(&lie.to_bytes(), 2, 2).unwrap_err();
            assert!(matches!(error, PartialError::Value { .. }), "{error}");
        }
        let mut lie = honest;
        lie.scatter[0] = 1e300;
        let said = Moments::check_bytes(&lie.to_bytes(), 2, 2).unwrap_err().to_string();
        assert!(said.starts_with("scatter[0] is 1e300; with gradients in float32 it is from 0e0 to 4.6"), "{said}");
    }

    #[test]
    fn the_largest_gradients_pass() {
        let rows: Vec<f32> = (0..30).map(|i| if i % 3 == 0 { -f32::MAX } else { f32::MAX }).collect();
        let moments = Moments::of_rows(&rows, 2);
        Moments::check_bytes(&moments.to_bytes(), 2, 15).unwrap();
        moments.check().unwrap();
    }

    /// The most that a worker can say, with means as far apart as can be, in a chain and in a tree.
    #[test]
    fn nothing_that_is_merged_of_what_passes_is_refused() {
        let count = 1 << 58;
        let Bounds { mean, scatter } = Bounds::computed(count);
        let lie = |sign: f64| Moments { count, mean: vec![sign * mean], scatter: vec![scatter] };
        Moments::check_bytes(&lie(1.0).to_bytes(), 1, count).unwrap();
        let mut chain = lie(1.0);
        for place in 1..63 {
            chain = chain.merge(&lie(if place % 2 == 0 { 1.0 } else { -1.0 }));
            chain.check().unwrap();
        }
        let pair = lie(1.0).merge(&lie(-1.0));
        let four = pair.clone().merge(&lie(-1.0).merge(&lie(-1.0)));
        four.merge(&pair).check().unwrap();
    }
}
