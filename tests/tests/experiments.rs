//! Training experiments on a whole cluster: files travel, jobs wait for their NADs, crashes do not change a digest, and bad
//! files are refused before anything runs.

use nadgrid_figures::npy;
use nadgrid_tests::{Cluster, members_done, published, text};
use ndarray::Array2;
use std::path::{Path, PathBuf};

/// LeNet on 16 x 16 along twelve random directions: each run takes a moment.
const RUNS: &str = "name = 'runs'\narchitectures = ['lenet']\ninput = { height = 16, width = 16 }\n\
                    [directional]\ndirections = { kind = 'random', count = 12 }\nblock_size = 1\n\
                    train_samples = 1500\ntest_samples = 500\ntraining = { epochs = 6 }";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Images of no meaning in CIFAR-10's format, labels in turn.
    fn images(&self, name: &str, count: usize) -> PathBuf {
        let image = |n: usize| {
            let pixels = (0..3072).map(move |i: usize| ((i * 7 + n * 131).wrapping_mul(2_654_435_761) >> 13) as u8);
            std::iter::once((n % 10) as u8).chain(pixels)
        };
        self.write(name, (0..count).flat_map(image).collect::<Vec<u8>>())
    }
}

fn submit(cluster: &Cluster, spec: &Path) -> String {
    cluster.nadgrid_ok(&["submit", spec.to_str().unwrap()])
}

fn fetch(cluster: &Cluster, id: &str, folder: &Folder) -> PathBuf {
    let out = folder.0.path().join("out");
    cluster.nadgrid_ok(&["fetch", id, "--out", out.to_str().unwrap()]);
    out
}

/// Column `name` of a table of runs, line by line.
fn column(table: &str, name: &str) -> Vec<f64> {
    let place = table.lines().next().unwrap().split(',').position(|column| column == name).unwrap();
    table.lines().skip(1).map(|line| line.split(',').nth(place).unwrap().parse().unwrap()).collect()
}

#[test]
fn training_runs_have_one_digest_whoever_dies() {
    let folder = Folder::new();
    let spec = folder.write("runs.toml", RUNS);
    let mut cluster = Cluster::start(&[]);
    cluster.add_worker(&["--slots", "1"]);
    let expected = cluster.digest(&submit(&cluster, &spec));

    // Two workers, of which one dies in the middle, and then the coordinator.
    let mut cluster = Cluster::start(&["--most-shard-blocks", "2", "--lease-ttl", "1"]);
    cluster.add_worker(&["--slots", "1"]);
    cluster.add_worker(&["--slots", "1"]);
    let id = submit(&cluster, &spec);
    cluster.wait(&id, |status| members_done(status) > 0);
    cluster.workers.remove(0).kill();
    assert!(members_done(&cluster.status(&id)) < 12, "the fault came too late");
    cluster.crash_coordinator();
    assert_eq!(cluster.digest(&id), expected);
    let table = std::fs::read_to_string(fetch(&cluster, &id, &folder).join("directional/lenet.csv")).unwrap();
    assert_eq!(column(&table, "test_accuracy").len(), 12);
}

/// The only run is a long one, and its worker dies after an epoch: the next goes on from there, and its checkpoint outlives
/// the coordinator too.
#[test]
fn a_long_run_goes_on_elsewhere_with_the_same_digest() {
    let folder = Folder::new();
    let spec = RUNS.replace("count = 12", "count = 1").replace("epochs = 6", "epochs = 40");
    let spec = folder.write("long.toml", spec);
    let mut cluster = Cluster::start(&[]);
    cluster.add_worker(&["--slots", "1"]);
    let expected = cluster.digest(&submit(&cluster, &spec));

    let mut cluster = Cluster::start(&["--lease-ttl", "1"]);
    cluster.add_worker(&["--slots", "1", "--checkpoint-interval", "0"]);
    let id = submit(&cluster, &spec);
    cluster.wait(&id, |_| cluster.logs().contains("checkpoint uploaded"));
    cluster.workers.remove(0).kill();
    assert_eq!(members_done(&cluster.status(&id)), 0, "the fault came too late");
    cluster.crash_coordinator();
    cluster.add_worker(&["--slots", "1"]);
    assert_eq!(cluster.digest(&id), expected);
    assert!(cluster.logs().contains("resuming from a checkpoint"), "{}", cluster.logs());
}

