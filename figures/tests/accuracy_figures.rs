//! The figures of accuracies and margins: their labels, one mark for each value, in the place that its value says.

#![allow(clippy::unwrap_used)]

use nadgrid_figures::{
    AccuracyBars, AccuracyCurve, AccuracyMap, BarGroup, BarSeries, CurvePoint, CurveSeries, Figure, FigureError,
    InputShape, Level, MapCell, MarginBlock, MarginCurve, MarginSeries, Origin, ReferenceCurve, ReferencePoint,
    SeedRange, Theme, accuracy_bars, accuracy_curve, accuracy_map, margin_curve,
};
use resvg::{tiny_skia::Pixmap, usvg::roxmltree::Document};

const IMAGE: InputShape = InputShape { channels: 1, height: 32, width: 32 };

/// The attributes named, of all elements with this tag that have them all.
fn elements(figure: &Figure, tag: &str, attributes: &[&str]) -> Vec<Vec<String>> {
    let document = Document::parse(figure.svg()).unwrap();
    let nodes = document.descendants().filter(|node| node.has_tag_name(tag));
    nodes.filter_map(|node| attributes.iter().map(|&name| node.attribute(name).map(str::to_owned)).collect()).collect()
}

fn texts(figure: &Figure) -> Vec<String> {
    let document = Document::parse(figure.svg()).unwrap();
    let nodes = document.descendants().filter(|node| node.has_tag_name("text"));
    nodes.map(|node| node.text().unwrap_or_default().to_owned()).collect()
}

fn assert_labels(figure: &Figure, labels: &[&str]) {
    let texts = texts(figure);
    for label in labels {
        assert!(texts.iter().any(|text| text == label), "{label:?} is not in {texts:?}");
    }
}

/// Centres (x, y) of the dots of one colour.
fn dots(figure: &Figure, colour: &str) -> Vec<(f64, f64)> {
    let found = elements(figure, "circle", &["fill", "cx", "cy"]).into_iter().filter(|values| values[0] == colour);
    found.map(|values| (values[1].parse().unwrap(), values[2].parse().unwrap())).collect()
}

/// The document has numbers only, everything lies on the page, and the picture shows something.
fn assert_sound(figure: &Figure) {
    assert!(!figure.svg().contains("NaN") && !figure.svg().contains("inf"), "{}", figure.svg());
    let document = Document::parse(figure.svg()).unwrap();
    let extent = |name: &str| document.root_element().attribute(name).unwrap().parse::<f64>().unwrap();
    let width = extent("width");
    let height = extent("height");
    for name in ["x", "x1", "x2", "cx", "y", "y1", "y2", "cy"] {
        let limit = if name.contains('x') { width } else { height };
        for value in document.descendants().filter_map(|node| node.attribute(name)) {
            let value: f64 = value.parse().unwrap();
            assert!((0.0..=limit).contains(&value), "{name} = {value} is beyond {limit}");
        }
    }
    let picture = Pixmap::decode_png(&figure.png().unwrap()).unwrap();
    assert_eq!((f64::from(picture.width()), f64::from(picture.height())), (2.0 * width, 2.0 * height));
    let dark = picture.pixels().iter().filter(|pixel| pixel.green() < 128).count();
    assert!(dark > 2_000, "{dark} dark pixels");
}

const BLUE: &str = "#2166ac";
const ORANGE: &str = "#d95f02";

fn grid(frequencies: &[i64]) -> Vec<MapCell> {
    let accuracy = |k1: i64, k2: i64| 100.0 - (k1.abs() + k2.abs()) as f64;
    let row = |k1: i64| frequencies.iter().map(move |&k2| MapCell { k1, k2, accuracy: accuracy(k1, k2) });
    frequencies.iter().flat_map(|&k1| row(k1)).collect()
}

fn map(cells: &[MapCell]) -> Result<Figure, FigureError> {
    accuracy_map(
        &AccuracyMap { title: "LeNet <5>", subtitle: "24 directions × 3 seeds", shape: IMAGE, cells },
        Theme::Light,
    )
}

/// Left and upper edges of the coloured cells, in the order of the input.
fn cell_corners(figure: &Figure) -> Vec<(f64, f64)> {
    let filled = elements(figure, "rect", &["fill", "x", "y"]).into_iter();
    let cells = filled.filter(|values| values[0].starts_with('#'));
    cells.map(|values| (values[1].parse().unwrap(), values[2].parse().unwrap())).collect()
}

