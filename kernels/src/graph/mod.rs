//! The central difference and the forward pass of any network, by windows of values.
//!
//! Every map is evaluated once at the point, the base; then, for a batch of pixels and both signs, only in the window that
//! the pixel reaches. What an output reads comes from the pixel's window of the input where it lies there and from the base
//! map elsewhere, with nothing copied. So it is bit for bit what a dense evaluation would give. Many pixels go together
//! so that weights are fetched once for all of them.
//! Deliberately absent: threads, memory between members, anything that depends on the size of a batch.

mod batch;
mod conv;
mod norm;
mod pointwise;
mod program;
mod taps;
#[cfg(test)]
mod tests;
mod window;

use crate::KernelError;
use crate::simd::{InstructionSet, Kernel, LANES, Line, Simd, flat, flat_mut};
use crate::span::weight_and_bias;
pub(crate) use batch::EvaluatedWindows;
use batch::{GraphMemory, PixelBatch};
use conv::{Addend, ConvWeights, IndirectConvolution};
use nadgrid_core::architecture::Network;
use norm::Norm;
use pointwise::{Pointwise, PointwiseInput, PoolFold, WindowPool};
use program::{GraphOp, GraphProgram, OpKind};
use taps::{Sources, Taps, locate, source};
use window::WindowSlot;

/// Vectors of a batch's windows: 24 MiB.
const BUDGET: usize = 24 << 20 >> 6;

/// A network prepared for evaluation, with the memory it takes. Nothing of one member is left to the next.
pub(crate) struct WindowGraph {
    network: Network,
    set: InstructionSet,
    windows: EvaluatedWindows,
    program: GraphProgram,
    /// For every operation, its norm, the identity where it has none.
    norms: Vec<Norm>,
    /// For every operation, its weights, if it is a product.
    weights: Vec<Option<ConvWeights>>,
    memory: GraphMemory,
    whole: PixelBatch,
    batch: PixelBatch,
    scratch: GraphScratch,
}

/// Sources of the operation that is being evaluated: of an input, and of the map to add.
#[derive(Default)]
struct GraphScratch {
    input: Sources,
    add: Sources,
}

/// The object of an evaluation: the base, or the windows of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Base,
    Windows,
}

impl WindowGraph {
    /// # Errors
    /// [`KernelError::Unsupported`] when a map is too large.
    pub(crate) fn new(set: InstructionSet, network: &Network, windows: EvaluatedWindows) -> Result<Self, KernelError> {
        let program = GraphProgram::new(network)?;
        let norms = program.ops.iter().map(|op| {
            let norm = match &op.kind {
                OpKind::Conv { after, .. } | OpKind::Pointwise { after } => after.norm,
                _ => None,
            };
            Norm::new(program.maps[op.output].shape.channels, norm)
        });
        let weights = program.ops.iter().map(|op| match op.kind {
            OpKind::Conv { .. } => {
                let channels = |map: usize| program.maps[map].shape.channels;
                Some(ConvWeights::new(channels(op.inputs[0]), channels(op.output), op.taps.count(), set.panel()))
            }
            _ => None,
        });
        let norms = norms.collect();
        let weights = weights.collect();
        let memory = GraphMemory::new(&program);
        let whole = PixelBatch::whole(&program);
        let batch = PixelBatch::default();
        let scratch = GraphScratch::default();
        Ok(Self { network: network.clone(), set, windows, program, norms, weights, memory, whole, batch, scratch })
    }

    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// The gradient at `pixels`, into `out` in their order; not a number where something overflowed on the way.
    pub(crate) fn gradient(&mut self, parameters: &[f32], point: &[f32], step: f32, pixels: &[usize], out: &mut [f32]) {
        self.set.run(GraphGradient { of: self, parameters, point, step, pixels, out });
    }

    /// The outputs for one input.
    pub(crate) fn forward(&mut self, parameters: &[f32], input: &[f32], outputs: &mut [f32]) {
        self.set.run(GraphForward { of: self, parameters, input, outputs });
    }

    /// Takes one member's weights.
    #[inline(always)]
    fn prepare<S: Simd>(&mut self, s: S, parameters: &[f32]) {
        let Self { network, program, norms, weights, .. } = self;
        for ((op, norm), weights) in program.ops.iter().zip(norms).zip(weights) {
            norm.prepare(network, parameters);
            if let (OpKind::Conv { weight, bias, .. }, Some(weights)) = (&op.kind, weights) {
                let bias = bias.then(|| &parameters[weight_and_bias(network.parameters(), *weight).1]);
                weights.prepare(s, &parameters[network.parameters()[*weight].range.clone()], bias, norm);
            }
        }
    }

