//! `cargo xtask`: the chores of this repository, each one command: get libtorch, run the demo, run what CI runs, measure.
//!
//! Deliberately absent: anything a plain `cargo` command does already, and any address of a download server. What is
//! fetched comes through the user's own pip, so that a mirror or a proxy set up there is honoured.

mod bench;
mod cache;
mod demo;
mod fuzz;
mod gpu_dry_run;
mod hash;
mod house;
mod manifest;
mod pip;
mod prerequisites;
mod process;
mod setup;
mod test;
mod unpack;
mod wheels;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The chores of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Chores {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Get libtorch for CPU linking into `.libtorch` (once about 550 MB of wheels, kept in a cache folder)
    Setup {
        /// Hash every file in `.libtorch` again, and unpack anew if one differs
        #[arg(long)]
        verify: bool,
    },
    /// Build everything and run the example sweep examples/lenet.toml on this machine
    Demo {
        /// More arguments for `nadgrid run`
        #[arg(last = true)]
        extra: Vec<String>,
    },
    /// Do what CI does: format, lints, build, tests, and what the pure core may depend on
    Test {
        /// More arguments for `cargo test`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        extra: Vec<String>,
    },
    /// Fuzz the parsers of untrusted input, ten minutes per target
    Fuzz(fuzz::Fuzz),
    /// Run the CUDA path on a card that computes nothing: count what it is asked, let it fail (skipped where libtorch's wheel is not cached)
    GpuDryRun(gpu_dry_run::GpuDryRun),
    /// Count places against the house style, and fail where there are more than xtask/house.toml allows
    House(house::House),
    /// Measure against a peer
    #[command(subcommand)]
    Bench(bench::Benchmark),
}

fn main() -> ExitCode {
    let root = repository();
    let done = match Chores::parse().verb {
        Verb::Setup { verify } => setup::run(&root, verify).map(|()| ExitCode::SUCCESS),
        Verb::Demo { extra } => demo::run(&root, &extra),
        Verb::Test { extra } => test::run(&root, &extra),
        Verb::Fuzz(options) => fuzz::run(&root, &options),
        Verb::GpuDryRun(options) => gpu_dry_run::run(&root, &options),
        Verb::House(options) => house::run(&root, &options),
        Verb::Bench(bench) => bench::run(&root, &bench),
    };
    done.unwrap_or_else(|error: anyhow::Error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}

/// The root of the working tree: the folder above this package, as cargo names it now or named it when this was built.
fn repository() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let package = Path::new(&package);
    package.parent().unwrap_or(package).to_path_buf()
}
