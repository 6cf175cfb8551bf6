//! Graphs against the definition: f64 forward passes by naive loops, on odd networks with padding, strides, joins and batch
//! norms; and the same bits on every instruction set, whatever was evaluated before and with it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use nadgrid_core::architecture::{Builder, Conv2d, Layer, Network, Padding, Shape};
use nadgrid_kernels::{CentralDifference, InstructionSet, NotFinite};
use proptest::prelude::*;
use support::{bits, check, network, normal};

/// A convolution that no chain engine takes.
fn conv(channels: usize, kernel: usize, stride: usize, padding: Padding) -> Conv2d {
    Conv2d { padding, ..Conv2d::new("conv", channels, kernel).stride(stride) }
}

fn build(channels: usize, height: usize, width: usize, write: impl FnOnce(&mut Builder)) -> Network {
    Network::build(Shape { channels, height, width }, write).unwrap()
}

/// One member's parameters, those of the batch norms moved away from one and zero.
fn parameters(network: &Network, member: u64) -> Vec<f32> {
    let mut parameters = support::parameters(network, member);
    let noise = normal(member + 100, parameters.len());
    for step in network.steps().iter().filter(|step| step.statistics.is_some()) {
        let weight = step.weight.unwrap();
        for at in network.parameters()[weight].range.start..network.parameters()[weight + 1].range.end {
            parameters[at] += 0.3 * noise[at];
        }
    }
    parameters
}

/// The gradient on every instruction set, which must agree to the bit.
fn gradient(network: &Network, parameters: &[f32], point: &[f32], step: f32, pixels: &[usize]) -> Vec<f32> {
    let mut gradients = InstructionSet::available().into_iter().map(|set| {
        let mut gradient = vec![0.0; pixels.len()];
        let mut plan = CentralDifference::on(set, network).unwrap();
        plan.gradient_at(parameters, point, step, pixels, &mut gradient).unwrap();
        (set.name(), gradient)
    });
    let (first, gradient) = gradients.next().unwrap();
    for (name, other) in gradients {
        assert_eq!(bits(&gradient), bits(&other), "{first} and {name}");
    }
    gradient
}

/// Every pixel of a network against the definition, and its forward pass.
fn check_all(network: &Network, member: u64, step: f32) {
    let parameters = parameters(network, member);
    let point = normal(member, network.input().len());
    let pixels: Vec<usize> = (0..point.len()).collect();
    let gradient = gradient(network, &parameters, &point, step, &pixels);
    check(network, &parameters, &point, step, &gradient, pixels.into_iter());
    let mut outputs = vec![0.0; network.output().len()];
    CentralDifference::new(network).unwrap().forward(&parameters, &point, &mut outputs);
    let exact: Vec<f64> = point.iter().map(|&x| f64::from(x)).collect();
    let (expected, largest) = support::forward(network, &parameters, &exact);
    for (got, expected) in outputs.iter().zip(&expected) {
        let error = (f64::from(*got) - expected).abs();
        assert!(error <= 8.0 * f64::from(f32::EPSILON) * largest.max(1.0), "{got} for {expected}");
    }
}

