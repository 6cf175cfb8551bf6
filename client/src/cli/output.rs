//! Writing to stdout and stderr without a panic when the reader has gone.

use super::Failure;
use serde::Serialize;
use std::io::{self, ErrorKind, Write};

/// Writes a result to stdout, as a line of its own.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written =
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.write_all(b"\n")).and_then(|()| stdout.flush());
    written.map_err(|e| match e.kind() {
        ErrorKind::BrokenPipe => Failure::Closed,
        _ => Failure::other(format!("cannot write to stdout: {e}")),
    })
}

/// Writes a result as JSON for people and scripts.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    print(&serde_json::to_string_pretty(value).map_err(Failure::other)?)
}

/// Writes a result as JSON in one line, as one of many.
pub(crate) fn print_json_line(value: &impl Serialize) -> Result<(), Failure> {
    print(&serde_json::to_string(value).map_err(Failure::other)?)
}

/// Writes a line to stderr; when that is closed there is nobody to tell.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
