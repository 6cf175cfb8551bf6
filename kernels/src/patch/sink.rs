//! Patches: the part of a map that a changed pixel reaches, for the two signs of the change at once.

use super::plan::{Form, Reach};
use crate::simd::{LANES, Line, Simd};
use crate::span::AxisSpan;

/// One of each sign: the pixel plus the step, the pixel minus it.
pub(crate) type SignPair<T> = [T; 2];

/// The place where a stage puts its pair of patches, and the base map that they differ from.
pub(crate) struct Sink<'a> {
    /// The patches, rows by positions by channels.
    pub(crate) patches: SignPair<&'a mut [f32]>,
    /// Numbers from one row to the next.
    pub(crate) row_stride: usize,
    /// Numbers from one position to the next: at least the channels. Where that is not whole vectors, the
    /// zero lanes beyond the channels are overwritten by the next position.
    pub(crate) stride: usize,
    pub(crate) form: Form,
    pub(crate) rows: Reach,
    pub(crate) columns: Reach,
    /// The base map.
    pub(crate) base: &'a [Line],
    /// The number of columns of the map.
    pub(crate) width: usize,
    /// Lines per position of the map.
    pub(crate) lines: usize,
}

/// One row of a [`Sink`]: the touched positions.
pub(crate) struct SinkRow<'a> {
    patches: SignPair<&'a mut [f32]>,
    base: &'a [Line],
    stride: usize,
    lines: usize,
    columns: usize,
    form: Form,
}

impl SinkRow<'_> {
    /// The base value of a line at the i-th touched position.
    #[inline(always)]
    pub(crate) fn base<S: Simd>(&self, s: S, i: usize, line: usize) -> S::F32 {
        s.load(&self.base[i * self.lines + line].0)
    }

    /// Stores new values at the i-th touched position, or their differences from the base.
    #[inline(always)]
    pub(crate) fn put<S: Simd>(&mut self, s: S, i: usize, line: usize, values: SignPair<S::F32>) {
        assert!(i < self.columns && line < self.lines);
        let at = i * self.stride + line * LANES;
        let [plus, minus] = values;
        let [plus, minus] = match self.form {
            Form::Values => [plus, minus],
            Form::Deltas => {
                let base = self.base(s, i, line);
                [s.sub(plus, base), s.sub(minus, base)]
            }
        };
        // SAFETY: both slices hold (columns − 1)·stride + lines·LANES numbers, i < columns and line < lines.
        unsafe {
            s.store(plus, &mut *self.patches[0].as_mut_ptr().add(at).cast());
            s.store(minus, &mut *self.patches[1].as_mut_ptr().add(at).cast());
        }
    }
}

impl Sink<'_> {
    /// A touched row.
    #[inline(always)]
    pub(crate) fn row(&mut self, row: usize) -> SinkRow<'_> {
        let columns = self.columns.touched;
        let at = (row - self.rows.stored.start) * self.row_stride
            + (columns.start - self.columns.stored.start) * self.stride;
        // What the stores of `SinkRow::put` may touch.
        let length = (columns.len().max(1) - 1) * self.stride + self.lines * LANES;
        let [plus, minus] = &mut self.patches;
        SinkRow {
            patches: [&mut plus[at..][..length], &mut minus[at..][..length]],
            base: &self.base[(row * self.width + columns.start) * self.lines..][..columns.len() * self.lines],
            stride: self.stride,
            lines: self.lines,
            columns: columns.len(),
            form: self.form,
        }
    }

    /// The patches of a pixel of the base map that changes by ±step.
    #[inline(always)]
    pub(crate) fn change<S: Simd>(&mut self, s: S, (channel, row, column): (usize, usize, usize), step: f32) {
        let mut to = self.row(row);
        for line in 0..to.lines {
            let base = to.base(s, 0, line);
            to.put(s, 0, line, [base; 2]);
        }
        let at = (row - self.rows.stored.start) * self.row_stride
            + (column - self.columns.stored.start) * self.stride
            + channel;
        self.patches[0][at] += step;
        self.patches[1][at] -= step;
    }

    /// Fills what the patches hold beyond the touched window with base values.
    #[inline(always)]
    pub(crate) fn fill_border<S: Simd>(&mut self, s: S) {
        let rows = self.rows;
        let columns = self.columns;
        if rows.stored == rows.touched && columns.stored == columns.touched {
            return;
        }
        for row in rows.stored.range() {
            if row < rows.touched.start || row >= rows.touched.end {
                self.fill(s, row, columns.stored);
            } else {
                self.fill(s, row, AxisSpan { start: columns.stored.start, end: columns.touched.start });
                self.fill(s, row, AxisSpan { start: columns.touched.end, end: columns.stored.end });
            }
        }
    }

    /// Base values in a piece of a row of patches of whole lines.
    #[inline(always)]
    fn fill<S: Simd>(&mut self, s: S, row: usize, columns: AxisSpan) {
        let count = columns.len() * self.lines;
        let base = &self.base[(row * self.width + columns.start) * self.lines..][..count];
        let at = (row - self.rows.stored.start) * self.row_stride
            + (columns.start - self.columns.stored.start) * self.stride;
        let [plus, minus] = &mut self.patches;
        let (plus, _) = plus[at..][..count * LANES].as_chunks_mut();
        let (minus, _) = minus[at..][..count * LANES].as_chunks_mut();
        for ((line, plus), minus) in base.iter().zip(plus).zip(minus) {
            let value = s.load(&line.0);
            s.store(value, plus);
            s.store(value, minus);
        }
    }
}

/// A pair of patches to read: whole lines per position.
#[derive(Clone, Copy)]
pub(crate) struct PatchSource<'a> {
    pub(crate) patches: SignPair<&'a [Line]>,
    pub(crate) rows: Reach,
    pub(crate) columns: Reach,
    /// The number of lines per position.
    pub(crate) lines: usize,
}

impl PatchSource<'_> {
    /// The line at a position of the map, for both signs.
    #[inline(always)]
    pub(crate) fn get<S: Simd>(&self, s: S, row: usize, column: usize, line: usize) -> SignPair<S::F32> {
        let rows = self.rows.stored;
        let columns = self.columns.stored;
        let at = ((row - rows.start) * columns.len() + column - columns.start) * self.lines + line;
        [s.load(&self.patches[0][at].0), s.load(&self.patches[1][at].0)]
    }
}
