//! A block of members on libtorch: differentiated at every point as they are drawn.

use super::difference::central_difference;
use super::draw::{Members, ParameterDrawing};
use super::graph::PopulationGraph;
use super::policy::Policy;
use super::tensor::numbers;
use super::weights::RunningStatistics;
use super::{FusedNetwork, Population, PopulationError, at, autograd, memory};
use nadgrid_core::architecture::Network;
use nadgrid_core::numerics::Precision;
use nadgrid_kernels::KernelError;
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// The estimator of gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Derivative {
    /// Central differences of this step.
    Difference {
        /// The step h.
        step: f32,
    },
    /// Central differences by the fused evaluation, of one network after the other.
    Fused {
        /// The step h.
        step: f32,
    },
    /// Backpropagation through the network, by libtorch's autograd.
    Autograd,
}

/// The networks whose gradients are computed, and how that is done.
#[derive(Clone, Copy)]
pub(crate) struct Sampling<'a> {
    /// The architecture's network.
    pub(crate) network: &'a Network,
    /// The device to compute on.
    pub(crate) device: Device,
    /// The precision of products.
    pub(crate) precision: Precision,
    /// The sweep's seed.
    pub(crate) seed: u64,
    /// The architecture's name.
    pub(crate) architecture: &'a str,
    /// The estimator of gradients.
    pub(crate) derivative: Derivative,
    /// Bytes that the population may take, see [`memory::budget`].
    pub(crate) budget: u64,
}

impl Sampling<'_> {
    /// Begins to draw these members, also those of several blocks: weights are the same on every device.
    ///
    /// # Errors
    /// [`PopulationError`] when no thread can be started.
    pub(crate) fn members(&self, members: Range<u64>) -> Result<Members, PopulationError> {
        Members::new(ParameterDrawing::at_random(self.network, self.seed, self.architecture), members, self.device)
    }
}

/// Returns the gradients `[count, points, D]` of the next `count` members at each of the points. `goes_on` is called with the part
/// of them that is computed, from 0 to 1; the result is `None` when it returns false. Each member is drawn once.
///
/// # Errors
/// [`PopulationError`] when one member does not fit the budget, libtorch fails or a gradient overflows.
pub(crate) fn block_gradients(
    sampling: &Sampling<'_>,
    members: &mut Members,
    count: usize,
    points: &[Vec<f32>],
    goes_on: &dyn Fn(f64) -> bool,
) -> Result<Option<Vec<f32>>, PopulationError> {
    let dimension = sampling.network.input().len();
    let start = members.left().start;
    let watch = memory::OomWatch::new(sampling.device)?;
    let gradients = match sampling.derivative {
        Derivative::Fused { step } => fused(sampling, members, count, points, step, goes_on)?,
        _ => together(sampling, members, count, points, goes_on)?,
    };
    let Some(gradients) = gradients else { return Ok(None) };
    watch.check("differentiating networks")?;
    match gradients.iter().position(|g| !g.is_finite()) {
        Some(index) => {
            let member = start + (index / (points.len() * dimension)) as u64;
            let pixel = index % dimension;
            Err(KernelError::NotFinite { member, pixel }.into())
        }
        None => Ok(Some(gradients)),
    }
}

/// Differentiates one network after the other. Nothing is read back before all are launched, so that a GPU never waits for its
/// host.
fn fused(
    sampling: &Sampling<'_>,
    members: &mut Members,
    count: usize,
    points: &[Vec<f32>],
    step: f32,
    goes_on: &dyn Fn(f64) -> bool,
) -> Result<Option<Vec<f32>>, PopulationError> {
    let Sampling { network, device, precision, .. } = *sampling;
    let mut evaluation = FusedNetwork::new(network, precision, device)?;
    let points = Tensor::f_from_slice(&points.concat())
        .and_then(|t| t.f_to(device))
        .and_then(|t| t.f_view([points.len() as i64, -1]))
        .map_err(at("moving points to the device"))?;
    let mut gradients = Vec::with_capacity(count);
    for done in 0..count {
        if !goes_on(done as f64 / count as f64) {
            return Ok(None);
        }
        let parameters = members.take(1)?.f_select(0, 0).map_err(at("cutting parameters"))?;
        let advance = |part: f64| {
            goes_on((done as f64 + part) / count as f64);
        };
        gradients.push(evaluation.gradients(&parameters, &points, f64::from(step), &advance)?);
    }
    let gradients = Tensor::f_stack(&gradients, 0).map_err(at("joining gradients"))?;
    numbers(&gradients).map(Some)
}

/// Differentiates populations that are as wide as fits.
fn together(
    sampling: &Sampling<'_>,
    members: &mut Members,
    count: usize,
    points: &[Vec<f32>],
    goes_on: &dyn Fn(f64) -> bool,
) -> Result<Option<Vec<f32>>, PopulationError> {
    let dimension = sampling.network.input().len();
    let each = memory::bytes_in_evaluation(sampling.network, 2);
    let width = memory::narrowed("differentiating networks", count, each, sampling.budget)?;
    let policy = Policy::new(sampling.precision, Kind::Float, sampling.device)?;
    let mut gradients = vec![0.0; count * points.len() * dimension];
    for first in (0..count).step_by(width) {
        let of_population = width.min(count - first);
        let parameters = members.take(of_population)?;
        let statistics =
            RunningStatistics::new(sampling.network, &parameters).map_err(at("making running statistics"))?;
        let graph = PopulationGraph::new(sampling.network, of_population, policy);
        let population = Population::assemble(graph, &parameters, statistics)?;
        for (index, point) in points.iter().enumerate() {
            let before = (first * points.len() + index * of_population) as f64;
            let part = |part: f64| (before + part * of_population as f64) / (count * points.len()) as f64;
            if !goes_on(part(0.0)) {
                return Ok(None);
            }
            let advance = |of_point: f64| {
                goes_on(part(of_point));
            };
            let found = match sampling.derivative {
                Derivative::Difference { step } | Derivative::Fused { step } => {
                    central_difference(&population, point, step, &advance)?
                }
                Derivative::Autograd => autograd(&population, point)?,
            };
            let rows = gradients.chunks_exact_mut(dimension).skip(first * points.len() + index).step_by(points.len());
            rows.zip(found.chunks_exact(dimension)).for_each(|(row, gradient)| row.copy_from_slice(gradient));
        }
    }
    Ok(Some(gradients))
}
