//! The sections of a spec: every key with its meaning, what it accepts, and the publication's value as its default.

use super::accepted::Accepted;
use super::key::section;
use super::recipe::Recipe;
use super::{Directions, Indices, MAX_BLOCK_SIZE, MAX_NETWORKS, MAX_RUNS};
use crate::numerics::Precision;
use serde::{Deserialize, Serialize};

/// Most samples of a directional set, and most images whose margins are measured.
const MAX_SAMPLES: u64 = 1_000_000;
/// The most evaluation points.
const MAX_POINTS: u64 = 1024;
const BLOCK_SIZES: Accepted = Accepted::PowersOfTwo { most: MAX_BLOCK_SIZE as u64 };
const INDICES: Accepted = Accepted::Words("a list of numbers, and of ranges whose end is left out, below D - 1");

section! {
    /// What to compute, and how.
    pub struct Spec {
        /// What to call the sweep.
        name: String, [Accepted::Name], required("\"sweep\"");
        /// The key of all random numbers: the same spec gives the same digest, on any number of workers.
        seed: u64, [Accepted::Integers { least: 0, most: i64::MAX as u64 }], default(0);
        /// The architectures: every experiment is done for each of them.
        architectures: Vec<String>, [Accepted::Architectures], required("[\"lenet\"]");
        /// What floating-point arithmetic is allowed. CPUs compute fp32 only.
        precision: Precision, [Accepted::one_of(&Precision::ALL)], default(Precision::Fp32);
        /// Share of the shards that a second worker computes too, to compare the bits.
        audit: f64, [Accepted::up_to(1.0)], default(0.0), unwritten if "is_zero";
        /// The networks' input.
        input: InputSpec, [table], empty;
        /// The NADs of the architectures.
        nads: Option<NadsSpec>, [table], optional, unwritten if "Option::is_none";
        /// Training runs along directions.
        directional: Option<DirectionalSpec>, [table], optional, unwritten if "Option::is_none";
        /// The images of the experiments below.
        cifar10: Option<Cifar10Spec>, [table], optional, unwritten if "Option::is_none";
        /// Training runs on poisoned images.
        poisoning: Option<PoisoningSpec>, [table], optional, unwritten if "Option::is_none";
        /// Training runs on images with flipped NADs.
        flipping: Option<FlippingSpec>, [table], optional, unwritten if "Option::is_none";
        /// Margins along NADs.
        margins: Option<MarginsSpec>, [table], optional, unwritten if "Option::is_none";
    }
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

section! {
    /// The networks' input. Its pixels, channels x height x width, are the dimension D of the NADs, at most 4,096. The experiments
    /// on CIFAR-10 require 3 x 32 x 32.
    pub struct InputSpec {
        /// Channels.
        channels: usize, [Accepted::AtLeast(1)], default(1);
        /// Rows.
        height: usize, [Accepted::AtLeast(1)], default(32);
        /// Columns.
        width: usize, [Accepted::AtLeast(1)], default(32);
    }
}

section! {
    /// Neural anisotropy directions: the gradients of many random networks at the same points, and the eigenvectors of their
    /// covariance.
    pub struct NadsSpec {
        /// How many random networks, N. The published NADs were computed from 10,000 networks; a covariance needs two.
        networks: u64, [Accepted::Integers { least: 2, most: MAX_NETWORKS }], required("2048");
        /// How a gradient is estimated. The publication takes central differences, two forward passes per pixel; autograd measures
        /// another quantity, whose directions are others.
        estimator: Estimator, [Accepted::one_of(&Estimator::ALL)], default(Estimator::CentralDifference);
        /// Step h of the central difference, in units of the input; means nothing to autograd.
        // The estimator computes in f32: the step must neither vanish nor overflow there.
        step: f64, [Accepted::Numbers { least: 1e-6, most: 1e9 }], default(100.0),
            when |nads| nads.estimator == Estimator::CentralDifference;
        /// Points of N(0, I) that all networks share; each network gives a gradient at each.
        points: u32, [Accepted::count(MAX_POINTS)], default(1);
        /// Networks per block, the unit of numerics: another size may change the last bits.
        block_size: u32, [BLOCK_SIZES], default(32);
    }
}

/// The estimator of a gradient.
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
    /// Every estimator.
    pub const ALL: [Self; 2] = [Self::CentralDifference, Self::Autograd];

    /// Forward passes for one gradient of `dimension` numbers by the definition.
    pub(super) const fn passes(self, dimension: usize) -> u64 {
        match self {
            Self::CentralDifference => 2 * dimension as u64,
            Self::Autograd => 1,
        }
    }
}

