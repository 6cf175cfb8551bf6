//! Distance to the decision boundary along blocks of NADs: medians over test samples, and the middle half of them.
//!
//! Absent: means, which a few samples far from any boundary would carry away.

use super::{
    Figure, FigureError,
    axis::{LinearAxis, LogAxis, LogLabels, draw_titles, round_down, round_up},
    input::{check_filled, check_length, check_ordered, check_rising},
    legend::{self, Sample},
    marks::{draw_band, draw_dots},
    sheet::Sheet,
    svg::{Canvas, Rect, Stroke},
    theme::{Paint, Theme},
};

const PLOT_WIDTH: f64 = 640.0;
/// From this ratio of the largest to the smallest value on, the axis is logarithmic.
const LOG_RATIO: f64 = 10.0;
/// Longer logarithmic axes are labelled with powers of ten.
const MAX_WRITTEN_DECADES: f64 = 3.0;
/// Free space above the largest value on a linear axis, as a part of it.
const HEADROOM: f64 = 0.05;

/// The margins of the test samples in one block of NADs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MarginBlock {
    /// Index of the block's first NAD.
    pub first_index: u64,
    /// Median margin, in the units of the input.
    pub median: f64,
    /// A quarter of the samples have less.
    pub lower_quartile: f64,
    /// A quarter of the samples have more.
    pub upper_quartile: f64,
}

/// The margins of one architecture, or under one condition.
#[derive(Clone, Copy, Debug)]
pub struct MarginSeries<'a> {
    /// The name in the legend.
    pub name: &'a str,
    /// The blocks, in order of their index.
    pub blocks: &'a [MarginBlock],
}

/// The content of a margin curve.
#[derive(Clone, Copy, Debug)]
pub struct MarginCurve<'a> {
    /// The title of the page.
    pub title: &'a str,
    /// The measurement, in words.
    pub subtitle: &'a str,
    /// At least one series is required.
    pub series: &'a [MarginSeries<'a>],
}

/// Draws median margins against the first index of each block, in a band from the lower to the upper quartile.
///
/// The vertical axis is logarithmic where all values are positive and span a decade, and else begins at zero.
///
/// # Errors
/// There are no series, one has no blocks or indices that do not rise, or a margin is negative, not finite, or outside
/// its quartiles.
pub fn margin_curve(curve: &MarginCurve<'_>, theme: Theme) -> Result<Figure, FigureError> {
    check(curve)?;
    let mut sheet = Sheet::new(theme, curve.title, curve.subtitle, PLOT_WIDTH);
    let Sheet { canvas, plot, key, .. } = &mut sheet;
    let blocks = || curve.series.iter().flat_map(|series| series.blocks);
    let across = LinearAxis::over_indices(*plot, blocks().map(|block| block.first_index));
    let up = UpAxis::new(*plot, blocks().flat_map(|block| [block.lower_quartile, block.upper_quartile]));
    across.draw_columns(canvas, *plot);
    up.draw_rows(canvas, *plot);
    draw_titles(canvas, *plot, "first index of the block of NADs", "median margin, ‖r‖₂");
    for (index, series) in curve.series.iter().enumerate() {
        let edges = series.blocks.iter().map(|block| {
            let x = across.place(block.first_index as f64);
            (x, up.place(block.lower_quartile), up.place(block.upper_quartile))
        });
        draw_band(canvas, &edges.collect::<Vec<_>>(), Paint::Series(index));
    }
    canvas.frame(*plot, Stroke::solid(Paint::Ink, 1.0));
    for (index, series) in curve.series.iter().enumerate() {
        let place = |block: &MarginBlock| (across.place(block.first_index as f64), up.place(block.median));
        let medians: Vec<(f64, f64)> = series.blocks.iter().map(place).collect();
        canvas.polyline(&medians, line(Paint::Series(index)));
        draw_dots(canvas, &medians, Paint::Series(index));
    }
    draw_key(canvas, *key, curve);
    Ok(sheet.finish())
}

fn check(curve: &MarginCurve<'_>) -> Result<(), FigureError> {
    check_filled(curve.series, || "series".into())?;
    for (index, series) in curve.series.iter().enumerate() {
        let field = format!("series[{index}].blocks");
        check_filled(series.blocks, || field.clone())?;
        check_rising(series.blocks.iter().map(|block| block.first_index), &field, "first_index")?;
        for (index, block) in series.blocks.iter().enumerate() {
            check_block(block, &format!("{field}[{index}]"))?;
        }
    }
    Ok(())
}

fn check_block(block: &MarginBlock, field: &str) -> Result<(), FigureError> {
    let MarginBlock { median, lower_quartile, upper_quartile, .. } = *block;
    let values = [("lower_quartile", lower_quartile), ("median", median), ("upper_quartile", upper_quartile)];
    for (name, value) in values {
        check_length(value, || format!("{field}.{name}"))?;
    }
    check_ordered(&values, field)
}

/// The vertical axis, on the scale that fits.
enum UpAxis {
    Linear(LinearAxis),
    Log(LogAxis),
}

impl UpAxis {
    fn new(plot: Rect, margins: impl Iterator<Item = f64>) -> Self {
        let (low, high) =
            margins.fold((f64::INFINITY, 0.0_f64), |(low, high), margin| (low.min(margin), high.max(margin)));
        let start = plot.bottom();
        let end = plot.y;
        if low > 0.0 && high / low >= LOG_RATIO {
            let low = round_down(low.log10());
            let high = round_up(high.log10());
            return Self::Log(LogAxis { low, high, start, end });
        }
        // All margins may be zero.
        let top = if high > 0.0 { high * (1.0 + HEADROOM) } else { 1.0 };
        Self::Linear(LinearAxis::new((0.0, top), (start, end), 8))
    }

    fn place(&self, margin: f64) -> f64 {
        match self {
            Self::Linear(axis) => axis.place(margin),
            Self::Log(axis) => axis.place(margin),
        }
    }

    fn draw_rows(&self, canvas: &mut Canvas, plot: Rect) {
        match self {
            Self::Linear(axis) => axis.draw_rows(canvas, plot),
            Self::Log(axis) if axis.high - axis.low > MAX_WRITTEN_DECADES => {
                axis.draw_rows(canvas, plot, LogLabels::Powers);
            }
            Self::Log(axis) => axis.draw_rows(canvas, plot, LogLabels::WrittenOut),
        }
    }
}

/// The line through the medians.
fn line(colour: Paint) -> Stroke {
    Stroke::solid(colour, 1.6)
}

fn draw_key(canvas: &mut Canvas, area: Rect, curve: &MarginCurve<'_>) {
    let series = curve
        .series
        .iter()
        .enumerate()
        .map(|(index, series)| (Sample::Banded(line(Paint::Series(index))), series.name));
    let y = legend::draw(canvas, area, series);
    legend::draw_note(canvas, Rect { y: y + 6.0, ..area }, "Bands: 25% to 75% of the samples.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_is_logarithmic_from_a_decade_on() {
        let plot = Rect { x: 0.0, y: 0.0, width: 1.0, height: 1.0 };
        let is_log = |margins: [f64; 2]| matches!(UpAxis::new(plot, margins.into_iter()), UpAxis::Log(_));
        assert!(is_log([0.5, 5.0]));
        assert!(!is_log([0.5, 4.0]));
        assert!(!is_log([0.0, 4.0]));
        assert_eq!(UpAxis::new(plot, [0.0].into_iter()).place(0.0), 1.0);
    }
}
