//! The requests of the host to a GPU for each architecture and experiment: of a network whose gradients are estimated,
//! or of a step of training.
//!
//! A case is a few sweeps on one worker. The first warms it up: handles, workspaces, what is read on first use. The
//! numbers are what the later ones ask for, or by how much they differ, so they do not depend on how much is
//! computed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::Result;
use serde::Serialize;

use crate::gpu_dry_run::RunExtent;
use crate::gpu_dry_run::cluster::{DryRunCluster, DryRunPrograms, DryRunWorker};
use crate::gpu_dry_run::counts::{CallCounts, Totals};

/// Samples of a training run, and of its test, in batches of [`BATCH`].
const SAMPLES: u64 = 1_280;
/// As many as published runs have.
const USUAL_SAMPLES: u64 = 10_000;
const BATCH: u64 = 128;
const IMAGES: &str = "images";
const NADS_FILE: &str = "tests/data/published/LeNet_NADs.npy";

/// The numbers of one network, one step of training, or one run beside its steps.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figures {
    /// The name, such as `resnet18 nads`.
    pub(super) case: String,
    /// `network`, `step` of a population or `run`.
    pub(super) unit: &'static str,
    /// Networks in a block, or runs in a population.
    pub(super) block: u64,
    #[serde(flatten)]
    pub(super) totals: Totals,
    /// Most device memory that the worker held, in MiB.
    pub(super) peak_mib: f64,
    /// Wall time of the slot, in milliseconds; the card takes none.
    pub(super) slot_ms: f64,
    /// CPU time of all the worker's threads, in milliseconds.
    pub(super) cpu_ms: f64,
    /// Every call by its name: kernels, convolutions with their shapes, products, copies.
    pub(super) calls: BTreeMap<String, f64>,
}

/// The calls and the time that one sweep took.
#[derive(Clone)]
struct CallsAsked {
    totals: Totals,
    calls: BTreeMap<String, f64>,
    slot_ms: f64,
    cpu_ms: f64,
}

/// The experiment of a case.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DryRunExperiment {
    Nads,
    Autograd,
    Directional,
    Poisoning,
    Flipping,
    Margins,
}

struct DryRunCase {
    architecture: &'static str,
    experiment: DryRunExperiment,
    /// Networks in a block, or runs in a population.
    block: u64,
    /// The number of blocks, or of epochs after the first, that are measured where time counts.
    amount: u64,
    samples: u64,
}

const fn case(architecture: &'static str, experiment: DryRunExperiment, block: u64, amount: u64) -> DryRunCase {
    DryRunCase { architecture, experiment, block, amount, samples: SAMPLES }
}

/// A population as a GPU is given it. It holds some gigabytes, so it is measured only where time counts.
const POPULATION: DryRunCase =
    DryRunCase { samples: USUAL_SAMPLES, ..case("lenet", DryRunExperiment::Directional, 64, 1) };

/// Every architecture and experiment that a GPU worker computes. Blocks are as large as a debug build draws in a
/// moment.
const CASES: [DryRunCase; 22] = [
    case("logreg", DryRunExperiment::Nads, 32, 32),
    case("logreg", DryRunExperiment::Autograd, 32, 32),
    case("logreg", DryRunExperiment::Directional, 8, 4),
    case("lenet", DryRunExperiment::Nads, 32, 32),
    case("lenet", DryRunExperiment::Autograd, 32, 32),
    case("lenet", DryRunExperiment::Directional, 8, 4),
    case("lenet", DryRunExperiment::Poisoning, 4, 4),
    case("lenet", DryRunExperiment::Flipping, 2, 4),
    case("lenet", DryRunExperiment::Margins, 2, 4),
    case("deep_linear", DryRunExperiment::Nads, 32, 8),
    case("deep_linear", DryRunExperiment::Directional, 8, 4),
    case("vgg11", DryRunExperiment::Nads, 8, 2),
    case("vgg11", DryRunExperiment::Autograd, 8, 2),
    case("vgg11", DryRunExperiment::Directional, 2, 4),
    case("vgg11_bn", DryRunExperiment::Nads, 8, 2),
    case("vgg11_bn", DryRunExperiment::Directional, 2, 4),
    case("resnet18", DryRunExperiment::Nads, 8, 4),
    case("resnet18", DryRunExperiment::Autograd, 8, 2),
    case("resnet18", DryRunExperiment::Directional, 2, 4),
    case("densenet121", DryRunExperiment::Nads, 4, 2),
    case("densenet121", DryRunExperiment::Autograd, 4, 2),
    case("densenet121", DryRunExperiment::Directional, 1, 4),
];

impl DryRunExperiment {
    fn name(self) -> &'static str {
        match self {
            Self::Nads => "nads",
            Self::Autograd => "nads by autograd",
            Self::Directional => "directional",
            Self::Poisoning => "poisoning",
            Self::Flipping => "flipping",
            Self::Margins => "margins",
        }
    }

    fn trains(self) -> bool {
        !matches!(self, Self::Nads | Self::Autograd)
    }
}

