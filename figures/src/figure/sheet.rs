//! The page of a figure: its header, and for a figure with one plot the places of the plot and of the key beside it.

use super::{
    Figure,
    svg::{Canvas, GLYPH_WIDTH, Rect, Type},
    theme::{Paint, Theme},
};

const TITLE_BASELINE: f64 = 44.0;
const SUBTITLE_BASELINE: f64 = 70.0;
const SUBTITLE: f64 = 14.5;
const MIN_SUBTITLE: f64 = 11.0;
const LINE_HEIGHT: f64 = 16.0;
/// The separator of a subtitle's parts.
const DOT: &str = " · ";
const LEFT: f64 = 88.0;
const PLOT_TOP: f64 = 96.0;
const PLOT_HEIGHT: f64 = 400.0;
const KEY_GAP: f64 = 28.0;
const KEY_WIDTH: f64 = 230.0;
const MARGIN: f64 = 24.0;
const FOOT: f64 = 68.0;

/// Draws title and subtitle over a part of the page that begins at `left`.
pub(super) fn draw_header(canvas: &mut Canvas, left: f64, width: f64, title: &str, subtitle: &str) {
    canvas.fitted_text((left, TITLE_BASELINE), Type::new(23.0, Paint::Ink), title, width, 13.0);
    let set = Type::new(SUBTITLE, Paint::Muted);
    let Some((first, second)) = two_lines(subtitle, width) else {
        return canvas.fitted_text((left, SUBTITLE_BASELINE), set, subtitle, width, MIN_SUBTITLE);
    };
    let lines = [(first, SUBTITLE_BASELINE - LINE_HEIGHT / 2.0), (second, SUBTITLE_BASELINE + LINE_HEIGHT / 2.0)];
    for (line, y) in lines {
        canvas.fitted_text((left, y), Type { size: MIN_SUBTITLE + 1.0, ..set }, line, width, MIN_SUBTITLE - 2.0);
    }
}

/// A subtitle that is too long for one line, parted at the last of its dots that leaves no line too long, or at its middle one.
fn two_lines(subtitle: &str, width: f64) -> Option<(&str, &str)> {
    let fits = |text: &str| text.chars().count() as f64 * MIN_SUBTITLE * GLYPH_WIDTH <= width;
    if fits(subtitle) {
        return None;
    }
    let places: Vec<usize> = subtitle.match_indices(DOT).map(|(place, _)| place).collect();
    let last = places.iter().rev().find(|&&place| fits(&subtitle[..place]));
    let &place = last.or(places.get(places.len() / 2))?;
    Some((&subtitle[..place], &subtitle[place + DOT.len()..]))
}

/// A page with one plot, and a key to its right.
#[derive(Debug)]
pub(super) struct Sheet<'a> {
    title: &'a str,
    /// The drawing so far.
    pub(super) canvas: Canvas,
    /// The rectangle that holds the data.
    pub(super) plot: Rect,
    /// The area of the key; its top is the baseline of a first line.
    pub(super) key: Rect,
}

impl<'a> Sheet<'a> {
    /// A page with its header, and room for a plot of this width.
    pub(super) fn new(theme: Theme, title: &'a str, subtitle: &str, plot_width: f64) -> Self {
        let mut canvas = Canvas::new(theme);
        let plot = Rect { x: LEFT, y: PLOT_TOP, width: plot_width, height: PLOT_HEIGHT };
        let key = Rect { x: plot.right() + KEY_GAP, y: plot.y + 12.0, width: KEY_WIDTH, height: PLOT_HEIGHT };
        draw_header(&mut canvas, plot.x, key.right() - plot.x, title, subtitle);
        Self { title, canvas, plot, key }
    }

    /// The finished figure.
    pub(super) fn finish(self) -> Figure {
        let width = self.key.right() + MARGIN;
        let height = self.plot.bottom() + FOOT;
        Figure { svg: self.canvas.finish(width, height, self.title) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_subtitles_are_parted_at_a_dot_and_lose_nothing() {
        let subtitle = "offset ±1, σ = 3 · seeds: 3 · 1 of 2 runs diverged and are left out · 2 of 6 runs so far";
        assert_eq!(two_lines(subtitle, 1_000.0), None);
        let parts = Some(("offset ±1, σ = 3 · seeds: 3", "1 of 2 runs diverged and are left out · 2 of 6 runs so far"));
        assert_eq!(two_lines(subtitle, 420.0), parts);
        assert_eq!(two_lines(&"x".repeat(100), 420.0), None);
    }
}
