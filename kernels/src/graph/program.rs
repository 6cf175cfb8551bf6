//! A network as the operations that evaluate it, and the maps between them.
//!
//! A batch norm right after a convolution or a linear layer, a sum with a map that is there already and a ReLU become
//! one operation with it. A concatenation is no operation: its consumers read the parts. A linear layer is a
//! convolution of a map of one position.
//! Deliberately absent: the numbers of any member.

use super::taps::Taps;
use crate::KernelError;
use crate::simd::lines;
use nadgrid_core::architecture::{Layer, Network, Padding, Shape, Step};

/// A map that is in memory as one.
#[derive(Clone, Debug)]
pub(crate) struct FeatureMap {
    pub(crate) shape: Shape,
    /// The network's map whose window this one has.
    pub(crate) window_of: usize,
    /// The buffer of its windows. Maps that are not needed at one time may share it.
    pub(crate) slot: usize,
}

impl FeatureMap {
    /// The number of vectors of one position.
    pub(crate) fn lines(&self) -> usize {
        lines(self.shape.channels)
    }

    /// The number of vectors of all positions.
    pub(crate) fn all_lines(&self) -> usize {
        self.shape.height * self.shape.width * self.lines()
    }
}

/// The operations on an operation's sums before they are stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct After {
    /// The parameter index of a batch norm's weight.
    pub(crate) norm: Option<usize>,
    /// A map to add.
    pub(crate) add: Option<usize>,
    pub(crate) relu: bool,
}

/// The computation of an operation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum OpKind {
    /// Products with weights: a convolution or a linear layer.
    Conv {
        weight: usize,
        bias: bool,
        after: After,
    },
    /// The channels of the inputs one after the other.
    Pointwise {
        after: After,
    },
    MaxPool,
    AvgPool,
    /// Channels, rows, columns to one vector.
    Flatten,
}

/// One operation.
#[derive(Clone, Debug)]
pub(crate) struct GraphOp {
    pub(crate) kind: OpKind,
    /// Maps; more than one for [`OpKind::Pointwise`] alone.
    pub(crate) inputs: Vec<usize>,
    pub(crate) output: usize,
    /// The positions of an input that an output reads.
    pub(crate) taps: Taps,
}

impl GraphOp {
    fn after(&self) -> Option<&After> {
        match &self.kind {
            OpKind::Conv { after, .. } | OpKind::Pointwise { after } => Some(after),
            _ => None,
        }
    }

    /// Every map that it reads.
    fn reads(&self) -> impl Iterator<Item = usize> + '_ {
        self.inputs.iter().copied().chain(self.after().and_then(|after| after.add))
    }
}

/// The operations of a network in order. Map 0 is the network's input.
#[derive(Clone, Debug)]
pub(crate) struct GraphProgram {
    pub(crate) ops: Vec<GraphOp>,
    pub(crate) maps: Vec<FeatureMap>,
    /// The map of the network's outputs.
    pub(crate) output: usize,
    pub(crate) slots: usize,
}

impl GraphProgram {
    /// # Errors
    /// [`KernelError::Unsupported`] when a map has more vectors than the kernels can address.
    pub(crate) fn new(network: &Network) -> Result<Self, KernelError> {
        let mut lowering = GraphLowering::new(network);
        for place in 0..network.steps().len() {
            lowering.lower(place);
        }
        let output = lowering.whole(network.steps().len());
        let GraphLowering { ops, mut maps, .. } = lowering;
        if let Some(map) = maps.iter().find(|map| map.all_lines() >= 1 << 29) {
            let layer = map.window_of.saturating_sub(1);
            let what = network.steps().get(layer).map_or("end", |step| step.layer.kind());
            return Err(KernelError::Unsupported { layer, what, why: "maps have fewer than 2^33 numbers" });
        }
        let slots = assign_slots(&ops, &mut maps, output);
        Ok(Self { ops, maps, output, slots })
    }
}

struct GraphLowering<'a> {
    network: &'a Network,
    /// The steps that read each of the network's maps.
    readers: Vec<Vec<usize>>,
    /// Whether a step is one with an operation that is emitted.
    done: Vec<bool>,
    /// For each of the network's maps that is computed, the maps whose channels it has one after the other.
    parts: Vec<Option<Vec<usize>>>,
    ops: Vec<GraphOp>,
    maps: Vec<FeatureMap>,
}

impl<'a> GraphLowering<'a> {
    fn new(network: &'a Network) -> Self {
        let count = network.steps().len() + 1;
        let mut readers = vec![Vec::new(); count];
        for (place, step) in network.steps().iter().enumerate() {
            step.inputs.iter().for_each(|&map| readers[map].push(place));
        }
        let mut parts = vec![None; count];
        parts[0] = Some(vec![0]);
        let maps = vec![FeatureMap { shape: network.input(), window_of: 0, slot: 0 }];
        Self { network, readers, done: vec![false; count - 1], parts, ops: Vec::new(), maps }
    }

    /// The parts of one of the network's maps.
    fn parts(&self, map: usize) -> Vec<usize> {
        self.parts[map].clone().unwrap_or_default()
    }

    /// The one map that holds all of a network's map; it is put together if there is none.
    fn whole(&mut self, map: usize) -> usize {
        match self.parts(map)[..] {
            [one] => one,
            _ => {
                let inputs = self.parts(map);
                let shape = self.network.map(map);
                let kind = OpKind::Pointwise { after: After::default() };
                let whole = self.push(kind, inputs, Taps::pointwise(shape), shape, map);
                self.parts[map] = Some(vec![whole]);
                whole
            }
        }
    }

