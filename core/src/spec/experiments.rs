//! The experiments of a spec, with the publication's values as defaults.

use super::Indices;
use crate::training::Recipe;
use serde::{Deserialize, Deserializer, Serialize};

/// The `nads` experiment: gradients of many random networks at a few points, and their covariance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nads {
    /// Networks N.
    pub networks: u64,
    /// How the gradient is estimated.
    #[serde(default)]
    pub estimator: Estimator,
    /// Step h of the central difference, in units of the input; means nothing to `autograd`.
    #[serde(default = "default_step")]
    pub step: f64,
    /// Evaluation points of N(0, I) that all networks share; each network gives a gradient at each.
    #[serde(default = "one")]
    pub points: u32,
    /// Networks per block, the unit of numerics.
    #[serde(default = "default_block_size")]
    pub block_size: u32,
}

fn default_step() -> f64 {
    100.0
}

fn default_block_size() -> u32 {
    32
}

fn one() -> u32 {
    1
}

/// How a gradient is estimated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Estimator {
    /// g_i = −[f(x₀+h·e_i) − f(x₀−h·e_i)]/(2h), the published estimator.
    #[default]
    CentralDifference,
    /// g = −∇f(x₀) by backpropagation: another quantity, whose directions are others (SCIENCE.md section 1).
    Autograd,
}

impl Estimator {
    /// Forward passes for one gradient of `dimension` numbers by the definition.
    pub(super) const fn passes(self, dimension: usize) -> u64 {
        match self {
            Self::CentralDifference => 2 * dimension as u64,
            Self::Autograd => 1,
        }
    }
}

/// Where NADs come from: a `.npy` file, an earlier sweep, or, with neither, the `nads` of the same sweep.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Basis {
    /// A `.npy` file, k x D, a direction a row. Uploaded with the spec; all architectures use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Id of a complete sweep; every architecture uses its own NADs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sweep: Option<String>,
}

/// The `directional` experiment: training runs on D(v) for every (architecture, direction, seed), SCIENCE.md section 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directional {
    /// The directions v.
    pub directions: Directions,
    /// Distance of either class from the origin along v: x = ±offset·v + noise.
    #[serde(default = "unit")]
    pub offset: f64,
    /// Standard deviation of the noise orthogonal to v.
    #[serde(default = "default_sigma")]
    pub sigma: f64,
    /// Runs of every direction, each with weights, data and order of its own.
    #[serde(default = "one")]
    pub seeds: u32,
    /// Training samples of a run, half of each class.
    #[serde(default = "default_samples")]
    pub train_samples: u32,
    /// Test samples of a run.
    #[serde(default = "default_samples")]
    pub test_samples: u32,
    /// Runs that are trained together as one population, the unit of numerics on a GPU; a power of two.
    #[serde(default = "default_population")]
    pub block_size: u32,
    /// How networks are trained.
    #[serde(default = "directional_recipe", deserialize_with = "over_directional_recipe")]
    pub training: Recipe,
}

fn unit() -> f64 {
    1.0
}

fn default_sigma() -> f64 {
    3.0
}

fn default_samples() -> u32 {
    10_000
}

fn default_population() -> u32 {
    8
}

/// The directions of a directional experiment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Directions {
    /// Plane waves, the same on every channel.
    Dft {
        /// (k₁ along rows, k₂ along columns), cycles per image. Without it, the 144 independent cells of the published table.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        frequencies: Option<Vec<[i64; 2]>>,
        /// Cosines or sines.
        #[serde(default)]
        wave: Wave,
    },
    /// NADs of the same sweep or of an earlier one.
    Nads {
        /// Id of a complete sweep; without it, the same sweep's `nads`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sweep: Option<String>,
        /// Which, 0 being the first; without it, all (of the same sweep only).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        indices: Option<Indices>,
    },
    /// Rows of a `.npy` file, normalised.
    File {
        /// The file, k x D; uploaded with the spec.
        path: String,
        /// Which rows.
        indices: Indices,
    },
    /// Single pixels, places in the flattened input.
    Pixels {
        /// Which.
        indices: Indices,
    },
    /// Uniformly on the sphere.
    Random {
        /// How many.
        count: u64,
    },
}

/// The phase of a plane wave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wave {
    /// cos(2π(k₁n₁/height + k₂n₂/width)).
    #[default]
    Cosine,
    /// The sine; zero where a frequency is its own conjugate.
    Sine,
}

