//! A block of members on libtorch: drawn on the CPU, differentiated on the device.

use super::difference::central_difference_told;
use super::{Population, PopulationError, autograd, memory};
use nadgrid_core::architecture::Network;
use nadgrid_core::numerics::Precision;
use nadgrid_kernels::KernelError;
use std::ops::Range;
use tch::Device;

/// How gradients are estimated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Derivative {
    /// By central differences of this step.
    Difference {
        /// The step h.
        step: f32,
    },
    /// By backward differentiation.
    Autograd,
}

/// Whose gradients, and how.
#[derive(Clone, Copy)]
pub struct Sampling<'a> {
    /// The architecture's network.
    pub network: &'a Network,
    /// Where.
    pub device: Device,
    /// How products are computed.
    pub precision: Precision,
    /// The sweep's seed.
    pub seed: u64,
    /// The architecture's name.
    pub architecture: &'a str,
    /// How gradients are estimated.
    pub derivative: Derivative,
    /// Bytes that the population may take, see [`memory::budget`].
    pub budget: u64,
}

/// The gradients `[members, D]` at `point`; `advance` is told which part of them is computed, from 0 to 1. The members are those of
/// the patch kernels: weights are drawn on the CPU for every device.
///
/// # Errors
/// [`PopulationError`] when one member does not fit the budget, libtorch fails or a gradient overflows.
pub fn block_gradients(
    sampling: &Sampling<'_>,
    members: Range<u64>,
    point: &[f32],
    advance: &dyn Fn(f64),
) -> Result<Vec<f32>, PopulationError> {
    let count = (members.end - members.start) as usize;
    let each = memory::bytes_in_evaluation(sampling.network, 2);
    let width = memory::narrowed("differentiating networks", count, each, sampling.budget)?;
    let watch = memory::OomWatch::new(sampling.device)?;
    let mut gradients = Vec::with_capacity(count * point.len());
    for first in members.clone().step_by(width) {
        let own = first..members.end.min(first + width as u64);
        let (before, share) = ((first - members.start) as f64, (own.end - own.start) as f64);
        let advance = |part: f64| advance((before + part * share) / count as f64);
        let population = drawn(sampling, own)?;
        gradients.extend(match sampling.derivative {
            Derivative::Difference { step } => central_difference_told(&population, point, step, &advance)?,
            Derivative::Autograd => autograd(&population, point)?,
        });
    }
    watch.check("differentiating networks")?;
    match gradients.iter().position(|g| !g.is_finite()) {
        Some(place) => {
            let (member, pixel) = (members.start + (place / point.len()) as u64, place % point.len());
            Err(KernelError::NotFinite { member, pixel }.into())
        }
        None => Ok(gradients),
    }
}

fn drawn(sampling: &Sampling<'_>, members: Range<u64>) -> Result<Population, PopulationError> {
    let network = sampling.network;
    let each = network.parameter_count();
    let mut parameters = vec![0.0; each * (members.end - members.start) as usize];
    for (member, own) in members.zip(parameters.chunks_exact_mut(each)) {
        network.initialise(sampling.seed, sampling.architecture, member, own);
    }
    Population::new(network, &parameters, sampling.device, sampling.precision)
}
