//! The spec of a sweep: TOML in, validated, with every default filled in.

mod accepted;
mod check;
mod directions;
mod error;
mod indices;
mod jobs;
mod key;
mod position;
mod recipe;
mod sections;
mod shape;
#[cfg(test)]
mod tests;
mod text;

pub use directions::{Directions, FileDirections, NadDirections, PixelDirections, PlaneWaves, RandomDirections, Wave};
pub use error::{SpecError, Violation};
pub use indices::Indices;
pub use jobs::{
    BasisSource, Direction, Experiment, ImageSet, InputRef, Inputs, JobShape, Payload, Upload, Variant, nads_file,
};
pub use key::{Presence, SpecKey, SpecSection};
pub use position::SourcePosition;
pub use recipe::Recipe;
pub use sections::{
    BasisSpec, Cifar10Spec, DirectionalSpec, Estimator, FlippingSpec, InputSpec, MarginsSpec, NadsSpec, PoisoningSpec,
    Spec,
};

use crate::architecture::{self, Network, Shape};
use crate::ids::Digest;
use crate::text as words;
use key::SpecTable;
use text::syntax_error;

/// Most input pixels D (channels x height x width): the scatter matrix grows with D².
pub const MAX_PIXELS: usize = 4096;
/// Most networks of one experiment.
pub const MAX_NETWORKS: u64 = 100_000_000;
/// Most training runs of one architecture in one experiment.
pub const MAX_RUNS: u64 = 1_000_000;
/// The largest block.
pub const MAX_BLOCK_SIZE: u32 = 1024;
/// The longest spec in bytes.
pub const MAX_SPEC_BYTES: usize = 512 << 10;
/// The longest name in characters.
const MAX_NAME: usize = 100;

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
            return Err(SpecError::new(violations).located(text, &[]));
        }
        // Workers are sent it with every default written out, and read it as anybody else does.
        let whole = spec.to_toml().len();
        if whole > MAX_SPEC_BYTES { Err(SpecError::too_long(whole)) } else { Ok(spec) }
    }

    /// The spec as TOML with every default written out: equal specs have equal texts.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a validated spec holds only what TOML can say")
    }

    /// Every section of a spec, that of the spec itself first.
    pub fn sections() -> Vec<SpecSection> {
        let mut sections = Vec::new();
        Self::describe("", None, &mut sections);
        sections
    }

    /// Returns the digest of [`Spec::to_toml`].
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

fn registry() -> String {
    architecture::names().collect::<Vec<_>>().join(", ")
}

fn unknown_architecture(name: &str) -> Violation {
    let hint = words::nearest(name, architecture::names()).map_or(String::new(), |n| format!("; did you mean {n:?}?"));
    let accepted = format!("unknown architecture, known are {}{hint}", registry());
    Violation { field: "architectures".into(), value: format!("{name:?}"), accepted, position: None }
}
