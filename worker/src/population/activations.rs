//! The values between layers, and the place of the member axis in them.

use nadgrid_core::architecture::Shape;
use tch::{TchError, Tensor};

/// The maps or vectors between two layers.
pub(super) enum Activations {
    /// `[B, C, H, W]`: the same for all members, before the first layer that has weights.
    Shared(Tensor),
    /// `[B, K·C, H, W]`: a member's channels lie side by side.
    Maps(Tensor),
    /// `[K, B, features]`.
    Features(Tensor),
}

impl Activations {
    /// Returns another handle to the same numbers.
    pub(super) fn share(&self) -> Self {
        match self {
            Self::Shared(t) => Self::Shared(t.shallow_clone()),
            Self::Maps(t) => Self::Maps(t.shallow_clone()),
            Self::Features(t) => Self::Features(t.shallow_clone()),
        }
    }

    /// Reshapes to vectors `[K, B, features]`; a member's channels, rows and columns in PyTorch's order.
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

    /// Reshapes to maps `[B, K·C, H, W]`, of this shape for a member.
    pub(super) fn maps(self, members: i64, shape: Shape) -> Result<Tensor, TchError> {
        let [channels, height, width] = [shape.channels, shape.height, shape.width].map(|n| n as i64);
        match self {
            Self::Maps(t) => Ok(t),
            Self::Shared(t) => t.f_repeat([1, members, 1, 1]),
            Self::Features(t) => t.f_transpose(0, 1)?.f_reshape([-1, members * channels, height, width]),
        }
    }

    /// Applies an action on every number or window, which keeps the form.
    pub(super) fn map(self, action: impl FnOnce(Tensor) -> Result<Tensor, TchError>) -> Result<Self, TchError> {
        Ok(match self {
            Self::Shared(t) => Self::Shared(action(t)?),
            Self::Maps(t) => Self::Maps(action(t)?),
            Self::Features(t) => Self::Features(action(t)?),
        })
    }
}
