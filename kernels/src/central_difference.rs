//! The central-difference gradient of one member at one point, and its plain forward pass.
//!
//! g_i = −[f(x+h·e_i) − f(x−h·e_i)]/(2h) for every pixel i, f being output 0. The base activations are
//! computed once; a pixel's change is then followed through the windows that it reaches. What a pixel of the
//! first map changes by is exactly ±h where the first layer is linear, else the rounded x ± h minus x.
//! Deliberately absent: threads, memory between members, anything drawn at random.

use crate::conv::{Conv, PatchConv};
use crate::linear::{self, Linear, dot};
use crate::patch::{Pair, Sink, Source};
use crate::plan::{Dense, Group, Op, Plan, Reach, weight_and_bias};
use crate::pool;
use crate::simd::{InstructionSet, Kernel, LANES, Line, Simd, flat, flat_mut, lines};
use crate::{KernelError, NotFinite};
use nadgrid_core::architecture::{Network, Shape};

/// Pixels whose rows go through the fully connected layers together: two rows of activations each, few
/// enough for the first-level cache.
const BATCH: usize = 16;

/// A network prepared for evaluation, with the memory it takes. Nothing of one member is left to the next.
pub struct CentralDifference {
    network: Network,
    set: InstructionSet,
    plan: Plan,
    /// For every stage, its convolution if it is one.
    convs: Vec<Option<Conv>>,
    head: Head,
    work: Work,
}

/// The fully connected layers.
struct Head {
    dense: Vec<Dense>,
    /// Place of each flattened input (channel, row, column) in rows ordered (row, column, channel).
    places: Vec<u32>,
    /// Numbers per position in those rows.
    stride: usize,
    /// All but the last layer.
    inner: Vec<Linear>,
    /// Weights of output 0 of the last layer, and its bias.
    last: Vec<Line>,
    last_bias: f32,
}

/// Memory.
struct Work {
    /// The base maps, the input's first.
    maps: Vec<Vec<Line>>,
    /// Patches of every map but the last, whose patches are rows of the batch.
    patches: Vec<Pair<Vec<Line>>>,
    /// Rows of deltas of the last map's windows.
    batch: Vec<Line>,
    /// Zero or not a number for every row.
    poison: Vec<f32>,
    pixels: Vec<usize>,
    /// The last base map, flattened as rows are.
    flattened: Vec<Line>,
    /// The first layer's base output.
    base: Vec<Line>,
    /// Rows of outputs of every inner layer.
    activations: Vec<Vec<Line>>,
}

/// Numbers per position in a row of deltas: the channels, unless a position would end within its last vector.
fn position_stride(channels: usize) -> usize {
    if channels <= LANES { channels } else { lines(channels) * LANES }
}

impl CentralDifference {
    /// Prepares for a network, on the best instruction set that this machine has.
    ///
    /// # Errors
    /// [`KernelError::Unsupported`] when the layers are in an order that the kernels cannot evaluate.
    pub fn new(network: &Network) -> Result<Self, KernelError> {
        Self::on(InstructionSet::best(), network)
    }

    /// Prepares for a network, on an instruction set of choice. The results are the same bits.
    ///
    /// # Errors
    /// As [`CentralDifference::new`].
    pub fn on(set: InstructionSet, network: &Network) -> Result<Self, KernelError> {
        let plan = Plan::new(network)?;
        let convs = plan.stages.iter().map(|stage| match stage.op {
            Op::Conv { kernel, .. } => Some(Conv::new(stage, kernel)),
            _ => None,
        });
        let convs = convs.collect();
        let head = Head::new(&plan, set);
        let work = Work::new(&plan, &head);
        Ok(Self { network: network.clone(), set, plan, convs, head, work })
    }

