//! The properties of a network that are known before any weight is: stages of feature maps, the window of each that a
//! pixel reaches, and the pixels that end in one window of the last map.
//!
//! Pure geometry: no numbers of any member are here.

use crate::span::AxisSpan;
use nadgrid_core::architecture::{Conv2d, Layer, Network, Padding, Shape, Step, Window};

/// A step between two feature maps. A ReLU right before a maximum pool is one with it: both keep order,
/// so the pool can go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchOp {
    Conv { kernel: usize, weight: usize },
    Relu,
    MaxPool { size: usize, relu: bool },
    AvgPool { size: usize },
}

impl PatchOp {
    /// Side of the window that one output reads, for a pool or a ReLU.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::MaxPool { size, .. } | Self::AvgPool { size } => size,
            Self::Relu | Self::Conv { .. } => 1,
        }
    }
}

/// An operation with the shapes of its maps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapStage {
    pub(crate) op: PatchOp,
    pub(crate) input: Shape,
    pub(crate) output: Shape,
}

impl MapStage {
    /// The network's steps that are one here.
    fn steps(&self) -> usize {
        if matches!(self.op, PatchOp::MaxPool { relu: true, .. }) { 2 } else { 1 }
    }
}

/// A fully connected layer, and whether a ReLU follows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dense {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) weight: usize,
    pub(crate) relu: bool,
}

/// The form in which a later stage needs a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The new values, on whole pooling windows where a pool comes next.
    Values,
    /// New minus base, on what the pixel reaches: the next stage is linear.
    Deltas,
}

/// Along one axis of one map: what a pixel reaches, and what its patch holds (more where a pool needs it).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) touched: AxisSpan,
    pub(crate) stored: AxisSpan,
}

/// Pixels whose changes end in one window of the last map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) rows: AxisSpan,
    pub(crate) columns: AxisSpan,
}

/// The geometry of a network.
#[derive(Clone, Debug)]
pub(crate) struct PatchPlan {
    pub(crate) input: Shape,
    pub(crate) stages: Vec<MapStage>,
    pub(crate) dense: Vec<Dense>,
    /// For each pixel row, the reach in every map, the input's first.
    row_reach: Vec<Reach>,
    column_reach: Vec<Reach>,
    pub(crate) groups: Vec<Group>,
}

impl PatchPlan {
    /// `None` if the network is not a chain that the patches can follow.
    pub(crate) fn new(network: &Network) -> Option<Self> {
        let steps = network.steps();
        if !network.is_chain() {
            return None;
        }
        // ReLU after Flatten is the same as before it.
        let head = steps.iter().position(|s| matches!(s.layer, Layer::Linear { .. })).unwrap_or(steps.len());
        let stages = stages(&steps[..head])?;
        let dense = dense(&steps[head..])?;
        let input = network.input();
        let mut plan =
            Self { input, stages, dense, row_reach: Vec::new(), column_reach: Vec::new(), groups: Vec::new() };
        let spatial: Vec<&Step> = steps[..head].iter().filter(|s| s.is_spatial()).collect();
        plan.row_reach = (0..input.height).flat_map(|at| plan.reach(&spatial, at, true)).collect();
        plan.column_reach = (0..input.width).flat_map(|at| plan.reach(&spatial, at, false)).collect();
        let maps = plan.stages.len();
        let rows = runs(input.height, |row| plan.rows(row)[maps].touched);
        let columns = runs(input.width, |column| plan.columns(column)[maps].touched);
        plan.groups =
            rows.iter().flat_map(|&rows| columns.iter().map(move |&columns| Group { rows, columns })).collect();
        Some(plan)
    }

    /// The reach of a pixel row (or column) in every map.
    fn reach(&self, spatial: &[&Step], at: usize, is_row: bool) -> Vec<Reach> {
        let mut window = Window::pixel(at.min(self.input.height - 1), at.min(self.input.width - 1));
        let axis = |window: &Window| AxisSpan::from(if is_row { &window.rows } else { &window.columns });
        let mut maps = vec![axis(&window)];
        let mut steps = spatial.iter();
        for stage in &self.stages {
            for step in steps.by_ref().take(stage.steps()) {
                window = step.reach(&window);
            }
            // What has fallen into a pool's dropped remainder stays lost.
            let lost = maps.last().is_some_and(|span| span.len() == 0);
            maps.push(if lost { AxisSpan::default() } else { axis(&window) });
        }
        maps.iter().enumerate().map(|(map, &touched)| Reach { touched, stored: self.stored(map, &maps) }).collect()
    }

