//! Batch norms of networks as they are initialised, running mean 0 and variance 1: one scale and one shift per channel.

use crate::simd::{LANES, Line, lines};
use crate::span::weight_and_bias;
use nadgrid_core::architecture::{BATCH_NORM_EPS, Network};

/// The factor and the summand of every channel, zero beyond the channels.
pub(crate) struct Norm {
    weight: Option<usize>,
    channels: usize,
    pub(crate) scale: Vec<Line>,
    pub(crate) shift: Vec<Line>,
}

impl Norm {
    /// The identity, or a batch norm by the parameter index of its weight.
    pub(crate) fn new(channels: usize, weight: Option<usize>) -> Self {
        let scale = vec![Line::ZERO; lines(channels)];
        let shift = vec![Line::ZERO; lines(channels)];
        let mut norm = Self { weight, channels, scale, shift };
        for channel in 0..channels {
            norm.scale[channel / LANES].0[channel % LANES] = 1.0;
        }
        norm
    }

    /// Takes one member's weights: weight/√(1 + eps), rounded once, and bias.
    pub(crate) fn prepare(&mut self, network: &Network, parameters: &[f32]) {
        let Some(weight) = self.weight else { return };
        let (weight, bias) = weight_and_bias(network.parameters(), weight);
        let root = (1.0 + f64::from(BATCH_NORM_EPS)).sqrt();
        for channel in 0..self.channels {
            let line = channel / LANES;
            let lane = channel % LANES;
            self.scale[line].0[lane] = (f64::from(parameters[weight.start + channel]) / root) as f32;
            self.shift[line].0[lane] = parameters[bias.start + channel];
        }
    }
}
