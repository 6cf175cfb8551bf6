//! Members in training beside each other: each ends where it ends alone.

use super::*;
use crate::population::train::train_as;
use nadgrid_core::training::{Recipe, TrainingOutcome};
use tch::Kind;

const RECIPE: Recipe =
    Recipe { epochs: 1, batch_size: 1, learning_rate: 0.1, momentum: 0.9, weight_decay: 5e-4, gradient_clip: 0.5 };

/// A small network of every kind of layer that has a state.
pub(super) fn mixture() -> Network {
    use architecture::{Conv2d, Layer};
    let norm = |name: &str| Layer::BatchNorm2d { name: name.into() };
    let layers = vec![
        Layer::Conv2d(Conv2d::new("a", 6, 3).padded(1).no_bias()),
        norm("b"),
        Layer::Relu,
        Layer::MaxPool2d { size: 2 },
        Layer::Dropout { probability: 0.2 },
        Layer::Conv2d(Conv2d::new("c", 5, 3).stride(2)),
        norm("d"),
        Layer::Relu,
        Layer::Flatten,
        Layer::Linear { name: "e".into(), features: 7 },
        Layer::Dropout { probability: 0.5 },
        Layer::Linear { name: "f".into(), features: 2 },
    ];
    Network::chain(layers, Shape { channels: 2, height: 12, width: 12 }).unwrap()
}

fn trained(network: &Network, recipe: &Recipe, keys: &[RunKey], data: &[Dataset], kind: Kind) -> Trained {
    let data: Vec<&Dataset> = data.iter().collect();
    let device = here();
    let precision = Precision::Fp32;
    let samples = Samples::of(network, &data, kind, device).unwrap();
    let training = PopulationTraining { network, device, precision, recipe, keys, samples: &samples };
    train_as(&training, kind, None, &mut || true).unwrap().unwrap()
}

/// Eight members, then two of them alone, in float64. Scales differ, so that some gradients are clipped and some not. Weights
/// are of size 1 and move by 0.1: 1e-9 leaves room for the rounding of 1e-16 that batch norms over few numbers enlarge.
fn eight_are_each_alone(name: &str, network: &Network, recipe: &Recipe, samples: usize) {
    device::be_one_thread();
    let keys = keys(name, 8);
    let data: Vec<Dataset> =
        (0..8).map(|run| noise(network, samples, [0.1, 1.0, 3.0][run as usize % 3], run)).collect();
    let together = trained(network, recipe, &keys, &data, Kind::Double);
    let mut start = vec![0.0; network.parameter_count()];
    for member in [0, 5] {
        let alone = trained(network, recipe, &keys[member..=member], &data[member..=member], Kind::Double);
        let got = parameters_of(&together, member);
        let want = parameters_of(&alone, 0);
        network.draw(keys[member].stream("weights"), &mut start);
        let moved = farthest(&got, &wide(&start));
        println!("{name} {member}: apart {:.1e}, moved {moved:.1e}", farthest(&got, &want));
        assert!(moved > 1e-4, "{name}: it is not trained");
        assert_close(&got, &want, 1e-9, name);
        // Running statistics have come along too: the networks classify alike.
        let inputs = &data[member].inputs;
        let logits = |trained: &Trained, run| {
            use nadgrid_core::training::Classifier as _;
            wide(&trained.member(run).unwrap().logits(inputs).unwrap())
        };
        let got = logits(&together, member);
        let want = logits(&alone, 0);
        let largest = want.iter().fold(1.0f64, |a, w| a.max(w.abs()));
        assert_close(&got, &want, 1e-6 * largest, name);
    }
}

#[test]
fn eight_small_networks_are_each_alone() {
    let recipe = Recipe { epochs: 3, batch_size: 4, ..RECIPE };
    eight_are_each_alone("logreg", &network("logreg", 1, 2), &recipe, 10);
    eight_are_each_alone("lenet", &network("lenet", 3, 10), &recipe, 10);
    eight_are_each_alone("mixture", &mixture(), &recipe, 10);
    let small = Shape { channels: 1, height: 8, width: 8 };
    let deep_linear = architecture::find("deep_linear").unwrap().network(small, 2).unwrap();
    eight_are_each_alone("deep_linear", &deep_linear, &recipe, 10);
}

/// Three steps of one sample, the last of rate 0. One test, so that their memory is not needed at once.
#[test]
fn eight_large_networks_are_each_alone() {
    for name in ["vgg11", "vgg11_bn", "resnet18", "densenet121"] {
        eight_are_each_alone(name, &network(name, 1, 2), &RECIPE, 3);
    }
}

/// One member's data holds one number that is none: it is bad from the step on that meets it, and the others' bits are the same
/// as beside a sound member.
#[test]
fn a_member_that_diverges_disturbs_nobody() {
    device::be_one_thread();
    let recipe = Recipe { epochs: 3, batch_size: 4, ..RECIPE };
    for (name, network) in [("lenet", network("lenet", 1, 2)), ("mixture", mixture())] {
        let keys = keys(name, 4);
        let sound: Vec<Dataset> = (0..4).map(|run| noise(&network, 10, 1.0, run)).collect();
        let mut spoilt = sound.clone();
        let dimension = network.input().len();
        spoilt[2].inputs[7 * dimension + 3] = f32::NAN;
        let beside_sound = trained(&network, &recipe, &keys, &sound, Kind::Float);
        let beside_spoilt = trained(&network, &recipe, &keys, &spoilt, Kind::Float);
        for member in [0, 1, 3] {
            assert_eq!(parameters_of(&beside_sound, member), parameters_of(&beside_spoilt, member), "{name} {member}");
        }
        assert_eq!(beside_sound.endings(), [TrainingOutcome::Finished; 4]);
        let met = keys[2].order(0, 10).iter().position(|&sample| sample == 7).unwrap() as u64 / 4;
        let diverged = TrainingOutcome::Diverged { epochs: 0, step: met + 1 };
        assert_eq!(
            beside_spoilt.endings(),
            [TrainingOutcome::Finished, TrainingOutcome::Finished, diverged, TrainingOutcome::Finished]
        );
        let data: Vec<&Dataset> = sound.iter().collect();
        let scores = beside_spoilt.evaluate(&samples(&network, &data)).unwrap();
        assert!(scores[2].0.is_nan() && scores[2].1.is_nan() && scores[3].1.is_finite(), "{scores:?}");
    }
}
