//! The figures of accuracies and margins, drawn from published tables: what to run, and look at, after a change.
//!
//! `cargo run -p nadgrid-figures --example figure_samples PUBLISHED OUT`: PUBLISHED holds the authors' tables
//! `dft_accuracies_logreg_lenet.csv` and `nad_accuracies_lenet.csv`, and LeNet's NADs; OUT gets a PNG and an SVG of each figure, light and dark. Seeds,
//! poisoning curves, and margins are not published, and made up.

use std::{error::Error, fs, path::Path};

use nadgrid_figures::{
    AccuracyBars, AccuracyCurve, AccuracyMap, BarGroup, BarSeries, CurvePoint, CurveSeries, Figure, InputShape, Level,
    MapCell, MarginBlock, MarginCurve, MarginSeries, NadFigure, NadPair, NadSet, NadSide, Origin, ReferenceCurve,
    ReferencePoint, SeedRange, SingleNad, Spectra, SpectrumSeries, Theme, accuracy_bars, accuracy_curve, accuracy_map,
    margin_curve, nad_figure, nad_pair, npy, single_nad, spectra,
};
use ndarray::{Array1, Array2, ArrayView1, s};

type SampleResult<T> = Result<T, Box<dyn Error>>;

fn main() -> SampleResult<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("usage: figure_samples PUBLISHED OUT");
    let published = next()?;
    let out = next()?;
    let published = Path::new(&published);
    let out = Path::new(&out);
    fs::create_dir_all(out)?;
    for theme in [Theme::Light, Theme::Dark] {
        let write = |name: &str, figure: Figure| write(out, &format!("{name}_{}", theme.as_str()), &figure);
        write("map", map(published, 1, theme)?)?;
        write("map_sparse", map(published, 3, theme)?)?;
        write("map_few", few_cells(theme)?)?;
        write("map_fine", fine_map(theme)?)?;
        write("nad_curve", nad_curve(published, 8, theme)?)?;
        write("nad_curve_dense", nad_curve(published, 1, theme)?)?;
        write("poisoning", poisoning(theme)?)?;
        write("flipped", flipped(theme)?)?;
        write("flipped_zoo", flipped_zoo(theme)?)?;
        write("margins", margins(1.0, theme)?)?;
        write("margins_linear", margins(0.05, theme)?)?;
        write("nads", nads(published, 1, theme)?)?;
        write("nads_rgb", nads(published, 3, theme)?)?;
        write("nad", nad(published, 1, theme)?)?;
        write("nad_rgb", nad(published, 3, theme)?)?;
        write("nad_wide", nad_of_shape(InputShape { channels: 1, height: 8, width: 40 }, theme)?)?;
        write("nad_many", nad_of_shape(InputShape { channels: 16, height: 8, width: 8 }, theme)?)?;
        write("pair", pair(published, 1, theme)?)?;
        write("pair_rgb", pair(published, 3, theme)?)?;
        write("spectra", all_spectra(published, theme)?)?;
    }
    Ok(())
}

fn write(out: &Path, name: &str, figure: &Figure) -> SampleResult<()> {
    fs::write(out.join(name).with_extension("png"), figure.png()?)?;
    Ok(fs::write(out.join(name).with_extension("svg"), figure.svg())?)
}

/// The rows of a table of numbers, without its header.
fn rows(file: &Path) -> SampleResult<Vec<Vec<f64>>> {
    let text = fs::read_to_string(file)?;
    let row = |line: &str| line.split(',').map(str::parse).collect::<Result<Vec<f64>, _>>();
    Ok(text.lines().skip(1).map(row).collect::<Result<_, _>>()?)
}

const IMAGE: InputShape = InputShape { channels: 1, height: 32, width: 32 };

