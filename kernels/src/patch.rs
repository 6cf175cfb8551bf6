//! Patches: the part of a map that a changed pixel reaches, for the two signs of the change at once.

use crate::plan::{Form, Reach, Span};
use crate::simd::{LANES, Line, Simd};

/// One of each sign: the pixel plus the step, the pixel minus it.
pub(crate) type Pair<T> = [T; 2];

/// Where a stage puts its pair of patches, and the base map that they differ from.
pub(crate) struct Sink<'a> {
    /// The patches, rows by positions by channels.
    pub(crate) patches: Pair<&'a mut [f32]>,
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
    /// Columns of the map.
    pub(crate) width: usize,
    /// Lines per position of the map.
    pub(crate) lines: usize,
}

impl Sink<'_> {
    /// The base value of a line of the map.
    #[inline(always)]
    pub(crate) fn base<S: Simd>(&self, s: S, row: usize, column: usize, line: usize) -> S::F32 {
        s.load(&self.base[(row * self.width + column) * self.lines + line].0)
    }

    /// Stores new values, or their differences from `base`.
    #[inline(always)]
    pub(crate) fn put<S: Simd>(
        &mut self,
        s: S,
        row: usize,
        column: usize,
        line: usize,
        values: Pair<S::F32>,
        base: S::F32,
    ) {
        let at = (row - self.rows.stored.start) * self.row_stride
            + (column - self.columns.stored.start) * self.stride
            + line * LANES;
        for (patch, value) in self.patches.iter_mut().zip(values) {
            let value = if self.form == Form::Deltas { s.sub(value, base) } else { value };
            if let Some(to) = patch[at..].first_chunk_mut() {
                s.store(value, to);
            }
        }
    }

    /// The patches of a pixel of the base map that changes by ±step.
    #[inline(always)]
    pub(crate) fn change<S: Simd>(&mut self, s: S, (channel, row, column): (usize, usize, usize), step: f32) {
        for line in 0..self.lines {
            let base = self.base(s, row, column, line);
            self.put(s, row, column, line, [base; 2], base);
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
        let (rows, columns) = (self.rows, self.columns);
        for row in rows.stored.range() {
            if row < rows.touched.start || row >= rows.touched.end {
                self.fill(s, row, columns.stored);
            } else {
                self.fill(s, row, Span { start: columns.stored.start, end: columns.touched.start });
                self.fill(s, row, Span { start: columns.touched.end, end: columns.stored.end });
            }
        }
    }

    #[inline(always)]
    fn fill<S: Simd>(&mut self, s: S, row: usize, columns: Span) {
        for column in columns.range() {
            for line in 0..self.lines {
                let base = self.base(s, row, column, line);
                self.put(s, row, column, line, [base; 2], base);
            }
        }
    }
}

/// A pair of patches to read: whole lines per position.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) patches: Pair<&'a [Line]>,
    pub(crate) rows: Reach,
    pub(crate) columns: Reach,
    /// Lines per position.
    pub(crate) lines: usize,
}

impl Source<'_> {
    /// The line at a position of the map, for both signs.
    #[inline(always)]
    pub(crate) fn get<S: Simd>(&self, s: S, row: usize, column: usize, line: usize) -> Pair<S::F32> {
        let (rows, columns) = (self.rows.stored, self.columns.stored);
        let at = ((row - rows.start) * columns.len() + column - columns.start) * self.lines + line;
        [s.load(&self.patches[0][at].0), s.load(&self.patches[1][at].0)]
    }
}
