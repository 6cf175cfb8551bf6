//! The values that a key accepts: one description, from which check, error, template and reference are made.

use super::MAX_NAME;
use crate::architecture;
use crate::text;
use serde::Serialize;
use std::fmt;
use toml::Value;

/// Longest path in bytes, which is Linux's limit too.
const MAX_PATH: usize = 4096;

/// The values that a key accepts.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Accepted {
    /// Integers of a range, both ends included.
    Integers {
        /// The smallest one.
        least: u64,
        /// The largest one.
        most: u64,
    },
    /// Integers from this one on.
    AtLeast(u64),
    /// Finite numbers of a range, both ends included.
    Numbers {
        /// The smallest one.
        least: f64,
        /// The largest one.
        most: f64,
    },
    /// Numbers of a range without its upper end.
    Below {
        /// The smallest one.
        least: f64,
        /// The end, which is not accepted itself.
        end: f64,
    },
    /// Finite numbers that are not negative.
    NotNegative,
    /// Powers of two from 1 on.
    PowersOfTwo {
        /// The largest one.
        most: u64,
    },
    /// One of these values, as TOML writes them; the type of the key enforces it.
    OneOf(Vec<String>),
    /// The name of a sweep.
    Name,
    /// A path, or another text that files are known by.
    Path(&'static str),
    /// A list of architectures, which [`super::Spec`] checks one by one.
    Architectures,
    /// The values that these words describe. The type of the key, or a check of several keys together, enforces it.
    Words(&'static str),
}

impl Accepted {
    /// Integers from 1 to `most`.
    pub(super) const fn count(most: u64) -> Self {
        Self::Integers { least: 1, most }
    }

    /// Numbers from 0 to `most`.
    pub(super) const fn up_to(most: f64) -> Self {
        Self::Numbers { least: 0.0, most }
    }

    /// All values of a type that has few.
    pub(super) fn one_of<T: Serialize>(values: &[T]) -> Self {
        Self::OneOf(values.iter().map(written).collect())
    }

    /// Whether a value of the right type is accepted.
    pub(super) fn admits(&self, value: &Value) -> bool {
        match self {
            Self::Integers { least, most } => unsigned(value).is_some_and(|number| (*least..=*most).contains(&number)),
            Self::AtLeast(least) => unsigned(value).is_some_and(|number| number >= *least),
            Self::Numbers { least, most } => value.as_float().is_some_and(|number| (*least..=*most).contains(&number)),
            Self::Below { least, end } => value.as_float().is_some_and(|number| (*least..*end).contains(&number)),
            Self::NotNegative => value.as_float().is_some_and(|number| number.is_finite() && number >= 0.0),
            Self::PowersOfTwo { most } => {
                unsigned(value).is_some_and(|number| number.is_power_of_two() && number <= *most)
            }
            Self::Name => value.as_str().is_some_and(is_name),
            Self::Path(_) => value.as_str().is_some_and(|path| (1..=MAX_PATH).contains(&path.len())),
            Self::OneOf(_) | Self::Architectures | Self::Words(_) => true,
        }
    }
}

fn unsigned(value: &Value) -> Option<u64> {
    value.as_integer().and_then(|number| u64::try_from(number).ok())
}

fn is_name(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=MAX_NAME).contains(&name.len()) && name.chars().all(is_allowed) && !name.starts_with('.')
}

/// A value as TOML writes it.
pub(super) fn written(value: &impl Serialize) -> String {
    Value::try_from(value).map_or_else(|_| String::new(), |value| value.to_string())
}

/// A number with thousands separators.
fn grouped(number: f64) -> String {
    if number.fract() == 0.0 { text::thousands(number as u64) } else { number.to_string() }
}

impl fmt::Display for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integers { least, most } => {
                write!(f, "from {} to {}", text::thousands(*least), text::thousands(*most))
            }
            Self::AtLeast(least) => write!(f, "at least {}", text::thousands(*least)),
            Self::Numbers { least, most } => {
                write!(f, "a finite number from {} to {}", grouped(*least), grouped(*most))
            }
            Self::Below { least, end } => write!(f, "from {} to below {}", grouped(*least), grouped(*end)),
            Self::NotNegative => f.write_str("a finite number of at least 0"),
            Self::PowersOfTwo { most } => write!(f, "a power of two from 1 to {}", text::thousands(*most)),
            Self::OneOf(values) => f.write_str(&values.join(", ")),
            Self::Name => write!(f, "1 to {MAX_NAME} letters, digits, `.`, `_` or `-`, not beginning with `.`"),
            Self::Path(what) => write!(f, "{what}, at most {} bytes", text::thousands(MAX_PATH as u64)),
            Self::Architectures => {
                let known: Vec<&str> = architecture::names().collect();
                write!(f, "one or more of {}, each at most once", known.join(", "))
            }
            Self::Words(words) => f.write_str(words),
        }
    }
}
