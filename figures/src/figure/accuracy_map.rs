//! Accuracy over a grid of 2-D frequencies, one cell for each direction of the DFT.
//!
//! Rows are k1 and columns k2, both rising from the top left, so that zero frequency lies inside a grid of signed
//! frequencies. Absent: the spread over seeds, and any filling of cells by symmetry.

use std::collections::HashMap;

use super::{
    Figure, FigureError, InputShape,
    axis::{label_column, label_row},
    bitmap::{Colours, PixelRun},
    input::{check_count, check_filled, check_percentage},
    legend::{self, Sample},
    numbers::{accuracy, signed},
    sheet::draw_header,
    svg::{Canvas, Rect, Stroke, Type},
    theme::{ON_BRIGHT, ON_DARK, Paint, Theme, contrast},
};

const LEFT: f64 = 132.0;
const TOP: f64 = 96.0;
/// The grid's longer side, a cell being a whole unit at least; small grids stay smaller.
const GRID_SIDE: f64 = 640.0;
const MAX_CELL: f64 = 64.0;
const MIN_HEADER_WIDTH: f64 = 420.0;
const BAR_GAP: f64 = 26.0;
const BAR_WIDTH: f64 = 16.0;
const MIN_BAR_HEIGHT: f64 = 160.0;
const RIGHT_MARGIN: f64 = 84.0;
const FOOT: f64 = 74.0;
const LEGEND_HEIGHT: f64 = 36.0;

/// The scale begins at chance for two classes.
const LOW: f64 = 50.0;
const HIGH: f64 = 100.0;
const COLOURS: Colours = Colours::Between { low: LOW, high: HIGH };

/// Cells from this size on hold their value as a whole number, and from the next one on with a decimal.
const MIN_VALUE_CELL: f64 = 22.0;
const MIN_DECIMAL_CELL: f64 = 48.0;
/// Smaller cells are not set apart by lines of paper.
const MIN_APART_CELL: f64 = 8.0;
/// Room that a label needs, along a row and along a column.
const COLUMN_LABEL: f64 = 30.0;
const ROW_LABEL: f64 = 16.0;

/// One direction of the grid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MapCell {
    /// Vertical frequency, in cycles per image.
    pub k1: i64,
    /// Horizontal frequency, in cycles per image.
    pub k2: i64,
    /// Test accuracy in per cent, mean over the seeds.
    pub accuracy: f64,
}

/// The content of an accuracy map.
#[derive(Clone, Copy, Debug)]
pub struct AccuracyMap<'a> {
    /// Title of the page, as a rule the architecture's.
    pub title: &'a str,
    /// The measurement, in words.
    pub subtitle: &'a str,
    /// The input's shape; it says which frequencies are zero and which the highest (Nyquist).
    pub shape: InputShape,
    /// The cells measured, in any order.
    pub cells: &'a [MapCell],
}

/// Draws the accuracies of one architecture over a grid of frequencies.
///
/// - Rows and columns are the distinct k1 and k2 in rising order; frequencies of no cell at all are not shown.
/// - Colours run from 50% (and below) to 100%. A cell that was not measured is hatched.
/// - A cell holds its value where it is large enough.
///
/// # Errors
/// There are no cells, or more than 640 rows or columns; two lie at the same place; or an accuracy is not a percentage.
pub fn accuracy_map(map: &AccuracyMap<'_>, theme: Theme) -> Result<Figure, FigureError> {
    check(map)?;
    let grid = FrequencyGrid::new(map.cells)?;
    let mut canvas = Canvas::new(theme);
    let header_width = (grid.area.right() + BAR_GAP + BAR_WIDTH - LEFT).max(MIN_HEADER_WIDTH);
    draw_header(&mut canvas, LEFT, header_width, map.title, map.subtitle);
    let has_gaps = map.cells.len() < grid.rows.len().saturating_mul(grid.columns.len());
    if has_gaps {
        canvas.hatch(grid.area);
    }
    for cell in map.cells {
        draw_cell(&mut canvas, grid.cell(cell), cell.accuracy);
    }
    canvas.frame(grid.area, Stroke::solid(Paint::Ink, 1.0));
    draw_frequencies(&mut canvas, &grid, map.shape);
    let bar = draw_bar(&mut canvas, &grid, map.cells)?;
    let mut bottom = grid.area.bottom() + FOOT;
    if has_gaps {
        legend::draw(&mut canvas, Rect { y: bottom + 14.0, ..grid.area }, [(Sample::Hatched, "not measured")]);
        bottom += LEGEND_HEIGHT;
    }
    let width = bar.right().max(LEFT + MIN_HEADER_WIDTH) + RIGHT_MARGIN;
    Ok(Figure { svg: canvas.finish(width, bottom.max(bar.bottom() + 24.0), map.title) })
}

