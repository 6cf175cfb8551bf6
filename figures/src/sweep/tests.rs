//! Figures of each kind from the tables that a coordinator makes, and from runs that have ended so far.

#![allow(clippy::unwrap_used)]

use super::*;

const HEADER: &str = "train_accuracy,test_accuracy,train_loss,test_loss,epochs,seconds,diverged_at";

fn spec(experiment: &str) -> Spec {
    let head = "name = 'x'\narchitectures = ['lenet', 'logreg']";
    Spec::from_toml(&format!("{head}\n{experiment}")).unwrap()
}

fn images(experiment: &str) -> Spec {
    spec(&format!("input = {{ channels = 3 }}\ncifar10 = {{ path = 'cifar' }}\n{experiment}\nbasis = {{ path = 'n' }}"))
}

/// A table of these runs: label, and accuracy unless it diverged.
fn table(runs: &[(&str, Option<f64>)]) -> Vec<u8> {
    let line = |(label, accuracy): &(&str, Option<f64>)| match accuracy {
        Some(accuracy) => format!("x,{label},0,99,{accuracy},0,0,20,1.5,\n"),
        None => format!("x,{label},0,,,,,3,0.1,240\n"),
    };
    let label = if runs[0].0.starts_with(['c', 'r']) && runs[0].0 != "clean" { "direction" } else { "set" };
    format!("architecture,{label},seed,{HEADER}\n{}", runs.iter().map(line).collect::<String>()).into_bytes()
}

fn drawn(spec: &Spec, files: &[(&str, Vec<u8>)]) -> Drawing {
    let files: Files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())).collect();
    draw_all(spec, &files).unwrap()
}

fn svg<'a>(drawing: &'a Drawing, name: &str) -> &'a str {
    assert!(drawing.figures[&format!("{name}.png")].starts_with(b"\x89PNG"));
    std::str::from_utf8(&drawing.figures[&format!("{name}.svg")]).unwrap()
}

#[test]
fn cosines_are_a_map_for_each_architecture() {
    let spec = spec("[directional]\ndirections = { kind = 'dft', frequencies = [[0, 0], [2, -4]] }\nseeds = 2");
    let lenet =
        table(&[("cos 0 0", Some(60.0)), ("cos 0 0", Some(70.0)), ("cos 2 -4", None), ("cos 2 -4", Some(80.0))]);
    let logreg = table(&[("cos 0 0", None), ("cos 2 -4", None)]);
    let drawing = drawn(&spec, &[("directional/lenet.csv", lenet), ("directional/logreg.csv", logreg)]);
    let picture = svg(&drawing, "directional/lenet_map");
    for words in ["LeNet", "σ = 3", "1 of 4 runs diverged"] {
        assert!(picture.contains(words), "{picture} lacks {words}");
    }
    assert_eq!(drawing.figures.len(), 2);
    assert_eq!(drawing.notes, ["directional/logreg_map is not drawn: all of its 2 runs diverged"]);
    let runs = RunsSummary {
        runs: 4,
        diverged: 1,
        mean_accuracy: Some(70.0),
        min_accuracy: Some(60.0),
        max_accuracy: Some(80.0),
    };
    assert_eq!(drawing.results[0].outcome, JobOutcome::Runs(runs));
    let none = RunsSummary { runs: 2, diverged: 2, mean_accuracy: None, min_accuracy: None, max_accuracy: None };
    assert_eq!(drawing.results[1].outcome, JobOutcome::Runs(none));
}

#[test]
fn rows_of_a_file_are_one_curve_of_all_architectures() {
    let spec = spec("[directional]\ndirections = { kind = 'file', path = 'n', indices = [10, 0] }\nsigma = 1");
    let lenet = table(&[("row 10", Some(90.0)), ("row 0", Some(100.0))]);
    let logreg = table(&[("row 10", Some(100.0)), ("row 0", Some(100.0))]);
    let drawing = drawn(&spec, &[("directional/lenet.csv", lenet), ("directional/logreg.csv", logreg)]);
    let picture = svg(&drawing, "directional/curve");
    for words in ["LeNet", "Logistic regression", "σ = 1", "row"] {
        assert!(picture.contains(words), "{picture} lacks {words}");
    }
    assert!(!picture.contains("diverged") && drawing.notes.is_empty());
}

