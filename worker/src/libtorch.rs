//! What of libtorch tch does not offer: which release is loaded, what the processor can do, exact float32, and CUDA
//! opened at run time.
//!
//! One worker program serves CPU and GPU machines: it links libtorch's CPU libraries, and [`open_cuda`] loads the CUDA half
//! where there is one. Deliberately absent: operations on tensors that tch has, and the choice of a device, which is the caller's.

use std::error::Error as _;
use std::ffi::{CStr, c_char, c_void};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use tch::{TchError, Tensor};
use thiserror::Error;

const CUDA_LIBRARY: &str = "libtorch_cuda.so";

/// What can be wrong with the libtorch that was loaded.
#[derive(Debug, Error)]
pub enum Error {
    /// libtorch threw.
    #[error("libtorch cannot {task}: {reason}")]
    Thrown {
        /// What was asked of it, to follow "cannot".
        task: &'static str,
        /// Its own words.
        reason: String,
    },
    /// The loader found another release than the one this program was compiled for; calling into it is undefined.
    #[error("libtorch {found} was loaded, but this program was built for {expected}")]
    Release {
        /// The release that this program was built for.
        expected: &'static str,
        /// The release that was loaded.
        found: String,
    },
    /// The CUDA half is there and does not load, most often because a library that it needs is missing.
    #[error("{CUDA_LIBRARY} is there but does not load: {0}")]
    Cuda(String),
}

// Safety: the signatures are those in libtorch.cpp, which is compiled with this crate.
unsafe extern "C" {
    safe fn nadgrid_libtorch_version() -> u64;
    fn nadgrid_libtorch_cpu_capability(text: *mut c_char, size: usize, error: *mut c_char, error_size: usize) -> bool;
    fn nadgrid_libtorch_set_tf32(allowed: bool, error: *mut c_char, size: usize) -> bool;
    fn nadgrid_libtorch_cudnn_convolution_add_relu(
        input: *const c_void,
        weight: *const c_void,
        residual: *const c_void,
        bias: *const c_void,
        stride: i64,
        padding: i64,
        result: *mut *mut c_void,
        error: *mut c_char,
        size: usize,
    ) -> bool;
    fn nadgrid_libtorch_addmm_relu(
        bias: *const c_void,
        a: *const c_void,
        b: *const c_void,
        result: *mut *mut c_void,
        error: *mut c_char,
        size: usize,
    ) -> bool;
    fn nadgrid_libtorch_be_deterministic(warn_only: bool, error: *mut c_char, size: usize) -> bool;
}

/// The release of the libtorch that is loaded, such as `2.11.0`; not the one whose headers were compiled against.
pub fn version() -> String {
    let [major, minor, patch, ..] = nadgrid_libtorch_version().to_be_bytes();
    format!("{major}.{minor}.{patch}")
}

/// The release that this program was built for.
pub fn built_for() -> &'static str {
    env!("NADGRID_LIBTORCH_BUILT_FOR")
}

/// Fails unless the loaded release is the one that this program was built for.
pub fn check_release() -> Result<(), Error> {
    let found = version();
    if found == built_for() { Ok(()) } else { Err(Error::Release { expected: built_for(), found }) }
}

/// The widest vector instructions that libtorch's own kernels use here: `DEFAULT`, `AVX2` or `AVX512`.
pub fn cpu_capability() -> Result<String, Error> {
    let mut text = Text::default();
    let mut error = Text::default();
    let (to, reason) = (&mut text.0, &mut error.0);
    // Safety: both buffers are writable for the lengths given, and the function closes what it writes with a zero.
    let done = unsafe { nadgrid_libtorch_cpu_capability(to.as_mut_ptr(), to.len(), reason.as_mut_ptr(), reason.len()) };
    error.or(done, "name the processor's capability").map(|()| text.to_string())
}

/// Whether a GPU's products of float32 may be computed in TF32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tf32 {
    /// float32 means float32, on CPU and on GPU. libtorch's own default allows TF32 in cuDNN's convolutions.
    Forbidden,
    /// cuBLAS and cuDNN may use it. A CPU's float32 stays what it is.
    Allowed,
}

