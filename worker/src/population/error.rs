//! What can go wrong in a population, and whose fault it is.

use crate::board::Fault;
use crate::libtorch;
use nadgrid_core::text;
use nadgrid_kernels::KernelError;
use nadgrid_proto::v1::FailureKind;
use tch::{Device, TchError};
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
    /// A gradient overflowed.
    #[error(transparent)]
    NotFinite(#[from] KernelError),
}

impl PopulationError {
    /// Whose fault it is. After an error of CUDA's own, no more can be computed on that GPU by this process. Populations keep
    /// within a budget, so where a GPU's memory runs out someone else holds it, for now.
    pub fn fault(&self, device: Device) -> Fault {
        let kind = match self {
            Self::Tf32OnCpu | Self::Setting(_) | Self::Memory { .. } => FailureKind::Unfit,
            Self::Layer { source, .. } | Self::Torch { source, .. } if device.is_cuda() => {
                let text = source.to_string();
                match (text.contains("out of memory"), text.contains("CUDA error")) {
                    (true, _) => FailureKind::Transient,
                    (_, true) => FailureKind::Unfit,
                    _ => FailureKind::Task,
                }
            }
            _ => FailureKind::Task,
        };
        Fault::new(kind, self.to_string())
    }
}

/// libtorch's messages go on with a C++ backtrace.
fn first_line(error: &TchError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// Gives a failure of libtorch the name of what it failed at.
pub(super) fn at(task: &'static str) -> impl FnOnce(TchError) -> PopulationError {
    move |source| PopulationError::Torch { task, source }
}