fn check(map: &AccuracyMap<'_>) -> Result<(), FigureError> {
    check_filled(map.cells, || "cells".into())?;
    let mut seen = HashMap::new();
    for (second, cell) in map.cells.iter().enumerate() {
        let MapCell { k1, k2, accuracy } = *cell;
        check_percentage(accuracy, || format!("cells[{second}].accuracy (k1 = {k1}, k2 = {k2})"))?;
        if let Some(first) = seen.insert((k1, k2), second) {
            return Err(FigureError::SameCell { first, second, k1, k2 });
        }
    }
    Ok(())
}

/// The frequencies shown, and where their cells lie.
struct FrequencyGrid {
    rows: Vec<i64>,
    columns: Vec<i64>,
    /// Side of a cell, whole so that no seams show between cells.
    side: f64,
    area: Rect,
}

impl FrequencyGrid {
    fn new(cells: &[MapCell]) -> Result<Self, FigureError> {
        let rows = distinct(cells.iter().map(|cell| cell.k1));
        let columns = distinct(cells.iter().map(|cell| cell.k2));
        for (name, frequencies) in [("k1", &rows), ("k2", &columns)] {
            let count = frequencies.len();
            let field = || format!("the number of distinct cells[..].{name}");
            check_count(count, count as f64 <= GRID_SIDE, field, &format!("1 to {GRID_SIDE}"))?;
        }
        let side = (GRID_SIDE / rows.len().max(columns.len()) as f64).floor().min(MAX_CELL);
        let width = side * columns.len() as f64;
        let height = side * rows.len() as f64;
        Ok(Self { rows, columns, side, area: Rect { x: LEFT, y: TOP, width, height } })
    }

    fn cell(&self, cell: &MapCell) -> Rect {
        let before = |frequencies: &[i64], k: i64| frequencies.partition_point(|&frequency| frequency < k) as f64;
        Rect {
            x: self.area.x + self.side * before(&self.columns, cell.k2),
            y: self.area.y + self.side * before(&self.rows, cell.k1),
            width: self.side,
            height: self.side,
        }
    }

    /// Position of the middle of row or column `index`, from the grid's edge.
    fn middle(&self, index: usize) -> f64 {
        self.side * (index as f64 + 0.5)
    }
}

fn distinct(frequencies: impl Iterator<Item = i64>) -> Vec<i64> {
    let mut frequencies: Vec<i64> = frequencies.collect();
    frequencies.sort_unstable();
    frequencies.dedup();
    frequencies
}

fn draw_cell(canvas: &mut Canvas, area: Rect, value: f64) {
    let colour = COLOURS.eval(value, Theme::Light);
    canvas.fill(area, Paint::Exact(colour));
    if area.width >= MIN_APART_CELL {
        canvas.frame(area, Stroke::solid(Paint::Paper, 0.5));
    }
    if area.width >= MIN_VALUE_CELL {
        let decimal = area.width >= MIN_DECIMAL_CELL;
        let text = if decimal { accuracy(value) } else { format!("{value:.0}") };
        let size = (area.width * if decimal { 0.27 } else { 0.36 }).min(14.0);
        let (x, y) = area.centre();
        canvas.text((x, y + size * 0.36), Type::new(size, text_colour(colour)).middle(), &text);
    }
}

/// White or near-black, whichever is easier to read on this colour.
fn text_colour(colour: colorous::Color) -> Paint {
    let is_dark = contrast(colour, ON_DARK) > contrast(colour, ON_BRIGHT);
    Paint::Exact(if is_dark { ON_DARK } else { ON_BRIGHT })
}

