//! The position of a spec's key in its text.

use super::SpecError;
use std::fmt;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A position in a text, counted from 1, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourcePosition {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl SourcePosition {
    /// The position of a byte.
    pub(super) fn of(text: &str, byte: usize) -> Self {
        let before = text.get(..byte.min(text.len())).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        Self { line, column }
    }
}

impl fmt::Display for SourcePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

impl SpecError {
    /// The same error in the order of `text`, each violation with its position: that of its value, or of the nearest table
    /// around it.
    /// `elsewhere` are keys whose values come from somewhere else, and so have no position.
    #[must_use]
    pub fn located(mut self, text: &str, elsewhere: &[(String, String)]) -> Self {
        let Ok(table) = DeTable::parse(text) else { return self };
        for violation in &mut self.violations {
            let field = violation.field.as_str();
            let is_within =
                |key: &str| field.strip_prefix(key).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric));
            let own = !field.is_empty() && !elsewhere.iter().any(|(key, _)| is_within(key));
            violation.position =
                own.then(|| span(table.get_ref(), field)).flatten().map(|at| SourcePosition::of(text, at.start));
        }
        self.violations.sort_by_key(|violation| (violation.position.is_none(), violation.position));
        self
    }
}

/// The value of a key such as `nads.step` or `architectures[1]`, else what is nearest around it.
fn span(table: &DeTable<'_>, field: &str) -> Option<Range<usize>> {
    let mut parts = field.split(['.', '[', ']']).filter(|part| !part.is_empty());
    let mut value: &Spanned<DeValue<'_>> = table.get(parts.next()?)?;
    for part in parts {
        let next = match value.get_ref() {
            DeValue::Table(table) => table.get(part),
            DeValue::Array(values) => part.parse::<usize>().ok().and_then(|place| values.get(place)),
            _ => None,
        };
        match next {
            Some(next) => value = next,
            None => break,
        }
    }
    Some(value.span())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Spec;

    const WRONG: &str = "name = 'é x'\narchitectures = ['lenet', 'lenett']\n[nads]\nnetworks = 64\n  step = -1.0\n";

    fn places(error: &SpecError) -> Vec<(&str, Option<(usize, usize)>)> {
        let found = error.violations.iter();
        found.map(|v| (v.field.as_str(), v.position.map(|at| (at.line, at.column)))).collect()
    }

    #[test]
    fn every_violation_has_the_place_of_its_value() {
        let error = Spec::from_toml(WRONG).unwrap_err();
        let found = places(&error);
        for expected in [("name", Some((1, 8))), ("architectures[1]", Some((2, 27))), ("nads.step", Some((5, 10)))] {
            assert!(found.contains(&expected), "{found:?} lacks {expected:?}");
        }
        let said = error.to_string();
        assert!(
            said.contains("line 2, column 27: architectures[1] = \"lenett\"")
                && said.contains("did you mean \"lenet\"?"),
            "{said}"
        );
    }

    #[test]
    fn what_comes_from_elsewhere_has_no_place_and_the_rest_keeps_its_own() {
        let set = [("nads.step".to_owned(), "-2.0".to_owned())];
        let text = Spec::override_keys(WRONG, &set).unwrap();
        let error = Spec::from_toml(&text).unwrap_err().located(WRONG, &set);
        let found = places(&error);
        assert!(found.contains(&("nads.step", None)) && found.contains(&("name", Some((1, 8)))), "{found:?}");
    }

    #[test]
    fn misspelt_keys_and_words_are_answered_with_the_nearest() {
        for (text, place, nearest) in [
            ("name = 'x'\narchitectures = ['lenet']\n[nads]\nnetwroks = 64\n", "line 4, column 1", "`networks`"),
            (
                "name = 'x'\narchitectures = ['lenet']\n[nads]\nnetworks = 64\nestimator = 'autogradd'\n",
                "line 5, column 13",
                "`autograd`",
            ),
            ("name = 'x'\narchitectures = ['lenet']\n[directionl]\n", "line 3, column 2", "`directional`"),
        ] {
            let said = Spec::from_toml(text).unwrap_err().to_string();
            assert!(said.contains(place) && said.contains(&format!("did you mean {nearest}?")), "{said}");
        }
    }
}
