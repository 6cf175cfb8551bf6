//! Precision policies: bf16 is really used and as far off as it should be; a CPU has no TF32.

use super::*;
use nadgrid_core::training::Recipe;

fn with(network: &Network, parameters: &[f32], precision: Precision) -> Result<Population, PopulationError> {
    Population::new(network, parameters, here(), precision)
}

/// A bfloat16 has 8 bits: inputs, weights and results are each rounded by up to 2⁻⁹ of their size. Five layers of that make a
/// relative difference of about 2⁻⁸, and none less than 2⁻¹² could come from them. Members do not mix.
#[test]
fn bf16_is_as_far_from_fp32_as_its_bits() {
    device::be_one_thread();
    let network = network("lenet", 3, 10);
    let each = network.parameter_count();
    let mut parameters = vec![0.0f32; 2 * each];
    for (member, own) in parameters.chunks_exact_mut(each).enumerate() {
        network.initialise(3, "lenet", member as u64, own);
    }
    let inputs = batch(&network, &narrow(&images(&network, 4)));
    let of = |parameters: &[f32], precision| outputs::<f32>(&with(&network, parameters, precision).unwrap(), &inputs);
    let exact = of(&parameters, Precision::Fp32);
    let rounded = of(&parameters, Precision::Bf16);
    let norm = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>().sqrt();
    let apart: Vec<f64> = exact.iter().zip(&rounded).map(|(e, r)| e - r).collect();
    let relative = norm(&apart) / norm(&exact);
    println!("relative difference {relative:.1e}");
    assert!((2f64.powi(-12)..2f64.powi(-6)).contains(&relative), "{relative}");
    // The last layer's results are bfloat16s: the lower half of their bits is zero.
    assert!(rounded.iter().all(|&r| (r as f32).to_bits() << 16 == 0));
    let alone = of(&parameters[each..], Precision::Bf16);
    // An output of size 0.1 may round to its neighbour, 2⁻¹¹ away.
    assert_close(&rounded[40..], &alone, 1e-3, "member");
}

#[test]
fn training_in_bf16_keeps_weights_in_fp32_and_follows_fp32() {
    device::be_one_thread();
    let network = network("lenet", 1, 2);
    let recipe =
        Recipe { epochs: 3, batch_size: 4, learning_rate: 0.1, momentum: 0.0, weight_decay: 0.0, gradient_clip: 0.5 };
    let keys = keys("lenet", 2);
    let data = noise(&network, 8, 1.0, 0);
    let samples = samples(&network, &[&data, &data]);
    let trained = |precision| {
        let network = &network;
        let recipe = &recipe;
        let keys = &keys;
        let samples = &samples;
        let training = PopulationTraining { network, device: here(), precision, recipe, keys, samples };
        parameters_of(&train(&training, None, &mut || true).unwrap().unwrap(), 1)
    };
    let exact = trained(Precision::Fp32);
    let rounded = trained(Precision::Bf16);
    assert!(rounded.iter().any(|&w| (w as f32).to_bits() << 16 != 0));
    let mut start = vec![0.0; network.parameter_count()];
    network.draw(keys[1].stream("weights"), &mut start);
    let norm = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    let relative = norm(&exact, &rounded) / norm(&exact, &wide(&start));
    println!("relative difference of the way {relative:.1e}");
    // Of six clipped steps each direction is off by some 2⁻⁸ to 2⁻⁵: the gradient of a small loss is a difference.
    assert!(relative > 1e-4 && relative < 0.2, "{relative}");
}

#[test]
fn a_cpu_has_no_tf32() {
    let network = network("logreg", 1, 1);
    let error = Population::new(&network, &[0f32; 1025], Device::Cpu, Precision::Tf32).err().unwrap();
    assert_eq!(error.to_string(), "precision = tf32: a CPU does not have it; use fp32 or bf16");
    assert!(matches!(error, PopulationError::Tf32OnCpu));
}

/// Two holders of one setting at once; libtorch's switch is set for them.
#[test]
fn policies_of_one_setting_are_held_together() {
    let policy = |precision| Policy::new(precision, tch::Kind::Float, Device::Cpu).unwrap();
    let first = policy(Precision::Fp32).hold().unwrap();
    let second = policy(Precision::Bf16).hold().unwrap();
    drop((first, second));
    // A policy for a GPU waits until the others are done, and gives the switch back.
    let gpu = Policy::new(Precision::Tf32, tch::Kind::Float, Device::Cuda(0)).unwrap();
    drop(gpu.hold().unwrap());
    drop(policy(Precision::Fp32).hold().unwrap());
}
