//! The weight gradient of a convolution: for every output and term the sum over samples and positions of an output
//! gradient times what was read there.
//!
//! Every lane is one chain over vectors of samples, rows and columns; lanes are summed by halves at the end. Positions that
//! read beyond a row of zeros are left out. Tiles of outputs by terms of one kernel row are held in registers.

use crate::simd::{Kernel, Line, Simd};
use nadgrid_core::architecture::Shape;
use std::ops::Range;

/// The weight gradient of some vectors of samples.
pub(super) struct WeightGradient<'a> {
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) zeros: usize,
    pub(super) inputs: Shape,
    pub(super) outputs: Shape,
    /// Lines of a padded source row.
    pub(super) pitch: usize,
    pub(super) vectors: usize,
    pub(super) source: &'a [Line],
    pub(super) gradient: &'a [Line],
    /// The sums that are kept per lane, `[output][row, column, input]`; if it is empty, they are added to the weights.
    pub(super) lanes: &'a mut [Line],
    /// `[out, in, row, column]`.
    pub(super) weights: &'a mut [f32],
}

impl Kernel for WeightGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        match self.stride {
            _ if !S::SPECIALISED => self.tiles::<S, 1, 1, 0>(s),
            1 if S::PANEL >= 4 => self.tiles::<S, 4, 6, 1>(s),
            _ if S::PANEL >= 4 => self.tiles::<S, 4, 6, 0>(s),
            1 => self.tiles::<S, 2, 3, 1>(s),
            _ => self.tiles::<S, 2, 3, 0>(s),
        }
    }
}

