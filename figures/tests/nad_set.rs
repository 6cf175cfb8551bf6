//! Sets of NADs found on disk: result folders, published files, and what contradicts itself.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use nadgrid_figures::{NadSet, NadSetError, npy};
use ndarray::{Array2, array};
use tempfile::TempDir;

fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join(name), bytes).unwrap();
}

/// DIR/nads/lenet with two NADs of two values, their singular values, and the given sweep.json.
fn result_folder(sweep: Option<&str>) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("nads/lenet");
    write(&folder, "nads.npy", npy::to_bytes(&Array2::<f32>::eye(2)));
    write(&folder, "singular_values.npy", npy::to_bytes(&array![2.0, 1.0]));
    if let Some(sweep) = sweep {
        write(root.path(), "sweep.json", sweep);
    }
    root
}

fn open_lenet(root: &TempDir) -> Result<NadSet, NadSetError> {
    NadSet::open(&root.path().join("nads/lenet"))
}

#[test]
fn a_result_folder_knows_its_singular_values_and_networks() {
    let set = open_lenet(&result_folder(Some(r#"{"spec": {"nads": {"networks": 2048}}}"#))).unwrap();
    assert_eq!(set.nads, Array2::<f64>::eye(2));
    assert_eq!(set.singular_values, Some(array![2.0, 1.0]));
    assert_eq!(set.networks, Some(2048));
}

#[test]
fn networks_stay_unknown_without_a_sweep_or_its_entry() {
    assert_eq!(open_lenet(&result_folder(None)).unwrap().networks, None);
    let set = open_lenet(&result_folder(Some(r#"{"spec": {}}"#))).unwrap();
    assert_eq!(set.networks, None);
    assert_eq!(set.with_networks(5).networks, Some(5));
}

#[test]
fn a_damaged_sweep_is_an_error() {
    let error = open_lenet(&result_folder(Some("{"))).unwrap_err();
    assert!(matches!(&error, NadSetError::ParseSweep { .. }), "{error}");
    assert!(error.to_string().contains("sweep.json"), "{error}");
    let error = open_lenet(&result_folder(Some(r#"{"spec": {"nads": {"networks": -1}}}"#))).unwrap_err();
    assert!(error.to_string().ends_with("spec.nads.networks is -1, not a count"), "{error}");
}

#[test]
fn a_published_file_finds_the_singular_values_beside_it() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "LeNet_NADs.npy", npy::to_bytes(&Array2::<f32>::eye(2)));
    let alone = NadSet::open(&root.path().join("LeNet_NADs.npy")).unwrap();
    assert_eq!(alone, NadSet::new(Array2::eye(2)));
    write(root.path(), "LeNet_eigenvals.npy", npy::to_bytes(&array![3.0_f32, 1.0]));
    let set = NadSet::open(&root.path().join("LeNet_NADs.npy")).unwrap();
    assert_eq!(set, alone.with_singular_values(array![3.0, 1.0]));
}

#[test]
fn singular_values_must_cover_the_nads() {
    let root = result_folder(None);
    write(&root.path().join("nads/lenet"), "singular_values.npy", npy::to_bytes(&array![2.0]));
    let error = open_lenet(&root).unwrap_err();
    assert!(error.to_string().ends_with("2 NADs, but only 1 singular values"), "{error}");
}

#[test]
fn an_absent_set_is_named() {
    let root = tempfile::tempdir().unwrap();
    assert!(NadSet::open(root.path()).unwrap_err().to_string().contains("nads.npy"));
    assert!(NadSet::open(&root.path().join("X_NADs.npy")).unwrap_err().to_string().contains("X_NADs.npy"));
}

#[test]
fn sets_are_compared_with_their_singular_values() {
    let ours = open_lenet(&result_folder(None)).unwrap().with_networks(26);
    let theirs = ours.clone().with_networks(101);
    let comparison = ours.compare(&theirs).unwrap();
    assert_eq!(comparison.overlaps.len(), 2);
    assert_eq!(comparison.singular_values.len(), 1);
    assert_eq!(comparison.singular_values[0].ratio, Some(2.0));
    assert!(ours.compare(&NadSet::new(Array2::eye(2))).unwrap().singular_values.is_empty());
}

/// Two points a network are twice as many gradients: singular values scale with their number, not with that of networks.
#[test]
fn points_count_as_gradients() {
    let set = open_lenet(&result_folder(Some(r#"{"spec": {"nads": {"networks": 2048, "points": 2}}}"#))).unwrap();
    assert_eq!((set.networks, set.points, set.gradients()), (Some(2048), 2, Some(4096)));
    let older = open_lenet(&result_folder(Some(r#"{"spec": {"nads": {"networks": 2048}}}"#))).unwrap();
    assert_eq!(older.gradients(), Some(2048));
    let ratio = set.compare(&older).unwrap().singular_values[0].ratio.unwrap();
    assert!((ratio - (2047.0f64 / 4095.0).sqrt()).abs() < 1e-12, "{ratio}");
}