    /// Returns the span that a patch of map `map` holds: whole windows of the pool that reads it.
    fn stored(&self, map: usize, touched: &[AxisSpan]) -> AxisSpan {
        match self.stages.get(map).map(|stage| stage.op) {
            Some(PatchOp::MaxPool { size, .. } | PatchOp::AvgPool { size }) if touched[map + 1].len() > 0 => {
                let pooled = touched[map + 1];
                touched[map].union(AxisSpan { start: pooled.start * size, end: pooled.end * size })
            }
            _ => touched[map],
        }
    }

    /// For every map, what pixel row `row` reaches.
    pub(crate) fn rows(&self, row: usize) -> &[Reach] {
        let maps = self.stages.len() + 1;
        &self.row_reach[row * maps..][..maps]
    }

    /// For every map, what pixel column `column` reaches.
    pub(crate) fn columns(&self, column: usize) -> &[Reach] {
        let maps = self.stages.len() + 1;
        &self.column_reach[column * maps..][..maps]
    }

    /// The form in which patches of map `map` are wanted.
    pub(crate) fn form(&self, map: usize) -> Form {
        match self.stages.get(map).map(|stage| stage.op) {
            None | Some(PatchOp::Conv { .. }) => Form::Deltas,
            Some(_) => Form::Values,
        }
    }

    /// The last map, which the first fully connected layer reads.
    pub(crate) fn last_map(&self) -> Shape {
        self.stages.last().map_or(self.input, |stage| stage.output)
    }

    /// The most positions that a patch of map `map` holds.
    pub(crate) fn largest_patch(&self, map: usize) -> usize {
        let rows = (0..self.input.height).map(|row| self.rows(row)[map].stored.len()).max();
        let columns = (0..self.input.width).map(|column| self.columns(column)[map].stored.len()).max();
        rows.unwrap_or(0) * columns.unwrap_or(0)
    }
}

/// Splits 0..length into the longest runs of indices that end in one window of the last map.
fn runs(length: usize, last: impl Fn(usize) -> AxisSpan) -> Vec<AxisSpan> {
    let mut runs: Vec<AxisSpan> = Vec::new();
    for at in 0..length {
        match runs.last_mut() {
            Some(run) if last(run.start) == last(at) => run.end = at + 1,
            _ => runs.push(AxisSpan { start: at, end: at + 1 }),
        }
    }
    runs
}

/// The steps before the first fully connected layer, if they are plain convolutions, pools and ReLUs on maps.
fn stages(steps: &[Step]) -> Option<Vec<MapStage>> {
    let mut stages: Vec<MapStage> = Vec::new();
    let mut flat = false;
    for step in steps {
        let op = match step.layer {
            Layer::Flatten => {
                flat = true;
                continue;
            }
            Layer::Relu | Layer::Conv2d(_) | Layer::MaxPool2d { .. } | Layer::AvgPool2d { .. } if flat => return None,
            Layer::Conv2d(Conv2d { kernel, stride: 1, padding: Padding::Zeros(0), bias: true, .. }) => {
                PatchOp::Conv { kernel, weight: step.weight? }
            }
            Layer::MaxPool2d { size } => match stages.last() {
                Some(MapStage { op: PatchOp::Relu, .. }) => {
                    stages.pop();
                    PatchOp::MaxPool { size, relu: true }
                }
                _ => PatchOp::MaxPool { size, relu: false },
            },
            Layer::AvgPool2d { size } => PatchOp::AvgPool { size },
            Layer::Relu => PatchOp::Relu,
            _ => return None,
        };
        stages.push(MapStage { op, input: step.input, output: step.output });
    }
    Some(stages)
}

/// The steps from the first fully connected layer on, if there is one and nothing but ReLUs between them.
fn dense(steps: &[Step]) -> Option<Vec<Dense>> {
    let mut dense: Vec<Dense> = Vec::new();
    for step in steps {
        match (&step.layer, dense.last_mut()) {
            (Layer::Linear { features, .. }, _) => {
                let inputs = step.input.len();
                let weight = step.weight?;
                dense.push(Dense { inputs, outputs: *features, weight, relu: false });
            }
            (Layer::Relu, Some(last)) => last.relu = true,
            (Layer::Flatten | Layer::Dropout { .. }, _) => {}
            _ => return None,
        }
    }
    (!dense.is_empty()).then_some(dense)
}
