//! `cargo xtask demo`: a whole sweep on this machine, with programs built as users run them.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::process::{build_release, foreground, released};
use crate::setup;

/// Runs the example sweep; its exit code is the client's.
pub(crate) fn run(root: &Path, extra: &[String]) -> Result<ExitCode> {
    setup::run(root, false)?;
    if let Some(failed) = build_release(root)? {
        return Ok(failed);
    }
    let mut client = Command::new(released("nadgrid")?);
    client.current_dir(root).args(["run", "examples/lenet.toml", "--out", "out/demo"]).args(extra);
    foreground(&mut client)
}
