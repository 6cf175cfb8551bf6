//! What a GPU is, from the CUDA run-time that libtorch brings along; neither tch nor libtorch's stable interface says.

use libloading::os::unix::Library;
use std::ffi::c_int;

/// `cudaDeviceGetAttribute` and its numbers are part of CUDA's stable interface.
type GetAttribute = unsafe extern "C" fn(value: *mut c_int, attribute: c_int, device: c_int) -> c_int;
const COMPUTE_CAPABILITY_MAJOR: c_int = 75;
const COMPUTE_CAPABILITY_MINOR: c_int = 76;

/// `sm_90` and so on, of the GPU of this number.
pub(super) fn architecture(device: usize) -> Result<String, String> {
    let device = c_int::try_from(device).map_err(|e| e.to_string())?;
    // Safety: the symbol is libcudart's, which libtorch_cpu.so loads, with the signature above.
    let ask = unsafe { Library::this().get::<GetAttribute>(b"cudaDeviceGetAttribute\0") }.map_err(|e| e.to_string())?;
    let attribute = |which| {
        let mut value = 0;
        // Safety: `value` is writable for the duration of the call.
        match unsafe { ask(&mut value, which, device) } {
            0 => Ok(value),
            code => Err(format!("the CUDA run-time answers with error {code}")),
        }
    };
    Ok(format!("sm_{}{}", attribute(COMPUTE_CAPABILITY_MAJOR)?, attribute(COMPUTE_CAPABILITY_MINOR)?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_run_time_answers_or_says_why_not() {
        match super::architecture(0) {
            Ok(name) => assert!(name.starts_with("sm_"), "{name}"),
            Err(reason) => assert!(reason.contains("error"), "{reason}"),
        }
    }
}
