//! Whole runs: what they start from, learn and leave, how they stop, and how many fit.

use super::*;
use nadgrid_core::checkpoint::{Checkpoint, TrainingShape, TrainingState};
use nadgrid_core::ids::Digest;
use nadgrid_core::training::{Classifier, Observer, Recipe, TrainingOutcome};
use std::borrow::Cow;

const RECIPE: Recipe =
    Recipe { epochs: 4, batch_size: 8, learning_rate: 0.5, momentum: 0.0, weight_decay: 0.0, gradient_clip: 0.5 };

fn training<'a>(
    network: &'a Network,
    recipe: &'a Recipe,
    keys: &'a [RunKey],
    samples: &'a Samples,
) -> PopulationTraining<'a> {
    PopulationTraining { network, device: here(), precision: Precision::Fp32, recipe, keys, samples }
}

#[test]
fn runs_start_from_the_weights_of_their_keys() {
    let network = network("lenet", 1, 2);
    let keys = keys("lenet", 3);
    let data = noise(&network, 4, 1.0, 0);
    let recipe = Recipe { learning_rate: 0.0, epochs: 1, ..RECIPE };
    let trained = train(&training(&network, &recipe, &keys, &samples(&network, &[&data; 3])), None, &mut || true)
        .unwrap()
        .unwrap();
    let mut drawn = vec![0.0; network.parameter_count()];
    for (run, key) in keys.iter().enumerate() {
        network.draw(key.stream("weights"), &mut drawn);
        assert_eq!(parameters_of(&trained, run), wide(&drawn));
    }
}

/// Classes that a direction separates are learnt, and what `evaluate` says is what each member's logits say.
#[test]
fn what_is_learnt_is_told_for_all_and_for_each() {
    device::be_one_thread();
    let network = network("lenet", 1, 2);
    let keys = keys("lenet", 2);
    let separated = |index| {
        let mut data = noise(&network, 100, 0.5, index);
        for (input, label) in data.inputs.chunks_exact_mut(1024).zip(&data.labels) {
            input.iter_mut().for_each(|x| *x += if *label == 0 { 1.0 } else { -1.0 });
        }
        data
    };
    let a = separated(0);
    let b = separated(1);
    let trained =
        train(&training(&network, &RECIPE, &keys, &samples(&network, &[&a, &b])), None, &mut || true).unwrap().unwrap();
    assert_eq!(trained.endings(), [TrainingOutcome::Finished; 2]);
    let scores = trained.evaluate(&samples(&network, &[&b, &a])).unwrap();
    for (run, data) in [&b, &a].into_iter().enumerate() {
        let logits = wide(&trained.member(run).unwrap().logits(&data.inputs).unwrap());
        let mut right = 0.0;
        let mut loss = 0.0;
        for (logits, &label) in logits.chunks(2).zip(&data.labels) {
            let own = logits[usize::from(label)];
            let other = logits[1 - usize::from(label)];
            right += f64::from(own > other);
            loss += (other - own).exp().ln_1p();
        }
        assert_eq!(scores[run].0, right, "{scores:?}");
        assert!(scores[run].0 > 90.0, "{scores:?}");
        // The library takes the logarithms in float32.
        assert!((scores[run].1 - loss / 100.0).abs() < 1e-6, "{scores:?} {loss}");
    }
    assert!(trained.member(2).is_err() && trained.evaluate(&samples(&network, &[&a])).is_err());
}

/// This LeNet has 61,026 parameters, which is even and no multiple of four: every second row of them begins 8 bytes after a vector
/// of 16.
#[test]
fn a_member_s_parameters_begin_where_vectors_do() {
    let network = network("lenet", 1, 2);
    let keys = keys("lenet", 2);
    let data = noise(&network, 8, 1.0, 0);
    let recipe = Recipe { epochs: 1, ..RECIPE };
    let trained = train(&training(&network, &recipe, &keys, &samples(&network, &[&data; 2])), None, &mut || true)
        .unwrap()
        .unwrap();
    let row = trained.run.parameters.narrow(0, 1, 1);
    let own = trained::parameters_of(&trained.run.parameters, 1).unwrap();
    let past = |tensor: &Tensor| tensor.data_ptr() as usize % 16;
    assert_eq!((past(&row) > 0, past(&own), row == own), (true, 0, true));
}

