//! ChaCha8 sixteen blocks at a time, one in each lane of a vector, where the CPU has AVX-512: the words that `rand_chacha` gives,
//! twice as fast. Elsewhere the caller draws from `rand_chacha`, which uses AVX2.
//!
//! Deliberately absent: any state. A block is a function of key, stream and counter (Bernstein 2008, "ChaCha, a variant of
//! Salsa20"; a counter of 64 bits in words 12 and 13, the stream in 14 and 15).

/// The number of words in a block.
pub(super) const BLOCK: usize = 16;
/// Words that are made at once.
pub(super) const GROUP: usize = 16 * BLOCK;

/// The conversion of a word into a value.
pub(super) trait Convert<T>: Copy {
    /// Always inlined, so that a loop over it is compiled for the instruction set of whoever calls it.
    fn convert(self, word: u32) -> T;
}

/// The position of a group of blocks.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    /// The key of the generator.
    pub(super) key: &'a [u8; 32],
    /// The stream of the key.
    pub(super) stream: u64,
    /// The number of the first block.
    pub(super) counter: u64,
}

/// Fills whole groups, one number of each word; false, and nothing is done, where the CPU lacks the instructions.
pub(super) fn fill<T: Copy>(origin: Origin<'_>, convert: impl Convert<T>, out: &mut [[T; GROUP]]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512f") {
        // SAFETY: the CPU has the instruction set that the function is compiled for.
        unsafe { avx512::fill(origin, convert, out) };
        return true;
    }
    let _ = (origin.key, origin.stream, origin.counter, out);
    false
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{Convert, GROUP, Origin};
    use std::arch::x86_64::*;

    /// "expand 32-byte k".
    const SIGMA: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];
    const DOUBLE_ROUNDS: usize = 4;

    #[target_feature(enable = "avx512f")]
    pub(super) fn fill<T: Copy>(origin: Origin<'_>, convert: impl Convert<T>, out: &mut [[T; GROUP]]) {
        let mut state = initial(origin);
        for group in out {
            let blocks = transposed(rounds(&state));
            for (block, to) in blocks.into_iter().zip(group.as_chunks_mut::<16>().0) {
                // SAFETY: both are 64 bytes, and any bits are words.
                let words = unsafe { std::mem::transmute::<__m512i, [u32; 16]>(block) };
                for (to, word) in to.iter_mut().zip(words) {
                    *to = convert.convert(word);
                }
            }
            advance(&mut state);
        }
    }

    /// The sixteen words of sixteen blocks, a word of all of them in each vector.
    #[target_feature(enable = "avx512f")]
    fn initial(origin: Origin<'_>) -> [__m512i; 16] {
        let mut state = [_mm512_setzero_si512(); 16];
        let key = origin.key.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
        let (low, high) = (origin.counter as u32, (origin.counter >> 32) as u32);
        let words = SIGMA.into_iter().chain(key).chain([low, high, origin.stream as u32, (origin.stream >> 32) as u32]);
        for (vector, word) in state.iter_mut().zip(words) {
            *vector = _mm512_set1_epi32(word as i32);
        }
        let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        count(&mut state, lanes);
        state
    }

    /// The next sixteen blocks.
    #[target_feature(enable = "avx512f")]
    fn advance(state: &mut [__m512i; 16]) {
        count(state, _mm512_set1_epi32(16));
    }

    /// Adds to the counters, with the carry.
    #[target_feature(enable = "avx512f")]
    fn count(state: &mut [__m512i; 16], more: __m512i) {
        let low = _mm512_add_epi32(state[12], more);
        let carry = _mm512_cmplt_epu32_mask(low, more);
        state[13] = _mm512_mask_add_epi32(state[13], carry, state[13], _mm512_set1_epi32(1));
        state[12] = low;
    }

    #[target_feature(enable = "avx512f")]
    fn rounds(state: &[__m512i; 16]) -> [__m512i; 16] {
        let mut x = *state;
        for _ in 0..DOUBLE_ROUNDS {
            quarter(&mut x, [0, 4, 8, 12]);
            quarter(&mut x, [1, 5, 9, 13]);
            quarter(&mut x, [2, 6, 10, 14]);
            quarter(&mut x, [3, 7, 11, 15]);
            quarter(&mut x, [0, 5, 10, 15]);
            quarter(&mut x, [1, 6, 11, 12]);
            quarter(&mut x, [2, 7, 8, 13]);
            quarter(&mut x, [3, 4, 9, 14]);
        }
        for (word, first) in x.iter_mut().zip(state) {
            *word = _mm512_add_epi32(*word, *first);
        }
        x
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn quarter(x: &mut [__m512i; 16], [a, b, c, d]: [usize; 4]) {
        x[a] = _mm512_add_epi32(x[a], x[b]);
        x[d] = _mm512_rol_epi32::<16>(_mm512_xor_si512(x[d], x[a]));
        x[c] = _mm512_add_epi32(x[c], x[d]);
        x[b] = _mm512_rol_epi32::<12>(_mm512_xor_si512(x[b], x[c]));
        x[a] = _mm512_add_epi32(x[a], x[b]);
        x[d] = _mm512_rol_epi32::<8>(_mm512_xor_si512(x[d], x[a]));
        x[c] = _mm512_add_epi32(x[c], x[d]);
        x[b] = _mm512_rol_epi32::<7>(_mm512_xor_si512(x[b], x[c]));
    }

    /// A vector for each word becomes a vector for each block.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn transposed(x: [__m512i; 16]) -> [__m512i; 16] {
        // Four by four within quarters of vectors: t[4g + i] holds words 4g … 4g + 3 of the blocks i, 4 + i, 8 + i, 12 + i.
        let mut t = x;
        for (from, to) in x.as_chunks::<4>().0.iter().zip(t.as_chunks_mut::<4>().0) {
            let [p, q, r, s] = *from;
            let (a, b) = (_mm512_unpacklo_epi32(p, q), _mm512_unpackhi_epi32(p, q));
            let (c, d) = (_mm512_unpacklo_epi32(r, s), _mm512_unpackhi_epi32(r, s));
            *to = [
                _mm512_unpacklo_epi64(a, c),
                _mm512_unpackhi_epi64(a, c),
                _mm512_unpacklo_epi64(b, d),
                _mm512_unpackhi_epi64(b, d),
            ];
        }
        // Then quarters of four vectors.
        let mut blocks = x;
        for i in 0..4 {
            let [p, q, r, s] = [t[i], t[4 + i], t[8 + i], t[12 + i]];
            let (a, b) = (_mm512_shuffle_i32x4::<0x44>(p, q), _mm512_shuffle_i32x4::<0xee>(p, q));
            let (c, d) = (_mm512_shuffle_i32x4::<0x44>(r, s), _mm512_shuffle_i32x4::<0xee>(r, s));
            blocks[i] = _mm512_shuffle_i32x4::<0x88>(a, c);
            blocks[4 + i] = _mm512_shuffle_i32x4::<0xdd>(a, c);
            blocks[8 + i] = _mm512_shuffle_i32x4::<0x88>(b, d);
            blocks[12 + i] = _mm512_shuffle_i32x4::<0xdd>(b, d);
        }
        blocks
    }
}
