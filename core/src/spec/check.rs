//! What is wrong with a spec: everything at once, each thing with its key, its value and what would be accepted.

use super::jobs::Training;
use super::{
    Basis, Directional, Directions, Estimator, Experiment, Indices, Input, Inputs, MAX_BLOCK_SIZE, MAX_NAME,
    MAX_NETWORKS, MAX_PIXELS, MAX_RUNS, MOST_VIOLATIONS, Margins, Nads, Poisoning, Spec, Violation, Wave, registry,
    unknown_architecture,
};
use crate::architecture;
use crate::cifar10;
use crate::text;
use crate::training::Recipe;
use crate::work;

/// Most evaluation points.
const MAX_POINTS: u32 = 1024;
/// Most samples of a directional set, and most images whose margins are measured.
const MAX_SAMPLES: u32 = 1_000_000;
/// Bytes of the samples of a run, which each lane of a worker holds.
const MAX_SAMPLE_BYTES: u64 = 4 << 30;
/// Bytes of the maps of a batch.
const MAX_BATCH_BYTES: u64 = 64 << 30;
/// Bytes of a path, which Linux has as well.
const MAX_PATH: usize = 4096;
/// Margins of a run, each of one image in one subspace.
const MAX_MARGINS: u64 = 1 << 25;
/// Most epochs, and most samples of a batch.
const MAX_EPOCHS: u32 = 100_000;

pub(super) struct Checks(pub(super) Vec<Violation>);

impl Checks {
    fn require(&mut self, holds: bool, field: &str, value: impl ToString, accepted: impl FnOnce() -> String) {
        // One more than is told of, which says that there is more.
        if !holds && self.0.len() <= MOST_VIOLATIONS {
            let (field, value, accepted) = (field.to_owned(), value.to_string(), accepted());
            self.0.push(Violation { field, value, accepted, place: None });
        }
    }

    fn block_size(&mut self, field: &str, size: u32) {
        let fits = size.is_power_of_two() && size <= MAX_BLOCK_SIZE;
        self.require(fits, field, size, || format!("a power of two from 1 to {MAX_BLOCK_SIZE}"));
    }

    /// A count from 1 to `most`.
    fn count(&mut self, field: &str, value: u32, most: u32) {
        let accepted = || format!("from 1 to {}", text::thousands(u64::from(most)));
        self.require((1..=most).contains(&value), field, value, accepted);
    }

    /// A finite number from `least` to `most`.
    fn number(&mut self, field: &str, value: f64, least: f64, most: f64) {
        let accepted = || format!("a finite number from {least} to {most}");
        self.require(value.is_finite() && (least..=most).contains(&value), field, value, accepted);
    }

    /// A path, or the name of something else, that files are known by.
    fn path(&mut self, field: &str, path: Option<&str>) {
        let length = path.map_or(0, str::len);
        self.require(length <= MAX_PATH, field, format!("{length} bytes"), || format!("at most {MAX_PATH} bytes"));
    }

    fn indices(&mut self, field: &str, indices: &Indices, below: Option<(u64, &str)>) {
        if let Some(fault) = indices.fault() {
            self.require(false, field, "", || fault);
        } else if let (Some((count, what)), Some(largest)) = (below, indices.largest()) {
            self.require(largest < count, field, largest, || format!("below {count}, {what}"));
        }
    }

    fn recipe(&mut self, field: &str, recipe: &Recipe) {
        let Recipe { epochs, batch_size, learning_rate, momentum, weight_decay, gradient_clip } = *recipe;
        let key = |key: &str| format!("{field}.training.{key}");
        self.count(&key("epochs"), epochs, MAX_EPOCHS);
        self.count(&key("batch_size"), batch_size, MAX_EPOCHS);
        self.number(&key("learning_rate"), learning_rate, 0.0, 1e9);
        let below_one = (0.0..1.0).contains(&momentum);
        self.require(below_one, &key("momentum"), momentum, || "from 0 to below 1".into());
        self.number(&key("weight_decay"), weight_decay, 0.0, 1e3);
        let clip = || "a finite number of at least 0; 0 is no limit".into();
        self.require(gradient_clip.is_finite() && gradient_clip >= 0.0, &key("gradient_clip"), gradient_clip, clip);
    }
}

