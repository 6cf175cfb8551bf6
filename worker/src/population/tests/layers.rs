//! Layers that no reference covers: circular convolutions, dropout, batch norm's running statistics.

use super::*;
use crate::population::dropout::Dropout;
use nadgrid_core::architecture::{Conv2d, Layer, Padding};
use tch::Kind;

/// A kernel as wide as the map and one that is wider, with strides, against the definition.
#[test]
fn circular_convolutions_wrap_around() {
    for (side, kernel, stride) in [(6, 4, 1), (5, 3, 2), (2, 4, 1)] {
        let conv = Conv2d { padding: Padding::Circular, ..Conv2d::new("conv", 1, kernel) }.stride(stride).no_bias();
        let input = Shape { channels: 1, height: side, width: side };
        let network = Network::chain(vec![Layer::Conv2d(conv)], input).unwrap();
        let weights = formula(&network);
        let image = image(&network, 1);
        let mut expected = Vec::new();
        for (row, column) in (0..side).step_by(stride).flat_map(|r| (0..side).step_by(stride).map(move |c| (r, c))) {
            let product =
                |i: usize, j: usize| weights[i * kernel + j] * image[(row + i) % side * side + (column + j) % side];
            expected.push((0..kernel).flat_map(|i| (0..kernel).map(move |j| (i, j))).map(|(i, j)| product(i, j)).sum());
        }
        let got = outputs::<f64>(&population(&network, &weights), &batch(&network, &image));
        assert_close(&got, &expected, 1e-14, "circular");
    }
}

/// Two batches of two members through dropout, before a layer that changes nothing: maps and vectors.
#[test]
fn dropout_multiplies_by_the_streams_of_each_run() {
    let input = Shape { channels: 2, height: 2, width: 3 };
    let drop = || Layer::Dropout { probability: 0.4 };
    let linear = || Layer::Linear { name: "fc".into(), features: 12 };
    let vectors = Network::chain(vec![Layer::Flatten, drop(), linear()], input).unwrap();
    let maps = Network::chain(vec![Layer::Relu, drop(), Layer::Flatten, linear()], input).unwrap();
    let identity: Vec<f32> = (0..144).map(|i| f32::from(i / 12 == i % 12)).chain([0.0; 12]).collect();
    let keys = keys("test", 2);
    for network in [vectors, maps] {
        let flat = Tensor::from_slice(&[identity.clone(), identity.clone()].concat()).view([2, -1]).to_device(here());
        let policy = Policy::new(Precision::Fp32, Kind::Float, here()).unwrap();
        let weights = NetworkWeights::cut(&network, &flat, &policy).unwrap();
        let statistics = RunningStatistics::new(&network, &flat).unwrap();
        let graph = PopulationGraph::new(&network, 2, policy);
        let mut dropout = Dropout::new(&network, &keys, here());
        let mut streams: Vec<Stream> = keys.iter().map(|key| key.dropout(1)).collect();
        for _ in 0..2 {
            let inputs = Tensor::ones([3, 4, 2, 3], (Kind::Float, here()));
            let mode = &mut LayerMode::Training(&mut dropout);
            let outputs = graph.forward(&weights, &statistics, Activations::Maps(inputs), mode).unwrap();
            let expected: Vec<f32> = streams
                .iter_mut()
                .flat_map(|stream| {
                    let mut mask = [0.0; 36];
                    stream.fill_dropout(0.4, &mut mask);
                    mask
                })
                .collect();
            assert_eq!(tensor::numbers::<f32>(&outputs).unwrap(), expected);
        }
    }
}

