//! The numerics class: everything besides the coordinates that the bits of a result depend on.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One sweep runs inside one class. Two workers of one class give the same bits for the same block.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumericsClass {
    /// `cpu` or `cuda`.
    pub device: String,
    /// What rounds: `portable` for our own kernels (they fix the order of every operation, so any CPU gives
    /// the same bits), else the instruction set or GPU architecture libtorch runs on, for example `avx512`, `sm_90`.
    pub arithmetic: String,
    /// How central differences are evaluated: `patch` (only what a pixel can reach) or `dense`.
    pub evaluation: String,
    /// The libtorch release.
    pub libtorch: String,
    /// Precision policy: `fp32`.
    pub precision: String,
    /// Version of nadgrid's own kernels; raised whenever their bits change.
    pub kernels: u32,
}

impl fmt::Display for NumericsClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, arithmetic, evaluation, libtorch, precision, kernels } = self;
        write!(f, "{device}-{arithmetic}/{precision}/{evaluation}/kernels-{kernels}/libtorch-{libtorch}")
    }
}
