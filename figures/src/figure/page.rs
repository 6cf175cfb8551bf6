//! The page: its measures, its header, and the order of its parts from top to bottom.

use super::{
    FigureError, NadFigure, gallery, key,
    spectrum::{self, Shares},
    svg::{Canvas, INK, MUTED, Rect, Type},
};

/// Columns of the gallery, and the grid that everything else aligns with.
pub(super) const COLUMNS: usize = 8;
/// Left edge of the first column; the axis labels stand to its left.
pub(super) const LEFT: f64 = 88.0;
/// Width of a column.
pub(super) const COLUMN_WIDTH: f64 = 98.0;
/// Space between columns.
pub(super) const COLUMN_GAP: f64 = 14.0;
/// Right edge of the last column.
pub(super) const RIGHT: f64 = LEFT + COLUMNS as f64 * (COLUMN_WIDTH + COLUMN_GAP) - COLUMN_GAP;

const PAGE_WIDTH: f64 = RIGHT + 24.0;
const TITLE_BASELINE: f64 = 44.0;
const SUBTITLE_BASELINE: f64 = 70.0;
const GALLERY_TOP: f64 = 96.0;
const PLOT_GAP: f64 = 40.0;
const PLOT_COLUMNS: f64 = 5.0;
const PLOT_HEIGHT: f64 = 320.0;
const KEY_INDENT: f64 = 26.0;
const FOOT: f64 = 68.0;

/// Draws the whole page and returns the document.
pub(super) fn draw(figure: &NadFigure<'_>, shares: &Shares, reference: Option<&Shares>) -> Result<String, FigureError> {
    let mut canvas = Canvas::default();
    let title = format!("Neural anisotropy directions of {}", figure.architecture);
    draw_header(&mut canvas, &title, &subtitle(figure));
    let shown = gallery::shown_indices(figure.nads.nrows().min(shares.informative()));
    let gallery_bottom = gallery::draw(&mut canvas, GALLERY_TOP, figure, shares, &shown)?;
    let plot = Rect {
        x: LEFT,
        y: gallery_bottom + PLOT_GAP,
        width: PLOT_COLUMNS * (COLUMN_WIDTH + COLUMN_GAP) - COLUMN_GAP,
        height: PLOT_HEIGHT,
    };
    spectrum::draw(&mut canvas, plot, figure.shape.dimension(), shares, reference, &shown);
    let beside = plot.right() + COLUMN_GAP + KEY_INDENT;
    let key = Rect { x: beside, width: RIGHT - beside, ..plot };
    key::draw(&mut canvas, key, figure.shape, shares, reference)?;
    Ok(canvas.finish(PAGE_WIDTH, plot.bottom() + FOOT, &title))
}

fn draw_header(canvas: &mut Canvas, title: &str, subtitle: &str) {
    let width = RIGHT - LEFT;
    canvas.fitted_text((LEFT, TITLE_BASELINE), Type::new(23.0, INK), title, width, 13.0);
    canvas.fitted_text((LEFT, SUBTITLE_BASELINE), Type::new(14.5, MUTED), subtitle, width, 11.0);
}

fn subtitle(figure: &NadFigure<'_>) -> String {
    let networks = figure.networks.map(|networks| format!("N = {} networks", grouped(networks)));
    let estimator = match figure.step {
        Some(step) => format!("{}, h = {step}", figure.estimator),
        None => figure.estimator.to_owned(),
    };
    let input = format!("input {}", figure.shape);
    networks.into_iter().chain([estimator, input]).collect::<Vec<_>>().join(" · ")
}

/// A count with its thousands set apart: 10,000.
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A fraction as a percentage: one decimal, or two significant digits below one per cent.
pub(super) fn percent(fraction: f64) -> String {
    match 100.0 * fraction {
        percent if percent >= 1.0 => format!("{percent:.1}%"),
        percent if percent >= 0.1 => format!("{percent:.2}%"),
        percent if percent >= 0.001 => format!("{percent:.3}%"),
        _ => "<0.001%".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped_by_thousands() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }

    #[test]
    fn percentages_keep_what_can_be_read() {
        assert_eq!(percent(0.5307), "53.1%");
        assert_eq!(percent(0.0053), "0.53%");
        assert_eq!(percent(0.000_981), "0.098%");
        assert_eq!(percent(4.5e-6), "<0.001%");
    }
}
