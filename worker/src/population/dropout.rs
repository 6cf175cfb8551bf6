//! The factors of dropout layers: drawn on the CPU from each member's own stream, so that every engine drops the same.
//!
//! For a GPU a helper thread draws the masks of the next steps and copies them there, so that no step waits for its masks.

use super::ahead::{Ahead, Made};
use super::{PopulationError, at};
use crate::pinned;
use nadgrid_core::architecture::{Layer, Network, Step};
use nadgrid_core::random::Stream;
use nadgrid_core::training::RunKey;
use tch::{Device, TchError, Tensor};

/// Masks that lie on a GPU before they are needed, beside the one that is offered.
const WAITING: usize = 4;

/// The streams of the dropout layers, one for each member; each is drawn from batch by batch.
pub(super) struct Dropout {
    device: Device,
    layers: Vec<DropoutLayer>,
    ahead: Option<MasksAhead>,
}

/// A dropout layer.
struct DropoutLayer {
    /// The layer's index among the network's steps.
    index: usize,
    probability: f32,
    /// Numbers of an input of one member.
    features: usize,
    /// The members' streams.
    streams: Vec<Stream>,
}

impl DropoutLayer {
    /// Draws the next factors, `[K, batch, features]`.
    fn fill(&mut self, mask: &mut [f32]) {
        let each = mask.len() / self.streams.len().max(1);
        for (stream, own) in self.streams.iter_mut().zip(mask.chunks_exact_mut(each.max(1))) {
            stream.fill_dropout(self.probability, own);
        }
    }

    fn shape(&self, batch: usize) -> [i64; 3] {
        [self.streams.len() as i64, batch as i64, self.features as i64]
    }
}

/// Masks that a helper draws.
struct MasksAhead {
    masks: Ahead<MaskAhead>,
    /// The positions of the streams after the masks that were used.
    positions: Vec<u64>,
}

/// A mask on the device.
struct MaskAhead {
    layer: usize,
    mask: Tensor,
    /// The positions of the streams after this mask.
    positions: Vec<u64>,
}

fn positions(layers: &[DropoutLayer]) -> Vec<u64> {
    layers.iter().flat_map(|layer| &layer.streams).map(Stream::position).collect()
}

impl Dropout {
    pub(super) fn new(network: &Network, keys: &[RunKey], device: Device) -> Self {
        let of_step = |(index, step): (usize, &Step)| match step.layer {
            Layer::Dropout { probability } => {
                let streams = keys.iter().map(|key| key.dropout(index)).collect();
                Some(DropoutLayer { index, probability, features: step.input.len(), streams })
            }
            _ => None,
        };
        Self { device, layers: network.steps().iter().enumerate().filter_map(of_step).collect(), ahead: None }
    }

    /// Drops nothing, for comparison with references that were made so.
    #[cfg(test)]
    pub(super) fn off() -> Self {
        Self { device: Device::Cpu, layers: Vec::new(), ahead: None }
    }

    /// Returns the positions of the streams, `[layers, K]`.
    pub(super) fn positions(&self) -> Vec<u64> {
        self.ahead.as_ref().map_or_else(|| positions(&self.layers), |ahead| ahead.positions.clone())
    }

    /// Moves the streams to these positions.
    pub(super) fn seek(&mut self, positions: &[u64]) {
        let streams = self.layers.iter_mut().flat_map(|layer| &mut layer.streams);
        streams.zip(positions).for_each(|(stream, &position)| stream.seek(position));
    }

    /// Begins to draw ahead for a GPU, for batches of these sizes. The streams cannot be moved after that.
    pub(super) fn go_ahead(
        &mut self,
        batches: impl Iterator<Item = usize> + Send + 'static,
    ) -> Result<(), PopulationError> {
        if self.device.is_cuda() && !self.layers.is_empty() {
            self.start(batches)?;
        }
        Ok(())
    }

    fn start(&mut self, batches: impl Iterator<Item = usize> + Send + 'static) -> Result<(), PopulationError> {
        let positions = positions(&self.layers);
        let device = self.device;
        let mut layers = std::mem::take(&mut self.layers);
        let make = move |made: &Made<_>| draw(&mut layers, batches, device, made).map_err(at("drawing dropout ahead"));
        self.ahead = Some(MasksAhead { masks: Ahead::start(WAITING, make)?, positions });
        Ok(())
    }

