//! Convolutions of a pair of patches, by linearity: the base output plus the convolved deltas.
//!
//! Code specialised to the window's width and to how much of its reach lies beyond the map's edges keeps a row
//! of outputs in registers; any other window takes the general code. Both add in the same order.

use super::conv::Conv;
use super::sink::{SignPair, Sink};
use crate::simd::{Kernel, LANES, Line, Simd, flat, lines};
use crate::span::AxisSpan;
use std::ops::Range;

/// Columns of output that a specialised row holds in registers: window 4, kernel 5.
const MOST_COLUMNS: usize = 8;

/// A convolution of a pair of patches of deltas.
pub(crate) struct PatchConv<'a, 'b> {
    pub(crate) conv: &'a Conv,
    /// Deltas of the two signs on the window `rows` x `columns` of the input map.
    pub(crate) deltas: SignPair<&'a [Line]>,
    pub(crate) rows: AxisSpan,
    pub(crate) columns: AxisSpan,
    pub(crate) to: &'a mut Sink<'b>,
}

impl PatchConv<'_, '_> {
    /// Runs the code for this window's shape. Returns for each sign zero, or not a number if an output was not finite.
    #[inline(always)]
    pub(crate) fn run<S: Simd>(self, s: S) -> SignPair<f32> {
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
fn input_rows(window: AxisSpan, row: usize, kernel: usize) -> Range<usize> {
    window.start.max(row)..window.end.min(row + kernel)
}

/// Any window, one output at a time.
struct General<'a, 'b>(PatchConv<'a, 'b>);

impl Kernel for General<'_, '_> {
    type Output = SignPair<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> SignPair<f32> {
        let PatchConv { conv, deltas, rows, columns, to } = self.0;
        let to_rows = to.rows.touched;
        let to_columns = to.columns.touched;
        let input_lines = lines(conv.inputs);
        let mut poison = [s.splat(0.0); 2];
        for line in 0..lines(conv.outputs) {
            for row in to_rows.range() {
                let mut to = to.row(row);
                for (index, column) in to_columns.range().enumerate() {
                    let mut sums = [to.base(s, index, line); 2];
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
                    to.put(s, index, line, sums);
                }
            }
        }
        [s.sum(poison[0]), s.sum(poison[1])]
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
    type Output = SignPair<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> SignPair<f32> {
        let PatchConv { conv, deltas, rows, columns, to } = self.0;
        let to_rows = to.rows.touched;
        let wide = lines(conv.inputs) * LANES;
        let end = WIDTH + KERNEL - 1 - RIGHT;
        assert!(conv.kernel == KERNEL && columns.len() == WIDTH);
        let (filters, _) = conv.weights.as_chunks::<KERNEL>();
        let [plus, minus] = [flat(deltas[0]), flat(deltas[1])];
        let mut poison = [s.splat(0.0); 2];
        for line in 0..lines(conv.outputs) {
            for row in to_rows.range() {
                let mut to = to.row(row);
                let mut sums = [[s.splat(0.0); 2]; MOST_COLUMNS];
                unrolled!(j in [0 1 2 3 4 5 6 7] {
                    if LEFT <= j && j < end {
                        sums[j] = [to.base(s, j - LEFT, line); 2];
                    }
                });
                for input_row in input_rows(rows, row, conv.kernel) {
                    let at = (input_row - rows.start) * WIDTH * wide;
                    let plus = &plus[at..][..WIDTH * wide];
                    let minus = &minus[at..][..WIDTH * wide];
                    let filters = &filters[(line * KERNEL + input_row - row) * conv.inputs..][..conv.inputs];
                    for (channel, taps) in filters.iter().enumerate() {
                        let mut weights = [s.splat(0.0); KERNEL];
                        for (weight, tap) in weights.iter_mut().zip(taps) {
                            *weight = s.load(&tap.0);
                        }
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
                        to.put(s, j - LEFT, line, sums[j]);
                    }
                });
            }
        }
        [s.sum(poison[0]), s.sum(poison[1])]
    }
}