    /// Computes the base maps. Returns zero, or not a number if something overflowed.
    #[inline(always)]
    fn base<S: Simd>(&mut self, s: S, input: &[f32]) -> f32 {
        let map = &self.program.maps[0];
        let lines = map.lines();
        let positions = map.shape.height * map.shape.width;
        let base = flat_mut(&mut self.memory.bases[0][lines..]);
        for (channel, plane) in input.chunks_exact(positions).enumerate() {
            for (position, &value) in plane.iter().enumerate() {
                base[position * lines * LANES + channel] = value;
            }
        }
        (0..self.program.ops.len()).map(|op| self.evaluate(s, op, Target::Base)).sum()
    }

    /// The differences at the batch's pixels. Where something overflowed, they are not numbers: all of them.
    #[inline(always)]
    fn differences<S: Simd>(&mut self, s: S, step: f32, out: &mut [f32]) {
        self.memory.fit(&self.program, &self.batch);
        self.change(step);
        let poison: f32 = (0..self.program.ops.len()).map(|op| self.evaluate(s, op, Target::Windows)).sum();
        let places = &self.batch.places[self.program.output];
        for (out, places) in out.iter_mut().zip(places.chunks_exact(2)) {
            let [plus, minus] = [0, 1].map(|sign| self.first_output(&places[sign]));
            *out = 0.5 * (minus - plus) / step + poison;
        }
    }

    /// The windows of the input: one position each, in which one number has changed.
    fn change(&mut self, step: f32) {
        let map = &self.program.maps[0];
        let lines = map.lines();
        let positions = map.shape.height * map.shape.width;
        let base = &self.memory.bases[0];
        let slot = &mut self.memory.slots[map.slot];
        let windows = slot.chunks_exact_mut(2 * lines);
        for (&pixel, windows) in self.batch.pixels.iter().zip(windows) {
            let (plus, minus) = windows.split_at_mut(lines);
            for (window, step) in [(plus, step), (minus, -step)] {
                window.copy_from_slice(&base[(1 + pixel % positions) * lines..][..lines]);
                flat_mut(window)[pixel / positions] += step;
            }
        }
    }

    /// Output 0 of the window at this place.
    fn first_output(&self, place: &WindowSlot) -> f32 {
        let output = self.program.output;
        let map = &self.program.maps[self.program.output];
        let (memory, at) = locate(source(0, 0, map.shape.width, place, map.lines()));
        [&self.memory.slots[map.slot], &self.memory.bases[output]][memory][at].0[0]
    }

    /// One operation. Returns zero, or not a number if something overflowed.
    #[inline(always)]
    fn evaluate<S: Simd>(&mut self, s: S, op: usize, target: Target) -> f32 {
        let Self { program, norms, weights, memory, whole, batch, scratch, .. } = self;
        let norm = &norms[op];
        let weights = &weights[op];
        let op = &program.ops[op];
        let map = &program.maps[op.output];
        // The output's memory is taken out so that the others can be read meanwhile.
        let mut taken = std::mem::take(match target {
            Target::Base => &mut memory.bases[op.output],
            Target::Windows => &mut memory.slots[map.slot],
        });
        let evaluation = OpEvaluation { op, norm, weights: weights.as_ref(), program, memory, whole, batch, target };
        let (start, rows) = match target {
            Target::Base => (map.lines(), map.shape.height * map.shape.width),
            Target::Windows => (0, batch.rows(op.output)),
        };
        let poison = evaluation.run(s, scratch, &mut taken[start..][..rows * map.lines()]);
        *match target {
            Target::Base => &mut memory.bases[op.output],
            Target::Windows => &mut memory.slots[map.slot],
        } = taken;
        poison
    }
}

/// An operation on a target.
struct OpEvaluation<'a> {
    op: &'a GraphOp,
    norm: &'a Norm,
    weights: Option<&'a ConvWeights>,
    program: &'a GraphProgram,
    memory: &'a GraphMemory,
    whole: &'a PixelBatch,
    batch: &'a PixelBatch,
    target: Target,
}

impl<'a> OpEvaluation<'a> {
    #[inline(always)]
    fn run<S: Simd>(&self, s: S, scratch: &mut GraphScratch, output: &mut [Line]) -> f32 {
        let input = self.op.inputs[0];
        match (&self.op.kind, self.weights) {
            (OpKind::Conv { after, .. }, Some(weights)) => {
                self.sources(input, &mut scratch.input);
                let add = after.add.map(|map| self.addend(map, &mut scratch.add));
                let sources = &scratch.input;
                let input = self.memory(input);
                IndirectConvolution { weights, sources, input, add, relu: after.relu, output }.run(s)
            }
            (OpKind::Conv { .. }, None) => 0.0,
            (OpKind::Pointwise { after }, _) => {
                let add = after.add.map(|map| self.addend(map, &mut scratch.add));
                self.pointwise(s, add, after.relu, &mut scratch.input, output)
            }
            (OpKind::MaxPool, _) => self.pool(s, PoolFold::Max, &mut scratch.input, output),
            (OpKind::AvgPool, _) => self.pool(s, PoolFold::Mean, &mut scratch.input, output),
            (OpKind::Flatten, _) => {
                pointwise::flatten(self.input(input, &mut scratch.input), self.op.taps.count(), output);
                0.0
            }
        }
    }

