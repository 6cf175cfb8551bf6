//! An indirect convolution: a matrix product whose rows are output positions of a whole batch and whose left side is
//! read where it lies, tap by tap, by the addresses in [`Sources`].
//!
//! Every output is one chain of fused multiply-adds, from its bias over the taps that lie within the map and, in each,
//! the input channels in order; then the map to add, then the ReLU. A batch norm's scale is multiplied into the
//! weights, its shift into the bias. How the product is cut into blocks changes no chain.

use super::norm::Norm;
use super::taps::{Class, Sources, locate};
use crate::simd::{Kernel, LANES, Line, Simd, flat, lines};
use std::ops::Range;

/// Outputs that a block of weights is applied to while both are in the caches: a multiple of tiles of 6 and of 8.
const BLOCK: usize = 48;
/// Input channels of a block of weights, those of all its taps counted.
const DEPTH: usize = 512;

/// One member's weights, packed `[panel][tap][input channel][vector of the panel]`, and biases.
pub(crate) struct ConvWeights {
    inputs: usize,
    outputs: usize,
    taps: usize,
    /// Vectors of a panel; the last has what is left.
    panel: usize,
    packed: Vec<Line>,
    bias: Vec<Line>,
}

impl ConvWeights {
    pub(crate) fn new(inputs: usize, outputs: usize, taps: usize, panel: usize) -> Self {
        let packed = vec![Line::ZERO; lines(outputs) * taps * inputs];
        Self { inputs, outputs, taps, panel, packed, bias: vec![Line::ZERO; lines(outputs)] }
    }

    /// First vector and width of every panel.
    fn panels(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let lines = lines(self.outputs);
        let panel = self.panel;
        (0..lines).step_by(panel).map(move |first| (first, panel.min(lines - first)))
    }

    /// Takes PyTorch's `[out, in, row, column]` weights and folds the norm into them.
    #[inline(always)]
    pub(crate) fn prepare<S: Simd>(&mut self, s: S, weights: &[f32], bias: Option<&[f32]>, norm: &Norm) {
        for output in 0..self.outputs {
            let line = output / LANES;
            let lane = output % LANES;
            let bias = bias.map_or(0.0, |bias| bias[output]);
            // A sum that starts from −0 could tell whether zeros were added to it.
            self.bias[line].0[lane] = bias.mul_add(norm.scale[line].0[lane], norm.shift[line].0[lane]) + 0.0;
        }
        for (first, width) in self.panels() {
            s.vectorize(Pack { of: self, weights, norm, first, width });
        }
    }
}

/// Packs the weights of one panel.
struct Pack<'a> {
    of: &'a mut ConvWeights,
    weights: &'a [f32],
    norm: &'a Norm,
    first: usize,
    width: usize,
}

impl Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of, weights, norm, first, width } = self;
        let inputs = of.inputs;
        let taps = of.taps;
        let length = inputs * taps;
        let panel = &mut of.packed[first * length..][..width * length];
        for line in 0..width {
            let output = (first + line) * LANES;
            let scale = s.load(&norm.scale[first + line].0);
            // Number and input channel of the tap that comes next.
            let mut tap = 0;
            let mut input = 0;
            for from in (0..length).step_by(LANES) {
                let mut block = [s.splat(0.0); LANES];
                for (lane, vector) in block.iter_mut().enumerate().take(of.outputs - output) {
                    let row = &weights[(output + lane) * length..][..length][from..];
                    *vector = match row.first_chunk() {
                        Some(chunk) => s.load(chunk),
                        None => {
                            let mut padded = [0.0; LANES];
                            padded[..row.len()].copy_from_slice(row);
                            s.load(&padded)
                        }
                    };
                }
                s.transpose(&mut block);
                for &vector in block.iter().take(length - from) {
                    let at = (tap * inputs + input) * width + line;
                    s.store(s.mul_add(vector, scale, s.splat(0.0)), &mut panel[at].0);
                    tap += 1;
                    if tap == taps {
                        tap = 0;
                        input += 1;
                    }
                }
            }
        }
    }
}

/// A convolution of everything that `sources` names.
pub(crate) struct IndirectConvolution<'a> {
    pub(crate) weights: &'a ConvWeights,
    pub(crate) sources: &'a Sources,
    /// The windows and the base map of the input.
    pub(crate) input: [&'a [Line]; 2],
    pub(crate) add: Option<Addend<'a>>,
    pub(crate) relu: bool,
    pub(crate) output: &'a mut [Line],
}

/// A map to add, and where it is for every output row.
#[derive(Clone, Copy)]
pub(crate) struct Addend<'a> {
    pub(crate) memory: [&'a [Line]; 2],
    pub(crate) sources: &'a [u32],
}

impl Addend<'_> {
    /// Vector `line` of what is added to output `row`.
    #[inline(always)]
    pub(crate) fn get(&self, row: usize, line: usize) -> &[f32; LANES] {
        let (memory, at) = locate(self.sources[row]);
        &self.memory[memory][at + line].0
    }
}

impl IndirectConvolution<'_> {
    /// Returns zero if every sum is finite, else not a number.
    #[inline(always)]
    pub(crate) fn run<S: Simd>(mut self, s: S) -> f32 {
        let mut poison = 0.0;
        for (first, width) in self.weights.panels() {
            let panel = Panel { of: &mut self, first };
            poison += match width {
                4 if S::PANEL >= 4 => s.vectorize(ConvTiles::<6, 4>(panel)),
                3 if S::PANEL >= 3 => s.vectorize(ConvTiles::<8, 3>(panel)),
                2 if S::PANEL >= 2 => s.vectorize(ConvTiles::<8, 2>(panel)),
                _ if S::PANEL >= 2 => s.vectorize(ConvTiles::<8, 1>(panel)),
                _ => s.vectorize(ConvTiles::<6, 1>(panel)),
            };
        }
        poison
    }
}

