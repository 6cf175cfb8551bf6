//! The measures that the parts of a page share.

/// The columns of the gallery, and the grid that everything else aligns with.
pub(super) const COLUMNS: usize = 8;
/// The left edge of the first column; the axis labels stand to its left.
pub(super) const LEFT: f64 = 88.0;
/// The width of a column.
pub(super) const COLUMN_WIDTH: f64 = 98.0;
/// The space between columns.
pub(super) const COLUMN_GAP: f64 = 14.0;
/// The right edge of the last column.
pub(super) const RIGHT: f64 = LEFT + COLUMNS as f64 * (COLUMN_WIDTH + COLUMN_GAP) - COLUMN_GAP;
/// Channels beyond this many are not drawn (their DFT still counts).
pub(super) const MAX_CHANNELS: usize = 4;
