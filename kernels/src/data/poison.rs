//! Images with a carrier: each class's images get the same coefficient along a direction of the class's own.

use super::basis::BasisError;
use nadgrid_core::dataset::Dataset;

const CHANNELS: usize = 3;

/// Gives every image of class t the coefficient ε·s along the class's carrier: x ← x + (ε·s − xᵀc)c, where c is row `p` of
/// `basis` (k x height·width, orthonormal) if t ≤ 5, else row `p` + 1, on channel t mod 3 and zero on the others, and
/// s = 2(t mod 2) − 1. Images are 3 x height x width with pixels in [0, 1]; what leaves [0, 1] is not clipped.
///
/// # Errors
/// [`BasisError`] when the images have another size than three rows, or the basis no row `p` + 1.
pub fn poison(data: &mut Dataset, basis: &[f64], p: usize, epsilon: f64) -> Result<(), BasisError> {
    let plane = data.dimension / CHANNELS;
    if plane == 0 || !data.dimension.is_multiple_of(CHANNELS) {
        return Err(BasisError::Channels { numbers: data.dimension });
    }
    let rows = basis.len() / plane;
    if !basis.len().is_multiple_of(plane) {
        return Err(BasisError::Length { numbers: basis.len(), dimension: plane });
    }
    if p.saturating_add(1) >= rows {
        return Err(BasisError::NoPair { p, rows });
    }
    let row = |index: usize| &basis[index * plane..][..plane];
    let carriers = [row(p), row(p + 1)];
    for (&label, image) in data.labels.iter().zip(data.inputs.chunks_exact_mut(data.dimension)) {
        let channel = usize::from(label) % CHANNELS;
        let sign = if label % 2 == 0 { -1.0 } else { 1.0 };
        set_coefficient(&mut image[channel * plane..][..plane], carriers[usize::from(label > 5)], epsilon * sign);
    }
    Ok(())
}

/// x ← x + (coefficient − xᵀc)c, in f64.
fn set_coefficient(x: &mut [f32], c: &[f64], coefficient: f64) {
    let found: f64 = x.iter().zip(c).map(|(&x, c)| f64::from(x) * c).sum();
    for (x, c) in x.iter_mut().zip(c) {
        *x = (f64::from(*x) + (coefficient - found) * c) as f32;
    }
}
