//! The spec of a sweep: TOML in, validated, with every default filled in.

use crate::architecture::{self, Network, Shape};
use crate::grid::Grid;
use crate::ids::Digest;
use crate::text;
use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

/// Most input pixels D (channels x height x width): the scatter matrix grows with D².
pub const MAX_PIXELS: usize = 4096;
/// Most networks of one experiment.
pub const MAX_NETWORKS: u64 = 100_000_000;
/// Largest block.
pub const MAX_BLOCK_SIZE: u32 = 1024;
/// Longest spec in bytes.
pub const MAX_SPEC_BYTES: usize = 1 << 20;
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
    /// The networks' input.
    #[serde(default)]
    pub input: Input,
    /// The NAD experiment.
    pub nads: Nads,
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

/// The `nads` experiment: gradients of many random networks at one point, and their covariance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nads {
    /// Networks N.
    pub networks: u64,
    /// How the gradient is estimated.
    #[serde(default)]
    pub estimator: Estimator,
    /// Step h of the central difference, in units of the input.
    #[serde(default = "default_step")]
    pub step: f64,
    /// Networks per block, the unit of numerics.
    #[serde(default = "default_block_size")]
    pub block_size: u32,
}

fn default_step() -> f64 {
    100.0
}

fn default_block_size() -> u32 {
    32
}

/// How a gradient is estimated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Estimator {
    /// g_i = −[f(x₀+h·e_i) − f(x₀−h·e_i)]/(2h), the published estimator.
    #[default]
    CentralDifference,
}

/// One job of a sweep: one architecture of one experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct JobShape {
    /// The architecture's name.
    pub architecture: String,
    /// Networks and blocks.
    pub grid: Grid,
    /// Input pixels D.
    pub dimension: usize,
    /// Multiply-adds per network.
    pub multiply_adds: u64,
    /// Parameters of one network.
    pub parameters: usize,
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
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, value, accepted } = self;
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
    /// [`SpecError`] names each field, its value and what is accepted.
    pub fn from_toml(text: &str) -> Result<Self, SpecError> {
        if text.len() > MAX_SPEC_BYTES {
            let accepted = format!("the spec has {} bytes, at most {MAX_SPEC_BYTES} are accepted", text.len());
            return Err(refused("", "", accepted));
        }
        let deserializer = toml::Deserializer::parse(text).map_err(|e| syntax_error(text, "", &e))?;
        let spec: Self = serde_path_to_error::deserialize(deserializer)
            .map_err(|e| syntax_error(text, &e.path().to_string(), e.inner()))?;
        let violations = spec.violations();
        if violations.is_empty() { Ok(spec) } else { Err(SpecError { violations }) }
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

    /// The network of one of this spec's architectures: one output, as NADs are defined for scalar functions.
    ///
    /// # Errors
    /// [`SpecError`] when the name is unknown or the input too small for it.
    pub fn network(&self, name: &str) -> Result<Network, SpecError> {
        let known =
            architecture::find(name).ok_or_else(|| SpecError { violations: vec![unknown_architecture(name)] })?;
        known.network(self.shape(), 1).map_err(|e| refused("input", &self.shape().to_string(), format!("{name}: {e}")))
    }

    /// The jobs of this sweep, in order.
    ///
    /// # Panics
    /// When the spec was not validated.
    pub fn jobs(&self) -> Vec<JobShape> {
        let grid = Grid { networks: self.nads.networks, block_size: self.nads.block_size };
        let job = |name: &String| {
            let network = self.network(name).expect("validated");
            JobShape {
                architecture: name.clone(),
                grid,
                dimension: self.shape().len(),
                multiply_adds: network.central_difference_multiply_adds(),
                parameters: network.parameter_count(),
            }
        };
        self.architectures.iter().map(job).collect()
    }

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
                at = next.as_table_mut().ok_or_else(|| refused(key, &found, format!("`{part}` is no table")))?;
            }
            at.insert(last.to_owned(), parse_value(value));
        }
        Ok(table.to_string())
    }

    fn violations(&self) -> Vec<Violation> {
        let mut checks = Checks(Vec::new());
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let named =
            (1..=MAX_NAME).contains(&self.name.len()) && self.name.chars().all(fits) && !self.name.starts_with('.');
        checks.require(named, "name", format!("{:?}", self.name), || {
            format!("1 to {MAX_NAME} letters, digits, `.`, `_` or `-`, not beginning with `.`")
        });
        checks.require(i64::try_from(self.seed).is_ok(), "seed", self.seed, || {
            format!("an integer from 0 to {}", i64::MAX)
        });
        let pixels = self.check_input(&mut checks);
        self.check_architectures(&mut checks, pixels);
        self.check_nads(&mut checks);
        checks.0
    }

    /// Whether the input is of an acceptable size.
    fn check_input(&self, checks: &mut Checks) -> bool {
        let Input { channels, height, width } = self.input;
        for (field, size) in [("input.channels", channels), ("input.height", height), ("input.width", width)] {
            checks.require(size > 0, field, size, || "at least 1".into());
        }
        let pixels = channels.saturating_mul(height).saturating_mul(width);
        checks.require(pixels <= MAX_PIXELS, "input", format!("{channels} x {height} x {width}"), || {
            format!("{pixels} pixels; channels x height x width may be at most {MAX_PIXELS}")
        });
        (1..=MAX_PIXELS).contains(&pixels)
    }

    fn check_architectures(&self, checks: &mut Checks, input_fits: bool) {
        checks.require(!self.architectures.is_empty(), "architectures", "[]", || {
            format!("at least one of {}", registry())
        });
        for (place, name) in self.architectures.iter().enumerate() {
            let field = format!("architectures[{place}]");
            let first = self.architectures.iter().position(|n| n == name) == Some(place);
            checks
                .require(first, &field, format!("{name:?}"), || "named before; each architecture at most once".into());
            match architecture::find(name) {
                None => checks.0.push(Violation { field, ..unknown_architecture(name) }),
                Some(known) if input_fits => {
                    if let Err(e) = known.network(self.shape(), 1) {
                        checks.require(false, "input", self.shape(), || format!("too small for {name}: {e}"));
                    }
                }
                Some(_) => {}
            }
        }
    }

    fn check_nads(&self, checks: &mut Checks) {
        let Nads { networks, step, block_size, .. } = self.nads;
        checks.require((2..=MAX_NETWORKS).contains(&networks), "nads.networks", networks, || {
            format!("from 2 (a covariance needs two) to {}", text::thousands(MAX_NETWORKS))
        });
        // The estimator computes in f32: the step must neither vanish nor overflow there.
        let usable = step.is_finite() && (1e-6..=1e9).contains(&step);
        checks.require(usable, "nads.step", step, || "a finite number from 1e-6 to 1e9".into());
        let block = block_size.is_power_of_two() && block_size <= MAX_BLOCK_SIZE;
        checks.require(block, "nads.block_size", block_size, || format!("a power of two from 1 to {MAX_BLOCK_SIZE}"));
    }
}

