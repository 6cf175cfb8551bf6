//! The way through a network, forward and backward.
//!
//! Layers that treat samples apart are taken together for one vector of samples after the other, so that their maps stay in
//! the cache; layers that take a batch as a whole come between.

use super::batch_norm::{BatchNormGradient, ChannelAffine, ChannelExtent, Evaluate, EvaluateGradient, Normalise};
use super::elementwise::{Add, Rectify, ReluGate, Scale};
use super::lanes::{Gather, Scatter};
use super::plan::{LayerNode, LayerWork};
use super::pool::{PoolGradient, PooledMap};
use super::product::Start;
use super::weight_gradient::BiasGradient;
use super::{BatchMode, Trainer, loss};
use crate::simd::{InstructionSet, Line};
use nadgrid_core::random::Stream;
use std::ops::Range;

impl Trainer {
    /// Takes a batch's inputs.
    pub(super) fn take_batch(&mut self, rows: &[&[f32]]) {
        assert!(!rows.is_empty() && rows[0].len() == self.network.input().len(), "samples of the network's input");
        self.memory.fit(&self.plan, rows.len());
        self.set.run(Gather { rows, target: &mut self.memory.values[0] });
    }

    /// Draws what dropouts multiply the batch by.
    pub(super) fn draw_masks(&mut self, streams: &mut [Stream]) {
        self.memory.drops = !streams.is_empty();
        let dropouts = self.plan.nodes.iter().zip(&mut self.memory.masks).filter_map(|(node, mask)| match node.work {
            LayerWork::Dropout { probability } => Some((node.output_shape.len(), probability, mask)),
            _ => None,
        });
        for (stream, (length, probability, mask)) in streams.iter_mut().zip(dropouts) {
            let mut numbers = vec![0.0; self.memory.samples * length];
            stream.fill_dropout(probability, &mut numbers);
            let rows: Vec<&[f32]> = numbers.chunks_exact(length).collect();
            self.set.run(Gather { rows: &rows, target: mask });
        }
    }

    /// The batch's logits, n x classes.
    pub(super) fn output(&self) -> Vec<f32> {
        self.rows(&self.memory.values[self.plan.output], self.network.output().len())
    }

    /// The gradient of the batch's inputs, n x D.
    pub(super) fn input_gradient(&self) -> Vec<f32> {
        let length = self.network.input().len();
        match self.plan.slots[0] {
            Some(slot) => self.rows(&self.memory.gradients[slot], length),
            None => vec![0.0; self.memory.samples * length],
        }
    }

    fn rows(&self, source: &[Line], length: usize) -> Vec<f32> {
        let mut rows = vec![0.0; self.memory.samples * length];
        self.set.run(Scatter { source, length, target: &mut rows, pitch: length });
        rows
    }

    /// The batch's mean cross-entropy; the backward pass begins with its gradient.
    pub(super) fn loss(&mut self, labels: &[u8]) -> f64 {
        let classes = self.network.output().len();
        let logits = &self.memory.values[self.plan.output];
        let Some(slot) = self.plan.slots[self.plan.output] else { return f64::NAN };
        loss::cross_entropy(logits, classes, labels, &mut self.memory.gradients[slot])
    }

    /// The backward pass begins with these gradients of logits, one row for every sample.
    pub(super) fn take_cotangents(&mut self, rows: &[&[f32]]) {
        let Some(slot) = self.plan.slots[self.plan.output] else { return };
        self.set.run(Gather { rows, target: &mut self.memory.gradients[slot] });
    }

    /// Evaluates the batch.
    pub(super) fn forward(&mut self, mode: BatchMode) {
        for place in 0..self.plan.nodes.len() {
            self.prepare_forward(place);
        }
        let vectors = self.memory.vectors();
        let takes_batch: Vec<bool> = self.plan.nodes.iter().map(LayerNode::forward_takes_batch).collect();
        let mut place = 0;
        while place < takes_batch.len() {
            let end = (place..takes_batch.len()).find(|&node| takes_batch[node]).unwrap_or(takes_batch.len());
            for vector in 0..vectors {
                (place..end).for_each(|node| self.forward_node(node, mode, vector..vector + 1));
            }
            if end < takes_batch.len() {
                self.forward_node(end, mode, 0..vectors);
            }
            place = end + 1;
        }
    }

