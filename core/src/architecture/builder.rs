//! Writing an architecture down: layers one after the other, with [`Builder::here`] and [`Builder::from`] to branch.
//!
//! The first layer that its input is too small for ends the building; what follows is left out and
//! [`Builder::finish`] tells. So an architecture's file is free of error handling.

use super::{Conv2d, ConvInit, Init, Layer, Network, NetworkError, Padding, Shape, Step};

/// A feature map of the network that is being built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map(usize);

/// A network under construction.
#[derive(Debug)]
pub struct Builder {
    network: Network,
    here: Map,
    error: Option<NetworkError>,
}

impl Builder {
    pub(super) fn new(input: Shape) -> Self {
        Self { network: Network::empty(input), here: Map(0), error: None }
    }

    pub(super) fn finish(self) -> Result<Network, NetworkError> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.network),
        }
    }

    /// The map that the next layer reads.
    pub fn here(&self) -> Map {
        self.here
    }

    /// The shape of that map.
    pub fn shape(&self) -> Shape {
        self.network.map(self.here.0)
    }

    /// Goes on from another map.
    #[allow(clippy::wrong_self_convention, reason = "it reads `net.from(start).conv(…)`")]
    pub fn from(&mut self, map: Map) -> &mut Self {
        self.here = map;
        self
    }

    /// Appends a convolution.
    pub fn conv(&mut self, conv: Conv2d) -> &mut Self {
        self.append(Layer::Conv2d(conv), None)
    }

    /// Appends a batch norm.
    pub fn batch_norm(&mut self, name: impl Into<String>) -> &mut Self {
        self.append(Layer::BatchNorm2d { name: name.into() }, None)
    }

    /// Appends max(x, 0).
    pub fn relu(&mut self) -> &mut Self {
        self.append(Layer::Relu, None)
    }

    /// Appends a dropout of this probability.
    pub fn dropout(&mut self, probability: f32) -> &mut Self {
        self.append(Layer::Dropout { probability }, None)
    }

    /// Appends a maximum pooling.
    pub fn max_pool(&mut self, size: usize) -> &mut Self {
        self.append(Layer::MaxPool2d { size }, None)
    }

    /// Appends an average pooling.
    pub fn avg_pool(&mut self, size: usize) -> &mut Self {
        self.append(Layer::AvgPool2d { size }, None)
    }

    /// Makes a vector of the map.
    pub fn flatten(&mut self) -> &mut Self {
        self.append(Layer::Flatten, None)
    }

    /// Appends a fully connected layer.
    pub fn linear(&mut self, name: impl Into<String>, features: usize) -> &mut Self {
        self.append(Layer::Linear { name: name.into(), features }, None)
    }

    /// Adds another map of the same shape.
    pub fn add(&mut self, other: Map) -> &mut Self {
        self.append(Layer::Add, Some(other))
    }

    /// Puts the channels of another map behind those of this one.
    pub fn concat(&mut self, other: Map) -> &mut Self {
        self.append(Layer::Concat, Some(other))
    }

    /// Appends any layer of one input.
    pub fn layer(&mut self, layer: Layer) -> &mut Self {
        self.append(layer, None)
    }

    fn append(&mut self, layer: Layer, other: Option<Map>) -> &mut Self {
        if self.error.is_none() {
            match self.step(layer, other) {
                Ok(step) => self.here = Map(self.network.push(step)),
                Err(error) => self.error = Some(error),
            }
        }
        self
    }

    /// The layer in its place: shapes worked out, parameters added.
    fn step(&mut self, layer: Layer, other: Option<Map>) -> Result<Step, NetworkError> {
        let input = self.shape();
        let other_shape = other.map(|map| self.network.map(map.0));
        let place = self.network.steps().len();
        let what = layer.kind();
        let fits = |least| match input.height >= least && input.width >= least && !input.is_empty() {
            true => Ok(()),
            false => Err(NetworkError::TooSmall { layer: place, what, input, least }),
        };
        let mut weight = None;
        let mut statistics = None;
        let output = match &layer {
            Layer::Conv2d(conv) => {
                fits(conv.least_input())?;
                weight = Some(self.conv_parameters(conv, input.channels));
                conv.output(input)
            }
            Layer::BatchNorm2d { name } => {
                fits(1)?;
                weight = Some(self.network.parameters().len());
                self.parameter(name, "weight", vec![input.channels], Init::Constant { value: 1.0 });
                self.parameter(name, "bias", vec![input.channels], Init::Constant { value: 0.0 });
                statistics = Some(self.network.add_statistics(input.channels));
                input
            }
            Layer::MaxPool2d { size } | Layer::AvgPool2d { size } => {
                fits(*size)?;
                Shape { channels: input.channels, height: input.height / size, width: input.width / size }
            }
            Layer::Linear { name, features } => {
                fits(1)?;
                weight = Some(self.network.parameters().len());
                let init = uniform(input.len());
                self.parameter(name, "weight", vec![*features, input.len()], init);
                self.parameter(name, "bias", vec![*features], init);
                Shape { channels: *features, height: 1, width: 1 }
            }
            Layer::Flatten => Shape { channels: input.len(), height: 1, width: 1 },
            Layer::Relu | Layer::Dropout { .. } => input,
            Layer::Add => match other_shape {
                Some(other) if other == input => input,
                _ => {
                    return Err(NetworkError::Mismatch {
                        layer: place,
                        what,
                        a: input,
                        b: other_shape.unwrap_or(input),
                    });
                }
            },
            Layer::Concat => match other_shape {
                Some(other) if (other.height, other.width) == (input.height, input.width) => {
                    Shape { channels: input.channels + other.channels, ..input }
                }
                _ => {
                    return Err(NetworkError::Mismatch {
                        layer: place,
                        what,
                        a: input,
                        b: other_shape.unwrap_or(input),
                    });
                }
            },
        };
        let inputs = std::iter::once(self.here).chain(other).map(|map| map.0).collect();
        Ok(Step { layer, inputs, input, output, weight, statistics })
    }

    fn conv_parameters(&mut self, conv: &Conv2d, inputs: usize) -> usize {
        let index = self.network.parameters().len();
        let Conv2d { channels, kernel, .. } = *conv;
        let (weight, bias) = match conv.init {
            ConvInit::Default => {
                let init = uniform(inputs * kernel * kernel);
                (init, init)
            }
            ConvInit::FanOut => {
                let deviation = (2.0 / (kernel * kernel * channels) as f64).sqrt() as f32;
                (Init::Normal { deviation }, Init::Constant { value: 0.0 })
            }
        };
        self.parameter(&conv.name, "weight", vec![channels, inputs, kernel, kernel], weight);
        if conv.bias {
            self.parameter(&conv.name, "bias", vec![channels], bias);
        }
        index
    }

    fn parameter(&mut self, name: &str, suffix: &str, shape: Vec<usize>, init: Init) {
        self.network.add_parameter(format!("{name}.{suffix}"), shape, init);
    }
}

/// U(±1/√fan_in): PyTorch's default of Linear and Conv2d.
fn uniform(fan_in: usize) -> Init {
    Init::Uniform { bound: (1.0 / (fan_in as f64).sqrt()) as f32 }
}

impl Conv2d {
    /// The smallest height and width that the convolution can take.
    fn least_input(&self) -> usize {
        match self.padding {
            Padding::Zeros(zeros) => self.kernel.saturating_sub(2 * zeros).max(1),
            Padding::Circular => 1,
        }
    }

    fn output(&self, input: Shape) -> Shape {
        let along = |length: usize| match self.padding {
            Padding::Zeros(zeros) => (length + 2 * zeros - self.kernel) / self.stride + 1,
            Padding::Circular => length.div_ceil(self.stride),
        };
        Shape { channels: self.channels, height: along(input.height), width: along(input.width) }
    }
}
