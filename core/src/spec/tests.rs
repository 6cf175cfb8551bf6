//! Specs: what is accepted, what is refused in which words, and what jobs and runs they come to.

use super::*;
use crate::ids::JobIndex;

const DEMO: &str = r#"
name = "lenet"
seed = 0
architectures = ["lenet"]

[input]
channels = 1
height = 32
width = 32

[nads]
networks = 2048
estimator = "central-difference"
step = 100.0
"#;

/// What is said of `DEMO` with one key changed.
fn said(key: &str, value: &str) -> String {
    let text = Spec::override_keys(DEMO, &[(key.into(), value.into())]).unwrap();
    Spec::from_toml(&text).unwrap_err().to_string()
}

#[test]
fn the_demo_is_accepted_and_its_text_is_canonical() {
    let spec = Spec::from_toml(DEMO).unwrap();
    assert_eq!(spec.nads.as_ref().unwrap().block_size, 32);
    let again = Spec::from_toml(&spec.to_toml()).unwrap();
    assert_eq!(spec, again);
    let short = Spec::from_toml("name = 'lenet'\narchitectures = ['lenet']\n[nads]\nnetworks = 2048").unwrap();
    assert_eq!(short.digest(), spec.digest());
}

#[test]
fn every_refusal_names_the_field_the_value_and_what_is_accepted() {
    for (key, value, words) in [
        (
            "architectures",
            "['lennet']",
            vec!["architectures[0]", "\"lennet\"", "logreg, lenet", "did you mean \"lenet\""],
        ),
        ("architectures", "['lenet', 'lenet']", vec!["architectures[1]", "at most once"]),
        ("architectures", "[]", vec!["architectures = []", "at least one"]),
        ("nads.netwroks", "5", vec!["nads.netwroks", "unknown field", "did you mean `networks`"]),
        ("nads.networks", "0", vec!["nads.networks = 0", "from 2"]),
        ("nads.networks", "-3", vec!["nads.networks", "-3"]),
        ("nads.networks", "many", vec!["nads.networks", "many"]),
        ("nads.step", "nan", vec!["nads.step = nan", "finite"]),
        ("nads.step", "inf", vec!["nads.step = inf", "finite"]),
        ("nads.step", "0.0", vec!["nads.step = 0", "from 0.000001"]),
        ("nads.block_size", "48", vec!["nads.block_size = 48", "power of two"]),
        ("nads.block_size", "0", vec!["nads.block_size = 0", "power of two"]),
        ("nads.estimator", "forward", vec!["nads.estimator", "forward", "central-difference", "autograd"]),
        ("nads.points", "0", vec!["nads.points = 0", "from 1"]),
        ("precision", "fp64", vec!["precision", "fp64", "bf16"]),
        ("input.height", "0", vec!["input.height = 0", "at least 1"]),
        ("input.height", "100000", vec!["input = 1 x 100000 x 32", "at most 4096"]),
        ("input.height", "8", vec!["input = 1 x 8 x 32", "too small for lenet"]),
        ("name", "a b", vec!["name = \"a b\"", "letters"]),
        ("name", "../x", vec!["name = \"../x\"", "letters"]),
        ("seed", "-1", vec!["seed", "-1"]),
    ] {
        let said = said(key, value);
        for word in words {
            assert!(said.contains(word), "{key} = {value}: {said:?} lacks {word:?}");
        }
    }
}

#[test]
fn everything_wrong_is_told_at_once_and_syntax_has_a_place() {
    let text = DEMO.replace("2048", "1").replace("100.0", "-1.0");
    assert_eq!(Spec::from_toml(&text).unwrap_err().violations.len(), 2);
    let said = Spec::from_toml("name = 'x'\narchitectures = [").unwrap_err().to_string();
    assert!(said.contains("line 2"), "{said}");
    assert!(Spec::from_toml("name = 'x'").unwrap_err().to_string().contains("architectures"));
}