    fn push(&mut self, kind: OpKind, inputs: Vec<usize>, taps: Taps, shape: Shape, window_of: usize) -> usize {
        let output = self.maps.len();
        self.maps.push(FeatureMap { shape, window_of, slot: 0 });
        self.ops.push(GraphOp { kind, inputs, output, taps });
        output
    }

    /// Emits the operation of a step, and of those after it that are one with it.
    fn lower(&mut self, place: usize) {
        let network = self.network;
        let step = &network.steps()[place];
        if self.done[place] {
            return;
        }
        let from = step.inputs[0];
        let mut end = place + 1;
        let parts = match &step.layer {
            Layer::Conv2d(conv) => {
                let input = self.whole(from);
                let taps = Taps::new([conv.kernel; 2], conv.stride, conv.padding, step.input, step.output);
                vec![self.product(step, input, taps, &mut end)]
            }
            Layer::Linear { .. } => {
                let input = self.flattened(from, place + 1);
                vec![self.product(step, input, Taps::pointwise(step.output), &mut end)]
            }
            Layer::Flatten => vec![self.flattened(from, place + 1)],
            Layer::MaxPool2d { size } => vec![self.pool(step, OpKind::MaxPool, *size, end)],
            Layer::AvgPool2d { size } => vec![self.pool(step, OpKind::AvgPool, *size, end)],
            Layer::BatchNorm2d { .. } => {
                let after = After { norm: step.weight, ..After::default() };
                vec![self.pointwise(from, after, &mut end)]
            }
            Layer::Relu => vec![self.pointwise(from, After { relu: true, ..After::default() }, &mut end)],
            Layer::Add => {
                let add = Some(self.whole(step.inputs[1]));
                vec![self.pointwise(from, After { add, ..After::default() }, &mut end)]
            }
            Layer::Dropout { .. } => self.parts(from),
            Layer::Concat => [self.parts(from), self.parts(step.inputs[1])].concat(),
        };
        self.parts[end] = Some(parts);
    }

    fn pool(&mut self, step: &Step, kind: OpKind, size: usize, map: usize) -> usize {
        let input = self.whole(step.inputs[0]);
        let taps = Taps::new([size; 2], size, Padding::Zeros(0), step.input, step.output);
        self.push(kind, vec![input], taps, step.output, map)
    }

    /// The map of one position that holds a network's map in PyTorch's order.
    fn flattened(&mut self, map: usize, window_of: usize) -> usize {
        let from = self.network.map(map);
        let input = self.whole(map);
        if (from.height, from.width) == (1, 1) {
            return input;
        }
        let shape = Shape { channels: from.len(), height: 1, width: 1 };
        let taps = Taps::new([from.height, from.width], 1, Padding::Zeros(0), from, shape);
        self.push(OpKind::Flatten, vec![input], taps, shape, window_of)
    }

    /// A product with weights and what follows it.
    fn product(&mut self, step: &Step, input: usize, taps: Taps, end: &mut usize) -> usize {
        let after = self.after(After::default(), end);
        let bias = self.network.bias(step).is_some();
        let kind = OpKind::Conv { weight: step.weight.unwrap_or_default(), bias, after };
        self.push(kind, vec![input], taps, step.output, *end)
    }

    fn pointwise(&mut self, from: usize, after: After, end: &mut usize) -> usize {
        let after = self.after(after, end);
        let inputs = self.parts(from);
        let shape = self.network.map(*end);
        self.push(OpKind::Pointwise { after }, inputs, Taps::pointwise(shape), shape, *end)
    }

    /// Takes in the steps that alone read the map `end` and can be done before it is stored: in the order batch norm,
    /// sum, ReLU. Moves `end` to the last one's map.
    fn after(&mut self, mut after: After, end: &mut usize) -> After {
        let network = self.network;
        while let [reader] = self.readers[*end][..] {
            let step = &network.steps()[reader];
            let done = after.relu || after.add.is_some();
            match &step.layer {
                Layer::BatchNorm2d { .. } if !done && after.norm.is_none() => after.norm = step.weight,
                Layer::Add if !done => {
                    let other = step.inputs[usize::from(step.inputs[0] == *end)];
                    if self.parts[other].is_none() {
                        return after;
                    }
                    after.add = Some(self.whole(other));
                }
                Layer::Relu if !after.relu => after.relu = true,
                Layer::Dropout { .. } => {}
                _ => return after,
            }
            self.done[reader] = true;
            *end = reader + 1;
        }
        after
    }
}

/// Gives every map a buffer for its windows that no map needed at the same time has: of those that are free, the one
/// whose size is nearest.
fn assign_slots(ops: &[GraphOp], maps: &mut [FeatureMap], output: usize) -> usize {
    let mut last_read = vec![0; maps.len()];
    for (place, op) in ops.iter().enumerate() {
        op.reads().for_each(|map| last_read[map] = place);
    }
    last_read[output] = ops.len();
    let mut sizes = vec![maps[0].all_lines()];
    let mut free: Vec<usize> = Vec::new();
    for (place, op) in ops.iter().enumerate() {
        let need = maps[op.output].all_lines();
        let nearest = (0..free.len()).min_by_key(|&at| sizes[free[at]].abs_diff(need));
        let slot = match nearest {
            Some(at) => free.swap_remove(at),
            None => {
                sizes.push(0);
                sizes.len() - 1
            }
        };
        sizes[slot] = sizes[slot].max(need);
        maps[op.output].slot = slot;
        let mut read: Vec<usize> = op.reads().collect();
        read.sort_unstable();
        read.dedup();
        free.extend(read.into_iter().filter(|&map| last_read[map] == place).map(|map| maps[map].slot));
        // What nobody reads is free at once.
        if last_read[op.output] == 0 && op.output != output {
            free.push(slot);
        }
    }
    sizes.len()
}
