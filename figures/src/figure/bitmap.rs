//! Arrays as small coloured bitmaps, one pixel a value, in the form of PNG data URIs.
//!
//! All maps keep their order for colour-blind readers: ColorBrewer's red-blue (red positive), magma and viridis.
//! Absent: scaling; whoever shows the bitmap stretches it.

use base64::{Engine, prelude::BASE64_STANDARD};
use ndarray::{Array2, ArrayView2};
use resvg::tiny_skia::{Pixmap, PremultipliedColorU8};

use super::FigureError;

/// A colour map and the value at its far end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Colours {
    /// From −limit (blue) over 0 (white) to +limit (red).
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
    /// The colour of a value.
    pub(super) fn eval(self, value: f64) -> colorous::Color {
        let fraction = |scale: f64| if scale > 0.0 { value / scale } else { 0.0 };
        match self {
            Self::Diverging { limit } => colorous::RED_BLUE.eval_continuous(0.5 - 0.5 * fraction(limit)),
            Self::Sequential { max } => colorous::MAGMA.eval_continuous(fraction(max)),
            Self::Between { low, high } => {
                colorous::VIRIDIS.eval_continuous(((value - low) / (high - low)).clamp(0.0, 1.0))
            }
        }
    }
}

/// The array as a `data:image/png` URI.
pub(super) fn data_uri(values: ArrayView2<'_, f64>, colours: Colours) -> Result<String, FigureError> {
    let (height, width) = values.dim();
    let failed = |reason: String| FigureError::Bitmap { width, height, reason };
    let too_large = || failed("of a size that cannot be drawn".into());
    let extent = |extent: usize| u32::try_from(extent).map_err(|_| too_large());
    let mut pixmap = Pixmap::new(extent(width)?, extent(height)?).ok_or_else(too_large)?;
    for (pixel, &value) in pixmap.pixels_mut().iter_mut().zip(values.iter()) {
        let colorous::Color { r, g, b } = colours.eval(value);
        *pixel = PremultipliedColorU8::from_rgba(r, g, b, u8::MAX).ok_or_else(too_large)?;
    }
    let png = pixmap.encode_png().map_err(|error| failed(error.to_string()))?;
    Ok(format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png)))
}

/// Which way a colour bar runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Run {
    /// From left to right.
    Right,
    /// From bottom to top.
    Up,
}

/// A ramp through the whole map, for colour bars.
pub(super) fn ramp_uri(colours: Colours, run: Run) -> Result<String, FigureError> {
    const STEPS: usize = 256;
    let value = |step: usize| {
        let fraction = step as f64 / (STEPS - 1) as f64;
        match colours {
            Colours::Diverging { limit } => limit * (2.0 * fraction - 1.0),
            Colours::Sequential { max } => max * fraction,
            Colours::Between { low, high } => low + (high - low) * fraction,
        }
    };
    let ramp = match run {
        Run::Right => Array2::from_shape_fn((1, STEPS), |(_, step)| value(step)),
        Run::Up => Array2::from_shape_fn((STEPS, 1), |(row, _)| value(STEPS - 1 - row)),
    };
    data_uri(ramp.view(), colours)
}
