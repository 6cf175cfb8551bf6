//! Linear models, whose gradients and covariances are known, through the real path of a block.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use faer::{Mat, Side};
use nadgrid_core::architecture::{Layer, Network, Shape, find};
use nadgrid_core::grid::Node;
use nadgrid_core::moments::Moments;
use nadgrid_core::random::evaluation_point;
use nadgrid_core::tree::{Fold, root};
use nadgrid_kernels::{CentralDifference, KernelError, block_moments};
use std::f64::consts::PI;
use support::parameters;

const SIDE: usize = 8;
const D: usize = SIDE * SIDE;
const MEMBERS: u64 = 4096;
const BLOCK: u64 = 32;

/// Moments of all members by blocks and the fixed tree, as a sweep computes them.
fn moments(network: &Network) -> Moments {
    let mut plan = CentralDifference::new(network).unwrap();
    let point = evaluation_point(1, 0, D);
    let blocks = MEMBERS / BLOCK;
    let mut fold = Fold::over_all(blocks, |a: Moments, b: Moments| a.merge(&b));
    for block in 0..blocks {
        let members = block * BLOCK..(block + 1) * BLOCK;
        let moments = linear_block(network, &mut plan, members, &point).unwrap();
        fold.push(Node::block(block), moments).unwrap();
    }
    fold.finish(root(blocks)).unwrap()
}

fn linear_block(
    network: &Network,
    plan: &mut CentralDifference,
    members: std::ops::Range<u64>,
    point: &[f32],
) -> Result<Moments, KernelError> {
    let draw = |member, out: &mut [f32]| network.initialise(1, "linear", member, out);
    block_moments(network, members, &[point.to_vec()], draw, |p, x, out| plan.gradient(p, x, 100.0, out))
}

/// The covariance S/(N − 1) as a full matrix.
fn covariance(moments: &Moments) -> Mat<f64> {
    let at = |i: usize, j: usize| i * D - i * i.saturating_sub(1) / 2 + j - i;
    Mat::from_fn(D, D, |i, j| moments.scatter[at(i.min(j), i.max(j))] / (moments.count - 1) as f64)
}

fn small(layers: Vec<Layer>) -> Network {
    Network::chain(layers, Shape { channels: 1, height: SIDE, width: SIDE }).unwrap()
}

/// SCIENCE section 4, 1: the gradient is minus the weights. ±step·w is rounded once, and so is the quotient.
#[test]
fn a_logistic_regressions_gradient_is_its_weights() {
    for (channels, outputs) in [(1, 1), (1, 2), (3, 10)] {
        let network = support::network("logreg", channels, outputs);
        let mut plan = CentralDifference::new(&network).unwrap();
        let d = channels * 1024;
        let parameters = parameters(&network, 4);
        let point = evaluation_point(2, 0, d);
        for step in [100.0, 1.0, 1e-3] {
            let mut gradient = vec![0.0; d];
            plan.gradient(&parameters, &point, step, &mut gradient).unwrap();
            for (pixel, (g, w)) in gradient.iter().zip(&parameters[..d]).enumerate() {
                assert!((g + w).abs() <= 2.0 * f32::EPSILON * w.abs(), "pixel {pixel} at {step}: {g} for {w}");
            }
        }
    }
}

/// SCIENCE section 4, 1: covariance I/(3D), every element within 5 standard errors. A variance of
/// U(−b, b) has standard error λ√(0.8/N), a covariance λ/√N.
#[test]
fn a_logistic_regressions_covariance_is_isotropic() {
    let network = find("logreg").unwrap().network(Shape { channels: 1, height: SIDE, width: SIDE }, 1).unwrap();
    let covariance = covariance(&moments(&network));
    let expected = 1.0 / (3.0 * D as f64);
    for i in 0..D {
        for j in 0..D {
            let (value, error) = if i == j { (expected, 0.8f64) } else { (0.0, 1.0) };
            let error = expected * (error / MEMBERS as f64).sqrt();
            let got = covariance[(i, j)];
            assert!((got - value).abs() < 5.0 * error, "({i}, {j}): {got} for {value} ± {error}");
        }
    }
}

/// SCIENCE section 4, 2: average pool 2 x 2 and one linear layer. With A the pooling matrix and τ² = 1/(3·D/4)
/// the weights' variance: D/4 eigenvalues around τ²/4, whose space is that of A's right singular
/// vectors, and a null space of 3D/4.
#[test]
fn an_average_pools_covariance_is_its_own_projector() {
    let network =
        small(vec![Layer::AvgPool2d { size: 2 }, Layer::Flatten, Layer::Linear { name: "fc".into(), features: 1 }]);
    let covariance = covariance(&moments(&network));
    let evd = covariance.self_adjoint_eigen(Side::Lower).unwrap();
    let values: Vec<f64> = (0..D).rev().map(|i| evd.S()[i]).collect();
    let rank = D / 4;
    let expected = 1.0 / (3.0 * rank as f64) / 4.0;
    // Marchenko and Pastur's edges with 10 % to spare: the spectrum of D/4 equal eigenvalues from N samples.
    let spread = (rank as f64 / MEMBERS as f64).sqrt();
    let low = (1.0 - 1.1 * spread).powi(2);
    let high = (1.0 + 1.1 * spread).powi(2);
    for value in &values[..rank] {
        assert!((low..high).contains(&(value / expected)), "{value} for {expected}");
    }
    // The null space is null to the gradients' rounding: (f32 epsilon)².
    for value in &values[rank..] {
        assert!(value.abs() < 1e-13 * expected, "{value}");
    }
    // A's right singular vectors: one per pooling window, 1/2 on each of its pixels.
    let right = Mat::from_fn(D, rank, |pixel, window| {
        let row = pixel / SIDE / 2;
        let column = pixel % SIDE / 2;
        if row * SIDE / 2 + column == window { 0.5 } else { 0.0 }
    });
    let top = evd.U().subcols(D - rank, rank);
    let overlap = (top.transpose() * &right).squared_norm_l2() / rank as f64;
    assert!((overlap - 1.0).abs() < 1e-6, "{overlap}");
}

