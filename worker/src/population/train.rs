//! Training: K runs together, each with its own weights, samples, order, dropout, clipping and optimiser.
//!
//! Random numbers are drawn on the CPU by the runs' keys, as for the CPU kernels; samples stay on the device and batches are
//! gathered there. What a step needs from the host was made and copied ahead of it. Deliberately absent: waiting for the device
//! within an epoch.

use super::activations::Activations;
use super::data::{SampleBatch, Samples};
use super::dropout::Dropout;
use super::mode::LayerMode;
use super::policy::Policy;
use super::sgd::{Schedule, Sgd};
use super::tensor::numbers;
use super::trained::Trained;
use super::training_population::{TrainingPopulation, losses};
use super::weights::NetworkWeights;
use super::{PopulationError, at, memory};
use nadgrid_core::architecture::Network;
use nadgrid_core::checkpoint::{TrainingShape, TrainingState};
use nadgrid_core::numerics::Precision;
use nadgrid_core::training::{Observer, Recipe, RunKey, TrainingOutcome};
use std::borrow::Cow;
use tch::{Device, Kind, TchError, Tensor};

/// The runs that are trained together.
#[derive(Clone, Copy)]
pub(crate) struct PopulationTraining<'a> {
    /// The architecture's network; its outputs are the classes.
    pub(crate) network: &'a Network,
    /// The device to compute on.
    pub(crate) device: Device,
    /// The precision of products.
    pub(crate) precision: Precision,
    /// Hyper-parameters, the same for all runs.
    pub(crate) recipe: &'a Recipe,
    /// The runs.
    pub(crate) keys: &'a [RunKey],
    /// Each run's training samples, on the device.
    pub(crate) samples: &'a Samples,
}

/// Returns how many of `members` runs of so many samples fit a budget together, see [`memory::budget`]: all, or else the largest
/// power of two. The others are to be trained after them.
///
/// # Errors
/// [`PopulationError::Memory`] when not even one run fits.
pub(crate) fn width(
    device: Device,
    network: &Network,
    recipe: &Recipe,
    samples: usize,
    members: usize,
    budget: u64,
) -> Result<usize, PopulationError> {
    let each = memory::bytes_per_member(device, network, (recipe.batch_size as usize).min(samples), samples);
    memory::narrowed("training runs", members, each, budget)
}

impl PopulationTraining<'_> {
    /// Returns the shape of a state of these runs together.
    pub(crate) fn shape(&self) -> TrainingShape {
        state_shape(self.network, self.keys.len(), self.recipe)
    }
}

/// Returns the shape of a state of `members` runs of a population.
pub(crate) fn state_shape(network: &Network, members: usize, recipe: &Recipe) -> TrainingShape {
    TrainingShape::new(network, members, recipe.momentum != 0.0, recipe.epochs)
}

/// Trains all runs together, and returns `None` when the observer stops it. From a state that an observer took of the same runs, on
/// a device of the same numerics class, training continues, and the result is the same to the bit.
///
/// # Errors
/// [`PopulationError`] when data, state and network do not fit each other, or libtorch fails.
pub(crate) fn train(
    training: &PopulationTraining<'_>,
    from: Option<&TrainingState<'_>>,
    observer: &mut dyn Observer,
) -> Result<Option<Trained>, PopulationError> {
    train_as(training, Kind::Float, from, observer)
}

/// Trains all runs in another kind of number.
pub(super) fn train_as(
    training: &PopulationTraining<'_>,
    kind: Kind,
    from: Option<&TrainingState<'_>>,
    observer: &mut dyn Observer,
) -> Result<Option<Trained>, PopulationError> {
    let PopulationTraining { network, device, precision, recipe, keys, samples } = *training;
    if samples.members() != keys.len() {
        let expected = keys.len();
        let actual = samples.members();
        return Err(PopulationError::Length { what: "datasets", expected, actual });
    }
    let policy = Policy::new(precision, kind, device)?;
    let _held = policy.hold()?;
    let watch = memory::OomWatch::new(device)?;
    let mut dropout = Dropout::new(network, keys, device);
    let (mut run, mut sgd) = match from {
        None => {
            let run = TrainingPopulation::drawn(network, keys, policy, device)?;
            let sgd = Sgd::new(recipe, &run.parameters).map_err(at("setting the optimiser up"))?;
            (run, sgd)
        }
        Some(state) => {
            check(&training.shape(), state)?;
            dropout.seek(&state.dropouts);
            let run = TrainingPopulation::loaded(network, state, keys.len(), policy, device)?;
            let sgd = Sgd::restored(recipe, &run.parameters, &state.velocity, &state.bad_since);
            (run, sgd.map_err(at("setting the optimiser up"))?)
        }
    };
    let first = from.map_or(0, |state| state.epochs);
    let sizes = batch_sizes(samples.count(), recipe.batch_size as usize);
    dropout.go_ahead((first..recipe.epochs).flat_map(move |_| sizes.clone()))?;
    let endings = run.train(&mut sgd, &mut dropout, training, first, observer, &watch)?;
    Ok(endings.map(|endings| Trained::new(run, endings, recipe.batch_size as usize)))
}

