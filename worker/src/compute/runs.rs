//! A block of training runs: trained by nadgrid's own kernels one after the other, or together as a population on libtorch.

use super::resume::{BlockPart, OutcomeForm, ShardProgress, Stretch, kernels_shape};
use super::samples::{JobSamples, SampleSplit};
use super::{EvaluationBackend, ShardTask, ShardWatcher};
use crate::device::Evaluation;
use crate::fault::Fault;
use crate::inputs::InputCache;
use crate::population::{self, PopulationTraining, RunSamples, Samples, SamplesAhead, memory};
use crate::shard::JobKey;
use nadgrid_core::architecture::Network;
use nadgrid_core::checkpoint::{TrainingShape, TrainingState};
use nadgrid_core::cifar10;
use nadgrid_core::dataset::Dataset;
use nadgrid_core::deepfool::{self, Limits};
use nadgrid_core::runs::Outcome;
use nadgrid_core::scheduler::FailureKind;
use nadgrid_core::spec::{Experiment, Variant};
use nadgrid_core::text;
use nadgrid_core::training::{Classifier, Recipe, RunKey, TrainingOutcome, score};
use nadgrid_core::work::{RunParts, SampleCounts};
use nadgrid_kernels::Trainer;
use std::ops::Range;
use std::sync::Arc;
use tch::Device;

/// Bytes that a slot's trainer may take. The batch size is the user's, so a single run may be too large.
const TRAINER_BUDGET: u64 = 16 << 30;

/// Blocks of runs on one device.
pub(super) struct RunEvaluator {
    backend: EvaluationBackend,
    inputs: Arc<InputCache>,
    prepared: Option<PreparedJob>,
}

/// The samples and the trainer that are prepared once for a job.
struct PreparedJob {
    key: JobKey,
    source: JobSamples,
    trainer: Option<Box<Trainer>>,
}

impl RunEvaluator {
    pub(super) fn new(backend: EvaluationBackend, inputs: Arc<InputCache>) -> Self {
        Self { backend, inputs, prepared: None }
    }

    /// Computes the outcomes of a shard's runs, and the seconds that they took other slots; `None` when they are no longer wanted.
    pub(super) fn shard(
        &mut self,
        shard: &ShardTask,
        form: &OutcomeForm<'_>,
        from: Option<&[u8]>,
        watcher: &dyn ShardWatcher,
    ) -> Result<Option<(Vec<Outcome>, f64)>, Fault> {
        let recipe = shard.job.spec.recipe(shard.job.shape.experiment).ok_or_else(|| missing(shard))?;
        let shape = |members| self.backend.shape(shard, &recipe, members);
        let mut progress = ShardProgress::new(shard, form, from, shape, watcher);
        self.prepared(shard)?;
        watcher.begun();
        for block in shard.node.blocks(shard.grid().blocks()) {
            let members = shard.members_of(block..block + 1);
            if !progress.left(&members).is_empty() && !self.block(shard, &recipe, members, &mut progress)? {
                return Ok(None);
            }
            watcher.block_done();
            if !watcher.wants() {
                return Ok(None);
            }
        }
        Ok(Some(progress.finish()))
    }

    /// Trains the rest of a block, and returns false when it is no longer wanted.
    fn block(
        &mut self,
        shard: &ShardTask,
        recipe: &Recipe,
        members: Range<u64>,
        progress: &mut ShardProgress<'_>,
    ) -> Result<bool, Fault> {
        match self.backend.evaluation {
            Evaluation::Patch => self.by_kernels(shard, recipe, members, progress),
            Evaluation::Dense | Evaluation::Fused => self.by_population(shard, recipe, members, progress),
        }
    }

    fn prepared(&mut self, shard: &ShardTask) -> Result<&mut PreparedJob, Fault> {
        let prepared = match self.prepared.take().filter(|prepared| prepared.key == shard.key) {
            Some(prepared) => prepared,
            None => {
                PreparedJob { key: shard.key.clone(), source: JobSamples::new(shard, &self.inputs)?, trainer: None }
            }
        };
        Ok(self.prepared.insert(prepared))
    }

