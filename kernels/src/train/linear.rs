//! This module trains fully connected layers. Forward and input gradient: samples in lanes, terms in the order of the inputs or outputs.
//! The weight gradient has inputs in lanes instead and is a chain over the samples in order, so that no lanes are summed.

use super::lanes::Scatter;
use super::product::{Packed, ProductPass, SourceAxis, Start};
use crate::simd::{InstructionSet, LANES, Line, flat, flat_mut, lines};

/// A layer's shape and its weights as the products want them.
pub(super) struct LinearLayer {
    inputs: usize,
    outputs: usize,
    forward: Packed,
    backward: Packed,
    /// 0, 1, 2, …: where the terms of both lie.
    places: Vec<i32>,
    batch: Transposed,
}

/// The numbers that the weight gradient reads and writes.
struct Transposed {
    samples: usize,
    /// `[sample][input]`, rows of whole lines.
    inputs: Vec<Line>,
    /// The output gradients, by sample.
    gradients: Packed,
    places: Vec<i32>,
    /// `[output][input]`, rows of whole lines.
    weights: Vec<Line>,
}

impl LinearLayer {
    pub(super) fn new(inputs: usize, outputs: usize) -> Self {
        let batch = Transposed {
            samples: 0,
            inputs: Vec::new(),
            gradients: Packed::new(outputs, 0),
            places: Vec::new(),
            weights: Vec::new(),
        };
        Self {
            inputs,
            outputs,
            forward: Packed::new(outputs, inputs),
            backward: Packed::new(inputs, outputs),
            places: (0..inputs.max(outputs) as i32).collect(),
            batch,
        }
    }

    /// Bytes that it takes with a batch of this many samples.
    pub(super) fn bytes(&self, samples: usize) -> u64 {
        let transposed = (samples + self.outputs) * lines(self.inputs) * size_of::<Line>();
        self.forward.bytes() + self.backward.bytes() + transposed as u64
    }

    /// Takes PyTorch's `[out, in]` weights for the forward pass.
    pub(super) fn prepare_forward(&mut self, weights: &[f32]) {
        let inputs = self.inputs;
        self.forward.fill(|output, input| weights[output * inputs + input]);
    }

    /// Takes them for the input gradient.
    pub(super) fn prepare_backward(&mut self, weights: &[f32]) {
        let inputs = self.inputs;
        self.backward.fill(|input, output| weights[output * inputs + input]);
    }

    /// The outputs of whole vectors of samples, bias included.
    pub(super) fn forward(
        &self,
        set: InstructionSet,
        input: &[Line],
        biases: &[f32],
        rectify: bool,
        output: &mut [Line],
    ) {
        set.run(ProductPass {
            rectify,
            ..self.pass(&self.forward, input, (self.inputs, self.outputs), Start::Biases(biases), output)
        });
    }

    /// The input gradient of whole vectors of samples, added to what is there or not.
    pub(super) fn input_gradient(&self, set: InstructionSet, gradient: &[Line], add: bool, input: &mut [Line]) {
        let start = if add { Start::Target } else { Start::Zero };
        set.run(self.pass(&self.backward, gradient, (self.outputs, self.inputs), start, input));
    }

    fn pass<'a>(
        &'a self,
        packed: &'a Packed,
        source: &'a [Line],
        (from, to): (usize, usize),
        start: Start<'a>,
        target: &'a mut [Line],
    ) -> ProductPass<'a> {
        ProductPass {
            packed,
            offsets: &self.places[..from],
            source,
            pitch: 1,
            margin: 0,
            channels: from,
            rows: SourceAxis::flat(1, 1, 1),
            columns: SourceAxis::flat(source.len() / from, from, to),
            start,
            rectify: false,
            target,
            target_pitch: 0,
            plane: 1,
        }
    }

    /// The gradients of weights and biases over a batch.
    pub(super) fn weight_gradient(
        &mut self,
        set: InstructionSet,
        samples: usize,
        (input, gradient): (&[Line], &[Line]),
        weights: &mut [f32],
        biases: &mut [f32],
    ) {
        let inputs = self.inputs;
        let outputs = self.outputs;
        let row = lines(inputs);
        self.batch.resize(samples, row, outputs);
        let Transposed { inputs: turned, gradients, places, weights: sums, .. } = &mut self.batch;
        set.run(Scatter { source: input, length: inputs, target: flat_mut(turned), pitch: row * LANES });
        let numbers = flat(gradient);
        let at = |output: usize, sample: usize| numbers[((sample / LANES) * outputs + output) * LANES + sample % LANES];
        gradients.fill(at);
        for (output, bias) in biases.iter_mut().enumerate() {
            *bias = (0..samples).fold(0.0, |sum, sample| sum + at(output, sample));
        }
        set.run(ProductPass {
            packed: gradients,
            offsets: places,
            source: turned,
            pitch: 1,
            margin: 0,
            channels: samples,
            rows: SourceAxis::flat(1, 1, 1),
            columns: SourceAxis::flat(row, 1, 1),
            start: Start::Zero,
            rectify: false,
            target: sums,
            target_pitch: 0,
            plane: row,
        });
        for (weights, sums) in weights.chunks_exact_mut(inputs).zip(sums.chunks_exact(row)) {
            weights.copy_from_slice(&flat(sums)[..inputs]);
        }
    }
}

impl Transposed {
    /// Makes it fit a batch; what it held is of no use any more.
    fn resize(&mut self, samples: usize, row: usize, outputs: usize) {
        if self.samples == samples {
            return;
        }
        self.samples = samples;
        self.inputs.resize(samples * row, Line::ZERO);
        self.weights.resize(outputs * row, Line::ZERO);
        self.gradients = Packed::new(outputs, samples);
        self.places = (0..samples).map(|sample| (sample * row) as i32).collect();
    }
}
