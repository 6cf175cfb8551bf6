//! A block of training runs: trained by nadgrid's own kernels one after the other, or together as a population on libtorch.

use super::course::{BlockPart, Course, Stretch, kernels_shape};
use super::samples::{Part, Source};
use super::{Engine, Job, Watcher, of_kernel};
use crate::board::Fault;
use crate::device::Evaluation;
use crate::inputs::Inputs;
use crate::population::{self, PopulationError, RunSamples, Samples, SamplesAhead, Training, memory};
use nadgrid_core::architecture::Network;
use nadgrid_core::checkpoint::{TrainingShape, TrainingState};
use nadgrid_core::cifar10;
use nadgrid_core::dataset::Dataset;
use nadgrid_core::deepfool::{self, Limits};
use nadgrid_core::numerics::NumericsClass;
use nadgrid_core::runs::Outcome;
use nadgrid_core::spec::{Experiment, Variant};
use nadgrid_core::text;
use nadgrid_core::training::{Classifier, Ending, Recipe, RunKey, score};
use nadgrid_core::work::{RunParts, SampleCounts};
use nadgrid_kernels::Trainer;
use nadgrid_proto::v1::FailureKind;
use std::ops::Range;
use std::sync::Arc;
use tch::Device;

/// Bytes that a lane's trainer may take: the batch is the user's, memory is not narrowed below one run.
const TRAINER_BUDGET: u64 = 16 << 30;

/// Blocks of runs on one device.
pub(super) struct Runs {
    engine: Engine,
    inputs: Arc<Inputs>,
    prepared: Option<Prepared>,
}

/// What the job decides.
struct Prepared {
    of: (String, u32),
    source: Source,
    trainer: Option<Box<Trainer>>,
}

impl Runs {
    pub(super) fn new(engine: Engine, inputs: Arc<Inputs>) -> Self {
        Self { engine, inputs, prepared: None }
    }

    /// The outcomes of a shard's runs and the seconds that they took other lanes; `None` when they are not wanted any more.
    pub(super) fn shard(
        &mut self,
        job: &Job,
        class: (&NumericsClass, usize),
        from: Option<&[u8]>,
        watcher: &dyn Watcher,
    ) -> Result<Option<(Vec<Outcome>, f64)>, Fault> {
        let recipe = job.plan.spec.recipe(job.plan.shape.experiment).ok_or_else(|| missing(job))?;
        let shape = |members| self.engine.shape(job, &recipe, members);
        let mut course = Course::new(job, class, from, shape, watcher);
        self.prepared(job)?;
        watcher.begun();
        for block in job.node.blocks(job.grid().blocks()) {
            let members = job.members_of(block..block + 1);
            if !course.left(&members).is_empty() && !self.block(job, &recipe, members, &mut course)? {
                return Ok(None);
            }
            watcher.block_done();
            if !watcher.wants() {
                return Ok(None);
            }
        }
        Ok(Some(course.finish()))
    }

    /// Trains what is left of a block; false when it is not wanted any more.
    fn block(
        &mut self,
        job: &Job,
        recipe: &Recipe,
        members: Range<u64>,
        course: &mut Course<'_>,
    ) -> Result<bool, Fault> {
        match self.engine.evaluation {
            Evaluation::Patch => self.by_kernels(job, recipe, members, course),
            Evaluation::Dense | Evaluation::Fused => self.by_population(job, recipe, members, course),
        }
    }

    fn prepared(&mut self, job: &Job) -> Result<&mut Prepared, Fault> {
        let prepared = match self.prepared.take().filter(|prepared| prepared.of == job.of) {
            Some(prepared) => prepared,
            None => Prepared { of: job.of.clone(), source: Source::new(job, &self.inputs)?, trainer: None },
        };
        Ok(self.prepared.insert(prepared))
    }

