//! The data of training experiments against what their definitions say of them (SCIENCE.md sections 2 to 4).

use nadgrid_core::architecture::Shape;
use nadgrid_core::dataset::Dataset;
use nadgrid_core::directions::{dft_cosine, pixel, random};
use nadgrid_core::random::Stream;
use nadgrid_core::training::RunKey;
use nadgrid_kernels::InstructionSet;
use nadgrid_kernels::data::{
    BasisError, DirectionalSamples, Flip, complete, directional, directional_on, flip, poison,
};

const SHAPE: Shape = Shape { channels: 1, height: 32, width: 32 };

fn key(run: u64) -> RunKey {
    let architecture = "lenet".into();
    let variant = "dft 2 4".into();
    RunKey { seed: 1, experiment: "directional", architecture, variant, run }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// P(x ≤ z) of N(0, 1).
fn phi(z: f64) -> f64 {
    0.5 * libm::erfc(-z / 2f64.sqrt())
}

/// 2,000 samples along one pixel, which the others, normal numbers by themselves, know nothing of.
fn noise() -> Vec<f64> {
    let data = directional(&key(0), "train", &pixel(SHAPE, 5).expect("a pixel"), 1.0, 1.0, 2_000);
    let beside = data.inputs.chunks_exact(1024).flat_map(|x| x.iter().enumerate().filter(|(i, _)| *i != 5));
    beside.map(|(_, &x)| f64::from(x)).collect()
}

#[test]
fn the_noise_has_the_moments_and_tails_of_a_normal_distribution() {
    let noise = noise();
    let n = noise.len() as f64;
    // E x^k, and the standard deviation of x^k: √(E x^2k − (E x^k)²).
    for (k, moment, deviation) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0), (6, 15.0, 10_170.0f64)]
    {
        let found = noise.iter().map(|x| x.powi(k)).sum::<f64>() / n;
        let deviation: f64 = deviation;
        assert!((found - moment).abs() < 5.0 * (deviation / n).sqrt(), "moment {k}: {found}");
    }
    for z in [0.01, 0.1, 1.0, 1.959_964, 3.0, 4.0, 4.5] {
        let found = noise.iter().filter(|x| x.abs() > z).count() as f64 / n;
        let expected = 2.0 * phi(-z);
        assert!((found - expected).abs() < 5.0 * (expected / n).sqrt(), "beyond {z}: {found}, expected {expected}");
    }
}

/// Kolmogorov and Smirnov: the largest distance of the distribution functions exceeds z/√n with probability 2·exp(−2z²), at 2.75
/// that of 5 standard errors.
#[test]
fn the_noise_has_the_distribution_function_of_a_normal_distribution() {
    let mut noise = noise();
    noise.sort_unstable_by(f64::total_cmp);
    let n = noise.len() as f64;
    let distance = |(i, &x): (usize, &f64)| (phi(x) - i as f64 / n).abs().max((phi(x) - (i + 1) as f64 / n).abs());
    let largest = noise.iter().enumerate().map(distance).fold(0.0, f64::max);
    assert!(largest < 2.75 / n.sqrt(), "{largest}");
}

/// Neighbours, and the partners of a pair, which are 16 numbers apart: neither values nor squares are correlated.
#[test]
fn numbers_of_the_noise_are_uncorrelated() {
    let data = directional(&key(0), "train", &pixel(SHAPE, 1023).unwrap(), 1.0, 1.0, 2_000);
    for lag in [1, 2, 15, 16, 17, 32] {
        let pairs = data.inputs.chunks_exact(1024).flat_map(|x| x[..1023].iter().zip(&x[lag..1023]));
        let pairs: Vec<(f64, f64)> = pairs.map(|(&a, &b)| (f64::from(a), f64::from(b))).collect();
        let n = pairs.len() as f64;
        let values = pairs.iter().map(|(a, b)| a * b).sum::<f64>() / n;
        let squares = pairs.iter().map(|(a, b)| (a * a - 1.0) * (b * b - 1.0)).sum::<f64>() / n;
        assert!(values.abs() < 5.0 / n.sqrt() && squares.abs() < 10.0 / n.sqrt(), "lag {lag}: {values}, {squares}");
    }
}

