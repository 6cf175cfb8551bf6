//! The jobs that a spec comes to, one for each experiment and architecture, and what every member of a job is.
//!
//! A grid is index arithmetic: run r of a training job is variant r / seeds, seed r % seeds.

use super::{
    BasisSpec, Directions, FileDirections, Indices, NadDirections, PixelDirections, PlaneWaves, Recipe, Spec, Wave,
};
use crate::cifar10;
use crate::directions::published_grid;
use crate::grid::Grid;
use crate::ids::{Digest, JobIndex};
use crate::moments::partial_bytes;
use crate::numerics::Precision;
use crate::runs::runs_bytes;
use crate::training::RunKey;
use crate::work::Work;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Bytes of an image and its label.
const RECORD_BYTES: u64 = 1 + cifar10::SHAPE.len() as u64;

/// The kinds of experiments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Experiment {
    /// Gradients of random networks and their covariance.
    Nads,
    /// Training runs on data along directions.
    Directional,
    /// Training runs on poisoned images.
    Poisoning,
    /// Training runs on images with flipped NADs.
    Flipping,
    /// Margins along NADs of trained networks.
    Margins,
}

impl Experiment {
    /// Every experiment, in the order in which a sweep lists its jobs.
    pub const ALL: [Self; 5] = [Self::Nads, Self::Directional, Self::Poisoning, Self::Flipping, Self::Margins];

    /// Its name in specs, results and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nads => "nads",
            Self::Directional => "directional",
            Self::Poisoning => "poisoning",
            Self::Flipping => "flipping",
            Self::Margins => "margins",
        }
    }

    /// The experiment of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|experiment| experiment.as_str() == name)
    }

    /// Outputs of its networks: NADs are defined for scalar functions, D(v) has two classes, CIFAR-10 ten.
    pub const fn outputs(self) -> usize {
        match self {
            Self::Nads => 1,
            Self::Directional => 2,
            Self::Poisoning | Self::Flipping | Self::Margins => cifar10::CLASSES,
        }
    }

    /// Whether it trains on CIFAR-10.
    pub const fn is_on_images(self) -> bool {
        matches!(self, Self::Poisoning | Self::Flipping | Self::Margins)
    }

    /// Returns the word for its members.
    pub const fn members(self) -> &'static str {
        match self {
            Self::Nads => "networks",
            _ => "runs",
        }
    }
}

impl fmt::Display for Experiment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The result that a worker hands in for a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Moments of the members' gradients: D, and gradients per member.
    Moments {
        /// The number of input pixels D.
        dimension: usize,
        /// The number of gradients of every member.
        points: u64,
    },
    /// An outcome for every run, with this many further numbers each.
    Runs {
        /// Further numbers of every run.
        extra: usize,
        /// Epochs that a run has at most.
        epochs: u32,
        /// Steps in all of them.
        steps: u64,
    },
}

impl Payload {
    /// Bytes of the payload of this many members.
    pub fn bytes(self, members: u64) -> u64 {
        match self {
            Self::Moments { dimension, .. } => partial_bytes(dimension) as u64,
            Self::Runs { extra, .. } => runs_bytes(members, extra) as u64,
        }
    }
}

/// The source of a job's NADs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BasisSource {
    /// It needs no NADs.
    None,
    /// They are in the result of another job of its sweep, for which it waits.
    Job(JobIndex),
    /// They are in the input of this name.
    Input(String),
}

/// One job of a sweep: one architecture of one experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct JobShape {
    /// The experiment.
    pub experiment: Experiment,
    /// The architecture's name.
    pub architecture: String,
    /// Members and blocks.
    pub grid: Grid,
    /// The number of input pixels D.
    pub dimension: usize,
    /// The payload that a shard yields.
    pub payload: Payload,
    /// The source of its NADs.
    pub basis: BasisSource,
    /// Forward passes of one member by the definition; a training run's backward passes not counted.
    pub forward_passes: u64,
    /// The work of one member; of members that differ, the mean.
    pub work: Work,
    /// The precision in which it is computed.
    pub precision: Precision,
    /// The number of parameters of one network.
    pub parameters: usize,
    /// Bytes of the state of a block in training, at most; 0 where nothing is trained.
    pub state_bytes: u64,
}

