//! This crate defines what nadgrid computes and how the work is cut: specs, grids, the exact reduction, the scheduler.
//!
//! Everything here is a pure function of its arguments, so that it can be tested on a virtual clock
//! and give the same bits on every machine. Deliberately absent: tokio, tonic, libtorch, files,
//! threads and clocks. Time and randomness are arguments.

pub mod architecture;
pub mod checkpoint;
pub mod cifar10;
pub mod cost;
pub mod dataset;
pub mod deepfool;
pub mod directions;
pub mod grid;
pub mod ids;
pub mod moments;
pub mod numerics;
pub mod places;
pub mod plan;
pub mod random;
pub mod runs;
pub mod scheduler;
pub mod shell;
pub mod spec;
pub mod statistics;
pub mod text;
pub mod training;
pub mod tree;
pub mod work;

/// The wire protocol between coordinator, workers and clients: programs of different numbers refuse each other.
pub const PROTOCOL_VERSION: u32 = 3;

/// Largest partial that travels in a session and lies in the journal, in bytes: an upload and a file of its own would cost more
/// than such a shard.
pub const MAX_INLINE_BYTES: usize = 1024;

/// The libtorch release that workers must run; see `cargo xtask setup`.
pub const LIBTORCH_VERSION: &str = "2.11.0";
