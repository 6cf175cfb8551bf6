//! The trainer against definitions: an f64 oracle and its central differences, scalar descent, sums over samples, streams.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/oracle64.rs"]
mod oracle64;
mod support;

use nadgrid_core::architecture::{Builder, Conv2d, Layer, Network, Padding, Shape};
use nadgrid_core::checkpoint::{Checkpoint, TrainingShape, TrainingState};
use nadgrid_core::dataset::Dataset;
use nadgrid_core::ids::Digest;
use nadgrid_core::training::{Classifier, Observer, Recipe, RunKey, TrainingOutcome};
use nadgrid_kernels::{InstructionSet, Trainer};
use oracle64::{Oracle, derivatives};
use std::borrow::Cow;
use support::{bits, network, normal, parameters};

const RECIPE: Recipe =
    Recipe { epochs: 3, batch_size: 16, learning_rate: 0.1, momentum: 0.0, weight_decay: 0.0, gradient_clip: 0.5 };

fn key() -> RunKey {
    let architecture = "odd".into();
    let variant = "test".into();
    RunKey { seed: 5, experiment: "directional", architecture, variant, run: 1 }
}

fn data(dimension: usize, samples: usize, classes: usize) -> Dataset {
    let labels = (0..samples).map(|sample| (sample * 7 % classes) as u8).collect();
    Dataset { dimension, inputs: normal(11, samples * dimension), labels }
}

fn wide(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().map(|&x| f64::from(x)).collect()
}

fn batch_norm(name: &str) -> Layer {
    Layer::BatchNorm2d { name: name.into() }
}

fn linear(features: usize) -> Layer {
    Layer::Linear { name: "fc".into(), features }
}

/// Small networks that between them have every layer, in odd sizes.
fn networks() -> Vec<(&'static str, Network)> {
    let conv = |channels, kernel| Conv2d::new(format!("conv{channels}"), channels, kernel);
    let circular = Conv2d { padding: Padding::Circular, stride: 2, ..conv(3, 4) };
    let dropout = Layer::Dropout { probability: 0.4 };
    let chain = |layers, channels, height, width| Network::chain(layers, Shape { channels, height, width }).unwrap();
    vec![
        (
            "plain",
            chain(
                vec![
                    Layer::Conv2d(conv(5, 3)),
                    Layer::Relu,
                    Layer::MaxPool2d { size: 2 },
                    Layer::Conv2d(conv(9, 2)),
                    Layer::Relu,
                    Layer::Flatten,
                    linear(3),
                ],
                1,
                9,
                8,
            ),
        ),
        (
            "padded, strided, normalised",
            chain(
                vec![
                    Layer::Conv2d(conv(7, 3).padded(1).stride(2).no_bias()),
                    batch_norm("a"),
                    Layer::Relu,
                    Layer::Conv2d(conv(4, 5).padded(2)),
                    batch_norm("b"),
                    Layer::AvgPool2d { size: 3 },
                    Layer::Flatten,
                    linear(10),
                ],
                2,
                13,
                12,
            ),
        ),
        (
            "circular, one by one",
            chain(
                vec![
                    Layer::Conv2d(circular),
                    Layer::Conv2d(conv(2, 1)),
                    Layer::Relu,
                    Layer::Conv2d(conv(6, 1).stride(2)),
                    Layer::Conv2d(conv(1, 1).padded(1).stride(3)),
                    Layer::Flatten,
                    dropout,
                    linear(2),
                ],
                3,
                6,
                7,
            ),
        ),
        (
            "relu first",
            chain(
                vec![
                    Layer::Relu,
                    Layer::MaxPool2d { size: 2 },
                    Layer::Conv2d(conv(3, 3).stride(3)),
                    Layer::Flatten,
                    linear(4),
                ],
                2,
                10,
                11,
            ),
        ),
        ("joined", Network::build(Shape { channels: 2, height: 8, width: 9 }, joins).unwrap()),
    ]
}

