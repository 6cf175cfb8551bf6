//! NVRTC, NVIDIA's compiler as a library: kernel.cu for the card that is there.
//!
//! It comes with every libtorch for CUDA. libtorch opens it through `libcaffe2_nvrtc.so`, and so does this module, which
//! thereby gets the same release. Deliberately absent: headers, a cache on disk, and PTX for cards that NVRTC does not know.

use super::GeneratorError;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};

const SOURCE: &str = include_str!("kernel.cu");

/// The libraries that give access to NVRTC: libtorch's own, then NVRTC by the names of the releases that libtorch 2.11 is built
/// for.
const LIBRARIES: [&str; 3] = ["libcaffe2_nvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12"];

/// An `nvrtcProgram`.
type Handle = *mut c_void;
type Create = unsafe extern "C" fn(
    program: *mut Handle,
    source: *const c_char,
    name: *const c_char,
    headers: c_int,
    header_sources: *const *const c_char,
    header_names: *const *const c_char,
) -> c_int;
type Compile = unsafe extern "C" fn(program: Handle, options: c_int, option: *const *const c_char) -> c_int;
type Size = unsafe extern "C" fn(program: Handle, size: *mut usize) -> c_int;
type Get = unsafe extern "C" fn(program: Handle, to: *mut c_char) -> c_int;
type Destroy = unsafe extern "C" fn(program: *mut Handle) -> c_int;
type NvrtcVersion = unsafe extern "C" fn(major: *mut c_int, minor: *mut c_int) -> c_int;
type NvrtcErrorString = unsafe extern "C" fn(code: c_int) -> *const c_char;

/// The compiler.
pub(super) struct Nvrtc {
    create: Create,
    compile: Compile,
    log_size: Size,
    log: Get,
    cubin_size: Size,
    cubin: Get,
    #[cfg(test)]
    ptx_size: Size,
    #[cfg(test)]
    ptx: Get,
    destroy: Destroy,
    error_string: NvrtcErrorString,
}

impl Nvrtc {
    /// Opens NVRTC.
    ///
    /// # Errors
    /// [`GeneratorError::NoCompiler`] where there is none.
    pub(super) fn open() -> Result<Self, GeneratorError> {
        let mut reasons = Vec::new();
        for name in LIBRARIES {
            match Self::of(name) {
                Ok(nvrtc) => return Ok(nvrtc),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(GeneratorError::NoCompiler(reasons.join("; ")))
    }

    fn of(name: &str) -> Result<Self, String> {
        let library = super::driver::library(name)?;
        // Safety: the symbols are NVRTC's, with the signatures of its stable interface.
        unsafe {
            open_builtins(&library);
            let nvrtc = Self {
                create: get(&library, c"nvrtcCreateProgram")?,
                compile: get(&library, c"nvrtcCompileProgram")?,
                log_size: get(&library, c"nvrtcGetProgramLogSize")?,
                log: get(&library, c"nvrtcGetProgramLog")?,
                cubin_size: get(&library, c"nvrtcGetCUBINSize")?,
                cubin: get(&library, c"nvrtcGetCUBIN")?,
                #[cfg(test)]
                ptx_size: get(&library, c"nvrtcGetPTXSize")?,
                #[cfg(test)]
                ptx: get(&library, c"nvrtcGetPTX")?,
                destroy: get(&library, c"nvrtcDestroyProgram")?,
                error_string: get(&library, c"nvrtcGetErrorString")?,
            };
            // The functions above are used for as long as the process lives.
            std::mem::forget(library);
            Ok(nvrtc)
        }
    }

    /// Compiles the kernels for an architecture such as `sm_90`.
    ///
    /// # Errors
    /// [`GeneratorError::Compile`] with the compiler's log.
    pub(super) fn compile(&self, architecture: &str) -> Result<CompiledKernels<'_>, GeneratorError> {
        self.compile_source(SOURCE, architecture)
    }

    fn compile_source(&self, source: &str, architecture: &str) -> Result<CompiledKernels<'_>, GeneratorError> {
        let failed = |log: String| GeneratorError::Compile { architecture: architecture.to_owned(), log };
        let source = CString::new(source).map_err(|e| failed(e.to_string()))?;
        let target = CString::new(format!("--gpu-architecture={architecture}")).map_err(|e| failed(e.to_string()))?;
        // The intrinsics round by themselves whatever these say; they are for what someone may add without them.
        let exact = [c"--std=c++17", c"--fmad=false", c"--ftz=false", c"--prec-div=true", c"--prec-sqrt=true"];
        let options: Vec<*const c_char> = exact.iter().map(|o| o.as_ptr()).chain([target.as_ptr()]).collect();
        let mut program = CompiledKernels { nvrtc: self, handle: std::ptr::null_mut() };
        let none = std::ptr::null();
        // Safety: the texts end with a zero and outlive the calls; there are no headers.
        let code = unsafe {
            match (self.create)(&mut program.handle, source.as_ptr(), c"kernel.cu".as_ptr(), 0, none, none) {
                0 => (self.compile)(program.handle, options.len() as c_int, options.as_ptr()),
                code => return Err(failed(self.words(code))),
            }
        };
        if code == 0 {
            return Ok(program);
        }
        let log = program.read(self.log_size, self.log).map(|log| String::from_utf8_lossy(&log).into_owned());
        let log = log.unwrap_or_else(|code| self.words(code));
        let lines: Vec<&str> = log.trim_end_matches('\0').lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        Err(failed(format!("{}: {}", self.words(code), lines.join("; "))))
    }