/// LogReg learns any direction (SCIENCE.md section 2), here the NADs that the same sweep has just computed: the runs wait for them.
#[test]
fn logistic_regression_is_perfect_along_the_nads_of_its_own_sweep() {
    let folder = Folder::new();
    let spec = "name = 'own'\narchitectures = ['logreg']\n[nads]\nnetworks = 128\n\
                [directional]\ndirections = { kind = 'nads', indices = [0, 60, 126] }\nsigma = 1.0\nblock_size = 1\n\
                train_samples = 4000\ntest_samples = 2000";
    let mut cluster = Cluster::start(&[]);
    let id = submit(&cluster, &folder.write("own.toml", spec));
    assert_eq!(cluster.status(&id)["jobs"][1]["state"], "waiting");
    cluster.add_worker(&[]);
    cluster.digest(&id);
    let out = fetch(&cluster, &id, &folder);
    let table = std::fs::read_to_string(out.join("directional/logreg.csv")).unwrap();
    assert_eq!(column(&table, "test_accuracy"), [100.0; 3]);
    for file in ["nads/logreg/spectrum.json", "nads/logreg/standard_errors.npy", "directional/curve.png"] {
        assert!(out.join(file).is_file(), "{file} is missing");
    }

    // A later sweep takes the NADs from this one, and says so in its record.
    let later = format!(
        "name = 'later'\narchitectures = ['logreg']\n[directional]\n\
         directions = {{ kind = 'nads', sweep = '{id}', indices = [0] }}\nblock_size = 1\n\
         train_samples = 500\ntest_samples = 500\ntraining = {{ epochs = 2 }}"
    );
    let later = submit(&cluster, &folder.write("later.toml", later));
    cluster.digest(&later);
    let out = folder.0.path().join("later");
    cluster.nadgrid_ok(&["fetch", &later, "--out", out.to_str().unwrap()]);
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join("sweep.json")).unwrap()).unwrap();
    let name = record["inputs"][0]["name"].as_str().unwrap();
    assert!(name.contains(&id) && name.ends_with("nads/logreg/nads.npy"), "{name}");
}

/// All three experiments on CIFAR-10 on small files of the same format.
#[test]
fn experiments_on_images_run_from_a_folder() {
    let folder = Folder::new();
    folder.images("cifar/data_batch_1.bin", 60);
    folder.images("cifar/data_batch_2.bin", 40);
    folder.images("cifar/test_batch.bin", 20);
    let nads = published("LeNet_NADs.npy");
    let spec = format!(
        "name = 'images'\narchitectures = ['logreg', 'lenet']\ninput = {{ channels = 3 }}\ncifar10 = {{ path = 'cifar' }}\n\
         [poisoning]\nbasis = {{ path = {nads:?} }}\nindices = [0, 500]\ntraining = {{ epochs = 2 }}\n\
         [flipping]\nbasis = {{ path = {nads:?} }}\ntraining = {{ epochs = 1 }}\n\
         [margins]\nbasis = {{ path = {nads:?} }}\nsubspace = 8\nstride = 500\nimages = 4\ntraining = {{ epochs = 1 }}"
    );
    let mut cluster = Cluster::start(&[]);
    cluster.add_worker(&[]);
    let id = submit(&cluster, &folder.write("images.toml", spec));
    cluster.digest(&id);
    let out = fetch(&cluster, &id, &folder);
    let table = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    assert_eq!(column(&table("poisoning/lenet.csv"), "epochs"), [2.0; 3]);
    assert_eq!(column(&table("flipping/logreg.csv"), "epochs"), [1.0; 2]);
    // (1024 − 8)/500 + 1 blocks.
    assert_eq!(column(&table("margins/lenet_margins.csv"), "first_nad"), [0.0, 500.0, 1000.0]);
    for figure in ["poisoning/curve.png", "flipping/bars.png", "margins/curve.png"] {
        assert!(out.join(figure).is_file(), "{figure} is missing");
    }
}

