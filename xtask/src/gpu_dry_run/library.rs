//! The folder of libraries that makes the null GPU: libtorch's CUDA half out of the wheel in the cache, libtorch's
//! CPU half as setup unpacked it, and in the place of CUDA's libraries one that is compiled here from
//! `xtask/nullgpu`.
//!
//! libtorch's libraries look for CUDA's beside themselves, so a program needs nothing but this folder in
//! `LD_LIBRARY_PATH`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::cache::{self, Cache, remove_if_there};
use crate::hash;
use crate::prerequisites::{compiler, compiler_command};
use crate::process::released;
use crate::setup;
use crate::unpack::unpack;
use crate::wheels::{CUDA_HALF, TORCH};

/// The sources, beside the stubs that are written for libtorch's libraries.
const SOURCES: [&str; 6] = ["card.cpp", "runtime.cpp", "driver.cpp", "cublas.cpp", "cudnn.cpp", STUBS];
const STUBS: &str = "stubs.cpp";
const HEADERS: [&str; 2] = ["card.hpp", "include/crt/host_defines.h"];
/// The library that answers for all.
const LIBRARY: &str = "libcudart.so.13";
/// Those that only lead to it.
const OTHERS: [&str; 12] = [
    "libcublas.so.13",
    "libcublasLt.so.13",
    "libcudnn.so.9",
    "libcufft.so.12",
    "libcusparse.so.12",
    "libcusparseLt.so.0",
    "libcurand.so.10",
    "libcufile.so.0",
    "libnccl.so.2",
    "libnvrtc.so.13",
    "libtorch_nvshmem.so",
    "libcuda.so.1",
];
/// libtorch's CPU half and what it links.
const CPU_HALF: [&str; 4] = ["libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libcupti.so.13"];
/// The libraries that ask something of CUDA's.
const ASKING: [&str; 4] = ["libtorch_cuda.so", "libc10_cuda.so", "libcaffe2_nvrtc.so", "libtorch_cpu.so"];
/// The prefixes of the functions of CUDA and its libraries.
const PREFIXES: [&str; 5] = ["cu", "__cuda", "nvrtc", "nccl", "nvshmem"];
/// The last file to be written: the hash of what the folder was made of.
const STAMP: &str = "stamp";

/// The null GPU, ready for programs.
#[derive(Clone, Debug)]
pub(super) struct NullGpu {
    libraries: PathBuf,
}

impl NullGpu {
    /// Makes the folder below the target folder if need be. Says why it cannot be had without a download, and returns
    /// nothing then.
    pub(super) fn prepare(root: &Path, fetch: bool) -> Result<Option<Self>> {
        if fetch {
            setup::fetch(root)?;
        }
        if let Some(lacking) = lacking(root)? {
            println!("== gpu-dry-run: SKIPPED, {lacking} (cargo xtask gpu-dry-run --fetch gets it)");
            return Ok(None);
        }
        // Held to the end: two runs may share the folder, too.
        let cache = Cache::open()?;
        let cuda_half = unpacked(&cache)?;
        let folder = released("")?.with_file_name("null-gpu");
        let sources = root.join("xtask/nullgpu");
        let made_of = fingerprint(root, &sources)?;
        if fs::read_to_string(folder.join(STAMP)).is_ok_and(|stamp| stamp == made_of) {
            return Ok(Some(Self { libraries: folder }));
        }
        println!("== gpu-dry-run: building the null GPU in {}", folder.display());
        remove_if_there(&folder)?;
        fs::create_dir_all(&folder)?;
        for name in CPU_HALF {
            symlink(root.join(".libtorch/lib").join(name), folder.join(name))?;
        }
        for entry in fs::read_dir(cuda_half.join("lib"))? {
            let entry = entry?;
            symlink(entry.path(), folder.join(entry.file_name()))?;
        }
        build(&sources, &cuda_half, &folder)?;
        fs::write(folder.join(STAMP), made_of)?;
        Ok(Some(Self { libraries: folder }))
    }

    /// Lets a program find the card, whose counts go into a file.
    pub(super) fn plug_into(&self, program: &mut Command, counts: &Path) {
        program.env("LD_LIBRARY_PATH", &self.libraries).env("NULL_GPU_COUNTS", counts);
        program.env_remove("CUDA_VISIBLE_DEVICES");
    }
}

/// Describes what is missing; `None` when everything is there.
fn lacking(root: &Path) -> Result<Option<String>> {
    for name in CPU_HALF {
        if !root.join(".libtorch/lib").join(name).exists() {
            return Ok(Some(format!(".libtorch lacks {name}")));
        }
    }
    let cache = cache::folder()?;
    if cuda_half(&cache).exists() {
        return Ok(None);
    }
    let lacks = CUDA_HALF.iter().find(|wheel| !cache.join("wheels").join(wheel.file_name).is_file());
    Ok(lacks.map(|wheel| format!("the cache lacks {}", wheel.file_name)))
}

