//! The shapes of a spec's jobs: what every member of each is, and what it has to compute.
//!
//! A job is made by itself, whatever the others are: a worker asks for one. Deliberately absent: seconds.

use super::jobs::SampleSizes;
use super::{BasisSource, Experiment, Inputs, JobShape, Payload, Spec};
use crate::architecture::Network;
use crate::checkpoint::TrainingShape;
use crate::grid::Grid;
use crate::work::{MarginCounts, SampleCounts, Work};

impl Spec {
    /// The jobs of this sweep, in order: experiment by experiment, each architecture in turn. What training on CIFAR-10 costs
    /// depends on the files; without them it is that of the full set.
    ///
    /// # Panics
    /// When the spec was not validated.
    pub fn jobs(&self, inputs: &Inputs) -> Vec<JobShape> {
        (0..self.job_count()).filter_map(|place| self.job(place, inputs)).map(|(shape, _)| shape).collect()
    }

    /// Returns the number of jobs in this sweep.
    pub fn job_count(&self) -> usize {
        self.experiments().count() * self.architectures.len()
    }

    /// The job at a place among [`Spec::jobs`], and its network; `None` when there is no such job.
    ///
    /// # Panics
    /// When the spec was not validated.
    pub fn job(&self, place: usize, inputs: &Inputs) -> Option<(JobShape, Network)> {
        let count = self.architectures.len();
        let experiment = self.experiments().nth(place.checked_div(count)?)?;
        let architecture = &self.architectures[place % count];
        let network = self.network(architecture, experiment).expect("validated");
        let shape = match experiment {
            Experiment::Nads => self.nads_job(architecture, &network),
            _ => self.training_job(experiment, architecture, &network, inputs),
        };
        Some((shape, network))
    }

    fn nads_job(&self, architecture: &str, network: &Network) -> JobShape {
        let nads = self.nads.as_ref().expect("the spec has it");
        let (dimension, points) = (self.shape().len(), u64::from(nads.points));
        JobShape {
            experiment: Experiment::Nads,
            architecture: architecture.to_owned(),
            grid: Grid { networks: nads.networks, block_size: nads.block_size },
            dimension,
            payload: Payload::Moments { dimension, points },
            basis: BasisSource::None,
            forward_passes: points * nads.estimator.passes(dimension),
            work: Work::of_gradients(network, nads.estimator, points),
            precision: self.precision,
            parameters: network.parameter_count(),
            state_bytes: 0,
        }
    }

    fn training_job(&self, experiment: Experiment, architecture: &str, network: &Network, inputs: &Inputs) -> JobShape {
        let training = self.training(experiment, inputs).expect("the spec has it");
        let SampleSizes { train, test } = training.samples;
        let samples = SampleCounts { train, test, drawn: experiment == Experiment::Directional };
        let trained = Work::of_training(network, &training.recipe, samples);
        let work = match experiment {
            Experiment::Margins => trained.with_margins(network, self.margin_counts().unwrap_or_default()),
            // Of the images as they are and the flipped ones, only these are multiplied with the basis.
            Experiment::Flipping => trained.with_images_in_basis((train + test) / 2, self.shape()),
            _ => trained,
        };
        JobShape {
            experiment,
            architecture: architecture.to_owned(),
            grid: Grid { networks: training.variants * u64::from(training.seeds), block_size: training.block_size },
            dimension: self.shape().len(),
            payload: Payload::Runs {
                extra: training.extra,
                epochs: training.recipe.epochs,
                steps: u64::from(training.recipe.epochs) * train.div_ceil(u64::from(training.recipe.batch_size.max(1))),
            },
            basis: training.basis.map_or(BasisSource::None, |basis| self.basis_source(&basis, architecture)),
            forward_passes: u64::from(training.recipe.epochs) * train + train + test,
            work,
            precision: self.precision,
            parameters: network.parameter_count(),
            state_bytes: TrainingShape::new(network, training.block_size as usize, true, 0).bytes(),
        }
    }

    /// The margins that the spec asks for.
    pub fn margin_counts(&self) -> Option<MarginCounts> {
        let margins = self.margins.as_ref()?;
        let shape = self.shape();
        let vectors = u64::from(margins.subspace) * shape.channels as u64;
        Some(MarginCounts {
            images: u64::from(margins.images),
            subspaces: self.subspaces(),
            basis_numbers: vectors.saturating_mul(shape.len() as u64),
        })
    }
}