    /// The network this is for.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The gradient of the member with these parameters at `point`, into `out`; all three are flat, in
    /// PyTorch's order, `point` and `out` of the input's length.
    ///
    /// # Errors
    /// [`NotFinite`] with the first pixel whose gradient overflows.
    ///
    /// # Panics
    /// When a length is wrong.
    pub fn gradient(&mut self, parameters: &[f32], point: &[f32], step: f32, out: &mut [f32]) -> Result<(), NotFinite> {
        assert_eq!(parameters.len(), self.network.parameter_count());
        assert_eq!((point.len(), out.len()), (self.plan.input.len(), self.plan.input.len()));
        self.set.run(Gradient { of: self, parameters, point, step, out });
        match out.iter().position(|g| !g.is_finite()) {
            Some(pixel) => Err(NotFinite { pixel }),
            None => Ok(()),
        }
    }

    /// The outputs of the member with these parameters for one input.
    ///
    /// # Panics
    /// When a length is wrong.
    pub fn forward(&mut self, parameters: &[f32], input: &[f32], outputs: &mut [f32]) {
        assert_eq!(parameters.len(), self.network.parameter_count());
        assert_eq!((input.len(), outputs.len()), (self.plan.input.len(), self.network.output().len()));
        self.set.run(Forward { of: self, parameters, input, outputs });
    }

    /// Takes one member's weights.
    #[inline(always)]
    fn prepare<S: Simd>(&mut self, s: S, parameters: &[f32]) {
        let tensors = self.network.parameters();
        for (stage, conv) in self.plan.stages.iter().zip(&mut self.convs) {
            if let (Op::Conv { weight, .. }, Some(conv)) = (stage.op, conv) {
                let (weight, bias) = weight_and_bias(tensors, weight);
                conv.prepare(&parameters[weight], &parameters[bias]);
            }
        }
        let Head { dense, places, inner, last, last_bias, .. } = &mut self.head;
        for (layer, (dense, linear)) in dense.iter().zip(inner.iter_mut()).enumerate() {
            let (weight, bias) = weight_and_bias(tensors, dense.weight);
            let (weights, biases) = (&parameters[weight], &parameters[bias]);
            if layer == 0 {
                linear.prepare(s, weights, biases, |input| places[input] as usize);
            } else {
                linear.prepare(s, weights, biases, |input| input);
            }
        }
        if let Some(dense_last) = dense.last() {
            let (weight, bias) = weight_and_bias(tensors, dense_last.weight);
            *last_bias = parameters[bias.start];
            let weights = &parameters[weight][..dense_last.inputs];
            let last = flat_mut(last);
            if dense.len() == 1 {
                for (&weight, &place) in weights.iter().zip(places.iter()) {
                    last[place as usize] = weight;
                }
            } else {
                last[..weights.len()].copy_from_slice(weights);
            }
        }
    }

    /// Computes the base maps and the first inner layer's base output. Returns zero, or not a number if
    /// something overflowed.
    #[inline(always)]
    fn base<S: Simd>(&mut self, s: S, input: &[f32]) -> f32 {
        let Self { plan, convs, head, work, .. } = self;
        let Work { maps, flattened, base, .. } = work;
        to_channel_last(plan.input, input, &mut maps[0]);
        let mut poison = 0.0;
        for (at, stage) in plan.stages.iter().enumerate() {
            let (before, after) = maps.split_at_mut(at + 1);
            let (from, to) = (&before[at], &mut after[0]);
            poison += match &convs[at] {
                Some(conv) => conv.map(s, stage, from, to),
                None => pool::map(s, stage, from, to),
            };
        }
        let last = plan.last_map();
        let channels = lines(last.channels);
        let to = flat_mut(flattened);
        for (position, pixel) in maps[plan.stages.len()].chunks_exact(channels).enumerate() {
            to[position * head.stride..][..last.channels].copy_from_slice(&flat(pixel)[..last.channels]);
        }
        if let Some(first) = head.inner.first() {
            base.copy_from_slice(&first.biases);
            first.add(s, 1, (flattened, 0), (0, head.places.len() / last.channels * head.stride), base);
        }
        poison
    }