    fn by_kernels(
        &mut self,
        shard: &ShardTask,
        recipe: &Recipe,
        members: Range<u64>,
        progress: &mut ShardProgress<'_>,
    ) -> Result<bool, Fault> {
        let PreparedJob { source, trainer, .. } = self.prepared(shard)?;
        let trainer = match trainer {
            Some(trainer) => trainer,
            None => trainer.insert(Box::new(new_trainer(&shard.job.network, recipe)?)),
        };
        let left = progress.left(&members);
        for (member, (variant, key)) in left.clone().zip(runs(shard, left)?) {
            let state = progress.take_state(1);
            let samples = |part| Ok::<_, Fault>(source.samples(shard, variant, &key, part)?.dataset());
            let train = samples(SampleSplit::Train)?;
            let test = samples(SampleSplit::Test)?;
            let index = member - members.start;
            let part = BlockPart::new(index..index + 1, members.end - members.start);
            let stretch = stretch(shard, recipe, source.counts(shard), part, state.as_ref());
            let mut observer = progress.observer(&kernels_shape(shard, recipe, 1), stretch, seconds(state.as_ref()));
            let ending = match &state {
                Some(state) => trainer.resume(state, &key, recipe, &train, &mut observer),
                None => trainer.train(&key, recipe, &train, &mut observer),
            };
            let scores = match ending {
                TrainingOutcome::Stopped => return Ok(false),
                TrainingOutcome::Diverged { .. } => None,
                TrainingOutcome::Finished => {
                    Some([never(score(&mut **trainer, &train)), never(score(&mut **trainer, &test))])
                }
            };
            observer.evaluated();
            let mut outcome = outcome(ending, scores, recipe);
            let goes_on = |part: f64| {
                observer.measured(part);
                progress.watcher.wants()
            };
            let Some(extra) = never(measure(shard, source, scores.map(|_| &mut **trainer), &goes_on)) else {
                return Ok(false);
            };
            outcome.extra = extra;
            outcome.seconds = observer.seconds();
            progress.push(vec![outcome]);
        }
        Ok(true)
    }

