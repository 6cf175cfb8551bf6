//! Populations: K members of one architecture evaluated or trained together as one tensor program.
//!
//! Core's graph is interpreted on tensors with a leading member axis: one grouped convolution, one batched product, for all
//! members at once. K = 1 is no second implementation. The element is a parameter, so that tests can ask f64 for the digits
//! that f32 hides. Of tch only the fallible twins are used, and of these none that takes a scalar: tch 0.24 frees the scalar
//! before it looks for the error, and panics where it should return. Deliberately absent: any knowledge of experiments, and
//! widths that depend on the memory that happens to be free.

mod activations;
mod ahead;
mod autograd;
mod block;
mod data;
mod difference;
mod draw;
mod dropout;
mod error;
mod fused;
mod graph;
mod layer;
mod liveness;
pub(crate) mod memory;
mod mode;
mod policy;
mod proof;
mod sgd;
mod tensor;
#[cfg(test)]
mod tests;
mod train;
mod trained;
mod training_population;
mod weights;

pub(crate) use block::{Derivative, Sampling, block_gradients};
pub(crate) use data::{RunSamples, Samples, SamplesAhead};
pub(crate) use draw::Members;
pub(crate) use error::{PopulationError, at};
pub(crate) use proof::{ProofError, prove, prove_fused};
pub(crate) use train::{PopulationTraining, state_shape, train, width};

use activations::Activations;
use autograd::autograd;
use difference::central_difference_at;
use fused::FusedNetwork;
use graph::PopulationGraph;
use mode::LayerMode;
use nadgrid_core::architecture::Network;
use nadgrid_core::numerics::Precision;
use policy::Policy;
use tch::kind::Element;
use tch::{Device, Tensor};
use weights::{NetworkWeights, RunningStatistics};

/// K members of one network on a device, in evaluation mode.
pub(crate) struct Population {
    graph: PopulationGraph,
    weights: NetworkWeights,
    statistics: RunningStatistics,
    device: Device,
}

impl Population {
    /// Puts members on a device. `parameters` holds them one after the other, each flat in PyTorch's order. Running means are 0
    /// and running variances 1.
    ///
    /// # Errors
    /// [`PopulationError`] when there are not whole members, the device lacks the precision, or libtorch fails.
    pub(crate) fn new<T: Element>(
        network: &Network,
        parameters: &[T],
        device: Device,
        precision: Precision,
    ) -> Result<Self, PopulationError> {
        let policy = Policy::new(precision, T::KIND, device)?;
        let each = network.parameter_count();
        let members = parameters.len() / each.max(1);
        if members == 0 || parameters.len() != members * each {
            let expected = members.max(1) * each;
            let actual = parameters.len();
            return Err(PopulationError::Length { what: "parameters", expected, actual });
        }
        let flat = Tensor::f_from_slice(parameters)
            .and_then(|t| t.f_to(device))
            .and_then(|t| t.f_view([members as i64, each as i64]))
            .map_err(at("moving parameters to the device"))?;
        let statistics = RunningStatistics::new(network, &flat).map_err(at("making running statistics"))?;
        Self::assemble(PopulationGraph::new(network, members, policy), &flat, statistics)
    }

    /// Makes a population of flat parameters `[K, parameters]` that are on the device.
    fn assemble(
        graph: PopulationGraph,
        parameters: &Tensor,
        statistics: RunningStatistics,
    ) -> Result<Self, PopulationError> {
        let _no_grad = tch::no_grad_guard();
        let weights =
            NetworkWeights::cut(&graph.network, parameters, &graph.policy).map_err(at("cutting parameters"))?;
        Ok(Self { graph, weights, statistics, device: parameters.device() })
    }

    /// Returns the number of members K.
    pub(crate) fn members(&self) -> usize {
        self.graph.members as usize
    }

    /// Returns the numbers of an input.
    fn dimension(&self) -> usize {
        self.graph.network.input().len()
    }

    /// Returns the outputs `[K, B, outputs]` for inputs `[B, channels, height, width]` that all members share.
    ///
    /// # Errors
    /// [`PopulationError`] names the layer.
    pub(crate) fn forward(&self, inputs: &Tensor) -> Result<Tensor, PopulationError> {
        let _held = self.graph.policy.hold()?;
        self.evaluate(Activations::Shared(inputs.shallow_clone()))
    }

    /// Returns the outputs for inputs of any form, under a policy that is held.
    fn evaluate(&self, inputs: Activations) -> Result<Tensor, PopulationError> {
        self.graph.forward(&self.weights, &self.statistics, inputs, &mut LayerMode::Evaluation)
    }
}