    /// Returns the next factors `[K, B, features]` of a layer, on the device; `None` where nothing is dropped.
    pub(super) fn mask(&mut self, layer: usize, batch: i64) -> Result<Option<Tensor>, TchError> {
        if let Some(ahead) = &mut self.ahead {
            let next = ahead.masks.next().map_err(|error| TchError::Torch(error.to_string()))?;
            if next.layer != layer || next.mask.size().get(1) != Some(&batch) {
                let drawn = next.layer;
                let size = next.mask.size();
                return Err(TchError::Shape(format!(
                    "dropout {layer} of {batch} samples, drawn for {drawn}: {size:?}"
                )));
            }
            ahead.positions = next.positions;
            return Ok(Some(next.mask));
        }
        let Some(own) = self.layers.iter_mut().find(|own| own.index == layer) else { return Ok(None) };
        let mut mask = pinned::numbers(own.shape(batch as usize).iter().product::<i64>() as usize, Device::Cpu)?;
        own.fill(pinned::to_write(&mut mask)?);
        mask.f_view(own.shape(batch as usize)).map(Some)
    }
}

/// Draws every layer's masks, batch after batch. They are small: their copies run between the GPU's other work, and nothing waits.
fn draw(
    layers: &mut [DropoutLayer],
    batches: impl Iterator<Item = usize>,
    device: Device,
    made: &Made<MaskAhead>,
) -> Result<(), TchError> {
    for batch in batches {
        for number in 0..layers.len() {
            let layer = &mut layers[number];
            let shape = layer.shape(batch);
            let mut mask = pinned::numbers(shape.iter().product::<i64>() as usize, device)?;
            layer.fill(pinned::to_write(&mut mask)?);
            let layer = layer.index;
            let mask = pinned::sent(&mask.f_view(shape)?, device)?;
            if !made.give(MaskAhead { layer, mask, positions: positions(layers) }) {
                return Ok(());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::population::tensor::numbers;
    use nadgrid_core::architecture::Shape;

    /// Two layers, batches of several sizes: the helper's masks and positions are the slot's, mask by mask.
    #[test]
    fn masks_drawn_ahead_are_those_drawn_when_needed() {
        let drop = |probability| Layer::Dropout { probability };
        let input = Shape { channels: 2, height: 3, width: 5 };
        let layers = vec![drop(0.4), Layer::MaxPool2d { size: 2 }, Layer::Flatten, drop(0.1)];
        let network = Network::chain(layers, input).unwrap();
        let key =
            |run| RunKey { seed: 3, experiment: "directional", architecture: "x".into(), variant: "v".into(), run };
        let keys = [key(0), key(1), key(2)];
        let sizes = [7usize, 7, 2, 7];
        let mut when_needed = Dropout::new(&network, &keys, Device::Cpu);
        let begun: Vec<u64> = (10..16).collect();
        when_needed.seek(&begun);
        let mut ahead = Dropout::new(&network, &keys, Device::Cpu);
        ahead.seek(&begun);
        ahead.start(sizes.into_iter()).unwrap();
        assert_eq!(ahead.positions(), begun);
        for size in sizes {
            for (layer, features) in [(0, 30), (3, 4)] {
                let mask = |dropout: &mut Dropout| dropout.mask(layer, size as i64).unwrap().unwrap();
                let one = mask(&mut when_needed);
                let other = mask(&mut ahead);
                assert_eq!(one.size(), [3, size as i64, features as i64]);
                assert!(numbers::<f32>(&one).unwrap() == numbers::<f32>(&other).unwrap(), "{layer} of {size}");
                assert_eq!(when_needed.positions(), ahead.positions());
            }
        }
        assert!(ahead.mask(0, 7).is_err(), "no more batches were to come");
        // A batch of another size than was said is no mask at all.
        let mut wrong = Dropout::new(&network, &keys, Device::Cpu);
        wrong.start([7].into_iter()).unwrap();
        assert!(wrong.mask(0, 5).unwrap_err().to_string().contains("dropout 0 of 5 samples"));
    }
}
