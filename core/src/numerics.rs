//! The numerics class: everything besides the coordinates that the bits of a result depend on.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What floating-point arithmetic a sweep allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Every product and sum in float32.
    #[default]
    Fp32,
    /// Products of convolutions and linear layers in TensorFloat-32, on GPUs that have it.
    Tf32,
    /// Inputs and weights of convolutions and linear layers in bfloat16, everything else in float32.
    Bf16,
}

impl Precision {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Fp32, Self::Tf32, Self::Bf16];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }

    /// The precision of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|precision| precision.as_str() == name)
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

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
    /// Precision policy, as [`Precision`] is written.
    pub precision: String,
    /// Version of nadgrid's own kernels; raised whenever their bits change.
    pub kernels: u32,
}

impl NumericsClass {
    /// The same but for the precision.
    pub fn with(&self, precision: Precision) -> Self {
        Self { precision: precision.as_str().to_owned(), ..self.clone() }
    }

    /// Whether the other is the same but for the precision.
    pub fn differs_in_precision_alone(&self, other: &Self) -> bool {
        let Self { device, arithmetic, evaluation, libtorch, precision: _, kernels } = self;
        *device == other.device
            && *arithmetic == other.arithmetic
            && *evaluation == other.evaluation
            && *libtorch == other.libtorch
            && *kernels == other.kernels
    }
}

impl fmt::Display for NumericsClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, arithmetic, evaluation, libtorch, precision, kernels } = self;
        write!(f, "{device}-{arithmetic}/{precision}/{evaluation}/kernels-{kernels}/libtorch-{libtorch}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_precision_is_written_and_read_by_one_name() {
        for precision in [Precision::Fp32, Precision::Tf32, Precision::Bf16] {
            assert_eq!(serde_json::to_value(precision).unwrap(), precision.to_string());
            assert_eq!(serde_json::from_value::<Precision>(precision.as_str().into()).unwrap(), precision);
        }
        assert_eq!(Precision::default(), Precision::Fp32);
    }
}
