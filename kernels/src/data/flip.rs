//! Images with their coordinates in a basis flipped: what was along the first direction is along the last.
//!
//! The flip of one channel is a matrix, M = Σᵢ uᵢ uᵀ of row D − 1 − i, symmetric and its own inverse. It is computed once in f64
//! and then multiplied with every channel of every image in f32. Each number is one chain of fused multiply-adds in order.

use super::basis::{Basis, BasisError};
use crate::simd::{InstructionSet, Kernel, LANES, Line, Simd, flat_mut};
use nadgrid_core::dataset::Dataset;

/// Vectors of a panel, the columns that are multiplied at a time.
const VECTORS: usize = 4;
const COLUMNS: usize = VECTORS * LANES;
/// Rows of a tile, which is held in registers.
const ROWS: usize = 6;
/// Tiles of rows that are multiplied with a panel while it is in the second-level cache.
const TILES: usize = 16;
/// Rows and columns of a tile of the matrix while it is computed.
const MATRIX_TILE: usize = 8;

/// x' = U·flip(Uᵀx) on every channel, the columns of U being the rows of `basis`.
///
/// # Errors
/// [`BasisError::Inputs`] when the inputs are not made of channels of the basis's dimension.
pub fn flip(data: &mut Dataset, basis: &Basis) -> Result<(), BasisError> {
    Flip::new(basis).apply(data)
}

/// The flip of one basis, ready for any number of datasets.
#[derive(Clone, Debug, PartialEq)]
pub struct Flip {
    set: InstructionSet,
    dimension: usize,
    /// The matrix by panels of columns, zero beyond the dimension: `[panel][row][column]`.
    panels: Vec<Line>,
}

impl Flip {
    /// Computes the matrix, D³ multiply-adds.
    pub fn new(basis: &Basis) -> Self {
        Self::on(InstructionSet::best(), basis)
    }

    /// The same on an instruction set of choice.
    pub fn on(set: InstructionSet, basis: &Basis) -> Self {
        let dimension = basis.dimension();
        Self { set, dimension, panels: set.run(FlipMatrix { dimension, rows: basis.rows() }) }
    }

    /// Flips all inputs, D² multiply-adds a channel.
    ///
    /// # Errors
    /// [`BasisError::Inputs`] when the inputs are not made of channels of the basis's dimension.
    pub fn apply(&self, data: &mut Dataset) -> Result<(), BasisError> {
        let Self { dimension, .. } = *self;
        if !data.dimension.is_multiple_of(dimension) {
            return Err(BasisError::Inputs { numbers: data.dimension, dimension });
        }
        self.set.run(FlipProduct { dimension, panels: &self.panels, rows: &mut data.inputs });
        Ok(())
    }
}

/// The matrix of a flip.
struct FlipMatrix<'a> {
    dimension: usize,
    rows: &'a [f64],
}

impl Kernel for FlipMatrix<'_> {
    type Output = Vec<Line>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Vec<Line> {
        let Self { dimension, rows } = self;
        let tiles = dimension.div_ceil(MATRIX_TILE);
        // The basis by panels of columns, zero beyond the dimension: [panel][row][column].
        let mut columns = vec![[0.0; MATRIX_TILE]; tiles * dimension];
        for (place, row) in rows.chunks_exact(dimension).enumerate() {
            for (panel, values) in row.chunks(MATRIX_TILE).enumerate() {
                columns[panel * dimension + place][..values.len()].copy_from_slice(values);
            }
        }
        let mut panels = vec![Line::ZERO; dimension.div_ceil(COLUMNS) * dimension * VECTORS];
        let numbers = flat_mut(&mut panels);
        for left in 0..tiles {
            for right in 0..tiles {
                let panel = |tile: usize| &columns[tile * dimension..][..dimension];
                let tile = matrix_tile(s, panel(left), panel(right));
                let column = right * MATRIX_TILE;
                for (row, values) in (left * MATRIX_TILE..dimension).zip(tile) {
                    let at = (column / COLUMNS * dimension + row) * COLUMNS + column % COLUMNS;
                    numbers[at..at + MATRIX_TILE].iter_mut().zip(values).for_each(|(to, x)| *to = x as f32);
                }
            }
        }
        panels
    }
}

