//! Count, mean and centred scatter of a block's gradients, equal to the bit to `Moments::of_rows`.
//!
//! Each element of the triangle is one chain of fused multiply-adds over the rows; a tile of elements is
//! kept in registers over all rows and written once.

use crate::simd::{InstructionSet, Kernel, Simd};
use nadgrid_core::moments::{Moments, packed_len};

/// Columns of a tile: vectors of eight.
const VECTORS: usize = 4;
const COLUMNS: usize = 8 * VECTORS;
/// The number of rows of a tile.
const ROWS: usize = 4;

/// The moments of the rows of `gradients` (count x dimension, row-major).
///
/// # Panics
/// When `gradients` is empty or not a whole number of rows.
pub fn moments(gradients: &[f32], dimension: usize) -> Moments {
    moments_on(InstructionSet::best(), gradients, dimension)
}

/// The same on an instruction set of choice.
///
/// # Panics
/// As [`moments`].
pub fn moments_on(set: InstructionSet, gradients: &[f32], dimension: usize) -> Moments {
    assert!(!gradients.is_empty() && gradients.len().is_multiple_of(dimension), "whole rows, at least one");
    set.run(OfRows { gradients, dimension })
}

struct OfRows<'a> {
    gradients: &'a [f32],
    dimension: usize,
}

impl Kernel for OfRows<'_> {
    type Output = Moments;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Moments {
        let Self { gradients, dimension } = self;
        let count = gradients.len() / dimension;
        let mean = mean(gradients, dimension);
        let panels = dimension.div_ceil(COLUMNS);
        // Centred, by panels of columns: [panel][row][column], zero beyond the dimension.
        let mut centred = vec![[0.0; COLUMNS]; panels * count];
        for (row, gradient) in gradients.chunks_exact(dimension).enumerate() {
            for (panel, (values, means)) in gradient.chunks(COLUMNS).zip(mean.chunks(COLUMNS)).enumerate() {
                for ((to, &g), m) in centred[panel * count + row].iter_mut().zip(values).zip(means) {
                    *to = f64::from(g) - m;
                }
            }
        }
        let mut scatter = vec![0.0; packed_len(dimension)];
        for panel in 0..panels {
            let right = &centred[panel * count..][..count];
            for first in (0..dimension.min((panel + 1) * COLUMNS)).step_by(ROWS) {
                let left = &centred[first / COLUMNS * count..][..count];
                let tile = tile(s, left, first % COLUMNS, right);
                for (row, sums) in (first..dimension).zip(&tile) {
                    let start = row.max(panel * COLUMNS);
                    let end = dimension.min((panel + 1) * COLUMNS);
                    if start < end {
                        // The element (row, column) lies at row·D − row(row−1)/2 + column − row.
                        let at = row * dimension - row * row.saturating_sub(1) / 2 + start - row;
                        scatter[at..at + end - start].copy_from_slice(&sums[start % COLUMNS..][..end - start]);
                    }
                }
            }
        }
        Moments { count: count as u64, mean, scatter }
    }
}

/// Sums in row order, divided by the count.
#[inline(always)]
fn mean(gradients: &[f32], dimension: usize) -> Vec<f64> {
    let mut mean = vec![0.0; dimension];
    for row in gradients.chunks_exact(dimension) {
        for (sum, &g) in mean.iter_mut().zip(row) {
            *sum += f64::from(g);
        }
    }
    let count = (gradients.len() / dimension) as f64;
    for sum in &mut mean {
        *sum /= count;
    }
    mean
}

/// The products of ROWS columns from `first` of the left panel with all columns of the right one.
#[inline(always)]
fn tile<S: Simd>(s: S, left: &[[f64; COLUMNS]], first: usize, right: &[[f64; COLUMNS]]) -> [[f64; COLUMNS]; ROWS] {
    let mut tile = [[0.0; COLUMNS]; ROWS];
    if S::PANEL >= VECTORS {
        products::<S, VECTORS>(s, left, first, right, 0, &mut tile);
    } else {
        for vector in 0..VECTORS {
            products::<S, 1>(s, left, first, right, vector, &mut tile);
        }
    }
    tile
}

/// N vectors of each row of a tile, held in registers over all gradients.
#[inline(always)]
fn products<S: Simd, const N: usize>(
    s: S,
    left: &[[f64; COLUMNS]],
    first: usize,
    right: &[[f64; COLUMNS]],
    vector: usize,
    tile: &mut [[f64; COLUMNS]; ROWS],
) {
    let mut sums = [[s.splat64(0.0); N]; ROWS];
    for (left, right) in left.iter().zip(right) {
        let (right, _) = right.as_chunks::<8>();
        for (i, sums) in sums.iter_mut().enumerate() {
            let factor = s.splat64(left[first + i]);
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = s.mul_add64(factor, s.load64(&right[vector + v]), *sum);
            }
        }
    }
    for (row, sums) in tile.iter_mut().zip(sums) {
        let (to, _) = row.as_chunks_mut::<8>();
        for (to, sum) in to[vector..].iter_mut().zip(sums) {
            s.store64(sum, to);
        }
    }
}
