//! A spec that is refused: everything that is wrong with it, in few words.

use super::{MAX_SPEC_BYTES, SourcePosition};
use crate::text;
use std::fmt;
use thiserror::Error;

/// Violations that a refusal names at most.
pub(super) const MAX_VIOLATIONS: usize = 20;
/// Longest text of a violation in characters.
const MAX_WORDS: usize = 500;

/// One thing that is wrong with a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The key, for example `nads.networks`; empty when the text is no TOML at all.
    pub field: String,
    /// The value that was given, as text.
    pub value: String,
    /// The fault, and what would be accepted.
    pub accepted: String,
    /// Its position in the text, where that is known.
    pub position: Option<SourcePosition>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, value, accepted, position } = self;
        if let Some(position) = position {
            write!(f, "{position}: ")?;
        }
        match (field.is_empty(), value.is_empty()) {
            (true, _) => f.write_str(accepted),
            (false, true) => write!(f, "{field}: {accepted}"),
            (false, false) => write!(f, "{field} = {value}: {accepted}"),
        }
    }
}

/// A spec that is refused, with everything that is wrong with it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub struct SpecError {
    /// The violations, at least one.
    pub violations: Vec<Violation>,
}

impl SpecError {
    /// An error with one violation.
    pub fn of(field: &str, value: &str, accepted: String) -> Self {
        Self::new(vec![Violation { field: field.into(), value: value.into(), accepted, position: None }])
    }

    pub(super) fn too_long(bytes: usize) -> Self {
        let accepted = format!("the spec has {bytes} bytes, defaults included; at most {MAX_SPEC_BYTES} are accepted");
        Self::of("", "", accepted)
    }

    /// These violations, or the first of them and a note that there are more: the error is short, whatever was sent.
    pub fn new(mut violations: Vec<Violation>) -> Self {
        let more = violations.len().saturating_sub(MAX_VIOLATIONS);
        violations.truncate(MAX_VIOLATIONS);
        for Violation { field, value, accepted, .. } in &mut violations {
            for words in [field, value, accepted] {
                *words = text::clean(words, MAX_WORDS);
            }
        }
        if more > 0 {
            let accepted = "there are more violations".to_owned();
            violations.push(Violation { field: String::new(), value: String::new(), accepted, position: None });
        }
        Self { violations }
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.violations.iter().map(ToString::to_string).collect();
        write!(f, "the spec is refused: {}", lines.join("; "))
    }
}
