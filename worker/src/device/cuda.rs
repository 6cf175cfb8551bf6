//! Reads the properties of a GPU, and the reason why none can be used, from the CUDA run-time and the driver; neither
//! tch nor libtorch's stable interface offers them.
//!
//! Everything is asked of the libraries that libtorch_cuda.so brought along. Deliberately absent: NVIDIA's management library,
//! which a container need not have.

use crate::libtorch::{self, CudaBuild};
use libloading::os::unix::{Library, Symbol};
use nadgrid_core::numerics::Precision;
use std::ffi::{CStr, c_char, c_int};
use thiserror::Error;

/// These functions, their attributes' numbers and their errors are part of CUDA's stable interface, that of cuDNN and of cuBLAS.
type CountDevices = unsafe extern "C" fn(count: *mut c_int) -> c_int;
type CudaVersion = unsafe extern "C" fn(version: *mut c_int) -> c_int;
type CudaErrorString = unsafe extern "C" fn(error: c_int) -> *const c_char;
type CudaGetAttribute = unsafe extern "C" fn(value: *mut c_int, attribute: c_int, device: c_int) -> c_int;
type LibraryVersion = unsafe extern "C" fn() -> usize;

const MULTIPROCESSORS: c_int = 16;
const L2_BYTES: c_int = 38;
const COMPUTE_CAPABILITY_MAJOR: c_int = 75;
const COMPUTE_CAPABILITY_MINOR: c_int = 76;
/// `cudaErrorInsufficientDriver`, also where there is no driver.
const INSUFFICIENT_DRIVER: c_int = 35;
/// `cudaErrorNoDevice`.
const NO_DEVICE: c_int = 100;

/// The folder in which the driver lists its cards, whoever may use them.
const CARDS: &str = "/proc/driver/nvidia/gpus";

/// The reason why a GPU cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CudaError {
    /// A library lacks a function.
    #[error("the CUDA libraries beside libtorch do not fit it: {0}")]
    Library(String),
    /// There is no driver, or the loader does not find it.
    #[error("there is no NVIDIA driver here, or its libcuda.so.1 is not found")]
    NoDriver,
    /// A driver that is too old.
    #[error("the driver is for CUDA {}, this libtorch needs {}: update the driver", dotted(*.driver), dotted(*.needed))]
    OldDriver {
        /// The driver's CUDA version.
        driver: c_int,
        /// The CUDA version that is needed.
        needed: c_int,
    },
    /// There is no card that this process may use.
    #[error("CUDA sees no GPU{0}")]
    NoGpu(String),
    /// CUDA reported a failure other than these.
    #[error("CUDA: {words} (error {code})")]
    Said {
        /// CUDA's message.
        words: String,
        /// CUDA's error number.
        code: c_int,
    },
    /// The halves of libtorch are of two builds.
    #[error(
        "libtorch_cuda.so runs on CUDA {}, but libtorch_cpu.so has loaded CUDA {}: both must come from one build of libtorch",
        dotted(*.half), dotted(*.whole)
    )]
    Mixed {
        /// CUDA of the CUDA half.
        half: c_int,
        /// CUDA of the other half.
        whole: c_int,
    },
    /// The loaded cuDNN is older than the one that libtorch was built with, or of another major version.
    #[error("cuDNN {} is loaded, this libtorch needs {} or a later {}.x", triple(*.found), triple(*.needed), *.needed / 10_000)]
    OldCudnn {
        /// The version of the loaded cuDNN.
        found: usize,
        /// The version that libtorch was built with.
        needed: usize,
    },
    /// A GPU that libtorch has no kernels for.
    #[error("its compute capability is {found}, this libtorch has kernels for {}", .kernels.join(", "))]
    Capability {
        /// The GPU's capability, for example `7.0`.
        found: String,
        /// The capabilities of libtorch's kernels.
        kernels: Vec<String>,
    },
}

/// Returns how many GPUs this process may use.
///
/// # Errors
/// [`CudaError`] when the libraries do not fit each other, or CUDA sees no GPU.
pub(super) fn count() -> Result<usize, CudaError> {
    let build = libtorch::cuda_build().map_err(library)?;
    let half = version(c"cudaRuntimeGetVersion")?;
    check_libraries(&build, half, version_of_the_whole(), library_version(c"cudnnGetVersion")?)?;
    let mut count = 0;
    // Safety: the number is writable for the duration of the call.
    match unsafe { function::<CountDevices>(c"cudaGetDeviceCount")?(&raw mut count) } {
        0 if count > 0 => Ok(count.try_into().unwrap_or(0)),
        code => Err(no_gpu(code, version(c"cudaDriverGetVersion").unwrap_or(0), half)),
    }
}