impl JobShape {
    /// Its name within the sweep, for example `nads/lenet`: results lie in a folder of this name.
    pub fn name(&self) -> String {
        format!("{}/{}", self.experiment, self.architecture)
    }
}

/// A file that a spec names, as it lies in the artifact store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRef {
    /// Its size in bytes.
    pub size: u64,
    /// The digest of the bytes.
    pub digest: Digest,
}

/// The files that a sweep was submitted with, by name: a path as the spec has it; for a folder, a path, `/` and the
/// file's name; for an earlier sweep's NADs, [`Upload::Sweep`]'s name.
pub type Inputs = BTreeMap<String, InputRef>;

/// A file or a result that a spec requires besides its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upload {
    /// A `.npy` file of directions.
    Directions {
        /// The key that names it.
        field: &'static str,
        /// The path of the file of directions.
        path: String,
        /// Numbers D of a row.
        dimension: usize,
        /// The largest row that is used, where rows are chosen.
        largest: Option<u64>,
    },
    /// A folder in CIFAR-10's binary format.
    Cifar10 {
        /// The folder.
        path: String,
    },
    /// NADs of an earlier sweep, which the coordinator has.
    Sweep {
        /// The key that names it.
        field: &'static str,
        /// The sweep's id.
        sweep: String,
        /// The architecture whose NADs they are.
        architecture: String,
        /// Numbers D of a row.
        dimension: usize,
        /// The largest row that is used, where rows are chosen.
        largest: Option<u64>,
    },
}

impl Upload {
    /// Its name among the inputs.
    pub fn name(&self) -> String {
        match self {
            Self::Directions { path, .. } | Self::Cifar10 { path } => path.clone(),
            Self::Sweep { sweep, architecture, .. } => sweep_input(sweep, architecture),
        }
    }
}

fn sweep_input(sweep: &str, architecture: &str) -> String {
    format!("sweep {sweep}/{}", nads_file(architecture))
}

/// The artifact that holds an architecture's NADs.
pub fn nads_file(architecture: &str) -> String {
    format!("{}/{architecture}/nads.npy", Experiment::Nads)
}

/// A direction by its coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// A plane wave.
    Wave {
        /// The phase, cosine or sine.
        wave: Wave,
        /// Cycles along rows.
        k1: i64,
        /// Cycles along columns.
        k2: i64,
    },
    /// A NAD, 0 being the first.
    Nad(u64),
    /// A row of a file.
    Row(u64),
    /// A pixel of the flattened input.
    Pixel(u64),
    /// A random direction.
    Random(u64),
}

/// The property that distinguishes the runs of a training job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// The data along a direction.
    Direction(Direction),
    /// Images as they are, beside poisoned ones.
    Clean,
    /// Images poisoned from this NAD on.
    Poisoned(u64),
    /// Images as they are, beside flipped ones.
    Original,
    /// Images whose NADs are flipped.
    Flipped,
    /// Images as they are, for margins.
    Trained,
}

/// Writes its label in results, by which random numbers are keyed too.
impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direction(Direction::Wave { wave: Wave::Cosine, k1, k2 }) => write!(f, "cos {k1} {k2}"),
            Self::Direction(Direction::Wave { wave: Wave::Sine, k1, k2 }) => write!(f, "sin {k1} {k2}"),
            Self::Direction(Direction::Nad(index)) => write!(f, "nad {index}"),
            Self::Direction(Direction::Row(index)) => write!(f, "row {index}"),
            Self::Direction(Direction::Pixel(index)) => write!(f, "pixel {index}"),
            Self::Direction(Direction::Random(index)) => write!(f, "random {index}"),
            Self::Clean => f.write_str("clean"),
            Self::Poisoned(p) => write!(f, "nad {p}"),
            Self::Original => f.write_str("original"),
            Self::Flipped => f.write_str("flipped"),
            Self::Trained => f.write_str("trained"),
        }
    }
}

