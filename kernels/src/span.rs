//! Ranges: along an axis of a map, and those of a layer's parameters.

use nadgrid_core::architecture::Parameter;
use std::ops::Range;

/// A range that is copied freely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AxisSpan {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl AxisSpan {
    pub(crate) const fn len(self) -> usize {
        self.end - self.start
    }

    pub(crate) const fn range(self) -> Range<usize> {
        self.start..self.end
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

impl From<&Range<usize>> for AxisSpan {
    fn from(range: &Range<usize>) -> Self {
        Self { start: range.start, end: range.end }
    }
}

/// Weight and bias of a layer: its parameter and the next.
pub(crate) fn weight_and_bias(parameters: &[Parameter], weight: usize) -> (Range<usize>, Range<usize>) {
    (parameters[weight].range.clone(), parameters[weight + 1].range.clone())
}
