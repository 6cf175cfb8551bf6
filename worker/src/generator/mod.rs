//! Keyed random numbers and the data D(v), made on a GPU with the bits of the host.
//!
//! `kernel.cu` draws what `nadgrid_core::random` and `nadgrid_kernels::data` draw, operation by operation, each rounded by itself.
//! NVRTC compiles it for the card when a [`Generator`] is opened, and the driver launches it on libtorch's stream, so that
//! nothing is copied from the host and the host never waits. As the bits are the same, drawing on the host is always a way
//! out: a generator that cannot be had, or whose card's numbers differ from the host's, is an error to warn of and no more.
//! Deliberately absent: generators for CPUs, which have core's; and what is drawn once for a job or by rejection (evaluation
//! points, directions, the order of an epoch).

mod driver;
mod launch;
mod nvrtc;
#[cfg(test)]
mod tests;

use driver::{Card, Opened};
use launch::{DeviceRows, Launch};
use nadgrid_core::architecture::{Conv2d, ConvInit, Network, NetworkError, Shape};
use nadgrid_core::random::{Stream, StreamKey};
use nadgrid_core::training::RunKey;
use nadgrid_kernels::data::{DirectionalSamples, directional};
use nvrtc::Nvrtc;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use tch::{Device, Kind, TchError, Tensor};
use thiserror::Error;

/// The reason why numbers are not made on the device.
#[derive(Debug, Error)]
pub enum GeneratorError {
    /// NVRTC is not beside libtorch, or does not answer.
    #[error("no compiler for the GPU: {0}")]
    NoCompiler(String),
    /// NVRTC does not compile the kernels for this card.
    #[error("the kernels do not compile for {architecture}: {log}")]
    Compile {
        /// The card's architecture, such as `sm_90`.
        architecture: String,
        /// NVRTC's log, on one line.
        log: String,
    },
    /// The CUDA driver is not there, or lacks a function.
    #[error("no CUDA driver: {0}")]
    NoDriver(String),
    /// The CUDA driver refused.
    #[error("{task}: the CUDA driver answers with error {code} ({words})")]
    Driver {
        /// The failed task.
        task: &'static str,
        /// CUDA's error number.
        code: i32,
        /// CUDA's message.
        words: String,
    },
    /// libtorch does not say which stream it uses.
    #[error("asking libtorch for its stream: {0}")]
    Stream(String),
    /// libtorch failed at a task of the generator.
    #[error("{task}: {}", first_line(.source))]
    Torch {
        /// The failed task.
        task: &'static str,
        /// libtorch's error.
        source: TchError,
    },
    /// A tensor that cannot be written to.
    #[error("{what}: {found}, expected {expected}")]
    Tensor {
        /// The tensor's contents.
        what: &'static str,
        /// The property that was found.
        found: String,
        /// The property that is required.
        expected: String,
    },
    /// The card draws other numbers than the host.
    #[error("{what}: number {place} is {found} from the GPU and {expected} from the host")]
    Differs {
        /// The kind of numbers.
        what: &'static str,
        /// The index of the first number that differs.
        place: usize,
        /// The card's number.
        found: f32,
        /// The host's number.
        expected: f32,
    },
    /// The network of the proof cannot be built.
    #[error(transparent)]
    Proof(#[from] NetworkError),
}

/// A generator that draws on one GPU. It may be shared by slots.
pub(crate) struct Generator {
    device: Device,
    card: Card,
}

/// Whether generators are used without comparing them with the host.
static UNPROVEN: AtomicBool = AtomicBool::new(false);

/// Generators opened from now on are not compared with the host. For cards that compute nothing.
pub(crate) fn leave_proof_out() {
    UNPROVEN.store(true, Ordering::Relaxed);
}

/// A device's generator, which is opened once for the process; `None` for a CPU, and for a GPU that has none, of which a warning
/// tells.
pub(crate) fn of(device: Device) -> Option<&'static Generator> {
    static OPENED: Mutex<BTreeMap<usize, Option<&'static Generator>>> = Mutex::new(BTreeMap::new());
    let Device::Cuda(ordinal) = device else { return None };
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    *opened.entry(ordinal).or_insert_with(|| Generator::open_or_warn(device).map(|one| &*Box::leak(Box::new(one))))
}

