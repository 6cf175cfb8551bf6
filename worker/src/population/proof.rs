//! The test of a GPU before its worker joins: convolutions and products in each precision, and the gradients of a few random
//! networks, against the CPU.
//!
//! A card or a driver that writes nothing, or wrong numbers, would otherwise yield sweeps that look complete. Deliberately absent:
//! bits, which only cards of one class share, and speed.

use super::{
    Derivative, FusedNetwork, Policy, Population, PopulationError, Sampling, at, block_gradients,
    central_difference_at, memory, tensor,
};
use nadgrid_core::architecture::{self, Network, Shape};
use nadgrid_core::numerics::Precision;
use nadgrid_core::random::{Stream, evaluation_point};
use nadgrid_kernels::{CentralDifference, KernelError, Trainer};
use tch::{Device, Kind, TchError, Tensor};
use thiserror::Error;

const SEED: u64 = 1;
const ARCHITECTURE: &str = "lenet";
const MEMBERS: u64 = 4;
const DEEP: &str = "resnet18";
/// The pixels at which the deep network is differentiated: a corner, an edge and two inside.
const PIXELS: [usize; 4] = [0, 31, 495, 528];
/// The published step. Outputs are about as large, so that their rounding is small beside their difference.
const STEP: f32 = 100.0;

/// The reason why a device is not used.
#[derive(Debug, Error)]
pub enum ProofError {
    /// The device writes nothing.
    #[error("{what}: all numbers are zero")]
    Zeros {
        /// The computation.
        what: String,
    },
    /// The device computes something else.
    #[error("{what}: the relative error against a CPU is {relative:.1e}, rounding explains {limit:.0e}")]
    Wrong {
        /// The computation.
        what: String,
        /// The distance from the right numbers, as a part of their norm.
        relative: f64,
        /// The largest distance that rounding explains.
        limit: f64,
    },
    /// The device failed.
    #[error("{what}: {source}")]
    Failed {
        /// The computation.
        what: String,
        /// Its error.
        source: PopulationError,
    },
    /// The CPU failed.
    #[error("the reference: {0}")]
    Reference(#[from] KernelError),
}

/// Computes on `device`, in each of these precisions, and compares the results with a CPU's.
///
/// # Errors
/// [`ProofError`] names the computation that is wrong.
pub(crate) fn prove(device: Device, precisions: &[Precision]) -> Result<(), ProofError> {
    let reference = Reference::new()?;
    for &precision in precisions {
        for operation in [ProbeOperation::Convolution, ProbeOperation::GroupedConvolution, ProbeOperation::Product] {
            let what = format!("{} in {precision}", operation.name());
            let got = operation.on(device, precision).map_err(failed(&what))?;
            let want = operation.exact().map_err(failed(&what))?;
            compare(what, &got, &want, ProofTolerances::of(precision).operation)?;
        }
        let ProofTolerances { difference, autograd, .. } = ProofTolerances::of(precision);
        for (derivative, name, want, limit) in [
            (Derivative::Difference { step: STEP }, "differences", &reference.differences, difference),
            (Derivative::Autograd, "autograd", &reference.gradients, autograd),
        ] {
            reference.compare(device, precision, derivative, name, want, limit)?;
        }
    }
    Ok(())
}

/// Tests the fused evaluation: on the same networks, whose convolutions have few channels, and on a ResNet18 at a few pixels, whose
/// convolutions, sums and ReLUs are one operation of cuDNN each.
///
/// # Errors
/// [`ProofError`] names the computation that is wrong.
pub(crate) fn prove_fused(device: Device, precisions: &[Precision]) -> Result<(), ProofError> {
    let reference = Reference::new()?;
    let deep = Deep::new()?;
    for &precision in precisions {
        let limit = ProofTolerances::of(precision).difference;
        let derivative = Derivative::Fused { step: STEP };
        reference.compare(device, precision, derivative, "fused differences", &reference.differences, limit)?;
        let what = format!("differences of a {DEEP}, fused, in {precision}");
        let got = deep.fused(device, precision).map_err(failed(&what))?;
        compare(what, &wide(&got), &wide(&deep.differences), limit)?;
    }
    Ok(())
}

fn failed(what: &str) -> impl FnOnce(PopulationError) -> ProofError {
    let what = what.to_owned();
    |source| ProofError::Failed { what, source }
}

/// The largest distances from numbers of exact arithmetic, as a part of their norm.
struct ProofTolerances {
    /// The limit for a convolution or a product. Float32 has 24 bits, and Winograd's convolutions lose some; TF32 has 11 and
    /// bfloat16 8, of two factors and, in bfloat16, of the result. A convolution in TF32 that should be float32 is found out.
    operation: f64,
    /// The limit for central differences, which come through five layers and are continuous in every weight.
    difference: f64,
    /// The limit for autograd. A number near zero before a ReLU, or two near each other before a maximum, may fall to either side
    /// by rounding, and with each goes a part of the gradient: one of some thousands in float32, more the fewer bits there are.
    autograd: f64,
}

impl ProofTolerances {
    fn of(precision: Precision) -> Self {
        let (operation, difference, autograd) = match precision {
            Precision::Fp32 => (1e-4, 1e-3, 5e-2),
            Precision::Tf32 => (3e-3, 2e-2, 2e-1),
            Precision::Bf16 => (2e-2, 1e-1, 5e-1),
        };
        Self { operation, difference, autograd }
    }
}

fn compare(what: String, got: &[f64], want: &[f64], limit: f64) -> Result<(), ProofError> {
    if got.iter().all(|&number| number == 0.0) {
        return Err(ProofError::Zeros { what });
    }
    let relative = distance(got, want);
    tracing::debug!("{what}: {relative:.1e} away from a CPU's");
    // A NaN is not close.
    let is_close = got.len() == want.len() && relative <= limit;
    if is_close { Ok(()) } else { Err(ProofError::Wrong { what, relative, limit }) }
}

/// Returns the distance between numbers, as a part of the norm of those that are expected.
fn distance(got: &[f64], want: &[f64]) -> f64 {
    let norm = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|number| number * number).sum::<f64>().sqrt();
    norm(&mut got.iter().zip(want).map(|(got, want)| got - want)) / norm(&mut want.iter().copied())
}

