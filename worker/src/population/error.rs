//! What can go wrong in a population, and whose fault it is.

use crate::board::{Cause, Fault};
use crate::generator::GeneratorError;
use crate::libtorch;
use nadgrid_core::text;
use nadgrid_kernels::KernelError;
use nadgrid_proto::v1::FailureKind;
use tch::TchError;
use thiserror::Error;

/// What can go wrong in a population.
#[derive(Debug, Error)]
pub enum PopulationError {
    /// libtorch failed in a layer.
    #[error("layer {layer} ({what}): {}", first_line(.source))]
    Layer {
        /// Index of the layer.
        layer: usize,
        /// Its kind.
        what: &'static str,
        /// libtorch's words.
        source: TchError,
    },
    /// libtorch failed elsewhere.
    #[error("{task}: {}", first_line(.source))]
    Torch {
        /// At what.
        task: &'static str,
        /// libtorch's words.
        source: TchError,
    },
    /// There was no memory for a tensor.
    #[error("{task}: out of memory{}", asked(*.bytes))]
    OutOfMemory {
        /// At what, or in which kind of layer.
        task: &'static str,
        /// Bytes that were asked for, where libtorch says.
        bytes: Option<u64>,
    },
    /// cuDNN found no way to compute a convolution. Each that it has was tried; mostly memory for their workspaces is lacking.
    #[error("{task}: out of memory for the workspace of a convolution: {}", first_line(.source))]
    NoEngine {
        /// At what, or in which kind of layer.
        task: &'static str,
        /// libtorch's words.
        source: TchError,
    },
    /// Memory was refused, and libtorch went on without it in another way, which gives other bits: the result is thrown away.
    #[error("{task}: out of memory: libtorch was refused some and went on in another way, which gives other bits")]
    Refused {
        /// At what.
        task: &'static str,
    },
    /// The GPU is lost to this process: whatever it asks of it next fails too.
    #[error("{task}: the GPU is lost to this process: {}", first_line(.source))]
    DeviceLost {
        /// At what, or in which kind of layer.
        task: &'static str,
        /// libtorch's words.
        source: TchError,
    },
    /// CUDA or one of its libraries refused a call; other calls may go well.
    #[error("{task}: {}", first_line(.source))]
    Cuda {
        /// At what, or in which kind of layer.
        task: &'static str,
        /// libtorch's words.
        source: TchError,
    },
    /// libtorch does not take a setting.
    #[error(transparent)]
    Setting(#[from] libtorch::Error),
    /// TF32 is a number format of NVIDIA's GPUs.
    #[error("precision = tf32: a CPU does not have it; use fp32 or bf16")]
    Tf32OnCpu,
    /// Numbers that do not make what they are given for.
    #[error("{what}: {actual} numbers, {expected} are needed")]
    Length {
        /// What they are given for.
        what: &'static str,
        /// As many are needed.
        expected: usize,
        /// As many came.
        actual: usize,
    },
    /// A pixel that the input does not have.
    #[error("pixel {pixel} of an input of {dimension} numbers")]
    Pixel {
        /// The pixel.
        pixel: usize,
        /// Numbers of the input.
        dimension: usize,
    },
    /// A class that the network has no output for.
    #[error("member {member}: label {label}, the network tells {classes} classes apart")]
    Label {
        /// Whose data.
        member: usize,
        /// The label.
        label: u8,
        /// Outputs of the network.
        classes: usize,
    },
    /// Not even one member fits.
    #[error("{task}: one member needs {}, the budget is {}", text::bytes(*.needed), text::bytes(*.budget))]
    Memory {
        /// What for.
        task: &'static str,
        /// Bytes of one member.
        needed: u64,
        /// Bytes that may be taken.
        budget: u64,
    },
    /// The host is too small for a block's samples.
    #[error("{task}: {} of memory are needed, this machine has {}", text::bytes(*.needed), text::bytes(*.present))]
    HostMemory {
        /// What for.
        task: &'static str,
        /// Bytes of the block.
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
    /// A failure of libtorch in a layer.
    pub(super) fn in_layer(layer: usize, what: &'static str, source: TchError) -> Self {
        Self::of_device(what, source).unwrap_or_else(|source| Self::Layer { layer, what, source })
    }

    /// What of libtorch's failures is the device's and not the computation's, by its words: tch carries nothing else.
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

    /// Whether memory was refused. Where cuDNN has no engine it may be for want of one.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::OutOfMemory { .. } | Self::Refused { .. })
    }

    /// Whose fault it is. Populations keep within a budget, so where memory runs out someone else holds it, for now.
    pub fn fault(&self) -> Fault {
        let (kind, cause) = match self {
            Self::Tf32OnCpu
            | Self::Setting(_)
            | Self::Memory { .. }
            | Self::HostMemory { .. }
            | Self::Cuda { .. }
            | Self::Generator(_) => (FailureKind::Unfit, Cause::Other),
            Self::OutOfMemory { .. } | Self::NoEngine { .. } | Self::Refused { .. } => {
                (FailureKind::Transient, Cause::OutOfMemory)
            }
            Self::DeviceLost { .. } => (FailureKind::Unfit, Cause::DeviceLost),
            _ => (FailureKind::Task, Cause::Other),
        };
        Fault { cause, ..Fault::new(kind, self.to_string()) }
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

/// How allocators of CPUs, GPUs and the libraries on them say that there is no memory.
const NO_MEMORY: [&str; 5] =
    ["out of memory", "can't allocate memory", "STATUS_ALLOC_FAILED", "ALLOCATION_FAILED", "std::bad_alloc"];
/// How libtorch gives up on a convolution, by the plans that cuDNN proposes (`GET`) and by those that it was asked to measure
/// (`FIND`): it tries one after the other and keeps no memory error of any.
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
/// How other failures of CUDA and its libraries begin.
const CUDA: [&str; 5] = ["CUDA error", "CUDA driver error", "cuDNN error", "CUBLAS_STATUS", "CUDNN_STATUS"];

/// `you tried to allocate 4096 bytes` on a CPU, `Tried to allocate 20.00 MiB` on a GPU.
fn bytes_asked(text: &str) -> Option<u64> {
    let mut words = text.split_once("ried to allocate ")?.1.split_whitespace();
    let (number, unit) = (words.next()?.parse::<f64>().ok()?, words.next()?);
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
pub(super) fn at(task: &'static str) -> impl FnOnce(TchError) -> PopulationError {
    move |source| {
        PopulationError::of_device(task, source).unwrap_or_else(|source| PopulationError::Torch { task, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    fn said(text: &str) -> PopulationError {
        at("gathering a batch")(TchError::Torch(text.to_owned()))
    }

    /// Texts as libtorch 2.11 and the CUDA 13.0 run-time have them.
    #[test]
    fn the_device_s_failures_are_told_from_the_computation_s() {
        let full = "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.11 GiB of which \
                    12.06 MiB is free.\nException raised from malloc at CUDACachingAllocator.cpp:1463";
        let illegal = "CUDA error: an illegal memory access was encountered\nSearch for `cudaErrorIllegalAddress' in \
                       https://docs.nvidia.com/cuda/cuda-runtime-api/ for more information.";
        use Cause::{DeviceLost, Other, OutOfMemory};
        use FailureKind::{Task, Transient, Unfit};
        for (text, kind, cause) in [
            (full, Transient, OutOfMemory),
            ("CUDA error: out of memory", Transient, OutOfMemory),
            ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", Transient, OutOfMemory),
            ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", Transient, OutOfMemory),
            ("GET was unable to find an engine to execute this computation", Transient, OutOfMemory),
            ("FIND was unable to find an engine to execute this computation", Transient, OutOfMemory),
            (illegal, Unfit, DeviceLost),
            ("CUDA error: device-side assert triggered", Unfit, DeviceLost),
            ("CUDA error: unspecified launch failure", Unfit, DeviceLost),
            ("CUDA error: uncorrectable ECC error encountered", Unfit, DeviceLost),
            ("CUDA error: misaligned address", Unfit, DeviceLost),
            ("CUDA error: no kernel image is available for execution on the device", Unfit, Other),
            ("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasLtMatmul(...)`", Unfit, Other),
            ("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED", Unfit, Other),
            ("The size of tensor a (3) must match the size of tensor b (4) at non-singleton dimension 1", Task, Other),
            ("index out of range in self", Task, Other),
        ] {
            for error in [said(text), PopulationError::in_layer(2, "conv2d", TchError::Torch(text.to_owned()))] {
                let fault = error.fault();
                assert_eq!((fault.kind, fault.cause), (kind, cause), "{text}");
                assert_eq!(fault.message.lines().count(), 1, "{}", fault.message);
            }
        }
        let message = said(full).to_string();
        assert_eq!(message, "gathering a batch: out of memory, 20.0 MiB were asked for");
    }

    /// A real one: no machine has a tebi of float32 numbers.
    #[test]
    fn a_cpu_without_memory_is_told_with_the_bytes() {
        let error = Tensor::f_empty([1 << 50], (Kind::Float, Device::Cpu)).map_err(at("making room")).unwrap_err();
        let PopulationError::OutOfMemory { task: "making room", bytes: Some(bytes) } = error else { panic!("{error}") };
        assert_eq!(bytes, 4 << 50);
        assert_eq!(error.fault().kind, FailureKind::Transient);
    }
}
