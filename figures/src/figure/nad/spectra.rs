//! The spectra of several architectures: sᵢ/s₀ against i + 1, both axes logarithmic, with standard errors.

use ndarray::ArrayView1;

use super::{
    Figure, FigureError, Theme,
    spectrum::{NOISE_FLOOR, draw_vertical_grid},
};
use crate::figure::{
    axis::{LogAxis, LogLabels, draw_titles, round_down},
    input::check_filled,
    legend::{self, Sample},
    marks::draw_band,
    numbers::significant,
    sheet::Sheet,
    svg::{Canvas, Rect, Stroke},
    theme::Paint,
};

const PLOT_WIDTH: f64 = 640.0;
/// Shorter axes are labelled with their values, longer ones with powers of ten.
const MAX_WRITTEN_DECADES: f64 = 3.0;
const EFFECTIVE_RANK_INDENT: f64 = 40.0;

/// The spectrum of one architecture.
#[derive(Clone, Copy, Debug)]
pub struct SpectrumSeries<'a> {
    /// The name in the legend.
    pub name: &'a str,
    /// Singular values in decreasing order.
    pub singular_values: ArrayView1<'a, f64>,
    /// Their standard errors, as many, if they are known.
    pub standard_errors: Option<ArrayView1<'a, f64>>,
    /// D if all directions are alike, 1 if there is but one.
    pub effective_rank: Option<f64>,
}

/// The content of a picture of spectra.
#[derive(Clone, Copy, Debug)]
pub struct Spectra<'a> {
    /// The title of the page.
    pub title: &'a str,
    /// The measurement, in words.
    pub subtitle: &'a str,
    /// At least one is required.
    pub series: &'a [SpectrumSeries<'a>],
}

/// Draws singular values over the largest of each spectrum, in a band of a standard error to either side.
///
/// Values below 1e-6 of the largest are a null space or rounding noise, and are left out.
///
/// # Errors
/// There are no series, or a singular value or standard error is none.
pub fn spectra(spectra: &Spectra<'_>, theme: Theme) -> Result<Figure, FigureError> {
    check_filled(spectra.series, || "series".into())?;
    let lines: Vec<SpectrumLine> =
        spectra.series.iter().enumerate().map(SpectrumLine::new).collect::<Result<_, _>>()?;
    let mut sheet = Sheet::new(theme, spectra.title, spectra.subtitle, PLOT_WIDTH);
    let Sheet { canvas, plot, key, .. } = &mut sheet;
    let (across, up) = axes(*plot, &lines);
    draw_vertical_grid(canvas, *plot, &across);
    let written = -up.low <= MAX_WRITTEN_DECADES;
    up.draw_rows(canvas, *plot, if written { LogLabels::WrittenOut } else { LogLabels::Powers });
    draw_titles(canvas, *plot, "rank of the direction, i + 1", "singular value over the largest, s / s₀");
    let place = |rank: f64, value: f64| (across.place(rank), up.place(value.max(10_f64.powf(up.low))));
    for (index, line) in lines.iter().enumerate() {
        let edges: Vec<(f64, f64, f64)> = line
            .ranked()
            .filter(|(_, point)| point.error > 0.0)
            .map(|(rank, point)| {
                let (x, low) = place(rank, point.value - point.error);
                let (_, high) = place(rank, point.value + point.error);
                (x, low, high)
            })
            .collect();
        if !edges.is_empty() {
            draw_band(canvas, &edges, Paint::Series(index));
        }
    }
    for (index, line) in lines.iter().enumerate() {
        let points: Vec<(f64, f64)> = line.ranked().map(|(rank, point)| place(rank, point.value)).collect();
        match points[..] {
            [point] => canvas.dot(point, 3.2, Paint::Series(index)),
            _ => canvas.polyline(&points, stroke(index)),
        }
    }
    canvas.frame(*plot, Stroke::solid(Paint::Ink, 1.0));
    draw_key(canvas, *key, spectra.series, &lines);
    Ok(sheet.finish())
}

/// A singular value and its standard error, both over the largest singular value.
#[derive(Clone, Copy, Debug)]
struct Point {
    value: f64,
    error: f64,
}

/// A spectrum as it is drawn.
struct SpectrumLine(Vec<Point>);

impl SpectrumLine {
    fn new((place, series): (usize, &SpectrumSeries<'_>)) -> Result<Self, FigureError> {
        let usable = |value: f64| value.is_finite() && value >= 0.0;
        let largest = series.singular_values.first().copied().unwrap_or(0.0);
        let wrong = series.singular_values.iter().position(|&value| !usable(value) || largest <= 0.0);
        if let Some(index) = wrong {
            let value = series.singular_values[index];
            return Err(FigureError::SingularValue { spectrum: series.name.to_owned(), index, value });
        }
        if series.singular_values.is_empty() {
            return Err(FigureError::EmptyField { field: format!("series[{place}].singular_values") });
        }
        let error = |index: usize| series.standard_errors.map_or(0.0, |all| all.get(index).copied().unwrap_or(0.0));
        let point = |(index, &value): (usize, &f64)| {
            let error = error(index);
            if usable(error) {
                return Ok(Point { value: value / largest, error: error / largest });
            }
            let field = format!("series[{place}].standard_errors[{index}]");
            Err(FigureError::Value { field, value: error, accepted: "a finite number from 0".into() })
        };
        let points = series.singular_values.iter().enumerate().map(point).collect::<Result<Vec<_>, _>>()?;
        Ok(Self(points.into_iter().take_while(|point| point.value.powi(2) > NOISE_FLOOR).collect()))
    }

    /// The points with their ranks from 1.
    fn ranked(&self) -> impl Iterator<Item = (f64, Point)> + '_ {
        self.0.iter().enumerate().map(|(index, &point)| ((index + 1) as f64, point))
    }
}

/// The horizontal axis covers every rank, the vertical one a decade at least, down to a round number below the smallest value.
fn axes(plot: Rect, lines: &[SpectrumLine]) -> (LogAxis, LogAxis) {
    let longest = lines.iter().map(|line| line.0.len()).max().unwrap_or(1).max(2);
    let smallest = lines.iter().flat_map(|line| &line.0).map(|point| point.value).fold(1.0, f64::min);
    let span = (longest as f64).log10();
    let margin = 0.03 * span;
    // A little above 1, for the error of the largest.
    let low = round_down(smallest.log10()).min(-1.0);
    (
        LogAxis { low: -margin, high: span + margin, start: plot.x, end: plot.right() },
        LogAxis { low, high: 0.02 * -low + 0.04, start: plot.bottom(), end: plot.y },
    )
}

fn stroke(index: usize) -> Stroke {
    Stroke::solid(Paint::Series(index), 1.6)
}

fn draw_key(canvas: &mut Canvas, area: Rect, series: &[SpectrumSeries<'_>], lines: &[SpectrumLine]) {
    let mut y = area.y;
    for (index, series) in series.iter().enumerate() {
        y = legend::draw(canvas, Rect { y, ..area }, [(Sample::Line(stroke(index)), series.name)]);
        if let Some(rank) = series.effective_rank {
            let beside = Rect { x: area.x + EFFECTIVE_RANK_INDENT, y: y - 3.0, ..area };
            y = legend::draw_note(canvas, beside, &format!("effective rank {}", significant(rank))) + 4.0;
        }
    }
    if lines.iter().flat_map(|line| &line.0).any(|point| point.error > 0.0) {
        for note in ["Bands: ± one standard error,", "where that is wider than the line."] {
            y = legend::draw_note(canvas, Rect { y: y + 6.0, ..area }, note) - 9.0;
        }
    }
}