    fn prepare_forward(&mut self, place: usize) {
        let node = &mut self.plan.nodes[place];
        let weights = &self.parameters[node.weight.clone()];
        match &mut node.work {
            LayerWork::Convolution(convolution) => convolution.prepare_forward(weights),
            LayerWork::Linear(linear) => linear.prepare_forward(weights),
            _ => {}
        }
    }

    /// One layer on some vectors of samples.
    fn forward_node(&mut self, place: usize, mode: BatchMode, vectors: Range<usize>) {
        let node = &mut self.plan.nodes[place];
        let memory = &mut self.memory;
        // The output leaves its place while the inputs are read.
        let mut room = std::mem::take(&mut memory.values[node.output]);
        let from = part(&vectors, node.input_shape.len());
        let to = part(&vectors, node.output_shape.len());
        let output = &mut room[to.clone()];
        let in_place = node.in_place();
        let input = if in_place { &[][..] } else { &memory.values[node.inputs[0]][from.clone()] };
        let extent = extent(node, &vectors, memory.samples);
        match &mut node.work {
            LayerWork::Convolution(convolution) => {
                let start = node.bias.clone().map_or(Start::Zero, |bias| Start::Biases(&self.parameters[bias]));
                convolution.forward(self.set, input, start, node.rectify, &mut memory.scratch, output);
            }
            LayerWork::Linear(linear) => {
                let biases = node.bias.clone().map_or(&[][..], |bias| &self.parameters[bias]);
                linear.forward(self.set, input, biases, node.rectify, output);
            }
            LayerWork::BatchNorm(statistics) => {
                let affine = affine(&self.parameters, &node.weight, &node.bias);
                let running_means = &mut self.running_means[node.statistics.clone()];
                let running_variances = &mut self.running_variances[node.statistics.clone()];
                let rectify = node.rectify;
                match mode {
                    BatchMode::Training => self.set.run(Normalise {
                        extent,
                        input,
                        affine,
                        statistics,
                        running_means,
                        running_variances,
                        rectify,
                        output,
                    }),
                    BatchMode::Evaluation => self.set.run(Evaluate {
                        extent,
                        input,
                        affine,
                        running_means,
                        running_variances,
                        rectify,
                        output,
                    }),
                }
            }
            LayerWork::Pool(pooling, windows) => {
                self.set.run(PooledMap { pooling: *pooling, windows: *windows, input, output });
            }
            LayerWork::Relu { done: true } | LayerWork::Flatten => {}
            LayerWork::Relu { done: false } => {
                copy_unless(in_place, input, output);
                self.set.run(Rectify(output));
            }
            LayerWork::Dropout { .. } => {
                copy_unless(in_place, input, output);
                if mode == BatchMode::Training && memory.drops {
                    self.set.run(Scale { mask: &memory.masks[place][to], numbers: output });
                }
            }
            LayerWork::Add => {
                output.copy_from_slice(input);
                self.set.run(Add { terms: &memory.values[node.inputs[1]][from], sums: output });
            }
            LayerWork::Concat => {
                let first = node.input_shape.len();
                let whole = node.output_shape.len();
                let second = &memory.values[node.inputs[1]][part(&vectors, whole - first)];
                let inputs = input.chunks_exact(first).zip(second.chunks_exact(whole - first));
                for (output, (a, b)) in output.chunks_exact_mut(whole).zip(inputs) {
                    output[..first].copy_from_slice(a);
                    output[first..].copy_from_slice(b);
                }
            }
        }
        memory.values[node.output] = room;
    }

