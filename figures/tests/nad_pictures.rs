//! Pictures of single NADs, of pairs and of spectra: waves lie at their frequencies, zero has the colour of the paper.

#![allow(clippy::unwrap_used)]

use std::f64::consts::TAU;

use nadgrid_figures::{
    Figure, FigureError, InputShape, NadPair, NadSide, SingleNad, Spectra, SpectrumSeries, Theme, nad_pair, npy,
    single_nad, spectra,
};
use ndarray::{Array1, Array2, array};
use resvg::{
    tiny_skia::{Pixmap, PremultipliedColorU8},
    usvg::roxmltree::Document,
};

const GREY: InputShape = InputShape { channels: 1, height: 32, width: 32 };
const THEMES: [Theme; 2] = [Theme::Light, Theme::Dark];
const WILD: &str = "<script>alert(1)</script> & \"quotes\" \u{1}";

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

/// x, y, width and height of the bitmaps, in order.
fn tiles(figure: &Figure) -> Vec<[f64; 4]> {
    let document = Document::parse(figure.svg()).unwrap();
    let images = document.descendants().filter(|node| node.has_tag_name("image"));
    images
        .map(|node| ["x", "y", "width", "height"].map(|name| node.attribute(name).unwrap().parse().unwrap()))
        .collect()
}

/// The colour in the middle of a pixel of a bitmap.
fn colour(picture: &Pixmap, tile: [f64; 4], shape: InputShape, (row, column): (usize, usize)) -> PremultipliedColorU8 {
    let [x, y, width, height] = tile;
    let across = x + width * (column as f64 + 0.5) / shape.width as f64;
    let down = y + height * (row as f64 + 0.5) / shape.height as f64;
    picture.pixel((2.0 * across) as u32, (2.0 * down) as u32).unwrap()
}

fn picture(figure: &Figure) -> Pixmap {
    Pixmap::decode_png(&figure.png().unwrap()).unwrap()
}

fn view(nad: &Array1<f64>, shape: InputShape, theme: Theme) -> Figure {
    single_nad(&SingleNad { title: "NAD 3 of LeNet", subtitle: "N = 6 networks", shape, nad: nad.view() }, theme)
        .unwrap()
}

fn wave(k1: usize, k2: usize) -> Array1<f64> {
    Array1::from_shape_fn(1024, |at| (TAU * (k1 * (at / 32) + k2 * (at % 32)) as f64 / 32.0).cos())
}

#[test]
fn a_wave_is_two_bright_points_at_its_frequencies() {
    let figure = view(&wave(3, 7), GREY, Theme::Light);
    let picture = picture(&figure);
    let tile = tiles(&figure)[2];
    let pixels = (0..32).flat_map(|row| (0..32).map(move |column| (row, column)));
    let bright: Vec<(usize, usize)> = pixels.filter(|&at| colour(&picture, tile, GREY, at).green() > 128).collect();
    // (k1, k2) lies at row 16 + k1, column 16 + k2.
    assert_eq!(bright, [(13, 9), (19, 23)]);
    assert_labels(&figure, &["NAD 3 of LeNet", "N = 6 networks", "row", "column", "in pixels", "in frequency"]);
    assert_labels(&figure, &["k₁, cycles per image", "k₂, cycles per image", "−10", "−1.00", "1.00", "512"]);
}

#[test]
fn zero_has_the_colour_of_the_paper_and_signs_are_blue_and_red() {
    let mut nad = Array1::zeros(1024);
    (nad[0], nad[1023]) = (-0.5, 0.5);
    for theme in THEMES {
        let figure = view(&nad, GREY, theme);
        let picture = picture(&figure);
        let tile = tiles(&figure)[0];
        let [negative, zero, positive] = [(0, 0), (16, 16), (31, 31)].map(|at| colour(&picture, tile, GREY, at));
        let paper = picture.pixel(0, 0).unwrap();
        for (zero, paper) in [(zero.red(), paper.red()), (zero.green(), paper.green()), (zero.blue(), paper.blue())] {
            assert!(zero.abs_diff(paper) < 20, "{theme:?}: {zero} on {paper}");
        }
        assert!(negative.blue() > negative.red() && positive.red() > positive.blue(), "{theme:?}");
    }
}

