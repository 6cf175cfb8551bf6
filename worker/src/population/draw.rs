//! Members' parameters, drawn in order, a few at a time, on the device where they are needed.
//!
//! On a CPU a slot draws them itself, into the memory from which they are computed. A GPU draws them itself too, where it has a
//! [`Generator`]; where it has none a helper thread draws the next group on all cores while the slot computes with the last, into
//! one page-locked buffer that is used again and again, and copies it beside the GPU's work. A member's numbers are a function of
//! its stream: no bit depends on who draws them. Deliberately absent: a block in one vector, and drawing anew for each point.

use super::ahead::{Ahead, Made, cores, in_parallel};
use super::{PopulationError, at};
use crate::generator::{self, Generator};
use crate::pinned;
use nadgrid_core::architecture::{DrawPart, Network};
use nadgrid_core::random::Stream;
use std::ops::Range;
use std::sync::Arc;
use tch::{Device, Kind, TchError, Tensor};

/// Numbers that one thread draws at a time, a fraction of a millisecond.
const PART: usize = 1 << 16;
/// Numbers of a group of members: small networks are drawn and copied together, 16 MiB of them.
const GROUP: usize = 4 << 20;
/// On a GPU a member begins at a multiple of this many numbers, so that all members are aligned alike.
const ALIGNMENT: usize = 64;

/// A network, and the stream of each member from which its parameters are drawn.
#[derive(Clone)]
pub(crate) struct ParameterDrawing {
    network: Arc<Network>,
    stream: Arc<dyn Fn(u64) -> Stream + Send + Sync>,
}

impl ParameterDrawing {
    /// Draws this network's parameters from each member's stream.
    pub(crate) fn new(network: &Network, stream: impl Fn(u64) -> Stream + Send + Sync + 'static) -> Self {
        Self { network: Arc::new(network.clone()), stream: Arc::new(stream) }
    }

    /// Draws random networks, as [`Network::initialise`] does.
    pub(crate) fn at_random(network: &Network, seed: u64, architecture: &str) -> Self {
        let architecture = architecture.to_owned();
        Self::new(network, move |member| Stream::new(seed, &["weights", &architecture], member))
    }

    fn each(&self) -> usize {
        self.network.parameter_count()
    }
}

/// Members' parameters in order.
pub(crate) struct Members {
    each: usize,
    device: Device,
    left: Range<u64>,
    source: MemberSource,
}

/// The maker of the parameters.
enum MemberSource {
    /// The GPU draws them when the slot needs them.
    Card { generator: &'static Generator, drawing: ParameterDrawing },
    /// The slot draws them when it needs them.
    Slot(ParameterDrawing),
    /// A helper thread draws them ahead of the slot.
    Helper {
        groups: Ahead<Tensor>,
        /// The rest of the last group, `[members, numbers]`.
        group: Option<Tensor>,
    },
}

impl Members {
    /// Prepares to draw these members, for this device. On a GPU drawing begins at once.
    ///
    /// # Errors
    /// [`PopulationError`] when no thread can be started.
    pub(crate) fn new(drawing: ParameterDrawing, members: Range<u64>, device: Device) -> Result<Self, PopulationError> {
        let each = drawing.each();
        let left = members.clone();
        let source = match generator::of(device) {
            Some(generator) => MemberSource::Card { generator, drawing },
            None if !device.is_cuda() => MemberSource::Slot(drawing),
            // One group lies on the GPU and is computed from, the next is drawn, copied and offered.
            None => {
                let draw = move |made: &_| Groups::new(drawing, device).draw(members, made);
                MemberSource::Helper { groups: Ahead::start(0, draw)?, group: None }
            }
        };
        Ok(Self { each, device, left, source })
    }

    /// Returns the members that are not taken yet.
    pub(crate) fn left(&self) -> Range<u64> {
        self.left.clone()
    }

