//! The number of members that fit: estimates from shapes, and a budget that depends on the kind of device.
//!
//! So a population's width, and with it the bits of its results, does not depend on what else runs. What does not fit after all
//! fails: on a GPU libtorch may go on with less memory and other bits, which an [`OomWatch`] notices. Deliberately absent: widths
//! that ask for free memory.

use super::PopulationError;
use super::layer::is_unfolded;
use super::liveness::live_numbers;
use crate::libtorch;
use nadgrid_core::architecture::{Layer, Network, Step};
use nadgrid_core::text;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use tch::Device;

/// Bytes that a slot's population may take on a CPU.
pub(crate) const CPU_BUDGET: u64 = 2 << 30;
/// Bytes that a population may take on a GPU; the smallest in use for training have 32 GiB or more.
pub(crate) const CUDA_BUDGET: u64 = 24 << 30;

/// Bytes of a number; estimates are for float32.
const NUMBER: u64 = 4;
/// Copies of the parameters that exist while a member is trained: weights, their gradient in pieces and whole, momentum, what is
/// added, what the layers read, and two that come and go.
const PARAMETERS_IN_TRAINING: u64 = 8;
/// Memory of a GPU's activations, in quarters of their numbers: convolutions' workspaces, and what lies between blocks of the
/// allocator. Seen on the null GPU, which has no workspaces: peaks of ResNet18, VGG11 and DenseNet121 are 0.9 to 1.0 times the
/// estimate without this.
const QUARTERS_ON_CUDA: u64 = 5;
/// Copies of the parameters that exist while a member is evaluated: flat, and as the layers read them.
const PARAMETERS_IN_EVALUATION: u64 = 2;

/// Returns the bytes that a population may take on this kind of device.
pub(crate) fn budget(device: Device) -> u64 {
    if device.is_cuda() { CUDA_BUDGET } else { CPU_BUDGET }
}

/// Estimates the bytes that the training of one member takes: parameters, activations and samples.
///
/// On a CPU every layer's output is counted, with as much again for gradients on their way and what libtorch reorders. That is
/// more than twice what is taken, but widths, and with them the bits of populations that exist, follow from it. On a GPU it is what
/// backward keeps; test samples, as many as are trained on, come when the activations are gone.
pub(crate) fn bytes_per_member(device: Device, network: &Network, batch: usize, samples: usize) -> u64 {
    let parameters = PARAMETERS_IN_TRAINING * network.parameter_count() as u64;
    let batch = batch as u64;
    let data = samples as u64 * numbers_of_sample(network);
    let numbers = if device.is_cuda() {
        let training = batch * numbers_in_training(network) * QUARTERS_ON_CUDA / 4;
        parameters + data + training.max(data + batch * numbers_per_input(network))
    } else {
        parameters + batch * numbers_per_gradient(network) + data
    };
    NUMBER * numbers
}

/// Returns the bytes that the samples of this many runs take, and their labels.
pub(crate) fn bytes_of_samples(network: &Network, samples: u64, runs: u64) -> u64 {
    NUMBER * runs * samples * numbers_of_sample(network)
}

/// Returns the numbers of a sample and its label, which is an integer of twice a number's size.
fn numbers_of_sample(network: &Network) -> u64 {
    network.input().len() as u64 + 2
}

/// Returns the numbers that training on one more sample takes of a GPU at once: the maps that derivatives read, and at one layer
/// the gradients of what it yields and reads. Backward drops a map with the last layer that reads it. Where a convolution is
/// unfolded, its windows are kept too, and their gradient is as large.
fn numbers_in_training(network: &Network) -> u64 {
    let mut is_kept = vec![false; network.steps().len() + 1];
    let mut keep = |map: usize| {
        let was_kept = std::mem::replace(&mut is_kept[map], true);
        if was_kept { 0 } else { network.map(map).len() }
    };
    let mut kept = keep(0);
    let mut most = 0;
    for (index, step) in network.steps().iter().enumerate() {
        let output = step.output.len();
        let windows = numbers_unfolded(step);
        kept += windows;
        kept += match &step.layer {
            Layer::Conv2d(_) | Layer::Linear { .. } | Layer::BatchNorm2d { .. } | Layer::AvgPool2d { .. } => {
                step.inputs.iter().map(|&map| keep(map)).sum()
            }
            // And where each maximum was, integers of twice a number's size.
            Layer::MaxPool2d { .. } => 2 * output + step.inputs.iter().map(|&map| keep(map)).sum::<usize>(),
            Layer::Relu => keep(index + 1),
            Layer::Dropout { .. } => output,
            Layer::Flatten | Layer::Add | Layer::Concat => 0,
        };
        let read: usize = step.inputs.iter().map(|&map| network.map(map).len()).sum();
        most = most.max(kept + windows + output + read);
    }
    most as u64
}

