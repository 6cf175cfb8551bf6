//! Box and Muller's transform of many pairs at a time, where the CPU has AVX-512: the numbers that `libm` gives, five times as
//! fast.
//!
//! Logarithm, sine and cosine are those of `libm` (FreeBSD's msun), operation by operation and each rounded by itself; branches are
//! selections. Only angles within a millionth of a multiple of π/2, which need more digits, go to `libm` itself. Deliberately
//! absent: fused multiply-adds, and approximations of our own.

/// Pairs that are computed at once: some vectors of eight, so that the compiler makes loops over vectors.
const LANES: usize = 64;

/// Two numbers of every four words.
pub(super) fn fill(words: &[[u32; 4]], out: &mut [[f32; 2]]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512dq") {
        // SAFETY: the CPU has the instruction sets that the function is compiled for.
        return unsafe { fill_avx512(words, out) };
    }
    fill_by_libm(words, out);
}

fn fill_by_libm(words: &[[u32; 4]], out: &mut [[f32; 2]]) {
    for (words, out) in words.iter().zip(out) {
        *out = pair(*words);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq")]
fn fill_avx512(words: &[[u32; 4]], out: &mut [[f32; 2]]) {
    let ((words, words_rest), (out, out_rest)) = (words.as_chunks::<LANES>(), out.as_chunks_mut::<LANES>());
    for (words, out) in words.iter().zip(out) {
        lanes(words, out);
    }
    fill_by_libm(words_rest, out_rest);
}

/// A number of 53 bits in [0, 1), of two words.
#[inline(always)]
fn unit(low: u32, high: u32) -> f64 {
    // 53 bits fit a signed number, which vectors convert faster.
    ((u64::from(low) | u64::from(high) << 32) >> 11) as i64 as f64 * (1.0 / 9_007_199_254_740_992.0)
}

/// A pair, by `libm`.
pub(super) fn pair(words: [u32; 4]) -> [f32; 2] {
    let radius = libm::sqrt(-2.0 * libm::log(1.0 - unit(words[0], words[1])));
    let (sin, cos) = libm::sincos(std::f64::consts::TAU * unit(words[2], words[3]));
    [(radius * cos) as f32, (radius * sin) as f32]
}

#[inline(always)]
fn lanes(words: &[[u32; 4]; LANES], out: &mut [[f32; 2]; LANES]) {
    let (mut x, mut angle) = ([0.0; LANES], [0.0; LANES]);
    for i in 0..LANES {
        x[i] = 1.0 - unit(words[i][0], words[i][1]);
        angle[i] = std::f64::consts::TAU * unit(words[i][2], words[i][3]);
    }
    let (mut radius, mut sin, mut cos, mut rare) = ([0.0; LANES], [0.0; LANES], [0.0; LANES], 0u64);
    for i in 0..LANES {
        radius[i] = (-2.0 * log(x[i])).sqrt();
    }
    for i in 0..LANES {
        (sin[i], cos[i]) = sincos(angle[i]);
        rare |= u64::from(near_a_quarter(angle[i]));
    }
    if rare != 0 {
        for i in 0..LANES {
            if near_a_quarter(angle[i]) {
                (sin[i], cos[i]) = libm::sincos(angle[i]);
            }
        }
    }
    for i in 0..LANES {
        out[i] = [(radius[i] * cos[i]) as f32, (radius[i] * sin[i]) as f32];
    }
}

/// The natural logarithm of a number from 2⁻⁵³ to 1: msun's e_log.c.
#[inline(always)]
fn log(x: f64) -> f64 {
    const LN2_HI: f64 = 6.931_471_803_691_238e-1;
    const LN2_LO: f64 = 1.908_214_929_270_587_7e-10;
    const LG: [f64; 7] = [
        6.666_666_666_666_735e-1,
        3.999_999_999_940_942e-1,
        2.857_142_874_366_239e-1,
        2.222_219_843_214_978_4e-1,
        1.818_357_216_161_805e-1,
        1.531_383_769_920_937_3e-1,
        1.479_819_860_511_658_6e-1,
    ];
    // To [√½, √2), times a power of two.
    let high = (x.to_bits() >> 32) + (0x3ff0_0000 - 0x3fe6_a09e);
    let k = ((high >> 20) as i64 - 0x3ff) as f64;
    let x = f64::from_bits((((high & 0x000f_ffff) + 0x3fe6_a09e) << 32) | (x.to_bits() & 0xffff_ffff));
    let f = x - 1.0;
    let half = 0.5 * f * f;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let t1 = w * (LG[1] + w * (LG[3] + w * LG[5]));
    let t2 = z * (LG[0] + w * (LG[2] + w * (LG[4] + w * LG[6])));
    let r = t2 + t1;
    s * (half + r) + k * LN2_LO - half + f + k * LN2_HI
}

#[inline(always)]
fn high_word(x: f64) -> u64 {
    x.to_bits() >> 32
}

/// Whether an angle is so near to π/2, π, 3π/2 or 2π that its remainder takes more digits.
#[inline(always)]
fn near_a_quarter(angle: f64) -> bool {
    let high = high_word(angle);
    (high == 0x3ff9_21fb) | (high == 0x4009_21fb) | (high == 0x4012_d97c) | (high == 0x4019_21fb)
}

/// Sine and cosine of an angle from 0 to 2π that is not near a quarter: msun's e_rem_pio2.c, k_sin.c and k_cos.c.
#[inline(always)]
fn sincos(angle: f64) -> (f64, f64) {
    const PIO2_1: f64 = 1.570_796_326_734_125_6;
    const PIO2_1T: f64 = 6.077_100_506_506_192e-11;
    const S: [f64; 6] = [
        -1.666_666_666_666_663_2e-1,
        8.333_333_333_322_49e-3,
        -1.984_126_982_985_795e-4,
        2.755_731_370_707_006_8e-6,
        -2.505_076_025_340_686_3e-8,
        1.589_690_995_211_55e-10,
    ];
    const C: [f64; 6] = [
        4.166_666_666_666_66e-2,
        -1.388_888_888_887_411e-3,
        2.480_158_728_947_673e-5,
        -2.755_731_435_139_066_3e-7,
        2.087_572_321_298_175e-9,
        -1.135_964_755_778_819_5e-11,
    ];
    let high = high_word(angle);
    let above = |limit: u64| if high > limit { 1.0 } else { 0.0 };
    let turns = above(0x3fe9_21fb) + above(0x4002_d97c) + above(0x400f_6a7a) + above(0x4015_fdbc);
    // Quarters of a turn are taken off in two parts; without any, nothing changes.
    let z = angle - turns * PIO2_1;
    let w = turns * PIO2_1T;
    let x = z - w;
    let y = (z - x) - w;
    let z = x * x;
    let w = z * z;
    let v = z * x;
    let r = S[1] + z * (S[2] + z * S[3]) + z * w * (S[4] + z * S[5]);
    let reduced = x - ((z * (0.5 * y - v * r) - y) - v * S[0]);
    let whole = x + v * (S[0] + z * r);
    let sin = if turns == 0.0 { whole } else { reduced };
    let r = z * (C[0] + z * (C[1] + z * C[2])) + w * w * (C[3] + z * (C[4] + z * C[5]));
    let half = 0.5 * z;
    let w = 1.0 - half;
    let cos = w + (((1.0 - w) - half) + (z * r - x * y));
    let odd = (turns == 1.0) | (turns == 3.0);
    let (a, b) = if odd { (cos, sin) } else { (sin, cos) };
    // (s, c), (c, −s), (−s, −c), (−c, s).
    let flip = |number: f64, flipped: bool| if flipped { -number } else { number };
    (flip(a, (turns == 2.0) | (turns == 3.0)), flip(b, (turns == 1.0) | (turns == 2.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    /// Random pairs, angles within 2⁻¹⁵ of every quarter and down to its last bit, and radii from 0 to the largest.
    #[test]
    fn pairs_in_bulk_are_libms() {
        let mut words = vec![[0; 4]; 200_003];
        Stream::new(9, &["pairs"], 0).fill_words(words.as_flattened_mut());
        for (place, words) in words.iter_mut().enumerate().skip(100_000) {
            let quarter = u64::from(words[3] % 4) << 62;
            let distance = (i64::from(words[2] as i32) << 16) >> (place % 48);
            let angle = quarter.wrapping_add_signed(distance);
            [words[2], words[3]] = [angle as u32, (angle >> 32) as u32];
            match place % 8 {
                0 => [words[0], words[1]] = [0, 0],
                1 => [words[0], words[1]] = [u32::MAX, u32::MAX],
                2 => words[1] = 0,
                _ => {}
            }
        }
        let (mut bulk, mut single) = (vec![[0.0; 2]; words.len()], vec![[1.0; 2]; words.len()]);
        fill(&words, &mut bulk);
        fill_by_libm(&words, &mut single);
        for ((words, bulk), single) in words.iter().zip(bulk).zip(single) {
            assert_eq!(bulk.map(f32::to_bits), single.map(f32::to_bits), "{words:x?}");
        }
    }
}
