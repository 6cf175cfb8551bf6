//! Pooling of maps, and its gradient: of a maximum, to the first of its window's numbers in row-major order that equals it.

use crate::simd::{Kernel, Line, Simd};
use nadgrid_core::architecture::Shape;

/// What a pooling takes of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pooling {
    Maximum,
    Mean,
}

/// Windows of size x size of a map of sixteen samples.
#[derive(Clone, Copy)]
pub(super) struct Windows {
    pub(super) size: usize,
    pub(super) input: Shape,
    pub(super) output: Shape,
}

impl Windows {
    /// The first line of a window.
    #[inline(always)]
    fn first(&self, channel: usize, row: usize, column: usize) -> usize {
        (channel * self.input.height + row * self.size) * self.input.width + column * self.size
    }

    #[inline(always)]
    fn maximum<S: Simd>(self, s: S, window: &[Line]) -> S::F32 {
        let mut most = s.load(&window[0].0);
        for row in 0..self.size {
            for column in 0..self.size {
                most = s.max(s.load(&window[row * self.input.width + column].0), most);
            }
        }
        most
    }

    #[inline(always)]
    fn total<S: Simd>(self, s: S, window: &[Line]) -> S::F32 {
        let mut sum = s.splat(0.0);
        for row in 0..self.size {
            for column in 0..self.size {
                sum = s.add(sum, s.load(&window[row * self.input.width + column].0));
            }
        }
        sum
    }

    /// 1 / numbers of a window.
    #[inline(always)]
    fn share(self) -> f32 {
        1.0 / (self.size * self.size) as f32
    }
}

/// The pooled map.
pub(super) struct Pool<'a> {
    pub(super) pooling: Pooling,
    pub(super) windows: Windows,
    pub(super) input: &'a [Line],
    pub(super) output: &'a mut [Line],
}

impl Kernel for Pool<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Shape { height, width, .. } = self.windows.output;
        for (place, to) in self.output.iter_mut().enumerate() {
            let (row, column) = (place / width, place % width);
            let window = &self.input[self.windows.first(row / height, row % height, column)..];
            let value = match self.pooling {
                Pooling::Maximum => self.windows.maximum(s, window),
                Pooling::Mean => s.mul(self.windows.total(s, window), s.splat(self.windows.share())),
            };
            s.store(value, &mut to.0);
        }
    }
}

/// The gradient of the map that was pooled, added to what is there.
pub(super) struct PoolGradient<'a> {
    pub(super) pooling: Pooling,
    pub(super) windows: Windows,
    pub(super) input: &'a [Line],
    pub(super) gradient: &'a [Line],
    /// Whether it is added to what is there.
    pub(super) add: bool,
    pub(super) target: &'a mut [Line],
}

impl Kernel for PoolGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Windows { size, input, output } = self.windows;
        let covered = output.height * size == input.height && output.width * size == input.width;
        if !self.add && !covered {
            self.target.fill(Line::ZERO);
        }
        let add = self.add || !covered;
        for (place, gradient) in self.gradient.iter().enumerate() {
            let (row, column) = (place / output.width, place % output.width);
            let first = self.windows.first(row / output.height, row % output.height, column);
            let target = &mut self.target[first..];
            let gradient = s.load(&gradient.0);
            match self.pooling {
                Pooling::Maximum => route(s, self.windows, &self.input[first..], gradient, add, target),
                Pooling::Mean => spread(s, self.windows, gradient, add, target),
            }
        }
    }
}

/// Hands a gradient to the first maximum of a window, zero to the others.
#[inline(always)]
fn route<S: Simd>(s: S, windows: Windows, input: &[Line], gradient: S::F32, add: bool, target: &mut [Line]) {
    let (most, zero) = (windows.maximum(s, input), s.splat(0.0));
    let mut left = gradient;
    for row in 0..windows.size {
        for column in 0..windows.size {
            let at = row * windows.input.width + column;
            let value = s.load(&input[at].0);
            put(s, s.select_greater(most, value, zero, left), add, &mut target[at]);
            left = s.select_greater(most, value, left, zero);
        }
    }
}

/// Hands every number of a window its share of a gradient.
#[inline(always)]
fn spread<S: Simd>(s: S, windows: Windows, gradient: S::F32, add: bool, target: &mut [Line]) {
    let share = s.mul(gradient, s.splat(windows.share()));
    for row in 0..windows.size {
        for column in 0..windows.size {
            put(s, share, add, &mut target[row * windows.input.width + column]);
        }
    }
}

#[inline(always)]
fn put<S: Simd>(s: S, value: S::F32, add: bool, line: &mut Line) {
    let value = if add { s.add(s.load(&line.0), value) } else { value };
    s.store(value, &mut line.0);
}
