//! `cargo xtask fuzz`: what comes from outside, under libFuzzer, from the corpora in `fuzz/corpus` on.
//!
//! Coverage is asked of the stable compiler by its own flags, as cargo-fuzz asks for it; no sanitizer, for which a nightly one
//! would be needed: overflows and broken assertions are what is looked for in code without `unsafe`.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::Args;

use crate::process::{cargo, step};

/// The targets of `fuzz/Cargo.toml`.
const TARGETS: [&str; 5] = ["spec", "journal", "chunks", "wal", "text"];
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

/// Builds the targets and runs one after the other. Each corpus then becomes the fewest inputs that reach what it reached and what
/// was found.
pub(crate) fn run(root: &Path, options: &Fuzz) -> Result<ExitCode> {
    let folder = root.join("fuzz");
    std::fs::create_dir_all(folder.join("artifacts"))?;
    let wanted = |target: &&str| options.targets.is_empty() || options.targets.iter().any(|own| own == target);
    for target in TARGETS.into_iter().filter(wanted) {
        let [corpus, found, fewest] = ["corpus", "found", "fewest"].map(|name| format!("{name}/{target}"));
        for name in [&corpus, &found, &fewest] {
            std::fs::create_dir_all(folder.join(name))?;
        }
        let mut run = fuzzer(&folder, target);
        run.args([&found, &corpus]).arg(format!("-max_total_time={}", options.seconds));
        run.args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1", "-artifact_prefix=artifacts/"]);
        if let Some(failed) = step(target, &mut run)? {
            return Ok(failed);
        }
        let mut merge = fuzzer(&folder, target);
        merge.args(["-set_cover_merge=1", &fewest, &corpus, &found]);
        if let Some(failed) = step(&format!("{target}: the fewest inputs"), &mut merge)? {
            return Ok(failed);
        }
        std::fs::remove_dir_all(folder.join(&corpus))?;
        std::fs::rename(folder.join(&fewest), folder.join(&corpus))?;
        std::fs::remove_dir_all(folder.join(&found))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn fuzzer(folder: &Path, target: &str) -> Command {
    let mut run = cargo(folder);
    run.env("RUSTFLAGS", FLAGS).args(["run", "--release", "--target", HOST, "--bin", target, "--", "-max_len=8192"]);
    run
}