impl Directions {
    /// Returns the number of directions, on an input of `nads` NADs.
    pub(super) fn len(&self, nads: u64) -> u64 {
        match self {
            Self::Dft(PlaneWaves { frequencies, .. }) => {
                frequencies.as_ref().map_or_else(|| published_grid().count(), Vec::len) as u64
            }
            Self::Nads(NadDirections { indices, .. }) => indices.as_ref().map_or(nads, Indices::len),
            Self::File(FileDirections { indices, .. }) | Self::Pixels(PixelDirections { indices }) => indices.len(),
            Self::Random(random) => random.count,
        }
    }

    /// The basis whose rows they are, if they are such.
    pub(super) fn basis(&self) -> Option<BasisSpec> {
        match self {
            Self::Nads(nads) => Some(BasisSpec { path: None, sweep: nads.sweep.clone() }),
            Self::File(file) => Some(BasisSpec { path: Some(file.path.clone()), sweep: None }),
            Self::Dft(_) | Self::Pixels(_) | Self::Random(_) => None,
        }
    }

    /// The largest row of the basis that is taken, where rows are chosen.
    fn largest_row(&self) -> Option<u64> {
        match self {
            Self::Nads(nads) => nads.indices.as_ref().and_then(Indices::largest),
            Self::File(file) => file.indices.largest(),
            Self::Dft(_) | Self::Pixels(_) | Self::Random(_) => None,
        }
    }

    /// The direction at a position below [`Directions::len`].
    fn get(&self, position: u64) -> Option<Direction> {
        Some(match self {
            Self::Dft(waves) => waves.get(usize::try_from(position).ok()?)?,
            Self::Nads(NadDirections { indices: None, .. }) => Direction::Nad(position),
            Self::Nads(NadDirections { indices: Some(indices), .. }) => Direction::Nad(indices.get(position)?),
            Self::File(file) => Direction::Row(file.indices.get(position)?),
            Self::Pixels(pixels) => Direction::Pixel(pixels.indices.get(position)?),
            Self::Random(_) => Direction::Random(position),
        })
    }
}

impl PlaneWaves {
    fn get(&self, position: usize) -> Option<Direction> {
        let [k1, k2] = match &self.frequencies {
            Some(frequencies) => *frequencies.get(position)?,
            None => published_grid().nth(position)?.into(),
        };
        Some(Direction::Wave { wave: self.wave, k1, k2 })
    }
}

/// The samples of a training set and of a test set.
#[derive(Clone, Copy)]
pub(super) struct SampleSizes {
    pub(super) train: u64,
    pub(super) test: u64,
}

/// The plan of a training experiment for one architecture.
pub(super) struct TrainingPlan {
    pub(super) variants: u64,
    pub(super) seeds: u32,
    pub(super) block_size: u32,
    pub(super) recipe: Recipe,
    pub(super) samples: SampleSizes,
    /// Further numbers of every run.
    pub(super) extra: usize,
    pub(super) basis: Option<BasisSpec>,
}