fn wide(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().map(|&number| f64::from(number)).collect()
}

/// One call of the libraries that populations use.
#[derive(Clone, Copy)]
enum ProbeOperation {
    Convolution,
    GroupedConvolution,
    Product,
}

impl ProbeOperation {
    fn name(self) -> &'static str {
        match self {
            Self::Convolution => "a convolution",
            Self::GroupedConvolution => "a grouped convolution",
            Self::Product => "a product of matrices",
        }
    }

    /// Computes it as a population does.
    fn on(self, device: Device, precision: Precision) -> Result<Vec<f64>, PopulationError> {
        let policy = Policy::new(precision, Kind::Float, device)?;
        let _held = policy.hold()?;
        let run = || {
            let (a, b) = self.factors()?;
            let narrow = |t: Tensor| policy.narrow(&t.f_to(device)?);
            policy.widen(&self.apply(&narrow(a)?, &narrow(b)?)?)?.f_to_kind(Kind::Double)
        };
        tensor::numbers(&run().map_err(at("a computation of known result"))?)
    }

    /// Computes it in float64 on the CPU.
    fn exact(self) -> Result<Vec<f64>, PopulationError> {
        let run = || {
            let (a, b) = self.factors()?;
            self.apply(&a.f_to_kind(Kind::Double)?, &b.f_to_kind(Kind::Double)?)
        };
        tensor::numbers(&run().map_err(at("a computation of known result"))?)
    }

    fn apply(self, a: &Tensor, b: &Tensor) -> Result<Tensor, TchError> {
        let _no_grad = tch::no_grad_guard();
        let convolve = |groups| a.f_conv2d(b, None::<Tensor>, [1, 1], [1, 1], [1, 1], groups);
        match self {
            Self::Convolution => convolve(1),
            Self::GroupedConvolution => convolve(4),
            Self::Product => a.f_bmm(b),
        }
    }

    /// Lengths are multiples of 8, so that tensor cores can take part.
    fn factors(self) -> Result<(Tensor, Tensor), TchError> {
        match self {
            Self::Convolution => Ok((numbers(&[4, 32, 12, 12], 0)?, numbers(&[64, 32, 3, 3], 1)?)),
            Self::GroupedConvolution => Ok((numbers(&[4, 64, 12, 12], 0)?, numbers(&[64, 16, 3, 3], 1)?)),
            Self::Product => Ok((numbers(&[4, 64, 256], 0)?, numbers(&[4, 256, 32], 1)?)),
        }
    }
}

