//! Patches against the definition: f64 forward passes by naive loops, on LeNets and on odd chains of layers;
//! and the same bits on every instruction set, whatever was evaluated before.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use nadgrid_core::architecture::{Conv2d, Layer, Network, Shape};
use nadgrid_kernels::{CentralDifference, InstructionSet, NotFinite};
use proptest::prelude::*;
use support::{bits, check, network, normal, parameters};

/// The gradient on every instruction set, which must agree to the bit.
fn gradient(network: &Network, parameters: &[f32], point: &[f32], step: f32) -> Vec<f32> {
    let mut gradients = InstructionSet::available().into_iter().map(|set| {
        let mut gradient = vec![0.0; point.len()];
        CentralDifference::on(set, network).unwrap().gradient(parameters, point, step, &mut gradient).unwrap();
        (set.name(), gradient)
    });
    let (first, gradient) = gradients.next().unwrap();
    for (name, other) in gradients {
        assert_eq!(bits(&gradient), bits(&other), "{first} and {name}");
    }
    gradient
}

#[test]
fn every_pixel_of_a_lenet() {
    let network = network("lenet", 1, 1);
    let parameters = parameters(&network, 0);
    let point = normal(0, 1024);
    let gradient = gradient(&network, &parameters, &point, 100.0);
    check(&network, &parameters, &point, 100.0, &gradient, 0..1024);
}

#[test]
fn lenets_with_colours_classes_and_small_steps() {
    let edges = |channels: usize| (0..channels * 1024).filter(|i| i % 97 == 0 || i % 32 == 31);
    for (member, (channels, outputs, step)) in [(1, 2, 1.0), (3, 10, 100.0), (2, 1, 0.1)].into_iter().enumerate() {
        let network = network("lenet", channels, outputs);
        let parameters = parameters(&network, member as u64);
        let point = normal(1, channels * 1024);
        let gradient = gradient(&network, &parameters, &point, step);
        check(&network, &parameters, &point, step, &gradient, edges(channels));
    }
}

fn conv(name: &'static str, channels: usize, kernel: usize) -> Layer {
    Layer::Conv2d(Conv2d::new(name, channels, kernel))
}

fn linear(name: &'static str, features: usize) -> Layer {
    Layer::Linear { name: name.into(), features }
}

/// The largest specialised and the general code of every part, at all pixels.
#[test]
fn odd_chains() {
    let chains: Vec<(Shape, Vec<Layer>)> = vec![
        (
            Shape { channels: 2, height: 9, width: 12 },
            vec![Layer::AvgPool2d { size: 2 }, Layer::Flatten, linear("f", 1)],
        ),
        (
            Shape { channels: 3, height: 13, width: 11 },
            vec![
                conv("a", 20, 3),
                conv("b", 17, 3),
                Layer::Relu,
                Layer::MaxPool2d { size: 3 },
                Layer::Flatten,
                linear("f", 33),
                Layer::Relu,
                linear("g", 2),
            ],
        ),
        (
            Shape { channels: 1, height: 12, width: 17 },
            vec![
                conv("a", 5, 4),
                Layer::MaxPool2d { size: 2 },
                conv("b", 18, 2),
                Layer::Relu,
                Layer::Flatten,
                linear("f", 130),
                linear("g", 97),
                Layer::Relu,
                linear("h", 1),
                Layer::Relu,
            ],
        ),
        (
            Shape { channels: 1, height: 14, width: 14 },
            vec![conv("a", 4, 3), conv("b", 4, 5), conv("c", 4, 5), Layer::AvgPool2d { size: 3 }, linear("f", 3)],
        ),
        (
            Shape { channels: 4, height: 3, width: 5 },
            vec![Layer::Relu, Layer::Flatten, linear("f", 7), Layer::Relu, linear("g", 1)],
        ),
        (Shape { channels: 6, height: 1, width: 1 }, vec![linear("f", 1), Layer::Relu]),
    ];
    for (index, (input, layers)) in chains.into_iter().enumerate() {
        let network = Network::chain(layers, input).unwrap();
        for step in [100.0, 0.5] {
            let parameters = parameters(&network, index as u64);
            let point = normal(2, input.len());
            let gradient = gradient(&network, &parameters, &point, step);
            check(&network, &parameters, &point, step, &gradient, 0..input.len());
        }
    }
}

