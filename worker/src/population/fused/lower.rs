//! From a network's graph to a program: batch norms go into the convolutions before them, sums and max(x, 0) into the operation
//! whose result they read, dropout away, and concatenations into where their operands are written.

use super::program::{BufferView, FusedAction, FusedAffine, FusedOperation, FusedProduct, FusedProgram, LANE};
use nadgrid_core::architecture::{Init, Layer, Network, Padding, Shape, Step};

/// The assumptions of a program about batch norms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::population) enum Norms {
    /// They are as drawn: they multiply by one positive number, 1/√(1 + eps).
    Drawn,
    /// They may have any weights and statistics.
    #[cfg_attr(not(test), allow(dead_code, reason = "PyTorch's values are those of other batch norms"))]
    Any,
}

/// Returns the program of a network in evaluation mode.
pub(super) fn lower(network: &Network, norms: Norms) -> FusedProgram {
    let mut lowering = FusedLowering::new(network);
    for index in 0..network.steps().len() {
        lowering.step(index);
    }
    if norms == Norms::Drawn {
        lowering.rectify_joined();
    }
    lowering.share_biases();
    lowering.place()
}

/// An operation on maps, as [`Step::inputs`] counts them, that have no place yet.
struct LoweredNode {
    step: usize,
    action: FusedAction,
    input: usize,
    residual: Option<usize>,
    rectified: bool,
    output: usize,
}

struct FusedLowering<'a> {
    network: &'a Network,
    /// The map whose numbers each map shows: dropout and most flattenings change none.
    shown: Vec<usize>,
    /// The steps that read each map; the end of the network counts as one.
    readers: Vec<Vec<usize>>,
    /// Steps that are part of an earlier node.
    merged: Vec<bool>,
    nodes: Vec<LoweredNode>,
    products: Vec<FusedProduct>,
    affines: Vec<FusedAffine>,
}

impl<'a> FusedLowering<'a> {
    fn new(network: &'a Network) -> Self {
        let steps = network.steps();
        let mut shown: Vec<usize> = (0..=steps.len()).collect();
        for (index, step) in steps.iter().enumerate() {
            if changes_nothing(network, index, step) {
                shown[index + 1] = shown[step.inputs[0]];
            }
        }
        let mut readers = vec![Vec::new(); steps.len() + 1];
        for (index, step) in steps.iter().enumerate().filter(|&(index, _)| shown[index + 1] == index + 1) {
            step.inputs.iter().for_each(|&map| readers[shown[map]].push(index));
        }
        readers[shown[steps.len()]].push(steps.len());
        let merged = vec![false; steps.len()];
        Self { network, shown, readers, merged, nodes: Vec::new(), products: Vec::new(), affines: Vec::new() }
    }

    /// Returns the step that reads a map, where it is the only one.
    fn only_reader(&self, map: usize) -> Option<(usize, &'a Step)> {
        let [reader] = self.readers[map][..] else { return None };
        Some((reader, self.network.steps().get(reader)?))
    }

    fn parameter(&self, index: usize) -> usize {
        self.network.parameters()[index].range.start
    }

    /// Makes a node of a step and of those that go with it.
    fn step(&mut self, index: usize) {
        let step = &self.network.steps()[index];
        if self.merged[index] || self.shown[index + 1] != index + 1 {
            return;
        }
        let input = self.shown[step.inputs[0]];
        let mut node = LoweredNode {
            step: index,
            action: FusedAction::Copy,
            input,
            residual: None,
            rectified: false,
            output: index + 1,
        };
        node.action = match &step.layer {
            Layer::Conv2d(conv) => {
                let affine = self.affine(step);
                let norm = self.merge(&mut node, |layer| matches!(layer, Layer::BatchNorm2d { .. }));
                self.affines[affine].norm = norm.and_then(|norm| self.norm(norm));
                self.merge_sum(&mut node);
                let relu = self.merge_relu(&mut node);
                let product = self.product(step, conv.kernel, affine);
                FusedAction::Convolve { product, kernel: conv.kernel, stride: conv.stride, padding: conv.padding, relu }
            }
            Layer::Linear { .. } => {
                let affine = self.affine(step);
                let relu = self.merge_relu(&mut node);
                FusedAction::Multiply { product: self.product(step, 0, affine), relu }
            }
            Layer::BatchNorm2d { .. } => {
                let norm = self.norm(index);
                let channels = step.output.channels;
                self.affines.push(FusedAffine { channels, norm, ..FusedAffine::default() });
                FusedAction::Normalise { affine: self.affines.len() - 1, relu: self.merge_relu(&mut node) }
            }
            Layer::Add => {
                node.residual = Some(self.shown[step.inputs[1]]);
                FusedAction::Sum { relu: self.merge_relu(&mut node) }
            }
            Layer::Relu => FusedAction::Rectify,
            Layer::MaxPool2d { size } => FusedAction::MaxPool { size: *size },
            Layer::AvgPool2d { size } => FusedAction::AvgPool { size: *size },
            Layer::Flatten => FusedAction::Flatten,
            // Placed, not computed; dropout is the identity.
            Layer::Concat | Layer::Dropout { .. } => return,
        };
        self.nodes.push(node);
    }

