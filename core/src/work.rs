//! The work of one member of a job, counted before anything runs.
//!
//! Deliberately absent: seconds. How long a count takes depends on what computes it, see [`crate::cost`].

use crate::architecture::{Layer, Network, Shape};
use crate::spec::Estimator;
use crate::training::Recipe;

/// Steps that DeepFool takes until an image changes its class, about.
const DEEPFOOL_STEPS: u64 = 5;
/// Inputs of a pass of central differences on a GPU, where they fit.
const INPUTS_OF_PASS: u64 = 2048;

/// The kind of work, which decides how fast a multiply-add is: work of one kind has one speed on one machine,
/// whatever its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkKind {
    /// Gradients of networks by central differences.
    Difference,
    /// Gradients of networks by backpropagation.
    Autograd,
    /// Training runs that measure no margins.
    Training,
    /// Training runs and then their margins.
    Margins,
}

/// The work of one member, in counts. Zero is nothing of that sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// The kind of the work, which decides how fast it is done.
    pub kind: WorkKind,
    /// Multiply-adds of layers as nadgrid's own kernels do them: a central difference only where a pixel reaches.
    pub multiply_adds: u64,
    /// Multiply-adds of layers when every forward pass is a whole one.
    pub dense_multiply_adds: u64,
    /// Numbers that layers without products and the batches of a training read and write.
    pub numbers: u64,
    /// Random numbers: weights, samples, orders.
    pub draws: u64,
    /// Products in double precision: a gradient's part in the scatter matrix, an image's in a basis.
    pub double_products: u64,
    /// Layers that run one after the other, on a device where each costs its host some time; members of a block share them, apart
    /// from central differences on a GPU.
    pub launches: u64,
}

/// The samples of a training run.
#[derive(Clone, Copy, Debug)]
pub struct SampleCounts {
    /// The number of samples trained on.
    pub train: u64,
    /// The number of samples tested with.
    pub test: u64,
    /// Whether they are drawn for every run; images are there already.
    pub drawn: bool,
}

/// The margins of a trained network.
#[derive(Clone, Copy, Debug, Default)]
pub struct MarginCounts {
    /// The number of images that are measured.
    pub images: u64,
    /// The number of blocks of NADs along which each image is measured.
    pub subspaces: u64,
    /// Numbers D of an image times vectors that span a block.
    pub basis_numbers: u64,
}

impl Work {
    /// The work of the gradients of one network at `points` points.
    pub fn of_gradients(network: &Network, estimator: Estimator, points: u64) -> Self {
        let (dimension, dense) = (network.input().len() as u64, network.multiply_adds());
        let (kind, own, passes, rounds) = match estimator {
            Estimator::CentralDifference => {
                let passes = 2 * dimension;
                let own = network.central_difference_multiply_adds();
                (WorkKind::Difference, own, passes, passes.div_ceil(INPUTS_OF_PASS))
            }
            // Forward, and backward to the input.
            Estimator::Autograd => (WorkKind::Autograd, 2 * dense, 2, 2),
        };
        Self {
            kind,
            multiply_adds: points.saturating_mul(own),
            dense_multiply_adds: points.saturating_mul(passes.saturating_mul(dense)),
            numbers: 0,
            draws: (network.parameter_count() as u64).saturating_add(points.saturating_mul(dimension)),
            double_products: points.saturating_mul(dimension * (dimension + 1) / 2),
            launches: points.saturating_mul(rounds * network.steps().len() as u64),
        }
    }

    /// The work of one training run, with both sets evaluated at its end.
    pub fn of_training(network: &Network, recipe: &Recipe, samples: SampleCounts) -> Self {
        let SampleCounts { train, test, drawn } = samples;
        let (dimension, forward) = (network.input().len() as u64, network.multiply_adds());
        let trained = u64::from(recipe.epochs).saturating_mul(train);
        // A backward pass costs two forward passes.
        let evaluated = train.saturating_add(test);
        let passes = trained.saturating_mul(3).saturating_add(evaluated);
        let multiply_adds = passes.saturating_mul(forward);
        let steps = u64::from(recipe.epochs).saturating_mul(train.div_ceil(u64::from(recipe.batch_size.max(1))));
        let inputs = evaluated.saturating_mul(dimension);
        let drawn = if drawn { inputs } else { 0 };
        Self {
            kind: WorkKind::Training,
            multiply_adds,
            dense_multiply_adds: multiply_adds,
            numbers: trained.saturating_mul(3 * activations(network)).saturating_add(inputs),
            draws: (network.parameter_count() as u64).saturating_add(trained).saturating_add(drawn),
            double_products: 0,
            launches: steps.saturating_mul(3 * network.steps().len() as u64),
        }
    }

    /// With images that are taken into a basis of one channel's pixels and back.
    #[must_use]
    pub fn with_images_in_basis(self, images: u64, shape: Shape) -> Self {
        let plane = (shape.height * shape.width) as u64;
        let products = images.saturating_mul(shape.channels as u64 * plane * plane);
        let (own, dense) = (self.multiply_adds, self.dense_multiply_adds);
        Self {
            multiply_adds: own.saturating_add(products),
            dense_multiply_adds: dense.saturating_add(products),
            ..self
        }
    }

