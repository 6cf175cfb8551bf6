//! The CUDA driver: loads machine code and launches it on the stream that libtorch uses.
//!
//! Its interface is stable since CUDA 4. libtorch has made the device's primary context when a [`Card`] is opened; the kernels
//! run in the same one. Deliberately absent: memory, which is libtorch's, and waiting.

use super::GeneratorError;
use super::launch::{KernelArguments, Launch, THREADS};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::error::Error as _;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr::{null, null_mut};

const LIBRARY: &str = "libcuda.so.1";
const COMPUTE_CAPABILITY_MAJOR: c_int = 75;
const COMPUTE_CAPABILITY_MINOR: c_int = 76;

/// The handles of the driver's objects.
type Context = *mut c_void;
type Module = *mut c_void;
type Function = *mut c_void;
type StreamHandle = *mut c_void;

type DeviceGet = unsafe extern "C" fn(device: *mut c_int, ordinal: c_int) -> c_int;
type DriverGetAttribute = unsafe extern "C" fn(value: *mut c_int, attribute: c_int, device: c_int) -> c_int;
type RetainContext = unsafe extern "C" fn(context: *mut Context, device: c_int) -> c_int;
type SetContext = unsafe extern "C" fn(context: Context) -> c_int;
type LoadData = unsafe extern "C" fn(module: *mut Module, image: *const c_void) -> c_int;
type GetFunction = unsafe extern "C" fn(function: *mut Function, module: Module, name: *const c_char) -> c_int;
type LaunchKernel = unsafe extern "C" fn(
    function: Function,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    shared_bytes: c_uint,
    stream: StreamHandle,
    arguments: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> c_int;
type DriverErrorString = unsafe extern "C" fn(code: c_int, text: *mut *const c_char) -> c_int;

// Safety: the signature is that in stream.cpp, which is compiled with this crate.
unsafe extern "C" {
    fn nadgrid_generator_stream(device: c_int, stream: *mut StreamHandle, error: *mut c_char, capacity: usize) -> bool;
}

/// The driver's functions.
struct Driver {
    device_get: DeviceGet,
    get_attribute: DriverGetAttribute,
    retain_context: RetainContext,
    set_context: SetContext,
    load_data: LoadData,
    get_function: GetFunction,
    launch_kernel: LaunchKernel,
    error_string: DriverErrorString,
}

impl Driver {
    fn open() -> Result<Self, GeneratorError> {
        let library = library(LIBRARY).map_err(GeneratorError::NoDriver)?;
        // Safety: the symbols are the driver's, with the signatures of its stable interface.
        unsafe {
            let driver = Self {
                device_get: get(&library, c"cuDeviceGet")?,
                get_attribute: get(&library, c"cuDeviceGetAttribute")?,
                retain_context: get(&library, c"cuDevicePrimaryCtxRetain")?,
                set_context: get(&library, c"cuCtxSetCurrent")?,
                load_data: get(&library, c"cuModuleLoadData")?,
                get_function: get(&library, c"cuModuleGetFunction")?,
                launch_kernel: get(&library, c"cuLaunchKernel")?,
                error_string: get(&library, c"cuGetErrorString")?,
            };
            // The functions above are used for as long as the process lives.
            std::mem::forget(library);
            Ok(driver)
        }
    }

    /// Makes a device's context the calling thread's, as libtorch does too: a worker has one device.
    fn enter(&self, context: Context) -> Result<(), GeneratorError> {
        // Safety: the context is retained for as long as the process lives.
        self.check("entering the GPU's context", unsafe { (self.set_context)(context) })
    }

    fn check(&self, task: &'static str, code: c_int) -> Result<(), GeneratorError> {
        if code == 0 {
            return Ok(());
        }
        let mut text = null();
        // Safety: `text` is writable; what the driver leaves there is null or a static text.
        let words = unsafe {
            (self.error_string)(code, &mut text);
            if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        };
        Err(GeneratorError::Driver { task, code, words })
    }
}

/// A GPU, before kernels are loaded.
pub(super) struct Opened {
    driver: Driver,
    ordinal: c_int,
    device: c_int,
}

impl Opened {
    /// Opens the GPU of this number, as libtorch counts.
    pub(super) fn new(ordinal: usize) -> Result<Self, GeneratorError> {
        let driver = Driver::open()?;
        let ordinal = ordinal as c_int;
        let mut device = 0;
        // Safety: `device` is writable.
        driver.check("finding the GPU", unsafe { (driver.device_get)(&mut device, ordinal) })?;
        Ok(Self { driver, ordinal, device })
    }

    /// Returns the GPU's architecture, for example `sm_90`.
    pub(super) fn architecture(&self) -> Result<String, GeneratorError> {
        let attribute = |which| {
            let mut value = 0;
            // Safety: `value` is writable.
            let code = unsafe { (self.driver.get_attribute)(&mut value, which, self.device) };
            self.driver.check("asking for the GPU's architecture", code).map(|()| value)
        };
        Ok(format!("sm_{}{}", attribute(COMPUTE_CAPABILITY_MAJOR)?, attribute(COMPUTE_CAPABILITY_MINOR)?))
    }

    /// Loads the kernels.
    pub(super) fn load(self, cubin: &[u8]) -> Result<Card, GeneratorError> {
        let Self { driver, ordinal, device } = self;
        let mut context = null_mut();
        // Safety: `context` is writable. It is the primary context, which the run-time and libtorch use, and is never released.
        driver.check("finding the GPU's context", unsafe { (driver.retain_context)(&mut context, device) })?;
        driver.enter(context)?;
        let mut module = null_mut();
        // Safety: `cubin` is a whole ELF file, which says how long it is. The module is never unloaded.
        let code = unsafe { (driver.load_data)(&mut module, cubin.as_ptr().cast()) };
        driver.check("loading the kernels", code)?;
        let function = |name: &CStr| {
            let mut function = null_mut();
            // Safety: the module is loaded, the name ends with a zero.
            let code = unsafe { (driver.get_function)(&mut function, module, name.as_ptr()) };
            driver.check("finding a kernel", code).map(|()| function)
        };
        let initialise = function(c"nadgrid_initialise")?;
        let copy = function(c"nadgrid_copy")?;
        let noise = function(c"nadgrid_noise")?;
        let place = function(c"nadgrid_place")?;
        Ok(Card { driver, ordinal, context, initialise, copy, noise, place })
    }
}

/// A GPU with the kernels loaded.
pub(super) struct Card {
    driver: Driver,
    ordinal: c_int,
    context: Context,
    initialise: Function,
    copy: Function,
    noise: Function,
    place: Function,
}

// Safety: the driver's functions may be called from any thread, and its handles are the process's; a thread makes the context its
// own before each call that needs one.
unsafe impl Send for Card {}
// Safety: as above.
unsafe impl Sync for Card {}

impl Card {
    /// Launches kernels one after the other on libtorch's current stream; returns without waiting for them.
    ///
    /// # Safety
    /// The pointers in the tasks are to this device's memory, as long as the tasks say, which stays allocated until the stream
    /// has come to it: libtorch's own memory does, which it hands out again in the stream's order.
    pub(super) unsafe fn launch(&self, launches: &[Launch]) -> Result<(), GeneratorError> {
        self.driver.enter(self.context)?;
        let stream = self.stream()?;
        for Launch { task, blocks, rows } in launches {
            let (function, task) = match task {
                KernelArguments::Initialise(task) => (self.initialise, std::ptr::from_ref(&**task).cast::<c_void>()),
                KernelArguments::Copy(task) => (self.copy, std::ptr::from_ref(&**task).cast()),
                KernelArguments::Noise(task) => (self.noise, std::ptr::from_ref(task).cast()),
                KernelArguments::Place(task) => (self.place, std::ptr::from_ref(task).cast()),
            };
            let mut arguments = [task.cast_mut()];
            // Safety: each kernel has one argument, of the layout that `launch` gives it, and only reads it. The rest is the
            // caller's.
            let code = unsafe {
                (self.driver.launch_kernel)(
                    function,
                    *blocks,
                    *rows,
                    1,
                    THREADS,
                    1,
                    1,
                    0,
                    stream,
                    arguments.as_mut_ptr(),
                    null_mut(),
                )
            };
            self.driver.check("launching a kernel", code)?;
        }
        Ok(())
    }

    fn stream(&self) -> Result<StreamHandle, GeneratorError> {
        let mut stream = null_mut();
        let mut reason = [0 as c_char; 512];
        // Safety: both are writable, the text for the length given, and C++ closes what it writes with a zero.
        unsafe {
            if nadgrid_generator_stream(self.ordinal, &mut stream, reason.as_mut_ptr(), reason.len()) {
                return Ok(stream);
            }
            Err(GeneratorError::Stream(CStr::from_ptr(reason.as_ptr()).to_string_lossy().into_owned()))
        }
    }
}

/// Opens a library by its name.
pub(super) fn library(name: &str) -> Result<Library, String> {
    // Safety: NVIDIA's and libtorch's own libraries, whose initialisers are made to run at load.
    let opened = unsafe { Library::open(Some(name), RTLD_NOW | RTLD_LOCAL) };
    // libloading keeps the loader's own words in the source.
    opened.map_err(|error| error.source().map_or_else(|| error.to_string(), ToString::to_string))
}

/// Looks up a function of the driver.
///
/// # Safety
/// `T` must be the function's type.
unsafe fn get<T: Copy>(library: &Library, name: &CStr) -> Result<T, GeneratorError> {
    // Safety: the caller's.
    let symbol = unsafe { library.get::<T>(name.to_bytes_with_nul()) };
    symbol.map(|symbol| *symbol).map_err(|e| GeneratorError::NoDriver(e.to_string()))
}
