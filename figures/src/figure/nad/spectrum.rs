//! The spectrum: sᵢ²/Σs² against i + 1, both axes logarithmic.

use ndarray::ArrayView1;

use super::FigureError;
use crate::figure::{
    axis::{LogAxis, LogLabels, draw_column, draw_titles, label_column},
    marks::{DOT_RADIUS, OWN},
    numbers::grouped,
    svg::{Canvas, Rect, Stroke},
    theme::Paint,
};

/// sᵢ² below this part of s₀² is rounding noise of an f64 eigendecomposition, not a direction.
pub(super) const NOISE_FLOOR: f64 = 1e-12;

/// The line of the reference spectrum (a colour-blind-safe orange).
pub(super) const REFERENCE: Stroke = Stroke { colour: Paint::Series(1), width: 1.6, dashes: Some("6 3") };
/// The line at 1/D.
pub(super) const ISOTROPIC: Stroke = Stroke { colour: Paint::Muted, width: 1.2, dashes: Some("1.5 3.5") };

/// A spectrum normalised to sum 1.
#[derive(Debug)]
pub(super) struct SpectrumShares {
    label: String,
    shares: Vec<f64>,
    informative: usize,
}

impl SpectrumShares {
    pub(super) fn new(label: &str, singular_values: ArrayView1<'_, f64>) -> Result<Self, FigureError> {
        let usable = |index: usize, value: f64| value.is_finite() && (value > 0.0 || (value == 0.0 && index > 0));
        let mut indexed = singular_values.iter().copied().enumerate();
        if let Some((index, value)) = indexed.find(|&(index, value)| !usable(index, value)) {
            return Err(FigureError::SingularValue { spectrum: label.to_owned(), index, value });
        }
        // Scaled by the largest first, so that no square under- or overflows.
        let largest = singular_values.fold(0.0_f64, |largest, &value| largest.max(value));
        let squares: Vec<f64> = singular_values.iter().map(|value| (value / largest).powi(2)).collect();
        let total: f64 = squares.iter().sum();
        Ok(Self {
            label: label.to_owned(),
            informative: squares.iter().take_while(|&&square| square > NOISE_FLOOR).count(),
            shares: squares.into_iter().map(|square| square / total).collect(),
        })
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// Returns the number of leading directions that carry any energy.
    pub(super) fn informative(&self) -> usize {
        self.informative
    }

    /// Whether some directions given carry none: the null space.
    pub(super) fn has_null_space(&self) -> bool {
        self.informative < self.shares.len()
    }

    /// sᵢ²/Σs², or 0 beyond the end.
    pub(super) fn share(&self, index: usize) -> f64 {
        self.shares.get(index).copied().unwrap_or(0.0)
    }

    /// Energy of the first `count` directions.
    pub(super) fn top(&self, count: usize) -> f64 {
        self.shares.iter().take(count).sum()
    }

    fn points(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.shares[..self.informative].iter().enumerate().map(|(index, &share)| ((index + 1) as f64, share))
    }
}

/// Draws axes, grid and lines into `plot`, with dots at the `marked` indices.
pub(super) fn draw(
    canvas: &mut Canvas,
    plot: Rect,
    dimension: usize,
    shares: &SpectrumShares,
    reference: Option<&SpectrumShares>,
    marked: &[usize],
) {
    let isotropic = 1.0 / dimension as f64;
    let (across, up) = axes(plot, isotropic, shares, reference);
    draw_vertical_grid(canvas, plot, &across);
    up.draw_rows(canvas, plot, LogLabels::Powers);
    draw_titles(canvas, plot, "rank of the direction, i + 1", "normalised spectrum, s² / Σ s²");
    canvas.frame(plot, Stroke::solid(Paint::Ink, 1.0));
    let place = |(x, y): (f64, f64)| (across.place(x), up.place(y));
    canvas.line((plot.x, up.place(isotropic)), (plot.right(), up.place(isotropic)), ISOTROPIC);
    if let Some(reference) = reference {
        canvas.polyline(&reference.points().map(place).collect::<Vec<_>>(), REFERENCE);
    }
    let points: Vec<(f64, f64)> = shares.points().map(place).collect();
    canvas.polyline(&points, OWN);
    for &point in marked.iter().filter_map(|&index| points.get(index)) {
        canvas.dot(point, DOT_RADIUS, OWN.colour);
    }
}

/// The horizontal axis covers every index, the vertical one whole decades around every share.
fn axes(plot: Rect, isotropic: f64, shares: &SpectrumShares, reference: Option<&SpectrumShares>) -> (LogAxis, LogAxis) {
    let spectra = || std::iter::once(shares).chain(reference);
    let longest = spectra().map(SpectrumShares::informative).max().unwrap_or(1).max(2);
    let values = || spectra().flat_map(SpectrumShares::points).map(|(_, share)| share).chain([isotropic]);
    let low = values().fold(f64::INFINITY, f64::min).log10().floor();
    let high = values().fold(0.0, f64::max).log10().ceil().max(low + 1.0);
    let span = (longest as f64).log10();
    let margin = 0.03 * span;
    (
        LogAxis { low: -margin, high: span + margin, start: plot.x, end: plot.right() },
        LogAxis { low, high, start: plot.bottom(), end: plot.y },
    )
}

pub(super) fn draw_vertical_grid(canvas: &mut Canvas, plot: Rect, axis: &LogAxis) {
    let labelled: &[i32] = match axis.high {
        ..1.0 => &[1, 2, 3, 4, 5, 6, 7, 8, 9],
        ..2.0 => &[1, 2, 5],
        _ => &[1],
    };
    for (digit, _, value) in axis.ticks() {
        let x = axis.place(value);
        let colour = if digit == 1 { Paint::Grid } else { Paint::FineGrid };
        draw_column(canvas, plot, x, colour);
        if labelled.contains(&digit) {
            label_column(canvas, plot, x, &grouped(value.round() as u64));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use ndarray::array;

    use super::*;

    #[test]
    fn shares_sum_to_one_and_stop_at_the_noise() {
        let shares = SpectrumShares::new("net", array![3e-200, 4e-200, 1e-210, 0.0].view()).unwrap();
        assert_eq!(shares.informative(), 2);
        assert!((shares.share(0) - 0.36).abs() < 1e-15);
        assert!((shares.top(2) - 1.0).abs() < 1e-15);
        assert_eq!(shares.share(99), 0.0);
    }

    #[test]
    fn unusable_singular_values_are_named() {
        let error = SpectrumShares::new("net", array![1.0, f64::NAN].view()).unwrap_err();
        assert_eq!(error.to_string(), "singular value 1 of net is NaN");
        assert!(SpectrumShares::new("net", array![0.0].view()).is_err());
        assert!(SpectrumShares::new("net", array![1.0, -1.0].view()).is_err());
    }
}
