//! Compiles the few lines of C++ that tch lacks, and tells the loader where libtorch lies.
//!
//! `.cargo/config.toml` sets LIBTORCH; torch-sys reads the same variable. Deliberately absent: finding libtorch anywhere
//! else, and linking CUDA, which the worker opens at run time.

use std::path::{Path, PathBuf};
use std::{env, fs, process};

/// libtorch's stream, which the generator's kernels go to.
const STREAM: &str = "src/generator/stream.cpp";
const HOST: &str = "src/generator/host.cpp";
const KERNEL: &str = "src/generator/kernel.cu";

fn main() {
    for source in ["src/guarded.hpp", "src/libtorch.cpp", "src/pinned.cpp", STREAM, HOST, KERNEL] {
        println!("cargo::rerun-if-changed={source}");
    }
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let libtorch = env::var_os("LIBTORCH").map(PathBuf::from).unwrap_or_default();
    let release = libtorch.join("build-version");
    println!("cargo::rerun-if-changed={}", release.display());
    let Ok(version) = fs::read_to_string(&release) else { stop(&libtorch) };
    println!("cargo::rustc-env=NADGRID_LIBTORCH_BUILT_FOR={}", version.trim());

    let include = libtorch.join("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        // libtorch's own headers are not ours to keep free of warnings.
        .warnings(false)
        .file("src/libtorch.cpp")
        .file("src/pinned.cpp")
        .file(STREAM)
        .compile("nadgrid_libtorch");
    generator();
    link(&libtorch.join("lib"));
}

/// The generator's kernels as functions of the host, for tests: nothing else takes them out of the archive.
fn generator() {
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        // Each operation is rounded by itself, as on a GPU.
        .flag("-ffp-contract=off")
        .flag("-Wno-unknown-pragmas")
        .file(HOST)
        .compile("nadgrid_generator");
}

/// A RUNPATH (not an RPATH), so that LD_LIBRARY_PATH wins: that is how a GPU machine names its own libtorch.
fn link(lib: &Path) {
    println!("cargo::rustc-link-search=native={}", lib.display());
    println!("cargo::rustc-link-lib=dylib=torch_cpu");
    println!("cargo::rustc-link-lib=dylib=c10");
    println!("cargo::rustc-link-arg=-Wl,--enable-new-dtags");
    // As packaged: bin/nadgrid-worker beside lib/nadgrid/. Then as built here.
    println!("cargo::rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib/nadgrid");
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
}

fn stop(libtorch: &Path) -> ! {
    println!(
        "cargo::error=libtorch is not set up (looked for {}): run `cargo xtask setup` once, then build again",
        libtorch.join("build-version").display()
    );
    process::exit(1)
}
