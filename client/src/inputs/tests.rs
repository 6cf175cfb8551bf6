//! Specs beside files that are there, missing or damaged.

use super::*;
use nadgrid_core::architecture::Shape;
use tempfile::TempDir;

const SHAPE: Shape = cifar10::SHAPE;

/// Two images of classes 1 and 2.
fn images() -> Vec<u8> {
    let image = |label: u8| std::iter::once(label).chain(std::iter::repeat_n(7, SHAPE.len()));
    image(1).chain(image(2)).collect()
}

/// A folder with NADs of 3 x 1024 and images, and a spec that wants them.
fn place() -> (TempDir, Spec) {
    let home = tempfile::tempdir().unwrap();
    let images_folder = home.path().join("cifar");
    fs::create_dir(&images_folder).unwrap();
    for file in ["data_batch_1.bin", "data_batch_2.bin", "test_batch.bin", "extra.bin", "batches.meta.txt"] {
        fs::write(images_folder.join(file), images()).unwrap();
    }
    fs::write(home.path().join("nads.npy"), npy_bytes(3, 1024)).unwrap();
    (home, spec("nads.npy", "[0, 1]"))
}

fn npy_bytes(rows: usize, columns: usize) -> Vec<u8> {
    // The simplest .npy file: its header fills up to 64 bytes.
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let header = format!("{header:<117}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend((0..rows * columns).flat_map(|_| 0.5f32.to_le_bytes()));
    bytes
}

fn spec(nads: &str, indices: &str) -> Spec {
    let text = format!(
        "name = 'x'\narchitectures = ['lenet']\ninput = {{ channels = 3 }}\ncifar10 = {{ path = 'cifar' }}\n\
         [poisoning]\nbasis = {{ path = '{nads}' }}\nindices = {indices}\n[flipping]\nbasis = {{ path = '{nads}' }}"
    );
    Spec::from_toml(&text).unwrap()
}

fn refused(spec: &Spec, home: &Path) -> String {
    match LocalFiles::read(spec, Some(home)) {
        Err(Error::Refused(refusal)) => refusal.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_are_found_beside_the_spec_and_named_as_it_names_them() {
    let (home, spec) = place();
    let files = LocalFiles::read(&spec, Some(home.path())).unwrap();
    let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["cifar/data_batch_1.bin", "cifar/data_batch_2.bin", "cifar/test_batch.bin", "nads.npy"]);
    let inputs = files.inputs();
    let images = InputRef { size: 2 * 3073, digest: Digest::of(&images()) };
    assert_eq!((inputs["cifar/test_batch.bin"], files.size()), (images, 6 * 3073 + 3 * 4096 + 128));
    assert_eq!(files.left_out(), [home.path().join("cifar/extra.bin")]);
    // The spec finds them under these names too: two training files of two images, one test file.
    assert_eq!(spec.jobs(&inputs)[0].forward_passes, 50 * 4 + 4 + 2);
}

#[test]
fn absolute_paths_are_taken_as_they_are_and_the_current_folder_comes_second() {
    let (home, _) = place();
    let absolute = home.path().join("nads.npy").display().to_string();
    let elsewhere = tempfile::tempdir().unwrap();
    let found = |name: &str, folder: Option<&Path>| find(name, folder, Path::is_file);
    assert_eq!(found(&absolute, Some(elsewhere.path())), Ok(home.path().join("nads.npy")));
    // Tests run in the crate's folder.
    assert_eq!(found("Cargo.toml", Some(elsewhere.path())), Ok(PathBuf::from("Cargo.toml")));
    assert_eq!(found("Cargo.toml", None), Ok(PathBuf::from("Cargo.toml")));
    let missing = found("no.npy", Some(elsewhere.path())).unwrap_err();
    let [first, second] = [elsewhere.path(), &std::env::current_dir().unwrap()].map(|f| f.join("no.npy"));
    assert_eq!(missing, format!("looked for {} and {}", first.display(), second.display()));
}

#[test]
fn everything_that_is_missing_is_told_at_once() {
    let home = tempfile::tempdir().unwrap();
    let said = refused(&spec("nads.npy", "[0]"), home.path());
    for words in
        ["poisoning.basis = \"nads.npy\": no such file", "flipping.basis", "cifar10.path = \"cifar\": no such folder"]
    {
        assert!(said.contains(words), "{said:?} lacks {words:?}");
    }
    let (home, spec) = place();
    fs::remove_file(home.path().join("cifar/test_batch.bin")).unwrap();
    assert!(refused(&spec, home.path()).contains("cifar holds no test_batch.bin"));
    for file in ["data_batch_1.bin", "data_batch_2.bin"] {
        fs::remove_file(home.path().join("cifar").join(file)).unwrap();
    }
    assert!(refused(&spec, home.path()).contains("cifar holds no data_batch_N.bin"));
}

#[test]
fn damaged_files_are_named_with_what_is_wrong() {
    let (home, good) = place();
    fs::write(home.path().join("cifar/data_batch_2.bin"), &images()[..4000]).unwrap();
    let said = refused(&good, home.path());
    assert!(said.contains("cifar/data_batch_2.bin: 4000 bytes are not whole records"), "{said}");
    let (home, good) = place();
    fs::write(home.path().join("nads.npy"), npy_bytes(3, 3072)).unwrap();
    let said = refused(&good, home.path());
    assert!(said.contains("nads.npy: its shape is 3 x 3072; rows of 1024 numbers are required"), "{said}");
    fs::write(home.path().join("nads.npy"), "no array").unwrap();
    assert!(refused(&good, home.path()).contains("nads.npy: not a .npy file"));
    let (home, _) = place();
    // Carriers lie on p and p + 1.
    let said = refused(&spec("nads.npy", "[2]"), home.path());
    assert!(said.contains("row 3 is requested") && said.ends_with("is 2"), "{said}");
    fs::write(home.path().join("nads.npy"), npy_bytes(0, 1024)).unwrap();
    assert!(refused(&good, home.path()).contains("its shape is 0 x 1024"));
}

#[test]
fn margins_need_as_many_test_images() {
    let (home, _) = place();
    let text = "name = 'x'\narchitectures = ['lenet']\ninput = { channels = 3 }\ncifar10 = { path = 'cifar' }\n\
                [margins]\nbasis = { path = 'nads.npy' }\nimages = 3";
    let said = refused(&Spec::from_toml(text).unwrap(), home.path());
    assert!(said.contains("margins.images = 3: at most 2"), "{said}");
}
