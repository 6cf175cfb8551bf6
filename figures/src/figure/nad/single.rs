//! One NAD in detail: its channels in pixels, and the magnitude of its DFT, on axes and with keys that have values.
//!
//! Absent: phases; the DFT of each channel alone.

use ndarray::{ArrayView1, Axis};

use super::{
    Figure, FigureError, InputShape, Maps, Theme, check_rows,
    gallery::{channel_name, draw_tile},
    key,
    layout::MAX_CHANNELS,
};
use crate::figure::{
    axis::LinearAxis,
    bitmap::Colours,
    numbers::significant,
    sheet::draw_header,
    svg::{Canvas, Rect, Type},
    theme::Paint,
};

const LEFT: f64 = 76.0;
const TOP: f64 = 122.0;
/// The longer side of a map, for one channel and for several.
const SIDE: f64 = 320.0;
const CHANNEL_SIDE: f64 = 220.0;
/// A flat input is stretched to this rather than drawn as a hairline.
const MIN_EXTENT: f64 = 10.0;
const CHANNEL_GAP: f64 = 18.0;
/// Before the DFT, whose rows have labels and a title.
const DFT_GAP: f64 = 88.0;
const RIGHT: f64 = 28.0;
/// Shorter maps have the first word of the title along their rows, and still shorter ones none.
const MIN_TITLED: f64 = 150.0;
const MIN_NAMED: f64 = 40.0;
const KEY: f64 = 74.0;
const FOOT: f64 = 56.0;
const CAPTION: f64 = 14.0;
const NOTE_HEIGHT: f64 = 20.0;

/// The content of a picture of one NAD.
#[derive(Clone, Copy, Debug)]
pub struct SingleNad<'a> {
    /// The title of the page.
    pub title: &'a str,
    /// The origin of the NAD, in words.
    pub subtitle: &'a str,
    /// The input's shape.
    pub shape: InputShape,
    /// The NAD, channel by channel, row by row.
    pub nad: ArrayView1<'a, f64>,
}

/// Draws one NAD: its channels side by side on one colour scale (blue negative, red positive, limits symmetric about 0), then
/// the root of the summed squares of their DFTs, zero frequency in the centre. Takes a few milliseconds and some ten kilobytes.
///
/// # Errors
/// The NAD does not have the input's size, or holds a value that is not finite.
pub fn single_nad(view: &SingleNad<'_>, theme: Theme) -> Result<Figure, FigureError> {
    check_rows(view.nad.insert_axis(Axis(0)), view.shape)?;
    let maps = Maps::new(view.nad, view.shape)?;
    let mut canvas = Canvas::new(theme);
    let places = MapPlaces::new(view.shape);
    draw_header(&mut canvas, LEFT, places.dft.right() - LEFT, view.title, view.subtitle);
    draw_channels(&mut canvas, &places, view.shape, &maps)?;
    draw_magnitude(&mut canvas, &places, view.shape, &maps)?;
    let mut bottom = places.bottom();
    if view.shape.channels > MAX_CHANNELS {
        let note = format!("The first {MAX_CHANNELS} of {} channels; the DFT is of all.", view.shape.channels);
        canvas.text((LEFT, bottom + FOOT + 2.0), Type::new(12.0, Paint::Muted), &note);
        bottom += NOTE_HEIGHT;
    }
    Ok(Figure { svg: canvas.finish(places.dft.right() + RIGHT, bottom + FOOT, view.title) })
}

/// The rectangles of the maps.
struct MapPlaces {
    channels: Vec<Rect>,
    dft: Rect,
}

