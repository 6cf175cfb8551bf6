//! Forward passes against PyTorch, in evaluation and in training.

use super::*;
use crate::population::dropout::Dropout;
use tch::Kind;

/// Also in float32 for what is small: f32 takes the same way.
#[test]
fn forward_passes_are_pytorchs() {
    device::be_one_thread();
    for (what, network, reference) in NAMES.into_iter().flat_map(variants) {
        let parameters = formula(&network);
        assert_eq!(reference["parameters"].as_u64(), Some(parameters.len() as u64), "{what}");
        let images = images(&network, 4);
        let expected = floats(&reference["eval_forward"]);
        let double = population(&network, &parameters);
        assert_pytorchs(&outputs::<f64>(&double, &batch(&network, &images)), &expected, &what);
        if parameters.len() < 100_000 {
            let single = population(&network, &narrow(&parameters));
            assert_close(&outputs::<f32>(&single, &batch(&network, &narrow(&images))), &expected, F32, &what);
        }
    }
}

/// Batch norms by the batch's statistics, beside other members; dropout off.
#[test]
fn forward_passes_in_training_are_pytorchs() {
    device::be_one_thread();
    for name in NAMES {
        let network = network(name, 1, 2);
        let expected = floats(&reference(name)["1ch_2cl"]["train_forward"]);
        let policy = Policy::new(Precision::Fp32, Kind::Double, here()).unwrap();
        let flat = with_copies(&formula(&network));
        let members = COPIES + 1;
        let weights = NetworkWeights::cut(&network, &flat, &policy).unwrap();
        let statistics = RunningStatistics::new(&network, &flat).unwrap();
        let inputs = Activations::Maps(batch(&network, &images(&network, 4)).repeat([1, members as i64, 1, 1]));
        let _no_grad = tch::no_grad_guard();
        let mut dropout = Dropout::off();
        let mode = &mut LayerMode::Training(&mut dropout);
        let outputs =
            PopulationGraph::new(&network, members, policy).forward(&weights, &statistics, inputs, mode).unwrap();
        let outputs: Vec<f64> = tensor::numbers(&outputs).unwrap();
        assert_pytorchs_in_training(&outputs, &expected, name);
    }
}

/// Eight members of LeNet, and each alone: another number of groups may round in another order.
#[test]
fn a_member_among_others_is_the_member_alone() {
    device::be_one_thread();
    let network = network("lenet", 1, 2);
    let each = network.parameter_count();
    let mut parameters = vec![0.0f32; 8 * each];
    for (member, own) in parameters.chunks_exact_mut(each).enumerate() {
        network.initialise(3, "lenet", member as u64, own);
    }
    let inputs = batch(&network, &narrow(&images(&network, 5)));
    let together = population(&network, &parameters);
    assert_eq!(together.members(), 8);
    let all = outputs::<f32>(&together, &inputs);
    for (member, own) in parameters.chunks_exact(each).enumerate() {
        let alone = population(&network, own);
        // Outputs are of size 0.1: a few units in the last place.
        assert_close(&all[member * 10..][..10], &outputs::<f32>(&alone, &inputs), 1e-7, "member");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let network = network("logreg", 1, 1);
    let whole = vec![0.0f32; 2 * 1025];
    let short = Population::new(&network, &whole[..2000], here(), Precision::Fp32).err().unwrap();
    assert_eq!(short.to_string(), "parameters: 2000 numbers, 1025 are needed");
    let population = population(&network, &whole);
    assert!(matches!(central_difference(&population, &[0f32; 3], 1.0), Err(PopulationError::Length { .. })));
    let point = [0f32; 1024];
    let beyond = central_difference_at(&population, &point, 1.0, &[3, 1024]).unwrap_err();
    assert_eq!(beyond.to_string(), "pixel 1024 is beyond the input of 1024 numbers");
    assert!(matches!(autograd(&population, &point[..1000]), Err(PopulationError::Length { .. })));
    let wrong = population.forward(&Tensor::zeros([2, 3, 32, 32], (Kind::Float, here()))).unwrap_err();
    let text = wrong.to_string();
    assert!(text.starts_with("layer 1 (linear): ") && !text.contains('\n'), "{text}");
    assert!(matches!(wrong, PopulationError::Layer { .. }));
}
