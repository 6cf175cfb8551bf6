//! Fully connected layers for a batch of rows: the first on windows of deltas, the middle ones on rows that a
//! ReLU has half emptied, the last as one scalar product per row.
//!
//! Every output of the first and middle layers is one chain of fused multiply-adds over the inputs in order,
//! from the base output or the bias; exact zeros of a middle layer's input are left out. A scalar product
//! has sixteen chains, input i in chain i mod 16, summed by halves.

use crate::simd::{Kernel, LANES, Line, Simd, flat, lines, load_padded};

/// A layer's shape and one member's weights, outputs along vectors, in panels of a few vectors:
/// `[panel][input][vector of the panel]`.
pub(crate) struct PackedLinear {
    /// Inputs in the order of this layer's rows, padding included.
    places: usize,
    panel: usize,
    outputs: usize,
    weights: Vec<Line>,
    pub(crate) biases: Vec<Line>,
}

impl PackedLinear {
    /// A layer of `places` inputs as rows hold them, in panels of at most `panel` vectors.
    pub(crate) fn new(places: usize, outputs: usize, panel: usize) -> Self {
        let weights = vec![Line::ZERO; places * lines(outputs)];
        Self { places, panel, outputs, weights, biases: vec![Line::ZERO; lines(outputs)] }
    }

    /// Lines of a row of outputs.
    pub(crate) fn lines(&self) -> usize {
        lines(self.outputs)
    }

    /// First line and width of every panel.
    fn panels(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let lines = self.lines();
        let panel = self.panel;
        (0..lines).step_by(panel).map(move |first| (first, panel.min(lines - first)))
    }

    /// Takes PyTorch's `[out, in]` weights; input i goes to `place(i)`.
    #[inline(always)]
    pub(crate) fn prepare<S: Simd>(&mut self, s: S, weights: &[f32], biases: &[f32], place: impl Fn(usize) -> usize) {
        flat_copy(biases, &mut self.biases);
        let inputs = weights.len() / self.outputs;
        for (first, width) in self.panels() {
            let panel = &mut self.weights[first * self.places..][..width * self.places];
            for line in 0..width {
                let output = (first + line) * LANES;
                for input in (0..inputs).step_by(LANES) {
                    let mut block = [s.splat(0.0); LANES];
                    for (lane, vector) in block.iter_mut().enumerate().take(self.outputs - output) {
                        *vector = load_padded(s, &weights[(output + lane) * inputs..][..inputs][input..]);
                    }
                    s.transpose(&mut block);
                    for (lane, &vector) in block.iter().enumerate().take(inputs - input) {
                        s.store(vector, &mut panel[place(input + lane) * width + line].0);
                    }
                }
            }
        }
    }

    /// Adds to `rows` of outputs the product of rows of inputs `from .. from + length` with their weights.
    /// Row r of the inputs starts at line `r * stride` of `inputs`.
    #[inline(always)]
    pub(crate) fn add<S: Simd>(
        &self,
        s: S,
        rows: usize,
        (inputs, stride): (&[Line], usize),
        (from, length): (usize, usize),
        outputs: &mut [Line],
    ) {
        for (first, width) in self.panels() {
            let weights = &self.weights[first * self.places..][from * width..][..length * width];
            let product = RowProduct { rows, inputs, stride, weights, outputs, lines: self.lines(), first };
            match width {
                4 if S::PANEL >= 4 => s.vectorize(RowTiles::<4, 4>(product)),
                3 if S::PANEL >= 3 => s.vectorize(RowTiles::<4, 3>(product)),
                2 if S::PANEL >= 2 => s.vectorize(RowTiles::<4, 2>(product)),
                _ => s.vectorize(RowTiles::<6, 1>(product)),
            }
        }
    }

