//! One layer for all members at once.

use super::PopulationError;
use nadgrid_core::architecture::{Conv2d, Layer, Network, Padding, Step};
use tch::{TchError, Tensor};

/// What flows between layers.
pub(super) enum Activations {
    /// `[B, C, H, W]`: the same for all members, before the first layer that has weights.
    Shared(Tensor),
    /// `[B, K·C, H, W]`: a member's channels lie side by side.
    Maps(Tensor),
    /// `[K, B, features]`.
    Features(Tensor),
}

impl Activations {
    /// As vectors `[K, B, features]`; a member's channels, rows and columns in PyTorch's order.
    pub(super) fn features(self, members: i64) -> Result<Tensor, TchError> {
        match self {
            Self::Features(t) => Ok(t),
            Self::Shared(t) => t.f_flatten(1, -1)?.f_unsqueeze(0)?.f_expand([members, -1, -1], false),
            Self::Maps(t) => {
                let batch = t.size().first().copied().unwrap_or(0);
                t.f_reshape([batch, members, -1])?.f_transpose(0, 1)
            }
        }
    }
}

/// A layer with its weights on the device.
pub(super) struct Loaded {
    index: usize,
    what: &'static str,
    action: Action,
}

enum Action {
    /// Weight `[K·out, in, k, k]`, bias `[K·out]`.
    Conv {
        weight: Tensor,
        bias: Tensor,
    },
    /// Weight `[K, in, out]`, bias `[K, 1, out]`.
    Linear {
        weight: Tensor,
        bias: Tensor,
    },
    Relu,
    MaxPool(i64),
    AvgPool(i64),
    Flatten,
    Unsupported,
}

impl Loaded {
    /// Cuts a layer's weights out of the members' parameters `[K, parameters]`.
    pub(super) fn new(
        index: usize,
        step: &Step,
        network: &Network,
        parameters: &Tensor,
    ) -> Result<Self, PopulationError> {
        let what = step.layer.kind();
        let action = Action::new(step, network, parameters).map_err(|source| PopulationError::Layer {
            layer: index,
            what,
            source,
        })?;
        Ok(Self { index, what, action })
    }

    pub(super) fn apply(&self, activations: Activations, members: i64) -> Result<Activations, PopulationError> {
        let lost = matches!(activations, Activations::Features(_)) && self.action.is_spatial();
        if lost || matches!(self.action, Action::Unsupported) {
            return Err(PopulationError::Unsupported { layer: self.index, what: self.what });
        }
        self.action.apply(activations, members).map_err(|source| PopulationError::Layer {
            layer: self.index,
            what: self.what,
            source,
        })
    }
}

impl Action {
    fn new(step: &Step, network: &Network, parameters: &Tensor) -> Result<Self, TchError> {
        let tensor = |offset: usize| {
            let parameter = &network.parameters()[step.weight.unwrap_or_default() + offset];
            parameters.f_narrow(1, parameter.range.start as i64, parameter.range.len() as i64)
        };
        let members = parameters.size()[0];
        let inputs = step.input;
        Ok(match step.layer {
            Layer::Conv2d(Conv2d { channels, kernel, stride: 1, padding: Padding::Zeros(0), bias: true, .. }) => {
                let shape = [members * channels as i64, inputs.channels as i64, kernel as i64, kernel as i64];
                Self::Conv { weight: tensor(0)?.f_reshape(shape)?, bias: tensor(1)?.f_reshape([shape[0]])? }
            }
            Layer::Linear { features, .. } => {
                let weight = tensor(0)?.f_reshape([members, features as i64, inputs.len() as i64])?;
                Self::Linear { weight: weight.f_transpose(1, 2)?, bias: tensor(1)?.f_unsqueeze(1)?.f_contiguous()? }
            }
            Layer::Relu => Self::Relu,
            Layer::MaxPool2d { size } => Self::MaxPool(size as i64),
            Layer::AvgPool2d { size } => Self::AvgPool(size as i64),
            Layer::Flatten => Self::Flatten,
            _ => Self::Unsupported,
        })
    }

    fn is_spatial(&self) -> bool {
        matches!(self, Self::Conv { .. } | Self::MaxPool(_) | Self::AvgPool(_))
    }

    fn apply(&self, activations: Activations, members: i64) -> Result<Activations, TchError> {
        use Activations::{Features, Maps, Shared};
        Ok(match (self, activations) {
            // Every member sees the same input: one plain convolution with all members' channels.
            (Self::Conv { weight, bias }, Shared(t)) => {
                Maps(t.f_conv2d(weight, Some(bias), [1, 1], [0, 0], [1, 1], 1)?)
            }
            (Self::Conv { weight, bias }, Maps(t) | Features(t)) => {
                Maps(t.f_conv2d(weight, Some(bias), [1, 1], [0, 0], [1, 1], members)?)
            }
            (Self::Linear { weight, bias }, before) => {
                let features = before.features(members)?;
                // Not `f_baddbmm`: see `population`'s header on scalars.
                let mut sum = bias.f_expand([-1, features.size()[1], -1], false)?.f_contiguous()?;
                Features(sum.f_baddbmm_(&features, weight)?)
            }
            (Self::Flatten, before) => Features(before.features(members)?),
            (Self::Unsupported, before) => before,
            (Self::Relu, before) => before.map(|t| t.f_relu())?,
            (Self::MaxPool(size), before) => {
                let window = [*size; 2];
                before.map(|t| t.f_max_pool2d(window, window, [0, 0], [1, 1], false))?
            }
            (Self::AvgPool(size), before) => {
                let window = [*size; 2];
                before.map(|t| t.f_avg_pool2d(window, window, [0, 0], false, true, None))?
            }
        })
    }
}

impl Activations {
    fn map(self, action: impl FnOnce(Tensor) -> Result<Tensor, TchError>) -> Result<Self, TchError> {
        Ok(match self {
            Self::Shared(t) => Self::Shared(action(t)?),
            Self::Maps(t) => Self::Maps(action(t)?),
            Self::Features(t) => Self::Features(action(t)?),
        })
    }
}
