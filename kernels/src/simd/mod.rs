//! Sixteen f32 or eight f64 lanes on whatever the CPU has, with the same bits everywhere.
//!
//! A [`Simd`] token is the proof that its instruction set is there: only detection makes one. Kernels are
//! written once, generic over the token, and compiled per instruction set through [`Simd::vectorize`].
//! Every operation is one correctly rounded IEEE operation per lane, and the one sum across lanes has a
//! fixed tree, so that what a kernel yields does not depend on the token.
//! Deliberately absent: approximate instructions, multiply-then-add, any operation whose result is
//! a matter of the instruction set (NaN payloads excepted).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use portable::Portable;

/// Lanes of a vector of f32.
pub(crate) const LANES: usize = 16;

/// One vector in memory, on a cache line of its own: an unaligned load of 64 bytes touches two.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [f32; LANES]);

impl Line {
    pub(crate) const ZERO: Self = Self([0.0; LANES]);
}

/// Vectors needed for this many numbers.
pub(crate) const fn lines(numbers: usize) -> usize {
    numbers.div_ceil(LANES)
}

/// The numbers of whole lines.
pub(crate) fn flat(lines: &[Line]) -> &[f32] {
    // SAFETY: a Line is 16 f32 without padding (its size, 64, is a multiple of its alignment).
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * LANES) }
}

/// The numbers of whole lines, to write.
pub(crate) fn flat_mut(lines: &mut [Line]) -> &mut [f32] {
    // SAFETY: as in `flat`; any f32 is a valid lane.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * LANES) }
}

/// An instruction set of this machine.
pub(crate) trait Simd: Copy + 'static {
    /// A vector of sixteen f32.
    type F32: Copy;
    /// A vector of eight f64.
    type F64: Copy;
    /// Whether code specialised to the shape of a window pays; it takes long to compile.
    const SPECIALISED: bool;
    /// Columns of vectors that a matrix product with four rows or more holds in registers.
    const PANEL: usize;
    /// Columns of vectors that a product with two sparse rows holds in registers.
    const SPARSE_PANEL: usize;

    /// Runs a kernel compiled for this instruction set, in a function of its own.
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output;

    fn splat(self, value: f32) -> Self::F32;
    fn load(self, line: &[f32; LANES]) -> Self::F32;
    fn store(self, value: Self::F32, line: &mut [f32; LANES]);
    /// Returns a·b + c, rounded once.
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// a > b ? a : b, so b when either is not a number.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// a > b ? x : y, so y where a or b is not a number.
    fn select_greater(self, a: Self::F32, b: Self::F32, x: Self::F32, y: Self::F32) -> Self::F32;
    /// Bit i is set where lane i is not zero (a NaN is not).
    fn nonzero(self, a: Self::F32) -> u16;
    /// The sum of the lanes by halves: i with i+8, then i+4, i+2, i+1.
    fn sum(self, a: Self::F32) -> f32;
    /// Lane i of vector j becomes lane j of vector i.
    fn transpose(self, block: &mut [Self::F32; LANES]);

    fn splat64(self, value: f64) -> Self::F64;
    fn load64(self, values: &[f64; 8]) -> Self::F64;
    fn store64(self, value: Self::F64, to: &mut [f64; 8]);
    /// Returns a·b + c, rounded once.
    fn mul_add64(self, a: Self::F64, b: Self::F64, c: Self::F64) -> Self::F64;

    /// max(a, 0), which keeps a NaN.
    #[inline(always)]
    fn relu(self, a: Self::F32) -> Self::F32 {
        self.max(self.splat(0.0), a)
    }
}

/// A computation that is generic over the instruction set. `run` must be `#[inline(always)]`.
pub(crate) trait Kernel {
    type Output;
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// An instruction set that this machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstructionSet(Token);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    Portable(Portable),
}