/// Returns the numbers of an unfolded convolution's windows of one sample, 0 where nothing is unfolded.
fn numbers_unfolded(step: &Step) -> usize {
    match &step.layer {
        Layer::Conv2d(conv) if is_unfolded(step.input.channels, conv.kernel) => {
            let window = step.input.channels * conv.kernel * conv.kernel;
            window * step.output.height * step.output.width
        }
        _ => 0,
    }
}

/// Returns the bytes that one member takes beside `inputs` inputs while it is differentiated by evaluation.
pub(super) fn bytes_in_evaluation(network: &Network, inputs: usize) -> u64 {
    let parameters = PARAMETERS_IN_EVALUATION * network.parameter_count() as u64;
    NUMBER * (parameters + inputs as u64 * numbers_per_input(network))
}

/// Returns the numbers that evaluating one more input of one member takes: maps, and as much again for what libtorch reorders.
pub(super) fn numbers_per_input(network: &Network) -> u64 {
    2 * live_numbers(network) as u64
}

/// Returns the numbers that a gradient at one more input of one member takes: every map and its gradient.
pub(super) fn numbers_per_gradient(network: &Network) -> u64 {
    let kept: usize = network.steps().iter().map(|step| step.output.len()).sum();
    2 * (network.input().len() + kept) as u64
}

/// Returns the width of a population that is to have `members`: all, or else the largest power of two that fits the budget.
///
/// # Errors
/// [`PopulationError::Memory`] when not even one member fits.
pub(crate) fn narrowed(
    task: &'static str,
    members: usize,
    bytes_per_member: u64,
    budget: u64,
) -> Result<usize, PopulationError> {
    let fit = budget / bytes_per_member.max(1);
    if fit >= members as u64 {
        return Ok(members);
    }
    let Some(exponent) = fit.checked_ilog2() else {
        return Err(PopulationError::Memory { task, needed: bytes_per_member, budget });
    };
    let to = 1usize << exponent;
    warn_once(task, members, to, bytes_per_member, budget);
    Ok(to)
}

/// Warns about a narrowed population. Every block of a sweep is narrowed alike, so a warning is repeated only after another one.
fn warn_once(task: &'static str, from: usize, to: usize, each: u64, budget: u64) {
    static LAST: Mutex<Option<(&str, usize, u64)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if last.replace((task, from, each)) != Some((task, from, each)) {
        let each = text::bytes(each);
        let budget = text::bytes(budget);
        tracing::warn!(from, to, "{task}: a population is narrowed, a member needs {each} of {budget}");
    }
}

/// Notices whether a GPU's allocator has refused memory since this was made.
///
/// cuDNN's plans are tried one after the other, and one whose workspace finds no memory is passed over in silence: the next has
/// other bits. So what was computed meanwhile is thrown away. The count is the whole process's: what another slot was refused
/// spoils this slot's result too, which is safe, and cannot go on for ever, see `slot`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OomWatch {
    gpu: Option<usize>,
    before: i64,
}

impl OomWatch {
    /// Begins to watch the device. A CPU needs no watch: there libtorch fails where memory does.
    ///
    /// # Errors
    /// [`PopulationError::Setting`] when libtorch does not answer.
    pub(crate) fn new(device: Device) -> Result<Self, PopulationError> {
        let gpu = match device {
            Device::Cuda(number) => Some(number),
            _ => None,
        };
        Ok(Self { gpu, before: refused(gpu)? })
    }

    /// Fails if memory has been refused.
    ///
    /// # Errors
    /// [`PopulationError::Refused`] at this task; [`PopulationError::Setting`] when libtorch does not say.
    pub(crate) fn check(&self, task: &'static str) -> Result<(), PopulationError> {
        self.compare(task, refused(self.gpu)?)
    }

    fn compare(&self, task: &'static str, now: i64) -> Result<(), PopulationError> {
        if now == self.before { Ok(()) } else { Err(PopulationError::Refused { task }) }
    }
}

