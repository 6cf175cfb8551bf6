//! The central difference and the forward pass of a chain of plain convolutions, pools, ReLUs and, at its end, linear
//! layers.
//!
//! The base activations are computed once; a pixel's change is then followed through the windows that it reaches, as
//! deltas where the next layer is linear. What a pixel of the first map changes by is exactly ±h where the first layer is
//! linear, else the rounded x ± h minus x.
//! Deliberately absent: padding, strides and joins (`graph` has them), threads, memory between members.

mod conv;
mod head;
mod impulse;
mod linear;
mod patch_conv;
mod plan;
mod pool;
mod sink;

use crate::simd::{InstructionSet, Kernel, LANES, Line, Simd, flat_mut, lines};
use crate::span::weight_and_bias;
use conv::Conv;
use head::{BATCH, DeltaBatch, DenseHead, RowLayout};
use impulse::Impulse;
use nadgrid_core::architecture::{Network, Shape};
use patch_conv::PatchConv;
use plan::{PatchOp, PatchPlan};
use sink::{PatchSource, SignPair, Sink};

/// A network prepared for evaluation, with the memory it takes. Nothing of one member is left to the next.
pub(crate) struct Chain {
    network: Network,
    set: InstructionSet,
    plan: PatchPlan,
    /// For every stage, its convolution if it is one.
    convs: Vec<Option<Conv>>,
    /// The first convolution together with the maximum pool after it.
    impulse: Option<Impulse>,
    head: DenseHead,
    /// The base maps, the input's first.
    maps: Vec<Vec<Line>>,
    /// Patches of every map but the last, whose patches are rows of the batch.
    patches: Vec<SignPair<Vec<Line>>>,
    batch: DeltaBatch,
}

impl Chain {
    /// Prepares for a network, if it is such a chain.
    pub(crate) fn on(set: InstructionSet, network: &Network) -> Option<Self> {
        let plan = PatchPlan::new(network)?;
        let convs = plan.stages.iter().map(|stage| match stage.op {
            PatchOp::Conv { kernel, .. } => Some(Conv::new(stage, kernel)),
            _ => None,
        });
        let convs: Vec<Option<Conv>> = convs.collect();
        let impulse = match (convs.first(), plan.stages.get(1).map(|stage| stage.op)) {
            (Some(Some(conv)), Some(PatchOp::MaxPool { size, relu })) => Some(Impulse::new(conv, size, relu)),
            _ => None,
        };
        let shapes = || std::iter::once(plan.input).chain(plan.stages.iter().map(|stage| stage.output));
        let map = |shape: Shape| vec![Line::ZERO; shape.height * shape.width * lines(shape.channels)];
        let patches = shapes().enumerate().take(plan.stages.len()).map(|(map, shape)| {
            let patch = vec![Line::ZERO; plan.largest_patch(map) * lines(shape.channels)];
            [patch.clone(), patch]
        });
        let maps = shapes().map(map).collect();
        let patches = patches.collect();
        let head = DenseHead::new(&plan, set);
        let batch = DeltaBatch::new(&plan, &head);
        Some(Self { network: network.clone(), set, plan, convs, impulse, head, maps, patches, batch })
    }

    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// The gradient at every pixel, not a number where something overflowed on the way.
    pub(crate) fn gradient(&mut self, parameters: &[f32], point: &[f32], step: f32, out: &mut [f32]) {
        self.set.run(ChainGradient { of: self, parameters, point, step, out });
    }

    /// The outputs for one input.
    pub(crate) fn forward(&mut self, parameters: &[f32], input: &[f32], outputs: &mut [f32]) {
        self.set.run(ChainForward { of: self, parameters, input, outputs });
    }

    /// Takes one member's weights.
    #[inline(always)]
    fn prepare<S: Simd>(&mut self, s: S, parameters: &[f32]) {
        for (stage, conv) in self.plan.stages.iter().zip(&mut self.convs) {
            if let (PatchOp::Conv { weight, .. }, Some(conv)) = (stage.op, conv) {
                let (weight, bias) = weight_and_bias(self.network.parameters(), weight);
                conv.prepare(&parameters[weight], &parameters[bias]);
            }
        }
        if let (Some(impulse), Some(Some(conv))) = (&mut self.impulse, self.convs.first()) {
            impulse.prepare(conv);
        }
        self.head.prepare(s, &self.network, parameters);
    }

    /// Computes the base maps. Returns zero, or not a number if something overflowed.
    #[inline(always)]
    fn base<S: Simd>(&mut self, s: S, input: &[f32]) -> f32 {
        to_channel_last(self.plan.input, input, &mut self.maps[0]);
        let mut poison = 0.0;
        for (at, (stage, conv)) in self.plan.stages.iter().zip(&self.convs).enumerate() {
            let (before, after) = self.maps.split_at_mut(at + 1);
            let from = &before[at];
            let to = &mut after[0];
            poison += match conv {
                Some(conv) => conv.map(s, stage, from, to),
                None => pool::map(s, stage, from, to),
            };
        }
        self.head.base(s, &self.maps[self.plan.stages.len()]);
        poison
    }

