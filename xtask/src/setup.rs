//! `cargo xtask setup`: fills `.libtorch` with what a CPU build links and runs against.
//!
//! Every step can die at any instant: wheels and folders are made under another name and renamed, and the stamp is the last
//! file written. Running it again goes on where it stopped; run on a finished folder it only looks at sizes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::cache::{Cache, remove_if_there};
use crate::hash::{self, Condition};
use crate::manifest::{self, Depth, Manifest, ManifestEntry};
use crate::pip::Pip;
use crate::prerequisites::{self, compiler, compiler_command};
use crate::unpack::unpack;
use crate::wheels::{TORCH, WHEELS, Wheel};

/// The state of a folder.
enum FolderState {
    Absent,
    /// With so many files, it can be used as it is.
    Whole(usize),
    /// The faults of the folder, in words.
    Faulty(Vec<String>),
}

/// Makes `.libtorch` whole if it is not.
pub(crate) fn run(root: &Path, verify: bool) -> Result<()> {
    let started = Instant::now();
    let folder = root.join(".libtorch");
    let depth = if verify { Depth::Hashes } else { Depth::Sizes };
    if let FolderState::Whole(files) = state(&folder, depth)? {
        announce(files, depth);
        return Ok(());
    }
    let pip = prerequisites::check(root)?;
    let cache = Cache::open()?;
    // Once more: another run may have done it while this one waited for the cache.
    match state(&folder, depth)? {
        FolderState::Absent => {}
        FolderState::Whole(files) => {
            announce(files, depth);
            return Ok(());
        }
        FolderState::Faulty(faults) => complain(&faults),
    }
    let wheels = sound_wheels(pip, &cache)?;
    println!("unpacking libtorch {TORCH} into {}", folder.display());
    assemble(&wheels, &folder)?;
    println!("libtorch {TORCH} is set up in .libtorch ({:.0} s)", started.elapsed().as_secs_f64());
    Ok(())
}

/// Gets the wheels into the cache, also where `.libtorch` is whole without them.
pub(crate) fn fetch(root: &Path) -> Result<()> {
    run(root, false)?;
    let pip = prerequisites::check(root)?;
    sound_wheels(pip, &Cache::open()?).map(drop)
}

fn state(folder: &Path, depth: Depth) -> Result<FolderState> {
    if !folder.exists() {
        return Ok(FolderState::Absent);
    }
    let stamp = fs::read_to_string(folder.join(manifest::FILE)).ok().and_then(|text| Manifest::parse(&text));
    let Some(stamp) = stamp else {
        return Ok(FolderState::Faulty(vec!["it has no whole stamp".to_owned()]));
    };
    let faults = stamp.faults(folder, depth).with_context(|| format!("cannot read {}", folder.display()))?;
    Ok(if faults.is_empty() { FolderState::Whole(stamp.files.len()) } else { FolderState::Faulty(faults) })
}

fn announce(files: usize, depth: Depth) {
    let checked = match depth {
        Depth::Sizes => "sizes match",
        Depth::Hashes => "every hash matches",
    };
    println!("libtorch {TORCH} is set up in .libtorch ({files} files, {checked})");
}

fn complain(faults: &[String]) {
    const SHOWN: usize = 5;
    println!(".libtorch cannot be used as it is, making it anew:");
    for fault in faults.iter().take(SHOWN) {
        println!("  - {fault}");
    }
    if faults.len() > SHOWN {
        println!("  - and {} more", faults.len() - SHOWN);
    }
}

/// Every wheel, in the cache and hashed just now.
fn sound_wheels(pip: Pip, cache: &Cache) -> Result<Vec<(&'static Wheel, PathBuf)>> {
    let mut recent = None;
    let mut wheels = Vec::new();
    for wheel in &WHEELS {
        let path = cache.path("wheels").join(wheel.file_name);
        if !is_sound(wheel, &path)? {
            let pip = recent.get_or_insert_with(|| pip.clone().or_recent(cache));
            println!("downloading {} {} ({:.0} MB)", wheel.package, wheel.version, wheel.size as f64 / 1e6);
            if let Err(error) = pip.download(wheel, cache, &path) {
                bail!("{error:#}; wheels that came whole are kept, so `cargo xtask setup` can simply be run again");
            }
            ensure!(is_sound(wheel, &path)?, "{} came damaged", wheel.file_name);
        }
        wheels.push((wheel, path));
    }
    Ok(wheels)
}

/// Whether a cached wheel is there and as pinned. A damaged one is removed.
pub(crate) fn is_sound(wheel: &Wheel, path: &Path) -> Result<bool> {
    let condition = hash::inspect(path, wheel.size, wheel.sha256);
    match condition.with_context(|| format!("cannot read {}", path.display()))? {
        Condition::Sound => Ok(true),
        Condition::Absent => Ok(false),
        Condition::Damaged(why) => {
            println!("{} in the cache {why}: fetching it again", wheel.file_name);
            remove_if_there(path)?;
            Ok(false)
        }
    }
}

/// Makes the folder beside its final place and puts it there.
fn assemble(wheels: &[(&Wheel, PathBuf)], folder: &Path) -> Result<()> {
    let made = folder.with_extension("unfinished");
    let replaced = folder.with_extension("replaced");
    remove_if_there(&made)?;
    fs::create_dir_all(&made)?;
    // For the moments in which it lies there under another name than the one in the repository's .gitignore.
    fs::write(made.join(".gitignore"), "*\n")?;
    let mut files = Vec::new();
    for (wheel, path) in wheels {
        files.extend(unpack(wheel, path, &made)?);
    }
    files.extend(additions(&made)?);
    fs::write(made.join(manifest::FILE), Manifest::new(files).to_string())?;
    remove_if_there(&replaced)?;
    if folder.exists() {
        fs::rename(folder, &replaced)?;
    }
    fs::rename(&made, folder)?;
    Ok(remove_if_there(&replaced)?)
}

/// Makes what the wheels lack: an empty libtorch.so, since torch-sys links that name and the real one pulls CUDA in;
/// the linker's name for OpenMP, which a machine with clang alone has not; and the release, which torch-sys checks.
fn additions(folder: &Path) -> Result<Vec<ManifestEntry>> {
    let stub = folder.join("lib/libtorch.so");
    let mut command = compiler_command(&compiler("CC", "cc"));
    command.args(["-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libtorch.so", "-x", "c", "/dev/null", "-o"]).arg(&stub);
    if !command.status().is_ok_and(|status| status.success()) {
        bail!("cannot build the empty library {}", stub.display());
    }
    symlink("libgomp.so.1", folder.join("lib/libgomp.so"))?;
    fs::write(folder.join("build-version"), format!("{TORCH}\n"))?;
    let paths = ["lib/libtorch.so", "lib/libgomp.so", "build-version"];
    let entry = |path: &str| Ok(ManifestEntry { path: path.to_owned(), fingerprint: hash::file(&folder.join(path))? });
    paths.into_iter().map(entry).collect()
}
