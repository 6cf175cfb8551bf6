//! Tensors and plain numbers.
//!
//! Deliberately absent: what the numbers mean.

use super::{PopulationError, at};
use tch::kind::Element;
use tch::{Device, Tensor};

/// Copies a tensor's numbers, row by row, to the CPU.
pub(super) fn numbers<T: Element + Copy + Default>(tensor: &Tensor) -> Result<Vec<T>, PopulationError> {
    let mut out = vec![T::default(); tensor.numel()];
    let copy = tensor.f_to(Device::Cpu).and_then(|t| t.f_contiguous());
    copy.and_then(|t| t.f_copy_data(&mut out, tensor.numel())).map_err(at("reading results back"))?;
    Ok(out)
}
