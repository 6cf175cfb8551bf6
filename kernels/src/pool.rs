//! Pooling and ReLU, on whole maps and on patches.
//!
//! A pool takes its window row by row: a maximum keeps the larger so far, a mean adds and then multiplies by
//! the correctly rounded 1/size².

use crate::patch::{Sink, Source};
use crate::plan::{Op, Stage};
use crate::simd::{Line, Simd, lines};

/// The stage's whole output map. Returns zero, or not a number if a mean was not finite.
#[inline(always)]
pub(crate) fn map<S: Simd>(s: S, stage: &Stage, input: &[Line], output: &mut [Line]) -> f32 {
    let channels = lines(stage.input.channels);
    let mut poison = s.splat(0.0);
    for row in 0..stage.output.height {
        for column in 0..stage.output.width {
            for line in 0..channels {
                let value = apply(s, stage.op, row, column, |row, column| {
                    [s.load(&input[(row * stage.input.width + column) * channels + line].0)]
                });
                poison = s.mul_add(value[0], s.splat(0.0), poison);
                s.store(value[0], &mut output[(row * stage.output.width + column) * channels + line].0);
            }
        }
    }
    s.sum(poison)
}

/// The stage on a pair of patches. Returns for each sign zero, or not a number if a mean was not finite.
#[inline(always)]
pub(crate) fn patch<S: Simd>(s: S, op: Op, from: Source<'_>, to: &mut Sink<'_>) -> [f32; 2] {
    let mut poison = [s.splat(0.0); 2];
    for row in to.rows.touched.range() {
        for column in to.columns.touched.range() {
            for line in 0..from.lines {
                let values = apply(s, op, row, column, |row, column| from.get(s, row, column, line));
                if let Op::AvgPool { .. } = op {
                    poison[0] = s.mul_add(values[0], s.splat(0.0), poison[0]);
                    poison[1] = s.mul_add(values[1], s.splat(0.0), poison[1]);
                }
                let base = to.base(s, row, column, line);
                to.put(s, row, column, line, values, base);
            }
        }
    }
    [s.sum(poison[0]), s.sum(poison[1])]
}

/// One output position, of N maps at once.
#[inline(always)]
fn apply<S: Simd, const N: usize>(
    s: S,
    op: Op,
    row: usize,
    column: usize,
    get: impl Fn(usize, usize) -> [S::F32; N],
) -> [S::F32; N] {
    match op {
        Op::MaxPool { size: 2, relu } => {
            let at = |i: usize| get(2 * row + i / 2, 2 * column + i % 2);
            let mut best = at(0);
            for i in 1..4 {
                let next = at(i);
                for n in 0..N {
                    best[n] = s.max(best[n], next[n]);
                }
            }
            if relu { best.map(|v| s.relu(v)) } else { best }
        }
        Op::MaxPool { size, relu } => {
            let best = window(size, row, column, get, |a, b| s.max(a, b));
            if relu { best.map(|v| s.relu(v)) } else { best }
        }
        Op::AvgPool { size } => {
            let share = s.splat((1.0 / (size * size) as f64) as f32);
            let zero = s.splat(0.0);
            // share·sum + 0 is the product, rounded once.
            window(size, row, column, get, |a, b| s.add(a, b)).map(|sum| s.mul_add(sum, share, zero))
        }
        Op::Relu => get(row, column).map(|v| s.relu(v)),
        Op::Conv { .. } => get(row, column),
    }
}

/// Folds a pooling window row by row.
#[inline(always)]
fn window<V: Copy, const N: usize>(
    size: usize,
    row: usize,
    column: usize,
    get: impl Fn(usize, usize) -> [V; N],
    fold: impl Fn(V, V) -> V,
) -> [V; N] {
    let mut all = get(row * size, column * size);
    for i in 1..size * size {
        let next = get(row * size + i / size, column * size + i % size);
        for n in 0..N {
            all[n] = fold(all[n], next[n]);
        }
    }
    all
}