    /// Takes the only reader of a node's output into the node, if it is such a layer, and returns its index.
    fn merge(&mut self, node: &mut LoweredNode, is_such: impl Fn(&Layer) -> bool) -> Option<usize> {
        let (reader, _) = self.only_reader(node.output).filter(|(_, step)| is_such(&step.layer))?;
        self.merged[reader] = true;
        node.output = reader + 1;
        Some(reader)
    }

    fn merge_relu(&mut self, node: &mut LoweredNode) -> bool {
        self.merge(node, |layer| matches!(layer, Layer::Relu)).is_some()
    }

    /// Takes a sum into the node, if its other operand is computed before. If it is not, that operand's node may take the sum.
    fn merge_sum(&mut self, node: &mut LoweredNode) {
        let Some((_, step)) = self.only_reader(node.output) else { return };
        if !matches!(step.layer, Layer::Add) {
            return;
        }
        let operands = step.inputs.iter().map(|&map| self.shown[map]);
        let other = operands.filter(|&map| map != node.output && map <= node.step).collect::<Vec<_>>();
        if let [other] = other[..] {
            let _ = self.merge(node, |layer| matches!(layer, Layer::Add));
            node.residual = Some(other);
        }
    }

    /// Returns where a batch norm's weight and bias begin among the parameters.
    fn norm(&self, index: usize) -> Option<(usize, usize)> {
        let weight = self.network.steps()[index].weight?;
        Some((self.parameter(weight), self.parameter(weight + 1)))
    }

    /// Makes the affine of a product, and returns its index.
    fn affine(&mut self, step: &Step) -> usize {
        let bias = self.network.bias(step).map(|parameter| parameter.range.start);
        self.affines.push(FusedAffine { channels: step.output.channels, bias, ..FusedAffine::default() });
        self.affines.len() - 1
    }

    /// Makes the product of a convolution with such a kernel, or of a fully connected layer, which has none, and returns its index.
    fn product(&mut self, step: &Step, kernel: usize, affine: usize) -> usize {
        let weight = step.weight.map_or(0..0, |weight| self.network.parameters()[weight].range.clone());
        // A fully connected layer reads the map before a flattening, and all of it.
        let Shape { channels, height, width } = self.network.map(self.shown[step.inputs[0]]);
        let (height, width) = if kernel > 0 { (kernel, kernel) } else { (height, width) };
        let shape = [step.output.channels, channels, height, width];
        let FusedAffine { norm, bias, .. } = self.affines[affine];
        let scaled = norm.is_some();
        let biased = norm.is_some() || bias.is_some();
        let inputs = shape[1];
        self.products.push(FusedProduct { weight, shape, inputs, affine, normed: false, scaled, biased });
        self.products.len() - 1
    }

