//! Populations against PyTorch's float64 values, against themselves at other widths, and against the patch kernels.

use super::*;
use crate::device;
use nadgrid_core::architecture::{self, Network};
use nadgrid_core::random::evaluation_point;
use nadgrid_kernels::CentralDifference;
use serde_json::Value;

const REFERENCE: &str = include_str!("../../../kernels/tests/data/forward.json");

/// float32 on LeNet: sums of up to 400 products of size 1, each rounded to 6e-8, in three layers.
const F32: f64 = 2e-5;
/// float64, the same sums in another order than PyTorch's.
const F64: f64 = 1e-12;

fn network(name: &str, channels: usize, outputs: usize) -> Network {
    let input = Shape { channels, height: 32, width: 32 };
    architecture::find(name).unwrap().network(input, outputs).unwrap()
}

/// The weights of the reference's formula.
fn formula(network: &Network) -> Vec<f64> {
    let mut out = Vec::new();
    for (j, parameter) in network.parameters().iter().enumerate() {
        let fan_in: usize = parameter.shape[1..].iter().product();
        let bound = if parameter.shape.len() == 1 { 0.1 } else { (6.0 / fan_in as f64).sqrt() };
        let element = |i: usize| bound * (12.9898 * (i + 1) as f64 + 78.233 * (j + 1) as f64).sin();
        out.extend((0..parameter.range.len()).map(element));
    }
    out
}

fn image(network: &Network, k: usize) -> Vec<f64> {
    (0..network.input().len()).map(|i| (0.7391 * ((i + 1) * (k + 1)) as f64 + 0.1).sin()).collect()
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

fn batch<T: Element>(network: &Network, values: &[T]) -> Tensor {
    let Shape { channels, height, width } = network.input();
    Tensor::from_slice(values).view([-1, channels as i64, height as i64, width as i64])
}

fn outputs<T: Element + Copy + Default + Into<f64>>(population: &Population, inputs: &Tensor) -> Vec<f64> {
    let outputs = population.forward(inputs).unwrap();
    difference::numbers::<T>(&outputs).unwrap().into_iter().map(Into::into).collect()
}

fn assert_close(got: &[f64], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= tolerance, "{what}[{i}]: {g} is not {w} within {tolerance}");
    }
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().flat_map(|v| v.as_f64().map_or_else(|| floats(v), |v| vec![v])).collect()
}

fn variants() -> impl Iterator<Item = (String, Network, Value)> {
    let reference: Value = serde_json::from_str(REFERENCE).unwrap();
    let shapes = [("1ch_1cl", 1, 1), ("1ch_2cl", 1, 2), ("3ch_10cl", 3, 10)];
    let named = ["logreg", "lenet"].into_iter().flat_map(move |name| shapes.map(|shape| (name, shape)));
    named.map(move |(name, (variant, channels, outputs))| {
        let values = reference["architectures"][name][variant].clone();
        (format!("{name} {variant}"), network(name, channels, outputs), values)
    })
}

#[test]
fn forward_passes_are_pytorchs() {
    device::be_one_thread();
    for (what, network, reference) in variants() {
        let parameters = formula(&network);
        assert_eq!(reference["parameters"].as_u64(), Some(parameters.len() as u64), "{what}");
        let images: Vec<f64> = (0..4).flat_map(|k| image(&network, k)).collect();
        let expected = floats(&reference["eval_forward"]);
        let wide = Population::new(&network, &parameters, Device::Cpu).unwrap();
        assert_close(&outputs::<f64>(&wide, &batch(&network, &images)), &expected, F64, &what);
        let single = Population::new(&network, &narrow(&parameters), Device::Cpu).unwrap();
        assert_close(&outputs::<f32>(&single, &batch(&network, &narrow(&images))), &expected, F32, &what);
    }
}

#[test]
fn central_differences_are_pytorchs() {
    device::be_one_thread();
    for (what, network, reference) in variants() {
        let Some(expected) = reference.get("central_difference") else { continue };
        let parameters = formula(&network);
        let point = image(&network, 0);
        let pixels: Vec<usize> = floats(&expected["pixels"]).into_iter().map(|p| p as usize).collect();
        let at_pixels = |all: Vec<f64>| -> Vec<f64> { pixels.iter().map(|&p| all[p]).collect() };
        let wide = Population::new(&network, &parameters, Device::Cpu).unwrap();
        let got = at_pixels(central_difference(&wide, &point, 100.0).unwrap());
        assert_close(&got, &floats(&expected["values"]), F64, &what);
        let single = Population::new(&network, &narrow(&parameters), Device::Cpu).unwrap();
        let got = central_difference(&single, &narrow(&point), 100f32).unwrap();
        let got = at_pixels(got.into_iter().map(f64::from).collect());
        assert_close(&got, &floats(&expected["values"]), F32, &what);
    }
}