fn refused(gpu: Option<usize>) -> Result<i64, PopulationError> {
    Ok(gpu.map_or(Ok(0), libtorch::cuda_ooms)?)
}

/// Fails where the machine, or the container that this runs in, has less memory than this many bytes.
///
/// # Errors
/// [`PopulationError::HostMemory`] names both sizes.
pub(crate) fn check_host(task: &'static str, needed: u64) -> Result<(), PopulationError> {
    match host_bytes(Path::new("/")) {
        Some(present) if needed > present => Err(PopulationError::HostMemory { task, needed, present }),
        _ => Ok(()),
    }
}

/// Returns the bytes of memory of the machine, or of the container where that has fewer; `None` where they are unknown.
fn host_bytes(root: &Path) -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).ok();
    let limit = |path: &str| read(path)?.trim().parse::<u64>().ok();
    let kib = |text: String| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    let machine = read("proc/meminfo").and_then(kib).map(|kib| kib << 10);
    // Of control groups of version 2 and 1, as a container sees its own; the first says `max` where there is no limit.
    let container = limit("sys/fs/cgroup/memory.max").or_else(|| limit("sys/fs/cgroup/memory/memory.limit_in_bytes"));
    machine.into_iter().chain(container).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_computed_while_memory_was_refused_is_thrown_away() {
        let watch = OomWatch { gpu: Some(0), before: 3 };
        assert!(watch.compare("a block", 3).is_ok());
        let error = watch.compare("a block", 4).unwrap_err();
        assert!(error.is_out_of_memory());
        assert!(error.to_string().starts_with("a block: out of memory"), "{error}");
        OomWatch::new(Device::Cpu).unwrap().check("a block").unwrap();
    }

    fn network(name: &str, channels: usize) -> Network {
        let input = nadgrid_core::architecture::Shape { channels, height: 32, width: 32 };
        nadgrid_core::architecture::find(name).unwrap().network(input, 2).unwrap()
    }

    /// Peaks of the allocator in MiB for so many directional runs of 10,000 samples in batches of 128 on the null GPU: what is held
    /// for tensors, and gaps between them. A card's workspaces come on top.
    #[test]
    fn a_gpu_s_estimates_are_near_the_peaks() {
        for (name, samples, runs, mib) in [
            ("lenet", 1_280, 8, 354),
            ("lenet", 10_000, 64, 4_788),
            ("vgg11", 10_000, 4, 1_940),
            ("vgg11_bn", 10_000, 4, 2_132),
            ("resnet18", 10_000, 8, 7_438),
            ("densenet121", 10_000, 1, 5_392),
        ] {
            let each = bytes_per_member(Device::Cuda(0), &network(name, 1), 128, samples);
            let ratio = (runs * each) as f64 / (f64::from(mib) * 2f64.powi(20));
            println!("{name}: {} each, {ratio:.2} of the peak", text::bytes(each));
            assert!((1.0..1.3).contains(&ratio), "{name}: {ratio}");
        }
    }

    /// Widths on a CPU are part of results that exist.
    #[test]
    fn a_cpu_s_estimates_stay_what_they_were() {
        let each = |name| bytes_per_member(Device::Cpu, &network(name, 1), 128, 10_000);
        assert_eq!(["lenet", "resnet18", "densenet121"].map(each), [59_395_264, 2_480_912_576, 15_772_831_936]);
    }

    #[test]
    fn a_container_s_limit_counts_where_it_is_the_smaller_one() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(host_bytes(root.path()), None);
        write("proc/meminfo", "MemTotal:       4 kB\nMemFree:        1 kB\n");
        write("sys/fs/cgroup/memory.max", "max\n");
        assert_eq!(host_bytes(root.path()), Some(4096));
        write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(host_bytes(root.path()), Some(4096));
        write("sys/fs/cgroup/memory.max", "4095\n");
        assert_eq!(host_bytes(root.path()), Some(4095));
    }

    #[test]
    fn a_block_larger_than_the_machine_is_refused_with_both_sizes() {
        check_host("samples", 1).unwrap();
        let error = check_host("samples of a block", 1 << 60).unwrap_err();
        assert!(error.to_string().starts_with("samples of a block: 1024.0 PiB of memory are needed, "), "{error}");
        assert!(!error.is_out_of_memory());
    }
}
