//! A convolution: its three products, and the copies of a map that they read.
//!
//! All three work on one map of sixteen samples after the other. Where there is padding, a row is copied with zeros on both
//! sides; rows beyond the edge are skipped. A circular convolution reads a copy of the map that is wrapped around. An input
//! gradient is a convolution with the transposed weights, one for every remainder of rows and columns modulo the stride.

use super::product::{Packed, ProductPass, SourceAxis, Start};
use super::weight_gradient::WeightGradient;
use crate::simd::{InstructionSet, Line};
use nadgrid_core::architecture::{Conv2d, Padding, Shape};
use std::ops::Range;

/// Lines of weight gradients that are kept per lane from one vector of samples to the next.
const LANE_SUMS: usize = 4096;
/// Positions that a weight gradient is summed over before its lanes are, where they are not kept.
const POSITIONS: usize = 1024;

/// A convolution's shape, and its weights as the products want them.
pub(super) struct ConvolutionLayer {
    /// The map that is read: the input, or its wrapped copy. A 1 x 1 convolution of stride 1 sees it as one row.
    read: Shape,
    /// Height and width of the input where the convolution is circular.
    wrapped: Option<(usize, usize)>,
    output: Shape,
    kernel: usize,
    stride: usize,
    zeros: usize,
    forward: ConvolutionPart,
    backward: Vec<ConvolutionPart>,
    margins: (usize, usize),
    /// Weight gradients per lane, `[output][row, column, input]`; empty where they would be too many.
    lanes: Vec<Line>,
}

/// One pass: where its outputs and terms lie, and its weights.
struct ConvolutionPart {
    rows: SourceAxis,
    columns: SourceAxis,
    offsets: Vec<i32>,
    packed: Packed,
    /// Kernel row of tap row 0 and from one tap row to the next; the same for columns.
    taps: (usize, usize, usize),
}

impl ConvolutionPart {
    /// `first` and `step` say which kernel rows and columns the taps are; `pitch` and `plane` how the source lies.
    fn new(
        (rows, columns): (SourceAxis, SourceAxis),
        (channels, outputs): (usize, usize),
        (pitch, plane): (usize, usize),
        taps: (usize, usize, usize),
    ) -> Self {
        let mut offsets = Vec::with_capacity(rows.taps * columns.taps * channels);
        for row in 0..rows.taps as isize {
            for column in 0..columns.taps as isize {
                let tap = row * rows.tap_step * pitch as isize + column * columns.tap_step;
                offsets.extend((0..channels).map(|channel| (tap + (channel * plane) as isize) as i32));
            }
        }
        let packed = Packed::new(outputs, offsets.len());
        Self { rows, columns, offsets, packed, taps }
    }

    /// Packs weights: `weight(output, channel, kernel row · kernel + kernel column)`.
    #[inline(always)]
    fn fill(&mut self, channels: usize, kernel: usize, weight: impl Fn(usize, usize, usize) -> f32) {
        let (first_row, first_column, step) = self.taps;
        let taps = self.columns.taps;
        self.packed.fill(|output, term| {
            let tap = term / channels;
            let channel = term % channels;
            let row = first_row + tap / taps * step;
            let column = first_column + tap % taps * step;
            weight(output, channel, row * kernel + column)
        });
    }
}

/// Memory that layers share while they compute.
#[derive(Default)]
pub(super) struct ConvolutionScratch {
    padded: Vec<Line>,
    wrapped: Vec<Line>,
}

impl ConvolutionScratch {
    /// Allocates the memory that these convolutions need on batches of this many vectors of samples.
    pub(super) fn new<'a>(convolutions: impl Iterator<Item = &'a ConvolutionLayer>, vectors: usize) -> Self {
        let (padded, wrapped) = Self::lengths(convolutions, vectors);
        Self { padded: vec![Line::ZERO; padded], wrapped: vec![Line::ZERO; wrapped] }
    }

    /// The size of that, in bytes.
    pub(super) fn bytes<'a>(convolutions: impl Iterator<Item = &'a ConvolutionLayer>, vectors: usize) -> u64 {
        let (padded, wrapped) = Self::lengths(convolutions, vectors);
        ((padded + wrapped) * size_of::<Line>()) as u64
    }

    fn lengths<'a>(convolutions: impl Iterator<Item = &'a ConvolutionLayer>, vectors: usize) -> (usize, usize) {
        let lengths = convolutions.map(|convolution| convolution.scratch_lines(vectors));
        lengths.fold((0, 0), |all, one| (all.0.max(one.0), all.1.max(one.1)))
    }
}

