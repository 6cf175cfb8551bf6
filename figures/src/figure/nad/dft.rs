//! Magnitude of the 2-D discrete Fourier transform, zero frequency in the centre.
//!
//! The scalar FFT is used on purpose: vectorised ones round differently from one processor to the next, and a picture
//! should not. Absent: phases, windows and any scaling by the size.

use ndarray::{Array2, ArrayView2, ArrayView3, Axis};
use rustfft::{FftPlannerScalar, num_complex::Complex};

/// √Σ_c |F_c|² over channels c of a (channels, height, width) array; frequency (0, 0) lands at (⌊h/2⌋, ⌊w/2⌋).
pub(super) fn magnitude(channels: ArrayView3<'_, f64>) -> Array2<f64> {
    let (_, height, width) = channels.dim();
    let mut energy = Array2::zeros((height, width));
    for channel in channels.axis_iter(Axis(0)) {
        for ((row, column), value) in transform(channel).indexed_iter() {
            energy[[(row + height / 2) % height, (column + width / 2) % width]] += value.norm_sqr();
        }
    }
    energy.mapv_into(f64::sqrt)
}

fn transform(values: ArrayView2<'_, f64>) -> Array2<Complex<f64>> {
    let along_rows = transform_rows(values.map(|&value| Complex::from(value)));
    let along_columns = transform_rows(along_rows.reversed_axes().as_standard_layout().into_owned());
    along_columns.reversed_axes()
}

/// Transforms every row of an array in standard layout.
fn transform_rows(mut values: Array2<Complex<f64>>) -> Array2<Complex<f64>> {
    let fft = FftPlannerScalar::new().plan_fft_forward(values.ncols());
    let mut row = vec![Complex::default(); values.ncols()];
    for mut slot in values.rows_mut() {
        row.iter_mut().zip(&slot).for_each(|(to, from)| *to = *from);
        fft.process(&mut row);
        slot.iter_mut().zip(&row).for_each(|(to, from)| *to = *from);
    }
    values
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use ndarray::Array3;

    use super::*;

    #[test]
    fn a_constant_is_all_in_the_centre() {
        let magnitude = magnitude(Array3::from_elem((1, 4, 6), 0.5).view());
        assert_eq!(magnitude[[2, 3]], 12.0);
        assert!((magnitude.sum() - 12.0).abs() < 1e-12);
    }

    #[test]
    fn a_cosine_is_two_points_beside_the_centre() {
        let wave =
            Array3::from_shape_fn((1, 8, 8), |(_, row, column)| (TAU * (row as f64 + 2.0 * column as f64) / 8.0).cos());
        let magnitude = magnitude(wave.view());
        assert!((magnitude[[5, 6]] - 32.0).abs() < 1e-12);
        assert!((magnitude[[3, 2]] - 32.0).abs() < 1e-12);
        assert!((magnitude.sum() - 64.0).abs() < 1e-10);
    }

    #[test]
    fn channels_add_their_energy_and_odd_sizes_keep_the_centre() {
        let magnitude = magnitude(Array3::from_elem((4, 3, 5), 1.0).view());
        assert!((magnitude[[1, 2]] - 30.0).abs() < 1e-12);
    }
}