/// Along one axis of `length`: (K/S)·sin²(πℓS/D)/(S²·sin²(πℓ/D)) with K = S = 4, and its limit at ℓ = 0.
fn axis(frequency: usize, length: usize) -> f64 {
    let angle = PI * frequency as f64 / length as f64;
    if frequency == 0 { 1.0 } else { ((4.0 * angle).sin() / angle.sin()).powi(2) / 16.0 }
}

/// SCIENCE section 4, 3: circular convolution, average pool and one linear layer, weights of variance 1/(3·fan_in). The
/// covariance is circulant, so the gradients' Fourier coefficients are uncorrelated and their mean squares the
/// eigenvalues: products over both axes. All within 6 of their own standard errors (some 500 means whose terms have heavy
/// tails), and null to f32's rounding where the closed form is zero.
#[test]
fn a_deep_linear_networks_eigenvalues_are_the_closed_forms() {
    const SIDE: usize = 16;
    const MEMBERS: u64 = 2000;
    let input = Shape { channels: 1, height: SIDE, width: SIDE };
    let network = find("deep_linear").unwrap().network(input, 1).unwrap();
    let mut plan = CentralDifference::new(&network).unwrap();
    let point = evaluation_point(1, 0, SIDE * SIDE);
    let variance = 1.0 / (3.0 * 16.0) / (3.0 * 16.0);
    let roots: Vec<(f64, f64)> = (0..SIDE).map(|i| (2.0 * PI * i as f64 / SIDE as f64).sin_cos()).collect();
    // Sums of each coefficient's squared size and of its product with the next one, and of the squares of these.
    let mut sums = vec![[0.0; 4]; SIDE * SIDE];
    for member in 0..MEMBERS {
        let mut gradient = vec![0.0; SIDE * SIDE];
        plan.gradient(&parameters(&network, member), &point, 100.0, &mut gradient).unwrap();
        let coefficients = fourier(&gradient, &roots);
        for (at, sums) in sums.iter_mut().enumerate() {
            let (a, b) = coefficients[at];
            let (c, d) = coefficients[(at + 1) % coefficients.len()];
            let square = a * a + b * b;
            let product = a * c + b * d;
            for (sum, term) in sums.iter_mut().zip([square, square * square, product, product * product]) {
                *sum += term / MEMBERS as f64;
            }
        }
    }
    for (at, [square, square_2, product, product_2]) in sums.into_iter().enumerate() {
        let expected = variance * axis(at / SIDE, SIDE) * axis(at % SIDE, SIDE);
        let error = |mean: f64, squares: f64| ((squares - mean * mean) / MEMBERS as f64).sqrt();
        if expected < 1e-20 {
            assert!(square < 1e-12 * variance, "{at}: {square}");
            continue;
        }
        assert!((square - expected).abs() < 6.0 * error(square, square_2), "{at}: {square} for {expected}");
        assert!(product.abs() < 6.0 * error(product, product_2).max(1e-12 * variance), "{at}: {product}");
    }
}

/// The two-dimensional Fourier coefficients of a square image, of unit vectors: axis by axis.
fn fourier(image: &[f32], roots: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let side = roots.len();
    let mut values: Vec<(f64, f64)> = image.iter().map(|&g| (f64::from(g) / side as f64, 0.0)).collect();
    for (step, along) in [(1, side), (side, 1)] {
        let before = values.clone();
        for (at, value) in values.iter_mut().enumerate() {
            let line = at / along % side * along;
            let frequency = at / step % side;
            let start = if step == 1 { line } else { at % side };
            *value = (0..side).fold((0.0, 0.0), |(re, im), i| {
                let (sin, cos) = roots[frequency * i % side];
                let (a, b) = before[start + i * step];
                (re + a * cos + b * sin, im + b * cos - a * sin)
            });
        }
    }
    values
}

#[test]
fn a_block_names_the_member_that_overflows() {
    let network = support::network("lenet", 1, 1);
    let mut plan = CentralDifference::new(&network).unwrap();
    let draw = |member, out: &mut [f32]| network.initialise(1, "lenet", member, out);
    let overflow = |p: &[f32], x: &[f32], out: &mut [f32]| plan.gradient(p, x, f32::INFINITY, out);
    let fault = block_moments(&network, 7..9, &[evaluation_point(1, 0, 1024)], draw, overflow);
    assert_eq!(fault.err(), Some(KernelError::NotFinite { member: 7, pixel: 0 }));
}