/// Σ c_k · logit_k of logistic regression has the gradient Σ c_k · w_k, at any input.
#[test]
fn input_gradients_are_those_of_the_cotangents() {
    let network = network("logreg", 1, 2);
    let data = noise(&network, 20, 1.0, 0);
    let keys = keys("logreg", 2);
    let samples = samples(&network, &[&data; 2]);
    let trained = train(&training(&network, &RECIPE, &keys, &samples), None, &mut || true).unwrap().unwrap();
    let cotangents: Vec<f32> = (0..40).map(|i| (i as f32).sin()).collect();
    for run in 0..2 {
        let weights = parameters_of(&trained, run);
        // More inputs than are evaluated at once.
        let gradients = trained.member(run).unwrap().input_gradients(&data.inputs, &cotangents).unwrap();
        for (gradient, c) in gradients.chunks_exact(1024).zip(cotangents.chunks_exact(2)) {
            let expected: Vec<f64> =
                (0..1024).map(|i| f64::from(c[0]) * weights[i] + f64::from(c[1]) * weights[1024 + i]).collect();
            assert_close(&wide(gradient), &expected, 1e-7, "gradient");
        }
        let mut member = trained.member(run).unwrap();
        assert!(member.input_gradients(&data.inputs, &cotangents[1..]).is_err() && member.logits(&[0.0; 5]).is_err());
    }
}

/// Several sets of cotangents share a forward pass: to the bit what each gives by itself, also over several batches.
#[test]
fn gradients_of_several_cotangents_are_those_of_each() {
    device::be_one_thread();
    let network = network("lenet", 3, 10);
    let data = noise(&network, 20, 1.0, 0);
    let keys = keys("lenet", 1);
    let samples = samples(&network, &[&data]);
    let trained = train(&training(&network, &RECIPE, &keys, &samples), None, &mut || true).unwrap().unwrap();
    let set = |set: usize| (0..200).map(|i| ((i + 7 * set) as f32).sin()).collect::<Vec<f32>>();
    let sets: Vec<Vec<f32>> = (0..3).map(set).collect();
    let mut member = trained.member(0).unwrap();
    let mut together = vec![vec![f32::NAN; data.inputs.len()]; sets.len()];
    let mut order = Vec::new();
    let mut take = |set: usize, first: usize, gradients: &[f32]| {
        order.push((first, set));
        together[set][first * data.dimension..][..gradients.len()].copy_from_slice(gradients);
    };
    member.each_input_gradients(&data.inputs, &sets, &mut take).unwrap();
    // Twenty inputs by batches of eight.
    assert_eq!(order, [0, 8, 16].map(|first| [(first, 0), (first, 1), (first, 2)]).concat());
    for (together, set) in together.iter().zip(&sets) {
        let alone = member.input_gradients(&data.inputs, set).unwrap();
        assert!(together.iter().map(|x| x.to_bits()).eq(alone.iter().map(|x| x.to_bits())));
    }
    assert!(member.each_input_gradients(&data.inputs, &[vec![0.0; 200], vec![0.0; 199]], &mut |_, _, _| {}).is_err());
}

#[test]
fn a_run_stops_after_the_batch_in_which_it_is_told_to() {
    let network = network("logreg", 1, 2);
    let data = noise(&network, 20, 1.0, 0);
    let mut batches = 0;
    let keys = keys("logreg", 2);
    let samples = samples(&network, &[&data; 2]);
    let stopped = train(&training(&network, &RECIPE, &keys, &samples), None, &mut || {
        batches += 1;
        batches < 5
    });
    assert!(stopped.unwrap().is_none() && batches == 5);
}

