//! Unit directions in the space of inputs, along which data are separable or margins are measured.
//!
//! A direction is D = channels x height x width numbers, of norm 1 in f64 and then rounded to f32. Cosines and sines are
//! `libm`'s, so that the bits do not depend on the platform. Deliberately absent: files of directions; whoever reads one
//! hands its rows to [`normalised`]. Source of the grid: SCIENCE.md section 2.

use crate::architecture::Shape;
use crate::random::Stream;
use thiserror::Error;

/// A direction that there is not.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum DirectionError {
    /// A row of another length than the inputs.
    #[error("the direction has {actual} numbers, expected {expected}, as many as an input")]
    Length {
        /// The length of an input.
        expected: usize,
        /// The length of the row.
        actual: usize,
    },
    /// A number that is not finite.
    #[error("element {element} of the direction is {value}, expected a finite number")]
    NotFinite {
        /// Its place, counted from 0.
        element: usize,
        /// The number.
        value: f64,
    },
    /// A row of zeros, which points nowhere.
    #[error("the direction's norm is 0, expected at least one number that is not 0")]
    Zero,
    /// The sine of a frequency that is its own conjugate is zero everywhere.
    #[error("the sine ({k1}, {k2}) is zero on every pixel of {shape}; the cosine of that frequency is not")]
    ZeroSine {
        /// Periods over the rows.
        k1: i64,
        /// Periods over the columns.
        k2: i64,
        /// The input.
        shape: Shape,
    },
    /// No such pixel.
    #[error("pixel {index} is outside of {shape}, expected 0 to {}", shape.len() - 1)]
    Pixel {
        /// The index that was asked for.
        index: usize,
        /// The input.
        shape: Shape,
    },
}

/// v[n₁, n₂] ∝ cos(2π(k₁n₁/height + k₂n₂/width)), n₁ the row and n₂ the column, the same on every channel.
pub fn dft_cosine(shape: Shape, k1: i64, k2: i64) -> Vec<f32> {
    unit(&wave(shape, k1, k2, libm::cos))
}

/// The same with the sine.
///
/// # Errors
/// [`DirectionError::ZeroSine`] when 2·k₁ is a multiple of the height and 2·k₂ of the width.
pub fn dft_sine(shape: Shape, k1: i64, k2: i64) -> Result<Vec<f32>, DirectionError> {
    let conjugate = |k: i64, n: usize| (2 * modulo(k, n)).is_multiple_of(n);
    if conjugate(k1, shape.height) && conjugate(k2, shape.width) {
        return Err(DirectionError::ZeroSine { k1, k2, shape });
    }
    Ok(unit(&wave(shape, k1, k2, libm::sin)))
}

/// One pixel: 1 at its index into the flattened input (channel, row, column).
///
/// # Errors
/// [`DirectionError::Pixel`] when the input has no such pixel.
pub fn pixel(shape: Shape, index: usize) -> Result<Vec<f32>, DirectionError> {
    let mut v = vec![0.0; shape.len()];
    *v.get_mut(index).ok_or(DirectionError::Pixel { index, shape })? = 1.0;
    Ok(v)
}

/// A direction of which all are equally likely.
pub fn random(shape: Shape, mut stream: Stream) -> Vec<f32> {
    let mut normal = vec![0.0; shape.len()];
    stream.fill_normal(&mut normal);
    unit(&normal.into_iter().map(f64::from).collect::<Vec<_>>())
}

/// A row of a basis, scaled to norm 1; `dimension` is the inputs' D.
///
/// # Errors
/// [`DirectionError`] when the row is of another length, holds a number that is not finite, or only zeros.
pub fn normalised<T: Copy + Into<f64>>(row: &[T], dimension: usize) -> Result<Vec<f32>, DirectionError> {
    if row.len() != dimension {
        return Err(DirectionError::Length { expected: dimension, actual: row.len() });
    }
    let row: Vec<f64> = row.iter().map(|&x| x.into()).collect();
    if let Some(element) = row.iter().position(|x| !x.is_finite()) {
        return Err(DirectionError::NotFinite { element, value: row[element] });
    }
    let largest = row.iter().fold(0.0f64, |a, x| a.max(x.abs()));
    if largest == 0.0 {
        return Err(DirectionError::Zero);
    }
    // By the largest first: squares neither overflow nor vanish.
    Ok(unit(&row.iter().map(|x| x / largest).collect::<Vec<_>>()))
}