impl Generator {
    /// Compiles the kernels for a GPU and compares some of its numbers with the host's; `None` for a CPU. Takes about a second.
    ///
    /// # Errors
    /// [`GeneratorError`] when the GPU cannot draw, or draws other numbers. The host draws the same.
    pub(crate) fn open(device: Device) -> Result<Option<Self>, GeneratorError> {
        let Device::Cuda(ordinal) = device else { return Ok(None) };
        let generator = Self::unproven(ordinal)?;
        if !UNPROVEN.load(Ordering::Relaxed) {
            generator.prove()?;
        }
        Ok(Some(generator))
    }

    /// Opens a generator as [`Generator::open`] does. Where that fails, it logs a warning with the reason, and the host draws.
    pub(crate) fn open_or_warn(device: Device) -> Option<Self> {
        Self::open(device).unwrap_or_else(|error| {
            tracing::warn!("random numbers are drawn on the host, which is slower and gives the same bits: {error}");
            None
        })
    }

    /// Opens a generator without comparing its numbers with the host's.
    fn unproven(ordinal: usize) -> Result<Self, GeneratorError> {
        let device = Device::Cuda(ordinal);
        // libtorch makes the context that the kernels run in.
        drop(empty(&[1], Kind::Float, device)?);
        let opened = Opened::new(ordinal)?;
        let nvrtc = Nvrtc::open()?;
        let cubin = nvrtc.compile(&opened.architecture()?)?.cubin()?;
        Ok(Self { device, card: opened.load(&cubin)? })
    }

    /// Draws members' parameters, each from where its stream is as [`Network::draw`] does: into `[members, P]` of f32 on the
    /// device, whose rows may lie apart. Members whose streams follow each other are drawn together. Returns before they are
    /// written; libtorch's operations of this thread come after.
    ///
    /// # Errors
    /// [`GeneratorError`] when the tensor is another, or the driver refuses.
    pub(crate) fn fill_parameters(
        &self,
        network: &Network,
        streams: &[Stream],
        into: &Tensor,
    ) -> Result<(), GeneratorError> {
        let rows = self.rows("parameters", into, streams.len() as u64, network.parameter_count())?;
        // Safety: the rows were checked; they are libtorch's.
        unsafe { self.launch(&launch::members(network.parameters(), streams, rows)) }
    }

    /// Makes samples of D(v), all of them: into `samples`, `[n, D]` of f32, and `labels`, `[n]` of i64, both on the device and
    /// without gaps. Returns before they are written; libtorch's operations of this thread come after.
    ///
    /// # Errors
    /// [`GeneratorError`] when a tensor is another, or the driver refuses.
    pub(crate) fn fill_directional(
        &self,
        data: &DirectionalSamples,
        samples: &Tensor,
        labels: &Tensor,
    ) -> Result<(), GeneratorError> {
        let v = data.direction();
        let count = data.len() as i64;
        let dense = |what, tensor: &Tensor, shape: &[i64], kind| {
            let found = (tensor.kind(), tensor.device(), tensor.size(), tensor.is_contiguous());
            let expected = (kind, self.device, shape.to_vec(), true);
            same(what, found, expected)
        };
        dense("labels", labels, &[count], Kind::Int64)?;
        dense("samples", samples, &[count, v.len() as i64], Kind::Float)?;
        let direction = empty(&[v.len() as i64], Kind::Double, self.device)?;
        let task = launch::DirectionalTarget {
            direction: direction.data_ptr().cast(),
            out: samples.data_ptr().cast(),
            labels: labels.data_ptr().cast(),
            offset: data.offset(),
            sigma: data.sigma(),
            samples: count as u64,
        };
        // Safety: the tensors were checked, the direction is as long as `v`. Whatever libtorch puts in its place comes later in
        // the stream.
        unsafe { self.launch(&launch::directional(StreamKey::of(&data.stream()), v, &task)) }
    }

    /// # Safety
    /// The caller must uphold what [`Card::launch`] requires.
    unsafe fn launch(&self, launches: &[Launch]) -> Result<(), GeneratorError> {
        // Safety: the caller's.
        unsafe { self.card.launch(launches) }
    }

