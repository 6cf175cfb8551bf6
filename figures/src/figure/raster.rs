//! SVG to PNG, with the one font that is compiled in.
//!
//! resvg drops text in silence when it has no font for it, so DejaVu Sans is embedded and stands in for every family.
//! Absent: the system's fonts, which would make the pixels depend on the machine.

use std::sync::{Arc, LazyLock};

use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg::{Options, Tree, fontdb::Database},
};

use super::FigureError;

/// Pixels to an SVG unit.
const SCALE: f32 = 2.0;
const FAMILY: &str = "DejaVu Sans";

static FONTS: LazyLock<Arc<Database>> = LazyLock::new(|| {
    let mut fonts = Database::new();
    fonts.load_font_data(include_bytes!("../../fonts/DejaVuSans-subset.ttf").to_vec());
    fonts.set_sans_serif_family(FAMILY);
    Arc::new(fonts)
});

/// The document as PNG bytes, [`SCALE`] pixels to a unit.
pub(super) fn render(svg: &str) -> Result<Vec<u8>, FigureError> {
    let options = Options { font_family: FAMILY.into(), fontdb: FONTS.clone(), ..Options::default() };
    let tree = Tree::from_str(svg, &options)?;
    let size = tree.size().to_int_size().scale_by(SCALE);
    let failed = |reason: &str| FigureError::Bitmap {
        width: size.map_or(0, |size| size.width() as usize),
        height: size.map_or(0, |size| size.height() as usize),
        reason: reason.into(),
    };
    let mut pixmap = size
        .and_then(|size| Pixmap::new(size.width(), size.height()))
        .ok_or_else(|| failed("of a size that cannot be drawn"))?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixmap.as_mut());
    pixmap.encode_png().map_err(|error| failed(&error.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn render_text(text: &str) -> Pixmap {
        let svg = format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"><text x="8" y="30" font-size="24">{text}</text></svg>"##
        );
        Pixmap::decode_png(&render(&svg).unwrap()).unwrap()
    }

    #[test]
    fn text_leaves_ink() {
        let inked = |pixmap: &Pixmap| pixmap.pixels().iter().filter(|pixel| pixel.alpha() > 128).count();
        assert_eq!(inked(&render_text("")), 0);
        assert!(inked(&render_text("u₀")) > 100);
    }

    #[test]
    fn the_font_has_every_symbol_that_figures_use() {
        let missing = render_text("\u{4e00}");
        for symbol in "₀₁₂₃₄₅₆₇₈₉⁰¹²³⁴⁵⁶⁷⁸⁹⁻−·×Σ…|%αθεσ±≤‖".chars()
        {
            assert_ne!(render_text(&symbol.to_string()).data(), missing.data(), "no glyph for {symbol}");
        }
    }
}
