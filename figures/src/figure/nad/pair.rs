//! Two architectures side by side: the first NADs of each, index above index, and how far they agree.
//!
//! Absent: any matching of directions; the n-th of one stands over the n-th of the other.

use ndarray::{ArrayView1, ArrayView2};

use super::{
    Figure, FigureError, InputShape, Theme, check_rows,
    gallery::{Band, subscript},
    key,
    layout::{COLUMN_GAP, COLUMN_WIDTH, COLUMNS, LEFT, MAX_CHANNELS, RIGHT},
    spectrum::SpectrumShares,
};
use crate::figure::{
    bitmap::Colours,
    numbers::percent,
    sheet::draw_header,
    svg::{Canvas, Rect, Type},
    theme::Paint,
};

const TOP: f64 = 104.0;
/// From the name of an architecture to its NADs.
const NAME_HEIGHT: f64 = 8.0;
const SIDE_GAP: f64 = 40.0;
const MARGIN: f64 = 24.0;
const KEY_WIDTH: f64 = 210.0;
const MIN_SHOWN_WIDTH: usize = 5;

/// The NADs of one architecture.
#[derive(Clone, Copy, Debug)]
pub struct NadSide<'a> {
    /// The name of the architecture.
    pub name: &'a str,
    /// k × D, one NAD a row, in order of decreasing singular value.
    pub nads: ArrayView2<'a, f64>,
    /// Singular values, at least k of them.
    pub singular_values: ArrayView1<'a, f64>,
}

/// The content of a picture of two architectures.
#[derive(Clone, Copy, Debug)]
pub struct NadPair<'a> {
    /// The title of the page.
    pub title: &'a str,
    /// The measurement, in words.
    pub subtitle: &'a str,
    /// The shape of the input, the same for both.
    pub shape: InputShape,
    /// The upper one.
    pub first: NadSide<'a>,
    /// The lower one.
    pub second: NadSide<'a>,
}

/// Draws the first NADs of two architectures in pairs, up to eight, in pixels and in frequency, with the share of Σs² of each
/// and the overlap |cos| of every pair.
///
/// # Errors
/// The arrays are empty, do not fit the input, or hold values that cannot be drawn.
pub fn nad_pair(pair: &NadPair<'_>, theme: Theme) -> Result<Figure, FigureError> {
    let sides = [pair.first, pair.second];
    let mut shares = Vec::new();
    for side in sides {
        check_rows(side.nads, pair.shape)?;
        let nads = side.nads.nrows();
        let singular_values = side.singular_values.len();
        if singular_values < nads {
            return Err(FigureError::TooFewSingularValues { nads, singular_values });
        }
        shares.push(SpectrumShares::new(side.name, side.singular_values)?);
    }
    let shown =
        |(side, shares): (&NadSide<'_>, &SpectrumShares)| side.nads.nrows().min(shares.informative()).min(COLUMNS);
    let count = sides.iter().zip(&shares).map(shown).min().unwrap_or(0);
    let mut canvas = Canvas::new(theme);
    // Narrow enough for few NADs, wide enough for the keys and the title.
    let right = column(count.max(MIN_SHOWN_WIDTH) - 1) + COLUMN_WIDTH;
    draw_header(&mut canvas, LEFT, right - LEFT, pair.title, pair.subtitle);
    let band = Band::new(pair.shape);
    let mut y = TOP;
    for (side, shares) in sides.iter().zip(&shares) {
        y = draw_side(&mut canvas, &band, y, side, shares, count)? + SIDE_GAP;
    }
    let y = draw_overlaps(&mut canvas, y - SIDE_GAP + 22.0, pair, count);
    let bottom = draw_key(&mut canvas, y + 32.0, pair.shape)?;
    Ok(Figure { svg: canvas.finish(right.min(RIGHT) + MARGIN, bottom, pair.title) })
}

/// Left edge of a column.
fn column(index: usize) -> f64 {
    LEFT + index as f64 * (COLUMN_WIDTH + COLUMN_GAP)
}

/// Draws the NADs of one architecture from `top` downwards, and returns where they end.
fn draw_side(
    canvas: &mut Canvas,
    band: &Band,
    top: f64,
    side: &NadSide<'_>,
    shares: &SpectrumShares,
    count: usize,
) -> Result<f64, FigureError> {
    canvas.fitted_text((LEFT, top), Type::new(17.0, Paint::Ink), side.name, column(MIN_SHOWN_WIDTH) - LEFT, 10.0);
    let y = top + NAME_HEIGHT;
    band.draw_row_labels(canvas, y);
    for index in 0..count {
        let x = column(index);
        canvas.text((x, y + 14.0), Type::new(15.0, Paint::Ink), &format!("u{}", subscript(index)));
        let share = percent(shares.share(index));
        canvas.text((x + COLUMN_WIDTH, y + 14.0), Type::new(12.0, Paint::Muted).end(), &share);
        band.draw_nad(canvas, (x, y), side.nads.row(index))?;
    }
    Ok(y + band.height())
}

/// Draws |cos| of every pair at the baseline `y`, and returns that of the remark below.
fn draw_overlaps(canvas: &mut Canvas, y: f64, pair: &NadPair<'_>, count: usize) -> f64 {
    canvas.text((LEFT - 8.0, y), Type::new(13.0, Paint::Ink).end(), "overlap");
    for index in 0..count {
        let one = pair.first.nads.row(index);
        let other = pair.second.nads.row(index);
        let lengths = (one.dot(&one) * other.dot(&other)).sqrt();
        let cosine = if lengths > 0.0 { (one.dot(&other) / lengths).abs() } else { 0.0 };
        let x = column(index) + COLUMN_WIDTH / 2.0;
        canvas.text((x, y), Type::new(14.0, Paint::Ink).middle(), &format!("{cosine:.2}"));
    }
    // Mean of |cos| between random directions of many dimensions.
    let chance = (2.0 / (std::f64::consts::PI * pair.shape.dimension() as f64)).sqrt();
    let remark = format!("overlap: |cos| of the two NADs of an index; {chance:.2} by chance");
    canvas.text((LEFT, y + 24.0), Type::new(13.0, Paint::Muted), &remark);
    y + 24.0
}

/// Draws what the colours mean from the baseline `y` downwards, and returns where the page may end.
fn draw_key(canvas: &mut Canvas, y: f64, shape: InputShape) -> Result<f64, FigureError> {
    let bar = |x: f64| Rect { x, y, width: KEY_WIDTH, height: 0.0 };
    let nad = ["−max", "0", "+max"];
    key::draw_bar(canvas, bar(LEFT), y, "NAD", Colours::Diverging { limit: 1.0 }, &nad)?;
    let beside = bar(LEFT + KEY_WIDTH + 44.0);
    let dft = "|DFT|, zero frequency in the centre";
    let mut y = key::draw_bar(canvas, beside, y, dft, Colours::Sequential { max: 1.0 }, &["0", "max"])?;
    let mut notes =
        vec!["Each NAD and DFT has its own scale; signs are arbitrary. Percentages are shares of Σ s².".to_owned()];
    if shape.channels > MAX_CHANNELS {
        notes.push(format!("First {MAX_CHANNELS} of {} channels.", shape.channels));
    }
    for note in notes {
        canvas.text((LEFT, y), Type::new(12.0, Paint::Muted), &note);
        y += 18.0;
    }
    Ok(y + 6.0)
}