    /// Rows of outputs from rows of inputs (whole lines, zero beyond the layer's inputs), bias included.
    #[inline(always)]
    pub(crate) fn apply<S: Simd>(&self, s: S, rows: usize, inputs: &[Line], outputs: &mut [Line]) {
        for (first, width) in self.panels() {
            let sparse = Sparse {
                rows,
                inputs,
                stride: lines(self.places),
                weights: &self.weights[first * self.places..][..width * self.places],
                biases: &self.biases[first..][..width],
                outputs,
                lines: self.lines(),
                first,
            };
            match width {
                6 if S::SPARSE_PANEL >= 6 => s.vectorize(SparseTiles::<6>(sparse)),
                5 if S::SPARSE_PANEL >= 5 => s.vectorize(SparseTiles::<5>(sparse)),
                4 if S::PANEL >= 4 => s.vectorize(SparseTiles::<4>(sparse)),
                3 if S::SPARSE_PANEL >= 3 => s.vectorize(SparseTiles::<3>(sparse)),
                2 if S::SPARSE_PANEL >= 2 => s.vectorize(SparseTiles::<2>(sparse)),
                _ => s.vectorize(SparseTiles::<1>(sparse)),
            }
        }
    }
}

/// Copies numbers into lines, the rest of the last line unchanged.
fn flat_copy(from: &[f32], to: &mut [Line]) {
    for (line, numbers) in to.iter_mut().zip(from.chunks(LANES)) {
        line.0[..numbers.len()].copy_from_slice(numbers);
    }
}

/// max(x, 0) on every number.
#[inline(always)]
pub(crate) fn relu<S: Simd>(s: S, numbers: &mut [Line]) {
    for line in numbers {
        let value = s.relu(s.load(&line.0));
        s.store(value, &mut line.0);
    }
}

/// The scalar product of two vectors of one length.
#[inline(always)]
pub(crate) fn dot<S: Simd>(s: S, a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = s.splat(0.0);
    for (a, b) in a.iter().zip(b) {
        sums = s.mul_add(s.load(a), s.load(b), sums);
    }
    if !a_rest.is_empty() {
        sums = s.mul_add(load_padded(s, a_rest), load_padded(s, b_rest), sums);
    }
    s.sum(sums)
}

/// A dense product with one panel.
struct RowProduct<'a> {
    rows: usize,
    inputs: &'a [Line],
    stride: usize,
    weights: &'a [Line],
    outputs: &'a mut [Line],
    lines: usize,
    first: usize,
}

/// The product in tiles of ROWS rows by WIDTH vectors held in registers.
struct RowTiles<'a, const ROWS: usize, const WIDTH: usize>(RowProduct<'a>);

impl<const ROWS: usize, const WIDTH: usize> Kernel for RowTiles<'_, ROWS, WIDTH> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let mut row = 0;
        while row + ROWS <= self.0.rows {
            self.0.tile::<S, ROWS, WIDTH>(s, row);
            row += ROWS;
        }
        while row + 2 <= self.0.rows {
            self.0.tile::<S, 2, WIDTH>(s, row);
            row += 2;
        }
        if row < self.0.rows {
            self.0.tile::<S, 1, WIDTH>(s, row);
        }
    }
}

impl RowProduct<'_> {
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "register tiles are indexed by constants")]
    fn tile<S: Simd, const ROWS: usize, const WIDTH: usize>(&mut self, s: S, row: usize) {
        let (weights, _) = self.weights.as_chunks::<WIDTH>();
        let mut inputs = [&[][..]; ROWS];
        let mut sums = [[s.splat(0.0); WIDTH]; ROWS];
        for r in 0..ROWS {
            inputs[r] = &flat(&self.inputs[(row + r) * self.stride..])[..weights.len()];
            let at = &self.outputs[(row + r) * self.lines + self.first..][..WIDTH];
            for v in 0..WIDTH {
                sums[r][v] = s.load(&at[v].0);
            }
        }
        for (k, lines) in weights.iter().enumerate() {
            let mut vectors = [s.splat(0.0); WIDTH];
            for v in 0..WIDTH {
                vectors[v] = s.load(&lines[v].0);
            }
            for r in 0..ROWS {
                // SAFETY: every slice of `inputs` has as many numbers as `weights` has lines.
                let x = s.splat(unsafe { *inputs[r].get_unchecked(k) });
                for v in 0..WIDTH {
                    sums[r][v] = s.mul_add(x, vectors[v], sums[r][v]);
                }
            }
        }
        for r in 0..ROWS {
            let at = &mut self.outputs[(row + r) * self.lines + self.first..][..WIDTH];
            for v in 0..WIDTH {
                s.store(sums[r][v], &mut at[v].0);
            }
        }
    }
}

