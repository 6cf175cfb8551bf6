//! The NAD figure: a valid document with its labels, pixels where they belong, the same bytes every time.

#![allow(clippy::unwrap_used)]

use std::f64::consts::TAU;

use nadgrid_figures::{FigureError, InputShape, NadFigure, ReferenceSpectrum, Theme, nad_figure};
use ndarray::{Array1, Array2};
use resvg::{tiny_skia::Pixmap, usvg::roxmltree::Document};

const GREY_16: InputShape = InputShape { channels: 1, height: 16, width: 16 };

/// Waves in place of NADs, and a geometric spectrum.
struct Fixture {
    shape: InputShape,
    nads: Array2<f64>,
    singular_values: Array1<f64>,
}

impl Fixture {
    fn new(count: usize, shape: InputShape) -> Self {
        let wave = |(index, position): (usize, usize)| {
            (TAU * (index * (position / shape.width) + position % shape.width) as f64 / 16.0).cos()
        };
        Self {
            shape,
            nads: Array2::from_shape_fn((count, shape.dimension()), wave),
            singular_values: Array1::from_shape_fn(count, |index| 0.97_f64.powi(index as i32)),
        }
    }

    fn figure(&self) -> NadFigure<'_> {
        NadFigure {
            architecture: "LeNet <5> & co",
            networks: Some(10_000),
            estimator: "central differences",
            step: Some(100.0),
            shape: self.shape,
            nads: self.nads.view(),
            singular_values: self.singular_values.view(),
            reference: None,
        }
    }
}

/// All texts of the document, in order.
fn texts(svg: &str) -> Vec<String> {
    let document = Document::parse(svg).unwrap();
    let nodes = document.descendants().filter(|node| node.has_tag_name("text"));
    nodes.map(|node| node.text().unwrap_or_default().to_owned()).collect()
}

fn images(svg: &str) -> usize {
    Document::parse(svg).unwrap().descendants().filter(|node| node.has_tag_name("image")).count()
}

/// Pixels darker than mid-grey in a rectangle given in SVG units.
fn dark_pixels(picture: &Pixmap, (x, y): (u32, u32), (width, height): (u32, u32)) -> usize {
    let columns = 2 * x..2 * (x + width);
    (2 * y..2 * (y + height))
        .flat_map(|row| columns.clone().map(move |column| (column, row)))
        .filter(|&(column, row)| picture.pixel(column, row).is_some_and(|pixel| pixel.green() < 128))
        .count()
}

#[test]
fn the_document_holds_every_label() {
    let fixture = Fixture::new(256, GREY_16);
    let reference = ReferenceSpectrum { label: "published", singular_values: fixture.singular_values.view() };
    let figure = nad_figure(&NadFigure { reference: Some(reference), ..fixture.figure() }, Theme::Light).unwrap();
    let texts = texts(figure.svg());
    for label in [
        "Neural anisotropy directions of LeNet <5> & co",
        "N = 10,000 networks · central differences, h = 100 · input 1 × 16 × 16",
        "u₀",
        "u₇",
        "u₂₅₅",
        "|DFT|",
        "10⁻³",
        "rank of the direction, i + 1",
        "published",
        "isotropic, 1/D with D = 256",
    ] {
        assert!(texts.iter().any(|text| text == label), "{label:?} is not in {texts:?}");
    }
    // 16 NADs, a DFT below each, two colour bars.
    assert_eq!(images(figure.svg()), 34);
}

#[test]
fn the_picture_is_twice_the_document_and_has_readable_text() {
    let figure = nad_figure(&Fixture::new(20, GREY_16).figure(), Theme::Light).unwrap();
    let picture = Pixmap::decode_png(&figure.png().unwrap()).unwrap();
    let document = Document::parse(figure.svg()).unwrap();
    let extent = |name: &str| document.root_element().attribute(name).unwrap().parse::<u32>().unwrap();
    assert_eq!((picture.width(), picture.height()), (2 * extent("width"), 2 * extent("height")));
    // The title, the label u₀ and the axis title; beside the title the page is blank.
    assert!(dark_pixels(&picture, (88, 24), (480, 24)) > 1_000);
    assert!(dark_pixels(&picture, (88, 98), (20, 18)) > 50);
    assert!(dark_pixels(&picture, (200, extent("height") - 40), (300, 30)) > 500);
    assert_eq!(dark_pixels(&picture, (0, 0), (80, 90)), 0);
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let fixture = Fixture::new(40, GREY_16);
    let draw = || nad_figure(&fixture.figure(), Theme::Light).unwrap();
    let first = draw();
    let second = draw();
    assert_eq!(first, second);
    assert_eq!(first.png().unwrap(), second.png().unwrap());
}

#[test]
fn channels_are_stacked_over_one_transform() {
    let figure = |channels| {
        let fixture = Fixture::new(2, InputShape { channels, height: 8, width: 8 });
        nad_figure(&fixture.figure(), Theme::Light).unwrap()
    };
    assert_eq!(images(figure(3).svg()), 2 * (3 + 1) + 2);
    assert_eq!(images(figure(16).svg()), 2 * (4 + 1) + 2);
    assert!(texts(figure(3).svg()).iter().any(|text| text == "blue"));
    assert!(texts(figure(16).svg()).iter().any(|text| text == "First 4 of 16 channels."));
}

#[test]
fn a_null_space_is_not_shown() {
    let mut fixture = Fixture::new(30, GREY_16);
    fixture.singular_values.slice_mut(ndarray::s![5..]).fill(0.0);
    let figure = nad_figure(&fixture.figure(), Theme::Light).unwrap();
    assert_eq!(images(figure.svg()), 12);
    assert!(texts(figure.svg()).iter().any(|text| text == "Null space beyond rank 5."));
}

#[test]
fn odd_shapes_and_single_directions_are_drawn() {
    for (height, width) in [(1, 1), (1, 300), (300, 1), (7, 13)] {
        let fixture = Fixture::new(1, InputShape { channels: 1, height, width });
        let figure = NadFigure { networks: None, step: None, ..fixture.figure() };
        let figure = nad_figure(&figure, Theme::Light).unwrap();
        assert!(!figure.svg().contains("NaN") && !figure.svg().contains("inf"), "{height} x {width}");
        figure.png().unwrap();
    }
}

#[test]
fn arrays_that_do_not_fit_are_refused() {
    let fixture = Fixture::new(3, GREY_16);
    let refused = |figure: NadFigure<'_>| nad_figure(&figure, Theme::Light).unwrap_err();
    let shape = InputShape { channels: 3, ..GREY_16 };
    let error = refused(NadFigure { shape, ..fixture.figure() });
    assert_eq!(error.to_string(), "NADs of length 256 do not fit an input of 3 × 16 × 16, which has 768 values");
    let few = fixture.singular_values.slice(ndarray::s![..2]);
    let error = refused(NadFigure { singular_values: few, ..fixture.figure() });
    assert!(matches!(error, FigureError::TooFewSingularValues { nads: 3, singular_values: 2 }));
    let none = fixture.nads.slice(ndarray::s![..0, ..]);
    assert!(matches!(refused(NadFigure { nads: none, ..fixture.figure() }), FigureError::Empty { rows: 0, .. }));
    let mut infinite = fixture.nads.clone();
    infinite[[1, 7]] = f64::INFINITY;
    let error = refused(NadFigure { nads: infinite.view(), ..fixture.figure() });
    assert!(matches!(error, FigureError::NotFinite { row: 1, column: 7, .. }));
}
