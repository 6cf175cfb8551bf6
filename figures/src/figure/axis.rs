//! Axes of a plot: where a value lies on the page, which values are labelled, and the grid behind the data.

use super::{
    numbers::superscript,
    svg::{Canvas, FINE_GRID, GRID, INK, Rect, Stroke, Type},
};

/// More decades than this are labelled in steps.
const MAX_DECADE_LABELS: i32 = 8;
/// More decades than this have no grid within them.
const MAX_FINE_DECADES: i32 = 4;
const TICK: f64 = 13.0;

/// A logarithmic axis: log10 of the values at its ends, and where those lie on the page.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogAxis {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) start: f64,
    pub(super) end: f64,
}

impl LogAxis {
    pub(super) fn place(&self, value: f64) -> f64 {
        self.start + (value.log10() - self.low) / (self.high - self.low) * (self.end - self.start)
    }

    fn exponents(&self) -> std::ops::RangeInclusive<i32> {
        self.low.floor() as i32..=self.high.floor() as i32
    }

    /// Values m·10^e within the axis, as (m, e, value).
    pub(super) fn ticks(&self) -> impl Iterator<Item = (i32, i32, f64)> + '_ {
        self.exponents()
            .flat_map(|exponent| (1..10).map(move |digit| (digit, exponent)))
            .map(|(digit, exponent)| (digit, exponent, f64::from(digit) * 10_f64.powi(exponent)))
            .filter(|&(_, _, value)| (self.low - 1e-9..=self.high + 1e-9).contains(&value.log10()))
    }

    /// Draws a vertical axis's lines across the plot, and its labels to the left.
    pub(super) fn draw_rows(&self, canvas: &mut Canvas, plot: Rect) {
        let decades = (self.high - self.low).round() as i32;
        let step = ((decades + MAX_DECADE_LABELS - 1) / MAX_DECADE_LABELS).max(1);
        for (digit, exponent, value) in self.ticks() {
            let y = self.place(value);
            if digit == 1 {
                draw_row(canvas, plot, y, GRID);
            } else if decades <= MAX_FINE_DECADES {
                draw_row(canvas, plot, y, FINE_GRID);
            }
            if digit == 1 && exponent % step == 0 {
                label_row(canvas, plot, y, &format!("10{}", superscript(exponent)));
            }
        }
    }
}

/// A line across the plot.
fn draw_row(canvas: &mut Canvas, plot: Rect, y: f64, colour: &'static str) {
    canvas.line((plot.x, y), (plot.right(), y), Stroke::solid(colour, 1.0));
}

/// A line up the plot.
pub(super) fn draw_column(canvas: &mut Canvas, plot: Rect, x: f64, colour: &'static str) {
    canvas.line((x, plot.y), (x, plot.bottom()), Stroke::solid(colour, 1.0));
}

/// A label of the vertical axis.
pub(super) fn label_row(canvas: &mut Canvas, plot: Rect, y: f64, text: &str) {
    canvas.text((plot.x - 8.0, y + 4.5), Type::new(TICK, INK).end(), text);
}

/// A label of the horizontal axis.
pub(super) fn label_column(canvas: &mut Canvas, plot: Rect, x: f64, text: &str) {
    canvas.text((x, plot.bottom() + 19.0), Type::new(TICK, INK).middle(), text);
}

/// What the two axes show.
pub(super) fn draw_titles(canvas: &mut Canvas, plot: Rect, across: &str, up: &str) {
    let title = Type::new(14.5, INK).middle();
    let (x, y) = plot.centre();
    canvas.text((x, plot.bottom() + 45.0), title, across);
    canvas.upright_text((plot.x - 58.0, y), title, up);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithmic_ticks_are_the_multiples_within_the_axis() {
        let axis = LogAxis { low: -1.0, high: 0.0, start: 0.0, end: 100.0 };
        let ticks: Vec<(i32, i32)> = axis.ticks().map(|(digit, exponent, _)| (digit, exponent)).collect();
        assert_eq!(ticks.first(), Some(&(1, -1)));
        assert_eq!(ticks.last(), Some(&(1, 0)));
        assert_eq!(ticks.len(), 10);
        assert!((axis.place(1.0) - 100.0).abs() < 1e-12);
    }
}