    /// Follows a pixel's change to the last map's window: rows 2·slot and 2·slot + 1 of the batch.
    #[inline(always)]
    fn pixel<S: Simd>(
        &mut self,
        s: S,
        (channel, row, column): (usize, usize, usize),
        step: f32,
        slot: usize,
        rows: &Rows,
    ) {
        let Self { plan, convs, head, work, .. } = self;
        let Work { maps, patches, batch, poison, .. } = work;
        let (row_reach, column_reach) = (plan.rows(row), plan.columns(column));
        let (plus, minus) = batch[2 * slot * rows.stride..][..2 * rows.stride].split_at_mut(rows.stride);
        let mut batch = [flat_mut(plus), flat_mut(minus)];
        let mut bad = [0.0; 2];
        if plan.stages.is_empty() {
            for (patch, step) in batch.iter_mut().zip([step, -step]) {
                patch[..plan.input.channels].fill(0.0);
                patch[channel] = step;
            }
        }
        if !matches!(plan.stages.first().map(|stage| stage.op), None | Some(Op::Conv { .. })) {
            let channels = lines(plan.input.channels);
            let [plus, minus] = &mut patches[0];
            let mut to = Sink {
                patches: [flat_mut(plus), flat_mut(minus)],
                row_stride: column_reach[0].stored.len() * channels * LANES,
                stride: channels * LANES,
                form: plan.form(0),
                rows: row_reach[0],
                columns: column_reach[0],
                base: &maps[0],
                width: plan.input.width,
                lines: channels,
            };
            to.change(s, (channel, row, column), step);
            to.fill_border(s);
        }
        for (at, stage) in plan.stages.iter().enumerate() {
            let map = at + 1;
            let (before, after) = patches.split_at_mut(map);
            let channels = lines(stage.output.channels);
            let columns = column_reach[map];
            let (targets, row_stride, stride) = match after {
                [target, ..] => {
                    let [plus, minus] = target;
                    let stride = channels * LANES;
                    ([flat_mut(plus), flat_mut(minus)], columns.stored.len() * stride, stride)
                }
                [] => {
                    let [plus, minus] = &mut batch;
                    ([&mut **plus, &mut **minus], rows.segment * LANES, head.stride)
                }
            };
            let mut to = Sink {
                patches: targets,
                row_stride,
                stride,
                form: plan.form(map),
                rows: row_reach[map],
                columns,
                base: &maps[map],
                width: stage.output.width,
                lines: channels,
            };
            let [plus, minus] = &before[at];
            match &convs[at] {
                Some(conv) if at == 0 => conv.pixel(s, (channel, row, column), step, &mut to),
                Some(conv) => {
                    let (rows, columns) = (row_reach[at].touched, column_reach[at].touched);
                    let found = PatchConv { conv, deltas: [plus, minus], rows, columns, to: &mut to }.run(s);
                    bad = [bad[0] + found[0], bad[1] + found[1]];
                }
                None => {
                    let (rows, columns) = (row_reach[at], column_reach[at]);
                    let lines = lines(stage.input.channels);
                    let found =
                        pool::patch(s, stage.op, Source { patches: [plus, minus], rows, columns, lines }, &mut to);
                    bad = [bad[0] + found[0], bad[1] + found[1]];
                }
            }
            to.fill_border(s);
        }
        poison[2 * slot..][..2].copy_from_slice(&bad);
    }

