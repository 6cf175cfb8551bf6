//! Two accuracies for each direction, and how far they are apart.

/// One direction on either side, percent.
#[derive(Debug, PartialEq)]
pub(super) struct ComparedPair {
    pub(super) name: String,
    pub(super) ours: f64,
    pub(super) published: f64,
}

impl ComparedPair {
    pub(super) fn new(name: String, ours: f64, published: f64) -> Self {
        Self { name, ours, published }
    }

    pub(super) fn difference(&self) -> f64 {
        self.ours - self.published
    }
}

/// The means over all directions.
#[derive(Debug, PartialEq)]
pub(super) struct PublishedComparison {
    pub(super) mean_difference: f64,
    pub(super) mean_absolute_difference: f64,
    /// None where a side does not vary.
    pub(super) pearson: Option<f64>,
}

/// Compares at least one pair.
pub(super) fn compare(pairs: &[ComparedPair]) -> PublishedComparison {
    let mean = |of: &dyn Fn(&ComparedPair) -> f64| pairs.iter().map(of).sum::<f64>() / pairs.len() as f64;
    let ours = mean(&|pair| pair.ours);
    let published = mean(&|pair| pair.published);
    let covariance = mean(&|pair| (pair.ours - ours) * (pair.published - published));
    let scale = (mean(&|pair| (pair.ours - ours).powi(2)) * mean(&|pair| (pair.published - published).powi(2))).sqrt();
    PublishedComparison {
        mean_difference: ours - published,
        mean_absolute_difference: mean(&|pair| pair.difference().abs()),
        pearson: (scale > 0.0).then(|| covariance / scale),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(of: &[(f64, f64)]) -> Vec<ComparedPair> {
        of.iter().map(|(ours, published)| ComparedPair::new(String::new(), *ours, *published)).collect()
    }

    #[test]
    fn differences_and_correlation_by_hand() {
        let found = compare(&pairs(&[(50.0, 52.0), (60.0, 59.0), (70.0, 72.0)]));
        assert_eq!((found.mean_difference, found.mean_absolute_difference), (-1.0, 5.0 / 3.0));
        // sums about the means (60 and 61): products 9 * 10 + 0 + 10 * 11, squares 200, 81 + 4 + 121
        let by_hand = 200.0 / (200.0_f64 * 206.0).sqrt();
        assert!(found.pearson.is_some_and(|r| (r - by_hand).abs() < 1e-12), "{found:?}");
    }

    #[test]
    fn the_extremes_of_correlation() {
        let of = |pairs: Vec<ComparedPair>| compare(&pairs).pearson;
        assert!(of(pairs(&[(1.0, 10.0), (2.0, 20.0), (3.0, 30.0)])).is_some_and(|r| (r - 1.0).abs() < 1e-12));
        assert!(of(pairs(&[(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)])).is_some_and(|r| (r + 1.0).abs() < 1e-12));
        assert_eq!(of(pairs(&[(1.0, 100.0), (2.0, 100.0)])), None);
    }
}
