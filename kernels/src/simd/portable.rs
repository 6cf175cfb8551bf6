//! Plain Rust: the definition of every operation, and what CPUs without AVX2 run.

use super::{Kernel, LANES, Simd};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Portable;

impl Simd for Portable {
    type F32 = [f32; LANES];
    type F64 = [f64; 8];
    const SPECIALISED: bool = false;
    const PANEL: usize = 1;
    const SPARSE_PANEL: usize = 1;

    #[inline(always)]
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F32 {
        [value; LANES]
    }

    #[inline(always)]
    fn load(self, line: &[f32; LANES]) -> Self::F32 {
        *line
    }

    #[inline(always)]
    fn store(self, value: Self::F32, line: &mut [f32; LANES]) {
        *line = value;
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }

    #[inline(always)]
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        std::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        std::array::from_fn(|i| a[i] - b[i])
    }

    #[inline(always)]
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        std::array::from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn select_greater(self, a: Self::F32, b: Self::F32, x: Self::F32, y: Self::F32) -> Self::F32 {
        std::array::from_fn(|i| if a[i] > b[i] { x[i] } else { y[i] })
    }

    #[inline(always)]
    fn nonzero(self, a: Self::F32) -> u16 {
        a.iter().enumerate().fold(0, |mask, (i, &x)| mask | (u16::from(x != 0.0) << i))
    }

    #[inline(always)]
    fn sum(self, a: Self::F32) -> f32 {
        let mut a = a;
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                a[i] += a[i + half];
            }
        }
        a[0]
    }

    #[inline(always)]
    fn transpose(self, block: &mut [Self::F32; LANES]) {
        *block = std::array::from_fn(|r| std::array::from_fn(|c| block[c][r]));
    }

    #[inline(always)]
    fn splat64(self, value: f64) -> Self::F64 {
        [value; 8]
    }

    #[inline(always)]
    fn load64(self, values: &[f64; 8]) -> Self::F64 {
        *values
    }

    #[inline(always)]
    fn store64(self, value: Self::F64, to: &mut [f64; 8]) {
        *to = value;
    }

    #[inline(always)]
    fn mul_add64(self, a: Self::F64, b: Self::F64, c: Self::F64) -> Self::F64 {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
}
