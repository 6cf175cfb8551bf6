//! The fused evaluation against PyTorch's values, against the plain one, and against float64.

use super::*;
use crate::population::fused::{FusedNetwork, Norms};
use nadgrid_core::architecture::{Conv2d, Layer, Padding};
use nadgrid_core::random::evaluation_point;
use tch::Kind;

/// Fused gradients of one network at a point and some pixels, in any kind of number.
fn fused<T: Element + Copy + Default + Into<f64>>(
    network: &Network,
    (precision, norms): (Precision, Norms),
    parameters: &[T],
    point: &[T],
    pixels: &[usize],
) -> Vec<f64> {
    let mut fused = FusedNetwork::with(network, precision, T::KIND, Device::Cpu, norms).unwrap();
    let parameters = Tensor::from_slice(parameters);
    let points = Tensor::from_slice(point).unsqueeze(0);
    let gradients = fused.gradients_at(&parameters, &points, 100.0, pixels, &|_| {}).unwrap();
    tensor::numbers::<T>(&gradients).unwrap().into_iter().map(Into::into).collect()
}

fn plain<T: Element + Copy + Default + Into<f64>>(
    network: &Network,
    precision: Precision,
    parameters: &[T],
    point: &[T],
    step: T,
    pixels: &[usize],
) -> Vec<f64> {
    let population = Population::new(network, parameters, Device::Cpu, precision).unwrap();
    central_difference_at(&population, point, step, pixels).unwrap().into_iter().map(Into::into).collect()
}

#[test]
fn fused_differences_are_pytorchs() {
    device::be_one_thread();
    for name in NAMES {
        let network = network(name, 1, 1);
        let expected = &reference(name)["1ch_1cl"]["central_difference"];
        let parameters = formula(&network);
        let point = image(&network, 0);
        let pixels: Vec<usize> = floats(&expected["pixels"]).into_iter().map(|p| p as usize).collect();
        let values = floats(&expected["values"]);
        let got = fused(&network, (Precision::Fp32, Norms::Any), &parameters, &point, &pixels);
        assert_pytorchs(&got, &values, name);
        if parameters.len() < 100_000 {
            let all: Vec<usize> = (0..1024).collect();
            let all = fused(&network, (Precision::Fp32, Norms::Any), &parameters, &point, &all);
            let at_pixels: Vec<f64> = pixels.iter().map(|&p| all[p]).collect();
            assert_pytorchs(&at_pixels, &values, name);
            let got = fused(&network, (Precision::Fp32, Norms::Any), &narrow(&parameters), &narrow(&point), &pixels);
            assert_close(&got, &values, F32, name);
        }
    }
}

/// Networks as they are drawn, at the published step, each against float64. Folding rounds a weight once more and an output twice
/// less, so that either evaluation may be nearer: errors are of one size, and none is more than a few times the other. In fp32
/// DenseNet's differences are as small as the rounding of its outputs allows.
#[test]
fn fused_errors_are_those_of_plain_evaluation() {
    device::be_one_thread();
    for architecture in architecture::REGISTRY {
        let name = architecture.name;
        let network = network(name, 1, 1);
        let mut parameters = vec![0.0f32; network.parameter_count()];
        network.initialise(7, name, 3, &mut parameters);
        let point = evaluation_point(7, 0, 1024);
        let small = parameters.len() < 100_000;
        let pixels: Vec<usize> = if small { (0..1024).step_by(16).collect() } else { vec![31, 528] };
        let exact = plain(&network, Precision::Fp32, &wide(&parameters), &wide(&point), 100.0, &pixels);
        let error = |got: &[f64]| {
            let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
            norm(&mut got.iter().zip(&exact).map(|(g, e)| g - e)) / norm(&mut exact.iter().copied())
        };
        for (precision, rounding) in [(Precision::Fp32, 2f64.powi(-24)), (Precision::Bf16, 2f64.powi(-9))] {
            let plain = error(&plain(&network, precision, &parameters, &point, 100.0, &pixels));
            let fused = error(&fused(&network, (precision, Norms::Drawn), &parameters, &point, &pixels));
            println!("{name} {precision}: plain {plain:.1e}, fused {fused:.1e}");
            assert!(fused > 0.0 && fused <= 4.0 * plain + 4.0 * rounding, "{name} {precision}: {fused} {plain}");
        }
    }
}

