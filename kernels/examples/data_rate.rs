//! Measures how fast the data of training runs are made on one core, for tuning them.
//!
//! `cargo run --release -p nadgrid-kernels --example data_rate [repeats]`: the best of the repeats, by instruction set. Run it on
//! an idle machine.

use nadgrid_core::architecture::Shape;
use nadgrid_core::dataset::Dataset;
use nadgrid_core::directions::dft_cosine;
use nadgrid_core::random::Stream;
use nadgrid_core::training::RunKey;
use nadgrid_kernels::InstructionSet;
use nadgrid_kernels::data::{Flip, complete, directional_on};
use std::hint::black_box;
use std::time::Instant;

/// The shortest of `repeats` runs, in seconds.
fn least(repeats: usize, mut run: impl FnMut()) -> f64 {
    let times = (0..repeats).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let repeats = std::env::args().nth(1).map_or(Ok(5), |n| n.parse())?;
    let shape = Shape { channels: 1, height: 32, width: 32 };
    let samples = 10_000;
    let d = shape.len();
    let architecture = "lenet".into();
    let variant = "dft 2 4".into();
    let key = RunKey { seed: 1, experiment: "directional", architecture, variant, run: 0 };
    let v = dft_cosine(shape, 2, 4);
    let mut words = vec![0; samples * d];
    let time = least(repeats, || key.stream("train").fill_words(black_box(&mut words)));
    println!("raw words: {:.0} million a second", words.len() as f64 / time / 1e6);
    for set in InstructionSet::available() {
        let time = least(repeats, || drop(black_box(directional_on(set, &key, "train", &v, 1.0, 3.0, samples))));
        let rate = (samples * d) as f64 / time / 1e6;
        println!("D(v), {samples} samples, {}: {:.1} ms, {rate:.0} million numbers a second", set.name(), time * 1e3);
    }

    let mut pixels = vec![0.0; d * d];
    pixels.iter_mut().step_by(d + 1).for_each(|x| *x = 1.0);
    let basis = complete(&pixels, d)?;
    let time = least(repeats, || drop(black_box(complete(&pixels[..d * (d - 1)], d))));
    println!("completing a basis: {:.0} ms", time * 1e3);
    let images = 600;
    let mut inputs = vec![0.0; images * 3 * d];
    Stream::new(2, &["images"], 0).fill_normal(&mut inputs);
    let mut data = Dataset { dimension: 3 * d, inputs, labels: vec![0; images] };
    for set in InstructionSet::available().into_iter().filter(|set| set.name() != "portable") {
        let matrix = least(repeats, || drop(black_box(Flip::on(set, &basis))));
        let flip = Flip::on(set, &basis);
        let time = least(repeats, || flip.apply(&mut data).unwrap_or_default());
        let rate = (images * 3 * d * d) as f64 / time / 1e9;
        println!("flip, {}: {:.0} ms for the matrix, {rate:.1} GMAC/s", set.name(), matrix * 1e3);
    }
    Ok(())
}
