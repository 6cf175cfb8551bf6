//! Accuracies side by side: groups of bars, one group for each architecture.
//!
//! Bars begin at zero, so that their lengths may be compared. Absent: more than four bars a group.

use super::{
    Figure, FigureError,
    axis::{LinearAxis, draw_title_up},
    input::{SeedRange, check_count, check_filled, check_percentage},
    legend::{self, Sample},
    marks::{CAP, CHANCE, draw_outline, draw_range},
    numbers::accuracy,
    sheet::Sheet,
    svg::{Canvas, Rect, Stroke, Type},
    theme::{Paint, Theme},
};

const MAX_SERIES: usize = 4;
/// A bar is as wide as its value.
const BAR_WIDTH: f64 = 32.0;
const BAR_GAP: f64 = 2.0;
const GROUP_GAP: f64 = 34.0;
const MIN_GROUP_WIDTH: f64 = 104.0;
const MIN_PLOT_WIDTH: f64 = 320.0;
/// Top of the axis, which leaves room for the value over a full bar.
const TOP: f64 = 107.0;

/// The origin of a series' values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Measured here: bars are filled.
    Measured,
    /// Published by others: bars are outlined, in the colour of the measured series with the same rank.
    Published,
}

/// One bar of every group.
#[derive(Clone, Copy, Debug)]
pub struct BarSeries<'a> {
    /// The name in the legend.
    pub name: &'a str,
    /// The origin of its values.
    pub origin: Origin,
}

/// The bars of one architecture.
#[derive(Clone, Copy, Debug)]
pub struct BarGroup<'a> {
    /// The label below the group.
    pub name: &'a str,
    /// Test accuracies in per cent, one for each series; `None` leaves its place empty.
    pub bars: &'a [Option<SeedRange>],
}

/// The content of a bar chart of accuracies.
#[derive(Clone, Copy, Debug)]
pub struct AccuracyBars<'a> {
    /// The title of the page.
    pub title: &'a str,
    /// The measurement, in words.
    pub subtitle: &'a str,
    /// One to four series.
    pub series: &'a [BarSeries<'a>],
    /// At least one group is required.
    pub groups: &'a [BarGroup<'a>],
    /// Accuracy of a guess in per cent, 10 for ten classes; drawn as a line.
    pub chance: Option<f64>,
}

/// Draws groups of bars at the means, each with its value and the range of its seeds. The page grows with the groups.
///
/// # Errors
/// There are no groups, too few or too many series, a group has another number of bars than there are series, or an
/// accuracy is not a percentage.
pub fn accuracy_bars(chart: &AccuracyBars<'_>, theme: Theme) -> Result<Figure, FigureError> {
    check(chart)?;
    let count = chart.series.len() as f64;
    let group_width = (count * (BAR_WIDTH + BAR_GAP) - BAR_GAP + GROUP_GAP).max(MIN_GROUP_WIDTH);
    let plot_width = (group_width * chart.groups.len() as f64).max(MIN_PLOT_WIDTH);
    let mut sheet = Sheet::new(theme, chart.title, chart.subtitle, plot_width);
    let Sheet { canvas, plot, key, .. } = &mut sheet;
    let up = LinearAxis::new((0.0, TOP), (plot.bottom(), plot.y), 6);
    up.draw_rows(canvas, *plot);
    draw_title_up(canvas, *plot, "test accuracy (%)");
    let fills = fills(chart.series);
    let pitch = plot.width / chart.groups.len() as f64;
    for (index, group) in chart.groups.iter().enumerate() {
        let area = Rect { x: plot.x + pitch * index as f64, width: pitch, ..*plot };
        draw_group(canvas, area, &up, group, &fills);
    }
    if let Some(chance) = chart.chance {
        let y = up.place(chance);
        canvas.line((plot.x, y), (plot.right(), y), CHANCE);
    }
    canvas.frame(*plot, Stroke::solid(Paint::Ink, 1.0));
    draw_key(canvas, *key, chart, &fills);
    Ok(sheet.finish())
}