section! {
    /// The NADs, of one channel: a file, an earlier sweep, or, with neither, those of this sweep's [nads].
    pub struct BasisSpec {
        /// A .npy file, a NAD a row, for all architectures; looked for beside this file first.
        path: Option<String>, [Accepted::Path("a file")], optional("\"nads.npy\""), unwritten if "Option::is_none";
        /// The id of a complete sweep with input.channels = 1: every architecture uses its own NADs.
        sweep: Option<String>, [Accepted::Path("an id")], optional("\"ID\""), unwritten if "Option::is_none";
    }
}

section! {
    /// Training runs on data that are separable along one direction v, for each of many v: which directions does an architecture
    /// find easy?
    pub struct DirectionalSpec {
        /// The directions v.
        directions: Directions, [table], required;
        /// Distance of either class from the origin along v.
        offset: f64, [Accepted::up_to(1e6)], default(1.0);
        /// Standard deviation of the noise orthogonal to v.
        sigma: f64, [Accepted::up_to(1e6)], default(3.0);
        /// Runs of every direction, each with weights, data and order of its own.
        seeds: u32, [Accepted::count(MAX_RUNS)], default(1);
        /// Training samples of a run, half of each class.
        train_samples: u32, [Accepted::count(MAX_SAMPLES)], default(10_000);
        /// Test samples of a run.
        test_samples: u32, [Accepted::count(MAX_SAMPLES)], default(10_000);
        /// Runs that are trained together. Larger values use a GPU better; on a GPU the value affects the last bits of the result.
        block_size: u32, [BLOCK_SIZES], default(8);
        /// How networks are trained.
        training: Recipe, [table], over(Recipe::DIRECTIONAL);
    }
}

section! {
    /// The images that poisoning, flipping and margins train on.
    pub struct Cifar10Spec {
        /// The folder of data_batch_*.bin and test_batch.bin, looked for beside this file first.
        path: String, [Accepted::Path("a folder")], required("\"data/cifar-10-batches-bin\"");
    }
}

section! {
    /// Training runs on CIFAR-10 in which every class has a signal along NADs p and p + 1.
    pub struct PoisoningSpec {
        /// The NADs that carry the signal.
        basis: BasisSpec, [table], required;
        /// The first NAD p of each poisoned set.
        indices: Indices, [INDICES], required("[0, 10, { start = 20, end = 1021, stride = 100 }]");
        /// Size of the signal, in units of pixels in [0, 1].
        epsilon: f64, [Accepted::up_to(1e3)], default(0.05);
        /// Whether runs on unpoisoned images come first.
        clean: bool, [Accepted::one_of(&[true, false])], default(true);
        /// Runs of every set.
        seeds: u32, [Accepted::count(MAX_RUNS)], default(1);
        /// Runs that are trained together. Larger values use a GPU better; on a GPU the value affects the last bits of the result.
        block_size: u32, [BLOCK_SIZES], default(1);
        /// How networks are trained.
        training: Recipe, [table], over(Recipe::ON_IMAGES);
    }
}

section! {
    /// Training runs on CIFAR-10 with its NAD coefficients in reverse order, beside runs on the original images.
    pub struct FlippingSpec {
        /// The NADs, completed to a basis.
        basis: BasisSpec, [table], required;
        /// Runs of either set.
        seeds: u32, [Accepted::count(MAX_RUNS)], default(1);
        /// Runs that are trained together. Larger values use a GPU better; on a GPU the value affects the last bits of the result.
        block_size: u32, [BLOCK_SIZES], default(1);
        /// How networks are trained.
        training: Recipe, [table], over(Recipe::ON_IMAGES);
    }
}

section! {
    /// Networks trained on CIFAR-10, and the distances of test images to the decision boundary within blocks of NADs.
    pub struct MarginsSpec {
        /// The NADs; each block spans its NADs on every channel.
        basis: BasisSpec, [table], required;
        /// NADs of a block.
        subspace: u32, [Accepted::count(1024)], default(32);
        /// NADs from one block to the next.
        stride: u32, [Accepted::count(1024)], default(32);
        /// Test images whose margins are measured, the first of the test set.
        images: u32, [Accepted::count(MAX_SAMPLES)], default(100);
        /// Networks trained.
        seeds: u32, [Accepted::count(MAX_RUNS)], default(1);
        /// Runs that are trained together. Larger values use a GPU better; on a GPU the value affects the last bits of the result.
        block_size: u32, [BLOCK_SIZES], default(1);
        /// How networks are trained.
        training: Recipe, [table], over(Recipe::ON_IMAGES);
    }
}