impl Spec {
    /// The experiments of this spec.
    pub fn experiments(&self) -> impl Iterator<Item = Experiment> + '_ {
        Experiment::ALL.into_iter().filter(|experiment| match experiment {
            Experiment::Nads => self.nads.is_some(),
            Experiment::Directional => self.directional.is_some(),
            Experiment::Poisoning => self.poisoning.is_some(),
            Experiment::Flipping => self.flipping.is_some(),
            Experiment::Margins => self.margins.is_some(),
        })
    }

    pub(super) fn training(&self, experiment: Experiment, inputs: &Inputs) -> Option<TrainingPlan> {
        Some(match experiment {
            Experiment::Nads => return None,
            Experiment::Directional => {
                let e = self.directional.as_ref()?;
                TrainingPlan {
                    variants: e.directions.len(self.nad_count()),
                    seeds: e.seeds,
                    block_size: e.block_size,
                    recipe: e.training,
                    samples: SampleSizes { train: u64::from(e.train_samples), test: u64::from(e.test_samples) },
                    extra: 0,
                    basis: e.directions.basis(),
                }
            }
            Experiment::Poisoning => {
                let e = self.poisoning.as_ref()?;
                TrainingPlan {
                    variants: e.indices.len() + u64::from(e.clean),
                    seeds: e.seeds,
                    block_size: e.block_size,
                    recipe: e.training,
                    samples: self.images(inputs),
                    extra: 0,
                    basis: Some(e.basis.clone()),
                }
            }
            Experiment::Flipping => {
                let e = self.flipping.as_ref()?;
                TrainingPlan {
                    variants: 2,
                    seeds: e.seeds,
                    block_size: e.block_size,
                    recipe: e.training,
                    samples: self.images(inputs),
                    extra: 0,
                    basis: Some(e.basis.clone()),
                }
            }
            Experiment::Margins => {
                let e = self.margins.as_ref()?;
                TrainingPlan {
                    variants: 1,
                    seeds: e.seeds,
                    block_size: e.block_size,
                    recipe: e.training,
                    samples: self.images(inputs),
                    extra: self.subspaces() as usize * e.images as usize,
                    basis: Some(e.basis.clone()),
                }
            }
        })
    }

    /// The recipe of a training experiment of this spec.
    pub fn recipe(&self, experiment: Experiment) -> Option<Recipe> {
        Some(self.training(experiment, &Inputs::new())?.recipe)
    }

    /// Runs of every architecture in a training experiment.
    pub(super) fn run_count(&self, experiment: Experiment) -> u64 {
        let training = self.training(experiment, &Inputs::new());
        training.map_or(0, |training| training.variants.saturating_mul(u64::from(training.seeds)))
    }

    /// Variant and key of a run of a training job; `None` when there is no such run.
    pub fn run(&self, experiment: Experiment, architecture: &str, run: u64) -> Option<(Variant, RunKey)> {
        let seeds = u64::from(self.training(experiment, &Inputs::new())?.seeds);
        let variant = self.variant(experiment, run / seeds)?;
        let key = RunKey {
            seed: self.seed,
            experiment: experiment.as_str(),
            architecture: architecture.to_owned(),
            variant: variant.to_string(),
            run: run % seeds,
        };
        Some((variant, key))
    }

    fn variant(&self, experiment: Experiment, place: u64) -> Option<Variant> {
        match experiment {
            Experiment::Nads => None,
            Experiment::Directional => self.directional.as_ref()?.directions.get(place).map(Variant::Direction),
            Experiment::Poisoning => {
                let poisoning = self.poisoning.as_ref()?;
                match (poisoning.clean, place) {
                    (true, 0) => Some(Variant::Clean),
                    (clean, place) => poisoning.indices.get(place - u64::from(clean)).map(Variant::Poisoned),
                }
            }
            Experiment::Flipping => [Variant::Original, Variant::Flipped].get(place as usize).copied(),
            Experiment::Margins => (place == 0).then_some(Variant::Trained),
        }
    }

    /// NADs that the sweep's own `nads` gives: min(D, gradients − 1); 0 without that experiment.
    pub fn nad_count(&self) -> u64 {
        let gradients = self.nads.as_ref().map_or(1, |nads| nads.networks.saturating_mul(u64::from(nads.points)));
        (self.shape().len() as u64).min(gradients.saturating_sub(1))
    }

    /// Blocks of NADs along which margins are measured: all that fit below height x width.
    pub fn subspaces(&self) -> u64 {
        let Some(margins) = &self.margins else { return 0 };
        let (all, size) = ((self.input.height * self.input.width) as u64, u64::from(margins.subspace));
        all.checked_sub(size).map_or(0, |rest| rest / u64::from(margins.stride.max(1)) + 1)
    }

    /// The images of the training and of the test set; those of the full set where the inputs lack one.
    fn images(&self, inputs: &Inputs) -> SampleSizes {
        let train = self.images_of(ImageSet::Train, inputs);
        let test = self.images_of(ImageSet::Test, inputs);
        if train == 0 || test == 0 { SampleSizes { train: 50_000, test: 10_000 } } else { SampleSizes { train, test } }
    }

    fn images_of(&self, set: ImageSet, inputs: &Inputs) -> u64 {
        let files = self.cifar10_files(inputs).filter(|(of, ..)| *of == set);
        files.map(|(_, _, input)| input.size / RECORD_BYTES).sum()
    }

    /// The files of the CIFAR-10 folder among the inputs, in the order of their names.
    pub fn cifar10_files<'a>(&'a self, inputs: &'a Inputs) -> impl Iterator<Item = (ImageSet, &'a str, &'a InputRef)> {
        let folder = self.cifar10.as_ref().map(|images| format!("{}/", images.path));
        inputs.iter().filter_map(move |(name, input)| {
            let file = name.strip_prefix(folder.as_deref()?)?;
            let set = if file == cifar10::TEST_FILE { ImageSet::Test } else { ImageSet::Train };
            Some((set, name.as_str(), input))
        })
    }

    pub(super) fn basis_source(&self, basis: &BasisSpec, architecture: &str) -> BasisSource {
        match (&basis.path, &basis.sweep) {
            (Some(path), _) => BasisSource::Input(path.clone()),
            (None, Some(sweep)) => BasisSource::Input(sweep_input(sweep, architecture)),
            (None, None) => {
                // The jobs of `nads` come first, in the order of the architectures.
                let place = self.architectures.iter().position(|name| name == architecture).unwrap_or_default();
                BasisSource::Job(JobIndex(place as u32))
            }
        }
    }

    /// Everything that must be uploaded or known to the coordinator before this spec can run.
    pub fn uploads(&self) -> Vec<Upload> {
        let (all, one_channel) = (self.shape().len(), self.input.height * self.input.width);
        let mut uploads = Vec::new();
        if let Some(e) = &self.directional
            && let Some(basis) = e.directions.basis()
        {
            self.want("directional.directions", &basis, all, e.directions.largest_row(), &mut uploads);
        }
        if let Some(e) = &self.poisoning {
            let largest = e.indices.largest().map(|p| p + 1);
            self.want("poisoning.basis", &e.basis, one_channel, largest, &mut uploads);
        }
        if let Some(e) = &self.flipping {
            self.want("flipping.basis", &e.basis, one_channel, None, &mut uploads);
        }
        if let Some(e) = &self.margins {
            self.want("margins.basis", &e.basis, one_channel, None, &mut uploads);
        }
        let trains_on_images = self.poisoning.is_some() || self.flipping.is_some() || self.margins.is_some();
        if let Some(images) = self.cifar10.as_ref().filter(|_| trains_on_images) {
            uploads.push(Upload::Cifar10 { path: images.path.clone() });
        }
        uploads
    }

    fn want(
        &self,
        field: &'static str,
        basis: &BasisSpec,
        dimension: usize,
        largest: Option<u64>,
        to: &mut Vec<Upload>,
    ) {
        if let Some(path) = basis.path.clone() {
            to.push(Upload::Directions { field, path, dimension, largest });
        } else if let Some(sweep) = &basis.sweep {
            to.extend(self.architectures.iter().map(|architecture| Upload::Sweep {
                field,
                sweep: sweep.clone(),
                architecture: architecture.clone(),
                dimension,
                largest,
            }));
        }
    }
}

/// One of the two sets of labelled images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageSet {
    /// The images to train on.
    Train,
    /// The images to test with.
    Test,
}