/// The CIFAR-10 images that `poisoning`, `flipping` and `margins` train on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cifar10 {
    /// The folder of `data_batch_*.bin` and `test_batch.bin`; uploaded with the spec, each file once.
    pub path: String,
}

/// The `poisoning` experiment: every class gets a carrier along a NAD, SCIENCE.md section 3.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Poisoning {
    /// The NADs, of one channel: D = height x width.
    pub basis: Basis,
    /// The first NAD p of each poisoned set; carriers lie on p and p + 1.
    pub indices: Indices,
    /// Coefficient of every carrier, in units of pixels in [0, 1].
    #[serde(default = "default_epsilon")]
    pub epsilon: f64,
    /// Whether runs on unpoisoned images come first.
    #[serde(default = "yes")]
    pub clean: bool,
    /// Runs of every set.
    #[serde(default = "one")]
    pub seeds: u32,
    /// Runs trained together.
    #[serde(default = "one")]
    pub block_size: u32,
    /// How networks are trained.
    #[serde(default = "cifar10_recipe", deserialize_with = "over_cifar10_recipe")]
    pub training: Recipe,
}

fn default_epsilon() -> f64 {
    0.05
}

fn yes() -> bool {
    true
}

/// The `flipping` experiment: images with their NAD coefficients in reverse order, beside the original ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flipping {
    /// The NADs, of one channel: D = height x width; completed to a basis.
    pub basis: Basis,
    /// Runs of either set.
    #[serde(default = "one")]
    pub seeds: u32,
    /// Runs trained together.
    #[serde(default = "one")]
    pub block_size: u32,
    /// How networks are trained.
    #[serde(default = "cifar10_recipe", deserialize_with = "over_cifar10_recipe")]
    pub training: Recipe,
}

/// The `margins` experiment: distances to the decision boundary within blocks of NADs, by subspace DeepFool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Margins {
    /// The NADs, of one channel: D = height x width; each block spans its NADs on every channel.
    pub basis: Basis,
    /// NADs of a block.
    #[serde(default = "default_subspace")]
    pub subspace: u32,
    /// NADs from one block to the next.
    #[serde(default = "default_subspace")]
    pub stride: u32,
    /// Test images whose margins are measured, the first of the test set.
    #[serde(default = "default_images")]
    pub images: u32,
    /// Networks trained.
    #[serde(default = "one")]
    pub seeds: u32,
    /// Runs trained together.
    #[serde(default = "one")]
    pub block_size: u32,
    /// How networks are trained.
    #[serde(default = "cifar10_recipe", deserialize_with = "over_cifar10_recipe")]
    pub training: Recipe,
}

fn default_subspace() -> u32 {
    32
}

fn default_images() -> u32 {
    100
}

/// The published directional runs.
fn directional_recipe() -> Recipe {
    Recipe { epochs: 20, batch_size: 128, learning_rate: 0.5, momentum: 0.0, weight_decay: 0.0, gradient_clip: 0.5 }
}

/// The published poisoning runs.
fn cifar10_recipe() -> Recipe {
    Recipe { epochs: 50, batch_size: 128, learning_rate: 0.21, momentum: 0.9, weight_decay: 5e-4, gradient_clip: 0.5 }
}

/// A recipe's keys as they were written; those that were not keep the publication's value.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    epochs: Option<u32>,
    batch_size: Option<u32>,
    learning_rate: Option<f64>,
    momentum: Option<f64>,
    weight_decay: Option<f64>,
    gradient_clip: Option<f64>,
}

impl Written {
    fn over(self, paper: Recipe) -> Recipe {
        Recipe {
            epochs: self.epochs.unwrap_or(paper.epochs),
            batch_size: self.batch_size.unwrap_or(paper.batch_size),
            learning_rate: self.learning_rate.unwrap_or(paper.learning_rate),
            momentum: self.momentum.unwrap_or(paper.momentum),
            weight_decay: self.weight_decay.unwrap_or(paper.weight_decay),
            gradient_clip: self.gradient_clip.unwrap_or(paper.gradient_clip),
        }
    }
}

fn over_directional_recipe<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Recipe, D::Error> {
    Ok(Written::deserialize(deserializer)?.over(directional_recipe()))
}

fn over_cifar10_recipe<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Recipe, D::Error> {
    Ok(Written::deserialize(deserializer)?.over(cifar10_recipe()))
}
