//! What a training job's runs are trained and tested on: made from keys, or from images and NADs.
//!
//! NADs and images are fetched and prepared once for a job. Deliberately absent: training.

use super::Job;
use super::basis::Matrix;
use crate::board::Fault;
use crate::inputs::Inputs;
use crate::population::{RunSamples, memory};
use nadgrid_core::cifar10::{self, Images};
use nadgrid_core::dataset::Dataset;
use nadgrid_core::directions::{self, on_each_channel};
use nadgrid_core::spec::{Direction, DirectionalSpec, Experiment, MarginsSpec, Spec, Variant, Wave};
use nadgrid_core::training::RunKey;
use nadgrid_core::work::SampleCounts;
use nadgrid_kernels::data::{DirectionalSamples, Flip, complete, poison};
use nadgrid_proto::v1::FailureKind;
use std::sync::Arc;

/// What a run's samples are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Training, and evaluation after it.
    Train,
    /// A run is evaluated on these and not trained.
    Test,
}

impl Part {
    /// As random numbers are keyed by it.
    const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }

    /// The samples that it has.
    pub(super) const fn of(self, counts: SampleCounts) -> usize {
        match self {
            Self::Train => counts.train as usize,
            Self::Test => counts.test as usize,
        }
    }
}

/// Images, with pixels in [0, 1].
struct ImageSets {
    train: Arc<Dataset>,
    test: Arc<Dataset>,
}

impl ImageSets {
    fn of(&self, part: Part) -> &Dataset {
        match part {
            Part::Train => &self.train,
            Part::Test => &self.test,
        }
    }
}

/// What all runs of a job share.
pub(super) struct Source {
    basis: Option<Matrix>,
    flip: Option<Flip>,
    images: Option<ImageSets>,
    /// For margins, an orthonormal basis of every block, rows of D numbers.
    subspaces: Vec<Vec<f64>>,
}

fn wrong(message: String) -> Fault {
    Fault::new(FailureKind::Spec, message)
}

impl Source {
    /// Fetches and prepares what a job needs.
    ///
    /// # Errors
    /// A fault of the spec where files do not fit it, and those of fetching.
    pub(super) fn new(job: &Job, inputs: &Inputs) -> Result<Self, Fault> {
        let of = |role: &str| job.inputs.iter().filter(|input| input.role == role).cloned().collect::<Vec<_>>();
        let basis = match of("basis").first() {
            Some(input) => {
                let matrix = Matrix::parse(&inputs.get(input)?);
                Some(matrix.map_err(|e| wrong(format!("the file {:?}: {e}", input.name)))?)
            }
            None => None,
        };
        let images = |role: &str| -> Result<Arc<Dataset>, Fault> {
            let mut files = Vec::new();
            for input in of(role) {
                files.push(cifar10::parse(&inputs.get(&input)?, &input.name).map_err(|e| wrong(e.to_string()))?);
            }
            Ok(Arc::new(Images::concat(files).dataset()))
        };
        let experiment = job.plan.shape.experiment;
        let images = match experiment.is_on_images() {
            true => Some(ImageSets { train: images("train")?, test: images("test")? }),
            false => None,
        };
        let mut source = Self { basis, flip: None, images, subspaces: Vec::new() };
        match (experiment, &job.plan.spec.margins) {
            (Experiment::Flipping, _) => source.flip = Some(Flip::new(&source.complete(&job.plan.spec)?)),
            (Experiment::Margins, Some(margins)) => source.subspaces = source.blocks(&job.plan.spec, margins)?,
            _ => {}
        }
        Ok(source)
    }

    fn basis(&self) -> Result<&Matrix, Fault> {
        self.basis.as_ref().ok_or_else(|| Fault::new(FailureKind::Task, "the shard came without its NADs"))
    }

    /// An orthonormal basis of one channel whose first rows are the NADs.
    fn complete(&self, spec: &Spec) -> Result<nadgrid_kernels::data::Basis, Fault> {
        let plane = spec.input.height * spec.input.width;
        complete(&self.basis()?.numbers, plane).map_err(|e| wrong(format!("the basis: {e}")))
    }

    /// The NADs of every block, each on every channel.
    fn blocks(&self, spec: &Spec, margins: &MarginsSpec) -> Result<Vec<Vec<f64>>, Fault> {
        let basis = self.complete(spec)?;
        let (plane, size) = (basis.dimension(), margins.subspace as usize);
        let block = |place: u64| {
            let first = place as usize * margins.stride as usize;
            on_each_channel(&basis.rows()[first * plane..][..size * plane], plane, spec.input.channels)
        };
        Ok((0..spec.subspaces()).map(block).collect())
    }

