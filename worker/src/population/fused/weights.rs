//! A network's parameters as its program reads them: batch norms folded into weights and biases, channels last.
//!
//! The tensors are made once and written anew for every network. A network comes as it is drawn, so that its running means are 0
//! and its running variances 1. Deliberately absent: networks that are trained.

use super::program::{FusedAction, FusedAffine, FusedProduct, FusedProgram};
use crate::population::layer::decimal;
use nadgrid_core::architecture::BATCH_NORM_EPS;
use tch::{Device, Kind, TchError, Tensor};

/// Vectors begin at multiples of this many numbers: cuDNN selects other kernels for addresses that are less aligned.
const ALIGNMENT: usize = 64;

/// The kinds of numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kinds {
    /// The kind of parameters, inputs, the last layer and its outputs.
    pub(super) wide: Kind,
    /// The kind of maps and of the weights that products read.
    pub(super) narrow: Kind,
}

/// The weights of a program.
pub(super) struct ProgramWeights {
    kinds: Kinds,
    /// The program's affines, each with its place in the vectors.
    affines: Vec<(FusedAffine, i64)>,
    /// The indices of the vectors' numbers in the flat parameters, `[3·V]`: batch norms' weights, their biases, products' biases.
    places: Tensor,
    /// Whether each of these numbers exists, and the numbers that stand in for those that do not: 1, 0, 0.
    present: Tensor,
    otherwise: Tensor,
    /// 1/√(1 + eps) for the channels of batch norms, 1 for others, `[V]`.
    spread: Tensor,
    /// The same factor for the channels of products that read a drawn batch norm's maps, 1 for others, `[V]`.
    entering: Tensor,
    /// The scale of results, and of the weights that make them; `[V]`, wide.
    scale: Tensor,
    weighting: Tensor,
    /// The biases, `[V]`, wide and narrow.
    biases: [Tensor; 2],
    /// The products' weights `[outputs, inputs, height, width]`, channels last.
    products: Vec<Tensor>,
    /// The product whose results are the network's outputs.
    last: Option<usize>,
}

impl ProgramWeights {
    pub(super) fn new(program: &FusedProgram, kinds: Kinds, device: Device) -> Result<Self, TchError> {
        let mut affines = Vec::new();
        let mut length = 0;
        for affine in &program.affines {
            affines.push((affine.clone(), length as i64));
            length += affine.channels.next_multiple_of(ALIGNMENT);
        }
        let length = length.max(1);
        let mut places = vec![0i64; 3 * length];
        let mut present = vec![false; 3 * length];
        let mut spread = vec![1.0; length];
        let spread_of_norm = 1.0 / (1.0 + decimal(BATCH_NORM_EPS)).sqrt();
        for (affine, start) in &affines {
            let start = *start as usize;
            let sources = [affine.norm.map(|(weight, _)| weight), affine.norm.map(|(_, bias)| bias), affine.bias];
            for (kind, source) in sources.into_iter().enumerate().filter_map(|(k, s)| Some((k, s?))) {
                for channel in 0..affine.channels {
                    places[kind * length + start + channel] = (source + channel) as i64;
                    present[kind * length + start + channel] = true;
                }
            }
            if affine.norm.is_some() {
                spread[start..][..affine.channels].fill(spread_of_norm);
            }
        }
        let mut entering = vec![1.0; length];
        for product in program.products.iter().filter(|product| product.normed) {
            let (affine, start) = &affines[product.affine];
            entering[*start as usize..][..affine.channels].fill(spread_of_norm);
        }
        let otherwise: Vec<f64> = (0..3 * length).map(|place| f64::from(place < length)).collect();
        let moved = |values: &[f64]| Tensor::f_from_slice(values)?.f_to_kind(kinds.wide)?.f_to(device);
        let vector = |kind| Tensor::f_zeros([length as i64], (kind, device));
        let last = program.operations.last().filter(|last| last.writes == program.output);
        let last = last.and_then(|last| match last.action {
            FusedAction::Multiply { product, .. } => Some(product),
            _ => None,
        });
        let product = |(index, product): (usize, &FusedProduct)| {
            let [outputs, _, height, width] = product.shape.map(|n| n as i64);
            let kind = if Some(index) == last { kinds.wide } else { kinds.narrow };
            // Zeros where nothing is written: behind the input's own channels.
            let rows = Tensor::f_zeros([outputs, height, width, product.inputs as i64], (kind, device))?;
            rows.f_permute([0, 3, 1, 2])
        };
        Ok(Self {
            kinds,
            affines,
            places: Tensor::f_from_slice(&places)?.f_to(device)?,
            present: Tensor::f_from_slice(&present)?.f_to(device)?,
            otherwise: moved(&otherwise)?,
            spread: moved(&spread)?,
            entering: moved(&entering)?,
            scale: vector(kinds.wide)?,
            weighting: vector(kinds.wide)?,
            biases: [vector(kinds.wide)?, vector(kinds.narrow)?],
            products: program.products.iter().enumerate().map(product).collect::<Result<_, _>>()?,
            last,
        })
    }