    fn by_kernels(
        &mut self,
        job: &Job,
        recipe: &Recipe,
        members: Range<u64>,
        course: &mut Course<'_>,
    ) -> Result<bool, Fault> {
        let Prepared { source, trainer, .. } = self.prepared(job)?;
        let trainer = match trainer {
            Some(trainer) => trainer,
            None => trainer.insert(Box::new(new_trainer(&job.plan.network, recipe)?)),
        };
        let left = course.left(&members);
        for (member, (variant, key)) in left.clone().zip(runs(job, left)?) {
            let state = course.take_state(1);
            let samples = |part| Ok::<_, Fault>(source.samples(job, variant, &key, part)?.dataset());
            let (train, test) = (samples(Part::Train)?, samples(Part::Test)?);
            let place = member - members.start;
            let part = BlockPart::new(place..place + 1, members.end - members.start);
            let stretch = stretch(job, recipe, source.counts(job), part, state.as_ref());
            let mut observer = course.observer(&kernels_shape(job, recipe, 1), stretch, seconds(state.as_ref()));
            let ending = match &state {
                Some(state) => trainer.resume(state, &key, recipe, &train, &mut observer),
                None => trainer.train(&key, recipe, &train, &mut observer),
            };
            let scores = match ending {
                Ending::Stopped => return Ok(false),
                Ending::Diverged { .. } => None,
                Ending::Finished => Some([never(score(&mut **trainer, &train)), never(score(&mut **trainer, &test))]),
            };
            observer.evaluated();
            let mut outcome = outcome(ending, scores, recipe);
            let goes_on = |part: f64| {
                observer.measured(part);
                course.watcher.wants()
            };
            let Some(extra) = measure(job, source, scores.map(|_| &mut **trainer), &goes_on).map_err(|e| match e {})?
            else {
                return Ok(false);
            };
            outcome.extra = extra;
            outcome.seconds = observer.seconds();
            course.push(vec![outcome]);
        }
        Ok(true)
    }

