//! A network as a short list of operations on feature maps: what a pass of the fused evaluation launches.
//!
//! Maps lie in buffers. Most have one of their own; the maps that concatenations join are channels of one buffer, so that
//! nothing is concatenated. Deliberately absent: tensors, which `execute` makes of buffers, and weights, which are `weights`'s.

use nadgrid_core::architecture::{Padding, Shape};
use std::ops::Range;

/// The channels of cuDNN's fused convolutions on tensor cores come in eights.
pub(super) const LANE: usize = 8;

/// Some consecutive channels of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BufferView {
    /// The index of the buffer.
    pub(super) buffer: usize,
    /// The first channel.
    pub(super) first: usize,
    /// The shape that is seen, with this many channels from the first one on.
    pub(super) shape: Shape,
}

/// The action of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FusedAction {
    /// A convolution, with its bias and with the residual that the operation names, then max(x, 0) if asked for.
    Convolve {
        /// The index of its weights.
        product: usize,
        kernel: usize,
        stride: usize,
        padding: Padding,
        relu: bool,
    },
    /// A fully connected layer, its bias, then max(x, 0) if asked for.
    Multiply { product: usize, relu: bool },
    /// A batch norm that no convolution precedes: x·scale + shift for every channel, then max(x, 0) if asked for.
    Normalise { affine: usize, relu: bool },
    /// The sum with the residual, then max(x, 0) if asked for.
    Sum { relu: bool },
    /// The rectifier, which computes max(x, 0).
    Rectify,
    /// Maximum over windows of this size.
    MaxPool { size: usize },
    /// Mean over windows of this size.
    AvgPool { size: usize },
    /// Channels, rows and columns to one vector, in this order.
    Flatten,
    /// A copy, for a map that lies in more than one place.
    Copy,
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FusedOperation {
    /// The network's step that begins it, and that step's kind, for error messages.
    pub(super) step: usize,
    pub(super) what: &'static str,
    pub(super) action: FusedAction,
    pub(super) reads: BufferView,
    /// The map that is added, for convolutions and sums.
    pub(super) residual: Option<BufferView>,
    /// Whether what is written is max(x, 0) of the action's result.
    pub(super) rectified: bool,
    pub(super) writes: BufferView,
}

/// The weights of a convolution or a fully connected layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FusedProduct {
    /// The range among the network's parameters.
    pub(super) weight: Range<usize>,
    /// Their shape `[outputs, inputs, height, width]`; a fully connected layer reads its whole map.
    pub(super) shape: [usize; 4],
    /// Inputs with the zeros that fill them up.
    pub(super) inputs: usize,
    /// Index of what its outputs are scaled by, and their bias.
    pub(super) affine: usize,
    /// Whether its inputs are a drawn batch norm's, which left its factor to the weights.
    pub(super) normed: bool,
    /// Whether the weights are multiplied by the scale or that factor.
    pub(super) scaled: bool,
    /// Whether it adds the bias. Where an operation adds two convolutions' results, one of them adds both biases.
    pub(super) biased: bool,
}

/// Scale and bias of channels: of a batch norm, of a product, or of both, one folded into the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FusedAffine {
    pub(super) channels: usize,
    /// The begin of a batch norm's weight and of its bias among the network's parameters.
    pub(super) norm: Option<(usize, usize)>,
    /// The begin of the product's own bias.
    pub(super) bias: Option<usize>,
    /// The index of another affine whose bias is added too.
    pub(super) also: Option<usize>,
}

/// A network's operations, in order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FusedProgram {
    /// Shapes of the buffers; the first is the input's, whose channels may be more than the network's.
    pub(super) buffers: Vec<Shape>,
    pub(super) operations: Vec<FusedOperation>,
    pub(super) products: Vec<FusedProduct>,
    pub(super) affines: Vec<FusedAffine>,
    pub(super) output: BufferView,
}

impl FusedOperation {
    /// Whether one call of cuDNN does all of it: convolution, bias, residual, max(x, 0). Channels that are not in eights, as those
    /// of LeNet, have no such call for every kind of number.
    pub(super) fn is_one_call(&self, product: &FusedProduct) -> bool {
        let FusedAction::Convolve { relu, .. } = self.action else { return false };
        relu && product.inputs.is_multiple_of(LANE) && product.shape[0].is_multiple_of(LANE)
    }
}

impl FusedProgram {
    /// Returns the last operation that reads each buffer; none reads the output's.
    pub(super) fn last_reads(&self) -> Vec<usize> {
        let mut last = vec![usize::MAX; self.buffers.len()];
        for (index, operation) in self.operations.iter().enumerate() {
            last[operation.reads.buffer] = index;
            if let Some(residual) = operation.residual {
                last[residual.buffer] = index;
            }
        }
        last[self.output.buffer] = usize::MAX;
        last
    }

    /// Whether these are all channels of a buffer.
    pub(super) fn is_whole(&self, view: &BufferView) -> bool {
        view.shape.channels == self.buffers[view.buffer].channels
    }

    /// Returns the most numbers that are held at once for every input.
    pub(super) fn live_numbers(&self) -> usize {
        let last = self.last_reads();
        let mut held = vec![false; self.buffers.len()];
        let mut most = self.buffers[0].len();
        held[0] = true;
        for (index, operation) in self.operations.iter().enumerate() {
            held[operation.writes.buffer] = true;
            let buffers: usize = held.iter().zip(&self.buffers).filter(|(held, _)| **held).map(|(_, s)| s.len()).sum();
            // A part of a buffer is computed elsewhere and copied.
            let apart = if self.is_whole(&operation.writes) { 0 } else { operation.writes.shape.len() };
            most = most.max(buffers + apart);
            held.iter_mut().zip(&last).for_each(|(held, last)| *held &= *last != index);
        }
        most
    }

    /// Whether a convolution is a product of matrices: of kernel 1, which reads some channels of a buffer. cuDNN would copy them
    /// first.
    pub(super) fn is_product(&self, operation: &FusedOperation) -> bool {
        let FusedAction::Convolve { kernel: 1, stride: 1, padding: Padding::Zeros(0), .. } = operation.action else {
            return false;
        };
        operation.residual.is_none() && !self.is_whole(&operation.reads)
    }

    /// Returns the number of kernels and library calls of a pass on a GPU, beside those that make the inputs and take the
    /// differences.
    #[cfg(test)]
    pub(super) fn launches(&self) -> usize {
        self.operations.iter().map(|operation| self.launches_of(operation)).sum()
    }

    #[cfg(test)]
    fn launches_of(&self, operation: &FusedOperation) -> usize {
        let own = match operation.action {
            FusedAction::Multiply { .. } => 1,
            FusedAction::Convolve { .. } if self.is_product(operation) => 1,
            FusedAction::Convolve { product, relu, padding, .. } => {
                let product = &self.products[product];
                let wrapping = if padding == Padding::Circular { 2 } else { 0 };
                let further = [product.biased, operation.residual.is_some(), relu];
                let further = further.into_iter().filter(|&is| is).count();
                1 + wrapping + if operation.is_one_call(product) { 0 } else { further }
            }
            FusedAction::Normalise { relu, .. } | FusedAction::Sum { relu } => 1 + usize::from(relu),
            _ => 1,
        };
        let copied = !self.is_whole(&operation.writes) && operation.action != FusedAction::Copy;
        own + usize::from(copied) + usize::from(operation.rectified)
    }
}