    /// Returns the next `count` members, or the rest of them: `[k, parameters]` in float32 on the device. Rows of a GPU's may be
    /// further apart than they are long. What was taken before may still be in use.
    ///
    /// # Errors
    /// [`PopulationError`] when memory is short or the device fails.
    pub(crate) fn take(&mut self, count: usize) -> Result<Tensor, PopulationError> {
        let end = self.left.end.min(self.left.start + count as u64);
        let members = self.left.start..end;
        let taken = match &mut self.source {
            MemberSource::Card { generator, drawing } => drawn_there(generator, drawing, members, self.device)?,
            MemberSource::Slot(drawing) => drawn_here(drawing, members).map_err(at("drawing parameters"))?,
            MemberSource::Helper { groups, group } => taken(groups, group, (end - members.start) as i64)?,
        };
        self.left.start = end;
        let parameters = taken.f_narrow(1, 0, self.each as i64).map_err(at("cutting parameters"))?;
        debug_assert_eq!(parameters.device(), self.device);
        Ok(parameters)
    }
}

/// Draws on the GPU, into rows that are aligned alike.
fn drawn_there(
    generator: &Generator,
    drawing: &ParameterDrawing,
    members: Range<u64>,
    device: Device,
) -> Result<Tensor, PopulationError> {
    let count = (members.end - members.start) as i64;
    let each = drawing.each();
    let pitch = each.next_multiple_of(ALIGNMENT) as i64;
    let rows = Tensor::f_empty([count, pitch], (Kind::Float, device)).map_err(at("making room for parameters"))?;
    let own = rows.f_narrow(1, 0, each as i64).map_err(at("cutting parameters"))?;
    let streams: Vec<Stream> = members.map(|member| (drawing.stream)(member)).collect();
    generator.fill_parameters(&drawing.network, &streams, &own)?;
    Ok(rows)
}

/// Draws on this thread, into the memory from which they are computed.
fn drawn_here(drawing: &ParameterDrawing, members: Range<u64>) -> Result<Tensor, TchError> {
    let count = (members.end - members.start) as usize;
    let each = drawing.each();
    let mut numbers = pinned::numbers(count * each, Device::Cpu)?;
    let rows = pinned::to_write(&mut numbers)?.chunks_exact_mut(each.max(1));
    for (member, row) in members.zip(rows) {
        drawing.network.draw((drawing.stream)(member), row);
    }
    numbers.f_view([count as i64, each as i64])
}

/// Takes the next rows of the groups.
fn taken(groups: &mut Ahead<Tensor>, group: &mut Option<Tensor>, count: i64) -> Result<Tensor, PopulationError> {
    let mut pieces = Vec::new();
    let mut missing = count;
    while missing > 0 {
        let rest = match group.take() {
            Some(rest) => rest,
            None => groups.next()?,
        };
        let rows = rest.size().first().copied().unwrap_or(0);
        let own = rows.min(missing);
        let others = (rows - missing).max(0);
        pieces.push(rest.f_narrow(0, 0, own).map_err(at("cutting parameters"))?);
        if others > 0 {
            *group = Some(rest.f_narrow(0, own, others).map_err(at("cutting parameters"))?);
        }
        missing -= own;
    }
    match <[Tensor; 1]>::try_from(pieces) {
        Ok([piece]) => Ok(piece),
        Err(pieces) => Tensor::f_cat(&pieces, 0).map_err(at("joining parameters")),
    }
}

/// A helper's work.
struct Groups {
    drawing: ParameterDrawing,
    device: Device,
    parts: Vec<DrawPart>,
    /// Numbers from the beginning of one member to that of the next.
    pitch: usize,
    /// Members of a group: a power of two, as blocks have.
    size: usize,
}

impl Groups {
    fn new(drawing: ParameterDrawing, device: Device) -> Self {
        let parts = drawing.network.draw_parts(PART);
        let pitch = drawing.each().next_multiple_of(ALIGNMENT);
        let size = 1 << (GROUP / pitch.max(1)).max(1).ilog2();
        Self { drawing, device, parts, pitch, size }
    }