impl MapPlaces {
    fn new(shape: InputShape) -> Self {
        let side = if shape.channels == 1 { SIDE } else { CHANNEL_SIDE };
        let pixel = side / shape.height.max(shape.width) as f64;
        let extent = |pixels: usize| (pixel * pixels as f64).max(MIN_EXTENT);
        let width = extent(shape.width);
        let height = extent(shape.height);
        let tile = |x: f64| Rect { x, y: TOP, width, height };
        // A key is as wide as its map, and must hold three labels.
        let pitch = width.max(if shape.channels == 1 { SIDE } else { 0.0 }) + CHANNEL_GAP;
        let channels: Vec<Rect> =
            (0..shape.channels.min(MAX_CHANNELS)).map(|index| tile(LEFT + index as f64 * pitch)).collect();
        let end = channels.last().map_or(LEFT, |_| LEFT + channels.len() as f64 * pitch - CHANNEL_GAP);
        Self { channels, dft: tile(end.max(LEFT + CHANNEL_SIDE) + DFT_GAP) }
    }

    /// The key below a map that begins at `x`.
    fn key(&self, x: f64, width: f64) -> Rect {
        Rect { x, y: self.dft.bottom() + KEY, width: width.clamp(CHANNEL_SIDE, SIDE), height: 0.0 }
    }

    fn bottom(&self) -> f64 {
        self.dft.bottom() + KEY
    }
}

fn draw_channels(canvas: &mut Canvas, places: &MapPlaces, shape: InputShape, maps: &Maps) -> Result<(), FigureError> {
    let colours = Colours::Diverging { limit: maps.limit };
    for (index, (channel, &tile)) in maps.channels.axis_iter(Axis(0)).zip(&places.channels).enumerate() {
        draw_tile(canvas, tile, channel, colours)?;
        let caption = if shape.channels == 1 { "in pixels".to_owned() } else { channel_name(shape.channels, index) };
        draw_caption(canvas, tile, &caption);
        LinearAxis::over_pixels(0, shape.width, (tile.x, tile.right())).label_columns(canvas, tile);
        title_columns(canvas, tile, "column");
    }
    let Some(&first) = places.channels.first() else { return Ok(()) };
    LinearAxis::over_pixels(0, shape.height, (first.y, first.bottom())).label_rows(canvas, first);
    title_rows(canvas, first, "row");
    let limit = maps.limit;
    let labels = [significant(-limit), "0".to_owned(), significant(limit)];
    key::draw_bar(canvas, places.key(first.x, first.width), places.bottom(), "value", colours, &labels)?;
    Ok(())
}

fn draw_magnitude(canvas: &mut Canvas, places: &MapPlaces, shape: InputShape, maps: &Maps) -> Result<(), FigureError> {
    let tile = places.dft;
    let colours = Colours::Sequential { max: maps.max };
    draw_tile(canvas, tile, maps.magnitude.view(), colours)?;
    draw_caption(canvas, tile, if shape.channels == 1 { "in frequency" } else { "in frequency, all channels" });
    // Zero frequency lands on pixel ⌊extent/2⌋.
    let first = |extent: usize| -i64::try_from(extent / 2).unwrap_or(0);
    LinearAxis::over_pixels(first(shape.width), shape.width, (tile.x, tile.right())).label_columns(canvas, tile);
    LinearAxis::over_pixels(first(shape.height), shape.height, (tile.y, tile.bottom())).label_rows(canvas, tile);
    title_columns(canvas, tile, "k₂, cycles per image");
    title_rows(canvas, tile, "k₁, cycles per image");
    let labels = ["0".to_owned(), significant(maps.max)];
    key::draw_bar(canvas, places.key(tile.x, tile.width), places.bottom(), "|DFT|", colours, &labels)?;
    Ok(())
}

fn draw_caption(canvas: &mut Canvas, tile: Rect, caption: &str) {
    canvas.text((tile.x, tile.y - 9.0), Type::new(CAPTION, Paint::Ink), caption);
}

fn title_columns(canvas: &mut Canvas, tile: Rect, title: &str) {
    canvas.text((tile.centre().0, tile.bottom() + 40.0), Type::new(13.0, Paint::Ink).middle(), title);
}

fn title_rows(canvas: &mut Canvas, tile: Rect, title: &str) {
    let title = match tile.height {
        ..MIN_NAMED => return,
        ..MIN_TITLED => title.split(',').next().unwrap_or(title),
        _ => title,
    };
    canvas.upright_text((tile.x - 46.0, tile.centre().1), Type::new(13.0, Paint::Ink).middle(), title);
}