    /// With the margins of the trained network, of `classes` classes: each step of DeepFool asks every class for a gradient.
    #[must_use]
    pub fn with_margins(self, network: &Network, margins: MarginCounts) -> Self {
        let MarginCounts { images, subspaces, basis_numbers } = margins;
        let (classes, forward) = (network.output().len() as u64, network.multiply_adds());
        let steps = images.saturating_mul(subspaces).saturating_mul(DEEPFOOL_STEPS);
        let multiply_adds = steps.saturating_mul((1 + 2 * classes).saturating_mul(forward));
        Self {
            kind: WorkKind::Margins,
            multiply_adds: self.multiply_adds.saturating_add(multiply_adds),
            dense_multiply_adds: self.dense_multiply_adds.saturating_add(multiply_adds),
            double_products: self
                .double_products
                .saturating_add(steps.saturating_mul((1 + classes).saturating_mul(basis_numbers))),
            launches: self
                .launches
                .saturating_add(subspaces.saturating_mul(DEEPFOOL_STEPS * 3 * network.steps().len() as u64)),
            ..self
        }
    }
}

/// The division of a run's time, as parts of the whole from its beginning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunParts {
    /// The part at which training ends.
    pub trained: f64,
    /// The part at which both sets are evaluated; what is left are margins.
    pub evaluated: f64,
}

impl RunParts {
    /// Returns the division of a run of this network by this recipe.
    pub fn new(network: &Network, recipe: &Recipe, samples: SampleCounts, margins: Option<MarginCounts>) -> Self {
        let run = Work::of_training(network, recipe, samples);
        let whole = margins.map_or(run, |margins| run.with_margins(network, margins));
        let SampleCounts { train, test, .. } = samples;
        let evaluation = train.saturating_add(test).saturating_mul(network.multiply_adds()) as f64;
        let all = (whole.multiply_adds as f64).max(1.0);
        let evaluated = run.multiply_adds as f64 / all;
        Self { trained: (evaluated - evaluation / all).max(0.0), evaluated }
    }
}

/// Numbers of an input and of the maps that layers without products make of it.
pub(crate) fn activations(network: &Network) -> u64 {
    let products = |layer: &Layer| matches!(layer, Layer::Conv2d(_) | Layer::Linear { .. });
    let maps = network.steps().iter().filter(|step| !products(&step.layer)).map(|step| step.output.len() as u64);
    network.input().len() as u64 + maps.sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::find;

    fn lenet(outputs: usize) -> Network {
        find("lenet").unwrap().network(Shape { channels: 1, height: 32, width: 32 }, outputs).unwrap()
    }

    /// 154 million multiply-adds in the windows that pixels reach (linearity saves LeNet's kernel half of them), 850 million in whole
    /// passes.
    #[test]
    fn a_central_difference_counts_what_is_evaluated() {
        let work = Work::of_gradients(&lenet(1), Estimator::CentralDifference, 1);
        assert!((140_000_000..170_000_000).contains(&work.multiply_adds), "{work:?}");
        assert!((800_000_000..900_000_000).contains(&work.dense_multiply_adds), "{work:?}");
        let many = Work::of_gradients(&lenet(1), Estimator::CentralDifference, 64);
        assert_eq!(many.multiply_adds, 64 * work.multiply_adds);
        assert_eq!(many.double_products, 64 * 1024 * 1025 / 2);
        let backward = Work::of_gradients(&lenet(1), Estimator::Autograd, 64);
        assert_eq!((backward.kind, backward.multiply_adds), (WorkKind::Autograd, 128 * lenet(1).multiply_adds()));
    }

    #[test]
    fn a_training_counts_epochs_samples_and_margins() {
        let recipe = |epochs| Recipe {
            epochs,
            batch_size: 128,
            learning_rate: 0.5,
            momentum: 0.0,
            weight_decay: 0.0,
            gradient_clip: 0.5,
        };
        let samples = SampleCounts { train: 10_000, test: 10_000, drawn: true };
        let (one, many) =
            (Work::of_training(&lenet(2), &recipe(1), samples), Work::of_training(&lenet(2), &recipe(20), samples));
        let forward = lenet(2).multiply_adds();
        assert_eq!((one.multiply_adds, many.multiply_adds), (50_000 * forward, 620_000 * forward));
        let margins = MarginCounts { images: 100, subspaces: 32, basis_numbers: 1024 * 32 };
        let measured = one.with_margins(&lenet(2), margins);
        assert_eq!(measured.multiply_adds - one.multiply_adds, 100 * 32 * DEEPFOOL_STEPS * 5 * forward);
    }

    /// The largest that a spec allows does not overflow.
    #[test]
    fn no_count_overflows() {
        let recipe = Recipe {
            epochs: u32::MAX,
            batch_size: 1,
            learning_rate: 0.5,
            momentum: 0.0,
            weight_decay: 0.0,
            gradient_clip: 0.5,
        };
        let samples = SampleCounts { train: u64::from(u32::MAX), test: u64::from(u32::MAX), drawn: true };
        assert!(Work::of_training(&lenet(2), &recipe, samples).multiply_adds > 1 << 60);
        assert!(Work::of_gradients(&lenet(1), Estimator::Autograd, u64::MAX).multiply_adds > 1 << 60);
    }
}
