//! The fused evaluation: central differences of one network at a time, by ordinary convolutions on large batches.
//!
//! A grouped convolution of many members is what libraries are slowest at. Here a network's graph is lowered once to few operations
//! (`program`): batch norms are folded into weights, sums and max(x, 0) go with the convolution before them, nothing is
//! concatenated, and channels lie last, as tensor cores read them. In bf16, maps stay bf16 from layer to layer, rounded once after
//! the whole operation; the last fully connected layer reads them and its rounded weights, and yields float32. On a CPU the same
//! program runs with plain convolutions, which round also before a sum or max(x, 0): that is how it is tested.
//! Deliberately absent: training, backward differentiation, networks that are trained, and batches that depend on free memory.

mod execute;
mod lower;
mod program;
#[cfg(test)]
mod tests;
mod weights;

use super::error::check_length;
use super::policy::Policy;
use super::{PopulationError, at};
use execute::ForwardPass;
pub(super) use lower::Norms;
use nadgrid_core::architecture::{Network, Shape};
use nadgrid_core::numerics::Precision;
use program::FusedProgram;
use tch::{Device, Kind, TchError, Tensor};
use weights::{Kinds, ProgramWeights};

/// Bytes of maps that a pass may take on a CPU, where every slot has its own.
const CPU_BUDGET: u64 = 128 << 20;
/// Bytes that it may take on a GPU, beside what cuDNN needs.
const CUDA_BUDGET: u64 = 6 << 30;
/// Inputs of a pass: the first that fits, otherwise the last.
const BATCHES: [usize; 6] = [2048, 512, 128, 32, 8, 2];

/// An architecture that is ready to differentiate one network after the other.
pub(crate) struct FusedNetwork {
    program: FusedProgram,
    last_reads: Vec<usize>,
    weights: ProgramWeights,
    policy: Policy,
    kinds: Kinds,
    device: Device,
    input: Shape,
    parameters: usize,
    batch: usize,
    step: Option<DifferenceStep>,
}

/// The step of a difference, on the device, `[1]`.
struct DifferenceStep {
    of: f64,
    step: Tensor,
    twice: Tensor,
}

impl FusedNetwork {
    /// Prepares the networks of an architecture.
    ///
    /// # Errors
    /// [`PopulationError`] when the device lacks the precision, or libtorch fails.
    pub(crate) fn new(network: &Network, precision: Precision, device: Device) -> Result<Self, PopulationError> {
        Self::with(network, precision, Kind::Float, device, Norms::Drawn)
    }

    /// Prepares the networks with parameters of another kind of number, or with other batch norms.
    pub(super) fn with(
        network: &Network,
        precision: Precision,
        kind: Kind,
        device: Device,
        norms: Norms,
    ) -> Result<Self, PopulationError> {
        let _no_grad = tch::no_grad_guard();
        let policy = Policy::new(precision, kind, device)?;
        let kinds = Kinds { wide: kind, narrow: policy.products() };
        let program = lower::lower(network, norms);
        let weights = ProgramWeights::new(&program, kinds, device).map_err(at("making room for weights"))?;
        let budget = if device.is_cuda() { CUDA_BUDGET } else { CPU_BUDGET };
        let each = (program.live_numbers() * kinds.narrow.elt_size_in_bytes()) as u64;
        let batch = BATCHES.into_iter().find(|&batch| batch as u64 * each <= budget).unwrap_or(2);
        let last_reads = program.last_reads();
        let input = network.input();
        let parameters = network.parameter_count();
        Ok(Self { program, last_reads, weights, policy, kinds, device, input, parameters, batch, step: None })
    }

    /// Returns the gradients `[points, D]`, g_i = −[f(x+h·e_i) − f(x−h·e_i)]/(2h), of output 0 of the network with these parameters
    /// `[P]`, at points `[points, D]`. The parameters are drawn: batch norms have weight 1 and bias 0. Everything is float32 and on
    /// the device, also the result: nothing here waits for a GPU, apart from the first use of a step. `advance` is called with the
    /// part of the passes that is launched, from 0 to 1.
    ///
    /// # Errors
    /// [`PopulationError`] when parameters or points do not fit, or libtorch fails.
    pub(crate) fn gradients(
        &mut self,
        parameters: &Tensor,
        points: &Tensor,
        step: f64,
        advance: &dyn Fn(f64),
    ) -> Result<Tensor, PopulationError> {
        let pixels: Vec<usize> = (0..self.input.len()).collect();
        self.gradients_at(parameters, points, step, &pixels, advance)
    }

