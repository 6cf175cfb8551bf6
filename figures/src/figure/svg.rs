//! The few SVG elements that the figures need, written as text.
//!
//! Coordinates are rounded to a hundredth of a unit, so that the document does not depend on the last bits of a sum.
//! Absent: styles, groups, clipping, and fonts (the raster side brings its own).

use std::fmt::Write;

use ndarray::ArrayView2;

use super::{
    FigureError,
    bitmap::{Colours, PixelRun, data_uri, ramp},
    theme::{Paint, Theme},
};

/// Smaller dots are drawn without an edge.
const MIN_EDGED_RADIUS: f64 = 2.2;

/// Mean width of a DejaVu Sans glyph over its size, on the wide side.
pub(super) const GLYPH_WIDTH: f64 = 0.6;

/// An axis-parallel rectangle, in SVG units from the top left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rect {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Rect {
    pub(super) fn right(&self) -> f64 {
        self.x + self.width
    }

    pub(super) fn bottom(&self) -> f64 {
        self.y + self.height
    }

    pub(super) fn centre(&self) -> (f64, f64) {
        (self.x + self.width / 2.0, self.y + self.height / 2.0)
    }
}

/// The point of a text that lies at its position.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// The typography of a text; its position is a point on the baseline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Type {
    pub(super) size: f64,
    pub(super) fill: Paint,
    pub(super) anchor: Anchor,
}

impl Type {
    pub(super) fn new(size: f64, fill: Paint) -> Self {
        Self { size, fill, anchor: Anchor::Start }
    }

    pub(super) fn middle(self) -> Self {
        Self { anchor: Anchor::Middle, ..self }
    }

    pub(super) fn end(self) -> Self {
        Self { anchor: Anchor::End, ..self }
    }
}

/// The style of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stroke {
    pub(super) colour: Paint,
    pub(super) width: f64,
    pub(super) dashes: Option<&'static str>,
}

impl Stroke {
    pub(super) fn solid(colour: Paint, width: f64) -> Self {
        Self { colour, width, dashes: None }
    }
}

/// An SVG document in the making.
#[derive(Debug)]
pub(super) struct Canvas {
    theme: Theme,
    body: String,
    is_hatched: bool,
}

impl Canvas {
    pub(super) fn new(theme: Theme) -> Self {
        Self { theme, body: String::new(), is_hatched: false }
    }

    pub(super) fn frame(&mut self, rect: Rect, stroke: Stroke) {
        let Rect { x, y, width, height } = rect;
        self.element(format_args!(
            r#"<rect x="{x:.2}" y="{y:.2}" width="{width:.2}" height="{height:.2}" fill="none"{}/>"#,
            self.attributes(stroke)
        ));
    }

    pub(super) fn fill(&mut self, rect: Rect, paint: Paint) {
        let colour = self.hex(paint);
        self.fill_with(rect, &colour);
    }

    fn fill_with(&mut self, rect: Rect, colour: &str) {
        let Rect { x, y, width, height } = rect;
        self.element(format_args!(
            r#"<rect x="{x:.2}" y="{y:.2}" width="{width:.2}" height="{height:.2}" fill="{colour}"/>"#
        ));
    }

    /// A rectangle of slanting grey lines: nothing was measured here.
    pub(super) fn hatch(&mut self, rect: Rect) {
        // Pages that show several figures see the same pattern under the same name.
        let name = format!("hatch-{}", self.theme.as_str());
        if !self.is_hatched {
            self.is_hatched = true;
            let colour = self.hex(Paint::Hatch);
            self.element(format_args!(
                r#"<pattern id="{name}" width="6" height="6" patternUnits="userSpaceOnUse"><path d="M-1 1 L1 -1 M0 6 L6 0 M5 7 L7 5" stroke="{colour}" stroke-width="1"/></pattern>"#
            ));
        }
        self.fill_with(rect, &format!("url(#{name})"));
        self.frame(rect, Stroke::solid(Paint::Grid, 1.0));
    }