    fn by_population(
        &mut self,
        job: &Job,
        recipe: &Recipe,
        members: Range<u64>,
        course: &mut Course<'_>,
    ) -> Result<bool, Fault> {
        let device = self.engine.device;
        let source = &self.prepared(job)?.source;
        let runs = runs(job, members.clone())?;
        let fault = |e: PopulationError| e.fault();
        let (network, counts, budget) = (&job.plan.network, source.counts(job), memory::budget(device));
        let samples = counts.train as usize;
        let width = population::width(device, network, recipe, samples, runs.len(), budget).map_err(fault)?;
        // Those of a population, and of the next one, which is made ahead.
        let held = runs.len().min(if device.is_cuda() { 2 * width } else { width });
        memory::check_host("the samples of a block", source.bytes(job, &runs[..held])).map_err(fault)?;
        let mut first = (course.left(&members).start - members.start) as usize;
        if !first.is_multiple_of(width) {
            // Of another width: these runs are another population's.
            course.back_to(members.start);
            first = 0;
        }
        let begin = |part: Part, first: usize| {
            let runs = &runs[first..runs.len().min(first + width)];
            let samples = shared(runs, |variant, key| source.samples(job, variant, key, part))?;
            SamplesAhead::begin(network, &samples, device).map_err(fault)
        };
        // Helpers make what is drawn. Images lie in the host's memory first, and take little time beside training on them.
        let drawn = device.is_cuda() && !job.plan.shape.experiment.is_on_images();
        let each = memory::bytes_per_member(device, network, (recipe.batch_size as usize).min(samples), samples);
        let beside_population = budget.saturating_sub(width as u64 * each);
        let begin_ahead = |part: Part, first: usize, room: &mut u64| {
            let runs = runs.len().saturating_sub(first).min(width) as u64;
            let bytes = memory::bytes_of_samples(network, part.of(counts) as u64, runs);
            match drawn && runs > 0 && bytes <= *room {
                false => Ok(None),
                true => {
                    *room -= bytes;
                    begin(part, first).map(Some)
                }
            }
        };
        let mut train_ahead = None;
        for first in (first..runs.len()).step_by(width) {
            let part = first..runs.len().min(first + width);
            let train = match train_ahead.take() {
                Some(train) => train,
                None => begin(Part::Train, first)?,
            };
            let train = train.finish().map_err(fault)?;
            let mut room = beside_population;
            let test = begin_ahead(Part::Test, first, &mut room)?;
            train_ahead = begin_ahead(Part::Train, part.end, &mut room)?;
            let test = || match test {
                Some(test) => Ok(test),
                None => begin(Part::Test, first),
            };
            let keys: Vec<RunKey> = runs[part.clone()].iter().map(|(_, key)| key.clone()).collect();
            let of_block = BlockPart::new(part.start as u64..part.end as u64, runs.len() as u64);
            let state = course.take_state(keys.len());
            let together = Together { job, source, device, recipe, keys: &keys, of_block };
            match together.outcomes(state.as_ref(), train, test, course)? {
                Some(outcomes) => course.push(outcomes),
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// Runs of one population.
struct Together<'a> {
    job: &'a Job,
    source: &'a Source,
    device: Device,
    recipe: &'a Recipe,
    keys: &'a [RunKey],
    /// Which part of their block they are.
    of_block: BlockPart,
}

impl Together<'_> {
    /// Trains and measures them, on test samples that are waited for after the training; `None` when they are not wanted any more.
    fn outcomes(
        &self,
        state: Option<&TrainingState<'_>>,
        train: Samples,
        test: impl FnOnce() -> Result<SamplesAhead, Fault>,
        course: &Course<'_>,
    ) -> Result<Option<Vec<Outcome>>, Fault> {
        let Self { job, source, device, recipe, keys, of_block } = *self;
        let fault = |e: PopulationError| e.fault();
        let (network, precision) = (&job.plan.network, job.plan.spec.precision);
        let training = Training { network, device, precision, recipe, keys, samples: &train };
        let stretch = stretch(job, recipe, source.counts(job), of_block, state);
        let watch = memory::OomWatch::new(device).map_err(fault)?;
        let mut observer = course.observer(&training.shape(), stretch, seconds(state));
        let Some(trained) = population::train(&training, state, &mut observer).map_err(fault)? else { return Ok(None) };
        let on_train = trained.evaluate(&train).map_err(fault)?;
        // Test samples that were not made ahead take its place.
        drop(train);
        let on_test = trained.evaluate(&test()?.finish().map_err(fault)?).map_err(fault)?;
        observer.evaluated();
        let all = keys.len() as f64;
        let mut outcomes = Vec::with_capacity(keys.len());
        for (run, ending) in trained.endings().iter().enumerate() {
            let scores = (*ending == Ending::Finished).then(|| [on_train[run], on_test[run]]);
            let mut outcome = outcome(*ending, scores, recipe);
            let mut member = scores.map(|_| trained.member(run)).transpose().map_err(fault)?;
            let goes_on = |part: f64| {
                observer.measured((run as f64 + part) / all);
                course.watcher.wants()
            };
            let Some(extra) = measure(job, source, member.as_mut(), &goes_on).map_err(fault)? else {
                return Ok(None);
            };
            outcome.extra = extra;
            outcomes.push(outcome);
        }
        watch.check("training and evaluating runs").map_err(fault)?;
        // Runs of a population share its time.
        let each = observer.seconds() / outcomes.len().max(1) as f64;
        outcomes.iter_mut().for_each(|outcome| outcome.seconds = each);
        Ok(Some(outcomes))
    }
}

impl Engine {
    /// What a state of `members` runs together holds here.
    fn shape(self, job: &Job, recipe: &Recipe, members: usize) -> TrainingShape {
        match self.evaluation {
            Evaluation::Patch => kernels_shape(job, recipe, members),
            Evaluation::Dense | Evaluation::Fused => population::state_shape(&job.plan.network, members, recipe),
        }
    }
}

fn missing(job: &Job) -> Fault {
    Fault::new(FailureKind::Spec, format!("the spec has no {}", job.plan.shape.experiment))
}

/// What runs of a job vary, and their keys.
fn runs(job: &Job, members: Range<u64>) -> Result<Vec<(Variant, RunKey)>, Fault> {
    let run = |run| job.plan.spec.run(job.plan.shape.experiment, &job.plan.shape.architecture, run);
    members.map(run).collect::<Option<_>>().ok_or_else(|| missing(job))
}

/// The stretch of runs that train and test on so many samples, and begin at `state`.
fn stretch(
    job: &Job,
    recipe: &Recipe,
    samples: SampleCounts,
    part: BlockPart,
    state: Option<&TrainingState<'_>>,
) -> Stretch {
    let margins = job.plan.spec.margin_counts().filter(|_| job.plan.shape.experiment == Experiment::Margins);
    let batches = recipe.batches(samples.train as usize) as u64;
    Stretch {
        part,
        parts: RunParts::new(&job.plan.network, recipe, samples, margins),
        done: u64::from(state.map_or(0, |state| state.epochs)) * batches,
        batches: u64::from(recipe.epochs) * batches,
    }
}

/// Seconds that a state took.
fn seconds(state: Option<&TrainingState<'_>>) -> f64 {
    state.map_or(0.0, |state| state.seconds)
}

/// The samples of runs. Runs of one variant on images share them.
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
            "training.batch_size = {}: a run takes {} ({needed} bytes), a lane has {} ({TRAINER_BUDGET} bytes)",
            recipe.batch_size,
            text::bytes(needed),
            text::bytes(TRAINER_BUDGET)
        );
        return Err(Fault::new(FailureKind::Spec, message));
    }
    Trainer::new(network).map_err(|e| of_kernel(&e))
}