struct Checks(Vec<Violation>);

impl Checks {
    fn require(&mut self, holds: bool, field: &str, value: impl ToString, accepted: impl FnOnce() -> String) {
        if !holds {
            self.0.push(Violation { field: field.to_owned(), value: value.to_string(), accepted: accepted() });
        }
    }
}

fn refused(field: &str, value: &str, accepted: String) -> SpecError {
    SpecError { violations: vec![Violation { field: field.into(), value: value.into(), accepted }] }
}

fn registry() -> String {
    architecture::names().collect::<Vec<_>>().join(", ")
}

fn unknown_architecture(name: &str) -> Violation {
    let hint = text::nearest(name, architecture::names()).map_or(String::new(), |n| format!("; did you mean {n:?}?"));
    let accepted = format!("unknown architecture, known are {}{hint}", registry());
    Violation { field: "architectures".into(), value: format!("{name:?}"), accepted }
}

/// A TOML value, or the text itself as a string.
fn parse_value(text: &str) -> toml::Value {
    let parsed = format!("value = {text}").parse::<toml::Table>();
    match parsed {
        Ok(mut table) if table.len() == 1 => table.remove("value").unwrap_or(toml::Value::Boolean(false)),
        _ => toml::Value::String(text.to_owned()),
    }
}

/// What the TOML reader says, with line and column, and the nearest known key for a misspelt one.
fn syntax_error(text: &str, path: &str, error: &toml::de::Error) -> SpecError {
    let place = error.span().filter(|span| !span.is_empty() || span.start > 0).map_or(String::new(), |span| {
        let before = &text.as_bytes()[..span.start.min(text.len())];
        let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|&&b| b != b'\n').count() + 1;
        format!("line {line}, column {column}: ")
    });
    let message = error.message();
    let mut quoted = message.split('`').skip(1).step_by(2);
    let hint = match quoted.next() {
        Some(word) if message.starts_with("unknown field") => {
            text::nearest(word, quoted).map_or(String::new(), |n| format!("; did you mean `{n}`?"))
        }
        _ => String::new(),
    };
    let field = if path == "." { "" } else { path };
    let value = error.span().and_then(|span| text.get(span)).unwrap_or_default();
    let value =
        if field.is_empty() || value.contains('\n') || message.starts_with("unknown field") { "" } else { value };
    refused(field, value, format!("{place}{message}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEMO: &str = r#"
name = "lenet"
seed = 0
architectures = ["lenet"]

[input]
channels = 1
height = 32
width = 32

[nads]
networks = 2048
estimator = "central-difference"
step = 100.0
"#;

    /// What is said of `DEMO` with one key changed.
    fn said(key: &str, value: &str) -> String {
        let text = Spec::override_keys(DEMO, &[(key.into(), value.into())]).unwrap();
        Spec::from_toml(&text).unwrap_err().to_string()
    }

    #[test]
    fn the_demo_is_accepted_and_its_text_is_canonical() {
        let spec = Spec::from_toml(DEMO).unwrap();
        assert_eq!(spec.nads.block_size, 32);
        let again = Spec::from_toml(&spec.to_toml()).unwrap();
        assert_eq!(spec, again);
        let short = Spec::from_toml("name = 'lenet'\narchitectures = ['lenet']\n[nads]\nnetworks = 2048").unwrap();
        assert_eq!(short.digest(), spec.digest());
    }

    #[test]
    fn every_refusal_names_the_field_the_value_and_what_is_accepted() {
        for (key, value, words) in [
            (
                "architectures",
                "['lennet']",
                vec!["architectures[0]", "\"lennet\"", "logreg, lenet", "did you mean \"lenet\""],
            ),
            ("architectures", "['lenet', 'lenet']", vec!["architectures[1]", "at most once"]),
            ("architectures", "[]", vec!["architectures = []", "at least one"]),
            ("nads.netwroks", "5", vec!["nads.netwroks", "unknown field", "did you mean `networks`"]),
            ("nads.networks", "0", vec!["nads.networks = 0", "from 2"]),
            ("nads.networks", "-3", vec!["nads.networks", "-3"]),
            ("nads.networks", "many", vec!["nads.networks", "many"]),
            ("nads.step", "nan", vec!["nads.step = NaN", "finite"]),
            ("nads.step", "inf", vec!["nads.step = inf", "finite"]),
            ("nads.step", "0.0", vec!["nads.step = 0", "1e-6"]),
            ("nads.block_size", "48", vec!["nads.block_size = 48", "power of two"]),
            ("nads.block_size", "0", vec!["nads.block_size = 0", "power of two"]),
            ("nads.estimator", "autograd", vec!["nads.estimator", "autograd", "central-difference"]),
            ("input.height", "0", vec!["input.height = 0", "at least 1"]),
            ("input.height", "100000", vec!["input = 1 x 100000 x 32", "at most 4096"]),
            ("input.height", "8", vec!["input = 1 x 8 x 32", "too small for lenet"]),
            ("name", "a b", vec!["name = \"a b\"", "letters"]),
            ("name", "../x", vec!["name = \"../x\"", "letters"]),
            ("seed", "-1", vec!["seed", "-1"]),
        ] {
            let said = said(key, value);
            for word in words {
                assert!(said.contains(word), "{key} = {value}: {said:?} lacks {word:?}");
            }
        }
    }

    #[test]
    fn everything_wrong_is_told_at_once_and_syntax_has_a_place() {
        let text = DEMO.replace("2048", "1").replace("100.0", "-1.0");
        assert_eq!(Spec::from_toml(&text).unwrap_err().violations.len(), 2);
        let said = Spec::from_toml("name = 'x'\narchitectures = [").unwrap_err().to_string();
        assert!(said.contains("line 2"), "{said}");
        assert!(Spec::from_toml("name = 'x'").unwrap_err().to_string().contains("architectures"));
    }

    #[test]
    fn overrides_reach_any_key() {
        let set = |key: &str, value: &str| Spec::override_keys(DEMO, &[(key.into(), value.into())]);
        assert_eq!(Spec::from_toml(&set("name", "other").unwrap()).unwrap().name, "other");
        assert_eq!(Spec::from_toml(&set("nads.networks", "64").unwrap()).unwrap().nads.networks, 64);
        assert!(set("name.deep", "1").unwrap_err().to_string().contains("no table"));
        let injected = set("name", "1\nseed = 4").unwrap();
        assert!(Spec::from_toml(&injected).is_err());
    }
}