fn library(error: libtorch::LibtorchError) -> CudaError {
    CudaError::Library(error.to_string())
}

/// Two CUDAs in one process have two notions of the device. cuDNN promises that later ones of the same kind serve.
fn check_libraries(build: &CudaBuild, half: c_int, whole: Option<c_int>, cudnn: usize) -> Result<(), CudaError> {
    let major = |cuda: c_int| cuda / 1000;
    if let Some(whole) = whole.filter(|&whole| major(whole) != major(half)) {
        return Err(CudaError::Mixed { half, whole });
    }
    if major(half) != major(build.cuda) {
        return Err(CudaError::Mixed { half: build.cuda, whole: half });
    }
    if cudnn < build.cudnn || cudnn / 10_000 != build.cudnn / 10_000 {
        return Err(CudaError::OldCudnn { found: cudnn, needed: build.cudnn });
    }
    Ok(())
}

/// The CUDA that libtorch_cpu.so loads for its profiler, where it does.
fn version_of_the_whole() -> Option<c_int> {
    let mut version = 0;
    // Safety: the symbol is a run-time's, with the signature above.
    let ask = unsafe { Library::this().get::<CudaVersion>(b"cudaRuntimeGetVersion\0") }.ok()?;
    // Safety: the number is writable for the duration of the call.
    (unsafe { ask(&raw mut version) } == 0).then_some(version)
}

/// Returns the meaning of an answer of `cudaGetDeviceCount`, given the versions of the driver and the run-time.
fn no_gpu(code: c_int, driver: c_int, runtime: c_int) -> CudaError {
    match code {
        INSUFFICIENT_DRIVER if driver == 0 => CudaError::NoDriver,
        INSUFFICIENT_DRIVER if driver < runtime => CudaError::OldDriver { driver, needed: runtime },
        0 | NO_DEVICE => CudaError::NoGpu(hidden(std::env::var("CUDA_VISIBLE_DEVICES").ok().as_deref(), cards())),
        code => said(code),
    }
}

/// Returns a likely reason why CUDA sees no cards.
fn hidden(visible: Option<&str>, cards: usize) -> String {
    match (visible, cards) {
        (Some(""), _) => ": CUDA_VISIBLE_DEVICES is set and empty, which hides all".to_owned(),
        (Some(names), _) => format!(": CUDA_VISIBLE_DEVICES={names} does not begin with a GPU that exists"),
        (None, 0) => String::new(),
        (None, cards) => {
            let is = if cards == 1 { "1 card, which" } else { &format!("{cards} cards, none of which") };
            format!(", though the driver has {is} this process may not use, or is in MIG mode without an instance")
        }
    }
}

fn cards() -> usize {
    std::fs::read_dir(CARDS).map_or(0, Iterator::count)
}

/// Returns the properties that the bits of this GPU's results depend on.
///
/// # Errors
/// [`CudaError`] when libtorch has no kernels for the GPU, or CUDA does not answer.
pub(super) fn arithmetic(device: usize) -> Result<Arithmetic, CudaError> {
    let device = c_int::try_from(device).unwrap_or(c_int::MAX);
    let ask = function::<CudaGetAttribute>(c"cudaDeviceGetAttribute")?;
    let attribute = |which| {
        let mut value = 0;
        // Safety: the number is writable for the duration of the call.
        match unsafe { ask(&raw mut value, which, device) } {
            0 => Ok(value),
            code => Err(said(code)),
        }
    };
    let capability = (attribute(COMPUTE_CAPABILITY_MAJOR)?, attribute(COMPUTE_CAPABILITY_MINOR)?);
    check_capability(capability, &kernels(&libtorch::cuda_config().map_err(library)?))?;
    Ok(Arithmetic {
        capability,
        multiprocessors: attribute(MULTIPROCESSORS)?,
        l2_mib: attribute(L2_BYTES)? >> 20,
        cuda: version(c"cudaRuntimeGetVersion")?,
        cudnn: library_version(c"cudnnGetVersion")?,
        cublas: library_version(c"cublasLtGetVersion")?,
    })
}