fn cuda_half(cache: &Path) -> PathBuf {
    cache.join(format!("libtorch-cuda-{TORCH}"))
}

/// The folder in the cache with libtorch's CUDA half and CUDA's headers; appears whole or not at all.
fn unpacked(cache: &Cache) -> Result<PathBuf> {
    let folder = cuda_half(&cache.path(""));
    if folder.exists() {
        return Ok(folder);
    }
    println!("== gpu-dry-run: unpacking libtorch's CUDA half into {}", folder.display());
    let made = cache.workshop()?.join("made");
    for wheel in &CUDA_HALF {
        let path = cache.path("wheels").join(wheel.file_name);
        ensure!(setup::is_sound(wheel, &path)?, "{} is damaged: cargo xtask gpu-dry-run --fetch", path.display());
        unpack(wheel, &path, &made)?;
    }
    fs::rename(&made, &folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

/// Compiles the library, and the empty ones that lead to it.
fn build(sources: &Path, cuda_half: &Path, folder: &Path) -> Result<()> {
    let work = folder.join("work");
    fs::create_dir_all(&work)?;
    let mut objects = Vec::new();
    for source in SOURCES {
        let object = work.join(source).with_extension("o");
        if source == STUBS {
            fs::write(work.join("stubs.inc"), stubs(folder, &objects)?)?;
        }
        let mut command = compiler_command(&compiler("CXX", "c++"));
        command.args(["-std=c++17", "-O1", "-fPIC", "-Wall", "-Wextra", "-c"]);
        command.arg("-I").arg(&work).arg("-I").arg(sources).arg("-I").arg(sources.join("include"));
        command.arg("-isystem").arg(cuda_half.join("include")).arg(sources.join(source)).arg("-o").arg(&object);
        succeed(&mut command, source)?;
        objects.push(object);
    }
    // With a version of this name libtorch's libraries, linked against NVIDIA's, are content.
    fs::write(work.join("versions"), format!("{LIBRARY} {{ }};\n"))?;
    let mut command = compiler_command(&compiler("CXX", "c++"));
    command.args(["-shared", &format!("-Wl,-soname,{LIBRARY}"), "-o"]).arg(folder.join(LIBRARY));
    command.arg(format!("-Wl,--version-script={}", work.join("versions").display())).args(&objects);
    succeed(command.args(["-ldl", "-lpthread"]), LIBRARY)?;
    for name in OTHERS {
        let mut command = compiler_command(&compiler("CC", "cc"));
        command.args(["-shared", "-nostdlib", "-Wl,--no-as-needed", &format!("-Wl,-soname,{name}"), "-o"]);
        command.arg(folder.join(name)).args(["-x", "c", "/dev/null", "-x", "none"]).arg(folder.join(LIBRARY));
        succeed(&mut command, name)?;
    }
    Ok(())
}

/// A line for each function that libtorch's libraries ask of CUDA's and that no object defines.
fn stubs(libraries: &Path, objects: &[PathBuf]) -> Result<String> {
    let mut open = BTreeSet::new();
    for library in ASKING {
        open.extend(symbols(&libraries.join(library), &["--dynamic", "--undefined-only"])?);
    }
    for object in objects {
        for defined in symbols(object, &["--defined-only"])? {
            open.remove(&defined);
        }
    }
    let is_cuda = |name: &&String| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    Ok(open.iter().filter(is_cuda).map(|name| format!("STUB({name})\n")).collect())
}

/// The names in a library or an object, without versions.
fn symbols(of: &Path, which: &[&str]) -> Result<Vec<String>> {
    let mut command = Command::new("nm");
    let answer = command.args(which).arg(of).stderr(Stdio::inherit()).output().context("cannot start nm")?;
    ensure!(answer.status.success(), "nm cannot read {}", of.display());
    let lines = String::from_utf8_lossy(&answer.stdout).into_owned();
    let name = |line: &str| Some(line.split_whitespace().last()?.split('@').next()?.to_owned());
    Ok(lines.lines().filter_map(name).collect())
}

fn succeed(command: &mut Command, what: &str) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start a compiler for {what}"))?;
    ensure!(status.success(), "cannot build {what} of the null GPU; the compiler's words are above");
    Ok(())
}

/// Returns a fingerprint of what the folder depends on: the working tree that it links to, the release of libtorch, and
/// the sources.
fn fingerprint(root: &Path, sources: &Path) -> Result<String> {
    let mut made_of = format!("{}\nlibtorch {TORCH}\n", root.display());
    for name in SOURCES.iter().chain(&HEADERS) {
        let file = sources.join(name);
        let found = hash::file(&file).with_context(|| format!("cannot read {}", file.display()))?;
        made_of += &format!("{} {name}\n", found.sha256);
    }
    Ok(made_of)
}