fn check(chart: &AccuracyBars<'_>) -> Result<(), FigureError> {
    check_filled(chart.series, || "series".into())?;
    check_filled(chart.groups, || "groups".into())?;
    let series = chart.series.len();
    check_count(series, series <= MAX_SERIES, || "series.len()".into(), "1 to 4")?;
    for (index, group) in chart.groups.iter().enumerate() {
        let field = format!("groups[{index}].bars");
        let bars = group.bars.len();
        check_count(bars, bars == series, || format!("{field}.len()"), &format!("{series}, one for each series"))?;
        for (index, bar) in group.bars.iter().enumerate() {
            bar.map_or(Ok(()), |bar| bar.check(&format!("{field}[{index}]")))?;
        }
    }
    chart.chance.map_or(Ok(()), |chance| check_percentage(chance, || "chance".into()))
}

/// Returns the fill of each series' bars: those of one rank among the measured and the published share a colour.
fn fills(series: &[BarSeries<'_>]) -> Vec<(Origin, Paint)> {
    let rank = |index: usize, origin: Origin| series[..index].iter().filter(|other| other.origin == origin).count();
    let fill = |(index, series): (usize, &BarSeries<'_>)| (series.origin, Paint::Series(rank(index, series.origin)));
    series.iter().enumerate().map(fill).collect()
}

fn draw_group(canvas: &mut Canvas, area: Rect, up: &LinearAxis, group: &BarGroup<'_>, fills: &[(Origin, Paint)]) {
    let (middle, _) = area.centre();
    let width = fills.len() as f64 * (BAR_WIDTH + BAR_GAP) - BAR_GAP;
    let zero = up.place(0.0);
    let name = Type::new(13.0, Paint::Ink).middle();
    canvas.fitted_text((middle, area.bottom() + 19.0), name, group.name, area.width - 8.0, 9.0);
    for (index, (bar, &(origin, colour))) in group.bars.iter().zip(fills).enumerate() {
        let Some(bar) = bar else { continue };
        let x = middle - width / 2.0 + index as f64 * (BAR_WIDTH + BAR_GAP);
        let y = up.place(bar.mean);
        let area = Rect { x, y, width: BAR_WIDTH, height: zero - y };
        match origin {
            Origin::Measured => canvas.fill(area, colour),
            Origin::Published => draw_outline(canvas, area, colour),
        }
        draw_value(canvas, x + BAR_WIDTH / 2.0, up, bar);
    }
}

/// The range of the seeds, and the mean above it.
fn draw_value(canvas: &mut Canvas, x: f64, up: &LinearAxis, bar: &SeedRange) {
    let top = up.place(bar.max);
    if bar.is_spread() {
        draw_range(canvas, x, (up.place(bar.min), top), CAP, Paint::Ink);
    }
    canvas.rimmed_text((x, top - 5.0), Type::new(11.0, Paint::Ink).middle(), &accuracy(bar.mean));
}

fn draw_key(canvas: &mut Canvas, area: Rect, chart: &AccuracyBars<'_>, fills: &[(Origin, Paint)]) {
    let series = chart.series.iter().zip(fills).map(|(series, &(origin, colour))| {
        let sample = match origin {
            Origin::Measured => Sample::Filled(colour),
            Origin::Published => Sample::Outlined(colour),
        };
        (sample, series.name.to_owned())
    });
    let chance = chart.chance.map(|chance| (Sample::Line(CHANCE), format!("chance, {chance}%")));
    let y = legend::draw(canvas, area, series.chain(chance));
    if chart.groups.iter().flat_map(|group| group.bars.iter().flatten()).any(SeedRange::is_spread) {
        legend::draw_note(canvas, Rect { y: y + 6.0, ..area }, "Thin bars: lowest and highest seed.");
    }
}