    fn by_population(
        &mut self,
        shard: &ShardTask,
        recipe: &Recipe,
        members: Range<u64>,
        progress: &mut ShardProgress<'_>,
    ) -> Result<bool, Fault> {
        let device = self.backend.device;
        let source = &self.prepared(shard)?.source;
        let runs = runs(shard, members.clone())?;
        let network = &shard.job.network;
        let counts = source.counts(shard);
        let budget = memory::budget(device);
        let samples = counts.train as usize;
        let width = population::width(device, network, recipe, samples, runs.len(), budget)?;
        // Those of a population, and of the next one, which is made ahead.
        let held = runs.len().min(if device.is_cuda() { 2 * width } else { width });
        memory::check_host("the samples of a block", source.bytes(shard, &runs[..held]))?;
        let mut first = (progress.left(&members).start - members.start) as usize;
        if !first.is_multiple_of(width) {
            // Of another width: these runs are another population's.
            progress.back_to(members.start);
            first = 0;
        }
        let begin = |part: SampleSplit, first: usize| {
            let runs = &runs[first..runs.len().min(first + width)];
            let samples = shared(runs, |variant, key| source.samples(shard, variant, key, part))?;
            Ok(SamplesAhead::begin(network, &samples, device)?)
        };
        // Helpers make what is drawn. Images lie in the host's memory first, and take little time beside training on them.
        let drawn = device.is_cuda() && !shard.job.shape.experiment.is_on_images();
        let each = memory::bytes_per_member(device, network, (recipe.batch_size as usize).min(samples), samples);
        let beside_population = budget.saturating_sub(width as u64 * each);
        let begin_ahead = |part: SampleSplit, first: usize, room: &mut u64| {
            let runs = runs.len().saturating_sub(first).min(width) as u64;
            let bytes = memory::bytes_of_samples(network, part.of(counts) as u64, runs);
            if !drawn || runs == 0 || bytes > *room {
                return Ok(None);
            }
            *room -= bytes;
            begin(part, first).map(Some)
        };
        let mut train_ahead = None;
        for first in (first..runs.len()).step_by(width) {
            let part = first..runs.len().min(first + width);
            let train = match train_ahead.take() {
                Some(train) => train,
                None => begin(SampleSplit::Train, first)?,
            };
            let train = train.finish()?;
            let mut room = beside_population;
            let test = begin_ahead(SampleSplit::Test, first, &mut room)?;
            train_ahead = begin_ahead(SampleSplit::Train, part.end, &mut room)?;
            let test = || match test {
                Some(test) => Ok(test),
                None => begin(SampleSplit::Test, first),
            };
            let keys: Vec<RunKey> = runs[part.clone()].iter().map(|(_, key)| key.clone()).collect();
            let of_block = BlockPart::new(part.start as u64..part.end as u64, runs.len() as u64);
            let state = progress.take_state(keys.len());
            let together = Together { shard, source, device, recipe, keys: &keys, of_block };
            match together.outcomes(state.as_ref(), train, test, progress)? {
                Some(outcomes) => progress.push(outcomes),
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// The runs of one population.
struct Together<'a> {
    shard: &'a ShardTask,
    source: &'a JobSamples,
    device: Device,
    recipe: &'a Recipe,
    keys: &'a [RunKey],
    /// The part of their block that they are.
    of_block: BlockPart,
}

impl Together<'_> {
    /// Trains and measures them, on test samples that are made by the end of the training; `None` when they are no longer wanted.
    fn outcomes(
        &self,
        state: Option<&TrainingState<'_>>,
        train: Samples,
        test: impl FnOnce() -> Result<SamplesAhead, Fault>,
        progress: &ShardProgress<'_>,
    ) -> Result<Option<Vec<Outcome>>, Fault> {
        let Self { shard, source, device, recipe, keys, of_block } = *self;
        let network = &shard.job.network;
        let precision = shard.job.spec.precision;
        let training = PopulationTraining { network, device, precision, recipe, keys, samples: &train };
        let stretch = stretch(shard, recipe, source.counts(shard), of_block, state);
        let watch = memory::OomWatch::new(device)?;
        let mut observer = progress.observer(&training.shape(), stretch, seconds(state));
        let Some(trained) = population::train(&training, state, &mut observer)? else { return Ok(None) };
        let on_train = trained.evaluate(&train)?;
        // Test samples that were not made ahead take its place.
        drop(train);
        let on_test = trained.evaluate(&test()?.finish()?)?;
        observer.evaluated();
        let all = keys.len() as f64;
        let mut outcomes = Vec::with_capacity(keys.len());
        for (run, ending) in trained.endings().iter().enumerate() {
            let scores = (*ending == TrainingOutcome::Finished).then(|| [on_train[run], on_test[run]]);
            let mut outcome = outcome(*ending, scores, recipe);
            let mut member = scores.map(|_| trained.member(run)).transpose()?;
            let goes_on = |part: f64| {
                observer.measured((run as f64 + part) / all);
                progress.watcher.wants()
            };
            let Some(extra) = measure(shard, source, member.as_mut(), &goes_on)? else {
                return Ok(None);
            };
            outcome.extra = extra;
            outcomes.push(outcome);
        }
        watch.check("training and evaluating runs")?;
        // Runs of a population share its time.
        let each = observer.seconds() / outcomes.len().max(1) as f64;
        outcomes.iter_mut().for_each(|outcome| outcome.seconds = each);
        Ok(Some(outcomes))
    }
}

impl EvaluationBackend {
    /// Returns the shape of a state of `members` runs that are trained together here.
    fn shape(self, shard: &ShardTask, recipe: &Recipe, members: usize) -> TrainingShape {
        match self.evaluation {
            Evaluation::Patch => kernels_shape(shard, recipe, members),
            Evaluation::Dense | Evaluation::Fused => population::state_shape(&shard.job.network, members, recipe),
        }
    }
}

fn missing(shard: &ShardTask) -> Fault {
    Fault::new(FailureKind::Spec, format!("the spec has no {}", shard.job.shape.experiment))
}

/// Returns the variants of these runs of a job, and their keys.
fn runs(shard: &ShardTask, members: Range<u64>) -> Result<Vec<(Variant, RunKey)>, Fault> {
    let run = |run| shard.job.spec.run(shard.job.shape.experiment, &shard.job.shape.architecture, run);
    members.map(run).collect::<Option<_>>().ok_or_else(|| missing(shard))
}

/// Returns the stretch of runs that train and test on so many samples, and begin at `state`.
fn stretch(
    shard: &ShardTask,
    recipe: &Recipe,
    samples: SampleCounts,
    part: BlockPart,
    state: Option<&TrainingState<'_>>,
) -> Stretch {
    let margins = shard.job.spec.margin_counts().filter(|_| shard.job.shape.experiment == Experiment::Margins);
    let batches = recipe.batches(samples.train as usize) as u64;
    Stretch {
        part,
        parts: RunParts::new(&shard.job.network, recipe, samples, margins),
        done: u64::from(state.map_or(0, |state| state.epochs)) * batches,
        batches: u64::from(recipe.epochs) * batches,
    }
}

/// Returns the seconds that a state took.
fn seconds(state: Option<&TrainingState<'_>>) -> f64 {
    state.map_or(0.0, |state| state.seconds)
}

/// Returns the samples of runs. Runs of one variant on images share them.
fn shared(
    runs: &[(Variant, RunKey)],
    samples: impl Fn(Variant, &RunKey) -> Result<RunSamples, Fault>,
) -> Result<Vec<RunSamples>, Fault> {
    let mut made: Vec<(Variant, RunSamples)> = Vec::with_capacity(runs.len());
    for (variant, key) in runs {
        let alike = made.iter().find(|(known, _)| known == variant && !matches!(variant, Variant::Direction(_)));
        let samples = match alike {
            Some((_, known)) => known.clone(),
            None => samples(*variant, key)?,
        };
        made.push((*variant, samples));
    }
    Ok(made.into_iter().map(|(_, samples)| samples).collect())
}

fn new_trainer(network: &Network, recipe: &Recipe) -> Result<Trainer, Fault> {
    let needed = Trainer::bytes(network, recipe.batch_size as usize);
    if needed > TRAINER_BUDGET {
        let message = format!(
            "training.batch_size = {}: a run takes {} ({needed} bytes), the limit is {} ({TRAINER_BUDGET} bytes)",
            recipe.batch_size,
            text::bytes(needed),
            text::bytes(TRAINER_BUDGET)
        );
        return Err(Fault::new(FailureKind::Spec, message));
    }
    Ok(Trainer::new(network)?)
}

/// Returns the accuracies and losses on the training and the test samples, unless the run diverged.
fn outcome(ending: TrainingOutcome, scores: Option<[(f64, f64); 2]>, recipe: &Recipe) -> Outcome {
    match (ending, scores) {
        (TrainingOutcome::Diverged { epochs, step }, _) => Outcome::diverged(epochs, step),
        (_, Some([(train_accuracy, train_loss), (test_accuracy, test_loss)])) => Outcome {
            train_accuracy,
            test_accuracy,
            train_loss,
            test_loss,
            epochs: recipe.epochs,
            ..Outcome::default()
        },
        (_, None) => Outcome::default(),
    }
}

/// Measures margins on the trained network, where the experiment asks for them: in every block, image by image, in units of pixels
/// in [0, 1]. They are NaN where there is no network. `goes_on` is called with the part that is measured; the result is `None` when
/// it returns false, since the shard is no longer wanted.
fn measure<C: Classifier>(
    shard: &ShardTask,
    source: &JobSamples,
    network: Option<&mut C>,
    goes_on: &dyn Fn(f64) -> bool,
) -> Result<Option<Vec<f64>>, C::Error> {
    let (Some(margins), Some(images)) = (&shard.job.spec.margins, source.test_images()) else {
        return Ok(Some(Vec::new()));
    };
    if source.subspaces().is_empty() {
        return Ok(Some(Vec::new()));
    }
    let count = margins.images as usize;
    let dimension = images.dimension;
    let Some(network) = network else { return Ok(Some(vec![f64::NAN; count * source.subspaces().len()])) };
    let mut network = OnPixels(network);
    let mut all = Vec::with_capacity(count * source.subspaces().len());
    for (index, subspace) in source.subspaces().iter().enumerate() {
        let inputs = &images.inputs[..count.min(images.len()) * dimension];
        let mut found = deepfool::margins(&mut network, inputs, dimension, subspace, &Limits::PUBLISHED)?;
        found.resize(count, f64::NAN);
        all.extend(found);
        if !goes_on((index + 1) as f64 / source.subspaces().len() as f64) {
            return Ok(None);
        }
    }
    Ok(Some(all))
}

/// A network that was trained on normalised images, as a function of pixels in [0, 1].
struct OnPixels<'a, C>(&'a mut C);

impl<C: Classifier> OnPixels<'_, C> {
    fn normalised(inputs: &[f32]) -> Vec<f32> {
        let dimension = cifar10::SHAPE.len();
        let labels = vec![0; inputs.len() / dimension];
        let mut data = Dataset { dimension, inputs: inputs.to_vec(), labels };
        cifar10::normalise(&mut data);
        data.inputs
    }