/// What each part of the engine does seldom: kernels wider than the map, outputs that read zeros alone, parts of a
/// concatenation that share a vector, joins before their other side is done, maps that nobody reads, no layer at all.
#[test]
fn odd_graphs() {
    let zeros = Padding::Zeros;
    let graphs = [
        build(3, 5, 7, |net| {
            net.conv(conv(20, 3, 2, zeros(1))).batch_norm("n").relu().conv(conv(33, 5, 1, zeros(2))).max_pool(2);
            net.flatten().linear("f", 5).relu().linear("g", 2);
        }),
        build(1, 6, 4, |net| {
            net.conv(conv(3, 4, 1, Padding::Circular))
                .avg_pool(2)
                .conv(conv(2, 5, 2, Padding::Circular))
                .linear("f", 1);
        }),
        build(2, 2, 3, |net| {
            net.conv(conv(4, 2, 1, zeros(3))).conv(conv(70, 5, 3, zeros(2)).no_bias()).relu().flatten().linear("f", 1);
        }),
        build(2, 5, 5, |net| {
            let start = net.here();
            net.conv(conv(5, 3, 1, zeros(1))).relu().concat(start);
            let joined = net.here();
            net.batch_norm("n").relu().conv(conv(17, 1, 1, zeros(0))).concat(joined).concat(start);
            net.batch_norm("m").avg_pool(3).flatten().linear("f", 1);
        }),
        build(1, 7, 6, |net| {
            net.conv(conv(16, 3, 1, zeros(1)));
            let left = net.here();
            net.conv(conv(16, 3, 1, zeros(1))).batch_norm("n");
            let right = net.here();
            net.from(left).conv(conv(16, 1, 1, zeros(0))).batch_norm("m");
            let shortcut = net.here();
            net.from(right).add(shortcut).relu();
            let sum = net.here();
            net.add(left).dropout(0.5).add(sum).concat(sum).max_pool(2).linear("f", 3).batch_norm("k");
        }),
        build(2, 4, 4, |net| {
            let start = net.here();
            net.add(start).relu().conv(conv(3, 3, 1, zeros(1)));
        }),
        build(2, 3, 3, |net| {
            net.flatten().batch_norm("n").max_pool(1).conv(conv(4, 1, 1, zeros(0))).linear("f", 1).dropout(0.1);
        }),
        build(2, 2, 1, |net| {
            net.dropout(0.5);
        }),
    ];
    for (index, network) in graphs.iter().enumerate() {
        for step in [100.0, 1.0] {
            check_all(network, index as u64, step);
        }
    }
}

/// A layer of a random graph: what it is, and which earlier map it joins.
fn layers() -> impl Strategy<Value = Vec<(Layer, usize)>> {
    let padding = prop_oneof![(0usize..4).prop_map(Padding::Zeros), Just(Padding::Circular)];
    let shape = (1usize..40, 1usize..5, 1usize..4, padding, any::<bool>());
    let conv = shape.prop_map(|(channels, kernel, stride, padding, bias)| {
        Layer::Conv2d(Conv2d { bias, ..conv(channels, kernel, stride, padding) })
    });
    let layer = prop_oneof![
        4 => conv,
        2 => Just(Layer::BatchNorm2d { name: "norm".into() }),
        2 => Just(Layer::Relu),
        1 => (1usize..4).prop_map(|size| Layer::MaxPool2d { size }),
        1 => (1usize..4).prop_map(|size| Layer::AvgPool2d { size }),
        2 => Just(Layer::Add),
        2 => Just(Layer::Concat),
        1 => Just(Layer::Dropout { probability: 0.5 }),
    ];
    prop::collection::vec((layer, 0usize..100), 1..9)
}

/// Layers that do not fit are left out; joins take an earlier map.
fn graph(input: Shape, layers: &[(Layer, usize)]) -> Network {
    let write = |net: &mut Builder, layers: &[(Layer, usize)]| {
        let mut maps = vec![net.here()];
        for (layer, earlier) in layers {
            let earlier = maps[earlier % maps.len()];
            match layer {
                Layer::Add => net.add(earlier),
                Layer::Concat => net.concat(earlier),
                layer => net.layer(layer.clone()),
            };
            maps.push(net.here());
        }
    };
    let mut fitting = Vec::new();
    for layer in layers {
        fitting.push(layer.clone());
        if Network::build(input, |net| write(net, &fitting)).is_err() {
            fitting.pop();
        }
    }
    Network::build(input, |net| {
        write(net, &fitting);
        net.flatten().linear("f", 3).relu().linear("g", 2);
    })
    .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn random_graphs(
        (channels, height, width) in (1usize..4, 1usize..9, 1usize..9),
        layers in layers(),
        member in 0u64..1000,
    ) {
        check_all(&graph(Shape { channels, height, width }, &layers), member, 100.0);
    }
}

