//! Assigns a failed computation to the spec, the worker, the shard, or to a passing condition.
//!
//! Populations keep within a budget, so where memory runs out something else holds it for the moment.

use crate::fault::{Cause, Fault};
use crate::population::PopulationError;
use nadgrid_core::scheduler::FailureKind;
use nadgrid_kernels::KernelError;

impl From<&PopulationError> for Fault {
    fn from(error: &PopulationError) -> Self {
        let kind = match error {
            PopulationError::Tf32OnCpu
            | PopulationError::Setting(_)
            | PopulationError::Memory { .. }
            | PopulationError::HostMemory { .. }
            | PopulationError::Cuda { .. }
            | PopulationError::Generator(_)
            | PopulationError::DeviceLost { .. } => FailureKind::Unfit,
            PopulationError::OutOfMemory { .. }
            | PopulationError::NoEngine { .. }
            | PopulationError::Refused { .. } => FailureKind::Transient,
            _ => FailureKind::Task,
        };
        let cause = match error {
            PopulationError::OutOfMemory { .. }
            | PopulationError::NoEngine { .. }
            | PopulationError::Refused { .. } => Cause::OutOfMemory,
            PopulationError::DeviceLost { .. } => Cause::DeviceLost,
            _ => Cause::Other,
        };
        Self { cause, ..Self::new(kind, error.to_string()) }
    }
}

impl From<PopulationError> for Fault {
    fn from(error: PopulationError) -> Self {
        Self::from(&error)
    }
}

/// An architecture that this program's kernels lack may be known to another's; an overflow is the shard's own.
impl From<KernelError> for Fault {
    fn from(error: KernelError) -> Self {
        let kind = match error {
            KernelError::Unsupported { .. } => FailureKind::Unfit,
            KernelError::NotFinite { .. } => FailureKind::Task,
        };
        Self::new(kind, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::population::{at, memory};
    use tch::{Device, Kind, TchError, Tensor};

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
            for error in [
                at("gathering a batch")(TchError::Torch(text.to_owned())),
                PopulationError::in_layer(2, "conv2d", TchError::Torch(text.to_owned())),
            ] {
                let fault = Fault::from(&error);
                assert_eq!((fault.kind, fault.cause), (kind, cause), "{text}");
                assert_eq!(fault.message.lines().count(), 1, "{}", fault.message);
            }
        }
    }

    /// A real one: no machine has a tebi of float32 numbers.
    #[test]
    fn a_cpu_without_memory_is_transient_trouble() {
        let error = Tensor::f_empty([1 << 50], (Kind::Float, Device::Cpu)).map_err(at("making room")).unwrap_err();
        assert_eq!(Fault::from(error).kind, FailureKind::Transient);
    }

    #[test]
    fn memory_that_was_refused_is_transient_and_a_machine_that_cannot_is_unfit() {
        assert_eq!(Fault::from(PopulationError::Refused { task: "a block" }).kind, FailureKind::Transient);
        let too_large = memory::check_host("samples of a block", 1 << 60).unwrap_err();
        let too_wide = memory::narrowed("training runs", 1, 2, 1).unwrap_err();
        for error in [too_large, too_wide, PopulationError::Tf32OnCpu] {
            assert_eq!(Fault::from(error).kind, FailureKind::Unfit);
        }
    }
}
