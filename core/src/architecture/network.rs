//! A network: layers with their shapes worked out, and the parameters they need.

use super::{Builder, Layer};
use crate::random::{NORMAL_PAIR_WORDS, Stream};
use std::fmt;
use std::ops::Range;
use thiserror::Error;

/// Channels, height and width of an image or a feature map. A vector of n features is n x 1 x 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The number of channels.
    pub channels: usize,
    /// The number of rows.
    pub height: usize,
    /// The number of columns.
    pub width: usize,
}

impl Shape {
    /// Returns the count of its numbers.
    pub const fn len(self) -> usize {
        self.channels * self.height * self.width
    }

    /// Returns whether it holds no numbers.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {} x {}", self.channels, self.height, self.width)
    }
}

/// The distribution from which a parameter is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// The uniform distribution U(−bound, bound).
    Uniform {
        /// The bound, 1/√fan_in by PyTorch's defaults.
        bound: f32,
    },
    /// The normal distribution N(0, deviation²).
    Normal {
        /// The standard deviation.
        deviation: f32,
    },
    /// This number.
    Constant {
        /// The number.
        value: f32,
    },
}

impl Init {
    /// Draws numbers that are next in the stream.
    fn draw(self, stream: &mut Stream, out: &mut [f32]) {
        match self {
            Self::Uniform { bound } => stream.fill_uniform(bound, out),
            Self::Normal { deviation } => {
                stream.fill_normal(out);
                out.iter_mut().for_each(|value| *value *= deviation);
            }
            Self::Constant { value } => out.fill(value),
        }
    }

    /// Words of the stream that so many numbers take.
    fn words(self, numbers: usize) -> u64 {
        match self {
            Self::Uniform { .. } => numbers as u64,
            Self::Normal { .. } => (NORMAL_PAIR_WORDS * numbers.div_ceil(2)) as u64,
            Self::Constant { .. } => 0,
        }
    }
}

/// A part of a network's parameters, which can be drawn by itself: where the stream stands before it is known.
#[derive(Clone, Debug, PartialEq)]
pub struct DrawPart {
    /// Its place in the flat vector of all parameters.
    pub range: Range<usize>,
    init: Init,
    /// Words of the stream before it.
    position: u64,
}

impl DrawPart {
    /// Draws it from a member's stream, wherever that stands: the numbers that [`Network::draw`] puts there.
    pub fn draw(&self, stream: &mut Stream, out: &mut [f32]) {
        stream.seek(self.position);
        self.init.draw(stream, out);
    }
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
    /// The maps that it reads: 0 is the network's input, i + 1 the output of step i. One; two for `Add` and `Concat`.
    pub inputs: Vec<usize>,
    /// Shape of the first of them.
    pub input: Shape,
    /// The shape of its output.
    pub output: Shape,
    /// Index of the layer's weight among the network's parameters, if it has one; its bias follows, if it has one.
    pub weight: Option<usize>,
    /// Place of a batch norm's channels in the flat vectors of running means and of running variances.
    pub statistics: Option<Range<usize>>,
}

/// An architecture that cannot be built on an input.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NetworkError {
    /// The input does not fit the architecture.
    #[error("layer {layer} ({what}) cannot take {input}: at least {least} x {least} is needed there")]
    TooSmall {
        /// The index of the layer.
        layer: usize,
        /// Its kind.
        what: &'static str,
        /// The shape that it was to read.
        input: Shape,
        /// Rows and columns that it needs.
        least: usize,
    },
    /// Two maps that are to be joined differ.
    #[error("layer {layer} ({what}) cannot join {a} and {b}")]
    Mismatch {
        /// The index of the layer.
        layer: usize,
        /// Its kind.
        what: &'static str,
        /// One map.
        a: Shape,
        /// The other.
        b: Shape,
    },
}

/// Layers with shapes and parameters, each after those whose maps it reads; the output is the last layer's. Parameters are
/// one flat f32 vector, tensors in PyTorch's order.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    input: Shape,
    steps: Vec<Step>,
    parameters: Vec<Parameter>,
    statistics: usize,
}

impl Network {
    /// No layers yet.
    pub(super) fn empty(input: Shape) -> Self {
        Self { input, steps: Vec::new(), parameters: Vec::new(), statistics: 0 }
    }

    /// The layers that `write` writes down, as the files of the architectures do.
    ///
    /// # Errors
    /// [`NetworkError`] when a map has become too small for a layer, or maps that are joined differ.
    pub fn build(input: Shape, write: impl FnOnce(&mut Builder)) -> Result<Self, NetworkError> {
        let mut builder = Builder::new(input);
        write(&mut builder);
        builder.finish()
    }

