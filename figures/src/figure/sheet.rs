//! The page of a figure: its header, and for a figure with one plot the places of the plot and of the key beside it.

use super::svg::{Canvas, INK, MUTED, Type};

const TITLE_BASELINE: f64 = 44.0;
const SUBTITLE_BASELINE: f64 = 70.0;

/// Draws title and subtitle over a part of the page that begins at `left`.
pub(super) fn draw_header(canvas: &mut Canvas, left: f64, width: f64, title: &str, subtitle: &str) {
    canvas.fitted_text((left, TITLE_BASELINE), Type::new(23.0, INK), title, width, 13.0);
    canvas.fitted_text((left, SUBTITLE_BASELINE), Type::new(14.5, MUTED), subtitle, width, 11.0);
}
