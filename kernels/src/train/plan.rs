//! A network as the trainer walks it: which maps share memory, which layers compute together, whose gradients are wanted.
//!
//! A ReLU or a dropout whose input nobody else reads works in place, and a flatten is another name of its input: such maps
//! have one *room*. A gradient lives from the last layer that reads its room to the one that writes it, in one of a few
//! *slots*. Deliberately absent: numbers of a batch.

use super::batch_norm::BatchStatistics;
use super::convolution::ConvolutionLayer;
use super::linear::LinearLayer;
use super::pool::{PoolWindows, Pooling};
use crate::error::KernelError;
use nadgrid_core::architecture::{Conv2d, Layer, Network, Shape, Step};
use std::ops::Range;

/// A layer in its place.
pub(super) struct LayerNode {
    pub(super) work: LayerWork,
    /// Rooms of the maps that it reads, and of the one that it writes.
    pub(super) inputs: Vec<usize>,
    pub(super) output: usize,
    pub(super) input_shape: Shape,
    pub(super) output_shape: Shape,
    /// Places of its parameters among all.
    pub(super) weight: Range<usize>,
    pub(super) bias: Option<Range<usize>>,
    /// Place of its running statistics.
    pub(super) statistics: Range<usize>,
    /// Whether it stores max(x, 0) for the ReLU that follows.
    pub(super) rectify: bool,
    /// For every input whether its gradient is the first that its room gets.
    pub(super) first: Vec<bool>,
    /// Whether the network's output depends on it.
    pub(super) live: bool,
}

/// The computation of a layer.
pub(super) enum LayerWork {
    Convolution(ConvolutionLayer),
    BatchNorm(BatchStatistics),
    /// In place or not; `done` where the layer before it has done it.
    Relu {
        done: bool,
    },
    Dropout {
        probability: f32,
    },
    Pool(Pooling, PoolWindows),
    Flatten,
    Linear(LinearLayer),
    Add,
    Concat,
}

/// A network's nodes, rooms and slots.
pub(super) struct TrainerPlan {
    pub(super) nodes: Vec<LayerNode>,
    /// Numbers of every room per sample; room 0 is the input's.
    pub(super) rooms: Vec<usize>,
    /// The room of the network's output.
    pub(super) output: usize,
    /// Whether a gradient flows through the room to parameters.
    pub(super) trained: Vec<bool>,
    /// The slot of a room's gradient, if the output depends on it.
    pub(super) slots: Vec<Option<usize>>,
    /// Numbers of every slot per sample.
    pub(super) slot_lengths: Vec<usize>,
}

/// The room of every map while a plan is made.
struct Rooms {
    of_map: Vec<usize>,
    lengths: Vec<usize>,
    /// Whether all maps of a room but the newest have one reader.
    private: Vec<bool>,
    readers: Vec<usize>,
}

impl Rooms {
    fn new(network: &Network) -> Self {
        let mut readers = vec![0; network.steps().len() + 1];
        network.steps().iter().flat_map(|step| &step.inputs).for_each(|&map| readers[map] += 1);
        Self { of_map: vec![0], lengths: vec![network.input().len()], private: vec![true], readers }
    }

    /// Finds a room for a step's output.
    fn enter(&mut self, step: &Step) {
        let input = self.of_map[step.inputs[0]];
        let alone = self.private[input] && self.readers[step.inputs[0]] == 1;
        let stays = match step.layer {
            Layer::Flatten => true,
            Layer::Relu | Layer::Dropout { .. } => alone && input != 0,
            _ => false,
        };
        if stays {
            self.private[input] = alone;
            self.of_map.push(input);
        } else {
            self.of_map.push(self.lengths.len());
            self.lengths.push(step.output.len());
            self.private.push(true);
        }
    }
}

impl TrainerPlan {
    pub(super) fn new(network: &Network) -> Result<Self, KernelError> {
        let mut rooms = Rooms::new(network);
        let mut nodes = Vec::with_capacity(network.steps().len());
        for (place, step) in network.steps().iter().enumerate() {
            check(place, step)?;
            rooms.enter(step);
            nodes.push(node(network, step, &rooms.of_map));
        }
        rectify_early(&mut nodes);
        let output = rooms.of_map[network.steps().len()];
        let trained = trained(&nodes, rooms.lengths.len());
        let mut plan = Self {
            nodes,
            output,
            trained,
            slots: vec![None; rooms.lengths.len()],
            slot_lengths: Vec::new(),
            rooms: rooms.lengths,
        };
        plan.assign_slots();
        Ok(plan)
    }

    /// Gives every room that the output depends on a slot for its gradient, from the last layer to the first. A slot is free
    /// again when all vectors of samples are done with it: behind a layer that takes the batch as a whole.
    fn assign_slots(&mut self) {
        let mut free = Vec::new();
        let mut done = Vec::new();
        let mut slots = std::mem::take(&mut self.slots);
        slots[self.output] = Some(self.take_slot(&mut free, self.rooms[self.output]));
        for place in (0..self.nodes.len()).rev() {
            let inputs = self.nodes[place].inputs.clone();
            let output = self.nodes[place].output;
            let live = slots[output].is_some();
            if self.nodes[place].backward_takes_batch() {
                free.append(&mut done);
            }
            let mut first = Vec::new();
            for &room in inputs.iter().filter(|_| live) {
                first.push(slots[room].is_none());
                if slots[room].is_none() {
                    slots[room] = Some(self.take_slot(&mut free, self.rooms[room]));
                }
            }
            if !inputs.contains(&output) {
                done.extend(slots[output]);
            }
            if self.nodes[place].backward_takes_batch() {
                free.append(&mut done);
            }
            self.nodes[place].live = live;
            self.nodes[place].first = first;
        }
        self.slots = slots;
    }

