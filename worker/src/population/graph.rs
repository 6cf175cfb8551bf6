//! A network's graph on tensors with a member axis: maps flow from step to step and are dropped after their last reader.

use super::PopulationError;
use super::activations::Activations;
use super::dropout::Dropout;
use super::layer::{Place, Statistics, Weights};
use super::policy::Policy;
use nadgrid_core::architecture::Network;
use tch::{TchError, Tensor};

/// Which of a layer's two behaviours.
pub(super) enum Mode<'a> {
    /// Batch norms use their running statistics; dropout is the identity.
    Evaluation,
    /// Batch norms use the batch's statistics and update the running ones; dropout drops.
    Training(&'a mut Dropout),
}

/// An architecture for K members.
pub(super) struct Graph {
    pub(super) network: Network,
    pub(super) members: i64,
    pub(super) policy: Policy,
    last_readers: Vec<usize>,
}

impl Graph {
    pub(super) fn new(network: &Network, members: usize, policy: Policy) -> Self {
        let last_readers = last_readers(network);
        Self { network: network.clone(), members: members as i64, policy, last_readers }
    }

    /// The outputs `[K, B, outputs]`.
    pub(super) fn forward(
        &self,
        weights: &Weights,
        statistics: &Statistics,
        inputs: Activations,
        mode: &mut Mode<'_>,
    ) -> Result<Tensor, PopulationError> {
        let steps = self.network.steps();
        let mut maps: Vec<Option<Activations>> = vec![Some(inputs)];
        for (index, step) in steps.iter().enumerate() {
            let place =
                Place { graph: self, index, step, weights: weights.of(index), statistics: statistics.of(index) };
            let read = step.inputs.iter().filter_map(|&map| maps[map].as_ref().map(Activations::share)).collect();
            let output = place.apply(read, mode);
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

    /// An input batch's shape `[B, copies·C, H, W]`.
    pub(super) fn batch_shape(&self, copies: i64) -> [i64; 4] {
        let input = self.network.input();
        [-1, copies * input.channels as i64, input.height as i64, input.width as i64]
    }
}

/// For every map the last step that reads it; nobody reads the output's.
fn last_readers(network: &Network) -> Vec<usize> {
    let mut last = vec![usize::MAX; network.steps().len() + 1];
    for (index, step) in network.steps().iter().enumerate() {
        step.inputs.iter().for_each(|&map| last[map] = index);
    }
    last
}

/// Numbers that are held at once while one input of one member is evaluated, at most.
pub(super) fn live_numbers(network: &Network) -> usize {
    let last = last_readers(network);
    let (mut live, mut most) = (network.input().len(), 0);
    for (index, step) in network.steps().iter().enumerate() {
        live += step.output.len();
        most = most.max(live);
        let mut read = step.inputs.clone();
        read.dedup();
        let gone = read.into_iter().filter(|&map| last[map] == index);
        live -= gone.map(|map| network.map(map).len()).sum::<usize>();
    }
    most
}
