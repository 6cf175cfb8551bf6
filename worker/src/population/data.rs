//! Members' samples on the device, and their batches, which are gathered there.
//!
//! Samples come to the device once, for training and evaluation alike. A GPU that has a [`Generator`] makes those of D(v) itself,
//! when they are needed. For one that has none, and for others, helper threads make them, piece by piece in
//! page-locked memory, and copy them beside the GPU's work: so data can be made while other runs train, and the host holds no whole
//! set of them. On a CPU the slot makes them in the memory where they stay.

use super::ahead::{Ahead, Made, cores, in_parallel};
use super::error::check_length;
use super::{PopulationError, at};
use crate::generator::{self, Generator};
use crate::pinned;
use nadgrid_core::architecture::Network;
use nadgrid_core::dataset::Dataset;
use nadgrid_core::training::RunKey;
use nadgrid_kernels::data::DirectionalSamples;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tch::{Device, Kind, TchError, Tensor};

/// Numbers that are made and copied together, 32 MiB of them.
const PIECE: usize = 8 << 20;
/// Numbers that one thread makes at a time.
const PART: usize = 1 << 18;

/// A run's samples before they are on a device.
#[derive(Clone)]
pub(crate) enum RunSamples {
    /// Samples in memory; runs may share them.
    Held(Arc<Dataset>),
    /// Samples of D(v), which are made where they are needed.
    Directional(Arc<DirectionalSamples>),
}

