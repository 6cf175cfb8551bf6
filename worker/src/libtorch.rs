//! The parts of libtorch that tch does not offer: the loaded release, the processor's capabilities, exact float32, and
//! CUDA opened at run time.
//!
//! One worker program serves CPU and GPU machines: it links libtorch's CPU libraries, and [`open_cuda`] loads the CUDA half
//! where there is one. Deliberately absent: operations on tensors that tch has, and the choice of a device, which is the caller's.

use std::error::Error as _;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW, Symbol};
use tch::{TchError, Tensor};
use thiserror::Error;

const CUDA_LIBRARY: &str = "libtorch_cuda.so";

/// The failures of the libtorch that was loaded.
#[derive(Debug, Error)]
pub enum LibtorchError {
    /// libtorch threw an exception at a task.
    #[error("libtorch cannot {task}: {reason}")]
    Thrown {
        /// The task, worded to follow "cannot".
        task: &'static str,
        /// libtorch's message.
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
    #[error("{CUDA_LIBRARY} exists but cannot be loaded: {0}")]
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
    safe fn nadgrid_libtorch_backward_here();
    fn nadgrid_libtorch_cuda_ooms(device: i8, ooms: *mut i64, error: *mut c_char, size: usize) -> bool;
    fn nadgrid_libtorch_cuda_peak(device: i8, bytes: *mut i64, error: *mut c_char, size: usize) -> bool;
    fn nadgrid_libtorch_cuda_free(device: i8, bytes: *mut i64, error: *mut c_char, size: usize) -> bool;
    fn nadgrid_libtorch_cuda_empty_cache(error: *mut c_char, size: usize) -> bool;
    fn nadgrid_libtorch_cuda_build(cuda: *mut i64, cudnn: *mut i64, error: *mut c_char, size: usize) -> bool;
    fn nadgrid_libtorch_cuda_config(text: *mut c_char, size: usize, error: *mut c_char, error_size: usize) -> bool;
}

/// The release of the libtorch that is loaded, such as `2.11.0`; not the one whose headers were compiled against.
pub(crate) fn version() -> String {
    let [major, minor, patch, ..] = nadgrid_libtorch_version().to_be_bytes();
    format!("{major}.{minor}.{patch}")
}

/// The release that this program was built for.
pub(crate) fn built_for() -> &'static str {
    env!("NADGRID_LIBTORCH_BUILT_FOR")
}

/// Fails unless the loaded release is the one that this program was built for.
pub(crate) fn check_release() -> Result<(), LibtorchError> {
    let found = version();
    if found == built_for() { Ok(()) } else { Err(LibtorchError::Release { expected: built_for(), found }) }
}

/// The widest vector instructions that libtorch's own kernels use here: `DEFAULT`, `AVX2` or `AVX512`.
pub(crate) fn cpu_capability() -> Result<String, LibtorchError> {
    let mut text = TextBuffer::default();
    let mut error = TextBuffer::default();
    let to = &mut text.0;
    let reason = &mut error.0;
    // Safety: both buffers are writable for the lengths given, and the function closes what it writes with a zero.
    let done = unsafe { nadgrid_libtorch_cpu_capability(to.as_mut_ptr(), to.len(), reason.as_mut_ptr(), reason.len()) };
    error.or(done, "name the processor's capability").map(|()| text.to_string())
}

/// Whether a GPU's products of float32 may be computed in TF32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tf32 {
    /// float32 means float32, on CPU and on GPU. libtorch's own default allows TF32 in cuDNN's convolutions.
    Forbidden,
    /// cuBLAS and cuDNN may use it. A CPU's float32 stays what it is.
    Allowed,
}

/// Sets the switch for the whole process. Computations on a GPU go through `population`'s policy, which keeps one
/// computation's setting from changing under another.
pub(crate) fn set_tf32(tf32: Tf32) -> Result<(), LibtorchError> {
    let mut error = TextBuffer::default();
    let allowed = tf32 == Tf32::Allowed;
    // Safety: the buffer is writable for the length given.
    let done = unsafe { nadgrid_libtorch_set_tf32(allowed, error.0.as_mut_ptr(), error.0.len()) };
    error.or(done, if allowed { "allow TF32" } else { "forbid TF32" })
}

