//! The page of a figure: its header, and for a figure with one plot the places of the plot and of the key beside it.

use super::{
    Figure,
    svg::{Canvas, INK, MUTED, Rect, Type},
};

const TITLE_BASELINE: f64 = 44.0;
const SUBTITLE_BASELINE: f64 = 70.0;
const LEFT: f64 = 88.0;
const PLOT_TOP: f64 = 96.0;
const PLOT_HEIGHT: f64 = 400.0;
const KEY_GAP: f64 = 28.0;
const KEY_WIDTH: f64 = 230.0;
const MARGIN: f64 = 24.0;
const FOOT: f64 = 68.0;

/// Draws title and subtitle over a part of the page that begins at `left`.
pub(super) fn draw_header(canvas: &mut Canvas, left: f64, width: f64, title: &str, subtitle: &str) {
    canvas.fitted_text((left, TITLE_BASELINE), Type::new(23.0, INK), title, width, 13.0);
    canvas.fitted_text((left, SUBTITLE_BASELINE), Type::new(14.5, MUTED), subtitle, width, 11.0);
}

/// A page with one plot, and a key to its right.
#[derive(Debug)]
pub(super) struct Sheet<'a> {
    title: &'a str,
    /// What is drawn so far.
    pub(super) canvas: Canvas,
    /// Where the data go.
    pub(super) plot: Rect,
    /// Where the key goes; its top is the baseline of a first line.
    pub(super) key: Rect,
}

impl<'a> Sheet<'a> {
    /// A page with its header, and room for a plot of this width.
    pub(super) fn new(title: &'a str, subtitle: &str, plot_width: f64) -> Self {
        let mut canvas = Canvas::default();
        let plot = Rect { x: LEFT, y: PLOT_TOP, width: plot_width, height: PLOT_HEIGHT };
        let key = Rect { x: plot.right() + KEY_GAP, y: plot.y + 12.0, width: KEY_WIDTH, height: PLOT_HEIGHT };
        draw_header(&mut canvas, plot.x, key.right() - plot.x, title, subtitle);
        Self { title, canvas, plot, key }
    }

    /// The finished figure.
    pub(super) fn finish(self) -> Figure {
        let (width, height) = (self.key.right() + MARGIN, self.plot.bottom() + FOOT);
        Figure { svg: self.canvas.finish(width, height, self.title) }
    }
}
