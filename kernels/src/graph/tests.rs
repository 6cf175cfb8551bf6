//! Windows against whole maps, which the public interface never evaluates: the same bits.

use super::{EvaluatedWindows, WindowGraph};
use crate::simd::InstructionSet;
use nadgrid_core::architecture::{Network, Shape, find};
use nadgrid_core::random::Stream;

fn gradient(network: &Network, windows: EvaluatedWindows, pixels: &[usize]) -> Vec<u32> {
    let mut parameters = vec![0.0; network.parameter_count()];
    network.initialise(4, "windows", 0, &mut parameters);
    let mut point = vec![0.0; network.input().len()];
    Stream::new(4, &["point"], 0).fill_normal(&mut point);
    let mut out = vec![0.0; pixels.len()];
    let mut graph = WindowGraph::new(InstructionSet::best(), network, windows).unwrap();
    graph.gradient(&parameters, &point, 100.0, pixels, &mut out);
    assert!(out.iter().all(|g| g.is_finite() && *g != 0.0), "{out:?}");
    out.iter().map(|g| g.to_bits()).collect()
}

/// A corner, an edge and the middle; LeNet too, which this engine can evaluate though another one does.
#[test]
fn windows_have_the_bits_of_whole_maps() {
    for (name, side) in [("lenet", 32), ("vgg11_bn", 32), ("resnet18", 32), ("densenet121", 32), ("deep_linear", 16)] {
        let input = Shape { channels: 1, height: side, width: side };
        let network = find(name).unwrap().network(input, 1).unwrap();
        let pixels = [0, side - 1, side * side / 2 + side / 2];
        let reached = gradient(&network, EvaluatedWindows::Reached, &pixels);
        assert_eq!(reached, gradient(&network, EvaluatedWindows::Whole, &pixels), "{name}");
    }
}
