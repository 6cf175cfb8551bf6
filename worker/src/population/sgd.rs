//! Stochastic gradient descent on flat parameters `[K, P]`: every member by itself, in row-wise operations.
//!
//! What a step needs beside tensors is uploaded once and nothing is read back, so that a GPU never waits. Semantics: core's
//! `Recipe`. Deliberately absent: gradients, which are `train`'s.

use crate::pinned;
use nadgrid_core::training::{CLIP_EPS, Recipe};
use tch::{Device, Kind, TchError, Tensor};

/// The optimiser's state.
pub(super) struct Sgd {
    clip: Option<Clip>,
    decay: Option<Tensor>,
    momentum: Option<Momentum>,
    /// `[K]`: the first step after which a member's loss or a weight was no finite number; 0 for none.
    bad_since: Tensor,
    /// `[1]`.
    zero: Tensor,
}

struct Clip {
    limit: Tensor,
    eps: Tensor,
    one: Tensor,
}

struct Momentum {
    factor: Tensor,
    /// `[K, P]`.
    velocity: Tensor,
}

/// The learning rates and the numbers of an epoch's steps, `[batches]`.
pub(super) struct Schedule {
    rates: Tensor,
    numbers: Tensor,
}

impl Schedule {
    pub(super) fn new(
        recipe: &Recipe,
        epoch: u32,
        batches: usize,
        kind: Kind,
        device: Device,
    ) -> Result<Self, TchError> {
        let rates: Vec<f64> = (0..batches).map(|batch| recipe.rate(epoch, batch, batches)).collect();
        let before = i64::from(epoch) * batches as i64;
        let numbers: Vec<i64> = (1..=batches as i64).map(|number| before + number).collect();
        Ok(Self {
            rates: pinned::moved(&Tensor::f_from_slice(&rates)?.f_to_kind(kind)?, device)?,
            numbers: pinned::moved(&Tensor::f_from_slice(&numbers)?, device)?,
        })
    }
}

impl Sgd {
    /// Makes the optimiser before the first step of these parameters.
    pub(super) fn new(recipe: &Recipe, parameters: &Tensor) -> Result<Self, TchError> {
        let kind = parameters.f_kind()?;
        let device = parameters.device();
        let number = |value: f64| Tensor::f_from_slice(&[value])?.f_to_kind(kind)?.f_to(device);
        let unless_zero = |value: f64| (value != 0.0).then(|| number(value)).transpose();
        let clip = match unless_zero(recipe.gradient_clip)? {
            Some(limit) => Some(Clip { limit, eps: number(CLIP_EPS)?, one: number(1.0)? }),
            None => None,
        };
        let momentum = match unless_zero(recipe.momentum)? {
            Some(factor) => Some(Momentum { factor, velocity: parameters.f_zeros_like()? }),
            None => None,
        };
        let members = parameters.size().first().copied().unwrap_or(0);
        let bad_since = Tensor::f_zeros([members], (Kind::Int64, device))?;
        Ok(Self { clip, decay: unless_zero(recipe.weight_decay)?, momentum, bad_since, zero: number(0.0)? })
    }

    /// Restores an optimiser of the same recipe.
    pub(super) fn restored(
        recipe: &Recipe,
        parameters: &Tensor,
        velocity: &[f32],
        bad_since: &[u64],
    ) -> Result<Self, TchError> {
        let mut sgd = Self::new(recipe, parameters)?;
        if let Some(momentum) = &mut sgd.momentum {
            let velocity = Tensor::f_from_slice(velocity)?.f_view_as(&momentum.velocity)?;
            momentum.velocity.f_copy_(&velocity)?;
        }
        let bad_since: Vec<i64> = bad_since.iter().map(|&step| step as i64).collect();
        sgd.bad_since = Tensor::f_from_slice(&bad_since)?.f_to(parameters.device())?;
        Ok(sgd)
    }

    /// Makes one step, from `losses` `[K]` and their `gradient` `[K, P]`. A member with a bad number stays as it was before it.
    pub(super) fn step(
        &mut self,
        parameters: &mut Tensor,
        losses: &Tensor,
        gradient: Tensor,
        schedule: &Schedule,
        batch: usize,
    ) -> Result<(), TchError> {
        let _no_grad = tch::no_grad_guard();
        let at_batch = |all: &Tensor| all.f_narrow(0, batch as i64, 1);
        let direction = self.direction(parameters, gradient)?;
        let good = self.bad_since.f_logical_not()?.f_logical_and(&losses.f_isfinite()?)?;
        let update = direction.f_mul(&at_batch(&schedule.rates)?)?;
        let update = update.f_where_self(&good.f_unsqueeze(1)?, &self.zero)?;
        let _ = parameters.f_sub_(&update)?;
        // The extremes of a row are no numbers if any of it is not.
        let (least, most) = parameters.f_aminmax(1, false)?;
        let finite = least.f_isfinite()?.f_logical_and(&most.f_isfinite()?)?;
        let as_it_was = good.f_logical_and(&finite)?.f_logical_or(&self.bad_since.f_to_kind(Kind::Bool)?)?;
        self.bad_since = self.bad_since.f_where_self(&as_it_was, &at_batch(&schedule.numbers)?)?;
        Ok(())
    }

    /// Returns the direction that the learning rate scales.
    fn direction(&mut self, parameters: &Tensor, mut gradient: Tensor) -> Result<Tensor, TchError> {
        if let Some(Clip { limit, eps, one }) = &self.clip {
            let norm = gradient.f_square()?.f_sum_dim_intlist([1].as_slice(), true, None)?.f_sqrt()?;
            gradient = gradient.f_mul_(&limit.f_div(&norm.f_add(eps)?)?.f_minimum(one)?)?;
        }
        if let Some(decay) = &self.decay {
            gradient = gradient.f_add_(&parameters.f_mul(decay)?)?;
        }
        if let Some(Momentum { factor, velocity }) = &mut self.momentum {
            let _ = velocity.f_mul_(factor)?.f_add_(&gradient)?;
            return Ok(velocity.shallow_clone());
        }
        Ok(gradient)
    }

    /// Returns the velocity `[K, P]`; `None` without momentum.
    pub(super) fn velocity(&self) -> Option<&Tensor> {
        self.momentum.as_ref().map(|momentum| &momentum.velocity)
    }

    /// Returns the first bad step of every member, 0 for none, as a tensor on the device.
    pub(super) fn bad_since(&self) -> &Tensor {
        &self.bad_since
    }
}
