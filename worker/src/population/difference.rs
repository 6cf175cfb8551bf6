//! The central difference by plain evaluation: 2·D whole forward passes for every member.

use super::{Population, PopulationError, at};
use tch::kind::Element;
use tch::{Device, Tensor};

/// Bytes that a run of pixels may take on a CPU, where every lane has its own.
const CPU_BUDGET: usize = 128 << 20;
/// Bytes that it may take on a GPU.
const CUDA_BUDGET: usize = 1 << 30;

/// The gradients `[K, D]`, g_i = −[f(x+h·e_i) − f(x−h·e_i)]/(2h) of every member's output 0 at `point`, D numbers.
///
/// Pixels go in runs whose length follows from the shapes alone, so that the bits do not depend on the memory that
/// happens to be free.
///
/// # Errors
/// [`PopulationError`] when the point is not of the input's length, or libtorch fails.
pub fn central_difference<T>(population: &Population, point: &[T], step: T) -> Result<Vec<T>, PopulationError>
where
    T: Element + Copy + Default,
{
    let dimension = population.input.len();
    if point.len() != dimension {
        return Err(PopulationError::Length { what: "point", expected: dimension, actual: point.len() });
    }
    let _no_grad = tch::no_grad_guard();
    let on_device = |numbers: &[T]| Tensor::f_from_slice(numbers).and_then(|t| t.f_to(population.device));
    let base = on_device(point)
        .and_then(|t| Ok(Base { point: t.f_view([1, -1])?, step: on_device(&[step])? }))
        .map_err(at("moving the point to the device"))?;
    let mut gradients = vec![T::default(); population.members() * dimension];
    let run = population.pixels_at_once();
    for first in (0..dimension).step_by(run) {
        let pixels = run.min(dimension - first);
        let part = population.differences(&base, first, pixels)?;
        for (row, values) in gradients.chunks_exact_mut(dimension).zip(numbers::<T>(&part)?.chunks_exact(pixels)) {
            row[first..first + pixels].copy_from_slice(values);
        }
    }
    Ok(gradients)
}

/// On the device.
struct Base {
    /// `[1, D]`.
    point: Tensor,
    /// `[1]`.
    step: Tensor,
}

impl Population {
    /// Pixels whose 2·pixels evaluations fit the budget: a layer's input and output, and as much again for what libtorch
    /// reorders.
    fn pixels_at_once(&self) -> usize {
        let budget = if matches!(self.device, Device::Cpu) { CPU_BUDGET } else { CUDA_BUDGET };
        let each = 2 * 2 * self.members() * self.widest.max(1) * self.kind.elt_size_in_bytes();
        (budget / each).max(1)
    }

    /// The differences `[K, pixels]` at `pixels` pixels from `first` on.
    fn differences(&self, base: &Base, first: usize, pixels: usize) -> Result<Tensor, PopulationError> {
        let pixels = pixels as i64;
        let inputs = self.perturbed(base, first as i64, pixels).map_err(at("perturbing the point"))?;
        let outputs = self.forward(&inputs)?;
        let difference = || {
            let values = outputs.f_select(2, 0)?;
            let (plus, minus) = (values.f_narrow(1, 0, pixels)?, values.f_narrow(1, pixels, pixels)?);
            minus.f_sub(&plus)?.f_div(&base.step.f_add(&base.step)?)
        };
        difference().map_err(at("the differences"))
    }

    /// The inputs `[2·pixels, channels, height, width]`: first all x + h·e_i, then all x − h·e_i.
    fn perturbed(&self, base: &Base, first: i64, pixels: i64) -> Result<Tensor, tch::TchError> {
        let inputs = base.point.f_repeat([2 * pixels, 1])?;
        for (half, step) in [(0, base.step.shallow_clone()), (1, base.step.f_neg()?)] {
            let own = inputs.f_narrow(0, half * pixels, pixels)?.f_narrow(1, first, pixels)?;
            let _ = own.f_diagonal(0, 0, 1)?.f_add_(&step)?;
        }
        let [channels, height, width] = [self.input.channels, self.input.height, self.input.width].map(|n| n as i64);
        inputs.f_view([2 * pixels, channels, height, width])
    }
}

/// A tensor's numbers, row by row, on the CPU.
pub(super) fn numbers<T: Element + Copy + Default>(tensor: &Tensor) -> Result<Vec<T>, PopulationError> {
    let mut out = vec![T::default(); tensor.numel()];
    let copy = tensor.f_to(Device::Cpu).and_then(|t| t.f_contiguous());
    copy.and_then(|t| t.f_copy_data(&mut out, tensor.numel())).map_err(at("reading results back"))?;
    Ok(out)
}
