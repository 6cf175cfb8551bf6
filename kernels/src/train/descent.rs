//! One step of stochastic gradient descent, as PyTorch's SGD defines it.

use crate::simd::{Kernel, LANES, Simd};

/// ‖gradient‖₂, in f64: sixteen chains of exact squares, number i in chain i mod 16, then the chains in order.
pub(super) fn norm(gradient: &[f32]) -> f64 {
    let mut chains = [0.0f64; LANES];
    for numbers in gradient.chunks(LANES) {
        for (chain, &number) in chains.iter_mut().zip(numbers) {
            // The square of an f32 is exact in f64: fused or not makes no difference.
            *chain += f64::from(number) * f64::from(number);
        }
    }
    libm::sqrt(chains.iter().sum())
}

/// g ← g·clip + decay·w, v ← momentum·v + g, w ← w − rate·v. Returns whether all weights are finite.
pub(super) struct Descend<'a> {
    pub(super) clip: f32,
    pub(super) decay: f32,
    pub(super) momentum: f32,
    pub(super) rate: f32,
    pub(super) gradient: &'a [f32],
    pub(super) velocity: &'a mut [f32],
    pub(super) parameters: &'a mut [f32],
}

impl Kernel for Descend<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> bool {
        let clip = s.splat(self.clip);
        let decay = s.splat(self.decay);
        let momentum = s.splat(self.momentum);
        let rate = s.splat(-self.rate);
        let mut poison = s.splat(0.0);
        let (weights, rest) = self.parameters.as_chunks_mut::<LANES>();
        let (velocities, velocity_rest) = self.velocity.as_chunks_mut::<LANES>();
        let (gradients, gradient_rest) = self.gradient.as_chunks::<LANES>();
        for ((weight, velocity), gradient) in weights.iter_mut().zip(velocities).zip(gradients) {
            let old = s.load(weight);
            let gradient = s.mul_add(old, decay, s.mul(s.load(gradient), clip));
            let speed = s.mul_add(momentum, s.load(velocity), gradient);
            let new = s.mul_add(rate, speed, old);
            // Zero times what is not finite is no number.
            poison = s.mul_add(new, s.splat(0.0), poison);
            s.store(speed, velocity);
            s.store(new, weight);
        }
        for ((weight, velocity), gradient) in rest.iter_mut().zip(velocity_rest).zip(gradient_rest) {
            let gradient = weight.mul_add(self.decay, gradient * self.clip);
            *velocity = self.momentum.mul_add(*velocity, gradient);
            *weight = (-self.rate).mul_add(*velocity, *weight);
        }
        s.sum(poison) == 0.0 && rest.iter().all(|weight| weight.is_finite())
    }
}
