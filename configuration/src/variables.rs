//! The variables `NADGRID_...` that a program reads, among all others.

use nadgrid_core::text::edit_distance;
use std::collections::BTreeMap;
use std::ffi::OsString;

/// The prefix of every variable that nadgrid reads.
pub const PREFIX: &str = "NADGRID_";

/// Largest edit distance between an unknown variable and an own one that it may be meant to be.
const MAX_DISTANCE: usize = 2;

/// The variables of a program.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    values: BTreeMap<String, String>,
    warnings: Vec<String>,
}

impl Variables {
    /// Reads those of `all` that set one of the keys `own`. All others are let be; what is no UTF-8 in a value becomes U+FFFD.
    pub fn read(all: impl IntoIterator<Item = (OsString, OsString)>, own: &[&str]) -> Self {
        let mut variables = Self::default();
        for (name, value) in all {
            let Some(key) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).map(str::to_lowercase) else {
                continue;
            };
            if own.contains(&key.as_str()) {
                variables.values.insert(key, value.to_string_lossy().into_owned());
            } else if let Some(meant) = nearest(&key, own) {
                let warning = format!(
                    "the variable {PREFIX}{} is not read; did you mean {PREFIX}{}?",
                    key.to_uppercase(),
                    meant.to_uppercase()
                );
                variables.warnings.push(warning);
            }
        }
        variables
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// A warning for each variable that is nearly an own one.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// The own key that another one may be meant to be. Of a short one it must be nearer: `PORT` is not meant to be `OUT`.
fn nearest<'a>(key: &str, own: &[&'a str]) -> Option<&'a str> {
    let near = own.iter().map(|own| (edit_distance(key, own), *own));
    let near = near.filter(|(distance, own)| *distance <= MAX_DISTANCE.min(own.len() / 3));
    near.min().map(|(_, own)| own)
}

/// A boolean as it may be written in a variable.
pub fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}
