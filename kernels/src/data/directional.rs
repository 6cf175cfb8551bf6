//! Data that one direction separates, D(v): class 0 at +a along v and class 1 at −a, noise in all other directions.

use super::normal::{BLOCK, normals};
use crate::simd::{InstructionSet, Kernel, Simd};
use nadgrid_core::dataset::Dataset;
use nadgrid_core::random::Stream;
use nadgrid_core::training::RunKey;
use std::ops::Range;

/// The largest distance of a direction's norm from 1.
const UNIT_TOLERANCE: f64 = 1e-5;

/// `samples` samples of D(v): x = ±`offset`·v + w − (wᵀv)v with w ~ N(0, `sigma`²I), so that the noise along v is zero up to the
/// rounding of x. The first ⌈samples/2⌉ are of class 0 (+), the others of class 1 (−). The noise is keyed by the run and the part,
/// `train` or `test`. The published code's ε is twice the offset.
///
/// # Panics
/// When `v` is not of norm 1 within 1e-5.
pub fn directional(key: &RunKey, part: &str, v: &[f32], offset: f64, sigma: f64, samples: usize) -> Dataset {
    directional_on(InstructionSet::best(), key, part, v, offset, sigma, samples)
}

/// The same on an instruction set of choice.
///
/// # Panics
/// As [`directional`].
pub fn directional_on(
    set: InstructionSet,
    key: &RunKey,
    part: &str,
    v: &[f32],
    offset: f64,
    sigma: f64,
    samples: usize,
) -> Dataset {
    let samples = DirectionalSamples { set, ..DirectionalSamples::new(key, part, v, offset, sigma, samples) };
    let mut inputs = vec![0.0; samples.len() * samples.dimension()];
    samples.fill(0..samples.len(), &mut inputs);
    Dataset { dimension: samples.dimension(), inputs, labels: samples.labels().collect() }
}

/// The samples of [`directional`] before they are made: any run of them can be made by itself, on any thread, into any memory.
#[derive(Clone, Debug)]
pub struct DirectionalSamples {
    set: InstructionSet,
    key: RunKey,
    part: String,
    /// Of norm 1 in f64.
    v: Vec<f64>,
    offset: f64,
    sigma: f64,
    samples: usize,
}

impl DirectionalSamples {
    /// As many as `samples`; see [`directional`].
    ///
    /// # Panics
    /// As [`directional`].
    pub fn new(key: &RunKey, part: &str, v: &[f32], offset: f64, sigma: f64, samples: usize) -> Self {
        let v = unit(v);
        let key = key.clone();
        let part = part.to_owned();
        Self { set: InstructionSet::best(), key, part, v, offset, sigma, samples }
    }

    /// The stream of the noise.
    pub fn stream(&self) -> Stream {
        self.key.stream(&self.part)
    }

    /// The direction, of norm 1.
    pub fn direction(&self) -> &[f64] {
        &self.v
    }

    /// Returns the offset x: the classes lie at ±x along the direction.
    pub fn offset(&self) -> f64 {
        self.offset
    }

    /// The noise's standard deviation in all others.
    pub fn sigma(&self) -> f64 {
        self.sigma
    }

    /// Returns the number of samples.
    pub fn len(&self) -> usize {
        self.samples
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.samples == 0
    }

    /// The number of values in a sample.
    pub fn dimension(&self) -> usize {
        self.v.len()
    }

    /// The class of each sample.
    pub fn labels(&self) -> impl Iterator<Item = u8> {
        let positive = self.positive();
        (0..self.samples).map(move |sample| u8::from(sample >= positive))
    }

    /// Makes some of the samples, row after row.
    ///
    /// # Panics
    /// When `out` is not as long as these samples.
    pub fn fill(&self, samples: Range<usize>, out: &mut [f32]) {
        assert_eq!(out.len(), samples.len() * self.dimension(), "numbers of samples {samples:?}");
        self.set.run(Fill { of: self, first: samples.start, out });
    }

    /// The number of samples of class 0.
    fn positive(&self) -> usize {
        self.samples.div_ceil(2)
    }
}

/// Samples from a first one on.
struct Fill<'a> {
    of: &'a DirectionalSamples,
    first: usize,
    out: &'a mut [f32],
}

impl Kernel for Fill<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { of, first, out } = self;
        let dimension = of.dimension();
        // Each sample's noise begins with a block of its own.
        let mut words = vec![0; dimension.next_multiple_of(BLOCK)];
        let mut noise = vec![0.0; words.len()];
        let mut stream = of.stream();
        stream.seek((first * words.len()) as u64);
        let positive = of.positive();
        for (sample, input) in (first..).zip(out.chunks_exact_mut(dimension)) {
            stream.fill_words(&mut words);
            normals(&words, &mut noise);
            let along = if sample < positive { of.offset } else { -of.offset };
            place(&noise[..dimension], &of.v, along, of.sigma, input);
        }
    }
}

/// In f64, of norm 1.
fn unit(v: &[f32]) -> Vec<f64> {
    let norm = v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    assert!((norm - 1.0).abs() < UNIT_TOLERANCE, "a direction of norm {norm}");
    v.iter().map(|&x| f64::from(x) / norm).collect()
}

/// Words that a sample's noise takes of the stream: each sample begins with a block of its own.
pub fn words_of_sample(dimension: usize) -> usize {
    dimension.next_multiple_of(BLOCK)
}

/// σw + (along − σwᵀv)v, in f64 and rounded once.
#[inline(always)]
fn place(noise: &[f32], v: &[f64], along: f64, sigma: f64, out: &mut [f32]) {
    let shift = along - sigma * dot(noise, v);
    for ((x, &w), v) in out.iter_mut().zip(noise).zip(v) {
        *x = (sigma * f64::from(w) + shift * v) as f32;
    }
}

/// wᵀv: number i in chain i mod 16, the chains summed in order.
#[inline(always)]
fn dot(w: &[f32], v: &[f64]) -> f64 {
    let (w, w_rest) = w.as_chunks::<16>();
    let (v, v_rest) = v.as_chunks::<16>();
    let mut sums = [0.0; 16];
    for (w, v) in w.iter().zip(v) {
        for i in 0..16 {
            sums[i] += f64::from(w[i]) * v[i];
        }
    }
    for (sum, (&w, v)) in sums.iter_mut().zip(w_rest.iter().zip(v_rest)) {
        *sum += f64::from(w) * v;
    }
    sums.iter().sum()
}
