//! Host memory that a GPU copies from, and the threads that fill it.
//!
//! A copy from ordinary memory makes its thread wait, and stops the GPU's one queue of work meanwhile. So helper threads draw
//! into page-locked memory and copy by a CUDA stream of their own, beside what the GPU computes; they wait for the copy, and then
//! their buffer is free for the next numbers. A slot gets tensors that lie on the GPU. What is small goes between the GPU's other
//! work instead, and libtorch looks after its memory. Deliberately absent: what is drawn.

use std::ffi::{CStr, c_char};
use tch::{Device, Kind, TchError, Tensor};

// Safety: the signatures are those in pinned.cpp, which is compiled with this crate.
unsafe extern "C" {
    fn nadgrid_pinned_numbers(count: i64, tensor: *mut *mut TensorImpl, error: *mut c_char, size: usize) -> bool;
    fn nadgrid_enter_copy_stream(index: i32, error: *mut c_char, size: usize) -> bool;
    fn nadgrid_hand_to_default_stream(tensor: *const TensorImpl, error: *mut c_char, size: usize) -> bool;
}

/// `at::Tensor`, as C++ has it.
#[repr(C)]
struct TensorImpl([u8; 0]);

/// float32 numbers on the host, from which this device copies fastest: page-locked for a GPU, ordinary memory for a CPU. They are
/// not set.
pub(crate) fn numbers(count: usize, device: Device) -> Result<Tensor, TchError> {
    if !device.is_cuda() {
        return Tensor::f_empty([count as i64], (Kind::Float, Device::Cpu));
    }
    let mut tensor = std::ptr::null_mut();
    // Safety: `tensor` is writable, and the error has room for what it is said to have.
    guarded(|error, size| unsafe { nadgrid_pinned_numbers(count as i64, &mut tensor, error, size) })?;
    // Safety: a tensor that C++ has made with `new` for us alone, as tch makes its own.
    Ok(unsafe { Tensor::from_ptr(tensor.cast()) })
}

/// A copy on the device, between its other work. Nobody waits for it: libtorch gives page-locked memory to nobody else before the
/// GPU has read it. On a CPU it is the tensor itself.
pub(crate) fn sent(host: &Tensor, device: Device) -> Result<Tensor, TchError> {
    host.f_to_device_(device, host.f_kind()?, true, false)
}

/// A copy on the device of a tensor in ordinary memory, of numbers of 4 or 8 bytes, as [`sent`].
pub(crate) fn moved(tensor: &Tensor, device: Device) -> Result<Tensor, TchError> {
    if !device.is_cuda() {
        return Ok(tensor.shallow_clone());
    }
    let kind = tensor.f_kind()?;
    let halves = tensor.numel() * kind.elt_size_in_bytes() / Kind::Float.elt_size_in_bytes();
    let mut host = numbers(halves, device)?.f_view_dtype(kind)?.f_view_as(tensor)?;
    host.f_copy_(tensor)?;
    sent(&host, device)
}

/// Makes this thread one that copies: what it asks of the GPU from now on runs beside the slots' work, after what was asked
/// before. On a CPU nothing changes.
pub(crate) fn copy_beside(device: Device) -> Result<(), TchError> {
    let Device::Cuda(index) = device else { return Ok(()) };
    // Safety: the error has room for what it is said to have.
    guarded(|error, size| unsafe { nadgrid_enter_copy_stream(index as i32, error, size) })
}

/// Hands a tensor of a thread that copies to a slot. Its memory stays its own until the slot's GPU work on it is done, even where
/// the tensor is dropped before.
pub(crate) fn to_slots(tensor: Tensor) -> Result<Tensor, TchError> {
    if tensor.device().is_cuda() {
        // Safety: the tensor lives, and the error has room for what it is said to have.
        guarded(|error, size| unsafe { nadgrid_hand_to_default_stream(tensor.as_ptr().cast(), error, size) })?;
    }
    Ok(tensor)
}

/// The numbers of a tensor on the host, to be written.
pub(crate) fn to_write(tensor: &mut Tensor) -> Result<&mut [f32], TchError> {
    let kind = tensor.f_kind()?;
    let device = tensor.device();
    let dense = tensor.is_contiguous();
    if (kind, device, dense) != (Kind::Float, Device::Cpu, true) {
        return Err(TchError::Kind(format!("{kind:?} on {device:?} is not written number by number")));
    }
    let start = tensor.data_ptr().cast::<f32>();
    let count = tensor.numel();
    if count == 0 {
        return Ok(&mut []);
    }
    // Safety: so many float32 numbers lie there in a row, any bits are such numbers, and the tensor is borrowed as long.
    Ok(unsafe { std::slice::from_raw_parts_mut(start, count) })
}

/// Calls C++, which says whether all went well and writes a text if not.
fn guarded(call: impl FnOnce(*mut c_char, usize) -> bool) -> Result<(), TchError> {
    let mut error: [c_char; 1024] = [0; 1024];
    if call(error.as_mut_ptr(), error.len()) {
        return Ok(());
    }
    // Safety: the array starts as zeros, and what C++ writes into it ends with one.
    let reason = unsafe { CStr::from_ptr(error.as_ptr()) };
    Err(TchError::Torch(reason.to_string_lossy().into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_on_the_host_are_written_in_place() {
        let mut tensor = numbers(6, Device::Cpu).unwrap();
        to_write(&mut tensor).unwrap().copy_from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let mut row = tensor.view([2, 3]).get(1);
        assert_eq!(to_write(&mut row).unwrap(), [4.0, 5.0, 6.0]);
        let mut column = tensor.view([2, 3]).select(1, 0);
        assert!(to_write(&mut column).is_err() && to_write(&mut Tensor::from(1i64)).is_err());
        assert!(to_write(&mut numbers(0, Device::Cpu).unwrap()).unwrap().is_empty());
    }

    /// Without a GPU, C++'s exception comes out as an error and not as the end of the process.
    #[test]
    fn a_gpu_that_is_absent_is_an_error() {
        if tch::Cuda::is_available() {
            return;
        }
        assert!(copy_beside(Device::Cuda(0)).is_err());
        assert!(copy_beside(Device::Cpu).is_ok());
    }
}
