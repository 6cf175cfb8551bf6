//! Convolutions: of whole maps, of a patch (by linearity), and of one changed pixel.
//!
//! Maps are channel-last, channels padded to whole lines. Every output is a chain of fused multiply-adds
//! in one order: for whole maps from the bias over kernel row, input channel, kernel column; for patches
//! from the base output over input row, input channel, input column. Specialised and general code keep it.

use crate::patch::{Pair, Sink};
use crate::plan::{Span, Stage};
use crate::simd::{Kernel, LANES, Line, Simd, flat, lines};
use std::ops::Range;

/// Columns of output that a specialised row holds in registers: window 4, kernel 5.
const MOST_COLUMNS: usize = 8;

/// A convolution's shape and one member's weights.
pub(crate) struct Conv {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) kernel: usize,
    /// `[output line][kernel row][input channel][kernel column]`.
    weights: Vec<Line>,
    biases: Vec<Line>,
}

impl Conv {
    pub(crate) fn new(stage: &Stage, kernel: usize) -> Self {
        let (inputs, outputs) = (stage.input.channels, stage.output.channels);
        let weights = vec![Line::ZERO; lines(outputs) * kernel * inputs * kernel];
        Self { inputs, outputs, kernel, weights, biases: vec![Line::ZERO; lines(outputs)] }
    }

    /// Takes PyTorch's `[out, in, row, column]` weights.
    pub(crate) fn prepare(&mut self, weights: &[f32], biases: &[f32]) {
        let (k, inputs) = (self.kernel, self.inputs);
        for (output, (filter, &bias)) in weights.chunks_exact(inputs * k * k).zip(biases).enumerate() {
            let (line, lane) = (output / LANES, output % LANES);
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
    fn taps(&self, line: usize, row: usize) -> &[Line] {
        let length = self.inputs * self.kernel;
        &self.weights[(line * self.kernel + row) * length..][..length]
    }

    /// The whole output map. Returns a line that is zero if every output is finite, else not a number.
    #[inline(always)]
    pub(crate) fn map<S: Simd>(&self, s: S, stage: &Stage, input: &[Line], output: &mut [Line]) -> f32 {
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
        stage: &Stage,
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
                for out_column in to.columns.touched.range() {
                    let weight = s.load(&taps[column - out_column].0);
                    let base = to.base(s, out_row, out_column, line);
                    let value = [s.mul_add(steps[0], weight, base), s.mul_add(steps[1], weight, base)];
                    to.put(s, out_row, out_column, line, value, base);
                }
            }
        }
    }
}

/// A convolution of a pair of patches of deltas.
pub(crate) struct PatchConv<'a, 'b> {
    pub(crate) conv: &'a Conv,
    /// Deltas of the two signs on the window `rows` x `columns` of the input map.
    pub(crate) deltas: Pair<&'a [Line]>,
    pub(crate) rows: Span,
    pub(crate) columns: Span,
    pub(crate) to: &'a mut Sink<'b>,
}

