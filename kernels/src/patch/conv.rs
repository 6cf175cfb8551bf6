//! Convolutions of whole maps and of one changed pixel; `patch_conv` has those of patches.
//!
//! Maps are channel-last, channels padded to whole lines. Every output is a chain of fused multiply-adds
//! in one order: for whole maps from the bias over kernel row, input channel, kernel column; for patches
//! from the base output over input row, input channel, input column.

use super::plan::MapStage;
use super::sink::Sink;
use crate::simd::{LANES, Line, Simd, flat, lines};

/// A convolution's shape and one member's weights.
pub(crate) struct Conv {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) kernel: usize,
    /// `[output line][kernel row][input channel][kernel column]`.
    pub(crate) weights: Vec<Line>,
    biases: Vec<Line>,
}

impl Conv {
    pub(crate) fn new(stage: &MapStage, kernel: usize) -> Self {
        let inputs = stage.input.channels;
        let outputs = stage.output.channels;
        let weights = vec![Line::ZERO; lines(outputs) * kernel * inputs * kernel];
        Self { inputs, outputs, kernel, weights, biases: vec![Line::ZERO; lines(outputs)] }
    }

    /// Takes PyTorch's `[out, in, row, column]` weights.
    pub(crate) fn prepare(&mut self, weights: &[f32], biases: &[f32]) {
        let k = self.kernel;
        let inputs = self.inputs;
        for (output, (filter, &bias)) in weights.chunks_exact(inputs * k * k).zip(biases).enumerate() {
            let line = output / LANES;
            let lane = output % LANES;
            self.biases[line].0[lane] = bias;
            let to = &mut self.weights[line * k * inputs * k..][..k * inputs * k];
            for (input, plane) in filter.chunks_exact(k * k).enumerate() {
                for (row, taps) in plane.chunks_exact(k).enumerate() {
                    for (line, &tap) in to[(row * inputs + input) * k..].iter_mut().zip(taps) {
                        line.0[lane] = tap;
                    }
                }
            }
        }
    }

    /// The K weights of every input channel in turn, for one kernel row and output line.
    #[inline(always)]
    pub(crate) fn taps(&self, line: usize, row: usize) -> &[Line] {
        let length = self.inputs * self.kernel;
        &self.weights[(line * self.kernel + row) * length..][..length]
    }

    /// The whole output map. Returns a line that is zero if every output is finite, else not a number.
    #[inline(always)]
    pub(crate) fn map<S: Simd>(&self, s: S, stage: &MapStage, input: &[Line], output: &mut [Line]) -> f32 {
        let mut poison = s.splat(0.0);
        for line in 0..lines(self.outputs) {
            for row in 0..stage.output.height {
                let mut column = 0;
                while column < stage.output.width {
                    let tile = (stage.output.width - column).min(8);
                    poison = match tile {
                        8 => self.tile::<S, 8>(s, stage, input, output, (line, row, column), poison),
                        4..8 => self.tile::<S, 4>(s, stage, input, output, (line, row, column), poison),
                        _ => self.tile::<S, 1>(s, stage, input, output, (line, row, column), poison),
                    };
                    column += [1, 4, 8][usize::from(tile >= 4) + usize::from(tile == 8)];
                }
            }
        }
        s.sum(poison)
    }

    /// N neighbouring outputs of a map.
    #[inline(always)]
    fn tile<S: Simd, const N: usize>(
        &self,
        s: S,
        stage: &MapStage,
        input: &[Line],
        output: &mut [Line],
        (line, row, column): (usize, usize, usize),
        mut poison: S::F32,
    ) -> S::F32 {
        let input_lines = lines(self.inputs);
        let mut sums = [s.load(&self.biases[line].0); N];
        for tap_row in 0..self.kernel {
            let at = ((row + tap_row) * stage.input.width + column) * input_lines;
            let pixels = flat(&input[at..][..(N + self.kernel - 1) * input_lines]);
            for (channel, taps) in self.taps(line, tap_row).chunks_exact(self.kernel).enumerate() {
                for (tap, weight) in taps.iter().enumerate() {
                    let weight = s.load(&weight.0);
                    for (n, sum) in sums.iter_mut().enumerate() {
                        *sum = s.mul_add(s.splat(pixels[(n + tap) * input_lines * LANES + channel]), weight, *sum);
                    }
                }
            }
        }
        for (n, &sum) in sums.iter().enumerate() {
            poison = s.mul_add(sum, s.splat(0.0), poison);
            let at = (row * stage.output.width + column + n) * lines(self.outputs) + line;
            s.store(sum, &mut output[at].0);
        }
        poison
    }

    /// The patches of z where the input's pixel (row, column) of `channel` changes by ±step.
    #[inline(always)]
    pub(crate) fn pixel<S: Simd>(
        &self,
        s: S,
        (channel, row, column): (usize, usize, usize),
        step: f32,
        to: &mut Sink<'_>,
    ) {
        let steps = [s.splat(step), s.splat(-step)];
        for line in 0..lines(self.outputs) {
            for out_row in to.rows.touched.range() {
                let taps = &self.taps(line, row - out_row)[channel * self.kernel..][..self.kernel];
                let columns = to.columns.touched;
                let mut to = to.row(out_row);
                for (i, out_column) in columns.range().enumerate() {
                    let weight = s.load(&taps[column - out_column].0);
                    let base = to.base(s, i, line);
                    to.put(s, i, line, [s.mul_add(steps[0], weight, base), s.mul_add(steps[1], weight, base)]);
                }
            }
        }
    }
}
