//! How many members fit: estimates from shapes alone, and a budget that only the kind of device decides.
//!
//! So a population's width, and with it the bits of its results, does not depend on what else runs. Deliberately absent: asking
//! for free memory.

use super::PopulationError;
use super::graph::live_numbers;
use nadgrid_core::architecture::Network;
use nadgrid_core::text;
use std::sync::{Mutex, PoisonError};
use tch::Device;

/// Bytes that a lane's population may take on a CPU.
pub const CPU_BUDGET: u64 = 2 << 30;
/// Bytes that a population may take on a GPU; the smallest in use for training have 32 GiB or more.
pub const CUDA_BUDGET: u64 = 24 << 30;

/// Of a number; estimates are for float32.
const NUMBER: u64 = 4;
/// Copies of the parameters while a member is trained: weights, their gradient in pieces and whole, momentum, what is added,
/// what the layers read, and two that come and go.
const PARAMETERS_IN_TRAINING: u64 = 8;
/// Copies of the parameters while a member is evaluated: flat, and as the layers read them.
const PARAMETERS_IN_EVALUATION: u64 = 2;

/// Bytes that a population may take on this kind of device.
pub fn budget(device: Device) -> u64 {
    if device.is_cuda() { CUDA_BUDGET } else { CPU_BUDGET }
}

/// Bytes that the training of one member takes, about: parameters, every layer's output for backward with as much again for
/// gradients on their way and what libtorch reorders, and its samples.
pub fn bytes_per_member(network: &Network, batch: usize, samples: usize) -> u64 {
    let activations = batch as u64 * numbers_per_gradient(network);
    let data = samples as u64 * (network.input().len() as u64 + 2);
    NUMBER * (PARAMETERS_IN_TRAINING * network.parameter_count() as u64 + activations + data)
}

/// Bytes that so many samples of one run take, and their labels.
pub fn bytes_of_samples(network: &Network, samples: usize) -> u64 {
    samples as u64 * (NUMBER * network.input().len() as u64 + 8)
}

/// Bytes that one member takes beside `inputs` inputs while it is differentiated by evaluation.
pub(super) fn bytes_in_evaluation(network: &Network, inputs: usize) -> u64 {
    let parameters = PARAMETERS_IN_EVALUATION * network.parameter_count() as u64;
    NUMBER * (parameters + inputs as u64 * numbers_per_input(network))
}

/// Numbers that evaluating one more input of one member takes: maps, and as much again for what libtorch reorders.
pub(super) fn numbers_per_input(network: &Network) -> u64 {
    2 * live_numbers(network) as u64
}

/// Numbers that a gradient at one more input of one member takes: every map and its gradient.
pub(super) fn numbers_per_gradient(network: &Network) -> u64 {
    let kept: usize = network.steps().iter().map(|step| step.output.len()).sum();
    2 * (network.input().len() + kept) as u64
}

/// The width of a population that is to have `members`: all, or else the largest power of two that fits the budget.
///
/// # Errors
/// [`PopulationError::Memory`] when not even one member fits.
pub fn narrowed(
    task: &'static str,
    members: usize,
    bytes_per_member: u64,
    budget: u64,
) -> Result<usize, PopulationError> {
    let fit = budget / bytes_per_member.max(1);
    if fit >= members as u64 {
        return Ok(members);
    }
    let Some(exponent) = fit.checked_ilog2() else {
        return Err(PopulationError::Memory { task, needed: bytes_per_member, budget });
    };
    let to = 1usize << exponent;
    warn_once(task, members, to, bytes_per_member, budget);
    Ok(to)
}

/// Every block of a sweep is narrowed alike: it is said again only after something else has been said.
fn warn_once(task: &'static str, from: usize, to: usize, each: u64, budget: u64) {
    static LAST: Mutex<Option<(&str, usize, u64)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if last.replace((task, from, each)) != Some((task, from, each)) {
        let (each, budget) = (text::bytes(each), text::bytes(budget));
        tracing::warn!(from, to, "{task}: a population is narrowed, a member needs {each} of {budget}");
    }
}