impl DryRunCase {
    fn name(&self) -> String {
        let size = if self.samples == SAMPLES { String::new() } else { format!(", {} runs", self.block) };
        format!("{} {}{size}", self.architecture, self.experiment.name())
    }

    /// A sweep of so many blocks of gradients, or of one population trained for so many epochs.
    fn spec(&self, data: &Path, amount: u64) -> String {
        let Self { architecture, block, samples, .. } = self;
        let training = format!("training = {{ epochs = {amount}, batch_size = {BATCH} }}");
        let on_images = |table: &str| {
            format!(
                "input = {{ channels = 3 }}\n[cifar10]\npath = {:?}\n{table}\nbasis = {{ path = {:?} }}\n\
                 block_size = {block}\n{training}\n",
                data.join(IMAGES),
                data.join("nads.npy")
            )
        };
        let experiment = match self.experiment {
            DryRunExperiment::Nads => format!("[nads]\nnetworks = {}\nblock_size = {block}\n", amount * block),
            DryRunExperiment::Autograd => {
                format!("[nads]\nestimator = 'autograd'\nnetworks = {}\nblock_size = {block}\n", amount * block)
            }
            DryRunExperiment::Directional => format!(
                "[directional]\ndirections = {{ kind = 'random', count = {block} }}\nblock_size = {block}\n\
                 train_samples = {samples}\ntest_samples = {samples}\n{training}\n"
            ),
            DryRunExperiment::Poisoning => on_images("[poisoning]\nindices = [0, 10, 20]"),
            DryRunExperiment::Flipping => on_images("[flipping]"),
            DryRunExperiment::Margins => on_images("[margins]\nimages = 2\nsubspace = 32\nstride = 512\nseeds = 2"),
        };
        format!("name = 'dry'\narchitectures = [{architecture:?}]\n{experiment}")
    }

    fn measure(&self, root: &Path, programs: &DryRunPrograms, extent: RunExtent) -> Result<Vec<Figures>> {
        let cluster = DryRunCluster::start(programs, &self.name())?;
        let data = cluster.folder();
        if matches!(
            self.experiment,
            DryRunExperiment::Poisoning | DryRunExperiment::Flipping | DryRunExperiment::Margins
        ) {
            write_images(&data.join(IMAGES))?;
            fs::copy(root.join(NADS_FILE), data.join("nads.npy"))?;
        }
        let mut worker = cluster.worker("cuda", &[])?;
        let mut ask = |amount| self.ask(&cluster, &mut worker, data, amount);
        ask(1)?;
        let figures = |unit, asked: CallsAsked| Figures {
            case: self.name(),
            unit,
            block: self.block,
            totals: asked.totals,
            peak_mib: 0.0,
            slot_ms: asked.slot_ms,
            cpu_ms: asked.cpu_ms,
            calls: asked.calls.into_iter().filter(|(_, times)| *times != 0.0).collect(),
        };
        let mut found = if self.experiment.trains() {
            let epochs = if extent == RunExtent::Full { self.amount } else { 1 };
            let once = ask(1)?;
            let longer = ask(1 + epochs)?;
            let steps = self.samples.div_ceil(BATCH) as f64;
            let epoch = longer.with(&once, |longer, one| longer - one).over(epochs as f64);
            let beside = once.with(&epoch, |one, epoch| one - epoch);
            vec![figures("step", epoch.over(steps)), figures("run", beside.over(self.block as f64))]
        } else {
            let blocks = if extent == RunExtent::Full { self.amount } else { 1 };
            vec![figures("network", ask(blocks)?.over((blocks * self.block) as f64))]
        };
        let peak = worker.counts()?.peak_bytes();
        worker.end()?;
        found.iter_mut().for_each(|figures| figures.peak_mib = peak as f64 / f64::from(1 << 20));
        Ok(found)
    }

    /// Returns what the worker asks of the card for one sweep.
    fn ask(
        &self,
        cluster: &DryRunCluster<'_>,
        worker: &mut DryRunWorker,
        data: &Path,
        amount: u64,
    ) -> Result<CallsAsked> {
        // Before its first sweep it may not have opened the card yet.
        let counts = worker.counts()?;
        let cpu = worker.cpu_seconds()?;
        let sweep = cluster.submit(&self.spec(data, amount))?;
        let sweep = cluster.complete(&sweep, worker)?;
        let asked: CallCounts = worker.counts()?.since(&counts);
        Ok(CallsAsked {
            totals: asked.totals(),
            calls: asked.times(),
            slot_ms: 1e3 * sweep.jobs.iter().map(|job| job.slot_seconds).sum::<f64>(),
            cpu_ms: 1e3 * (worker.cpu_seconds()? - cpu),
        })
    }
}