/// The 144 independent frequencies (k₁, k₂) of the published 16 x 16 grid on 32 x 32 pixels, the cell (x, y) at index 16x + y:
/// k₁ = 2(x − 8) for x = 0 … 8, k₂ = 2(y − 8) for y = 0 … 15. Rows 9 … 15 of the published grid are copies of rows 7 … 1.
pub fn published_grid() -> impl Iterator<Item = (i64, i64)> {
    (0..=8).flat_map(|x| (0..16).map(move |y| (2 * (x - 8), 2 * (y - 8))))
}

/// Rows of directions on one channel (k x height·width), each on every channel in turn and zero on the others: k·channels rows
/// of D = channels·height·width, row i on channel c at i·channels + c.
///
/// # Panics
/// When `rows` are not whole rows of `plane` = height·width numbers.
pub fn on_each_channel(rows: &[f64], plane: usize, channels: usize) -> Vec<f64> {
    assert!(rows.len().is_multiple_of(plane), "{} numbers are no whole rows of {plane}", rows.len());
    let mut out = vec![0.0; rows.len() * channels * channels];
    for (place, to) in out.chunks_exact_mut(channels * plane).enumerate() {
        let (row, channel) = (place / channels, place % channels);
        to[channel * plane..][..plane].copy_from_slice(&rows[row * plane..][..plane]);
    }
    out
}

/// A wave over rows and columns, the phase reduced in integers.
fn wave(shape: Shape, k1: i64, k2: i64, form: fn(f64) -> f64) -> Vec<f64> {
    let Shape { channels, height, width } = shape;
    let (k1, k2) = (modulo(k1, height), modulo(k2, width));
    let value = |row: usize, column: usize| {
        let turns = (k1 * row % height * width + k2 * column % width * height) % (height * width);
        form(std::f64::consts::TAU * turns as f64 / (height * width) as f64)
    };
    let plane: Vec<f64> = (0..height).flat_map(|row| (0..width).map(move |column| value(row, column))).collect();
    plane.repeat(channels)
}

/// k modulo n, from 0 to n − 1.
fn modulo(k: i64, n: usize) -> usize {
    k.rem_euclid(n as i64) as usize
}