    /// Numbers of a node's mask per sample.
    pub(super) fn mask_length(&self, node: &LayerNode) -> usize {
        if matches!(node.work, LayerWork::Dropout { .. }) { node.output_shape.len() } else { 0 }
    }

    pub(super) fn convolutions(&self) -> impl Iterator<Item = &ConvolutionLayer> {
        self.nodes.iter().filter_map(|node| match &node.work {
            LayerWork::Convolution(convolution) => Some(convolution),
            _ => None,
        })
    }

    /// Bytes of the layers' packed weights and sums, with batches of this many samples.
    pub(super) fn bytes(&self, samples: usize) -> u64 {
        let bytes = |node: &LayerNode| match &node.work {
            LayerWork::Convolution(convolution) => convolution.bytes(),
            LayerWork::Linear(linear) => linear.bytes(samples),
            _ => 0,
        };
        self.nodes.iter().map(bytes).sum()
    }

    /// The largest free slot, which grows where it must, or a new one.
    fn take_slot(&mut self, free: &mut Vec<usize>, length: usize) -> usize {
        let largest = (0..free.len()).max_by_key(|&place| self.slot_lengths[free[place]]);
        let slot = largest.map(|place| free.swap_remove(place)).unwrap_or_else(|| {
            self.slot_lengths.push(0);
            self.slot_lengths.len() - 1
        });
        self.slot_lengths[slot] = self.slot_lengths[slot].max(length);
        slot
    }
}

impl LayerNode {
    /// Whether the forward pass of a sample depends on the others of its batch, or is faster with them.
    pub(super) fn forward_takes_batch(&self) -> bool {
        matches!(self.work, LayerWork::BatchNorm(_) | LayerWork::Linear(_))
    }

    /// The same for the backward pass.
    pub(super) fn backward_takes_batch(&self) -> bool {
        match &self.work {
            LayerWork::Convolution(convolution) => convolution.needs_whole_batch(),
            _ => self.forward_takes_batch(),
        }
    }

    /// Whether it works in place.
    pub(super) fn in_place(&self) -> bool {
        self.inputs[0] == self.output
    }
}

fn check(place: usize, step: &Step) -> Result<(), KernelError> {
    let unsupported = |why| KernelError::Unsupported { layer: place, what: step.layer.kind(), why };
    match step.layer {
        Layer::Conv2d(Conv2d { kernel, stride, .. }) if kernel == 0 || stride == 0 => {
            Err(unsupported("its kernel and its stride must be 1 or more"))
        }
        Layer::MaxPool2d { size: 0 } | Layer::AvgPool2d { size: 0 } => Err(unsupported("its size must be 1 or more")),
        _ if step.output.is_empty() => Err(unsupported("its output must not be empty")),
        _ => Ok(()),
    }
}

fn node(network: &Network, step: &Step, of_map: &[usize]) -> LayerNode {
    let input = step.input;
    let output = step.output;
    let work = match &step.layer {
        Layer::Conv2d(conv) => LayerWork::Convolution(ConvolutionLayer::new(conv, input, output)),
        Layer::BatchNorm2d { .. } => LayerWork::BatchNorm(BatchStatistics::new(input.channels)),
        Layer::Relu => LayerWork::Relu { done: false },
        &Layer::Dropout { probability } => LayerWork::Dropout { probability },
        &Layer::MaxPool2d { size } => LayerWork::Pool(Pooling::Maximum, PoolWindows { size, input, output }),
        &Layer::AvgPool2d { size } => LayerWork::Pool(Pooling::Mean, PoolWindows { size, input, output }),
        Layer::Flatten => LayerWork::Flatten,
        Layer::Linear { features, .. } => LayerWork::Linear(LinearLayer::new(input.len(), *features)),
        Layer::Add => LayerWork::Add,
        Layer::Concat => LayerWork::Concat,
    };
    LayerNode {
        work,
        inputs: step.inputs.iter().map(|&map| of_map[map]).collect(),
        output: of_map[of_map.len() - 1],
        input_shape: input,
        output_shape: output,
        weight: step.weight.map_or(0..0, |weight| network.parameters()[weight].range.clone()),
        bias: network.bias(step).map(|bias| bias.range.clone()),
        statistics: step.statistics.clone().unwrap_or(0..0),
        rectify: false,
        first: Vec::new(),
        live: true,
    }
}

/// Lets layers that can store max(x, 0) do so for a ReLU in place behind them.
fn rectify_early(nodes: &mut [LayerNode]) {
    for place in 1..nodes.len() {
        let (before, node) = nodes.split_at_mut(place);
        let before = &mut before[place - 1];
        let node = &mut node[0];
        let able = matches!(before.work, LayerWork::Convolution(_) | LayerWork::BatchNorm(_) | LayerWork::Linear(_));
        if let LayerWork::Relu { done } = &mut node.work
            && able
            && node.inputs == [before.output]
            && node.output == before.output
        {
            *done = true;
            before.rectify = true;
        }
    }
}

/// For every room whether it depends on parameters.
fn trained(nodes: &[LayerNode], rooms: usize) -> Vec<bool> {
    let mut trained = vec![false; rooms];
    for node in nodes {
        trained[node.output] |= !node.weight.is_empty() || node.inputs.iter().any(|&room| trained[room]);
    }
    trained
}