#[test]
fn bad_files_are_refused_before_anything_runs() {
    let folder = Folder::new();
    let cluster = Cluster::start(&[]);
    let directional = |path: &str, indices: &str| {
        format!(
            "name = 'bad'\narchitectures = ['logreg']\ninput = {{ height = 2, width = 2 }}\n\
             [directional]\ndirections = {{ kind = 'file', path = '{path}', indices = {indices} }}"
        )
    };
    let rows = |name: &str, numbers: &[[f64; 4]]| {
        folder.write(name, npy::to_bytes(&Array2::from_shape_vec((numbers.len(), 4), numbers.concat()).unwrap()));
    };
    rows("good.npy", &[[1.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0]]);
    rows("nan.npy", &[[f64::NAN, 0.0, 0.0, 1.0]]);
    rows("zero.npy", &[[0.0; 4]]);
    folder.write("short.npy", npy::to_bytes(&Array2::<f64>::zeros((2, 3))));
    folder.write("text.npy", "no array");
    let images = "name = 'bad'\narchitectures = ['logreg']\ninput = { channels = 3 }\ncifar10 = { path = 'FOLDER' }\n\
                  [poisoning]\nbasis = { path = 'basis.npy' }\nindices = [0]";
    folder.write("basis.npy", npy::to_bytes(&Array2::<f32>::eye(1024)));
    folder.images("short/data_batch_1.bin", 2);
    folder.write("short/test_batch.bin", vec![0; 3000]);
    folder.write("label/data_batch_1.bin", [vec![10], vec![0; 3072]].concat());
    folder.images("label/test_batch.bin", 1);
    folder.images("half/data_batch_1.bin", 1);
    for (spec, words) in [
        (directional("absent.npy", "[0]"), vec!["absent.npy"]),
        (directional("good.npy", "[0, 2]"), vec!["row 2 is requested", "good.npy"]),
        (directional("nan.npy", "[0]"), vec!["nan.npy", "NaN"]),
        (directional("zero.npy", "[0]"), vec!["zero.npy", "zero"]),
        (directional("short.npy", "[0]"), vec!["short.npy", "2 x 3", "4"]),
        (directional("text.npy", "[0]"), vec!["text.npy", "not a .npy file"]),
        (images.replace("FOLDER", "short"), vec!["test_batch.bin", "3000", "3073"]),
        (images.replace("FOLDER", "label"), vec!["data_batch_1.bin", "record 0", "10"]),
        (images.replace("FOLDER", "half"), vec!["test_batch.bin"]),
        (images.replace("FOLDER", "nowhere"), vec!["nowhere"]),
    ] {
        let path = folder.write("bad.toml", &spec);
        let refused = cluster.nadgrid(&["submit", path.to_str().unwrap()]);
        let said = text(&refused.stderr);
        assert!(!refused.status.success() && said.contains("error: "), "{spec}: {said}");
        for word in words {
            assert!(said.replace(',', "").contains(word), "{spec}: {said:?} lacks {word:?}");
        }
    }
    assert_eq!(cluster.nadgrid_ok(&["list", "--json"]).trim(), "[]");
}

/// NADs of a sweep that was cancelled, or never was, are no basis.
#[test]
fn a_basis_of_a_sweep_without_a_result_is_refused() {
    let folder = Folder::new();
    let cluster = Cluster::start(&[]);
    let cancelled = cluster.submit("logreg.toml", &[]);
    cluster.nadgrid_ok(&["cancel", &cancelled]);
    for (sweep, words) in [(cancelled.as_str(), "was cancelled"), ("nobody", "there is no such sweep")] {
        let spec = format!(
            "name = 'bad'\narchitectures = ['logreg']\n[directional]\n\
             directions = {{ kind = 'nads', sweep = '{sweep}', indices = [0] }}"
        );
        let path = folder.write("bad.toml", spec);
        let refused = cluster.nadgrid(&["submit", path.to_str().unwrap()]);
        let said = text(&refused.stderr);
        assert!(!refused.status.success() && said.contains(words) && said.contains("directional.directions"), "{said}");
    }
}
