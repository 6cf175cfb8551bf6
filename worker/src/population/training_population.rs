//! K members between two steps of their training: graph, parameters and running statistics.
//!
//! Deliberately absent: the optimiser, which is `sgd`'s, and what is made of the members, which is `train`'s and `trained`'s.

use super::draw::{Members, ParameterDrawing};
use super::graph::PopulationGraph;
use super::policy::Policy;
use super::weights::RunningStatistics;
use super::{PopulationError, at};
use nadgrid_core::architecture::Network;
use nadgrid_core::checkpoint::TrainingState;
use nadgrid_core::training::RunKey;
use tch::{Device, Reduction, TchError, Tensor};

/// A population of K members in training.
pub(super) struct TrainingPopulation {
    pub(super) graph: PopulationGraph,
    /// The members' parameters, `[K, P]`.
    pub(super) parameters: Tensor,
    pub(super) statistics: RunningStatistics,
}

impl TrainingPopulation {
    /// Draws the weights of these runs.
    pub(super) fn drawn(
        network: &Network,
        keys: &[RunKey],
        policy: Policy,
        device: Device,
    ) -> Result<Self, PopulationError> {
        let of_runs = keys.to_vec();
        let drawing = ParameterDrawing::new(network, move |run| of_runs[run as usize].stream("weights"));
        let parameters = Members::new(drawing, 0..keys.len() as u64, device)?.take(keys.len())?;
        // The optimiser goes through all of them in one row.
        let parameters = parameters.f_contiguous().and_then(|t| t.f_to_kind(policy.kind));
        Self::new(network, parameters.map_err(at("drawing parameters"))?, policy)
    }

    /// Restores the members from a state.
    pub(super) fn loaded(
        network: &Network,
        state: &TrainingState<'_>,
        members: usize,
        policy: Policy,
        device: Device,
    ) -> Result<Self, PopulationError> {
        let parameters = flat(&state.parameters, members, policy, device)?;
        let statistics = RunningStatistics::of_members(network, &parameters, &state.means, &state.variances)
            .map_err(at("restoring running statistics"))?;
        Ok(Self { graph: PopulationGraph::new(network, members, policy), parameters, statistics })
    }

    /// Makes members with these weights `[K, P]`.
    pub(super) fn new(network: &Network, parameters: Tensor, policy: Policy) -> Result<Self, PopulationError> {
        let statistics = RunningStatistics::new(network, &parameters).map_err(at("making running statistics"))?;
        let members = parameters.size().first().copied().unwrap_or(0) as usize;
        Ok(Self { graph: PopulationGraph::new(network, members, policy), parameters, statistics })
    }
}

/// Moves the numbers of `members` members to the device, `[K, P]`.
fn flat(numbers: &[f32], members: usize, policy: Policy, device: Device) -> Result<Tensor, PopulationError> {
    let shape = [members as i64, (numbers.len() / members.max(1)) as i64];
    let moved = Tensor::f_from_slice(numbers).and_then(|t| t.f_view(shape)?.f_to(device)?.f_to_kind(policy.kind));
    moved.map_err(at("moving parameters to the device"))
}

/// Returns the cross-entropy `[K, B]` of every sample, for logits `[K, B, classes]` and labels `[K, B]`.
pub(super) fn losses(logits: &Tensor, labels: &Tensor) -> Result<Tensor, TchError> {
    let classes = logits.size().last().copied().unwrap_or(0);
    let flat = logits.f_reshape([-1, classes])?;
    // −100 is PyTorch's number for labels that do not count; labels are checked when samples are made.
    let each = flat.f_cross_entropy_loss(&labels.f_reshape([-1])?, None::<Tensor>, Reduction::None, -100, 0.0)?;
    each.f_view_as(labels)
}
