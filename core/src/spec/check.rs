//! The checks of a spec: everything wrong at once, each thing with its key, its value and what would be accepted.
//!
//! What a key accepts by itself stands with the key, in sections.rs; here are the checks of several keys together.

use super::accepted::{Accepted, written};
use super::error::MAX_VIOLATIONS;
use super::jobs::TrainingPlan;
use super::key::SpecTable;
use super::{
    BasisSpec, Directions, Experiment, Indices, InputSpec, Inputs, MAX_PIXELS, MAX_RUNS, NadDirections, PlaneWaves,
    Spec, Violation, Wave, registry, unknown_architecture,
};
use crate::architecture;
use crate::cifar10;
use crate::text;
use crate::work;
use serde::Serialize;
use std::fmt::Debug;

/// Bytes of the samples of a run, which each slot of a worker holds.
const MAX_SAMPLE_BYTES: u64 = 4 << 30;
/// Bytes of the maps of a batch.
const MAX_BATCH_BYTES: u64 = 64 << 30;
/// Margins of a run, each of one image in one subspace.
const MAX_MARGINS: u64 = 1 << 25;
/// The largest absolute frequency.
const MAX_FREQUENCY: u64 = 1 << 20;

/// The violations found so far.
pub(super) struct Checks(pub(super) Vec<Violation>);

impl Checks {
    fn require(&mut self, holds: bool, field: &str, value: impl ToString, accepted: impl FnOnce() -> String) {
        // One more than is reported, which shows that there are more.
        if !holds && self.0.len() <= MAX_VIOLATIONS {
            let accepted = accepted();
            self.0.push(Violation { field: field.to_owned(), value: value.to_string(), accepted, position: None });
        }
    }

    /// Requires the value of a key to be accepted.
    pub(super) fn key(&mut self, field: String, value: &(impl Serialize + Debug), accepted: &Accepted) {
        if matches!(accepted, Accepted::OneOf(_) | Accepted::Architectures | Accepted::Words(_)) {
            return;
        }
        // An integer that TOML cannot hold has no value of it.
        let found = toml::Value::try_from(value).ok();
        if !found.is_some_and(|found| accepted.admits(&found)) {
            let shown = written(value);
            let shown = if shown.is_empty() { format!("{value:?}") } else { shown };
            self.require(false, &field, shown, || accepted.to_string());
        }
    }

    fn indices(&mut self, field: &str, indices: &Indices) {
        if let Some(fault) = indices.fault() {
            self.require(false, field, "", || fault);
        }
    }

    /// Requires well-written indices below a count, which `what` explains.
    fn indices_below(&mut self, field: &str, indices: &Indices, count: u64, what: &str) {
        self.indices(field, indices);
        if let (None, Some(largest)) = (indices.fault(), indices.largest()) {
            self.require(largest < count, field, largest, || format!("below {count}, {what}"));
        }
    }
}

impl Spec {
    pub(super) fn violations(&self) -> Vec<Violation> {
        let mut checks = Checks(Vec::new());
        self.check("", &mut checks);
        checks.require(self.experiments().next().is_some(), "", "", || {
            format!("a spec has at least one experiment: {}", Experiment::ALL.map(|e| format!("[{e}]")).join(", "))
        });
        let input_fits = self.check_input(&mut checks);
        self.check_architectures(&mut checks, input_fits);
        if let Some(directional) = &self.directional {
            self.check_directions(&mut checks, &directional.directions);
        }
        self.check_images(&mut checks);
        self.check_runs(&mut checks);
        if input_fits {
            self.check_samples(&mut checks);
            self.check_margins(&mut checks);
            self.check_batches(&mut checks);
        }
        checks.0
    }

    /// Whether the input is of an acceptable size.
    fn check_input(&self, checks: &mut Checks) -> bool {
        let InputSpec { channels, height, width } = self.input;
        let pixels = channels.saturating_mul(height).saturating_mul(width);
        checks.require(pixels <= MAX_PIXELS, "input", format!("{channels} x {height} x {width}"), || {
            format!("{pixels} pixels; channels x height x width may be at most {MAX_PIXELS}")
        });
        (1..=MAX_PIXELS).contains(&pixels)
    }

