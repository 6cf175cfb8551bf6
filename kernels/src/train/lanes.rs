//! Samples into lanes and back: rows of numbers become lines `[vector][number]` of sixteen samples.
//!
//! The lanes beyond a batch's last sample repeat its first one, so that they hold finite numbers exactly if it does; their
//! gradients are zero.

use crate::simd::{Kernel, LANES, Line, Simd, load_padded};

/// Rows, all of one length, into lanes.
pub(super) struct Gather<'a> {
    pub(super) rows: &'a [&'a [f32]],
    /// `[vector][number]`.
    pub(super) target: &'a mut [Line],
}

impl Kernel for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let length = self.rows[0].len();
        for (rows, target) in self.rows.chunks(LANES).zip(self.target.chunks_exact_mut(length)) {
            for (place, lines) in target.chunks_mut(LANES).enumerate() {
                let mut block = [s.splat(0.0); LANES];
                for (lane, vector) in block.iter_mut().enumerate() {
                    let row = rows.get(lane).unwrap_or(&self.rows[0]);
                    *vector = load_padded(s, &row[place * LANES..]);
                }
                s.transpose(&mut block);
                for (line, &vector) in lines.iter_mut().zip(&block) {
                    s.store(vector, &mut line.0);
                }
            }
        }
    }
}

/// Lanes into rows.
pub(super) struct Scatter<'a> {
    /// `[vector][number]`.
    pub(super) source: &'a [Line],
    pub(super) length: usize,
    /// Rows, as many as there are samples, each of at least `length`.
    pub(super) target: &'a mut [f32],
    /// Numbers from one row to the next.
    pub(super) pitch: usize,
}

impl Kernel for Scatter<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let length = self.length;
        let pitch = self.pitch;
        for (source, rows) in self.source.chunks_exact(length).zip(self.target.chunks_mut(LANES * pitch)) {
            for (place, lines) in source.chunks(LANES).enumerate() {
                let mut block = [s.splat(0.0); LANES];
                for (vector, line) in block.iter_mut().zip(lines) {
                    *vector = s.load(&line.0);
                }
                s.transpose(&mut block);
                for (row, &vector) in rows.chunks_mut(pitch).zip(&block) {
                    store_first(s, vector, &mut row[place * LANES..length.min((place + 1) * LANES)]);
                }
            }
        }
    }
}

/// Stores as many lanes as there is room for.
#[inline(always)]
fn store_first<S: Simd>(s: S, vector: S::F32, numbers: &mut [f32]) {
    match numbers.first_chunk_mut() {
        Some(chunk) => s.store(vector, chunk),
        None => {
            let mut line = [0.0; LANES];
            s.store(vector, &mut line);
            numbers.copy_from_slice(&line[..numbers.len()]);
        }
    }
}

/// 1 in the lanes of a batch's samples, 0 beyond.
pub(super) fn mask(samples: usize, vector: usize) -> [f32; LANES] {
    std::array::from_fn(|lane| if vector * LANES + lane < samples { 1.0 } else { 0.0 })
}