/// Fails where a state has not the shape of the runs, and would be read wrongly.
fn check(shape: &TrainingShape, state: &TrainingState<'_>) -> Result<(), PopulationError> {
    let TrainingShape { members, parameters, statistics, dropouts, velocity, .. } = *shape;
    let velocities = if velocity { members * parameters } else { 0 };
    for (what, expected, actual) in [
        ("parameters of a state", members * parameters, state.parameters.len()),
        ("velocities of a state", velocities, state.velocity.len()),
        ("running means of a state", members * statistics, state.means.len()),
        ("running variances of a state", members * statistics, state.variances.len()),
        ("bad steps of a state", members, state.bad_since.len()),
        ("dropouts of a state", members * dropouts, state.dropouts.len()),
    ] {
        if expected != actual {
            return Err(PopulationError::Length { what, expected, actual });
        }
    }
    Ok(())
}

impl TrainingPopulation {
    /// Trains the epochs from `first` on, and returns the outcome of every run.
    fn train(
        &mut self,
        sgd: &mut Sgd,
        dropout: &mut Dropout,
        training: &PopulationTraining<'_>,
        first: u32,
        observer: &mut dyn Observer,
        watch: &memory::OomWatch,
    ) -> Result<Option<Vec<TrainingOutcome>>, PopulationError> {
        let PopulationTraining { recipe, keys, samples, .. } = *training;
        let kind = self.graph.policy.kind;
        let device = self.parameters.device();
        let size = recipe.batch_size as usize;
        let batches = recipe.batches(samples.count());
        let mut bad_since = numbers::<i64>(sgd.bad_since())?;
        let mut orders = samples.orders(keys, first..recipe.epochs)?;
        for epoch in first..recipe.epochs {
            let order = orders.next(epoch)?;
            let schedule = Schedule::new(recipe, epoch, batches, kind, device).map_err(at("setting learning rates"))?;
            for number in 0..batches {
                let batch = samples.batch(&order, number * size, size).map_err(at("gathering a batch"))?;
                let (losses, gradient) = self.gradient(&batch, dropout)?;
                let step = sgd.step(&mut self.parameters, &losses, gradient, &schedule, number);
                step.map_err(at("a step of the optimiser"))?;
                if !observer.goes_on() {
                    return Ok(None);
                }
            }
            bad_since = numbers::<i64>(sgd.bad_since())?;
            if bad_since.iter().all(|&step| step > 0) {
                break;
            }
            // This is checked after every epoch: spoilt runs need not be trained to their end, and must not get into a checkpoint.
            watch.check("training")?;
            if observer.wants_state() {
                observer.take_state(self.state(sgd, dropout, epoch + 1, &bad_since)?);
            }
        }
        Ok(Some(bad_since.into_iter().map(|step| ending(step, batches)).collect()))
    }

    /// Reads the state after so many epochs back from the device.
    fn state(
        &self,
        sgd: &Sgd,
        dropout: &Dropout,
        epochs: u32,
        bad_since: &[i64],
    ) -> Result<TrainingState<'static>, PopulationError> {
        let velocity = sgd.velocity().map(numbers::<f32>).transpose()?;
        let (means, variances) = self.statistics.members(&self.graph.network, self.graph.members as usize)?;
        Ok(TrainingState {
            epochs,
            seconds: 0.0,
            parameters: Cow::Owned(numbers(&self.parameters)?),
            velocity: Cow::Owned(velocity.unwrap_or_default()),
            means: Cow::Owned(means),
            variances: Cow::Owned(variances),
            bad_since: bad_since.iter().map(|&step| step as u64).collect(),
            dropouts: dropout.positions(),
        })
    }

    /// Returns every member's mean loss `[K]` of its batch, and the gradient `[K, P]`: a member's loss depends on no other's
    /// weights.
    pub(super) fn gradient(
        &self,
        batch: &SampleBatch,
        dropout: &mut Dropout,
    ) -> Result<(Tensor, Tensor), PopulationError> {
        let leaf =
            self.parameters.f_detach().and_then(|t| t.f_set_requires_grad(true)).map_err(at("the parameters"))?;
        let network = &self.graph.network;
        let weights = NetworkWeights::cut(network, &leaf, &self.graph.policy).map_err(at("cutting parameters"))?;
        let inputs = batch.inputs.f_view(self.graph.batch_shape(self.graph.members)).map_err(at("shaping a batch"))?;
        let mut mode = LayerMode::Training(dropout);
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

/// Returns the sizes of the batches of an epoch: the last may be smaller.
fn batch_sizes(samples: usize, most: usize) -> impl Iterator<Item = usize> + Clone + Send + 'static {
    (0..samples).step_by(most.max(1)).map(move |first| most.min(samples - first))
}

fn ending(bad_since: i64, batches: usize) -> TrainingOutcome {
    match u64::try_from(bad_since) {
        Ok(0) | Err(_) => TrainingOutcome::Finished,
        Ok(step) => TrainingOutcome::Diverged { epochs: ((step - 1) / batches as u64) as u32, step },
    }
}