/// Residual blocks and concatenations; maps with several readers, ReLUs that may not work in place.
fn joins(net: &mut Builder) {
    net.conv(Conv2d::new("stem", 4, 3).padded(1).no_bias());
    let stem = net.here();
    net.relu();
    let open = net.here();
    net.conv(Conv2d::new("a", 4, 3).padded(1)).batch_norm("an").add(stem).relu().relu();
    net.conv(Conv2d::new("b", 3, 1)).concat(open).avg_pool(2);
    let pooled = net.here();
    net.conv(Conv2d::new("c", 7, 1).no_bias()).batch_norm("cn").relu().add(pooled).add(pooled).max_pool(2);
    net.flatten().linear("f", 5).relu().linear("g", 3);
}

fn oracle<'a>(network: &'a Network, parameters: &[f32]) -> Oracle<'a> {
    Oracle { network, parameters: wide(parameters), running: None }
}

/// Random parameters, batch norms' too.
fn drawn(network: &Network) -> Vec<f32> {
    let mut drawn = parameters(network, 3);
    let noise = normal(4, drawn.len());
    for parameter in network.parameters().iter().filter(|p| p.shape.len() == 1) {
        parameter.range.clone().for_each(|place| drawn[place] += 0.3 * noise[place]);
    }
    drawn
}

/// Gradients of size 1 that come from a few hundred f32 operations agree to 2e-5; a batch norm multiplies by 1/deviation.
fn close(what: &str, got: &[f32], expected: &[f64]) {
    let largest = expected.iter().fold(1.0f64, |all, x| all.max(x.abs()));
    assert_eq!(got.len(), expected.len(), "{what}");
    for (place, (&got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(got) - expected).abs();
        assert!(error <= 2e-5 * largest, "{what} {place}: {got} for {expected}, largest {largest}");
    }
}

#[test]
fn parameter_gradients_are_derivatives() {
    for (name, network) in networks() {
        let parameters = drawn(&network);
        let data = data(network.input().len(), 19, network.output().len());
        let rows: Vec<Vec<f64>> = (0..19).map(|sample| wide(data.input(sample))).collect();
        let samples: Vec<u32> = (0..19).collect();
        let mut trainer = Trainer::new(&network).unwrap();
        trainer.load(&parameters);
        let loss = trainer.batch_gradient(&data, &samples, &mut []);
        let mut oracle = oracle(&network, &parameters);
        let expected = oracle.loss(&rows, &data.labels);
        assert!((loss - expected).abs() < 1e-5 * expected.max(1.0), "{name}: {loss} for {expected}");
        let numbers = oracle.parameters.clone();
        let expected = derivatives(&numbers, |moved| {
            oracle.parameters = moved.to_vec();
            oracle.loss(&rows, &data.labels)
        });
        close(name, trainer.gradient(), &expected);
    }
}

#[test]
fn input_gradients_are_derivatives() {
    for (name, network) in networks() {
        let parameters = drawn(&network);
        let mut trainer = Trainer::new(&network).unwrap();
        trainer.load(&parameters);
        // Running statistics that are not 0 and 1.
        let input = network.input().len();
        trainer.training_logits(&normal(8, 20 * input));
        let (means, variances) = trainer.running_statistics();
        let running = Some((wide(means), wide(variances)));
        let oracle = Oracle { running, ..oracle(&network, &parameters) };
        let inputs = normal(9, 18 * input);
        let cotangents = normal(10, 18 * network.output().len());
        let logits = trainer.logits(&inputs).unwrap();
        let gradients = trainer.input_gradients(&inputs, &cotangents).unwrap();
        let classes = network.output().len();
        for sample in [0, 7, 17] {
            let x = wide(&inputs[sample * input..][..input]);
            let outputs = oracle.forward(std::slice::from_ref(&x));
            close(name, &logits[sample * classes..][..classes], &outputs[0]);
            let c = wide(&cotangents[sample * classes..][..classes]);
            let expected = derivatives(&x, |x| {
                let outputs = oracle.forward(&[x.to_vec()]);
                outputs[0].iter().zip(&c).map(|(logit, c)| logit * c).sum()
            });
            close(name, &gradients[sample * input..][..input], &expected);
        }
    }
}

