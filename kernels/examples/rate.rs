//! Seconds per network on one core: what to run when tuning the kernels.
//!
//! `cargo run --release -p nadgrid-kernels --example rate [architecture] [repeats]`: minima over repeats, by part and
//! instruction set; the multiply-adds are those of the windows that pixels reach, as a dense evaluation counts them.
//! Run it on an idle machine; two at once for two lanes.

use nadgrid_core::architecture::{Layer, Network, Shape, Window, find};
use nadgrid_core::moments::Moments;
use nadgrid_core::random::{Stream, evaluation_point};
use nadgrid_kernels::{CentralDifference, InstructionSet, block_moments, moments_on};
use std::hint::black_box;
use std::time::Instant;

/// The shortest of `repeats` runs, in milliseconds.
fn least(repeats: usize, mut run: impl FnMut()) -> f64 {
    let times = (0..repeats).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64() * 1e3
    });
    times.fold(f64::INFINITY, f64::min)
}

/// Multiply-adds of a gradient: the base, and both signs' windows for every pixel.
fn multiply_adds(network: &Network) -> f64 {
    let input = network.input();
    let pixels = (0..input.height).flat_map(|row| (0..input.width).map(move |column| Window::pixel(row, column)));
    let touched = pixels.map(|pixel| {
        let windows = network.windows(pixel);
        let steps = network.steps().iter().zip(&windows[1..]);
        let products = steps.filter(|(step, _)| matches!(step.layer, Layer::Conv2d(_) | Layer::Linear { .. }));
        let weights = products.filter_map(|(step, window)| Some((step.weight?, window.area())));
        weights.map(|(weight, area)| (network.parameters()[weight].range.len() * area) as f64).sum::<f64>()
    });
    network.multiply_adds() as f64 + 2.0 * input.channels as f64 * touched.sum::<f64>()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).unwrap_or("lenet".into());
    let repeats = std::env::args().nth(2).map_or(Ok(3), |n| n.parse())?;
    let input = Shape { channels: 1, height: 32, width: 32 };
    let d = input.len();
    let point = evaluation_point(1, 0, d);
    let network = find(&name).ok_or("no such architecture")?.network(input, 1)?;
    let work = multiply_adds(&network);
    let mut parameters = vec![0.0; network.parameter_count()];
    println!("{name}: {:.3} GMAC a gradient", work / 1e9);
    println!("  draw        {:10.4} ms", least(repeats, || network.initialise(1, &name, 3, &mut parameters)));
    let mut gradient = vec![0.0; d];
    for set in InstructionSet::available() {
        // Without fused multiply-adds in hardware, a large network takes an hour.
        if set.name() == "portable" && work > 1e9 {
            continue;
        }
        let mut plan = CentralDifference::on(set, &network)?;
        let mut logit = [0.0];
        let forward = least(repeats, || plan.forward(&parameters, &point, &mut logit));
        let whole = least(repeats, || plan.gradient(&parameters, &point, 100.0, &mut gradient).unwrap_or_default());
        let rate = work / whole / 1e6;
        println!(
            "  {:9}   {whole:10.4} ms gradient, {rate:.1} GMAC/s; {forward:.4} ms of it weights and base",
            set.name()
        );
    }
    if work < 1e9 {
        let mut plan = CentralDifference::new(&network)?;
        let draw = |member, out: &mut [f32]| network.initialise(1, &name, member, out);
        let points = [point.clone()];
        let mut block = || {
            let gradient = |p: &[f32], x: &[f32], out: &mut [f32]| plan.gradient(p, x, 100.0, out);
            drop(black_box(block_moments(&network, 0..32, &points, draw, gradient)));
        };
        println!("  block of 32 {:10.4} ms a network", least(repeats.div_ceil(4), &mut block) / 32.0);
    }
    moments(repeats, d);
    Ok(())
}

/// Measures the moments of a block's gradients, and the merge of two partials.
fn moments(repeats: usize, d: usize) {
    let mut gradients = vec![0.0; 32 * d];
    Stream::new(2, &["gradients"], 0).fill_normal(&mut gradients);
    for set in InstructionSet::available() {
        let time = least(repeats, || drop(black_box(moments_on(set, &gradients, d))));
        println!("moments of 32 rows, {}: {time:.3} ms", set.name());
    }
    let left = Moments::of_rows(&gradients, d);
    let right = Moments::of_rows(&gradients, d);
    let mut held = Some(left);
    let merge = least(repeats, || held = held.take().map(|left| left.merge(&right)));
    println!("merge of two partials: {merge:.3} ms");
}