    /// Propagates the gradient of the output: in training to the parameters, in evaluation to the input.
    pub(super) fn backward(&mut self, mode: BatchMode) {
        for place in 0..self.plan.nodes.len() {
            self.prepare_backward(place, mode);
        }
        if mode == BatchMode::Training {
            self.gradient.fill(0.0);
        }
        let vectors = self.memory.vectors();
        let takes_batch: Vec<bool> = self.plan.nodes.iter().map(LayerNode::backward_takes_batch).collect();
        let mut end = takes_batch.len();
        while end > 0 {
            let start = (0..end).rev().find(|&node| takes_batch[node]).map_or(0, |node| node + 1);
            for vector in 0..vectors {
                (start..end).rev().for_each(|node| self.backward_node(node, mode, vector..vector + 1));
            }
            if start > 0 {
                self.backward_node(start - 1, mode, 0..vectors);
            }
            end = start.saturating_sub(1);
        }
        if mode == BatchMode::Training {
            self.finish_weight_gradients();
        }
    }

    fn prepare_backward(&mut self, place: usize, mode: BatchMode) {
        let node = &mut self.plan.nodes[place];
        let weights = &self.parameters[node.weight.clone()];
        let wanted = mode == BatchMode::Evaluation || self.plan.trained[node.inputs[0]];
        match &mut node.work {
            LayerWork::Convolution(convolution) => {
                convolution.clear();
                if wanted {
                    convolution.prepare_backward(weights);
                }
            }
            LayerWork::Linear(linear) if wanted => linear.prepare_backward(weights),
            _ => {}
        }
    }

    fn finish_weight_gradients(&mut self) {
        for node in self.plan.nodes.iter().filter(|node| node.live) {
            if let LayerWork::Convolution(convolution) = &node.work {
                convolution.finish(self.set, &mut self.gradient[node.weight.clone()]);
            }
        }
    }