    /// A chain of layers.
    ///
    /// # Errors
    /// [`NetworkError`] when a map has become too small for a layer, or a layer joins two maps.
    pub fn chain(layers: Vec<Layer>, input: Shape) -> Result<Self, NetworkError> {
        Self::build(input, |net| {
            for layer in layers {
                net.layer(layer);
            }
        })
    }

    /// Appends a step; returns its map.
    pub(super) fn push(&mut self, step: Step) -> usize {
        self.steps.push(step);
        self.steps.len()
    }

    pub(super) fn add_parameter(&mut self, name: String, shape: Vec<usize>, init: Init) {
        let start = self.parameter_count();
        let range = start..start + shape.iter().product::<usize>();
        self.parameters.push(Parameter { name, shape, init, range });
    }

    /// Makes room for the running statistics of this many channels.
    pub(super) fn add_statistics(&mut self, channels: usize) -> Range<usize> {
        let start = self.statistics;
        self.statistics += channels;
        start..self.statistics
    }

    /// The input's shape.
    pub fn input(&self) -> Shape {
        self.input
    }

    /// The output's shape; the number of logits is its length.
    pub fn output(&self) -> Shape {
        self.map(self.steps.len())
    }

    /// The shape of a map, as [`Step::inputs`] counts them.
    ///
    /// # Panics
    /// When there is no such map.
    pub fn map(&self, map: usize) -> Shape {
        map.checked_sub(1).map_or(self.input, |step| self.steps[step].output)
    }

    /// The layers in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether every layer reads the one before it, and nothing else.
    pub fn is_chain(&self) -> bool {
        self.steps.iter().enumerate().all(|(place, step)| step.inputs == [place])
    }

    /// The parameter tensors in PyTorch's order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// A step's bias, if it has one.
    pub fn bias(&self, step: &Step) -> Option<&Parameter> {
        let has_bias = match &step.layer {
            Layer::Conv2d(conv) => conv.bias,
            Layer::Linear { .. } | Layer::BatchNorm2d { .. } => true,
            _ => false,
        };
        step.weight.filter(|_| has_bias).map(|weight| &self.parameters[weight + 1])
    }

    /// Returns the count of numbers in all parameters.
    pub fn parameter_count(&self) -> usize {
        self.parameters.last().map_or(0, |p| p.range.end)
    }

    /// Channels of all batch norms: the length of the flat vectors of running means and of running variances.
    pub fn statistics_count(&self) -> usize {
        self.statistics
    }

    /// Draws one member's parameters: a function of (seed, architecture, member) alone.
    ///
    /// # Panics
    /// When `out` is not [`Network::parameter_count`] long.
    pub fn initialise(&self, seed: u64, architecture: &str, member: u64, out: &mut [f32]) {
        self.draw(Stream::new(seed, &["weights", architecture], member), out);
    }

    /// Draws parameters from a stream.
    ///
    /// # Panics
    /// When `out` is not [`Network::parameter_count`] long.
    pub fn draw(&self, mut stream: Stream, out: &mut [f32]) {
        assert_eq!(out.len(), self.parameter_count());
        for parameter in &self.parameters {
            parameter.init.draw(&mut stream, &mut out[parameter.range.clone()]);
        }
    }

    /// Cuts the parameters into parts of at most `most` numbers, in order, that can be drawn on several threads.
    ///
    /// # Panics
    /// When `most` is odd: normal numbers are drawn in pairs.
    pub fn draw_parts(&self, most: usize) -> Vec<DrawPart> {
        assert!(most > 0 && most.is_multiple_of(2), "parts of {most} numbers");
        let (mut parts, mut position) = (Vec::new(), 0);
        for parameter in &self.parameters {
            let end = parameter.range.end;
            for start in parameter.range.clone().step_by(most) {
                let range = start..end.min(start + most);
                let words = parameter.init.words(range.len());
                parts.push(DrawPart { range, init: parameter.init, position });
                position += words;
            }
        }
        parts
    }