    /// The batch's rows through the fully connected layers; gradients to their pixels.
    #[inline(always)]
    fn finish<S: Simd>(&mut self, s: S, rows: &Rows, step: f32, poison: f32, out: &mut [f32]) {
        let Self { plan, head, work, .. } = self;
        let Work { batch, poison: row_poison, pixels, flattened, base, activations, .. } = work;
        let count = 2 * pixels.len();
        let width = plan.last_map().width;
        let segment = |row: usize| {
            ((row * width + rows.columns.touched.start) * head.stride, rows.columns.touched.len() * head.stride)
        };
        for (layer, linear) in head.inner.iter().enumerate() {
            let (before, after) = activations.split_at_mut(layer);
            let to = &mut after[0][..count * linear.lines()];
            match before.last() {
                None => {
                    for line in to.chunks_exact_mut(linear.lines()) {
                        line.copy_from_slice(base);
                    }
                    for (index, row) in rows.rows.touched.range().enumerate() {
                        linear.add(s, count, (&batch[index * rows.segment..], rows.stride), segment(row), to);
                    }
                }
                Some(from) => linear.apply(s, count, from, to),
            }
            if head.dense[layer].relu {
                linear::relu(s, to);
            }
        }
        let relu = head.dense.last().is_some_and(|last| last.relu);
        // Without a ReLU at the end, what both signs have in common would cancel: it is left out.
        let common = match (relu, head.inner.is_empty()) {
            (false, _) => 0.0,
            (true, false) => head.last_bias,
            (true, true) => head.last_bias + dot(s, flat(flattened), flat(&head.last)),
        };
        let value = |row: usize| -> f32 {
            let product = match activations.last() {
                Some(from) => dot(s, flat(&from[row * head.last.len()..][..head.last.len()]), flat(&head.last)),
                None => {
                    let mut sum = 0.0;
                    for (index, map_row) in rows.rows.touched.range().enumerate() {
                        let (from, length) = segment(map_row);
                        let deltas = &flat(&batch[row * rows.stride + index * rows.segment..])[..length];
                        sum += dot(s, deltas, &flat(&head.last)[from..][..length]);
                    }
                    sum
                }
            };
            let value = product + common;
            (if relu && 0.0 > value { 0.0 } else { value }) + row_poison[row] + poison
        };
        for (slot, &pixel) in pixels.iter().enumerate() {
            out[pixel] = 0.5 * (value(2 * slot + 1) - value(2 * slot)) / step;
        }
        pixels.clear();
    }
}

impl Head {
    fn new(plan: &Plan, set: InstructionSet) -> Self {
        let Shape { channels, height, width } = plan.last_map();
        let stride = position_stride(channels);
        let place = |input: usize| (input % (height * width)) * stride + input / (height * width);
        let places: Vec<u32> = (0..channels * height * width).map(|input| place(input) as u32).collect();
        let dense = plan.dense.clone();
        let flattened = height * width * stride;
        let inner = dense[..dense.len() - 1].iter().enumerate().map(|(layer, dense)| match layer {
            0 => Linear::new(flattened, dense.outputs, set.panel()),
            _ => Linear::new(dense.inputs, dense.outputs, set.sparse_panel()),
        });
        let inner: Vec<Linear> = inner.collect();
        let last = inner.last().map_or(lines(flattened), Linear::lines);
        Self { dense, places, stride, inner, last: vec![Line::ZERO; last], last_bias: 0.0 }
    }
}

impl Work {
    fn new(plan: &Plan, head: &Head) -> Self {
        let shapes = || std::iter::once(plan.input).chain(plan.stages.iter().map(|stage| stage.output));
        let zeros = |lines: usize| vec![Line::ZERO; lines];
        let patch = |(map, shape): (usize, Shape)| {
            let size = plan.largest_patch(map) * lines(shape.channels);
            [zeros(size), zeros(size)]
        };
        let rows = plan.groups.iter().map(|group| Rows::new(plan, head, group).stride).max().unwrap_or(0);
        let first = head.inner.first().map_or(0, Linear::lines);
        Self {
            maps: shapes().map(|shape| zeros(shape.height * shape.width * lines(shape.channels))).collect(),
            patches: shapes().enumerate().take(plan.stages.len()).map(patch).collect(),
            batch: zeros(2 * BATCH * rows),
            poison: vec![0.0; 2 * BATCH],
            pixels: Vec::with_capacity(BATCH),
            flattened: zeros(lines(head.places.len() / plan.last_map().channels * head.stride)),
            base: zeros(first),
            activations: head.inner.iter().map(|linear| zeros(2 * BATCH * linear.lines())).collect(),
        }
    }
}

