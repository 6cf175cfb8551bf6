//! The device to compute on, and the numerics class that follows from it.
//!
//! [`prepare`] is called once, before any thread computes: it opens CUDA where there is one and makes libtorch exact
//! and deterministic. Deliberately absent: more than one device per worker; start one worker for each GPU.

mod cuda;
mod environment;

pub(crate) use cuda::CudaError;
pub use environment::clear as clear_environment;

use crate::libtorch::{self, Nondeterminism, Tf32};
use nadgrid_core::LIBTORCH_VERSION;
use nadgrid_core::numerics::{NumericsClass, Precision};
use std::str::FromStr;
use std::sync::Once;
use tch::Device;
use thiserror::Error;

/// The device that the user asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A GPU where libtorch sees one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this number.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    /// The accepted values.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => {
                let number = text.strip_prefix("cuda:").and_then(|n| n.parse().ok());
                number.map(Self::Cuda).ok_or_else(|| "one of auto, cpu, cuda or cuda:N".to_owned())
            }
        }
    }
}

/// The evaluation of central differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evaluation {
    /// Only what a pixel can reach, by nadgrid's own kernels, on a CPU.
    Patch,
    /// Every forward pass whole, as one tensor program on libtorch.
    Dense,
    /// Every forward pass whole, of one network at a time, by operations that are fused; other work as in [`Evaluation::Dense`].
    Fused,
}

impl Evaluation {
    /// Returns its name.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Patch => "patch",
            Self::Dense => "dense",
            Self::Fused => "fused",
        }
    }

    /// Returns the evaluation of this name.
    pub(crate) fn find(name: &str) -> Option<Self> {
        [Self::Patch, Self::Dense, Self::Fused].into_iter().find(|evaluation| evaluation.as_str() == name)
    }
}

/// The reason why a device cannot be used.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// libtorch is another release or cannot be set up.
    #[error(transparent)]
    Libtorch(#[from] libtorch::LibtorchError),
    /// The loaded libtorch is not the one that nadgrid's classes name.
    #[error("libtorch {found} is loaded, this nadgrid needs {LIBTORCH_VERSION}")]
    Release {
        /// The loaded release.
        found: String,
    },
    /// There is no such GPU.
    #[error("device = cuda:{wanted}: {found}")]
    NoSuchGpu {
        /// The number of the requested GPU.
        wanted: usize,
        /// The GPUs that exist instead.
        found: String,
    },
    /// No GPU can be used, or this one cannot.
    #[error("device = cuda:{wanted}: {source}")]
    Cuda {
        /// The number of the requested GPU.
        wanted: usize,
        /// The reason why it cannot be used.
        source: CudaError,
    },
    /// The patch kernels run on CPUs.
    #[error("evaluation = patch: it runs on a CPU; with device = cuda use auto, fused or dense")]
    PatchOnGpu,
}

/// A device that is set up.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// The device of tensors.
    pub(crate) device: Device,
    /// The evaluation of differences.
    pub(crate) evaluation: Evaluation,
    /// The numerics class of its results.
    pub(crate) class: NumericsClass,
    precisions: Vec<Precision>,
}

impl Machine {
    /// Returns one slot per core on a CPU, and one slot on a GPU: helper threads prepare what that needs, and a second slot would
    /// take as much memory again for a small gain.
    pub(crate) fn default_slots(&self) -> u32 {
        if self.device.is_cuda() {
            return 1;
        }
        std::thread::available_parallelism().map_or(1, |cores| cores.get().try_into().unwrap_or(u32::MAX))
    }

    /// Returns the precisions in which it can compute: nadgrid's own kernels are float32, TF32 is a GPU's.
    pub(crate) fn precisions(&self) -> Vec<Precision> {
        self.precisions.clone()
    }

    /// Returns what the arithmetic runs on, for display.
    pub(crate) fn instruction_set(&self) -> &str {
        match self.evaluation {
            Evaluation::Patch => nadgrid_kernels::instruction_set(),
            Evaluation::Dense | Evaluation::Fused => &self.class.arithmetic,
        }
    }
}

/// Finds the device and sets libtorch up for it.
///
/// # Errors
/// [`DeviceError`] when the device is absent or libtorch is not the right one.
pub(crate) fn prepare(choice: DeviceChoice, evaluation: Option<Evaluation>) -> Result<Machine, DeviceError> {
    libtorch::check_release()?;
    let found = libtorch::version();
    if found != LIBTORCH_VERSION {
        return Err(DeviceError::Release { found });
    }
    let gpu = find(choice)?;
    if gpu.is_some() && !environment::cleared().is_empty() {
        let names = environment::cleared().join(", ");
        tracing::warn!("unset for this process, since results would be of another numerics class: {names}");
    }
    let evaluation = match (&gpu, evaluation) {
        (Some(_), Some(Evaluation::Patch)) => return Err(DeviceError::PatchOnGpu),
        (Some(_), chosen) => chosen.unwrap_or(Evaluation::Fused),
        (None, chosen) => chosen.unwrap_or(Evaluation::Patch),
    };
    be_exact()?;
    let device = gpu.as_ref().map_or(Device::Cpu, |gpu| Device::Cuda(gpu.number));
    let precisions = match (evaluation, &gpu) {
        (Evaluation::Patch, _) => vec![Precision::Fp32],
        (Evaluation::Dense | Evaluation::Fused, None) => vec![Precision::Fp32, Precision::Bf16],
        (Evaluation::Dense | Evaluation::Fused, Some(gpu)) => gpu.arithmetic.precisions(),
    };
    Ok(Machine { device, evaluation, class: class(gpu, evaluation)?, precisions })
}

