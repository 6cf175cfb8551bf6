//! Axes of a plot: where a value lies on the page, which values are labelled, and the grid behind the data.

use super::{
    numbers::{multiple, superscript},
    svg::{Canvas, Rect, Stroke, Type},
    theme::Paint,
};

/// More decades than this are labelled in steps.
const MAX_DECADE_LABELS: i32 = 8;
/// More decades than this have no grid within them.
const MAX_FINE_DECADES: i32 = 4;
/// Free space beyond the outermost indices, as a part of their span.
const INDEX_MARGIN: f64 = 0.02;
const INDEX_LABELS: u32 = 10;
const PIXEL_LABELS: u32 = 5;
const TICK: f64 = 13.0;
const TITLE: f64 = 14.5;

/// A logarithmic axis: log10 of the values at its ends, and where those lie on the page.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogAxis {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) start: f64,
    pub(super) end: f64,
}

/// The values that a logarithmic axis labels, and the form of the labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogLabels {
    /// Powers of ten, as such.
    Powers,
    /// 1, 2 and 5 times a power of ten, written out.
    WrittenOut,
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
    pub(super) fn draw_rows(&self, canvas: &mut Canvas, plot: Rect, labels: LogLabels) {
        let decades = (self.high - self.low).round() as i32;
        let step = ((decades + MAX_DECADE_LABELS - 1) / MAX_DECADE_LABELS).max(1);
        for (digit, exponent, value) in self.ticks() {
            let y = self.place(value);
            if digit == 1 {
                draw_row(canvas, plot, y, Paint::Grid);
            } else if decades <= MAX_FINE_DECADES {
                draw_row(canvas, plot, y, Paint::FineGrid);
            }
            match labels {
                LogLabels::Powers if digit == 1 && exponent % step == 0 => {
                    label_row(canvas, plot, y, &format!("10{}", superscript(exponent)));
                }
                LogLabels::WrittenOut if matches!(digit, 1 | 2 | 5) => {
                    label_row(canvas, plot, y, &multiple(value, 10_f64.powi(exponent)));
                }
                _ => {}
            }
        }
    }
}

/// A linear axis: the values at its ends, where those lie on the page, and the distance of its labels.
#[derive(Clone, Copy, Debug)]
pub(super) struct LinearAxis {
    low: f64,
    high: f64,
    start: f64,
    end: f64,
    step: f64,
}

impl LinearAxis {
    /// An axis from `low` to `high`, which differ, on the page from `start` to `end`, with at most `labels` + 1 labels.
    pub(super) fn new((low, high): (f64, f64), (start, end): (f64, f64), labels: u32) -> Self {
        Self { low, high, start, end, step: round_step(high - low, labels) }
    }

    /// A horizontal axis over all these indices, with a margin to either side.
    pub(super) fn over_indices(plot: Rect, indices: impl Iterator<Item = u64>) -> Self {
        let (first, last) = indices.fold((u64::MAX, 0), |(low, high), index| (low.min(index), high.max(index)));
        let first = first as f64;
        // A single index, however large, still needs ends that differ.
        let span = (last as f64 - first).max(1.0).max(first * 1e-9);
        let low = first - INDEX_MARGIN * span;
        let high = first + (1.0 + INDEX_MARGIN) * span;
        let axis = Self::new((low, high), (plot.x, plot.right()), INDEX_LABELS);
        Self { step: axis.step.max(1.0), ..axis }
    }

    /// An axis over `count` pixels of which the first is number `first`; whole numbers lie in the middle of theirs.
    pub(super) fn over_pixels(first: i64, count: usize, (start, end): (f64, f64)) -> Self {
        let low = first as f64 - 0.5;
        let axis = Self::new((low, low + count as f64), (start, end), PIXEL_LABELS);
        Self { step: axis.step.max(1.0), ..axis }
    }

    pub(super) fn place(&self, value: f64) -> f64 {
        self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)
    }

    /// The multiples of the step within the axis.
    pub(super) fn ticks(&self) -> impl Iterator<Item = f64> + '_ {
        let first = (self.low / self.step - 1e-9).ceil() as i64;
        let last = (self.high / self.step + 1e-9).floor() as i64;
        (first..=last).map(|multiple| multiple as f64 * self.step)
    }

    /// Labels a vertical axis to the left of the plot, with ticks and without lines across it.
    pub(super) fn label_rows(&self, canvas: &mut Canvas, plot: Rect) {
        for value in self.ticks() {
            let y = self.place(value);
            canvas.line((plot.x - 4.0, y), (plot.x, y), Stroke::solid(Paint::Ink, 1.0));
            label_row(canvas, plot, y, &multiple(value, self.step));
        }
    }

    /// Labels a horizontal axis below the plot, with ticks and without lines up the plot.
    pub(super) fn label_columns(&self, canvas: &mut Canvas, plot: Rect) {
        for value in self.ticks() {
            let x = self.place(value);
            canvas.line((x, plot.bottom()), (x, plot.bottom() + 4.0), Stroke::solid(Paint::Ink, 1.0));
            label_column(canvas, plot, x, &multiple(value, self.step));
        }
    }

    /// Draws a vertical axis's lines across the plot, and its labels to the left.
    pub(super) fn draw_rows(&self, canvas: &mut Canvas, plot: Rect) {
        for value in self.ticks() {
            let y = self.place(value);
            draw_row(canvas, plot, y, Paint::Grid);
            label_row(canvas, plot, y, &multiple(value, self.step));
        }
    }

    /// Draws a horizontal axis's lines up the plot, and its labels below.
    pub(super) fn draw_columns(&self, canvas: &mut Canvas, plot: Rect) {
        for value in self.ticks() {
            let x = self.place(value);
            draw_column(canvas, plot, x, Paint::Grid);
            label_column(canvas, plot, x, &multiple(value, self.step));
        }
    }
}

