//! The launches of the kernels: arguments in the layout of kernel.cu, and how many blocks of threads.
//!
//! Everything that a launch needs travels in its arguments, so that no table lies on the device and the host never waits.
//! Deliberately absent: devices. The tests run the same launches on the host.

use nadgrid_core::architecture::{Init, Parameter};
use nadgrid_core::random::{Stream, StreamKey};
use nadgrid_kernels::data::words_of_sample;

/// The number of threads of a block.
pub(super) const THREADS: u32 = 128;
/// Words of a tile, which is a block's work.
pub(super) const TILE: u64 = 2016;
/// Segments that a launch's arguments have room for.
pub(super) const SEGMENTS: usize = 64;
/// Samples that a block of threads places.
pub(super) const SAMPLES: u64 = 8;
/// Numbers that a launch's arguments have room for.
pub(super) const NUMBERS: usize = 480;
/// Rows of one launch: CUDA's limit of a grid's second dimension.
const ROWS: u64 = 65_535;

/// The distributions of a segment's numbers, as kernel.cu numbers them.
pub(super) const UNIFORM: u32 = 0;
pub(super) const NORMAL: u32 = 1;
pub(super) const CONSTANT: u32 = 2;

/// Neighbouring numbers that are drawn alike.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Segment {
    word: u64,
    place: u64,
    count: u64,
    first_tile: u32,
    kind: u32,
    value: f32,
    unused: u32,
}

/// The arguments of the kernel that initialises rows of parameters.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Initialise {
    key: [u32; 8],
    first: u64,
    out: *mut f32,
    stride: u64,
    segments: u32,
    unused: u32,
    segment: [Segment; SEGMENTS],
}

/// The arguments of the kernel that copies numbers from the host.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Copied {
    out: *mut f64,
    count: u32,
    unused: u32,
    number: [f64; NUMBERS],
}

/// The noise of D(v).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Noise {
    key: [u32; 8],
    stream: u64,
    out: *mut f32,
    samples: u64,
    dimension: u32,
    padded: u32,
}

/// The arguments that make samples of the noise.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct PlacementArguments {
    direction: *const f64,
    out: *mut f32,
    labels: *mut i64,
    offset: f64,
    sigma: f64,
    samples: u64,
    positive: u64,
    dimension: u32,
    unused: u32,
}

/// A kernel's arguments.
#[derive(Clone, Debug)]
pub(super) enum KernelArguments {
    /// The arguments of `nadgrid_initialise`.
    Initialise(Box<Initialise>),
    /// The arguments of `nadgrid_copy`.
    Copy(Box<Copied>),
    /// The arguments of `nadgrid_noise`.
    Noise(Noise),
    /// The arguments of `nadgrid_place`.
    Place(PlacementArguments),
}

/// One launch of a kernel.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    /// The kernel and its arguments.
    pub(super) task: KernelArguments,
    /// Blocks of threads in a row.
    pub(super) blocks: u32,
    /// The number of such rows.
    pub(super) rows: u32,
}

/// Rows of numbers in memory of the device.
#[derive(Clone, Copy, Debug)]
pub(super) struct DeviceRows {
    /// The first number.
    pub(super) out: *mut f32,
    /// The number of rows.
    pub(super) count: u64,
    /// Numbers from one row to the next.
    pub(super) stride: u64,
}

impl DeviceRows {
    /// Returns the first number of a row.
    fn row(self, row: u64) -> *mut f32 {
        self.out.wrapping_add((row * self.stride) as usize)
    }
}

/// Draws `parameters` into each row, from where its stream is. Neighbours that differ in their stream's index by one are launched
/// together, so that members of one architecture are one launch, or a few.
pub(super) fn members(parameters: &[Parameter], streams: &[Stream], rows: DeviceRows) -> Vec<Launch> {
    let goes_on = |a: &Stream, b: &Stream| {
        let from = StreamKey::of(a);
        let to = StreamKey::of(b);
        from.key == to.key && from.index.wrapping_add(1) == to.index && a.position() == b.position()
    };
    let mut launches = Vec::new();
    let mut first = 0;
    for run in streams.chunk_by(goes_on) {
        let count = run.len() as u64;
        let own = DeviceRows { out: rows.row(first), count, ..rows };
        launches.extend(neighbours(parameters, StreamKey::of(&run[0]), run[0].position(), own));
        first += count;
    }
    launches
}