/// The outputs of one panel of weights.
struct Panel<'a, 'b> {
    of: &'a mut IndirectConvolution<'b>,
    first: usize,
}

/// The panel's product in tiles of ROWS outputs by WIDTH vectors that are held in registers.
struct ConvTiles<'a, 'b, const ROWS: usize, const WIDTH: usize>(Panel<'a, 'b>);

impl<const ROWS: usize, const WIDTH: usize> Kernel for ConvTiles<'_, '_, ROWS, WIDTH> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) -> f32 {
        let mut poison = s.splat(0.0);
        let sources = self.0.of.sources;
        for class in sources.classes() {
            for block in (0..class.outputs.len()).step_by(BLOCK) {
                let block = block..class.outputs.len().min(block + BLOCK);
                self.0.block::<S, ROWS, WIDTH>(s, class, block.clone());
                poison = self.0.finish(s, &class.outputs[block], WIDTH, poison);
            }
        }
        s.sum(poison)
    }
}

/// A block of weights: some input channels of some taps.
struct Slice {
    /// Places of the taps in their class; one where a tap has more channels than a slice.
    taps: Range<usize>,
    channels: Range<usize>,
}

impl Panel<'_, '_> {
    /// Some outputs of a class, a slice of the weights after the other.
    #[inline(always)]
    fn block<S: Simd, const ROWS: usize, const WIDTH: usize>(&mut self, s: S, class: &Class, block: Range<usize>) {
        let inputs = self.of.weights.inputs;
        let taps = class.taps.len();
        let together = (DEPTH / inputs).max(1);
        for tap in (0..taps).step_by(together) {
            for from in (0..inputs).step_by(DEPTH) {
                let slice = Slice { taps: tap..taps.min(tap + together), channels: from..inputs.min(from + DEPTH) };
                for row in block.clone().step_by(ROWS) {
                    self.tile::<S, ROWS, WIDTH>(s, class, &slice, row..block.end.min(row + ROWS));
                }
            }
        }
    }

    /// ROWS outputs, or as many as there are: the last is computed again in place of those that are lacking.
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "register tiles are indexed by constants")]
    fn tile<S: Simd, const ROWS: usize, const WIDTH: usize>(
        &mut self,
        s: S,
        class: &Class,
        slice: &Slice,
        rows: Range<usize>,
    ) {
        let IndirectConvolution { weights, input, ref mut output, .. } = *self.of;
        let first = self.first;
        let taps = class.taps.len();
        let stride = weights.bias.len();
        let from = slice.channels.start;
        let length = slice.channels.len();
        let panel = &weights.packed[first * weights.taps * weights.inputs..];
        let is_first = slice.taps.start + from == 0;
        let mut sources = [&[][..]; ROWS];
        let mut outputs = [0; ROWS];
        let mut sums = [[s.splat(0.0); WIDTH]; ROWS];
        for r in 0..ROWS {
            let row = (rows.start + r).min(rows.end - 1);
            sources[r] = &class.sources[row * taps..][slice.taps.clone()];
            outputs[r] = class.outputs[row] as usize * stride + first;
            let before = if is_first { &weights.bias[first..][..WIDTH] } else { &output[outputs[r]..][..WIDTH] };
            for v in 0..WIDTH {
                sums[r][v] = s.load(&before[v].0);
            }
        }
        for (place, &tap) in class.taps[slice.taps.clone()].iter().enumerate() {
            let (panel, _) = panel[(tap * weights.inputs + from) * WIDTH..][..length * WIDTH].as_chunks::<WIDTH>();
            let mut inputs = [&[][..]; ROWS];
            for r in 0..ROWS {
                let (memory, at) = locate(sources[r][place]);
                inputs[r] = &flat(&input[memory][at..])[from..][..panel.len()];
            }
            for (k, lines) in panel.iter().enumerate() {
                let mut vectors = [s.splat(0.0); WIDTH];
                for v in 0..WIDTH {
                    vectors[v] = s.load(&lines[v].0);
                }
                for r in 0..ROWS {
                    // SAFETY: every slice of `inputs` is as long as `panel`.
                    let x = s.splat(unsafe { *inputs[r].get_unchecked(k) });
                    for v in 0..WIDTH {
                        sums[r][v] = s.mul_add(x, vectors[v], sums[r][v]);
                    }
                }
            }
        }
        for r in 0..ROWS {
            let to = &mut output[outputs[r]..][..WIDTH];
            for v in 0..WIDTH {
                s.store(sums[r][v], &mut to[v].0);
            }
        }
    }

    /// Applies the operations after the sums, which are in memory: a loop beside theirs would keep them out of
    /// registers.
    #[inline(always)]
    fn finish<S: Simd>(&mut self, s: S, outputs: &[u32], width: usize, mut poison: S::F32) -> S::F32 {
        let IndirectConvolution { weights, add, relu, ref mut output, .. } = *self.of;
        for &row in outputs {
            let row = row as usize;
            let to = &mut output[row * weights.bias.len() + self.first..][..width];
            for (v, to) in to.iter_mut().enumerate() {
                let mut sum = s.load(&to.0);
                if let Some(add) = add {
                    sum = s.add(sum, s.load(add.get(row, self.first + v)));
                }
                poison = s.mul_add(sum, s.splat(0.0), poison);
                if relu {
                    sum = s.relu(sum);
                }
                s.store(sum, &mut to.0);
            }
        }
        poison
    }
}
