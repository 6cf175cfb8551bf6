//! The errors of a population.
//!
//! Deliberately absent: whose fault it is, which `compute` decides.

use crate::generator::GeneratorError;
use crate::libtorch;
use nadgrid_core::text;
use nadgrid_kernels::KernelError;
use tch::TchError;
use thiserror::Error;

/// An error of a population.
#[derive(Debug, Error)]
pub enum PopulationError {
    /// libtorch failed in a layer.
    #[error("layer {layer} ({what}): {}", first_line(.source))]
    Layer {
        /// The index of the layer.
        layer: usize,
        /// The layer's kind.
        what: &'static str,
        /// libtorch's error.
        source: TchError,
    },
    /// libtorch failed outside of a layer.
    #[error("{task}: {}", first_line(.source))]
    Torch {
        /// The failed task.
        task: &'static str,
        /// libtorch's error.
        source: TchError,
    },
    /// There was no memory for a tensor.
    #[error("{task}: out of memory{}", asked(*.bytes))]
    OutOfMemory {
        /// The failed task, or the kind of layer.
        task: &'static str,
        /// Bytes that were asked for, where libtorch names them.
        bytes: Option<u64>,
    },
    /// cuDNN found no way to compute a convolution. Each that it has was tried; mostly memory for their workspaces is lacking.
    #[error("{task}: out of memory for the workspace of a convolution: {}", first_line(.source))]
    NoEngine {
        /// The failed task, or the kind of layer.
        task: &'static str,
        /// libtorch's error.
        source: TchError,
    },
    /// Memory was refused, and libtorch went on without it in another way, which gives other bits: the result is thrown away.
    #[error("{task}: out of memory: libtorch continued in another way, whose results have other bits")]
    Refused {
        /// The failed task.
        task: &'static str,
    },
    /// The GPU is lost to this process: whatever it asks of it next fails too.
    #[error("{task}: the GPU is lost to this process: {}", first_line(.source))]
    DeviceLost {
        /// The failed task, or the kind of layer.
        task: &'static str,
        /// libtorch's error.
        source: TchError,
    },
    /// CUDA or one of its libraries refused a call; other calls may go well.
    #[error("{task}: {}", first_line(.source))]
    Cuda {
        /// The failed task, or the kind of layer.
        task: &'static str,
        /// libtorch's error.
        source: TchError,
    },
    /// libtorch does not take a setting.
    #[error(transparent)]
    Setting(#[from] libtorch::LibtorchError),
    /// TF32 is a number format of NVIDIA's GPUs.
    #[error("precision = tf32: a CPU does not have it; use fp32 or bf16")]
    Tf32OnCpu,
    /// Numbers that do not make what they are given for.
    #[error("{what}: {actual} numbers, {expected} are needed")]
    Length {
        /// The purpose of the numbers.
        what: &'static str,
        /// The number that is needed.
        expected: usize,
        /// The number that was given.
        actual: usize,
    },
    /// A pixel that the input does not have.
    #[error("pixel {pixel} is beyond the input of {dimension} numbers")]
    Pixel {
        /// The pixel.
        pixel: usize,
        /// The count of the input's numbers.
        dimension: usize,
    },
    /// A class that the network has no output for.
    #[error("member {member}: label {label}, the network has {classes} classes")]
    Label {
        /// The member whose data they are.
        member: usize,
        /// The label.
        label: u8,
        /// The number of the network's outputs.
        classes: usize,
    },
    /// Not even one member fits.
    #[error("{task}: one member needs {}, the budget is {}", text::bytes(*.needed), text::bytes(*.budget))]
    Memory {
        /// The task.
        task: &'static str,
        /// The bytes that one member needs.
        needed: u64,
        /// Bytes that may be taken.
        budget: u64,
    },
    /// The host is too small for a block's samples.
    #[error("{task}: {} of memory are needed, this machine has {}", text::bytes(*.needed), text::bytes(*.present))]
    HostMemory {
        /// The task.
        task: &'static str,
        /// The bytes that the block needs.
        needed: u64,
        /// Bytes of the machine, or of the container.
        present: u64,
    },
    /// The GPU does not draw any more.
    #[error("drawing on the GPU: {0}")]
    Generator(GeneratorError),
    /// A gradient overflowed.
    #[error(transparent)]
    NotFinite(#[from] KernelError),
}

impl PopulationError {
    /// Describes a failure of libtorch in a layer.
    pub(crate) fn in_layer(layer: usize, what: &'static str, source: TchError) -> Self {
        Self::of_device(what, source).unwrap_or_else(|source| Self::Layer { layer, what, source })
    }

    /// Recognises failures of the device, and not of the computation, by libtorch's words: tch carries nothing else.
    fn of_device(task: &'static str, source: TchError) -> Result<Self, TchError> {
        let text = source.to_string();
        let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
        if says(&NO_MEMORY) {
            return Ok(Self::OutOfMemory { task, bytes: bytes_asked(&text) });
        }
        if says(&[NO_ENGINE]) {
            return Ok(Self::NoEngine { task, source });
        }
        match (says(&LOST), says(&CUDA)) {
            (true, _) => Ok(Self::DeviceLost { task, source }),
            (_, true) => Ok(Self::Cuda { task, source }),
            _ => Err(source),
        }
    }

    /// Whether memory was refused. Where cuDNN has no engine, the reason may also be that it lacks the operation.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::OutOfMemory { .. } | Self::Refused { .. })
    }
}

impl From<GeneratorError> for PopulationError {
    fn from(error: GeneratorError) -> Self {
        match error {
            GeneratorError::Torch { task, source } => at(task)(source),
            error => Self::Generator(error),
        }
    }
}

/// The words by which allocators of CPUs, GPUs and the libraries on them report that there is no memory.
const NO_MEMORY: [&str; 5] =
    ["out of memory", "can't allocate memory", "STATUS_ALLOC_FAILED", "ALLOCATION_FAILED", "std::bad_alloc"];
/// The words by which libtorch gives up on a convolution, by the plans that cuDNN proposes (`GET`) and by those that it was asked
/// to measure (`FIND`): it tries one after the other and keeps no memory error.
const NO_ENGINE: &str = "unable to find an engine";
/// After these errors every call fails until the process ends; the CUDA run-time's documentation says so of each.
const LOST: [&str; 12] = [
    "illegal memory access",
    "device-side assert",
    "unspecified launch failure",
    "misaligned address",
    "illegal instruction",
    "invalid program counter",
    "invalid address space",
    "hardware stack error",
    "launch timed out",
    "uncorrectable ECC error",
    "uncorrectable NVLink error",
    "context is destroyed",
];
/// The beginnings of other failures of CUDA and its libraries.
const CUDA: [&str; 5] = ["CUDA error", "CUDA driver error", "cuDNN error", "CUBLAS_STATUS", "CUDNN_STATUS"];

/// `you tried to allocate 4096 bytes` on a CPU, `Tried to allocate 20.00 MiB` on a GPU.
fn bytes_asked(text: &str) -> Option<u64> {
    let mut words = text.split_once("ried to allocate ")?.1.split_whitespace();
    let number = words.next()?.parse::<f64>().ok()?;
    let unit = words.next()?;
    let shift = ["bytes", "KiB", "MiB", "GiB", "TiB"].iter().position(|&known| unit.starts_with(known))?;
    Some((number * (1u64 << (10 * shift)) as f64) as u64)
}

fn asked(bytes: Option<u64>) -> String {
    bytes.map_or(String::new(), |bytes| format!(", {} were asked for", text::bytes(bytes)))
}

/// libtorch's messages go on with a C++ backtrace.
fn first_line(error: &TchError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// Gives a failure of libtorch the name of what it failed at.
pub(crate) fn at(task: &'static str) -> impl FnOnce(TchError) -> PopulationError {
    move |source| {
        PopulationError::of_device(task, source).unwrap_or_else(|source| PopulationError::Torch { task, source })
    }
}

/// Fails where there are not as many numbers as are needed.
pub(super) fn check_length(what: &'static str, expected: usize, actual: usize) -> Result<(), PopulationError> {
    if expected == actual { Ok(()) } else { Err(PopulationError::Length { what, expected, actual }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn a_gpu_without_memory_says_what_was_asked_for() {
        let full = "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.11 GiB of which \
                    12.06 MiB is free.\nException raised from malloc at CUDACachingAllocator.cpp:1463";
        let message = at("gathering a batch")(TchError::Torch(full.to_owned())).to_string();
        assert_eq!(message, "gathering a batch: out of memory, 20.0 MiB were asked for");
    }

    /// A real one: no machine has a tebi of float32 numbers.
    #[test]
    fn a_cpu_without_memory_is_told_with_the_bytes() {
        let error = Tensor::f_empty([1 << 50], (Kind::Float, Device::Cpu)).map_err(at("making room")).unwrap_err();
        let PopulationError::OutOfMemory { task: "making room", bytes: Some(bytes) } = error else { panic!("{error}") };
        assert_eq!(bytes, 4 << 50);
    }
}