    /// Returns the memory of `[count, length]` numbers of f32.
    fn rows(
        &self,
        what: &'static str,
        tensor: &Tensor,
        count: u64,
        length: usize,
    ) -> Result<DeviceRows, GeneratorError> {
        let found = (tensor.kind(), tensor.device(), tensor.size());
        same(what, found, (Kind::Float, self.device, vec![count as i64, length as i64]))?;
        let strides = tensor.stride();
        let apart = strides[0] >= length as i64 || count < 2;
        if length > 1 && strides[1] != 1 || !apart {
            let expected = "rows of neighbouring numbers that do not overlap".to_owned();
            return Err(GeneratorError::Tensor { what, found: format!("strides {strides:?}"), expected });
        }
        Ok(DeviceRows { out: tensor.data_ptr().cast(), count, stride: strides[0] as u64 })
    }

    /// Compares a few thousand numbers of each kind with the host's, bit for bit.
    fn prove(&self) -> Result<(), GeneratorError> {
        let network = sample()?;
        let streams = || ((1 << 32) - 1..(1 << 32) + 2).map(|member| Stream::new(12, &["proof"], member));
        let streams_on_device = streams().collect::<Vec<_>>();
        let length = network.parameter_count();
        let drawn = empty(&[streams_on_device.len() as i64, length as i64], Kind::Float, self.device)?;
        self.fill_parameters(&network, &streams_on_device, &drawn)?;
        let drawn = numbers(&drawn)?;
        let mut own = vec![0.0; length];
        for (stream, drawn) in streams().zip(drawn.chunks_exact(length)) {
            network.draw(stream, &mut own);
            differs("parameters", drawn, &own)?;
        }
        // A direction that is neither whole groups of noise nor whole chains of a product.
        let dimension = 1_030;
        let v = vec![(1.0 / (dimension as f64).sqrt()) as f32; dimension];
        let run = 1 << 33;
        let key =
            RunKey { seed: 12, experiment: "directional", architecture: "proof".into(), variant: "1".into(), run };
        let data = DirectionalSamples::new(&key, "train", &v, 0.5, 3.0, 9);
        let samples = empty(&[9, dimension as i64], Kind::Float, self.device)?;
        let labels = empty(&[9], Kind::Int64, self.device)?;
        self.fill_directional(&data, &samples, &labels)?;
        let expected = directional(&key, "train", &v, 0.5, 3.0, 9);
        differs("samples of D(v)", &numbers(&samples)?, &expected.inputs)?;
        let copied = labels.f_to(Device::Cpu).and_then(|labels| labels.f_to_kind(Kind::Float));
        let labels = numbers(&copied.map_err(at("fetching labels from the GPU"))?)?;
        let expected: Vec<f32> = expected.labels.iter().map(|&label| f32::from(label)).collect();
        differs("labels of D(v)", &labels, &expected)
    }
}

/// A network of every kind of parameter, more than 4,096 uniforms and as many normals.
fn sample() -> Result<Network, NetworkError> {
    Network::build(Shape { channels: 3, height: 5, width: 5 }, |net| {
        let mut normal = Conv2d::new("normal", 153, 3);
        normal.init = ConvInit::FanOut;
        net.conv(normal).batch_norm("constant").flatten().linear("uniform", 3);
    })
}

fn empty(shape: &[i64], kind: Kind, device: Device) -> Result<Tensor, GeneratorError> {
    Tensor::f_empty(shape, (kind, device)).map_err(at("making room on the GPU"))
}

/// Waits for a tensor's numbers, and returns them.
fn numbers(tensor: &Tensor) -> Result<Vec<f32>, GeneratorError> {
    let copied = tensor.f_to(Device::Cpu).and_then(|t| t.f_reshape([-1]));
    copied.and_then(Vec::<f32>::try_from).map_err(at("fetching numbers from the GPU"))
}

/// Fails at the first number whose bits are not those that are expected.
fn differs(what: &'static str, found: &[f32], expected: &[f32]) -> Result<(), GeneratorError> {
    let pairs = found.iter().zip(expected);
    match pairs.clone().position(|(found, expected)| found.to_bits() != expected.to_bits()) {
        Some(place) => Err(GeneratorError::Differs { what, place, found: found[place], expected: expected[place] }),
        None => same(what, found.len(), expected.len()),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &'static str, found: T, expected: T) -> Result<(), GeneratorError> {
    if found == expected {
        return Ok(());
    }
    let found = format!("{found:?}");
    let expected = format!("{expected:?}");
    Err(GeneratorError::Tensor { what, found, expected })
}

/// Returns an error's text without the trace that libtorch appends.
fn first_line(error: &TchError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

fn at(task: &'static str) -> impl FnOnce(TchError) -> GeneratorError {
    move |source| GeneratorError::Torch { task, source }
}
