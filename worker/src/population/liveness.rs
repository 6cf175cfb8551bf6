//! The lifetimes of a network's maps, and the most numbers of them that are held at once.
//!
//! Both follow from the network alone. Deliberately absent: tensors and bytes.

use nadgrid_core::architecture::Network;

/// The last step that reads each map; the output's is `usize::MAX`, since no step reads it.
pub(super) fn last_readers(network: &Network) -> Vec<usize> {
    let mut last = vec![usize::MAX; network.steps().len() + 1];
    for (index, step) in network.steps().iter().enumerate() {
        step.inputs.iter().for_each(|&map| last[map] = index);
    }
    last
}

/// The most numbers that are held at once while one input of one member is evaluated.
pub(super) fn live_numbers(network: &Network) -> usize {
    let last = last_readers(network);
    let mut live = network.input().len();
    let mut most = 0;
    for (index, step) in network.steps().iter().enumerate() {
        live += step.output.len();
        most = most.max(live);
        let mut read = step.inputs.clone();
        read.dedup();
        let gone = read.into_iter().filter(|&map| last[map] == index);
        live -= gone.map(|map| network.map(map).len()).sum::<usize>();
    }
    most
}
