//! What networks learned: accuracies by direction, by poison, and with flipped NADs.

use super::{Drawing, Files, JobOutcome, artifact, margins, title};
use crate::error::Error;
use crate::table::{self, Run};
use nadgrid_core::spec::{Direction, Directional, Directions, Experiment, Flipping, Poisoning, Spec, Variant};
use nadgrid_figures::{
    AccuracyBars, AccuracyCurve, AccuracyMap, BarGroup, BarSeries, CurvePoint, CurveSeries, InputShape, Level, MapCell,
    Origin, SeedRange, accuracy_bars, accuracy_curve, accuracy_map,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// Accuracy of a guess between the classes of D(v), and between those of CIFAR-10.
const TWO_CLASSES: f64 = 50.0;
const TEN_CLASSES: f64 = 10.0;

/// Training runs in a few numbers; accuracies are percent of the test samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RunsSummary {
    /// How many.
    pub runs: u64,
    /// How many diverged; the numbers below are of the others.
    pub diverged: u64,
    /// Mean over the runs; `None` when all diverged.
    pub mean_accuracy: Option<f64>,
    /// The lowest.
    pub min_accuracy: Option<f64>,
    /// The highest.
    pub max_accuracy: Option<f64>,
}

impl RunsSummary {
    fn of(runs: &[Run]) -> Self {
        let accuracies: Vec<f64> = runs.iter().filter_map(|run| run.test_accuracy).collect();
        let range = SeedRange::of(&accuracies);
        Self {
            runs: runs.len() as u64,
            diverged: (runs.len() - accuracies.len()) as u64,
            mean_accuracy: range.map(|range| range.mean),
            min_accuracy: range.map(|range| range.min),
            max_accuracy: range.map(|range| range.max),
        }
    }
}

/// The runs of one architecture.
struct Job<'a> {
    architecture: &'a str,
    runs: Vec<Run>,
}

/// Draws an experiment's figures.
pub(super) fn draw(spec: &Spec, experiment: Experiment, files: &Files, to: &mut Drawing) -> Result<(), Error> {
    let mut jobs = Vec::new();
    for architecture in &spec.architectures {
        let name = format!("{experiment}/{architecture}.csv");
        let runs = table::runs(experiment, &name, artifact(files, &name)?)?;
        to.add_result(experiment, architecture, JobOutcome::Runs(RunsSummary::of(&runs)));
        jobs.push(Job { architecture, runs });
    }
    if let (Experiment::Directional, Some(directional)) = (experiment, &spec.directional) {
        draw_directional(spec, directional, &jobs, to);
    }
    if let (Experiment::Poisoning, Some(poisoning)) = (experiment, &spec.poisoning) {
        draw_poisoning(poisoning, &jobs, to);
    }
    if let (Experiment::Flipping, Some(flipping)) = (experiment, &spec.flipping) {
        draw_flipping(flipping, &jobs, to);
    }
    if let (Experiment::Margins, Some(experiment)) = (experiment, &spec.margins) {
        margins::draw(experiment, &spec.architectures, files, to)?;
    }
    Ok(())
}

