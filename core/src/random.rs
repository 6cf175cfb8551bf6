//! Random numbers keyed by coordinates: the same (seed, purpose, member) gives the same numbers on every
//! machine, in any order. ChaCha8 keyed by a BLAKE3 derivation; nothing is drawn from shared state.

mod normal;
mod wide;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use wide::Convert;

/// Separates nadgrid's keys from anyone else's. Changing it changes every number.
const CONTEXT: &str = "nadgrid 2026-11 keyed random numbers v1";

/// Words that a pair of normal numbers takes.
pub(crate) const NORMAL_PAIR_WORDS: usize = 4;

/// A stream of random numbers for one purpose, for example `("weights", "lenet")`, and one index.
pub struct Stream {
    rng: ChaCha8Rng,
    key: [u8; 32],
    index: u64,
}

impl Stream {
    /// The stream of `seed`, `purpose` and `index`.
    pub fn new(seed: u64, purpose: &[&str], index: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(&seed.to_le_bytes());
        for word in purpose {
            hasher.update(&(word.len() as u64).to_le_bytes());
            hasher.update(word.as_bytes());
        }
        let key = *hasher.finalize().as_bytes();
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(index);
        Self { rng, key, index }
    }

    /// 32-bit words that were drawn: a stream of the same key that skips as many goes on with the same numbers.
    pub fn position(&self) -> u64 {
        self.rng.get_word_pos() as u64
    }

    /// Moves the stream to a position.
    pub fn seek(&mut self, position: u64) {
        self.rng.set_word_pos(position.into());
    }

    /// Fills `out` from U[−bound, bound) as PyTorch does: u·2·bound − bound with a 24-bit u in [0, 1). A number takes one word.
    pub fn fill_uniform(&mut self, bound: f32, out: &mut [f32]) {
        self.fill(Uniform { bound }, out);
    }

    /// Fills `out` from N(0, 1) by Box and Muller's transform in f64. The logarithm and cosine are `libm`'s
    /// own, not the platform's, so that the bits do not depend on it. Two numbers take four words.
    pub fn fill_normal(&mut self, out: &mut [f32]) {
        let mut words = [[0; NORMAL_PAIR_WORDS]; 256];
        for chunk in out.chunks_mut(2 * words.len()) {
            let words = &mut words[..chunk.len().div_ceil(2)];
            self.fill_words(words.as_flattened_mut());
            let (pairs, last) = chunk.as_chunks_mut();
            normal::fill(&words[..pairs.len()], pairs);
            if let ([last], Some(words)) = (last, words.last()) {
                *last = normal::pair(*words)[0];
            }
        }
    }

    /// Fills `out` with raw words in bulk, in the order in which they would come one by one.
    pub fn fill_words(&mut self, out: &mut [u32]) {
        self.fill(Raw, out);
    }

    /// Fills `out` with the factors of a dropout layer for a batch, samples one after the other and each in the order
    /// of its features: 0 with this probability, else 1/(1 − probability). A number takes one word.
    pub fn fill_dropout(&mut self, probability: f32, out: &mut [f32]) {
        let dropped = (f64::from(probability) * 4_294_967_296.0) as u64;
        let kept = 1.0 / (1.0 - probability);
        self.fill(Mask { limit: dropped as u32, all: dropped > u64::from(u32::MAX), kept }, out);
    }

    /// A number of every word, in bulk.
    fn fill<T: Copy>(&mut self, convert: impl Convert<T>, out: &mut [T]) {
        let position = self.position();
        let block = wide::BLOCK as u64;
        let to_next_block = (position.next_multiple_of(block) - position) as usize;
        let groups = out.len().saturating_sub(to_next_block) / wide::GROUP;
        if groups == 0 {
            return self.fill_one_by_one(convert, out);
        }
        let (first, rest) = out.split_at_mut(to_next_block);
        let (middle, last) = rest.split_at_mut(groups * wide::GROUP);
        self.fill_one_by_one(convert, first);
        let counter = (position + first.len() as u64) / block;
        let origin = wide::Origin { key: &self.key, stream: self.index, counter };
        match wide::fill(origin, convert, middle.as_chunks_mut().0) {
            true => self.seek(counter * block + middle.len() as u64),
            false => self.fill_one_by_one(convert, middle),
        }
        self.fill_one_by_one(convert, last);
    }

    fn fill_one_by_one<T>(&mut self, convert: impl Convert<T>, out: &mut [T]) {
        let mut bytes = [0u8; 1024];
        for chunk in out.chunks_mut(bytes.len() / 4) {
            let bytes = &mut bytes[..chunk.len() * 4];
            self.rng.fill_bytes(bytes);
            for (value, word) in chunk.iter_mut().zip(bytes.as_chunks().0) {
                *value = convert.convert(u32::from_le_bytes(*word));
            }
        }
    }

