//! Programs: what is merged, where maps lie, how many launches a pass takes.

use super::lower::lower;
use super::program::{Action, Program};
use nadgrid_core::architecture::{self, Network, Shape};

fn network(name: &str) -> Network {
    let input = Shape { channels: 1, height: 32, width: 32 };
    architecture::find(name).unwrap().network(input, 1).unwrap()
}

fn program(name: &str) -> Program {
    lower(&network(name))
}

fn count(program: &Program, is: impl Fn(&Action) -> bool) -> usize {
    program.operations.iter().filter(|operation| is(&operation.action)).count()
}

#[test]
fn launches_of_a_pass_are_few() {
    for (name, launches) in [
        ("logreg", 1),
        ("lenet", 13),
        ("vgg11", 18),
        ("vgg11_bn", 18),
        ("resnet18", 22),
        ("densenet121", 311),
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
    assert_eq!(count(&program, |a| matches!(a, Action::Convolve { relu: true, .. })), 17);
    assert_eq!(count(&program, |a| matches!(a, Action::Convolve { relu: false, .. })), 3);
    assert_eq!(program.operations.iter().filter(|o| o.residual.is_some()).count(), 8);
    // The three convolutions whose sum another computes leave their bias to it.
    assert_eq!(program.products.iter().filter(|p| !p.biased).count(), 3);
    assert_eq!(program.affines.iter().filter(|a| a.also.is_some()).count(), 3);
}

#[test]
fn densenets_have_no_concatenations() {
    let program = program("densenet121");
    assert_eq!(count(&program, |a| matches!(a, Action::Copy)), 0);
    let blocks: Vec<usize> = program.buffers.iter().map(|shape| shape.channels).filter(|&c| c >= 256).collect();
    println!("{blocks:?}");
}