/// Computes the tile Σᵢ left[i]·right[D − 1 − i]ᵀ.
#[inline(always)]
fn matrix_tile<S: Simd>(
    s: S,
    left: &[[f64; MATRIX_TILE]],
    right: &[[f64; MATRIX_TILE]],
) -> [[f64; MATRIX_TILE]; MATRIX_TILE] {
    let mut sums = [s.splat64(0.0); MATRIX_TILE];
    for (left, right) in left.iter().zip(right.iter().rev()) {
        let right = s.load64(right);
        for (&factor, sum) in left.iter().zip(&mut sums) {
            *sum = s.mul_add64(s.splat64(factor), right, *sum);
        }
    }
    let mut tile = [[0.0; MATRIX_TILE]; MATRIX_TILE];
    for (to, sum) in tile.iter_mut().zip(sums) {
        s.store64(sum, to);
    }
    tile
}

/// Rows times the matrix, in place.
struct FlipProduct<'a> {
    dimension: usize,
    panels: &'a [Line],
    rows: &'a mut [f32],
}

impl Kernel for FlipProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { dimension, panels, rows } = self;
        // Tiles of rows with their numbers side by side: [tile][number][row].
        let mut packed = vec![[0.0; ROWS]; TILES * dimension];
        for block in rows.chunks_mut(TILES * ROWS * dimension) {
            for (row, numbers) in block.chunks_exact(dimension).enumerate() {
                let tile = &mut packed[row / ROWS * dimension..][..dimension];
                tile.iter_mut().zip(numbers).for_each(|(to, &x)| to[row % ROWS] = x);
            }
            for (panel, matrix) in panels.chunks_exact(dimension * VECTORS).enumerate() {
                let tiles = block.chunks_mut(ROWS * dimension).zip(packed.chunks_exact(dimension));
                for (rows, packed) in tiles {
                    let tile = s.vectorize(FlipTile { packed, matrix });
                    let column = panel * COLUMNS;
                    let width = COLUMNS.min(dimension - column);
                    for (row, tile) in rows.chunks_exact_mut(dimension).zip(&tile) {
                        row[column..][..width].copy_from_slice(&tile[..width]);
                    }
                }
            }
        }
    }
}

/// Rows times the columns of a panel.
struct FlipTile<'a> {
    packed: &'a [[f32; ROWS]],
    matrix: &'a [Line],
}

impl Kernel for FlipTile<'_> {
    type Output = [[f32; COLUMNS]; ROWS];

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> [[f32; COLUMNS]; ROWS] {
        let mut tile = [[0.0; COLUMNS]; ROWS];
        if S::PANEL >= VECTORS {
            products::<S, VECTORS>(s, &self, 0, &mut tile);
        } else {
            for vector in 0..VECTORS {
                products::<S, 1>(s, &self, vector, &mut tile);
            }
        }
        tile
    }
}

/// N vectors of each row of a tile, held in registers over all numbers.
#[inline(always)]
fn products<S: Simd, const N: usize>(s: S, of: &FlipTile<'_>, vector: usize, tile: &mut [[f32; COLUMNS]; ROWS]) {
    let mut sums = [[s.splat(0.0); N]; ROWS];
    for (numbers, lines) in of.packed.iter().zip(of.matrix.as_chunks::<VECTORS>().0) {
        let mut columns = [s.splat(0.0); N];
        for (to, line) in columns.iter_mut().zip(&lines[vector..]) {
            *to = s.load(&line.0);
        }
        for (&number, sums) in numbers.iter().zip(&mut sums) {
            let factor = s.splat(number);
            for (sum, &column) in sums.iter_mut().zip(&columns) {
                *sum = s.mul_add(factor, column, *sum);
            }
        }
    }
    for (row, sums) in tile.iter_mut().zip(sums) {
        for (to, sum) in row.as_chunks_mut::<LANES>().0[vector..].iter_mut().zip(sums) {
            s.store(sum, to);
        }
    }
}
