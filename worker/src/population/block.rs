//! A block of members on libtorch: drawn on the CPU, differentiated on the device.

use super::difference::{central_difference_told, numbers};
use super::{FusedNetwork, Population, PopulationError, at, autograd, memory};
use nadgrid_core::architecture::Network;
use nadgrid_core::numerics::Precision;
use nadgrid_kernels::KernelError;
use std::ops::Range;
use tch::{Device, Tensor};

/// How gradients are estimated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Derivative {
    /// By central differences of this step.
    Difference {
        /// The step h.
        step: f32,
    },
    /// The same by the fused evaluation, of one network after the other.
    Fused {
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
    let gradients = match sampling.derivative {
        Derivative::Fused { step } => fused(sampling, members.clone(), point, step, advance)?,
        _ => together(sampling, members.clone(), point, advance)?,
    };
    match gradients.iter().position(|g| !g.is_finite()) {
        Some(place) => {
            let (member, pixel) = (members.start + (place / point.len()) as u64, place % point.len());
            Err(KernelError::NotFinite { member, pixel }.into())
        }
        None => Ok(gradients),
    }
}

/// One network after the other.
fn fused(
    sampling: &Sampling<'_>,
    members: Range<u64>,
    point: &[f32],
    step: f32,
    advance: &dyn Fn(f64),
) -> Result<Vec<f32>, PopulationError> {
    let Sampling { network, device, precision, seed, architecture, .. } = *sampling;
    let count = (members.end - members.start) as f64;
    let mut fused = FusedNetwork::new(network, precision, device)?;
    let moved = |values: &[f32]| Tensor::f_from_slice(values).and_then(|t| t.f_to(device));
    let points = moved(point).and_then(|t| t.f_unsqueeze(0)).map_err(at("moving the point to the device"))?;
    let mut parameters = vec![0.0; network.parameter_count()];
    let mut gradients = Vec::with_capacity(count as usize * point.len());
    for (done, member) in members.enumerate() {
        network.initialise(seed, architecture, member, &mut parameters);
        let parameters = moved(&parameters).map_err(at("moving parameters to the device"))?;
        let advance = |part: f64| advance((done as f64 + part) / count);
        gradients.extend(numbers::<f32>(&fused.gradients(&parameters, &points, f64::from(step), &advance)?)?);
    }
    Ok(gradients)
}

/// As populations, as wide as fits.
fn together(
    sampling: &Sampling<'_>,
    members: Range<u64>,
    point: &[f32],
    advance: &dyn Fn(f64),
) -> Result<Vec<f32>, PopulationError> {
    let count = (members.end - members.start) as usize;
    let each = memory::bytes_in_evaluation(sampling.network, 2);
    let width = memory::narrowed("differentiating networks", count, each, sampling.budget)?;
    let mut gradients = Vec::with_capacity(count * point.len());
    for first in members.clone().step_by(width) {
        let own = first..members.end.min(first + width as u64);
        let (before, share) = ((first - members.start) as f64, (own.end - own.start) as f64);
        let advance = |part: f64| advance((before + part * share) / count as f64);
        let population = drawn(sampling, own)?;
        gradients.extend(match sampling.derivative {
            Derivative::Difference { step } | Derivative::Fused { step } => {
                central_difference_told(&population, point, step, &advance)?
            }
            Derivative::Autograd => autograd(&population, point)?,
        });
    }
    Ok(gradients)
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
