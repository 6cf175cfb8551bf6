//! Training: K runs together, each with its own weights, samples, order, dropout, clipping and optimiser.
//!
//! Random numbers are drawn on the CPU by the runs' keys, as for the CPU kernels; samples stay on the device and batches are
//! gathered there. Deliberately absent: reading anything back within an epoch.

use super::activations::Activations;
use super::data::{Batch, Samples};
use super::difference::numbers;
use super::dropout::Dropout;
use super::graph::{Graph, Mode};
use super::layer::{Statistics, Weights};
use super::policy::Policy;
use super::sgd::{Schedule, Sgd};
use super::trained::Trained;
use super::{PopulationError, at, memory};
use nadgrid_core::architecture::Network;
use nadgrid_core::dataset::Dataset;
use nadgrid_core::numerics::Precision;
use nadgrid_core::training::{Ending, Recipe, RunKey};
use tch::{Device, Kind, Reduction, TchError, Tensor};

/// What is to be trained.
#[derive(Clone, Copy)]
pub struct Training<'a> {
    /// The architecture's network; its outputs are the classes.
    pub network: &'a Network,
    /// Where.
    pub device: Device,
    /// How products are computed.
    pub precision: Precision,
    /// Hyper-parameters, the same for all runs.
    pub recipe: &'a Recipe,
    /// The runs.
    pub keys: &'a [RunKey],
    /// Each run's training samples, as many for all. Runs may share a dataset: it lies on the device once.
    pub data: &'a [&'a Dataset],
    /// Bytes that a population may take, see [`memory::budget`]. Runs that do not fit together are trained one population
    /// after the other.
    pub budget: u64,
}

/// Trains. `goes_on` is asked after every batch; `None` when it says no.
///
/// # Errors
/// [`PopulationError`] when data and network do not fit each other, one run does not fit the budget, or libtorch fails.
pub fn train(training: &Training<'_>, goes_on: impl FnMut() -> bool) -> Result<Option<Trained>, PopulationError> {
    train_as(training, Kind::Float, goes_on)
}

/// The same in another kind of number.
pub(super) fn train_as(
    training: &Training<'_>,
    kind: Kind,
    mut goes_on: impl FnMut() -> bool,
) -> Result<Option<Trained>, PopulationError> {
    let Training { network, device, precision, recipe, keys, data, budget } = *training;
    if data.len() != keys.len() {
        return Err(PopulationError::Length { what: "datasets", expected: keys.len(), actual: data.len() });
    }
    let policy = Policy::new(precision, kind, device)?;
    let samples = data.first().map_or(0, |data| data.len());
    let batch = recipe.batch_size as usize;
    let each = memory::bytes_per_member(network, batch.min(samples), samples);
    let width = memory::narrowed("training runs", keys.len(), each, budget)?;
    let mut trained = Trained::new(batch);
    for (keys, data) in keys.chunks(width).zip(data.chunks(width)) {
        let _held = policy.hold()?;
        let mut run = Run::drawn(network, keys, policy, device)?;
        match run.train(recipe, keys, data, &mut goes_on)? {
            Some(endings) => trained.add(run, endings),
            None => return Ok(None),
        }
    }
    Ok(Some(trained))
}

/// K members in training.
pub(super) struct Run {
    pub(super) graph: Graph,
    /// `[K, P]`.
    pub(super) parameters: Tensor,
    pub(super) statistics: Statistics,
}

impl Run {
    /// With the weights of these runs.
    fn drawn(network: &Network, keys: &[RunKey], policy: Policy, device: Device) -> Result<Self, PopulationError> {
        let each = network.parameter_count();
        let mut parameters = vec![0.0; keys.len() * each];
        for (key, own) in keys.iter().zip(parameters.chunks_exact_mut(each.max(1))) {
            network.draw(key.stream("weights"), own);
        }
        let moved = Tensor::f_from_slice(&parameters)
            .and_then(|t| t.f_view([keys.len() as i64, each as i64]))
            .and_then(|t| t.f_to(device)?.f_to_kind(policy.kind));
        Self::new(network, moved.map_err(at("moving parameters to the device"))?, policy)
    }

