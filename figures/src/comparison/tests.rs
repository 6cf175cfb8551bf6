//! Comparisons that can be computed by hand, and the fast sums held against a slow, obvious oracle.

#![allow(clippy::unwrap_used)]

use ndarray::{Array1, Array2, array, s};
use proptest::prelude::*;

use super::*;

/// A random orthonormal basis: Gram-Schmidt, twice, on uniform noise from a 64-bit congruential generator.
fn random_basis(rows: usize, dimension: usize, seed: u64) -> Array2<f64> {
    let mut state = seed;
    let mut basis = Array2::from_shape_simple_fn((rows, dimension), || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
    });
    for row in 0..rows {
        for _ in 0..2 {
            for earlier in 0..row {
                let direction = basis.row(earlier).to_owned();
                let along = direction.dot(&basis.row(row));
                basis.row_mut(row).scaled_add(-along, &direction);
            }
        }
        let length = basis.row(row).dot(&basis.row(row)).sqrt();
        basis.row_mut(row).mapv_inplace(|value| value / length);
    }
    basis
}

fn overlaps(a: &Array2<f64>, b: &Array2<f64>) -> Vec<(usize, f64)> {
    let comparison = compare(a.view(), b.view()).unwrap();
    comparison.overlaps.iter().map(|overlap| (overlap.k, overlap.overlap)).collect()
}

#[test]
fn identical_sets_overlap_fully_at_every_size() {
    let basis = random_basis(20, 30, 1);
    let comparison = compare(basis.view(), basis.view()).unwrap();
    assert_eq!(comparison.overlaps.iter().map(|overlap| overlap.k).collect::<Vec<_>>(), [1, 2, 4, 8, 16, 20]);
    assert!(comparison.overlaps.iter().all(|overlap| (overlap.overlap - 1.0).abs() < 1e-12));
    assert_eq!(comparison.overlaps[3].chance, 8.0 / 30.0);
    assert_eq!(comparison.dimension, 30);
}

#[test]
fn the_last_size_is_not_repeated() {
    let basis = random_basis(16, 16, 2);
    assert_eq!(overlaps(&basis, &basis).iter().map(|&(k, _)| k).collect::<Vec<_>>(), [1, 2, 4, 8, 16]);
    let one = basis.slice(s![..1, ..]);
    assert_eq!(compare(one, basis.view()).unwrap().overlaps.len(), 1);
}

#[test]
fn an_order_inside_k_does_not_matter_beyond_k() {
    let basis = Array2::<f64>::eye(8);
    let mut swapped = -&basis;
    swapped.swap([0, 0], [1, 0]);
    swapped.swap([0, 1], [1, 1]);
    assert_eq!(overlaps(&basis, &swapped), [(1, 0.0), (2, 1.0), (4, 1.0), (8, 1.0)]);
}

#[test]
fn a_rotation_by_half_a_right_angle_overlaps_half() {
    let half = 0.5_f64.sqrt();
    let a = array![[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]];
    let b = array![[half, half, 0.0], [half, -half, 0.0]];
    let found = overlaps(&a, &b);
    assert!((found[0].1 - 0.5).abs() < 1e-15);
    assert!((found[1].1 - 0.5).abs() < 1e-15);
}

#[test]
fn the_orthogonal_complement_overlaps_nowhere() {
    let basis = random_basis(20, 20, 3);
    let a = basis.slice(s![..10, ..]);
    let b = basis.slice(s![10.., ..]);
    assert!(compare(a, b).unwrap().overlaps.iter().all(|overlap| overlap.overlap < 1e-24));
}

#[test]
fn random_subspaces_overlap_at_the_level_of_chance() {
    let a = random_basis(64, 256, 4);
    let b = random_basis(64, 256, 5);
    for overlap in compare(a.view(), b.view()).unwrap().overlaps.iter().filter(|overlap| overlap.k >= 16) {
        assert!((overlap.overlap / overlap.chance - 1.0).abs() < 0.25, "{overlap:?}");
    }
}

#[test]
fn a_bad_row_is_named() {
    let good = Array2::<f64>::eye(4);
    let mut bad = good.clone();
    bad[[2, 1]] = 0.01;
    let error = compare(good.view(), bad.view()).unwrap_err();
    assert_eq!(error, CompareError::NotOrthonormal { side: Side::B, row: 1, other: 2, deviation: 0.01 });
    assert!(error.to_string().starts_with("the second set is not orthonormal: ⟨u1, u2⟩ is off by 1.000e-2"));
    bad[[0, 0]] = f64::NAN;
    assert!(matches!(
        compare(bad.view(), good.view()),
        Err(CompareError::NotOrthonormal { side: Side::A, row: 0, .. })
    ));
    let single = good.mapv(|value| value + 1e-6);
    assert!(compare(single.view(), good.view()).is_ok());
}

#[test]
fn sets_that_do_not_fit_are_refused() {
    let four = Array2::<f64>::eye(4);
    let five = Array2::<f64>::eye(5);
    assert_eq!(compare(four.view(), five.view()), Err(CompareError::Dimension { a: 4, b: 5 }));
    let empty = Array2::zeros((0, 4));
    assert_eq!(compare(four.view(), empty.view()), Err(CompareError::Empty { side: Side::B }));
}

#[test]
fn singular_values_are_scaled_by_their_networks() {
    let a = Array1::from_elem(10, 2.0);
    let b = Array1::from_elem(120, 4.0);
    let ratios = singular_value_ratios(a.view(), Some(26), b.view(), Some(101));
    assert_eq!(ratios.len(), 2);
    assert_eq!(ratios[1], SingularValueRatio { index: 9, a: 2.0, b: 4.0, ratio: Some(1.0) });
    assert_eq!(singular_value_ratios(a.view(), None, b.view(), Some(101))[0].ratio, None);
    assert_eq!(singular_value_ratios(b.view(), Some(1), b.view(), Some(101))[2].ratio, None);
}

proptest! {
    #[test]
    fn cumulative_sums_equal_the_norm_of_each_block(seed: u64, rows in 1_usize..12, more in 0_usize..6) {
        let a = random_basis(rows, 20, seed);
        let b = random_basis(rows + more, 20, !seed);
        for (k, overlap) in overlaps(&a, &b) {
            let block = a.slice(s![..k, ..]).dot(&b.slice(s![..k, ..]).t());
            let expected = block.iter().map(|value| value * value).sum::<f64>() / k as f64;
            prop_assert!((overlap - expected).abs() < 1e-12);
            prop_assert!((0.0..=1.0 + 1e-12).contains(&overlap));
        }
    }
}