    /// Applies max(x, 0) to joined maps where they are written, if all their readers are drawn batch norms before max(x, 0), as in
    /// a DenseNet: for positive c, max(c·x, 0) is c·max(x, 0). Convolutions of kernel 1 then read the joined maps, with weights
    /// multiplied by c, and nothing is computed between. Other readers' max(x, 0) changes nothing any more.
    fn rectify_joined(&mut self) {
        let mut groups: Vec<usize> = (0..=self.network.steps().len()).collect();
        for (index, step) in self.network.steps().iter().enumerate() {
            if matches!(step.layer, Layer::Concat) {
                for map in step.inputs.iter().map(|&map| self.shown[map]) {
                    let from = groups[map];
                    let to = groups[index + 1];
                    groups.iter_mut().filter(|group| **group == from).for_each(|group| *group = to);
                }
            }
        }
        let joined = |group: usize| groups.iter().filter(|&&other| other == group).count() > 1;
        let rectifies = |step: &usize| {
            self.is_drawn(*step) && self.nodes.iter().any(|node| node.step == *step && is_norm_and_relu(node))
        };
        let joins = |step: &usize| matches!(self.network.steps().get(*step), Some(Step { layer: Layer::Concat, .. }));
        let mut rectified: Vec<bool> = groups.iter().map(|&group| group != groups[0] && joined(group)).collect();
        for (map, readers) in self.readers.iter().enumerate().filter(|(map, _)| self.shown[*map] == *map) {
            if rectified[map] && !readers.iter().all(|reader| joins(reader) || rectifies(reader)) {
                let spoilt = groups[map];
                rectified
                    .iter_mut()
                    .zip(&groups)
                    .filter(|(_, group)| **group == spoilt)
                    .for_each(|(is, _)| *is = false);
            }
        }
        for node in self.nodes.iter_mut().filter(|node| rectified[node.output]) {
            match &mut node.action {
                FusedAction::Convolve { relu, .. } | FusedAction::Multiply { relu, .. } => *relu = true,
                FusedAction::Normalise { relu, .. } | FusedAction::Sum { relu } => *relu = true,
                _ => node.rectified = true,
            }
        }
        let norms: Vec<(usize, usize)> = self
            .nodes
            .iter()
            .filter(|node| rectified[node.input] && is_norm_and_relu(node))
            .map(|node| (node.input, node.output))
            .collect();
        for (from, to) in norms {
            self.skip_norm(from, to);
        }
    }

    /// Whether a batch norm's weight is drawn as 1 and its bias as 0.
    fn is_drawn(&self, step: usize) -> bool {
        let Some(weight) = self.network.steps().get(step).and_then(|step| step.weight) else { return false };
        let is = |index: usize, value| self.network.parameters()[index].init == Init::Constant { value };
        is(weight, 1.0) && is(weight + 1, 0.0)
    }

    /// Lets the readers of a batch norm's map read what it reads, if they are convolutions of kernel 1.
    fn skip_norm(&mut self, read: usize, written: usize) {
        let reads = |node: &&mut LoweredNode| {
            let is_product =
                matches!(node.action, FusedAction::Convolve { kernel: 1, stride: 1, padding: Padding::Zeros(0), .. });
            is_product && node.input == written && node.residual != Some(written)
        };
        let readers: Vec<&mut LoweredNode> = self.nodes.iter_mut().filter(reads).collect();
        if readers.len() != self.readers[written].len() {
            return;
        }
        for node in readers {
            node.input = read;
            if let FusedAction::Convolve { product, .. } = node.action {
                self.products[product].normed = true;
                self.products[product].scaled = true;
            }
        }
        self.nodes.retain(|node| node.output != written);
    }

    /// Lets a convolution that adds another's result, which nothing else reads, add the other's bias too.
    fn share_biases(&mut self) {
        for place in 0..self.nodes.len() {
            let LoweredNode { action: FusedAction::Convolve { product: taker, .. }, residual: Some(residual), .. } =
                self.nodes[place]
            else {
                continue;
            };
            let giver = self.nodes.iter().find(|node| node.output == residual);
            let Some(LoweredNode {
                action: FusedAction::Convolve { product: giver, relu: false, .. },
                residual: None,
                ..
            }) = giver
            else {
                continue;
            };
            if self.readers[residual].len() == 1 && self.products[*giver].biased {
                let (giver, from) = (*giver, self.products[*giver].affine);
                self.products[giver].biased = false;
                self.products[taker].biased = true;
                let to = self.products[taker].affine;
                self.affines[to].also = Some(from);
            }
        }
    }