/// Without batch norm a batch's gradient is the mean of its samples': the lanes beyond the seventeenth add nothing.
#[test]
fn a_batch_is_the_sum_of_its_samples() {
    let network = network("lenet", 1, 2);
    let data = data(1024, 17, 2);
    let mut trainer = Trainer::new(&network).unwrap();
    trainer.load(&parameters(&network, 1));
    let loss = trainer.batch_gradient(&data, &(0..17).collect::<Vec<_>>(), &mut []);
    let whole = trainer.gradient().to_vec();
    let mut losses = 0.0;
    let mut sum = vec![0.0; whole.len()];
    for sample in 0..17 {
        losses += trainer.batch_gradient(&data, &[sample], &mut []) / 17.0;
        sum.iter_mut().zip(trainer.gradient()).for_each(|(sum, &g)| *sum += f64::from(g) / 17.0);
    }
    assert!((loss - losses).abs() < 1e-7, "{loss} for {losses}");
    // Chains of some thousand f32 terms of size 1e-3.
    for (got, expected) in whole.iter().zip(&sum) {
        assert!((f64::from(*got) - expected).abs() < 1e-6, "{got} for {expected}");
    }
}

/// Running statistics take a tenth of the batch's mean and unbiased variance.
#[test]
fn running_statistics_follow() {
    let layers = vec![batch_norm("a")];
    let input = Shape { channels: 2, height: 3, width: 5 };
    let network = Network::chain(layers, input).unwrap();
    let mut trainer = Trainer::new(&network).unwrap();
    trainer.load(&[1.0, 1.0, 0.0, 0.0]);
    let inputs: Vec<f32> = normal(1, 18 * 30).iter().map(|x| 100.0 + 3.0 * x).collect();
    trainer.training_logits(&inputs);
    for channel in 0..2 {
        let numbers = inputs.chunks(30).flat_map(|x| wide(&x[channel * 15..][..15])).collect::<Vec<_>>();
        let (mean, variance) = oracle64::moments(&numbers);
        let n = numbers.len() as f64;
        let (means, variances) = trainer.running_statistics();
        assert!((f64::from(means[channel]) - 0.1 * mean).abs() < 1e-5);
        let expected = 0.9 + 0.1 * variance * n / (n - 1.0);
        assert!((f64::from(variances[channel]) - expected).abs() < 1e-6 * expected);
    }
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let mut networks = networks();
    networks.push(("lenet", network("lenet", 3, 10)));
    for (name, network) in networks {
        let data = data(network.input().len(), 40, network.output().len());
        let trained = |set| {
            let mut trainer = Trainer::on(set, &network).unwrap();
            let recipe = Recipe { epochs: 1, momentum: 0.9, weight_decay: 5e-4, ..RECIPE };
            assert_eq!(trainer.train(&key(), &recipe, &data, &mut || true), TrainingOutcome::Finished);
            let gradients = trainer.input_gradients(&data.inputs, &normal(3, 40 * network.output().len())).unwrap();
            [bits(trainer.parameters()), bits(&trainer.logits(&data.inputs).unwrap()), bits(&gradients)]
        };
        let sets = InstructionSet::available();
        let portable = trained(*sets.last().unwrap());
        for set in sets {
            assert!(trained(set) == portable, "{name} on {}", set.name());
        }
    }
}

