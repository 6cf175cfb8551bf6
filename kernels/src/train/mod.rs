//! Training one network at a time on one thread.
//!
//! Sixteen samples of a batch are the lanes of a vector: maps are `[vector of samples][channel][row][column]`, weights are
//! broadcast, and no lane is idle however few channels a layer has. Every number is one chain of correctly rounded
//! operations that does not depend on the instruction set; the lanes beyond a batch's last sample contribute nothing.
//! Deliberately absent: threads, clocks, several networks at once, any optimiser but the recipe's.

mod batch_norm;
mod convolution;
mod descent;
mod elementwise;
mod lanes;
mod linear;
mod loss;
mod memory;
mod pass;
mod plan;
mod pool;
mod product;
mod weight_gradient;

use crate::error::{KernelError, NotFinite};
use crate::simd::InstructionSet;
use memory::TrainerMemory;
use nadgrid_core::architecture::Network;
use nadgrid_core::checkpoint::TrainingState;
use nadgrid_core::dataset::Dataset;
use nadgrid_core::random::Stream;
use nadgrid_core::training::{Classifier, Observer, Recipe, RunKey, TrainingOutcome};
use plan::{LayerWork, TrainerPlan};
use std::borrow::Cow;
use std::convert::Infallible;

/// The mode in which a network treats a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BatchMode {
    /// Batch norms use the batch's statistics, and the running ones follow; dropouts drop.
    Training,
    /// Batch norms use running statistics; dropouts do nothing.
    Evaluation,
}

/// Samples that are evaluated at once where no larger batch has been trained.
const EVALUATED: usize = 128;

/// A network, its parameters and running statistics, and memory for a batch.
pub struct Trainer {
    set: InstructionSet,
    network: Network,
    plan: TrainerPlan,
    parameters: Vec<f32>,
    gradient: Vec<f32>,
    velocity: Vec<f32>,
    running_means: Vec<f32>,
    running_variances: Vec<f32>,
    memory: TrainerMemory,
}

impl Trainer {
    /// A trainer of a network, on the best instruction set. Its parameters are zero.
    ///
    /// # Errors
    /// [`KernelError::Unsupported`] for a layer without size or output.
    pub fn new(network: &Network) -> Result<Self, KernelError> {
        Self::on(InstructionSet::best(), network)
    }

    /// The same on an instruction set of one's choice; results do not depend on it.
    ///
    /// # Errors
    /// As for [`Trainer::new`].
    pub fn on(set: InstructionSet, network: &Network) -> Result<Self, KernelError> {
        let zeros = || vec![0.0; network.parameter_count()];
        Ok(Self {
            set,
            plan: TrainerPlan::new(network)?,
            parameters: zeros(),
            gradient: zeros(),
            velocity: zeros(),
            running_means: vec![0.0; network.statistics_count()],
            running_variances: vec![1.0; network.statistics_count()],
            memory: TrainerMemory::default(),
            network: network.clone(),
        })
    }

    /// Bytes that a trainer of this network takes with batches of this many samples; 0 where there can be none.
    pub fn bytes(network: &Network, batch: usize) -> u64 {
        let Ok(plan) = TrainerPlan::new(network) else { return 0 };
        let numbers = 3 * network.parameter_count() + 2 * network.statistics_count();
        plan.bytes(batch) + TrainerMemory::bytes(&plan, batch) + (numbers * size_of::<f32>()) as u64
    }

    /// Draws the run's weights and trains them by the recipe, before the eyes of an observer.
    ///
    /// # Panics
    /// When the data do not fit the network: another dimension, a label that is no class, no samples.
    pub fn train(
        &mut self,
        key: &RunKey,
        recipe: &Recipe,
        data: &Dataset,
        observer: &mut dyn Observer,
    ) -> TrainingOutcome {
        self.network.draw(key.stream("weights"), &mut self.parameters);
        self.forget();
        let dropouts = self.dropouts(key);
        self.go_on(key, recipe, data, (0, dropouts), observer)
    }