    fn check_architectures(&self, checks: &mut Checks, input_fits: bool) {
        checks.require(!self.architectures.is_empty(), "architectures", "[]", || {
            format!("at least one of {}", registry())
        });
        let known = architecture::names().count();
        checks.require(self.architectures.len() <= known, "architectures", self.architectures.len(), || {
            format!("at most {known}: each of {} at most once", registry())
        });
        for (index, name) in self.architectures.iter().take(known).enumerate() {
            let field = format!("architectures[{index}]");
            let is_first = self.architectures.iter().position(|n| n == name) == Some(index);
            let repeated = || "named before; each architecture at most once".into();
            checks.require(is_first, &field, format!("{name:?}"), repeated);
            match architecture::find(name) {
                None => checks.0.push(Violation { field, ..unknown_architecture(name) }),
                Some(known) if input_fits => {
                    if let Err(e) = known.network(self.shape(), 1) {
                        checks.require(false, "input", self.shape(), || format!("too small for {name}: {e}"));
                    }
                }
                Some(_) => {}
            }
        }
    }

    fn check_directions(&self, checks: &mut Checks, directions: &Directions) {
        let field = "directional.directions";
        let indices_field = format!("{field}.indices");
        match directions {
            Directions::Dft(waves) => self.check_waves(checks, waves),
            Directions::Nads(nads) => self.check_nad_directions(checks, field, nads),
            Directions::File(file) => checks.indices(&indices_field, &file.indices),
            Directions::Pixels(pixels) => {
                let count = self.shape().len() as u64;
                checks.indices_below(&indices_field, &pixels.indices, count, "the number of input pixels");
            }
            Directions::Random(_) => {}
        }
    }

    fn check_waves(&self, checks: &mut Checks, PlaneWaves { frequencies, wave }: &PlaneWaves) {
        let field = "directional.directions.frequencies";
        let Some(chosen) = frequencies else {
            checks.require(*wave == Wave::Cosine, "directional.directions.wave", "sine", || {
                "the published table is of cosines; name the frequencies of sines".into()
            });
            return;
        };
        checks.require(!chosen.is_empty(), field, "[]", || {
            "at least one pair [k1, k2]; leave the key out for the published table's".into()
        });
        checks.require(chosen.len() <= MAX_PIXELS, field, chosen.len(), || format!("at most {MAX_PIXELS} pairs"));
        for &[k1, k2] in chosen.iter().take(MAX_PIXELS) {
            let is_small = k1.unsigned_abs() <= MAX_FREQUENCY && k2.unsigned_abs() <= MAX_FREQUENCY;
            checks.require(is_small, field, format!("[{k1}, {k2}]"), || {
                format!("frequencies from -{MAX_FREQUENCY} to {MAX_FREQUENCY}")
            });
            let vanishes = is_small && *wave == Wave::Sine && self.is_own_conjugate(k1, k2);
            checks.require(!vanishes, field, format!("[{k1}, {k2}]"), || {
                "a sine is zero at a frequency that is its own conjugate; take a cosine".into()
            });
        }
    }

    fn is_own_conjugate(&self, k1: i64, k2: i64) -> bool {
        let height = self.input.height.max(1) as i64;
        let width = self.input.width.max(1) as i64;
        (2 * k1) % height == 0 && (2 * k2) % width == 0
    }

    fn check_nad_directions(&self, checks: &mut Checks, field: &str, NadDirections { sweep, indices }: &NadDirections) {
        let indices_field = format!("{field}.indices");
        match (indices, sweep) {
            (Some(indices), None) => {
                checks.indices_below(&indices_field, indices, self.nad_count(), "the number of NADs of this sweep");
            }
            (Some(indices), Some(_)) => checks.indices(&indices_field, indices),
            (None, Some(_)) => checks.require(false, &indices_field, "", || {
                "required with an earlier sweep: a list such as [0, 10, { start = 14, end = 1023, stride = 4 }]".into()
            }),
            (None, None) => {}
        }
        self.check_basis(checks, field, &BasisSpec { path: None, sweep: sweep.clone() });
    }

    /// Requires one source of NADs, which exists.
    fn check_basis(&self, checks: &mut Checks, field: &str, basis: &BasisSpec) {
        let both = basis.path.is_some() && basis.sweep.is_some();
        checks.require(!both, field, "path and sweep", || "one of path and sweep, or neither".into());
        let own = basis.path.is_none() && basis.sweep.is_none();
        checks.require(!own || self.nads.is_some(), field, "", || {
            "NADs of the same sweep need the experiment [nads]; or name a path or an earlier sweep".into()
        });
    }

