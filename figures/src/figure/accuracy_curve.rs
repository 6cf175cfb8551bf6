//! Accuracy along an index: along NADs, or against the NAD that carries a poison.
//!
//! Absent: smoothing, interpolation between what was measured (the line only joins points), and error bars beyond the
//! range of the seeds.

use super::{
    Figure, FigureError,
    axis::{LinearAxis, draw_titles},
    input::{Level, SeedRange, check_filled, check_percentage, check_rising},
    legend::{self, Sample},
    marks::{CAP, CHANCE, DOT_RADIUS, draw_dots, draw_range, mean_distance},
    sheet::Sheet,
    svg::{Canvas, Rect, Stroke},
    theme::{Paint, Theme},
};

const PLOT_WIDTH: f64 = 640.0;
/// The axis begins and ends on a multiple of this percentage.
const ACCURACY_STEP: f64 = 5.0;
/// Free space beyond an end that a dot may lie on, as a part of the axis.
const MARGIN: f64 = 0.015;
/// Points closer than this have ranges without caps.
const MIN_CAP_DISTANCE: f64 = 9.0;

const CLEAN: Stroke = Stroke { colour: Paint::Ink, width: 1.2, dashes: None };
const PUBLISHED: Stroke = Stroke { colour: Paint::Published, width: 1.6, dashes: None };

/// One measured direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurvePoint {
    /// The index of the direction.
    pub index: u64,
    /// Test accuracy in per cent.
    pub accuracy: SeedRange,
}

/// The directions measured for one architecture, or under one condition.
#[derive(Clone, Copy, Debug)]
pub struct CurveSeries<'a> {
    /// The name in the legend.
    pub name: &'a str,
    /// The points, in order of their index.
    pub points: &'a [CurvePoint],
}

/// A point of a curve that was measured by others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReferencePoint {
    /// The index of the direction.
    pub index: u64,
    /// Test accuracy in per cent.
    pub accuracy: f64,
}

/// A curve that was measured by others.
#[derive(Clone, Copy, Debug)]
pub struct ReferenceCurve<'a> {
    /// The name in the legend.
    pub name: &'a str,
    /// The points, in order of their index.
    pub points: &'a [ReferencePoint],
}

/// The content of an accuracy curve.
#[derive(Clone, Copy, Debug)]
pub struct AccuracyCurve<'a> {
    /// The title of the page.
    pub title: &'a str,
    /// The measurement, in words.
    pub subtitle: &'a str,
    /// The meaning of the index ("index of the direction").
    pub index_title: &'a str,
    /// At least one series is required.
    pub series: &'a [CurveSeries<'a>],
    /// A published curve to compare with, if any.
    pub reference: Option<ReferenceCurve<'a>>,
    /// Accuracy of a guess in per cent, 50 for two classes; drawn as a line.
    pub chance: Option<f64>,
    /// Accuracy of the same network on clean data, if any; drawn as a line.
    pub clean: Option<Level<'a>>,
}

/// Draws test accuracies against an index: dots at the means, bars over the seeds, a thin line from point to point.
///
/// The vertical axis covers all that is drawn, from one multiple of 5% to another. A published curve is a grey line.
///
/// # Errors
/// There are no series, one has no points or indices that do not rise, or an accuracy is not a percentage.
pub fn accuracy_curve(curve: &AccuracyCurve<'_>, theme: Theme) -> Result<Figure, FigureError> {
    check(curve)?;
    let mut sheet = Sheet::new(theme, curve.title, curve.subtitle, PLOT_WIDTH);
    let Sheet { canvas, plot, key, .. } = &mut sheet;
    let axes = Axes::new(*plot, curve);
    axes.across.draw_columns(canvas, *plot);
    axes.up.draw_rows(canvas, *plot);
    draw_titles(canvas, *plot, curve.index_title, "test accuracy (%)");
    canvas.frame(*plot, Stroke::solid(Paint::Ink, 1.0));
    draw_levels(canvas, *plot, &axes, curve);
    if let Some(reference) = curve.reference {
        let points = reference.points.iter().map(|point| axes.place(point.index, point.accuracy));
        draw_reference(canvas, &points.collect::<Vec<_>>());
    }
    for (index, series) in curve.series.iter().enumerate() {
        draw_series(canvas, &axes, series.points, Paint::Series(index));
    }
    draw_key(canvas, *key, curve);
    Ok(sheet.finish())
}

fn check(curve: &AccuracyCurve<'_>) -> Result<(), FigureError> {
    check_filled(curve.series, || "series".into())?;
    for (index, series) in curve.series.iter().enumerate() {
        let field = format!("series[{index}].points");
        check_filled(series.points, || field.clone())?;
        check_rising(series.points.iter().map(|point| point.index), &field, "index")?;
        for (index, point) in series.points.iter().enumerate() {
            point.accuracy.check(&format!("{field}[{index}].accuracy"))?;
        }
    }
    if let Some(reference) = curve.reference {
        let field = "reference.points";
        check_filled(reference.points, || field.into())?;
        check_rising(reference.points.iter().map(|point| point.index), field, "index")?;
        for (index, point) in reference.points.iter().enumerate() {
            check_percentage(point.accuracy, || format!("{field}[{index}].accuracy"))?;
        }
    }
    curve.chance.map_or(Ok(()), |chance| check_percentage(chance, || "chance".into()))?;
    curve.clean.map_or(Ok(()), |clean| check_percentage(clean.accuracy, || "clean.accuracy".into()))
}