/// How a group's rows of deltas lie in the batch: a segment for every row of the window, lines each.
struct Rows {
    rows: Reach,
    columns: Reach,
    segment: usize,
    stride: usize,
}

impl Rows {
    fn new(plan: &Plan, head: &Head, group: &Group) -> Self {
        let map = plan.stages.len();
        let (rows, columns) = (plan.rows(group.rows.start)[map], plan.columns(group.columns.start)[map]);
        let channels = lines(plan.last_map().channels) * LANES;
        let segment = lines(columns.touched.len().saturating_sub(1) * head.stride + channels);
        Self { rows, columns, segment, stride: rows.touched.len() * segment }
    }

    fn is_empty(&self) -> bool {
        self.rows.touched.len() == 0 || self.columns.touched.len() == 0
    }
}

/// Channels, rows, columns to rows, columns, channels.
fn to_channel_last(shape: Shape, input: &[f32], map: &mut [Line]) {
    let stride = lines(shape.channels) * LANES;
    let map = flat_mut(map);
    for (channel, plane) in input.chunks_exact(shape.height * shape.width).enumerate() {
        for (position, &value) in plane.iter().enumerate() {
            map[position * stride + channel] = value;
        }
    }
}

struct Gradient<'a> {
    of: &'a mut CentralDifference,
    parameters: &'a [f32],
    point: &'a [f32],
    step: f32,
    out: &'a mut [f32],
}

impl Kernel for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of, parameters, point, step, out } = self;
        of.prepare(s, parameters);
        let poison = of.base(s, point);
        let Shape { channels, height, width } = of.plan.input;
        for at in 0..of.plan.groups.len() {
            let group = of.plan.groups[at];
            let rows = Rows::new(&of.plan, &of.head, &group);
            for channel in 0..channels {
                for row in group.rows.range() {
                    for column in group.columns.range() {
                        let pixel = (channel * height + row) * width + column;
                        if rows.is_empty() {
                            out[pixel] = poison;
                            continue;
                        }
                        of.pixel(s, (channel, row, column), step, of.work.pixels.len(), &rows);
                        of.work.pixels.push(pixel);
                        if of.work.pixels.len() == BATCH {
                            of.finish(s, &rows, step, poison, out);
                        }
                    }
                }
            }
            of.finish(s, &rows, step, poison, out);
        }
    }
}

struct Forward<'a> {
    of: &'a mut CentralDifference,
    parameters: &'a [f32],
    input: &'a [f32],
    outputs: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of, parameters, input, outputs } = self;
        of.prepare(s, parameters);
        let poison = of.base(s, input);
        let CentralDifference { network, head, work, .. } = of;
        let mut inputs: Vec<f32> = head.places.iter().map(|&place| flat(&work.flattened)[place as usize]).collect();
        let mut lines = work.base.clone();
        for (layer, linear) in head.inner.iter().enumerate() {
            if layer > 0 {
                let from = std::mem::replace(&mut lines, vec![Line::ZERO; linear.lines()]);
                linear.apply(s, 1, &from, &mut lines);
            }
            if head.dense[layer].relu {
                linear::relu(s, &mut lines);
            }
            inputs = flat(&lines)[..head.dense[layer].outputs].to_vec();
        }
        let Some(last) = head.dense.last() else { return };
        let (weight, bias) = weight_and_bias(network.parameters(), last.weight);
        for ((out, row), &bias) in
            outputs.iter_mut().zip(parameters[weight].chunks_exact(last.inputs)).zip(&parameters[bias])
        {
            let sum = dot(s, row, &inputs) + bias + poison;
            *out = if last.relu && 0.0 > sum { 0.0 } else { sum };
        }
    }
}