    fn words(&self, code: c_int) -> String {
        // Safety: NVRTC answers with a static text for any code.
        unsafe { CStr::from_ptr((self.error_string)(code)) }.to_string_lossy().into_owned()
    }
}

/// The kernels that NVRTC has compiled.
pub(super) struct CompiledKernels<'a> {
    nvrtc: &'a Nvrtc,
    handle: Handle,
}

impl CompiledKernels<'_> {
    /// Returns the machine code, for the driver to load.
    ///
    /// # Errors
    /// [`GeneratorError::NoCompiler`] when NVRTC does not hand it out.
    pub(super) fn cubin(&self) -> Result<Vec<u8>, GeneratorError> {
        let read = self.read(self.nvrtc.cubin_size, self.nvrtc.cubin);
        read.map_err(|code| GeneratorError::NoCompiler(self.nvrtc.words(code)))
    }

    /// Returns the virtual machine's code, as text.
    #[cfg(test)]
    pub(super) fn ptx(&self) -> String {
        String::from_utf8(self.read(self.nvrtc.ptx_size, self.nvrtc.ptx).unwrap()).unwrap()
    }

    fn read(&self, size: Size, get: Get) -> Result<Vec<u8>, c_int> {
        let mut length = 0;
        // Safety: the program is one that NVRTC made, and `to` is as long as it asks for.
        unsafe {
            match size(self.handle, &mut length) {
                0 => {}
                code => return Err(code),
            }
            let mut to = vec![0u8; length];
            match get(self.handle, to.as_mut_ptr().cast()) {
                0 => Ok(to),
                code => Err(code),
            }
        }
    }
}

impl Drop for CompiledKernels<'_> {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // Safety: it was made by NVRTC and is destroyed once. There is nothing to do about a failure.
            unsafe { (self.nvrtc.destroy)(&mut self.handle) };
        }
    }
}

/// Looks up a function of a library.
///
/// # Safety
/// `T` must be the function's type.
unsafe fn get<T: Copy>(library: &Library, name: &CStr) -> Result<T, String> {
    // Safety: the caller's.
    unsafe { library.get::<T>(name.to_bytes_with_nul()) }.map(|symbol| *symbol).map_err(|e| e.to_string())
}

