//! The fully connected end of a network: from the last map's windows of deltas to gradients.
//!
//! Rows of deltas are collected in a [`DeltaBatch`], two for every pixel, and go through the layers together.

use super::linear::{self, PackedLinear, dot};
use super::plan::{Dense, Group, PatchPlan, Reach};
use crate::simd::{InstructionSet, LANES, Line, Simd, flat, flat_mut, lines};
use crate::span::weight_and_bias;
use nadgrid_core::architecture::{Network, Shape};

/// Pixels whose rows go through the layers together: few enough for the first-level cache.
pub(crate) const BATCH: usize = 16;

/// The fully connected layers with one member's weights.
pub(crate) struct DenseHead {
    dense: Vec<Dense>,
    /// Columns of the last map.
    width: usize,
    /// Channels of the last map.
    channels: usize,
    /// Place of each flattened input (channel, row, column) in rows ordered (row, column, channel).
    places: Vec<u32>,
    /// Numbers per position in those rows.
    pub(crate) stride: usize,
    /// All but the last layer.
    inner: Vec<PackedLinear>,
    /// Weights of output 0 of the last layer, and its bias.
    last: Vec<Line>,
    last_bias: f32,
    /// The last base map, flattened as rows are.
    flattened: Vec<Line>,
    /// The first layer's base output, if it is not the last layer.
    base: Vec<Line>,
    /// Rows of outputs of every inner layer.
    activations: Vec<Vec<Line>>,
}

/// Rows of deltas of the last map's windows, those of pixel i being 2i (plus) and 2i + 1 (minus).
pub(crate) struct DeltaBatch {
    pub(crate) lines: Vec<Line>,
    /// For every row zero, or not a number if something overflowed on the way.
    pub(crate) poison: Vec<f32>,
    pub(crate) pixels: Vec<usize>,
}

impl DeltaBatch {
    pub(crate) fn new(plan: &PatchPlan, head: &DenseHead) -> Self {
        let rows = plan.groups.iter().map(|group| RowLayout::new(plan, head, group).stride).max().unwrap_or(0);
        Self {
            lines: vec![Line::ZERO; 2 * BATCH * rows],
            poison: vec![0.0; 2 * BATCH],
            pixels: Vec::with_capacity(BATCH),
        }
    }
}

/// The layout of a group's rows in the batch: a segment for every row of the window.
pub(crate) struct RowLayout {
    rows: Reach,
    columns: Reach,
    /// Lines from one segment to the next.
    pub(crate) segment: usize,
    /// Lines from one row of the batch to the next.
    pub(crate) stride: usize,
}

impl RowLayout {
    pub(crate) fn new(plan: &PatchPlan, head: &DenseHead, group: &Group) -> Self {
        let map = plan.stages.len();
        let rows = plan.rows(group.rows.start)[map];
        let columns = plan.columns(group.columns.start)[map];
        let channels = lines(head.channels) * LANES;
        let segment = lines(columns.touched.len().saturating_sub(1) * head.stride + channels);
        Self { rows, columns, segment, stride: rows.touched.len() * segment }
    }

    /// Whether the group's pixels reach nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.touched.len() == 0 || self.columns.touched.len() == 0
    }
}

/// Numbers per position in a row of deltas: the channels, unless a position would end within its last vector.
fn position_stride(channels: usize) -> usize {
    if channels <= LANES { channels } else { lines(channels) * LANES }
}

impl DenseHead {
    pub(crate) fn new(plan: &PatchPlan, set: InstructionSet) -> Self {
        let Shape { channels, height, width } = plan.last_map();
        let stride = position_stride(channels);
        let place = |input: usize| (input % (height * width)) * stride + input / (height * width);
        let places: Vec<u32> = (0..channels * height * width).map(|input| place(input) as u32).collect();
        let dense = plan.dense.clone();
        let flattened = height * width * stride;
        let inner = dense[..dense.len() - 1].iter().enumerate().map(|(layer, dense)| match layer {
            0 => PackedLinear::new(flattened, dense.outputs, set.panel()),
            _ => PackedLinear::new(dense.inputs, dense.outputs, set.sparse_panel()),
        });
        let inner: Vec<PackedLinear> = inner.collect();
        let zeros = |lines: usize| vec![Line::ZERO; lines];
        Self {
            width,
            channels,
            places,
            stride,
            last: zeros(inner.last().map_or(lines(flattened), PackedLinear::lines)),
            last_bias: 0.0,
            flattened: zeros(lines(flattened)),
            base: zeros(inner.first().map_or(0, PackedLinear::lines)),
            activations: inner.iter().map(|linear| zeros(2 * BATCH * linear.lines())).collect(),
            dense,
            inner,
        }
    }

    /// Takes one member's weights.
    #[inline(always)]
    pub(crate) fn prepare<S: Simd>(&mut self, s: S, network: &Network, parameters: &[f32]) {
        let Self { dense, places, inner, last, last_bias, .. } = self;
        for (layer, (dense, linear)) in dense.iter().zip(inner.iter_mut()).enumerate() {
            let (weight, bias) = weight_and_bias(network.parameters(), dense.weight);
            let weights = &parameters[weight];
            let biases = &parameters[bias];
            if layer == 0 {
                linear.prepare(s, weights, biases, |input| places[input] as usize);
            } else {
                linear.prepare(s, weights, biases, |input| input);
            }
        }
        let Some(layer) = dense.last() else { return };
        let (weight, bias) = weight_and_bias(network.parameters(), layer.weight);
        *last_bias = parameters[bias.start];
        let weights = &parameters[weight][..layer.inputs];
        let last = flat_mut(last);
        if dense.len() == 1 {
            for (&weight, &place) in weights.iter().zip(places.iter()) {
                last[place as usize] = weight;
            }
        } else {
            last[..weights.len()].copy_from_slice(weights);
        }
    }

