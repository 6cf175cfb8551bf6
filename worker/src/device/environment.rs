//! Variables by which CUDA's libraries and libtorch would give other bits, or hide what they do, within one numerics class.
//!
//! They were looked for in the strings of libtorch 2.11, cuBLAS 13 and cuDNN 9. Deliberately absent: `CUDA_VISIBLE_DEVICES` and
//! `CUDA_LAUNCH_BLOCKING`, which change no result, what logs, and settings of the allocator that still count what they refuse.

use std::ffi::OsString;
use std::sync::OnceLock;

/// The variables that change which kernels are chosen, or what these round to.
const CHANGE_BITS: [&str; 24] = [
    "CUBLASLT_DISABLE_CPU_INSTRUCTIONS_MASK",
    "CUBLASLT_WORKSPACE_SIZE",
    "CUBLAS_EMULATE_DOUBLE_PRECISION",
    "CUBLAS_EMULATE_SINGLE_PRECISION",
    "CUBLAS_EMULATION_STRATEGY",
    "CUBLAS_FIXEDPOINT_EMULATION_MANTISSA_BIT_COUNT",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_FORCE_JIT",
    "CUDA_FORCE_PTX_JIT",
    "CUDNN_CONV_WSCAP_DBG",
    "CUDNN_ERRATA_JSON_FILE",
    "CUDNN_FORCE_KERNEL_INIT",
    "CUDNN_FORWARD_COMPAT_DISABLE",
    "DISABLE_ADDMM_CUDA_LT",
    "NVIDIA_TF32_OVERRIDE",
    "PYTORCH_TUNABLEOP_ENABLED",
    "PYTORCH_TUNABLEOP_FILENAME",
    "PYTORCH_TUNABLEOP_TUNING",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCH_BLAS_PREFER_CUBLASLT",
    "TORCH_BLAS_PREFER_HIPBLASLT",
    "TORCH_CUBLASLT_UNIFIED_WORKSPACE",
    "TORCH_CUDNN_USE_HEURISTIC_MODE_B",
    "TORCH_CUDNN_V8_API_DISABLED",
];
/// Without its cache libtorch's allocator does not count what it refuses.
const NO_CACHE: &str = "PYTORCH_NO_CUDA_MEMORY_CACHING";
/// Settings of the allocator, under two names. One of them puts another allocator in its place, which counts nothing.
const ALLOCATOR: [&str; 2] = ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"];

static CLEARED: OnceLock<Vec<String>> = OnceLock::new();

/// Clears what would give other bits, once for the process.
///
/// # Safety
/// No other thread may exist, since one that reads the environment meanwhile would read freed memory.
pub unsafe fn clear() {
    CLEARED.get_or_init(|| {
        let found = unwanted(std::env::vars_os());
        for name in &found {
            // Safety: the caller vouches for it that nobody reads meanwhile.
            unsafe { std::env::remove_var(name) };
        }
        found
    });
}

/// The variables that were cleared, for the warning that names them.
pub(super) fn cleared() -> &'static [String] {
    CLEARED.get().map_or(&[], Vec::as_slice)
}

fn unwanted(variables: impl Iterator<Item = (OsString, OsString)>) -> Vec<String> {
    let unwanted = |(name, value): (OsString, OsString)| {
        let name = name.into_string().ok()?;
        let replaces = ALLOCATOR.contains(&name.as_str()) && replaces_allocator(&value.to_string_lossy());
        (replaces || name == NO_CACHE || CHANGE_BITS.contains(&name.as_str())).then_some(name)
    };
    let mut found: Vec<String> = variables.filter_map(unwanted).collect();
    found.sort();
    found
}

/// `backend:` names the allocator; its own is `native`.
fn replaces_allocator(settings: &str) -> bool {
    let value = |setting: &str| setting.trim().strip_prefix("backend:").map(|backend| backend.trim() != "native");
    settings.split(',').filter_map(value).any(|other| other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_bits_is_found_and_the_rest_is_left() {
        let variables = [
            ("NVIDIA_TF32_OVERRIDE", "1"),
            ("HOME", "/"),
            ("CUDA_VISIBLE_DEVICES", "1"),
            ("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:64, backend:cudaMallocAsync"),
            ("PYTORCH_ALLOC_CONF", "expandable_segments:True,backend:native"),
            ("CUBLAS_WORKSPACE_CONFIG", ":16:8"),
            ("CUBLAS_LOGINFO_DBG", "1"),
        ];
        let found = unwanted(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
        assert_eq!(found, ["CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE", "PYTORCH_CUDA_ALLOC_CONF"]);
    }

    #[test]
    fn the_names_are_in_order_and_differ() {
        assert!(CHANGE_BITS.is_sorted_by(|a, b| a < b));
    }
}