impl ConvolutionLayer {
    pub(super) fn new(conv: &Conv2d, input: Shape, output: Shape) -> Self {
        let Conv2d { kernel, stride, padding, .. } = *conv;
        let span = |outputs: usize| (outputs.max(1) - 1) * stride + kernel;
        let (read, output, wrapped, zeros) = match padding {
            Padding::Circular => {
                let read = Shape { channels: input.channels, height: span(output.height), width: span(output.width) };
                (read, output, Some((input.height, input.width)), 0)
            }
            Padding::Zeros(0) if kernel == 1 && stride == 1 => (flat(input), flat(output), None, 0),
            Padding::Zeros(zeros) => (input, output, None, zeros),
        };
        let along = |outputs: usize, length: usize| SourceAxis {
            count: outputs,
            start: -(zeros as isize),
            step: stride,
            taps: kernel,
            tap_step: 1,
            length,
            target: 0,
            target_step: 1,
        };
        let axes = (along(output.height, read.height), along(output.width, read.width));
        let margins = axes.1.margins();
        let pitch = read.width + margins.0 + margins.1;
        let channels = (read.channels, output.channels);
        let forward = ConvolutionPart::new(axes, channels, (pitch, read.height * pitch), (0, 0, 1));
        let (backward, backward_margins) = backward(read, output, kernel, stride, zeros);
        let weights = output.channels * read.channels * kernel * kernel;
        let lanes = vec![Line::ZERO; if weights <= LANE_SUMS { weights } else { 0 }];
        Self { read, wrapped, output, kernel, stride, zeros, forward, backward, margins: backward_margins, lanes }
    }