    /// Goes on from a state of the same run, which an observer took of any trainer of this network: the result is the same to
    /// the bit.
    ///
    /// # Panics
    /// As [`Trainer::train`], and when the state is none of one run of this network with a velocity.
    pub fn resume(
        &mut self,
        state: &TrainingState<'_>,
        key: &RunKey,
        recipe: &Recipe,
        data: &Dataset,
        observer: &mut dyn Observer,
    ) -> TrainingOutcome {
        self.parameters.copy_from_slice(&state.parameters);
        self.velocity.copy_from_slice(&state.velocity);
        self.running_means.copy_from_slice(&state.means);
        self.running_variances.copy_from_slice(&state.variances);
        let mut dropouts = self.dropouts(key);
        assert_eq!(dropouts.len(), state.dropouts.len(), "dropout layers");
        dropouts.iter_mut().zip(&state.dropouts).for_each(|(stream, &position)| stream.seek(position));
        self.go_on(key, recipe, data, (state.epochs, dropouts), observer)
    }

    /// The epochs from one on, with the streams of the dropouts where they then stand.
    fn go_on(
        &mut self,
        key: &RunKey,
        recipe: &Recipe,
        data: &Dataset,
        (first, mut dropouts): (u32, Vec<Stream>),
        observer: &mut dyn Observer,
    ) -> TrainingOutcome {
        let batches = recipe.batches(data.len());
        for epoch in first..recipe.epochs {
            let order = key.order(epoch, data.len());
            for (batch, samples) in order.chunks(recipe.batch_size as usize).enumerate() {
                let rate = recipe.rate(epoch, batch, batches);
                if !self.step(data, samples, &mut dropouts, recipe, rate) {
                    let step = u64::from(epoch) * batches as u64 + batch as u64 + 1;
                    return TrainingOutcome::Diverged { epochs: epoch, step };
                }
                if !observer.goes_on() {
                    return TrainingOutcome::Stopped;
                }
            }
            if observer.wants_state() {
                observer.take_state(self.state(epoch + 1, &dropouts));
            }
        }
        TrainingOutcome::Finished
    }

