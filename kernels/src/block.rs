//! A block of members: draw, differentiate, reduce.

use crate::{CentralDifference, KernelError, moments};
use nadgrid_core::moments::Moments;
use std::ops::Range;

/// The moments of the gradients of `members` at `point`, a function of the arguments alone.
///
/// # Errors
/// [`KernelError::NotFinite`] with the first member and pixel whose gradient overflows.
///
/// # Panics
/// When `members` is empty or `point` is not of the input's length.
pub fn block_moments(
    plan: &mut CentralDifference,
    seed: u64,
    architecture: &str,
    members: Range<u64>,
    point: &[f32],
    step: f32,
) -> Result<Moments, KernelError> {
    let dimension = plan.network().input().len();
    let mut parameters = vec![0.0; plan.network().parameter_count()];
    let mut gradients = vec![0.0; dimension * (members.end - members.start) as usize];
    for (member, gradient) in members.zip(gradients.chunks_exact_mut(dimension)) {
        plan.network().initialise(seed, architecture, member, &mut parameters);
        plan.gradient(&parameters, point, step, gradient).map_err(|fault| fault.of_member(member))?;
    }
    Ok(moments(&gradients, dimension))
}