/// Every way of joining, merging and placing maps, in float64: 1e-11 is for sums in another order.
#[test]
fn fused_graphs_are_plain_graphs() {
    device::be_one_thread();
    for (name, network) in graphs() {
        let mut drawn = vec![0.0; network.parameter_count()];
        network.initialise(2, name, 0, &mut drawn);
        let mut any = formula(&network);
        // Batch norms of negative weight, too.
        any.iter_mut().step_by(7).for_each(|p| *p = -*p);
        let (point, pixels): (_, Vec<usize>) = (image(&network, 2), (0..network.input().len()).collect());
        for (parameters, norms) in [(any, Norms::Any), (wide(&drawn), Norms::Any), (wide(&drawn), Norms::Drawn)] {
            let want = plain(&network, Precision::Fp32, &parameters, &point, 100.0, &pixels);
            let got = fused(&network, (Precision::Fp32, norms), &parameters, &point, &pixels);
            let largest = want.iter().fold(0.0f64, |a, w| a.max(w.abs()));
            assert!(largest > 1e-6, "{name}: {largest}");
            assert_close(&got, &want, 1e-11 * largest, name);
        }
    }
}

fn graphs() -> Vec<(&'static str, Network)> {
    let input = Shape { channels: 3, height: 6, width: 5 };
    let conv = |name: &str, channels| Conv2d::new(name, channels, 3).padded(1);
    let build = |write: &dyn Fn(&mut architecture::Builder)| {
        Network::build(input, |net| {
            write(net);
            net.flatten().linear("out", 2);
        })
        .unwrap()
    };
    vec![
        (
            "a convolution with bias and batch norm, dropout between, a flattening that is no row",
            build(&|net| {
                net.conv(conv("a", 8)).batch_norm("b").relu().dropout(0.5).conv(conv("c", 8).stride(2)).batch_norm("d");
            }),
        ),
        (
            "sums: of two convolutions, of a map and itself, of the input, without max(x, 0)",
            build(&|net| {
                let start = net.here();
                net.conv(conv("a", 3));
                let a = net.here();
                net.from(start).conv(conv("b", 3).no_bias()).batch_norm("bn").add(a).add(start).relu();
                let twice = net.here();
                net.add(twice);
                let left = net.conv(conv("c", 8)).here();
                net.from(twice).conv(conv("d", 8)).add(left).relu().max_pool(2);
            }),
        ),
        (
            "a residual that is read twice keeps its own bias",
            build(&|net| {
                let start = net.here();
                let a = net.conv(conv("a", 8)).here();
                let b = net.from(start).conv(conv("b", 8)).add(a).relu().here();
                net.from(a).concat(b).avg_pool(2);
            }),
        ),
        (
            "concatenations: nested, of one map in two, of a map with itself, of the input, of dropout",
            build(&|net| {
                let start = net.here();
                let a = net.conv(conv("a", 5)).relu().here();
                let b = net.conv(conv("b", 4)).dropout(0.1).concat(a).here();
                let c = net.batch_norm("bn").relu().conv(conv("c", 3)).concat(b).here();
                net.from(a).concat(a).conv(conv("d", 4)).concat(start).concat(c).batch_norm("end");
            }),
        ),
        (
            "a dense block: layers that read what those before them wrote, and a transition",
            build(&|net| {
                net.conv(conv("a", 8).no_bias());
                for layer in 0..4 {
                    // The third layer's sum is also read as it is: its block stays as it was written.
                    let before = if layer == 2 { net.avg_pool(2).here() } else { net.here() };
                    net.batch_norm(format!("n{layer}")).relu();
                    net.conv(Conv2d::new(format!("b{layer}"), 16, 1).no_bias()).batch_norm(format!("m{layer}")).relu();
                    net.conv(conv(&format!("c{layer}"), 8).no_bias()).concat(before);
                }
                net.batch_norm("end").relu().conv(Conv2d::new("last", 5, 1)).avg_pool(2);
            }),
        ),
        (
            "max(x, 0), pooling and batch norm by themselves, vectors",
            build(&|net| {
                net.batch_norm("first").relu().relu().conv(conv("a", 8)).relu().batch_norm("b").max_pool(2);
                net.conv(Conv2d { padding: Padding::Circular, ..Conv2d::new("c", 6, 2) }).flatten().relu();
                net.linear("d", 7).relu().batch_norm("e").linear("f", 5).dropout(0.2);
            }),
        ),
        ("a network that ends in a convolution", {
            Network::chain(vec![Layer::Conv2d(Conv2d::new("a", 8, 3)), Layer::Dropout { probability: 0.5 }], input)
                .unwrap()
        }),
    ]
}

