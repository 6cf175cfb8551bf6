//! One configuration out of four layers.

use crate::{Configuration, KeyFlags, Number, Range, Variables};
use config::{Config, File, FileFormat};
use nadgrid_core::text::nearest;
use serde::{Deserialize, Deserializer};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use thiserror::Error;

/// A configuration that is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigurationError {
    /// The file cannot be read or is no TOML.
    #[error("{}: {reason}", .path.display())]
    File {
        /// The path of the configuration file.
        path: PathBuf,
        /// The reason that it cannot be used.
        reason: String,
    },
    /// The file has a key that means nothing.
    #[error("{}: unknown key `{key}`{hint}; known are {}", .path.display(), .known.join(", "))]
    UnknownKey {
        /// The path of the configuration file.
        path: PathBuf,
        /// The name of the key, as files have it.
        key: String,
        /// A likely correction.
        hint: String,
        /// All keys.
        known: Vec<&'static str>,
    },
    /// A value has the wrong type or is out of range.
    #[error("{key} = {value}: {accepted}")]
    Value {
        /// The name of the key, as files have it.
        key: String,
        /// The value that was given.
        value: String,
        /// The values that are accepted.
        accepted: String,
    },
    /// A value has the wrong type, and must not be shown.
    #[error("{key}: {accepted}")]
    Hidden {
        /// The name of the key, as files have it.
        key: String,
        /// The values that are accepted.
        accepted: String,
    },
}

impl ConfigurationError {
    /// A value that is not accepted.
    pub fn value(key: &str, value: &dyn Display, accepted: impl Into<String>) -> Self {
        Self::Value { key: key.to_owned(), value: value.to_string(), accepted: accepted.into() }
    }

    /// Requires a number, where it is there, to be in a range.
    ///
    /// # Errors
    /// [`ConfigurationError::Value`] when it is not.
    pub fn require(key: &str, value: &impl Number, range: &Range) -> Result<(), Self> {
        match value.number().filter(|number| !range.contains(*number)) {
            Some(number) => Err(Self::value(key, &number, range.to_string())),
            None => Ok(()),
        }
    }
}

/// Puts the layers together: defaults, the file of `--config` or `NADGRID_CONFIG`, variables, flags, and at last `overrides`, whose
/// keys may lead into tables.
///
/// # Errors
/// [`ConfigurationError`] names the file or the key, its value and what is accepted.
pub fn load<C: Configuration>(
    flags: &KeyFlags<C>,
    variables: &Variables,
    overrides: &[(String, String)],
) -> Result<C, ConfigurationError> {
    let mut layers = Config::builder();
    if let Some(path) = flags.file.clone().or_else(|| variables.get("config").map(PathBuf::from)) {
        layers = layers.add_source(read(&path, &C::names())?);
    }
    for key in C::keys() {
        let value = flags.values().get(key.name).map(String::as_str).or_else(|| variables.get(key.name));
        layers = layers.set_override_option(key.name, value).map_err(|error| refused(key.name, None, &error))?;
    }
    for (key, value) in overrides {
        layers = layers.set_override(key, value.as_str()).map_err(|error| refused(key, None, &error))?;
    }
    let layers = layers.build().map_err(|error| refused("configuration", None, &error))?;
    let loaded: Result<C, _> = serde_path_to_error::deserialize(layers.clone());
    let loaded = loaded.map_err(|error| {
        let key = error.path().to_string();
        let value = layers.get_string(&key).ok();
        refused(&key, value, error.inner())
    })?;
    loaded.check_ranges()?;
    Ok(loaded)
}

fn read(path: &Path, known: &[&'static str]) -> Result<Config, ConfigurationError> {
    let refused = |reason: String| ConfigurationError::File { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| refused(format!("cannot be read: {error}")))?;
    let file = Config::builder().add_source(File::from_str(&text, FileFormat::Toml)).build();
    let file = file.map_err(|error| refused(error.to_string()))?;
    let mut keys: Vec<String> = file.cache.clone().into_table().unwrap_or_default().into_keys().collect();
    keys.sort();
    match keys.into_iter().find(|key| !known.contains(&key.as_str())) {
        Some(key) => {
            let hint = nearest(&key, known.iter().copied()).map_or(String::new(), |n| format!("; did you mean `{n}`?"));
            Err(ConfigurationError::UnknownKey { path: path.to_owned(), key, hint, known: known.to_vec() })
        }
        None => Ok(file),
    }
}

/// The error for a value. One that may hold a password is not shown.
fn refused(key: &str, value: Option<String>, error: &config::ConfigError) -> ConfigurationError {
    let accepted = error.to_string();
    match value.filter(|value| !value.contains('@')) {
        Some(value) => ConfigurationError::value(key, &value, accepted),
        None => ConfigurationError::Hidden { key: key.to_owned(), accepted },
    }
}

/// Deserializes a value that is written as text, such as a device.
///
/// # Errors
/// The error of its [`FromStr`].
pub fn parsed<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}
