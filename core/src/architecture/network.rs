//! A network: layers with their shapes worked out, and the parameters they need.

use super::Layer;
use crate::random::Stream;
use std::fmt;
use std::ops::Range;
use thiserror::Error;

/// Channels, height and width of an image or a feature map. A vector of n features is n x 1 x 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Channels.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Shape {
    /// Numbers in it.
    pub const fn len(self) -> usize {
        self.channels * self.height * self.width
    }

    /// Whether it holds nothing.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {} x {}", self.channels, self.height, self.width)
    }
}

/// How a parameter is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// U(−bound, bound).
    Uniform {
        /// The bound, 1/√fan_in by PyTorch's defaults.
        bound: f32,
    },
}

/// One parameter tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// PyTorch's name, for example `conv1.weight`.
    pub name: String,
    /// PyTorch's shape.
    pub shape: Vec<usize>,
    /// Its distribution at initialisation.
    pub init: Init,
    /// Its place in the flat vector of all parameters.
    pub range: Range<usize>,
}

/// A layer in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The layer.
    pub layer: Layer,
    /// What goes in.
    pub input: Shape,
    /// What comes out.
    pub output: Shape,
    /// Index of the layer's weight among the network's parameters (its bias follows), if it has one.
    pub weight: Option<usize>,
}

/// The input does not fit the architecture.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("layer {layer} ({what}) cannot take {input}: at least {least} x {least} is needed there")]
pub struct NetworkError {
    layer: usize,
    what: &'static str,
    input: Shape,
    least: usize,
}

/// Layers with shapes and parameters. Parameters are one flat f32 vector, tensors in PyTorch's order.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    input: Shape,
    steps: Vec<Step>,
    parameters: Vec<Parameter>,
}

impl Network {
    /// Works out the shapes of `layers` on `input`.
    ///
    /// # Errors
    /// [`NetworkError`] when a map has become too small for a layer.
    pub fn new(layers: Vec<Layer>, input: Shape) -> Result<Self, NetworkError> {
        let mut network = Self { input, steps: Vec::with_capacity(layers.len()), parameters: Vec::new() };
        for layer in layers {
            network.append(layer)?;
        }
        Ok(network)
    }

    fn append(&mut self, layer: Layer) -> Result<(), NetworkError> {
        let input = self.output();
        let fits = |what, least| {
            let fits = input.height >= least && input.width >= least && !input.is_empty();
            if fits { Ok(()) } else { Err(NetworkError { layer: self.steps.len(), what, input, least }) }
        };
        let mut weight = None;
        let output = match layer {
            Layer::Conv2d { name, channels, kernel } => {
                fits("conv2d", kernel)?;
                weight = Some(self.parameter_pair(name, vec![channels, input.channels, kernel, kernel]));
                Shape { channels, height: input.height + 1 - kernel, width: input.width + 1 - kernel }
            }
            Layer::MaxPool2d { size } | Layer::AvgPool2d { size } => {
                fits("pooling", size)?;
                Shape { channels: input.channels, height: input.height / size, width: input.width / size }
            }
            Layer::Linear { name, features } => {
                fits("linear", 1)?;
                weight = Some(self.parameter_pair(name, vec![features, input.len()]));
                Shape { channels: features, height: 1, width: 1 }
            }
            Layer::Flatten => Shape { channels: input.len(), height: 1, width: 1 },
            Layer::Relu => input,
        };
        self.steps.push(Step { layer, input, output, weight });
        Ok(())
    }

    /// Adds `name.weight` and `name.bias`, both U(±1/√fan_in): PyTorch's default of Linear and Conv2d.
    fn parameter_pair(&mut self, name: &str, shape: Vec<usize>) -> usize {
        let index = self.parameters.len();
        let fan_in: usize = shape[1..].iter().product();
        let init = Init::Uniform { bound: (1.0 / (fan_in as f64).sqrt()) as f32 };
        let bias = vec![shape[0]];
        for (suffix, shape) in [("weight", shape), ("bias", bias)] {
            let start = self.parameter_count();
            let range = start..start + shape.iter().product::<usize>();
            self.parameters.push(Parameter { name: format!("{name}.{suffix}"), shape, init, range });
        }
        index
    }