/// Accuracies and losses on the training and the test samples, unless the run diverged.
fn outcome(ending: Ending, scores: Option<[(f64, f64); 2]>, recipe: &Recipe) -> Outcome {
    match (ending, scores) {
        (Ending::Diverged { epochs, step }, _) => Outcome::diverged(epochs, step),
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

/// What the experiment measures on the trained network: margins in every block, image by image, in units of pixels in [0, 1].
/// Not numbers where there is no network; `None` when the shard is not wanted any more, as `goes_on` says, which is told the part
/// that is measured.
fn measure<C: Classifier>(
    job: &Job,
    source: &Source,
    network: Option<&mut C>,
    goes_on: &dyn Fn(f64) -> bool,
) -> Result<Option<Vec<f64>>, C::Error> {
    let (Some(margins), Some(images)) = (&job.plan.spec.margins, source.test_images()) else {
        return Ok(Some(Vec::new()));
    };
    if source.subspaces().is_empty() {
        return Ok(Some(Vec::new()));
    }
    let (count, dimension) = (margins.images as usize, images.dimension);
    let Some(network) = network else { return Ok(Some(vec![f64::NAN; count * source.subspaces().len()])) };
    let mut network = OnPixels(network);
    let mut all = Vec::with_capacity(count * source.subspaces().len());
    for (place, subspace) in source.subspaces().iter().enumerate() {
        let inputs = &images.inputs[..count.min(images.len()) * dimension];
        let mut found = deepfool::margins(&mut network, inputs, dimension, subspace, &Limits::PUBLISHED)?;
        found.resize(count, f64::NAN);
        all.extend(found);
        if !goes_on((place + 1) as f64 / source.subspaces().len() as f64) {
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

    /// Gradients by normalised numbers become those by pixels.
    fn by_pixels(gradients: &mut [f32]) {
        let plane = cifar10::SHAPE.height * cifar10::SHAPE.width;
        for (place, values) in gradients.chunks_exact_mut(plane).enumerate() {
            let deviation = cifar10::STD[place % cifar10::STD.len()];
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

/// The kernels cannot fail.
fn never<T>(result: Result<T, std::convert::Infallible>) -> T {
    result.unwrap_or_else(|error| match error {})
}