/// From now on, in the whole process. Whoever computes on a GPU goes through `population`'s policy, which keeps one
/// computation's setting from changing under another.
pub fn set_tf32(tf32: Tf32) -> Result<(), Error> {
    let mut error = Text::default();
    let allowed = tf32 == Tf32::Allowed;
    // Safety: the buffer is writable for the length given.
    let done = unsafe { nadgrid_libtorch_set_tf32(allowed, error.0.as_mut_ptr(), error.0.len()) };
    error.or(done, if allowed { "allow TF32" } else { "forbid TF32" })
}

/// What libtorch does when asked for an operation that has no deterministic implementation on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nondeterminism {
    /// The operation fails.
    Error,
    /// The operation runs, and libtorch warns once.
    Warning,
}

/// From now on the same input gives the same bits on the same device.
///
/// Sets an environment variable that cuBLAS wants, so it is to be called before other threads read the environment.
pub fn be_deterministic(otherwise: Nondeterminism) -> Result<(), Error> {
    let mut error = Text::default();
    let warn_only = otherwise == Nondeterminism::Warning;
    // Safety: the buffer is writable for the length given.
    let done = unsafe { nadgrid_libtorch_be_deterministic(warn_only, error.0.as_mut_ptr(), error.0.len()) };
    error.or(done, "be deterministic")
}

/// max(convolution + residual + bias, 0) of maps on a GPU, as one operation of cuDNN, with this stride and this many zeros around
/// the input. tch offers it with a scalar, and panics where libtorch fails.
///
/// # Errors
/// libtorch's words when shapes do not fit, there is no memory or the tensors are not on a GPU.
pub fn cudnn_convolution_add_relu(
    input: &Tensor,
    weight: &Tensor,
    residual: &Tensor,
    bias: &Tensor,
    stride: i64,
    padding: i64,
) -> Result<Tensor, TchError> {
    let mut error = Text::default();
    let mut result = std::ptr::null_mut();
    let [input, weight, residual, bias] = [input, weight, residual, bias].map(|t| t.as_ptr().cast::<c_void>());
    let (reason, size) = (error.0.as_mut_ptr(), error.0.len());
    // Safety: tch's pointers are those of libtorch's tensors, which live for the call; the others are writable.
    let done = unsafe {
        nadgrid_libtorch_cudnn_convolution_add_relu(
            input,
            weight,
            residual,
            bias,
            stride,
            padding,
            &mut result,
            reason,
            size,
        )
    };
    match done {
        // Safety: it was made by `new`, as tch's own are, and nobody else has it.
        true => Ok(unsafe { Tensor::from_ptr(result.cast()) }),
        false => Err(TchError::Torch(error.to_string())),
    }
}