impl RunSamples {
    /// Returns how many samples it has.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Held(data) => data.len(),
            Self::Directional(samples) => samples.len(),
        }
    }

    /// Returns all samples in memory.
    pub(crate) fn dataset(&self) -> Arc<Dataset> {
        match self {
            Self::Held(data) => data.clone(),
            Self::Directional(samples) => {
                let dimension = samples.dimension();
                let mut inputs = vec![0.0; samples.len() * dimension];
                samples.fill(0..samples.len(), &mut inputs);
                Arc::new(Dataset { dimension, inputs, labels: samples.labels().collect() })
            }
        }
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Held(a), Self::Held(b)) => Arc::ptr_eq(a, b),
            (Self::Directional(a), Self::Directional(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    fn dimension(&self) -> usize {
        match self {
            Self::Held(data) => data.dimension,
            Self::Directional(samples) => samples.dimension(),
        }
    }

    fn labels(&self) -> Vec<u8> {
        match self {
            Self::Held(data) => data.labels.clone(),
            Self::Directional(samples) => samples.labels().collect(),
        }
    }

    /// Writes some of the samples, row after row.
    fn fill(&self, samples: Range<usize>, out: &mut [f32]) {
        match self {
            Self::Held(data) => out.copy_from_slice(&data.inputs[samples.start * data.dimension..][..out.len()]),
            Self::Directional(directional) => directional.fill(samples, out),
        }
    }

    /// Checks that the samples fit the network and are as many as the other members', since members step together.
    fn check(&self, member: usize, count: usize, of: SampleShape) -> Result<(), PopulationError> {
        check_length("labels of a member", count.max(1), self.count())?;
        check_length("numbers of a sample", of.dimension, self.dimension())?;
        if let Self::Held(data) = self {
            check_length("inputs of a member", count * of.dimension, data.inputs.len())?;
        }
        match self.labels().iter().find(|&&label| usize::from(label) >= of.classes) {
            Some(&label) => Err(PopulationError::Label { member, label, classes: of.classes }),
            None => Ok(()),
        }
    }
}

/// The dimension that a network reads and the classes that it distinguishes.
#[derive(Clone, Copy)]
struct SampleShape {
    dimension: usize,
    classes: usize,
}

/// The samples of K members, as many for each. What several members share lies there once.
pub(crate) struct Samples {
    /// `[all, D]`.
    inputs: Tensor,
    /// `[all]`.
    labels: Tensor,
    /// The index of each member's first sample.
    starts: Vec<i64>,
    /// The number of samples of each member.
    count: usize,
}

/// A batch of the samples of all members.
pub(super) struct SampleBatch {
    /// `[B·K, D]`, the members' first samples first.
    pub(super) inputs: Tensor,
    /// `[K, B]`.
    pub(super) labels: Tensor,
}

/// The order of the members' samples, `[n, K]` on the device.
pub(super) struct Order(Tensor);

impl Samples {
    /// Returns the number of members.
    pub(super) fn members(&self) -> usize {
        self.starts.len()
    }

    /// Returns the number of samples of each member.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Returns the order in which every member takes its samples in evaluation: as they lie.
    pub(super) fn in_order(&self) -> Result<Order, PopulationError> {
        let order = order(&self.starts, self.count, |_| (0..self.count as u32).collect());
        upload(&order, self.count, self.inputs.device()).map(Order).map_err(at("moving an order to the device"))
    }

    /// Returns the orders of these epochs, each member's by its key. For a GPU a helper makes the next one during an epoch.
    pub(super) fn orders(&self, keys: &[RunKey], epochs: Range<u32>) -> Result<Orders, PopulationError> {
        let device = self.inputs.device();
        let keys = keys.to_vec();
        let starts = self.starts.clone();
        let count = self.count;
        let of_epoch = move |epoch: u32| order(&starts, count, |member| keys[member].order(epoch, count));
        if !device.is_cuda() {
            return Ok(Orders::Slot { of_epoch: Box::new(of_epoch), count });
        }
        let make = move |made: &Made<Tensor>| {
            for epoch in epochs {
                let order = upload(&of_epoch(epoch), count, device).map_err(at("moving an order to the device"))?;
                if !made.give(order) {
                    break;
                }
            }
            Ok(())
        };
        Ahead::start(0, make).map(Orders::Helper)
    }

    /// Returns the samples of an order from `first` on, at most `most` of them.
    pub(super) fn batch(&self, order: &Order, first: usize, most: usize) -> Result<SampleBatch, TchError> {
        let size = most.min(self.count - first) as i64;
        let places = order.0.f_narrow(0, first as i64, size)?.f_reshape([-1])?;
        let labels = self.labels.f_index_select(0, &places)?.f_view([size, -1])?.f_transpose(0, 1)?;
        Ok(SampleBatch { inputs: self.inputs.f_index_select(0, &places)?, labels: labels.f_contiguous()? })
    }
}

/// The orders of epochs, one after the other.
pub(super) enum Orders {
    /// The orders are made when they are needed.
    Slot { of_epoch: Box<dyn Fn(u32) -> Vec<i64>>, count: usize },
    /// The orders are made an epoch ahead.
    Helper(Ahead<Tensor>),
}

impl Orders {
    /// Returns the order of an epoch. Epochs must be asked for one after the other.
    pub(super) fn next(&mut self, epoch: u32) -> Result<Order, PopulationError> {
        match self {
            Self::Slot { of_epoch, count } => {
                upload(&of_epoch(epoch), *count, Device::Cpu).map(Order).map_err(at("making an order"))
            }
            Self::Helper(orders) => orders.next().map(Order),
        }
    }
}

/// Returns indices among all samples, `[count, K]`. `places` returns the indices among a member's own samples.
fn order(starts: &[i64], count: usize, places: impl Fn(usize) -> Vec<u32>) -> Vec<i64> {
    let members = starts.len();
    let mut order = vec![0i64; count * members];
    for (member, start) in starts.iter().enumerate() {
        for (row, index) in order.chunks_exact_mut(members).zip(places(member)) {
            row[member] = start + i64::from(index);
        }
    }
    order
}

fn upload(order: &[i64], count: usize, device: Device) -> Result<Tensor, TchError> {
    pinned::moved(&Tensor::f_from_slice(order)?, device)?.f_view([count as i64, -1])
}

/// Samples on their way to a device.
pub(crate) struct SamplesAhead {
    making: Making,
    starts: Vec<i64>,
    count: usize,
}

enum Making {
    /// The GPU makes them when the slot needs them.
    Card { generator: &'static Generator, distinct: Vec<Arc<DirectionalSamples>>, dimension: usize, device: Device },
    /// The slot makes them when it needs them.
    Later { distinct: Vec<RunSamples>, dimension: usize, kind: Kind },
    /// Helpers make them.
    Now { done: Ahead<(Tensor, Tensor)>, cancelled: Arc<AtomicBool> },
}

impl SamplesAhead {
    /// Begins to make the samples of these runs, as many for all; on a CPU they are made at the end, by the slot.
    ///
    /// # Errors
    /// [`PopulationError`] when samples and network do not fit each other, or the device has no room.
    pub(crate) fn begin(network: &Network, runs: &[RunSamples], device: Device) -> Result<Self, PopulationError> {
        Self::begin_as(network, runs, Kind::Float, device)
    }

    /// Begins to make the samples in another kind of number.
    pub(super) fn begin_as(
        network: &Network,
        runs: &[RunSamples],
        kind: Kind,
        device: Device,
    ) -> Result<Self, PopulationError> {
        let shape = SampleShape { dimension: network.input().len(), classes: network.output().len() };
        let count = runs.first().map_or(0, RunSamples::count);
        for (member, run) in runs.iter().enumerate() {
            run.check(member, count, shape)?;
        }
        let mut distinct: Vec<RunSamples> = Vec::new();
        let mut starts = Vec::with_capacity(runs.len());
        for run in runs {
            let index = distinct.iter().position(|known| known.is(run)).unwrap_or(distinct.len());
            if index == distinct.len() {
                distinct.push(run.clone());
            }
            starts.push((index * count) as i64);
        }
        let dimension = shape.dimension;
        let generator = generator::of(device).filter(|_| kind == Kind::Float).zip(of_directions(&distinct));
        let making = match generator {
            Some((generator, distinct)) => Making::Card { generator, distinct, dimension, device },
            None if !device.is_cuda() => Making::Later { distinct, dimension, kind },
            None => {
                let room =
                    room(distinct.len() * count, dimension, kind, device).map_err(at("making room for samples"))?;
                let cancelled = Arc::new(AtomicBool::new(false));
                let stop = cancelled.clone();
                let make = move |made: &Made<_>| {
                    let (inputs, labels) = room;
                    pinned::copy_beside(device)
                        .and_then(|()| copy(&distinct, &inputs, &labels, &|| stop.load(Ordering::Relaxed)))
                        .map_err(at("moving samples to the device"))?;
                    made.give((inputs, labels));
                    Ok(())
                };
                Making::Now { done: Ahead::start(1, make)?, cancelled }
            }
        };
        Ok(Self { making, starts, count })
    }

    /// Waits until all samples are made, and returns them.
    ///
    /// # Errors
    /// [`PopulationError`] when memory is short or the device fails.
    pub(crate) fn finish(mut self) -> Result<Samples, PopulationError> {
        let (inputs, labels) = match &mut self.making {
            Making::Now { done, .. } => done.next()?,
            Making::Card { generator, distinct, dimension, device } => {
                let (inputs, labels) = room(distinct.len() * self.count, *dimension, Kind::Float, *device)
                    .map_err(at("making room for samples"))?;
                for (index, run) in distinct.iter().enumerate() {
                    let first = (index * self.count) as i64;
                    let count = self.count as i64;
                    let own = |of: &Tensor| of.f_narrow(0, first, count).map_err(at("cutting samples"));
                    generator.fill_directional(run, &own(&inputs)?, &own(&labels)?)?;
                }
                (inputs, labels)
            }
            Making::Later { distinct, dimension, kind } => {
                let made =
                    room(distinct.len() * self.count, *dimension, *kind, Device::Cpu).and_then(|(inputs, labels)| {
                        fill(distinct, &inputs)?;
                        fill_labels(distinct, &labels)?;
                        Ok((inputs, labels))
                    });
                made.map_err(at("making samples"))?
            }
        };
        Ok(Samples { inputs, labels, starts: std::mem::take(&mut self.starts), count: self.count })
    }
}

impl Drop for SamplesAhead {
    fn drop(&mut self) {
        if let Making::Now { cancelled, .. } = &self.making {
            cancelled.store(true, Ordering::Relaxed);
        }
    }
}

/// Returns all of them, if all are of D(v).
fn of_directions(distinct: &[RunSamples]) -> Option<Vec<Arc<DirectionalSamples>>> {
    let directional = |run: &RunSamples| match run {
        RunSamples::Directional(samples) => Some(samples.clone()),
        RunSamples::Held(_) => None,
    };
    distinct.iter().map(directional).collect()
}

/// Allocates inputs `[all, D]` and labels `[all]`.
fn room(all: usize, dimension: usize, kind: Kind, device: Device) -> Result<(Tensor, Tensor), TchError> {
    let inputs = Tensor::f_empty([all as i64, dimension as i64], (kind, device))?;
    Ok((inputs, Tensor::f_empty([all as i64], (Kind::Int64, device))?))
}

/// Makes samples on a CPU, on this thread, in the memory where they stay.
fn fill(distinct: &[RunSamples], inputs: &Tensor) -> Result<(), TchError> {
    let mut first = 0;
    for run in distinct {
        let count = run.count() as i64;
        let mut own = inputs.f_narrow(0, first, count)?;
        if own.f_kind()? == Kind::Float {
            run.fill(0..run.count(), pinned::to_write(&mut own)?);
        } else {
            let mut made = pinned::numbers(own.numel(), Device::Cpu)?;
            run.fill(0..run.count(), pinned::to_write(&mut made)?);
            own.f_copy_(&made.f_view_as(&own)?)?;
        }
        first += count;
    }
    Ok(())
}

fn fill_labels(distinct: &[RunSamples], labels: &Tensor) -> Result<(), TchError> {
    let all: Vec<i64> = distinct.iter().flat_map(RunSamples::labels).map(i64::from).collect();
    labels.shallow_clone().f_copy_(&Tensor::f_from_slice(&all)?)
}

/// Makes samples for a GPU: piece by piece in one buffer, on all cores but the slot's.
fn copy(distinct: &[RunSamples], inputs: &Tensor, labels: &Tensor, stopped: &dyn Fn() -> bool) -> Result<(), TchError> {
    fill_labels(distinct, labels)?;
    let dimension = inputs.size().get(1).copied().unwrap_or(0).max(1) as usize;
    let of_piece = (PIECE / dimension).max(1);
    let of_part = (PART / dimension).max(1);
    let mut buffer = pinned::numbers(of_piece * dimension, inputs.device())?;
    let mut first = 0;
    for run in distinct {
        for start in (0..run.count()).step_by(of_piece) {
            if stopped() {
                return Ok(());
            }
            let count = of_piece.min(run.count() - start);
            let rows = &mut pinned::to_write(&mut buffer)?[..count * dimension];
            let parts: Vec<_> = rows.chunks_mut(of_part * dimension).enumerate().collect();
            in_parallel(cores().saturating_sub(1).max(1), parts, |(part, rows)| {
                let start = start + part * of_part;
                run.fill(start..start + rows.len() / dimension, rows);
            });
            let mut own = inputs.f_narrow(0, first, count as i64)?;
            // Waits until all is there: the buffer may be written again.
            own.f_copy_(&buffer.f_narrow(0, 0, (count * dimension) as i64)?.f_view([count as i64, dimension as i64])?)?;
            first += count as i64;
        }
    }
    Ok(())
}

#[cfg(test)]
impl Samples {
    /// Makes samples of datasets in memory; those at one address are shared.
    pub(super) fn of(
        network: &Network,
        data: &[&Dataset],
        kind: Kind,
        device: Device,
    ) -> Result<Self, PopulationError> {
        let mut held: Vec<(&Dataset, RunSamples)> = Vec::new();
        let mut runs = Vec::new();
        for &data in data {
            let known = held.iter().find(|(known, _)| std::ptr::eq(*known, data)).map(|(_, run)| run.clone());
            let run = known.unwrap_or_else(|| RunSamples::Held(Arc::new(data.clone())));
            held.push((data, run.clone()));
            runs.push(run);
        }
        SamplesAhead::begin_as(network, &runs, kind, device)?.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::population::tensor::numbers;

    /// What the helpers copy piece by piece is what the slot makes at once: sets longer than a piece, and shared ones.
    #[test]
    fn pieces_made_by_helpers_are_the_whole() {
        let key =
            |run| RunKey { seed: 2, experiment: "directional", architecture: "x".into(), variant: "v".into(), run };
        let mut v = vec![0.0; 3 * 1024];
        v[5] = 1.0;
        let directional = |run| DirectionalSamples::new(&key(run), "train", &v, 1.0, 1.0, PIECE / v.len() + 700);
        let one = Arc::new(directional(0));
        let held = RunSamples::Held(RunSamples::Directional(Arc::new(directional(1))).dataset());
        let distinct = [RunSamples::Directional(one.clone()), held];
        let (whole, pieces) = [(); 2].map(|()| room(2 * one.len(), v.len(), Kind::Float, Device::Cpu).unwrap()).into();
        fill(&distinct, &whole.0).unwrap();
        fill_labels(&distinct, &whole.1).unwrap();
        copy(&distinct, &pieces.0, &pieces.1, &|| false).unwrap();
        assert!(whole.0.equal(&pieces.0) && whole.1.equal(&pieces.1));
        let labels: Vec<i64> = numbers(&pieces.1).unwrap();
        assert_eq!(labels.iter().sum::<i64>() as usize, 2 * (one.len() / 2));
        let rows: Vec<f32> = numbers(&pieces.0.narrow(0, one.len() as i64 - 1, 1)).unwrap();
        let last = RunSamples::Directional(one.clone()).dataset();
        assert!(rows == last.input(one.len() - 1));
        // Nobody waits for what is not wanted any more.
        let (untouched, labels) = room(2 * one.len(), v.len(), Kind::Float, Device::Cpu).unwrap();
        let _ = untouched.shallow_clone().fill_(7.0);
        copy(&distinct, &untouched, &labels, &|| true).unwrap();
        assert!(untouched.equal(&untouched.full_like(7.0)));
    }
}
