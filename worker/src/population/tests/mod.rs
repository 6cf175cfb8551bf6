//! Populations against PyTorch's float64 values, against themselves at other widths, and against the patch kernels.

mod derivatives;
mod forward;
mod fused;
mod layers;
mod optimiser;
mod precisions;
mod repeats;
mod runs;
mod together;

use super::trained::Trained;
use super::*;
use crate::device;
use nadgrid_core::architecture::{self, Network, Shape};
use nadgrid_core::dataset::Dataset;
use nadgrid_core::random::Stream;
use nadgrid_core::training::RunKey;
use serde_json::Value;

const REFERENCE: &str = include_str!("../../../../kernels/tests/data/forward.json");
const NAMES: [&str; 6] = ["logreg", "lenet", "vgg11", "vgg11_bn", "resnet18", "densenet121"];

/// float32 on LeNet: sums of up to 400 products of size 1, each rounded to 6e-8, in three layers.
const F32: f64 = 2e-5;
/// float64, relative to the largest number: up to 121 layers of sums of up to 4,608 products, each rounded to 1e-16, in
/// another order than PyTorch's.
const F64: f64 = 1e-9;
/// Copies of a member whose weights differ from its own in their last bits, each in another direction. Batch norms enlarge
/// rounding by an amount that the farthest of them shows; a single one may be close by accident.
const COPIES: usize = 4;
/// How much farther than that from PyTorch's numbers. A copy rounds each weight once; a sum of n products is rounded n times, which
/// is off by at most the root of n as much. Sums have up to 4,608 products, and PyTorch's are rounded too, in another order on each
/// processor: the root of 2 · 4,608 is 96.
const BEYOND_ROUNDING: f64 = 96.0;

fn central_difference<T: Element + Copy + Default>(
    population: &Population,
    point: &[T],
    step: T,
) -> Result<Vec<T>, PopulationError> {
    difference::central_difference(population, point, step, &|_| {})
}

/// Returns the device of the tests, see [`device::of_tests`].
fn here() -> Device {
    device::of_tests().1
}

fn network(name: &str, channels: usize, outputs: usize) -> Network {
    let input = Shape { channels, height: 32, width: 32 };
    architecture::find(name).unwrap().network(input, outputs).unwrap()
}

/// The weights of the reference's formula.
fn formula(network: &Network) -> Vec<f64> {
    let mut out = Vec::new();
    for (j, parameter) in network.parameters().iter().enumerate() {
        let fan_in: usize = parameter.shape[1..].iter().product();
        let vector = parameter.shape.len() == 1;
        let bound = if vector { 0.1 } else { (6.0 / fan_in as f64).sqrt() };
        // A vector that is a weight is a batch norm's.
        let about = if vector && parameter.name.ends_with("weight") { 1.0 } else { 0.0 };
        let element = |i: usize| about + bound * (12.9898 * (i + 1) as f64 + 78.233 * (j + 1) as f64).sin();
        out.extend((0..parameter.range.len()).map(element));
    }
    out
}

fn image(network: &Network, k: usize) -> Vec<f64> {
    (0..network.input().len()).map(|i| (0.7391 * (i + 1) as f64 * (k + 1) as f64 + 0.1).sin()).collect()
}

fn images(network: &Network, count: usize) -> Vec<f64> {
    (0..count).flat_map(|k| image(network, k)).collect()
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

fn batch<T: Element>(network: &Network, values: &[T]) -> Tensor {
    let Shape { channels, height, width } = network.input();
    Tensor::from_slice(values).view([-1, channels as i64, height as i64, width as i64]).to_device(here())
}

fn population<T: Element>(network: &Network, parameters: &[T]) -> Population {
    Population::new(network, parameters, here(), Precision::Fp32).unwrap()
}

fn outputs<T: Element + Copy + Default + Into<f64>>(population: &Population, inputs: &Tensor) -> Vec<f64> {
    let _no_grad = tch::no_grad_guard();
    let outputs = population.forward(inputs).unwrap();
    tensor::numbers::<T>(&outputs).unwrap().into_iter().map(Into::into).collect()
}

fn assert_close(got: &[f64], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= tolerance, "{what}[{i}]: {g} is not {w} within {tolerance}");
    }
}