impl CallsAsked {
    fn with(&self, other: &Self, combine: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            totals: self.totals.with(&other.totals, &combine),
            // What only one of the two did, the other did not do at all.
            calls: (self.calls.keys().chain(other.calls.keys()))
                .map(|name| (name.clone(), combine(times(&self.calls, name), times(&other.calls, name))))
                .collect(),
            slot_ms: combine(self.slot_ms, other.slot_ms),
            cpu_ms: combine(self.cpu_ms, other.cpu_ms),
        }
    }

    fn over(&self, divisor: f64) -> Self {
        self.with(self, |number, _| number / divisor)
    }
}

fn times(calls: &BTreeMap<String, f64>, name: &str) -> f64 {
    calls.get(name).copied().unwrap_or(0.0)
}

/// Files in CIFAR-10's format, as many images as a run trains on; their content is of no consequence.
fn write_images(folder: &Path) -> Result<()> {
    const RECORD: usize = 3_073;
    fs::create_dir_all(folder)?;
    for (name, images) in [("data_batch_1.bin", SAMPLES), ("test_batch.bin", BATCH)] {
        let records = (0..images).flat_map(|image| {
            let label = (image % 10) as u8;
            std::iter::once(label).chain((1..RECORD).map(move |pixel| (pixel * 7 + image as usize * 13) as u8))
        });
        fs::write(folder.join(name), records.collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Measures every case whose name has `filter` in it, in order, whoever is done first; and why some could not be
/// measured.
pub(super) fn run(
    root: &Path,
    programs: &DryRunPrograms,
    filter: &str,
    extent: RunExtent,
) -> (Vec<Figures>, Vec<String>) {
    let large = Some(&POPULATION).filter(|_| extent == RunExtent::Full);
    let cases: Vec<&DryRunCase> = CASES.iter().chain(large).filter(|case| case.name().contains(filter)).collect();
    let measured = at_once(if extent == RunExtent::Full { 1 } else { 2 }, &cases, |case| {
        case.measure(root, programs, extent).map_err(|error| format!("{}: {error:#}", case.name()))
    });
    let mut figures = Vec::new();
    let mut failed = Vec::new();
    for outcome in measured {
        match outcome {
            Ok(found) => figures.extend(found),
            Err(words) => failed.push(words),
        }
    }
    (figures, failed)
}

/// Does a task for each item on so many threads, and returns what they gave in the items' order.
pub(super) fn at_once<I: Sync, T: Send>(threads: usize, items: &[I], task: impl Fn(&I) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((place, item)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|place| Some((place, items.get(place)?)))
                {
                    let outcome = task(item);
                    done.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((place, outcome));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

/// A table of everything; the times only where cases were measured one after the other.
pub(super) fn print(figures: &[Figures], extent: RunExtent) {
    println!(
        "{:<29} {:>7} {:>5} {:>8} {:>7} {:>13} {:>6} {:>8} {:>6} {:>8} {:>9} {:>9} {:>6} {:>6} {:>8} {:>8}",
        "on the null GPU",
        "of a",
        "block",
        "launches",
        "kernels",
        "convolutions",
        "norms",
        "products",
        "copies",
        "blocking",
        "KiB up",
        "KiB up",
        "syncs",
        "MiB",
        "ms of",
        "ms of"
    );
    println!("{:>65} {:>34} {:>9} {:>13} {:>8} {:>8}", "forth + back", "pageable", "pinned", "peak", "a slot", "CPU");
    for of in figures {
        let convolutions = format!("{:.1} + {:.1}", of.totals.convolutions_forward, of.totals.convolutions_backward);
        let time = |ms: f64| if extent == RunExtent::Full { format!("{ms:.2}") } else { String::new() };
        println!(
            "{:<29} {:>7} {:>5} {:>8.1} {:>7.1} {convolutions:>13} {:>6.1} {:>8.1} {:>6.2} {:>8.2} {:>9.1} {:>9.1} \
             {:>6.2} {:>6.0} {:>8} {:>8}",
            of.case,
            of.unit,
            of.block,
            of.totals.launches,
            of.totals.kernels,
            of.totals.batch_norms,
            of.totals.products,
            of.totals.copies,
            of.totals.blocking_copies,
            of.totals.pageable_bytes_to_device / 1024.0,
            of.totals.pinned_bytes_to_device / 1024.0,
            of.totals.synchronisations,
            of.peak_mib,
            time(of.slot_ms),
            time(of.cpu_ms),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_at_once_comes_in_order() {
        let items: Vec<u64> = (0..20).collect();
        let doubled = at_once(3, &items, |item| 2 * item);
        assert_eq!(doubled, (0..20).map(|item| 2 * item).collect::<Vec<_>>());
    }

    #[test]
    fn an_epoch_is_what_a_second_one_adds() {
        let asked = |launches, slot_ms| CallsAsked {
            totals: Totals { launches, ..Totals::default() },
            calls: [("kernel a".to_owned(), launches)].into(),
            slot_ms,
            cpu_ms: 0.0,
        };
        let epoch = asked(130.0, 9.0).with(&asked(80.0, 5.0), |two, one| two - one).over(10.0);
        assert_eq!((epoch.totals.launches, epoch.calls["kernel a"], epoch.slot_ms), (5.0, 5.0, 0.4));
    }
}
