//! The legend: a sample of each line, bar or mark with its name.

use super::svg::{Canvas, INK, MUTED, Rect, Stroke, Type};

/// Radius of the dots on a line, where there is room.
pub(super) const DOT_RADIUS: f64 = 3.2;
/// The line of the figure's own data (a colour-blind-safe blue).
pub(super) const OWN: Stroke = Stroke { colour: "#2166ac", width: 2.0, dashes: None };
/// Chance, or an isotropic network.
pub(super) const CHANCE: Stroke = Stroke { colour: MUTED, width: 1.2, dashes: Some("1.5 3.5") };

const LINE_HEIGHT: f64 = 20.0;
const SAMPLE_WIDTH: f64 = 30.0;
const TEXT: f64 = 13.0;

/// What is shown before a name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sample {
    /// A line.
    Line(Stroke),
    /// A line with a dot.
    Dotted(Stroke),
}

/// Draws the entries from the baseline `area.y` downwards; returns the baseline of what may follow.
pub(super) fn draw<'a>(canvas: &mut Canvas, area: Rect, entries: impl IntoIterator<Item = (Sample, &'a str)>) -> f64 {
    let mut y = area.y;
    for (sample, name) in entries {
        draw_sample(canvas, (area.x, y - TEXT * 0.36), sample);
        let x = area.x + SAMPLE_WIDTH + 10.0;
        canvas.fitted_text((x, y), Type::new(TEXT, INK), name, area.right() - x, 10.0);
        y += LINE_HEIGHT;
    }
    y
}

fn draw_sample(canvas: &mut Canvas, (x, y): (f64, f64), sample: Sample) {
    let (Sample::Line(stroke) | Sample::Dotted(stroke)) = sample;
    canvas.line((x, y), (x + SAMPLE_WIDTH, y), stroke);
    if let Sample::Dotted(stroke) = sample {
        canvas.dot((x + SAMPLE_WIDTH / 2.0, y), DOT_RADIUS, stroke.colour);
    }
}