/// max(a·b + bias, 0) of matrices `[m, k]` and `[k, n]` and a row `[n]`, on a GPU as one operation of cuBLAS. tch 0.24 hands its only
/// argument, a switch, on as the factor of the bias.
///
/// # Errors
/// libtorch's words when shapes do not fit or there is no memory.
pub fn addmm_relu(bias: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor, TchError> {
    let mut error = Text::default();
    let mut result = std::ptr::null_mut();
    let [bias, a, b] = [bias, a, b].map(|t| t.as_ptr().cast::<c_void>());
    let (reason, size) = (error.0.as_mut_ptr(), error.0.len());
    // Safety: tch's pointers are those of libtorch's tensors, which live for the call; the others are writable.
    let done = unsafe { nadgrid_libtorch_addmm_relu(bias, a, b, &mut result, reason, size) };
    match done {
        // Safety: it was made by `new`, as tch's own are, and nobody else has it.
        true => Ok(unsafe { Tensor::from_ptr(result.cast()) }),
        false => Err(TchError::Torch(error.to_string())),
    }
}

/// Loads the CUDA half of libtorch; false where there is none.
///
/// It must come before the first use of tch: libtorch looks for CUDA once. The library is looked for where the program
/// looks for libtorch itself (LD_LIBRARY_PATH, then the folders noted at the build), and stays loaded.
pub fn open_cuda() -> Result<bool, Error> {
    // Safety: libtorch's initialisers are made to run at load; it is the release that is linked, see `check_release`.
    let library = match unsafe { Library::open(Some(CUDA_LIBRARY), RTLD_NOW | RTLD_LOCAL) } {
        Ok(library) => library,
        // libloading keeps the loader's own words in the source.
        Err(error) => match error.source().map_or_else(|| error.to_string(), ToString::to_string) {
            reason if is_absent(&reason) => return Ok(false),
            reason => return Err(Error::Cuda(reason)),
        },
    };
    // Its tables are registered with libtorch for as long as the process lives.
    std::mem::forget(library);
    Ok(true)
}

/// The loader names the file that it did not find: the library itself, or one that the library needs.
fn is_absent(reason: &str) -> bool {
    reason.starts_with(&format!("{CUDA_LIBRARY}: cannot open shared object file"))
}

/// Room for a text that C++ writes.
struct Text([c_char; 1024]);

impl Default for Text {
    fn default() -> Self {
        Self([0; 1024])
    }
}

impl Text {
    /// The text as the reason of a failure, unless all was done.
    fn or(self, done: bool, task: &'static str) -> Result<(), Error> {
        if done { Ok(()) } else { Err(Error::Thrown { task, reason: self.to_string() }) }
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Safety: the array starts as zeros, and what C++ writes into it ends with one.
        f.write_str(&unsafe { CStr::from_ptr(self.0.as_ptr()) }.to_string_lossy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaded_release_is_the_one_built_for() {
        check_release().expect("setup and build agree");
        assert_eq!(version().split('.').count(), 3);
    }

    #[test]
    fn the_processor_has_a_capability() {
        let known = ["DEFAULT", "NO AVX", "AVX2", "AVX512"];
        let found = cpu_capability().expect("libtorch answers");
        assert!(known.contains(&found.as_str()), "{found}");
    }

    #[test]
    fn settings_can_be_made_twice() {
        for _ in 0..2 {
            set_tf32(Tf32::Allowed).expect("libtorch obeys");
            set_tf32(Tf32::Forbidden).expect("libtorch obeys");
            be_deterministic(Nondeterminism::Error).expect("libtorch obeys");
        }
    }

    #[test]
    fn cuda_is_opened_or_absent_and_products_work() {
        assert!(open_cuda().expect("absent, or it loads") || !tch::Cuda::is_available());
        let two = tch::Tensor::from_slice(&[1f32, 2., 3., 4.]).reshape([2, 2]);
        assert_eq!(f64::try_from(two.matmul(&two).sum(tch::Kind::Float)).expect("a number"), 54.0);
    }

    /// On a CPU there is no cuDNN: the failure is told, and nothing panics.
    #[test]
    fn a_convolution_of_cudnn_needs_a_gpu() {
        let of = |shape: [i64; 4]| tch::Tensor::ones(shape, (tch::Kind::Float, tch::Device::Cpu));
        let (maps, bias) = (of([2, 8, 4, 4]), of([8, 1, 1, 1]).flatten(0, -1));
        let error = cudnn_convolution_add_relu(&maps, &of([8, 8, 3, 3]), &maps, &bias, 1, 1).expect_err("no GPU");
        assert!(error.to_string().contains("cudnn_convolution_add_relu"), "{error}");
    }

    #[test]
    fn products_with_a_bias_are_rectified_or_refused() {
        let of = |values: &[f32], columns: i64| tch::Tensor::from_slice(values).view([-1, columns]);
        let (a, b, bias) = (of(&[1., 2.], 2), of(&[1., -1., 3., -4.], 2), tch::Tensor::from_slice(&[0.5f32, 1.0]));
        let product = addmm_relu(&bias, &a, &b).expect("shapes fit");
        assert_eq!(Vec::<f32>::try_from(product.flatten(0, -1)).expect("numbers"), [7.5, 0.0]);
        assert!(addmm_relu(&bias, &b, &a).is_err());
    }

    #[test]
    fn a_library_that_lacks_another_is_not_absent() {
        let not_found = "cannot open shared object file: No such file or directory";
        assert!(is_absent(&format!("libtorch_cuda.so: {not_found}")));
        assert!(!is_absent(&format!("libcudnn.so.9: {not_found}")));
    }

    #[test]
    fn texts_are_read_back() {
        let mut text = Text::default();
        text.0[0] = b'a' as c_char;
        assert_eq!(text.to_string(), "a");
    }
}