#[test]
fn channels_lie_side_by_side_on_one_scale() {
    let shape = InputShape { channels: 3, ..GREY };
    let mut nad = Array1::zeros(3 * 1024);
    (nad[5], nad[1024 + 5]) = (1.0, 0.5);
    let figure = view(&nad, shape, Theme::Light);
    // Three channels, their key, the DFT, its key.
    let tiles = tiles(&figure);
    assert_eq!(tiles.len(), 6);
    assert!(tiles[0][0] < tiles[1][0] && tiles[1][0] < tiles[2][0] && tiles[0][1] == tiles[2][1]);
    let picture = picture(&figure);
    let [full, half, none] = [0, 1, 2].map(|channel| colour(&picture, tiles[channel], shape, (0, 5)).green());
    assert!(full < half && half < none, "{full} {half} {none}");
    assert_labels(&figure, &["red", "green", "blue", "in frequency, all channels"]);
    let many = InputShape { channels: 16, height: 8, width: 8 };
    assert_labels(
        &view(&wave(1, 1), many, Theme::Dark),
        &["channel 3", "The first 4 of 16 channels; the DFT is of all."],
    );
}

#[test]
fn nads_of_any_shape_are_drawn_and_others_refused() {
    for (channels, height, width) in [(1, 1, 1024), (1, 1024, 1), (4, 16, 16), (1, 8, 128), (1024, 1, 1)] {
        let figure = view(&wave(1, 2), InputShape { channels, height, width }, Theme::Dark);
        assert!(!figure.svg().contains("NaN") && !figure.svg().contains("inf"), "{channels} x {height} x {width}");
        picture(&figure);
    }
    let zero = view(&Array1::zeros(1024), GREY, Theme::Light);
    assert!(!zero.svg().contains("NaN"));
    let refused = |nad: &Array1<f64>| {
        single_nad(&SingleNad { title: "", subtitle: "", shape: GREY, nad: nad.view() }, Theme::Light).unwrap_err()
    };
    assert!(matches!(refused(&Array1::zeros(7)), FigureError::Shape { found: 7, .. }));
    let mut infinite = wave(1, 1);
    infinite[7] = f64::INFINITY;
    assert!(matches!(refused(&infinite), FigureError::NotFinite { row: 0, column: 7, .. }));
}

#[test]
fn a_picture_of_a_nad_is_small() {
    let noise = Array1::from_shape_fn(1024, |at| (at as f64 * 12.9898).sin() * (at as f64 * 78.233).cos());
    let bytes = view(&noise, GREY, Theme::Light).svg().len();
    assert!(bytes < 24_000, "{bytes} bytes");
}

#[test]
fn a_pair_shows_how_far_the_nads_of_an_index_agree() {
    let rows = |waves: [(usize, usize); 2]| {
        let all = waves.map(|(k1, k2)| wave(k1, k2));
        Array2::from_shape_fn((2, 1024), |(row, at)| all[row][at])
    };
    let one = rows([(0, 1), (2, 3)]);
    let other = rows([(0, 1), (4, 5)]);
    let values = array![2.0, 1.0, 0.5];
    let side = |name, nads: &Array2<f64>| {
        let nads = nads.view();
        nad_pair(
            &NadPair {
                title: "NADs",
                subtitle: "N = 6",
                shape: GREY,
                first: NadSide { name: "LeNet", nads: one.view(), singular_values: values.view() },
                second: NadSide { name, nads, singular_values: values.view() },
            },
            Theme::Dark,
        )
    };
    let figure = side(WILD, &other).unwrap();
    assert_labels(&figure, &["LeNet", "u₁", "overlap", "1.00", "0.00", "76.2%"]);
    // Two NADs, each with its DFT, on either side; two keys.
    assert_eq!(tiles(&figure).len(), 10);
    let short = Array2::zeros((1, 7));
    assert!(matches!(side("short", &short), Err(FigureError::Shape { found: 7, .. })));
}

/// Two spectra, one with errors and a null space.
fn two_spectra(values: &Array1<f64>, errors: &Array1<f64>, theme: Theme) -> Result<Figure, FigureError> {
    let steep = array![4.0, 2.0, 1.0, 1e-9];
    let series = [
        SpectrumSeries {
            name: "LeNet",
            singular_values: values.view(),
            standard_errors: Some(errors.view()),
            effective_rank: Some(12.34),
        },
        SpectrumSeries { name: WILD, singular_values: steep.view(), standard_errors: None, effective_rank: None },
    ];
    spectra(&Spectra { title: WILD, subtitle: "N = 6 networks", series: &series }, theme)
}