    #[inline(always)]
    fn pool<S: Simd>(&self, s: S, fold: PoolFold, scratch: &mut Sources, output: &mut [Line]) -> f32 {
        let input = self.input(self.op.inputs[0], scratch);
        s.vectorize(WindowPool { input, taps: self.op.taps.count(), fold, output })
    }

    #[inline(always)]
    fn pointwise<S: Simd>(
        &self,
        s: S,
        add: Option<Addend<'_>>,
        relu: bool,
        scratch: &mut Sources,
        output: &mut [Line],
    ) -> f32 {
        let op = self.op;
        let norm = self.norm;
        let channels = |map: usize| self.program.maps[map].shape.channels;
        let [before @ .., _] = &op.inputs[..] else { return 0.0 };
        // Parts that share a vector are copied first and finished together.
        if before.iter().any(|&map| !channels(map).is_multiple_of(LANES)) {
            let mut offset = 0;
            for &map in &op.inputs {
                pointwise::copy(self.input(map, scratch), offset, channels(op.output), output);
                offset += channels(map);
            }
            return s.vectorize(Pointwise { part: None, lines: 0..norm.scale.len(), norm, add, relu, output });
        }
        let mut poison = 0.0;
        let mut first = 0;
        for &map in &op.inputs {
            let lines = first..first + self.program.maps[map].lines();
            first = lines.end;
            let part = Some(self.input(map, scratch));
            poison += s.vectorize(Pointwise { part, lines, norm, add, relu, output: &mut *output });
        }
        poison
    }

    /// The memory of a map, windows and base.
    fn memory(&self, map: usize) -> [&'a [Line]; 2] {
        let windows = &self.memory.slots[self.program.maps[map].slot];
        [windows, &self.memory.bases[map]]
    }

    /// A map as the operation reads it.
    fn input<'b>(&'b self, map: usize, scratch: &'b mut Sources) -> PointwiseInput<'b> {
        self.sources(map, scratch);
        PointwiseInput {
            memory: self.memory(map),
            sources: scratch.only(),
            channels: self.program.maps[map].shape.channels,
        }
    }

    /// A map to add: the one at the output's own position.
    fn addend<'b>(&'b self, map: usize, scratch: &'b mut Sources) -> Addend<'b> {
        let taps = Taps::pointwise(self.program.maps[map].shape);
        self.sources_of(&taps, map, scratch);
        Addend { memory: self.memory(map), sources: scratch.only() }
    }

    fn sources(&self, map: usize, to: &mut Sources) {
        self.sources_of(&self.op.taps, map, to);
    }

    fn sources_of(&self, taps: &Taps, map: usize, to: &mut Sources) {
        let lines = self.program.maps[map].lines();
        match self.target {
            Target::Base => taps.sources(&self.whole.places[self.op.output], &[WindowSlot::default()], lines, to),
            Target::Windows => taps.sources(&self.batch.places[self.op.output], &self.batch.places[map], lines, to),
        }
    }
}

struct GraphGradient<'a> {
    of: &'a mut WindowGraph,
    parameters: &'a [f32],
    point: &'a [f32],
    step: f32,
    pixels: &'a [usize],
    out: &'a mut [f32],
}

impl Kernel for GraphGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of, parameters, point, step, pixels, out } = self;
        of.prepare(s, parameters);
        let poison = of.base(s, point);
        let mut pixels = pixels;
        let mut out = out;
        while !pixels.is_empty() {
            let rest = of.batch.take(&of.network, &of.program, of.windows, BUDGET, pixels);
            let (batch, others) = out.split_at_mut(pixels.len() - rest.len());
            of.differences(s, step, batch);
            if batch.iter().any(|g| !g.is_finite()) {
                // Whose fault it is shows one by one.
                for (pixel, out) in pixels.iter().zip(batch.chunks_exact_mut(1)) {
                    of.batch.take(&of.network, &of.program, of.windows, BUDGET, std::slice::from_ref(pixel));
                    of.differences(s, step, out);
                }
            }
            batch.iter_mut().for_each(|g| *g += poison);
            pixels = rest;
            out = others;
        }
    }
}

struct GraphForward<'a> {
    of: &'a mut WindowGraph,
    parameters: &'a [f32],
    input: &'a [f32],
    outputs: &'a mut [f32],
}

impl Kernel for GraphForward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of, parameters, input, outputs } = self;
        of.prepare(s, parameters);
        let poison = of.base(s, input);
        let map = &of.program.maps[of.program.output];
        let lines = map.lines();
        let positions = map.shape.height * map.shape.width;
        let base = flat(&of.memory.bases[of.program.output][lines..]);
        for (at, out) in outputs.iter_mut().enumerate() {
            *out = base[at % positions * lines * LANES + at / positions] + poison;
        }
    }
}
