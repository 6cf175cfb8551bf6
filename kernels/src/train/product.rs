//! The inner loop of every convolution and fully connected layer: a sum of broadcast weights times lines of samples.
//!
//! An output is one chain of fused multiply-adds over its terms in order (tap row, tap column, input channel), from zero, a
//! bias or what is there; terms that read beyond the map's edge are left out. Tiles of outputs by neighbouring columns are
//! held in registers; how they are cut differs between instruction sets and changes no chain.

use crate::simd::{Kernel, Line, Simd};
use std::ops::Range;

/// Weights by tiles of outputs: `[tile][term][output of the tile]`, zero beyond the last output.
pub(super) struct Packed {
    width: usize,
    outputs: usize,
    terms: usize,
    numbers: Vec<f32>,
}

impl Packed {
    pub(super) fn new(outputs: usize, terms: usize) -> Self {
        let width = match outputs {
            0 | 1 => 1,
            2 => 2,
            3 | 4 => 4,
            5 | 6 => 6,
            _ => 8,
        };
        Self { width, outputs, terms, numbers: vec![0.0; outputs.div_ceil(width) * width * terms] }
    }

    /// Takes the weight of every output and term; `weight` may be called in any order.
    #[inline(always)]
    pub(super) fn fill(&mut self, weight: impl Fn(usize, usize) -> f32) {
        let width = self.width;
        let outputs = self.outputs;
        for (tile, numbers) in self.numbers.chunks_exact_mut((width * self.terms).max(1)).enumerate() {
            let first = tile * width;
            for (term, numbers) in numbers.chunks_exact_mut(width).enumerate() {
                for (output, number) in (first..outputs).zip(numbers) {
                    *number = weight(output, term);
                }
            }
        }
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> u64 {
        (self.numbers.len() * size_of::<f32>()) as u64
    }
}

/// One axis of a pass: output n reads source coordinate `start + n·step + t·tap_step` with tap t.
#[derive(Clone, Copy, Debug)]
pub(super) struct SourceAxis {
    /// The number of outputs.
    pub(super) count: usize,
    pub(super) start: isize,
    pub(super) step: usize,
    pub(super) taps: usize,
    /// 1 or −1.
    pub(super) tap_step: isize,
    /// Source coordinates that exist; what lies beyond counts as zero.
    pub(super) length: usize,
    /// Coordinate of output 0 in the target, and from one output to the next.
    pub(super) target: usize,
    pub(super) target_step: usize,
}

impl SourceAxis {
    /// Outputs that lie side by side and are no map: samples of a vector, features of a row.
    pub(super) fn flat(count: usize, step: usize, target_step: usize) -> Self {
        let length = count * step;
        Self { count, start: 0, step, taps: 1, tap_step: 1, length, target: 0, target_step }
    }

    /// The source coordinate of an output's tap 0.
    #[inline(always)]
    fn source(&self, output: usize) -> isize {
        self.start + (output * self.step) as isize
    }

    /// The taps with which any of these outputs reads inside the source.
    #[inline(always)]
    fn inside(&self, outputs: Range<usize>) -> Range<usize> {
        let first = self.source(outputs.start);
        let last = self.source(outputs.end - 1);
        let length = self.length as isize;
        let taps = self.taps as isize;
        let (from, to) = match self.tap_step {
            1 => (-last, length - first),
            _ => (first - length + 1, last + 1),
        };
        let from = from.clamp(0, taps);
        from as usize..to.clamp(from, taps) as usize
    }