#[test]
fn overrides_reach_any_key() {
    let set = |key: &str, value: &str| Spec::override_keys(DEMO, &[(key.into(), value.into())]);
    assert_eq!(Spec::from_toml(&set("name", "other").unwrap()).unwrap().name, "other");
    assert_eq!(Spec::from_toml(&set("nads.networks", "64").unwrap()).unwrap().nads.unwrap().networks, 64);
    assert!(set("name.deep", "1").unwrap_err().to_string().contains("no table"));
    let injected = set("name", "1\nseed = 4").unwrap();
    assert!(Spec::from_toml(&injected).is_err());
}

const PAPER: &str = r#"
name = "paper"
seed = 3
architectures = ["lenet", "logreg"]
[nads]
networks = 64
[directional]
directions = { kind = "nads", indices = [0, 10, { start = 14, end = 23, stride = 4 }] }
sigma = 1.0
seeds = 3
training = { epochs = 2 }
"#;

const IMAGES: &str = r#"
name = "images"
architectures = ["lenet"]
input = { channels = 3 }
cifar10 = { path = "cifar" }
[poisoning]
basis = { path = "nads.npy" }
indices = [0, 10]
[flipping]
basis = { sweep = "abc" }
[margins]
basis = { path = "nads.npy" }
images = 7
"#;

#[test]
fn experiments_have_the_publications_values_as_defaults() {
    let spec = Spec::from_toml(PAPER).unwrap();
    let directional = spec.directional.clone().unwrap();
    assert_eq!((directional.offset, directional.train_samples, directional.test_samples), (1.0, 10_000, 10_000));
    let training = directional.training;
    assert_eq!((training.epochs, training.batch_size, training.learning_rate), (2, 128, 0.5));
    assert_eq!((training.momentum, training.weight_decay, training.gradient_clip), (0.0, 0.0, 0.5));
    assert_eq!(Spec::from_toml(&spec.to_toml()).unwrap(), spec);
    let images = Spec::from_toml(IMAGES).unwrap();
    assert_eq!(Spec::from_toml(&images.to_toml()).unwrap(), images);
    let recipe = images.recipe(Experiment::Poisoning).unwrap();
    assert_eq!((recipe.epochs, recipe.learning_rate, recipe.momentum, recipe.weight_decay), (50, 0.21, 0.9, 5e-4));
}

#[test]
fn jobs_are_experiments_times_architectures_and_wait_for_their_nads() {
    let jobs = Spec::from_toml(PAPER).unwrap().jobs(&Inputs::new());
    let names: Vec<_> = jobs.iter().map(JobShape::name).collect();
    assert_eq!(names, ["nads/lenet", "nads/logreg", "directional/lenet", "directional/logreg"]);
    assert_eq!(
        (jobs[2].basis.clone(), jobs[3].basis.clone()),
        (BasisSource::Job(JobIndex(0)), BasisSource::Job(JobIndex(1)))
    );
    // Five directions, three seeds.
    // Two epochs of 10,000 samples in batches of 128.
    assert_eq!((jobs[2].grid.networks, jobs[2].payload), (15, Payload::Runs { extra: 0, epochs: 2, steps: 2 * 79 }));
    assert_eq!(jobs[2].forward_passes, 2 * 10_000 + 10_000 + 10_000);
}

