//! Marks that several figures draw: their colours and sizes, ranges, bands and boxes.

use super::{
    svg::{Canvas, Rect, Stroke},
    theme::Paint,
};

/// Radius of the dots on a line, where there is room.
pub(super) const DOT_RADIUS: f64 = 3.2;
/// The line of the figure's own data.
pub(super) const OWN: Stroke = Stroke { colour: Paint::Series(0), width: 2.0, dashes: None };
/// The accuracy of a guess.
pub(super) const CHANCE: Stroke = Stroke { colour: Paint::Ink, width: 1.0, dashes: Some("5 4") };
/// Half the width of the caps of a range, where there is room.
pub(super) const CAP: f64 = 3.5;

const MIN_DOT_RADIUS: f64 = 1.6;
const BAND_OPACITY: f64 = 0.22;
const OUTLINE: f64 = 2.0;

/// Mean distance across the page of points in order; infinite for a single one.
pub(super) fn mean_distance(points: &[(f64, f64)]) -> f64 {
    match points {
        [first, .., last] => (last.0 - first.0) / (points.len() - 1) as f64,
        _ => f64::INFINITY,
    }
}

/// Draws a dot at every point, small enough not to hide its neighbours, as far as it can then be seen at all.
pub(super) fn draw_dots(canvas: &mut Canvas, points: &[(f64, f64)], colour: Paint) {
    let radius = (mean_distance(points) * 0.4).clamp(MIN_DOT_RADIUS, DOT_RADIUS);
    // Radii are not rounded by the canvas.
    let radius = (radius * 100.0).round() / 100.0;
    points.iter().for_each(|&point| canvas.dot(point, radius, colour));
}

/// The range between two heights, with caps of half-width `cap`.
pub(super) fn draw_range(canvas: &mut Canvas, x: f64, (from, to): (f64, f64), cap: f64, colour: Paint) {
    let stroke = Stroke::solid(colour, 1.2);
    canvas.line((x, from), (x, to), stroke);
    if cap > 0.0 {
        canvas.line((x - cap, from), (x + cap, from), stroke);
        canvas.line((x - cap, to), (x + cap, to), stroke);
    }
}

/// A band through points (x, one edge, the other edge); around a single point, a range.
pub(super) fn draw_band(canvas: &mut Canvas, points: &[(f64, f64, f64)], colour: Paint) {
    if let [(x, from, to)] = *points {
        return draw_range(canvas, x, (from, to), CAP, colour);
    }
    let there = points.iter().map(|&(x, edge, _)| (x, edge));
    let back = points.iter().rev().map(|&(x, _, edge)| (x, edge));
    canvas.polygon(&there.chain(back).collect::<Vec<_>>(), colour, BAND_OPACITY);
}

/// An empty box with a wide edge inside `area`.
pub(super) fn draw_outline(canvas: &mut Canvas, area: Rect, colour: Paint) {
    canvas.fill(area, Paint::Paper);
    let half = OUTLINE / 2.0;
    let width = (area.width - OUTLINE).max(0.0);
    let height = (area.height - OUTLINE).max(0.0);
    let edge = Rect { x: area.x + half, y: area.y + half, width, height };
    canvas.frame(edge, Stroke::solid(colour, OUTLINE));
}