impl PatchConv<'_, '_> {
    /// Runs the code for this window's shape. Returns for each sign zero, or not a number if an output was not finite.
    #[inline(always)]
    pub(crate) fn run<S: Simd>(self, s: S) -> Pair<f32> {
        let width = self.columns.len();
        // Virtual output columns beyond the map's left and right edge.
        let left = self.to.columns.touched.start + self.conv.kernel - 1 - self.columns.start;
        let right = self.columns.end - self.to.columns.touched.end;
        debug_assert_eq!(self.to.columns.touched.len(), width + self.conv.kernel - 1 - left - right);
        macro_rules! dispatch {
            ($($kernel:literal: $($width:literal)*, $($clip:literal)*;)*) => {
                dispatch!(@ $([$kernel, [$($width)*], [$($clip)*]])*)
            };
            (@ $([$kernel:literal, $widths:tt, $clips:tt])*) => {
                match self.conv.kernel {
                    $($kernel => dispatch!(# $kernel, $widths, $clips),)*
                    _ => s.vectorize(General(self)),
                }
            };
            (# $kernel:literal, [$($width:literal)*], $clips:tt) => {
                match width {
                    $($width => dispatch!(% $kernel, $width, $clips),)*
                    _ => s.vectorize(General(self)),
                }
            };
            (% $kernel:literal, $width:literal, [$($clip:literal)*]) => {
                match (left, right) {
                    (0, 0) => s.vectorize(Special::<$kernel, $width, 0, 0>(self)),
                    $(($clip, 0) => s.vectorize(Special::<$kernel, $width, $clip, 0>(self)),
                    (0, $clip) => s.vectorize(Special::<$kernel, $width, 0, $clip>(self)),)*
                    _ => s.vectorize(General(self)),
                }
            };
        }
        if !S::SPECIALISED {
            return s.vectorize(General(self));
        }
        dispatch! {
            3: 1 2 3 4, 1 2;
            5: 1 2 3 4, 1 2 3 4;
        }
    }
}

/// The rows of the input window that output row `row` reads.
#[inline(always)]
fn input_rows(window: Span, row: usize, kernel: usize) -> Range<usize> {
    window.start.max(row)..window.end.min(row + kernel)
}

/// Any window, one output at a time.
struct General<'a, 'b>(PatchConv<'a, 'b>);

impl Kernel for General<'_, '_> {
    type Output = Pair<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Pair<f32> {
        let PatchConv { conv, deltas, rows, columns, to } = self.0;
        let (to_rows, to_columns) = (to.rows.touched, to.columns.touched);
        let input_lines = lines(conv.inputs);
        let mut poison = [s.splat(0.0); 2];
        for line in 0..lines(conv.outputs) {
            for row in to_rows.range() {
                for column in to_columns.range() {
                    let base = to.base(s, row, column, line);
                    let mut sums = [base; 2];
                    for input_row in input_rows(rows, row, conv.kernel) {
                        let at = (input_row - rows.start) * columns.len() * input_lines;
                        let taps = conv.taps(line, input_row - row);
                        for channel in 0..conv.inputs {
                            for input_column in columns.start.max(column)..columns.end.min(column + conv.kernel) {
                                let weight = s.load(&taps[channel * conv.kernel + input_column - column].0);
                                let at = (at + (input_column - columns.start) * input_lines) * LANES + channel;
                                for (sum, deltas) in sums.iter_mut().zip(deltas) {
                                    *sum = s.mul_add(s.splat(flat(deltas)[at]), weight, *sum);
                                }
                            }
                        }
                    }
                    for (poison, &sum) in poison.iter_mut().zip(&sums) {
                        *poison = s.mul_add(sum, s.splat(0.0), *poison);
                    }
                    to.put(s, row, column, line, sums, base);
                }
            }
        }
        poison.map(|p| s.sum(p))
    }
}

/// The body once per index, so that register arrays are indexed by constants.
macro_rules! unrolled {
    ($index:ident in [$($value:literal)*] $body:block) => {
        $({
            let $index: usize = $value;
            $body
        })*
    };
}

/// Windows of WIDTH columns: an output row of both signs stays in registers. LEFT and RIGHT virtual columns
/// of output lie beyond the map's edges and are not computed.
struct Special<'a, 'b, const KERNEL: usize, const WIDTH: usize, const LEFT: usize, const RIGHT: usize>(
    PatchConv<'a, 'b>,
);

impl<const KERNEL: usize, const WIDTH: usize, const LEFT: usize, const RIGHT: usize> Kernel
    for Special<'_, '_, KERNEL, WIDTH, LEFT, RIGHT>
{
    type Output = Pair<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Pair<f32> {
        let PatchConv { conv, deltas, rows, columns, to } = self.0;
        let (to_rows, first) = (to.rows.touched, to.columns.touched.start);
        let wide = lines(conv.inputs) * LANES;
        let end = WIDTH + KERNEL - 1 - RIGHT;
        assert!(conv.kernel == KERNEL && columns.len() == WIDTH);
        let mut poison = [s.splat(0.0); 2];
        for line in 0..lines(conv.outputs) {
            for row in to_rows.range() {
                let mut sums = [[s.splat(0.0); 2]; MOST_COLUMNS];
                unrolled!(j in [0 1 2 3 4 5 6 7] {
                    if LEFT <= j && j < end {
                        sums[j] = [to.base(s, row, first + j - LEFT, line); 2];
                    }
                });
                for input_row in input_rows(rows, row, conv.kernel) {
                    let at = (input_row - rows.start) * WIDTH * wide;
                    let plus = &flat(deltas[0])[at..][..WIDTH * wide];
                    let minus = &flat(deltas[1])[at..][..WIDTH * wide];
                    let (taps, _) = conv.taps(line, input_row - row).as_chunks::<KERNEL>();
                    for (channel, taps) in taps.iter().enumerate() {
                        let weights = taps.each_ref().map(|tap| s.load(&tap.0));
                        unrolled!(i in [0 1 2 3] {
                            if i < WIDTH {
                                // SAFETY: channel < conv.inputs <= wide and i < WIDTH; both slices have WIDTH * wide.
                                let delta = unsafe {
                                    let at = i * wide + channel;
                                    [s.splat(*plus.get_unchecked(at)), s.splat(*minus.get_unchecked(at))]
                                };
                                unrolled!(tap in [0 1 2 3 4] {
                                    if tap < KERNEL {
                                        let j = i + KERNEL - 1 - tap;
                                        if LEFT <= j && j < end {
                                            sums[j][0] = s.mul_add(delta[0], weights[tap], sums[j][0]);
                                            sums[j][1] = s.mul_add(delta[1], weights[tap], sums[j][1]);
                                        }
                                    }
                                });
                            }
                        });
                    }
                }
                unrolled!(j in [0 1 2 3 4 5 6 7] {
                    if LEFT <= j && j < end {
                        poison[0] = s.mul_add(sums[j][0], s.splat(0.0), poison[0]);
                        poison[1] = s.mul_add(sums[j][1], s.splat(0.0), poison[1]);
                        let column = first + j - LEFT;
                        let base = to.base(s, row, column, line);
                        to.put(s, row, column, line, sums[j], base);
                    }
                });
            }
        }
        poison.map(|p| s.sum(p))
    }
}