/// Labels of rows and columns, as many as there is room for, and the names of special frequencies.
fn draw_frequencies(canvas: &mut Canvas, grid: &FrequencyGrid, shape: InputShape) {
    let area = grid.area;
    let name = Type::new(11.0, Paint::Muted);
    for (index, &k1) in grid.rows.iter().enumerate() {
        let y = area.y + grid.middle(index);
        if is_labelled(&grid.rows, index, ROW_LABEL / grid.side) {
            label_row(canvas, area, y, &signed(k1));
        }
        if let Some(special) = special_name(k1, shape.height) {
            canvas.text((area.x - 42.0, y + 4.5), name.end(), special);
        }
    }
    for (index, &k2) in grid.columns.iter().enumerate() {
        let x = area.x + grid.middle(index);
        if is_labelled(&grid.columns, index, COLUMN_LABEL / grid.side) {
            label_column(canvas, area, x, &signed(k2));
        }
        if let Some(special) = special_name(k2, shape.width) {
            canvas.text((x, area.bottom() + 34.0), name.middle(), special);
        }
    }
    let title = Type::new(14.5, Paint::Ink).middle();
    let (x, y) = area.centre();
    canvas.text((x, area.bottom() + 58.0), title, "k₂, horizontal cycles per image");
    canvas.upright_text((area.x - 100.0, y), title, "k₁, vertical cycles per image");
}

/// Whether a label fits here: all, or every so many to either side of zero frequency.
fn is_labelled(frequencies: &[i64], index: usize, cells_needed: f64) -> bool {
    let zero = frequencies.iter().position(|&frequency| frequency == 0).unwrap_or(0);
    index.abs_diff(zero).is_multiple_of(cells_needed.ceil().max(1.0) as usize)
}

/// Returns the name of the frequency k on an image side of `extent` pixels. A frequency names the same waves as k ± extent.
fn special_name(k: i64, extent: usize) -> Option<&'static str> {
    let extent = i64::try_from(extent).ok().filter(|&extent| extent > 0)?;
    match k.rem_euclid(extent) {
        0 => Some("DC"),
        k if k == extent - k => Some("Nyquist"),
        _ => None,
    }
}

/// Draws the colour bar to the right of the grid, and returns where.
fn draw_bar(canvas: &mut Canvas, grid: &FrequencyGrid, cells: &[MapCell]) -> Result<Rect, FigureError> {
    let height = grid.area.height.max(MIN_BAR_HEIGHT);
    let bar = Rect { x: grid.area.right() + BAR_GAP, y: grid.area.y, width: BAR_WIDTH, height };
    canvas.ramp(bar, COLOURS, PixelRun::Up)?;
    let is_below = cells.iter().any(|cell| cell.accuracy < LOW);
    for label in [50, 60, 70, 80, 90, 100] {
        let y = bar.bottom() - (f64::from(label) - LOW) / (HIGH - LOW) * height;
        canvas.line((bar.right(), y), (bar.right() + 4.0, y), Stroke::solid(Paint::Ink, 0.6));
        let text = if label == 50 && is_below { "≤ 50".to_owned() } else { label.to_string() };
        canvas.text((bar.right() + 8.0, y + 4.5), Type::new(13.0, Paint::Ink), &text);
    }
    canvas.upright_text(
        (bar.right() + 60.0, bar.centre().1),
        Type::new(14.5, Paint::Ink).middle(),
        "test accuracy (%)",
    );
    Ok(bar)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_frequencies_are_named_in_either_sign() {
        for k in [-16, 16, 48] {
            assert_eq!(special_name(k, 32), Some("Nyquist"));
        }
        assert_eq!(special_name(0, 32), Some("DC"));
        assert_eq!(special_name(2, 32), None);
        assert_eq!(special_name(2, 5), None);
        assert_eq!(special_name(0, 0), None);
    }

    #[test]
    fn labels_thin_out_around_zero() {
        let frequencies: Vec<i64> = (-3..4).collect();
        let labelled = |needed: f64| (0..7).filter(|&index| is_labelled(&frequencies, index, needed)).count();
        assert_eq!(labelled(0.4), 7);
        assert_eq!(labelled(1.5), 3);
    }

    #[test]
    fn text_stays_readable_on_every_colour() {
        for value in 50..=100 {
            let colour = COLOURS.eval(f64::from(value), Theme::Light);
            let text = Theme::Light.colour(text_colour(colour));
            assert!(contrast(text, colour) >= 4.0, "{value}: {}", contrast(text, colour));
        }
    }
}
