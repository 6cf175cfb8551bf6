//! nadgrid's own CPU numerics: central-difference gradients of random networks, the moments of a block, training.
//!
//! A change of one pixel reaches only a window of every feature map, so a gradient costs a fraction of the
//! dense evaluations that define it: a fifteenth for LeNet (`patch`), half for ResNet18 (`graph`, which takes any network).
//! The bits of every result are the same on every CPU: each number is one chain of correctly rounded operations
//! whose order does not depend on the instruction set.
//! Deliberately absent: libtorch, threads, files, clocks, state kept between members.

mod block;
mod central_difference;
pub mod data;
mod error;
mod graph;
mod moments;
mod patch;
mod simd;
mod span;
mod train;

pub use block::block_moments;
pub use central_difference::CentralDifference;
pub use error::{KernelError, NotFinite};
pub use moments::{moments, moments_on};
pub use simd::InstructionSet;
pub use train::Trainer;

/// Raised whenever the bits of a result change; part of the numerics class.
pub const VERSION: u32 = 2;

/// The instruction set that this machine's results are computed with, for logs: they do not depend on it.
pub fn instruction_set() -> &'static str {
    InstructionSet::best().name()
}
