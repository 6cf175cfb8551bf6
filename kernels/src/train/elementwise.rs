//! Layers that treat every number by itself.

use crate::simd::{Kernel, Line, Simd};

/// Computes max(x, 0) in place.
pub(super) struct Rectify<'a>(pub(super) &'a mut [Line]);

impl Kernel for Rectify<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for line in self.0 {
            let value = s.relu(s.load(&line.0));
            s.store(value, &mut line.0);
        }
    }
}

/// Makes zero, in place, the gradients of numbers that a ReLU let out as zero.
pub(super) struct ReluGate<'a> {
    /// The output of the ReLU.
    pub(super) output: &'a [Line],
    pub(super) gradient: &'a mut [Line],
}

impl Kernel for ReluGate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let zero = s.splat(0.0);
        for (output, gradient) in self.output.iter().zip(self.gradient) {
            let open = s.select_greater(s.load(&output.0), zero, s.load(&gradient.0), zero);
            s.store(open, &mut gradient.0);
        }
    }
}

/// Multiplies by a mask in place.
pub(super) struct Scale<'a> {
    pub(super) mask: &'a [Line],
    pub(super) numbers: &'a mut [Line],
}

impl Kernel for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (mask, line) in self.mask.iter().zip(self.numbers) {
            let value = s.mul(s.load(&mask.0), s.load(&line.0));
            s.store(value, &mut line.0);
        }
    }
}

/// The kernel that adds terms to sums in place.
pub(super) struct Add<'a> {
    pub(super) terms: &'a [Line],
    pub(super) sums: &'a mut [Line],
}

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (term, line) in self.terms.iter().zip(self.sums) {
            let value = s.add(s.load(&line.0), s.load(&term.0));
            s.store(value, &mut line.0);
        }
    }
}
