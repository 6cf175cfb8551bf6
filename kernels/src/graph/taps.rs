//! The positions of its input that an output position reads, and their places in memory: in a pixel's window, in the
//! base map around it, or nowhere (zeros).
//!
//! Outputs are sorted into classes by which of their taps lie within the map; the others, zeros, are left out. So
//! what an output computes is a function of its position alone.

use super::window::WindowSlot;
use nadgrid_core::architecture::{Padding, Shape};
use std::ops::Range;

/// Set in a source that is in the base map.
const BASE: u32 = 1 << 31;
/// The zeros at the start of a base map.
const ZEROS: u32 = BASE;

/// Returns the memory that a source is in, and its first vector there.
pub(crate) const fn locate(source: u32) -> (usize, usize) {
    ((source >> 31) as usize, (source & !BASE) as usize)
}

/// Along one axis: the taps of every output.
#[derive(Clone, Debug)]
struct AxisTaps {
    /// The distinct ranges of taps.
    classes: Vec<Range<usize>>,
    /// For every output, its class.
    class: Vec<usize>,
    stride: usize,
    /// The number that is subtracted from output·stride + tap.
    shift: usize,
    input: usize,
    circular: bool,
}

impl AxisTaps {
    fn new(kernel: usize, stride: usize, padding: Padding, input: usize, outputs: usize) -> Self {
        let (shift, circular) = match padding {
            Padding::Zeros(zeros) => (zeros, false),
            Padding::Circular => (0, true),
        };
        let mut axis = Self { classes: Vec::new(), class: Vec::new(), stride, shift, input, circular };
        for output in 0..outputs {
            let mut within = (0..kernel).filter(|&tap| axis.read(output, tap).is_some());
            // An output that reads nothing but zeros has one tap for form's sake.
            let taps = within.next().map_or(0..1, |first| first..within.next_back().unwrap_or(first) + 1);
            let class = axis.classes.iter().position(|class| *class == taps);
            axis.class.push(class.unwrap_or(axis.classes.len()));
            if class.is_none() {
                axis.classes.push(taps);
            }
        }
        axis
    }

    /// The input that a tap of an output reads, if it is within the map.
    fn read(&self, output: usize, tap: usize) -> Option<usize> {
        let at = output * self.stride + tap;
        if self.circular {
            return Some(at % self.input);
        }
        at.checked_sub(self.shift).filter(|&at| at < self.input)
    }
}

/// The taps of an operation.
#[derive(Clone, Debug)]
pub(crate) struct Taps {
    rows: AxisTaps,
    columns: AxisTaps,
    kernel: [usize; 2],
}

impl Taps {
    /// Of windows of `kernel` rows and columns.
    pub(crate) fn new(kernel: [usize; 2], stride: usize, padding: Padding, input: Shape, output: Shape) -> Self {
        let rows = AxisTaps::new(kernel[0], stride, padding, input.height, output.height);
        let columns = AxisTaps::new(kernel[1], stride, padding, input.width, output.width);
        Self { rows, columns, kernel }
    }

    /// One tap, at the output's own position.
    pub(crate) fn pointwise(map: Shape) -> Self {
        Self::new([1; 2], 1, Padding::Zeros(0), map, map)
    }

    /// The number of taps that have a weight.
    pub(crate) fn count(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// The sources of all outputs in `outputs`, whose input's windows are `inputs`, of `lines` vectors a position.
    pub(crate) fn sources(&self, outputs: &[WindowSlot], inputs: &[WindowSlot], lines: usize, to: &mut Sources) {
        to.start(self);
        for (output, input) in outputs.iter().zip(inputs) {
            let mut row_of_output = output.start;
            for row in output.rows.range() {
                for column in output.columns.range() {
                    let class = self.rows.class[row] * self.columns.classes.len() + self.columns.class[column];
                    let class = &mut to.classes[class];
                    class.outputs.push(row_of_output as u32);
                    self.push(row, column, input, lines, &mut class.sources);
                    row_of_output += 1;
                }
            }
        }
    }

    /// The sources of one output.
    #[inline(always)]
    fn push(&self, row: usize, column: usize, window: &WindowSlot, lines: usize, to: &mut Vec<u32>) {
        let columns = self.columns.classes[self.columns.class[column]].clone();
        for tap in self.rows.classes[self.rows.class[row]].clone() {
            match self.rows.read(row, tap) {
                Some(row) => to.extend(columns.clone().map(|tap| match self.columns.read(column, tap) {
                    Some(column) => source(row, column, self.columns.input, window, lines),
                    None => ZEROS,
                })),
                None => to.extend(columns.clone().map(|_| ZEROS)),
            }
        }
    }
}

/// Returns the source of a position of a map.
#[inline(always)]
pub(crate) fn source(row: usize, column: usize, width: usize, window: &WindowSlot, lines: usize) -> u32 {
    let rows = window.rows;
    let columns = window.columns;
    if rows.range().contains(&row) && columns.range().contains(&column) {
        let position = (row - rows.start) * columns.len() + column - columns.start;
        ((window.start + position) * lines) as u32
    } else {
        BASE | ((1 + row * width + column) * lines) as u32
    }
}

/// Outputs whose taps are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Class {
    /// The kernel's taps, by number.
    pub(crate) taps: Vec<usize>,
    /// Every output's row in the output's memory.
    pub(crate) outputs: Vec<u32>,
    /// For every output, the source of every tap.
    pub(crate) sources: Vec<u32>,
}

/// The sources of an operation for a batch. The memory is used again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    classes: Vec<Class>,
    used: usize,
}

impl Sources {
    /// Makes the classes of an operation, without outputs.
    fn start(&mut self, taps: &Taps) {
        self.used = taps.rows.classes.len() * taps.columns.classes.len();
        self.classes.resize_with(self.used.max(self.classes.len()), Class::default);
        let mut classes = self.classes.iter_mut();
        for rows in &taps.rows.classes {
            for (columns, class) in taps.columns.classes.iter().zip(classes.by_ref()) {
                class.outputs.clear();
                class.sources.clear();
                class.taps.clear();
                let tap = |row| columns.clone().map(move |column| row * taps.kernel[1] + column);
                class.taps.extend(rows.clone().flat_map(tap));
            }
        }
    }

    /// The classes.
    pub(crate) fn classes(&self) -> &[Class] {
        &self.classes[..self.used]
    }

    /// The sources where every output has the same number, one after the other.
    pub(crate) fn only(&self) -> &[u32] {
        self.classes().first().map_or(&[], |class| &class.sources)
    }
}
