//! This module draws what networks learned: accuracies by direction, by poison, and with flipped NADs.

use std::collections::BTreeMap;

use nadgrid_core::spec::{Direction, Directions, Experiment, Spec, Variant};

use super::{Picture, Run, Runs, Source, SweepError, shape, title};
use crate::{
    AccuracyBars, AccuracyCurve, AccuracyMap, BarGroup, BarSeries, CurvePoint, CurveSeries, Figure, FigureError, Level,
    MapCell, Origin, SeedRange, Theme, accuracy_bars, accuracy_curve, accuracy_map,
};

/// Accuracy of a guess between the classes of D(v), and between those of CIFAR-10.
const TWO_CLASSES: f64 = 50.0;
const TEN_CLASSES: f64 = 10.0;

/// The runs of one architecture.
pub(super) struct MeasuredJob<'a> {
    architecture: &'a str,
    runs: Runs,
}

impl<'a> MeasuredJob<'a> {
    /// The jobs that a picture shows.
    pub(super) fn read(
        picture: &'a Picture,
        experiment: Experiment,
        source: &impl Source,
    ) -> Result<Vec<Self>, SweepError> {
        let read = |architecture: &'a String| Ok(Self { architecture, runs: source.runs(experiment, architecture)? });
        picture.architectures.iter().map(read).collect()
    }

    fn ended(jobs: &[Self]) -> usize {
        jobs.iter().map(|job| job.runs.ended.len()).sum()
    }

    /// The end of a subtitle, empty when all runs have ended.
    pub(super) fn so_far(jobs: &[Self]) -> String {
        let ended = Self::ended(jobs) as u64;
        let all = jobs.iter().map(|job| job.runs.all).sum();
        if ended < all { format!(" · {ended} of {all} runs so far") } else { String::new() }
    }

    /// The end of a subtitle, empty when no run diverged and none is still to come.
    fn remarks(jobs: &[Self]) -> String {
        let lost = jobs.iter().flat_map(|job| &job.runs.ended).filter(|run| run.test_accuracy.is_none()).count();
        let diverged = match lost {
            0 => String::new(),
            lost => format!(" · {lost} of {} runs diverged and are left out", Self::ended(jobs)),
        };
        diverged + &Self::so_far(jobs)
    }

    /// Returns the reason why there is nothing to draw.
    fn nothing(name: &str, jobs: &[Self]) -> SweepError {
        let ended = Self::ended(jobs);
        let all: u64 = jobs.iter().map(|job| job.runs.all).sum();
        SweepError::nothing(
            name,
            match ended {
                0 => "no run of it has ended so far".to_owned(),
                ended if (ended as u64) < all => format!("all of its {ended} runs so far diverged"),
                ended => format!("all of its {ended} runs diverged"),
            },
        )
    }
}

pub(super) fn draw_map(
    spec: &Spec,
    picture: &Picture,
    source: &impl Source,
    theme: Theme,
) -> Result<Figure, SweepError> {
    let jobs = MeasuredJob::read(picture, Experiment::Directional, source)?;
    let runs = jobs.iter().flat_map(|job| &job.runs.ended);
    let ranges = ranges(runs, |variant| match variant {
        Variant::Direction(Direction::Wave { k1, k2, .. }) => Some((k1, k2)),
        _ => None,
    });
    let cells: Vec<MapCell> =
        ranges.iter().map(|(&(k1, k2), range)| MapCell { k1, k2, accuracy: range.mean }).collect();
    if cells.is_empty() {
        return Err(MeasuredJob::nothing(&picture.name, &jobs));
    }
    let subtitle = directional_setting(spec) + &MeasuredJob::remarks(&jobs);
    finish(
        picture,
        accuracy_map(
            &AccuracyMap { title: &picture.title, subtitle: &subtitle, shape: shape(spec), cells: &cells },
            theme,
        ),
    )
}