/// After one batch: a tenth of the batch's mean and of its unbiased variance, nine tenths of 0 and 1; each member's own.
#[test]
fn running_statistics_move_as_pytorchs_and_belong_to_a_member() {
    let input = Shape { channels: 1, height: 2, width: 2 };
    let layers = vec![Layer::BatchNorm2d { name: "bn".into() }, Layer::Relu];
    let network = Network::chain(layers, input).unwrap();
    let flat = Tensor::from_slice(&[1.0, 0.0, 1.0, 0.0]).view([2, 2]).to_device(here());
    let policy = Policy::new(Precision::Fp32, Kind::Double, here()).unwrap();
    let weights = NetworkWeights::cut(&network, &flat, &policy).unwrap();
    let statistics = RunningStatistics::new(&network, &flat).unwrap();
    let values: Vec<f64> = (0..16).map(|i| f64::from(i * i)).collect();
    let mut dropout = Dropout::off();
    let inputs = Activations::Maps(Tensor::from_slice(&values).view([2, 2, 2, 2]).to_device(here()));
    let _ = PopulationGraph::new(&network, 2, policy)
        .forward(&weights, &statistics, inputs, &mut LayerMode::Training(&mut dropout))
        .unwrap();
    for member in 0..2 {
        let own: Vec<f64> = values.chunks(4).skip(member).step_by(2).flatten().copied().collect();
        let mean = own.iter().sum::<f64>() / 8.0;
        let variance = own.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 7.0;
        let cut = statistics.of_member(member as i64, 2).unwrap();
        let (got_mean, got_variance) = cut.of(0).unwrap();
        assert_close(&tensor::numbers(got_mean).unwrap(), &[0.1 * mean], 1e-12, "mean");
        assert_close(&tensor::numbers(got_variance).unwrap(), &[0.9 + 0.1 * variance], 1e-12, "variance");
    }
}

/// What few channels a group are unfolded to on a GPU, here on a CPU: values and gradients of weights and inputs, of three members
/// in float64. Zeros around, strides, a torus, with and without bias; 1e-12 is for sums in another order.
#[test]
fn unfolded_convolutions_are_grouped_convolutions() {
    let input = Shape { channels: 3, height: 9, width: 7 };
    let torus = Conv2d { padding: Padding::Circular, ..Conv2d::new("c", 4, 2) };
    let layers = vec![
        Layer::Conv2d(Conv2d::new("a", 6, 3).padded(1)),
        Layer::Relu,
        Layer::Conv2d(Conv2d::new("b", 5, 3).padded(2).stride(2).no_bias()),
        Layer::Conv2d(torus),
        Layer::Flatten,
        Layer::Linear { name: "d".into(), features: 2 },
    ];
    let network = Network::chain(layers, input).unwrap();
    let members: Vec<f64> =
        (1..=3).flat_map(|m| formula(&network).into_iter().map(move |p| p / f64::from(m))).collect();
    let inputs = batch(&network, &images(&network, 4));
    let results = [false, true].map(|unfolds| {
        let mut policy = Policy::new(Precision::Fp32, Kind::Double, Device::Cpu).unwrap();
        policy.unfolds = unfolds;
        let flat = Tensor::from_slice(&members).view([3, -1]).set_requires_grad(true);
        let leaf = inputs.repeat([1, 3, 1, 1]).set_requires_grad(true);
        let weights = NetworkWeights::cut(&network, &flat, &policy).unwrap();
        let statistics = RunningStatistics::new(&network, &flat).unwrap();
        let maps = Activations::Maps(leaf.shallow_clone());
        let graph = PopulationGraph::new(&network, 3, policy);
        let outputs = graph.forward(&weights, &statistics, maps, &mut LayerMode::Evaluation).unwrap();
        let loss = (&outputs * &outputs).sum(Kind::Double);
        let gradients = Tensor::run_backward(&[loss], &[&flat, &leaf], false, false);
        [outputs.detach(), gradients[0].shallow_clone(), gradients[1].shallow_clone()]
            .map(|t| tensor::numbers::<f64>(&t).unwrap())
    });
    for (grouped, unfolded) in results[0].iter().zip(&results[1]) {
        let largest = grouped.iter().fold(0.0f64, |a, g| a.max(g.abs()));
        assert!(largest > 1e-3);
        assert_close(unfolded, grouped, 1e-12 * largest, "unfolded");
    }
}

/// LeNet's two convolutions and those that read an image are unfolded, a ResNet's others are not.
#[test]
fn few_channels_a_group_are_unfolded() {
    use crate::population::layer::is_unfolded;
    assert!([(1, 5), (6, 5), (1, 3), (3, 3)].into_iter().all(|(channels, kernel)| is_unfolded(channels, kernel)));
    assert!([(64, 1), (16, 3), (8, 6)].into_iter().all(|(channels, kernel)| !is_unfolded(channels, kernel)));
}