/// Returns standard normal float32 numbers.
fn numbers(shape: &[i64], index: u64) -> Result<Tensor, TchError> {
    let count = shape.iter().product::<i64>();
    let mut numbers = vec![0.0f32; count.try_into().unwrap_or(0)];
    Stream::new(SEED, &["proof"], index).fill_normal(&mut numbers);
    Tensor::f_from_slice(&numbers)?.f_view(shape)
}

/// A few random networks and their gradients `[members, D]` by nadgrid's own kernels.
struct Reference {
    network: Network,
    point: Vec<f32>,
    differences: Vec<f32>,
    gradients: Vec<f32>,
}

impl Reference {
    fn new() -> Result<Self, ProofError> {
        let (network, point) = known(ARCHITECTURE)?;
        let mut kernel = CentralDifference::new(&network)?;
        let mut trainer = Trainer::new(&network)?;
        let all = MEMBERS as usize * point.len();
        let mut differences = vec![0.0; all];
        let mut gradients = vec![0.0; all];
        let mut weights = vec![0.0; network.parameter_count()];
        let rows = differences.chunks_exact_mut(point.len()).zip(gradients.chunks_exact_mut(point.len()));
        for (member, (difference, gradient)) in (0..MEMBERS).zip(rows) {
            network.initialise(SEED, ARCHITECTURE, member, &mut weights);
            let finite = kernel.gradient(&weights, &point, STEP, difference);
            finite.and_then(|()| trainer.gradient_at(&weights, &point, gradient)).map_err(|e| e.of_member(member))?;
        }
        Ok(Self { network, point, differences, gradients })
    }

    /// Fails where a device's gradients are not those of the reference.
    fn compare(
        &self,
        device: Device,
        precision: Precision,
        derivative: Derivative,
        name: &str,
        want: &[f32],
        limit: f64,
    ) -> Result<(), ProofError> {
        let what = format!("gradients of {MEMBERS} networks by {name} in {precision}");
        let got = self.on(device, precision, derivative).map_err(failed(&what))?;
        let mut rows = got.chunks(self.point.len()).zip(want.chunks(self.point.len()));
        rows.try_for_each(|(got, want)| compare(what.clone(), &wide(got), &wide(want), limit))
    }

    /// Computes the gradients on a device.
    fn on(&self, device: Device, precision: Precision, derivative: Derivative) -> Result<Vec<f32>, PopulationError> {
        let network = &self.network;
        let budget = memory::budget(device);
        let sampling =
            Sampling { network, device, precision, seed: SEED, architecture: ARCHITECTURE, derivative, budget };
        let mut members = sampling.members(0..MEMBERS)?;
        let points = std::slice::from_ref(&self.point);
        block_gradients(&sampling, &mut members, MEMBERS as usize, points, &|_| true).map(Option::unwrap_or_default)
    }
}

/// A deep random network and its differences at [`PIXELS`], by plain evaluation on the CPU.
struct Deep {
    network: Network,
    parameters: Vec<f32>,
    point: Vec<f32>,
    differences: Vec<f32>,
}

impl Deep {
    fn new() -> Result<Self, ProofError> {
        let (network, point) = known(DEEP)?;
        let mut parameters = vec![0.0; network.parameter_count()];
        network.initialise(SEED, DEEP, 0, &mut parameters);
        let plain = Population::new(&network, &parameters, Device::Cpu, Precision::Fp32)
            .and_then(|population| central_difference_at(&population, &point, STEP, &PIXELS));
        let differences = plain.map_err(failed(&format!("differences of a {DEEP} on the CPU")))?;
        Ok(Self { network, parameters, point, differences })
    }

