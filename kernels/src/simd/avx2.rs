//! AVX2 with FMA: a vector is two registers, sixteen of them.

use super::{Kernel, LANES, Simd};
use std::arch::x86_64::*;

/// Proof that AVX2 and FMA are there: only [`Avx2::detect`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(crate) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2");
        found.then_some(Self(()))
    }

    #[target_feature(enable = "avx2,fma,bmi1,bmi2")]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
}

/// The sum of eight lanes by halves.
///
/// # Safety
/// The CPU must have AVX.
#[inline(always)]
pub(super) unsafe fn sum_of_eight(a: __m256) -> f32 {
    // SAFETY: the caller vouches for AVX.
    unsafe {
        let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }
}

/// An 8 x 8 transpose.
///
/// # Safety
/// The CPU must have AVX.
#[inline(always)]
unsafe fn transpose_eight(r: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: the caller vouches for AVX.
    unsafe {
        let mut t = r;
        for i in 0..4 {
            t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
            t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
        }
        let mut u = t;
        for i in 0..2 {
            u[4 * i] = _mm256_shuffle_ps::<0b01_00_01_00>(t[4 * i], t[4 * i + 2]);
            u[4 * i + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(t[4 * i], t[4 * i + 2]);
            u[4 * i + 2] = _mm256_shuffle_ps::<0b01_00_01_00>(t[4 * i + 1], t[4 * i + 3]);
            u[4 * i + 3] = _mm256_shuffle_ps::<0b11_10_11_10>(t[4 * i + 1], t[4 * i + 3]);
        }
        let mut out = u;
        for k in 0..4 {
            out[k] = _mm256_permute2f128_ps::<0x20>(u[k], u[4 + k]);
            out[4 + k] = _mm256_permute2f128_ps::<0x31>(u[k], u[4 + k]);
        }
        out
    }
}

// SAFETY of every block below: the token exists, so the CPU has AVX2 and FMA; pointers come from references
// to arrays of a vector's size, and the instructions for unaligned addresses are used.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Avx2 {
    type F32 = [__m256; 2];
    type F64 = [__m256d; 2];
    const SPECIALISED: bool = true;
    const PANEL: usize = 1;
    const SPARSE_PANEL: usize = 3;

    #[inline(always)]
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        unsafe { self.call(kernel) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F32 {
        unsafe { [_mm256_set1_ps(value); 2] }
    }

    #[inline(always)]
    fn load(self, line: &[f32; LANES]) -> Self::F32 {
        unsafe { [_mm256_loadu_ps(line.as_ptr()), _mm256_loadu_ps(line.as_ptr().add(8))] }
    }

    #[inline(always)]
    fn store(self, value: Self::F32, line: &mut [f32; LANES]) {
        unsafe {
            _mm256_storeu_ps(line.as_mut_ptr(), value[0]);
            _mm256_storeu_ps(line.as_mut_ptr().add(8), value[1]);
        }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }

    #[inline(always)]
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn select_greater(self, a: Self::F32, b: Self::F32, x: Self::F32, y: Self::F32) -> Self::F32 {
        unsafe {
            let greater = [_mm256_cmp_ps::<_CMP_GT_OQ>(a[0], b[0]), _mm256_cmp_ps::<_CMP_GT_OQ>(a[1], b[1])];
            [_mm256_blendv_ps(y[0], x[0], greater[0]), _mm256_blendv_ps(y[1], x[1], greater[1])]
        }
    }

    #[inline(always)]
    fn nonzero(self, a: Self::F32) -> u16 {
        unsafe {
            let mask = |half| _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_NEQ_UQ>(half, _mm256_setzero_ps()));
            (mask(a[0]) | (mask(a[1]) << 8)) as u16
        }
    }

    #[inline(always)]
    fn sum(self, a: Self::F32) -> f32 {
        unsafe { sum_of_eight(_mm256_add_ps(a[0], a[1])) }
    }

    #[inline(always)]
    fn transpose(self, block: &mut [Self::F32; LANES]) {
        let r = *block;
        for (row, column) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let quarter = std::array::from_fn(|i| r[8 * row + i][column]);
            let turned = unsafe { transpose_eight(quarter) };
            for i in 0..8 {
                block[8 * column + i][row] = turned[i];
            }
        }
    }

    #[inline(always)]
    fn splat64(self, value: f64) -> Self::F64 {
        unsafe { [_mm256_set1_pd(value); 2] }
    }

    #[inline(always)]
    fn load64(self, values: &[f64; 8]) -> Self::F64 {
        unsafe { [_mm256_loadu_pd(values.as_ptr()), _mm256_loadu_pd(values.as_ptr().add(4))] }
    }

    #[inline(always)]
    fn store64(self, value: Self::F64, to: &mut [f64; 8]) {
        unsafe {
            _mm256_storeu_pd(to.as_mut_ptr(), value[0]);
            _mm256_storeu_pd(to.as_mut_ptr().add(4), value[1]);
        }
    }

    #[inline(always)]
    fn mul_add64(self, a: Self::F64, b: Self::F64, c: Self::F64) -> Self::F64 {
        unsafe { [_mm256_fmadd_pd(a[0], b[0], c[0]), _mm256_fmadd_pd(a[1], b[1], c[1])] }
    }
}
