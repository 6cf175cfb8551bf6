//! The kernels against core's and the kernels crate's own numbers, bit for bit: on the host always, and on a GPU where
//! NADGRID_TEST_DEVICE=cuda says that there is one.

use super::launch::{self, Copied, DeviceRows, Initialise, KernelArguments, Noise, PlacementArguments, Segment};
use super::*;
use nadgrid_core::architecture;
use std::f64::consts::TAU;
use std::ffi::c_void;
use std::ops::Range;
use std::sync::OnceLock;

// Safety: the signatures are those in host.cpp, which is compiled with this crate.
unsafe extern "C" {
    fn nadgrid_generator_initialise(task: *const c_void, blocks: u32, rows: u32);
    fn nadgrid_generator_copy(task: *const c_void);
    fn nadgrid_generator_noise(task: *const c_void, blocks: u32);
    fn nadgrid_generator_place(task: *const c_void, blocks: u32);
    fn nadgrid_generator_normals(words: *const u32, out: *mut f64);
    fn nadgrid_generator_layout(out: *mut u64);
}

/// Where the kernels run.
enum Runner {
    Host,
    Card(&'static Generator),
}

/// The host, and the GPU where there is one to be tested. All tests share its generator, which takes a second to compile.
fn places() -> Vec<Runner> {
    static CARD: OnceLock<Option<Generator>> = OnceLock::new();
    let card = CARD.get_or_init(|| {
        let wanted = std::env::var("NADGRID_TEST_DEVICE").is_ok_and(|device| device == "cuda");
        wanted.then(|| {
            crate::device::prepare(crate::device::DeviceChoice::Cuda(0), None).unwrap();
            Generator::open(Device::Cuda(0)).unwrap().unwrap()
        })
    });
    std::iter::once(Runner::Host).chain(card.as_ref().map(Runner::Card)).collect()
}

/// Runs the launches on the host.
fn run(launches: &[Launch]) {
    for Launch { task, blocks, rows } in launches {
        // Safety: the layouts are the kernels', as a test below compares, and the pointers are to vectors of the tests.
        unsafe {
            match task {
                KernelArguments::Initialise(task) => {
                    nadgrid_generator_initialise(std::ptr::from_ref(&**task).cast(), *blocks, *rows);
                }
                KernelArguments::Copy(task) => nadgrid_generator_copy(std::ptr::from_ref(&**task).cast()),
                KernelArguments::Noise(task) => nadgrid_generator_noise(std::ptr::from_ref(task).cast(), *blocks),
                KernelArguments::Place(task) => nadgrid_generator_place(std::ptr::from_ref(task).cast(), *blocks),
            }
        }
    }
}

impl Runner {
    /// Members one after the other, `stride` numbers apart. What lies between is left as it was.
    fn members(&self, network: &Network, streams: &[Stream], stride: usize) -> Vec<f32> {
        let count = streams.len();
        let length = network.parameter_count();
        let (before, out) = match self {
            Self::Host => {
                let before = vec![7.0; count * stride];
                let mut out = before.clone();
                let rows = DeviceRows { out: out.as_mut_ptr(), count: count as u64, stride: stride as u64 };
                run(&launch::members(network.parameters(), streams, rows));
                (before, out)
            }
            Self::Card(generator) => {
                let out = Tensor::full([count as i64, stride as i64], 7.0, (Kind::Float, generator.device));
                let before = numbers(&out).unwrap();
                generator.fill_parameters(network, streams, &out.narrow(1, 0, length as i64)).unwrap();
                (before, numbers(&out).unwrap())
            }
        };
        for (before, after) in before.chunks_exact(stride).zip(out.chunks_exact(stride)) {
            assert_eq!(before[length..], after[length..], "written behind a row");
        }
        out
    }

