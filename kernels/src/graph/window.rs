//! The place of a window in its buffer.

use crate::span::AxisSpan;

/// A window and the row of its buffer where it starts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WindowSlot {
    pub(crate) rows: AxisSpan,
    pub(crate) columns: AxisSpan,
    pub(crate) start: usize,
}

impl WindowSlot {
    pub(super) fn area(&self) -> usize {
        self.rows.len() * self.columns.len()
    }
}
