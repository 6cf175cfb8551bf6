//! A block of members on libtorch: draw on the CPU, differentiate on the device, reduce on the CPU.

use super::{Population, PopulationError, central_difference};
use nadgrid_core::architecture::Network;
use nadgrid_core::moments::Moments;
use nadgrid_kernels::{KernelError, moments};
use std::ops::Range;
use tch::Device;

/// The moments of the gradients of `members` at `point`. The members are those of the patch kernels: weights are drawn
/// on the CPU for every device.
///
/// # Errors
/// [`PopulationError`] when libtorch fails or a gradient overflows.
pub fn block_moments(
    network: &Network,
    device: Device,
    seed: u64,
    architecture: &str,
    members: Range<u64>,
    point: &[f32],
    step: f32,
) -> Result<Moments, PopulationError> {
    let each = network.parameter_count();
    let mut parameters = vec![0.0; each * (members.end - members.start) as usize];
    for (member, own) in members.clone().zip(parameters.chunks_exact_mut(each)) {
        network.initialise(seed, architecture, member, own);
    }
    let population = Population::new(network, &parameters, device)?;
    let gradients = central_difference(&population, point, step)?;
    let dimension = point.len();
    if let Some(place) = gradients.iter().position(|g| !g.is_finite()) {
        let (member, pixel) = (members.start + (place / dimension) as u64, place % dimension);
        return Err(KernelError::NotFinite { member, pixel }.into());
    }
    Ok(moments(&gradients, dimension))
}
