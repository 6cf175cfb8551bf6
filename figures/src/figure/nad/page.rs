//! The page: the order of its parts from top to bottom.

use super::{
    FigureError, NadFigure, gallery, key,
    layout::{COLUMN_GAP, COLUMN_WIDTH, LEFT, RIGHT},
    spectrum::{self, SpectrumShares},
};
use crate::figure::{
    numbers::grouped,
    sheet::draw_header,
    svg::{Canvas, Rect},
    theme::Theme,
};

const PAGE_WIDTH: f64 = RIGHT + 24.0;
const GALLERY_TOP: f64 = 96.0;
const PLOT_GAP: f64 = 40.0;
const PLOT_COLUMNS: f64 = 5.0;
const PLOT_HEIGHT: f64 = 320.0;
const KEY_INDENT: f64 = 26.0;
const FOOT: f64 = 68.0;

/// Draws the whole page and returns the document.
pub(super) fn draw(
    figure: &NadFigure<'_>,
    shares: &SpectrumShares,
    reference: Option<&SpectrumShares>,
    theme: Theme,
) -> Result<String, FigureError> {
    let mut canvas = Canvas::new(theme);
    let title = format!("Neural anisotropy directions of {}", figure.architecture);
    draw_header(&mut canvas, LEFT, RIGHT - LEFT, &title, &subtitle(figure));
    let shown = gallery::shown_indices(figure.nads.nrows().min(shares.informative()));
    let gallery_bottom = gallery::draw(&mut canvas, GALLERY_TOP, figure, shares, &shown)?;
    let plot = Rect {
        x: LEFT,
        y: gallery_bottom + PLOT_GAP,
        width: PLOT_COLUMNS * (COLUMN_WIDTH + COLUMN_GAP) - COLUMN_GAP,
        height: PLOT_HEIGHT,
    };
    spectrum::draw(&mut canvas, plot, figure.shape.dimension(), shares, reference, &shown);
    let beside = plot.right() + COLUMN_GAP + KEY_INDENT;
    let key = Rect { x: beside, width: RIGHT - beside, ..plot };
    key::draw(&mut canvas, key, figure.shape, shares, reference)?;
    Ok(canvas.finish(PAGE_WIDTH, plot.bottom() + FOOT, &title))
}

fn subtitle(figure: &NadFigure<'_>) -> String {
    let networks = figure.networks.map(|networks| format!("N = {} networks", grouped(networks)));
    let estimator = match figure.step {
        Some(step) => format!("{}, h = {step}", figure.estimator),
        None => figure.estimator.to_owned(),
    };
    let input = format!("input {}", figure.shape);
    networks.into_iter().chain([estimator, input]).collect::<Vec<_>>().join(" · ")
}
