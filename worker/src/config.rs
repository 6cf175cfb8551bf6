//! The worker's configuration: a TOML file, then `NADGRID_...` variables, then flags; what comes later wins.
//!
//! An unknown key or variable is an error that names it: a misspelt one must not pass for a default.
//! Deliberately absent: reading the process's environment or arguments, which the caller hands in.

use crate::device::{DeviceChoice, Evaluation};
use config::{Config as Layers, File, FileFormat, Map, Value};
use nadgrid_core::environment::{UnknownVariable, own_values};
use nadgrid_core::text;
use nadgrid_proto::access::{CredentialFiles, Secret};
use nadgrid_telemetry::{LogFormat, Settings};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;
use tonic::transport::Uri;

const KEYS: [&str; 19] = [
    "coordinator",
    "device",
    "lanes",
    "name",
    "evaluation",
    "connect_timeout",
    "reconnect_timeout",
    "grace",
    "checkpoint_interval",
    "token_file",
    "insecure_token",
    "tls_ca",
    "tls_certificate",
    "tls_key",
    "tls_domain",
    "log",
    "log_format",
    "otlp",
    "trace_sample",
];
/// The variable that may hold the token itself: no file and no flag has it.
const TOKEN: &str = "token";
/// The variable by which a device need not prove that it computes, see [`Config::skip_device_proof`].
const SKIP_DEVICE_PROOF: &str = "skip_device_proof";

/// Most lanes that make sense on one machine.
const MAX_LANES: u32 = 1024;
/// Longest wait in seconds: a week.
const MAX_WAIT: f64 = 7.0 * 86_400.0;

/// A configuration that is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The file cannot be read or is no TOML.
    #[error("{}: {reason}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A key that means nothing.
    #[error("{origin}: unknown key `{key}`{hint}; known are {}", KEYS.join(", "))]
    UnknownKey {
        /// The file.
        origin: String,
        /// The key.
        key: String,
        /// A likely correction.
        hint: String,
    },
    /// A variable that means nothing to any program of nadgrid.
    #[error(transparent)]
    Variable(#[from] UnknownVariable),
    /// A value of the wrong type or out of range.
    #[error("{key} = {value}: {accepted}")]
    Value {
        /// The key.
        key: &'static str,
        /// What was given.
        value: String,
        /// What is accepted.
        accepted: String,
    },
    /// A value of the wrong type, in the reader's words.
    #[error("{0}")]
    Type(String),
}

/// What the worker runs with.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// URL of the coordinator.
    pub coordinator: String,
    /// Where to compute.
    pub device: DeviceChoice,
    /// Shards to compute at once; by default one for each core, or one on a GPU.
    pub lanes: Option<u32>,
    /// What people call this worker.
    pub name: String,
    /// How central differences are evaluated; by default what suits the device.
    pub evaluation: Option<Evaluation>,
    /// How long to wait for a coordinator that was never reached.
    pub connect_timeout: Duration,
    /// How long to wait for a coordinator that was lost.
    pub reconnect_timeout: Duration,
    /// Token, certificates and whom to trust.
    pub credentials: CredentialFiles,
    /// After a signal, how long running shards and their uploads may take; what is left is given back.
    pub grace: Duration,
    /// How often a shard in training hands out a checkpoint at most, at the end of an epoch; 0 for every epoch.
    pub checkpoint_interval: Duration,
    /// What is logged, and where spans go.
    pub telemetry: Settings,
    /// Whether a GPU is relied on although nothing shows that it computes. For a stand-in without a card alone: whatever such a
    /// worker yields may be zeros. So it is a variable, `NADGRID_SKIP_DEVICE_PROOF=1`, no flag and no key of a file.
    pub skip_device_proof: bool,
}

/// The values of flags; what is `None` was not given.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// Key and value of the others.
    pub values: Vec<(&'static str, Option<String>)>,
}

/// As the layers give it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default = "default_coordinator")]
    coordinator: String,
    #[serde(default = "auto")]
    device: String,
    lanes: Option<u32>,
    name: Option<String>,
    #[serde(default = "auto")]
    evaluation: String,
    #[serde(default = "default_connect_timeout")]
    connect_timeout: f64,
    #[serde(default = "default_reconnect_timeout")]
    reconnect_timeout: f64,
    #[serde(default = "default_grace")]
    grace: f64,
    #[serde(default = "default_checkpoint_interval")]
    checkpoint_interval: f64,
    token_file: Option<PathBuf>,
    #[serde(default)]
    insecure_token: bool,
    tls_ca: Option<PathBuf>,
    tls_certificate: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    tls_domain: Option<String>,
    log: Option<String>,
    #[serde(default)]
    log_format: LogFormat,
    otlp: Option<String>,
    #[serde(default = "all")]
    trace_sample: f64,
}

fn all() -> f64 {
    1.0
}

/// Kubernetes kills a pod 30 seconds after its SIGTERM.
fn default_grace() -> f64 {
    25.0
}

fn default_checkpoint_interval() -> f64 {
    60.0
}

fn default_coordinator() -> String {
    "http://127.0.0.1:7400".to_owned()
}

fn auto() -> String {
    "auto".to_owned()
}

fn default_connect_timeout() -> f64 {
    30.0
}

fn default_reconnect_timeout() -> f64 {
    600.0
}

