//! The samples of a training job's runs: made from keys, or from images and NADs.
//!
//! NADs and images are fetched and prepared once for a job. Deliberately absent: training.

use super::ShardTask;
use super::basis::NadMatrix;
use crate::fault::Fault;
use crate::inputs::InputCache;
use crate::population::{RunSamples, memory};
use nadgrid_core::cifar10::{self, Images};
use nadgrid_core::dataset::Dataset;
use nadgrid_core::directions::{self, on_each_channel};
use nadgrid_core::scheduler::FailureKind;
use nadgrid_core::spec::{Direction, DirectionalSpec, Experiment, MarginsSpec, Spec, Variant, Wave};
use nadgrid_core::training::RunKey;
use nadgrid_core::work::SampleCounts;
use nadgrid_kernels::data::{DirectionalSamples, Flip, complete, poison};
use std::sync::Arc;

/// The purpose of a run's samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SampleSplit {
    /// Training, and the evaluation after it.
    Train,
    /// The evaluation, and never the training.
    Test,
}

impl SampleSplit {
    /// Returns the word by which random numbers are keyed.
    const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }

    /// Returns how many samples it has.
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
    fn of(&self, part: SampleSplit) -> &Dataset {
        match part {
            SampleSplit::Train => &self.train,
            SampleSplit::Test => &self.test,
        }
    }
}

/// The data that all runs of a job share.
pub(super) struct JobSamples {
    basis: Option<NadMatrix>,
    flip: Option<Flip>,
    images: Option<ImageSets>,
    /// An orthonormal basis of every block, rows of D numbers; empty unless margins are measured.
    subspaces: Vec<Vec<f64>>,
}

fn wrong(message: String) -> Fault {
    Fault::new(FailureKind::Spec, message)
}

impl JobSamples {
    /// Fetches and prepares what a job needs.
    ///
    /// # Errors
    /// A fault of the spec where files do not fit it, and those of [`InputCache::get`].
    pub(super) fn new(shard: &ShardTask, inputs: &InputCache) -> Result<Self, Fault> {
        let of = |role: &str| shard.inputs.iter().filter(|input| input.role == role).cloned().collect::<Vec<_>>();
        let basis = match of("basis").first() {
            Some(input) => {
                let matrix = NadMatrix::parse(&inputs.get(input)?);
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
        let experiment = shard.job.shape.experiment;
        let images = if experiment.is_on_images() {
            Some(ImageSets { train: images("train")?, test: images("test")? })
        } else {
            None
        };
        let mut source = Self { basis, flip: None, images, subspaces: Vec::new() };
        match (experiment, &shard.job.spec.margins) {
            (Experiment::Flipping, _) => source.flip = Some(Flip::new(&source.complete(&shard.job.spec)?)),
            (Experiment::Margins, Some(margins)) => source.subspaces = source.blocks(&shard.job.spec, margins)?,
            _ => {}
        }
        Ok(source)
    }

    fn basis(&self) -> Result<&NadMatrix, Fault> {
        self.basis.as_ref().ok_or_else(|| Fault::new(FailureKind::Task, "the shard came without its NADs"))
    }

    /// Returns an orthonormal basis of one channel whose first rows are the NADs.
    fn complete(&self, spec: &Spec) -> Result<nadgrid_kernels::data::Basis, Fault> {
        let plane = spec.input.height * spec.input.width;
        complete(&self.basis()?.numbers, plane).map_err(|e| wrong(format!("the basis: {e}")))
    }

    /// Returns the NADs of every block, each on every channel.
    fn blocks(&self, spec: &Spec, margins: &MarginsSpec) -> Result<Vec<Vec<f64>>, Fault> {
        let basis = self.complete(spec)?;
        let plane = basis.dimension();
        let size = margins.subspace as usize;
        let block = |place: u64| {
            let first = place as usize * margins.stride as usize;
            on_each_channel(&basis.rows()[first * plane..][..size * plane], plane, spec.input.channels)
        };
        Ok((0..spec.subspaces()).map(block).collect())
    }

    /// Returns the blocks of NADs along which margins are measured.
    pub(super) fn subspaces(&self) -> &[Vec<f64>] {
        &self.subspaces
    }

    /// Returns the test images before normalisation, for margins.
    pub(super) fn test_images(&self) -> Option<&Dataset> {
        self.images.as_ref().map(|images| &*images.test)
    }

    /// Returns the bytes of host memory that the samples of runs take together: runs of one variant on images share them.
    pub(super) fn bytes(&self, shard: &ShardTask, runs: &[(Variant, RunKey)]) -> u64 {
        let (samples, held) = match (&self.images, &shard.job.spec.directional) {
            (Some(images), _) => {
                let is_first = |&run: &usize| runs[..run].iter().all(|(known, _)| *known != runs[run].0);
                (images.train.len() + images.test.len(), (0..runs.len()).filter(is_first).count())
            }
            (None, Some(experiment)) => ((experiment.train_samples + experiment.test_samples) as usize, runs.len()),
            (None, None) => (0, 0),
        };
        memory::bytes_of_samples(&shard.job.network, samples as u64, held as u64)
    }

    /// Returns how many samples each run has.
    pub(super) fn counts(&self, shard: &ShardTask) -> SampleCounts {
        let (train, test) = match (&self.images, &shard.job.spec.directional) {
            (Some(images), _) => (images.train.len() as u64, images.test.len() as u64),
            (None, Some(directional)) => (directional.train_samples.into(), directional.test_samples.into()),
            (None, None) => (0, 0),
        };
        // They are made beside the runs.
        SampleCounts { train, test, drawn: false }
    }

    /// Returns one split of a run's samples. Samples of images are in memory then.
    ///
    /// # Errors
    /// A fault of the spec where NADs do not fit it.
    pub(super) fn samples(
        &self,
        shard: &ShardTask,
        variant: Variant,
        key: &RunKey,
        part: SampleSplit,
    ) -> Result<RunSamples, Fault> {
        match (variant, &shard.job.spec.directional) {
            (Variant::Direction(direction), Some(experiment)) => {
                let v = self.direction(shard, direction, key)?;
                let DirectionalSpec { offset, sigma, train_samples, test_samples, .. } = *experiment;
                let samples = if part == SampleSplit::Train { train_samples } else { test_samples } as usize;
                let samples = DirectionalSamples::new(key, part.name(), &v, offset, sigma, samples);
                Ok(RunSamples::Directional(Arc::new(samples)))
            }
            _ => Ok(RunSamples::Held(Arc::new(self.on_images(shard, variant, part)?))),
        }
    }

    fn direction(&self, shard: &ShardTask, direction: Direction, key: &RunKey) -> Result<Vec<f32>, Fault> {
        let shape = shard.job.network.input();
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

    fn on_images(&self, shard: &ShardTask, variant: Variant, part: SampleSplit) -> Result<Dataset, Fault> {
        let images =
            self.images.as_ref().ok_or_else(|| Fault::new(FailureKind::Task, "the shard came without images"))?;
        let mut data = images.of(part).clone();
        match (variant, part) {
            (Variant::Poisoned(p), SampleSplit::Train) => {
                let epsilon = shard.job.spec.poisoning.as_ref().map_or(0.0, |poisoning| poisoning.epsilon);
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
