//! Seconds per LeNet on one core: what to run when tuning the kernels.
//!
//! `cargo run --release -p nadgrid-kernels --example lenet_rate [repeats]`: minima over repeats, by part and
//! instruction set. Run it on an idle machine.

use nadgrid_core::architecture::{Shape, find};
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

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let repeats = std::env::args().nth(1).map_or(Ok(30), |n| n.parse())?;
    let input = Shape { channels: 1, height: 32, width: 32 };
    let d = input.len();
    let point = evaluation_point(1, 0, d);
    for name in ["lenet", "logreg"] {
        let network = find(name).ok_or("no such architecture")?.network(input, 1)?;
        let mut parameters = vec![0.0; network.parameter_count()];
        println!("{name}");
        println!("  draw        {:8.4} ms", least(repeats, || network.initialise(1, name, 3, &mut parameters)));
        let mut gradient = vec![0.0; d];
        for set in InstructionSet::available() {
            let mut plan = CentralDifference::on(set, &network)?;
            let mut logit = [0.0];
            let forward = least(repeats, || plan.forward(&parameters, &point, &mut logit));
            let runs = if set.name() == "portable" { 2 } else { repeats };
            let whole = least(runs, || plan.gradient(&parameters, &point, 100.0, &mut gradient).unwrap_or_default());
            println!("  {:9}   {whole:8.4} ms gradient, {forward:.4} ms of it weights and base", set.name());
        }
        let mut plan = CentralDifference::new(&network)?;
        let block =
            least(repeats.div_ceil(4), || drop(black_box(block_moments(&mut plan, 1, name, 0..32, &point, 100.0))));
        println!("  block of 32 {:8.4} ms a network", block / 32.0);
    }
    let mut gradients = vec![0.0; 32 * d];
    Stream::new(2, &["gradients"], 0).fill_normal(&mut gradients);
    for set in InstructionSet::available() {
        let time = least(repeats, || drop(black_box(moments_on(set, &gradients, d))));
        println!("moments of 32 rows, {}: {time:.3} ms", set.name());
    }
    let (left, right) = (Moments::of_rows(&gradients, d), Moments::of_rows(&gradients, d));
    let mut held = Some(left);
    let merge = least(repeats, || held = held.take().map(|left| left.merge(&right)));
    println!("merge of two partials: {merge:.3} ms");
    Ok(())
}
