//! Steps of the optimiser: against PyTorch's, and against the definition member by member.

use super::*;
use crate::population::data::SampleBatch;
use crate::population::dropout::Dropout;
use crate::population::sgd::{Schedule, Sgd};
use crate::population::training_population::TrainingPopulation;
use nadgrid_core::training::Recipe;
use tch::Kind;

/// Of two epochs of one batch: the first step's learning rate is half of the recipe's, 0.1.
const RECIPE: Recipe =
    Recipe { epochs: 2, batch_size: 8, learning_rate: 0.2, momentum: 0.0, weight_decay: 0.0, gradient_clip: 0.5 };

/// Loss, norm of the gradient, and loss after the step; beside other members.
#[test]
fn a_clipped_step_is_pytorchs() {
    device::be_one_thread();
    for name in NAMES {
        let network = network(name, 1, 2);
        let expected = &reference(name)["sgd_step"];
        let all = with_copies(&formula(&network));
        let members = COPIES as i64 + 1;
        let policy = Policy::new(Precision::Fp32, Kind::Double, here()).unwrap();
        let mut run = TrainingPopulation::new(&network, all, policy).unwrap();
        let labels = Tensor::from_slice(&[0i64, 1, 0, 1, 0, 1, 0, 1]).repeat([members, 1]).to_device(here());
        let inputs =
            Tensor::from_slice(&images(&network, 8)).view([8, 1, -1]).repeat([1, members, 1]).to_device(here());
        let batch = SampleBatch { inputs: inputs.view([8 * members, -1]), labels };
        let mut dropout = Dropout::off();
        let mut sgd = Sgd::new(&RECIPE, &run.parameters).unwrap();
        let schedule = Schedule::new(&RECIPE, 0, 1, Kind::Double, here()).unwrap();
        let (before, gradient) = run.gradient(&batch, &mut dropout).unwrap();
        let norm = gradient.square().sum_dim_intlist([1].as_slice(), false, None).sqrt();
        sgd.step(&mut run.parameters, &before, gradient, &schedule, 0).unwrap();
        let (after, _) = run.gradient(&batch, &mut dropout).unwrap();
        for (what, got) in [("loss_before", before), ("gradient_norm", norm), ("loss_after", after)] {
            let got: Vec<f64> = tensor::numbers(&got).unwrap();
            let want = [expected[what].as_f64().unwrap()];
            assert_pytorchs_in_training(&got, &want, &format!("{name} {what}"));
        }
    }
}

/// Clipping, decay and momentum of two members over three steps, by plain loops. One member's gradient is over the limit.
#[test]
fn every_member_steps_by_itself() {
    let recipe = Recipe { epochs: 3, momentum: 0.9, weight_decay: 0.01, ..RECIPE };
    let mut parameters = Tensor::from_slice(&[0.1, 0.2, 0.3, -1.0, 2.0, -3.0]).view([2, 3]).to_device(here());
    let mut expected = [[0.1, 0.2, 0.3], [-1.0, 2.0, -3.0f64]];
    let mut velocity = [[0.0f64; 3]; 2];
    let mut sgd = Sgd::new(&recipe, &parameters).unwrap();
    for step in 0..3 {
        let gradient =
            |member: usize, index: usize| ((7 * step + 3 * member + index) as f64).sin() * [0.1, 5.0][member];
        let rows: Vec<f64> = (0..6).map(|i| gradient(i / 3, i % 3)).collect();
        let schedule = Schedule::new(&recipe, step as u32, 1, Kind::Double, here()).unwrap();
        let losses = Tensor::from_slice(&[1.0, 1.0]).to_device(here());
        let gradients = Tensor::from_slice(&rows).view([2, 3]).to_device(here());
        sgd.step(&mut parameters, &losses, gradients, &schedule, 0).unwrap();
        for member in 0..2 {
            let norm = (0..3).map(|index| gradient(member, index).powi(2)).sum::<f64>().sqrt();
            for index in 0..3 {
                let weight = &mut expected[member][index];
                let clipped = gradient(member, index) * recipe.clip_factor(norm) + 0.01 * *weight;
                velocity[member][index] = 0.9 * velocity[member][index] + clipped;
                *weight -= recipe.rate(step as u32, 0, 1) * velocity[member][index];
            }
        }
        assert_close(&tensor::numbers(&parameters).unwrap(), expected.as_flattened(), 1e-14, "weights");
    }
    assert_eq!(tensor::numbers::<i64>(sgd.bad_since()).unwrap(), [0, 0]);
}

/// A loss that is no number, a gradient that is none, a weight that overflows: each is noted with its step, once, and the
/// fourth member goes on.
#[test]
fn the_first_bad_step_is_noted() {
    let recipe = Recipe { gradient_clip: 0.0, epochs: 4, ..RECIPE };
    let mut parameters = Tensor::from_slice(&[1.0f32; 4]).view([4, 1]).to_device(here());
    let mut sgd = Sgd::new(&recipe, &parameters).unwrap();
    let steps: [([f32; 4], [f32; 4]); 3] = [
        ([1.0; 4], [1.0; 4]),
        ([f32::NAN, 1.0, 1.0, 1.0], [1.0, f32::NAN, 1.0, 1.0]),
        ([1.0, 1.0, 1.0, 1.0], [1.0, 1.0, f32::INFINITY, 1.0]),
    ];
    for (epoch, (losses, gradient)) in steps.into_iter().enumerate() {
        let schedule = Schedule::new(&recipe, epoch as u32, 1, Kind::Float, here()).unwrap();
        let gradient = Tensor::from_slice(&gradient).view([4, 1]).to_device(here());
        sgd.step(&mut parameters, &Tensor::from_slice(&losses).to_device(here()), gradient, &schedule, 0).unwrap();
    }
    assert_eq!(tensor::numbers::<i64>(sgd.bad_since()).unwrap(), [2, 2, 3, 0]);
    let weights: Vec<f32> = tensor::numbers(&parameters).unwrap();
    // Rates 0.15, 0.1, 0.05: the first member stands still after its first step, the fourth takes all.
    assert!((weights[0] - 0.85).abs() < 1e-6 && (weights[3] - 0.7).abs() < 1e-6, "{weights:?}");
}
