//! Arrays as small coloured bitmaps, one pixel a value, in the form of PNG data URIs.
//!
//! All maps keep their order for colour-blind readers: magma and viridis in every theme, and as diverging maps ColorBrewer's
//! red-blue around white on light paper, and blue-black-red on dark paper; red is positive in both.
//! Absent: scaling; whoever shows the bitmap stretches it.

use base64::{Engine, prelude::BASE64_STANDARD};
use ndarray::{Array2, ArrayView2};
use resvg::tiny_skia::{Pixmap, PremultipliedColorU8};

use super::{FigureError, Theme};

/// A diverging map for dark paper at equal distances, from blue over near-black to red, its two sides equally bright.
const NIGHT: [[u8; 3]; 11] = [
    [158, 176, 255],
    [108, 168, 227],
    [64, 138, 182],
    [39, 100, 130],
    [26, 63, 82],
    [22, 22, 23],
    [110, 30, 20],
    [170, 54, 38],
    [210, 98, 78],
    [234, 138, 120],
    [250, 152, 142],
];

/// A colour map and the value at its far end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Colours {
    /// From −limit (blue) over 0 (as the paper) to +limit (red).
    Diverging {
        /// The largest magnitude.
        limit: f64,
    },
    /// From 0 (black) to `max` (pale yellow).
    Sequential {
        /// The largest value.
        max: f64,
    },
    /// From `low` or less (dark blue) to `high` or more (yellow).
    Between {
        /// The value at the dark end.
        low: f64,
        /// The value at the bright end.
        high: f64,
    },
}

impl Colours {
    /// The value at a fraction of the way through the map.
    fn at(self, fraction: f64) -> f64 {
        match self {
            Self::Diverging { limit } => limit * (2.0 * fraction - 1.0),
            Self::Sequential { max } => max * fraction,
            Self::Between { low, high } => low + (high - low) * fraction,
        }
    }

    /// The colour of a value.
    pub(super) fn eval(self, value: f64, theme: Theme) -> colorous::Color {
        let fraction = |scale: f64| if scale > 0.0 { value / scale } else { 0.0 };
        match self {
            Self::Diverging { limit } if theme == Theme::Dark => night(0.5 + 0.5 * fraction(limit)),
            Self::Diverging { limit } => colorous::RED_BLUE.eval_continuous(0.5 - 0.5 * fraction(limit)),
            Self::Sequential { max } => colorous::MAGMA.eval_continuous(fraction(max)),
            Self::Between { low, high } => {
                colorous::VIRIDIS.eval_continuous(((value - low) / (high - low)).clamp(0.0, 1.0))
            }
        }
    }
}

/// The array as a `data:image/png` URI.
pub(super) fn data_uri(values: ArrayView2<'_, f64>, colours: Colours, theme: Theme) -> Result<String, FigureError> {
    let (height, width) = values.dim();
    let failed = |reason: String| FigureError::Bitmap { width, height, reason };
    let too_large = || failed("of a size that cannot be drawn".into());
    let extent = |extent: usize| u32::try_from(extent).map_err(|_| too_large());
    let mut pixmap = Pixmap::new(extent(width)?, extent(height)?).ok_or_else(too_large)?;
    for (pixel, &value) in pixmap.pixels_mut().iter_mut().zip(values.iter()) {
        let colorous::Color { r, g, b } = colours.eval(value, theme);
        *pixel = PremultipliedColorU8::from_rgba(r, g, b, u8::MAX).ok_or_else(too_large)?;
    }
    let png = pixmap.encode_png().map_err(|error| failed(error.to_string()))?;
    Ok(format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png)))
}

/// The direction of a colour bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PixelRun {
    /// It runs from left to right.
    Right,
    /// It runs from bottom to top.
    Up,
}

/// A ramp through the whole map, for colour bars.
pub(super) fn ramp(colours: Colours, run: PixelRun) -> Array2<f64> {
    const STEPS: usize = 256;
    let last = STEPS - 1;
    match run {
        PixelRun::Right => Array2::from_shape_fn((1, STEPS), |(_, step)| colours.at(step as f64 / last as f64)),
        PixelRun::Up => Array2::from_shape_fn((STEPS, 1), |(row, _)| colours.at((last - row) as f64 / last as f64)),
    }
}

/// The colour at a fraction from 0 to 1, linear between the colours given.
fn night(fraction: f64) -> colorous::Color {
    let place = fraction.clamp(0.0, 1.0) * (NIGHT.len() - 1) as f64;
    let below = (place as usize).min(NIGHT.len() - 2);
    let from = NIGHT[below];
    let to = NIGHT[below + 1];
    let part = place - below as f64;
    colorous::Color { r: mix(from[0], to[0], part), g: mix(from[1], to[1], part), b: mix(from[2], to[2], part) }
}

/// The number at a fraction of the way between two.
fn mix(from: u8, to: u8, part: f64) -> u8 {
    let from = f64::from(from);
    (from + (f64::from(to) - from) * part).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::theme::{Paint, contrast, luminance};

    const DIVERGING: Colours = Colours::Diverging { limit: 2.0 };

    #[test]
    fn zero_has_the_colour_of_the_paper() {
        for theme in [Theme::Light, Theme::Dark] {
            let paper = theme.colour(Paint::Paper);
            let at_zero = DIVERGING.eval(0.0, theme);
            assert!(contrast(at_zero, paper) < 1.15, "{theme:?}: {at_zero:?}");
            // An array of zeros has no limit to divide by.
            let empty = Colours::Diverging { limit: 0.0 }.eval(0.0, theme);
            assert_eq!(format!("{empty:x}"), format!("{at_zero:x}"));
        }
    }

    #[test]
    fn signs_are_blue_and_red_and_magnitudes_move_away_from_the_paper_alike() {
        for theme in [Theme::Light, Theme::Dark] {
            let paper = theme.colour(Paint::Paper);
            let negative = DIVERGING.eval(-2.0, theme);
            let positive = DIVERGING.eval(2.0, theme);
            assert!(negative.b > negative.r && positive.r > positive.b, "{theme:?}: {negative:?} {positive:?}");
            for sign in [-1.0, 1.0] {
                let steps: Vec<f64> =
                    (0..=20).map(|step| contrast(DIVERGING.eval(sign * 0.1 * f64::from(step), theme), paper)).collect();
                assert!(steps.windows(2).all(|pair| pair[1] >= pair[0] - 0.05), "{theme:?} {sign}: {steps:?}");
                assert!(steps[20] > 6.0, "{theme:?} {sign}: {steps:?}");
            }
            for step in 0..=20 {
                let value = 0.1 * f64::from(step);
                let apart = contrast(DIVERGING.eval(value, theme), DIVERGING.eval(-value, theme));
                assert!(apart < 1.35, "{theme:?}: {value} is {apart} as bright as its negative, or the reverse");
            }
        }
    }

    #[test]
    fn sequential_maps_brighten_all_the_way() {
        for colours in [Colours::Sequential { max: 1.0 }, Colours::Between { low: 0.0, high: 1.0 }] {
            let bright: Vec<f64> =
                (0..=50).map(|step| luminance(colours.eval(f64::from(step) / 50.0, Theme::Light))).collect();
            assert!(bright.is_sorted() && bright[50] > 0.7 && bright[0] < 0.03, "{bright:?}");
        }
    }
}