/// LeNet over the published grid, with every `step`-th cell left out if `step` is above 1.
fn map(published: &Path, step: usize, theme: Theme) -> SampleResult<Figure> {
    let rows = rows(&published.join("dft_accuracies_logreg_lenet.csv"))?;
    let cells: Vec<MapCell> = rows
        .iter()
        .enumerate()
        .filter(|(index, _)| step == 1 || index % step != 0)
        .map(|(_, row)| MapCell { k1: 2 * (row[0] as i64 - 8), k2: 2 * (row[1] as i64 - 8), accuracy: row[3] })
        .collect();
    let subtitle = "256 directions × 1 seed · offset ±1, σ = 3 · published";
    Ok(accuracy_map(&AccuracyMap { title: "LeNet", subtitle, shape: IMAGE, cells: &cells }, theme)?)
}

fn few_cells(theme: Theme) -> SampleResult<Figure> {
    let frequencies = [0, 2, 4, 8, 16];
    let cell = |k1: i64, k2: i64| MapCell { k1, k2, accuracy: 100.0 - 1.6 * (k1 + k2) as f64 };
    let cells: Vec<MapCell> = frequencies
        .iter()
        .flat_map(|&k1| frequencies.map(|k2| cell(k1, k2)))
        .filter(|cell| cell.k1 <= cell.k2 + 6)
        .collect();
    let subtitle = "24 directions × 3 seeds · offset ±1, σ = 3";
    Ok(accuracy_map(&AccuracyMap { title: "DenseNet121", subtitle, shape: IMAGE, cells: &cells }, theme)?)
}

fn fine_map(theme: Theme) -> SampleResult<Figure> {
    let accuracy = |k1: i64, k2: i64| if (k1 + k2) % 2 == 0 { 99.9 } else { 75.0 - k1.abs() as f64 };
    let cells: Vec<MapCell> =
        (-16..16).flat_map(|k1| (-16..16).map(move |k2| MapCell { k1, k2, accuracy: accuracy(k1, k2) })).collect();
    let subtitle = "1,024 directions × 1 seed · offset ±1, σ = 3";
    Ok(accuracy_map(&AccuracyMap { title: "ResNet18", subtitle, shape: IMAGE, cells: &cells }, theme)?)
}

/// A number from −1 to 1 that looks like noise.
fn noise(index: u64) -> f64 {
    (index as f64 * 12.9898).sin() * (index as f64 * 78.233).cos()
}

fn seeds(mean: f64, spread: f64, index: u64) -> SeedRange {
    let seed = |seed: u64| (mean + spread * noise(3 * index + seed)).clamp(0.0, 100.0);
    SeedRange::of(&[seed(0), seed(1), seed(2)]).unwrap_or(SeedRange::single(mean))
}

/// The published curve at the indices that were measured, and made-up seeds at every `step`-th of them.
fn nad_curve(published: &Path, step: usize, theme: Theme) -> SampleResult<Figure> {
    let rows = rows(&published.join("nad_accuracies_lenet.csv"))?;
    let theirs: Vec<ReferencePoint> = rows
        .iter()
        .map(|row| ReferencePoint { index: row[0] as u64, accuracy: row[1] })
        .filter(|point| point.index <= 10 || (point.index - 10).is_multiple_of(4))
        .collect();
    let near =
        |point: &ReferencePoint| CurvePoint { index: point.index, accuracy: seeds(point.accuracy, 2.0, point.index) };
    let ours: Vec<CurvePoint> = theirs.iter().step_by(step).map(near).collect();
    Ok(accuracy_curve(
        &AccuracyCurve {
            title: "Accuracy along the NADs of LeNet",
            subtitle: "3 seeds · offset ±1, σ = 1",
            index_title: "index of the direction",
            series: &[CurveSeries { name: "LeNet", points: &ours }],
            reference: Some(ReferenceCurve { name: "published", points: &theirs }),
            chance: Some(50.0),
            clean: None,
        },
        theme,
    )?)
}