    /// A permutation of 0 … n − 1, all equally likely (Fisher and Yates).
    ///
    /// # Panics
    /// When n does not fit 32 bits.
    pub fn permutation(&mut self, n: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..u32::try_from(n).expect("a permutation of 32-bit indices")).collect();
        for place in (1..n).rev() {
            order.swap(place, self.below(place as u32 + 1) as usize);
        }
        order
    }

    /// A number in [0, n), all equally likely (Lemire 2019, with rejection).
    fn below(&mut self, n: u32) -> u32 {
        loop {
            let product = u64::from(self.rng.next_u32()) * u64::from(n);
            if product as u32 >= n.wrapping_neg() % n {
                return (product >> 32) as u32;
            }
        }
    }
}

/// The word itself.
#[derive(Clone, Copy)]
struct Raw;

impl Convert<u32> for Raw {
    #[inline(always)]
    fn convert(self, word: u32) -> u32 {
        word
    }
}

/// The uniform distribution U[−bound, bound).
#[derive(Clone, Copy)]
struct Uniform {
    bound: f32,
}

impl Convert<f32> for Uniform {
    #[inline(always)]
    fn convert(self, word: u32) -> f32 {
        // 24 bits fit a signed number, which vectors convert faster.
        let unit = (word >> 8) as i32 as f32 * (1.0 / 16_777_216.0);
        unit * (2.0 * self.bound) - self.bound
    }
}

/// 0 below a limit, or always, else what is kept.
#[derive(Clone, Copy)]
struct Mask {
    limit: u32,
    all: bool,
    kept: f32,
}

impl Convert<f32> for Mask {
    #[inline(always)]
    fn convert(self, word: u32) -> f32 {
        if word < self.limit || self.all { 0.0 } else { self.kept }
    }
}

/// The source of a stream's numbers: word w of it is word w mod 16 of ChaCha8's block w / 16 under this key, with
/// `index` as the 64-bit nonce. A generator elsewhere, such as a GPU's, draws the same numbers from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamKey {
    /// The 256-bit key, which seed and purpose give.
    pub key: [u32; 8],
    /// The stream's index.
    pub index: u64,
}

impl StreamKey {
    /// That of a stream, which drawing does not change.
    pub fn of(stream: &Stream) -> Self {
        let (seed, index) = (stream.key, stream.index);
        let mut key = [0; 8];
        key.iter_mut().zip(seed.as_chunks().0).for_each(|(word, bytes)| *word = u32::from_le_bytes(*bytes));
        Self { key, index }
    }
}