#[test]
fn pixels_and_random_directions_have_results_and_no_figure() {
    let spec = spec("[directional]\ndirections = { kind = 'random', count = 1 }");
    let runs = table(&[("random 0", Some(90.0))]);
    let drawing = drawn(&spec, &[("directional/lenet.csv", runs.clone()), ("directional/logreg.csv", runs)]);
    assert!(drawing.figures.is_empty() && drawing.notes.is_empty() && drawing.results.len() == 2);
}

#[test]
fn poisoning_is_a_curve_over_p_beside_clean_images() {
    let all = images("[poisoning]\nindices = [0, 10]");
    let one = Spec { architectures: vec!["lenet".into()], ..all.clone() };
    let runs = table(&[("clean", Some(65.0)), ("nad 0", Some(17.5)), ("nad 10", Some(40.0))]);
    let drawing = drawn(&one, &[("poisoning/lenet.csv", runs.clone())]);
    let picture = svg(&drawing, "poisoning/curve");
    assert!(picture.contains("ε = 0.05") && picture.contains("no carrier"), "{picture}");
    let drawing = drawn(&all, &[("poisoning/lenet.csv", runs.clone()), ("poisoning/logreg.csv", runs)]);
    assert!(!svg(&drawing, "poisoning/curve").contains("no carrier"));
    let lost = table(&[("clean", None), ("nad 0", None), ("nad 10", None)]);
    let drawing = drawn(&one, &[("poisoning/lenet.csv", lost)]);
    assert_eq!(drawing.notes, ["poisoning/curve is not drawn: all of its 3 runs diverged"]);
}

#[test]
fn flipping_is_a_pair_of_bars_for_each_architecture() {
    let spec = images("[flipping]");
    let lenet = table(&[("original", Some(69.0)), ("flipped", Some(48.0))]);
    let logreg = table(&[("original", Some(38.0)), ("flipped", None)]);
    let drawing = drawn(&spec, &[("flipping/lenet.csv", lenet), ("flipping/logreg.csv", logreg)]);
    let picture = svg(&drawing, "flipping/bars");
    for words in ["LeNet", "original", "flipped", "69.0", "48.0", "1 of 4 runs diverged"] {
        assert!(picture.contains(words), "{picture} lacks {words}");
    }
    let lost = table(&[("original", None), ("flipped", None)]);
    let drawing = drawn(&spec, &[("flipping/lenet.csv", lost.clone()), ("flipping/logreg.csv", lost)]);
    assert!(drawing.figures.is_empty() && drawing.notes[0].contains("all of its 4 runs diverged"));
}

#[test]
fn margins_leave_out_what_is_infinite_or_missing() {
    let spec = Spec { architectures: vec!["lenet".into()], ..images("[margins]") };
    let runs = ("margins/lenet.csv", table(&[("trained", Some(65.0))]));
    let margins = |rows: &str| {
        let head = "seed,first_nad,last_nad,lower_quartile,median,upper_quartile,images,unreached";
        ("margins/lenet_margins.csv", format!("{head}\n{rows}").into_bytes())
    };
    let rows = "0,0,31,0.1,0.2,0.4,100,0\n1,0,31,0.3,0.4,0.6,100,0\n0,32,63,1,2,4,100,0\n0,64,95,1,2,inf,100,40\n1,32,63,,,,0,0\n";
    let drawing = drawn(&spec, &[runs.clone(), margins(rows)]);
    let picture = svg(&drawing, "margins/curve");
    assert!(picture.contains("2 of 5 blocks with infinite or missing quartiles"), "{picture}");
    let drawing = drawn(&spec, &[runs, margins("0,0,31,,,,0,0\n")]);
    assert_eq!(drawing.notes, ["margins/curve is not drawn: none of its 1 blocks has finite quartiles"]);
}

