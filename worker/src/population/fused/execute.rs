//! A program on tensors: one call of libtorch for an operation where it has one, channels last throughout.

use super::program::{BufferView, FusedAction, FusedOperation, FusedProgram};
use super::weights::{Kinds, ProgramWeights};
use crate::libtorch;
use crate::population::PopulationError;
use crate::population::error::at;
use crate::population::layer::wrap;
use nadgrid_core::architecture::Padding;
use tch::{TchError, Tensor};

/// The buffers of a pass.
pub(super) struct ForwardPass<'a> {
    program: &'a FusedProgram,
    weights: &'a ProgramWeights,
    kinds: Kinds,
    /// Whether the device lets cuDNN use TF32; `None` where there is no cuDNN.
    tf32: Option<bool>,
    buffers: Vec<Option<Tensor>>,
}

impl<'a> ForwardPass<'a> {
    pub(super) fn new(
        program: &'a FusedProgram,
        weights: &'a ProgramWeights,
        kinds: Kinds,
        tf32: Option<bool>,
    ) -> Self {
        let buffers = program.buffers.iter().map(|_| None).collect();
        Self { program, weights, kinds, tf32, buffers }
    }

    /// Returns the outputs `[n, outputs]`, wide, for inputs of the first buffer's shape, `[n, C, H, W]`, narrow and channels last.
    pub(super) fn run(mut self, inputs: Tensor, last_reads: &[usize]) -> Result<Tensor, PopulationError> {
        self.buffers[0] = Some(inputs);
        for (index, operation) in self.program.operations.iter().enumerate() {
            let result = self.compute(operation).and_then(|result| rectified(result, operation.rectified));
            let done = result.and_then(|result| self.write(&operation.writes, result));
            done.map_err(|source| PopulationError::in_layer(operation.step, operation.what, source))?;
            let read = [Some(operation.reads), operation.residual].into_iter().flatten().map(|view| view.buffer);
            for buffer in read.filter(|&buffer| last_reads[buffer] == index) {
                self.buffers[buffer] = None;
            }
        }
        let outputs = self.read(&self.program.output).and_then(|t| t.f_flatten(1, -1)?.f_to_kind(self.kinds.wide));
        outputs.map_err(at("the outputs"))
    }

    fn read(&self, view: &BufferView) -> Result<Tensor, TchError> {
        let missing = || TchError::Shape("a buffer is empty".to_owned());
        let buffer = self.buffers[view.buffer].as_ref().ok_or_else(missing)?;
        if self.program.is_whole(view) {
            return Ok(buffer.shallow_clone());
        }
        buffer.f_narrow(1, view.first as i64, view.shape.channels as i64)
    }

    /// Makes a result a buffer, or copies it into its part of one.
    fn write(&mut self, view: &BufferView, result: Tensor) -> Result<(), TchError> {
        if self.program.is_whole(view) {
            self.buffers[view.buffer] = Some(result);
            return Ok(());
        }
        if self.buffers[view.buffer].is_none() {
            let shape = self.program.buffers[view.buffer];
            let batch = result.size().first().copied().unwrap_or(0);
            let [channels, height, width] = [shape.channels, shape.height, shape.width].map(|n| n as i64);
            let options = (result.f_kind()?, result.device());
            let buffer = Tensor::f_empty_permuted([batch, channels, height, width], CHANNELS_LAST, options)?;
            self.buffers[view.buffer] = Some(buffer);
        }
        self.read(view)?.f_copy_(&result)
    }

    fn compute(&self, operation: &FusedOperation) -> Result<Tensor, TchError> {
        let read = self.read(&operation.reads)?;
        let residual = operation.residual.as_ref().map(|view| self.read(view)).transpose()?;
        let window = |size: usize| [size as i64; 2];
        match operation.action {
            FusedAction::Convolve { product, relu, .. } if self.program.is_product(operation) => {
                self.rows(product, &read, relu)
            }
            FusedAction::Convolve { .. } => self.convolve(operation, read, residual),
            FusedAction::Multiply { product, relu } => self.multiply(product, &read, relu),
            FusedAction::Normalise { affine, relu } => {
                let [scale, shift] = self.weights.affine(affine)?;
                let sums = Tensor::f_empty_permuted(read.size(), CHANNELS_LAST, (self.kinds.narrow, read.device()))?;
                rectified(shift.f_addcmul_out(&sums, &read, &scale)?, relu)
            }
            FusedAction::Sum { relu } => {
                let residual = residual.ok_or_else(|| TchError::Shape("a sum of one map".to_owned()))?;
                rectified(read.f_add(&residual)?, relu)
            }
            FusedAction::Rectify => read.f_relu(),
            FusedAction::MaxPool { size } => read.f_max_pool2d(window(size), window(size), [0, 0], [1, 1], false),
            FusedAction::AvgPool { size } => read.f_avg_pool2d(window(size), window(size), [0, 0], false, true, None),
            FusedAction::Flatten => read.f_contiguous()?.f_flatten(1, -1)?.f_unsqueeze(2)?.f_unsqueeze(3),
            FusedAction::Copy => Ok(read),
        }
    }