/// The least of 1, 2 and 5 times a power of ten that cuts `span` into at most `most` steps.
fn round_step(span: f64, most: u32) -> f64 {
    let least = span / f64::from(most);
    let power = 10_f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 5.0].into_iter().map(|digit| digit * power).find(|&step| step >= least * (1.0 - 1e-9));
    step.unwrap_or(10.0 * power)
}

/// log10 of 1, 2, 5 and 10 times the power of ten below a value, given by its own.
fn round_marks(logarithm: f64) -> [f64; 4] {
    [1.0_f64, 2.0, 5.0, 10.0].map(|digit| logarithm.floor() + digit.log10())
}

/// log10 of the 1, 2 or 5 times a power of ten at or below a value, given by its own.
pub(super) fn round_down(logarithm: f64) -> f64 {
    round_marks(logarithm).into_iter().rev().find(|&mark| mark <= logarithm).unwrap_or(logarithm)
}

/// log10 of the 1, 2 or 5 times a power of ten at or above a value, given by its own.
pub(super) fn round_up(logarithm: f64) -> f64 {
    round_marks(logarithm).into_iter().find(|&mark| mark >= logarithm).unwrap_or(logarithm)
}

/// A line across the plot.
fn draw_row(canvas: &mut Canvas, plot: Rect, y: f64, colour: Paint) {
    canvas.line((plot.x, y), (plot.right(), y), Stroke::solid(colour, 1.0));
}

/// A line up the plot.
pub(super) fn draw_column(canvas: &mut Canvas, plot: Rect, x: f64, colour: Paint) {
    canvas.line((x, plot.y), (x, plot.bottom()), Stroke::solid(colour, 1.0));
}

/// A label of the vertical axis.
pub(super) fn label_row(canvas: &mut Canvas, plot: Rect, y: f64, text: &str) {
    canvas.text((plot.x - 8.0, y + 4.5), Type::new(TICK, Paint::Ink).end(), text);
}

/// A label of the horizontal axis.
pub(super) fn label_column(canvas: &mut Canvas, plot: Rect, x: f64, text: &str) {
    canvas.text((x, plot.bottom() + 19.0), Type::new(TICK, Paint::Ink).middle(), text);
}

/// The quantities of the two axes.
pub(super) fn draw_titles(canvas: &mut Canvas, plot: Rect, across: &str, up: &str) {
    canvas.text((plot.centre().0, plot.bottom() + 45.0), Type::new(TITLE, Paint::Ink).middle(), across);
    draw_title_up(canvas, plot, up);
}

/// The quantity of the vertical axis.
pub(super) fn draw_title_up(canvas: &mut Canvas, plot: Rect, title: &str) {
    canvas.upright_text((plot.x - 58.0, plot.centre().1), Type::new(TITLE, Paint::Ink).middle(), title);
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

    #[test]
    fn logarithmic_axes_end_at_round_values() {
        let near = |found: f64, value: f64| (10_f64.powf(found) - value).abs() < 1e-9 * value;
        assert!(near(round_down(0.7_f64.log10()), 0.5));
        assert!(near(round_up(0.7_f64.log10()), 1.0));
        assert!(near(round_down(20.0_f64.log10()), 20.0));
        assert!(near(round_up(31.0_f64.log10()), 50.0));
    }

    #[test]
    fn linear_ticks_are_round_and_few() {
        let axis = LinearAxis::new((45.0, 100.8), (400.0, 0.0), 6);
        assert_eq!(axis.ticks().collect::<Vec<_>>(), [50.0, 60.0, 70.0, 80.0, 90.0, 100.0]);
        assert_eq!(axis.place(45.0), 400.0);
        assert!(axis.place(60.0) > axis.place(70.0));
    }

    #[test]
    fn indices_are_labelled_by_whole_numbers() {
        let plot = Rect { x: 0.0, y: 0.0, width: 100.0, height: 100.0 };
        let axis = |indices: &[u64]| LinearAxis::over_indices(plot, indices.iter().copied());
        assert_eq!(axis(&[2, 0, 1]).ticks().collect::<Vec<_>>(), [0.0, 1.0, 2.0]);
        assert!((0.0..1.0).contains(&axis(&[7]).place(7.0).fract()));
        assert!(axis(&[u64::MAX]).place(u64::MAX as f64).is_finite());
    }

    #[test]
    fn steps_are_one_two_or_five_times_a_power_of_ten() {
        for (span, step) in [(10.0, 1.0), (11.0, 2.0), (0.3, 0.05), (60.0, 10.0), (1_023.0, 200.0)] {
            assert!((round_step(span, 10) - step).abs() < 1e-12, "{span}: {}", round_step(span, 10));
        }
    }
}