/// Momentum, decay and clipping against PyTorch's formulas in f64, the learning rate falling linearly.
#[test]
fn descent_is_pytorchs() {
    let network = network("logreg", 1, 2);
    let data = data(1024, 40, 2);
    let recipe = Recipe { momentum: 0.9, weight_decay: 0.01, epochs: 2, ..RECIPE };
    let mut trainer = Trainer::new(&network).unwrap();
    let mut w = vec![0.0f32; network.parameter_count()];
    network.draw(key().stream("weights"), &mut w);
    let mut w = wide(&w);
    let mut v = vec![0.0; w.len()];
    for epoch in 0..2 {
        for (batch, samples) in key().order(epoch, 40).chunks(16).enumerate() {
            trainer.load(&w.iter().map(|&w| w as f32).collect::<Vec<_>>());
            trainer.batch_gradient(&data, samples, &mut []);
            let g = wide(trainer.gradient());
            let norm = g.iter().map(|g| g * g).sum::<f64>().sqrt();
            let clip = (0.5 / (norm + 1e-6)).min(1.0);
            let rate = 0.1 * (1.0 - (f64::from(epoch) + (batch as f64 + 1.0) / 3.0) / 2.0);
            for ((w, v), g) in w.iter_mut().zip(&mut v).zip(&g) {
                *v = 0.9 * *v + g * clip + 0.01 * *w;
                *w -= rate * *v;
            }
        }
    }
    assert_eq!(trainer.train(&key(), &recipe, &data, &mut || true), TrainingOutcome::Finished);
    for (got, expected) in trainer.parameters().iter().zip(&w) {
        assert!((f64::from(*got) - expected).abs() < 1e-6, "{got} for {expected}");
    }
}

/// A dropout behind the input: its masks are seen in the gradient of the layer behind it.
#[test]
fn dropout_draws_from_its_stream() {
    let layers = vec![Layer::Flatten, Layer::Dropout { probability: 0.4 }, linear(2)];
    let network = Network::chain(layers, Shape { channels: 1, height: 5, width: 7 }).unwrap();
    let data = data(35, 20, 2);
    let mut trainer = Trainer::new(&network).unwrap();
    // With weights of zero the logits' gradients are ±1/(2n).
    let mut streams = trainer.dropouts(&key());
    let mut stream = key().dropout(1);
    for _ in 0..2 {
        trainer.batch_gradient(&data, &(0..20).collect::<Vec<_>>(), &mut streams);
        let mut mask = vec![0.0; 20 * 35];
        stream.fill_dropout(0.4, &mut mask);
        assert!(mask.contains(&0.0));
        for feature in 0..35 {
            let terms = (0..20).map(|sample| {
                let sign = if data.labels[sample] == 0 { -0.5 } else { 0.5 };
                sign * f64::from(mask[sample * 35 + feature] * data.inputs[sample * 35 + feature]) / 20.0
            });
            let got = trainer.gradient()[feature];
            let expected = terms.sum::<f64>();
            assert!((f64::from(got) - expected).abs() < 1e-6, "{feature}: {got} for {expected}");
        }
    }
}

#[test]
fn a_run_that_diverges_says_when() {
    let network = network("lenet", 1, 2);
    let data = data(1024, 40, 2);
    let recipe = Recipe { learning_rate: 1e9, gradient_clip: 0.0, ..RECIPE };
    let mut trainer = Trainer::new(&network).unwrap();
    let mut batches = 0;
    let ending = trainer.train(&key(), &recipe, &data, &mut || {
        batches += 1;
        true
    });
    let TrainingOutcome::Diverged { epochs, step } = ending else { panic!("{ending:?}") };
    assert_eq!((u64::from(epochs), step), (batches / 3, batches + 1));
    // The first step's weights are large but finite.
    assert!(step > 1);
}

#[test]
fn a_run_stops_when_told() {
    let network = network("logreg", 1, 2);
    let mut left = 4;
    let mut trainer = Trainer::new(&network).unwrap();
    let ending = trainer.train(&key(), &RECIPE, &data(1024, 40, 2), &mut || {
        left -= 1;
        left > 0
    });
    assert_eq!((ending, left), (TrainingOutcome::Stopped, 0));
}