/// Within [`F64`] of the largest number.
fn assert_pytorchs(got: &[f64], want: &[f64], what: &str) {
    let largest = want.iter().fold(0.0f64, |a, w| a.max(w.abs()));
    println!("{what}: {:.1e}", farthest(got, want) / largest);
    assert_close(got, want, F64 * largest, what);
}

/// The same in training, for the last member of [`with_copies`]. `all` holds the numbers of every member.
fn assert_pytorchs_in_training(all: &[f64], want: &[f64], what: &str) {
    assert_eq!(all.len(), (COPIES + 1) * want.len(), "{what}");
    let (copies, got) = all.split_at(COPIES * want.len());
    let largest = want.iter().fold(0.0f64, |a, w| a.max(w.abs()));
    let rounding = copies.chunks_exact(want.len()).fold(0.0f64, |most, copy| most.max(farthest(got, copy)));
    println!("{what}: {:.1e}, last bits {:.1e}", farthest(got, want) / largest, rounding / largest);
    // Copies that are far away would show nothing.
    assert!(rounding < 1e-6 * largest, "{what}: {rounding}");
    assert_close(got, want, F64 * largest + BEYOND_ROUNDING * rounding, what);
}

fn farthest(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).fold(0.0f64, |most, (a, b)| most.max((a - b).abs()))
}

/// [`COPIES`] members whose weights differ in their last bits, then the member itself: `[COPIES + 1, parameters]`.
fn with_copies(parameters: &[f64]) -> Tensor {
    let copies = (0..COPIES).map(|copy| last_bits(parameters, copy));
    let members: Vec<Vec<f64>> = copies.chain([parameters.to_vec()]).collect();
    Tensor::from_slice(&members.concat()).view([COPIES as i64 + 1, -1]).to_device(here())
}

/// Every number a last bit larger or smaller: in turn, by twos, by fours, by eights. These directions are orthogonal.
fn last_bits(values: &[f64], direction: usize) -> Vec<f64> {
    let sign = |i: usize| if (i >> direction).is_multiple_of(2) { 1.0 } else { -1.0 };
    values.iter().enumerate().map(|(i, v)| v * (1.0 + sign(i) * f64::EPSILON)).collect()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().flat_map(|v| v.as_f64().map_or_else(|| floats(v), |v| vec![v])).collect()
}

fn reference(name: &str) -> Value {
    let mut all: Value = serde_json::from_str(REFERENCE).unwrap();
    all["architectures"][name].take()
}

fn variants(name: &'static str) -> impl Iterator<Item = (String, Network, Value)> {
    let values = reference(name);
    [("1ch_1cl", 1, 1), ("1ch_2cl", 1, 2), ("3ch_10cl", 3, 10)].into_iter().map(move |(variant, channels, outputs)| {
        (format!("{name} {variant}"), network(name, channels, outputs), values[variant].clone())
    })
}

fn key(architecture: &str, run: u64) -> RunKey {
    let variant = format!("test {}", run / 2);
    RunKey { seed: 3, experiment: "directional", architecture: architecture.into(), variant, run }
}

fn keys(architecture: &str, count: u64) -> Vec<RunKey> {
    (0..count).map(|run| key(architecture, run)).collect()
}

/// Samples of N(0, scale²), labels in turn.
fn noise(network: &Network, samples: usize, scale: f32, index: u64) -> Dataset {
    let dimension = network.input().len();
    let mut inputs = vec![0.0; samples * dimension];
    Stream::new(1, &["test data"], index).fill_normal(&mut inputs);
    inputs.iter_mut().for_each(|x| *x *= scale);
    let classes = network.output().len();
    Dataset { dimension, inputs, labels: (0..samples).map(|i| (i % classes) as u8).collect() }
}

/// Samples of each run, on the CPU.
fn samples(network: &Network, data: &[&Dataset]) -> Samples {
    Samples::of(network, data, tch::Kind::Float, here()).unwrap()
}

/// One member's parameters after training.
fn parameters_of(trained: &Trained, member: usize) -> Vec<f64> {
    let row = trained.run.parameters.select(0, member as i64).to_kind(tch::Kind::Double);
    tensor::numbers(&row).unwrap()
}
