//! The pictures of a sweep, from its spec and what it has measured so far.
//!
//! ```text
//! nads/ARCHITECTURE/figure         the first NADs and the spectrum
//! nads/ARCHITECTURE/nad_INDEX      one NAD in detail
//! nads/FIRST_beside_SECOND         the first NADs of two architectures
//! nads/spectra                     the spectra of all architectures, where there are several
//! directional/ARCHITECTURE_map     accuracy over a grid of frequencies
//! directional/curve                accuracy along NADs or rows of a file
//! poisoning/curve   flipping/bars   margins/curve
//! ```
//! [`pictures`] lists them ([`patterns`] those with something to fill in), [`draw`] draws one, [`draw_all`] all as files, and [`results`] sums every job up. Numbers come from
//! a [`Source`]: the files of a complete sweep ([`Files`]), or the runs of one that is still computed. A run that diverged is
//! in no picture; subtitles say how many, and how many runs are still to come.
//!
//! Absent: the network and the disk, and pictures of directions in no order (single pixels and random ones).

mod error;
mod margins;
mod nads;
mod picture;
mod results;
mod runs;
mod table;

use std::{borrow::Cow, collections::BTreeMap};

use nadgrid_core::{
    architecture::find,
    spec::{Experiment, Spec},
};

use crate::{Figure, InputShape, Theme};

pub use error::SweepError;
pub use nads::Spectrum;
pub use picture::{Pattern, Picture, PictureKind, patterns, pictures};
pub use results::{JobOutcome, JobResult, NadsSummary, RunsSummary, results};
pub use table::{MarginRow, Run, Runs};

/// The content of files, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The source of a picture's numbers.
///
/// A complete sweep has artifacts, and [`Source::artifact`] is all there is to write. For one that is still computed,
/// [`Source::runs`] and [`Source::margins`] give the runs that have ended; [`Runs::new`] and [`MarginRow::of_runs`] make them
/// from outcomes.
pub trait Source {
    /// The bytes of an artifact.
    ///
    /// # Errors
    /// [`SweepError::Missing`] or [`SweepError::Read`].
    fn artifact(&self, name: &str) -> Result<Cow<'_, [u8]>, SweepError>;

    /// The runs of a training job that have ended. By default those of the job's table, which is complete.
    ///
    /// # Errors
    /// Those of [`Source::artifact`], and [`SweepError::Unreadable`].
    fn runs(&self, experiment: Experiment, architecture: &str) -> Result<Runs, SweepError> {
        let name = picture::table_file(experiment, architecture);
        table::runs(experiment, &name, &self.artifact(&name)?)
    }

    /// The margins of an architecture's networks that have been measured. By default those of the table.
    ///
    /// # Errors
    /// Those of [`Source::artifact`], and [`SweepError::Unreadable`].
    fn margins(&self, architecture: &str) -> Result<Vec<MarginRow>, SweepError> {
        let name = picture::margins_file(architecture);
        table::margins(&name, &self.artifact(&name)?)
    }
}

impl Source for Files {
    fn artifact(&self, name: &str) -> Result<Cow<'_, [u8]>, SweepError> {
        let bytes = self.get(name).ok_or_else(|| SweepError::Missing { name: name.to_owned() })?;
        Ok(Cow::Borrowed(bytes))
    }
}

/// The pictures of a sweep, and remarks about them.
#[derive(Clone, Debug, Default)]
pub struct Drawing {
    /// Figures, as SVG and as PNG.
    pub figures: Files,
    /// A result for each job, in the sweep's order.
    pub results: Vec<JobResult>,
    /// The pictures that could not be drawn and the reasons, a line each.
    pub notes: Vec<String>,
}

/// Whether [`draw_all`] looks at the artifact of this name.
pub fn is_read(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or_default();
    nads::FILES.contains(&file) || file.ends_with(".csv")
}

/// Draws one picture. Takes milliseconds (a whole set of NADs to read takes more); [`Figure::png`] takes longer.
///
/// # Errors
/// An artifact is missing or damaged, or there is nothing to draw so far.
pub fn draw(spec: &Spec, picture: &Picture, source: &impl Source, theme: Theme) -> Result<Figure, SweepError> {
    match picture.kind {
        PictureKind::Nads => nads::draw(spec, picture, source, theme),
        PictureKind::Nad => nads::draw_nad(spec, picture, source, theme),
        PictureKind::Spectra => nads::draw_spectra(spec, picture, source, theme),
        PictureKind::Pair => nads::draw_pair(spec, picture, source, theme),
        PictureKind::Map => runs::draw_map(spec, picture, source, theme),
        PictureKind::Curve => runs::draw_curve(spec, picture, source, theme),
        PictureKind::Bars => runs::draw_bars(spec, picture, source, theme),
        PictureKind::Margins => margins::draw(spec, picture, source, theme),
    }
}

/// Draws every picture of a complete sweep, as files on light paper, and sums its jobs up. Takes a second or so a picture.
///
/// # Errors
/// An artifact is missing or damaged. What could be read but not drawn is a note.
pub fn draw_all(spec: &Spec, source: &impl Source) -> Result<Drawing, SweepError> {
    // First, so that a sweep that lacks a file says so before another file is found wanting.
    let mut drawing = Drawing { results: results(spec, source)?, ..Drawing::default() };
    for picture in pictures(spec) {
        let name = &picture.name;
        let figure = draw(spec, &picture, source, Theme::Light).and_then(|figure| {
            let png = figure.png().map_err(|source| SweepError::Figure { name: name.clone(), source })?;
            Ok((png, figure))
        });
        match figure {
            Ok((png, figure)) => {
                drawing.figures.insert(format!("{name}.png"), png);
                drawing.figures.insert(format!("{name}.svg"), figure.svg().as_bytes().to_vec());
            }
            Err(error) if error.is_of_one_picture() => drawing.notes.push(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    Ok(drawing)
}

/// An architecture's name for people.
fn title(architecture: &str) -> &str {
    find(architecture).map_or(architecture, |known| known.title)
}

/// The shape of the sweep's input.
fn shape(spec: &Spec) -> InputShape {
    let shape = spec.shape();
    InputShape { channels: shape.channels, height: shape.height, width: shape.width }
}

#[cfg(test)]
mod tests;