#[test]
fn samples_lie_exactly_at_the_offset_and_the_first_half_is_class_0() {
    for (v, offset, sigma, samples) in [
        (dft_cosine(SHAPE, 2, 4), 1.0, 3.0, 301),
        (random(SHAPE, Stream::new(1, &["v"], 0)), 0.5, 1.0, 300),
        (dft_cosine(Shape { channels: 3, height: 5, width: 7 }, 1, 2), 1.0, 3.0, 1),
    ] {
        let data = directional(&key(0), "train", &v, offset, sigma, samples);
        assert_eq!((data.len(), data.dimension), (samples, v.len()));
        assert_eq!(data.labels.iter().filter(|&&label| label == 0).count(), samples.div_ceil(2));
        assert!(data.labels.is_sorted());
        for (sample, &label) in data.labels.iter().enumerate() {
            let expected = if label == 0 { offset } else { -offset };
            let along = dot(data.input(sample), &v);
            assert!((along - expected).abs() < 1e-6, "sample {sample}: {along}");
        }
    }
}

/// In any direction perpendicular to v the noise has variance σ², and is not correlated with that in another.
#[test]
fn the_noise_is_isotropic_beside_the_direction() {
    let n = 4_000;
    let sigma = 3.0;
    let data = directional(&key(0), "test", &dft_cosine(SHAPE, 2, 4), 1.0, sigma, n);
    let others = [dft_cosine(SHAPE, 2, -4), dft_cosine(SHAPE, 0, 0), dft_cosine(SHAPE, 7, 1)];
    let along = |other: &[f32]| (0..n).map(|i| dot(data.input(i), other) / sigma).collect::<Vec<f64>>();
    let along = others.map(|other| along(&other));
    let n = n as f64;
    for (i, a) in along.iter().enumerate() {
        for (j, b) in along.iter().enumerate().take(i + 1) {
            let found = a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / n;
            let (expected, variance) = if i == j { (1.0, 2.0) } else { (0.0, 1.0) };
            assert!((found - expected).abs() < 5.0 * f64::sqrt(variance / n), "{i}, {j}: {found}");
        }
    }
}

/// Whatever pieces samples are made in, of whatever dimension: those of the whole set.
#[test]
fn pieces_of_a_set_are_the_whole() {
    for shape in [SHAPE, Shape { channels: 3, height: 7, width: 5 }] {
        let v = pixel(shape, 5).expect("a pixel");
        let whole = directional(&key(2), "test", &v, 1.5, 2.0, 41);
        let samples = DirectionalSamples::new(&key(2), "test", &v, 1.5, 2.0, 41);
        let mut inputs = vec![0.0; whole.inputs.len()];
        for piece in [33..41, 0..1, 1..20, 20..33] {
            let own = &mut inputs[piece.start * shape.len()..piece.end * shape.len()];
            samples.fill(piece, own);
        }
        assert_eq!((samples.len(), samples.dimension(), samples.is_empty()), (41, shape.len(), false));
        assert!(inputs == whole.inputs && samples.labels().eq(whole.labels));
    }
}

#[test]
fn data_depend_on_the_run_and_the_part_and_on_no_instruction_set() {
    let v = dft_cosine(Shape { channels: 1, height: 9, width: 11 }, 2, 4);
    let draw = |set, run, part| directional_on(set, &key(run), part, &v, 1.0, 3.0, 33);
    let sets = InstructionSet::available();
    let portable = draw(sets[sets.len() - 1], 0, "train");
    for &set in &sets {
        assert_eq!(draw(set, 0, "train"), portable, "{}", set.name());
    }
    assert_ne!(draw(sets[0], 1, "train"), portable);
    assert_ne!(draw(sets[0], 0, "test"), portable);
}

