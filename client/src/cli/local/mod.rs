//! A cluster of one machine, for `nadgrid run`: the real programs as processes of their own.
//!
//! ```text
//! programs   where the programs are          state     the temporary folder they live in
//! process    one of them: start, end, log    cluster   a coordinator and its workers
//! ```
//! Absent: anything in process. What `run` does on one machine is what a cluster does on many.

mod cluster;
mod process;
mod programs;
mod state;

pub(crate) use cluster::{Layout, LocalCluster, not_inherited};
pub(crate) use programs::{COORDINATOR, ClusterPrograms, WORKER, find};
pub(crate) use state::KeptState;
