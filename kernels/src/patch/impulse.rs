//! A changed pixel seen through the first convolution, its ReLU and a maximum pool at once, without patches of
//! the map between them: where most changes begin.

use super::conv::Conv;
use super::sink::Sink;
use crate::simd::{Line, Simd, lines};

/// The numbers that a pixel adds to the outputs around it: the kernel turned by 180 degrees, with a border of zeros as
/// wide as a pooling window can stick out.
pub(crate) struct Impulse {
    /// Side and stride of the pool.
    size: usize,
    /// Whether a ReLU follows the convolution.
    relu: bool,
    /// Rows and columns of the turned kernel with its border.
    side: usize,
    inputs: usize,
    /// `[output line][input channel][row][column]`.
    taps: Vec<Line>,
}

impl Impulse {
    pub(crate) fn new(conv: &Conv, size: usize, relu: bool) -> Self {
        let side = conv.kernel + 2 * (size - 1);
        let taps = vec![Line::ZERO; lines(conv.outputs) * conv.inputs * side * side];
        Self { size, relu, side, inputs: conv.inputs, taps }
    }

    /// Takes the convolution's weights.
    pub(crate) fn prepare(&mut self, conv: &Conv) {
        let kernel = conv.kernel;
        let border = self.size - 1;
        for (plane, taps) in self.taps.chunks_exact_mut(self.side * self.side).enumerate() {
            let line = plane / self.inputs;
            let input = plane % self.inputs;
            for row in 0..kernel {
                let from = &conv.taps(line, row)[input * kernel..][..kernel];
                let to = &mut taps[(kernel - 1 - row + border) * self.side + border..][..kernel];
                for (to, from) in to.iter_mut().rev().zip(from) {
                    *to = *from;
                }
            }
        }
    }

    /// The patches of the pool where the pixel (row, column) of `channel` changes by ±step; `base` is the
    /// convolution's base map of `width` columns.
    #[inline(always)]
    pub(crate) fn pool<S: Simd>(
        &self,
        s: S,
        (base, width): (&[Line], usize),
        (channel, row, column): (usize, usize, usize),
        step: f32,
        to: &mut Sink<'_>,
    ) {
        match self.size {
            2 => self.pool_of::<S, 2>(s, (base, width), (channel, row, column), step, to),
            _ => self.pool_of::<S, 0>(s, (base, width), (channel, row, column), step, to),
        }
    }

    /// SIZE is the pool's side, or zero for any.
    #[inline(always)]
    fn pool_of<S: Simd, const SIZE: usize>(
        &self,
        s: S,
        (base, width): (&[Line], usize),
        (channel, row, column): (usize, usize, usize),
        step: f32,
        to: &mut Sink<'_>,
    ) {
        let size = if SIZE == 0 { self.size } else { SIZE };
        let steps = [s.splat(step), s.splat(-step)];
        // The first row and column of the map that the turned kernel's border covers, off by `shift`.
        let shift = self.side - size;
        for line in 0..to.lines {
            let taps = &self.taps[(line * self.inputs + channel) * self.side * self.side..][..self.side * self.side];
            for to_row in to.rows.touched.range() {
                let columns = to.columns.touched;
                let lines = to.lines;
                let mut to = to.row(to_row);
                for (index, to_column) in columns.range().enumerate() {
                    let mut best = [s.splat(f32::NEG_INFINITY); 2];
                    for i in 0..size {
                        let map_row = to_row * size + i;
                        let at = (map_row * width + to_column * size) * lines + line;
                        let base = &base[at..][..(size - 1) * lines + 1];
                        let taps =
                            &taps[(map_row + shift - row) * self.side + to_column * size + shift - column..][..size];
                        for j in 0..size {
                            let base = s.load(&base[j * lines].0);
                            let tap = s.load(&taps[j].0);
                            best[0] = s.max(best[0], s.mul_add(steps[0], tap, base));
                            best[1] = s.max(best[1], s.mul_add(steps[1], tap, base));
                        }
                    }
                    if self.relu {
                        best = [s.relu(best[0]), s.relu(best[1])];
                    }
                    to.put(s, index, line, best);
                }
            }
        }
    }
}
