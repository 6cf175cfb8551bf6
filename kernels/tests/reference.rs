//! Against PyTorch: float64 values of forward passes and central differences under weights given by a formula.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use nadgrid_core::architecture::Network;
use nadgrid_kernels::CentralDifference;
use serde_json::Value;
use support::network;

fn reference() -> Value {
    serde_json::from_str(include_str!("data/forward.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// The file's weights: bound·sin(12.9898(i+1) + 78.233(j+1)) for element i of tensor j.
fn parameters(network: &Network) -> Vec<f32> {
    let mut out = Vec::with_capacity(network.parameter_count());
    for (j, parameter) in network.parameters().iter().enumerate() {
        let fan_in: usize = parameter.shape[1..].iter().product();
        let bound = if parameter.shape.len() == 1 { 0.1 } else { (6.0 / fan_in as f64).sqrt() };
        let value = |i: usize| bound * (12.9898 * (i as f64 + 1.0) + 78.233 * (j as f64 + 1.0)).sin();
        out.extend((0..parameter.range.len()).map(|i| value(i) as f32));
    }
    out
}

fn input(channels: usize, image: usize) -> Vec<f32> {
    (0..channels * 1024).map(|i| (0.7391 * (i as f64 + 1.0) * (image as f64 + 1.0) + 0.1).sin() as f32).collect()
}

/// Weights and inputs are the file's rounded to f32 and so is every operation: logits of size 1 that come from
/// sums of some hundred terms agree to 2e-6.
#[test]
fn forward_passes_are_pytorchs() {
    let reference = reference();
    for name in ["logreg", "lenet"] {
        for (shape, channels, outputs) in [("1ch_1cl", 1, 1), ("1ch_2cl", 1, 2), ("3ch_10cl", 3, 10)] {
            let network = network(name, channels, outputs);
            let parameters = parameters(&network);
            let mut plan = CentralDifference::new(&network).unwrap();
            let expected = reference["architectures"][name][shape]["eval_forward"].as_array().unwrap();
            for (image, expected) in expected.iter().map(numbers).enumerate() {
                let mut got = vec![0.0; outputs];
                plan.forward(&parameters, &input(channels, image), &mut got);
                for (got, expected) in got.iter().zip(&expected) {
                    let error = (f64::from(*got) - expected).abs();
                    assert!(error < 2e-6, "{name} {shape} image {image}: {got} for {expected}");
                }
            }
        }
    }
}

/// At step 100 outputs are of size 10; their rounding to f32 divided by 200, and the weights' own, stay
/// below 1e-6.
#[test]
fn central_differences_are_pytorchs() {
    let reference = reference();
    for name in ["logreg", "lenet"] {
        let network = network(name, 1, 1);
        let mut plan = CentralDifference::new(&network).unwrap();
        let mut gradient = vec![0.0; 1024];
        plan.gradient(&parameters(&network), &input(1, 0), 100.0, &mut gradient).unwrap();
        let expected = &reference["architectures"][name]["1ch_1cl"]["central_difference"];
        for (pixel, expected) in numbers(&expected["pixels"]).iter().zip(numbers(&expected["values"])) {
            let got = f64::from(gradient[*pixel as usize]);
            assert!((got - expected).abs() < 1e-6, "{name} pixel {pixel}: {got} for {expected}");
        }
    }
}
