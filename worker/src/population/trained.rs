//! The result of training: accuracies and losses of all runs together, and each run's network by itself.

use super::activations::Activations;
use super::data::Samples;
use super::error::check_length;
use super::graph::PopulationGraph;
use super::mode::LayerMode;
use super::tensor::numbers;
use super::training_population::{TrainingPopulation, losses};
use super::weights::NetworkWeights;
use super::{Population, PopulationError, at};
use crate::pinned;
use nadgrid_core::training::{Classifier, TrainingOutcome};
use tch::{Kind, TchError, Tensor};

/// Runs that were trained together, in the order of their keys.
pub(crate) struct Trained {
    pub(super) run: TrainingPopulation,
    endings: Vec<TrainingOutcome>,
    /// Inputs that are evaluated at once.
    batch: usize,
}

impl Trained {
    pub(super) fn new(run: TrainingPopulation, endings: Vec<TrainingOutcome>, batch: usize) -> Self {
        Self { run, endings, batch }
    }

    /// Returns the outcome of each run's training.
    pub(crate) fn endings(&self) -> &[TrainingOutcome] {
        &self.endings
    }

    /// Returns every run's accuracy in percent and mean cross-entropy on its samples, in evaluation mode; both are no numbers for
    /// runs that diverged. The samples are on the device of the runs.
    ///
    /// # Errors
    /// [`PopulationError`] when there are not samples of each run, or libtorch fails.
    pub(crate) fn evaluate(&self, samples: &Samples) -> Result<Vec<(f64, f64)>, PopulationError> {
        if samples.members() != self.endings.len() {
            let expected = self.endings.len();
            let actual = samples.members();
            return Err(PopulationError::Length { what: "datasets", expected, actual });
        }
        let mut scores = self.run.evaluate(samples, self.batch)?;
        for (score, _) in
            scores.iter_mut().zip(&self.endings).filter(|(_, ending)| **ending != TrainingOutcome::Finished)
        {
            *score = (f64::NAN, f64::NAN);
        }
        Ok(scores)
    }

    /// Returns one run's network.
    ///
    /// # Errors
    /// [`PopulationError`] when libtorch fails, or there is no such run.
    pub(crate) fn member(&self, run: usize) -> Result<Member, PopulationError> {
        if run >= self.endings.len() {
            return Err(PopulationError::Length { what: "runs", expected: run + 1, actual: self.endings.len() });
        }
        Ok(Member { population: self.run.member(run as i64)?, batch: self.batch })
    }
}

impl TrainingPopulation {
    fn evaluate(&self, samples: &Samples, size: usize) -> Result<Vec<(f64, f64)>, PopulationError> {
        let _no_grad = tch::no_grad_guard();
        let policy = self.graph.policy;
        let device = self.parameters.device();
        let _held = policy.hold()?;
        let network = &self.graph.network;
        let order = samples.in_order()?;
        let weights = NetworkWeights::cut(network, &self.parameters, &policy).map_err(at("cutting parameters"))?;
        let zeros = |kind| Tensor::f_zeros([self.graph.members], (kind, device)).map_err(at("making room for sums"));
        let mut right = zeros(Kind::Int64)?;
        let mut loss = zeros(Kind::Double)?;
        for first in (0..samples.count()).step_by(size) {
            let batch = samples.batch(&order, first, size).map_err(at("gathering a batch"))?;
            let inputs = batch.inputs.f_view(self.graph.batch_shape(self.graph.members));
            let inputs = Activations::Maps(inputs.map_err(at("shaping a batch"))?);
            let mode = &mut LayerMode::Evaluation;
            let logits = self.graph.forward(&weights, &self.statistics, inputs, mode)?;
            let mut count = || -> Result<(), TchError> {
                let rows = [1].as_slice();
                let hits = logits.f_argmax(-1, false)?.f_eq_tensor(&batch.labels)?;
                let _ = right.f_add_(&hits.f_sum_dim_intlist(rows, false, Kind::Int64)?)?;
                let each = losses(&logits, &batch.labels)?;
                let _ = loss.f_add_(&each.f_sum_dim_intlist(rows, false, Kind::Double)?)?;
                Ok(())
            };
            count().map_err(at("counting what is right"))?;
        }
        let count = samples.count() as f64;
        let scores = numbers::<i64>(&right)?.into_iter().zip(numbers::<f64>(&loss)?);
        Ok(scores.map(|(right, loss)| (100.0 * right as f64 / count, loss / count)).collect())
    }

