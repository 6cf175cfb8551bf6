//! The main job end to end, against published results and closed forms.

use nadgrid_figures::{NadSet, npy};
use nadgrid_tests::{command, example, published, text};
use std::path::Path;

/// Runs an example with changed keys into a fresh folder.
fn run(spec: &str, overrides: &[&str]) -> tempfile::TempDir {
    let out = tempfile::tempdir().unwrap();
    let mut run = command("nadgrid");
    run.arg("run").arg(example(spec)).arg("--out").arg(out.path().join("result")).args(["--device", "cpu"]);
    run.args(overrides.iter().flat_map(|o| ["--set", o]));
    let output = run.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    out
}

fn overlap(comparison: &nadgrid_figures::Comparison, k: usize) -> f64 {
    comparison.overlaps.iter().find(|o| o.k == k).unwrap().overlap
}

/// The thresholds of the reference code's own spread: disjoint runs of 2,048 LeNets differ by .02, .03, .005 and .003.
#[test]
fn lenets_nads_are_the_published_ones() {
    let out = run("lenet.toml", &[]);
    let result = out.path().join("result");
    for name in [
        "sweep.json",
        "nads/lenet/mean.npy",
        "nads/lenet/spectrum.json",
        "nads/lenet/figure.png",
        "nads/lenet/figure.svg",
    ] {
        assert!(result.join(name).is_file(), "{name} is missing");
    }
    let ours = NadSet::open(&result.join("nads/lenet")).unwrap();
    assert_eq!((ours.nads.dim(), ours.networks), ((1024, 1024), Some(2048)));
    let theirs = NadSet::open(&published("LeNet_NADs.npy")).unwrap().with_networks(10_000);
    let comparison = ours.compare(&theirs).unwrap();
    for (k, least) in [(1, 0.92), (8, 0.77), (32, 0.83), (128, 0.75)] {
        let found = overlap(&comparison, k);
        assert!(found >= least, "k = {k}: overlap {found}, at least {least} is due");
    }
    for index in [0, 9] {
        let found = comparison.singular_values.iter().find(|s| s.index == index).unwrap().ratio.unwrap();
        assert!((found - 1.0).abs() <= 0.06, "s{index} is {found} times the published one");
    }
    check_record(&result);
}

/// `sweep.json` says what was computed, and the arrays agree with each other.
fn check_record(result: &Path) {
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(result.join("sweep.json")).unwrap()).unwrap();
    assert_eq!(record["name"], "lenet");
    assert_eq!(record["digest"].as_str().unwrap().len(), 64);
    assert_eq!(record["spec"]["nads"]["step"], 100.0);
    assert_eq!(record["numerics_class"]["precision"], "fp32");
    let s = npy::read_vector(&result.join("nads/lenet/singular_values.npy")).unwrap();
    let eigenvalues = npy::read_vector(&result.join("nads/lenet/eigenvalues.npy")).unwrap();
    for (s, eigenvalue) in s.iter().zip(&eigenvalues) {
        assert!((s * s / 2047.0 - eigenvalue).abs() <= 1e-12 * eigenvalues[0]);
    }
    assert!(s.iter().zip(s.iter().skip(1)).all(|(a, b)| a >= b));
}

/// SCIENCE.md section 4, item 1: the covariance is I/(3D), so by Marchenko and Pastur the singular values fill
/// √(N/3D)·(1 ± √(D/N)). Edges fluctuate by about N^(-2/3); 3 % is beyond that.
#[test]
fn logistic_regression_is_isotropic() {
    let (n, d) = (4096.0f64, 1024.0f64);
    let out = run("logreg.toml", &["nads.networks=4096"]);
    let folder = out.path().join("result/nads/logreg");
    let s = npy::read_vector(&folder.join("singular_values.npy")).unwrap();
    let scale = (n / (3.0 * d)).sqrt();
    let (high, low) = (scale * (1.0 + (d / n).sqrt()), scale * (1.0 - (d / n).sqrt()));
    assert!((s[0] / high - 1.0).abs() < 0.03, "largest {} against {high}", s[0]);
    assert!((s[s.len() - 1] / low - 1.0).abs() < 0.03, "smallest {} against {low}", s[s.len() - 1]);
    // The trace is Σ E‖g‖² = N/3, with a relative error of √(4/(5 N D)).
    let trace: f64 = s.iter().map(|s| s * s).sum();
    assert!((trace / (n / 3.0) - 1.0).abs() < 5.0 * (0.8 / (n * d)).sqrt() + 1.0 / n, "trace {trace}");
}