/// Takes a copy of every state.
#[derive(Default)]
struct States(Vec<TrainingState<'static>>);

impl Observer for States {
    fn goes_on(&mut self) -> bool {
        true
    }

    fn wants_state(&mut self) -> bool {
        true
    }

    fn take_state(&mut self, state: TrainingState<'_>) {
        let own = |numbers: &[f32]| Cow::Owned(numbers.to_vec());
        self.0.push(TrainingState {
            parameters: own(&state.parameters),
            velocity: own(&state.velocity),
            means: own(&state.means),
            variances: own(&state.variances),
            ..state
        });
    }
}

/// Dropout, batch norm, momentum and decay: from every epoch on, through bytes, on the instruction set that comes next.
#[test]
fn a_run_goes_on_elsewhere_with_the_same_bits() {
    let recipe = Recipe { momentum: 0.9, weight_decay: 5e-4, batch_size: 2, epochs: 2, ..RECIPE };
    let sets = InstructionSet::available();
    let small = |name: &str, side| {
        let input = Shape { channels: 1, height: side, width: side };
        nadgrid_core::architecture::find(name).unwrap().network(input, 2).unwrap()
    };
    for (name, network) in
        [("lenet", small("lenet", 16)), ("vgg11", small("vgg11", 32)), ("resnet18", small("resnet18", 32))]
    {
        let data = data(network.input().len(), 3, 2);
        let mut whole = Trainer::new(&network).unwrap();
        let mut states = States::default();
        assert_eq!(whole.train(&key(), &recipe, &data, &mut states), TrainingOutcome::Finished);
        assert_eq!(states.0.iter().map(|state| state.epochs).collect::<Vec<_>>(), [1, 2], "{name}");
        let shape = TrainingShape::new(&network, 1, true, recipe.epochs);
        for (place, state) in states.0.into_iter().enumerate() {
            let of = Digest::of(b"run");
            let epochs = state.epochs;
            let bytes =
                Checkpoint { of, seconds: 0.0, outcomes: Cow::Borrowed(&[]), training: Some(state) }.to_bytes(0);
            let read = Checkpoint::from_bytes(&bytes, of, 0, |_, _| Some(shape)).unwrap().training.unwrap();
            let mut rest = Trainer::on(sets[place % sets.len()], &network).unwrap();
            let mut batches = 0;
            let ending = rest.resume(&read, &key(), &recipe, &data, &mut || {
                batches += 1;
                true
            });
            assert_eq!((ending, batches), (TrainingOutcome::Finished, 2 * (2 - epochs)), "{name}");
            assert_eq!(bits(rest.parameters()), bits(whole.parameters()), "{name} from epoch {epochs}");
            let (means, variances) = rest.running_statistics();
            assert_eq!(bits(means), bits(whole.running_statistics().0), "{name} from epoch {epochs}");
            assert_eq!(bits(variances), bits(whole.running_statistics().1), "{name} from epoch {epochs}");
        }
    }
}

/// What can be separated is learnt.
#[test]
fn separable_data_are_learnt() {
    for name in ["logreg", "lenet"] {
        let network = network(name, 1, 2);
        let mut data = data(1024, 200, 2);
        for sample in 0..200 {
            data.labels[sample] = u8::from(sample % 3 == 0);
            let shift = if sample % 3 == 0 { 0.5 } else { -0.5 };
            data.inputs[sample * 1024..][..1024].iter_mut().for_each(|x| *x = 0.3 * *x + shift);
        }
        let mut trainer = Trainer::new(&network).unwrap();
        let recipe = Recipe { learning_rate: 0.5, epochs: 5, ..RECIPE };
        assert_eq!(trainer.train(&key(), &recipe, &data, &mut || true), TrainingOutcome::Finished);
        let logits = trainer.logits(&data.inputs).unwrap();
        let right = logits.chunks(2).zip(&data.labels).filter(|(l, label)| u8::from(l[1] > l[0]) == **label);
        assert_eq!(right.count(), 200, "{name}");
    }
}
