//! Operations without a product of weights: channels put together, scaled, shifted, added and cut at zero; pooling;
//! flattening.
//!
//! A pool takes its window row by row: a maximum keeps the larger so far, a mean adds and then multiplies by the
//! correctly rounded 1/size².

use super::conv::Addend;
use super::norm::Norm;
use super::taps::locate;
use crate::simd::{Kernel, Line, Simd, flat, flat_mut, lines};
use std::ops::Range;

/// A map that is read: its memory, windows and base, and its sources: as many for every output row as the row has taps.
#[derive(Clone, Copy)]
pub(crate) struct PointwiseInput<'a> {
    pub(crate) memory: [&'a [Line]; 2],
    pub(crate) sources: &'a [u32],
    pub(crate) channels: usize,
}

impl<'a> PointwiseInput<'a> {
    /// The vectors of the position that a source names.
    #[inline(always)]
    fn at(&self, source: u32) -> &'a [Line] {
        let (memory, at) = locate(source);
        &self.memory[memory][at..][..lines(self.channels)]
    }
}

/// Copies a part's channels to their place among all channels of the output rows.
pub(crate) fn copy(part: PointwiseInput<'_>, offset: usize, channels: usize, output: &mut [Line]) {
    for (to, &source) in output.chunks_exact_mut(lines(channels)).zip(part.sources) {
        flat_mut(to)[offset..][..part.channels].copy_from_slice(&flat(part.at(source))[..part.channels]);
    }
}

/// Scale, shift, sum and ReLU on vectors of every output row: those of a part, which starts with a whole vector, or all
/// vectors as they lie in the output.
pub(crate) struct Pointwise<'a> {
    pub(crate) part: Option<PointwiseInput<'a>>,
    /// The vectors.
    pub(crate) lines: Range<usize>,
    pub(crate) norm: &'a Norm,
    pub(crate) add: Option<Addend<'a>>,
    pub(crate) relu: bool,
    pub(crate) output: &'a mut [Line],
}

impl Kernel for Pointwise<'_> {
    /// Zero if every number is finite, else not a number.
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let Self { part, lines, norm, add, relu, output } = self;
        let mut poison = s.splat(0.0);
        let scale = &norm.scale[lines.clone()];
        let shift = &norm.shift[lines.clone()];
        for (row, to) in output.chunks_exact_mut(norm.scale.len()).enumerate() {
            let to = &mut to[lines.clone()];
            let from = part.map(|part| part.at(part.sources[row]));
            for (line, ((to, scale), shift)) in to.iter_mut().zip(scale).zip(shift).enumerate() {
                let value = s.load(from.map_or(&to.0, |from| &from[line].0));
                let mut value = s.mul_add(value, s.load(&scale.0), s.load(&shift.0));
                if let Some(add) = add {
                    value = s.add(value, s.load(add.get(row, lines.start + line)));
                }
                poison = s.mul_add(value, s.splat(0.0), poison);
                if relu {
                    value = s.relu(value);
                }
                s.store(value, &mut to.0);
            }
        }
        s.sum(poison)
    }
}

/// The operation by which a pool makes one number of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolFold {
    Max,
    Mean,
}

/// A pool of `taps` positions for every output row.
pub(crate) struct WindowPool<'a> {
    pub(crate) input: PointwiseInput<'a>,
    pub(crate) taps: usize,
    pub(crate) fold: PoolFold,
    pub(crate) output: &'a mut [Line],
}

impl Kernel for WindowPool<'_> {
    /// Zero if every number is finite, else not a number.
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let Self { input, taps, fold, output } = self;
        let mut poison = s.splat(0.0);
        let factor = s.splat(1.0 / taps as f32);
        for (to, sources) in output.chunks_exact_mut(lines(input.channels)).zip(input.sources.chunks_exact(taps)) {
            to.copy_from_slice(input.at(sources[0]));
            for &source in &sources[1..] {
                for (to, from) in to.iter_mut().zip(input.at(source)) {
                    let a = s.load(&to.0);
                    let b = s.load(&from.0);
                    let value = match fold {
                        PoolFold::Max => s.max(a, b),
                        PoolFold::Mean => s.add(a, b),
                    };
                    s.store(value, &mut to.0);
                }
            }
            for to in to {
                let mut value = s.load(&to.0);
                if fold == PoolFold::Mean {
                    value = s.mul_add(value, factor, s.splat(0.0));
                }
                poison = s.mul_add(value, s.splat(0.0), poison);
                s.store(value, &mut to.0);
            }
        }
        s.sum(poison)
    }
}

/// Every output row is all positions of a map, channel by channel.
pub(crate) fn flatten(input: PointwiseInput<'_>, taps: usize, output: &mut [Line]) {
    for (to, sources) in output.chunks_exact_mut(lines(taps * input.channels)).zip(input.sources.chunks_exact(taps)) {
        let to = flat_mut(to);
        for (position, &source) in sources.iter().enumerate() {
            let from = &flat(input.at(source))[..input.channels];
            for (channel, &value) in from.iter().enumerate() {
                to[channel * taps + position] = value;
            }
        }
    }
}
