//! The data of training experiments: samples that one direction separates, images with a carrier for each class, images
//! with their coordinates flipped.
//!
//! Everything is a function of its arguments, with the same bits on every instruction set. Deliberately absent: files, and
//! directions themselves (`nadgrid_core::directions`). Formulas: SCIENCE.md sections 2 and 3.

mod basis;
mod directional;
mod flip;
mod normal;
mod poison;

pub use basis::{Basis, BasisError, ORTHONORMAL_TOLERANCE, complete};
pub use directional::{DirectionalSamples, directional, directional_on, words_of_sample};
pub use flip::{Flip, flip};
pub use poison::poison;
