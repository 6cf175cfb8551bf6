//! Members' samples on the device, and their batches, which are gathered there.

use super::{PopulationError, at};
use nadgrid_core::dataset::Dataset;
use tch::{Device, Kind, TchError, Tensor};

/// The samples of K members, as many for each. What several members share lies there once.
pub(super) struct Samples {
    /// `[all, D]`.
    inputs: Tensor,
    /// `[all]`.
    labels: Tensor,
    /// Where each member's begin.
    starts: Vec<i64>,
    /// Samples of a member.
    count: usize,
}

/// Samples of all members.
pub(super) struct Batch {
    /// `[B·K, D]`, the members' first samples first.
    pub(super) inputs: Tensor,
    /// `[K, B]`.
    pub(super) labels: Tensor,
}

/// Which samples come when, `[n, K]` on the device.
pub(super) struct Order(Tensor);

impl Samples {
    /// `data` holds one dataset for each member.
    pub(super) fn new(
        data: &[&Dataset],
        dimension: usize,
        classes: usize,
        kind: Kind,
        device: Device,
    ) -> Result<Self, PopulationError> {
        let count = data.first().map_or(0, |data| data.len());
        for (member, data) in data.iter().enumerate() {
            check(member, data, count, dimension, classes)?;
        }
        let mut distinct: Vec<&Dataset> = Vec::new();
        let mut starts = Vec::with_capacity(data.len());
        for &data in data {
            let place = distinct.iter().position(|&known| std::ptr::eq(known, data)).unwrap_or(distinct.len());
            if place == distinct.len() {
                distinct.push(data);
            }
            starts.push((place * count) as i64);
        }
        let (inputs, labels) =
            upload(&distinct, count, dimension, kind, device).map_err(at("moving samples to the device"))?;
        Ok(Self { inputs, labels, starts, count })
    }

    /// Samples of a member.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// An order in which every member takes its samples: `places` are each member's own.
    pub(super) fn order(&self, places: impl Fn(usize) -> Vec<u32>) -> Result<Order, PopulationError> {
        let members = self.starts.len();
        let mut order = vec![0i64; self.count * members];
        for (member, start) in self.starts.iter().enumerate() {
            for (row, place) in order.chunks_exact_mut(members).zip(places(member)) {
                row[member] = start + i64::from(place);
            }
        }
        let on_device = Tensor::f_from_slice(&order).and_then(|t| t.f_to(self.inputs.device()));
        let shaped = on_device.and_then(|t| t.f_view([self.count as i64, members as i64]));
        shaped.map(Order).map_err(at("moving an order to the device"))
    }

    /// The samples at places `first` … of an order, `most` of them or what is left.
    pub(super) fn batch(&self, order: &Order, first: usize, most: usize) -> Result<Batch, TchError> {
        let size = most.min(self.count - first) as i64;
        let places = order.0.f_narrow(0, first as i64, size)?.f_reshape([-1])?;
        let labels = self.labels.f_index_select(0, &places)?.f_view([size, -1])?.f_transpose(0, 1)?;
        Ok(Batch { inputs: self.inputs.f_index_select(0, &places)?, labels: labels.f_contiguous()? })
    }
}

/// Members step together: they need as many samples each.
fn check(member: usize, data: &Dataset, count: usize, dimension: usize, classes: usize) -> Result<(), PopulationError> {
    let length = |what, expected, actual| match expected == actual {
        true => Ok(()),
        false => Err(PopulationError::Length { what, expected, actual }),
    };
    length("labels of a member", count.max(1), data.len())?;
    length("numbers of a sample", dimension, data.dimension)?;
    length("inputs of a member", count * dimension, data.inputs.len())?;
    match data.labels.iter().find(|&&label| usize::from(label) >= classes) {
        Some(&label) => Err(PopulationError::Label { member, label, classes }),
        None => Ok(()),
    }
}

fn upload(
    data: &[&Dataset],
    count: usize,
    dimension: usize,
    kind: Kind,
    device: Device,
) -> Result<(Tensor, Tensor), TchError> {
    let all = (data.len() * count) as i64;
    let inputs = Tensor::f_empty([all, dimension as i64], (kind, device))?;
    let labels = Tensor::f_empty([all], (Kind::Int64, device))?;
    for (place, data) in data.iter().enumerate() {
        let (first, count) = ((place * count) as i64, count as i64);
        let own = Tensor::f_from_slice(&data.inputs)?.f_view([count, dimension as i64])?;
        inputs.f_narrow(0, first, count)?.f_copy_(&own)?;
        let own: Vec<i64> = data.labels.iter().map(|&label| i64::from(label)).collect();
        labels.f_narrow(0, first, count)?.f_copy_(&Tensor::f_from_slice(&own)?)?;
    }
    Ok((inputs, labels))
}
