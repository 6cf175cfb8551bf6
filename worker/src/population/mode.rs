//! Evaluation and training: batch norms and dropout compute differently in each.

use super::dropout::Dropout;

/// The mode in which layers are computed.
pub(super) enum LayerMode<'a> {
    /// Batch norms use their running statistics; dropout is the identity.
    Evaluation,
    /// Batch norms use the batch's statistics and update the running ones; dropout drops.
    Training(&'a mut Dropout),
}
