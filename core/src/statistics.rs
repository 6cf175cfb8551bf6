//! Order statistics of measured numbers, infinities included: a margin that was not found is infinite.

/// The number below which a fraction of `values` lies, linear between the two nearest (R's type 7, NumPy's default): the value
/// itself when both are equal, so that it is infinite where they are. Not a number when any value is not, or there are none.
///
/// # Panics
/// When `fraction` is not in [0, 1].
pub fn quantile(values: &[f64], fraction: f64) -> f64 {
    assert!((0.0..=1.0).contains(&fraction), "a fraction of {fraction}");
    if values.is_empty() || values.iter().any(|x| x.is_nan()) {
        return f64::NAN;
    }
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let place = fraction * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    // Nothing of an infinity is not a number.
    if low == high { low } else { low * (1.0 - place.fract()) + high * place.fract() }
}

/// The quantile of one half.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_numpys() {
        let values = [4.0, 1.0, 3.0, 2.0];
        for (fraction, expected) in [(0.0, 1.0), (0.25, 1.75), (0.5, 2.5), (0.9, 3.7), (1.0, 4.0)] {
            assert!((quantile(&values, fraction) - expected).abs() < 1e-12, "{fraction}");
        }
        assert_eq!(median(&[7.0]), 7.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    }

    #[test]
    fn infinities_are_numbers_like_others() {
        let inf = f64::INFINITY;
        assert_eq!(median(&[1.0, inf, 2.0]), 2.0);
        assert_eq!(median(&[inf, inf, 1.0]), inf);
        assert_eq!(median(&[1.0, inf]), inf);
        assert!(median(&[]).is_nan());
        assert!(median(&[1.0, f64::NAN, 2.0]).is_nan());
    }
}