/// A linear classifier of class 0 where wᵀx + b > 0 is right with probability ½ΣΦ((a·wᵀv ± b)/(σ‖w_⊥‖)).
#[test]
fn a_linear_classifier_is_right_as_often_as_the_closed_form_says() {
    let v = dft_cosine(SHAPE, 2, 4);
    let offset = 1.0;
    let sigma = 3.0;
    let samples = 20_000;
    let data = directional(&key(3), "test", &v, offset, sigma, samples);
    for (draw, lean, bias) in [(0, 0.0, 0.0), (1, 2.0, 0.3), (2, 1.0, -1.0)] {
        // Of norm about 1, leaning towards v so that accuracies are not all one half.
        let w: Vec<f32> =
            random(SHAPE, Stream::new(1, &["w"], draw)).iter().zip(&v).map(|(w, v)| w + lean * v).collect();
        let along = dot(&w, &v);
        let beside = (dot(&w, &w) - along * along).sqrt();
        let half = |sign: f64| phi((offset * along + sign * bias) / (sigma * beside));
        let expected = 0.5 * (half(1.0) + half(-1.0));
        let right = (0..samples).filter(|&i| (dot(data.input(i), &w) + bias > 0.0) == (data.labels[i] == 0)).count();
        let found = right as f64 / samples as f64;
        let n = samples as f64;
        assert!((found - expected).abs() < 5.0 * (0.25 / n).sqrt(), "{draw}: {found}, expected {expected}");
    }
}

/// `count` orthonormal rows that look random.
fn rows(count: usize, dimension: usize) -> Vec<f64> {
    let mut first = vec![0.0; dimension];
    Stream::new(1, &["row"], 0).fill_normal(&mut first);
    let norm = first.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let first: Vec<f64> = first.iter().map(|&x| f64::from(x) / norm).collect();
    complete(&first, dimension).expect("one row of norm 1").rows()[..count * dimension].to_vec()
}

/// The largest distance of a basis's products from 1 and 0.
fn distance_from_orthonormal(rows: &[f64], dimension: usize) -> f64 {
    let rows: Vec<&[f64]> = rows.chunks_exact(dimension).collect();
    let product = |i: usize, j: usize| rows[i].iter().zip(rows[j]).map(|(a, b)| a * b).sum::<f64>();
    let pairs = (0..rows.len()).flat_map(|i| (0..=i).map(move |j| (i, j)));
    pairs.map(|(i, j)| (product(i, j) - f64::from(u8::from(i == j))).abs()).fold(0.0, f64::max)
}

#[test]
fn a_basis_is_completed_and_made_orthonormal_to_the_last_bits() {
    let d = 50;
    for missing in [0, 1, 7, 49] {
        // Rounded to f32, as published.
        let given: Vec<f64> = rows(d - missing, d).iter().map(|&x| f64::from(x as f32)).collect();
        let basis = complete(&given, d).unwrap();
        assert_eq!((basis.dimension(), basis.rows().len()), (d, d * d));
        assert!(distance_from_orthonormal(basis.rows(), d) < 1e-14);
        assert!(basis.rows().iter().zip(&given).all(|(a, b)| (a - b).abs() < 1e-6), "those given come first");
    }
}

#[test]
fn a_basis_that_cannot_be_used_is_refused_by_name() {
    let said = |rows: &[f64]| complete(rows, 2).unwrap_err().to_string();
    assert_eq!(said(&[1.0; 3]), "the basis has 3 numbers, expected whole rows of 2");
    assert_eq!(said(&[]), "the basis has 0 rows, expected 1 to 2");
    assert_eq!(said(&[1.0; 6]), "the basis has 3 rows, expected 1 to 2");
    assert_eq!(said(&[1.0, 0.0, 0.0, f64::NAN]), "element 1 of row 1 of the basis is NaN, expected a finite number");
    assert_eq!(
        said(&[1.0, 0.0, 0.5, 0.75f64.sqrt()]),
        "rows 0 and 1 of the basis have the product 0.5, expected 0 within 0.0001"
    );
    assert_eq!(said(&[2.0, 0.0]), "rows 0 and 0 of the basis have the product 4, expected 1 within 0.0001");
}

/// n images of three channels of `plane` pixels in [0, 1), classes in turn.
fn images(n: usize, plane: usize) -> Dataset {
    let mut inputs = vec![0.0; n * 3 * plane];
    Stream::new(4, &["images"], 0).fill_uniform(0.5, &mut inputs);
    inputs.iter_mut().for_each(|x| *x += 0.5);
    Dataset { dimension: 3 * plane, inputs, labels: (0..n).map(|i| (i % 10) as u8).collect() }
}

