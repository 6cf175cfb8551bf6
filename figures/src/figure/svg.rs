//! The few SVG elements that the figures need, written as text.
//!
//! Coordinates are rounded to a hundredth of a unit, so that the document does not depend on the last bits of a sum.
//! Absent: styles, groups, clipping, and fonts (the raster side brings its own).

use std::fmt::Write;

/// Near-black of titles, frames and main labels.
pub(super) const INK: &str = "#1a1a1a";
/// Grey of secondary text.
pub(super) const MUTED: &str = "#666666";
/// Grey of the grid's decades.
pub(super) const GRID: &str = "#d9d9d9";
/// Lighter grey between them.
pub(super) const FINE_GRID: &str = "#f0f0f0";

/// Smaller dots are drawn without an edge.
const MIN_EDGED_RADIUS: f64 = 2.2;

/// The pattern of [`Canvas::hatch`]. Pages that show several figures see the same pattern under the same name.
const HATCH: &str = concat!(
    r#"<pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse">"#,
    r##"<path d="M-1 1 L1 -1 M0 6 L6 0 M5 7 L7 5" stroke="#a6a6a6" stroke-width="1"/></pattern>"##
);

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

/// Which point of a text lies at its position.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text is set; its position is a point on the baseline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Type {
    pub(super) size: f64,
    pub(super) fill: &'static str,
    pub(super) anchor: Anchor,
}

impl Type {
    pub(super) fn new(size: f64, fill: &'static str) -> Self {
        Self { size, fill, anchor: Anchor::Start }
    }

    pub(super) fn middle(self) -> Self {
        Self { anchor: Anchor::Middle, ..self }
    }

    pub(super) fn end(self) -> Self {
        Self { anchor: Anchor::End, ..self }
    }
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stroke {
    pub(super) colour: &'static str,
    pub(super) width: f64,
    pub(super) dashes: Option<&'static str>,
}

impl Stroke {
    pub(super) fn solid(colour: &'static str, width: f64) -> Self {
        Self { colour, width, dashes: None }
    }
}

/// An SVG document in the making.
#[derive(Debug, Default)]
pub(super) struct Canvas {
    body: String,
}

impl Canvas {
    pub(super) fn frame(&mut self, rect: Rect, stroke: Stroke) {
        let Rect { x, y, width, height } = rect;
        self.element(format_args!(
            r#"<rect x="{x:.2}" y="{y:.2}" width="{width:.2}" height="{height:.2}" fill="none"{}/>"#,
            attributes(stroke)
        ));
    }

    pub(super) fn fill(&mut self, rect: Rect, colour: &str) {
        let Rect { x, y, width, height } = rect;
        self.element(format_args!(
            r#"<rect x="{x:.2}" y="{y:.2}" width="{width:.2}" height="{height:.2}" fill="{colour}"/>"#
        ));
    }

    /// A rectangle of slanting grey lines: nothing was measured here.
    pub(super) fn hatch(&mut self, rect: Rect) {
        if !self.body.contains(HATCH) {
            self.element(format_args!("{HATCH}"));
        }
        self.fill(rect, "url(#hatch)");
        self.frame(rect, Stroke::solid(GRID, 1.0));
    }

    pub(super) fn polygon(&mut self, points: &[(f64, f64)], fill: &str, opacity: f64) {
        let points = coordinates(points);
        self.element(format_args!(r#"<polygon points="{points}" fill="{fill}" fill-opacity="{opacity}"/>"#));
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: Stroke) {
        self.element(format_args!(
            r#"<line x1="{:.2}" y1="{:.2}" x2="{:.2}" y2="{:.2}"{}/>"#,
            from.0,
            from.1,
            to.0,
            to.1,
            attributes(stroke)
        ));
    }

    pub(super) fn polyline(&mut self, points: &[(f64, f64)], stroke: Stroke) {
        let (points, stroke) = (coordinates(points), attributes(stroke));
        self.element(format_args!(r#"<polyline points="{points}" fill="none" stroke-linejoin="round"{stroke}/>"#));
    }

    /// A dot, set apart from what lies below it where it is large enough to survive its own edge.
    pub(super) fn dot(&mut self, (x, y): (f64, f64), radius: f64, fill: &str) {
        let edge = if radius < MIN_EDGED_RADIUS { "" } else { r##" stroke="#ffffff" stroke-width="0.8""## };
        self.element(format_args!(r#"<circle cx="{x:.2}" cy="{y:.2}" r="{radius}" fill="{fill}"{edge}/>"#));
    }

    /// Stretches a bitmap over `rect`, every pixel of it a crisp rectangle.
    pub(super) fn image(&mut self, rect: Rect, data_uri: &str) {
        let Rect { x, y, width, height } = rect;
        self.element(format_args!(
            r#"<image x="{x:.2}" y="{y:.2}" width="{width:.2}" height="{height:.2}" preserveAspectRatio="none" style="image-rendering:pixelated" href="{data_uri}"/>"#
        ));
    }

    pub(super) fn text(&mut self, (x, y): (f64, f64), set: Type, text: &str) {
        self.element(format_args!(r#"<text x="{x:.2}" y="{y:.2}"{}>{}</text>"#, font(set), escape(text)));
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
            font(set),
            escape(text)
        ));
    }

    /// The whole document, on white.
    pub(super) fn finish(self, width: f64, height: f64, title: &str) -> String {
        format!(
            concat!(
                r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0}" height="{height:.0}" "#,
                r#"viewBox="0 0 {width:.0} {height:.0}" font-family="DejaVu Sans, Verdana, sans-serif">"#,
                "\n<title>{title}</title>\n",
                r##"<rect width="100%" height="100%" fill="#ffffff"/>"##,
                "\n{body}</svg>\n"
            ),
            width = width,
            height = height,
            title = escape(title),
            body = self.body
        )
    }

    fn element(&mut self, element: std::fmt::Arguments<'_>) {
        writeln!(self.body, "{element}").expect("writing to a String cannot fail");
    }
}

fn coordinates(points: &[(f64, f64)]) -> String {
    points.iter().map(|(x, y)| format!("{x:.2},{y:.2}")).collect::<Vec<_>>().join(" ")
}

fn attributes(stroke: Stroke) -> String {
    let Stroke { colour, width, dashes } = stroke;
    let dashes = dashes.map(|dashes| format!(r#" stroke-dasharray="{dashes}""#)).unwrap_or_default();
    format!(r#" stroke="{colour}" stroke-width="{width}"{dashes}"#)
}

fn font(set: Type) -> String {
    let anchor = match set.anchor {
        Anchor::Start => "start",
        Anchor::Middle => "middle",
        Anchor::End => "end",
    };
    format!(r#" font-size="{:.2}" fill="{}" text-anchor="{anchor}""#, set.size, set.fill)
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
