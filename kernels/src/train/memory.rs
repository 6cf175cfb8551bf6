//! Memory for a batch: maps, gradients, masks of dropouts, scratch.

use super::convolution::ConvolutionScratch;
use super::plan::TrainerPlan;
use crate::simd::{LANES, Line, lines};

/// Memory for batches up to some number of samples; it grows with the largest.
#[derive(Default)]
pub(super) struct TrainerMemory {
    /// Samples of the present batch.
    pub(super) samples: usize,
    /// Vectors of samples that there is room for.
    room: usize,
    /// Every room's numbers `[vector][number]`.
    pub(super) values: Vec<Vec<Line>>,
    /// Every slot's.
    pub(super) gradients: Vec<Vec<Line>>,
    /// Every node's mask, empty where it is no dropout or nothing has been dropped yet.
    pub(super) masks: Vec<Vec<Line>>,
    /// Whether the present batch's dropouts drop.
    pub(super) drops: bool,
    pub(super) scratch: ConvolutionScratch,
}

impl TrainerMemory {
    /// Samples that there is memory for.
    pub(super) fn capacity(&self) -> usize {
        self.room * LANES
    }

    /// Vectors of the present batch.
    pub(super) fn vectors(&self) -> usize {
        lines(self.samples)
    }

    /// Makes room for a batch.
    pub(super) fn fit(&mut self, plan: &TrainerPlan, samples: usize) {
        self.samples = samples;
        let vectors = lines(samples);
        if vectors <= self.room {
            return;
        }
        self.room = vectors;
        let zeros = |&length: &usize| vec![Line::ZERO; length * vectors];
        self.values = plan.rooms.iter().map(zeros).collect();
        self.gradients = plan.slot_lengths.iter().map(zeros).collect();
        self.masks = plan.nodes.iter().map(|node| zeros(&plan.mask_length(node))).collect();
        self.scratch = ConvolutionScratch::new(plan.convolutions(), vectors);
    }

    /// Bytes of a batch of this many samples.
    pub(super) fn bytes(plan: &TrainerPlan, samples: usize) -> u64 {
        let vectors = lines(samples);
        let masks: usize = plan.nodes.iter().map(|node| plan.mask_length(node)).sum();
        let numbers: usize = plan.rooms.iter().chain(&plan.slot_lengths).sum::<usize>() + masks;
        (numbers * vectors * size_of::<Line>()) as u64 + ConvolutionScratch::bytes(plan.convolutions(), vectors)
    }
}
