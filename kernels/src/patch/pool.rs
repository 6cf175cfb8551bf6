//! Pooling and ReLU, on whole maps and on patches.
//!
//! A pool takes its window row by row: a maximum keeps the larger so far, a mean adds and then multiplies by
//! the correctly rounded 1/size².

use super::plan::{MapStage, PatchOp};
use super::sink::{PatchSource, Sink};
use crate::simd::{Line, Simd, lines};

/// The stage's whole output map. Returns zero, or not a number if an output is not finite.
#[inline(always)]
pub(crate) fn map<S: Simd>(s: S, stage: &MapStage, input: &[Line], output: &mut [Line]) -> f32 {
    let channels = lines(stage.input.channels);
    let width = stage.input.width;
    let mut poison = s.splat(0.0);
    for row in 0..stage.output.height {
        for column in 0..stage.output.width {
            let size = stage.op.size();
            for line in 0..channels {
                let mut value = s.load(&input[(row * size * width + column * size) * channels + line].0);
                for i in 1..size * size {
                    let at = (row * size + i / size) * width + column * size + i % size;
                    value = fold(s, stage.op, value, s.load(&input[at * channels + line].0));
                }
                value = finish(s, stage.op, value);
                poison = s.mul_add(value, s.splat(0.0), poison);
                s.store(value, &mut output[(row * stage.output.width + column) * channels + line].0);
            }
        }
    }
    s.sum(poison)
}

/// The stage on a pair of patches. Returns for each sign zero, or not a number if a mean is not finite.
#[inline(always)]
pub(crate) fn patch<S: Simd>(s: S, op: PatchOp, from: PatchSource<'_>, to: &mut Sink<'_>) -> [f32; 2] {
    let mut poison = [s.splat(0.0); 2];
    let size = op.size();
    let columns = to.columns.touched;
    for row in to.rows.touched.range() {
        let mut to = to.row(row);
        for (index, column) in columns.range().enumerate() {
            for line in 0..from.lines {
                let mut values = from.get(s, row * size, column * size, line);
                for i in 1..size * size {
                    let next = from.get(s, row * size + i / size, column * size + i % size, line);
                    values = [fold(s, op, values[0], next[0]), fold(s, op, values[1], next[1])];
                }
                values = [finish(s, op, values[0]), finish(s, op, values[1])];
                if let PatchOp::AvgPool { .. } = op {
                    poison[0] = s.mul_add(values[0], s.splat(0.0), poison[0]);
                    poison[1] = s.mul_add(values[1], s.splat(0.0), poison[1]);
                }
                to.put(s, index, line, values);
            }
        }
    }
    [s.sum(poison[0]), s.sum(poison[1])]
}

/// A pool of 2 x 2 maxima followed or preceded by a ReLU, on patches of one line per position.
#[inline(always)]
pub(crate) fn patch_of_two<S: Simd>(s: S, from: PatchSource<'_>, to: &mut Sink<'_>) {
    let across = from.columns.stored.len();
    let left = 2 * to.columns.touched.start - from.columns.stored.start;
    for row in to.rows.touched.range() {
        let at = (2 * row - from.rows.stored.start) * across + left;
        let cells = 2 * to.columns.touched.len();
        let [plus, minus] = from.patches;
        let (above, _) = plus[at..][..cells].as_chunks::<2>();
        let (below, _) = plus[at + across..][..cells].as_chunks::<2>();
        let (above_minus, _) = minus[at..][..cells].as_chunks::<2>();
        let (below_minus, _) = minus[at + across..][..cells].as_chunks::<2>();
        let mut to = to.row(row);
        for i in 0..cells / 2 {
            let values = [two_by_two(s, &above[i], &below[i]), two_by_two(s, &above_minus[i], &below_minus[i])];
            to.put(s, i, 0, values);
        }
    }
}

/// The ReLU of the largest of four.
#[inline(always)]
fn two_by_two<S: Simd>(s: S, above: &[Line; 2], below: &[Line; 2]) -> S::F32 {
    let best = s.max(s.load(&above[0].0), s.load(&above[1].0));
    let best = s.max(best, s.load(&below[0].0));
    s.relu(s.max(best, s.load(&below[1].0)))
}

/// One more number of a pooling window.
#[inline(always)]
fn fold<S: Simd>(s: S, op: PatchOp, so_far: S::F32, next: S::F32) -> S::F32 {
    if let PatchOp::AvgPool { .. } = op { s.add(so_far, next) } else { s.max(so_far, next) }
}

/// After the last number of a pooling window.
#[inline(always)]
fn finish<S: Simd>(s: S, op: PatchOp, value: S::F32) -> S::F32 {
    match op {
        PatchOp::Relu | PatchOp::MaxPool { relu: true, .. } => s.relu(value),
        // share·sum + 0 is the product, rounded once.
        PatchOp::AvgPool { size } => {
            let share = s.splat((1.0 / (size * size) as f64) as f32);
            s.mul_add(value, share, s.splat(0.0))
        }
        _ => value,
    }
}