/// The point of N(0, I) at which gradients are evaluated: every architecture of a sweep shares it.
pub fn evaluation_point(seed: u64, index: u64, dimension: usize) -> Vec<f32> {
    let mut point = vec![0.0; dimension];
    Stream::new(seed, &["evaluation-point"], index).fill_normal(&mut point);
    point
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(values: &[f32]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        (mean, values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n)
    }

    /// At every place within the generator's buffer, which is 64 words.
    #[test]
    fn a_stream_goes_on_from_a_position() {
        let mut stream = Stream::new(3, &["dropout"], 1);
        let mut drawn = vec![0; 200];
        Stream::new(3, &["dropout"], 1).fill_words(&mut drawn);
        for (place, word) in drawn.iter().enumerate() {
            assert_eq!(stream.position(), place as u64);
            let mut other = Stream::new(3, &["dropout"], 1);
            other.seek(place as u64);
            let mut rest = vec![0; drawn.len() - place];
            other.fill_words(&mut rest);
            assert_eq!(rest, drawn[place..], "from {place}");
            assert_eq!(stream.rng.next_u32(), *word);
        }
    }

    #[test]
    fn a_stream_depends_on_every_coordinate_and_on_nothing_else() {
        let draw = |seed, purpose: &[&str], index| {
            let mut out = [0.0; 8];
            Stream::new(seed, purpose, index).fill_uniform(1.0, &mut out);
            out
        };
        let base = draw(1, &["weights", "lenet"], 7);
        assert_eq!(base, draw(1, &["weights", "lenet"], 7));
        assert_ne!(base, draw(2, &["weights", "lenet"], 7));
        assert_ne!(base, draw(1, &["weightsl", "enet"], 7));
        assert_ne!(base, draw(1, &["weights", "lenet"], 8));
    }

    #[test]
    fn a_key_is_all_that_a_stream_is_made_of() {
        let mut stream = Stream::new(3, &["weights", "lenet"], (1 << 40) + 7);
        let StreamKey { key, index } = StreamKey::of(&stream);
        assert_eq!(index, (1 << 40) + 7);
        let seed: Vec<u8> = key.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut again = ChaCha8Rng::from_seed(seed.try_into().unwrap());
        again.set_stream(index);
        let mut drawn = [0; 100];
        stream.fill_words(&mut drawn);
        assert!(drawn.iter().all(|word| *word == again.next_u32()));
        assert_eq!(StreamKey::of(&stream), StreamKey { key, index }, "drawing does not change it");
    }

    #[test]
    fn a_fill_does_not_depend_on_how_it_is_cut_by_whole_words() {
        let mut whole = [0.0; 1000];
        Stream::new(3, &["x"], 0).fill_uniform(0.5, &mut whole);
        let mut parts = [0.0; 1000];
        let mut stream = Stream::new(3, &["x"], 0);
        let (head, tail) = parts.split_at_mut(300);
        stream.fill_uniform(0.5, head);
        stream.fill_uniform(0.5, tail);
        assert_eq!(whole, parts);
    }

    #[test]
    fn words_come_in_one_order_however_they_are_drawn() {
        let mut whole = [0; 700];
        Stream::new(3, &["x"], 0).fill_words(&mut whole);
        let mut stream = Stream::new(3, &["x"], 0);
        let one_by_one: Vec<u32> = (0..300).map(|_| stream.rng.next_u32()).collect();
        let mut rest = [0; 400];
        stream.fill_words(&mut rest);
        assert_eq!(whole[..300], one_by_one);
        assert_eq!(whole[300..], rest);
    }

    /// From every place within a block, over the end of the counter's lower word, and in lengths around a group: each number is
    /// what its word gives alone.
    #[test]
    fn numbers_drawn_in_bulk_are_those_of_the_words_one_by_one() {
        let carry = (1u64 << 36) - 700;
        for (start, length) in (0..20).flat_map(|start| [255, 256, 257, 271, 272, 1500].map(|length| (start, length))) {
            for start in [start, carry + start] {
                let stream = || {
                    let mut stream = Stream::new(3, &["x"], u64::MAX - 5);
                    stream.seek(start);
                    stream
                };
                let mut single = stream();
                let words: Vec<u32> = (0..length).map(|_| single.rng.next_u32()).collect();
                let mut bulk = stream();
                let mut drawn = vec![0; length];
                bulk.fill_words(&mut drawn);
                assert!(drawn == words, "{length} words from {start}");
                assert_eq!(bulk.position(), start + length as u64);
                assert_eq!(bulk.rng.next_u32(), single.rng.next_u32());
                let mut numbers = vec![0.0; length];
                stream().fill_uniform(0.3, &mut numbers);
                let expected = |&word: &u32| (word >> 8) as f32 * (1.0 / 16_777_216.0) * (2.0 * 0.3) - 0.3;
                assert!(numbers.iter().copied().eq(words.iter().map(expected)), "{length} numbers from {start}");
                for (probability, dropped) in [(0.4f32, 1_717_986_944u64), (1.0, 1 << 32), (0.0, 0)] {
                    stream().fill_dropout(probability, &mut numbers);
                    let expected =
                        |&word: &u32| if u64::from(word) < dropped { 0.0 } else { 1.0 / (1.0 - probability) };
                    assert!(numbers.iter().copied().eq(words.iter().map(expected)), "{length} factors from {start}");
                }
            }
        }
    }

    /// Every item at every place equally often, within 5 standard errors.
    #[test]
    fn permutations_are_fair() {
        let (n, draws) = (7, 20_000);
        let mut stream = Stream::new(1, &["permutation"], 0);
        let mut counts = vec![0u32; n * n];
        for _ in 0..draws {
            for (place, item) in stream.permutation(n).into_iter().enumerate() {
                counts[place * n + item as usize] += 1;
            }
        }
        let expected = f64::from(draws) / n as f64;
        assert!(counts.iter().all(|&c| (f64::from(c) - expected).abs() < 5.0 * expected.sqrt()), "{counts:?}");
        assert!(stream.permutation(0).is_empty());
    }

    /// Moments within 5 standard errors, range and tails as the distributions have them.
    #[test]
    fn distributions_have_their_moments() {
        let n = 200_000;
        let mut values = vec![0.0; n];
        Stream::new(11, &["uniform"], 0).fill_uniform(0.2, &mut values);
        let (mean, variance) = moments(&values);
        let expected = 0.2f64.powi(2) / 3.0;
        assert!(mean.abs() < 5.0 * (expected / n as f64).sqrt(), "{mean}");
        assert!((variance / expected - 1.0).abs() < 5.0 * (0.8 / n as f64).sqrt(), "{variance}");
        assert!(values.iter().all(|v| (-0.2..0.2).contains(v)));

        Stream::new(11, &["normal"], 0).fill_normal(&mut values);
        let (mean, variance) = moments(&values);
        assert!(mean.abs() < 5.0 / (n as f64).sqrt(), "{mean}");
        assert!((variance - 1.0).abs() < 5.0 * (2.0 / n as f64).sqrt(), "{variance}");
        let beyond = values.iter().filter(|v| v.abs() > 1.959_964).count() as f64 / n as f64;
        assert!((beyond - 0.05).abs() < 5.0 * (0.05 * 0.95 / n as f64).sqrt(), "{beyond}");
    }
}
