//! `cargo xtask fuzz`: what comes from outside, under libFuzzer, from the corpora in `fuzz/corpus` on.
//!
//! Coverage is asked of the stable compiler by its own flags, as cargo-fuzz asks for it; no sanitizer, for which a nightly one
//! would be needed: overflows and broken assertions are what is looked for in code without `unsafe`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::process::{cargo, step};

/// The targets of `fuzz/Cargo.toml`.
const TARGETS: [&str; 3] = ["spec", "journal", "chunks"];
/// Instrumentation that libFuzzer reads.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";
/// Dependencies of the host's build are not instrumented only where a target is named.
const HOST: &str = "x86_64-unknown-linux-gnu";

#[derive(Args)]
pub(crate) struct Fuzz {
    /// Seconds for each target
    #[arg(long, default_value_t = 600)]
    seconds: u32,
    /// Only these
    #[arg(value_parser = TARGETS)]
    targets: Vec<String>,
}

/// Builds the targets and runs one after the other; new inputs that reach new code are added to the corpora.
pub(crate) fn run(root: &Path, options: &Fuzz) -> Result<ExitCode> {
    let folder = root.join("fuzz");
    let wanted = |target: &&str| options.targets.is_empty() || options.targets.iter().any(|own| own == target);
    for target in TARGETS.into_iter().filter(wanted) {
        let mut run = cargo(&folder);
        run.env("RUSTFLAGS", FLAGS).args(["run", "--release", "--target", HOST, "--bin", target, "--"]);
        run.arg(format!("corpus/{target}")).arg(format!("-max_total_time={}", options.seconds));
        run.args([
            "-max_len=8192",
            "-timeout=10",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
            "-artifact_prefix=artifacts/",
        ]);
        std::fs::create_dir_all(folder.join("artifacts"))?;
        if let Some(failed) = step(target, &mut run)? {
            return Ok(failed);
        }
    }
    Ok(ExitCode::SUCCESS)
}
