//! The gallery: NADs as pixel maps, each over the magnitude of its 2-D DFT.
//!
//! A band is one row of columns; a column is one NAD: its label, its channels from top to bottom, its DFT.

use ndarray::{ArrayView1, ArrayView2, Axis};

use super::{
    FigureError, InputShape, Maps, NadFigure,
    layout::{COLUMN_GAP, COLUMN_WIDTH, COLUMNS, LEFT, MAX_CHANNELS},
    spectrum::SpectrumShares,
};
use crate::figure::{
    bitmap::Colours,
    numbers::percent,
    svg::{Canvas, GLYPH_WIDTH, Rect, Stroke, Type},
    theme::Paint,
};

/// A flat input is stretched to this height rather than drawn as a hairline.
const MIN_TILE_HEIGHT: f64 = 10.0;
const LABEL_HEIGHT: f64 = 22.0;
const TILE_GAP: f64 = 6.0;
const BAND_GAP: f64 = 24.0;

/// All indices below `count` if 16 can be shown; otherwise the first 8, then 8 at logarithmic steps to the last.
pub(super) fn shown_indices(count: usize) -> Vec<usize> {
    if count <= 2 * COLUMNS {
        return (0..count).collect();
    }
    let first = COLUMNS as f64;
    let last = (count - 1) as f64;
    let later = (0..COLUMNS).map(|step| first * (last / first).powf(step as f64 / (COLUMNS - 1) as f64));
    (0..COLUMNS).chain(later.map(|index| index.round() as usize)).collect()
}

/// Draws the NADs of `shown` from `top` downwards and returns where they end.
pub(super) fn draw(
    canvas: &mut Canvas,
    top: f64,
    figure: &NadFigure<'_>,
    shares: &SpectrumShares,
    shown: &[usize],
) -> Result<f64, FigureError> {
    let band = Band::new(figure.shape);
    let mut y = top;
    for indices in shown.chunks(COLUMNS) {
        band.draw_row_labels(canvas, y);
        for (column, &index) in indices.iter().enumerate() {
            let x = LEFT + column as f64 * (COLUMN_WIDTH + COLUMN_GAP);
            let label = format!("u{}", subscript(index));
            canvas.text((x, y + 14.0), Type::new(16.0, Paint::Ink), &label);
            let share = percent(shares.share(index));
            canvas.text((x + COLUMN_WIDTH, y + 14.0), Type::new(12.0, Paint::Muted).end(), &share);
            band.draw_nad(canvas, (x, y), figure.nads.row(index))?;
        }
        y += band.height() + BAND_GAP;
    }
    Ok(y - BAND_GAP)
}

/// Measures of one band, the same for all.
pub(super) struct Band {
    shape: InputShape,
    /// Channels drawn.
    channels: usize,
    tile_width: f64,
    tile_height: f64,
}

impl Band {
    pub(super) fn new(shape: InputShape) -> Self {
        let pixel = COLUMN_WIDTH / shape.height.max(shape.width) as f64;
        Self {
            shape,
            channels: shape.channels.min(MAX_CHANNELS),
            tile_width: (pixel * shape.width as f64).max(MIN_TILE_HEIGHT),
            tile_height: (pixel * shape.height as f64).max(MIN_TILE_HEIGHT),
        }
    }

    /// Tile `row` of a column that starts at (x, y): the channels, then the DFT.
    fn tile(&self, (x, y): (f64, f64), row: usize) -> Rect {
        Rect {
            x: x + (COLUMN_WIDTH - self.tile_width) / 2.0,
            y: y + LABEL_HEIGHT + row as f64 * (self.tile_height + TILE_GAP),
            width: self.tile_width,
            height: self.tile_height,
        }
    }

    pub(super) fn height(&self) -> f64 {
        self.tile((0.0, 0.0), self.channels).bottom()
    }

    pub(super) fn draw_row_labels(&self, canvas: &mut Canvas, y: f64) {
        for row in 0..=self.channels {
            let (_, middle) = self.tile((LEFT, y), row).centre();
            let at = (LEFT - 14.0, middle);
            let text = match row {
                row if row == self.channels => "|DFT|".to_owned(),
                _ if self.shape.channels == 1 => "NAD".to_owned(),
                row => channel_name(self.shape.channels, row),
            };
            if self.tile_height < 40.0 {
                canvas.text((at.0, at.1 + 4.0), Type::new(12.0, Paint::Muted).end(), &text);
            } else {
                // As high as its tile, so as not to run into the next one's.
                let fitting = self.tile_height / (text.chars().count() as f64 * GLYPH_WIDTH);
                canvas.upright_text(at, Type::new(fitting.min(14.0), Paint::Muted).middle(), &text);
            }
        }
    }

    pub(super) fn draw_nad(
        &self,
        canvas: &mut Canvas,
        at: (f64, f64),
        nad: ArrayView1<'_, f64>,
    ) -> Result<(), FigureError> {
        let Maps { channels, limit, magnitude, max } = Maps::new(nad, self.shape)?;
        for (row, channel) in channels.axis_iter(Axis(0)).take(self.channels).enumerate() {
            draw_tile(canvas, self.tile(at, row), channel, Colours::Diverging { limit })?;
        }
        draw_tile(canvas, self.tile(at, self.channels), magnitude.view(), Colours::Sequential { max })
    }
}

/// A bitmap in a frame.
pub(super) fn draw_tile(
    canvas: &mut Canvas,
    tile: Rect,
    values: ArrayView2<'_, f64>,
    colours: Colours,
) -> Result<(), FigureError> {
    canvas.bitmap(tile, values, colours)?;
    canvas.frame(tile, Stroke::solid(Paint::Ink, 0.6));
    Ok(())
}

/// Returns the name of a channel of several; three are those of images.
pub(super) fn channel_name(channels: usize, index: usize) -> String {
    match (channels, index) {
        (3, 0) => "red".to_owned(),
        (3, 1) => "green".to_owned(),
        (3, 2) => "blue".to_owned(),
        _ => format!("channel {index}"),
    }
}

/// A number in subscript digits.
pub(super) fn subscript(number: usize) -> String {
    number.to_string().bytes().filter_map(|digit| char::from_u32(0x2080 + u32::from(digit - b'0'))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_nads_are_all_shown() {
        assert_eq!(shown_indices(3), [0, 1, 2]);
        assert_eq!(shown_indices(16), (0..16).collect::<Vec<_>>());
    }

    #[test]
    fn many_nads_are_shown_at_logarithmic_steps() {
        assert_eq!(shown_indices(1023)[8..], [8, 16, 32, 64, 128, 256, 511, 1022]);
    }

    #[test]
    fn shown_indices_rise_and_end_at_the_last() {
        for count in 1..5000 {
            let shown = shown_indices(count);
            assert!(shown.is_sorted_by(|left, right| left < right), "{count}: {shown:?}");
            assert_eq!(shown.last(), Some(&(count - 1)));
            assert!(shown.len() <= 2 * COLUMNS);
        }
    }

    #[test]
    fn subscripts_are_set_digit_by_digit() {
        assert_eq!(subscript(1022), "₁₀₂₂");
    }
}