    /// Multiply-adds of one forward pass of one input: those of convolutions and fully connected layers.
    pub fn multiply_adds(&self) -> u64 {
        let products = |step: &&Step| matches!(step.layer, Layer::Conv2d(_) | Layer::Linear { .. });
        let steps = self.steps.iter().filter(products);
        steps
            .filter_map(|step| Some((step, &self.parameters[step.weight?])))
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
        assert_eq!(
            [parameters("vgg11", 1, 1), parameters("vgg11", 1, 2), parameters("vgg11", 3, 10)],
            [9_745_153, 9_745_666, 9_750_922]
        );
        assert_eq!(
            [parameters("vgg11_bn", 1, 1), parameters("vgg11_bn", 1, 2), parameters("vgg11_bn", 3, 10)],
            [9_750_657, 9_751_170, 9_756_426]
        );
        assert_eq!(
            [parameters("resnet18", 1, 1), parameters("resnet18", 1, 2), parameters("resnet18", 3, 10)],
            [11_168_193, 11_168_706, 11_173_962]
        );
        assert_eq!(
            [parameters("densenet121", 1, 1), parameters("densenet121", 1, 2), parameters("densenet121", 3, 10)],
            [6_945_921, 6_946_946, 6_956_298]
        );
    }

    /// Names, shapes and order are those of PyTorch's state dictionaries.
    #[test]
    fn parameters_are_named_and_shaped_as_in_pytorch() {
        let reference: serde_json::Value =
            serde_json::from_str(include_str!("../../../kernels/tests/data/forward.json")).unwrap();
        for name in ["logreg", "lenet", "vgg11", "vgg11_bn", "resnet18", "densenet121"] {
            let input = Shape { channels: 1, height: 32, width: 32 };
            let network = find(name).unwrap().network(input, 1).unwrap();
            let ours: Vec<_> = network.parameters().iter().map(|p| serde_json::json!([p.name, p.shape])).collect();
            assert_eq!(serde_json::Value::from(ours), reference["architectures"][name]["1ch_1cl"]["tensors"], "{name}");
        }
    }

    /// Convolutions of VGG: N(0, 2/(9 x output channels)) and zero biases; batch norms: one and zero.
    #[test]
    fn vggs_convolutions_are_drawn_by_fan_out() {
        let network = find("vgg11_bn").unwrap().network(Shape { channels: 1, height: 32, width: 32 }, 1).unwrap();
        let mut drawn = vec![9.0; network.parameter_count()];
        network.initialise(1, "vgg11_bn", 0, &mut drawn);
        let values = |name: &str| {
            let parameter = network.parameters().iter().find(|p| p.name == name).unwrap();
            drawn[parameter.range.clone()].iter().map(|&v| f64::from(v)).collect::<Vec<_>>()
        };
        let weights = values("features.4.weight");
        let n = weights.len() as f64;
        let expected = 2.0 / (9.0 * 128.0);
        let variance = weights.iter().map(|v| v * v).sum::<f64>() / n;
        assert!((variance / expected - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "{variance}");
        // A normal distribution has its fourth moment at three times the squared variance.
        let fourth = weights.iter().map(|v| v.powi(4)).sum::<f64>() / n;
        assert!((fourth / (3.0 * expected * expected) - 1.0).abs() < 5.0 * (96.0f64 / 9.0 / n).sqrt(), "{fourth}");
        assert!(values("features.4.bias").iter().all(|&v| v == 0.0));
        assert!(values("features.5.weight").iter().all(|&v| v == 1.0));
        assert!(values("features.5.bias").iter().all(|&v| v == 0.0));
        let classifier = values("classifier.0.weight");
        let bound = 1.0 / 512f64.sqrt();
        assert!(classifier.iter().all(|v| v.abs() <= bound * 1.000_001));
    }

    /// Uniform and normal numbers, and constants; tensors of odd lengths; parts in any order.
    #[test]
    fn parts_drawn_in_any_order_are_the_whole() {
        for (name, most) in [("lenet", 64), ("vgg11_bn", 100_000), ("densenet121", 1 << 16)] {
            let network = find(name).unwrap().network(Shape { channels: 1, height: 32, width: 32 }, 1).unwrap();
            let stream = || Stream::new(7, &["weights", name], 3);
            let (mut whole, mut parts) = (vec![0.0; network.parameter_count()], vec![9.0; network.parameter_count()]);
            network.draw(stream(), &mut whole);
            let mut one = stream();
            for part in network.draw_parts(most).iter().rev() {
                assert!((1..=most).contains(&part.range.len()), "{part:?}");
                part.draw(&mut one, &mut parts[part.range.clone()]);
            }
            assert!(whole.iter().map(|x| x.to_bits()).eq(parts.iter().map(|x| x.to_bits())), "{name}");
        }
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