    fn fused(&self, device: Device, precision: Precision) -> Result<Vec<f32>, PopulationError> {
        let moved = |numbers: &[f32]| Tensor::f_from_slice(numbers).and_then(|t| t.f_to(device));
        let moved = |numbers| moved(numbers).map_err(at("moving a network to the device"));
        let parameters = moved(&self.parameters)?;
        let point = moved(&self.point)?;
        let points = point.f_unsqueeze(0).map_err(at("moving a network to the device"))?;
        let mut fused = FusedNetwork::new(&self.network, precision, device)?;
        tensor::numbers(&fused.gradients_at(&parameters, &points, f64::from(STEP), &PIXELS, &|_| {})?)
    }
}

/// Returns a network of the registry for one channel of 32 x 32, and a point.
fn known(name: &'static str) -> Result<(Network, Vec<f32>), ProofError> {
    let input = Shape { channels: 1, height: 32, width: 32 };
    let network = architecture::find(name).and_then(|known| known.network(input, 1).ok());
    let why = "it is not in the registry";
    let network = network.ok_or(KernelError::Unsupported { layer: 0, what: name, why })?;
    Ok((network, evaluation_point(SEED, 0, input.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_proves_itself() {
        crate::device::be_one_thread();
        prove(Device::Cpu, &[Precision::Fp32, Precision::Bf16]).unwrap();
        prove_fused(Device::Cpu, &[Precision::Fp32, Precision::Bf16]).unwrap();
    }

    /// How much of the limits bfloat16 uses up, the precision that rounds most: not more than half, and not next to nothing.
    #[test]
    fn limits_are_no_wider_than_rounding_explains() {
        crate::device::be_one_thread();
        let reference = Reference::new().unwrap();
        let limits = ProofTolerances::of(Precision::Bf16);
        let far = |derivative, want: &[f32], limit: f64| {
            let got = reference.on(Device::Cpu, Precision::Bf16, derivative).unwrap();
            distance(&wide(&got), &wide(want)) / limit
        };
        let product = ProbeOperation::Product.on(Device::Cpu, Precision::Bf16).unwrap();
        let used = [
            distance(&product, &ProbeOperation::Product.exact().unwrap()) / limits.operation,
            far(Derivative::Difference { step: STEP }, &reference.differences, limits.difference),
            far(Derivative::Autograd, &reference.gradients, limits.autograd),
        ];
        println!("{used:.3?}");
        assert!(used.iter().all(|used| (0.01..0.5).contains(used)), "{used:?}");
    }

    /// What a card that computes nothing, half of it, or nonsense would return.
    #[test]
    fn wrong_numbers_are_found_out() {
        let want: Vec<f64> = (1..100).map(f64::from).collect();
        let told = |got: &[f64]| compare("a product".to_owned(), got, &want, 1e-3).unwrap_err().to_string();
        assert_eq!(told(&[0.0; 99]), "a product: all numbers are zero");
        let mut half = want.clone();
        half[50..].fill(0.0);
        assert!(told(&half).starts_with("a product: the relative error against a CPU is 9.3e-1"), "{}", told(&half));
        let mut none = want.clone();
        none[7] = f64::NAN;
        assert!(told(&none).contains("NaN"), "{}", told(&none));
        assert!(compare(String::new(), &want, &want, 0.0).is_ok());
    }

    /// The limits tell float32 from TF32: a factor that is rounded to 11 bits is farther away than they allow.
    #[test]
    fn tf32_is_not_taken_for_float32() {
        crate::device::be_one_thread();
        let operation = ProbeOperation::Product;
        let (a, b) = operation.factors().unwrap();
        let rounded = |t: &Tensor| {
            let numbers: Vec<f32> = tensor::numbers(t).unwrap();
            let short = |x: f32| f32::from_bits(x.to_bits().wrapping_add(1 << 12) & !((1 << 13) - 1));
            Tensor::from_slice(&numbers.into_iter().map(short).collect::<Vec<_>>()).view_as(t)
        };
        let product = operation.apply(&rounded(&a), &rounded(&b)).unwrap().to_kind(Kind::Double);
        let got = tensor::numbers(&product).unwrap();
        let want = operation.exact().unwrap();
        assert!(compare("fp32".to_owned(), &got, &want, ProofTolerances::of(Precision::Fp32).operation).is_err());
        compare("tf32".to_owned(), &got, &want, ProofTolerances::of(Precision::Tf32).operation).unwrap();
    }
}
