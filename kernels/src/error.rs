//! The errors of kernels: a network that they cannot evaluate, or numbers that overflow.

use thiserror::Error;

/// A failure of the kernels.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KernelError {
    /// The network has a layer where the kernels cannot have it.
    #[error("layer {layer} ({what}) is not supported there: {why}")]
    Unsupported {
        /// The index of the layer.
        layer: usize,
        /// The kind of layer.
        what: &'static str,
        /// The layers that are supported instead.
        why: &'static str,
    },
    /// A gradient that is not a finite number: the step or a weight is too large for f32.
    #[error("the gradient of member {member} at pixel {pixel} is not finite")]
    NotFinite {
        /// The member.
        member: u64,
        /// Index into the flattened input (channel, row, column).
        pixel: usize,
    },
}

/// A member's gradient is not finite at this pixel; whoever knows the member says so in a [`KernelError`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the gradient at pixel {pixel} is not finite")]
pub struct NotFinite {
    /// Index into the flattened input (channel, row, column).
    pub pixel: usize,
}

impl NotFinite {
    /// The same fault with the member it happened to.
    pub fn of_member(self, member: u64) -> KernelError {
        KernelError::NotFinite { member, pixel: self.pixel }
    }
}
