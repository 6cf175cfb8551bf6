//! `cargo xtask fuzz`: the parsers of untrusted input under libFuzzer, from the seeds in `fuzz/corpus` on.
//!
//! The seeds are few and have names that say what they are. Inputs that the fuzzer finds stay in `fuzz/found`, which git ignores,
//! and the next run starts from them too. One that is worth keeping is copied to the seeds, under a name.
//!
//! Coverage is asked of the stable compiler by its own flags, as cargo-fuzz asks for it; no sanitizer, for which a nightly one
//! would be needed: overflows and broken assertions are what is looked for in code without `unsafe`.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::Args;

use crate::process::{cargo, step};

/// The targets are those of `fuzz/Cargo.toml`.
const TARGETS: [&str; 5] = ["spec", "journal", "chunks", "wal", "text"];
/// These flags add the instrumentation that libFuzzer reads.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";
/// Dependencies of the host's build are not instrumented only where a target is named.
const HOST: &str = "x86_64-unknown-linux-gnu";

#[derive(Args)]
pub(crate) struct Fuzz {
    /// Seconds to fuzz each target
    #[arg(long, default_value_t = 600)]
    seconds: u32,
    /// Fuzz only these targets
    #[arg(value_parser = TARGETS)]
    targets: Vec<String>,
}

/// Builds the targets and runs one after the other. What was found then becomes the fewest inputs that reach everything that was
/// reached.
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
        std::fs::remove_dir_all(folder.join(&found))?;
        std::fs::rename(folder.join(&fewest), folder.join(&found))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn fuzzer(folder: &Path, target: &str) -> Command {
    let mut run = cargo(folder);
    run.env("RUSTFLAGS", FLAGS).args(["run", "--release", "--target", HOST, "--bin", target, "--", "-max_len=8192"]);
    run
}