    /// Whether the weight gradient is summed over a whole batch at once.
    pub(super) fn needs_whole_batch(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Bytes of its weights as they are packed and of its gradients per lane.
    pub(super) fn bytes(&self) -> u64 {
        let packed: u64 = self.backward.iter().map(|part| part.packed.bytes()).sum();
        packed + self.forward.packed.bytes() + (self.lanes.len() * size_of::<Line>()) as u64
    }

    /// Vectors of samples whose weight gradient is summed at once.
    fn together(&self, vectors: usize) -> usize {
        if !self.lanes.is_empty() {
            return 1;
        }
        (POSITIONS / (self.output.height * self.output.width).max(1)).clamp(1, vectors.max(1))
    }

    /// Lines of padded rows and of wrapped maps.
    fn scratch_lines(&self, vectors: usize) -> (usize, usize) {
        let margins = self.forward.columns.margins();
        let rows = self.read.channels * self.read.height;
        let forward = rows * (self.read.width + margins.0 + margins.1) * self.together(vectors);
        let backward =
            self.output.channels * self.output.height * (self.output.width + self.margins.0 + self.margins.1);
        (forward.max(backward), if self.wrapped.is_some() { self.read.len() } else { 0 })
    }

    /// Takes PyTorch's `[out, in, row, column]` weights for the forward pass.
    pub(super) fn prepare_forward(&mut self, weights: &[f32]) {
        let channels = self.read.channels;
        let kernel = self.kernel;
        let area = kernel * kernel;
        self.forward.fill(channels, kernel, |output, channel, tap| weights[(output * channels + channel) * area + tap]);
    }

    /// Takes them for the input gradient.
    pub(super) fn prepare_backward(&mut self, weights: &[f32]) {
        let inputs = self.read.channels;
        let outputs = self.output.channels;
        let kernel = self.kernel;
        let area = kernel * kernel;
        for part in &mut self.backward {
            part.fill(outputs, kernel, |input, output, tap| weights[(output * inputs + input) * area + tap]);
        }
    }

    /// Sixteen samples' output from their input.
    pub(super) fn forward(
        &self,
        set: InstructionSet,
        input: &[Line],
        start: Start<'_>,
        rectify: bool,
        scratch: &mut ConvolutionScratch,
        output: &mut [Line],
    ) {
        let ConvolutionScratch { padded, wrapped } = scratch;
        let margins = self.forward.columns.margins();
        let read = self.read(input, wrapped);
        let source = pad(read, self.read, margins, padded);
        set.run(ProductPass {
            packed: &self.forward.packed,
            offsets: &self.forward.offsets,
            source,
            pitch: self.read.width + margins.0 + margins.1,
            margin: margins.0,
            channels: self.read.channels,
            rows: self.forward.rows,
            columns: self.forward.columns,
            start,
            rectify,
            target: output,
            target_pitch: self.output.width,
            plane: self.output.height * self.output.width,
        });
    }

    /// The input, or its wrapped copy.
    fn read<'a>(&self, input: &'a [Line], copy: &'a mut [Line]) -> &'a [Line] {
        match self.wrapped {
            None => input,
            Some(size) => {
                self.wrap(size, |from, to| copy[to] = input[from]);
                &copy[..self.read.len()]
            }
        }
    }

    /// For every place of the wrapped copy, the place of the input that it is, both as they lie in memory.
    fn wrap(&self, (height, width): (usize, usize), mut pair: impl FnMut(usize, usize)) {
        for to in 0..self.read.len() {
            let row = to / self.read.width;
            let column = to % self.read.width;
            let channel = row / self.read.height;
            let row = row % self.read.height;
            pair((channel * height + row % height) * width + column % width, to);
        }
    }

    /// Sixteen samples' input gradient from their output gradient, added to what is there or not.
    pub(super) fn input_gradient(
        &self,
        set: InstructionSet,
        gradient: &[Line],
        add: bool,
        scratch: &mut ConvolutionScratch,
        input: &mut [Line],
    ) {
        let ConvolutionScratch { padded, wrapped } = scratch;
        let source = pad(gradient, self.output, self.margins, padded);
        let Some(size) = self.wrapped else {
            return self.transposed(set, source, if add { Start::Target } else { Start::Zero }, input);
        };
        self.transposed(set, source, Start::Zero, wrapped);
        if !add {
            input.fill(Line::ZERO);
        }
        self.wrap(size, |place, from| {
            input[place].0.iter_mut().zip(&wrapped[from].0).for_each(|(sum, term)| *sum += term);
        });
    }

    /// The gradient of the map that is read.
    fn transposed(&self, set: InstructionSet, source: &[Line], start: Start<'_>, target: &mut [Line]) {
        for part in &self.backward {
            set.run(ProductPass {
                packed: &part.packed,
                offsets: &part.offsets,
                source,
                pitch: self.output.width + self.margins.0 + self.margins.1,
                margin: self.margins.0,
                channels: self.output.channels,
                rows: part.rows,
                columns: part.columns,
                start,
                rectify: false,
                target,
                target_pitch: self.read.width,
                plane: self.read.height * self.read.width,
            });
        }
    }

    /// Forgets the weight gradients per lane.
    pub(super) fn clear(&mut self) {
        self.lanes.fill(Line::ZERO);
    }

    /// Adds the weight gradient of some vectors of samples to `weights`, or to the lanes where these are kept. `input` and
    /// `gradient` are those of the whole batch.
    pub(super) fn add_weight_gradient(
        &mut self,
        set: InstructionSet,
        vectors: Range<usize>,
        (input, gradient): (&[Line], &[Line]),
        scratch: &mut ConvolutionScratch,
        weights: &mut [f32],
    ) {
        let together = self.together(vectors.len());
        let outputs = self.output.len();
        let mut lanes = std::mem::take(&mut self.lanes);
        for first in vectors.clone().step_by(together) {
            let group = first..vectors.end.min(first + together);
            let source = self.group(group.clone(), input, scratch);
            set.run(WeightGradient {
                kernel: self.kernel,
                stride: self.stride,
                zeros: self.zeros,
                inputs: self.read,
                outputs: self.output,
                pitch: source.len() / (group.len() * self.read.channels * self.read.height).max(1),
                vectors: group.len(),
                source,
                gradient: &gradient[group.start * outputs..group.end * outputs],
                lanes: &mut lanes,
                weights,
            });
        }
        self.lanes = lanes;
    }

    /// The maps that some vectors of samples read, padded, one after the other.
    fn group<'a>(&self, group: Range<usize>, input: &'a [Line], scratch: &'a mut ConvolutionScratch) -> &'a [Line] {
        let ConvolutionScratch { padded, wrapped } = scratch;
        let margins = self.forward.columns.margins();
        let length = self.wrapped.map_or(self.read.len(), |(height, width)| self.read.channels * height * width);
        if margins == (0, 0) && self.wrapped.is_none() {
            return &input[group.start * length..group.end * length];
        }
        let rows = self.read.channels * self.read.height;
        let each = rows * (self.read.width + margins.0 + margins.1);
        for (place, vector) in group.clone().enumerate() {
            let read = self.read(&input[vector * length..][..length], wrapped);
            copy_padded(read, self.read, margins, &mut padded[place * each..][..each]);
        }
        &padded[..group.len() * each]
    }

    /// The weight gradients that were kept per lane, summed.
    pub(super) fn finish(&self, set: InstructionSet, weights: &mut [f32]) {
        if !self.lanes.is_empty() {
            let inputs = self.read.channels;
            let area = self.kernel * self.kernel;
            set.run(super::weight_gradient::LaneSums { lanes: &self.lanes, inputs, area, weights });
        }
    }
}

/// A map as one row per channel.
fn flat(shape: Shape) -> Shape {
    Shape { channels: shape.channels, height: 1, width: shape.height * shape.width }
}

/// The passes of the input gradient, and the margins that their source needs.
fn backward(
    read: Shape,
    output: Shape,
    kernel: usize,
    stride: usize,
    zeros: usize,
) -> (Vec<ConvolutionPart>, (usize, usize)) {
    let axes = |length: usize, outputs: usize| {
        (0..stride).map(move |phase| axis(length, outputs, kernel, stride, zeros, phase))
    };
    let margins = axes(read.width, output.width).map(|axis| axis.margins());
    let margins = margins.fold((0, 0), |all, one| (all.0.max(one.0), all.1.max(one.1)));
    let pitch = output.width + margins.0 + margins.1;
    let mut parts = Vec::new();
    for (row_phase, rows) in axes(read.height, output.height).enumerate() {
        for (column_phase, columns) in axes(read.width, output.width).enumerate() {
            let channels = (output.channels, read.channels);
            let taps = (row_phase, column_phase, stride);
            parts.push(ConvolutionPart::new((rows, columns), channels, (pitch, output.height * pitch), taps));
        }
    }
    (parts, margins)
}

/// The input places, along one axis, whose distance from the padded edge is `phase` modulo the stride, reading gradients of
/// outputs: input s·r + phase of the padded map is read by outputs r − m through taps phase + s·m.
fn axis(length: usize, outputs: usize, kernel: usize, stride: usize, zeros: usize, phase: usize) -> SourceAxis {
    let first = zeros.saturating_sub(phase).div_ceil(stride);
    let target = first * stride + phase - zeros;
    SourceAxis {
        count: length.saturating_sub(target).div_ceil(stride),
        start: first as isize,
        step: 1,
        taps: kernel.saturating_sub(phase).div_ceil(stride),
        tap_step: -1,
        length: outputs,
        target,
        target_step: stride,
    }
}

/// A map with zeros in front of and behind every row; the map itself where none are needed.
fn pad<'a>(map: &'a [Line], shape: Shape, margins: (usize, usize), copy: &'a mut [Line]) -> &'a [Line] {
    if margins == (0, 0) {
        return map;
    }
    let copy = &mut copy[..shape.channels * shape.height * (shape.width + margins.0 + margins.1)];
    copy_padded(map, shape, margins, copy);
    copy
}

fn copy_padded(map: &[Line], shape: Shape, margins: (usize, usize), copy: &mut [Line]) {
    let pitch = shape.width + margins.0 + margins.1;
    for (from, to) in map.chunks_exact(shape.width).zip(copy.chunks_exact_mut(pitch)) {
        to[..margins.0].fill(Line::ZERO);
        to[margins.0..][..shape.width].copy_from_slice(from);
        to[margins.0 + shape.width..].fill(Line::ZERO);
    }
}