    /// Turns gradients by normalised numbers into gradients by pixels.
    fn by_pixels(gradients: &mut [f32]) {
        let plane = cifar10::SHAPE.height * cifar10::SHAPE.width;
        for (index, values) in gradients.chunks_exact_mut(plane).enumerate() {
            let deviation = cifar10::STD[index % cifar10::STD.len()];
            values.iter_mut().for_each(|value| *value /= deviation);
        }
    }
}

impl<C: Classifier> Classifier for OnPixels<'_, C> {
    type Error = C::Error;

    fn logits(&mut self, inputs: &[f32]) -> Result<Vec<f32>, C::Error> {
        self.0.logits(&Self::normalised(inputs))
    }

    fn input_gradients(&mut self, inputs: &[f32], cotangents: &[f32]) -> Result<Vec<f32>, C::Error> {
        let mut gradients = self.0.input_gradients(&Self::normalised(inputs), cotangents)?;
        Self::by_pixels(&mut gradients);
        Ok(gradients)
    }

    fn each_input_gradients(
        &mut self,
        inputs: &[f32],
        cotangents: &[Vec<f32>],
        take: &mut dyn FnMut(usize, usize, &[f32]),
    ) -> Result<(), C::Error> {
        self.0.each_input_gradients(&Self::normalised(inputs), cotangents, &mut |set, first, gradients| {
            let mut gradients = gradients.to_vec();
            Self::by_pixels(&mut gradients);
            take(set, first, &gradients);
        })
    }
}

/// Unwraps a result of the kernels, which cannot fail.
fn never<T>(result: Result<T, std::convert::Infallible>) -> T {
    result.unwrap_or_else(|error| match error {})
}