/// The reaction of libtorch to an operation that has no deterministic implementation on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nondeterminism {
    /// The operation fails.
    Error,
    /// The operation runs, and libtorch warns once.
    Warning,
}

/// Makes libtorch deterministic: the same input gives the same bits on the same device.
///
/// Sets an environment variable that cuBLAS wants, so it is to be called before other threads read the environment.
pub(crate) fn be_deterministic(otherwise: Nondeterminism) -> Result<(), LibtorchError> {
    let mut error = TextBuffer::default();
    let warn_only = otherwise == Nondeterminism::Warning;
    // Safety: the buffer is writable for the length given.
    let done = unsafe { nadgrid_libtorch_be_deterministic(warn_only, error.0.as_mut_ptr(), error.0.len()) };
    error.or(done, "be deterministic")
}

/// The CUDA half, once it is loaded. Its tables are registered with libtorch for as long as the process lives.
static CUDA: OnceLock<Library> = OnceLock::new();
/// max(convolution + residual + bias, 0) of maps on a GPU, as one operation of cuDNN, with this stride and this many zeros around
/// the input. tch offers it with a scalar, and panics where libtorch fails.
///
/// # Errors
/// libtorch's error when shapes do not fit, there is no memory or the tensors are not on a GPU.
pub(crate) fn cudnn_convolution_add_relu(
    input: &Tensor,
    weight: &Tensor,
    residual: &Tensor,
    bias: &Tensor,
    stride: i64,
    padding: i64,
) -> Result<Tensor, TchError> {
    let mut error = TextBuffer::default();
    let mut result = std::ptr::null_mut();
    let [input, weight, residual, bias] = [input, weight, residual, bias].map(|t| t.as_ptr().cast::<c_void>());
    let reason = error.0.as_mut_ptr();
    let size = error.0.len();
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
    if !done {
        return Err(TchError::Torch(error.to_string()));
    }
    // Safety: it was made by `new`, as tch's own are, and nobody else has it.
    Ok(unsafe { Tensor::from_ptr(result.cast()) })
}

/// max(a·b + bias, 0) of matrices `[m, k]` and `[k, n]` and a row `[n]`, on a GPU as one operation of cuBLAS. tch 0.24 hands its
/// only argument, a switch, on as the factor of the bias.
///
/// # Errors
/// libtorch's error when shapes do not fit or there is no memory.
pub(crate) fn addmm_relu(bias: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor, TchError> {
    let mut error = TextBuffer::default();
    let mut result = std::ptr::null_mut();
    let [bias, a, b] = [bias, a, b].map(|t| t.as_ptr().cast::<c_void>());
    let reason = error.0.as_mut_ptr();
    let size = error.0.len();
    // Safety: tch's pointers are those of libtorch's tensors, which live for the call; the others are writable.
    let done = unsafe { nadgrid_libtorch_addmm_relu(bias, a, b, &mut result, reason, size) };
    if !done {
        return Err(TchError::Torch(error.to_string()));
    }
    // Safety: it was made by `new`, as tch's own are, and nobody else has it.
    Ok(unsafe { Tensor::from_ptr(result.cast()) })
}

/// Loads the CUDA half of libtorch; false where there is none.
///
/// It must come before the first use of tch: libtorch looks for CUDA once. The library is looked for where the program
/// looks for libtorch itself (LD_LIBRARY_PATH, then the folders noted at the build), and stays loaded.
pub(crate) fn open_cuda() -> Result<bool, LibtorchError> {
    if CUDA.get().is_some() {
        return Ok(true);
    }
    // Safety: libtorch's initialisers are made to run at load; it is the release that is linked, see `check_release`.
    let library = match unsafe { Library::open(Some(CUDA_LIBRARY), RTLD_NOW | RTLD_LOCAL) } {
        Ok(library) => library,
        // libloading keeps the loader's own words in the source.
        Err(error) => match error.source().map_or_else(|| error.to_string(), ToString::to_string) {
            reason if is_absent(&reason) => return Ok(false),
            reason => return Err(LibtorchError::Cuda(in_plain_words(&reason))),
        },
    };
    if let Err(twice) = CUDA.set(library) {
        // Another thread was faster: this is a second handle to the same library, which must stay loaded.
        std::mem::forget(twice);
    }
    Ok(true)
}

/// Looks up a function of the CUDA half or of a library that it needs, by its C name; the loader looks through them in their order.
///
/// # Errors
/// The loader's message, or that the CUDA half is not loaded.
///
/// # Safety
/// `F` must be the type of that function.
pub(crate) unsafe fn cuda_function<F>(name: &CStr) -> Result<Symbol<F>, String> {
    let library = CUDA.get().ok_or_else(|| format!("{CUDA_LIBRARY} is not loaded"))?;
    // Safety: the caller vouches for the type.
    unsafe { library.get(name.to_bytes_with_nul()) }.map_err(|e| e.to_string())
}

/// The versions that the CUDA half was built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CudaBuild {
    /// CUDA, as it numbers itself: 13000 is 13.0.
    pub(crate) cuda: c_int,
    /// cuDNN, as it numbers itself: 91900 is 9.19.0.
    pub(crate) cudnn: usize,
}

