//! Batch norm in training: statistics over a batch's samples and positions, and the gradient through them.
//!
//! A sum is taken over sixteen lanes of up to [`RUN`] lines in f32, the lanes by halves, and the runs in f64, in the order of
//! vectors of samples and positions. Deviations are from the mean in f32 and their sum is corrected by it (the corrected
//! two-pass algorithm), so that a large mean costs the variance no digits.

use super::lanes::mask;
use crate::simd::{Kernel, Line, Simd};
use nadgrid_core::architecture::{BATCH_NORM_EPS, BATCH_NORM_MOMENTUM};

/// Lines whose sum is taken in f32.
const RUN: usize = 32;

/// A batch of maps: vectors of samples one after the other, each `[channel][position]`.
#[derive(Clone, Copy)]
pub(super) struct ChannelExtent {
    pub(super) channels: usize,
    /// The number of positions of a channel.
    pub(super) area: usize,
    pub(super) samples: usize,
    pub(super) vectors: usize,
}

impl ChannelExtent {
    /// Returns the index where a vector's channel begins.
    #[inline(always)]
    fn plane(&self, vector: usize, channel: usize) -> usize {
        (vector * self.channels + channel) * self.area
    }

    /// Numbers of a channel in the whole batch.
    #[inline(always)]
    fn count(&self) -> f64 {
        (self.samples * self.area) as f64
    }
}

/// The statistics that normalised a batch, for every channel.
#[derive(Clone, Debug, Default)]
pub(super) struct BatchStatistics {
    pub(super) means: Vec<f32>,
    /// 1/√(variance + eps).
    pub(super) inverses: Vec<f32>,
}

impl BatchStatistics {
    pub(super) fn new(channels: usize) -> Self {
        Self { means: vec![0.0; channels], inverses: vec![0.0; channels] }
    }
}

/// The parameters of all channels.
#[derive(Clone, Copy)]
pub(super) struct ChannelAffine<'a> {
    pub(super) weights: &'a [f32],
    pub(super) biases: &'a [f32],
}

/// Normalises a batch by its own statistics and lets the running ones follow.
pub(super) struct Normalise<'a> {
    pub(super) extent: ChannelExtent,
    pub(super) input: &'a [Line],
    pub(super) affine: ChannelAffine<'a>,
    pub(super) statistics: &'a mut BatchStatistics,
    pub(super) running_means: &'a mut [f32],
    pub(super) running_variances: &'a mut [f32],
    /// Whether max(x, 0) is stored.
    pub(super) rectify: bool,
    pub(super) output: &'a mut [Line],
}

impl Kernel for Normalise<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let count = self.extent.count();
        for channel in 0..self.extent.channels {
            let mean = sum(s, &self.extent, channel, self.input) / count;
            let squares = squares(s, &self.extent, channel, self.input, mean as f32);
            let rest = mean - f64::from(mean as f32);
            let variance = (squares / count - rest * rest).max(0.0);
            let inverse = (1.0 / (variance + f64::from(BATCH_NORM_EPS)).sqrt()) as f32;
            self.statistics.means[channel] = mean as f32;
            self.statistics.inverses[channel] = inverse;
            follow(&mut self.running_means[channel], mean);
            follow(&mut self.running_variances[channel], variance * count / (count - 1.0).max(1.0));
            let affine = (mean as f32, self.affine.weights[channel] * inverse, self.affine.biases[channel]);
            apply(s, &self.extent, channel, affine, self.rectify, self.input, self.output);
        }
    }
}

/// A running statistic takes a tenth of a batch's.
fn follow(running: &mut f32, batch: f64) {
    let momentum = f64::from(BATCH_NORM_MOMENTUM);
    *running = ((1.0 - momentum) * f64::from(*running) + momentum * batch) as f32;
}

/// The sum of a channel's numbers over a batch.
#[inline(always)]
fn sum<S: Simd>(s: S, extent: &ChannelExtent, channel: usize, map: &[Line]) -> f64 {
    let mut total = 0.0;
    for vector in 0..extent.vectors {
        let lanes = s.load(&mask(extent.samples, vector));
        for run in map[extent.plane(vector, channel)..][..extent.area].chunks(RUN) {
            let mut sum = s.splat(0.0);
            for line in run {
                sum = s.mul_add(s.load(&line.0), lanes, sum);
            }
            total += f64::from(s.sum(sum));
        }
    }
    total
}

/// The sum of their squared distances from `centre`.
#[inline(always)]
fn squares<S: Simd>(s: S, extent: &ChannelExtent, channel: usize, map: &[Line], centre: f32) -> f64 {
    let centre = s.splat(centre);
    let mut total = 0.0;
    for vector in 0..extent.vectors {
        let lanes = s.load(&mask(extent.samples, vector));
        for run in map[extent.plane(vector, channel)..][..extent.area].chunks(RUN) {
            let mut sum = s.splat(0.0);
            for line in run {
                let deviation = s.mul(s.sub(s.load(&line.0), centre), lanes);
                sum = s.mul_add(deviation, deviation, sum);
            }
            total += f64::from(s.sum(sum));
        }
    }
    total
}

/// (x − mean)·scale + bias.
#[inline(always)]
fn apply<S: Simd>(
    s: S,
    extent: &ChannelExtent,
    channel: usize,
    (mean, scale, bias): (f32, f32, f32),
    rectify: bool,
    input: &[Line],
    output: &mut [Line],
) {
    let mean = s.splat(mean);
    let scale = s.splat(scale);
    let bias = s.splat(bias);
    for vector in 0..extent.vectors {
        let plane = extent.plane(vector, channel);
        for (from, to) in input[plane..][..extent.area].iter().zip(&mut output[plane..][..extent.area]) {
            let value = s.mul_add(s.sub(s.load(&from.0), mean), scale, bias);
            s.store(if rectify { s.relu(value) } else { value }, &mut to.0);
        }
    }
}