impl Config {
    /// Puts the layers together. `variables` is the environment; names without the prefix `NADGRID_` are ignored.
    ///
    /// # Errors
    /// [`ConfigError`] names the key, file or variable.
    pub fn load(flags: &Flags, variables: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let variables = own_values(variables, &[&KEYS[..], &["config", TOKEN, SKIP_DEVICE_PROOF]].concat())?;
        let token = variables.get(TOKEN).map(Secret::new);
        let skip_device_proof = match variables.get(SKIP_DEVICE_PROOF).map(String::as_str) {
            None => false,
            Some("1") => true,
            Some(other) => {
                let (value, accepted) = (other.to_owned(), "1, or not set".to_owned());
                return Err(ConfigError::Value { key: SKIP_DEVICE_PROOF, value, accepted });
            }
        };
        let mut layers = Layers::builder();
        if let Some(path) = flags.config.clone().or_else(|| variables.get("config").map(PathBuf::from)) {
            let file = Layers::builder().add_source(read(&path)?).build();
            let file = file.map_err(|e| ConfigError::File { path: path.clone(), reason: e.to_string() })?;
            check_keys(&path, file.cache.clone().into_table().unwrap_or_default())?;
            layers = layers.add_source(file);
        }
        let set = |error: config::ConfigError| ConfigError::Type(error.to_string());
        for key in KEYS {
            let flag = flags.values.iter().find(|(name, _)| *name == key).and_then(|(_, value)| value.as_deref());
            let value = flag.or_else(|| variables.get(key).map(String::as_str));
            layers = layers.set_override_option(key, value).map_err(set)?;
        }
        let raw = layers.build().and_then(Layers::try_deserialize::<Raw>).map_err(set)?;
        Ok(Self { skip_device_proof, ..raw.check(token)? })
    }
}

impl Raw {
    fn check(self, token: Option<Secret>) -> Result<Config, ConfigError> {
        let refuse = |key, value: &dyn std::fmt::Display, accepted: String| ConfigError::Value {
            key,
            value: value.to_string(),
            accepted,
        };
        let host = |uri: &Uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
        };
        if !self.coordinator.parse::<Uri>().is_ok_and(|uri| host(&uri)) {
            return Err(refuse(
                "coordinator",
                &self.coordinator,
                "a URL, http://HOST:PORT or https://HOST:PORT".into(),
            ));
        }
        let device = self.device.parse().map_err(|accepted| refuse("device", &self.device, accepted))?;
        let evaluation = match self.evaluation.as_str() {
            "auto" => None,
            name => match Evaluation::find(name) {
                None => return Err(refuse("evaluation", &name, "one of auto, patch, dense, fused".into())),
                chosen => chosen,
            },
        };
        if let Some(lanes) = self.lanes.filter(|lanes| !(1..=MAX_LANES).contains(lanes)) {
            return Err(refuse("lanes", &lanes, format!("from 1 to {MAX_LANES}")));
        }
        let name = self.name.unwrap_or_else(host_name);
        if name.is_empty() || name.len() > 100 || name.chars().any(char::is_control) {
            return Err(refuse("name", &format!("{name:?}"), "1 to 100 characters".into()));
        }
        let wait = |key, seconds: f64| match Duration::try_from_secs_f64(seconds) {
            Ok(wait) if seconds <= MAX_WAIT => Ok(wait),
            _ => Err(refuse(key, &seconds, format!("seconds, from 0 to {MAX_WAIT}"))),
        };
        Ok(Config {
            coordinator: self.coordinator,
            device,
            lanes: self.lanes,
            name,
            evaluation,
            connect_timeout: wait("connect_timeout", self.connect_timeout)?,
            reconnect_timeout: wait("reconnect_timeout", self.reconnect_timeout)?,
            credentials: CredentialFiles {
                token,
                token_file: self.token_file,
                insecure_token: self.insecure_token,
                tls_ca: self.tls_ca,
                tls_certificate: self.tls_certificate,
                tls_key: self.tls_key,
                tls_domain: self.tls_domain,
            },
            grace: wait("grace", self.grace)?,
            checkpoint_interval: wait("checkpoint_interval", self.checkpoint_interval)?,
            telemetry: Settings {
                log: self.log.unwrap_or_else(|| "info".to_owned()),
                log_format: self.log_format,
                otlp: self.otlp,
                trace_sample: self.trace_sample,
            },
            skip_device_proof: false,
        })
    }
}

fn read(path: &Path) -> Result<File<config::FileSourceString, FileFormat>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| ConfigError::File { path: path.to_owned(), reason: format!("cannot be read: {e}") })?;
    Ok(File::from_str(&text, FileFormat::Toml))
}

fn check_keys(path: &Path, table: Map<String, Value>) -> Result<(), ConfigError> {
    let mut keys: Vec<String> = table.into_keys().collect();
    keys.sort();
    match keys.into_iter().find(|key| !KEYS.contains(&key.as_str())) {
        Some(key) => {
            let hint = text::nearest(&key, KEYS).map_or(String::new(), |n| format!("; did you mean `{n}`?"));
            Err(ConfigError::UnknownKey { origin: path.display().to_string(), key, hint })
        }
        None => Ok(()),
    }
}

/// The host's name; `worker` where it has none.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "worker".to_owned() } else { name.trim().to_owned() }
}

#[cfg(test)]
mod tests;
