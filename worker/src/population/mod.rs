//! Populations: K members of one architecture evaluated together as one tensor program.
//!
//! Core's layers are interpreted on tensors with a leading member axis: one grouped convolution, one batched product, for all
//! members at once. K = 1 is no second implementation. Generic over the element, so that tests can ask f64 for the digits
//! that f32 hides. Of tch only the fallible twins are used, and of these none that takes a scalar: tch 0.24 frees the scalar
//! before it looks for the error, and panics where it should return. Deliberately absent: gradients by autograd, training, and a width other than the block.

mod block;
mod difference;
mod layer;
#[cfg(test)]
mod tests;

pub use block::block_moments;
pub use difference::central_difference;

use crate::board::Fault;
use layer::{Activations, Loaded};
use nadgrid_core::architecture::{Network, Shape};
use nadgrid_kernels::KernelError;
use nadgrid_proto::v1::FailureKind;
use tch::kind::Element;
use tch::{Device, Kind, TchError, Tensor};
use thiserror::Error;

/// What can go wrong in a population.
#[derive(Debug, Error)]
pub enum PopulationError {
    /// libtorch failed in a layer.
    #[error("layer {layer} ({what}): {}", first_line(.source))]
    Layer {
        /// Index of the layer.
        layer: usize,
        /// Its kind.
        what: &'static str,
        /// libtorch's words.
        source: TchError,
    },
    /// libtorch failed elsewhere.
    #[error("{task}: {}", first_line(.source))]
    Torch {
        /// At what.
        task: &'static str,
        /// libtorch's words.
        source: TchError,
    },
    /// A layer stands where populations cannot have it.
    #[error("layer {layer} ({what}) is not supported after a linear layer")]
    Unsupported {
        /// Index of the layer.
        layer: usize,
        /// Its kind.
        what: &'static str,
    },
    /// Numbers that do not make what they are given for.
    #[error("{what}: {actual} numbers, {expected} are needed")]
    Length {
        /// What they are given for.
        what: &'static str,
        /// As many are needed.
        expected: usize,
        /// As many came.
        actual: usize,
    },
    /// A gradient overflowed.
    #[error(transparent)]
    NotFinite(#[from] KernelError),
}

impl PopulationError {
    /// Whose fault it is. After an error of CUDA's own, no more can be computed on that GPU by this process; memory that ran
    /// out may be there next time.
    pub fn fault(&self, device: Device) -> Fault {
        let kind = match self {
            Self::Unsupported { .. } => FailureKind::Unfit,
            Self::Layer { source, .. } | Self::Torch { source, .. } => {
                let text = source.to_string();
                let lost = device.is_cuda() && text.contains("CUDA error") && !text.contains("out of memory");
                if lost { FailureKind::Unfit } else { FailureKind::Task }
            }
            Self::Length { .. } | Self::NotFinite(_) => FailureKind::Task,
        };
        Fault::new(kind, self.to_string())
    }
}

/// libtorch's messages go on with a C++ backtrace.
fn first_line(error: &TchError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// Gives a failure of libtorch the name of what it failed at.
fn at(task: &'static str) -> impl FnOnce(TchError) -> PopulationError {
    move |source| PopulationError::Torch { task, source }
}

/// K members of one network on a device.
pub struct Population {
    layers: Vec<Loaded>,
    members: i64,
    input: Shape,
    outputs: i64,
    /// Numbers that one member's largest layer holds at once for one input.
    widest: usize,
    device: Device,
    kind: Kind,
}

impl Population {
    /// Puts members on a device. `parameters` holds them one after the other, each flat in PyTorch's order.
    ///
    /// # Errors
    /// [`PopulationError`] when there are not whole members, or libtorch fails.
    pub fn new<T: Element>(network: &Network, parameters: &[T], device: Device) -> Result<Self, PopulationError> {
        let each = network.parameter_count();
        let members = parameters.len() / each.max(1);
        if members == 0 || parameters.len() != members * each {
            let (expected, actual) = (members.max(1) * each, parameters.len());
            return Err(PopulationError::Length { what: "parameters", expected, actual });
        }
        let flat = Tensor::f_from_slice(parameters)
            .and_then(|t| t.f_to(device))
            .and_then(|t| t.f_view([members as i64, each as i64]))
            .map_err(at("moving parameters to the device"))?;
        let layers = network.steps().iter().enumerate().map(|(index, step)| Loaded::new(index, step, network, &flat));
        let widest = network.steps().iter().map(|step| step.input.len() + step.output.len()).max().unwrap_or(0);
        Ok(Self {
            layers: layers.collect::<Result<_, _>>()?,
            members: members as i64,
            input: network.input(),
            outputs: network.output().len() as i64,
            widest,
            device,
            kind: T::KIND,
        })
    }

    /// Members K.
    pub fn members(&self) -> usize {
        self.members as usize
    }

    /// The outputs `[K, B, outputs]` for inputs `[B, channels, height, width]` that all members share.
    ///
    /// # Errors
    /// [`PopulationError`] names the layer.
    pub fn forward(&self, inputs: &Tensor) -> Result<Tensor, PopulationError> {
        let start = Activations::Shared(inputs.shallow_clone());
        let end = self.layers.iter().try_fold(start, |activations, layer| layer.apply(activations, self.members))?;
        let batch = inputs.size().first().copied().unwrap_or(0);
        end.features(self.members)
            .and_then(|t| t.f_view([self.members, batch, self.outputs]))
            .map_err(at("the outputs"))
    }
}