    pub(super) fn polygon(&mut self, points: &[(f64, f64)], fill: Paint, opacity: f64) {
        let points = coordinates(points);
        let fill = self.hex(fill);
        self.element(format_args!(r#"<polygon points="{points}" fill="{fill}" fill-opacity="{opacity}"/>"#));
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: Stroke) {
        self.element(format_args!(
            r#"<line x1="{:.2}" y1="{:.2}" x2="{:.2}" y2="{:.2}"{}/>"#,
            from.0,
            from.1,
            to.0,
            to.1,
            self.attributes(stroke)
        ));
    }

    pub(super) fn polyline(&mut self, points: &[(f64, f64)], stroke: Stroke) {
        let points = coordinates(points);
        let stroke = self.attributes(stroke);
        self.element(format_args!(r#"<polyline points="{points}" fill="none" stroke-linejoin="round"{stroke}/>"#));
    }

    /// A dot, set apart from what lies below it where it is large enough to survive its own edge.
    pub(super) fn dot(&mut self, (x, y): (f64, f64), radius: f64, fill: Paint) {
        let fill = self.hex(fill);
        let paper = self.hex(Paint::Paper);
        let edge =
            if radius < MIN_EDGED_RADIUS { String::new() } else { format!(r#" stroke="{paper}" stroke-width="0.8""#) };
        self.element(format_args!(r#"<circle cx="{x:.2}" cy="{y:.2}" r="{radius}" fill="{fill}"{edge}/>"#));
    }

    /// Stretches an array over `rect` as a bitmap.
    pub(super) fn bitmap(
        &mut self,
        rect: Rect,
        values: ArrayView2<'_, f64>,
        colours: Colours,
    ) -> Result<(), FigureError> {
        let uri = data_uri(values, colours, self.theme)?;
        self.image(rect, &uri);
        Ok(())
    }

    /// A colour bar over `rect`.
    pub(super) fn ramp(&mut self, rect: Rect, colours: Colours, run: PixelRun) -> Result<(), FigureError> {
        self.bitmap(rect, ramp(colours, run).view(), colours)?;
        self.frame(rect, Stroke::solid(Paint::Ink, 0.6));
        Ok(())
    }

    /// Stretches a bitmap over `rect`, every pixel of it a crisp rectangle.
    fn image(&mut self, rect: Rect, data_uri: &str) {
        let Rect { x, y, width, height } = rect;
        self.element(format_args!(
            r#"<image x="{x:.2}" y="{y:.2}" width="{width:.2}" height="{height:.2}" preserveAspectRatio="none" style="image-rendering:pixelated" href="{data_uri}"/>"#
        ));
    }

    pub(super) fn text(&mut self, (x, y): (f64, f64), set: Type, text: &str) {
        self.element(format_args!(r#"<text x="{x:.2}" y="{y:.2}"{}>{}</text>"#, self.font(set), escape(text)));
    }

    /// Text with a rim of paper, which keeps lines below it at a distance.
    pub(super) fn rimmed_text(&mut self, (x, y): (f64, f64), set: Type, text: &str) {
        let paper = self.hex(Paint::Paper);
        self.element(format_args!(
            r#"<text x="{x:.2}" y="{y:.2}"{} stroke="{paper}" stroke-width="3" paint-order="stroke">{}</text>"#,
            self.font(set),
            escape(text)
        ));
    }

    /// Text that fits `width`: set smaller, down to `floor`, and then cut short with an ellipsis.
    pub(super) fn fitted_text(&mut self, at: (f64, f64), set: Type, text: &str, width: f64, floor: f64) {
        let length = text.chars().count().max(1) as f64;
        let size = set.size.min((width / (length * GLYPH_WIDTH)).max(floor));
        let room = (width / (size * GLYPH_WIDTH)).floor();
        let set = Type { size, ..set };
        if length <= room {
            self.text(at, set, text);
        } else {
            let kept: String = text.chars().take((room as usize).saturating_sub(1)).collect();
            self.text(at, set, &(kept + "…"));
        }
    }

    /// Text that reads from bottom to top.
    pub(super) fn upright_text(&mut self, (x, y): (f64, f64), set: Type, text: &str) {
        self.element(format_args!(
            r#"<text transform="translate({x:.2} {y:.2}) rotate(-90)"{}>{}</text>"#,
            self.font(set),
            escape(text)
        ));
    }

    /// The whole document, on its paper.
    pub(super) fn finish(self, width: f64, height: f64, title: &str) -> String {
        format!(
            concat!(
                r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0}" height="{height:.0}" "#,
                r#"viewBox="0 0 {width:.0} {height:.0}" role="img" font-family="DejaVu Sans, Verdana, sans-serif">"#,
                "\n<title>{title}</title>\n",
                r#"<rect width="100%" height="100%" fill="{paper}"/>"#,
                "\n{body}</svg>\n"
            ),
            width = width,
            height = height,
            title = escape(title),
            paper = self.hex(Paint::Paper),
            body = self.body
        )
    }

    fn hex(&self, paint: Paint) -> String {
        format!("#{:x}", self.theme.colour(paint))
    }

    fn attributes(&self, stroke: Stroke) -> String {
        let Stroke { colour, width, dashes } = stroke;
        let dashes = dashes.map(|dashes| format!(r#" stroke-dasharray="{dashes}""#)).unwrap_or_default();
        format!(r#" stroke="{}" stroke-width="{width}"{dashes}"#, self.hex(colour))
    }

    fn font(&self, set: Type) -> String {
        let anchor = match set.anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        format!(r#" font-size="{:.2}" fill="{}" text-anchor="{anchor}""#, set.size, self.hex(set.fill))
    }

    fn element(&mut self, element: std::fmt::Arguments<'_>) {
        writeln!(self.body, "{element}").expect("writing to a String cannot fail");
    }
}

fn coordinates(points: &[(f64, f64)]) -> String {
    points.iter().map(|(x, y)| format!("{x:.2},{y:.2}")).collect::<Vec<_>>().join(" ")
}

/// Text as XML character data; characters that XML forbids become U+FFFD.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            character if character.is_control() || matches!(character, '\u{fffe}' | '\u{ffff}') => {
                escaped.push('\u{fffd}');
            }
            character => escaped.push(character),
        }
    }
    escaped
}