#[test]
fn spectra_fall_from_one_with_bands_where_there_are_errors() {
    let values = array![8.0, 4.0, 0.8];
    let errors = array![0.8, 0.4, 0.08];
    let figure = two_spectra(&values, &errors, Theme::Light).unwrap();
    assert_labels(&figure, &["LeNet", "effective rank 12.3", "Bands: ± one standard error,", "1", "0.1", "0.5"]);
    assert_labels(&figure, &["rank of the direction, i + 1", "singular value over the largest, s / s₀"]);
    let document = Document::parse(figure.svg()).unwrap();
    let points = |tag: &str| -> Vec<Vec<(f64, f64)>> {
        let nodes = document.descendants().filter(|node| node.has_tag_name(tag));
        let point = |text: &str| text.split_once(',').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).unwrap();
        nodes.map(|node| node.attribute("points").unwrap().split(' ').map(point).collect()).collect()
    };
    let [one, other] = &points("polyline")[..] else { panic!("not two lines") };
    assert_eq!((one.len(), other.len()), (3, 3), "the null space is left out");
    assert!((one[0].1 - other[0].1).abs() < 1e-9 && one.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1));
    // Halving is the same step down everywhere on a logarithmic axis.
    assert!((one[1].1 - one[0].1 - (other[1].1 - other[0].1)).abs() < 0.02);
    assert_eq!(points("polygon").len(), 1);
}

#[test]
fn spectra_that_are_none_are_refused() {
    let said =
        |values: Array1<f64>, errors: Array1<f64>| two_spectra(&values, &errors, Theme::Dark).unwrap_err().to_string();
    assert_eq!(said(array![], array![]), "series[0].singular_values is empty");
    assert_eq!(said(array![0.0], array![]), "singular value 0 of LeNet is 0");
    assert_eq!(said(array![2.0, -1.0], array![]), "singular value 1 of LeNet is -1");
    assert!(said(array![2.0], array![f64::NAN]).starts_with("series[0].standard_errors[0] is NaN"));
}

/// WCAG 2's relative luminance of `#rrggbb`.
fn luminance(hex: &str) -> f64 {
    let channel = |at: usize| {
        let value = f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
}

#[test]
fn documents_are_well_formed_with_user_text_escaped_and_legible_in_both_themes() {
    let values = array![8.0, 4.0, 0.8];
    let errors = array![0.8, 0.4, 0.08];
    for theme in THEMES {
        let wave = wave(1, 2);
        let nad = SingleNad { title: WILD, subtitle: WILD, shape: GREY, nad: wave.view() };
        for figure in [two_spectra(&values, &errors, theme).unwrap(), single_nad(&nad, theme).unwrap()] {
            assert!(!figure.svg().contains("<script"), "{}", figure.svg());
            assert_labels(&figure, &["<script>alert(1)</script> & \"quotes\" \u{fffd}"]);
            let document = Document::parse(figure.svg()).unwrap();
            let paper =
                document.descendants().find(|node| node.has_tag_name("rect")).unwrap().attribute("fill").unwrap();
            let paper = luminance(paper);
            for text in document.descendants().filter(|node| node.has_tag_name("text")) {
                let ink = luminance(text.attribute("fill").unwrap());
                let contrast = (ink.max(paper) + 0.05) / (ink.min(paper) + 0.05);
                assert!(contrast >= 4.5, "{theme:?}: {:?} has a contrast of {contrast}", text.text());
            }
        }
    }
    let light = two_spectra(&values, &errors, Theme::Light).unwrap();
    assert_ne!(light, two_spectra(&values, &errors, Theme::Dark).unwrap());
    assert_eq!(light, two_spectra(&values, &errors, Theme::Light).unwrap());
}

#[test]
fn one_row_of_an_array_is_read_as_the_whole_is() {
    let name = std::path::Path::new("nads.npy");
    let array = Array2::from_shape_fn((5, 7), |(row, column)| (row * 10 + column) as f32);
    let bytes = npy::to_bytes(&array);
    let whole = npy::parse_matrix(&bytes, name).unwrap();
    for row in 0..5 {
        assert_eq!(npy::parse_row(&bytes, name, row).unwrap(), whole.row(row as usize));
    }
    assert_eq!(npy::parse_row(&bytes, name, 5).unwrap_err().to_string(), "nads.npy: has no row 5; accepted is 0 to 4");
    let mut cut = bytes.clone();
    cut.pop();
    assert!(matches!(npy::parse_row(&cut, name, 0), Err(npy::NpyError::Truncated { .. })));
    let vector = npy::to_bytes(&array![1.0, 2.0]);
    assert!(matches!(npy::parse_row(&vector, name, 0), Err(npy::NpyError::Dimensions { expected: 2, .. })));
    let infinite = npy::to_bytes(&array![[1.0, 2.0], [3.0, f64::NAN]]);
    assert!(npy::parse_row(&infinite, name, 0).is_ok());
    assert_eq!(npy::parse_row(&infinite, name, 1).unwrap_err().to_string(), "nads.npy: element [1, 1] is NaN");
}