#[test]
fn artifacts_that_are_missing_or_damaged_are_named() {
    let spec = Spec { architectures: vec!["lenet".into()], ..spec("[nads]\nnetworks = 2") };
    let refused = |files: &[(&str, &[u8])]| {
        let files: Files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
        draw_all(&spec, &files).unwrap_err()
    };
    assert!(matches!(refused(&[]), SweepError::Missing { .. }));
    let mut files = waves("lenet");
    files[0].1 = b"no array".to_vec();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let said = refused(&files).to_string();
    assert!(said.starts_with("nads/lenet/nads.npy: not a .npy file"), "{said}");
}

/// A sweep of which only some runs have ended.
struct Running(Vec<Run>);

impl Source for Running {
    fn artifact(&self, name: &str) -> Result<Cow<'_, [u8]>, SweepError> {
        Err(SweepError::Missing { name: name.to_owned() })
    }

    fn runs(&self, _: Experiment, architecture: &str) -> Result<Runs, SweepError> {
        let ended = if architecture == "lenet" { self.0.clone() } else { Vec::new() };
        Ok(Runs { ended, all: 6 })
    }
}

#[test]
fn runs_so_far_are_a_picture_that_says_so() {
    let spec = spec("[directional]\ndirections = { kind = 'dft', frequencies = [[0, 0], [2, -4]] }\nseeds = 3");
    let run = |seed: u64, test_accuracy: Option<f64>| {
        let (variant, _) = spec.run(Experiment::Directional, "lenet", 0).unwrap();
        Run { variant, seed, train_accuracy: test_accuracy, test_accuracy }
    };
    let lenet = Picture::find(&spec, "directional/lenet_map").unwrap();
    let figure = draw(&spec, &lenet, &Running(vec![run(1, Some(75.0)), run(0, None)]), Theme::Light).unwrap();
    for words in ["Accuracy by frequency: LeNet", "1 of 2 runs diverged", "2 of 6 runs so far"] {
        assert!(figure.svg().contains(words), "{} lacks {words}", figure.svg());
    }
    let said = |name: &str, runs: Vec<Run>| {
        let picture = Picture::find(&spec, name).unwrap();
        draw(&spec, &picture, &Running(runs), Theme::Dark).unwrap_err().to_string()
    };
    let logreg = said("directional/logreg_map", vec![run(1, Some(75.0))]);
    assert_eq!(logreg, "directional/logreg_map is not drawn: no run of it has ended so far");
    let lost = said("directional/lenet_map", vec![run(1, None)]);
    assert_eq!(lost, "directional/lenet_map is not drawn: all of its 1 runs so far diverged");
}

#[test]
fn pictures_are_found_by_name_and_misspelt_ones_refused() {
    let spec = spec("[nads]\nnetworks = 2\n[directional]\ndirections = { kind = 'nads' }");
    let names: Vec<String> = pictures(&spec).into_iter().map(|picture| picture.name).collect();
    assert_eq!(names, ["nads/lenet/figure", "nads/logreg/figure", "nads/spectra", "directional/curve"]);
    let curve = Picture::find(&spec, "directional/curve").unwrap();
    assert_eq!((curve.kind, curve.title.as_str()), (PictureKind::Curve, "Accuracy along NADs"));
    assert_eq!(curve.artifacts(), ["directional/lenet.csv", "directional/logreg.csv"]);
    let error = Picture::find(&spec, "directional/curv").unwrap_err().to_string();
    assert!(error.contains("did you mean directional/curve?") && error.contains("nads/logreg/figure"), "{error}");
}

