//! The training of a network: the recipe, the schedule, the order of batches. The CPU kernels and the libtorch
//! populations share it, so that both train the same run.
//!
//! Deliberately absent: arithmetic on weights. Sources: SCIENCE.md sections 2 and 3, and PyTorch's SGD.

use crate::checkpoint::TrainingState;
use crate::dataset::Dataset;
use crate::random::Stream;

pub use crate::spec::Recipe;

/// The number that is added to a gradient's norm before the limit is divided by it, as in PyTorch's `clip_grad_norm_`.
pub const CLIP_EPS: f64 = 1e-6;

impl Recipe {
    /// Returns the number of batches in an epoch.
    pub fn batches(&self, samples: usize) -> usize {
        samples.div_ceil(self.batch_size as usize)
    }

    /// The learning rate of a batch's step, lr₀·(1 − (epoch + (batch + 1)/batches)/epochs): 0 for the very last.
    pub fn rate(&self, epoch: u32, batch: usize, batches: usize) -> f64 {
        let done = f64::from(epoch) + (batch + 1) as f64 / batches as f64;
        self.learning_rate * (1.0 - done / f64::from(self.epochs))
    }

    /// The factor that a gradient of this norm is multiplied by.
    pub fn clip_factor(&self, norm: f64) -> f64 {
        if self.gradient_clip == 0.0 { 1.0 } else { (self.gradient_clip / (norm + CLIP_EPS)).min(1.0) }
    }
}

/// The coordinates of a run, from which all its random numbers are keyed: nothing else of the sweep changes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunKey {
    /// The sweep's seed.
    pub seed: u64,
    /// `directional`, `poisoning`, `flipping`, `margins`.
    pub experiment: &'static str,
    /// The architecture's name.
    pub architecture: String,
    /// The variant, for example the direction `nad 10`.
    pub variant: String,
    /// The index of the run among those of its variant.
    pub run: u64,
}

impl RunKey {
    /// The run's random numbers for one purpose, for example `weights`.
    pub fn stream(&self, purpose: &str) -> Stream {
        Stream::new(self.seed, &[self.experiment, &self.architecture, &self.variant, purpose], self.run)
    }

    /// The random numbers of a dropout layer (its place among the network's steps). The run draws from it batch by batch, see
    /// [`Stream::fill_dropout`].
    pub fn dropout(&self, layer: usize) -> Stream {
        self.stream(&format!("dropout {layer}"))
    }

    /// The order in which an epoch takes the samples: a permutation of 0 … samples − 1.
    pub fn order(&self, epoch: u32, samples: usize) -> Vec<u32> {
        self.stream(&format!("order {epoch}")).permutation(samples)
    }
}

/// The way in which the training of a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrainingOutcome {
    /// All epochs were trained.
    Finished,
    /// The loss of a batch, or a weight after its step, was no finite number.
    Diverged {
        /// Epochs completed before.
        epochs: u32,
        /// The step, counted from 1 over all epochs.
        step: u64,
    },
    /// The observer answered that the run is not wanted any more.
    Stopped,
}

/// An observer of a training. Any `FnMut() -> bool` is one, which is asked whether to go on.
pub trait Observer {
    /// Asked after every batch: whether to go on.
    fn goes_on(&mut self) -> bool;

    /// Asked after every epoch: whether its state is wanted.
    fn wants_state(&mut self) -> bool {
        false
    }

    /// Takes the state that was wanted.
    fn take_state(&mut self, _state: TrainingState<'_>) {}
}

impl<F: FnMut() -> bool> Observer for F {
    fn goes_on(&mut self) -> bool {
        self()
    }
}

/// A network in evaluation mode, as it was left by its training.
pub trait Classifier {
    /// The error of the engine.
    type Error;

    /// Logits (n x classes, row-major) of n inputs (n x D, row-major).
    ///
    /// # Errors
    /// The engine's own.
    fn logits(&mut self, inputs: &[f32]) -> Result<Vec<f32>, Self::Error>;

    /// Σ_k c_k · ∂logit_k/∂x at n inputs (n x D), for n rows of cotangents c (n x classes): n x D.
    ///
    /// # Errors
    /// The engine's own.
    fn input_gradients(&mut self, inputs: &[f32], cotangents: &[f32]) -> Result<Vec<f32>, Self::Error>;

