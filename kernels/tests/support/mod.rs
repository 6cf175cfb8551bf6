//! What the tests compare with: networks evaluated in f64 by the definitions, layer by layer, in PyTorch's
//! layout, with none of the kernels' ideas.
#![allow(dead_code, reason = "every test binary uses a part")]

use nadgrid_core::architecture::{BATCH_NORM_EPS, Conv2d, Layer, Network, Padding, Parameter, Shape, Step, find};
use nadgrid_core::random::Stream;

/// A network of the registry on 32 x 32 images.
pub(crate) fn network(name: &str, channels: usize, outputs: usize) -> Network {
    find(name).unwrap().network(Shape { channels, height: 32, width: 32 }, outputs).unwrap()
}

/// One member's parameters.
pub(crate) fn parameters(network: &Network, member: u64) -> Vec<f32> {
    let mut parameters = vec![0.0; network.parameter_count()];
    network.initialise(9, "test", member, &mut parameters);
    parameters
}

/// Numbers of N(0, 1).
pub(crate) fn normal(index: u64, length: usize) -> Vec<f32> {
    let mut numbers = vec![0.0; length];
    Stream::new(7, &["test"], index).fill_normal(&mut numbers);
    numbers
}

/// The outputs for one input, and the largest activation on the way: rounding errors are a few units in its
/// last place.
pub(crate) fn forward(network: &Network, parameters: &[f32], input: &[f64]) -> (Vec<f64>, f64) {
    let mut largest = 0.0f64;
    let mut maps = vec![input.to_vec()];
    for step in network.steps() {
        let values = layer(network, step, parameters, &maps);
        largest = values.iter().fold(largest, |all, v| all.max(v.abs()));
        maps.push(values);
    }
    (maps.pop().unwrap(), largest)
}

fn layer(network: &Network, step: &Step, parameters: &[f32], maps: &[Vec<f64>]) -> Vec<f64> {
    let numbers = |parameter: &Parameter| parameters[parameter.range.clone()].iter().map(|&p| f64::from(p)).collect();
    let weights = step.weight.map_or(Vec::new(), |weight| numbers(&network.parameters()[weight]));
    let biases: Option<Vec<f64>> = network.bias(step).map(numbers);
    let bias = |output: usize| biases.as_ref().map_or(0.0, |biases| biases[output]);
    let x = &maps[step.inputs[0]];
    let from = step.input;
    let to = step.output;
    let at = |channel: usize, row: usize, column: usize| x[(channel * from.height + row) * from.width + column];
    let mut out = Vec::with_capacity(to.len());
    match &step.layer {
        &Layer::Conv2d(Conv2d { kernel, stride, padding, .. }) => {
            let read = |channel: usize, row: usize, column: usize| match padding {
                Padding::Circular => at(channel, row % from.height, column % from.width),
                Padding::Zeros(zeros) => match (row.checked_sub(zeros), column.checked_sub(zeros)) {
                    (Some(row), Some(column)) if row < from.height && column < from.width => at(channel, row, column),
                    _ => 0.0,
                },
            };
            for o in 0..to.channels {
                for (row, column) in positions(to) {
                    let mut sum = bias(o);
                    for c in 0..from.channels {
                        for (i, j) in positions(Shape { channels: 1, height: kernel, width: kernel }) {
                            let weight = weights[((o * from.channels + c) * kernel + i) * kernel + j];
                            sum += weight * read(c, row * stride + i, column * stride + j);
                        }
                    }
                    out.push(sum);
                }
            }
        }
        &(Layer::MaxPool2d { size } | Layer::AvgPool2d { size }) => {
            for c in 0..to.channels {
                for (row, column) in positions(to) {
                    let window = positions(Shape { channels: 1, height: size, width: size });
                    let window: Vec<f64> = window.map(|(i, j)| at(c, row * size + i, column * size + j)).collect();
                    out.push(match step.layer {
                        Layer::MaxPool2d { .. } => window.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                        _ => window.iter().sum::<f64>() / window.len() as f64,
                    });
                }
            }
        }
        Layer::BatchNorm2d { .. } => {
            for (c, plane) in x.chunks(from.height * from.width).enumerate() {
                let scale = weights[c] / (1.0 + f64::from(BATCH_NORM_EPS)).sqrt();
                out.extend(plane.iter().map(|x| x * scale + bias(c)));
            }
        }
        Layer::Relu => out.extend(x.iter().map(|v| v.max(0.0))),
        Layer::Flatten | Layer::Dropout { .. } => out.extend(x),
        Layer::Linear { .. } => {
            for (o, row) in weights.chunks(x.len()).enumerate() {
                out.push(row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + bias(o));
            }
        }
        Layer::Add => out.extend(x.iter().zip(&maps[step.inputs[1]]).map(|(a, b)| a + b)),
        Layer::Concat => out.extend(x.iter().chain(&maps[step.inputs[1]])),
    }
    out
}

fn positions(shape: Shape) -> impl Iterator<Item = (usize, usize)> {
    (0..shape.height).flat_map(move |row| (0..shape.width).map(move |column| (row, column)))
}

/// The central difference at one pixel, and the largest activation on the way.
pub(crate) fn difference(network: &Network, parameters: &[f32], point: &[f32], step: f32, pixel: usize) -> (f64, f64) {
    let mut x: Vec<f64> = point.iter().map(|&v| f64::from(v)).collect();
    let centre = x[pixel];
    x[pixel] = centre + f64::from(step);
    let (plus, a) = forward(network, parameters, &x);
    x[pixel] = centre - f64::from(step);
    let (minus, b) = forward(network, parameters, &x);
    (-(plus[0] - minus[0]) / (2.0 * f64::from(step)), a.max(b))
}

/// Checks a gradient at some pixels. A chain of a few hundred f32 operations on activations up to `largest`
/// errs by a few units in their last place, and a difference of two outputs is divided by 2·step.
pub(crate) fn check(
    network: &Network,
    parameters: &[f32],
    point: &[f32],
    step: f32,
    gradient: &[f32],
    pixels: impl Iterator<Item = usize>,
) {
    for pixel in pixels {
        let (expected, largest) = difference(network, parameters, point, step, pixel);
        let got = f64::from(gradient[pixel]);
        let tolerance = 8.0 * f64::from(f32::EPSILON) * largest.max(1.0) / f64::from(step);
        assert!((got - expected).abs() <= tolerance, "pixel {pixel}: {got} for {expected} ± {tolerance}");
    }
}

/// The bits of a gradient.
pub(crate) fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|g| g.to_bits()).collect()
}
