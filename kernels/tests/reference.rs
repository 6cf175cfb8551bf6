//! Against PyTorch: float64 values of forward passes and central differences under weights given by a formula.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use nadgrid_core::architecture::{Init, Network};
use nadgrid_kernels::CentralDifference;
use serde_json::Value;
use support::network;

fn reference() -> Value {
    serde_json::from_str(include_str!("data/forward.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// The file's weights: bound·sin(12.9898(i+1) + 78.233(j+1)) for element i of tensor j, plus one for a batch norm's weight.
fn parameters(network: &Network) -> Vec<f32> {
    let mut out = Vec::with_capacity(network.parameter_count());
    for (j, parameter) in network.parameters().iter().enumerate() {
        let fan_in: usize = parameter.shape[1..].iter().product();
        let bound = if parameter.shape.len() == 1 { 0.1 } else { (6.0 / fan_in as f64).sqrt() };
        // A batch norm's weight is drawn around one: only its distribution is a constant one.
        let centre = if parameter.init == (Init::Constant { value: 1.0 }) { 1.0 } else { 0.0 };
        let value = |i: usize| centre + bound * (12.9898 * (i as f64 + 1.0) + 78.233 * (j as f64 + 1.0)).sin();
        out.extend((0..parameter.range.len()).map(|i| value(i) as f32));
    }
    out
}

fn input(channels: usize, image: usize) -> Vec<f32> {
    (0..channels * 1024).map(|i| (0.7391 * (i as f64 + 1.0) * (image as f64 + 1.0) + 0.1).sin() as f32).collect()
}

/// Every architecture that the file has.
const NAMES: [&str; 6] = ["logreg", "lenet", "vgg11", "vgg11_bn", "resnet18", "densenet121"];

/// Weights and inputs are the file's rounded to f32 and so is every operation: rounding errors add up at random over some
/// tens of layers to a few units in the last place of outputs of size 1 to 5. 2e-6 of the larger of 1 and the output.
#[test]
fn forward_passes_are_pytorchs() {
    let reference = reference();
    for name in NAMES {
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
                    assert!(
                        error < 2e-6 * expected.abs().max(1.0),
                        "{name} {shape} image {image}: {got} for {expected}"
                    );
                }
            }
        }
    }
}

/// An output at the changed input is at most the base output and 200 gradients; each of the two errs by the 2e-6 of the
/// forward pass, and their difference is divided by 200.
#[test]
fn central_differences_are_pytorchs() {
    let reference = reference();
    for name in NAMES {
        let network = network(name, 1, 1);
        let mut plan = CentralDifference::new(&network).unwrap();
        let reference = &reference["architectures"][name]["1ch_1cl"];
        let base = numbers(&reference["eval_forward"][0])[0].abs().max(1.0);
        let expected = &reference["central_difference"];
        let pixels: Vec<usize> = numbers(&expected["pixels"]).iter().map(|&pixel| pixel as usize).collect();
        let mut gradient = vec![0.0; pixels.len()];
        plan.gradient_at(&parameters(&network), &input(1, 0), 100.0, &pixels, &mut gradient).unwrap();
        for ((pixel, got), expected) in pixels.iter().zip(gradient).zip(numbers(&expected["values"])) {
            let error = (f64::from(got) - expected).abs();
            let tolerance = 4e-6 * (base / 200.0 + expected.abs());
            assert!(error < tolerance, "{name} pixel {pixel}: {got} for {expected} ± {tolerance}");
        }
    }
}