#[test]
fn runs_are_variants_by_seeds() {
    let spec = Spec::from_toml(PAPER).unwrap();
    let run = |run| spec.run(Experiment::Directional, "lenet", run).unwrap();
    assert_eq!((run(0).0, run(0).1.run), (Variant::Direction(Direction::Nad(0)), 0));
    assert_eq!((run(11).0.to_string(), run(11).1.run), ("nad 18".into(), 2));
    assert!(spec.run(Experiment::Directional, "lenet", 15).is_none());
    let images = Spec::from_toml(IMAGES).unwrap();
    let labels = |experiment| {
        let runs = (0..9).map_while(|run| images.run(experiment, "lenet", run));
        runs.map(|(variant, _)| variant.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(labels(Experiment::Poisoning), ["clean", "nad 0", "nad 10"]);
    assert_eq!(labels(Experiment::Flipping), ["original", "flipped"]);
    assert_eq!(labels(Experiment::Margins), ["trained"]);
    // (1024 − 32)/32 + 1 blocks, 7 images each.
    assert!(matches!(images.jobs(&Inputs::new())[2].payload, Payload::Runs { extra, .. } if extra == 32 * 7));
}

#[test]
fn the_published_grid_is_the_default_of_dft() {
    let text = PAPER
        .replace("{ kind = \"nads\", indices = [0, 10, { start = 14, end = 23, stride = 4 }] }", "{ kind = \"dft\" }");
    let spec = Spec::from_toml(&text).unwrap();
    assert_eq!(spec.jobs(&Inputs::new())[2].grid.networks, 144 * 3);
    assert_eq!(spec.run(Experiment::Directional, "lenet", 0).unwrap().0.to_string(), "cos -16 -16");
}

/// A slot has so much memory, and no more.
#[test]
fn samples_that_no_slot_can_hold_are_refused() {
    let of = |samples: &str| {
        let large = [("input".into(), "{ height = 64, width = 64 }".into())];
        let text = Spec::override_keys(PAPER, &large).unwrap();
        Spec::override_keys(&text, &[("directional.train_samples".into(), samples.into())]).unwrap()
    };
    Spec::from_toml(&of("252144")).unwrap();
    let said = Spec::from_toml(&of("1000000")).unwrap_err().to_string();
    let accepted = "directional.train_samples = 1000000: with the test samples at most 262,144 of 4096 pixels";
    assert!(said.contains(accepted), "{said}");
}

#[test]
fn margins_that_no_table_can_hold_are_refused() {
    let dense = Spec::override_keys(IMAGES, &[("margins.stride".into(), "1".into())]).unwrap();
    let of = |images: &str| Spec::override_keys(&dense, &[("margins.images".into(), images.into())]).unwrap();
    Spec::from_toml(&of("33790")).unwrap();
    let said = Spec::from_toml(&of("33791")).unwrap_err().to_string();
    assert!(said.contains("margins.images = 33791: with 993 subspaces at most 33,790"), "{said}");
}

#[test]
fn a_batch_whose_maps_no_slot_can_hold_is_refused() {
    let of = |batch: &str| {
        let text = IMAGES.replace("\"lenet\"", "\"lenet\", \"resnet18\"");
        Spec::override_keys(&text, &[("poisoning.training.batch_size".into(), batch.into())]).unwrap()
    };
    Spec::from_toml(&of("128")).unwrap();
    let said = Spec::from_toml(&of("50000")).unwrap_err().to_string();
    assert!(said.contains("poisoning.training.batch_size = 50000") && said.contains("for resnet18"), "{said}");
    assert!(!said.contains("lenet"), "{said}");
}

#[test]
fn what_has_to_be_uploaded_is_named() {
    let uploads = Spec::from_toml(IMAGES).unwrap().uploads();
    let names: Vec<_> = uploads.iter().map(Upload::name).collect();
    assert_eq!(names, ["nads.npy", "sweep abc/nads/lenet/nads.npy", "nads.npy", "cifar"]);
    let directions =
        Upload::Directions { field: "poisoning.basis", path: "nads.npy".into(), dimension: 1024, largest: Some(11) };
    assert_eq!(uploads[0], directions);
    assert!(Spec::from_toml(PAPER).unwrap().uploads().is_empty());
}

#[test]
fn what_an_experiment_cannot_do_is_refused() {
    let said = |text: &str, key: &str, value: &str| {
        let text = Spec::override_keys(text, &[(key.into(), value.into())]).unwrap();
        Spec::from_toml(&text).unwrap_err().to_string()
    };
    for (text, key, value, words) in [
        (PAPER, "directional.directions", "{ kind = 'nads', indices = [63] }", vec!["indices = 63", "below 63"]),
        (PAPER, "directional.directions", "{ kind = 'nads', sweep = 'x' }", vec!["directions.indices", "required"]),
        (PAPER, "directional.directions", "{ kind = 'file', path = 'x', indices = [] }", vec!["at least one index"]),
        (PAPER, "directional.directions", "{ kind = 'pixels', indices = [1024] }", vec!["1024", "below 1024"]),
        (PAPER, "directional.directions", "{ kind = 'random', count = 0 }", vec!["count = 0", "from 1"]),
        (PAPER, "directional.directions", "{ kind = 'wavelets' }", vec!["wavelets", "dft"]),
        (
            PAPER,
            "directional.directions",
            "{ kind = 'dft', wave = 'sine', frequencies = [[16, 0]] }",
            vec!["[16, 0]", "sine is zero"],
        ),
        (PAPER, "directional.directions", "{ kind = 'dft', wave = 'sine' }", vec!["name the frequencies"]),
        (PAPER, "directional.seeds", "0", vec!["directional.seeds = 0", "from 1"]),
        (PAPER, "directional.sigma", "nan", vec!["directional.sigma = nan", "finite"]),
        (PAPER, "directional.training.momentum", "1.0", vec!["directional.training.momentum = 1", "below 1"]),
        (PAPER, "directional.training.epoch", "1", vec!["directional.training", "epoch", "did you mean `epochs`"]),
        (IMAGES, "input.channels", "1", vec!["input = 1 x 32 x 32", "3 x 32 x 32"]),
        (IMAGES, "poisoning.indices", "[1023]", vec!["poisoning.indices = 1023", "below 1023"]),
        (IMAGES, "poisoning.basis", "{}", vec!["poisoning.basis", "[nads]"]),
        (IMAGES, "margins.subspace", "2000", vec!["margins.subspace = 2000", "1,024"]),
        (IMAGES, "flipping.basis", "{ path = 'a', sweep = 'b' }", vec!["flipping.basis", "one of path and sweep"]),
    ] {
        let said = said(text, key, value);
        for word in words {
            assert!(said.contains(word), "{key} = {value}: {said:?} lacks {word:?}");
        }
    }
    let none = Spec::from_toml("name = 'x'\narchitectures = ['lenet']").unwrap_err().to_string();
    assert!(none.contains("at least one experiment") && none.contains("[nads]"), "{none}");
}

/// A spec of nearly a megabyte in which everything is wrong: what is said of it is short, and it does not take long, since nothing
/// is compared with everything else.
#[test]
fn a_refusal_is_short_whatever_was_sent() {
    let names = (0..25_000).map(|n| format!("'a{n}'")).collect::<Vec<_>>().join(",");
    let pairs = vec!["[9999999,9]"; 20_000].join(",");
    let many = format!("name = 'x'\narchitectures = [{names}]\n[nads]\nnetworks = 0");
    let wrong = format!(
        "name = 'x'\narchitectures = ['lenet']\n[directional]\ndirections = {{ kind = 'dft', frequencies = [{pairs}] }}"
    );
    let long =
        format!("name = '{}'\narchitectures = ['{}']\n[nads]\nnetworks = 8", "n".repeat(100_000), "a".repeat(100_000));
    for text in [&many, &wrong, &long] {
        assert!(text.len() < MAX_SPEC_BYTES);
        let error = Spec::from_toml(text).unwrap_err();
        let said = error.to_string();
        assert!(error.violations.len() <= 21 && said.len() < 20_000, "{} violations, {said}", error.violations.len());
    }
    assert!(Spec::from_toml(&many).unwrap_err().to_string().contains("architectures = 25000: at most"));
}