/// Returns what the CUDA half was built with. It must be loaded.
pub(crate) fn cuda_build() -> Result<CudaBuild, LibtorchError> {
    let mut cuda = 0i64;
    let mut cudnn = 0i64;
    let mut error = TextBuffer::default();
    // Safety: the numbers and the buffer are writable for the length given.
    let done =
        unsafe { nadgrid_libtorch_cuda_build(&raw mut cuda, &raw mut cudnn, error.0.as_mut_ptr(), error.0.len()) };
    error.or(done, "name the CUDA that it was built with")?;
    Ok(CudaBuild { cuda: cuda.try_into().unwrap_or(0), cudnn: cudnn.try_into().unwrap_or(0) })
}

/// Returns how the CUDA half was built, in lines of text, with the architectures among the compiler's flags. There must be a GPU.
pub(crate) fn cuda_config() -> Result<String, LibtorchError> {
    let mut text = TextBuffer::default();
    let mut error = TextBuffer::default();
    let to = &mut text.0;
    let reason = &mut error.0;
    // Safety: both buffers are writable for the lengths given, and the function closes what it writes with a zero.
    let done = unsafe { nadgrid_libtorch_cuda_config(to.as_mut_ptr(), to.len(), reason.as_mut_ptr(), reason.len()) };
    error.or(done, "tell how it was built").map(|()| text.to_string())
}

/// Makes backward run on the calling thread from now on, as it always does on a CPU. A GPU would else have one thread for
/// the backward of all, and which of cuDNN's engines it computes with would depend on who came first.
pub(crate) fn keep_backward_here() {
    nadgrid_libtorch_backward_here();
}

/// Returns how often a GPU's allocator has refused memory since the process began, also where libtorch went on without it: cuDNN
/// then takes an engine that needs less, and its results have other bits. 0 before the first tensor.
pub(crate) fn cuda_ooms(device: usize) -> Result<i64, LibtorchError> {
    ask_allocator(device, "count refused allocations", nadgrid_libtorch_cuda_ooms)
}

/// Returns the most bytes that a GPU's allocator ever held: tensors, workspaces, and what it kept for later ones. 0 before the
/// first tensor.
pub(crate) fn cuda_peak_bytes(device: usize) -> Result<i64, LibtorchError> {
    ask_allocator(device, "tell the peak of a GPU's memory", nadgrid_libtorch_cuda_peak)
}

/// Returns the bytes of a GPU that no process holds.
pub(crate) fn cuda_free_bytes(device: usize) -> Result<i64, LibtorchError> {
    ask_allocator(device, "tell what is free of a GPU's memory", nadgrid_libtorch_cuda_free)
}

fn ask_allocator(
    device: usize,
    task: &'static str,
    question: unsafe extern "C" fn(i8, *mut i64, *mut c_char, usize) -> bool,
) -> Result<i64, LibtorchError> {
    let mut answer = 0;
    let mut error = TextBuffer::default();
    let device = i8::try_from(device).unwrap_or(i8::MAX);
    // Safety: the number and the buffer are writable for the length given.
    let done = unsafe { question(device, &raw mut answer, error.0.as_mut_ptr(), error.0.len()) };
    error.or(done, task).map(|()| answer)
}