    /// The blocks of NADs along which margins are measured.
    pub(super) fn subspaces(&self) -> &[Vec<f64>] {
        &self.subspaces
    }

    /// The test images as they are, for margins.
    pub(super) fn test_images(&self) -> Option<&Dataset> {
        self.images.as_ref().map(|images| &*images.test)
    }

    /// Bytes that the samples of runs take of the host together: runs of one variant on images share them.
    pub(super) fn bytes(&self, job: &Job, runs: &[(Variant, RunKey)]) -> u64 {
        let (samples, held) = match (&self.images, &job.plan.spec.directional) {
            (Some(images), _) => {
                let is_first = |&place: &usize| runs[..place].iter().all(|(known, _)| *known != runs[place].0);
                (images.train.len() + images.test.len(), (0..runs.len()).filter(is_first).count())
            }
            (None, Some(experiment)) => ((experiment.train_samples + experiment.test_samples) as usize, runs.len()),
            (None, None) => (0, 0),
        };
        memory::bytes_of_samples(&job.plan.network, samples as u64, held as u64)
    }

    /// A run's samples.
    /// How many samples each run has.
    pub(super) fn counts(&self, job: &Job) -> SampleCounts {
        let (train, test) = match (&self.images, &job.plan.spec.directional) {
            (Some(images), _) => (images.train.len() as u64, images.test.len() as u64),
            (None, Some(directional)) => (directional.train_samples.into(), directional.test_samples.into()),
            (None, None) => (0, 0),
        };
        // They are made beside the runs.
        SampleCounts { train, test, drawn: false }
    }

    /// A part of a run's samples. Those of images are in memory then.
    ///
    /// # Errors
    /// A fault of the spec where NADs do not fit it.
    pub(super) fn samples(&self, job: &Job, variant: Variant, key: &RunKey, part: Part) -> Result<RunSamples, Fault> {
        match (variant, &job.plan.spec.directional) {
            (Variant::Direction(direction), Some(experiment)) => {
                let v = self.direction(job, direction, key)?;
                let DirectionalSpec { offset, sigma, train_samples, test_samples, .. } = *experiment;
                let samples = if part == Part::Train { train_samples } else { test_samples } as usize;
                let samples = DirectionalSamples::new(key, part.name(), &v, offset, sigma, samples);
                Ok(RunSamples::Directional(Arc::new(samples)))
            }
            _ => Ok(RunSamples::Held(Arc::new(self.on_images(job, variant, part)?))),
        }
    }

    fn direction(&self, job: &Job, direction: Direction, key: &RunKey) -> Result<Vec<f32>, Fault> {
        let shape = job.plan.network.input();
        let found = match direction {
            Direction::Wave { wave: Wave::Cosine, k1, k2 } => return Ok(directions::dft_cosine(shape, k1, k2)),
            Direction::Wave { wave: Wave::Sine, k1, k2 } => directions::dft_sine(shape, k1, k2),
            Direction::Pixel(index) => directions::pixel(shape, index as usize),
            // One direction for all runs of this place: the stream is that of its first run.
            Direction::Random(_) => {
                return Ok(directions::random(shape, RunKey { run: 0, ..key.clone() }.stream("direction")));
            }
            Direction::Nad(index) | Direction::Row(index) => {
                let basis = self.basis()?;
                let row = basis.row(index);
                let row = row.ok_or_else(|| wrong(format!("direction {index}: the file has {} rows", basis.rows)))?;
                directions::normalised(row, shape.len())
            }
        };
        found.map_err(|e| wrong(format!("direction {}: {e}", Variant::Direction(direction))))
    }

    fn on_images(&self, job: &Job, variant: Variant, part: Part) -> Result<Dataset, Fault> {
        let images =
            self.images.as_ref().ok_or_else(|| Fault::new(FailureKind::Task, "the shard came without images"))?;
        let mut data = images.of(part).clone();
        match (variant, part) {
            (Variant::Poisoned(p), Part::Train) => {
                let epsilon = job.plan.spec.poisoning.as_ref().map_or(0.0, |poisoning| poisoning.epsilon);
                poison(&mut data, &self.basis()?.numbers, p as usize, epsilon).map_err(|e| wrong(e.to_string()))?;
            }
            (Variant::Flipped, _) => {
                if let Some(flip) = &self.flip {
                    flip.apply(&mut data).map_err(|e| wrong(e.to_string()))?;
                }
            }
            _ => {}
        }
        cifar10::normalise(&mut data);
        Ok(data)
    }
}
