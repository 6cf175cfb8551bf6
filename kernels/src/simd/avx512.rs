//! AVX-512: a vector is one register, thirty-two of them.

use super::{Kernel, LANES, Simd};
use std::arch::x86_64::*;

/// Proof that AVX-512 is there: only [`Avx512::detect`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx512(());

impl Avx512 {
    pub(crate) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2");
        found.then_some(Self(()))
    }

    #[target_feature(enable = "avx512f,avx2,fma,bmi1,bmi2")]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
}

// SAFETY of every block below: the token exists, so the CPU has AVX-512F, AVX2 and FMA; pointers come from
// references to arrays of a vector's size, and the instructions for unaligned addresses are used.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Avx512 {
    type F32 = __m512;
    type F64 = __m512d;
    const SPECIALISED: bool = true;
    const PANEL: usize = 4;
    const SPARSE_PANEL: usize = 6;

    #[inline(always)]
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        unsafe { self.call(kernel) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    fn load(self, line: &[f32; LANES]) -> __m512 {
        unsafe { _mm512_loadu_ps(line.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, value: __m512, line: &mut [f32; LANES]) {
        unsafe { _mm512_storeu_ps(line.as_mut_ptr(), value) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn select_greater(self, a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), y, x) }
    }

    #[inline(always)]
    fn nonzero(self, a: __m512) -> u16 {
        unsafe { _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(a, _mm512_setzero_ps()) }
    }

    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        unsafe {
            let upper = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(a)));
            super::avx2::sum_of_eight(_mm256_add_ps(_mm512_castps512_ps256(a), upper))
        }
    }

    /// Four rounds: pairs of lanes, pairs of pairs, then quarters by two rounds of shuffles.
    #[inline(always)]
    fn transpose(self, block: &mut [__m512; LANES]) {
        unsafe {
            let r = *block;
            let mut t = r;
            for i in 0..8 {
                t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
            }
            let mut u = t;
            for i in 0..4 {
                let pd = |k: usize| _mm512_castps_pd(t[4 * i + k]);
                u[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(pd(0), pd(2)));
                u[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(pd(0), pd(2)));
                u[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(pd(1), pd(3)));
                u[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(pd(1), pd(3)));
            }
            // u[4i + k] holds, in quarter q, column 4q + k of rows 4i .. 4i + 4.
            for k in 0..4 {
                let low = _mm512_shuffle_f32x4::<0b10_00_10_00>(u[k], u[4 + k]);
                let high = _mm512_shuffle_f32x4::<0b10_00_10_00>(u[8 + k], u[12 + k]);
                let low_odd = _mm512_shuffle_f32x4::<0b11_01_11_01>(u[k], u[4 + k]);
                let high_odd = _mm512_shuffle_f32x4::<0b11_01_11_01>(u[8 + k], u[12 + k]);
                block[k] = _mm512_shuffle_f32x4::<0b10_00_10_00>(low, high);
                block[8 + k] = _mm512_shuffle_f32x4::<0b11_01_11_01>(low, high);
                block[4 + k] = _mm512_shuffle_f32x4::<0b10_00_10_00>(low_odd, high_odd);
                block[12 + k] = _mm512_shuffle_f32x4::<0b11_01_11_01>(low_odd, high_odd);
            }
        }
    }

    #[inline(always)]
    fn splat64(self, value: f64) -> __m512d {
        unsafe { _mm512_set1_pd(value) }
    }

    #[inline(always)]
    fn load64(self, values: &[f64; 8]) -> __m512d {
        unsafe { _mm512_loadu_pd(values.as_ptr()) }
    }

    #[inline(always)]
    fn store64(self, value: __m512d, to: &mut [f64; 8]) {
        unsafe { _mm512_storeu_pd(to.as_mut_ptr(), value) }
    }

    #[inline(always)]
    fn mul_add64(self, a: __m512d, b: __m512d, c: __m512d) -> __m512d {
        unsafe { _mm512_fmadd_pd(a, b, c) }
    }
}
