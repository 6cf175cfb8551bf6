//! A block of members: draw, differentiate at every point, reduce.

use crate::{KernelError, NotFinite, moments};
use nadgrid_core::architecture::Network;
use nadgrid_core::moments::Moments;
use std::ops::Range;

/// The moments of the gradients of `members`, of each member at each point in turn. `draw` fills in a member's parameters,
/// `gradient` estimates its gradient at a point: a [`CentralDifference`](crate::CentralDifference) or a [`Trainer`](crate::Trainer).
///
/// # Errors
/// [`KernelError::NotFinite`] with the first member and pixel whose gradient overflows.
///
/// # Panics
/// When `members` or `points` is empty or a point is not of the input's length.
pub fn block_moments(
    network: &Network,
    members: Range<u64>,
    points: &[Vec<f32>],
    draw: impl Fn(u64, &mut [f32]),
    mut gradient: impl FnMut(&[f32], &[f32], &mut [f32]) -> Result<(), NotFinite>,
) -> Result<Moments, KernelError> {
    let dimension = network.input().len();
    let mut parameters = vec![0.0; network.parameter_count()];
    let mut gradients = vec![0.0; dimension * points.len() * (members.end - members.start) as usize];
    for (member, rows) in members.zip(gradients.chunks_exact_mut(dimension * points.len())) {
        draw(member, &mut parameters);
        for (point, row) in points.iter().zip(rows.chunks_exact_mut(dimension)) {
            gradient(&parameters, point, row).map_err(|fault| fault.of_member(member))?;
        }
    }
    Ok(moments(&gradients, dimension))
}