/// Points and networks one after the other in one object; nothing of one stays for the next.
#[test]
fn networks_and_points_follow_each_other() {
    device::be_one_thread();
    let network = network("lenet", 3, 2);
    let points: Vec<f32> = (0..2).flat_map(|index| evaluation_point(5, index, 3072)).collect();
    let both = Tensor::from_slice(&points).view([2, 3072]);
    let mut one = FusedNetwork::new(&network, Precision::Fp32, Device::Cpu).unwrap();
    let parts = std::cell::RefCell::new(Vec::new());
    for member in 0..2 {
        let mut parameters = vec![0.0f32; network.parameter_count()];
        network.initialise(1, "lenet", member, &mut parameters);
        let flat = Tensor::from_slice(&parameters);
        let got = one.gradients(&flat, &both, 100.0, &|part| parts.borrow_mut().push(part)).unwrap();
        let got = tensor::numbers::<f32>(&got).unwrap();
        for (point, got) in points.chunks(3072).zip(got.chunks(3072)) {
            let pixels: Vec<usize> = (0..3072).collect();
            let fresh = fused(&network, (Precision::Fp32, Norms::Drawn), &parameters, point, &pixels);
            assert_eq!(wide(got), fresh);
            let plain = plain(&network, Precision::Fp32, &parameters, point, 100.0, &pixels);
            assert_close(&fresh, &plain, 1e-6, "lenet");
        }
    }
    let parts = parts.into_inner();
    assert_eq!(parts.last(), Some(&1.0));
    assert!(parts.len() >= 4 && parts.iter().all(|part| (0.0..=1.0).contains(part)), "{parts:?}");
}

#[test]
fn what_does_not_fit_is_refused_there_too() {
    let network = network("logreg", 1, 1);
    let mut fused = FusedNetwork::new(&network, Precision::Fp32, Device::Cpu).unwrap();
    let of = |numbers: i64| Tensor::zeros([numbers], (Kind::Float, Device::Cpu));
    let mut refused = |parameters: i64, point: i64| {
        fused.gradients(&of(parameters), &of(point).unsqueeze(0), 1.0, &|_| {}).unwrap_err().to_string()
    };
    assert_eq!(refused(1000, 1024), "parameters: 1000 numbers, 1025 are needed");
    assert_eq!(refused(1025, 1000), "points: 1000 numbers, 1024 are needed");
    let error = fused.gradients_at(&of(1025), &of(1024).unsqueeze(0), 1.0, &[2000], &|_| {}).unwrap_err();
    assert_eq!(error.to_string(), "pixel 2000 is beyond the input of 1024 numbers");
    assert!(FusedNetwork::new(&network, Precision::Tf32, Device::Cpu).is_err());
}