/// A GPU that libtorch can use.
#[derive(Debug)]
struct Gpu {
    number: usize,
    arithmetic: cuda::Arithmetic,
}

/// Returns the GPU that is chosen, if one is.
fn find(choice: DeviceChoice) -> Result<Option<Gpu>, DeviceError> {
    match choice {
        DeviceChoice::Cpu => Ok(None),
        DeviceChoice::Cuda(number) => gpu(number)?.map(Some).ok_or_else(|| {
            let found = "this libtorch has no CUDA half (libtorch_cuda.so is not beside it)".to_owned();
            DeviceError::NoSuchGpu { wanted: number, found }
        }),
        DeviceChoice::Auto => Ok(gpu(0).unwrap_or_else(|error| {
            tracing::warn!("no GPU can be used, computing on the CPU: {error}");
            None
        })),
    }
}

/// Returns the GPU of this number; `None` where libtorch has no CUDA half.
fn gpu(number: usize) -> Result<Option<Gpu>, DeviceError> {
    if !libtorch::open_cuda()? {
        return Ok(None);
    }
    let broken = |source| DeviceError::Cuda { wanted: number, source };
    let count = cuda::count().map_err(broken)?;
    if number >= count {
        let found = match count {
            1 => "CUDA sees one GPU, cuda:0".to_owned(),
            count => format!("CUDA sees {count} GPUs, cuda:0 to cuda:{}", count - 1),
        };
        return Err(DeviceError::NoSuchGpu { wanted: number, found });
    }
    Ok(Some(Gpu { number, arithmetic: cuda::arithmetic(number).map_err(broken)? }))
}

/// Makes libtorch exact and deterministic: float32 means float32, the same input gives the same bits, and these do not depend on
/// the number of cores, since a slot is one thread.
fn be_exact() -> Result<(), DeviceError> {
    static INTEROP: Once = Once::new();
    libtorch::set_tf32(Tf32::Forbidden)?;
    libtorch::be_deterministic(Nondeterminism::Error)?;
    // libtorch takes this once per process.
    INTEROP.call_once(|| tch::set_num_interop_threads(1));
    be_one_thread();
    Ok(())
}

/// Keeps libtorch's operations, backward too, on the thread that calls them. Each slot says so for itself: both settings are a
/// thread's.
pub(crate) fn be_one_thread() {
    tch::set_num_threads(1);
    libtorch::keep_backward_here();
}

fn class(gpu: Option<Gpu>, evaluation: Evaluation) -> Result<NumericsClass, DeviceError> {
    let (device, arithmetic) = match (gpu, evaluation) {
        (Some(gpu), _) => ("cuda", gpu.arithmetic.to_string()),
        (None, Evaluation::Patch) => ("cpu", "portable".to_owned()),
        (None, Evaluation::Dense | Evaluation::Fused) => ("cpu", libtorch::cpu_capability()?.to_ascii_lowercase()),
    };
    Ok(NumericsClass {
        device: device.to_owned(),
        arithmetic,
        evaluation: evaluation.as_str().to_owned(),
        libtorch: LIBTORCH_VERSION.to_owned(),
        precision: Precision::default().to_string(),
        kernels: nadgrid_kernels::VERSION,
    })
}

/// Returns the device of the worker's own tests: what `NADGRID_TEST_DEVICE` names (`cuda`, `cuda:N`), made ready once, else the
/// CPU.
#[cfg(test)]
pub(crate) fn of_tests() -> (DeviceChoice, Device) {
    static CHOSEN: std::sync::OnceLock<(DeviceChoice, Device)> = std::sync::OnceLock::new();
    *CHOSEN.get_or_init(|| match std::env::var("NADGRID_TEST_DEVICE") {
        Ok(name) if name != "cpu" => {
            let choice = name.parse().unwrap_or_else(|accepted| panic!("NADGRID_TEST_DEVICE = {name}: {accepted}"));
            (choice, prepare(choice, Some(Evaluation::Dense)).unwrap_or_else(|error| panic!("{error}")).device)
        }
        _ => (DeviceChoice::Cpu, Device::Cpu),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_is_always_there_and_its_class_says_how_it_rounds() {
        let patch = prepare(DeviceChoice::Cpu, None).unwrap();
        assert_eq!((patch.class.device.as_str(), patch.class.arithmetic.as_str()), ("cpu", "portable"));
        assert_eq!((patch.class.evaluation.as_str(), patch.class.libtorch.as_str()), ("patch", LIBTORCH_VERSION));
        let dense = prepare(DeviceChoice::Cpu, Some(Evaluation::Dense)).unwrap();
        assert_ne!(dense.class.arithmetic, "portable");
        assert_ne!(patch.class, dense.class);
        // Other bits, so another class; on a CPU only for who asks.
        let fused = prepare(DeviceChoice::Cpu, Some(Evaluation::Fused)).unwrap();
        assert_eq!(fused.class.evaluation, "fused");
        assert_eq!(fused.precisions(), dense.precisions());
        assert!(patch.default_slots() >= 1);
    }

    #[test]
    fn an_absent_gpu_is_one_clear_line() {
        if prepare(DeviceChoice::Cuda(0), None).is_ok() {
            return;
        }
        let error = prepare(DeviceChoice::Cuda(3), None).unwrap_err().to_string();
        assert!(error.starts_with("device = cuda:3: ") && !error.contains('\n'), "{error}");
        assert_eq!(prepare(DeviceChoice::Auto, None).unwrap().device, Device::Cpu);
    }
}
