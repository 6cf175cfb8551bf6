//! The zoo: every architecture is written once, as a graph of layers, and interpreted by whoever evaluates
//! it (the CPU kernels, the libtorch populations).
//!
//! To add an architecture: one file beside this one with a function `fn build(net: &mut Builder, outputs: usize)`,
//! and one line in [`REGISTRY`].

mod builder;
mod deep_linear;
mod densenet;
mod lenet;
mod logreg;
mod network;
mod resnet;
mod vgg;
mod window;

pub use builder::{Builder, Map};
pub use network::{DrawPart, Init, Network, NetworkError, Parameter, Shape, Step};
pub use window::Window;

/// One layer. Weights are PyTorch's: convolutions `[out, in, kernel, kernel]`, linear `[out, in]`, batch norm `[channels]`.
#[derive(Clone, Debug, PartialEq)]
pub enum Layer {
    /// A convolution.
    Conv2d(Conv2d),
    /// Normalisation of every channel over batch and positions, eps [`BATCH_NORM_EPS`], with weight and bias; by running
    /// statistics in evaluation.
    BatchNorm2d {
        /// Name of its parameters, as in PyTorch's state dictionary.
        name: String,
    },
    /// The rectifier max(x, 0).
    Relu,
    /// In training, every number is zero with this probability and else divided by its complement; the identity in evaluation.
    Dropout {
        /// Of a number to be dropped, below 1.
        probability: f32,
    },
    /// Maximum over size x size windows, stride size, a remainder dropped.
    MaxPool2d {
        /// Window height, width and stride.
        size: usize,
    },
    /// Mean over size x size windows, stride size, a remainder dropped.
    AvgPool2d {
        /// Window height, width and stride.
        size: usize,
    },
    /// Channels x height x width to one vector, in that order.
    Flatten,
    /// A fully connected layer with bias.
    Linear {
        /// The name of its parameters.
        name: String,
        /// The number of output features.
        features: usize,
    },
    /// The sum of two maps of one shape.
    Add,
    /// The channels of the first map, then those of the second.
    Concat,
}

/// The number that is added to a variance before its root is taken, as in PyTorch.
pub const BATCH_NORM_EPS: f32 = 1e-5;
/// Weight of a batch's statistics in the running ones, as in PyTorch.
pub const BATCH_NORM_MOMENTUM: f32 = 0.1;

/// A square convolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Name of its parameters, as in PyTorch's state dictionary.
    pub name: String,
    /// The number of output channels.
    pub channels: usize,
    /// The kernel's height and width.
    pub kernel: usize,
    /// Rows and columns from one output to the next.
    pub stride: usize,
    /// The values beyond the map's edges.
    pub padding: Padding,
    /// Whether it has a bias.
    pub bias: bool,
    /// The distribution from which the weights are drawn.
    pub init: ConvInit,
}

/// The values that a convolution reads beyond the edges of its map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// This many rows and columns of zeros on every side; 0 for none.
    Zeros(usize),
    /// The map itself, as on a torus: output (r, c) reads rows r … r + kernel − 1 and columns c … c + kernel − 1, modulo its size.
    Circular,
}

/// The distribution from which a convolution's weights are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConvInit {
    /// PyTorch's default: weight and bias from U(±1/√fan_in), fan_in = input channels x kernel².
    Default,
    /// Weight from N(0, 2/(kernel² x output channels)), bias zero: VGG's.
    FanOut,
}

impl Conv2d {
    /// A convolution of stride 1, without padding, with bias, drawn as PyTorch draws it.
    pub fn new(name: impl Into<String>, channels: usize, kernel: usize) -> Self {
        let (stride, padding, bias, init) = (1, Padding::Zeros(0), true, ConvInit::Default);
        Self { name: name.into(), channels, kernel, stride, padding, bias, init }
    }

    /// With this many rows and columns of zeros on every side.
    pub fn padded(self, zeros: usize) -> Self {
        Self { padding: Padding::Zeros(zeros), ..self }
    }

    /// Sets the stride.
    pub fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// Removes the bias.
    pub fn no_bias(self) -> Self {
        Self { bias: false, ..self }
    }
}

impl Layer {
    /// Returns the kind of the layer, as messages name it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Conv2d(_) => "conv2d",
            Self::BatchNorm2d { .. } => "batchnorm2d",
            Self::Relu => "relu",
            Self::Dropout { .. } => "dropout",
            Self::MaxPool2d { .. } => "maxpool2d",
            Self::AvgPool2d { .. } => "avgpool2d",
            Self::Flatten => "flatten",
            Self::Linear { .. } => "linear",
            Self::Add => "add",
            Self::Concat => "concat",
        }
    }
}

/// An architecture of the registry.
#[derive(Clone, Copy, Debug)]
pub struct Architecture {
    /// Its name in specs.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    build: fn(&mut Builder, outputs: usize),
}

impl Architecture {
    /// The network of this architecture for an input shape and a number of outputs.
    ///
    /// # Errors
    /// [`NetworkError`] when the input is too small for the layers.
    pub fn network(&self, input: Shape, outputs: usize) -> Result<Network, NetworkError> {
        Network::build(input, |net| (self.build)(net, outputs))
    }
}

/// Every architecture that a spec may name.
pub const REGISTRY: &[Architecture] = &[
    Architecture { name: "logreg", title: "Logistic regression", build: logreg::build },
    Architecture { name: "lenet", title: "LeNet", build: lenet::build },
    Architecture { name: "vgg11", title: "VGG11", build: vgg::build },
    Architecture { name: "vgg11_bn", title: "VGG11 with batch norm", build: vgg::build_bn },
    Architecture { name: "resnet18", title: "ResNet18", build: resnet::build },
    Architecture { name: "densenet121", title: "DenseNet121", build: densenet::build },
    Architecture { name: "deep_linear", title: "Deep linear network with pooling", build: deep_linear::build },
];

/// The architecture of this name.
pub fn find(name: &str) -> Option<&'static Architecture> {
    REGISTRY.iter().find(|a| a.name == name)
}

/// The registry's names, in its order.
pub fn names() -> impl Iterator<Item = &'static str> {
    REGISTRY.iter().map(|a| a.name)
}