impl InstructionSet {
    /// All that this machine has, the fastest first. The last is plain Rust and always there.
    pub fn available() -> Vec<Self> {
        let mut sets = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            sets.extend(avx512::Avx512::detect().map(Token::Avx512));
            sets.extend(avx2::Avx2::detect().map(Token::Avx2));
        }
        sets.push(Token::Portable(Portable));
        sets.into_iter().map(Self).collect()
    }

    /// The fastest that this machine has.
    pub fn best() -> Self {
        Self::available()[0]
    }

    /// Its name: `avx512`, `avx2` or `portable`.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Token::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Token::Avx2(_) => "avx2",
            Token::Portable(_) => "portable",
        }
    }

    /// [`Simd::PANEL`].
    pub(crate) fn panel(self) -> usize {
        self.run(Panels).0
    }

    /// [`Simd::SPARSE_PANEL`].
    pub(crate) fn sparse_panel(self) -> usize {
        self.run(Panels).1
    }

    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Token::Avx512(simd) => simd.vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            Token::Avx2(simd) => simd.vectorize(kernel),
            Token::Portable(simd) => simd.vectorize(kernel),
        }
    }
}

struct Panels;

impl Kernel for Panels {
    type Output = (usize, usize);

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> (usize, usize) {
        (S::PANEL, S::SPARSE_PANEL)
    }
}

/// Loads the first sixteen numbers, and zeros where there are fewer.
#[inline(always)]
pub(crate) fn load_padded<S: Simd>(s: S, numbers: &[f32]) -> S::F32 {
    match numbers.first_chunk() {
        Some(chunk) => s.load(chunk),
        None => {
            let mut padded = [0.0; LANES];
            padded[..numbers.len()].copy_from_slice(numbers);
            s.load(&padded)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exercises every operation and returns all bits.
    struct Everything;

    impl Kernel for Everything {
        type Output = Vec<u64>;

        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> Vec<u64> {
            let number = |i: usize| ((i * 2_654_435_761) % 1_000_003) as f32 / 7.0 - 50_000.0;
            let block: [[f32; LANES]; LANES] = std::array::from_fn(|r| std::array::from_fn(|c| number(r * 16 + c)));
            let mut v = block.map(|line| s.load(&line));
            let mut out = Vec::new();
            let mut keep = |value: S::F32| {
                let mut line = [0.0; LANES];
                s.store(value, &mut line);
                out.extend(line.map(|x| u64::from(x.to_bits())));
            };
            keep(s.mul_add(v[0], v[1], v[2]));
            keep(s.add(v[3], v[4]));
            keep(s.sub(v[3], v[4]));
            keep(s.mul(v[3], v[4]));
            keep(s.max(v[5], v[6]));
            keep(s.select_greater(v[5], v[6], v[1], v[2]));
            keep(s.select_greater(s.splat(f32::NAN), v[6], v[1], v[2]));
            keep(s.relu(v[7]));
            keep(s.relu(s.splat(f32::NAN)));
            s.transpose(&mut v);
            v.into_iter().for_each(&mut keep);
            let holes = s.load(&std::array::from_fn(|i| if i % 3 == 0 { 0.0 } else { f32::NAN }));
            out.push(u64::from(s.nonzero(holes)));
            out.push(u64::from(s.sum(v[8]).to_bits()));
            let w: [[f64; 8]; 2] = std::array::from_fn(|r| std::array::from_fn(|c| f64::from(number(r * 8 + c)) / 3.0));
            let mut doubles = [0.0; 8];
            s.store64(s.mul_add64(s.load64(&w[0]), s.load64(&w[1]), s.splat64(0.1)), &mut doubles);
            out.extend(doubles.map(f64::to_bits));
            out
        }
    }

    #[test]
    fn every_operation_has_the_same_bits_on_every_instruction_set() {
        let sets = InstructionSet::available();
        let portable = sets.last().unwrap().run(Everything);
        for set in sets {
            assert_eq!(set.run(Everything), portable, "{}", set.name());
        }
    }
}