    fn draw(&self, members: Range<u64>, made: &Made<Tensor>) -> Result<(), PopulationError> {
        let most = self.size.min((members.end - members.start) as usize);
        let failed = at("drawing parameters ahead");
        let group = || -> Result<(), TchError> {
            pinned::copy_beside(self.device)?;
            let mut buffer = pinned::numbers(most * self.pitch, self.device)?;
            pinned::to_write(&mut buffer)?.fill(0.0);
            for first in members.clone().step_by(most.max(1)) {
                let own = first..members.end.min(first + most as u64);
                let count = (own.end - own.start) as usize;
                self.rows(own, &mut pinned::to_write(&mut buffer)?[..count * self.pitch]);
                let host = buffer.f_narrow(0, 0, (count * self.pitch) as i64)?;
                let mut copy = Tensor::f_empty([count as i64, self.pitch as i64], (Kind::Float, self.device))?;
                // Waits until all is there: the buffer may be drawn into again.
                copy.f_copy_(&host.f_view_as(&copy)?)?;
                if !made.give(pinned::to_slots(copy)?) {
                    break;
                }
            }
            Ok(())
        };
        group().map_err(failed)
    }

    /// Draws these members into rows of the pitch's length, on all cores.
    fn rows(&self, members: Range<u64>, rows: &mut [f32]) {
        let mut pieces = Vec::new();
        for (member, mut row) in members.zip(rows.chunks_exact_mut(self.pitch.max(1))) {
            for part in &self.parts {
                let (own, rest) = row.split_at_mut(part.range.len());
                pieces.push((member, part, own));
                row = rest;
            }
        }
        in_parallel(cores(), pieces, |(member, part, own)| part.draw(&mut (self.drawing.stream)(member), own));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::population::tensor::numbers;
    use nadgrid_core::architecture::{self, Shape};

    fn network(name: &str) -> Network {
        let input = Shape { channels: 1, height: 32, width: 32 };
        architecture::find(name).unwrap().network(input, 1).unwrap()
    }

    fn expected(network: &Network, name: &str, members: Range<u64>) -> Vec<f32> {
        let mut row = vec![0.0; network.parameter_count()];
        let of = |member| {
            network.initialise(5, name, member, &mut row);
            row.clone()
        };
        members.flat_map(of).collect()
    }

    #[test]
    fn a_slot_draws_what_initialise_draws() {
        let network = network("lenet");
        let mut members = Members::new(ParameterDrawing::at_random(&network, 5, "lenet"), 3..10, Device::Cpu).unwrap();
        let taken = members.take(4).unwrap();
        assert_eq!(taken.size(), [4, network.parameter_count() as i64]);
        assert!(numbers::<f32>(&taken).unwrap() == expected(&network, "lenet", 3..7));
        assert_eq!(members.left(), 7..10);
        // No more than there are.
        let rest = members.take(4).unwrap();
        assert!(numbers::<f32>(&rest).unwrap() == expected(&network, "lenet", 7..10));
        assert_eq!(members.take(4).unwrap().size(), [0, network.parameter_count() as i64]);
    }

    /// A helper's rows, on several threads, in ordinary memory: groups are cut and joined as they are asked for.
    #[test]
    fn a_helper_draws_the_same_in_groups() {
        for name in ["lenet", "vgg11"] {
            let network = network(name);
            let groups = Groups::new(ParameterDrawing::at_random(&network, 5, name), Device::Cpu);
            let small = Groups { size: 2, ..groups };
            let pitch = small.pitch as i64;
            let each = network.parameter_count() as i64;
            assert!(pitch >= each && pitch % ALIGNMENT as i64 == 0);
            let helper = Ahead::start(0, move |made| small.draw(3..8, made)).unwrap();
            let source = MemberSource::Helper { groups: helper, group: None };
            let mut members = Members { each: each as usize, device: Device::Cpu, left: 3..8, source };
            for own in [3..4, 4..7, 7..8] {
                let taken = members.take((own.end - own.start) as usize).unwrap();
                assert!(numbers::<f32>(&taken).unwrap() == expected(&network, name, own.clone()), "{name} {own:?}");
            }
        }
    }
}
