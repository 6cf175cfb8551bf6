//! The precision policy of a computation: what products round to, and libtorch's switch for TF32.
//!
//! That switch is the whole process's. Computations of one setting run side by side; one of the other setting waits until they
//! are done. Deliberately absent: a setting that outlives the computation that asked for it.

use super::PopulationError;
use crate::libtorch::{self, Tf32};
use nadgrid_core::numerics::Precision;
use std::sync::{Condvar, Mutex, PoisonError};
use tch::{Device, Kind, TchError, Tensor};

/// The precision policy of a population.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    /// The kind of weights, activations and everything else that is not a product.
    pub(super) kind: Kind,
    /// The kind that convolutions and fully connected layers read and yield.
    products: Kind,
    tf32: Tf32,
    /// Whether convolutions of few channels a group are products of unfolded maps, as suits a GPU.
    pub(super) unfolds: bool,
}

impl Policy {
    pub(super) fn new(precision: Precision, kind: Kind, device: Device) -> Result<Self, PopulationError> {
        let (products, tf32) = match precision {
            Precision::Fp32 => (kind, Tf32::Forbidden),
            Precision::Tf32 if !device.is_cuda() => return Err(PopulationError::Tf32OnCpu),
            Precision::Tf32 => (kind, Tf32::Allowed),
            Precision::Bf16 => (Kind::BFloat16, Tf32::Forbidden),
        };
        Ok(Self { kind, products, tf32, unfolds: device.is_cuda() })
    }

    /// Returns the kind that products read.
    pub(super) fn products(&self) -> Kind {
        self.products
    }

    /// Whether products of float32 may be computed in TF32.
    pub(super) fn allows_tf32(&self) -> bool {
        self.tf32 == Tf32::Allowed
    }

    /// Converts a tensor to the kind that products read.
    pub(super) fn narrow(&self, tensor: &Tensor) -> Result<Tensor, TchError> {
        tensor.f_to_kind(self.products)
    }

    /// Converts a product's result to the kind of everything else.
    pub(super) fn widen(&self, tensor: &Tensor) -> Result<Tensor, TchError> {
        tensor.f_to_kind(self.kind)
    }

    /// Sets the switch, and keeps it until the guard is dropped. One thread must not hold two policies.
    pub(super) fn hold(&self) -> Result<PrecisionGuard, PopulationError> {
        let ours = |switch: &Switch| switch.set == Some(self.tf32);
        let switch = SWITCH.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |switch: &mut Switch| switch.holders > 0 && !ours(switch);
        let mut switch = FREE.wait_while(switch, waits).unwrap_or_else(PoisonError::into_inner);
        if !ours(&switch) {
            libtorch::set_tf32(self.tf32)?;
            switch.set = Some(self.tf32);
        }
        switch.holders += 1;
        Ok(PrecisionGuard)
    }
}

struct Switch {
    set: Option<Tf32>,
    holders: usize,
}

static SWITCH: Mutex<Switch> = Mutex::new(Switch { set: None, holders: 0 });
static FREE: Condvar = Condvar::new();

/// The switch for TF32 stays as it is while this guard lives.
pub(super) struct PrecisionGuard;

impl Drop for PrecisionGuard {
    fn drop(&mut self) {
        SWITCH.lock().unwrap_or_else(PoisonError::into_inner).holders -= 1;
        FREE.notify_all();
    }
}