/// The compute capabilities that libtorch was compiled for, from the compiler's flags: `code=sm_90` is 9.0.
fn kernels(text: &str) -> Vec<(c_int, c_int)> {
    let number = |text: &str| -> Option<c_int> {
        let digits = text.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    };
    text.split("code=sm_").skip(1).filter_map(number).map(|both| (both / 10, both % 10)).collect()
}

/// A kernel runs on GPUs of the same first number and at least the same second. Where libtorch does not say what it was compiled
/// for, the GPU has to show it.
fn check_capability((major, minor): (c_int, c_int), kernels: &[(c_int, c_int)]) -> Result<(), CudaError> {
    let runs = |&(of, from): &(c_int, c_int)| of == major && from <= minor;
    if kernels.is_empty() || kernels.iter().any(runs) {
        return Ok(());
    }
    let kernels = kernels.iter().map(|(major, minor)| format!("{major}.{minor}")).collect();
    Err(CudaError::Capability { found: format!("{major}.{minor}"), kernels })
}

/// The properties that bits depend on besides the precision, the evaluation and libtorch's release: the GPU's compute
/// capability, its number of multiprocessors and the size of its second cache, by which libtorch shapes sums and
/// libraries choose kernels; and these libraries. A slice of a card has its own numbers. cuBLAS is known by its larger
/// half, which answers without a handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arithmetic {
    capability: (c_int, c_int),
    multiprocessors: c_int,
    l2_mib: c_int,
    cuda: c_int,
    cudnn: usize,
    cublas: usize,
}

impl Arithmetic {
    /// Those of its products: tensor cores take TF32 and bfloat16 from compute capability 8 on.
    pub(super) fn precisions(&self) -> Vec<Precision> {
        if self.capability.0 >= 8 { Precision::ALL.to_vec() } else { vec![Precision::Fp32] }
    }
}

impl std::fmt::Display for Arithmetic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { capability: (major, minor), multiprocessors, l2_mib, cuda, cudnn, cublas } = self;
        let cuda = dotted(*cuda);
        let cudnn = triple(*cudnn);
        let cublas = triple(*cublas);
        write!(f, "sm_{major}{minor}-{multiprocessors}sm-l2_{l2_mib}m-cuda{cuda}-cudnn{cudnn}-cublas{cublas}")
    }
}

fn function<F>(name: &CStr) -> Result<Symbol<F>, CudaError> {
    // Safety: the types above are those of the functions that they are asked for by.
    unsafe { libtorch::cuda_function(name) }.map_err(CudaError::Library)
}

fn version(name: &CStr) -> Result<c_int, CudaError> {
    let mut version = 0;
    // Safety: the number is writable for the duration of the call.
    match unsafe { function::<CudaVersion>(name)?(&raw mut version) } {
        0 => Ok(version),
        code => Err(said(code)),
    }
}

fn library_version(name: &CStr) -> Result<usize, CudaError> {
    // Safety: the function has no conditions.
    Ok(unsafe { function::<LibraryVersion>(name)?() })
}

fn said(code: c_int) -> CudaError {
    let words = function::<CudaErrorString>(c"cudaGetErrorString").ok().map(|ask| {
        // Safety: it answers with a text that is there for ever, also for numbers that mean nothing.
        unsafe { CStr::from_ptr(ask(code)) }.to_string_lossy().into_owned()
    });
    CudaError::Said { words: words.unwrap_or_else(|| "no word".to_owned()), code }
}

/// 13000 is CUDA 13.0.
fn dotted(cuda: c_int) -> String {
    format!("{}.{}", cuda / 1000, cuda % 1000 / 10)
}