/// The large networks at one corner, whose windows are small, on every instruction set.
#[test]
fn the_registrys_networks_have_the_same_bits_on_every_instruction_set() {
    for name in ["vgg11", "vgg11_bn", "resnet18", "densenet121", "deep_linear"] {
        let network = network(name, 1, 1);
        let parameters = parameters(&network, 1);
        let point = normal(1, 1024);
        gradient(&network, &parameters, &point, 100.0, &[0]);
    }
}

/// Pixels one by one, in another order and in one batch with others have the same bits.
#[test]
fn a_batch_leaves_no_trace() {
    let network = network("resnet18", 1, 1);
    let parameters = parameters(&network, 2);
    let point = normal(2, 1024);
    let mut plan = CentralDifference::new(&network).unwrap();
    let pixels = [1023, 5, 528, 40, 41, 42];
    let mut together = [0.0; 6];
    plan.gradient_at(&parameters, &point, 100.0, &pixels, &mut together).unwrap();
    for (&pixel, expected) in pixels.iter().zip(together) {
        let mut alone = [0.0];
        plan.gradient_at(&parameters, &point, 100.0, &[pixel], &mut alone).unwrap();
        assert_eq!(bits(&alone), bits(&[expected]), "{pixel}");
    }
}

#[test]
fn a_member_leaves_nothing_behind() {
    let network = graph_with_everything();
    let point = normal(3, network.input().len());
    let mut plan = CentralDifference::new(&network).unwrap();
    let run = |plan: &mut CentralDifference, member| {
        let mut gradient = vec![0.0; point.len()];
        plan.gradient(&parameters(&network, member), &point, 100.0, &mut gradient).unwrap();
        bits(&gradient)
    };
    let first = run(&mut plan, 0);
    let huge = vec![1e30; network.parameter_count()];
    plan.gradient(&huge, &point, 1e30, &mut vec![0.0; point.len()]).unwrap_err();
    run(&mut plan, 1);
    assert_eq!(first, run(&mut plan, 0));
    assert_eq!(first, run(&mut CentralDifference::new(&network).unwrap(), 0));
}

/// A sum that becomes minus infinity and is then cut to zero is an overflow all the same.
#[test]
fn overflow_is_named_on_every_instruction_set() {
    let network = graph_with_everything();
    let point = normal(3, network.input().len());
    for set in InstructionSet::available() {
        let mut plan = CentralDifference::on(set, &network).unwrap();
        let mut out = vec![0.0; point.len()];
        let large: Vec<f32> = parameters(&network, 0).iter().map(|w| w * 1e3).collect();
        let fault = plan.gradient(&large, &point, f32::MAX, &mut out).unwrap_err();
        assert_eq!(fault, NotFinite { pixel: 0 }, "{}", set.name());
        let mut spoilt = parameters(&network, 0);
        spoilt[3] = f32::NAN;
        assert_eq!(plan.gradient(&spoilt, &point, 100.0, &mut out), Err(NotFinite { pixel: 0 }));
    }
    // Only the change overflows, and only at one pixel: a member's weights are of size one.
    let network = build(1, 4, 4, |net| {
        net.conv(conv(1, 4, 1, Padding::Zeros(0)).no_bias()).batch_norm("n").relu().linear("f", 1);
    });
    let mut parameters = vec![0.0; network.parameter_count()];
    parameters[..16].fill(1.0);
    parameters[9] = -3e38;
    parameters[16] = 1.0;
    parameters[18] = 1.0;
    let mut out = vec![0.0; 16];
    let mut plan = CentralDifference::new(&network).unwrap();
    assert_eq!(plan.gradient(&parameters, &[0.0; 16], 100.0, &mut out), Err(NotFinite { pixel: 9 }));
}

fn graph_with_everything() -> Network {
    build(2, 6, 5, |net| {
        net.conv(conv(20, 3, 1, Padding::Zeros(1))).batch_norm("n").relu();
        let start = net.here();
        net.conv(conv(20, 3, 1, Padding::Zeros(1))).add(start).relu().concat(start).batch_norm("m").max_pool(2);
        net.avg_pool(2).flatten().linear("f", 4);
    })
}
