//! Programs: what is merged, where maps lie, how many launches a pass takes.

use super::lower::{Norms, lower};
use super::program::{FusedAction, FusedProgram};
use nadgrid_core::architecture::{self, Conv2d, Network, Shape};

fn network(name: &str) -> Network {
    let input = Shape { channels: 1, height: 32, width: 32 };
    architecture::find(name).unwrap().network(input, 1).unwrap()
}

fn program(name: &str) -> FusedProgram {
    lower(&network(name), Norms::Drawn)
}

fn count(program: &FusedProgram, is: impl Fn(&FusedAction) -> bool) -> usize {
    program.operations.iter().filter(|operation| is(&operation.action)).count()
}

#[test]
fn launches_of_a_pass_are_few() {
    for (name, launches) in [
        ("logreg", 1),
        ("lenet", 11),
        ("vgg11", 16),
        ("vgg11_bn", 16),
        ("resnet18", 22),
        ("densenet121", 192),
        ("deep_linear", 5),
    ] {
        let program = program(name);
        println!("{name}: {}, live {}", program.launches(), program.live_numbers());
        assert_eq!(program.launches(), launches, "{name}");
    }
}

/// Twenty convolutions, each with its batch norm; of a block's two or three, the last has the sum.
#[test]
fn resnets_are_convolutions_alone() {
    let program = program("resnet18");
    assert_eq!(program.operations.len(), 22);
    assert_eq!(count(&program, |a| matches!(a, FusedAction::Convolve { relu: true, .. })), 17);
    assert_eq!(count(&program, |a| matches!(a, FusedAction::Convolve { relu: false, .. })), 3);
    assert_eq!(program.operations.iter().filter(|o| o.residual.is_some()).count(), 8);
    // The three convolutions whose sum another computes leave their bias to it.
    assert_eq!(program.products.iter().filter(|p| !p.biased).count(), 3);
    assert_eq!(program.affines.iter().filter(|a| a.also.is_some()).count(), 3);
}

#[test]
fn densenets_have_no_concatenations() {
    for (norms, left) in [(Norms::Drawn, 1), (Norms::Any, 62)] {
        let program = lower(&network("densenet121"), norms);
        assert_eq!(count(&program, |a| matches!(a, FusedAction::Copy)), 0);
        // All features of a block lie in one buffer.
        let parts = program.operations.iter().filter(|o| !program.is_whole(&o.writes)).map(|o| o.writes.buffer);
        let mut layers: Vec<usize> = parts.collect();
        layers.dedup();
        assert_eq!(
            layers.iter().map(|&buffer| program.buffers[buffer].channels).collect::<Vec<_>>(),
            [256, 512, 1024, 1024]
        );
        // As drawn, batch norms before convolutions are nothing but the last one before the pooling.
        assert_eq!(count(&program, |a| matches!(a, FusedAction::Normalise { .. })), left);
    }
}

/// What is joined and read as it is, is written as it is.
#[test]
fn maps_are_rectified_where_nobody_misses_what_is_negative() {
    let input = Shape { channels: 3, height: 4, width: 4 };
    let network = |also: bool| {
        Network::build(input, |net| {
            let a = net.conv(Conv2d::new("a", 8, 3).padded(1)).here();
            let b = net.batch_norm("n").relu().conv(Conv2d::new("b", 8, 1)).concat(a).here();
            if also {
                net.conv(Conv2d::new("c", 8, 1)).flatten().linear("d", 1);
            }
            net.from(b).batch_norm("m").relu().conv(Conv2d::new("e", 8, 1)).flatten().linear("f", 1);
        })
        .unwrap()
    };
    let norms = |also| count(&lower(&network(also), Norms::Drawn), |a| matches!(a, FusedAction::Normalise { .. }));
    assert_eq!([norms(false), norms(true)], [0, 2]);
}