    /// The gradients of [`Classifier::input_gradients`] at the same inputs for each of several sets of cotangents. `take` is given
    /// the set, the first of some inputs, and their gradients (n x D); those of an input come in the order of the sets.
    ///
    /// # Errors
    /// The engine's own.
    fn each_input_gradients(
        &mut self,
        inputs: &[f32],
        cotangents: &[Vec<f32>],
        take: &mut dyn FnMut(usize, usize, &[f32]),
    ) -> Result<(), Self::Error> {
        for (set, cotangents) in cotangents.iter().enumerate() {
            take(set, 0, &self.input_gradients(inputs, cotangents)?);
        }
        Ok(())
    }
}

/// Samples that are classified at once.
const SCORED: usize = 512;

/// A network's accuracy on samples in percent, and its mean cross-entropy in nats.
///
/// # Errors
/// The engine's own.
pub fn score<C: Classifier>(network: &mut C, data: &Dataset) -> Result<(f64, f64), C::Error> {
    let (mut right, mut loss) = (0u64, 0.0);
    for (inputs, labels) in data.inputs.chunks(SCORED * data.dimension).zip(data.labels.chunks(SCORED)) {
        let logits = network.logits(inputs)?;
        let classes = logits.len() / labels.len();
        for (row, &label) in logits.chunks_exact(classes).zip(labels) {
            // The first of the largest, as argmax takes it.
            let best = (1..classes).fold(0, |best, class| if row[class] > row[best] { class } else { best });
            right += u64::from(best == usize::from(label));
            loss += cross_entropy(row, usize::from(label));
        }
    }
    let count = data.len() as f64;
    Ok((100.0 * right as f64 / count, loss / count))
}

/// ln Σ_k exp(logit_k) − logit_label, in f64 by `libm`, so that the bits do not depend on the platform.
pub fn cross_entropy(logits: &[f32], label: usize) -> f64 {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&logit| libm::exp(f64::from(logit) - largest)).sum();
    libm::log(sum) - (f64::from(logits[label]) - largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: Recipe = Recipe {
        epochs: 20,
        batch_size: 128,
        learning_rate: 0.5,
        momentum: 0.0,
        weight_decay: 0.0,
        gradient_clip: 0.5,
    };

    #[test]
    fn the_rate_falls_linearly_to_zero() {
        let batches = RECIPE.batches(10_000);
        assert_eq!(batches, 79);
        assert!((RECIPE.rate(0, 0, batches) - 0.5 * (1.0 - 1.0 / 79.0 / 20.0)).abs() < 1e-15);
        assert!((RECIPE.rate(10, 38, batches) - 0.5 * (1.0 - (10.0 + 39.0 / 79.0) / 20.0)).abs() < 1e-15);
        assert!(RECIPE.rate(19, 78, batches).abs() < 1e-15);
    }

    /// Logits are the inputs themselves.
    struct Identity;

    impl Classifier for Identity {
        type Error = std::convert::Infallible;

        fn logits(&mut self, inputs: &[f32]) -> Result<Vec<f32>, Self::Error> {
            Ok(inputs.to_vec())
        }

        fn input_gradients(&mut self, _: &[f32], cotangents: &[f32]) -> Result<Vec<f32>, Self::Error> {
            Ok(cotangents.to_vec())
        }
    }

    #[test]
    fn scores_count_what_is_right_and_average_the_loss() {
        let rows = [([2.0, 0.0], 0), ([0.0, 1.0], 0), ([1.0, 1.0], 0), ([1.0, 1.0], 1)];
        let mut data = Dataset { dimension: 2, ..Dataset::default() };
        for (row, label) in rows {
            data.inputs.extend(row);
            data.labels.push(label);
        }
        let (accuracy, loss) = score(&mut Identity, &data).unwrap();
        // A tie goes to the first class.
        assert_eq!(accuracy, 50.0);
        let two = 2f64.ln();
        let expected = ((1.0 + (-2f64).exp()).ln() + (1.0 + 1f64.exp()).ln() + two + two) / 4.0;
        assert!((loss - expected).abs() < 1e-15, "{loss}");
        assert!((cross_entropy(&[1e4, 0.0], 1) - 1e4).abs() < 1e-9);
    }

    #[test]
    fn gradients_are_clipped_as_pytorch_does() {
        assert_eq!(RECIPE.clip_factor(0.1), 1.0);
        assert_eq!(RECIPE.clip_factor(2.0), 0.5 / 2.000_001);
        assert_eq!(Recipe { gradient_clip: 0.0, ..RECIPE }.clip_factor(1e9), 1.0);
    }

    #[test]
    fn orders_are_permutations_of_their_own() {
        let key = RunKey {
            seed: 3,
            experiment: "directional",
            architecture: "lenet".into(),
            variant: "nad 10".into(),
            run: 0,
        };
        let order = key.order(0, 1000);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().enumerate().all(|(i, &o)| i == o as usize));
        assert_eq!(order, key.order(0, 1000));
        assert_ne!(order, key.order(1, 1000));
        assert_ne!(order, RunKey { run: 1, ..key.clone() }.order(0, 1000));
        assert_ne!(order, RunKey { variant: "nad 11".into(), ..key }.order(0, 1000));
    }
}
