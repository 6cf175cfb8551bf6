//! The colours of a page, light or dark.
//!
//! Figures name colours by what they are for ([`Paint`]); the theme says which those are. Text has at least 4.5 times the
//! contrast to its paper (WCAG 2, level AA), series at least 3 times, and no two series look alike to colour-blind readers:
//! this module's tests compute both. Absent: the colours of bitmaps, see [`super::bitmap`].

use colorous::Color;

/// The paper that a figure is drawn for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Theme {
    /// Dark on white: files, and papers.
    #[default]
    Light,
    /// Light on near-black: pages at night.
    Dark,
}

/// A colour by what it is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Paint {
    /// The background.
    Paper,
    /// Titles, frames and main labels.
    Ink,
    /// The colour of secondary text.
    Muted,
    /// The grid's decades.
    Grid,
    /// The colour between the two.
    FineGrid,
    /// The colour of published curves.
    Published,
    /// The lines of what was not measured.
    Hatch,
    /// The series of this index; they repeat after six.
    Series(usize),
    /// The same in every theme.
    Exact(Color),
}

/// Six colours that stay apart with red-green and blue-yellow blindness, and in grey as far as six can.
const LIGHT_SERIES: [Color; 6] =
    [rgb(0x2166ac), rgb(0xd95f02), rgb(0x4d2419), rgb(0x8f1fe0), rgb(0xcf6e94), rgb(0x192e4d)];
const DARK_SERIES: [Color; 6] =
    [rgb(0x6cb2f0), rgb(0xf0883e), rgb(0x8b3dff), rgb(0xeddfc9), rgb(0xe0005a), rgb(0xa5ff1f)];

/// Dark and light text on colours of bitmaps.
pub(super) const ON_BRIGHT: Color = rgb(0x1a1a1a);
pub(super) const ON_DARK: Color = rgb(0xffffff);

impl Theme {
    /// Its name in URLs and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    pub(super) fn colour(self, paint: Paint) -> Color {
        match (paint, self) {
            (Paint::Exact(colour), _) => colour,
            (Paint::Series(index), Self::Light) => LIGHT_SERIES[index % LIGHT_SERIES.len()],
            (Paint::Series(index), Self::Dark) => DARK_SERIES[index % DARK_SERIES.len()],
            (Paint::Paper, Self::Light) => rgb(0xffffff),
            (Paint::Paper, Self::Dark) => rgb(0x14171c),
            (Paint::Ink, Self::Light) => rgb(0x1a1a1a),
            (Paint::Ink, Self::Dark) => rgb(0xeceef1),
            (Paint::Muted, Self::Light) => rgb(0x595959),
            (Paint::Muted, Self::Dark) => rgb(0xa8adb5),
            (Paint::Grid, Self::Light) => rgb(0xd9d9d9),
            (Paint::Grid, Self::Dark) => rgb(0x3a3f47),
            (Paint::FineGrid, Self::Light) => rgb(0xf0f0f0),
            (Paint::FineGrid, Self::Dark) => rgb(0x23272e),
            (Paint::Published | Paint::Hatch, Self::Light) => rgb(0x8c8c8c),
            (Paint::Published | Paint::Hatch, Self::Dark) => rgb(0x8f959e),
        }
    }
}

/// A colour from its six hexadecimal digits.
const fn rgb(digits: u32) -> Color {
    let [_, r, g, b] = digits.to_be_bytes();
    Color { r, g, b }
}

/// Relative luminance, from 0 (black) to 1 (white), as WCAG 2 defines it.
pub(super) fn luminance(Color { r, g, b }: Color) -> f64 {
    let [r, g, b] = [r, g, b].map(linear);
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

/// Contrast ratio of two colours, from 1 to 21, as WCAG 2 defines it.
pub(super) fn contrast(one: Color, other: Color) -> f64 {
    let [one, other] = [one, other].map(luminance);
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

/// A channel of sRGB without its gamma.
fn linear(channel: u8) -> f64 {
    let channel = f64::from(channel) / 255.0;
    if channel <= 0.04045 { channel / 12.92 } else { ((channel + 0.055) / 1.055).powf(2.4) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEMES: [Theme; 2] = [Theme::Light, Theme::Dark];

    /// What the three kinds of complete colour blindness, and none, make of linear RGB (Machado et al. 2009, severity 1).
    const VISIONS: [[[f64; 3]; 3]; 4] = [
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ];

    fn seen(colour: Color, vision: [[f64; 3]; 3]) -> [f64; 3] {
        let rgb = [colour.r, colour.g, colour.b].map(linear);
        let [r, g, b] = vision.map(|row| row.iter().zip(rgb).map(|(m, c)| m * c).sum::<f64>().clamp(0.0, 1.0));
        let x = (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047;
        let y = 0.2126 * r + 0.7152 * g + 0.0722 * b;
        let z = (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883;
        let [x, y, z] = [x, y, z].map(|t| if t > 0.008856 { t.cbrt() } else { 7.787 * t + 16.0 / 116.0 });
        [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
    }

    #[test]
    fn contrasts_are_those_of_the_standard() {
        assert!((contrast(rgb(0x000000), rgb(0xffffff)) - 21.0).abs() < 1e-9);
        // The lightest grey that passes AA on white, a well-known one.
        assert!((contrast(rgb(0x767676), rgb(0xffffff)) - 4.54).abs() < 0.005);
    }

    #[test]
    fn text_is_legible_on_its_paper() {
        for theme in THEMES {
            for paint in [Paint::Ink, Paint::Muted] {
                let contrast = contrast(theme.colour(paint), theme.colour(Paint::Paper));
                assert!(contrast >= 4.5, "{theme:?} {paint:?}: {contrast}");
            }
        }
    }

    #[test]
    fn marks_stand_out_from_their_paper() {
        for theme in THEMES {
            for paint in (0..6).map(Paint::Series).chain([Paint::Published, Paint::Hatch]) {
                let contrast = contrast(theme.colour(paint), theme.colour(Paint::Paper));
                assert!(contrast >= 3.0, "{theme:?} {paint:?}: {contrast}");
            }
        }
    }

    #[test]
    fn series_stay_apart_for_every_kind_of_colour_vision() {
        for theme in THEMES {
            for (vision, matrix) in VISIONS.into_iter().enumerate() {
                for (one, other) in (0..6).flat_map(|one| (0..one).map(move |other| (one, other))) {
                    let [a, b] = [one, other].map(|index| seen(theme.colour(Paint::Series(index)), matrix));
                    // CIELAB: 2.3 is just noticeable.
                    let distance = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
                    assert!(distance > 25.0, "{theme:?}, vision {vision}: {one} and {other} differ by {distance}");
                }
            }
        }
    }
}