    /// Returns one member as a population of its own.
    fn member(&self, member: i64) -> Result<Population, PopulationError> {
        let Self { graph, parameters, statistics } = self;
        let statistics = statistics.of_member(member, graph.members).map_err(at("cutting running statistics"))?;
        let parameters = parameters_of(parameters, member).map_err(at("cutting parameters"))?;
        Population::assemble(PopulationGraph::new(&graph.network, 1, graph.policy), &parameters, statistics)
    }
}

/// Copies one row of `[K, P]` to `[1, P]`: a copy begins where a GPU's kernels can read vectors, a row only sometimes does, and
/// cuDNN would compute some members by other kernels than the rest.
pub(super) fn parameters_of(all: &Tensor, member: i64) -> Result<Tensor, TchError> {
    all.f_narrow_copy(0, member, 1)
}

/// The network of one run.
pub(crate) struct Member {
    population: Population,
    batch: usize,
}

impl Member {
    /// Moves rows of `width` numbers to the device.
    fn rows(&self, values: &[f32], width: usize) -> Result<Tensor, PopulationError> {
        let kind = self.population.graph.policy.kind;
        let moved =
            Tensor::f_from_slice(values).and_then(|t| pinned::moved(&t, self.population.device)?.f_to_kind(kind));
        moved.and_then(|t| t.f_view([-1, width as i64])).map_err(at("moving rows to the device"))
    }

    /// Reads a result back, as f32.
    fn read(result: &Tensor) -> Result<Vec<f32>, PopulationError> {
        numbers(&result.f_to_kind(Kind::Float).map_err(at("reading results back"))?)
    }
}

impl Classifier for Member {
    type Error = PopulationError;

    fn logits(&mut self, inputs: &[f32]) -> Result<Vec<f32>, PopulationError> {
        let dimension = self.population.dimension();
        whole("inputs", inputs.len(), dimension)?;
        let _no_grad = tch::no_grad_guard();
        let mut logits = Vec::new();
        for inputs in inputs.chunks(self.batch * dimension) {
            let inputs = self.rows(inputs, dimension)?;
            let shaped = inputs.f_view(self.population.graph.batch_shape(1)).map_err(at("shaping a batch"))?;
            logits.extend(Self::read(&self.population.forward(&shaped)?)?);
        }
        Ok(logits)
    }

    fn input_gradients(&mut self, inputs: &[f32], cotangents: &[f32]) -> Result<Vec<f32>, PopulationError> {
        let mut gradients = Vec::with_capacity(inputs.len());
        let mut take = |_: usize, _: usize, rows: &[f32]| gradients.extend_from_slice(rows);
        self.each_input_gradients(inputs, std::slice::from_ref(&cotangents.to_vec()), &mut take)?;
        Ok(gradients)
    }

    /// Makes one forward pass for all sets, and reads everything back at once: a GPU waits once for each batch.
    fn each_input_gradients(
        &mut self,
        inputs: &[f32],
        cotangents: &[Vec<f32>],
        take: &mut dyn FnMut(usize, usize, &[f32]),
    ) -> Result<(), PopulationError> {
        let dimension = self.population.dimension();
        let classes = self.population.graph.network.output().len();
        let rows = whole("inputs", inputs.len(), dimension)?;
        if let Some(set) = cotangents.iter().find(|set| set.len() != rows * classes) {
            let expected = rows * classes;
            let actual = set.len();
            return Err(PopulationError::Length { what: "cotangents", expected, actual });
        }
        if cotangents.is_empty() {
            return Ok(());
        }
        let _held = self.population.graph.policy.hold()?;
        for (index, inputs) in inputs.chunks(self.batch * dimension).enumerate() {
            let first = index * self.batch;
            let count = inputs.len() / dimension;
            let own = |set: &Vec<f32>| set[first * classes..][..count * classes].to_vec();
            let all: Vec<f32> = cotangents.iter().flat_map(own).collect();
            let inputs = self.rows(inputs, dimension)?;
            let all = self.rows(&all, classes)?;
            let of_set =
                |set: usize, logits: &Tensor| logits.f_mul(&all.f_narrow(0, (set * count) as i64, count as i64)?);
            let gradients = self.population.input_gradients(&inputs, cotangents.len(), of_set)?;
            let gradients = Self::read(&Tensor::f_cat(&gradients, 0).map_err(at("joining gradients"))?)?;
            for (set, rows) in gradients.chunks_exact(count * dimension).enumerate() {
                take(set, first, rows);
            }
        }
        Ok(())
    }
}

/// Returns how many rows of `width` numbers there are.
fn whole(what: &'static str, numbers: usize, width: usize) -> Result<usize, PopulationError> {
    let rows = numbers / width;
    let expected = if rows * width == numbers { numbers } else { (rows + 1) * width };
    check_length(what, expected, numbers).map(|()| rows)
}
