//! What dropout layers multiply by: drawn on the CPU from each member's own stream, so that every engine drops the same.

use nadgrid_core::architecture::{Layer, Network, Step};
use nadgrid_core::random::Stream;
use nadgrid_core::training::RunKey;
use tch::{TchError, Tensor};

/// The streams of the dropout layers, one for each member; each is drawn from batch by batch.
pub(super) struct Dropout {
    /// By step; none for other layers.
    streams: Vec<Option<Vec<Stream>>>,
}

impl Dropout {
    pub(super) fn new(network: &Network, keys: &[RunKey]) -> Self {
        let of_step = |(index, step): (usize, &Step)| {
            let drops = matches!(step.layer, Layer::Dropout { .. });
            drops.then(|| keys.iter().map(|key| key.dropout(index)).collect())
        };
        Self { streams: network.steps().iter().enumerate().map(of_step).collect() }
    }

    /// Drops nothing, for comparison with references that were made so.
    #[cfg(test)]
    pub(super) fn off(network: &Network) -> Self {
        Self { streams: network.steps().iter().map(|_| None).collect() }
    }

    /// Where the streams stand, `[layers, K]`.
    pub(super) fn positions(&self) -> Vec<u64> {
        self.streams.iter().flatten().flatten().map(Stream::position).collect()
    }

    /// Takes the streams where they stood.
    pub(super) fn seek(&mut self, positions: &[u64]) {
        let streams = self.streams.iter_mut().flatten().flatten();
        streams.zip(positions).for_each(|(stream, &position)| stream.seek(position));
    }

    /// The next factors `[K, B, features]` of a layer, on the CPU; `None` where nothing is dropped.
    pub(super) fn mask(
        &mut self,
        layer: usize,
        probability: f32,
        batch: i64,
        features: usize,
    ) -> Result<Option<Tensor>, TchError> {
        let Some(streams) = &mut self.streams[layer] else { return Ok(None) };
        let each = batch as usize * features;
        let mut mask = vec![0.0; streams.len() * each];
        for (stream, own) in streams.iter_mut().zip(mask.chunks_exact_mut(each)) {
            stream.fill_dropout(probability, own);
        }
        let shape = [streams.len() as i64, batch, features as i64];
        Tensor::f_from_slice(&mask)?.f_view(shape).map(Some)
    }
}