    /// Computes the gradients at these pixels only: `[points, pixels]`.
    pub(super) fn gradients_at(
        &mut self,
        parameters: &Tensor,
        points: &Tensor,
        step: f64,
        pixels: &[usize],
        advance: &dyn Fn(f64),
    ) -> Result<Tensor, PopulationError> {
        let dimension = self.input.len();
        check_length("parameters", self.parameters, parameters.numel())?;
        let count = points.size().first().copied().unwrap_or(0);
        check_length("points", count as usize * dimension, points.numel())?;
        if let Some(&pixel) = pixels.iter().find(|&&pixel| pixel >= dimension) {
            return Err(PopulationError::Pixel { pixel, dimension });
        }
        let _no_grad = tch::no_grad_guard();
        let _held = self.policy.hold()?;
        self.weights.load(&self.program, parameters).map_err(at("folding weights"))?;
        let step = self.step(step).map_err(at("moving the step to the device"))?;
        let options = (self.kinds.wide, self.device);
        let mut gradients =
            Tensor::f_empty([count, pixels.len() as i64], options).map_err(at("making room for gradients"))?;
        let run = self.batch / 2;
        let all = (count as usize * pixels.len()).max(1) as f64;
        let mut done = 0;
        for point in 0..count {
            let base = points.f_select(0, point).and_then(|point| self.base(&point));
            let base = base.map_err(at("laying a point out"))?;
            for (index, pixels) in pixels.chunks(run).enumerate() {
                let row = gradients
                    .f_select(0, point)
                    .and_then(|row| row.f_narrow(0, (index * run) as i64, pixels.len() as i64));
                self.differences(&base, &step.0, pixels, &row.map_err(at("making room for gradients"))?)?;
                done += pixels.len();
                advance(done as f64 / all);
            }
        }
        gradients.f_div_(&step.1).map_err(at("the differences"))
    }

    /// Returns h and 2h on the device.
    fn step(&mut self, step: f64) -> Result<(Tensor, Tensor), TchError> {
        let kept = match self.step.take().filter(|kept| kept.of.to_bits() == step.to_bits()) {
            Some(kept) => kept,
            None => {
                let number = |value: f64| Tensor::f_from_slice(&[value])?.f_to_kind(self.kinds.wide)?.f_to(self.device);
                DifferenceStep { of: step, step: number(step)?, twice: number(2.0 * step)? }
            }
        };
        let kept = self.step.insert(kept);
        Ok((kept.step.shallow_clone(), kept.twice.shallow_clone()))
    }

    /// Lays a point `[D]` out as the program reads it, `[1, H·W·C]`: channels last, and filled up with zeros.
    fn base(&self, point: &Tensor) -> Result<Tensor, TchError> {
        let Shape { channels, height, width } = self.input;
        let channels = channels as i64;
        let positions = (height * width) as i64;
        let base =
            Tensor::f_zeros([positions, self.program.buffers[0].channels as i64], (self.kinds.wide, self.device))?;
        base.f_narrow(1, 0, channels)?.f_copy_(&point.f_view([channels, positions])?.f_tr()?)?;
        base.f_view([1, -1])
    }

    /// Writes f(x−h·e_i) − f(x+h·e_i) for these pixels.
    fn differences(&self, base: &Tensor, step: &Tensor, pixels: &[usize], to: &Tensor) -> Result<(), PopulationError> {
        let inputs = self.perturbed(base, step, pixels).map_err(at("perturbing the point"))?;
        let tf32 = self.device.is_cuda().then(|| self.policy.allows_tf32());
        let outputs = ForwardPass::new(&self.program, &self.weights, self.kinds, tf32).run(inputs, &self.last_reads)?;
        let count = pixels.len() as i64;
        let difference = || {
            let values = outputs.f_select(1, 0)?;
            values.f_narrow(0, count, count)?.f_sub_out(to, &values.f_narrow(0, 0, count)?)
        };
        difference().map(|_| ()).map_err(at("the differences"))
    }

    /// Returns the inputs `[2·pixels, C, H, W]`, narrow and channels last: first all x + h·e_i, then all x − h·e_i.
    fn perturbed(&self, base: &Tensor, step: &Tensor, pixels: &[usize]) -> Result<Tensor, TchError> {
        let Shape { channels, height, width } = self.program.buffers[0];
        let count = pixels.len();
        let positions = height * width;
        let length = positions * channels;
        let inputs = base.f_expand([2 * count as i64, -1], false)?.f_contiguous()?;
        // Consecutive pixels of a channel are one stride apart in consecutive inputs.
        let consecutive = |a: &usize, b: &usize| *b == a + 1 && !b.is_multiple_of(positions);
        let mut row = 0;
        for run in pixels.chunk_by(consecutive) {
            let channel = run[0] / positions;
            let position = run[0] % positions;
            let at = |row: usize| {
                let first = row * length + position * channels + channel;
                inputs.f_as_strided([run.len() as i64], [(length + channels) as i64], first as i64)
            };
            let _ = at(row)?.f_add_(step)?;
            let _ = at(row + count)?.f_sub_(step)?;
            row += run.len();
        }
        let shape = [-1, height as i64, width as i64, channels as i64];
        inputs.f_to_kind(self.kinds.narrow)?.f_view(shape)?.f_permute([0, 3, 1, 2])
    }
}