    /// Checks the experiments on CIFAR-10.
    fn check_images(&self, checks: &mut Checks) {
        if let Some(poisoning) = &self.poisoning {
            let last = (self.input.height * self.input.width).saturating_sub(1) as u64;
            checks.indices_below("poisoning.indices", &poisoning.indices, last, "so that p + 1 is a NAD too");
            self.check_basis_of_images(checks, "poisoning.basis", &poisoning.basis);
        }
        if let Some(flipping) = &self.flipping {
            self.check_basis_of_images(checks, "flipping.basis", &flipping.basis);
        }
        if let Some(margins) = &self.margins {
            self.check_basis_of_images(checks, "margins.basis", &margins.basis);
        }
        let any = self.experiments().any(Experiment::is_on_images);
        checks.require(!any || self.cifar10.is_some(), "cifar10.path", "", || {
            "poisoning, flipping and margins train on CIFAR-10: name the folder of its data_batch_*.bin".into()
        });
        checks.require(!any || self.shape() == cifar10::SHAPE, "input", self.shape(), || {
            format!("experiments on CIFAR-10 require {}", cifar10::SHAPE)
        });
    }

    fn check_basis_of_images(&self, checks: &mut Checks, field: &str, basis: &BasisSpec) {
        self.check_basis(checks, field, basis);
        let own = basis.path.is_none() && basis.sweep.is_none();
        // The input has three channels here, so the sweep's own NADs have too.
        checks.require(!own || self.input.channels == 1, field, "", || {
            "its NADs are of one channel, height x width: name a path, or a sweep with input.channels = 1".into()
        });
    }

    /// Requires the samples of a directional run to fit into the memory of a worker's slot.
    fn check_samples(&self, checks: &mut Checks) {
        let Some(directional) = &self.directional else { return };
        let pixels = self.shape().len() as u64;
        let samples = u64::from(directional.train_samples) + u64::from(directional.test_samples);
        let size = samples.saturating_mul(pixels).saturating_mul(4);
        checks.require(size <= MAX_SAMPLE_BYTES, "directional.train_samples", directional.train_samples, || {
            let most = MAX_SAMPLE_BYTES / (4 * pixels);
            format!("with the test samples at most {} of {pixels} pixels", text::thousands(most))
        });
    }

    fn check_margins(&self, checks: &mut Checks) {
        let Some(margins) = &self.margins else { return };
        let subspaces = self.subspaces();
        let numbers = subspaces.saturating_mul(u64::from(margins.images));
        checks.require(numbers <= MAX_MARGINS, "margins.images", margins.images, || {
            format!("with {subspaces} subspaces at most {}", text::thousands(MAX_MARGINS / subspaces.max(1)))
        });
    }

    /// Requires the maps of a batch, with their gradients, to fit into the memory of a worker's slot.
    fn check_batches(&self, checks: &mut Checks) {
        for experiment in self.experiments() {
            let Some(plan) = self.training(experiment, &Inputs::new()) else { continue };
            for name in self.architectures.iter().take(architecture::names().count()) {
                self.check_batch(checks, experiment, &plan, name);
            }
        }
    }

    fn check_batch(&self, checks: &mut Checks, experiment: Experiment, plan: &TrainingPlan, architecture: &str) {
        let network = architecture::find(architecture).and_then(|known| known.network(self.shape(), 1).ok());
        let Some(network) = network else { return };
        // Forward, the gradient by it, and what a layer needs meanwhile.
        let each = 3 * 4 * work::activations(&network);
        let most = (MAX_BATCH_BYTES / each.max(1)).max(1);
        let batch = u64::from(plan.recipe.batch_size).min(plan.samples.train);
        checks.require(batch <= most, &format!("{experiment}.training.batch_size"), batch, || {
            let most = text::thousands(most);
            format!("at most {most} for {architecture}, whose maps of a sample take {}", text::bytes(each))
        });
    }

    fn check_runs(&self, checks: &mut Checks) {
        for experiment in self.experiments().filter(|experiment| *experiment != Experiment::Nads) {
            let runs = self.run_count(experiment);
            checks.require(runs <= MAX_RUNS, experiment.as_str(), format!("{runs} runs"), || {
                format!("at most {} runs of an architecture", text::thousands(MAX_RUNS))
            });
        }
    }
}