/// Eight members of LeNet, and each alone: another number of groups may round in another order.
#[test]
fn a_member_among_others_is_the_member_alone() {
    device::be_one_thread();
    let network = network("lenet", 1, 2);
    let each = network.parameter_count();
    let mut parameters = vec![0.0f32; 8 * each];
    for (member, own) in parameters.chunks_exact_mut(each).enumerate() {
        network.initialise(3, "lenet", member as u64, own);
    }
    let images: Vec<f32> = (0..5).flat_map(|k| narrow(&image(&network, k))).collect();
    let inputs = batch(&network, &images);
    let together = Population::new(&network, &parameters, Device::Cpu).unwrap();
    assert_eq!(together.members(), 8);
    let all = outputs::<f32>(&together, &inputs);
    for (member, own) in parameters.chunks_exact(each).enumerate() {
        let alone = Population::new(&network, own, Device::Cpu).unwrap();
        // Outputs are of size 0.1: a few units in the last place.
        assert_close(&all[member * 10..][..10], &outputs::<f32>(&alone, &inputs), 1e-7, "member");
    }
}

/// The same members by plain evaluation and by the patch kernels, at the published step. Outputs reach 10 at that step and
/// are rounded to 5e-7 in every layer; a gradient is their difference over 200.
#[test]
fn plain_evaluation_and_patches_agree_to_rounding() {
    device::be_one_thread();
    let network = network("lenet", 1, 1);
    let (each, members) = (network.parameter_count(), 4);
    let mut parameters = vec![0.0f32; members * each];
    for (member, own) in parameters.chunks_exact_mut(each).enumerate() {
        network.initialise(11, "lenet", member as u64, own);
    }
    let point = evaluation_point(11, 0, 1024);
    let population = Population::new(&network, &parameters, Device::Cpu).unwrap();
    let dense = central_difference(&population, &point, 100.0).unwrap();
    let mut patches = CentralDifference::new(&network).unwrap();
    let mut gradient = vec![0.0; 1024];
    let norm = |g: &[f64]| g.iter().map(|g| g * g).sum::<f64>().sqrt();
    for (own, dense) in parameters.chunks_exact(each).zip(dense.chunks_exact(1024)) {
        patches.gradient(own, &point, 100.0, &mut gradient).unwrap();
        let wide: Vec<f64> = gradient.iter().map(|&g| f64::from(g)).collect();
        let apart: Vec<f64> = dense.iter().zip(&wide).map(|(&d, p)| f64::from(d) - p).collect();
        let relative = norm(&apart) / norm(&wide);
        println!("|g| {:.3e}, relative difference {relative:.2e}", norm(&wide));
        assert!(relative < 1e-5, "{relative}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let network = network("logreg", 1, 1);
    let whole = vec![0.0f32; 2 * 1025];
    let short = Population::new(&network, &whole[..2000], Device::Cpu).err().unwrap();
    assert_eq!(short.to_string(), "parameters: 2000 numbers, 1025 are needed");
    let population = Population::new(&network, &whole, Device::Cpu).unwrap();
    assert!(matches!(central_difference(&population, &[0f32; 3], 1.0), Err(PopulationError::Length { .. })));
    let wrong = population.forward(&Tensor::zeros([2, 3, 32, 32], (Kind::Float, Device::Cpu))).unwrap_err();
    let text = wrong.to_string();
    assert!(text.starts_with("layer 1 (linear): ") && !text.contains('\n'), "{text}");
    assert_eq!(wrong.fault(Device::Cpu).kind, FailureKind::Task);
}

#[test]
fn an_overflow_names_member_and_pixel() {
    let network = network("logreg", 1, 1);
    let mut point = vec![0.0f32; 1024];
    point[7] = f32::MAX;
    let error = block_moments(&network, Device::Cpu, 0, "logreg", 3..5, &point, f32::MAX).unwrap_err();
    assert!(matches!(error, PopulationError::NotFinite(KernelError::NotFinite { member: 3, pixel: 7 })), "{error}");
}