    /// With these weights `[K, P]`.
    pub(super) fn new(network: &Network, parameters: Tensor, policy: Policy) -> Result<Self, PopulationError> {
        let statistics = Statistics::new(network, &parameters).map_err(at("making running statistics"))?;
        let members = parameters.size().first().copied().unwrap_or(0) as usize;
        Ok(Self { graph: Graph::new(network, members, policy), parameters, statistics })
    }

    fn train(
        &mut self,
        recipe: &Recipe,
        keys: &[RunKey],
        data: &[&Dataset],
        goes_on: &mut impl FnMut() -> bool,
    ) -> Result<Option<Vec<Ending>>, PopulationError> {
        let (kind, device) = (self.graph.policy.kind, self.parameters.device());
        let (dimension, classes) = (self.graph.network.input().len(), self.graph.network.output().len());
        let samples = Samples::new(data, dimension, classes, kind, device)?;
        let size = recipe.batch_size as usize;
        let batches = recipe.batches(samples.count());
        let mut sgd = Sgd::new(recipe, &self.parameters).map_err(at("setting the optimiser up"))?;
        let mut dropout = Dropout::new(&self.graph.network, keys);
        for epoch in 0..recipe.epochs {
            let order = samples.order(|member| keys[member].order(epoch, samples.count()))?;
            let schedule = Schedule::new(recipe, epoch, batches, kind, device).map_err(at("setting learning rates"))?;
            for number in 0..batches {
                let batch = samples.batch(&order, number * size, size).map_err(at("gathering a batch"))?;
                let (losses, gradient) = self.gradient(&batch, &mut dropout)?;
                let step = sgd.step(&mut self.parameters, &losses, gradient, &schedule, number);
                step.map_err(at("a step of the optimiser"))?;
                if !goes_on() {
                    return Ok(None);
                }
            }
            let bad_since = numbers::<i64>(sgd.bad_since())?;
            let all_bad = bad_since.iter().all(|&step| step > 0);
            if all_bad || epoch + 1 == recipe.epochs {
                return Ok(Some(bad_since.into_iter().map(|step| ending(step, batches)).collect()));
            }
        }
        Ok(Some(vec![Ending::Finished; keys.len()]))
    }

    /// Every member's mean loss `[K]` of its batch, and the gradient `[K, P]`: a member's loss depends on no other's weights.
    pub(super) fn gradient(&self, batch: &Batch, dropout: &mut Dropout) -> Result<(Tensor, Tensor), PopulationError> {
        let leaf =
            self.parameters.f_detach().and_then(|t| t.f_set_requires_grad(true)).map_err(at("the parameters"))?;
        let network = &self.graph.network;
        let weights = Weights::cut(network, &leaf, &self.graph.policy).map_err(at("cutting parameters"))?;
        let inputs = batch.inputs.f_view(self.graph.batch_shape(self.graph.members)).map_err(at("shaping a batch"))?;
        let mut mode = Mode::Training(dropout);
        let logits = self.graph.forward(&weights, &self.statistics, Activations::Maps(inputs), &mut mode)?;
        let backward = || {
            let losses = losses(&logits, &batch.labels)?.f_mean_dim([1].as_slice(), false, None)?;
            let mut gradients = Tensor::f_run_backward(&[&losses], &[&leaf], false, false)?;
            let gradient = gradients.pop().ok_or_else(|| TchError::Shape("no gradient".to_owned()))?;
            Ok((losses.f_detach()?, gradient))
        };
        backward().map_err(at("differentiating the loss"))
    }
}

/// The cross-entropy `[K, B]` of every sample, for logits `[K, B, classes]` and labels `[K, B]`.
pub(super) fn losses(logits: &Tensor, labels: &Tensor) -> Result<Tensor, TchError> {
    let classes = logits.size().last().copied().unwrap_or(0);
    let flat = logits.f_reshape([-1, classes])?;
    // −100 is PyTorch's number for labels that do not count; labels are checked when they come.
    let each = flat.f_cross_entropy_loss(&labels.f_reshape([-1])?, None::<Tensor>, Reduction::None, -100, 0.0)?;
    each.f_view_as(labels)
}

fn ending(bad_since: i64, batches: usize) -> Ending {
    match u64::try_from(bad_since) {
        Ok(0) | Err(_) => Ending::Finished,
        Ok(step) => Ending::Diverged { epochs: ((step - 1) / batches as u64) as u32, step },
    }
}