/// Draws row i from the stream whose key is `from`'s and whose index is i greater, from word `word` on.
fn neighbours(parameters: &[Parameter], from: StreamKey, word: u64, rows: DeviceRows) -> Vec<Launch> {
    let segments = segments(parameters, word);
    let mut launches = Vec::new();
    for segments in segments.chunks(SEGMENTS) {
        let mut table = [Segment::default(); SEGMENTS];
        let mut blocks = 0;
        for (to, segment) in table.iter_mut().zip(segments) {
            *to = Segment { first_tile: blocks, ..*segment };
            blocks += tiles(segment);
        }
        for first in (0..rows.count).step_by(ROWS as usize) {
            let task = Initialise {
                key: from.key,
                first: from.index.wrapping_add(first),
                out: rows.row(first),
                stride: rows.stride,
                segments: segments.len() as u32,
                unused: 0,
                segment: table,
            };
            let rows = (rows.count - first).min(ROWS) as u32;
            launches.push(Launch { task: KernelArguments::Initialise(Box::new(task)), blocks, rows });
        }
    }
    launches
}

/// Returns the segments of all tensors, in the order in which they are drawn.
fn segments(parameters: &[Parameter], mut word: u64) -> Vec<Segment> {
    let mut segments = Vec::with_capacity(parameters.len());
    for parameter in parameters.iter().filter(|parameter| !parameter.range.is_empty()) {
        let place = parameter.range.start as u64;
        let count = parameter.range.len() as u64;
        let (kind, value, words) = match parameter.init {
            Init::Uniform { bound } => (UNIFORM, bound, count),
            // Two normals take two numbers of 53 bits, each from two words.
            Init::Normal { deviation } => (NORMAL, deviation, 4 * count.div_ceil(2)),
            Init::Constant { value } => (CONSTANT, value, 0),
        };
        segments.push(Segment { word, place, count, first_tile: 0, kind, value, unused: 0 });
        word += words;
    }
    segments
}

fn tiles(segment: &Segment) -> u32 {
    let numbers = if segment.kind == NORMAL { TILE / 2 } else { TILE };
    segment.count.div_ceil(numbers) as u32
}

/// Samples of D(v) in memory of the device.
#[derive(Clone, Copy, Debug)]
pub(super) struct DirectionalTarget {
    /// Room for as many numbers as the direction has.
    pub(super) direction: *mut f64,
    /// `[samples, dimension]`.
    pub(super) out: *mut f32,
    /// `[samples]`.
    pub(super) labels: *mut i64,
    /// The distance of either class from the origin.
    pub(super) offset: f64,
    /// The noise's standard deviation.
    pub(super) sigma: f64,
    /// The number of samples.
    pub(super) samples: u64,
}

/// Draws the noise and makes samples of it, along the direction `v`, which is of norm 1. Empty where there is nothing to draw.
pub(super) fn directional(from: StreamKey, v: &[f64], data: &DirectionalTarget) -> Vec<Launch> {
    let DirectionalTarget { direction, out, labels, offset, sigma, samples } = *data;
    let dimension = v.len() as u32;
    if samples == 0 || dimension == 0 {
        return Vec::new();
    }
    let padded = words_of_sample(dimension as usize) as u32;
    let noise = Noise { key: from.key, stream: from.index, out, samples, dimension, padded };
    let positive = samples.div_ceil(2);
    let place = PlacementArguments { direction, out, labels, offset, sigma, samples, positive, dimension, unused: 0 };
    let tiles = (samples * u64::from(padded)).div_ceil(TILE) as u32;
    let mut launches: Vec<Launch> =
        v.chunks(NUMBERS).enumerate().map(|(at, part)| copied(direction, at, part)).collect();
    launches.push(Launch { task: KernelArguments::Noise(noise), blocks: tiles, rows: 1 });
    launches.push(Launch { task: KernelArguments::Place(place), blocks: samples.div_ceil(SAMPLES) as u32, rows: 1 });
    launches
}

/// Returns the launch that copies these numbers to the device.
fn copied(to: *mut f64, at: usize, part: &[f64]) -> Launch {
    let mut number = [0.0; NUMBERS];
    number[..part.len()].copy_from_slice(part);
    // Within the direction, whose part it is.
    let out = to.wrapping_add(at * NUMBERS);
    let task = Copied { out, count: part.len() as u32, unused: 0, number };
    Launch { task: KernelArguments::Copy(Box::new(task)), blocks: 1, rows: 1 }
}
