//! Specs as text: overrides from outside, and what the TOML reader says in our words.

use super::{SourcePosition, Spec, SpecError, Violation};
use crate::text;

impl Spec {
    /// The text of a spec with keys changed: `("nads.networks", "256")` and so on. Values are TOML; what is
    /// no TOML value is taken as a string. The result is not validated.
    ///
    /// # Errors
    /// [`SpecError`] when the text is no TOML, or a key leads through something that is no table.
    pub fn override_keys(text: &str, overrides: &[(String, String)]) -> Result<String, SpecError> {
        let mut table: toml::Table = text.parse().map_err(|e: toml::de::Error| syntax_error(text, "", &e))?;
        for (key, value) in overrides {
            let mut at = &mut table;
            let (path, last) = key.rsplit_once('.').map_or((None, key.as_str()), |(p, l)| (Some(p), l));
            for part in path.into_iter().flat_map(|path| path.split('.')) {
                let next = at.entry(part).or_insert_with(|| toml::Value::Table(toml::Table::new()));
                let found = next.to_string();
                at = next.as_table_mut().ok_or_else(|| SpecError::of(key, &found, format!("`{part}` is no table")))?;
            }
            at.insert(last.to_owned(), parse_value(value));
        }
        Ok(table.to_string())
    }
}

/// A TOML value, or the text itself as a string.
fn parse_value(text: &str) -> toml::Value {
    let parsed = format!("value = {text}").parse::<toml::Table>();
    match parsed {
        Ok(mut table) if table.len() == 1 => table.remove("value").unwrap_or(toml::Value::Boolean(false)),
        _ => toml::Value::String(text.to_owned()),
    }
}

/// Returns what the TOML reader reports, with line and column, and the nearest known key for a misspelt one.
pub(super) fn syntax_error(text: &str, path: &str, error: &toml::de::Error) -> SpecError {
    let span = error.span().filter(|span| !span.is_empty() || span.start > 0);
    let position = span.map(|span| SourcePosition::of(text, span.start));
    let message = error.message();
    let mut quoted = message.split('`').skip(1).step_by(2);
    let hint = match quoted.next() {
        Some(word) if message.starts_with("unknown field") || message.starts_with("unknown variant") => {
            text::nearest(word, quoted).map_or(String::new(), |n| format!("; did you mean `{n}`?"))
        }
        _ => String::new(),
    };
    let field = if path == "." { "" } else { path };
    let value = error.span().and_then(|span| text.get(span)).unwrap_or_default();
    let value =
        if field.is_empty() || value.contains('\n') || message.starts_with("unknown field") { "" } else { value };
    let accepted = format!("{message}{hint}");
    SpecError::new(vec![Violation { field: field.into(), value: value.into(), accepted, position }])
}