#[test]
fn a_map_has_a_cell_for_each_direction_and_names_frequencies() {
    let frequencies: Vec<i64> = (-16..=14).step_by(2).collect();
    let figure = map(&grid(&frequencies)).unwrap();
    assert_sound(&figure);
    assert_labels(
        &figure,
        &["LeNet <5>", "24 directions × 3 seeds", "−16", "14", "Nyquist", "DC", "90", "test accuracy (%)"],
    );
    assert_labels(&figure, &["k₁, vertical cycles per image", "k₂, horizontal cycles per image"]);
    assert_eq!(cell_corners(&figure).len(), 256);
    // DC and Nyquist on either axis; every cell holds its value: |k1| + |k2| = 16 in 30 of them.
    assert_eq!(texts(&figure).iter().filter(|text| *text == "Nyquist" || *text == "DC").count(), 4);
    assert_eq!(texts(&figure).iter().filter(|text| *text == "84").count(), 30);
    assert!(!texts(&figure).iter().any(|text| text == "not measured"));
}

#[test]
fn cells_lie_where_their_frequencies_say_whatever_their_order() {
    let cell = |k1, k2| MapCell { k1, k2, accuracy: 75.0 };
    let figure = map(&[cell(4, -2), cell(-2, 8), cell(0, 0)]).unwrap();
    assert_sound(&figure);
    let corners = cell_corners(&figure);
    let [(lowest, left), (top, right), (middle, centre)] = [0, 1, 2].map(|index| (corners[index].1, corners[index].0));
    assert!(top < middle && middle < lowest);
    assert!(left < centre && centre < right);
    assert!((middle - top - (lowest - middle)).abs() < 1e-9);
    assert_labels(&figure, &["not measured", "75.0"]);
}

#[test]
fn colours_rise_from_chance_to_all() {
    let cells = [40.0, 50.0, 75.0, 100.0].map(|accuracy| MapCell { k1: 0, k2: accuracy as i64, accuracy });
    let figure = map(&cells).unwrap();
    let fills = elements(&figure, "rect", &["fill", "x"]).into_iter();
    let fills: Vec<String> = fills.map(|values| values[0].clone()).filter(|fill| fill.starts_with('#')).collect();
    assert_eq!(fills[0], fills[1]);
    let lightness = |fill: &str| u8::from_str_radix(&fill[3..5], 16).unwrap();
    assert!(lightness(&fills[1]) < lightness(&fills[2]) && lightness(&fills[2]) < lightness(&fills[3]));
    assert_labels(&figure, &["≤ 50", "40.0", "100"]);
}

#[test]
fn maps_of_any_extent_are_drawn() {
    assert_sound(&map(&grid(&[0])).unwrap());
    assert_sound(&map(&grid(&(0..12).collect::<Vec<_>>())[..12]).unwrap());
    let fine = map(&grid(&(-24..24).collect::<Vec<_>>())).unwrap();
    assert_sound(&fine);
    // Too small for values, but not for labels.
    assert!(!texts(&fine).iter().any(|text| text == "100.0" || text == "99"));
    assert_labels(&fine, &["0", "−24"]);
}

#[test]
fn maps_that_cannot_be_drawn_say_why() {
    let cell = |accuracy| MapCell { k1: -2, k2: 4, accuracy };
    let said = |cells: &[MapCell]| map(cells).unwrap_err().to_string();
    assert_eq!(said(&[]), "cells is empty");
    let field = "cells[0].accuracy (k1 = -2, k2 = 4)";
    assert_eq!(said(&[cell(f64::NAN)]), format!("{field} is NaN; accepted is a percentage from 0 to 100"));
    assert!(said(&[cell(100.5)]).contains("is 100.5"));
    assert_eq!(said(&[cell(50.0), cell(50.0)]), "cells[0] and cells[1] both lie at k1 = -2, k2 = 4");
    let diagonal: Vec<MapCell> = (0..641).map(|k| MapCell { k1: k, k2: 0, accuracy: 50.0 }).collect();
    assert!(said(&diagonal).contains("distinct cells[..].k1 is 641"));
}

fn point(index: u64, mean: f64, spread: f64) -> CurvePoint {
    CurvePoint { index, accuracy: SeedRange { mean, min: mean - spread, max: mean + spread } }
}

