//! `cargo xtask gpu-dry-run`: the CUDA path from end to end on a card that computes nothing, the null GPU of
//! `xtask/nullgpu`.
//!
//! libtorch's CUDA half, its dispatcher, autograd and allocator are the real ones; below them lies a library that
//! takes every call of CUDA, cuDNN and cuBLAS, counts it, and fails on demand. So it is seen on any machine what the
//! host asks of a GPU, and what a sweep makes of one that fails. All that it needs lies in the wheels that setup
//! keeps in the cache. Deliberately absent: results, which are zero, and any statement on how long a kernel takes.

mod ceilings;
mod cluster;
mod counts;
mod faults;
mod library;
mod work;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::gpu_dry_run::ceilings::Ceilings;
use crate::gpu_dry_run::cluster::DryRunPrograms;
use crate::gpu_dry_run::faults::FaultVerdict;
use crate::gpu_dry_run::library::NullGpu;
use crate::gpu_dry_run::work::Figures;
use crate::process::{build_release, released};
use crate::setup;

#[derive(Args, Default)]
pub(crate) struct GpuDryRun {
    /// Download libtorch's wheel through pip where the cache lacks it (about 530 MB)
    #[arg(long)]
    fetch: bool,
    /// Take the programs from this folder [default: build released ones]
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// One part alone
    #[arg(long, value_enum)]
    only: Option<DryRunPart>,
    /// Only what has this in its name, for example `resnet18` or `directional`
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// Compute only as much as shows every count, two cases at once: what `cargo xtask test` does
    #[arg(long)]
    quick: bool,
    /// Write all figures into this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print the measured figures as a new ceilings.toml, a twentieth above each
    #[arg(long)]
    suggest: bool,
}

/// The parts of a dry run.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DryRunPart {
    /// Launches, copies, synchronisations, memory and the host's time, held against the ceilings
    Counts,
    /// Cards that fail, and what a sweep makes of them
    Faults,
}

/// The amount of work. Counts do not depend on it, the host's time does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RunExtent {
    /// Enough for a stable time, one case after the other.
    Full,
    /// As little as shows every count, two cases at once.
    Quick,
}

/// The report that is written with `--json`.
#[derive(Serialize)]
struct DryRunReport<'a> {
    counts: &'a [Figures],
    exceeded: &'a [String],
    faults: &'a [FaultVerdict],
}

/// Runs everything, prints the tables, and fails where a ceiling is exceeded or a failure is taken wrongly.
pub(crate) fn run(root: &Path, options: &GpuDryRun) -> Result<ExitCode> {
    let Some(card) = NullGpu::prepare(root, options.fetch)? else {
        return Ok(ExitCode::SUCCESS);
    };
    let programs = match &options.programs {
        Some(folder) => folder.clone(),
        None => {
            setup::run(root, false)?;
            if let Some(failed) = build_release(root)? {
                return Ok(failed);
            }
            released("")?
        }
    };
    let outcome = carry_out(root, options, &DryRunPrograms::new(programs, card)?)?;
    Ok(if outcome.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The numbers of cases and faults that are as they should be, and that are not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DryRunOutcome {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

/// The part of `cargo xtask test`: all counts and faults, with programs that were just built. Nothing is downloaded.
pub(crate) fn test(root: &Path, programs: PathBuf) -> Result<DryRunOutcome> {
    match NullGpu::prepare(root, false)? {
        Some(card) => {
            carry_out(root, &GpuDryRun { quick: true, ..GpuDryRun::default() }, &DryRunPrograms::new(programs, card)?)
        }
        None => Ok(DryRunOutcome::default()),
    }
}

fn carry_out(root: &Path, options: &GpuDryRun, programs: &DryRunPrograms) -> Result<DryRunOutcome> {
    let extent = if options.quick { RunExtent::Quick } else { RunExtent::Full };
    let wants = |part| options.only.is_none_or(|only| only == part);
    let mut counts = Vec::new();
    let mut exceeded = Vec::new();
    let mut faults = Vec::new();
    if wants(DryRunPart::Counts) {
        (counts, exceeded) = work::run(root, programs, &options.filter, extent);
        work::print(&counts, extent);
        if options.suggest {
            println!("{}", Ceilings::above(&counts)?);
        } else {
            exceeded.extend(Ceilings::read(root)?.exceeded(&counts));
        }
    }
    if wants(DryRunPart::Faults) {
        faults = faults::run(programs, &options.filter)?;
        faults::print(&faults);
    }
    for words in &exceeded {
        println!("WRONG {words}");
    }
    if let Some(file) = &options.json {
        let report = DryRunReport { counts: &counts, exceeded: &exceeded, faults: &faults };
        fs::write(file, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    let failed = exceeded.len() + faults.iter().filter(|verdict| !verdict.objections.is_empty()).count();
    let passed = (counts.len() + faults.len()).saturating_sub(failed);
    println!("== gpu-dry-run: {passed} passed, {failed} failed");
    Ok(DryRunOutcome { passed: passed as u64, failed: failed as u64 })
}