    /// Takes the last base map and computes the first inner layer's base output.
    #[inline(always)]
    pub(crate) fn base<S: Simd>(&mut self, s: S, map: &[Line]) {
        let to = flat_mut(&mut self.flattened);
        for (position, pixel) in map.chunks_exact(lines(self.channels)).enumerate() {
            to[position * self.stride..][..self.channels].copy_from_slice(&flat(pixel)[..self.channels]);
        }
        if let Some(first) = self.inner.first() {
            self.base.copy_from_slice(&first.biases);
            let length = self.places.len() / self.channels * self.stride;
            first.add(s, 1, (&self.flattened, 0), (0, length), &mut self.base);
        }
    }

    /// The batch's rows through the layers: the gradients at its pixels. Empties the batch.
    #[inline(always)]
    pub(crate) fn finish<S: Simd>(
        &mut self,
        s: S,
        batch: &mut DeltaBatch,
        rows: &RowLayout,
        step: f32,
        out: &mut [f32],
    ) {
        let count = 2 * batch.pixels.len();
        for (layer, linear) in self.inner.iter().enumerate() {
            let (before, after) = self.activations.split_at_mut(layer);
            let to = &mut after[0][..count * linear.lines()];
            match before.last() {
                None => {
                    for line in to.chunks_exact_mut(linear.lines()) {
                        line.copy_from_slice(&self.base);
                    }
                    for (index, row) in rows.rows.touched.range().enumerate() {
                        let inputs = &batch.lines[index * rows.segment..];
                        linear.add(s, count, (inputs, rows.stride), segment(rows, row, self.width, self.stride), to);
                    }
                }
                Some(from) => linear.apply(s, count, from, to),
            }
            if self.dense[layer].relu {
                linear::relu(s, to);
            }
        }
        let relu = self.dense.last().is_some_and(|last| last.relu);
        // Without a ReLU at the end, what both signs have in common would cancel: it is left out.
        let common = match (relu, self.inner.is_empty()) {
            (false, _) => 0.0,
            (true, false) => self.last_bias,
            (true, true) => self.last_bias + dot(s, flat(&self.flattened), flat(&self.last)),
        };
        for (slot, &pixel) in batch.pixels.iter().enumerate() {
            let mut values = [0.0; 2];
            for (sign, value) in values.iter_mut().enumerate() {
                let row = 2 * slot + sign;
                *value = self.last_product(s, batch, rows, row) + common;
                if relu && 0.0 > *value {
                    *value = 0.0;
                }
                *value += batch.poison[row];
            }
            out[pixel] = 0.5 * (values[1] - values[0]) / step;
        }
        batch.pixels.clear();
    }

    /// The last layer's scalar product for a row of the batch.
    #[inline(always)]
    fn last_product<S: Simd>(&self, s: S, batch: &DeltaBatch, rows: &RowLayout, row: usize) -> f32 {
        if let Some(from) = self.activations.last() {
            return dot(s, flat(&from[row * self.last.len()..][..self.last.len()]), flat(&self.last));
        }
        let mut sum = 0.0;
        for (index, map_row) in rows.rows.touched.range().enumerate() {
            let (from, length) = segment(rows, map_row, self.width, self.stride);
            let deltas = &flat(&batch.lines[row * rows.stride + index * rows.segment..])[..length];
            sum += dot(s, deltas, &flat(&self.last)[from..][..length]);
        }
        sum
    }

    /// All outputs for the base map that was taken last.
    #[inline(always)]
    pub(crate) fn outputs<S: Simd>(&self, s: S, network: &Network, parameters: &[f32], outputs: &mut [f32]) {
        let mut inputs: Vec<f32> = self.places.iter().map(|&place| flat(&self.flattened)[place as usize]).collect();
        let mut row = self.base.clone();
        for (layer, linear) in self.inner.iter().enumerate() {
            if layer > 0 {
                let from = std::mem::replace(&mut row, vec![Line::ZERO; linear.lines()]);
                linear.apply(s, 1, &from, &mut row);
            }
            if self.dense[layer].relu {
                linear::relu(s, &mut row);
            }
            inputs = flat(&row)[..self.dense[layer].outputs].to_vec();
        }
        let Some(last) = self.dense.last() else { return };
        let (weight, bias) = weight_and_bias(network.parameters(), last.weight);
        let weights = parameters[weight].chunks_exact(last.inputs);
        for ((out, weights), &bias) in outputs.iter_mut().zip(weights).zip(&parameters[bias]) {
            let sum = dot(s, weights, &inputs) + bias;
            *out = if last.relu && 0.0 > sum { 0.0 } else { sum };
        }
    }
}

/// First place and length, among a layer's inputs, of a row of the group's window.
#[inline(always)]
fn segment(rows: &RowLayout, row: usize, width: usize, stride: usize) -> (usize, usize) {
    ((row * width + rows.columns.touched.start) * stride, rows.columns.touched.len() * stride)
}