/// Takes every state, through bytes as another worker would read them.
struct States {
    shape: TrainingShape,
    taken: Vec<TrainingState<'static>>,
}

impl Observer for States {
    fn goes_on(&mut self) -> bool {
        true
    }

    fn wants_state(&mut self) -> bool {
        true
    }

    fn take_state(&mut self, state: TrainingState<'_>) {
        let of = Digest::of(b"block");
        let bytes = Checkpoint { of, seconds: 0.0, outcomes: Cow::Borrowed(&[]), training: Some(state) }.to_bytes(0);
        let read = Checkpoint::from_bytes(&bytes, of, 0, |_, _| Some(self.shape)).unwrap();
        self.taken.extend(read.training);
    }
}

/// Dropout, batch norm, with momentum and without; and a member that has diverged stays so.
#[test]
fn a_population_goes_on_from_every_epoch_with_the_same_bits() {
    device::be_one_thread();
    for (name, network, momentum) in [
        ("lenet", network("lenet", 1, 2), 0.0),
        ("mixture", together::mixture(), 0.9),
        ("vgg11", network("vgg11", 1, 2), 0.0),
        ("resnet18", network("resnet18", 1, 2), 0.9),
    ] {
        let recipe = Recipe { momentum, epochs: 2, batch_size: 4, ..RECIPE };
        let keys = keys(name, 3);
        let mut data: Vec<Dataset> = (0..3).map(|run| noise(&network, 5, 1.0, run)).collect();
        data[1].inputs[5] = f32::NAN;
        let data: Vec<&Dataset> = data.iter().collect();
        let own = samples(&network, &data);
        let fewer = samples(&network, &data[..2]);
        let training = training(&network, &recipe, &keys, &own);
        let mut states = States { shape: training.shape(), taken: Vec::new() };
        let whole = train(&training, None, &mut states).unwrap().unwrap();
        assert!(matches!(
            whole.endings()[..],
            [TrainingOutcome::Finished, TrainingOutcome::Diverged { epochs: 0, .. }, TrainingOutcome::Finished]
        ));
        let scores = |trained: &Trained| {
            let scores = trained.evaluate(&own).unwrap();
            scores.into_iter().flat_map(|(a, b)| [a.to_bits(), b.to_bits()]).collect::<Vec<_>>()
        };
        assert_eq!(states.taken.len(), 2, "{name}");
        for state in &states.taken {
            let rest = train(&training, Some(state), &mut || true).unwrap().unwrap();
            assert_eq!(rest.endings(), whole.endings(), "{name} from epoch {}", state.epochs);
            let bits = |trained: &Trained| {
                let numbers: Vec<f32> = tensor::numbers(&trained.run.parameters).unwrap();
                numbers.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            assert!(bits(&rest) == bits(&whole), "{name} from epoch {}", state.epochs);
            // Running statistics have come along.
            assert_eq!(scores(&rest), scores(&whole), "{name} from epoch {}", state.epochs);
        }
        let fewer = PopulationTraining { keys: &keys[..2], samples: &fewer, ..training };
        let refused = train(&fewer, Some(&states.taken[0]), &mut || true).err().unwrap().to_string();
        assert!(refused.starts_with("parameters of a state: "), "{refused}");
    }
}

/// When all have diverged, no further epoch is computed.
#[test]
fn nothing_is_trained_that_cannot_end_well() {
    let network = network("logreg", 1, 2);
    let mut data = noise(&network, 20, 1.0, 0);
    data.inputs.fill(f32::INFINITY);
    let mut batches = 0;
    let keys = keys("logreg", 2);
    let samples = samples(&network, &[&data; 2]);
    let trained = train(&training(&network, &RECIPE, &keys, &samples), None, &mut || {
        batches += 1;
        true
    });
    assert_eq!(trained.unwrap().unwrap().endings(), [TrainingOutcome::Diverged { epochs: 0, step: 1 }; 2]);
    assert_eq!(batches, 3);
}

#[test]
fn data_that_do_not_fit_are_named() {
    let network = network("logreg", 1, 2);
    let keys = keys("logreg", 2);
    let data = noise(&network, 8, 1.0, 0);
    let one = samples(&network, &[&data]);
    let error = train(&training(&network, &RECIPE, &keys, &one), None, &mut || true).err().unwrap();
    assert_eq!(error.to_string(), "datasets: 1 numbers, 2 are needed");
    let refused =
        |data: &[&Dataset]| Samples::of(&network, data, tch::Kind::Float, Device::Cpu).err().unwrap().to_string();
    let fewer = noise(&network, 7, 1.0, 0);
    assert_eq!(refused(&[&data, &fewer]), "labels of a member: 7 numbers, 8 are needed");
    let mut label = data.clone();
    label.labels[3] = 2;
    assert_eq!(refused(&[&data, &label]), "member 1: label 2, the network has 2 classes");
    let empty = Dataset { dimension: 1024, ..Dataset::default() };
    assert_eq!(refused(&[&empty, &empty]), "labels of a member: 0 numbers, 1 are needed");
}

/// Five runs where two fit: populations of 2, 2 and 1. Sums of float32 may come in another order.
#[test]
fn a_population_that_does_not_fit_is_narrowed() {
    device::be_one_thread();
    let network = network("lenet", 1, 2);
    let keys = keys("lenet", 5);
    let data = noise(&network, 12, 1.0, 0);
    let all = samples(&network, &[&data; 5]);
    let whole = training(&network, &RECIPE, &keys, &all);
    let each = memory::bytes_per_member(Device::Cpu, &network, 8, 12);
    let of = |budget| width(Device::Cpu, &network, &RECIPE, 12, 5, budget);
    assert_eq!((of(5 * each).unwrap(), of(3 * each).unwrap()), (5, 2));
    let together = train(&whole, None, &mut || true).unwrap().unwrap();
    let scores = together.evaluate(&all).unwrap();
    for (first, count) in [(0, 2), (2, 2), (4, 1)] {
        let keys = &keys[first..first + count];
        let own = samples(&network, &vec![&data; count]);
        let narrow = train(&PopulationTraining { keys, samples: &own, ..whole }, None, &mut || true).unwrap().unwrap();
        assert_eq!(narrow.endings(), &together.endings()[first..first + count]);
        for (run, (_, loss)) in narrow.evaluate(&own).unwrap().into_iter().enumerate() {
            assert_close(&parameters_of(&together, first + run), &parameters_of(&narrow, run), 1e-5, "weights");
            assert_close(&[scores[first + run].1], &[loss], 1e-5, "losses");
        }
    }
    let none = of(each - 1).err().unwrap();
    assert!(none.to_string().starts_with("training runs: one member needs "), "{none}");
    assert!(matches!(none, PopulationError::Memory { .. }));
}

#[test]
fn widths_are_all_or_the_largest_power_of_two() {
    let width = |members, each, budget| memory::narrowed("testing", members, each, budget).ok();
    assert_eq!(width(6, 10, 60), Some(6));
    assert_eq!(width(6, 10, 59), Some(4));
    assert_eq!(width(64, 10, 79), Some(4));
    assert_eq!(width(3, 10, 10), Some(1));
    assert_eq!(width(3, 10, 9), None);
    let lenet = network("lenet", 1, 2);
    assert!(
        memory::bytes_per_member(Device::Cpu, &lenet, 128, 10_000)
            > memory::bytes_per_member(Device::Cpu, &lenet, 64, 10_000)
    );
    // What a GPU is for: ResNet18 at batch 128 on CIFAR-10.
    let resnet = memory::bytes_per_member(Device::Cpu, &network("resnet18", 3, 10), 128, 5_000);
    assert!((1 << 30..8 << 30).contains(&resnet), "{resnet}");
}