fn poisoning(theme: Theme) -> SampleResult<Figure> {
    let point = |scale: f64| {
        move |p: u64| {
            let accuracy = 17.0 + 66.0 * (1.0 - (-(p as f64) / scale).exp()) + 4.0 * noise(p);
            CurvePoint { index: p, accuracy: seeds(accuracy, 3.0, p) }
        }
    };
    let resnet: Vec<CurvePoint> = (0..=1020).step_by(10).map(point(140.0)).collect();
    let dense: Vec<CurvePoint> = (0..=1020).step_by(60).map(point(300.0)).collect();
    Ok(accuracy_curve(
        &AccuracyCurve {
            title: "Poisoned CIFAR-10: test accuracy against the NAD that carries the poison",
            subtitle: "ε = 0.05 · 50 epochs · 3 seeds",
            index_title: "index p of the NAD",
            series: &[
                CurveSeries { name: "ResNet18", points: &resnet },
                CurveSeries { name: "DenseNet121, half the epochs", points: &dense },
            ],
            reference: None,
            chance: Some(10.0),
            clean: Some(Level { name: "ResNet18, clean", accuracy: 93.07 }),
        },
        theme,
    )?)
}

const ORIGINAL_FLIPPED: [BarSeries<'_>; 4] = [
    BarSeries { name: "original", origin: Origin::Measured },
    BarSeries { name: "flipped", origin: Origin::Measured },
    BarSeries { name: "original, published", origin: Origin::Published },
    BarSeries { name: "flipped, published", origin: Origin::Published },
];

fn flipped(theme: Theme) -> SampleResult<Figure> {
    let accuracies =
        [("LeNet", 69.0, 48.0), ("VGG11", 87.0, 53.0), ("ResNet18", 89.0, 58.0), ("DenseNet121", 92.0, 56.0)];
    let bars: Vec<[Option<SeedRange>; 4]> = accuracies
        .iter()
        .zip(0..)
        .map(|(&(_, original, flipped), index)| {
            let published = [original, flipped].map(|accuracy| Some(SeedRange::single(accuracy)));
            [Some(seeds(original, 2.0, index)), Some(seeds(flipped, 6.0, index + 9)), published[0], published[1]]
        })
        .collect();
    let groups: Vec<BarGroup<'_>> =
        accuracies.iter().zip(&bars).map(|(&(name, ..), bars)| BarGroup { name, bars }).collect();
    Ok(accuracy_bars(
        &AccuracyBars {
            title: "CIFAR-10 with its NADs in order, and flipped",
            subtitle: "50 epochs · 3 seeds",
            series: &ORIGINAL_FLIPPED,
            groups: &groups,
            chance: Some(10.0),
        },
        theme,
    )?)
}

fn flipped_zoo(theme: Theme) -> SampleResult<Figure> {
    let names = ["LogReg", "LeNet", "VGG11", "ResNet18", "DenseNet121", "A product of many polynomials"];
    let bars: Vec<[Option<SeedRange>; 2]> = (0..names.len() as u64)
        .map(|index| [Some(SeedRange::single(100.0 - index as f64)), (index != 2).then(|| seeds(40.0, 9.0, index))])
        .collect();
    let groups: Vec<BarGroup<'_>> = names.iter().zip(&bars).map(|(name, bars)| BarGroup { name, bars }).collect();
    Ok(accuracy_bars(
        &AccuracyBars {
            title: "CIFAR-10, flipped",
            subtitle: "one seed",
            series: &ORIGINAL_FLIPPED[..2],
            groups: &groups,
            chance: None,
        },
        theme,
    )?)
}

/// Margins that grow along the NADs, the more the larger `growth`.
fn margins(growth: f64, theme: Theme) -> SampleResult<Figure> {
    let block = |low: f64| {
        move |first_index: u64| {
            let median = low * (growth * (first_index as f64 / 1024.0 * 3.5 + 0.2 * noise(first_index))).exp();
            MarginBlock { first_index, median, lower_quartile: 0.7 * median, upper_quartile: 1.5 * median }
        }
    };
    let lenet: Vec<MarginBlock> = (0..1024).step_by(32).map(block(0.4)).collect();
    let resnet: Vec<MarginBlock> = (0..1024).step_by(32).map(block(0.15)).collect();
    Ok(margin_curve(
        &MarginCurve {
            title: "Margins along NADs, CIFAR-10",
            subtitle: "blocks of 32 NADs · 100 test images",
            series: &[
                MarginSeries { name: "LeNet", blocks: &lenet },
                MarginSeries { name: "ResNet18", blocks: &resnet },
            ],
        },
        theme,
    )?)
}