/// The kernel that normalises by running statistics.
pub(super) struct Evaluate<'a> {
    pub(super) extent: ChannelExtent,
    pub(super) input: &'a [Line],
    pub(super) affine: ChannelAffine<'a>,
    pub(super) running_means: &'a [f32],
    pub(super) running_variances: &'a [f32],
    pub(super) rectify: bool,
    pub(super) output: &'a mut [Line],
}

impl Kernel for Evaluate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for channel in 0..self.extent.channels {
            let scale = self.affine.weights[channel] * inverse(self.running_variances[channel]);
            let affine = (self.running_means[channel], scale, self.affine.biases[channel]);
            apply(s, &self.extent, channel, affine, self.rectify, self.input, self.output);
        }
    }
}

/// 1/√(variance + eps).
fn inverse(variance: f32) -> f32 {
    (1.0 / (f64::from(variance) + f64::from(BATCH_NORM_EPS)).sqrt()) as f32
}

/// The input gradient by running statistics.
pub(super) struct EvaluateGradient<'a> {
    pub(super) extent: ChannelExtent,
    pub(super) gradient: &'a [Line],
    pub(super) weights: &'a [f32],
    pub(super) running_variances: &'a [f32],
    pub(super) add: bool,
    pub(super) input: &'a mut [Line],
}

impl Kernel for EvaluateGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let extent = self.extent;
        for channel in 0..extent.channels {
            let scale = s.splat(self.weights[channel] * inverse(self.running_variances[channel]));
            for vector in 0..extent.vectors {
                let plane = extent.plane(vector, channel);
                let to = &mut self.input[plane..][..extent.area];
                for (from, to) in self.gradient[plane..][..extent.area].iter().zip(to) {
                    let value = s.mul(s.load(&from.0), scale);
                    let there = if self.add { s.load(&to.0) } else { s.splat(0.0) };
                    s.store(s.add(there, value), &mut to.0);
                }
            }
        }
    }
}

/// The gradient through a batch's own statistics: of the input where it is asked for, and of weights and biases.
pub(super) struct BatchNormGradient<'a> {
    pub(super) extent: ChannelExtent,
    pub(super) input: &'a [Line],
    pub(super) gradient: &'a [Line],
    pub(super) weights: &'a [f32],
    pub(super) statistics: &'a BatchStatistics,
    pub(super) add: bool,
    pub(super) input_gradient: Option<&'a mut [Line]>,
    pub(super) weight_gradients: &'a mut [f32],
    pub(super) bias_gradients: &'a mut [f32],
}

impl Kernel for BatchNormGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for channel in 0..self.extent.channels {
            let sums = self.sums(s, channel);
            self.bias_gradients[channel] = sums.0 as f32;
            self.weight_gradients[channel] = sums.1 as f32;
            self.propagate(s, channel, sums);
        }
    }
}

impl BatchNormGradient<'_> {
    /// Σ gradient and Σ gradient · normalised input.
    #[inline(always)]
    fn sums<S: Simd>(&self, s: S, channel: usize) -> (f64, f64) {
        let mean = s.splat(self.statistics.means[channel]);
        let inverse = s.splat(self.statistics.inverses[channel]);
        let mut totals = (0.0, 0.0);
        for vector in 0..self.extent.vectors {
            let plane = self.extent.plane(vector, channel);
            let input = self.input[plane..][..self.extent.area].chunks(RUN);
            for (input, gradient) in input.zip(self.gradient[plane..][..self.extent.area].chunks(RUN)) {
                let mut sums = (s.splat(0.0), s.splat(0.0));
                for (x, gradient) in input.iter().zip(gradient) {
                    let normalised = s.mul(s.sub(s.load(&x.0), mean), inverse);
                    let gradient = s.load(&gradient.0);
                    sums = (s.add(sums.0, gradient), s.mul_add(gradient, normalised, sums.1));
                }
                totals = (totals.0 + f64::from(s.sum(sums.0)), totals.1 + f64::from(s.sum(sums.1)));
            }
        }
        totals
    }

    /// weight · inverse · (gradient − mean gradient − normalised · mean of gradient · normalised).
    #[inline(always)]
    fn propagate<S: Simd>(&mut self, s: S, channel: usize, sums: (f64, f64)) {
        let Some(target) = self.input_gradient.as_deref_mut() else { return };
        let mean = self.statistics.means[channel];
        let inverse = self.statistics.inverses[channel];
        let count = self.extent.count();
        let scale = s.splat(self.weights[channel] * inverse);
        let mean = s.splat(mean);
        let inverse = s.splat(inverse);
        let offset = s.splat((sums.0 / count) as f32);
        let slope = s.splat((-sums.1 / count) as f32);
        for vector in 0..self.extent.vectors {
            let lanes = s.load(&mask(self.extent.samples, vector));
            let plane = self.extent.plane(vector, channel);
            let input = &self.input[plane..][..self.extent.area];
            let gradient = &self.gradient[plane..];
            for ((x, gradient), to) in input.iter().zip(gradient).zip(&mut target[plane..]) {
                let normalised = s.mul(s.sub(s.load(&x.0), mean), inverse);
                let centred = s.mul_add(normalised, slope, s.sub(s.load(&gradient.0), offset));
                let there = if self.add { s.load(&to.0) } else { s.splat(0.0) };
                s.store(s.mul_add(s.mul(centred, scale), lanes, there), &mut to.0);
            }
        }
    }
}