/// NVRTC opens its second library by name and looks for it where the loader does, which is not where it lies in a wheel. One
/// that is loaded already is found by its name. Where it is not beside NVRTC, NVRTC says so itself when it compiles.
///
/// # Safety
/// The library must have NVRTC's functions.
unsafe fn open_builtins(library: &Library) {
    // Safety: the signature is that of NVRTC's stable interface.
    let Ok(version) = (unsafe { get::<NvrtcVersion>(library, c"nvrtcVersion") }) else { return };
    let mut major = 0;
    let mut minor = 0;
    // Safety: both numbers are writable.
    if unsafe { version(&mut major, &mut minor) } != 0 {
        return;
    }
    let beside = file_of(version as *const c_void).and_then(|file| file.parent().map(Path::to_path_buf));
    let Some(path) = beside.map(|folder| folder.join(format!("libnvrtc-builtins.so.{major}.{minor}"))) else { return };
    // Safety: NVRTC's own library, which NVRTC would load itself.
    if let Ok(builtins) = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) } {
        std::mem::forget(builtins);
    }
}

/// Returns the file that a function was loaded from.
fn file_of(function: *const c_void) -> Option<PathBuf> {
    let mut found = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // Safety: dladdr writes into `found` and takes any address; a name that it gives is a text of the loader's.
    unsafe {
        if libc::dladdr(function, found.as_mut_ptr()) == 0 {
            return None;
        }
        let name = found.assume_init().dli_fname;
        (!name.is_null()).then(|| PathBuf::from(CStr::from_ptr(name).to_string_lossy().into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NVRTC needs no card. Where it is not there the test says so and ends.
    fn nvrtc() -> Option<Nvrtc> {
        Nvrtc::open().map_err(|error| eprintln!("skipped: {error}")).ok()
    }

    /// For an A100, an H100 and a B200: each operation on floats names its rounding and none is two in one.
    #[test]
    fn no_multiplication_is_fused_with_an_addition() {
        let Some(nvrtc) = nvrtc() else { return };
        for architecture in ["sm_80", "sm_90", "sm_100"] {
            let program = nvrtc.compile(architecture).unwrap();
            assert!(program.cubin().unwrap().starts_with(b"\x7fELF"), "{architecture}");
            let ptx = program.ptx();
            let operations: Vec<&str> = ptx.lines().filter_map(|line| line.split_whitespace().next()).collect();
            let on_floats = |name: &&&str| name.contains(".f32") || name.contains(".f64");
            let of = |word: &str| operations.iter().filter(on_floats).filter(|name| name.starts_with(word)).count();
            for entry in ["nadgrid_initialise", "nadgrid_copy", "nadgrid_noise", "nadgrid_place"] {
                assert!(ptx.contains(&format!(".entry {entry}(")), "{architecture}: {entry}");
            }
            assert_eq!((of("fma."), of("mad.")), (0, 0), "{architecture}");
            for word in ["add.", "sub.", "mul.", "div.", "sqrt."] {
                assert!(of(word) > 0, "{architecture}: {word}");
                let unrounded =
                    operations.iter().filter(on_floats).find(|o| o.starts_with(word) && !o.contains(".rn."));
                assert_eq!(unrounded, None, "{architecture}");
            }
            assert!(!operations.iter().any(|o| o.contains(".ftz") || o.contains(".approx")), "{architecture}");
        }
    }

    #[test]
    fn what_does_not_compile_is_told_in_the_compilers_words() {
        let Some(nvrtc) = nvrtc() else { return };
        let said = nvrtc.compile_source("__global__ void f() { g(); }", "sm_90").err().unwrap().to_string();
        assert!(said.contains("sm_90") && said.contains("\"g\" is undefined") && !said.contains('\n'), "{said}");
        let said = nvrtc.compile("sm_1").err().unwrap().to_string();
        assert!(said.contains("sm_1") && !said.contains('\n'), "{said}");
    }
}
