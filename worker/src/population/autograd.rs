//! Gradients at inputs by backward differentiation, in evaluation mode.

use super::activations::Activations;
use super::tensor::numbers;
use super::{Population, PopulationError, at, memory};
use tch::kind::Element;
use tch::{TchError, Tensor};

/// Returns the negative gradients `[K, P, D]` of every member's output 0 at `points`, P x D: what
/// [`super::difference::central_difference`] tends to for small steps, which is −∂f/∂x.
///
/// Points go in runs whose length follows from the shapes alone.
///
/// # Errors
/// [`PopulationError`] when the points are not whole, or libtorch fails.
pub(crate) fn autograd<T>(population: &Population, points: &[T]) -> Result<Vec<T>, PopulationError>
where
    T: Element + Copy + Default,
{
    let dimension = population.dimension();
    if points.is_empty() || !points.len().is_multiple_of(dimension) {
        let expected = points.len().div_ceil(dimension).max(1) * dimension;
        return Err(PopulationError::Length { what: "points", expected, actual: points.len() });
    }
    let _held = population.graph.policy.hold()?;
    let mut gradients = vec![T::default(); population.members() * points.len()];
    let run = population.inputs_at_once(memory::numbers_per_gradient(&population.graph.network)) * dimension;
    for (index, points_of_run) in points.chunks(run).enumerate() {
        let inputs = Tensor::f_from_slice(points_of_run).and_then(|t| t.f_to(population.device));
        let first_output = |outputs: &Tensor| outputs.f_select(2, 0)?.f_neg();
        let gradient = population.input_gradient(&inputs.map_err(at("moving points to the device"))?, first_output)?;
        let rows = gradients.chunks_exact_mut(points.len());
        for (row, values) in rows.zip(numbers::<T>(&gradient)?.chunks_exact(points_of_run.len())) {
            row[index * run..][..values.len()].copy_from_slice(values);
        }
    }
    Ok(gradients)
}

impl Population {
    /// Returns the gradients `[K, n, D]` of a function's sum at n inputs, which are on the device; the function is of every
    /// member's outputs `[K, n, outputs]`.
    pub(super) fn input_gradient(
        &self,
        inputs: &Tensor,
        function: impl Fn(&Tensor) -> Result<Tensor, TchError>,
    ) -> Result<Tensor, PopulationError> {
        let mut gradients = self.input_gradients(inputs, 1, |_, outputs| function(outputs))?;
        gradients.pop().ok_or_else(|| at("differentiating by the inputs")(TchError::Shape("no gradient".to_owned())))
    }

    /// Returns the gradients of several functions of the same outputs, one for each function.
    pub(super) fn input_gradients(
        &self,
        inputs: &Tensor,
        functions: usize,
        function: impl Fn(usize, &Tensor) -> Result<Tensor, TchError>,
    ) -> Result<Vec<Tensor>, PopulationError> {
        let members = self.graph.members;
        // A copy for every member: each has a gradient of its own.
        let leaf = || {
            let all = inputs.f_view(self.graph.batch_shape(1))?.f_repeat([1, members, 1, 1])?;
            all.f_set_requires_grad(true)
        };
        let leaf = leaf().map_err(at("copying inputs"))?;
        let outputs = self.evaluate(Activations::Maps(leaf.shallow_clone()))?;
        let gradient = |index: usize| {
            let root = function(index, &outputs)?;
            let again = index + 1 < functions;
            let gradients = Tensor::f_run_backward(&[root], &[&leaf], again, false)?;
            let batch = leaf.size().first().copied().unwrap_or(0);
            gradients[0].f_reshape([batch, members, -1])?.f_transpose(0, 1)
        };
        (0..functions).map(gradient).collect::<Result<_, _>>().map_err(at("differentiating by the inputs"))
    }
}
