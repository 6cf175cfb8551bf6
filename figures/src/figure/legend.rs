//! The legend: a sample of each line, bar or mark with its name.

use super::{
    marks::{CAP, DOT_RADIUS, draw_band, draw_outline, draw_range},
    svg::{Canvas, Rect, Stroke, Type},
    theme::Paint,
};

const LINE_HEIGHT: f64 = 20.0;
const SAMPLE_WIDTH: f64 = 30.0;
const SAMPLE_HEIGHT: f64 = 12.0;
const TEXT: f64 = 13.0;
const NOTE: f64 = 12.0;

/// The sample before a name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sample {
    /// A line.
    Line(Stroke),
    /// A line with a dot.
    Dotted(Stroke),
    /// A line with a dot and the range around it.
    Ranged(Stroke),
    /// A line with a dot in its band.
    Banded(Stroke),
    /// A box of this colour.
    Filled(Paint),
    /// A box with an edge of this colour.
    Outlined(Paint),
    /// A hatched box.
    Hatched,
}

/// Draws the entries from the baseline `area.y` downwards; returns the baseline of what may follow.
pub(super) fn draw<T: AsRef<str>>(
    canvas: &mut Canvas,
    area: Rect,
    entries: impl IntoIterator<Item = (Sample, T)>,
) -> f64 {
    let mut y = area.y;
    for (sample, name) in entries {
        draw_sample(canvas, (area.x, y - TEXT * 0.36), sample);
        let x = area.x + SAMPLE_WIDTH + 10.0;
        canvas.fitted_text((x, y), Type::new(TEXT, Paint::Ink), name.as_ref(), area.right() - x, 10.0);
        y += LINE_HEIGHT;
    }
    y
}

/// Draws a remark in the legend; returns the baseline of what may follow.
pub(super) fn draw_note(canvas: &mut Canvas, area: Rect, note: &str) -> f64 {
    canvas.fitted_text((area.x, area.y), Type::new(NOTE, Paint::Muted), note, area.width, 9.0);
    area.y + LINE_HEIGHT
}

fn draw_sample(canvas: &mut Canvas, (x, y): (f64, f64), sample: Sample) {
    let area = Rect { x, y: y - SAMPLE_HEIGHT / 2.0, width: SAMPLE_WIDTH, height: SAMPLE_HEIGHT };
    let middle = x + SAMPLE_WIDTH / 2.0;
    match sample {
        Sample::Ranged(stroke) => draw_range(canvas, middle, (area.y, area.bottom()), CAP, stroke.colour),
        Sample::Banded(stroke) => {
            draw_band(canvas, &[(x, area.y, area.bottom()), (area.right(), area.y, area.bottom())], stroke.colour);
        }
        _ => {}
    }
    match sample {
        Sample::Line(stroke) => canvas.line((x, y), (area.right(), y), stroke),
        Sample::Dotted(stroke) | Sample::Ranged(stroke) | Sample::Banded(stroke) => {
            canvas.line((x, y), (area.right(), y), stroke);
            canvas.dot((middle, y), DOT_RADIUS, stroke.colour);
        }
        Sample::Filled(colour) => canvas.fill(area, colour),
        Sample::Outlined(colour) => draw_outline(canvas, area, colour),
        Sample::Hatched => canvas.hatch(area),
    }
}