    /// Follows a pixel's change to the last map's window: the batch's next two rows.
    #[inline(always)]
    fn pixel<S: Simd>(
        &mut self,
        s: S,
        (channel, row, column): (usize, usize, usize),
        step: f32,
        rows: &RowLayout,
        poison: f32,
    ) {
        let Self { plan, convs, impulse, head, maps, patches, batch, .. } = self;
        let slot = batch.pixels.len();
        let row_reach = plan.rows(row);
        let column_reach = plan.columns(column);
        let (plus, minus) = batch.lines[2 * slot * rows.stride..][..2 * rows.stride].split_at_mut(rows.stride);
        let mut targets = [flat_mut(plus), flat_mut(minus)];
        let mut bad = [poison; 2];
        if plan.stages.is_empty() {
            for (patch, step) in targets.iter_mut().zip([step, -step]) {
                patch[..plan.input.channels].fill(0.0);
                patch[channel] = step;
            }
        }
        if !matches!(plan.stages.first().map(|stage| stage.op), None | Some(PatchOp::Conv { .. })) {
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
            let (patches, row_stride, stride) = match after {
                [target, ..] => {
                    let [plus, minus] = target;
                    let stride = channels * LANES;
                    ([flat_mut(plus), flat_mut(minus)], columns.stored.len() * stride, stride)
                }
                [] => {
                    let [plus, minus] = &mut targets;
                    ([&mut **plus, &mut **minus], rows.segment * LANES, head.stride)
                }
            };
            let mut to = Sink {
                patches,
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
                Some(_) if at == 0 && impulse.is_some() => continue,
                Some(conv) if at == 0 => conv.pixel(s, (channel, row, column), step, &mut to),
                Some(conv) => {
                    let rows = row_reach[at].touched;
                    let columns = column_reach[at].touched;
                    let found = PatchConv { conv, deltas: [plus, minus], rows, columns, to: &mut to }.run(s);
                    bad = [bad[0] + found[0], bad[1] + found[1]];
                }
                None if at == 1
                    && let Some(impulse) = impulse =>
                {
                    impulse.pool(s, (&maps[1], stage.input.width), (channel, row, column), step, &mut to);
                }
                None => {
                    let rows = row_reach[at];
                    let columns = column_reach[at];
                    let lines = lines(stage.input.channels);
                    let from = PatchSource { patches: [plus, minus], rows, columns, lines };
                    if lines == 1 && stage.op == (PatchOp::MaxPool { size: 2, relu: true }) {
                        pool::patch_of_two(s, from, &mut to);
                    } else {
                        let found = pool::patch(s, stage.op, from, &mut to);
                        bad = [bad[0] + found[0], bad[1] + found[1]];
                    }
                }
            }
            to.fill_border(s);
        }
        batch.poison[2 * slot..][..2].copy_from_slice(&bad);
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

struct ChainGradient<'a> {
    of: &'a mut Chain,
    parameters: &'a [f32],
    point: &'a [f32],
    step: f32,
    out: &'a mut [f32],
}

impl Kernel for ChainGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of, parameters, point, step, out } = self;
        of.prepare(s, parameters);
        let poison = of.base(s, point);
        let Shape { channels, height, width } = of.plan.input;
        for at in 0..of.plan.groups.len() {
            let group = of.plan.groups[at];
            let rows = RowLayout::new(&of.plan, &of.head, &group);
            for channel in 0..channels {
                for row in group.rows.range() {
                    for column in group.columns.range() {
                        let pixel = (channel * height + row) * width + column;
                        if rows.is_empty() {
                            out[pixel] = poison;
                            continue;
                        }
                        of.pixel(s, (channel, row, column), step, &rows, poison);
                        of.batch.pixels.push(pixel);
                        if of.batch.pixels.len() == BATCH {
                            of.head.finish(s, &mut of.batch, &rows, step, out);
                        }
                    }
                }
            }
            of.head.finish(s, &mut of.batch, &rows, step, out);
        }
    }
}

struct ChainForward<'a> {
    of: &'a mut Chain,
    parameters: &'a [f32],
    input: &'a [f32],
    outputs: &'a mut [f32],
}

impl Kernel for ChainForward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of, parameters, input, outputs } = self;
        of.prepare(s, parameters);
        let poison = of.base(s, input);
        of.head.outputs(s, &of.network, parameters, outputs);
        for out in outputs {
            *out += poison;
        }
    }
}