    /// One layer's gradients on some vectors of samples.
    fn backward_node(&mut self, place: usize, mode: BatchMode, vectors: Range<usize>) {
        let node = &mut self.plan.nodes[place];
        let Some(slot) = self.plan.slots[node.output].filter(|_| node.live) else { return };
        let memory = &mut self.memory;
        let mut gradients = std::mem::take(&mut memory.gradients[slot]);
        let from = part(&vectors, node.input_shape.len());
        let to = part(&vectors, node.output_shape.len());
        let gradient = &mut gradients[to.clone()];
        if node.in_place() {
            match node.work {
                LayerWork::Relu { .. } => self.set.run(ReluGate { output: &memory.values[node.output][to], gradient }),
                LayerWork::Dropout { .. } if mode == BatchMode::Training && memory.drops => {
                    self.set.run(Scale { mask: &memory.masks[place][to], numbers: gradient });
                }
                _ => {}
            }
            memory.gradients[slot] = gradients;
            return;
        }
        let training = mode == BatchMode::Training;
        let wanted = |room: usize| !training || self.plan.trained[room];
        let add = !node.first[0];
        let extent = extent(node, &vectors, memory.samples);
        // The first input's gradient leaves its place too.
        let input_slot = self.plan.slots[node.inputs[0]].filter(|_| wanted(node.inputs[0]));
        let mut target_room = input_slot.map(|slot| std::mem::take(&mut memory.gradients[slot]));
        let target = target_room.as_mut().map(|room| &mut room[from.clone()]);
        let value = &memory.values[node.inputs[0]];
        let weight = node.weight.clone();
        match &mut node.work {
            LayerWork::Convolution(convolution) => {
                if training && let Some(bias) = node.bias.clone() {
                    let shape = node.output_shape;
                    self.set.run(BiasGradient { shape, gradient, biases: &mut self.gradient[bias] });
                }
                if let Some(target) = target {
                    let lengths = (node.output_shape.len(), node.input_shape.len());
                    let vectors = gradient.chunks_exact(lengths.0).zip(target.chunks_exact_mut(lengths.1));
                    for (gradient, target) in vectors {
                        convolution.input_gradient(self.set, gradient, add, &mut memory.scratch, target);
                    }
                }
                if training {
                    let pair = (&value[..], &gradients[..]);
                    let weights = &mut self.gradient[weight];
                    convolution.add_weight_gradient(self.set, vectors.clone(), pair, &mut memory.scratch, weights);
                }
            }
            LayerWork::Linear(linear) => {
                if let Some(target) = target {
                    linear.input_gradient(self.set, gradient, add, target);
                }
                if training && let Some(bias) = node.bias.clone() {
                    let (before, biases) = self.gradient.split_at_mut(bias.start);
                    let pair = (&value[from], &*gradient);
                    linear.weight_gradient(
                        self.set,
                        memory.samples,
                        pair,
                        &mut before[weight],
                        &mut biases[..bias.len()],
                    );
                }
            }
            LayerWork::BatchNorm(statistics) => {
                let weights = &self.parameters[weight.clone()];
                if let (true, Some(bias)) = (training, node.bias.clone()) {
                    let (before, biases) = self.gradient.split_at_mut(bias.start);
                    self.set.run(BatchNormGradient {
                        extent,
                        input: &value[from],
                        gradient,
                        weights,
                        statistics,
                        add,
                        input_gradient: target,
                        weight_gradients: &mut before[weight],
                        bias_gradients: &mut biases[..bias.len()],
                    });
                } else if let Some(input) = target {
                    let running_variances = &self.running_variances[node.statistics.clone()];
                    self.set.run(EvaluateGradient { extent, gradient, weights, running_variances, add, input });
                }
            }
            LayerWork::Pool(pooling, windows) => {
                if let Some(target) = target {
                    let pooling = *pooling;
                    let windows = *windows;
                    self.set.run(PoolGradient { pooling, windows, input: &value[from], gradient, add, target });
                }
            }
            LayerWork::Relu { .. } => {
                self.set.run(ReluGate { output: &memory.values[node.output][to.clone()], gradient });
                if let Some(target) = target {
                    hand_over(self.set, gradient, add, target);
                }
            }
            LayerWork::Dropout { .. } => {
                if training && memory.drops {
                    self.set.run(Scale { mask: &memory.masks[place][to.clone()], numbers: gradient });
                }
                if let Some(target) = target {
                    hand_over(self.set, gradient, add, target);
                }
            }
            LayerWork::Flatten | LayerWork::Add => {
                if let Some(target) = target {
                    hand_over(self.set, gradient, add, target);
                }
            }
            LayerWork::Concat => {
                let first = node.input_shape.len();
                let whole = node.output_shape.len();
                if let Some(target) = target {
                    for (gradient, target) in gradient.chunks_exact(whole).zip(target.chunks_exact_mut(first)) {
                        hand_over(self.set, &gradient[..first], add, target);
                    }
                }
            }
        }
        if let (Some(slot), Some(room)) = (input_slot, target_room) {
            memory.gradients[slot] = room;
        }
        if let Some(&second) = node.inputs.get(1)
            && let Some(target_slot) = self.plan.slots[second].filter(|_| wanted(second))
        {
            let first = if matches!(node.work, LayerWork::Concat) { node.input_shape.len() } else { 0 };
            let whole = node.output_shape.len();
            let target = &mut memory.gradients[target_slot][part(&vectors, whole - first)];
            for (gradient, target) in gradients[to].chunks_exact(whole).zip(target.chunks_exact_mut(whole - first)) {
                hand_over(self.set, &gradient[first..], !node.first[1], target);
            }
        }
        memory.gradients[slot] = gradients;
    }
}

/// The lines of some vectors of samples.
fn part(vectors: &Range<usize>, length: usize) -> Range<usize> {
    vectors.start * length..vectors.end * length
}

fn extent(node: &LayerNode, vectors: &Range<usize>, samples: usize) -> ChannelExtent {
    let shape = node.input_shape;
    ChannelExtent { channels: shape.channels, area: shape.height * shape.width, samples, vectors: vectors.len() }
}

fn affine<'a>(parameters: &'a [f32], weight: &Range<usize>, bias: &Option<Range<usize>>) -> ChannelAffine<'a> {
    let biases = bias.clone().map_or(&[][..], |bias| &parameters[bias]);
    ChannelAffine { weights: &parameters[weight.clone()], biases }
}

fn copy_unless(in_place: bool, input: &[Line], output: &mut [Line]) {
    if !in_place {
        output.copy_from_slice(input);
    }
}

/// Adds a gradient to what is there, or puts it there.
fn hand_over(set: InstructionSet, gradient: &[Line], add: bool, target: &mut [Line]) {
    if add {
        set.run(Add { terms: gradient, sums: target });
    } else {
        target.copy_from_slice(gradient);
    }
}
