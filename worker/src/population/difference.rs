//! The central difference by plain evaluation: 2·D whole forward passes for every member.

use super::activations::Activations;
use super::tensor::numbers;
use super::{Population, PopulationError, at, memory};
use tch::kind::Element;
use tch::{Device, TchError, Tensor};

/// Bytes that a run of pixels may take on a CPU, where every slot has its own.
const CPU_BUDGET: u64 = 128 << 20;
/// Bytes that it may take on a GPU.
const CUDA_BUDGET: u64 = 1 << 30;

/// Returns the gradients `[K, D]`, g_i = −[f(x+h·e_i) − f(x−h·e_i)]/(2h) of every member's output 0 at `point`, D numbers. It calls
/// `advance` with the part of them that is computed, from 0 to 1.
///
/// # Errors
/// [`PopulationError`] when the point is not of the input's length, or libtorch fails.
pub(super) fn central_difference<T>(
    population: &Population,
    point: &[T],
    step: T,
    advance: &dyn Fn(f64),
) -> Result<Vec<T>, PopulationError>
where
    T: Element + Copy + Default,
{
    let pixels: Vec<usize> = (0..population.dimension()).collect();
    difference_at(population, point, step, &pixels, advance)
}

/// Computes the gradients at some pixels only: `[K, pixels]`.
///
/// Pixels go in runs whose length follows from the shapes alone, so that the bits do not depend on the memory that
/// happens to be free.
///
/// # Errors
/// [`PopulationError`] when the point is not of the input's length, there is no such pixel, or libtorch fails.
pub(crate) fn central_difference_at<T>(
    population: &Population,
    point: &[T],
    step: T,
    pixels: &[usize],
) -> Result<Vec<T>, PopulationError>
where
    T: Element + Copy + Default,
{
    difference_at(population, point, step, pixels, &|_| {})
}

fn difference_at<T>(
    population: &Population,
    point: &[T],
    step: T,
    pixels: &[usize],
    advance: &dyn Fn(f64),
) -> Result<Vec<T>, PopulationError>
where
    T: Element + Copy + Default,
{
    let dimension = population.dimension();
    if point.len() != dimension {
        return Err(PopulationError::Length { what: "point", expected: dimension, actual: point.len() });
    }
    if let Some(&pixel) = pixels.iter().find(|&&pixel| pixel >= dimension) {
        return Err(PopulationError::Pixel { pixel, dimension });
    }
    let _no_grad = tch::no_grad_guard();
    let _held = population.graph.policy.hold()?;
    let base = Base::new(point, step, population.device).map_err(at("moving the point to the device"))?;
    let mut gradients = vec![T::default(); population.members() * pixels.len()];
    let run = population.inputs_at_once(2 * memory::numbers_per_input(&population.graph.network));
    for (index, pixels_of_run) in pixels.chunks(run).enumerate() {
        let part = numbers::<T>(&population.differences(&base, pixels_of_run)?)?;
        let rows = gradients.chunks_exact_mut(pixels.len());
        for (row, values) in rows.zip(part.chunks_exact(pixels_of_run.len())) {
            row[index * run..][..values.len()].copy_from_slice(values);
        }
        advance((index * run + pixels_of_run.len()) as f64 / pixels.len() as f64);
    }
    Ok(gradients)
}

/// A point and a step on the device.
struct Base {
    /// The point, `[1, D]`.
    point: Tensor,
    /// The step, `[1]`.
    step: Tensor,
    /// The indices 0 … D − 1, `[1, D]`.
    places: Tensor,
}

impl Base {
    fn new<T: Element>(point: &[T], step: T, device: Device) -> Result<Self, TchError> {
        let places: Vec<i64> = (0..point.len() as i64).collect();
        Ok(Self {
            point: Tensor::f_from_slice(point)?.f_to(device)?.f_view([1, -1])?,
            step: Tensor::f_from_slice(&[step])?.f_to(device)?,
            places: Tensor::f_from_slice(&places)?.f_to(device)?.f_view([1, -1])?,
        })
    }

    /// Returns the inputs `[2·pixels, D]`: first all x + h·e_i, then all x − h·e_i.
    fn perturbed(&self, pixels: &[usize]) -> Result<Tensor, TchError> {
        let pixels: Vec<i64> = pixels.iter().map(|&pixel| pixel as i64).collect();
        let pixels = Tensor::f_from_slice(&pixels)?.f_to(self.point.device())?.f_view([-1, 1])?;
        let steps = pixels.f_eq_tensor(&self.places)?.f_to_kind(self.point.f_kind()?)?.f_mul(&self.step)?;
        Tensor::f_cat(&[self.point.f_add(&steps)?, self.point.f_sub(&steps)?], 0)
    }
}

impl Population {
    /// Returns how many inputs are evaluated together, where each takes this many numbers for every member.
    pub(super) fn inputs_at_once(&self, numbers: u64) -> usize {
        let budget = if self.device.is_cuda() { CUDA_BUDGET } else { CPU_BUDGET };
        let each = numbers * (self.members() * self.graph.policy.kind.elt_size_in_bytes()) as u64;
        (budget / each.max(1)).max(1) as usize
    }

    /// Returns the differences `[K, pixels]`.
    fn differences(&self, base: &Base, pixels: &[usize]) -> Result<Tensor, PopulationError> {
        let inputs = base.perturbed(pixels).and_then(|t| t.f_view(self.graph.batch_shape(1)));
        let outputs = self.evaluate(Activations::Shared(inputs.map_err(at("perturbing the point"))?))?;
        let count = pixels.len() as i64;
        let difference = || {
            let values = outputs.f_select(2, 0)?;
            let plus = values.f_narrow(1, 0, count)?;
            let minus = values.f_narrow(1, count, count)?;
            minus.f_sub(&plus)?.f_div(&base.step.f_add(&base.step)?)
        };
        difference().map_err(at("the differences"))
    }
}