/// 91900 is cuDNN 9.19.0, 130100 cuBLAS 13.1.0.
fn triple(version: usize) -> String {
    format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILD: CudaBuild = CudaBuild { cuda: 13_000, cudnn: 91_900 };

    #[test]
    fn without_the_cuda_half_nothing_is_asked() {
        if libtorch::open_cuda().is_ok_and(|opened| opened) {
            return;
        }
        let error = arithmetic(0).unwrap_err().to_string();
        assert!(error.ends_with("libtorch_cuda.so is not loaded"), "{error}");
    }

    #[test]
    fn what_cannot_be_used_is_told_in_the_driver_s_words() {
        for (code, driver, words) in [
            (35, 12_040, "the driver is for CUDA 12.4, this libtorch needs 13.0: update the driver"),
            (35, 0, "there is no NVIDIA driver here, or its libcuda.so.1 is not found"),
            (802, 13_000, "CUDA: no word (error 802)"),
        ] {
            assert!(no_gpu(code, driver, 13_000).to_string().starts_with(words.split(": no word").next().unwrap()));
        }
        let none = |visible, cards| CudaError::NoGpu(hidden(visible, cards)).to_string();
        assert_eq!(none(None, 0), "CUDA sees no GPU");
        assert!(none(Some(""), 1).ends_with("CUDA_VISIBLE_DEVICES is set and empty, which hides all"));
        assert!(none(Some("7"), 1).ends_with("CUDA_VISIBLE_DEVICES=7 does not begin with a GPU that exists"));
        assert!(none(None, 2).contains("the driver has 2 cards") && none(None, 1).contains("MIG mode"));
    }

    #[test]
    fn libraries_of_two_builds_and_an_older_cudnn_are_refused() {
        assert_eq!(check_libraries(&BUILD, 13_010, Some(13_000), 91_900), Ok(()));
        assert_eq!(check_libraries(&BUILD, 13_000, None, 92_001), Ok(()));
        let twelve = CudaBuild { cuda: 12_060, ..BUILD };
        assert_eq!(check_libraries(&twelve, 12_060, Some(12_060), 91_900), Ok(()));
        let words = |result: Result<(), CudaError>| result.unwrap_err().to_string();
        let mixed = words(check_libraries(&twelve, 12_060, Some(13_000), 91_900));
        assert!(mixed.starts_with("libtorch_cuda.so runs on CUDA 12.6, but libtorch_cpu.so has loaded CUDA 13.0"));
        assert!(words(check_libraries(&twelve, 13_000, Some(13_000), 91_900)).contains("12.6"));
        for cudnn in [91_002, 100_000] {
            let error = words(check_libraries(&BUILD, 13_000, None, cudnn));
            assert!(error.ends_with("is loaded, this libtorch needs 9.19.0 or a later 9.x"), "{error}");
        }
    }

    #[test]
    fn kernels_run_on_their_own_kind() {
        let text = "- NVCC architecture flags: -gencode;arch=compute_75,code=sm_75;-gencode;arch=compute_90a,code=sm_90a;\
                    -gencode;arch=compute_120,code=sm_120";
        let kernels = kernels(text);
        assert_eq!(kernels, [(7, 5), (9, 0), (12, 0)]);
        for supported in [(7, 5), (9, 0), (12, 1)] {
            assert_eq!(check_capability(supported, &kernels), Ok(()));
        }
        let error = check_capability((7, 0), &kernels).unwrap_err().to_string();
        assert_eq!(error, "its compute capability is 7.0, this libtorch has kernels for 7.5, 9.0, 12.0");
        assert!(check_capability((8, 6), &kernels).is_err() && check_capability((8, 6), &[]).is_ok());
    }

    /// A coordinator takes 64 characters. What is not among these is no GPU and no library of this decade.
    #[test]
    fn the_longest_class_is_one() {
        let of = |capability, multiprocessors, l2_mib, cuda, library| Arithmetic {
            capability,
            multiprocessors,
            l2_mib,
            cuda,
            cudnn: library,
            cublas: library,
        };
        let arithmetic = |capability, multiprocessors, l2_mib, cuda, library| {
            of(capability, multiprocessors, l2_mib, cuda, library).to_string()
        };
        assert_eq!(of((7, 5), 40, 4, 13_000, 91_900).precisions(), [Precision::Fp32]);
        assert_eq!(of((8, 0), 108, 40, 13_000, 91_900).precisions(), Precision::ALL);
        assert_eq!(arithmetic((9, 0), 132, 50, 13_000, 91_900), "sm_90-132sm-l2_50m-cuda13.0-cudnn9.19.0-cublas9.19.0");
        assert!(arithmetic((99, 9), 9999, 9999, 99_120, 999_999).len() <= 64);
    }
}
