//! The worker from outside: as a library against a coordinator that the test plays, and as a program.

// Clippy's leave to unwrap in tests does not reach their helpers.
#![allow(clippy::unwrap_used)]

mod checkpoints;
mod process;
mod session;
mod support;