impl Spec {
    pub(super) fn violations(&self) -> Vec<Violation> {
        let mut checks = Checks(Vec::new());
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let named =
            (1..=MAX_NAME).contains(&self.name.len()) && self.name.chars().all(fits) && !self.name.starts_with('.');
        checks.require(named, "name", format!("{:?}", self.name), || {
            format!("1 to {MAX_NAME} letters, digits, `.`, `_` or `-`, not beginning with `.`")
        });
        checks.require(i64::try_from(self.seed).is_ok(), "seed", self.seed, || {
            format!("an integer from 0 to {}", i64::MAX)
        });
        checks.number("audit", self.audit, 0.0, 1.0);
        checks.require(self.experiments().next().is_some(), "", "", || {
            format!("a spec has at least one experiment: {}", Experiment::ALL.map(|e| format!("[{e}]")).join(", "))
        });
        let pixels = self.check_input(&mut checks);
        self.check_architectures(&mut checks, pixels);
        self.check_nads(&mut checks);
        self.check_directional(&mut checks);
        self.check_images(&mut checks);
        self.check_runs(&mut checks);
        if pixels {
            self.check_memory(&mut checks);
        }
        checks.0
    }

    /// Whether the input is of an acceptable size.
    fn check_input(&self, checks: &mut Checks) -> bool {
        let Input { channels, height, width } = self.input;
        for (field, size) in [("input.channels", channels), ("input.height", height), ("input.width", width)] {
            checks.require(size > 0, field, size, || "at least 1".into());
        }
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
        for (place, name) in self.architectures.iter().take(known).enumerate() {
            let field = format!("architectures[{place}]");
            let first = self.architectures.iter().position(|n| n == name) == Some(place);
            checks
                .require(first, &field, format!("{name:?}"), || "named before; each architecture at most once".into());
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

    fn check_nads(&self, checks: &mut Checks) {
        let Some(Nads { networks, estimator, step, points, block_size }) = self.nads.clone() else { return };
        checks.require((2..=MAX_NETWORKS).contains(&networks), "nads.networks", networks, || {
            format!("from 2 (a covariance needs two) to {}", text::thousands(MAX_NETWORKS))
        });
        // The estimator computes in f32: the step must neither vanish nor overflow there.
        let usable = step.is_finite() && (1e-6..=1e9).contains(&step);
        let asked = estimator == Estimator::CentralDifference;
        checks.require(usable || !asked, "nads.step", step, || "a finite number from 1e-6 to 1e9".into());
        checks.count("nads.points", points, MAX_POINTS);
        checks.block_size("nads.block_size", block_size);
    }

    fn check_directional(&self, checks: &mut Checks) {
        let Some(experiment) = &self.directional else { return };
        let Directional { offset, sigma, seeds, train_samples, test_samples, block_size, ref training, .. } =
            *experiment;
        checks.number("directional.offset", offset, 0.0, 1e6);
        checks.number("directional.sigma", sigma, 0.0, 1e6);
        checks.count("directional.seeds", seeds, MAX_RUNS as u32);
        checks.count("directional.train_samples", train_samples, MAX_SAMPLES);
        checks.count("directional.test_samples", test_samples, MAX_SAMPLES);
        checks.block_size("directional.block_size", block_size);
        checks.recipe("directional", training);
        self.check_directions(checks, &experiment.directions);
    }

    fn check_directions(&self, checks: &mut Checks, directions: &Directions) {
        let field = "directional.directions";
        let pixels = self.shape().len() as u64;
        match directions {
            Directions::Dft { frequencies, wave } => {
                let chosen = frequencies.as_deref();
                checks.require(chosen.is_none_or(|f| !f.is_empty()), &format!("{field}.frequencies"), "[]", || {
                    "at least one pair [k1, k2]; leave the key out for the published table's".into()
                });
                let count = chosen.map_or(0, <[_]>::len);
                checks.require(count <= MAX_PIXELS, &format!("{field}.frequencies"), count, || {
                    format!("at most {MAX_PIXELS} pairs")
                });
                let (height, width) = (self.input.height as i64, self.input.width as i64);
                let own_conjugate = |k1: i64, k2: i64| (2 * k1) % height.max(1) == 0 && (2 * k2) % width.max(1) == 0;
                for &[k1, k2] in chosen.unwrap_or_default().iter().take(MAX_PIXELS) {
                    let sane = k1.unsigned_abs() <= 1 << 20 && k2.unsigned_abs() <= 1 << 20;
                    let vanishes = *wave == Wave::Sine && own_conjugate(k1, k2);
                    checks.require(sane && !vanishes, &format!("{field}.frequencies"), format!("[{k1}, {k2}]"), || {
                        match sane {
                            true => "a sine is zero at a frequency that is its own conjugate; take a cosine".into(),
                            false => "frequencies from -1048576 to 1048576".into(),
                        }
                    });
                }
                checks.require(chosen.is_some() || *wave == Wave::Cosine, &format!("{field}.wave"), "sine", || {
                    "the published table is of cosines; name the frequencies of sines".into()
                });
            }
            Directions::Nads { sweep, indices } => {
                let own = sweep.is_none().then(|| (self.nad_count(), "the number of NADs of this sweep"));
                if let Some(indices) = indices {
                    checks.indices(&format!("{field}.indices"), indices, own);
                } else {
                    checks.require(sweep.is_none(), &format!("{field}.indices"), "", || {
                        "needed with an earlier sweep: a list such as [0, 10, { start = 14, end = 1023, stride = 4 }]"
                            .into()
                    });
                }
                self.check_basis(checks, field, &Basis { path: None, sweep: sweep.clone() });
            }
            Directions::File { path, indices } => {
                checks.require(!path.is_empty(), &format!("{field}.path"), "\"\"", || "a .npy file".into());
                checks.path(&format!("{field}.path"), Some(path));
                checks.indices(&format!("{field}.indices"), indices, None);
            }
            Directions::Pixels { indices } => {
                checks.indices(&format!("{field}.indices"), indices, Some((pixels, "the number of input pixels")));
            }
            Directions::Random { count } => {
                let accepted = || format!("from 1 to {MAX_RUNS}");
                checks.require((1..=MAX_RUNS).contains(count), &format!("{field}.count"), count, accepted);
            }
        }
    }

    /// Where NADs come from is said once, and is there.
    fn check_basis(&self, checks: &mut Checks, field: &str, basis: &Basis) {
        let both = basis.path.is_some() && basis.sweep.is_some();
        checks.require(!both, field, "path and sweep", || "one of path and sweep, or neither".into());
        checks.path(&format!("{field}.path"), basis.path.as_deref());
        checks.path(&format!("{field}.sweep"), basis.sweep.as_deref());
        let own = basis.path.is_none() && basis.sweep.is_none();
        checks.require(!own || self.nads.is_some(), field, "", || {
            "NADs of the same sweep need the experiment [nads]; or name a path or an earlier sweep".into()
        });
    }

    /// The experiments on CIFAR-10.
    fn check_images(&self, checks: &mut Checks) {
        let mut any = false;
        if let Some(Poisoning { basis, indices, epsilon, clean: _, seeds, block_size, training }) = &self.poisoning {
            any = true;
            let last = (self.input.height * self.input.width).saturating_sub(1) as u64;
            let below = (last, "so that p + 1 is a NAD too");
            checks.indices("poisoning.indices", indices, Some(below));
            checks.number("poisoning.epsilon", *epsilon, 0.0, 1e3);
            self.check_trained_on_images(checks, Experiment::Poisoning, basis, (*seeds, *block_size), training);
        }
        if let Some(e) = &self.flipping {
            any = true;
            self.check_trained_on_images(checks, Experiment::Flipping, &e.basis, (e.seeds, e.block_size), &e.training);
        }
        if let Some(Margins { basis, subspace, stride, images, seeds, block_size, training }) = &self.margins {
            any = true;
            let all = (self.input.height * self.input.width) as u32;
            checks.count("margins.subspace", *subspace, all);
            checks.count("margins.stride", *stride, all);
            checks.count("margins.images", *images, MAX_SAMPLES);
            self.check_trained_on_images(checks, Experiment::Margins, basis, (*seeds, *block_size), training);
        }
        let path = self.cifar10.as_ref().map(|images| images.path.as_str());
        checks.require(!any || path.is_some(), "cifar10.path", "", || {
            "poisoning, flipping and margins train on CIFAR-10: name the folder of its data_batch_*.bin".into()
        });
        checks.require(path != Some(""), "cifar10.path", "\"\"", || "a folder".into());
        checks.path("cifar10.path", path);
        checks.require(!any || self.shape() == cifar10::SHAPE, "input", self.shape(), || {
            format!("experiments on CIFAR-10 need {}", cifar10::SHAPE)
        });
    }

    fn check_trained_on_images(
        &self,
        checks: &mut Checks,
        experiment: Experiment,
        basis: &Basis,
        (seeds, block_size): (u32, u32),
        recipe: &Recipe,
    ) {
        let field = format!("{experiment}.basis");
        self.check_basis(checks, &field, basis);
        let own = basis.path.is_none() && basis.sweep.is_none();
        // The input has three channels here, so the sweep's own NADs have too.
        checks.require(!own || self.input.channels == 1, &field, "", || {
            "its NADs are of one channel, height x width: name a path, or a sweep with input.channels = 1".into()
        });
        checks.count(&format!("{experiment}.seeds"), seeds, MAX_RUNS as u32);
        checks.block_size(&format!("{experiment}.block_size"), block_size);
        checks.recipe(experiment.as_str(), recipe);
    }

    /// A run is to fit into the memory of a worker's lane: its samples, and the maps of a batch with their gradients.
    fn check_memory(&self, checks: &mut Checks) {
        let pixels = self.shape().len() as u64;
        if let Some(&Directional { train_samples, test_samples, .. }) = self.directional.as_ref() {
            let samples = u64::from(train_samples) + u64::from(test_samples);
            let size = samples.saturating_mul(pixels).saturating_mul(4);
            checks.require(size <= MAX_SAMPLE_BYTES, "directional.train_samples", train_samples, || {
                let most = MAX_SAMPLE_BYTES / (4 * pixels);
                format!("with the test samples at most {} of {pixels} pixels", text::thousands(most))
            });
        }
        if let Some(margins) = &self.margins {
            let subspaces = self.subspaces();
            let numbers = subspaces.saturating_mul(u64::from(margins.images));
            checks.require(numbers <= MAX_MARGINS, "margins.images", margins.images, || {
                format!("with {subspaces} subspaces at most {}", text::thousands(MAX_MARGINS / subspaces.max(1)))
            });
        }
        for experiment in self.experiments() {
            let Some(Training { recipe, samples, .. }) = self.training(experiment, &Inputs::new()) else { continue };
            for name in self.architectures.iter().take(architecture::names().count()) {
                let network = architecture::find(name).and_then(|known| known.network(self.shape(), 1).ok());
                let Some(network) = network else { continue };
                // Forward, the gradient by it, and what a layer needs meanwhile.
                let each = 3 * 4 * work::activations(&network);
                let most = (MAX_BATCH_BYTES / each.max(1)).max(1);
                let batch = u64::from(recipe.batch_size).min(samples.0);
                checks.require(batch <= most, &format!("{experiment}.training.batch_size"), batch, || {
                    format!(
                        "at most {} for {name}, whose maps of a sample take {}",
                        text::thousands(most),
                        text::bytes(each)
                    )
                });
            }
        }
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