    /// The state after so many epochs.
    fn state(&self, epochs: u32, dropouts: &[Stream]) -> TrainingState<'_> {
        TrainingState {
            epochs,
            seconds: 0.0,
            parameters: Cow::Borrowed(&self.parameters),
            velocity: Cow::Borrowed(&self.velocity),
            means: Cow::Borrowed(&self.running_means),
            variances: Cow::Borrowed(&self.running_variances),
            bad_since: vec![0],
            dropouts: dropouts.iter().map(Stream::position).collect(),
        }
    }

    /// Takes parameters in PyTorch's order, with fresh running statistics.
    ///
    /// # Panics
    /// When there are more or fewer than the network has.
    pub fn load(&mut self, parameters: &[f32]) {
        self.parameters.copy_from_slice(parameters);
        self.forget();
    }

    /// The parameters in PyTorch's order.
    pub fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    /// The running means and variances of all batch norms.
    pub fn running_statistics(&self) -> (&[f32], &[f32]) {
        (&self.running_means, &self.running_variances)
    }

    /// The gradient of the last batch's mean loss, before it was clipped, in the order of the parameters.
    pub fn gradient(&self) -> &[f32] {
        &self.gradient
    }

    /// The random numbers of the run's dropouts, as [`Trainer::batch_gradient`] takes them.
    pub fn dropouts(&self, key: &RunKey) -> Vec<Stream> {
        let nodes = self.plan.nodes.iter().enumerate();
        nodes
            .filter(|(_, node)| matches!(node.work, LayerWork::Dropout { .. }))
            .map(|(place, _)| key.dropout(place))
            .collect()
    }

    /// The mean loss of a batch in training mode; its gradient is then to be had from [`Trainer::gradient`]. Dropouts draw from
    /// their streams in turn; without streams they drop nothing.
    ///
    /// # Panics
    /// As [`Trainer::train`].
    pub fn batch_gradient(&mut self, data: &Dataset, samples: &[u32], dropouts: &mut [Stream]) -> f64 {
        let rows: Vec<&[f32]> = samples.iter().map(|&sample| data.input(sample as usize)).collect();
        let labels: Vec<u8> = samples.iter().map(|&sample| data.labels[sample as usize]).collect();
        self.take_batch(&rows);
        self.draw_masks(dropouts);
        self.forward(BatchMode::Training);
        let loss = self.loss(&labels);
        self.backward(BatchMode::Training);
        loss
    }

    /// Logits (n x classes) of n inputs as one batch in training mode without dropout; the running statistics follow it.
    ///
    /// # Panics
    /// When `inputs` is empty or no whole number of samples.
    pub fn training_logits(&mut self, inputs: &[f32]) -> Vec<f32> {
        let rows: Vec<&[f32]> = inputs.chunks_exact(self.network.input().len()).collect();
        self.take_batch(&rows);
        self.draw_masks(&mut []);
        self.forward(BatchMode::Training);
        self.output()
    }

    /// One step of a recipe on a batch, at a learning rate. Whether loss and weights are finite.
    ///
    /// # Panics
    /// As [`Trainer::train`].
    pub fn step(
        &mut self,
        data: &Dataset,
        samples: &[u32],
        dropouts: &mut [Stream],
        recipe: &Recipe,
        rate: f64,
    ) -> bool {
        let loss = self.batch_gradient(data, samples, dropouts);
        loss.is_finite() && self.descend(recipe, rate)
    }

    /// −∂(output 0)/∂x at a point of the network with these parameters, in evaluation mode: the negative gradient, of which
    /// [`CentralDifference`](crate::CentralDifference) is the difference quotient.
    ///
    /// # Errors
    /// [`NotFinite`] with the first pixel whose gradient overflows.
    ///
    /// # Panics
    /// When a length is wrong.
    pub fn gradient_at(&mut self, parameters: &[f32], point: &[f32], out: &mut [f32]) -> Result<(), NotFinite> {
        self.load(parameters);
        let mut cotangent = vec![0.0; self.network.output().len()];
        cotangent[0] = -1.0;
        match self.input_gradients(point, &cotangent) {
            Ok(gradient) => out.copy_from_slice(&gradient),
            Err(never) => match never {},
        }
        out.iter().position(|g| !g.is_finite()).map_or(Ok(()), |pixel| Err(NotFinite { pixel }))
    }

    /// The norm of [`Trainer::gradient`].
    pub fn gradient_norm(&self) -> f64 {
        descent::norm(&self.gradient)
    }

    /// Moves the parameters; whether they are finite.
    fn descend(&mut self, recipe: &Recipe, rate: f64) -> bool {
        let clip = recipe.clip_factor(self.gradient_norm());
        self.set.run(descent::Descend {
            clip: clip as f32,
            decay: recipe.weight_decay as f32,
            momentum: recipe.momentum as f32,
            rate: rate as f32,
            gradient: &self.gradient,
            velocity: &mut self.velocity,
            parameters: &mut self.parameters,
        })
    }

    /// Running statistics and velocity of a network that has not been trained.
    fn forget(&mut self) {
        self.velocity.fill(0.0);
        self.running_means.fill(0.0);
        self.running_variances.fill(1.0);
    }
}

impl Classifier for Trainer {
    type Error = Infallible;

    fn logits(&mut self, inputs: &[f32]) -> Result<Vec<f32>, Infallible> {
        let rows: Vec<&[f32]> = inputs.chunks_exact(self.network.input().len()).collect();
        let mut logits = Vec::with_capacity(rows.len() * self.network.output().len());
        for rows in rows.chunks(self.memory.capacity().max(EVALUATED)) {
            self.take_batch(rows);
            self.forward(BatchMode::Evaluation);
            logits.extend(self.output());
        }
        Ok(logits)
    }

    fn input_gradients(&mut self, inputs: &[f32], cotangents: &[f32]) -> Result<Vec<f32>, Infallible> {
        let rows: Vec<&[f32]> = inputs.chunks_exact(self.network.input().len()).collect();
        let cotangents: Vec<&[f32]> = cotangents.chunks_exact(self.network.output().len()).collect();
        let mut gradients = Vec::with_capacity(inputs.len());
        let together = self.memory.capacity().max(EVALUATED);
        for (rows, cotangents) in rows.chunks(together).zip(cotangents.chunks(together)) {
            self.take_batch(rows);
            self.forward(BatchMode::Evaluation);
            self.take_cotangents(cotangents);
            self.backward(BatchMode::Evaluation);
            gradients.extend(self.input_gradient());
        }
        Ok(gradients)
    }
}
