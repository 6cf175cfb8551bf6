//! The zoo: every architecture is written once, as a list of layers, and interpreted by whoever evaluates
//! it (the patch kernels, the libtorch populations).
//!
//! To add an architecture: one file beside this one with a function `fn layers(outputs) -> Vec<Layer>`,
//! and one line in [`REGISTRY`].

mod lenet;
mod logreg;
mod network;
mod window;

pub use network::{Init, Network, NetworkError, Parameter, Shape, Step};
pub use window::Window;

/// One layer. Weights are PyTorch's: convolutions `[out, in, kernel, kernel]`, linear `[out, in]`, each
/// with a bias, both from U(±1/√fan_in).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layer {
    /// A convolution of stride 1 without padding.
    Conv2d {
        /// Name of its parameters, as in PyTorch's state dictionary.
        name: &'static str,
        /// Output channels.
        channels: usize,
        /// Kernel height and width.
        kernel: usize,
    },
    /// max(x, 0).
    Relu,
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
    /// A fully connected layer.
    Linear {
        /// Name of its parameters.
        name: &'static str,
        /// Output features.
        features: usize,
    },
}

impl Layer {
    /// What it is, as messages name it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Conv2d { .. } => "conv2d",
            Self::Relu => "relu",
            Self::MaxPool2d { .. } => "maxpool2d",
            Self::AvgPool2d { .. } => "avgpool2d",
            Self::Flatten => "flatten",
            Self::Linear { .. } => "linear",
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
    layers: fn(outputs: usize) -> Vec<Layer>,
}

impl Architecture {
    /// The network of this architecture for an input shape and a number of outputs.
    ///
    /// # Errors
    /// [`NetworkError`] when the input is too small for the layers.
    pub fn network(&self, input: Shape, outputs: usize) -> Result<Network, NetworkError> {
        Network::new((self.layers)(outputs), input)
    }
}

/// Every architecture that a spec may name.
pub const REGISTRY: &[Architecture] = &[
    Architecture { name: "logreg", title: "Logistic regression", layers: logreg::layers },
    Architecture { name: "lenet", title: "LeNet", layers: lenet::layers },
];

/// The architecture of this name.
pub fn find(name: &str) -> Option<&'static Architecture> {
    REGISTRY.iter().find(|a| a.name == name)
}

/// The registry's names, in its order.
pub fn names() -> impl Iterator<Item = &'static str> {
    REGISTRY.iter().map(|a| a.name)
}