    /// The input's shape.
    pub fn input(&self) -> Shape {
        self.input
    }

    /// The output's shape; the number of logits is its length.
    pub fn output(&self) -> Shape {
        self.steps.last().map_or(self.input, |step| step.output)
    }

    /// The layers in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The parameter tensors in PyTorch's order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Numbers in all parameters.
    pub fn parameter_count(&self) -> usize {
        self.parameters.last().map_or(0, |p| p.range.end)
    }

    /// Draws one member's parameters: a function of (seed, architecture, member) alone.
    ///
    /// # Panics
    /// When `out` is not [`Network::parameter_count`] long.
    pub fn initialise(&self, seed: u64, architecture: &str, member: u64, out: &mut [f32]) {
        assert_eq!(out.len(), self.parameter_count());
        let mut stream = Stream::new(seed, &["weights", architecture], member);
        for parameter in &self.parameters {
            match parameter.init {
                Init::Uniform { bound } => stream.fill_uniform(bound, &mut out[parameter.range.clone()]),
            }
        }
    }

    /// Multiply-adds of one forward pass of one input.
    pub fn multiply_adds(&self) -> u64 {
        self.steps
            .iter()
            .filter_map(|step| step.weight.map(|weight| (step, &self.parameters[weight])))
            .map(|(step, weight)| (weight.range.len() * step.output.height * step.output.width) as u64)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::find;
    use super::*;

    fn parameters(name: &str, channels: usize, outputs: usize) -> usize {
        let input = Shape { channels, height: 32, width: 32 };
        find(name).unwrap().network(input, outputs).unwrap().parameter_count()
    }

    /// The table of SCIENCE.md section 5.
    #[test]
    fn parameter_counts_are_the_published_ones() {
        assert_eq!(
            [parameters("logreg", 1, 1), parameters("logreg", 1, 2), parameters("logreg", 3, 10)],
            [1025, 2050, 30730]
        );
        assert_eq!(
            [parameters("lenet", 1, 1), parameters("lenet", 1, 2), parameters("lenet", 3, 10)],
            [60941, 61026, 62006]
        );
    }

    #[test]
    fn an_input_too_small_names_the_layer() {
        let input = Shape { channels: 1, height: 12, width: 32 };
        let error = find("lenet").unwrap().network(input, 1).unwrap_err();
        assert_eq!(error.to_string(), "layer 3 (conv2d) cannot take 6 x 4 x 14: at least 5 x 5 is needed there");
    }

    /// Every tensor's mean, variance and range against U(±1/√fan_in), within 5 standard errors.
    #[test]
    fn weights_are_distributed_as_pytorch_distributes_them() {
        let network = find("lenet").unwrap().network(Shape { channels: 1, height: 32, width: 32 }, 1).unwrap();
        let members = 400;
        let drawn: Vec<Vec<f32>> = (0..members)
            .map(|member| {
                let mut out = vec![0.0; network.parameter_count()];
                network.initialise(5, "lenet", member, &mut out);
                out
            })
            .collect();
        for (tensor, fan_in) in
            [(0, 25), (1, 25), (2, 150), (3, 150), (4, 400), (5, 400), (6, 120), (7, 120), (8, 84), (9, 84)]
        {
            let parameter = &network.parameters()[tensor];
            let values: Vec<f64> =
                drawn.iter().flat_map(|m| &m[parameter.range.clone()]).map(|&v| f64::from(v)).collect();
            let (n, bound) = (values.len() as f64, 1.0 / f64::from(fan_in).sqrt());
            let expected = bound * bound / 3.0;
            let mean = values.iter().sum::<f64>() / n;
            let variance = values.iter().map(|v| v * v).sum::<f64>() / n;
            assert!(mean.abs() < 5.0 * (expected / n).sqrt(), "{}: mean {mean}", parameter.name);
            assert!(
                (variance / expected - 1.0).abs() < 5.0 * (0.8 / n).sqrt(),
                "{}: variance {variance}",
                parameter.name
            );
            let largest = values.iter().fold(0.0f64, |a, v| a.max(v.abs()));
            assert!(
                largest <= bound * 1.000_001 && largest > bound * (1.0 - 20.0 / n),
                "{}: largest {largest}",
                parameter.name
            );
        }
    }
}