/// A chain that `Network::new` accepts: layers that do not fit the map any more are left out.
fn chain() -> impl Strategy<Value = Network> {
    let spatial = prop_oneof![
        (1usize..22, 1usize..6).prop_map(|(channels, kernel)| Layer::Conv2d(Conv2d::new("conv", channels, kernel))),
        Just(Layer::Relu),
        (1usize..4).prop_map(|size| Layer::MaxPool2d { size }),
        (1usize..4).prop_map(|size| Layer::AvgPool2d { size }),
    ];
    let head = prop_oneof![
        (1usize..40).prop_map(|features| Layer::Linear { name: "linear".into(), features }),
        Just(Layer::Relu)
    ];
    let shape = (1usize..4, 1usize..15, 1usize..15);
    let shape = shape.prop_map(|(channels, height, width)| Shape { channels, height, width });
    (shape, prop::collection::vec(spatial, 0..6), prop::collection::vec(head, 0..4)).prop_map(
        |(input, spatial, head)| {
            let mut layers = Vec::new();
            for layer in spatial {
                layers.push(layer);
                if Network::chain(layers.clone(), input).is_err() {
                    layers.pop();
                }
            }
            layers.extend([Layer::Flatten, Layer::Linear { name: "first".into(), features: 18 }]);
            layers.extend(head);
            Network::chain(layers, input).unwrap()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn random_chains(network in chain(), member in 0u64..1000, step in prop_oneof![Just(100.0f32), Just(1.0)]) {
        let parameters = parameters(&network, member);
        let point = normal(member, network.input().len());
        let gradient = gradient(&network, &parameters, &point, step);
        check(&network, &parameters, &point, step, &gradient, (0..point.len()).step_by(7));
    }
}

#[test]
fn a_member_leaves_nothing_behind() {
    let network = network("lenet", 1, 1);
    let point = normal(3, 1024);
    let mut plan = CentralDifference::new(&network).unwrap();
    let run = |plan: &mut CentralDifference, member| {
        let mut gradient = vec![0.0; 1024];
        plan.gradient(&parameters(&network, member), &point, 100.0, &mut gradient).unwrap();
        bits(&gradient)
    };
    let first = run(&mut plan, 0);
    let huge = vec![1e30; network.parameter_count()];
    plan.gradient(&huge, &point, 1e30, &mut vec![0.0; 1024]).unwrap_err();
    run(&mut plan, 1);
    assert_eq!(first, run(&mut plan, 0));
    assert_eq!(first, run(&mut CentralDifference::new(&network).unwrap(), 0));
}

#[test]
fn overflow_is_named_on_every_instruction_set() {
    let network = network("lenet", 1, 1);
    let point = normal(3, 1024);
    for set in InstructionSet::available() {
        let mut plan = CentralDifference::on(set, &network).unwrap();
        let mut out = vec![0.0; 1024];
        let large: Vec<f32> = parameters(&network, 0).iter().map(|w| w * 1e3).collect();
        let fault = plan.gradient(&large, &point, f32::MAX, &mut out).unwrap_err();
        assert_eq!(fault, NotFinite { pixel: 0 }, "{}", set.name());
        let mut spoilt = parameters(&network, 0);
        spoilt[3] = f32::NAN;
        assert_eq!(plan.gradient(&spoilt, &point, 100.0, &mut out), Err(NotFinite { pixel: 0 }));
    }
    assert_eq!(NotFinite { pixel: 5 }.of_member(3).to_string(), "the gradient of member 3 at pixel 5 is not finite");
}

#[test]
fn a_map_too_large_is_named() {
    let conv = Layer::Conv2d(Conv2d::new("a", 1, 3).padded(1));
    let network = Network::chain(vec![conv], Shape { channels: 1, height: 1 << 15, width: 1 << 14 }).unwrap();
    assert_eq!(
        CentralDifference::new(&network).err().unwrap().to_string(),
        "layer 0 (conv2d) is not supported there: maps have fewer than 2^33 numbers"
    );
}