struct Axes {
    across: LinearAxis,
    up: LinearAxis,
}

impl Axes {
    fn new(plot: Rect, curve: &AccuracyCurve<'_>) -> Self {
        let points = || curve.series.iter().flat_map(|series| series.points);
        let published = || curve.reference.iter().flat_map(|reference| reference.points);
        let indices = points().map(|point| point.index).chain(published().map(|point| point.index));
        let ranges = points().flat_map(|point| [point.accuracy.min, point.accuracy.max]);
        let levels = curve.chance.into_iter().chain(curve.clean.map(|clean| clean.accuracy));
        let accuracies = ranges.chain(published().map(|point| point.accuracy)).chain(levels);
        Self { across: LinearAxis::over_indices(plot, indices), up: accuracy_axis(plot, accuracies) }
    }

    fn place(&self, index: u64, accuracy: f64) -> (f64, f64) {
        (self.across.place(index as f64), self.up.place(accuracy))
    }
}

/// A vertical axis over all these percentages.
fn accuracy_axis(plot: Rect, accuracies: impl Iterator<Item = f64>) -> LinearAxis {
    let (low, high) =
        accuracies.fold((f64::INFINITY, 0.0_f64), |(low, high), accuracy| (low.min(accuracy), high.max(accuracy)));
    let low = (((low - 1.0) / ACCURACY_STEP).floor() * ACCURACY_STEP).max(0.0);
    let high = (((high + 1.0) / ACCURACY_STEP).ceil() * ACCURACY_STEP).min(100.0);
    let margin = MARGIN * (high - low);
    let below = if low > 0.0 { 0.0 } else { margin };
    LinearAxis::new((low - below, high + margin), (plot.bottom(), plot.y), 10)
}

fn draw_levels(canvas: &mut Canvas, plot: Rect, axes: &Axes, curve: &AccuracyCurve<'_>) {
    let chance = curve.chance.map(|chance| (chance, CHANCE));
    for (accuracy, stroke) in chance.into_iter().chain(curve.clean.map(|clean| (clean.accuracy, CLEAN))) {
        let y = axes.up.place(accuracy);
        canvas.line((plot.x, y), (plot.right(), y), stroke);
    }
}

fn draw_reference(canvas: &mut Canvas, points: &[(f64, f64)]) {
    match points {
        [point] => canvas.dot(*point, DOT_RADIUS, PUBLISHED.colour),
        points => canvas.polyline(points, PUBLISHED),
    }
}

fn draw_series(canvas: &mut Canvas, axes: &Axes, points: &[CurvePoint], colour: Paint) {
    let means: Vec<(f64, f64)> = points.iter().map(|point| axes.place(point.index, point.accuracy.mean)).collect();
    let cap = if mean_distance(&means) < MIN_CAP_DISTANCE { 0.0 } else { CAP };
    for (point, &(x, _)) in points.iter().zip(&means).filter(|(point, _)| point.accuracy.is_spread()) {
        let range = (axes.up.place(point.accuracy.min), axes.up.place(point.accuracy.max));
        draw_range(canvas, x, range, cap, colour);
    }
    canvas.polyline(&means, line(colour));
    draw_dots(canvas, &means, colour);
}

/// The thin line through a series' points.
fn line(colour: Paint) -> Stroke {
    Stroke::solid(colour, 1.1)
}

fn draw_key(canvas: &mut Canvas, area: Rect, curve: &AccuracyCurve<'_>) {
    let is_spread = |series: &CurveSeries<'_>| series.points.iter().any(|point| point.accuracy.is_spread());
    let series = curve.series.iter().enumerate().map(|(index, series)| {
        let line = line(Paint::Series(index));
        let sample = if is_spread(series) { Sample::Ranged(line) } else { Sample::Dotted(line) };
        (sample, series.name.to_owned())
    });
    let reference = curve.reference.map(|reference| (Sample::Line(PUBLISHED), reference.name.to_owned()));
    let clean = curve.clean.map(|clean| (Sample::Line(CLEAN), format!("{}, {:.1}%", clean.name, clean.accuracy)));
    let chance = curve.chance.map(|chance| (Sample::Line(CHANCE), format!("chance, {chance}%")));
    let y = legend::draw(canvas, area, series.chain(reference).chain(clean).chain(chance));
    if curve.series.iter().any(is_spread) {
        legend::draw_note(canvas, Rect { y: y + 6.0, ..area }, "Bars: lowest and highest seed.");
    }
}