    /// Lines that must be there before and behind the source so that a tile may read a tap that some of its columns have
    /// inside.
    pub(super) fn margins(&self) -> (usize, usize) {
        if self.count == 0 || self.taps == 0 {
            return (0, 0);
        }
        let reach = (self.taps as isize - 1) * self.tap_step;
        let least = self.start + reach.min(0);
        let most = self.source(self.count - 1) + reach.max(0);
        (least.min(0).unsigned_abs(), (most + 1 - self.length as isize).max(0).unsigned_abs())
    }
}

/// The number that a sum begins with.
#[derive(Clone, Copy)]
pub(super) enum Start<'a> {
    Zero,
    /// A number for every output.
    Biases(&'a [f32]),
    /// The sums start from the numbers that the target holds.
    Target,
}

/// Sums for all outputs and positions of a map.
pub(super) struct ProductPass<'a> {
    pub(super) packed: &'a Packed,
    /// The place that each term reads, counted in lines from its position's tap (0, 0) of channel 0.
    pub(super) offsets: &'a [i32],
    pub(super) source: &'a [Line],
    /// Lines from one source row to the next, and in front of a row.
    pub(super) pitch: usize,
    pub(super) margin: usize,
    /// Channels of the source: terms of a tap.
    pub(super) channels: usize,
    pub(super) rows: SourceAxis,
    pub(super) columns: SourceAxis,
    pub(super) start: Start<'a>,
    /// Whether max(x, 0) is stored.
    pub(super) rectify: bool,
    pub(super) target: &'a mut [Line],
    /// Lines from one target row to the next, and from one output to the next.
    pub(super) target_pitch: usize,
    pub(super) plane: usize,
}

/// Lines of the source that a block of rows may read: half of an L2 cache of 512 KiB.
const BLOCK_LINES: usize = 4096;

impl Kernel for ProductPass<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        // Plain Rust has no registers to fill, and small tiles compile fast.
        match self.packed.width {
            8 if !S::SPECIALISED => self.blocks::<S, 8, 1, 1>(s),
            6 if !S::SPECIALISED => self.blocks::<S, 6, 1, 1>(s),
            4 if !S::SPECIALISED => self.blocks::<S, 4, 1, 1>(s),
            2 if !S::SPECIALISED => self.blocks::<S, 2, 1, 1>(s),
            1 if !S::SPECIALISED => self.blocks::<S, 1, 1, 1>(s),
            8 if S::PANEL >= 4 => self.blocks::<S, 8, 8, 3>(s),
            8 => self.blocks::<S, 8, 4, 1>(s),
            6 if S::PANEL >= 4 => self.blocks::<S, 6, 6, 4>(s),
            6 => self.blocks::<S, 6, 6, 1>(s),
            4 if S::PANEL >= 4 => self.blocks::<S, 4, 4, 4>(s),
            4 => self.blocks::<S, 4, 4, 1>(s),
            2 => self.blocks::<S, 2, 2, 4>(s),
            _ => self.blocks::<S, 1, 1, 4>(s),
        }
    }
}

/// The outputs of a tile: columns, and for its terms the taps that are inside.
struct OutputTile {
    tile: usize,
    row: usize,
    columns: Range<usize>,
}

