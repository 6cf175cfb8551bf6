//! This module has the inputs of several figures, and the checks that all of them make before they draw.

use super::FigureError;

/// The most that a mean may lie outside its range: the last bits of a sum.
const ROUNDING: f64 = 1e-9;
/// Far beyond any distance between images, and well within what axes can label.
const MAX_LENGTH: f64 = 1e9;

/// An accuracy in per cent over the seeds of one measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeedRange {
    /// The mean over the seeds.
    pub mean: f64,
    /// The lowest seed.
    pub min: f64,
    /// The highest seed.
    pub max: f64,
}

impl SeedRange {
    /// The accuracy of the only seed.
    pub fn single(accuracy: f64) -> Self {
        Self { mean: accuracy, min: accuracy, max: accuracy }
    }

    /// Mean, lowest and highest of these accuracies, one a seed; `None` where there are none.
    pub fn of(accuracies: &[f64]) -> Option<Self> {
        let fold = |pick: fn(f64, f64) -> f64| accuracies.iter().copied().reduce(pick);
        let mean = accuracies.iter().sum::<f64>() / accuracies.len() as f64;
        Some(Self { mean, min: fold(f64::min)?, max: fold(f64::max)? })
    }

    /// Whether the seeds differ, so that there is a range to draw.
    pub(super) fn is_spread(&self) -> bool {
        self.max > self.min
    }

    /// Checks that all three are percentages, in order.
    pub(super) fn check(&self, field: &str) -> Result<(), FigureError> {
        for (name, value) in [("mean", self.mean), ("min", self.min), ("max", self.max)] {
            check_percentage(value, || format!("{field}.{name}"))?;
        }
        check_ordered(&[("min", self.min), ("mean", self.mean), ("max", self.max)], field)
    }
}

/// A horizontal line at an accuracy that belongs to no direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level<'a> {
    /// The name in the legend.
    pub name: &'a str,
    /// The value in per cent.
    pub accuracy: f64,
}

/// Checks that a list has elements.
pub(super) fn check_filled<T>(list: &[T], field: impl FnOnce() -> String) -> Result<(), FigureError> {
    if list.is_empty() { Err(FigureError::EmptyField { field: field() }) } else { Ok(()) }
}

/// Checks that a value is a percentage.
pub(super) fn check_percentage(value: f64, field: impl FnOnce() -> String) -> Result<(), FigureError> {
    check_value(value, (0.0..=100.0).contains(&value), field, "a percentage from 0 to 100")
}

/// Checks that a value is a length.
pub(super) fn check_length(value: f64, field: impl FnOnce() -> String) -> Result<(), FigureError> {
    check_value(value, (0.0..=MAX_LENGTH).contains(&value), field, "a number from 0 to 1e9")
}

/// Checks that a number of elements is accepted.
pub(super) fn check_count(
    count: usize,
    is_accepted: bool,
    field: impl FnOnce() -> String,
    accepted: &str,
) -> Result<(), FigureError> {
    check_value(count as f64, is_accepted, field, accepted)
}

fn check_value(
    value: f64,
    is_accepted: bool,
    field: impl FnOnce() -> String,
    accepted: &str,
) -> Result<(), FigureError> {
    if is_accepted {
        return Ok(());
    }
    Err(FigureError::Value { field: field(), value, accepted: accepted.to_owned() })
}

/// Checks that finite values of one field do not fall, but for rounding.
pub(super) fn check_ordered(values: &[(&str, f64)], field: &str) -> Result<(), FigureError> {
    for pair in values.windows(2) {
        let [(low_name, low), (high_name, high)] = *pair else { continue };
        let accepted = || format!("{low} ({low_name}) or more");
        if high < low - ROUNDING * low.abs().max(1.0) {
            return Err(FigureError::Value {
                field: format!("{field}.{high_name}"),
                value: high,
                accepted: accepted(),
            });
        }
    }
    Ok(())
}

/// Checks that indices rise from one element of `field` to the next; `name` is the index's name in an element.
pub(super) fn check_rising(indices: impl IntoIterator<Item = u64>, field: &str, name: &str) -> Result<(), FigureError> {
    let mut previous = None;
    for (position, index) in indices.into_iter().enumerate() {
        if let Some(previous) = previous.filter(|&previous| index <= previous) {
            return Err(FigureError::Value {
                field: format!("{field}[{position}].{name}"),
                value: index as f64,
                accepted: format!("more than the {previous} before it"),
            });
        }
        previous = Some(index);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_range_spans_its_seeds() {
        assert_eq!(SeedRange::of(&[50.0, 56.0, 53.0]), Some(SeedRange { mean: 53.0, min: 50.0, max: 56.0 }));
        assert_eq!(SeedRange::of(&[]), None);
        assert!(!SeedRange::single(9.0).is_spread());
    }

    #[test]
    fn a_mean_may_round_past_its_seeds() {
        let range = SeedRange::of(&[0.1, 0.1, 0.1]).unwrap();
        assert!(range.mean > range.max);
        range.check("accuracy").unwrap();
    }

    #[test]
    fn what_is_wrong_is_named() {
        let said = |range: SeedRange| range.check("points[2].accuracy").unwrap_err().to_string();
        assert_eq!(
            said(SeedRange { max: f64::NAN, ..SeedRange::single(50.0) }),
            "points[2].accuracy.max is NaN; accepted is a percentage from 0 to 100"
        );
        assert_eq!(
            said(SeedRange { max: 49.0, ..SeedRange::single(50.0) }),
            "points[2].accuracy.max is 49; accepted is 50 (mean) or more"
        );
        let error = check_rising([0, 4, 4], "points", "index").unwrap_err();
        assert_eq!(error.to_string(), "points[2].index is 4; accepted is more than the 4 before it");
    }
}