    /// Gives every map its place, and makes operations of the nodes.
    fn place(mut self) -> FusedProgram {
        let steps = self.network.steps();
        let mut buffers = vec![self.padded_input()];
        let mut places: Vec<Option<BufferView>> = vec![None; steps.len() + 1];
        places[0] = Some(BufferView { buffer: 0, first: 0, shape: buffers[0] });
        // The last concatenation has the largest buffer: those before it find their results' place in it.
        let mut copies: Vec<(usize, usize, BufferView)> = Vec::new();
        for (index, step) in steps.iter().enumerate().rev().filter(|(_, step)| matches!(step.layer, Layer::Concat)) {
            let whole = *places[index + 1].get_or_insert_with(|| own(&mut buffers, step.output));
            let mut first = whole.first;
            for &map in &step.inputs {
                let (map, shape) = (self.shown[map], self.network.map(map));
                let part = BufferView { buffer: whole.buffer, first, shape };
                first += shape.channels;
                match places[map] {
                    None => places[map] = Some(part),
                    Some(_) => copies.push((index, map, part)),
                }
            }
        }
        for node in &self.nodes {
            places[node.output].get_or_insert_with(|| own(&mut buffers, self.network.map(node.output)));
        }
        let place =
            |map: usize| places[map].unwrap_or(BufferView { buffer: 0, first: 0, shape: self.network.map(map) });
        let operation = |node: &LoweredNode| FusedOperation {
            step: node.step,
            what: steps[node.step].layer.kind(),
            action: node.action,
            reads: place(node.input),
            residual: node.residual.map(place),
            rectified: node.rectified,
            writes: place(node.output),
        };
        let copy = |&(step, map, writes): &(usize, usize, BufferView)| {
            let what = steps[step].layer.kind();
            let reads = place(map);
            FusedOperation { step, what, action: FusedAction::Copy, reads, residual: None, rectified: false, writes }
        };
        let mut operations: Vec<FusedOperation> =
            self.nodes.iter().map(operation).chain(copies.iter().map(copy)).collect();
        operations.sort_by_key(|operation| operation.step);
        let output = place(self.shown[steps.len()]);
        FusedProgram { buffers, operations, products: self.products, affines: self.affines, output }
    }

    /// Returns the input's shape. Where only convolutions of channels in eights read it, zeros fill its own channels up to that:
    /// then these convolutions are one call, too.
    fn padded_input(&mut self) -> Shape {
        let input = self.network.input();
        let channels = input.channels.next_multiple_of(LANE);
        let mut products = Vec::new();
        for node in self.nodes.iter().filter(|node| node.input == 0) {
            match node.action {
                FusedAction::Convolve { product, .. } if self.products[product].shape[0].is_multiple_of(LANE) => {
                    products.push(product);
                }
                _ => return input,
            }
        }
        let read = self.readers[0].len() == products.len();
        if products.is_empty() || !read || self.nodes.iter().any(|node| node.residual == Some(0)) {
            return input;
        }
        products.into_iter().for_each(|product| self.products[product].inputs = channels);
        Shape { channels, ..input }
    }
}

/// Whether a node is a batch norm before max(x, 0), and nothing else.
fn is_norm_and_relu(node: &LoweredNode) -> bool {
    matches!(node.action, FusedAction::Normalise { relu: true, .. })
}

/// Makes a buffer for one map.
fn own(buffers: &mut Vec<Shape>, shape: Shape) -> BufferView {
    buffers.push(shape);
    BufferView { buffer: buffers.len() - 1, first: 0, shape }
}

/// Whether a step's map has the numbers of the one that it reads, in their order: dropout, a flattening of one row and column, and
/// one that only a fully connected layer reads, since that one can read the map itself.
fn changes_nothing(network: &Network, index: usize, step: &Step) -> bool {
    match step.layer {
        Layer::Dropout { .. } => true,
        Layer::Flatten => {
            let Shape { height, width, .. } = step.input;
            let mut readers = network.steps().iter().filter(|step| step.inputs.contains(&(index + 1))).peekable();
            let read = readers.peek().is_some() && readers.all(|step| matches!(step.layer, Layer::Linear { .. }));
            (height, width) == (1, 1) || read
        }
        _ => false,
    }
}