/// Gives the memory back that GPUs' allocators keep and nothing uses. It waits for what runs on them.
pub(crate) fn empty_cuda_cache() -> Result<(), LibtorchError> {
    let mut error = TextBuffer::default();
    // Safety: the buffer is writable for the length given.
    let done = unsafe { nadgrid_libtorch_cuda_empty_cache(error.0.as_mut_ptr(), error.0.len()) };
    error.or(done, "give memory back")
}

/// Returns the loader's message, and its meaning where a library of CUDA is missing, most often because another CUDA is installed.
fn in_plain_words(reason: &str) -> String {
    let missing = reason.split_once(": cannot open shared object file").map(|(library, _)| library);
    let cuda =
        missing.and_then(|library| library.strip_prefix("libcudart.so.").or(library.strip_prefix("libcublas.so.")));
    match (cuda, missing) {
        (Some(major), _) => {
            format!("{reason}. This libtorch is built for CUDA {major}, whose libraries the loader does not find")
        }
        (None, Some(library)) if library.starts_with("libcudnn") => {
            format!("{reason}. This libtorch needs cuDNN, which the loader does not find")
        }
        _ => reason.to_owned(),
    }
}

/// The loader names the file that it did not find: the library itself, or one that the library needs.
fn is_absent(reason: &str) -> bool {
    reason.starts_with(&format!("{CUDA_LIBRARY}: cannot open shared object file"))
}

/// Room for a text that C++ writes.
struct TextBuffer([c_char; 1024]);

impl Default for TextBuffer {
    fn default() -> Self {
        Self([0; 1024])
    }
}

impl TextBuffer {
    /// Returns the text as the reason of a failure, unless the task was done. CUDA's texts go on with advice for programmers.
    fn or(self, done: bool, task: &'static str) -> Result<(), LibtorchError> {
        let reason = || self.to_string().lines().next().unwrap_or_default().to_owned();
        if done { Ok(()) } else { Err(LibtorchError::Thrown { task, reason: reason() }) }
    }
}

impl std::fmt::Display for TextBuffer {
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
        let maps = of([2, 8, 4, 4]);
        let bias = of([8, 1, 1, 1]).flatten(0, -1);
        let error = cudnn_convolution_add_relu(&maps, &of([8, 8, 3, 3]), &maps, &bias, 1, 1).expect_err("no GPU");
        assert!(error.to_string().contains("cudnn_convolution_add_relu"), "{error}");
    }

    #[test]
    fn a_gpu_that_is_not_there_is_an_error() {
        if open_cuda().is_ok_and(|opened| opened) {
            return;
        }
        for asked in [cuda_ooms(0), cuda_peak_bytes(0), cuda_free_bytes(0)] {
            let error = asked.expect_err("no allocator answers").to_string();
            assert!(error.starts_with("libtorch cannot "), "{error}");
        }
        empty_cuda_cache().expect_err("no allocator answers");
    }

    #[test]
    fn products_with_a_bias_are_rectified_or_refused() {
        let of = |values: &[f32], columns: i64| tch::Tensor::from_slice(values).view([-1, columns]);
        let a = of(&[1., 2.], 2);
        let b = of(&[1., -1., 3., -4.], 2);
        let bias = tch::Tensor::from_slice(&[0.5f32, 1.0]);
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
    fn a_library_of_another_cuda_is_told_in_plain_words() {
        let told = |library: &str| in_plain_words(&format!("{library}: cannot open shared object file: No such file"));
        assert!(told("libcudart.so.12").ends_with("built for CUDA 12, whose libraries the loader does not find"));
        assert!(told("libcudnn.so.9").ends_with("needs cuDNN, which the loader does not find"));
        assert_eq!(in_plain_words("undefined symbol: x"), "undefined symbol: x");
    }

    #[test]
    fn texts_are_read_back() {
        let mut text = TextBuffer::default();
        text.0[0] = b'a' as c_char;
        assert_eq!(text.to_string(), "a");
    }
}
