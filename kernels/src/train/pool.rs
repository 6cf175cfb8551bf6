//! Pooling of maps, and its gradient: of a maximum, to the first of its window's numbers in row-major order that equals it.

use crate::simd::{Kernel, Line, Simd};
use nadgrid_core::architecture::Shape;

/// The number that a pooling takes of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pooling {
    Maximum,
    Mean,
}

/// Windows of size x size of a map of sixteen samples.
#[derive(Clone, Copy)]
pub(super) struct PoolWindows {
    pub(super) size: usize,
    pub(super) input: Shape,
    pub(super) output: Shape,
}

impl PoolWindows {
    /// The first line of a row of windows.
    #[inline(always)]
    fn row(&self, channel: usize, row: usize) -> usize {
        (channel * self.input.height + row * self.size) * self.input.width
    }

    /// 1 / numbers of a window.
    fn share(self) -> f32 {
        1.0 / (self.size * self.size) as f32
    }

    /// The side of a window, which is SIZE where the compiler knows it and SIZE is not 0.
    #[inline(always)]
    fn side<const SIZE: usize>(&self) -> usize {
        if SIZE == 0 { self.size } else { SIZE }
    }

    /// The maximum of the window that begins at a line.
    #[inline(always)]
    fn maximum<S: Simd, const SIZE: usize>(&self, s: S, window: &[Line]) -> S::F32 {
        let mut most = s.load(&window[0].0);
        for row in 0..self.side::<SIZE>() {
            for line in &window[row * self.input.width..][..self.side::<SIZE>()] {
                most = s.max(s.load(&line.0), most);
            }
        }
        most
    }

    #[inline(always)]
    fn total<S: Simd, const SIZE: usize>(&self, s: S, window: &[Line]) -> S::F32 {
        let mut sum = s.splat(0.0);
        for row in 0..self.side::<SIZE>() {
            for line in &window[row * self.input.width..][..self.side::<SIZE>()] {
                sum = s.add(sum, s.load(&line.0));
            }
        }
        sum
    }
}

/// The pooled map.
pub(super) struct PooledMap<'a> {
    pub(super) pooling: Pooling,
    pub(super) windows: PoolWindows,
    pub(super) input: &'a [Line],
    pub(super) output: &'a mut [Line],
}

impl Kernel for PooledMap<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.windows.size {
            2 => self.sized::<S, 2>(s),
            _ => self.sized::<S, 0>(s),
        }
    }
}

impl PooledMap<'_> {
    #[inline(always)]
    fn sized<S: Simd, const SIZE: usize>(self, s: S) {
        let PoolWindows { output: Shape { height, width, .. }, .. } = self.windows;
        let side = self.windows.side::<SIZE>();
        let share = s.splat(self.windows.share());
        for (row, output) in self.output.chunks_exact_mut(width).enumerate() {
            let input = &self.input[self.windows.row(row / height, row % height)..];
            for (column, to) in output.iter_mut().enumerate() {
                let window = &input[column * side..];
                let value = match self.pooling {
                    Pooling::Maximum => self.windows.maximum::<S, SIZE>(s, window),
                    Pooling::Mean => s.mul(self.windows.total::<S, SIZE>(s, window), share),
                };
                s.store(value, &mut to.0);
            }
        }
    }
}

/// The gradient of the map that was pooled.
pub(super) struct PoolGradient<'a> {
    pub(super) pooling: Pooling,
    pub(super) windows: PoolWindows,
    pub(super) input: &'a [Line],
    pub(super) gradient: &'a [Line],
    /// Whether it is added to what is there.
    pub(super) add: bool,
    pub(super) target: &'a mut [Line],
}

impl Kernel for PoolGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let PoolWindows { size, input, output } = self.windows;
        // A remainder that no window covers has no gradient.
        if !self.add && (output.height * size != input.height || output.width * size != input.width) {
            self.target.fill(Line::ZERO);
            self.add = true;
        }
        match size {
            2 => self.sized::<S, 2>(s),
            _ => self.sized::<S, 0>(s),
        }
    }
}

impl PoolGradient<'_> {
    #[inline(always)]
    fn sized<S: Simd, const SIZE: usize>(self, s: S) {
        let PoolWindows { output: Shape { height, width, .. }, .. } = self.windows;
        let side = self.windows.side::<SIZE>();
        let share = s.splat(self.windows.share());
        for (row, gradient) in self.gradient.chunks_exact(width).enumerate() {
            let first = self.windows.row(row / height, row % height);
            for (column, gradient) in gradient.iter().enumerate() {
                let input = &self.input[first + column * side..];
                let target = &mut self.target[first + column * side..];
                let gradient = s.load(&gradient.0);
                match self.pooling {
                    Pooling::Maximum => route::<S, SIZE>(s, &self.windows, input, gradient, self.add, target),
                    Pooling::Mean => spread::<S, SIZE>(s, &self.windows, s.mul(gradient, share), self.add, target),
                }
            }
        }
    }
}

/// Hands a gradient to the first maximum of a window, zero to the others.
#[inline(always)]
fn route<S: Simd, const SIZE: usize>(
    s: S,
    windows: &PoolWindows,
    input: &[Line],
    gradient: S::F32,
    add: bool,
    target: &mut [Line],
) {
    let most = windows.maximum::<S, SIZE>(s, input);
    let zero = s.splat(0.0);
    let side = windows.side::<SIZE>();
    let mut left = gradient;
    for row in 0..side {
        let at = row * windows.input.width;
        for (line, target) in input[at..][..side].iter().zip(&mut target[at..][..side]) {
            let value = s.load(&line.0);
            put(s, s.select_greater(most, value, zero, left), add, target);
            left = s.select_greater(most, value, left, zero);
        }
    }
}

/// Hands every number of a window the same.
#[inline(always)]
fn spread<S: Simd, const SIZE: usize>(s: S, windows: &PoolWindows, share: S::F32, add: bool, target: &mut [Line]) {
    let side = windows.side::<SIZE>();
    for row in 0..side {
        for line in &mut target[row * windows.input.width..][..side] {
            put(s, share, add, line);
        }
    }
}

#[inline(always)]
fn put<S: Simd>(s: S, value: S::F32, add: bool, line: &mut Line) {
    let value = if add { s.add(s.load(&line.0), value) } else { value };
    s.store(value, &mut line.0);
}
