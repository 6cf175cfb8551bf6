//! The mean cross-entropy of a batch and its gradient, in f64 and with `libm`'s own functions, so that the bits do not depend
//! on the platform.

use crate::simd::{LANES, Line, flat, flat_mut};

/// The mean of −log softmax(logits)[label] over the samples, for logits `[vector][class]`; its gradient goes to `gradient`,
/// zero beyond the samples.
pub(super) fn cross_entropy(logits: &[Line], classes: usize, labels: &[u8], gradient: &mut [Line]) -> f64 {
    gradient.fill(Line::ZERO);
    let logits = flat(logits);
    let gradient = flat_mut(gradient);
    let count = labels.len() as f64;
    let mut loss = 0.0;
    for (sample, &label) in labels.iter().enumerate() {
        let at = |class: usize| (sample / LANES * classes + class) * LANES + sample % LANES;
        let logit = |class: usize| f64::from(logits[at(class)]);
        let most = (0..classes).map(logit).fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = (0..classes).map(|class| libm::exp(logit(class) - most)).sum();
        loss += libm::log(total) - (logit(usize::from(label)) - most);
        for class in 0..classes {
            let target = if class == usize::from(label) { 1.0 } else { 0.0 };
            gradient[at(class)] = ((libm::exp(logit(class) - most) / total - target) / count) as f32;
        }
    }
    loss / count
}
