//! The spec of a sweep: TOML in, validated, with every default filled in.

mod check;
mod experiments;
mod indices;
mod jobs;
mod place;
mod shape;
#[cfg(test)]
mod tests;
mod text;

pub use experiments::{Basis, Cifar10, Directional, Directions, Estimator, Flipping, Margins, Nads, Poisoning, Wave};
pub use indices::Indices;
pub use jobs::{
    BasisSource, Direction, Experiment, InputRef, Inputs, JobShape, Part, Payload, Upload, Variant, nads_file,
};
pub use place::Place;

use crate::architecture::{self, Network, Shape};
use crate::ids::Digest;
use crate::numerics::Precision;
use crate::text as words;
use serde::{Deserialize, Serialize};
use std::fmt;
use text::syntax_error;
use thiserror::Error;

/// Most input pixels D (channels x height x width): the scatter matrix grows with D².
pub const MAX_PIXELS: usize = 4096;
/// Most networks of one experiment.
pub const MAX_NETWORKS: u64 = 100_000_000;
/// Most training runs of one architecture in one experiment.
pub const MAX_RUNS: u64 = 1_000_000;
/// Largest block.
pub const MAX_BLOCK_SIZE: u32 = 1024;
/// Longest spec in bytes.
pub const MAX_SPEC_BYTES: usize = 512 << 10;
/// Violations that a refusal names at most, and characters of each of its texts.
const MOST_VIOLATIONS: usize = 20;
const MOST_WORDS: usize = 500;
/// Longest name in characters.
const MAX_NAME: usize = 100;

/// A sweep as its user wrote it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// What to call it: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Key of all random numbers.
    #[serde(default)]
    pub seed: u64,
    /// Names of the registry.
    pub architectures: Vec<String>,
    /// What floating-point arithmetic is allowed.
    #[serde(default)]
    pub precision: Precision,
    /// Share of the shards, from 0 to 1, that a second worker computes again to compare the bits. No part of the result.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub audit: f64,
    /// The networks' input.
    #[serde(default)]
    pub input: Input,
    /// The NAD experiment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nads: Option<Nads>,
    /// Training runs along directions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directional: Option<Directional>,
    /// The images of the experiments below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cifar10: Option<Cifar10>,
    /// Training runs on poisoned images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poisoning: Option<Poisoning>,
    /// Training runs on images with flipped NADs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flipping: Option<Flipping>,
    /// Margins along NADs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margins: Option<Margins>,
}

/// Shape of the input: channels x height x width.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Input {
    /// Channels.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Default for Input {
    fn default() -> Self {
        Self { channels: 1, height: 32, width: 32 }
    }
}

/// One thing that is wrong with a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The key, for example `nads.networks`; empty when the text is no TOML at all.
    pub field: String,
    /// The value that was given, as text.
    pub value: String,
    /// What is wrong and what would be accepted.
    pub accepted: String,
    /// Where it stands in the text, where that is known.
    pub place: Option<Place>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, value, accepted, place } = self;
        if let Some(place) = place {
            write!(f, "{place}: ")?;
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
    /// At least one.
    pub violations: Vec<Violation>,
}

impl SpecError {
    /// One violation.
    pub fn of(field: &str, value: &str, accepted: String) -> Self {
        Self::new(vec![Violation { field: field.into(), value: value.into(), accepted, place: None }])
    }

    fn too_long(bytes: usize) -> Self {
        let accepted = format!("the spec has {bytes} bytes, defaults included; at most {MAX_SPEC_BYTES} are accepted");
        Self::of("", "", accepted)
    }

    /// These violations, or the first of them and how many more there are: whatever was sent, what is said of it is short.
    pub fn new(mut violations: Vec<Violation>) -> Self {
        let more = violations.len().saturating_sub(MOST_VIOLATIONS);
        violations.truncate(MOST_VIOLATIONS);
        for Violation { field, value, accepted, .. } in &mut violations {
            for text in [field, value, accepted] {
                *text = words::clean(text, MOST_WORDS);
            }
        }
        if more > 0 {
            let accepted = "there is more that is wrong".to_owned();
            violations.push(Violation { field: String::new(), value: String::new(), accepted, place: None });
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

impl Spec {
    /// Reads and validates a spec.
    ///
    /// # Errors
    /// [`SpecError`] with every violation.
    pub fn from_toml(text: &str) -> Result<Self, SpecError> {
        if text.len() > MAX_SPEC_BYTES {
            return Err(SpecError::too_long(text.len()));
        }
        let deserializer = toml::Deserializer::parse(text).map_err(|e| syntax_error(text, "", &e))?;
        let spec: Self = serde_path_to_error::deserialize(deserializer)
            .map_err(|e| syntax_error(text, &e.path().to_string(), e.inner()))?;
        let violations = spec.violations();
        if !violations.is_empty() {
            return Err(SpecError::new(violations).placed(text, &[]));
        }
        // Workers are sent it with every default written out, and read it as anybody else does.
        let whole = spec.to_toml().len();
        if whole > MAX_SPEC_BYTES { Err(SpecError::too_long(whole)) } else { Ok(spec) }
    }

    /// The spec as TOML with every default written out: equal specs have equal texts.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a validated spec holds only what TOML can say")
    }

    /// Digest of [`Spec::to_toml`].
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_toml().as_bytes())
    }

    /// The input's shape.
    pub fn shape(&self) -> Shape {
        Shape { channels: self.input.channels, height: self.input.height, width: self.input.width }
    }

    /// The network of one of this spec's architectures for an experiment.
    ///
    /// # Errors
    /// [`SpecError`] when the name is unknown or the input too small for it.
    pub fn network(&self, name: &str, experiment: Experiment) -> Result<Network, SpecError> {
        let known = architecture::find(name).ok_or_else(|| SpecError::new(vec![unknown_architecture(name)]))?;
        known
            .network(self.shape(), experiment.outputs())
            .map_err(|e| SpecError::of("input", &self.shape().to_string(), format!("{name}: {e}")))
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

fn registry() -> String {
    architecture::names().collect::<Vec<_>>().join(", ")
}

fn unknown_architecture(name: &str) -> Violation {
    let hint = words::nearest(name, architecture::names()).map_or(String::new(), |n| format!("; did you mean {n:?}?"));
    let accepted = format!("unknown architecture, known are {}{hint}", registry());
    Violation { field: "architectures".into(), value: format!("{name:?}"), accepted, place: None }
}