/// A product of rows with many zeros with one panel.
struct Sparse<'a> {
    rows: usize,
    inputs: &'a [Line],
    stride: usize,
    weights: &'a [Line],
    biases: &'a [Line],
    outputs: &'a mut [Line],
    lines: usize,
    first: usize,
}

/// The product two rows at a time, WIDTH vectors each in registers, visiting the inputs that are not zero.
struct SparseTiles<'a, const WIDTH: usize>(Sparse<'a>);

impl<const WIDTH: usize> Kernel for SparseTiles<'_, WIDTH> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let Sparse { rows, biases, ref mut outputs, lines, first, .. } = self.0;
        for row in outputs.chunks_exact_mut(lines).take(rows) {
            row[first..][..WIDTH].copy_from_slice(biases);
        }
        // Sixty-four inputs at a time for all rows: their weights stay in the first-level cache.
        for word in 0..self.0.stride.div_ceil(4) {
            for row in (0..rows).step_by(2) {
                self.0.pair::<S, WIDTH>(s, word, row);
            }
        }
    }
}

impl Sparse<'_> {
    #[allow(clippy::needless_range_loop, reason = "register tiles are indexed by constants")]
    /// Adds the products with the word-th 64 inputs to rows `row` and, if there is one, `row + 1`.
    #[inline(always)]
    fn pair<S: Simd, const WIDTH: usize>(&mut self, s: S, word: usize, row: usize) {
        let (weights, _) = self.weights.as_chunks::<WIDTH>();
        let weights = &weights[word * 64..];
        let weights = &weights[..weights.len().min(64)];
        let lines = self.stride.min(word * 4 + 4) - word * 4;
        let other = (row + 1).min(self.rows - 1);
        let inputs = [
            &self.inputs[row * self.stride + word * 4..][..lines],
            &self.inputs[other * self.stride + word * 4..][..lines],
        ];
        // An overflow can leave NaNs beyond the inputs.
        let valid = u64::MAX >> (64 - weights.len());
        let mut left = [mask(s, inputs[0]) & valid, mask(s, inputs[1]) & valid];
        if other == row {
            left[1] = 0;
        }
        let mut sums = [[s.splat(0.0); WIDTH]; 2];
        for v in 0..WIDTH {
            sums[0][v] = s.load(&self.outputs[row * self.lines + self.first + v].0);
            sums[1][v] = s.load(&self.outputs[other * self.lines + self.first + v].0);
        }
        while left[0] != 0 && left[1] != 0 {
            visit::<S, WIDTH>(s, &mut left[0], inputs[0], weights, &mut sums[0]);
            visit::<S, WIDTH>(s, &mut left[1], inputs[1], weights, &mut sums[1]);
        }
        while left[0] != 0 {
            visit::<S, WIDTH>(s, &mut left[0], inputs[0], weights, &mut sums[0]);
        }
        while left[1] != 0 {
            visit::<S, WIDTH>(s, &mut left[1], inputs[1], weights, &mut sums[1]);
        }
        for v in 0..WIDTH {
            if other != row {
                s.store(sums[1][v], &mut self.outputs[other * self.lines + self.first + v].0);
            }
            s.store(sums[0][v], &mut self.outputs[row * self.lines + self.first + v].0);
        }
    }
}

/// Returns a mask of which of up to 64 numbers are not zero.
#[inline(always)]
fn mask<S: Simd>(s: S, lines: &[Line]) -> u64 {
    let mut mask = 0;
    for (i, line) in lines.iter().enumerate() {
        mask |= u64::from(s.nonzero(s.load(&line.0))) << (i * LANES);
    }
    mask
}

/// Adds the product with the next number that is not zero.
#[inline(always)]
fn visit<S: Simd, const WIDTH: usize>(
    s: S,
    left: &mut u64,
    numbers: &[Line],
    weights: &[[Line; WIDTH]],
    sums: &mut [S::F32; WIDTH],
) {
    let k = left.trailing_zeros() as usize;
    *left &= *left - 1;
    debug_assert!(k < weights.len() && k < numbers.len() * LANES);
    // SAFETY: the bits of `left` are within the weights and came from the numbers.
    let (x, weights) = unsafe { (s.splat(*flat(numbers).get_unchecked(k)), weights.get_unchecked(k)) };
    for v in 0..WIDTH {
        sums[v] = s.mul_add(x, s.load(&weights[v].0), sums[v]);
    }
}
