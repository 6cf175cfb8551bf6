//! nadgrid-worker

pub mod libtorch;
