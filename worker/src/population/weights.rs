//! The inputs of layers beside the maps that they read: weights and running statistics, in the layout in which they
//! read them.

use super::PopulationError;
use super::policy::Policy;
use super::tensor::numbers;
use nadgrid_core::architecture::{Conv2d, Layer, Network, Step};
use tch::{TchError, Tensor};

/// A layer's weights, in the shapes and of the kind in which it reads them.
pub(super) struct LayerWeights {
    /// `[K·out, in, k, k]` for a convolution, `[K, in, out]` for a linear layer, `[K·C]` for a batch norm.
    pub(super) weight: Tensor,
    /// `[K·out]`, or `[K, 1, out]` for a linear layer.
    pub(super) bias: Option<Tensor>,
}

/// The weights of all layers.
pub(super) struct NetworkWeights(Vec<Option<LayerWeights>>);

impl NetworkWeights {
    /// Cuts the members' flat parameters `[K, parameters]`. One cut for all, so that backward puts the gradient together at once.
    pub(super) fn cut(network: &Network, parameters: &Tensor, policy: &Policy) -> Result<Self, TchError> {
        let lengths: Vec<i64> = network.parameters().iter().map(|p| p.range.len() as i64).collect();
        let pieces = parameters.f_split_with_sizes(lengths, 1)?;
        let members = parameters.size().first().copied().unwrap_or(0);
        let load = |step: &Step| {
            let Some(weight) = step.weight else { return Ok(None) };
            let bias = network.bias(step).map(|_| &pieces[weight + 1]);
            LayerWeights::new(step, members, &pieces[weight], bias, policy).map(Some)
        };
        network.steps().iter().map(load).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn of(&self, step: usize) -> Option<&LayerWeights> {
        self.0[step].as_ref()
    }
}

impl LayerWeights {
    fn new(
        step: &Step,
        members: i64,
        weight: &Tensor,
        bias: Option<&Tensor>,
        policy: &Policy,
    ) -> Result<Self, TchError> {
        let inputs = step.input;
        let (weight, bias) = match &step.layer {
            Layer::Conv2d(Conv2d { kernel, .. }) => {
                let weight = weight.f_reshape([-1, inputs.channels as i64, *kernel as i64, *kernel as i64])?;
                (policy.narrow(&weight)?, bias.map(|b| policy.narrow(&b.f_reshape([-1])?)).transpose()?)
            }
            Layer::Linear { .. } => {
                let weight = weight.f_reshape([members, -1, inputs.len() as i64])?.f_transpose(1, 2)?;
                (policy.narrow(&weight)?, bias.map(|b| policy.narrow(&b.f_unsqueeze(1)?)).transpose()?)
            }
            _ => (weight.f_reshape([-1])?, bias.map(|b| b.f_reshape([-1])).transpose()?),
        };
        Ok(Self { weight, bias })
    }
}

/// Running mean and variance of every batch norm, each `[K·C]`.
pub(super) struct RunningStatistics(Vec<Option<(Tensor, Tensor)>>);

impl RunningStatistics {
    /// Makes means of 0 and variances of 1, beside these parameters.
    pub(super) fn new(network: &Network, parameters: &Tensor) -> Result<Self, TchError> {
        let members = parameters.size().first().copied().unwrap_or(0);
        let options = (parameters.f_kind()?, parameters.device());
        let of_step = |step: &Step| {
            let Some(channels) = step.statistics.as_ref().map(|range| range.len() as i64) else { return Ok(None) };
            let shape = [members * channels];
            Ok(Some((Tensor::f_zeros(shape, options)?, Tensor::f_ones(shape, options)?)))
        };
        network.steps().iter().map(of_step).collect::<Result<_, _>>().map(Self)
    }

    /// Makes the statistics of members from `means` and `variances`, `[K, S]` each, beside their parameters.
    pub(super) fn of_members(
        network: &Network,
        parameters: &Tensor,
        means: &[f32],
        variances: &[f32],
    ) -> Result<Self, TchError> {
        let statistics = Self::new(network, parameters)?;
        let all = network.statistics_count();
        for (step, both) in network.steps().iter().zip(&statistics.0) {
            let (Some(range), Some((mean, variance))) = (&step.statistics, both) else { continue };
            for (to, from) in [(mean, means), (variance, variances)] {
                let own: Vec<f32> = from.chunks_exact(all).flat_map(|member| &member[range.clone()]).copied().collect();
                to.shallow_clone().f_copy_(&Tensor::f_from_slice(&own)?)?;
            }
        }
        Ok(statistics)
    }

    /// Returns the running means and variances of all members, `[K, S]` each.
    pub(super) fn members(&self, network: &Network, members: usize) -> Result<(Vec<f32>, Vec<f32>), PopulationError> {
        let all = network.statistics_count();
        let mut means = vec![0.0; members * all];
        let mut variances = vec![0.0; members * all];
        for (step, both) in network.steps().iter().zip(&self.0) {
            let (Some(range), Some((mean, variance))) = (&step.statistics, both) else { continue };
            for (from, to) in [(mean, &mut means), (variance, &mut variances)] {
                let own = numbers::<f32>(from)?;
                for (own, to) in own.chunks_exact(range.len()).zip(to.chunks_exact_mut(all)) {
                    to[range.clone()].copy_from_slice(own);
                }
            }
        }
        Ok((means, variances))
    }

    /// Returns the statistics of one of `members`.
    pub(super) fn of_member(&self, member: i64, members: i64) -> Result<Self, TchError> {
        let own = |all: &Tensor| {
            let channels = all.size().first().copied().unwrap_or(0) / members;
            all.f_narrow(0, member * channels, channels)
        };
        let of_step = |both: &Option<(Tensor, Tensor)>| {
            both.as_ref().map(|(mean, variance)| Ok((own(mean)?, own(variance)?))).transpose()
        };
        self.0.iter().map(of_step).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn of(&self, step: usize) -> Option<&(Tensor, Tensor)> {
        self.0[step].as_ref()
    }
}
