//! The wheels that libtorch is taken from, pinned to the byte, and which of their files are taken.
//!
//! The release must be the one that tch wants (tch 0.24.0 goes with torch 2.11.0). The wheel is the CUDA build, the only
//! one on the package index; `libtorch_cuda.so` is deliberately left in it, because torch-sys links CUDA when it sees it.

/// The libtorch release, as torch-sys checks it in `build-version`.
pub(crate) const TORCH: &str = "2.11.0";

/// One file of the package index.
pub(crate) struct Wheel {
    /// As pip spells it.
    pub(crate) package: &'static str,
    pub(crate) version: &'static str,
    pub(crate) file_name: &'static str,
    pub(crate) size: u64,
    pub(crate) sha256: &'static str,
    /// (path in the wheel, path in `.libtorch`); a path that ends in `/` is a whole folder.
    pub(crate) takes: &'static [(&'static str, &'static str)],
}

impl Wheel {
    /// Returns the path of a wheel's file in `.libtorch`, if it is wanted at all.
    pub(crate) fn destination(&self, member: &str) -> Option<String> {
        if member.ends_with('/') {
            return None;
        }
        self.takes.iter().find_map(|(from, to)| match member.strip_prefix(from) {
            Some(rest) if from.ends_with('/') => Some(format!("{to}{rest}")),
            Some("") => Some((*to).to_owned()),
            _ => None,
        })
    }
}

/// The wheels that libtorch_cpu.so needs to load: itself, c10, OpenMP, and two CUDA libraries that it links even where
/// no GPU is.
pub(crate) const WHEELS: [Wheel; 3] = [
    Wheel {
        package: "nvidia-cuda-runtime",
        version: "13.0.96",
        file_name: "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        size: 2_243_632,
        sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
        takes: &[("nvidia/cu13/lib/libcudart.so.13", "lib/libcudart.so.13")],
    },
    Wheel {
        package: "nvidia-cuda-cupti",
        version: "13.0.85",
        file_name: "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl",
        size: 10_715_597,
        sha256: "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
        takes: &[("nvidia/cu13/lib/libcupti.so.13", "lib/libcupti.so.13")],
    },
    Wheel {
        package: "torch",
        version: TORCH,
        file_name: "torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        size: 530_604_548,
        sha256: "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
        takes: &[
            ("torch/include/", "include/"),
            ("torch/lib/libtorch_cpu.so", "lib/libtorch_cpu.so"),
            ("torch/lib/libc10.so", "lib/libc10.so"),
            ("torch/lib/libgomp.so.1", "lib/libgomp.so.1"),
        ],
    },
];

/// The parts that the null GPU takes from the same wheels: libtorch's CUDA half, and CUDA's headers.
pub(crate) const CUDA_HALF: [Wheel; 2] = [
    Wheel { takes: &[("nvidia/cu13/include/", "include/")], ..WHEELS[0] },
    Wheel {
        takes: &[
            ("torch/lib/libtorch_cuda.so", "lib/libtorch_cuda.so"),
            ("torch/lib/libc10_cuda.so", "lib/libc10_cuda.so"),
            ("torch/lib/libcaffe2_nvrtc.so", "lib/libcaffe2_nvrtc.so"),
        ],
        ..WHEELS[2]
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn torch() -> &'static Wheel {
        WHEELS.iter().find(|wheel| wheel.package == "torch").expect("pinned")
    }

    #[test]
    fn takes_headers_and_the_cpu_libraries_alone() {
        let to = |member| torch().destination(member);
        assert_eq!(to("torch/include/ATen/Context.h").as_deref(), Some("include/ATen/Context.h"));
        assert_eq!(to("torch/lib/libtorch_cpu.so").as_deref(), Some("lib/libtorch_cpu.so"));
        assert_eq!(to("torch/lib/libc10.so").as_deref(), Some("lib/libc10.so"));
        for left in
            ["torch/lib/libtorch_cuda.so", "torch/lib/libtorch.so", "torch/lib/libc10_cuda.so", "torch/include/"]
        {
            assert_eq!(to(left), None, "{left}");
        }
    }

    #[test]
    fn the_cuda_half_comes_out_of_the_same_wheels() {
        let [headers, half] = &CUDA_HALF;
        assert_eq!(half.destination("torch/lib/libtorch_cuda.so").as_deref(), Some("lib/libtorch_cuda.so"));
        assert_eq!(half.destination("torch/lib/libtorch_cuda_linalg.so"), None);
        assert_eq!(half.file_name, torch().file_name);
        let header = headers.destination("nvidia/cu13/include/cuda_runtime_api.h");
        assert_eq!(header.as_deref(), Some("include/cuda_runtime_api.h"));
    }

    #[test]
    fn pins_are_whole() {
        for wheel in &WHEELS {
            assert_eq!(wheel.sha256.len(), 64, "{}", wheel.package);
            assert!(wheel.file_name.starts_with(&wheel.package.replace('-', "_")), "{}", wheel.package);
            assert!(wheel.file_name.contains(wheel.version), "{}", wheel.package);
        }
    }
}
