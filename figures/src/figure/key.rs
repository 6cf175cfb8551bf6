//! The key beside the spectrum: what the colours and lines mean, and how concentrated the energy is.

use super::{
    FigureError,
    bitmap::{Colours, ramp_uri},
    page::{grouped, percent},
    spectrum::{ISOTROPIC, OWN, REFERENCE, Shares},
    svg::{Canvas, INK, MUTED, Rect, Stroke, Type},
};

const BAR_HEIGHT: f64 = 12.0;
const LINE_HEIGHT: f64 = 21.0;
const SAMPLE_WIDTH: f64 = 30.0;
const TEXT: f64 = 13.0;

/// Draws the key from the top of `area`.
pub(super) fn draw(
    canvas: &mut Canvas,
    area: Rect,
    dimension: usize,
    shares: &Shares,
    reference: Option<&Shares>,
) -> Result<(), FigureError> {
    let mut y = area.y + 10.0;
    y = draw_bar(canvas, area, y, "NAD", Colours::Diverging { limit: 1.0 }, &["−max", "0", "+max"])?;
    y = draw_bar(canvas, area, y, "|DFT|, zero frequency in the centre", Colours::Sequential { max: 1.0 }, &["0", "max"])?;
    for note in ["Every map has its own scale.", "The sign of a NAD is arbitrary."] {
        canvas.text((area.x, y), Type::new(TEXT, MUTED), note);
        y += 17.0;
    }
    y += 14.0;
    let isotropic = format!("isotropic, 1/D with D = {}", grouped(dimension as u64));
    let own = Some((OWN, shares.label()));
    let reference = reference.map(|reference| (REFERENCE, reference.label()));
    for (stroke, label) in own.into_iter().chain(reference).chain([(ISOTROPIC, isotropic.as_str())]) {
        draw_sample(canvas, area, y, stroke, label);
        y += LINE_HEIGHT;
    }
    draw_energy(canvas, area, y + 12.0, shares);
    Ok(())
}

/// A titled colour bar with labels spread along it; returns the baseline of what may follow.
fn draw_bar(
    canvas: &mut Canvas,
    area: Rect,
    y: f64,
    title: &str,
    colours: Colours,
    labels: &[&str],
) -> Result<f64, FigureError> {
    canvas.text((area.x, y), Type::new(TEXT, INK), title);
    let bar = Rect { y: y + 8.0, height: BAR_HEIGHT, ..area };
    canvas.image(bar, &ramp_uri(colours)?);
    canvas.frame(bar, Stroke::solid(INK, 0.6));
    let last = labels.len().saturating_sub(1).max(1);
    for (index, label) in labels.iter().enumerate() {
        let x = bar.x + bar.width * index as f64 / last as f64;
        let set = Type::new(12.0, MUTED);
        let set = match index {
            0 => set,
            index if index == last => set.end(),
            _ => set.middle(),
        };
        canvas.text((x, bar.bottom() + 15.0), set, label);
    }
    Ok(bar.bottom() + 40.0)
}

fn draw_sample(canvas: &mut Canvas, area: Rect, y: f64, stroke: Stroke, label: &str) {
    let middle = y - TEXT * 0.36;
    canvas.line((area.x, middle), (area.x + SAMPLE_WIDTH, middle), stroke);
    let x = area.x + SAMPLE_WIDTH + 10.0;
    canvas.text((x, y), Type::new(TEXT, INK).fitted(label, area.right() - x, 6.0), label);
}

/// Σ of the leading shares, for the powers of ten that mean something.
fn draw_energy(canvas: &mut Canvas, area: Rect, y: f64, shares: &Shares) {
    let tops: Vec<String> = [1, 10, 100]
        .into_iter()
        .filter(|&count| count == 1 || count < shares.informative())
        .map(|count| format!("{count}: {}", percent(shares.top(count))))
        .collect();
    canvas.text((area.x, y), Type::new(TEXT, INK), "energy of the leading directions");
    canvas.text((area.x, y + 18.0), Type::new(TEXT, MUTED), &tops.join("    "));
}