/// A vector divided by its norm.
fn unit(v: &[f64]) -> Vec<f32> {
    let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
    v.iter().map(|x| (x / norm) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { channels: 1, height: 32, width: 32 };
    const COLOUR: Shape = Shape { channels: 3, height: 4, width: 6 };

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    }

    #[test]
    fn waves_are_cosines_and_sines_of_norm_1() {
        for (k1, k2) in [(0, 0), (2, 0), (-16, 14), (3, -5)] {
            let v = dft_cosine(SHAPE, k1, k2);
            assert!((dot(&v, &v) - 1.0).abs() < 1e-6, "({k1}, {k2})");
            for (row, column) in [(0, 0), (1, 0), (0, 1), (7, 29)] {
                let angle = std::f64::consts::TAU * (k1 * row + k2 * column) as f64 / 32.0;
                let ratio = f64::from(v[(row * 32 + column) as usize] / v[0]);
                assert!((ratio - angle.cos()).abs() < 1e-6, "({k1}, {k2}) at ({row}, {column})");
            }
        }
        let sine = dft_sine(SHAPE, 3, -5).unwrap();
        assert!((dot(&sine, &sine) - 1.0).abs() < 1e-6);
        assert!(dot(&sine, &dft_cosine(SHAPE, 3, -5)).abs() < 1e-6);
        assert!(sine[1] < 0.0 && sine[32] > 0.0, "rows are k1, columns are k2");
    }

    #[test]
    fn height_and_width_may_differ_and_channels_repeat() {
        let v = dft_cosine(COLOUR, 1, 2);
        assert!((dot(&v, &v) - 1.0).abs() < 1e-6);
        assert_eq!(v[..24], v[24..48]);
        assert_eq!(v[..24], v[48..]);
        let expected = (std::f64::consts::TAU * (1.0 / 4.0 + 2.0 * 3.0 / 6.0)).cos();
        assert!((f64::from(v[6 + 3] / v[0]) - expected).abs() < 1e-6);
        assert_eq!(dft_cosine(COLOUR, 1 - 4, 2 + 6), v, "frequencies are modulo height and width");
        assert_eq!(dft_cosine(COLOUR, i64::MAX, i64::MIN).len(), 72);
    }

    #[test]
    fn a_sine_that_is_zero_is_refused() {
        for (k1, k2) in [(0, 0), (16, 0), (0, -16), (-16, 16), (32, 48)] {
            assert_eq!(dft_sine(SHAPE, k1, k2), Err(DirectionError::ZeroSine { k1, k2, shape: SHAPE }));
            assert!(dft_cosine(SHAPE, k1, k2).iter().all(|x| (x.abs() - 1.0 / 32.0).abs() < 1e-7));
        }
        let said = dft_sine(SHAPE, 16, 0).unwrap_err().to_string();
        assert_eq!(said, "the sine (16, 0) is zero on every pixel of 1 x 32 x 32; the cosine of that frequency is not");
    }

    #[test]
    fn pixels_and_random_directions_have_norm_1() {
        let v = pixel(COLOUR, 71).unwrap();
        assert_eq!((v[71], v.iter().sum::<f32>()), (1.0, 1.0));
        let said = pixel(COLOUR, 72).unwrap_err().to_string();
        assert_eq!(said, "pixel 72 is outside of 3 x 4 x 6, expected 0 to 71");
        let draw = |index| random(SHAPE, Stream::new(1, &["direction"], index));
        assert!((dot(&draw(0), &draw(0)) - 1.0).abs() < 1e-6);
        assert_eq!(draw(0), draw(0));
        // The product of two has variance 1/D.
        assert!(dot(&draw(0), &draw(1)).abs() < 5.0 / 32.0);
    }

    #[test]
    fn rows_are_normalised_and_wrong_ones_named() {
        assert_eq!(normalised(&[3.0f32, 0.0, -4.0], 3).unwrap(), [0.6, 0.0, -0.8]);
        assert_eq!(normalised(&[3e-200, -4e-200], 2).unwrap(), [0.6, -0.8]);
        assert_eq!(normalised(&[3e200, -4e200], 2).unwrap(), [0.6, -0.8]);
        let said = |row: &[f64]| normalised(row, 3).unwrap_err().to_string();
        assert_eq!(said(&[1.0, 2.0]), "the direction has 2 numbers, expected 3, as many as an input");
        assert_eq!(said(&[1.0, f64::INFINITY, 0.0]), "element 1 of the direction is inf, expected a finite number");
        assert_eq!(said(&[0.0; 3]), "the direction's norm is 0, expected at least one number that is not 0");
    }

    #[test]
    fn the_published_grid_has_dc_and_nyquist_where_the_paper_has_them() {
        let grid: Vec<_> = published_grid().collect();
        assert_eq!(grid.len(), 144);
        assert_eq!((grid[8 * 16 + 8], grid[0], grid[16 + 15]), ((0, 0), (-16, -16), (-14, 14)));
    }

    #[test]
    fn rows_go_on_each_channel() {
        let rows = on_each_channel(&[1.0, 2.0, 3.0, 4.0], 2, 2);
        let expected = [[1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 1.0, 2.0], [3.0, 4.0, 0.0, 0.0], [0.0, 0.0, 3.0, 4.0]];
        assert_eq!(rows, expected.concat());
    }
}
