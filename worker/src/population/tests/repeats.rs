//! The same bits, again and again: on a GPU sums by atomic additions, or an engine that is chosen anew, would show.

use super::*;
use nadgrid_core::training::Recipe;

const RECIPE: Recipe =
    Recipe { epochs: 1, batch_size: 4, learning_rate: 0.1, momentum: 0.9, weight_decay: 5e-4, gradient_clip: 0.5 };

/// And how often. On a CPU a small network, in about a second; on a GPU also those that it is for.
fn networks() -> Vec<(&'static str, Network, usize)> {
    let mut networks = vec![("mixture", together::mixture(), 100)];
    if here().is_cuda() {
        networks.extend([("lenet", 100), ("resnet18", 10)].map(|(name, times)| (name, network(name, 1, 2), times)));
    }
    networks
}

fn precisions() -> &'static [Precision] {
    if here().is_cuda() { &Precision::ALL } else { &[Precision::Fp32, Precision::Bf16] }
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

/// A number that is none would be equal to no other; what diverges has other tests.
fn all_alike(what: &str, times: usize, compute: impl Fn() -> Vec<f32>) {
    let first = compute();
    assert!(first.iter().all(|number| number.is_finite()) && first.iter().any(|&number| number != 0.0), "{what}");
    for repeat in 1..times {
        assert!(bits(&compute()) == bits(&first), "{what}: repeat {repeat} has other bits");
    }
}

#[test]
fn a_block_has_the_same_bits_every_time() {
    device::be_one_thread();
    for (name, network, times) in networks() {
        let points = [narrow(&image(&network, 0))];
        for &precision in precisions() {
            let difference = Derivative::Difference { step: 1.0 };
            for derivative in [difference, Derivative::Fused { step: 1.0 }, Derivative::Autograd] {
                let device = here();
                let budget = memory::budget(here());
                let network = &network;
                let sampling = Sampling { network, device, precision, seed: 2, architecture: name, derivative, budget };
                all_alike(&format!("{name} in {precision}, {derivative:?}"), times, || {
                    let mut members = sampling.members(0..2).unwrap();
                    block_gradients(&sampling, &mut members, 2, &points, &|_| true).unwrap().unwrap()
                });
            }
        }
    }
}

#[test]
fn a_training_has_the_same_bits_every_time() {
    device::be_one_thread();
    for (name, network, times) in networks() {
        let keys = keys(name, 2);
        let data = noise(&network, 8, 1.0, 0);
        for &precision in precisions() {
            let recipe = &RECIPE;
            let samples = samples(&network, &[&data; 2]);
            let training = PopulationTraining {
                network: &network,
                device: here(),
                precision,
                recipe,
                keys: &keys,
                samples: &samples,
            };
            all_alike(&format!("{name} in {precision}"), times, || {
                let trained = train(&training, None, &mut || true).unwrap().unwrap();
                tensor::numbers(&trained.run.parameters).unwrap()
            });
        }
    }
}
