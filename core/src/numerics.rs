//! The numerics class: everything besides the coordinates that the bits of a result depend on.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The floating-point arithmetic that a sweep allows.
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
    /// The arithmetic, which decides the rounding: `portable` for our own kernels (they fix the order of every
    /// operation, so any CPU gives the same bits), else what libtorch runs on: an instruction set, for example
    /// `avx512`, or a GPU by its compute capability, multiprocessors, second cache and libraries,
    /// `sm_90-132sm-l2_50m-cuda13.0-cudnn9.19.0-cublas13.1.0`.
    pub arithmetic: String,
    /// The evaluation of central differences: `patch` (only what a pixel can reach), `dense` (forward passes whole) or
    /// `fused` (the same of one network at a time, by fused operations).
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

/// The classes that may work here: patterns of classes as they are written, in which `*` stands for anything. Without
/// any, all may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassPatterns(Vec<String>);

impl ClassPatterns {
    /// The patterns of a list with commas.
    pub fn parse(list: &str) -> Self {
        Self(list.split(',').map(str::trim).filter(|pattern| !pattern.is_empty()).map(str::to_owned).collect())
    }

    /// Whether workers of this class may work.
    pub fn admit(&self, class: &NumericsClass) -> bool {
        let class = class.to_string();
        self.0.is_empty() || self.0.iter().any(|pattern| fits(pattern, &class))
    }
}

impl fmt::Display for ClassPatterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

/// Whether a text is what a pattern says: its pieces between stars, in order.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some(at) = left.find(piece) else { return false };
        left = &left[at + piece.len()..];
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_its_pieces_in_order() {
        let class = |arithmetic: &str| NumericsClass {
            device: "cpu".into(),
            arithmetic: arithmetic.into(),
            evaluation: "patch".into(),
            libtorch: "2.11.0".into(),
            precision: "fp32".into(),
            kernels: 2,
        };
        let admits = |patterns: &str, arithmetic: &str| ClassPatterns::parse(patterns).admit(&class(arithmetic));
        assert!(admits("", "made-up") && admits("cpu-portable/*", "portable") && admits("cuda-*, cpu-*", "portable"));
        assert!(!admits("cpu-portable/*", "made-up") && !admits("cpu-portable", "portable"));
        assert!(admits("*/fp32/*kernels-2*", "portable") && !admits("*/kernels-2/fp32*", "portable"));
        assert!(fits("*", "") && fits("a*a", "aa") && !fits("a*a", "a") && !fits("", "a") && fits("a**b", "ab"));
    }

    #[test]
    fn a_precision_is_written_and_read_by_one_name() {
        for precision in [Precision::Fp32, Precision::Tf32, Precision::Bf16] {
            assert_eq!(serde_json::to_value(precision).unwrap(), precision.to_string());
            assert_eq!(serde_json::from_value::<Precision>(precision.as_str().into()).unwrap(), precision);
        }
        assert_eq!(Precision::default(), Precision::Fp32);
    }
}