    /// Applies a convolution to what is read. On a GPU it calls `cudnn_convolution_relu` or
    /// `cudnn_convolution_add_relu` where the operation is one call. These take whether TF32 is allowed from libtorch's
    /// global switch, which the caller holds, and let cuDNN choose among all its forward engines, also those that it
    /// does not call deterministic: cuDNN documents no forward convolution as such. The plain convolution takes both
    /// flags.
    fn convolve(&self, operation: &FusedOperation, read: Tensor, residual: Option<Tensor>) -> Result<Tensor, TchError> {
        let FusedAction::Convolve { product: index, kernel, stride, padding, relu } = operation.action else {
            return Err(TchError::Shape("no convolution".to_owned()));
        };
        let product = &self.program.products[index];
        let (read, zeros) = match padding {
            Padding::Zeros(zeros) => (read, zeros as i64),
            Padding::Circular => (wrap(&read, kernel as i64 - 1)?, 0),
        };
        let weight = self.weights.product(index);
        let bias = self.weights.bias(index, product)?;
        let stride = [stride as i64; 2];
        let padding = [zeros; 2];
        let one = [1, 1];
        let Some(tf32) = self.tf32 else {
            let bias = product.biased.then_some(&bias);
            let sums = read.f_conv2d(weight, bias, stride, padding, one, 1)?;
            return rectified(added(sums, residual)?, relu);
        };
        match residual {
            None if operation.is_one_call(product) => {
                read.f_cudnn_convolution_relu(weight, Some(&bias), stride, padding, one, 1)
            }
            Some(residual) if operation.is_one_call(product) => {
                libtorch::cudnn_convolution_add_relu(&read, weight, &residual, &bias, stride[0], zeros)
            }
            residual => {
                let sums = read.f_cudnn_convolution(weight, padding, stride, one, 1, false, true, tf32)?;
                let bias = product.biased.then(|| bias.f_view([1, -1, 1, 1])).transpose()?;
                rectified(added(added(sums, bias)?, residual)?, relu)
            }
        }
    }

    fn multiply(&self, index: usize, read: &Tensor, relu: bool) -> Result<Tensor, TchError> {
        let product = &self.program.products[index];
        // Channels last: weights and maps lie alike.
        let rows = |t: &Tensor| t.f_permute(CHANNELS_LAST)?.f_flatten(1, -1);
        let bias = self.weights.bias(index, product)?;
        let weight = rows(self.weights.product(index))?.f_tr()?;
        let features = rows(read)?;
        let features = if self.weights.is_last(index) { features.f_to_kind(self.kinds.wide)? } else { features };
        product_of(&bias, &features, &weight, relu)?.f_unsqueeze(2)?.f_unsqueeze(3)
    }

    /// Convolves with kernel 1: every position is a row of channels.
    fn rows(&self, index: usize, read: &Tensor, relu: bool) -> Result<Tensor, TchError> {
        let product = &self.program.products[index];
        let positions = read.f_permute(CHANNELS_LAST)?;
        let [batch, height, width, channels] = positions.size()[..] else {
            return Err(TchError::Shape("a map is not of four dimensions".to_owned()));
        };
        let weight = self.weights.product(index).f_flatten(1, -1)?.f_tr()?;
        let rows = positions.f_view([batch * height * width, channels])?;
        let products = product_of(&self.weights.bias(index, product)?, &rows, &weight, relu)?;
        products.f_view([batch, height, width, -1])?.f_permute([0, 3, 1, 2])
    }
}

/// The dimensions of `[n, C, H, W]` as they lie in memory.
const CHANNELS_LAST: [i64; 4] = [0, 2, 3, 1];

/// Returns a·b + bias, with max(x, 0) applied if asked for.
fn product_of(bias: &Tensor, a: &Tensor, b: &Tensor, relu: bool) -> Result<Tensor, TchError> {
    if relu { libtorch::addmm_relu(bias, a, b) } else { bias.f_addmm(a, b) }
}

fn added(mut sums: Tensor, more: Option<Tensor>) -> Result<Tensor, TchError> {
    match more {
        Some(more) => sums.f_add_(&more),
        None => Ok(sums),
    }
}

fn rectified(mut sums: Tensor, relu: bool) -> Result<Tensor, TchError> {
    if relu { sums.f_relu_() } else { Ok(sums) }
}