    /// Takes a network's flat parameters, `[P]`, wide and on the device.
    pub(super) fn load(&mut self, program: &FusedProgram, parameters: &Tensor) -> Result<(), TchError> {
        let length = self.spread.size1().unwrap_or(0);
        let vectors = parameters.f_index_select(0, &self.places)?.f_where_self(&self.present, &self.otherwise)?;
        let part = |part: i64| vectors.f_narrow(0, part * length, length);
        self.scale = part(0)?.f_mul(&self.spread)?;
        self.weighting = self.scale.f_mul(&self.entering)?;
        let biases = part(1)?.f_addcmul(&part(2)?, &self.scale)?;
        for (affine, start) in &self.affines {
            let Some((_, from)) = affine.also.map(|also| &self.affines[also]) else { continue };
            let channels = affine.channels as i64;
            let _ = biases.f_narrow(0, *start, channels)?.f_add_(&biases.f_narrow(0, *from, channels)?)?;
        }
        self.biases = [biases.f_to_kind(self.kinds.narrow)?, biases];
        self.biases.swap(0, 1);
        for (index, (product, slot)) in program.products.iter().zip(&self.products).enumerate() {
            let [outputs, inputs, ..] = product.shape.map(|n| n as i64);
            let own = parameters.f_narrow(0, product.weight.start as i64, product.weight.len() as i64)?;
            let own = own.f_view(product.shape.map(|n| n as i64))?;
            let mut slot = slot.f_narrow(1, 0, inputs)?;
            match (product.scaled, Some(index) == self.last) {
                (true, _) => {
                    let scale = self.vector(&self.weighting, product.affine)?.f_view([outputs, 1, 1, 1])?;
                    let _ = own.f_mul_out(&slot, &scale)?;
                }
                (false, true) => slot.f_copy_(&own.f_to_kind(self.kinds.narrow)?)?,
                (false, false) => slot.f_copy_(&own)?,
            }
        }
        Ok(())
    }

    /// An affine's part of a vector.
    fn vector(&self, of: &Tensor, affine: usize) -> Result<Tensor, TchError> {
        let (affine, start) = &self.affines[affine];
        of.f_narrow(0, *start, affine.channels as i64)
    }

    /// A product's weights.
    pub(super) fn product(&self, product: usize) -> &Tensor {
        &self.products[product]
    }

    /// Whether a product's results are the network's outputs: then it reads and yields wide numbers.
    pub(super) fn is_last(&self, product: usize) -> bool {
        Some(product) == self.last
    }

    /// A product's bias `[outputs]`, of the kind in which it computes.
    pub(super) fn bias(&self, index: usize, product: &FusedProduct) -> Result<Tensor, TchError> {
        let [wide, narrow] = &self.biases;
        self.vector(if self.is_last(index) { wide } else { narrow }, product.affine)
    }

    /// An affine's scale and shift, wide, `[1, C, 1, 1]`.
    pub(super) fn affine(&self, affine: usize) -> Result<[Tensor; 2], TchError> {
        let of = |vector| self.vector(vector, affine)?.f_view([1, -1, 1, 1]);
        Ok([of(&self.scale)?, of(&self.biases[0])?])
    }
}
