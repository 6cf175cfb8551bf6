//! A network's graph on tensors with a member axis: maps flow from step to step and are dropped after their last reader.

use super::PopulationError;
use super::activations::Activations;
use super::layer::LayerInputs;
use super::liveness::last_readers;
use super::mode::LayerMode;
use super::policy::Policy;
use super::weights::{NetworkWeights, RunningStatistics};
use nadgrid_core::architecture::Network;
use tch::{TchError, Tensor};

/// An architecture for K members.
pub(super) struct PopulationGraph {
    pub(super) network: Network,
    pub(super) members: i64,
    pub(super) policy: Policy,
    last_readers: Vec<usize>,
}

impl PopulationGraph {
    pub(super) fn new(network: &Network, members: usize, policy: Policy) -> Self {
        let last_readers = last_readers(network);
        Self { network: network.clone(), members: members as i64, policy, last_readers }
    }

    /// Returns the outputs `[K, B, outputs]`.
    pub(super) fn forward(
        &self,
        weights: &NetworkWeights,
        statistics: &RunningStatistics,
        inputs: Activations,
        mode: &mut LayerMode<'_>,
    ) -> Result<Tensor, PopulationError> {
        let steps = self.network.steps();
        let mut maps: Vec<Option<Activations>> = vec![Some(inputs)];
        for (index, step) in steps.iter().enumerate() {
            let layer = LayerInputs {
                members: self.members,
                policy: &self.policy,
                index,
                step,
                weights: weights.of(index),
                statistics: statistics.of(index),
            };
            let read = step.inputs.iter().filter_map(|&map| maps[map].as_ref().map(Activations::share)).collect();
            let output = layer.apply(read, mode);
            let what = step.layer.kind();
            maps.push(Some(output.map_err(|source| PopulationError::in_layer(index, what, source))?));
            for &map in step.inputs.iter().filter(|&&map| self.last_readers[map] == index) {
                maps[map] = None;
            }
        }
        let mut outputs = || -> Result<Tensor, TchError> {
            let end = maps.pop().flatten().map(|end| end.features(self.members)).transpose()?;
            end.ok_or_else(|| TchError::Shape("a network without layers".to_owned()))
        };
        outputs().map_err(super::at("the outputs"))
    }

    /// Returns an input batch's shape `[B, copies·C, H, W]`.
    pub(super) fn batch_shape(&self, copies: i64) -> [i64; 4] {
        let input = self.network.input();
        [-1, copies * input.channels as i64, input.height as i64, input.width as i64]
    }
}