fn draw_directional(spec: &Spec, experiment: &Directional, jobs: &[Job<'_>], to: &mut Drawing) {
    let Directional { offset, sigma, seeds, .. } = experiment;
    let setting = format!("offset ±{offset}, σ = {sigma} · seeds: {seeds}");
    match &experiment.directions {
        Directions::Dft { .. } => jobs.iter().for_each(|job| draw_map(spec, job, &setting, to)),
        Directions::Nads { .. } | Directions::File { .. } => {
            let index = |variant| match variant {
                Variant::Direction(Direction::Nad(index) | Direction::Row(index)) => Some(index),
                _ => None,
            };
            let of_file = matches!(experiment.directions, Directions::File { .. });
            let curve = AccuracyCurve {
                title: if of_file { "Accuracy along the rows of a file" } else { "Accuracy along NADs" },
                subtitle: &(setting + &diverged(jobs)),
                index_title: if of_file { "row" } else { "index of the NAD" },
                series: &[],
                reference: None,
                chance: Some(TWO_CLASSES),
                clean: None,
            };
            draw_curve("directional/curve", &curve, jobs, index, to);
        }
        Directions::Pixels { .. } | Directions::Random { .. } => {}
    }
}

fn draw_map(spec: &Spec, job: &Job<'_>, setting: &str, to: &mut Drawing) {
    let name = format!("{}/{}_map", Experiment::Directional, job.architecture);
    let ranges = ranges(&job.runs, |variant| match variant {
        Variant::Direction(Direction::Wave { k1, k2, .. }) => Some((k1, k2)),
        _ => None,
    });
    let cells: Vec<MapCell> =
        ranges.iter().map(|(&(k1, k2), range)| MapCell { k1, k2, accuracy: range.mean }).collect();
    if cells.is_empty() {
        return to.notes.push(nothing_to_draw(&name, job.runs.len()));
    }
    let shape = spec.shape();
    let shape = InputShape { channels: shape.channels, height: shape.height, width: shape.width };
    let subtitle = format!("{setting}{}", diverged(std::slice::from_ref(job)));
    let figure =
        accuracy_map(&AccuracyMap { title: title(job.architecture), subtitle: &subtitle, shape, cells: &cells });
    to.add(&name, figure);
}

fn draw_poisoning(experiment: &Poisoning, jobs: &[Job<'_>], to: &mut Drawing) {
    let Poisoning { epsilon, seeds, .. } = experiment;
    // Only one line could be told from the others.
    let clean = match jobs {
        [job] => ranges(&job.runs, |variant| (variant == Variant::Clean).then_some(())).remove(&()),
        _ => None,
    };
    let curve = AccuracyCurve {
        title: "CIFAR-10 with a carrier along a NAD",
        subtitle: &format!("ε = {epsilon} · seeds: {seeds}{}", diverged(jobs)),
        index_title: "first NAD p of the carriers",
        series: &[],
        reference: None,
        chance: Some(TEN_CLASSES),
        clean: clean.map(|range| Level { name: "no carrier", accuracy: range.mean }),
    };
    let index = |variant| match variant {
        Variant::Poisoned(p) => Some(p),
        _ => None,
    };
    draw_curve("poisoning/curve", &curve, jobs, index, to);
}

/// Draws a series for each architecture that has points.
fn draw_curve(
    name: &str,
    curve: &AccuracyCurve<'_>,
    jobs: &[Job<'_>],
    index: impl Fn(Variant) -> Option<u64>,
    to: &mut Drawing,
) {
    let point = |(&index, &accuracy): (&u64, &SeedRange)| CurvePoint { index, accuracy };
    let series = |job: &Job<'_>| ranges(&job.runs, &index).iter().map(point).collect::<Vec<_>>();
    let points: Vec<_> = jobs.iter().map(|job| (title(job.architecture), series(job))).collect();
    let filled = points.iter().filter(|(_, points)| !points.is_empty());
    let series: Vec<CurveSeries<'_>> = filled.map(|(name, points)| CurveSeries { name, points }).collect();
    if series.is_empty() {
        return to.notes.push(nothing_to_draw(name, jobs.iter().map(|job| job.runs.len()).sum()));
    }
    to.add(name, accuracy_curve(&AccuracyCurve { series: &series, ..*curve }));
}

fn draw_flipping(experiment: &Flipping, jobs: &[Job<'_>], to: &mut Drawing) {
    let name = "flipping/bars";
    let measured = |name| BarSeries { name, origin: Origin::Measured };
    let bars = |job: &Job<'_>| {
        let ranges = ranges(&job.runs, |variant| Some(variant.to_string()));
        [Variant::Original, Variant::Flipped].map(|variant| ranges.get(&variant.to_string()).copied())
    };
    let bars: Vec<_> = jobs.iter().map(|job| (title(job.architecture), bars(job))).collect();
    if bars.iter().all(|(_, bars)| bars.iter().all(Option::is_none)) {
        return to.notes.push(nothing_to_draw(name, jobs.iter().map(|job| job.runs.len()).sum()));
    }
    let groups: Vec<BarGroup<'_>> = bars.iter().map(|(name, bars)| BarGroup { name, bars }).collect();
    let figure = accuracy_bars(&AccuracyBars {
        title: "CIFAR-10 with its NADs in reverse order",
        subtitle: &format!("seeds: {}{}", experiment.seeds, diverged(jobs)),
        series: &[measured("original"), measured("flipped")],
        groups: &groups,
        chance: Some(TEN_CLASSES),
    });
    to.add(name, figure);
}

/// Mean, lowest and highest test accuracy of the runs of a key; what has no key or diverged is left out.
fn ranges<K: Ord>(runs: &[Run], key: impl Fn(Variant) -> Option<K>) -> BTreeMap<K, SeedRange> {
    let mut accuracies: BTreeMap<K, Vec<f64>> = BTreeMap::new();
    for run in runs {
        if let (Some(key), Some(accuracy)) = (key(run.variant), run.test_accuracy) {
            accuracies.entry(key).or_default().push(accuracy);
        }
    }
    accuracies.into_iter().filter_map(|(key, accuracies)| Some((key, SeedRange::of(&accuracies)?))).collect()
}

/// The end of a subtitle, empty when no run diverged.
fn diverged(jobs: &[Job<'_>]) -> String {
    let all: usize = jobs.iter().map(|job| job.runs.len()).sum();
    let lost = jobs.iter().flat_map(|job| &job.runs).filter(|run| run.test_accuracy.is_none()).count();
    if lost == 0 { String::new() } else { format!(" · {lost} of {all} runs diverged and are left out") }
}

fn nothing_to_draw(name: &str, runs: usize) -> String {
    format!("{name} is not drawn: all of its {runs} runs diverged")
}
