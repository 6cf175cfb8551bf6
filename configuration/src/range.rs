//! The range of a number in a configuration.

use std::fmt;

/// A range of numbers, both ends included.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    least: f64,
    most: f64,
    unit: &'static str,
    zero: Option<&'static str>,
}

impl Range {
    /// Counts and other numbers from `least` to `most`; infinity is no end.
    pub const fn of(least: f64, most: f64) -> Self {
        Self { least, most, unit: "", zero: None }
    }

    /// Numbers of seconds from `least` to `most`.
    pub const fn seconds(least: f64, most: f64) -> Self {
        Self { least, most, unit: "a number of seconds ", zero: None }
    }

    /// The same range, and 0 with a meaning of its own.
    #[must_use]
    pub const fn or_zero_for(self, meaning: &'static str) -> Self {
        Self { zero: Some(meaning), ..self }
    }

    /// Whether a number is one of these.
    pub fn contains(&self, number: f64) -> bool {
        number.is_finite() && ((self.least..=self.most).contains(&number) || (self.zero.is_some() && number == 0.0))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { least, most, unit, zero } = self;
        if most.is_finite() {
            write!(f, "{unit}from {least} to {most}")?;
        } else {
            write!(f, "{unit}at least {least}")?;
        }
        zero.map_or(Ok(()), |meaning| write!(f, ", or 0 for {meaning}"))
    }
}

/// A number of a configuration, which may be absent.
pub trait Number {
    /// The number, as far as it is there.
    fn number(&self) -> Option<f64>;
}

macro_rules! numbers {
    ($($type:ty),+) => {
        $(impl Number for $type {
            fn number(&self) -> Option<f64> {
                Some(*self as f64)
            }
        })+
    };
}

numbers!(f64, u32, u64, usize);

impl<T: Number> Number for Option<T> {
    fn number(&self) -> Option<f64> {
        self.as_ref()?.number()
    }
}
