//! The speeds that machines are assumed to have before anything is measured.
//!
//! What matters is how the parts of a work weigh against each other; the level is measured soon. The figures are those of one
//! AVX-512 core for nadgrid's own kernels, and orders of magnitude for the others.

use crate::numerics::{NumericsClass, Precision};
use crate::work::{Work, WorkKind};

/// The engine and the device that compute a slot's work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpeedClass {
    /// nadgrid's own kernels on one core of a CPU.
    #[default]
    Kernels,
    /// libtorch on one core of a CPU.
    DenseCpu,
    /// libtorch on any kind of GPU.
    Gpu,
}

/// Seconds that one of each part takes.
struct PartSeconds {
    multiply_add: f64,
    number: f64,
    draw: f64,
    double_product: f64,
    launch: f64,
}

impl SpeedClass {
    /// The speed class of a numerics class.
    pub fn of(class: &NumericsClass) -> Self {
        match (class.device.as_str(), class.evaluation.as_str()) {
            ("cpu", "dense" | "fused") => Self::DenseCpu,
            ("cpu", _) => Self::Kernels,
            _ => Self::Gpu,
        }
    }

    /// Seconds that one member's work is taken to take a slot, where `members` of a block share what is launched.
    pub fn seconds(self, work: &Work, members: u32, precision: Precision) -> f64 {
        let part = self.parts(precision);
        let multiply_adds = match (self, work.kind) {
            // Backward passes of single inputs fill no vectors.
            (Self::Kernels, WorkKind::Autograd) => 4.0 * work.multiply_adds as f64,
            (Self::Kernels, _) => work.multiply_adds as f64,
            _ => work.dense_multiply_adds as f64,
        };
        let sharing = match (self, work.kind) {
            // One network after the other.
            (Self::Gpu, WorkKind::Difference) => 1,
            _ => members.max(1),
        };
        multiply_adds * part.multiply_add
            + work.numbers as f64 * part.number
            + work.draws as f64 * part.draw
            + work.double_products as f64 * part.double_product
            + work.launches as f64 * part.launch / f64::from(sharing)
            + f64::MIN_POSITIVE
    }

    fn parts(self, precision: Precision) -> PartSeconds {
        let own =
            PartSeconds { multiply_add: 1.0 / 3e10, number: 2e-10, draw: 5e-9, double_product: 1.5e-10, launch: 0.0 };
        match (self, precision) {
            (Self::Kernels, _) => own,
            (Self::DenseCpu, _) => PartSeconds { multiply_add: 1.0 / 1e10, number: 5e-10, launch: 2e-6, ..own },
            // Scatter matrices and margins are the CPU's also there. What a launch costs is the host's time, by the null GPU
            // (docs/performance.md); how fast cards multiply was never measured.
            (Self::Gpu, Precision::Fp32) => {
                PartSeconds { multiply_add: 1.0 / 1e13, number: 2e-12, draw: 1e-10, launch: 4e-5, ..own }
            }
            (Self::Gpu, Precision::Tf32 | Precision::Bf16) => {
                PartSeconds { multiply_add: 1.0 / 5e13, number: 2e-12, draw: 1e-10, launch: 4e-5, ..own }
            }
        }
    }
}
