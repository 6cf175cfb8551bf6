//! Data that one direction separates, D(v): class 0 at +a along v and class 1 at −a, noise in all other directions.

use super::normal::{BLOCK, normals};
use crate::simd::{InstructionSet, Kernel, Simd};
use nadgrid_core::dataset::Dataset;
use nadgrid_core::random::Stream;
use nadgrid_core::training::RunKey;

/// How far the norm of a direction may be from 1.
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
    let norm = v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    assert!((norm - 1.0).abs() < UNIT_TOLERANCE, "a direction of norm {norm}");
    let v = v.iter().map(|&x| f64::from(x) / norm).collect();
    set.run(Directional { stream: key.stream(part), v, offset, sigma, samples })
}

struct Directional {
    stream: Stream,
    /// Of norm 1 in f64.
    v: Vec<f64>,
    offset: f64,
    sigma: f64,
    samples: usize,
}

impl Kernel for Directional {
    type Output = Dataset;

    #[inline(always)]
    fn run<S: Simd>(mut self, _: S) -> Dataset {
        let (dimension, samples) = (self.v.len(), self.samples);
        // Each sample's noise begins with a block of its own.
        let mut words = vec![0; dimension.next_multiple_of(BLOCK)];
        let mut noise = vec![0.0; words.len()];
        let mut inputs = vec![0.0; samples * dimension];
        let positive = samples.div_ceil(2);
        for (sample, input) in inputs.chunks_exact_mut(dimension).enumerate() {
            self.stream.fill_words(&mut words);
            normals(&words, &mut noise);
            let along = if sample < positive { self.offset } else { -self.offset };
            place(&noise[..dimension], &self.v, along, self.sigma, input);
        }
        let labels = (0..samples).map(|sample| u8::from(sample >= positive)).collect();
        Dataset { dimension, inputs, labels }
    }
}

/// A direction of norm 1 in f64, as samples are placed along it.
///
/// # Panics
/// When `v` is not of norm 1 within 1e-5.
pub fn unit(v: &[f32]) -> Vec<f64> {
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
    let ((w, w_rest), (v, v_rest)) = (w.as_chunks::<16>(), v.as_chunks::<16>());
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