impl ProductPass<'_> {
    /// Packed width W, tiles of OUTPUTS (which divides W) by at most COLUMNS.
    #[inline(always)]
    fn blocks<S: Simd, const W: usize, const OUTPUTS: usize, const COLUMNS: usize>(&mut self, s: S) {
        let block = (BLOCK_LINES / (self.channels * self.pitch * self.rows.step).max(1)).max(1);
        let cuts = self.columns.count.div_ceil(COLUMNS).max(1);
        for first in (0..self.rows.count).step_by(block) {
            for tile in 0..self.packed.outputs.div_ceil(W) {
                for row in first..self.rows.count.min(first + block) {
                    for cut in 0..cuts {
                        let columns = self.columns.count * cut / cuts..self.columns.count * (cut + 1) / cuts;
                        self.tile::<S, W, OUTPUTS, COLUMNS>(s, OutputTile { tile, row, columns });
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const W: usize, const OUTPUTS: usize, const COLUMNS: usize>(&mut self, s: S, tile: OutputTile) {
        for from in (0..W).step_by(OUTPUTS) {
            match tile.columns.len() {
                4 if COLUMNS >= 4 => self.sums::<S, W, OUTPUTS, 4>(s, &tile, from),
                3 if COLUMNS >= 3 => self.sums::<S, W, OUTPUTS, 3>(s, &tile, from),
                2 if COLUMNS >= 2 => self.sums::<S, W, OUTPUTS, 2>(s, &tile, from),
                1 => self.sums::<S, W, OUTPUTS, 1>(s, &tile, from),
                _ => {}
            }
        }
    }

    /// Computes the sums of outputs `from..from + OUTPUTS` of a tile.
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "register tiles are indexed by constants")]
    fn sums<S: Simd, const W: usize, const OUTPUTS: usize, const COLUMNS: usize>(
        &mut self,
        s: S,
        tile: &OutputTile,
        from: usize,
    ) {
        let rows = &self.rows;
        let columns = &self.columns;
        let first = tile.tile * W + from;
        let outputs = self.packed.outputs.saturating_sub(first).min(OUTPUTS);
        if outputs == 0 {
            return;
        }
        let target = (rows.target + tile.row * rows.target_step) * self.target_pitch
            + columns.target
            + tile.columns.start * columns.target_step;
        // Loops that depend on numbers go over memory, so that the compiler keeps the tile itself in registers.
        let mut biases = [0.0; OUTPUTS];
        if let Start::Biases(all) = self.start {
            biases.iter_mut().zip(&all[first..]).for_each(|(to, &bias)| *to = bias);
        }
        let mut sums = [[s.splat(0.0); COLUMNS]; OUTPUTS];
        for o in 0..OUTPUTS {
            sums[o] = [s.splat(biases[o]); COLUMNS];
        }
        if let Start::Target = self.start {
            let mut lines = [[Line::ZERO; COLUMNS]; OUTPUTS];
            for (o, lines) in lines.iter_mut().enumerate().take(outputs) {
                for (c, line) in lines.iter_mut().enumerate() {
                    *line = self.target[target + (first + o) * self.plane + c * columns.target_step];
                }
            }
            for o in 0..OUTPUTS {
                for c in 0..COLUMNS {
                    sums[o][c] = s.load(&lines[o][c].0);
                }
            }
        }
        let base =
            rows.source(tile.row) * self.pitch as isize + columns.source(tile.columns.start) + self.margin as isize;
        let tap_rows = rows.inside(tile.row..tile.row + 1);
        let tap_columns = columns.inside(tile.columns.clone());
        // Whole rows of taps follow each other: one stretch of terms.
        let (stretches, length) = if tap_columns.len() == columns.taps {
            (usize::from(!tap_rows.is_empty()), tap_rows.len() * columns.taps * self.channels)
        } else {
            (tap_rows.len(), tap_columns.len() * self.channels)
        };
        let weights = &self.packed.numbers[tile.tile * W * self.packed.terms..][..W * self.packed.terms];
        let span = (COLUMNS - 1) * columns.step + 1;
        for stretch in 0..stretches {
            let term = ((tap_rows.start + stretch) * columns.taps + tap_columns.start) * self.channels;
            let (weights, _) = weights[term * W..][..length * W].as_chunks::<W>();
            for (weights, &offset) in weights.iter().zip(&self.offsets[term..]) {
                let lines = &self.source[(base + offset as isize) as usize..][..span];
                let mut x = [s.splat(0.0); COLUMNS];
                for c in 0..COLUMNS {
                    x[c] = s.load(&lines[c * columns.step].0);
                }
                for o in 0..OUTPUTS {
                    let weight = s.splat(weights[from + o]);
                    for c in 0..COLUMNS {
                        sums[o][c] = s.mul_add(weight, x[c], sums[o][c]);
                    }
                }
            }
        }
        let mut lines = [[Line::ZERO; COLUMNS]; OUTPUTS];
        let floor = s.splat(if self.rectify { 0.0 } else { f32::NEG_INFINITY });
        for o in 0..OUTPUTS {
            for c in 0..COLUMNS {
                // A sum that is no number stays.
                s.store(s.max(floor, sums[o][c]), &mut lines[o][c].0);
            }
        }
        for (o, lines) in lines.iter().enumerate().take(outputs) {
            for (c, &line) in lines.iter().enumerate() {
                self.target[target + (first + o) * self.plane + c * columns.target_step] = line;
            }
        }
    }
}