/// Draws a series for each architecture that has points.
pub(super) fn draw_curve(
    spec: &Spec,
    picture: &Picture,
    source: &impl Source,
    theme: Theme,
) -> Result<Figure, SweepError> {
    let jobs = MeasuredJob::read(picture, picture.experiment, source)?;
    let point = |(&index, &accuracy): (&u64, &SeedRange)| CurvePoint { index, accuracy };
    let series = |job: &MeasuredJob<'_>| ranges(&job.runs.ended, index).iter().map(point).collect::<Vec<_>>();
    let points: Vec<_> = jobs.iter().map(|job| (title(job.architecture), series(job))).collect();
    let filled = points.iter().filter(|(_, points)| !points.is_empty());
    let series: Vec<CurveSeries<'_>> = filled.map(|(name, points)| CurveSeries { name, points }).collect();
    if series.is_empty() {
        return Err(MeasuredJob::nothing(&picture.name, &jobs));
    }
    let is_poisoned = picture.experiment == Experiment::Poisoning;
    let setting = if is_poisoned { poisoning_setting(spec) } else { directional_setting(spec) };
    let of_file = spec.directional.as_ref().is_some_and(|of| matches!(of.directions, Directions::File { .. }));
    // Only one line could be told from the others.
    let clean = match &jobs[..] {
        [job] => ranges(&job.runs.ended, |variant| (variant == Variant::Clean).then_some(())).remove(&()),
        _ => None,
    };
    let curve = AccuracyCurve {
        title: &picture.title,
        subtitle: &(setting + &MeasuredJob::remarks(&jobs)),
        index_title: match (is_poisoned, of_file) {
            (true, _) => "first NAD p of the carriers",
            (false, true) => "row",
            (false, false) => "index of the NAD",
        },
        series: &series,
        reference: None,
        chance: Some(if is_poisoned { TEN_CLASSES } else { TWO_CLASSES }),
        clean: clean.map(|range| Level { name: "no carrier", accuracy: range.mean }),
    };
    finish(picture, accuracy_curve(&curve, theme))
}

/// Returns the place of a variant along a curve.
fn index(variant: Variant) -> Option<u64> {
    match variant {
        Variant::Direction(Direction::Nad(index) | Direction::Row(index)) | Variant::Poisoned(index) => Some(index),
        _ => None,
    }
}

pub(super) fn draw_bars(
    spec: &Spec,
    picture: &Picture,
    source: &impl Source,
    theme: Theme,
) -> Result<Figure, SweepError> {
    let jobs = MeasuredJob::read(picture, Experiment::Flipping, source)?;
    let measured = |name| BarSeries { name, origin: Origin::Measured };
    let bars: Vec<_> = jobs.iter().map(|job| (title(job.architecture), original_and_flipped(job))).collect();
    if bars.iter().all(|(_, bars)| bars.iter().all(Option::is_none)) {
        return Err(MeasuredJob::nothing(&picture.name, &jobs));
    }
    let groups: Vec<BarGroup<'_>> = bars.iter().map(|(name, bars)| BarGroup { name, bars }).collect();
    let seeds = spec.flipping.as_ref().map_or(0, |flipping| flipping.seeds);
    let chart = AccuracyBars {
        title: &picture.title,
        subtitle: &format!("seeds: {seeds}{}", MeasuredJob::remarks(&jobs)),
        series: &[measured("original"), measured("flipped")],
        groups: &groups,
        chance: Some(TEN_CLASSES),
    };
    finish(picture, accuracy_bars(&chart, theme))
}

fn original_and_flipped(job: &MeasuredJob<'_>) -> [Option<SeedRange>; 2] {
    let ranges = ranges(&job.runs.ended, |variant| Some(variant.to_string()));
    [Variant::Original, Variant::Flipped].map(|variant| ranges.get(&variant.to_string()).copied())
}

fn directional_setting(spec: &Spec) -> String {
    spec.directional.as_ref().map_or(String::new(), |directional| {
        format!("offset ±{}, σ = {} · seeds: {}", directional.offset, directional.sigma, directional.seeds)
    })
}

fn poisoning_setting(spec: &Spec) -> String {
    spec.poisoning
        .as_ref()
        .map_or(String::new(), |poisoning| format!("ε = {} · seeds: {}", poisoning.epsilon, poisoning.seeds))
}

fn finish(picture: &Picture, figure: Result<Figure, FigureError>) -> Result<Figure, SweepError> {
    figure.map_err(|source| SweepError::Figure { name: picture.name.clone(), source })
}

/// Mean, lowest and highest test accuracy of the runs of a key; what has no key or diverged is left out.
fn ranges<'a, K: Ord>(
    runs: impl IntoIterator<Item = &'a Run>,
    key: impl Fn(Variant) -> Option<K>,
) -> BTreeMap<K, SeedRange> {
    let mut accuracies: BTreeMap<K, Vec<f64>> = BTreeMap::new();
    for run in runs {
        if let (Some(key), Some(accuracy)) = (key(run.variant), run.test_accuracy) {
            accuracies.entry(key).or_default().push(accuracy);
        }
    }
    accuracies.into_iter().filter_map(|(key, accuracies)| Some((key, SeedRange::of(&accuracies)?))).collect()
}
