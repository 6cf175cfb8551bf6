//! Gradients at inputs: central differences against PyTorch and the patch kernels, autograd against small differences.

use super::*;
use nadgrid_core::random::evaluation_point;
use nadgrid_kernels::{CentralDifference, KernelError};

#[test]
fn central_differences_are_pytorchs() {
    device::be_one_thread();
    for name in NAMES {
        let network = network(name, 1, 1);
        let expected = &reference(name)["1ch_1cl"]["central_difference"];
        let parameters = formula(&network);
        let point = image(&network, 0);
        let pixels: Vec<usize> = floats(&expected["pixels"]).into_iter().map(|p| p as usize).collect();
        let values = floats(&expected["values"]);
        let double = population(&network, &parameters);
        let got = central_difference_at(&double, &point, 100.0, &pixels).unwrap();
        assert_pytorchs(&got, &values, name);
        if parameters.len() < 100_000 {
            let all = central_difference(&double, &point, 100.0).unwrap();
            let at_pixels: Vec<f64> = pixels.iter().map(|&p| all[p]).collect();
            assert_pytorchs(&at_pixels, &values, name);
            let single = population(&network, &narrow(&parameters));
            let got = central_difference_at(&single, &narrow(&point), 100f32, &pixels).unwrap();
            assert_close(&wide(&got), &values, F32, name);
        }
    }
}

/// In float64, with a step over which hardly a ReLU or a pooling switches. A difference of two outputs, each off by a few of its
/// last bits, is divided by twice the step; besides, 1e-6 of the largest is for what does switch.
#[test]
fn autograd_is_the_limit_of_central_differences() {
    const STEP: f64 = 1e-6;
    device::be_one_thread();
    for name in NAMES {
        let network = network(name, 1, 1);
        let small = network.parameter_count() < 100_000;
        let parameters = formula(&network);
        let pixels = [0, 33, 500];
        let points = images(&network, if small { 3 } else { 1 });
        // Another member beside it: a gradient is its own.
        let members = if small { 2 } else { 1 };
        let all: Vec<f64> = (1..=members).flat_map(|m| parameters.iter().map(move |p| p / f64::from(m))).collect();
        let population = population(&network, &all);
        let gradients = autograd(&population, &points).unwrap();
        let largest = gradients.iter().fold(0.0f64, |a, g| a.max(g.abs()));
        let count = points.len() / 1024;
        for (index, point) in points.chunks(1024).enumerate() {
            let differences = central_difference_at(&population, point, STEP, &pixels).unwrap();
            let size = outputs::<f64>(&population, &batch(&network, point)).iter().fold(1.0f64, |a, f| a.max(f.abs()));
            let tolerance = 1e-6 * largest + 8.0 * f64::EPSILON * size / (2.0 * STEP);
            for (member, differences) in differences.chunks(pixels.len()).enumerate() {
                let own = &gradients[(member * count + index) * 1024..][..1024];
                let own: Vec<f64> = pixels.iter().map(|&p| own[p]).collect();
                assert_close(&own, differences, tolerance, name);
            }
        }
    }
}

/// The same members by plain evaluation and by the patch kernels, at the published step. Outputs reach 10 at that step and
/// are rounded to 5e-7 in every layer; a gradient is their difference over 200.
#[test]
fn plain_evaluation_and_patches_agree_to_rounding() {
    device::be_one_thread();
    let network = network("lenet", 1, 1);
    let each = network.parameter_count();
    let members = 4;
    let mut parameters = vec![0.0f32; members * each];
    for (member, own) in parameters.chunks_exact_mut(each).enumerate() {
        network.initialise(11, "lenet", member as u64, own);
    }
    let point = evaluation_point(11, 0, 1024);
    let population = population(&network, &parameters);
    let dense = central_difference(&population, &point, 100.0).unwrap();
    let mut patches = CentralDifference::new(&network).unwrap();
    let mut gradient = vec![0.0; 1024];
    let norm = |g: &[f64]| g.iter().map(|g| g * g).sum::<f64>().sqrt();
    for (own, dense) in parameters.chunks_exact(each).zip(dense.chunks_exact(1024)) {
        patches.gradient(own, &point, 100.0, &mut gradient).unwrap();
        let wide = wide(&gradient);
        let apart: Vec<f64> = dense.iter().zip(&wide).map(|(&d, p)| f64::from(d) - p).collect();
        let relative = norm(&apart) / norm(&wide);
        println!("|g| {:.3e}, relative difference {relative:.2e}", norm(&wide));
        assert!(relative < 1e-5, "{relative}");
    }
}

fn sampling(network: &Network, derivative: Derivative, budget: u64) -> Sampling<'_> {
    let device = here();
    let precision = Precision::Fp32;
    Sampling { network, device, precision, seed: 0, architecture: "logreg", derivative, budget }
}

/// All of these members' gradients, which are wanted to the end.
fn block(
    sampling: &Sampling<'_>,
    members: std::ops::Range<u64>,
    points: &[Vec<f32>],
) -> Result<Vec<f32>, PopulationError> {
    let count = (members.end - members.start) as usize;
    let mut drawn = sampling.members(members)?;
    let parts = std::cell::RefCell::new(Vec::new());
    let gradients = block_gradients(sampling, &mut drawn, count, points, &|part| {
        parts.borrow_mut().push(part);
        true
    });
    assert!(parts.borrow().is_sorted() && parts.borrow().iter().all(|part| (0.0..=1.0).contains(part)), "{parts:?}");
    gradients.map(Option::unwrap)
}

#[test]
fn an_overflow_names_member_and_pixel() {
    let network = network("logreg", 1, 1);
    let mut point = vec![0.0f32; 1024];
    point[7] = f32::MAX;
    for derivative in [Derivative::Difference { step: f32::MAX }, Derivative::Fused { step: f32::MAX }] {
        let sampling = sampling(&network, derivative, memory::CPU_BUDGET);
        let error = block(&sampling, 3..5, std::slice::from_ref(&point)).unwrap_err();
        assert!(matches!(error, PopulationError::NotFinite(KernelError::NotFinite { member: 3, pixel: 7 })), "{error}");
    }
}

/// Logistic regression's gradient is its weights, whatever the estimator: 1e-6 is what outputs of size 1 lose over steps of 1.
#[test]
fn a_blocks_gradients_are_its_members_in_order_however_narrow() {
    device::be_one_thread();
    let network = network("logreg", 1, 1);
    let points = [vec![0.5f32; 1024], vec![-0.25; 1024]];
    let each = memory::bytes_in_evaluation(&network, 2);
    let mut weights = vec![0.0; network.parameter_count()];
    let derivatives = [Derivative::Difference { step: 1.0 }, Derivative::Fused { step: 1.0 }, Derivative::Autograd];
    for derivative in derivatives {
        for budget in [memory::CPU_BUDGET, 2 * each] {
            let gradients = block(&sampling(&network, derivative, budget), 4..9, &points).unwrap();
            for (row, gradient) in gradients.chunks(1024).enumerate() {
                let member = 4 + row as u64 / 2;
                network.initialise(0, "logreg", member, &mut weights);
                let expected: Vec<f64> = weights[..1024].iter().map(|&w| -f64::from(w)).collect();
                assert_close(&wide(gradient), &expected, 1e-6, "gradient");
            }
        }
    }
    let none = block(&sampling(&network, Derivative::Autograd, each - 1), 4..9, &points).unwrap_err();
    assert!(none.to_string().starts_with("differentiating networks: one member needs "), "{none}");
}
