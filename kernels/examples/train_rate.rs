//! Seconds per training step on one core: what to run when tuning the trainer.
//!
//! `cargo run --release -p nadgrid-kernels --example train_rate [architecture] [samples] [batch] [steps] [channels] [classes]`,
//! on samples of N(0, 1). Run it on an idle machine.

use nadgrid_core::architecture::{Shape, find};
use nadgrid_core::dataset::Dataset;
use nadgrid_core::random::Stream;
use nadgrid_core::training::{Recipe, RunKey};
use nadgrid_kernels::Trainer;
use std::time::Instant;

/// Steps of the reference's run: 20 epochs of 10,000 samples in batches of 128.
const RUN: f64 = 1580.0;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or("lenet".into());
    let mut number = |otherwise: usize| arguments.next().map_or(Ok(otherwise), |n| n.parse());
    let samples = number(10_000)?;
    let batch = number(128)?;
    let steps = number(79)?;
    let input = Shape { channels: number(1)?, height: 32, width: 32 };
    let network = find(&name).ok_or("no such architecture")?.network(input, number(2)?)?;

    let mut data = Dataset { dimension: input.len(), inputs: vec![0.0; samples * input.len()], labels: Vec::new() };
    Stream::new(1, &["train_rate"], 0).fill_normal(&mut data.inputs);
    data.labels = (0..samples).map(|sample| (sample % network.output().len()) as u8).collect();
    let recipe = Recipe {
        epochs: steps.div_ceil(samples.div_ceil(batch)) as u32,
        batch_size: batch as u32,
        learning_rate: 0.1,
        momentum: 0.0,
        weight_decay: 0.0,
        gradient_clip: 0.5,
    };
    let key = RunKey { seed: 1, experiment: "directional", architecture: name.clone(), variant: "rate".into(), run: 0 };

    let mut trainer = Trainer::new(&network)?;
    let mut times = Vec::with_capacity(steps);
    let mut before = Instant::now();
    trainer.train(&key, &recipe, &data, &mut || {
        times.push(before.elapsed().as_secs_f64());
        before = Instant::now();
        times.len() < steps
    });
    let whole: f64 = times.iter().sum::<f64>() / times.len() as f64;
    // Middle steps tell more where others use the machine.
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    // A gradient costs two forward passes more; that of the input is not needed and not subtracted.
    let products = 3.0 * network.multiply_adds() as f64 * batch as f64;
    println!("{name}, batches of {batch}: {} MB", Trainer::bytes(&network, batch) / 1_000_000);
    for (what, seconds) in [("mean", whole), ("median", median), ("least", times[0])] {
        let rate = products / seconds / 1e9;
        println!(
            "  {what:6} {:9.3} ms a step, {:8.2} s a run of {RUN} steps, {rate:5.1} GMAC/s",
            seconds * 1e3,
            seconds * RUN
        );
    }
    Ok(())
}