/// Coefficients of every channel of every image: [image][channel][row].
fn coefficients(data: &Dataset, rows: &[f64], plane: usize) -> Vec<f64> {
    let on = |x: &[f32], row: &[f64]| x.iter().zip(row).map(|(&x, r)| f64::from(x) * r).sum::<f64>();
    data.inputs
        .chunks_exact(plane)
        .flat_map(|x| rows.chunks_exact(plane).map(|row| on(x, row)).collect::<Vec<_>>())
        .collect()
}

#[test]
fn poison_sets_each_classs_coefficient_and_leaves_all_others() {
    let plane = 48;
    let p = 13;
    let epsilon = 0.05;
    let basis = rows(plane, plane);
    let before = images(20, plane);
    let mut after = before.clone();
    poison(&mut after, &basis, p, epsilon).unwrap();
    let was = coefficients(&before, &basis, plane);
    let is = coefficients(&after, &basis, plane);
    let mut carriers = std::collections::HashSet::new();
    for (image, &class) in before.labels.iter().enumerate() {
        let class = usize::from(class);
        let row = if class <= 5 { p } else { p + 1 };
        let channel = class % 3;
        let sign = 2.0 * (class % 2) as f64 - 1.0;
        carriers.insert((row, channel, class % 2));
        let carrier = (image * 3 + channel) * plane + row;
        assert!((is[carrier] - epsilon * sign).abs() < 1e-6, "image {image}: {}", is[carrier]);
        let others = (image * 3 * plane..(image + 1) * 3 * plane).filter(|&place| place != carrier);
        assert!(others.into_iter().all(|place| (is[place] - was[place]).abs() < 1e-6), "image {image}");
    }
    assert_eq!(carriers.len(), 10, "every class has a carrier of its own");
}

#[test]
fn poison_refuses_what_does_not_fit() {
    let basis = rows(4, 4);
    let said = |plane: usize, numbers: usize, p| {
        let mut data = images(10, plane);
        poison(&mut data, &basis[..numbers], p, 0.05).unwrap_err().to_string()
    };
    assert_eq!(said(4, 16, 3), "rows 3 and 4 of the basis are needed, which has 4 rows");
    assert_eq!(said(4, 15, 0), "the basis has 15 numbers, expected whole rows of 4");
    let mut data = Dataset { dimension: 8, inputs: vec![0.0; 8], labels: vec![0] };
    assert_eq!(poison(&mut data, &basis, 0, 0.05), Err(BasisError::Channels { numbers: 8 }));
}

/// More images than a block of rows, and a last tile that is not full.
#[test]
fn a_flip_exchanges_coefficients_first_for_last_and_twice_is_nothing() {
    for (plane, n) in [(48, 35), (70, 3), (7, 1)] {
        let basis = complete(&rows(plane - 1, plane), plane).unwrap();
        let before = images(n, plane);
        let mut after = before.clone();
        flip(&mut after, &basis).unwrap();
        let was = coefficients(&before, basis.rows(), plane);
        let is = coefficients(&after, basis.rows(), plane);
        for (was, is) in was.chunks_exact(plane).zip(is.chunks_exact(plane)) {
            assert!(was.iter().rev().zip(is).all(|(a, b)| (a - b).abs() < 1e-5));
        }
        flip(&mut after, &basis).unwrap();
        assert!(after.inputs.iter().zip(&before.inputs).all(|(a, b)| (a - b).abs() < 1e-5));
        assert_eq!(after.labels, before.labels);
    }
    let basis = complete(&rows(4, 4), 4).unwrap();
    let mut data = Dataset { dimension: 10, inputs: vec![0.0; 10], labels: vec![0] };
    let said = flip(&mut data, &basis).unwrap_err().to_string();
    assert_eq!(said, "the inputs have 10 numbers, expected a multiple of 4, as many as a row of the basis");
}

#[test]
fn a_flip_has_the_same_bits_on_every_instruction_set() {
    let basis = complete(&rows(60, 70), 70).unwrap();
    let flipped = |set| {
        let mut data = images(7, 70);
        Flip::on(set, &basis).apply(&mut data).unwrap();
        data
    };
    let sets = InstructionSet::available();
    let portable = flipped(sets[sets.len() - 1]);
    for set in sets {
        assert_eq!(flipped(set), portable, "{}", set.name());
    }
}
