//! Normal numbers from raw words, by Box and Muller's transform in f32.
//!
//! A block of 32 words gives 32 numbers: word i of the first 16 is the radius of the numbers i and 16 + i, word 16 + i
//! their angle. Loops over a block are plain Rust without branches, which the compiler turns into vectors of whatever the
//! instruction set has; only + − · / √, each rounded by itself, so that the bits do not depend on it.
//! Deliberately absent: fused multiply-adds, slow where a CPU lacks them, and any library's functions.

use crate::simd::LANES;
use std::f32::consts::{FRAC_PI_4, LN_2};

/// Words, and numbers, of a block.
pub(crate) const BLOCK: usize = 2 * LANES;

/// Normal numbers from as many words, in whole blocks.
#[inline(always)]
pub(crate) fn normals(words: &[u32], out: &mut [f32]) {
    for (words, out) in words.as_chunks::<BLOCK>().0.iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        for i in 0..LANES {
            let r = radius(words[i]);
            let (a, b) = point(words[LANES + i]);
            out[i] = r * a;
            out[LANES + i] = r * b;
        }
    }
}

/// √(−2 ln u) for u = (2j + 1)/2³¹ with the word's upper 30 bits j: from 0 (u near 1 rounds to it) to 6.56.
#[inline(always)]
fn radius(word: u32) -> f32 {
    // u = 2^(e − 31) · m with m from √½ to √2, as u may be just below 1: the offset moves the exponent's step there.
    const STEP: u32 = 0x3f80_0000 - SQRT_HALF;
    const SQRT_HALF: u32 = 0x3f35_04f3;
    let bits = (((word >> 1) | 1) as i32 as f32).to_bits() + STEP;
    let halvings = (127 + 31) - (bits >> 23) as i32;
    let m = f32::from_bits((bits & 0x007f_ffff) + SQRT_HALF);
    // ln m = 2(s + s³/3 + s⁵/5 + …), |s| ≤ 0.172: what is left out is below 3e-9 of it.
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let series = 1.0 + z * (1.0 / 3.0 + z * (1.0 / 5.0 + z * (1.0 / 7.0 + z * (1.0 / 9.0))));
    (halvings as f32 * (2.0 * LN_2) - 4.0 * s * series).sqrt()
}

/// A point of the unit circle, all equally likely: the word's lower 30 bits choose one of the quarter around (1, 0), its upper
/// two reflect it onto the other quarters.
#[inline(always)]
fn point(word: u32) -> (f32, f32) {
    let x = (word << 2) as i32 as f32 * (FRAC_PI_4 / 2_147_483_648.0);
    let z = x * x;
    // Taylor's series for |x| ≤ π/4: what is left out is below 3e-8.
    let cos = 1.0 + z * (-1.0 / 2.0 + z * (1.0 / 24.0 + z * (-1.0 / 720.0 + z * (1.0 / 40_320.0))));
    let sin = x * (1.0 + z * (-1.0 / 6.0 + z * (1.0 / 120.0 + z * (-1.0 / 5_040.0 + z * (1.0 / 362_880.0)))));
    let (a, b) = if word & (1 << 30) == 0 { (cos, sin) } else { (sin, cos) };
    let sign = word & (1 << 31);
    (f32::from_bits(a.to_bits() ^ sign), f32::from_bits(b.to_bits() ^ sign))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nadgrid_core::random::Stream;

    /// Random words, and words at the ends of every range.
    fn words() -> Vec<u32> {
        let mut words = vec![0; 200_000];
        Stream::new(5, &["words"], 0).fill_words(&mut words);
        let ends = (0..32).flat_map(|bit| [1u32 << bit, (1 << bit) - 1, u32::MAX << bit]);
        words.extend(ends.chain([0xb504_f334 - 1, 0xb504_f334, 0xb504_f334 + 1]));
        words
    }

    /// Against `libm` in f64, of the same words.
    #[test]
    fn radii_are_the_logarithms_to_seven_digits() {
        for word in words() {
            let u = f64::from((word >> 1) | 1) / 2f64.powi(31);
            let found = f64::from(radius(word));
            let expected = libm::sqrt(-2.0 * libm::log(u));
            // u itself is rounded to f32 first, which moves its logarithm by at most 2⁻²⁵ near 1 and by 2⁻²⁴ elsewhere.
            let tolerance = 2e-7 * expected + 3.5e-4f64.min(2f64.powi(-24) / expected);
            assert!((found - expected).abs() <= tolerance, "{word:#x}: {found}, expected {expected}");
        }
        assert_eq!(radius(u32::MAX), 0.0);
        assert!((radius(0) - 6.555_6).abs() < 1e-4);
    }

    #[test]
    fn points_lie_on_the_circle_at_their_words_angle() {
        for word in words() {
            let x = f64::from((word << 2) as i32) / 2f64.powi(31) * std::f64::consts::FRAC_PI_4;
            let sign = if word >> 31 == 0 { 1.0 } else { -1.0 };
            let (sin, cos) = libm::sincos(x);
            let (a, b) = if (word >> 30) & 1 == 0 { (cos, sin) } else { (sin, cos) };
            let found = point(word);
            let error = (f64::from(found.0) - sign * a).abs().max((f64::from(found.1) - sign * b).abs());
            assert!(error < 1.5e-7, "{word:#x}: {found:?}, {error}");
        }
    }
}
