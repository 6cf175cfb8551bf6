//! The key beside the spectrum: what the colours and lines mean, and how concentrated the energy is.

use super::{
    FigureError, InputShape,
    layout::MAX_CHANNELS,
    spectrum::{ISOTROPIC, REFERENCE, SpectrumShares},
};
use crate::figure::{
    bitmap::{Colours, PixelRun},
    legend::{self, Sample},
    marks::OWN,
    numbers::{grouped, percent},
    svg::{Canvas, Rect, Type},
    theme::Paint,
};

const BAR_HEIGHT: f64 = 12.0;
const NOTE_HEIGHT: f64 = 17.0;
const TEXT: f64 = 13.0;

/// Draws the key from the top of `area`.
pub(super) fn draw(
    canvas: &mut Canvas,
    area: Rect,
    shape: InputShape,
    shares: &SpectrumShares,
    reference: Option<&SpectrumShares>,
) -> Result<(), FigureError> {
    let mut y = area.y + 10.0;
    y = draw_bar(canvas, area, y, "NAD", Colours::Diverging { limit: 1.0 }, &["−max", "0", "+max"])?;
    let dft = "|DFT|, zero frequency in the centre";
    y = draw_bar(canvas, area, y, dft, Colours::Sequential { max: 1.0 }, &["0", "max"])?;
    for note in notes(shape, shares) {
        canvas.text((area.x, y), Type::new(TEXT, Paint::Muted), &note);
        y += NOTE_HEIGHT;
    }
    y = draw_lines(canvas, Rect { y: y + 12.0, ..area }, shape.dimension(), shares, reference);
    draw_energy(canvas, Rect { y: y + 12.0, ..area }, shares);
    Ok(())
}

fn notes(shape: InputShape, shares: &SpectrumShares) -> Vec<String> {
    let mut notes = vec![
        "Each NAD and DFT has its own scale.".to_owned(),
        "The sign of a NAD is arbitrary.".to_owned(),
        "Percentages are shares of Σ s².".to_owned(),
        "Dots mark the NADs shown.".to_owned(),
    ];
    if shape.channels > MAX_CHANNELS {
        notes.push(format!("First {MAX_CHANNELS} of {} channels.", shape.channels));
    }
    if shares.has_null_space() {
        notes.push(format!("Null space beyond rank {}.", shares.informative()));
    }
    notes
}

/// A sample of every line with its label; returns the baseline of what may follow.
fn draw_lines(
    canvas: &mut Canvas,
    area: Rect,
    dimension: usize,
    shares: &SpectrumShares,
    reference: Option<&SpectrumShares>,
) -> f64 {
    let isotropic = format!("isotropic, 1/D with D = {}", grouped(dimension as u64));
    let own = (Sample::Dotted(OWN), shares.label());
    let reference = reference.map(|reference| (Sample::Line(REFERENCE), reference.label()));
    let isotropic = (Sample::Line(ISOTROPIC), isotropic.as_str());
    legend::draw(canvas, area, std::iter::once(own).chain(reference).chain([isotropic]))
}

/// A titled colour bar with labels spread along it; returns the baseline of what may follow.
pub(super) fn draw_bar(
    canvas: &mut Canvas,
    area: Rect,
    y: f64,
    title: &str,
    colours: Colours,
    labels: &[impl AsRef<str>],
) -> Result<f64, FigureError> {
    canvas.text((area.x, y), Type::new(TEXT, Paint::Ink), title);
    let bar = Rect { y: y + 8.0, height: BAR_HEIGHT, ..area };
    canvas.ramp(bar, colours, PixelRun::Right)?;
    let last = labels.len().saturating_sub(1).max(1);
    for (index, label) in labels.iter().enumerate() {
        let x = bar.x + bar.width * index as f64 / last as f64;
        let set = Type::new(12.0, Paint::Muted);
        let set = match index {
            0 => set,
            index if index == last => set.end(),
            _ => set.middle(),
        };
        canvas.text((x, bar.bottom() + 15.0), set, label.as_ref());
    }
    Ok(bar.bottom() + 40.0)
}

/// Σ of the leading shares, for the powers of ten that mean something.
fn draw_energy(canvas: &mut Canvas, area: Rect, shares: &SpectrumShares) {
    canvas.text((area.x, area.y), Type::new(TEXT, Paint::Ink), "Energy of the leading directions");
    let counts = [1, 10, 100].into_iter().filter(|&count| count <= shares.informative());
    for (column, count) in counts.enumerate() {
        let x = area.x + column as f64 * area.width / 3.0;
        canvas.text((x, area.y + 19.0), Type::new(12.0, Paint::Muted), &format!("top {count}"));
        canvas.text((x, area.y + 36.0), Type::new(TEXT, Paint::Ink), &percent(shares.top(count)));
    }
}