impl WeightGradient<'_> {
    /// Terms of a kernel row: kernel column, input channel.
    #[inline(always)]
    fn terms(&self) -> usize {
        self.kernel * self.inputs.channels
    }

    /// The rows of outputs whose kernel row lies inside the map.
    #[inline(always)]
    fn rows(&self, kernel_row: usize) -> Range<usize> {
        let from = self.zeros.saturating_sub(kernel_row).div_ceil(self.stride);
        let to = (self.inputs.height + self.zeros).saturating_sub(kernel_row).div_ceil(self.stride);
        from.min(self.outputs.height)..to.min(self.outputs.height)
    }

    /// Tiles of OUTPUTS by TERMS; STRIDE is 0 where it is not known to the compiler.
    #[inline(always)]
    fn tiles<S: Simd, const OUTPUTS: usize, const TERMS: usize, const STRIDE: usize>(&mut self, s: S) {
        let cuts = self.terms().div_ceil(TERMS);
        let mut output = 0;
        while output < self.outputs.channels {
            let left = self.outputs.channels - output;
            for kernel_row in 0..self.kernel {
                for cut in 0..cuts {
                    let terms = self.terms() * cut / cuts..self.terms() * (cut + 1) / cuts;
                    match left {
                        4.. if OUTPUTS >= 4 => self.tile::<S, 4, TERMS, STRIDE>(s, output, kernel_row, terms),
                        2.. if OUTPUTS >= 2 => self.tile::<S, 2, TERMS, STRIDE>(s, output, kernel_row, terms),
                        _ => self.tile::<S, 1, TERMS, STRIDE>(s, output, kernel_row, terms),
                    }
                }
            }
            output += match left {
                4.. if OUTPUTS >= 4 => 4,
                2.. if OUTPUTS >= 2 => 2,
                _ => 1,
            };
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const OUTPUTS: usize, const TERMS: usize, const STRIDE: usize>(
        &mut self,
        s: S,
        output: usize,
        kernel_row: usize,
        terms: Range<usize>,
    ) {
        match terms.len() {
            6 if TERMS >= 6 => self.sums::<S, OUTPUTS, 6, STRIDE>(s, output, kernel_row, terms.start),
            5 if TERMS >= 5 => self.sums::<S, OUTPUTS, 5, STRIDE>(s, output, kernel_row, terms.start),
            4 if TERMS >= 4 => self.sums::<S, OUTPUTS, 4, STRIDE>(s, output, kernel_row, terms.start),
            3 if TERMS >= 3 => self.sums::<S, OUTPUTS, 3, STRIDE>(s, output, kernel_row, terms.start),
            2 if TERMS >= 2 => self.sums::<S, OUTPUTS, 2, STRIDE>(s, output, kernel_row, terms.start),
            _ => self.sums::<S, OUTPUTS, 1, STRIDE>(s, output, kernel_row, terms.start),
        }
    }

    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "register tiles are indexed by constants")]
    fn sums<S: Simd, const OUTPUTS: usize, const TERMS: usize, const STRIDE: usize>(
        &mut self,
        s: S,
        output: usize,
        kernel_row: usize,
        term: usize,
    ) {
        let stride = if STRIDE == 0 { self.stride } else { STRIDE };
        let width = self.outputs.width;
        let channels = self.inputs.channels;
        let area = self.outputs.height * width;
        let plane = self.inputs.height * self.pitch;
        let span = (width - 1) * stride + 1;
        let mut sums = [[s.splat(0.0); TERMS]; OUTPUTS];
        for vector in 0..self.vectors {
            let source = &self.source[vector * channels * plane..][..channels * plane];
            let gradient = &self.gradient[(vector * self.outputs.channels + output) * area..][..OUTPUTS * area];
            for row in self.rows(kernel_row) {
                let from = (row * stride + kernel_row - self.zeros) * self.pitch;
                let mut x = [&source[..0]; TERMS];
                for t in 0..TERMS {
                    let column = (term + t) / channels;
                    let channel = (term + t) % channels;
                    x[t] = &source[channel * plane + from + column..][..span];
                }
                let mut y = [&gradient[..0]; OUTPUTS];
                for o in 0..OUTPUTS {
                    y[o] = &gradient[o * area + row * width..][..width];
                }
                for column in 0..width {
                    let mut gradients = [s.splat(0.0); OUTPUTS];
                    for o in 0..OUTPUTS {
                        gradients[o] = s.load(&y[o][column].0);
                    }
                    for t in 0..TERMS {
                        let value = s.load(&x[t][column * stride].0);
                        for o in 0..OUTPUTS {
                            sums[o][t] = s.mul_add(gradients[o], value, sums[o][t]);
                        }
                    }
                }
            }
        }
        // Through memory, so that the compiler keeps the tile itself in registers.
        let mut lines = [[Line::ZERO; TERMS]; OUTPUTS];
        for o in 0..OUTPUTS {
            for t in 0..TERMS {
                s.store(sums[o][t], &mut lines[o][t].0);
            }
        }
        for (o, lines) in lines.iter().enumerate() {
            for (t, line) in lines.iter().enumerate() {
                self.keep(s, output + o, kernel_row, term + t, s.load(&line.0));
            }
        }
    }

    #[inline(always)]
    fn keep<S: Simd>(&mut self, s: S, output: usize, kernel_row: usize, term: usize, sum: S::F32) {
        let terms = self.terms();
        let channels = self.inputs.channels;
        let place = output * self.kernel * terms + kernel_row * terms + term;
        if let Some(line) = self.lanes.get_mut(place) {
            let sum = s.add(s.load(&line.0), sum);
            s.store(sum, &mut line.0);
        } else {
            let column = term / channels;
            let channel = term % channels;
            let tap = kernel_row * self.kernel + column;
            self.weights[(output * channels + channel) * self.kernel * self.kernel + tap] += s.sum(sum);
        }
    }
}

/// The sums of kept lanes.
pub(super) struct LaneSums<'a> {
    /// `[output][row, column, input]`.
    pub(super) lanes: &'a [Line],
    pub(super) inputs: usize,
    /// The number of taps of the kernel.
    pub(super) area: usize,
    /// `[out, in, row, column]`.
    pub(super) weights: &'a mut [f32],
}

impl Kernel for LaneSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let filter = (self.inputs * self.area).max(1);
        for (lanes, weights) in self.lanes.chunks_exact(filter).zip(self.weights.chunks_exact_mut(filter)) {
            for (place, line) in lanes.iter().enumerate() {
                let tap = place / self.inputs;
                let input = place % self.inputs;
                weights[input * self.area + tap] = s.sum(s.load(&line.0));
            }
        }
    }
}

/// The sum of a map's gradient over samples and positions, for every channel: a bias's gradient.
pub(super) struct BiasGradient<'a> {
    pub(super) shape: Shape,
    pub(super) gradient: &'a [Line],
    pub(super) biases: &'a mut [f32],
}

impl Kernel for BiasGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let area = self.shape.height * self.shape.width;
        for vector in self.gradient.chunks_exact(self.shape.len().max(1)) {
            for (plane, bias) in vector.chunks_exact(area).zip(self.biases.iter_mut()) {
                let mut sum = s.splat(0.0);
                for line in plane {
                    sum = s.add(sum, s.load(&line.0));
                }
                *bias += s.sum(sum);
            }
        }
    }
}
