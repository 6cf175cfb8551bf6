//! A small result folder, without a cluster: what is written where, and what is said of what cannot be.

use super::*;
use crate::cli::Cli;
use crate::cli::args::Command;
use clap::Parser;
use nadgrid_client::{RECORD_FILE, RECORD_FORMAT};
use nadgrid_core::spec::Spec;
use nadgrid_figures::npy::to_bytes;
use std::f32::consts::TAU;
use std::fs;

const SPEC: &str = "name = 'x'\narchitectures = ['lenet', 'logreg']\n\
                    [nads]\nnetworks = 6\n[directional]\ndirections = { kind = 'dft', frequencies = [[0, 0], [2, 1]] }";

/// A folder with NADs that are waves, a table of runs for LeNet, and one of diverged runs for logistic regression.
fn folder() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| {
        let path = home.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let spec = Spec::from_toml(SPEC).unwrap();
    let record = serde_json::json!({ "format": RECORD_FORMAT, "spec_toml": spec.to_toml() });
    put(RECORD_FILE, record.to_string().as_bytes());
    let wave: Vec<f32> = (0..5 * 1024).map(|at| (TAU * (at / 1024 * (at % 32)) as f32 / 32.0).cos() / 23.0).collect();
    let nads = ndarray::Array2::from_shape_vec((5, 1024), wave).unwrap();
    let values = ndarray::Array1::from(vec![1.0_f64, 0.5, 0.2, 0.1, 0.05]);
    let header = "direction,seed,train_accuracy,test_accuracy";
    for (architecture, runs) in
        [("lenet", "cos 0 0,0,99,90\ncos 2 1,0,99,70\n"), ("logreg", "cos 0 0,0,,\ncos 2 1,0,,\n")]
    {
        let at = |file: &str| format!("nads/{architecture}/{file}");
        put(&at("nads.npy"), &to_bytes(&nads));
        put(&at("singular_values.npy"), &to_bytes(&values));
        put(&at("standard_errors.npy"), &to_bytes(&(&values * 0.1)));
        put(&at("spectrum.json"), br#"{ "effective_rank": 2.5, "anisotropy": 0.9 }"#);
        put(&format!("directional/{architecture}.csv"), format!("{header}\n{runs}").as_bytes());
    }
    home
}

/// Does what is typed after `nadgrid plot DIR`.
async fn typed(folder: &Path, rest: &[&str]) -> Result<(), Failure> {
    let head = ["nadgrid", "plot", folder.to_str().unwrap()];
    let cli = Cli::try_parse_from(head.iter().chain(rest)).map_err(|error| Failure::Usage(error.to_string()))?;
    let Command::Plot(args) = cli.command else { panic!("another command") };
    plot(args).await
}

/// The pictures below a folder.
fn found(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()) {
            match entry.extension().and_then(|ending| ending.to_str()) {
                _ if entry.is_dir() => folders.push(entry),
                Some("svg" | "png") => names.push(entry.strip_prefix(folder).unwrap().to_str().unwrap().to_owned()),
                _ => {}
            }
        }
    }
    names.sort();
    names
}

#[tokio::test]
async fn every_picture_is_drawn_into_the_folder() {
    let home = folder();
    typed(home.path(), &[]).await.unwrap();
    // All runs of logistic regression diverged, which is no failure.
    let names = ["directional/lenet_map", "nads/lenet/figure", "nads/logreg/figure", "nads/spectra"];
    let files: Vec<String> = names.iter().flat_map(|name| ["png", "svg"].map(|end| format!("{name}.{end}"))).collect();
    assert_eq!(found(home.path()), files);
    let png = fs::read(home.path().join("nads/spectra.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG"));
}

#[tokio::test]
async fn single_pictures_go_where_they_are_told_in_one_format_and_theme() {
    let home = folder();
    let out = tempfile::tempdir().unwrap();
    let only = ["--only", "nads/lenet/nad_3", "--only", "nads/logreg_beside_lenet"];
    let to = ["--out", out.path().to_str().unwrap(), "--format", "svg", "--theme", "dark"];
    typed(home.path(), &[&only[..], &to].concat()).await.unwrap();
    assert_eq!(found(out.path()), ["nads/lenet/nad_3_dark.svg", "nads/logreg_beside_lenet_dark.svg"]);
    assert!(found(home.path()).is_empty());
    let svg = fs::read_to_string(out.path().join("nads/lenet/nad_3_dark.svg")).unwrap();
    assert!(svg.contains("NAD 3 of LeNet") && !svg.contains("fill=\"#ffffff\""), "{svg}");
}

#[tokio::test]
async fn listing_and_json_draw_as_asked() {
    let home = folder();
    typed(home.path(), &["--list"]).await.unwrap();
    typed(home.path(), &["--list", "--json"]).await.unwrap();
    assert!(found(home.path()).is_empty());
    typed(home.path(), &["--json", "--format", "png", "--only", "nads/spectra"]).await.unwrap();
    assert_eq!(found(home.path()), ["nads/spectra.png"]);
}

#[tokio::test]
async fn what_is_wrong_is_named_with_what_is_accepted() {
    let home = folder();
    let said = async |rest: &[&str]| typed(home.path(), rest).await.unwrap_err().to_string();
    let misspelt = said(&["--only", "nads/spectrum"]).await;
    assert!(
        misspelt.contains("did you mean nads/spectra?") && misspelt.contains("directional/lenet_map"),
        "{misspelt}"
    );
    assert!(said(&["--only", "nads/lenet/nad_5"]).await.contains("accepted is 0 to 4"));
    assert!(said(&["--theme", "darc"]).await.contains("dark"));
    // Asked for by name, what cannot be drawn is a failure.
    assert_eq!(said(&["--only", "directional/logreg_map"]).await, "1 picture not drawn");
    fs::write(home.path().join("nads/lenet/nads.npy"), "no array").unwrap();
    assert_eq!(said(&[]).await, "1 picture not drawn");
    assert!(home.path().join("nads/logreg/figure.png").exists(), "the others are drawn");
}

#[tokio::test]
async fn folders_that_are_none_are_refused() {
    let home = folder();
    let said = async |folder: PathBuf| typed(&folder, &[]).await.unwrap_err().to_string();
    let inside = said(home.path().join("nads/lenet")).await;
    assert!(inside.contains(&format!("did you mean {}?", home.path().display())), "{inside}");
    let elsewhere = tempfile::tempdir().unwrap();
    let empty = said(elsewhere.path().to_owned()).await;
    assert!(empty.contains("not a result folder: it has no sweep.json"), "{empty}");
    let record = |text: &str| fs::write(elsewhere.path().join(RECORD_FILE), text).unwrap();
    for (text, words) in [
        ("nothing", "no JSON"),
        (r#"{ "format": 7 }"#, "format is 7; accepted is 2"),
        (r#"{ "format": 2 }"#, "spec_toml is null"),
        (r#"{ "format": 2, "spec_toml": "name = 3" }"#, "spec_toml is invalid"),
    ] {
        record(text);
        let said = said(elsewhere.path().to_owned()).await;
        assert!(said.contains("sweep.json: ") && said.contains(words), "{said}");
    }
}
