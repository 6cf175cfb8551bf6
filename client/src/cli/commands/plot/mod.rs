//! `nadgrid plot`: the pictures of a result folder, drawn again.
//!
//! Absent: a coordinator; a folder is all it takes.

use crate::cli::args::{Paper, PictureFormat, PlotArgs};
use crate::cli::{Failure, output, tables};
use nadgrid_client::{ResultFolder, replace_file};
use nadgrid_figures::sweep::{self, Pattern, Picture, SweepError, patterns, pictures};
use nadgrid_figures::{Figure, Theme};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The pictures that can be drawn.
#[derive(Serialize)]
struct Listing {
    pictures: Vec<Picture>,
    patterns: Vec<Pattern>,
}

/// The pictures that were drawn.
#[derive(Debug, Serialize)]
struct PlotReport {
    pictures: Vec<DrawnPictures>,
    /// The pictures that were not drawn, and the reasons.
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct DrawnPictures {
    #[serde(flatten)]
    picture: Picture,
    files: Vec<PathBuf>,
}

/// Draws pictures of a result folder; the paths go to stdout.
pub(crate) async fn plot(args: PlotArgs) -> Result<(), Failure> {
    let folder = Arc::new(ResultFolder::open(&args.folder)?);
    if args.list {
        return list(&folder, args.json.json);
    }
    let asked = args.only.iter().map(|name| Picture::find(folder.spec(), name)).collect::<Result<Vec<_>, _>>();
    // A name that is misspelt is told before anything is drawn.
    let asked = asked.map_err(|error| Failure::Usage(format!("--only: {error}")))?;
    let all = asked.is_empty();
    let wanted = if all { pictures(folder.spec()) } else { asked };
    let mut report = PlotReport { pictures: Vec::new(), notes: Vec::new() };
    let mut failed = 0;
    for picture in wanted {
        match draw(&folder, picture, &args).await? {
            Ok(drawn) => report.pictures.push(drawn),
            Err(error) => {
                // All runs of one architecture may have diverged; the other pictures are wanted all the same.
                failed += usize::from(!(all && error.is_of_one_picture()));
                report.notes.push(error.to_string());
            }
        }
    }
    report.notes.iter().for_each(|line| output::note(line));
    if args.json.json {
        output::print_json(&report)?;
    } else {
        let files = report.pictures.iter().flat_map(|drawn| &drawn.files);
        let files: Vec<String> = files.map(|file| file.display().to_string()).collect();
        if !files.is_empty() {
            output::print(&files.join("\n"))?;
        } else if all && failed == 0 {
            output::note("this sweep has nothing to draw");
        }
    }
    match failed {
        0 => Ok(()),
        failed => Err(Failure::other(format!("{} not drawn", tables::count(failed as u64, "picture")))),
    }
}

fn list(folder: &ResultFolder, json: bool) -> Result<(), Failure> {
    let listing = Listing { pictures: pictures(folder.spec()), patterns: patterns(folder.spec()) };
    if json {
        return output::print_json(&listing);
    }
    let pictures = listing.pictures.into_iter().map(|picture| vec![picture.name, picture.title]);
    let patterns = listing.patterns.into_iter().map(|pattern| vec![pattern.name, pattern.title]);
    output::print(&tables::table(&["picture", "shows"], pictures.chain(patterns)))
}

/// Draws and writes one picture, on a thread of its own: a signal must not wait for it.
async fn draw(
    folder: &Arc<ResultFolder>,
    picture: Picture,
    args: &PlotArgs,
) -> Result<Result<DrawnPictures, SweepError>, Failure> {
    let folder = folder.clone();
    let theme = theme(args.paper);
    let format = args.format;
    let out = args.out.clone().unwrap_or_else(|| args.folder.clone());
    let work = move || {
        let figure = match sweep::draw(folder.spec(), &picture, &*folder, theme) {
            Ok(figure) => figure,
            Err(error) => return Ok(Err(error)),
        };
        let files = write(&out, &picture, &figure, theme, format)?;
        Ok(Ok(DrawnPictures { picture, files }))
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(Failure::other(error)))
}

/// Writes a figure in the formats asked for. Dark ones have names of their own, and leave those of `fetch` alone.
fn write(
    out: &Path,
    picture: &Picture,
    figure: &Figure,
    theme: Theme,
    format: PictureFormat,
) -> Result<Vec<PathBuf>, Failure> {
    let suffix = if theme == Theme::Dark { "_dark" } else { "" };
    let name = |ending: &str| format!("{}{suffix}.{ending}", picture.name);
    let mut files = Vec::new();
    if format != PictureFormat::Png {
        files.push((name("svg"), figure.svg().as_bytes().to_vec()));
    }
    if format != PictureFormat::Svg {
        files.push((name("png"), figure.png().map_err(Failure::other)?));
    }
    files.into_iter().map(|(name, bytes)| Ok(replace_file(out, &name, &bytes)?)).collect()
}

fn theme(paper: Paper) -> Theme {
    match paper {
        Paper::Light => Theme::Light,
        Paper::Dark => Theme::Dark,
    }
}

#[cfg(test)]
mod tests;