fn curve<'a>(series: &'a [CurveSeries<'a>]) -> AccuracyCurve<'a> {
    AccuracyCurve {
        title: "Accuracy along the NADs of LeNet",
        subtitle: "offset ±1, σ = 1",
        index_title: "index of the direction",
        series,
        reference: None,
        chance: Some(50.0),
        clean: None,
    }
}

#[test]
fn a_curve_has_a_dot_for_each_direction_and_falls_with_the_accuracy() {
    let points: Vec<CurvePoint> =
        (0..1024).step_by(64).map(|index| point(index, 95.0 - index as f64 / 25.0, 1.0)).collect();
    let figure = accuracy_curve(&curve(&[CurveSeries { name: "LeNet", points: &points }]), Theme::Light).unwrap();
    assert_sound(&figure);
    assert_labels(&figure, &["index of the direction", "test accuracy (%)", "LeNet", "chance, 50%", "50", "900"]);
    assert_labels(&figure, &["Bars: lowest and highest seed."]);
    let dots = dots(&figure, BLUE);
    // One more in the legend.
    assert_eq!(dots.len(), points.len() + 1);
    assert!(dots[..points.len()].windows(2).all(|pair| pair[1].0 > pair[0].0 && pair[1].1 > pair[0].1));
}

#[test]
fn a_published_curve_and_levels_are_told_apart() {
    let points = [point(0, 17.5, 0.0), point(10, 40.0, 0.0)];
    let series =
        [CurveSeries { name: "ResNet18", points: &points }, CurveSeries { name: "LeNet", points: &points[1..] }];
    let published = [ReferencePoint { index: 0, accuracy: 18.0 }, ReferencePoint { index: 20, accuracy: 44.0 }];
    let figure = AccuracyCurve {
        index_title: "index p of the NAD",
        reference: Some(ReferenceCurve { name: "published", points: &published }),
        chance: Some(10.0),
        clean: Some(Level { name: "clean", accuracy: 93.07 }),
        ..curve(&series)
    };
    let figure = accuracy_curve(&figure, Theme::Light).unwrap();
    assert_sound(&figure);
    assert_labels(&figure, &["published", "clean, 93.1%", "chance, 10%", "index p of the NAD", "90"]);
    assert!(!texts(&figure).iter().any(|text| text.starts_with("Bars")));
    assert_eq!((dots(&figure, BLUE).len(), dots(&figure, ORANGE).len()), (3, 2));
    // The same value at the same height; the published curve reaches further right.
    assert_eq!(dots(&figure, BLUE)[1].1, dots(&figure, ORANGE)[0].1);
    let lines = elements(&figure, "polyline", &["points", "stroke"]);
    assert_eq!(lines[0][1], "#8c8c8c");
    let last: f64 = lines[0][0].split([' ', ',']).nth(2).unwrap().parse().unwrap();
    assert!(last > dots(&figure, BLUE)[1].0);
}

#[test]
fn curves_of_any_extent_are_drawn() {
    let all: Vec<CurvePoint> = (0..1024).map(|index| point(index, 75.0, 25.0)).collect();
    for points in [&all[..], &all[7..8], &[point(3, 100.0, 0.0)], &[point(u64::MAX, 0.0, 0.0)]] {
        let series = [CurveSeries { name: "a name that is much too long for the room that the legend has", points }];
        assert_sound(&accuracy_curve(&AccuracyCurve { chance: None, ..curve(&series) }, Theme::Light).unwrap());
    }
}

#[test]
fn curves_that_cannot_be_drawn_say_why() {
    let said = |points: &[CurvePoint]| {
        accuracy_curve(&curve(&[CurveSeries { name: "LeNet", points }]), Theme::Light).unwrap_err().to_string()
    };
    assert_eq!(said(&[]), "series[0].points is empty");
    assert_eq!(accuracy_curve(&curve(&[]), Theme::Light).unwrap_err().to_string(), "series is empty");
    let accepted = "accepted is a percentage from 0 to 100";
    assert_eq!(said(&[point(0, f64::NAN, 0.0)]), format!("series[0].points[0].accuracy.mean is NaN; {accepted}"));
    assert_eq!(said(&[point(0, 99.0, 2.0)]), format!("series[0].points[0].accuracy.max is 101; {accepted}"));
    assert!(said(&[point(0, 50.0, -1.0)]).contains("accuracy.mean is 50; accepted is 51 (min) or more"));
    assert!(said(&[point(4, 50.0, 0.0), point(2, 50.0, 0.0)]).contains("points[1].index is 2"));
    let points = [point(0, 50.0, 0.0)];
    let series = [CurveSeries { name: "LeNet", points: &points }];
    let chance = accuracy_curve(&AccuracyCurve { chance: Some(-1.0), ..curve(&series) }, Theme::Light).unwrap_err();
    assert_eq!(chance.to_string(), format!("chance is -1; {accepted}"));
    let reference = Some(ReferenceCurve { name: "published", points: &[] });
    let reference = accuracy_curve(&AccuracyCurve { reference, ..curve(&series) }, Theme::Light).unwrap_err();
    assert_eq!(reference.to_string(), "reference.points is empty");
}

const SERIES: [BarSeries<'_>; 3] = [
    BarSeries { name: "original", origin: Origin::Measured },
    BarSeries { name: "flipped", origin: Origin::Measured },
    BarSeries { name: "published", origin: Origin::Published },
];

fn bars<'a>(series: &'a [BarSeries<'a>], groups: &'a [BarGroup<'a>]) -> AccuracyBars<'a> {
    AccuracyBars { title: "Flipped NADs", subtitle: "CIFAR-10", series, groups, chance: Some(10.0) }
}

#[test]
fn bars_are_as_high_as_their_values_and_say_them() {
    let spread = SeedRange { mean: 56.04, min: 50.0, max: 60.0 };
    let lenet = [Some(SeedRange::single(69.0)), Some(spread), Some(SeedRange::single(100.0))];
    let vgg = [Some(SeedRange::single(87.25)), None, None];
    let groups = [BarGroup { name: "LeNet", bars: &lenet }, BarGroup { name: "VGG11", bars: &vgg }];
    let figure = accuracy_bars(&bars(&SERIES, &groups), Theme::Light).unwrap();
    assert_sound(&figure);
    assert_labels(&figure, &["LeNet", "VGG11", "69.0", "56.0", "100", "87.2", "original", "flipped", "published"]);
    assert_labels(&figure, &["chance, 10%", "test accuracy (%)", "Thin bars: lowest and highest seed."]);
    let heights = |colour: &str| -> Vec<f64> {
        let found = elements(&figure, "rect", &["fill", "height", "x"]).into_iter();
        found.filter(|values| values[0] == colour).map(|values| values[1].parse().unwrap()).collect()
    };
    let original = heights(BLUE);
    let flipped = heights(ORANGE);
    // The last of each is the legend's.
    assert_eq!((original.len(), flipped.len()), (3, 2));
    assert!((original[0] / original[1] - 69.0 / 87.25).abs() < 1e-3);
    assert!((flipped[0] / original[0] - 56.04 / 69.0).abs() < 1e-3);
}

#[test]
fn bars_that_cannot_be_drawn_say_why() {
    let said = |chart: AccuracyBars<'_>| accuracy_bars(&chart, Theme::Light).unwrap_err().to_string();
    let lenet = [Some(SeedRange::single(f64::INFINITY)), None, None];
    let groups = [BarGroup { name: "LeNet", bars: &lenet }];
    assert_eq!(said(bars(&[], &groups)), "series is empty");
    assert_eq!(said(bars(&SERIES, &[])), "groups is empty");
    assert_eq!(said(bars(&SERIES[..2], &groups)), "groups[0].bars.len() is 3; accepted is 2, one for each series");
    assert_eq!(said(bars(&[SERIES[0]; 5], &groups)), "series.len() is 5; accepted is 1 to 4");
    assert!(said(bars(&SERIES, &groups)).starts_with("groups[0].bars[0].mean is inf"));
}

fn block(first_index: u64, median: f64) -> MarginBlock {
    MarginBlock { first_index, median, lower_quartile: 0.5 * median, upper_quartile: 2.0 * median }
}

fn margins(blocks: &[MarginBlock]) -> Result<Figure, FigureError> {
    let series = [MarginSeries { name: "LeNet", blocks }, MarginSeries { name: "ResNet18", blocks }];
    margin_curve(&MarginCurve { title: "Margins", subtitle: "blocks of 32 NADs", series: &series }, Theme::Light)
}

#[test]
fn margins_rise_up_the_page_in_their_bands() {
    let blocks: Vec<MarginBlock> = (0..32).map(|index| block(32 * index, 0.2 * 1.15_f64.powi(index as i32))).collect();
    let figure = margins(&blocks).unwrap();
    assert_sound(&figure);
    assert_labels(&figure, &["LeNet", "ResNet18", "first index of the block of NADs", "median margin, ‖r‖₂"]);
    // A logarithmic axis from 0.1, where the first lower quartile lies, to 50.
    assert_labels(&figure, &["0.1", "0.5", "10", "Bands: 25% to 75% of the samples."]);
    // A band and a legend sample for either series; on a logarithmic axis equal ratios are equal distances.
    assert_eq!(elements(&figure, "polygon", &["points"]).len(), 4);
    let dots = dots(&figure, BLUE);
    assert!(dots[..32].windows(2).all(|pair| pair[1].0 > pair[0].0 && pair[1].1 < pair[0].1));
    assert!((dots[0].1 - dots[1].1 - (dots[30].1 - dots[31].1)).abs() < 0.03);
}

#[test]
fn margins_of_one_decade_start_at_zero() {
    let figure = margins(&[block(0, 1.0), block(32, 2.0), block(64, 1.5)]).unwrap();
    assert_sound(&figure);
    let heights: Vec<f64> = dots(&figure, BLUE)[..3].iter().map(|&(_, y)| y).collect();
    assert!(heights[1] < heights[2] && heights[2] < heights[0]);
    assert!((heights[0] - heights[2] - (heights[2] - heights[1])).abs() < 0.03);
    assert_labels(&figure, &["0", "4"]);
}

#[test]
fn margins_of_any_extent_are_drawn() {
    for blocks in [&[block(0, 0.0)][..], &[block(5, 3.0)], &[block(0, 1e-200), block(1, 4e8)], &[block(0, 4e8)]] {
        assert_sound(&margins(blocks).unwrap());
    }
}

#[test]
fn margins_that_cannot_be_drawn_say_why() {
    let said = |blocks: &[MarginBlock]| margins(blocks).unwrap_err().to_string();
    assert_eq!(said(&[]), "series[0].blocks is empty");
    assert!(said(&[block(0, f64::NAN)]).starts_with("series[0].blocks[0].lower_quartile is NaN; accepted is a number"));
    assert!(said(&[block(0, -1.0)]).contains("lower_quartile is -0.5"));
    assert!(said(&[block(32, 1.0), block(32, 1.0)]).contains("blocks[1].first_index is 32; accepted is more than"));
    let crossed = MarginBlock { upper_quartile: 0.9, ..block(0, 1.0) };
    assert!(said(&[crossed]).contains("upper_quartile is 0.9; accepted is 1 (median) or more"));
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let cells = grid(&[-2, 0, 2]);
    let first = map(&cells).unwrap();
    let second = map(&cells).unwrap();
    assert_eq!(first, second);
    assert_eq!(first.png().unwrap(), second.png().unwrap());
}

/// A document without its colours.
fn colourless(figure: &Figure) -> String {
    let mut parts = figure.svg().split('#');
    let first = parts.next().unwrap_or_default().to_owned();
    let colour = |part: &str| part.len() >= 6 && part.as_bytes()[..6].iter().all(u8::is_ascii_hexdigit);
    let text = parts.fold(first, |text, part| text + if colour(part) { &part[6..] } else { part });
    text.replace("hatch-light", "hatch").replace("hatch-dark", "hatch")
}

#[test]
fn dark_figures_are_light_ones_in_other_colours() {
    let points = [point(0, 50.0, 4.0), point(30, 75.0, 0.0)];
    let series = [CurveSeries { name: "LeNet", points: &points }];
    let groups = [BarGroup { name: "LeNet", bars: &[Some(SeedRange::single(80.0))] }];
    let bar = [BarSeries { name: "original", origin: Origin::Published }];
    let block = MarginBlock { first_index: 0, median: 0.2, lower_quartile: 0.1, upper_quartile: 0.4 };
    let margins = [MarginSeries { name: "LeNet", blocks: &[block, MarginBlock { first_index: 32, ..block }] }];
    let cells = [MapCell { k1: 0, k2: 1, accuracy: 62.0 }, MapCell { k1: 1, k2: 0, accuracy: 99.0 }];
    let draw = |theme| {
        [
            accuracy_curve(&curve(&series), theme).unwrap(),
            accuracy_bars(&bars(&bar, &groups), theme).unwrap(),
            margin_curve(&MarginCurve { title: "Margins", subtitle: "", series: &margins }, theme).unwrap(),
            accuracy_map(&AccuracyMap { title: "LeNet", subtitle: "", shape: IMAGE, cells: &cells }, theme).unwrap(),
        ]
    };
    for (light, dark) in draw(Theme::Light).iter().zip(&draw(Theme::Dark)) {
        assert_eq!(colourless(light), colourless(dark));
        // White, and the inks of white paper, may stand on the colours of a map's cells only.
        let cells = elements(dark, "text", &["fill", "text-anchor"]).into_iter().filter(|text| text[1] != "middle");
        assert!(cells.into_iter().all(|text| text[0] != "#1a1a1a" && text[0] != "#595959"), "{}", dark.svg());
        assert_sound(light);
        let picture = Pixmap::decode_png(&dark.png().unwrap()).unwrap();
        assert!(picture.pixel(0, 0).unwrap().red() < 40);
    }
}