#[test]
fn nads_and_pairs_are_named_by_what_they_show() {
    let spec = spec("[nads]\nnetworks = 20");
    let patterns: Vec<String> = patterns(&spec).into_iter().map(|pattern| pattern.name).collect();
    assert_eq!(patterns, ["nads/ARCHITECTURE/nad_INDEX", "nads/FIRST_beside_SECOND"]);
    let nad = Picture::find(&spec, "nads/logreg/nad_18").unwrap();
    assert_eq!(
        (nad.kind, nad.index, nad.title.as_str()),
        (PictureKind::Nad, Some(18), "NAD 18 of Logistic regression")
    );
    let pair = Picture::find(&spec, "nads/logreg_beside_lenet").unwrap();
    assert_eq!((pair.kind, pair.architectures), (PictureKind::Pair, vec!["logreg".to_owned(), "lenet".to_owned()]));
    let said = |name: &str| Picture::find(&spec, name).unwrap_err().to_string();
    assert_eq!(said("nads/lenet/nad_19"), "\"19\" is no index of a NAD of this sweep; accepted is 0 to 18");
    assert_eq!(said("nads/lenet/nad_x"), "\"x\" is no index of a NAD of this sweep; accepted is 0 to 18");
    let misspelt = "\"lennet\" is no architecture of this sweep; did you mean lenet?; accepted is lenet, logreg";
    assert_eq!(said("nads/lennet/nad_0"), misspelt);
    assert_eq!(said("nads/logreg_beside_lennet"), misspelt);
}

/// NADs that are waves on 32 x 32 pixels, and a geometric spectrum.
fn waves(architecture: &str) -> Vec<(String, Vec<u8>)> {
    use crate::npy::to_bytes;
    use ndarray::{Array1, Array2};
    let wave = |(k, at): (usize, usize)| (std::f32::consts::TAU * (k * (at % 32)) as f32 / 32.0).cos() / 23.0;
    let values = Array1::from_shape_fn(5, |index| 0.5_f64.powi(index as i32));
    let name = |file: &str| format!("nads/{architecture}/{file}");
    vec![
        (name("nads.npy"), to_bytes(&Array2::from_shape_fn((5, 1024), wave))),
        (name("singular_values.npy"), to_bytes(&values)),
        (name("standard_errors.npy"), to_bytes(&(0.1 * values))),
        (name("spectrum.json"), br#"{ "effective_rank": 2.5, "anisotropy": 0.9 }"#.to_vec()),
    ]
}

#[test]
fn nads_are_drawn_one_by_one_in_pairs_and_as_spectra() {
    let spec = spec("[nads]\nnetworks = 6");
    let both: Files = waves("lenet").into_iter().chain(waves("logreg")).collect();
    let one: Files = waves("lenet").into_iter().collect();
    let svg = |name: &str, files: &Files| {
        let picture = Picture::find(&spec, name).unwrap();
        // It asks for nothing but what it says.
        let files: Files = files
            .iter()
            .filter(|(name, _)| picture.artifacts().contains(name))
            .map(|(n, b)| (n.clone(), b.clone()))
            .collect();
        draw(&spec, &picture, &files, Theme::Dark).map(|figure| figure.svg().to_owned())
    };
    let nad = svg("nads/lenet/nad_3", &one).unwrap();
    assert!(nad.contains("NAD 3 of LeNet") && nad.contains("N = 6 networks"), "{nad}");
    let pair = svg("nads/lenet_beside_logreg", &both).unwrap();
    assert!(pair.contains(">1.00<"), "a NAD agrees with itself: {pair}");
    let spectra = svg("nads/spectra", &both).unwrap();
    assert!(spectra.contains("effective rank 2.50") && !spectra.contains("so far"), "{spectra}");
    assert!(svg("nads/spectra", &one).unwrap().contains("1 of 2 architectures so far"));
    assert!(matches!(svg("nads/spectra", &Files::new()), Err(SweepError::Nothing { .. })));
    assert!(matches!(svg("nads/logreg/nad_3", &one), Err(SweepError::Missing { .. })));
}