const ON: &str = "N = 10,000 networks · central differences, h = 100";

/// LeNet's NADs, as they are or three of them as the channels of one.
fn set(published: &Path, channels: usize) -> SampleResult<(InputShape, Array2<f64>, Array1<f64>)> {
    let set = NadSet::open(&published.join("LeNet_NADs.npy"))?;
    let rows = set.nads.nrows() / channels;
    let nads = set.nads.slice(s![..rows * channels, ..]).to_owned().into_shape_with_order((rows, 1024 * channels))?;
    let values = set.singular_values.ok_or("no singular values")?;
    Ok((InputShape { channels, ..IMAGE }, nads, values))
}

fn nads(published: &Path, channels: usize, theme: Theme) -> SampleResult<Figure> {
    let (shape, nads, values) = set(published, channels)?;
    let figure = NadFigure {
        architecture: "LeNet",
        networks: Some(10_000),
        estimator: "central differences",
        step: Some(100.0),
        shape,
        nads: nads.view(),
        singular_values: values.view(),
        reference: None,
    };
    Ok(nad_figure(&figure, theme)?)
}

fn nad(published: &Path, channels: usize, theme: Theme) -> SampleResult<Figure> {
    let (shape, nads, _) = set(published, channels)?;
    Ok(single_nad(&SingleNad { title: "NAD 3 of LeNet", subtitle: ON, shape, nad: nads.row(3) }, theme)?)
}

fn nad_of_shape(shape: InputShape, theme: Theme) -> SampleResult<Figure> {
    let wave = |at: usize| 1e-5 * (0.8 * at as f64).cos();
    let nad = Array1::from_shape_fn(shape.dimension(), wave);
    Ok(single_nad(&SingleNad { title: "NAD 3", subtitle: ON, shape, nad: nad.view() }, theme)?)
}

fn pair(published: &Path, channels: usize, theme: Theme) -> SampleResult<Figure> {
    let (shape, nads, values) = set(published, channels)?;
    // The same directions in another order stand for another architecture.
    let other = nads.slice(s![0..; 3, ..]);
    let side = |name, nads, singular_values| NadSide { name, nads, singular_values };
    let first = side("LeNet", nads.view(), values.view());
    let second = side("VGG11_bn", other, values.view());
    Ok(nad_pair(&NadPair { title: "NADs of LeNet and VGG11_bn", subtitle: ON, shape, first, second }, theme)?)
}

fn all_spectra(published: &Path, theme: Theme) -> SampleResult<Figure> {
    let lenet = npy::read_vector(&published.join("LeNet_eigenvals.npy"))?;
    let logreg = npy::read_vector(&published.join("LogReg_eigenvals.npy"))?;
    let steep = |power: f64| Array1::from_shape_fn(1023, |index| (1.0 + index as f64).powf(-power));
    let made_up = [steep(0.9), steep(1.5), steep(0.2), steep(2.0)];
    let names = ["ResNet18", "DenseNet121", "VGG11", "VGG11 with batch normalisation"];
    let errors = |values: ArrayView1<'_, f64>| values.to_owned() / 11.0;
    let all: Vec<_> = [("LeNet", &lenet), ("Logistic regression", &logreg)]
        .into_iter()
        .chain(names.into_iter().zip(&made_up))
        .map(|(name, values)| (name, values, errors(values.view())))
        .collect();
    let series: Vec<SpectrumSeries<'_>> = all
        .iter()
        .map(|(name, values, errors)| SpectrumSeries {
            name,
            singular_values: values.view(),
            standard_errors: Some(errors.view()),
            effective_rank: Some(values.sum() / values[0]),
        })
        .collect();
    Ok(spectra(&Spectra { title: "Spectra of the gradients' covariance", subtitle: ON, series: &series }, theme)?)
}