    fn samples(&self, data: &DirectionalSamples) -> (Vec<f32>, Vec<i64>) {
        let count = data.len();
        let dimension = data.dimension();
        match self {
            Self::Host => {
                let mut out = vec![7.0; count * dimension];
                let mut labels = vec![7; count];
                let mut direction = vec![7.0; dimension];
                let task = launch::DirectionalTarget {
                    direction: direction.as_mut_ptr(),
                    out: out.as_mut_ptr(),
                    labels: labels.as_mut_ptr(),
                    offset: data.offset(),
                    sigma: data.sigma(),
                    samples: count as u64,
                };
                run(&launch::directional(StreamKey::of(&data.stream()), data.direction(), &task));
                (out, labels)
            }
            Self::Card(generator) => {
                let samples = Tensor::full([count as i64, dimension as i64], 7.0, (Kind::Float, generator.device));
                let labels = Tensor::full([count as i64], 7, (Kind::Int64, generator.device));
                generator.fill_directional(data, &samples, &labels).unwrap();
                (numbers(&samples).unwrap(), Vec::try_from(labels).unwrap())
            }
        }
    }
}

fn network(name: &str) -> Network {
    let input = Shape { channels: 1, height: 32, width: 32 };
    architecture::find(name).unwrap().network(input, 1).unwrap()
}

/// Members of a network against [`Network::draw`], rows 64-aligned.
fn drawn_as_on_the_host(name: &str, network: &Network, streams: &dyn Fn() -> Vec<Stream>) {
    let length = network.parameter_count();
    let stride = network.parameter_count().next_multiple_of(64);
    let mut expected = vec![0.0; length];
    for place in places() {
        let drawn = place.members(network, &streams(), stride);
        for (member, (stream, row)) in streams().into_iter().zip(drawn.chunks_exact(stride)).enumerate() {
            network.draw(stream, &mut expected);
            differs("parameters", &row[..length], &expected).unwrap_or_else(|e| panic!("{name}, row {member}: {e}"));
        }
    }
}

fn members_are_the_hosts(name: &str, network: &Network, members: &Range<u64>) {
    let streams = || members.clone().map(|member| Stream::new(5, &["weights", name], member)).collect();
    drawn_as_on_the_host(name, network, &streams);
}

#[test]
fn the_layouts_are_the_kernels() {
    let mut kernels = [0; 14];
    // Safety: host.cpp writes as many numbers.
    unsafe { nadgrid_generator_layout(kernels.as_mut_ptr()) };
    let sizes = [size_of::<Segment>(), size_of::<Initialise>(), size_of::<Copied>(), size_of::<Noise>()];
    let [segment, initialise, copied, noise] = sizes.map(|size| size as u64);
    let group = nadgrid_kernels::data::words_of_sample(1) as u64;
    let place = size_of::<PlacementArguments>() as u64;
    let counts = [u64::from(launch::THREADS), launch::TILE, launch::SEGMENTS as u64, launch::SAMPLES, group];
    let kinds = [launch::UNIFORM, launch::NORMAL, launch::CONSTANT].map(u64::from);
    let ours = [&counts[..], &[launch::NUMBERS as u64], &kinds, &[segment, initialise, copied, noise, place]].concat();
    assert_eq!(kernels[..], ours);
    // What every card takes as a kernel's arguments.
    assert!(initialise.max(copied) <= 4_096);
}

/// 11,168,193 numbers: uniforms, and the constants of batch norms.
#[test]
fn resnet18_is_drawn_as_on_the_host() {
    members_are_the_hosts("resnet18", &network("resnet18"), &(0..1));
}

/// Normals by logarithm and sincos of f64 (the convolutions), then uniforms.
#[test]
fn vgg11_is_drawn_as_on_the_host() {
    members_are_the_hosts("vgg11_bn", &network("vgg11_bn"), &(3..4));
}

/// More tensors than a launch has room for.
#[test]
fn densenet121_is_drawn_as_on_the_host() {
    assert!(network("densenet121").parameters().len() > launch::SEGMENTS);
    members_are_the_hosts("densenet121", &network("densenet121"), &(1..2));
}

/// Members whose number needs 64 bits, and ones that a launch takes in several rows.
#[test]
fn lenets_are_drawn_as_on_the_host() {
    members_are_the_hosts("lenet", &network("lenet"), &((1 << 32) - 2..(1 << 32) + 3));
    members_are_the_hosts("logreg", &network("logreg"), &(65_530..65_540));
}

#[test]
fn more_members_than_a_grid_has_rows_are_several_launches() {
    let network = Network::build(Shape { channels: 1, height: 1, width: 1 }, |net| {
        net.linear("a", 1);
    })
    .unwrap();
    members_are_the_hosts("small", &network, &(9..70_009));
}

/// Normals that begin at any word of a block and tensors of odd length, which no architecture has: three normals take eight words.
#[test]
fn tensors_may_begin_anywhere_in_a_stream() {
    for features in 1..18 {
        let network = Network::build(Shape { channels: 3, height: 1, width: 1 }, |net| {
            let mut normal = Conv2d::new("b", 701, 1);
            normal.init = ConvInit::FanOut;
            net.linear("a", features).conv(normal.clone()).batch_norm("c");
            net.conv(Conv2d { name: "d".into(), channels: 1, ..normal }).linear("e", 5_000);
        })
        .unwrap();
        members_are_the_hosts("odd", &network, &(0..2));
    }
}

/// Runs of a variant beside those of another, as a block of training has them, and streams of which something was drawn before.
#[test]
fn members_have_streams_of_their_own() {
    let run = |variant: &str, run, drawn: usize| {
        let architecture = "a".to_owned();
        let variant = variant.to_owned();
        let key = RunKey { seed: 1, experiment: "flipping", architecture, variant, run };
        let mut stream = key.stream("weights");
        stream.fill_uniform(1.0, &mut vec![0.0; drawn]);
        stream
    };
    let streams = || {
        vec![
            run("b", 3, 0),
            run("b", 4, 0),
            run("c", 5, 0),
            run("c", 6, 77),
            run("c", 7, 77),
            run("c", 7, 0),
            run("c", 9, 64),
        ]
    };
    let network = sample().unwrap();
    let rows = DeviceRows { out: std::ptr::null_mut(), count: 7, stride: 1 };
    assert_eq!(launch::members(network.parameters(), &streams(), rows).len(), 5);
    drawn_as_on_the_host("runs", &network, &streams);
}

/// LeNet's 10,240,000 numbers, the three channels of CIFAR-10, and directions of lengths that fill neither groups of noise nor
/// chains of a product; counts that fill no block of threads.
#[test]
fn samples_of_a_direction_are_the_hosts() {
    for (dimension, count) in [(1024, 10_000), (3072, 33), (1, 5), (15, 17), (33, 8), (105, 1001), (481, 2), (7, 0)] {
        let mut v = vec![0.0; dimension];
        Stream::new(2, &["direction"], dimension as u64).fill_normal(&mut v);
        let norm = v.iter().map(|&x: &f32| f64::from(x).powi(2)).sum::<f64>().sqrt();
        v.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
        let variant = format!("nad {dimension}");
        let key = RunKey { seed: 8, experiment: "directional", architecture: "lenet".into(), variant, run: 1 << 40 };
        let data = DirectionalSamples::new(&key, "test", &v, 0.5, 3.0, count);
        let expected = directional(&key, "test", &v, 0.5, 3.0, count);
        let of_classes: Vec<i64> = expected.labels.iter().map(|&label| i64::from(label)).collect();
        for place in places() {
            let (samples, labels) = place.samples(&data);
            differs("samples", &samples, &expected.inputs).unwrap_or_else(|e| panic!("{dimension} x {count}: {e}"));
            assert_eq!(labels, of_classes);
        }
    }
}

/// Angles at and beside every multiple of a quarter turn, where libm reduces them in steps, tiny ones, and the ends of the
/// logarithm's range: what random words hardly ever are.
#[test]
fn normals_of_rare_words_are_libms() {
    const ONE: u64 = 1 << 53;
    let near = |centre: u64| (0..40).flat_map(move |by| [centre.saturating_sub(by), centre + by]);
    let eighths = (0..=8).flat_map(|eighth| near(eighth * (ONE / 8)));
    let powers = (0..53).flat_map(|power| near(1 << power));
    let units: Vec<u64> = eighths.chain(powers).filter(|&unit| unit < ONE).collect();
    for (place, &angle) in units.iter().enumerate() {
        for length in [units[units.len() - 1 - place], 0, 1, ONE - 1, ONE / 3] {
            let words = [length, angle].map(|unit| unit << 11 | 0x2a5).map(|word| [word as u32, (word >> 32) as u32]);
            let mut found = [0.0; 2];
            // Safety: four words are read and two numbers written.
            unsafe { nadgrid_generator_normals(words.as_flattened().as_ptr(), found.as_mut_ptr()) };
            let unit = |of: u64| of as f64 * (1.0 / ONE as f64);
            let radius = libm::sqrt(-2.0 * libm::log(1.0 - unit(length)));
            let (sin, cos) = libm::sincos(TAU * unit(angle));
            let expected = [radius * cos, radius * sin];
            assert_eq!(found.map(f64::to_bits), expected.map(f64::to_bits), "{length} {angle}: {found:?} {expected:?}");
        }
    }
}

#[test]
fn what_is_not_the_hosts_is_refused() {
    assert!(differs("x", &[0.0, 1.0], &[0.0, 1.0]).is_ok());
    let said = differs("x", &[0.0, 1.0], &[0.0, 1.000_000_1]).unwrap_err().to_string();
    assert_eq!(said, "x: number 1 is 1 from the GPU and 1.0000001 from the host");
    assert!(differs("x", &[0.0], &[-0.0]).is_err(), "bits are compared, not numbers");
    assert!(differs("x", &[0.0], &[0.0, 0.0]).is_err());
}

#[test]
fn a_cpu_has_no_generator_and_an_absent_gpu_is_told() {
    assert!(Generator::open(Device::Cpu).unwrap().is_none());
    assert!(Generator::open_or_warn(Device::Cpu).is_none());
    let said = Generator::open(Device::Cuda(99)).err().unwrap().to_string();
    assert!(said.starts_with("making room on the GPU: "), "{said}");
    assert!(Generator::open_or_warn(Device::Cuda(99)).is_none());
}
